"""Requests and their settings."""

from hypothesis import given
from hypothesis import strategies as st

from lamella.types import GenerationConfig, ModelRequest, set_fields

configs = st.builds(
    GenerationConfig,
    st.none() | st.floats(0, 2),
    st.none() | st.floats(0, 1),
    st.none() | st.integers(0, 9),
    st.none() | st.integers(0, 9),
    st.lists(st.text(max_size=2), max_size=2).map(tuple),
    st.none() | st.integers(0, 9),
)


@given(configs, configs)
def test_settings_over_others_keep_every_setting_of_either(over, base) -> None:
    merged = over.over(base)
    assert set_fields(merged) == {**set_fields(base), **set_fields(over)}


@given(configs)
def test_settings_over_nothing_and_nothing_over_settings_change_nothing(config) -> None:
    assert config.over(GenerationConfig()) == config
    assert GenerationConfig().over(config) == config


def test_zero_false_and_the_empty_text_are_settings() -> None:
    config = GenerationConfig(temperature=0, parallel_tool_calls=False, reasoning_effort='')
    assert set_fields(config) == {'temperature': 0, 'parallel_tool_calls': False, 'reasoning_effort': ''}


def test_requests_do_not_share_what_can_be_changed() -> None:
    first, second = ModelRequest(), ModelRequest()
    assert first.metadata is not second.metadata
    assert first.provider_options is not second.provider_options
