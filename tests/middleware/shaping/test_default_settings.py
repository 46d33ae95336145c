"""`DefaultSettings`: what a request leaves open is filled in, and what it says wins."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import Lamella, wrap_language_model
from lamella.middleware import DefaultSettings, Fallback, Retry
from lamella.middleware._provider_options import merged
from lamella.middleware.shaping.default_settings import DefaultSettingsConfig
from lamella.testing import ScriptedModel, checked
from lamella.types import ConfigError, GenerationConfig, ModelRequest, ToolChoice, ToolRequest
from tests.middleware.kit import both, down, no_leaks, world


def look(at: str = '') -> str:
    return 'seen'


async def asked(layer: DefaultSettings, **options: Any) -> ModelRequest:
    """What the model was asked, which must be the same whole and streamed."""
    app = world({'x/a': ['hi', 'hi']})
    assert (await app.answer(checked(layer), **options)).text == 'hi'
    assert (await app.read(checked(layer), **options))[1] is None
    whole, streamed = app.models['x/a'].requests
    assert whole == streamed
    return whole


async def test_what_the_call_does_not_set_is_filled_in() -> None:
    layer = DefaultSettings(
        config={'temperature': 0.2, 'max_output_tokens': 100}, provider_options={'x': {'store': False}}
    )
    request = await asked(layer)
    assert request.config == GenerationConfig(temperature=0.2, max_output_tokens=100)
    assert request.provider_options == {'x': {'store': False}}


async def test_what_the_call_sets_wins() -> None:
    layer = DefaultSettings(config={'temperature': 0.2, 'stop_sequences': ('a',), 'top_k': 3})
    request = await asked(layer, config={'temperature': 0.0, 'stop_sequences': ('b',)})
    assert request.config == GenerationConfig(temperature=0.0, stop_sequences=('b',), top_k=3)


async def test_provider_options_are_merged_at_every_depth() -> None:
    defaults = {'x': {'a': {'b': 1, 'c': {'d': 2}}, 'list': [1, 2], 'kept': 1}, 'y': {'e': 1}}
    call = {'x': {'a': {'c': {'f': 3}}, 'list': [3], 'null': None}, 'z': {}}
    request = await asked(DefaultSettings(provider_options=defaults), provider_options=call)
    assert request.provider_options == {
        'x': {'a': {'b': 1, 'c': {'d': 2, 'f': 3}}, 'list': [3], 'kept': 1, 'null': None},
        'y': {'e': 1},
        'z': {},
    }


trees = st.recursive(
    st.integers() | st.none(), lambda t: st.dictionaries(st.sampled_from('abc'), t, max_size=3), max_leaves=8
)
tops = st.dictionaries(st.sampled_from('abc'), trees, max_size=3)


def check_merge(base: Any, over: Any, result: Any) -> None:
    assert set(result) == {*base, *over}
    for key in result:
        if key in base and key in over and isinstance(base[key], dict) and isinstance(over[key], dict):
            check_merge(base[key], over[key], result[key])
        else:
            assert result[key] == (over[key] if key in over else base[key])


@given(tops, tops)
def test_a_merge_has_the_calls_value_wherever_there_is_one_and_changes_neither_side(base: Any, over: Any) -> None:
    before = (repr(base), repr(over))
    check_merge(base, over, merged(base, over))
    assert merged(base, base) == base
    assert (repr(base), repr(over)) == before


async def test_a_tool_choice_is_for_requests_with_tools_that_say_nothing() -> None:
    layer = DefaultSettings(tool_choice='required')
    assert (await asked(layer)).tool_choice is None
    assert (await asked(layer, tools=[look])).tool_choice == ToolChoice('required')
    assert (await asked(layer, tools=[look], tool_choice='none')).tool_choice == ToolChoice('none')


async def test_a_tool_choice_may_name_a_tool() -> None:
    layer = DefaultSettings(tool_choice='look')
    assert (await asked(layer, tools=[look])).tool_choice == ToolChoice('tool', 'look')

    def other() -> str:
        return ''

    assert (await asked(layer, tools=[other])).tool_choice is None
    assert (await asked(DefaultSettings(tool_choice=ToolChoice('auto')), tools=[other])).tool_choice == ToolChoice(
        'auto'
    )


async def test_without_settings_nothing_changes() -> None:
    plain = {'config': {'top_p': 0.5}, 'provider_options': {'x': {'a': 1}}}
    app = world({'x/a': ['hi']})
    await app.answer(**plain)
    assert await asked(DefaultSettings(), **plain) == app.models['x/a'].requests[0]


async def test_the_outer_ones_settings_win_over_the_inner_ones() -> None:
    app = world({'x/a': ['hi']})
    await app.answer(
        DefaultSettings(config={'temperature': 0.1}), DefaultSettings(config={'temperature': 0.9, 'seed': 1})
    )
    assert app.models['x/a'].requests[0].config == GenerationConfig(temperature=0.1, seed=1)


async def test_every_attempt_and_every_model_gets_them() -> None:
    app = world({'x/a': [down(), down()], 'y/b': ['hi']})
    layers = [Fallback(models=['y/b']), Retry(max_retries=1), DefaultSettings(provider_options={'x': {'a': 1}})]
    assert (await app.answer(*layers)).text == 'hi'
    options = [request.provider_options for model in app.models.values() for request in model.requests]
    assert options == [{'x': {'a': 1}}] * 3


async def test_whole_and_streamed_runs_with_tools_agree() -> None:
    def app() -> Lamella:
        return world({'x/a': [ToolRequest('look', {}, 'r-1'), 'done']}).ai

    layer = DefaultSettings(config={'temperature': 0}, tool_choice='auto')
    assert (await both(app, prompt='hi', tools=[look], use=[checked(layer)])).text == 'done'


async def test_it_works_fixed_on_a_model_and_for_concurrent_calls() -> None:
    inner = ScriptedModel(['hi'], repeat=True)
    model = wrap_language_model(model=inner, middleware=DefaultSettings(config={'temperature': 0.5}))
    calls = [Lamella().generate(model=model, prompt=str(n), config={'seed': n}) for n in range(50)]
    await asyncio.gather(*calls)
    assert sorted(request.config.seed for request in inner.requests) == [*range(50)]
    assert {request.config.temperature for request in inner.requests} == {0.5}


async def test_the_callers_own_dictionaries_are_not_kept() -> None:
    options = {'x': {'a': {'b': 1}}}
    layer = DefaultSettings(provider_options=options)
    options['x']['a']['b'] = 2
    assert (await asked(layer)).provider_options == {'x': {'a': {'b': 1}}}


async def test_a_cancellation_passes() -> None:
    entered = asyncio.Event()

    async def waits(request: Any) -> str:
        entered.set()
        await asyncio.Event().wait()
        return 'never'

    app = world({'x/a': [waits]})
    async with no_leaks():
        task = asyncio.create_task(app.read(DefaultSettings(config={'seed': 1})))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_finished_settings_may_be_given_as_with_every_layer() -> None:
    settings = DefaultSettingsConfig(config=GenerationConfig(seed=1))
    assert DefaultSettings(settings).config is DefaultSettings(config=settings).config is settings
    with pytest.raises(ConfigError, match='give config= or keywords'):
        DefaultSettings(config=settings, tool_choice='auto')


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'config': {'temprature': 1}}, "config: .*unknown setting 'temprature': did you mean 'temperature'"),
        ({'config': 7}, 'config: .*config is a int: give a GenerationConfig or a dict'),
        ({'config': {'seed': 'x'}}, 'config: .*Expected `int'),
        ({'provider_options': []}, r'provider_options: .*is \[\]: give a dict of dicts'),
        ({'provider_options': {'openai': 1}}, r"provider_options: .*\['openai'\] is 1: give a dict of the options"),
        ({'tool_choice': 'requred'}, "tool_choice: .*is 'requred': did you mean 'required'"),
        ({'tool_choice': 3}, "tool_choice: .*is 3: give 'auto'"),
        ({'provider_option': {}}, r"unknown setting 'provider_option'.*'provider_options'"),
    ],
)
def test_wrong_settings_are_refused_when_it_is_built(options: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        DefaultSettings(**options)
