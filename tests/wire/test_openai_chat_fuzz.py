"""Chat Completions for anything that hypothesis can think of: what is said is understood, and damage is one clear error."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.types import (
    Finished,
    GenerationConfig,
    LamellaError,
    MediaPart,
    Message,
    ModelRequest,
    OutputSpec,
    StreamPart,
    TextPart,
    ToolDefinition,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
    fold,
)
from lamella.wire.openai_chat import OpenAIChatCodec
from lamella.wire.sse import Event
from tests.wire.openai_chat_answers import ANSWERS, chunks, whole

CODEC = OpenAIChatCodec()
PERSON = {'type': 'object', 'properties': {'name': {'type': 'string'}}, 'required': ['name']}
OPTIONAL = {**PERSON, 'required': []}


@contextmanager
def one_error(status: str | None = None) -> Iterator[None]:
    """Either nothing goes wrong inside, or a LamellaError does (of that status)."""
    try:
        yield
    except LamellaError as error:
        if status is not None and error.status != status:
            raise


def streamed(events: Iterable[Event]) -> list[StreamPart]:
    decoder = CODEC.stream_decoder()
    parts = [part for event in events for part in decoder.feed(event)]
    return [*parts, *decoder.finish()]


words = st.text(st.characters(exclude_categories=['Cs']), min_size=1, max_size=8)
names = st.from_regex(r'[a-z_]{1,8}', fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | words, lambda v: st.lists(v) | st.dictionaries(words, v)
)
inputs = st.dictionaries(words, values, max_size=3)
texts = st.builds(TextPart, words)
media = st.builds(
    MediaPart, data=st.binary(max_size=8), content_type=st.sampled_from(['image/png', 'audio/wav', 'application/pdf'])
)
named_media = media.map(lambda m: m.replace(name='file') if m.content_type == 'application/pdf' else m)


@st.composite
def tool_rounds(draw: st.DrawFn) -> list[Message]:
    calls = draw(st.lists(st.tuples(names, inputs), min_size=1, max_size=3))
    said = [TextPart(draw(words))] if draw(st.booleans()) else []
    refs = [f'c{draw(st.integers(0, 10**6))}_{i}' for i in range(len(calls))]
    requests = [ToolRequestPart(ToolRequest(name, value, ref)) for (name, value), ref in zip(calls, refs, strict=True)]
    answers = [ToolResponse(name, draw(words), ref) for (name, _), ref in zip(calls, refs, strict=True)]
    return [Message('assistant', (*said, *requests)), Message.tool(*answers)]


users = st.lists(texts | named_media, min_size=1, max_size=3).map(lambda parts: [Message('user', tuple(parts))])
assistants = st.builds(lambda text: [Message.assistant(text)], words)
systems = st.builds(lambda text: [Message.system(text)], words)
conversations = st.lists(users | assistants | systems | tool_rounds(), max_size=4).map(
    lambda found: tuple(chain.from_iterable(found))
)
configs = st.builds(
    GenerationConfig,
    temperature=st.none() | st.floats(0, 2),
    max_output_tokens=st.none() | st.integers(1, 99),
    stop_sequences=st.lists(words, max_size=2).map(tuple),
    logprobs=st.none() | st.integers(0, 5),
    reasoning_effort=st.none() | st.sampled_from(['low', 'high']),
)
requests = st.builds(
    ModelRequest,
    messages=conversations,
    config=configs,
    tools=st.lists(st.builds(ToolDefinition, names, words, st.just(PERSON)), max_size=2).map(tuple),
    output=st.none() | st.just(OutputSpec('json', OPTIONAL, 'name')),
    provider_options=st.sampled_from([{}, {'openai': {'user': 'u', 'store': True}}]),
)


@given(request=requests, stream=st.booleans())
def test_a_request_that_is_sent_is_received_as_it_was(request: ModelRequest, stream: bool) -> None:
    decoded = CODEC.decode_request(CODEC.encode_request(request, 'a/b', stream=stream).body)
    assert (decoded.model, decoded.stream) == ('a/b', stream)
    assert decoded.request == request


broken = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda v: st.lists(v, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ['role', 'content', 'type', 'text', 'tool_calls', 'function', 'name', 'arguments', 'id', 'image_url', 'url',
             'input_audio', 'data', 'format', 'file', 'file_data', 'refusal', 'tool_call_id', 'json_schema', 'schema']
        ),
        v,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
roles = st.sampled_from(['user', 'assistant', 'tool', 'system', 'function'])
broken_messages = st.lists(
    st.builds(
        lambda role, rest: {'role': role, **rest},
        roles,
        st.dictionaries(
            st.sampled_from(['content', 'tool_calls', 'tool_call_id', 'name', 'refusal', 'function_call']),
            broken,
            max_size=4,
        ),
    )
    | broken,
    max_size=3,
)  # fmt: skip


@given(
    messages=broken_messages | broken,
    rest=st.dictionaries(
        st.sampled_from(
            ['tools', 'tool_choice', 'response_format', 'stop', 'stream_options', 'logprobs', 'temperature']
        ),
        broken,
    ),
)
def test_any_json_is_a_request_or_one_error(messages: Any, rest: Any) -> None:
    body = msgspec.json.encode({'model': 'm', 'messages': messages, 'stream': True, **rest})
    with one_error('INVALID_ARGUMENT'):
        decoded = CODEC.decode_request(body)
        again = CODEC.encode_request(decoded.request, decoded.model, stream=decoded.stream)
        assert CODEC.decode_request(again.body).model == 'm'


def mutated(value: Any, draw: Any) -> Any:
    """The value with one thing in it replaced, dropped or repeated."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(value)))
        changed = mutated(value[key], draw)
        return {**{k: v for k, v in value.items() if k != key}, **({key: changed} if draw(st.integers(0, 4)) else {})}
    if isinstance(value, list) and value and draw(st.booleans()):
        index = draw(st.integers(0, len(value) - 1))
        return [*value[:index], mutated(value[index], draw), *value[index + draw(st.integers(0, 1)) :]]
    return draw(JUNK)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda v: (
        st.lists(v, max_size=2)
        | st.dictionaries(st.sampled_from(['content', 'text', 'function', 'index', 'id', 'x']), v)
    ),
    max_leaves=4,
)


@given(name=st.sampled_from(sorted(ANSWERS)), data=st.data())
def test_a_damaged_answer_is_an_answer_or_one_error(name: str, data: st.DataObject) -> None:
    body = msgspec.json.encode(mutated(whole(name), data.draw))
    with one_error():
        response = CODEC.decode_response(body)
        assert CODEC.decode_response(CODEC.encode_response(response, model='m')).text == response.text


@given(name=st.sampled_from(sorted(ANSWERS)), data=st.data())
def test_a_damaged_stream_is_an_answer_or_one_error(name: str, data: st.DataObject) -> None:
    found = [chunk if data.draw(st.integers(0, 2)) else mutated(chunk, data.draw) for chunk in chunks(name)]
    with one_error():
        parts = streamed(Event(data=msgspec.json.encode(chunk).decode()) for chunk in found)
        assert type(parts[-1]) is Finished
        assert fold(parts).message.role == 'assistant'


@given(body=st.binary(max_size=50))
def test_any_bytes_are_one_error(body: bytes) -> None:
    with pytest.raises(LamellaError):
        CODEC.decode_response(body)
