"""A request as a server receives it at `POST /v1/messages`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lamella.types import (
    JSON,
    GenerationConfig,
    Message,
    ModelRequest,
    OutputSpec,
    Part,
    TextPart,
    ToolChoice,
    ToolDefinition,
    ToolRequestPart,
    ToolResponse,
    ToolResponsePart,
)
from lamella.wire._anthropic_blocks import part_of
from lamella.wire._anthropic_json import KEY, Malformed, maybe, metadata_of, need, rest_of
from lamella.wire.codec import Decoded

_CONFIG = ('temperature', 'top_p', 'top_k', 'max_tokens', 'stop_sequences', 'tools', 'tool_choice', 'output_config')
_CHOICES = {'auto': 'auto', 'any': 'required', 'none': 'none', 'tool': 'tool'}


def decoded_request(body: JSON) -> Decoded:
    """Raises Malformed with the place of what is wrong. What has no field of its own is in `provider_options`."""
    where = 'body'
    options = rest_of(body, 'model', 'messages', 'system', 'stream', *_CONFIG)
    tools, own_tools = _tools(maybe(body, 'tools', list, where) or [])
    if own_tools:
        options['tools'] = own_tools
    effort, output = _output_config(maybe(body, 'output_config', dict, where) or {}, options)
    choice, parallel = _choice(maybe(body, 'tool_choice', dict, where))
    return Decoded(
        model=need(body, 'model', str, where),
        stream=maybe(body, 'stream', bool, where) or False,
        request=ModelRequest(
            messages=tuple(_messages(body)),
            config=GenerationConfig(
                temperature=_number(body, 'temperature'),
                top_p=_number(body, 'top_p'),
                top_k=maybe(body, 'top_k', int, where),
                max_output_tokens=maybe(body, 'max_tokens', int, where),
                stop_sequences=tuple(_strings(body, 'stop_sequences')),
                reasoning_effort=effort,
                parallel_tool_calls=parallel,
            ),
            tools=tools,
            tool_choice=choice,
            output=output,
            provider_options={KEY: options} if options else {},
        ),
    )


def _number(body: JSON, name: str) -> float | None:
    value = body.get(name)
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise Malformed(f'body.{name} is {value!r}, not a number')


def _strings(body: JSON, name: str) -> list[str]:
    values = maybe(body, name, list, 'body') or []
    if wrong := [value for value in values if not isinstance(value, str)]:
        raise Malformed(f'body.{name} has {wrong[0]!r}: it is a list of strings')
    return values


def _tools(blocks: list[Any]) -> tuple[tuple[ToolDefinition, ...], list[JSON]]:
    """Tools that the client runs, and the vendor's own, which stay as they are."""
    tools: list[ToolDefinition] = []
    own: list[JSON] = []
    for i, block in enumerate(blocks):
        where = f'tools[{i}]'
        if not isinstance(block, dict):
            raise Malformed(f'{where} is {block!r}, not an object')
        if block.get('type') not in (None, 'custom'):
            own.append(block)
            continue
        schema = maybe(block, 'input_schema', dict, where) or {}
        extras = metadata_of(rest_of(block, 'name', 'description', 'input_schema'))
        description = maybe(block, 'description', str, where) or ''
        tools.append(ToolDefinition(need(block, 'name', str, where), description, schema, None, extras))
    return tuple(tools), own


def _choice(block: JSON | None) -> tuple[ToolChoice | None, bool | None]:
    if block is None:
        return None, None
    mode = _CHOICES.get(need(block, 'type', str, 'tool_choice'))
    if mode is None:
        raise Malformed(f'tool_choice.type is {block["type"]!r}: use one of {", ".join(_CHOICES)}')
    parallel = False if block.get('disable_parallel_tool_use') is True else None
    return ToolChoice(mode, maybe(block, 'name', str, 'tool_choice')), parallel  # type: ignore[arg-type]


def _output_config(config: JSON, options: JSON) -> tuple[str | None, OutputSpec | None]:
    """Effort alone does not ask for thinking here, so an unset `thinking` is kept as `None`, which stays unset."""
    effort = maybe(config, 'effort', str, 'output_config')
    if effort is not None:
        options.setdefault('thinking', None)
    form = maybe(config, 'format', dict, 'output_config')
    rest = rest_of(config, 'effort', 'format')
    if form is not None and form.get('type') != 'json_schema':
        rest['format'] = form
        form = None
    if rest:
        options['output_config'] = rest
    return effort, None if form is None else OutputSpec('json', need(form, 'schema', dict, 'output_config.format'))


def _messages(body: JSON) -> Iterator[Message]:
    system = body.get('system')
    if system:
        yield Message('system', _parts(system, 'system', {}))
    names: dict[str, str] = {}
    for i, data in enumerate(need(body, 'messages', list, 'body')):
        where = f'messages[{i}]'
        if not isinstance(data, dict):
            raise Malformed(f'{where} is {data!r}, not an object')
        yield from _message(data, where, names)


def _message(data: JSON, where: str, names: dict[str, str]) -> Iterator[Message]:
    """One message, or two: the results of tools have a role of their own here."""
    role = need(data, 'role', str, where)
    if role not in ('user', 'assistant', 'system'):
        raise Malformed(f'{where}.role is {role!r}: use user or assistant')
    extras = rest_of(data, 'role', 'content')
    metadata = metadata_of({**extras, 'role': role} if role == 'system' else extras) or {}
    parts = _parts(data.get('content'), f'{where}.content', names)
    if role == 'assistant':
        names.update({p.tool_request.ref or '': p.tool_request.name for p in parts if type(p) is ToolRequestPart})
    results = tuple(part for part in parts if type(part) is ToolResponsePart)
    others = tuple(part for part in parts if type(part) is not ToolResponsePart)
    if results:
        yield Message('tool', results, {} if others else metadata)
    if others or not results:
        yield Message(role, others, metadata)  # type: ignore[arg-type]


def _parts(content: Any, where: str, names: dict[str, str]) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (TextPart(content),)
    if not isinstance(content, list):
        raise Malformed(f'{where} is {content!r}: give a string or a list of content blocks')
    parts = [_part(block, f'{where}[{j}]', names) for j, block in enumerate(content)]
    return tuple([part for part in parts if part is not None])


def _part(block: Any, where: str, names: dict[str, str]) -> Part | None:
    if not isinstance(block, dict) or block.get('type') != 'tool_result':
        return part_of(block, where)
    ref = need(block, 'tool_use_id', str, where)
    is_error = maybe(block, 'is_error', bool, where) or False
    output = _output(block.get('content'), where)
    extras = rest_of(block, 'type', 'tool_use_id', 'content', 'is_error')
    return ToolResponsePart(ToolResponse(names.get(ref, ''), output, ref, is_error), metadata_of(extras))


def _output(content: Any, where: str) -> Any:
    """A tool's answer: a string, or the list of its parts."""
    parts = _parts(content or '', f'{where}.content', {})
    if len(parts) == 1 and type(parts[0]) is TextPart and parts[0].metadata is None:
        return parts[0].text
    return list(parts)
