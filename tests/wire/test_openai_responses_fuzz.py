"""Whatever arrives, the Responses codec answers with the right parts or with one LamellaError."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lamella.types import (
    DataPart,
    Finished,
    GenerationConfig,
    LamellaError,
    MediaPart,
    Message,
    ModelRequest,
    ModelResponse,
    Part,
    ReasoningPart,
    ResponseStarted,
    Source,
    TextDelta,
    TextPart,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
    ToolResponsePart,
    Usage,
    fold,
    unfold,
)
from lamella.wire.sse import SSEDecoder
from tests.wire.openai_responses_events import (
    ANSWERS,
    CODEC,
    INCOMPLETE,
    JSON,
    answer,
    call,
    events_of,
    folded,
    message,
    parts_of,
    reasoning,
    sent_events,
    sse,
    text,
)

words = st.text(st.characters(exclude_categories=['Cs']), max_size=12)
names = st.text('abcdef_-', min_size=1, max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(words, values, max_size=3)
annotations = st.lists(
    st.builds(lambda url, title: {'type': 'url_citation', 'url': url, 'title': title}, words, words)
    | st.builds(lambda rest: {**rest, 'type': 'novelty'}, objects),
    max_size=3,
)
blocks = st.builds(lambda said, cited: text(said, *cited), words, annotations) | st.builds(
    lambda said: {'type': 'refusal', 'refusal': said}, words
)
states = st.sampled_from(['incomplete', 'completed'])
items = st.one_of(
    st.builds(lambda content: message(*content), st.lists(blocks, max_size=3)),
    st.builds(
        lambda said, more: reasoning(*said, **more),
        st.lists(words, max_size=3),
        st.fixed_dictionaries({}, optional={'encrypted_content': words}),
    ),
    st.builds(lambda name, value: call(name, json.dumps(value)), names, objects),
    st.builds(lambda name, junk, state: call(name, junk, status=state), names, words, states),
    st.builds(
        lambda name, said: {'type': 'custom_tool_call', 'id': 'c', 'call_id': 'd', 'name': name, 'input': said},
        names,
        words,
    ),
    st.builds(lambda rest: {**rest, 'type': 'novelty'}, objects),
)  # fmt: skip
answers = st.builds(
    lambda output, end: answer(*output, **end), st.lists(items, max_size=5), st.sampled_from([{}, {}, INCOMPLETE])
)

KINDS = sorted({event['type'] for name in ANSWERS for event in events_of(ANSWERS[name])})
FIELDS = (
    'type', 'output_index', 'content_index', 'summary_index', 'delta', 'item', 'part', 'response', 'output', 'content',
    'summary', 'text', 'arguments', 'name', 'call_id', 'id', 'status', 'annotations', 'annotation', 'usage', 'error',
    'incomplete_details', 'encrypted_content', 'refusal', 'input', 'role', 'logprobs', 'result',
)  # fmt: skip
TYPES = (
    'message', 'reasoning', 'function_call', 'custom_tool_call', 'image_generation_call', 'output_text', 'refusal',
    'input_text', 'input_image', 'input_file', 'input_audio', 'function_call_output', 'url_citation', 'assistant', 'user',
    'developer',
)  # fmt: skip
strange: Any = st.recursive(
    values | st.sampled_from([*KINDS, *TYPES]),
    lambda inner: st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6) | st.lists(inner, max_size=3),
    max_leaves=14,
)


def failure(read: Callable[[], object]) -> LamellaError | None:
    try:
        read()
    except LamellaError as error:
        return error
    return None


def check(stream: bytes) -> None:
    """The stream is an answer with one start and one end, or one error whose partial is what had arrived."""
    events, decoder, parts = SSEDecoder(), CODEC.stream_decoder(), []

    def read() -> None:
        for event in [*events.feed(stream), *events.finish()]:
            parts.extend(decoder.feed(event))
        parts.extend(decoder.finish())

    error = failure(read)
    if error is not None:
        assert error.partial is None if not parts else error.partial is not None
        assert list(decoder.finish()) == []
        return
    assert type(parts[0]) is ResponseStarted
    assert [type(part) for part in parts].count(Finished) == 1
    assert type(parts[-1]) is Finished


@given(data=answers, size=st.integers(1, 9))
def test_any_answer_is_the_fold_of_its_stream(data: JSON, size: int) -> None:
    assert folded(sse(events_of(data, size))) == CODEC.decode_response(json.dumps(data).encode())


@given(data=answers, size=st.integers(1, 9), cuts=st.lists(st.integers(0, 6000), max_size=6))
def test_any_cut_of_its_bytes_means_the_same(data: JSON, size: int, cuts: list[int]) -> None:
    stream = sse(events_of(data, size))
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    assert parts_of(*[stream[a:b] for a, b in pairwise(places)]) == parts_of(stream)


@given(data=answers)
def test_any_answer_survives_being_said_again(data: JSON) -> None:
    response = CODEC.decode_response(json.dumps(data).encode())
    assume(not response.warnings)  # what was left out is not said again
    assert CODEC.decode_response(CODEC.encode_response(response, model=response.model or '')) == response


@given(data=answers, size=st.integers(1, 9))
def test_any_stream_survives_being_said_again(data: JSON, size: int) -> None:
    parts = parts_of(sse(events_of(data, size)))
    response = fold(parts)
    assume(not response.warnings)
    assert folded(sent_events(parts)) == response


@given(
    events=st.lists(st.sampled_from([event for name in ANSWERS for event in events_of(ANSWERS[name], 9)]), max_size=14)
)
def test_events_in_any_order_are_parts_or_one_error(events: list[JSON]) -> None:
    check(sse(events))


@given(name=st.sampled_from(sorted(ANSWERS)), at=st.integers(0, 40), event=strange, replace=st.booleans())
def test_a_strange_event_anywhere_is_parts_or_one_error(name: str, at: int, event: Any, replace: bool) -> None:
    events: list[Any] = [*events_of(ANSWERS[name], 5)]
    events[at : at + replace] = [event]
    check(b''.join([f'data: {json.dumps(event)}\n\n'.encode() for event in events]))


@given(
    kind=st.sampled_from(KINDS),
    rest=st.dictionaries(st.sampled_from(FIELDS), strange, max_size=5),
    at=st.integers(0, 20),
)
def test_a_known_event_with_strange_fields_is_parts_or_one_error(kind: str, rest: JSON, at: int) -> None:
    events = events_of(ANSWERS['tools'], 5)
    events.insert(at, {**rest, 'type': kind})
    check(sse(events))


@given(at=st.integers(0, 6000), junk=st.binary(max_size=20), drop=st.integers(0, 30))
def test_junk_in_the_bytes_is_parts_or_one_error(at: int, junk: bytes, drop: int) -> None:
    stream = sse(events_of(ANSWERS['tools'], 7))
    check(stream[:at] + junk + stream[at + drop :])


@given(data=strange | st.dictionaries(st.sampled_from(FIELDS), strange, max_size=6))
def test_a_strange_answer_is_a_response_or_one_error(data: Any) -> None:
    error = failure(lambda: CODEC.decode_response(json.dumps(data).encode()))
    assert error is None or error.status != 'OK'


@given(output=st.lists(st.dictionaries(st.sampled_from(FIELDS), strange, max_size=6), max_size=4))
def test_strange_items_are_kept_or_one_error(output: list[Any]) -> None:
    try:
        response = CODEC.decode_response(json.dumps(answer(*output)).encode())
    except LamellaError:
        return
    json.loads(CODEC.encode_response(response, model='m'))
    assert sent_events(list(unfold(response)))


@given(junk=st.binary(max_size=60))
def test_junk_is_one_error(junk: bytes) -> None:
    for read in (CODEC.decode_response, CODEC.decode_request):
        failure(lambda read=read: read(junk))  # type: ignore[misc]
    assert CODEC.decode_error(500, {}, junk).status == 'INTERNAL'


@pytest.mark.parametrize('deep', [b'[' * 100_000, b'{"output":' * 50_000, b'{"a":' * 100_000 + b'1' + b'}' * 100_000])
def test_depth_is_one_error(deep: bytes) -> None:
    for read in (CODEC.decode_response, CODEC.decode_request, lambda data: parts_of(b'data: ' + data + b'\n\n')):
        error = failure(lambda read=read: read(deep))  # type: ignore[misc]
        assert error is not None


# ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────────

texts = st.builds(TextPart, words)
media = st.builds(lambda data: MediaPart(data=b'\x89PNG' + data, content_type='image/png'), st.binary(max_size=8))
foreign = st.builds(lambda data: DataPart(data, {'anthropic': {}}), values)
calls = st.builds(lambda name, value, ref: ToolRequestPart(ToolRequest(name, value, ref)), names, objects, names)
thoughts = st.builds(lambda said, id: ReasoningPart(said, 'e', metadata={'openai-responses': {'id': id}}), words, names)
results: Any = st.builds(
    lambda name, value, ref: ToolResponsePart(ToolResponse(name, value, ref)), names, values, names
)
messages = st.lists(
    st.one_of(
        st.builds(lambda parts: Message('system', tuple(parts)), st.lists(texts, max_size=3)),
        st.builds(lambda parts: Message('user', tuple(parts)), st.lists(texts | media | foreign, max_size=3)),
        st.builds(
            lambda parts: Message('assistant', tuple(parts)), st.lists(texts | calls | thoughts | foreign, max_size=4)
        ),
        st.builds(lambda parts: Message('tool', tuple(parts)), st.lists(results, min_size=1, max_size=3)),
    ),
    max_size=6,
)


def said(parts: tuple[Part, ...]) -> str:
    return ''.join([part.text for part in parts if isinstance(part, TextPart)])


@given(conversation=messages)
def test_any_conversation_keeps_its_words_and_settles(conversation: list[Message]) -> None:
    """Said and understood, it has the words it had; said again, it does not change any more."""
    first = CODEC.encode_request(ModelRequest(tuple(conversation), GenerationConfig(top_p=0.5)), 'm').body
    again = CODEC.decode_request(first).request
    assert ''.join([said(message.content) for message in again.messages]) == ''.join(
        [said(message.content) for message in conversation]
    )
    assert [part.tool_request for message in again.messages for part in message.tool_requests] == [
        part.tool_request for message in conversation for part in message.tool_requests
    ]
    second = CODEC.encode_request(again, 'm').body
    assert CODEC.decode_request(second).request == again


@given(
    body=st.dictionaries(
        st.sampled_from([*FIELDS, 'model', 'tools', 'text', 'reasoning', 'tool_choice']), strange, max_size=7
    )
)
def test_a_strange_request_is_a_request_or_one_error(body: JSON) -> None:
    check_request(json.dumps({'model': 'm', **body}).encode())


def check_request(body: bytes) -> None:
    def read() -> None:
        decoded = CODEC.decode_request(body)
        CODEC.encode_request(decoded.request, decoded.model)

    error = failure(read)
    assert error is None or error.status == 'INVALID_ARGUMENT'


@given(
    content=st.lists(st.dictionaries(st.sampled_from(FIELDS), strange, max_size=5), max_size=4),
    role=st.sampled_from(TYPES),
)
def test_strange_input_is_kept_or_one_error(content: list[JSON], role: str) -> None:
    for given_input in (content, [{'role': role, 'content': content}]):
        check_request(json.dumps({'model': 'm', 'input': given_input}).encode())


# ── responses of ours ───────────────────────────────────────────────────────────────────────────────────────────────

ours = st.builds(
    lambda parts, reason, usage, sources: ModelResponse(
        message=Message('assistant', tuple(parts)),
        finish_reason=reason,
        usage=usage,
        model='m',
        id='resp_1',
        sources=tuple(sources),
    ),
    st.lists(texts | calls | thoughts, max_size=5),
    st.sampled_from(['stop', 'length']),
    st.none() | st.builds(lambda a, b: Usage(a, b, a + b, 0, 0, 0), st.integers(0, 99), st.integers(0, 99)),
    st.lists(st.builds(lambda url: Source('https://' + url, 't'), names), max_size=2),
)


@given(response=ours)
def test_streams_and_whole_answers_say_the_same(response: ModelResponse) -> None:
    whole = CODEC.decode_response(CODEC.encode_response(response, model='m'))
    streamed = folded(sent_events(list(unfold(response))))
    assert _essence(streamed) == _essence(whole)


def _essence(response: ModelResponse) -> Any:
    """Everything but generated ids."""
    parts = [part.replace(metadata=None) for part in response.message.content]
    sources = [(source.url, source.title) for source in response.sources]
    return parts, response.finish_reason, response.usage, sources


@given(pieces=st.lists(words, max_size=6))
def test_pieces_of_a_text_are_that_text(pieces: list[str]) -> None:
    parts = [ResponseStarted(), *[TextDelta(piece) for piece in pieces], Finished()]
    assert folded(sent_events(parts)).text == ''.join(pieces)
