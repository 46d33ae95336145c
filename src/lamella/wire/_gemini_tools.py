"""Tools and the choice among them to Gemini's `tools` and `toolConfig`, and back.

ai.google.dev/api/caching#Tool and ai.google.dev/gemini-api/docs/function-calling.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lamella.types import JSON, ToolChoice, ToolDefinition
from lamella.wire._gemini_json import (
    Malformed,
    Warn,
    at,
    each,
    extras_of,
    fields,
    marked,
    merged,
    shown,
    text_of,
    without,
)
from lamella.wire._gemini_schema import is_empty, json_schema

_MODES = {'auto': 'AUTO', 'none': 'NONE', 'required': 'ANY', 'tool': 'ANY'}
_INPUTS = ('parametersJsonSchema', 'parameters')
_OUTPUTS = ('responseJsonSchema', 'response')


# To the wire


def encode_tools(tools: Sequence[ToolDefinition]) -> list[JSON]:
    """One `Tool` that declares all functions, or none."""
    return [{'functionDeclarations': [_declaration(tool) for tool in tools]}] if tools else []


def _declaration(tool: ToolDefinition) -> JSON:
    body: JSON = {'name': tool.name}
    if tool.description:
        body['description'] = tool.description
    if not is_empty(tool.input_schema):
        body['parametersJsonSchema'] = tool.input_schema
    if tool.output_schema is not None:
        body['responseJsonSchema'] = tool.output_schema
    return merged(body, extras_of(tool.metadata))


def encode_choice(choice: ToolChoice | None, tools: Sequence[ToolDefinition], warn: Warn) -> JSON:
    """The `toolConfig`. Gemini refuses one without functions, so a choice among no tools is left out."""
    if choice is None:
        return {}
    if not tools:
        if choice.mode in ('required', 'tool'):
            warn(f'tool_choice={choice.mode!r} was left out: the request has no tools')
        return {}
    names = {'allowedFunctionNames': [choice.name]} if choice.mode == 'tool' else {}
    return {'functionCallingConfig': {'mode': _MODES[choice.mode], **names}}


# From the wire


def decode_tools(value: Any) -> tuple[tuple[ToolDefinition, ...], list[JSON]]:
    """The functions, and Gemini's own tools (`googleSearch`, `codeExecution` …). Raises Malformed."""
    functions: list[ToolDefinition] = []
    others: list[JSON] = []
    for i, tool in enumerate(each('tools', fields, value)):
        functions += each(f'tools[{i}].functionDeclarations', _definition, tool.get('functionDeclarations'))
        if other := without(tool, 'functionDeclarations'):
            others.append(other)
    return tuple(functions), others


def _definition(value: Any) -> ToolDefinition:
    declaration = fields(value)
    return ToolDefinition(
        text_of(declaration, 'name'),
        text_of(declaration, 'description', ''),
        _schema(declaration, _INPUTS) or {},
        _schema(declaration, _OUTPUTS),
        marked(without(declaration, 'name', 'description', *_INPUTS, *_OUTPUTS)),
    )


def _schema(declaration: JSON, names: tuple[str, str]) -> JSON | None:
    """From the JSON Schema, or from the older form beside it."""
    as_json, older = (declaration.get(name) for name in names)
    schema = json_schema(older) if as_json is None else as_json
    if schema is not None and not isinstance(schema, dict):
        raise Malformed(f'is {shown(schema)}: give an object', names[as_json is None])
    return schema


def decode_choice(value: Any) -> tuple[ToolChoice | None, JSON]:
    """The choice, and what else the `toolConfig` says. Raises Malformed."""
    if value is None:
        return None, {}
    rest = fields(value)
    calling = at('functionCallingConfig', fields, rest.get('functionCallingConfig', {}))
    choice, left = _choice(calling)
    rest = without(rest, 'functionCallingConfig')
    return choice, {**rest, 'functionCallingConfig': left} if left else rest


def _choice(calling: JSON) -> tuple[ToolChoice | None, JSON]:
    """Several allowed names, and modes such as VALIDATED, are Gemini's own."""
    mode, names = calling.get('mode'), calling.get('allowedFunctionNames')
    if mode == 'ANY' and isinstance(names, list) and len(names) == 1 and isinstance(names[0], str):
        return ToolChoice('tool', names[0]), without(calling, 'mode', 'allowedFunctionNames')
    if mode == 'ANY':
        return ToolChoice('required'), without(calling, 'mode')
    if mode in ('AUTO', 'NONE'):
        return ToolChoice('auto' if mode == 'AUTO' else 'none'), without(calling, 'mode')
    return None, calling
