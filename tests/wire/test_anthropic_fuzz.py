"""Whatever arrives, the Anthropic codec answers with the right parts or with one LamellaError."""

import json
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.types import (
    CONTENT_PARTS,
    Finished,
    GenerationConfig,
    LamellaError,
    Message,
    ModelRequest,
    ModelResponse,
    ReasoningPart,
    ResponseStarted,
    TextPart,
    ToolRequest,
    ToolRequestPart,
    Usage,
    fold,
    unfold,
)
from lamella.wire.anthropic import AnthropicCodec
from lamella.wire.sse import Event
from tests.wire.anthropic_events import ANSWERS, JSON, USAGE, body_of, events_of, message, parts_of

CODEC = AnthropicCodec()

words = st.text(st.characters(exclude_categories=['Cs']), max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(words, values, max_size=3)
blocks = st.lists(
    st.one_of(
        st.builds(lambda text: {'type': 'text', 'text': text}, words),
        st.builds(lambda text, sig: {'type': 'thinking', 'thinking': text, 'signature': sig}, words, words),
        st.builds(lambda data: {'type': 'redacted_thinking', 'data': data}, words),
        st.builds(
            lambda id, name, value: {'type': 'tool_use', 'id': id, 'name': name, 'input': value}, words, words, objects
        ),
        st.builds(lambda rest: {**rest, 'type': 'novelty'}, objects),
    ),
    max_size=5,
)
reasons = st.sampled_from(
    ['end_turn', 'tool_use', 'max_tokens', 'refusal', 'pause_turn', 'model_context_window_exceeded']
)
answers = st.builds(
    lambda content, reason: {**message('nothing'), 'content': content, 'stop_reason': reason, 'usage': USAGE},
    blocks,
    reasons,
)

KINDS = (
    'message_start',
    'content_block_start',
    'content_block_delta',
    'content_block_stop',
    'message_delta',
    'message_stop',
)
FIELDS = ('type', 'index', 'delta', 'content_block', 'message', 'usage', 'text', 'partial_json', 'id', 'name', 'input')
strange = st.recursive(
    values | st.sampled_from([*KINDS, 'text', 'tool_use', 'text_delta', 'input_json_delta', 'signature_delta']),
    lambda inner: st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5) | st.lists(inner, max_size=3),
    max_leaves=12,
)


@given(answer=answers, size=st.integers(1, 9))
def test_any_answer_is_the_fold_of_its_stream(answer: JSON, size: int) -> None:
    whole = CODEC.decode_response(json.dumps(answer).encode())
    assert fold(parts_of(body_of(events_of(answer, size)))) == whole


@given(answer=answers, size=st.integers(1, 9), cuts=st.lists(st.integers(0, 4000), max_size=6))
def test_any_cut_of_its_bytes_means_the_same(answer: JSON, size: int, cuts: list[int]) -> None:
    body = body_of(events_of(answer, size))
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    chunks = [body[a:b] for a, b in pairwise(places)]
    assert parts_of(*chunks) == parts_of(body)


@given(
    events=st.lists(
        st.sampled_from([*events_of(message('tools'), 9), *events_of(message('server tools'), 9)]), max_size=12
    )
)
def test_events_in_any_order_are_parts_or_one_error(events: list[JSON]) -> None:
    check(b''.join([body_of([event]) for event in events]))


@given(name=st.sampled_from(sorted(ANSWERS)), at=st.integers(0, 40), event=strange, replace=st.booleans())
def test_a_strange_event_anywhere_is_parts_or_one_error(name: str, at: int, event: Any, replace: bool) -> None:
    events: list[Any] = [*events_of(message(name), 5)]
    events[at : at + replace] = [event]
    check(b''.join([f'data: {json.dumps(event)}\n\n'.encode() for event in events]))


@given(at=st.integers(0, 4000), junk=st.binary(max_size=20), drop=st.integers(0, 30))
def test_junk_in_the_bytes_is_parts_or_one_error(at: int, junk: bytes, drop: int) -> None:
    body = body_of(events_of(message('tools'), 7))
    check(body[:at] + junk + body[at + drop :])


def failure(read: Callable[[], object]) -> LamellaError | None:
    try:
        read()
    except LamellaError as error:
        return error
    return None


def check(body: bytes) -> None:
    if (error := failure(lambda: parts_of(body))) is not None:
        assert error.status in ('INTERNAL', 'UNAVAILABLE', 'OUT_OF_RANGE', 'UNKNOWN')
        return
    parts = parts_of(body)
    assert type(parts[0]) is ResponseStarted
    assert type(parts[-1]) is Finished
    assert sum(type(part) in (ResponseStarted, Finished) for part in parts) == 2
    fold(parts)


@given(event=strange | st.text())
def test_a_first_event_of_any_kind_is_parts_or_one_error(event: Any) -> None:
    decoder = CODEC.stream_decoder()
    try:
        parts = decoder.feed(Event(data=event if isinstance(event, str) else json.dumps(event)))
    except LamellaError:
        return
    assert not any(type(part) in CONTENT_PARTS for part in parts)


@given(body=strange.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
def test_a_body_of_any_kind_is_an_answer_or_one_error(body: bytes) -> None:
    for read in (CODEC.decode_response, CODEC.decode_request):
        error = failure(partial(read, body))
        assert error is None or error.message


@given(
    change=st.dictionaries(st.sampled_from(['messages', 'system', 'tools', 'tool_choice', 'output_config']), strange)
)
def test_a_request_of_any_kind_is_a_request_or_one_error(change: dict[str, Any]) -> None:
    body = {'model': 'm', 'max_tokens': 1, 'messages': [], **change}
    error = failure(lambda: CODEC.decode_request(json.dumps(body).encode()))
    assert error is None or error.status == 'INVALID_ARGUMENT'


texts = words.filter(bool)
responses = st.builds(
    ModelResponse,
    message=st.lists(
        st.builds(TextPart, texts)
        | st.builds(ReasoningPart, texts, texts)
        | st.builds(
            ToolRequestPart, st.builds(ToolRequest, words, objects, st.from_regex('[a-zA-Z0-9_-]{1,9}', fullmatch=True))
        ),
        max_size=5,
    ).map(lambda parts: Message('assistant', tuple(parts))),
    finish_reason=st.sampled_from(['stop', 'tool_calls']),
    usage=st.builds(lambda a, b: Usage(a, b, a + b), st.integers(0, 9), st.integers(0, 9)),
    model=words.filter(bool),
    id=words.filter(bool),
)


@given(response=responses)
def test_any_response_survives_the_wire_whole_and_streamed(response: ModelResponse) -> None:
    assert CODEC.decode_response(CODEC.encode_response(response, model='x')) == response
    encoder = CODEC.stream_encoder(model='x')
    assert fold(parts_of(*[encoder.feed(part) for part in unfold(response)])) == response


@pytest.mark.parametrize('model', ['claude-sonnet-4-5', 'claude-opus-5-5', 'mock'])
@given(
    effort=st.none() | st.sampled_from(['none', 'minimal', 'low', 'medium', 'high', 'max', 'odd']),
    limit=st.none() | st.integers(0, 50_000),
    temperature=st.none() | st.floats(0, 1),
    top_p=st.none() | st.floats(0, 1),
)
def test_settings_never_break_the_rules_of_thinking(
    model: str, effort: str | None, limit: int | None, temperature: float | None, top_p: float | None
) -> None:
    config = GenerationConfig(reasoning_effort=effort, max_output_tokens=limit, temperature=temperature, top_p=top_p)
    body = json.loads(CODEC.encode_request(ModelRequest(messages=(Message.user('x'),), config=config), model).body)
    budget = body.get('thinking', {}).get('budget_tokens')
    assert body['max_tokens'] == limit if limit is not None else body['max_tokens'] >= 16_000
    if budget is not None:
        assert 1_024 <= budget < body['max_tokens']
        assert body.get('temperature', 1) == 1
