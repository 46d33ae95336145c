"""What requests and answers of Chat Completions share: tool calls, reasoning, refusals."""

from __future__ import annotations

from typing import Any

from lamella.types import JSON, DataPart, ReasoningPart, ToolRequest, ToolRequestPart
from lamella.wire._openai_json import Malformed, list_or_empty, marked, need, parse, text_or_none, without

INVALID_JSON = 'invalid_json'
REASONING_FIELDS = ('reasoning_content', 'reasoning')


def read_arguments(text: str) -> tuple[Any, bool]:
    """The value of `arguments`, and whether it is JSON; the text itself where it is not. None at all is an empty object."""
    if not text or text.isspace():
        return {}, True
    try:
        return parse(text), True
    except Malformed:
        return text, False


def tool_request(name: str, arguments: str, ref: str | None, mark: str, rest: JSON | None = None) -> ToolRequestPart:
    """A request with its decoded input.

    Arguments that are no JSON stay what they are, as a string, which no tool takes for its input: the engine answers it as
    bad input and the model sees its own words again. The metadata says so.
    """
    value, valid = read_arguments(arguments)
    rest = dict(rest or {}) if valid else {**(rest or {}), INVALID_JSON: True}
    return ToolRequestPart(ToolRequest(name, value, ref), marked(mark, rest))


def custom_request(name: str, text: str, ref: str | None, mark: str) -> ToolRequestPart:
    """A call of a custom tool, whose input is free text."""
    return ToolRequestPart(ToolRequest(name, text, ref), {mark: {'type': 'custom'}})


def tool_requests_of(message: JSON, where: str, mark: str) -> list[ToolRequestPart]:
    """The calls in `tool_calls`, or in the older `function_call`. Raises Malformed."""
    calls = need(message.get('tool_calls') or [], list, f'{where}.tool_calls')
    found = [
        _call(need(call, dict, f'{where}.tool_calls[{i}]'), f'{where}.tool_calls[{i}]', mark)
        for i, call in enumerate(calls)
    ]
    older = message.get('function_call')
    if not found and isinstance(older, dict):
        found.append(_call({'function': older}, f'{where}.function_call', mark))
    return found


def _call(call: JSON, where: str, mark: str) -> ToolRequestPart:
    ref = text_or_none(call.get('id'))
    if call.get('type') == 'custom':
        custom = need(call.get('custom'), dict, f'{where}.custom')
        text = need(custom.get('input') or '', str, f'{where}.custom.input')
        return custom_request(need(custom.get('name'), str, f'{where}.custom.name'), text, ref, mark)
    function = need(call.get('function'), dict, f'{where}.function')
    name = need(function.get('name'), str, f'{where}.function.name')
    rest = without(call, frozenset(('id', 'type', 'function', 'index')))
    arguments = function.get('arguments')
    if isinstance(arguments, dict):  # some servers decode it
        return ToolRequestPart(ToolRequest(name, arguments, ref), marked(mark, rest))
    return tool_request(name, need(arguments or '', str, f'{where}.function.arguments'), ref, mark, rest)


def reasoning_text(message: JSON) -> str | None:
    """Reasoning of compatible servers: `reasoning_content` (DeepSeek, vLLM) or `reasoning` (OpenRouter, newer vLLM).

    Sources: api-docs.deepseek.com/guides/reasoning_model, docs.vllm.ai "Reasoning Outputs", openrouter.ai/docs
    "Reasoning Tokens".
    """
    return next((text for name in REASONING_FIELDS if (text := text_or_none(message.get(name))) is not None), None)


def reasoning_of(message: JSON, mark: str) -> ReasoningPart | None:
    """The reasoning, with OpenRouter's opaque `reasoning_details`, which go back unchanged."""
    return reasoning_part(reasoning_text(message) or '', list_or_empty(message.get('reasoning_details')), mark)


def reasoning_part(text: str, details: list[Any], mark: str) -> ReasoningPart | None:
    if not text and not details:
        return None
    return ReasoningPart(text, redacted=not text, metadata={mark: {'reasoning_details': details}} if details else None)


def refusal_part(text: str, mark: str) -> DataPart:
    """A refusal is kept as the block it is, so that the conversation can go on with it."""
    return DataPart({'type': 'refusal', 'refusal': text}, {mark: {}})
