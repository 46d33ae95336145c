"""Chunks of Gemini's streams as the API sends them, and what Lamella reads in them."""

import json
from collections.abc import Iterable
from typing import Any

from lamella.types import ModelResponse, StreamPart
from lamella.wire.gemini import GeminiCodec
from lamella.wire.sse import SSEDecoder

CODEC = GeminiCodec()
NAMES = {'modelVersion': 'gemini-3-flash', 'responseId': 'r1'}


def chunk(*parts: Any, usage: dict[str, Any] | None = None, **candidate: Any) -> dict[str, Any]:
    content = {'content': {'parts': list(parts), 'role': 'model'}} if parts else {}
    body = {'candidates': [{**content, 'index': 0, **candidate}], **NAMES}
    return body if usage is None else {**body, 'usageMetadata': usage}


def body_of(chunks: Iterable[Any]) -> bytes:
    """Google ends its lines with CRLF."""
    return b''.join([b'data: ' + json.dumps(item).encode() + b'\r\n\r\n' for item in chunks])


def read(*pieces: bytes) -> list[StreamPart]:
    events, decoder = SSEDecoder(), CODEC.stream_decoder()
    found = [event for piece in pieces for event in events.feed(piece)]
    parts = [part for event in [*found, *events.finish()] for part in decoder.feed(event)]
    return [*parts, *decoder.finish()]


def streamed(*chunks: Any) -> list[StreamPart]:
    return read(body_of(chunks))


def whole(*parts: Any, **fields: Any) -> ModelResponse:
    return CODEC.decode_response(json.dumps(chunk(*parts, finishReason='STOP', **fields)).encode())
