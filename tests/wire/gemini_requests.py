"""Requests of generateContent, sent and read."""

import json
from typing import Any

import pytest

from lamella.types import (
    LamellaError,
    Message,
    ModelRequest,
    ToolDefinition,
)
from lamella.wire.gemini import GeminiCodec

CODEC = GeminiCodec()
MODEL = 'gemini-3-flash'
WEATHER = ToolDefinition(
    'get_weather', 'The weather of a city.', {'type': 'object', 'properties': {'city': {'type': 'string'}}}
)
SCHEMA = {'type': 'object', 'properties': {'n': {'type': 'integer'}}, 'required': ['n']}


def encoded(request: ModelRequest, model: str = MODEL) -> dict[str, Any]:
    return json.loads(CODEC.encode_request(request, model).body)


def warnings(request: ModelRequest, model: str = MODEL) -> tuple[str, ...]:
    return CODEC.encode_request(request, model).warnings


def decoded(body: dict[str, Any], model: str = MODEL) -> ModelRequest:
    return CODEC.decode_request(json.dumps(body).encode(), model=model).request


def asked(*messages: Message | str, **fields: Any) -> ModelRequest:
    said = tuple(Message.user(message) if isinstance(message, str) else message for message in messages)
    return ModelRequest(said or (Message.user('hi'),), **fields)


def refused(body: Any) -> str:
    with pytest.raises(LamellaError) as caught:
        CODEC.decode_request(body if isinstance(body, bytes) else json.dumps(body).encode(), model=MODEL)
    assert caught.value.status == 'INVALID_ARGUMENT'
    return caught.value.message
