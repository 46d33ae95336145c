"""Structured output for models that have none of their own: the schema is spelled out in words."""

from __future__ import annotations

import msgspec

from lamella.core.model import Model
from lamella.types import Message, ModelRequest, TextPart


def ask_in_words(request: ModelRequest, model: Model) -> ModelRequest:
    """The request with the schema spelled out, for a model that has no structured output of its own.

    Only what is sent says it: the conversation that layers and callers see stays as it is.
    """
    output = request.output
    if output is None or output.format != 'json' or model.info.structured_output == 'native':
        return request
    wish = 'Answer with one JSON value and nothing else: no prose, no code fence.'
    if output.schema is not None:
        wish += f' It must fit this JSON Schema:\n{msgspec.json.encode(output.schema).decode()}'
    return request.replace(messages=with_instruction(request.messages, wish))


def with_instruction(messages: tuple[Message, ...], wish: str) -> tuple[Message, ...]:
    """The messages with a sentence added to the system message, which is made when there is none."""
    if messages and messages[0].role == 'system':
        first = messages[0]
        return (first.replace(content=(*first.content, TextPart(f'\n\n{wish}'))), *messages[1:])
    return (Message.system(wish), *messages)
