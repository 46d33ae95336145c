"""Whole and streamed are the same answer, and anything is read into an answer or one error."""

import json
from base64 import b64encode
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.types import (
    LamellaError,
    Message,
    ModelResponse,
    fold,
    unfold,
)
from tests.wire.gemini_chunks import CODEC, chunk, read, streamed, whole

TEXTS = st.text(st.characters(exclude_categories=['Cs']), min_size=1, max_size=12)
SIGNATURES = st.binary(min_size=1, max_size=6).map(lambda data: b64encode(data).decode())
PLAIN = st.builds(lambda text, thought: {'text': text, **({'thought': True} if thought else {})}, TEXTS, st.booleans())
SIGNED = st.builds(lambda part, signature: {**part, 'thoughtSignature': signature}, PLAIN, SIGNATURES)
CALLS = st.builds(
    lambda name, args, id: {'functionCall': {'name': name, 'args': args, **({'id': id} if id else {})}},
    st.sampled_from(['f', 'g']),
    st.dictionaries(TEXTS, TEXTS, max_size=2),
    st.none() | TEXTS,
)
OTHERS = st.sampled_from(
    [
        {'inlineData': {'mimeType': 'image/png', 'data': 'iVBORw=='}},
        {'codeExecutionResult': {'outcome': 'OUTCOME_OK', 'output': '1'}},
        {'text': ''},
        {'newKind': {'a': 1}},
    ]
)
PARTS = st.lists(PLAIN | SIGNED | CALLS | OTHERS, max_size=8)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """Parts of an answer, and the same in chunks: plain text cut anywhere, the rest where it is."""
    parts = draw(PARTS)
    pieces: list[dict[str, Any]] = []
    for part in parts:
        if 'thoughtSignature' in part or len(part.get('text', '')) < 2:
            pieces.append(part)
            continue
        at = draw(st.integers(1, len(part['text']) - 1))
        pieces += [{**part, 'text': part['text'][:at]}, {**part, 'text': part['text'][at:]}]
    chunks: list[list[dict[str, Any]]] = [[]]
    for piece in pieces:
        if draw(st.booleans()):
            chunks.append([])
        chunks[-1].append(piece)
    return parts, chunks


@given(cuts(), st.booleans())
def test_whole_and_streamed_are_the_same_answer(
    cut: tuple[list[dict[str, Any]], list[list[dict[str, Any]]]], counted: bool
) -> None:
    parts, chunks = cut
    usage = {'promptTokenCount': 1, 'candidatesTokenCount': 2}

    told = usage if counted else None
    stream = [*[chunk(*pieces, usage=told) for pieces in chunks], chunk({'text': ''}, finishReason='STOP', usage=usage)]

    assert fold(streamed(*stream)) == whole(*parts, usage=usage)


@given(PARTS)
def test_what_a_server_streams_is_what_it_says_at_once(parts: list[dict[str, Any]]) -> None:
    response = whole(*parts)
    encoder = CODEC.stream_encoder(model='gemini-3-flash')
    body = b''.join([encoder.feed(part) for part in unfold(response)]) + encoder.finish()

    assert fold(read(body)) == response
    assert CODEC.decode_response(CODEC.encode_response(response, model='x')) == response


NAMES_OF_FIELDS = [
    'candidates', 'content', 'parts', 'text', 'thought', 'thoughtSignature', 'functionCall', 'function_call', 'name', 'args',
    'partialArgs', 'jsonPath', 'stringValue', 'willContinue', 'functionResponse', 'response', 'inlineData', 'data', 'mimeType',
    'fileData', 'fileUri', 'finishReason', 'finishMessage', 'index', 'usageMetadata', 'promptTokenCount', 'promptFeedback',
    'blockReason', 'citationMetadata', 'citationSources', 'groundingMetadata', 'groundingChunks', 'web', 'uri',
    'logprobsResult', 'chosenCandidates', 'topCandidates', 'modelVersion', 'responseId', 'error', 'code', 'message', 'details',
]  # fmt: skip
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False)
    | TEXTS
    | st.sampled_from(['STOP', 'QQ==', '0']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES_OF_FIELDS), inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=250)
@given(st.lists(st.dictionaries(st.sampled_from(NAMES_OF_FIELDS), JSON_VALUES, max_size=6), max_size=3))
def test_anything_is_read_into_parts_or_one_error(chunks: list[Any]) -> None:
    try:
        response = fold(streamed(*chunks))
    except LamellaError:
        return
    assert isinstance(response.message, Message)
    assert CODEC.encode_response(response, model='m')


@settings(max_examples=150)
@given(st.lists(JSON_VALUES, max_size=4), st.booleans())
def test_any_parts_of_an_answer_are_read_alike_whole_and_streamed(parts: list[Any], separately: bool) -> None:
    usage = {'promptTokenCount': 1}
    chunks = [chunk(part, usage=usage) for part in parts] if separately else [chunk(*parts, usage=usage)]
    try:
        streamed_answer: Any = fold(streamed(*chunks, chunk({'text': ''}, finishReason='STOP', usage=usage)))
    except LamellaError as error:
        streamed_answer = error.status
    try:
        whole_answer: Any = whole(*parts, usage=usage)
    except LamellaError as error:
        whole_answer = error.status

    assert streamed_answer == whole_answer


@settings(max_examples=150)
@given(st.binary(max_size=60) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_read_into_an_answer_and_a_request_or_one_error_each(body: bytes) -> None:
    for read_it in (CODEC.decode_response, lambda data: CODEC.decode_request(data, model='m').request):
        try:
            found = read_it(body)
        except LamellaError:
            continue
        assert isinstance(found, ModelResponse) or CODEC.encode_request(found, 'gemini-3-pro').body
