"""The rules that answer: tool calls, values for a schema, or sentences of the prompt; never anything from elsewhere.

Pure functions: the same request gives the same answer. Prose begins with a note that says who speaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from lamella.simulator.calls import Call, calls_for
from lamella.simulator.draw import Draw
from lamella.simulator.fill import fill
from lamella.simulator.material import Material, material_of, schema_in_words
from lamella.simulator.tokens import count_text, truncated, usage_of
from lamella.simulator.words import extract, sentences_wanted
from lamella.types import (
    FinishReason,
    MediaPart,
    Message,
    ModelRequest,
    ModelResponse,
    Part,
    TextPart,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
)

NOTE = '[Lamella simulator, quoting the prompt]'
TOOL_NOTE = '[Lamella simulator, quoting the tools]'
USUAL_SENTENCES = 3
MAX_QUOTE = 400


def answer(request: ModelRequest) -> ModelResponse:
    """The answer by rule. Raises INVALID_ARGUMENT for a schema that nothing fits and a tool choice that is not offered."""
    material = material_of(request)
    if calls := calls_for(request, material):
        return response_of(request, [_part(call, at) for at, call in enumerate(calls)], 'tool_calls')
    return text_response(request, _text(request, material))


def _text(request: ModelRequest, material: Material) -> str:
    output = request.output
    if output is not None and output.format == 'json':
        return _json(fill(output.schema if output.schema is not None else _ANY_OBJECT, Draw(material)))
    if (found := schema_in_words(request)) is not None:
        return _json(fill(found[0], Draw(material.without(found[1]))))
    if results := _results(request):
        names = _names(request)
        return ' '.join([TOOL_NOTE, *[_cited(result, result.name or names.get(result.ref)) for result in results]])
    return ' '.join([NOTE, *_prose(request, material)])


_ANY_OBJECT = {'type': 'object', 'properties': {'answer': {'type': 'string'}}}


def _prose(request: ModelRequest, material: Material) -> list[str]:
    media = sum(type(part) is MediaPart for message in request.messages for part in message.content)
    seen = [f'({media} media part{"s" if media > 1 else ""} not looked at.)'] if media else []
    wanted = sentences_wanted(material.text) or USUAL_SENTENCES
    return [*extract(material.told, wanted, material.instruction), *seen] or ['The prompt is empty.']


def _results(request: ModelRequest) -> list[ToolResponse]:
    """What the tools answered since the model last spoke."""
    found: list[ToolResponse] = []
    for message in reversed(request.messages):
        if message.role == 'assistant':
            break
        found[:0] = [part.tool_response for part in message.tool_responses]
    return found


def _names(request: ModelRequest) -> dict[str | None, str]:
    """The tools' names by the ids of their calls, for protocols whose tool messages carry the id only."""
    called = [part.tool_request for message in request.messages for part in message.tool_requests]
    return {call.ref: call.name for call in called if call.ref is not None}


def _cited(result: ToolResponse, name: str | None) -> str:
    output = result.output if isinstance(result.output, str) else _json(result.output)
    quote = output if len(output) <= MAX_QUOTE else f'{output[:MAX_QUOTE]} …'
    return f'{name or "The tool"} {"failed" if result.is_error else "answered"}: {quote}'


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _part(call: Call, at: int) -> Part:
    return ToolRequestPart(ToolRequest(call.name, call.input, f'call_{at}'))


def text_response(request: ModelRequest, text: str, finish_reason: FinishReason = 'stop') -> ModelResponse:
    """The text as an answer, held to the stop sequences and the token limit of the request."""
    stops = [at for stop in request.config.stop_sequences if stop and (at := text.find(stop)) >= 0]
    text = text[: min(stops)] if stops else text
    limit = request.config.max_output_tokens
    if limit is not None and count_text(text) > limit:
        text, finish_reason = truncated(text, limit), 'length'
    return response_of(request, [TextPart(text)], finish_reason)


def response_of(request: ModelRequest, parts: Sequence[Part], finish_reason: FinishReason) -> ModelResponse:
    message = Message('assistant', tuple(parts))
    return ModelResponse(message=message, finish_reason=finish_reason, usage=usage_of(request, message))
