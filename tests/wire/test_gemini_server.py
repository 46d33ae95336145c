"""What a server that speaks Gemini's protocol streams."""

import json
from typing import Any

import pytest

from lamella.types import (
    DataPart,
    File,
    Finished,
    LamellaError,
    MediaPart,
    Message,
    Raw,
    ResponseStarted,
    Restarted,
    Source,
    StreamPart,
    TextDelta,
    TextPart,
    ToolInputDelta,
    ToolResponded,
    ToolResponse,
    Usage,
    fold,
)
from lamella.wire.sse import SSEDecoder
from tests.wire.gemini_chunks import CODEC, NAMES, chunk, read, streamed


def said(*parts: StreamPart) -> list[dict[str, Any]]:
    encoder = CODEC.stream_encoder(model='gemini-x')
    body = b''.join([encoder.feed(part) for part in parts]) + encoder.finish()
    return [json.loads(event.data) for event in SSEDecoder().feed(body)]


def test_a_server_streams_chunks_of_the_documented_shape() -> None:
    first, last = said(ResponseStarted('gemini-3-flash', 'r1'), TextDelta('hi'), Finished('stop', Usage(1, 2, 3)))

    assert first == {'candidates': [{'content': {'role': 'model', 'parts': [{'text': 'hi'}]}, 'index': 0}], **NAMES}
    assert last == {
        'candidates': [
            {'content': {'role': 'model', 'parts': [{'text': ''}]}, 'finishReason': 'STOP', 'index': 0},
        ],
        'usageMetadata': {'promptTokenCount': 1, 'candidatesTokenCount': 2, 'totalTokenCount': 3},
        **NAMES,
    }


def test_parts_without_a_place_in_the_protocol_are_left_out() -> None:
    chunks = said(
        ResponseStarted(),
        ToolInputDelta('{"a"', 0, 'f'),
        ToolResponded(ToolResponse('f', 1)),
        Raw({'type': 'ping'}),
        Raw({'type': 'block'}, 0, True, {'anthropic': {}}),
    )

    assert chunks == []


def test_files_and_kept_blocks_are_streamed() -> None:
    file, block = said(
        File(MediaPart(data=b'\x89PNG', content_type='image/png')), Raw({'executableCode': {}}, 1, True, {'gemini': {}})
    )

    assert file['candidates'][0]['content']['parts'] == [{'inlineData': {'mimeType': 'image/png', 'data': 'iVBORw=='}}]
    assert block['candidates'][0]['content']['parts'] == [{'executableCode': {}}]
    assert (
        DataPart({'executableCode': {}}, {'gemini': {}})
        in fold(streamed(block, chunk(finishReason='STOP'))).message.content
    )


def test_sources_are_said_at_the_end() -> None:
    last = said(TextDelta('a'), Source('https://a', 'A'), Finished())[-1]

    assert last['candidates'][0]['groundingMetadata'] == {
        'groundingChunks': [{'web': {'uri': 'https://a', 'title': 'A'}}]
    }


def test_a_restart_before_anything_was_said_is_silent() -> None:
    body = said(ResponseStarted('a', '1'), Restarted('retry'), ResponseStarted('b', '2'), TextDelta('x'), Finished())

    assert [(item['modelVersion'], item['responseId']) for item in body] == [('b', '2'), ('b', '2')]


def test_a_restart_after_content_is_an_error_because_nothing_can_be_taken_back() -> None:
    encoder = CODEC.stream_encoder(model='m')
    encoder.feed(TextDelta('x'))

    with pytest.raises(LamellaError, match='began anew') as caught:
        encoder.feed(Restarted('overloaded'))

    assert caught.value.status == 'ABORTED'


def test_an_error_of_a_server_is_understood_by_the_reader() -> None:
    encoder = CODEC.stream_encoder(model='m')
    body = encoder.feed(TextDelta('Hel')) + encoder.error(
        LamellaError('RESOURCE_EXHAUSTED', 'slow down', retry_after_s=2)
    )

    with pytest.raises(LamellaError, match='slow down') as caught:
        read(body)

    assert (caught.value.status, caught.value.retry_after_s) == ('RESOURCE_EXHAUSTED', 2)
    assert caught.value.partial is not None
    assert caught.value.partial.message == Message.assistant(TextPart('Hel'))
