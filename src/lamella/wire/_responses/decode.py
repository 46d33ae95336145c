"""The body of `POST /responses` to a request of Lamella: what a server receives."""

from __future__ import annotations

from typing import Any

import msgspec

from lamella.types import JSON, GenerationConfig, ModelRequest, OutputSpec, ToolChoice, ToolDefinition
from lamella.wire._openai_json import Malformed, need, parse, shown, text_or_none, without
from lamella.wire._responses.encode import LOGPROBS
from lamella.wire._responses.input_read import InputReader
from lamella.wire._responses.marks import Marks
from lamella.wire.codec import Decoded

_SETTINGS = ('temperature', 'top_p', 'max_output_tokens', 'parallel_tool_calls')
_READ = frozenset(
    (*_SETTINGS, 'model', 'input', 'instructions', 'stream', 'tools', 'tool_choice', 'text', 'reasoning', 'include')
)
_TOOL = frozenset(('type', 'name', 'description', 'parameters', 'strict'))


def decode_request(body: bytes, marks: Marks, model: str | None, stream: bool) -> Decoded:
    """Raises Malformed, naming the field. What Lamella has no name for is kept in `provider_options`."""
    data = need(parse(body), dict, 'the body')
    if model is None or data.get('model') is not None:
        model = need(data.get('model'), str, 'model')
    own = without(data, _READ)
    request = ModelRequest(
        messages=tuple(_read_input(data, marks).messages),
        config=_config(data, own),
        tools=_tools(data, own, marks),
        tool_choice=_tool_choice(data.get('tool_choice'), own),
        output=_output(data.get('text'), own),
        provider_options={marks.shared: own} if own else {},
    )
    return Decoded(model, request, data.get('stream') is True or stream)


def _read_input(data: JSON, marks: Marks) -> InputReader:
    reader = InputReader(marks)
    instructions, given = data.get('instructions'), data.get('input')
    if instructions is not None and need(instructions, str, 'instructions'):
        reader.instructions(instructions)
    if isinstance(given, str):
        given = [{'role': 'user', 'content': given}]
    for i, item in enumerate(need(given or [], list, 'input')):
        reader.read(need(item, dict, f'input[{i}]'), f'input[{i}]')
    return reader


def _config(data: JSON, own: JSON) -> GenerationConfig:
    values = {name: data[name] for name in _SETTINGS if data.get(name) is not None}
    reasoning = need(data.get('reasoning') or {}, dict, 'reasoning')
    if (effort := reasoning.get('effort')) is not None:
        values['reasoning_effort'] = effort
    if rest := without(reasoning, frozenset(('effort',))):
        own['reasoning'] = rest
    include = need(data.get('include') or [], list, 'include')
    if LOGPROBS in include:
        values['logprobs'] = own.pop('top_logprobs', None) or 0
    if others := [word for word in include if word != LOGPROBS]:
        own['include'] = others
    try:
        return msgspec.convert(values, GenerationConfig)
    except msgspec.ValidationError as error:
        raise Malformed('the settings', f'do not fit: {_in_their_words(str(error))}') from error


def _in_their_words(problem: str) -> str:
    for ours, theirs in (('reasoning_effort', 'reasoning.effort'), ('logprobs', 'top_logprobs'), ('', '')):
        problem = problem.replace(f'$.{ours}', theirs)
    return problem


def _tools(data: JSON, own: JSON, marks: Marks) -> tuple[ToolDefinition, ...]:
    found, others = [], []
    for i, tool in enumerate(need(data.get('tools') or [], list, 'tools')):
        tool = need(tool, dict, f'tools[{i}]')
        if tool.get('type', 'function') == 'function':
            found.append(_tool(tool, f'tools[{i}]', marks))
        else:
            others.append(tool)
    if others:
        own['tools'] = others
    return tuple(found)


def _tool(tool: JSON, where: str, marks: Marks) -> ToolDefinition:
    """`strict` is kept where Chat Completions finds it too; not said is not false here, and is kept as not said."""
    rest, strict = without(tool, _TOOL), tool.get('strict')
    if strict is None:
        rest['strict'] = None
    output_schema = tool.get('output_schema')
    return ToolDefinition(
        name=need(tool.get('name'), str, f'{where}.name'),
        description=need(tool.get('description') or '', str, f'{where}.description'),
        input_schema=need(tool.get('parameters') or {}, dict, f'{where}.parameters'),
        output_schema=output_schema if isinstance(output_schema, dict) else None,
        metadata=marks.metadata(rest, {'function': {'strict': True}} if strict is True else None),
    )


def _tool_choice(choice: Any, own: JSON) -> ToolChoice | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice in ('auto', 'none', 'required'):
        return ToolChoice(choice)  # type: ignore[arg-type]
    if not isinstance(choice, dict):
        raise Malformed('tool_choice', f"is {shown(choice)}: give 'auto', 'none', 'required' or an object")
    if choice.get('type') == 'function' and isinstance(name := choice.get('name'), str):
        return ToolChoice('tool', name)
    own['tool_choice'] = choice
    return None


def _output(text: Any, own: JSON) -> OutputSpec | None:
    text = need(text or {}, dict, 'text')
    form = text.get('format')
    if rest := without(text, frozenset(('format',))):
        own['text'] = rest
    kind = None if form is None else need(form, dict, 'text.format').get('type')
    if kind is None:
        return None
    if kind == 'text':
        return OutputSpec('text')
    if kind == 'json_object':
        return OutputSpec('json')
    if kind != 'json_schema':
        own['text'] = {**rest, 'format': form}
        return None
    if more := without(form, frozenset(('type', 'name', 'schema', 'strict'))):
        own['text'] = {**rest, 'format': more}
    strict = form.get('strict')
    return OutputSpec(
        'json',
        need(form.get('schema') or {}, dict, 'text.format.schema'),
        text_or_none(form.get('name')) or 'output',
        strict if isinstance(strict, bool) else None,
    )
