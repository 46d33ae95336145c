"""Token estimates against the counts of real tokenizers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.core import estimate
from lamella.core.estimate import (
    MAX_REMEMBERED,
    MESSAGE_FRAME,
    TokenEstimator,
    estimate_json,
    estimate_message,
    estimate_text,
    estimate_tokens,
)
from lamella.simulator.tokens import count_request
from lamella.types import (
    DataPart,
    MediaPart,
    Message,
    ModelRequest,
    OutputSpec,
    ReasoningPart,
    TextPart,
    ToolDefinition,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
    Usage,
)
from tests.core.token_counts import TEXTS

each = pytest.mark.parametrize('name', TEXTS)
# The older tokenizers need up to three times as many tokens for these scripts.
LATIN_AND_CODE = [
    n for n in TEXTS if n.split()[0] not in {'Russian', 'Chinese', 'Japanese', 'Korean', 'Arabic', 'Hindi'}
]


@each
def test_a_text_of_any_kind_is_within_a_quarter_of_o200k(name: str) -> None:
    text, o200k, *_ = TEXTS[name]
    assert 0.75 <= estimate_text(text) / o200k <= 1.25


@each
def test_a_text_of_any_kind_is_within_a_third_of_another_new_tokenizer(name: str) -> None:
    text, _, _, tekken, _ = TEXTS[name]
    assert 0.67 <= estimate_text(text) / tekken <= 1.33


@pytest.mark.parametrize('name', LATIN_AND_CODE)
def test_latin_text_and_code_are_within_a_third_of_the_old_tokenizers(name: str) -> None:
    text, _, cl100k, _, claude = TEXTS[name]
    assert 0.67 <= estimate_text(text) / cl100k <= 1.33
    assert 0.67 <= estimate_text(text) / claude <= 1.33


def test_all_texts_together_are_within_five_percent_of_o200k() -> None:
    assert sum(estimate_text(text) for text, *_ in TEXTS.values()) == pytest.approx(
        sum(o200k for _, o200k, *_ in TEXTS.values()), rel=0.05
    )


def test_characters_by_four_would_be_off_by_more_than_half() -> None:
    """Why there is an estimator at all."""
    assert min(len(text) / 4 / o200k for text, o200k, *_ in TEXTS.values()) < 0.4


@pytest.mark.parametrize('name', ['English prose', 'Chinese prose', 'Python', 'JSON records'])
def test_of_a_long_text_slices_are_enough(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TEXTS[name][0]
    measured: list[int] = []
    measure = estimate._measure
    monkeypatch.setattr(estimate, '_measure', lambda text: (measured.append(len(text)), measure(text))[1])
    long = text * 3000
    assert estimate_text(long) == pytest.approx(estimate_text(text) * 3000, rel=0.05)
    assert sum(measured) <= 8192 + len(text)


def test_a_text_that_changes_at_its_end_is_measured_there_too() -> None:
    prose, code = TEXTS['English prose'][0] * 50, TEXTS['Chinese prose'][0] * 200
    assert estimate_text(prose + code) == pytest.approx(estimate_text(prose) + estimate_text(code), rel=0.15)


def test_nothing_is_kept_of_the_texts_and_not_without_end() -> None:
    for number in range(MAX_REMEMBERED + 10):
        estimate_text(f'text {number}')
    assert len(estimate._counted) <= MAX_REMEMBERED
    assert all(type(part) is int for key in estimate._counted for part in key)


@given(st.text())
def test_any_text_has_a_number_and_an_empty_one_has_none(text: str) -> None:
    assert (estimate_text(text) > 0) == bool(text)
    assert estimate_text(text) == estimate_text(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_value_has_a_number(value: object) -> None:
    assert estimate_json(value) >= 0


@pytest.mark.parametrize('value', [{1, 2}, object(), 2**70, {'x': {(1, 2): 3}}, '\ud800'])
def test_what_is_no_json_has_a_number_too(value: object) -> None:
    assert estimate_json(value) > 0


WEATHER = ToolDefinition(
    'weather', 'The weather in a city.', {'type': 'object', 'properties': {'city': {'type': 'string'}}}
)
HELLO = Message.user('hello')
PIECES = {
    'text': Message.user('a longer question about the weather'),
    'reasoning': Message.assistant(ReasoningPart('thinking about it')),
    'a tool request': Message.assistant(ToolRequestPart(ToolRequest('weather', {'city': 'Bergen'}, 'r'))),
    'a tool response': Message.tool(ToolResponse('weather', {'sky': 'rain', 'degrees': 11}, 'r')),
    'a tool response in words': Message.tool(ToolResponse('weather', 'it rains', 'r')),
    'a picture from a tool': Message.tool(
        ToolResponse('look', MediaPart(url='https://x/y.png', content_type='image/png'), 'r')
    ),
    'data': Message.assistant(DataPart({'kept': [1, 2, 3]})),
    'an image': Message.user(MediaPart(url='https://x/y.png', content_type='image/png')),
    'a file of unknown kind': Message.user(MediaPart(data=b'x' * 100)),
}


@pytest.mark.parametrize('piece', PIECES)
def test_every_part_counts(piece: str) -> None:
    assert (
        estimate_tokens(ModelRequest((HELLO, PIECES[piece]))) > estimate_tokens(ModelRequest((HELLO,))) + MESSAGE_FRAME
    )


def test_tools_and_the_wanted_schema_count() -> None:
    bare = estimate_tokens(ModelRequest((HELLO,)))
    assert estimate_tokens(ModelRequest((HELLO,), tools=(WEATHER,))) > bare + 20
    assert estimate_tokens(ModelRequest((HELLO,), output=OutputSpec('json', WEATHER.input_schema))) > bare + 10
    assert estimate_tokens(ModelRequest((HELLO,), output=OutputSpec('json'))) == bare


@pytest.mark.parametrize(
    ('kind', 'size', 'tokens'),
    [
        ('audio/mpeg', 16_000, 32),
        ('video/mp4', 240_000, 300),
        ('application/pdf', 50_000, 1515),
        ('image/png', 9, 1000),
    ],
)
def test_media_count_by_kind_and_length(kind: str, size: int, tokens: int) -> None:
    message = Message.user(MediaPart(data=b'x' * size, content_type=kind))
    assert estimate_message(message) == tokens + MESSAGE_FRAME


def test_a_text_file_counts_as_its_text() -> None:
    text = TEXTS['English prose'][0]
    message = Message.user(MediaPart(data=text.encode(), content_type='text/plain'))
    assert estimate_message(message) == estimate_message(Message.user(text))


def request_of(name: str, times: int = 1) -> ModelRequest:
    return ModelRequest((Message.user(TextPart(TEXTS[name][0] * times)),))


def test_the_estimate_of_a_whole_request_is_near_the_simulators_count() -> None:
    messages = tuple(Message.user(TEXTS[name][0]) for name in ('English prose', 'Python', 'JSON Schema', 'HTML'))
    request = ModelRequest(messages, tools=(WEATHER,))
    assert estimate_tokens(request) == pytest.approx(count_request(request), rel=0.25)


def test_a_model_that_reports_more_is_estimated_higher_from_then_on() -> None:
    estimator, request = TokenEstimator(), request_of('Korean prose', 20)
    claude = TEXTS['Korean prose'][4] * 20
    assert estimator.estimate(request, 'old') < 0.6 * claude
    for _ in range(5):
        estimator.learn('old', request, Usage(input_tokens=claude))
    assert estimator.estimate(request, 'old') == pytest.approx(claude, rel=0.1)
    assert estimator.estimate(request, 'new') < 0.6 * claude


def test_the_first_small_answers_turn_nothing_upside_down() -> None:
    estimator, request = TokenEstimator(), ModelRequest((HELLO,))
    estimator.learn('m', request, Usage(input_tokens=60))
    assert estimator.factor('m') < 1.2


@pytest.mark.parametrize('usage', [None, Usage(), Usage(output_tokens=3), Usage(input_tokens=0)])
def test_a_model_that_reports_nothing_teaches_nothing(usage: Usage | None) -> None:
    estimator = TokenEstimator()
    estimator.learn('m', ModelRequest((HELLO,)), usage)
    assert estimator.factor('m') == 1.0


def test_requests_with_media_teach_nothing() -> None:
    estimator = TokenEstimator()
    estimator.learn('m', ModelRequest((PIECES['an image'],)), Usage(input_tokens=100_000))
    assert estimator.factor('m') == 1.0


@given(st.lists(st.integers(1, 10**9)))
def test_whatever_is_reported_the_factor_stays_sane(reports: list[int]) -> None:
    estimator, request = TokenEstimator(), request_of('HTML')
    for tokens in reports:
        estimator.learn('m', request, Usage(input_tokens=tokens))
    assert 0.25 <= estimator.factor('m') <= 4.0


def test_a_changed_model_is_believed_after_some_calls() -> None:
    estimator, request = TokenEstimator(), request_of('English prose', 20)
    guess = estimator.estimate(request, 'm')
    for _ in range(50):
        estimator.learn('m', request, Usage(input_tokens=guess * 2))
    for _ in range(30):
        estimator.learn('m', request, Usage(input_tokens=guess))
    assert estimator.factor('m') == pytest.approx(1.0, abs=0.06)


def test_models_without_end_do_not_fill_the_memory() -> None:
    estimator, request = TokenEstimator(), ModelRequest((HELLO,))
    for number in range(MAX_REMEMBERED + 50):
        estimator.learn(f'm{number}', request, Usage(input_tokens=900))
    assert len(estimator._heard) == MAX_REMEMBERED
    assert estimator.factor(f'm{MAX_REMEMBERED + 49}') > 1.0
