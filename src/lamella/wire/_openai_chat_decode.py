"""The body of `POST /chat/completions` to a request of Lamella: what a server receives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lamella.types import JSON, GenerationConfig, ModelRequest, OutputSpec, ToolChoice, ToolDefinition
from lamella.wire._openai_chat_read import MessageReader
from lamella.wire._openai_json import Malformed, dict_or_empty, marked, need, parse, shown, text_or_none, without
from lamella.wire.codec import Decoded

_SETTINGS = {
    'temperature': 'temperature',
    'top_p': 'top_p',
    'seed': 'seed',
    'presence_penalty': 'presence_penalty',
    'frequency_penalty': 'frequency_penalty',
    'reasoning_effort': 'reasoning_effort',
    'parallel_tool_calls': 'parallel_tool_calls',
    'max_tokens': 'max_output_tokens',
    'max_completion_tokens': 'max_output_tokens',
}
_READ = frozenset(
    (
        *_SETTINGS, 'model', 'messages', 'stream', 'stream_options', 'stop', 'logprobs', 'top_logprobs', 'tools',
        'tool_choice', 'response_format',
    )
)  # fmt: skip


def decode_request(body: bytes, mark: str, model: str | None, stream: bool) -> Decoded:
    """Raises Malformed, naming the field. What Lamella has no name for is kept in `provider_options`.

    A streaming caller who did not ask for usage is remembered in the request's `metadata`, where the stream encoder looks.
    """
    data = need(parse(body), dict, 'the body')
    if model is None or data.get('model') is not None:
        model = need(data.get('model'), str, 'model')
    streams = data.get('stream') is True or stream
    reader = MessageReader(mark)
    for i, message in enumerate(need(data.get('messages'), list, 'messages')):
        reader.read(need(message, dict, f'messages[{i}]'), f'messages[{i}]')
    own = without(data, _READ)
    request = ModelRequest(
        messages=tuple(reader.messages),
        config=_config(data),
        tools=_tools(data, own, mark),
        tool_choice=_tool_choice(data.get('tool_choice'), own),
        output=_output(data.get('response_format'), own),
        metadata=_stream_options(data.get('stream_options'), own, mark) if streams else {},
        provider_options={mark: own} if own else {},
    )
    return Decoded(model, request, streams)


def wants_usage(request: ModelRequest | None, mark: str) -> bool:
    """Whether the caller of a streamed answer asked for its usage (`stream_options.include_usage`)."""
    noted = request.metadata.get(mark) if request is not None else None
    return not isinstance(noted, Mapping) or noted.get('include_usage') is not False


def _stream_options(given: Any, own: JSON, mark: str) -> JSON:
    given = dict_or_empty(given)
    if rest := without(given, frozenset(('include_usage',))):
        own['stream_options'] = rest
    return {} if given.get('include_usage') is True else {mark: {'include_usage': False}}


def _config(data: JSON) -> GenerationConfig:
    values = {ours: data[theirs] for theirs, ours in _SETTINGS.items() if data.get(theirs) is not None}
    stop = data.get('stop')
    if stop is not None:
        values['stop_sequences'] = [stop] if isinstance(stop, str) else stop
    if data.get('logprobs') is True or data.get('top_logprobs') is not None:
        values['logprobs'] = data.get('top_logprobs') or 0
    try:
        return msgspec.convert(values, GenerationConfig)
    except msgspec.ValidationError as error:
        raise Malformed('the settings', f'do not fit: {_in_their_words(str(error))}') from error


def _in_their_words(problem: str) -> str:
    for theirs, ours in (*_SETTINGS.items(), ('stop', 'stop_sequences'), ('top_logprobs', 'logprobs')):
        problem = problem.replace(f'$.{ours}', theirs)
    return problem


def _tools(data: JSON, own: JSON, mark: str) -> tuple[ToolDefinition, ...]:
    found, others = [], []
    for i, tool in enumerate(need(data.get('tools') or [], list, 'tools')):
        tool = need(tool, dict, f'tools[{i}]')
        if tool.get('type', 'function') != 'function':
            others.append(tool)
            continue
        function = need(tool.get('function'), dict, f'tools[{i}].function')
        found.append(_tool(tool, function, f'tools[{i}].function', mark))
    if others:
        own['tools'] = others
    return tuple(found)


def _tool(tool: JSON, function: JSON, where: str, mark: str) -> ToolDefinition:
    rest = without(tool, frozenset(('type', 'function')))
    if inner := without(function, frozenset(('name', 'description', 'parameters'))):
        rest['function'] = inner
    return ToolDefinition(
        name=need(function.get('name'), str, f'{where}.name'),
        description=need(function.get('description') or '', str, f'{where}.description'),
        input_schema=need(function.get('parameters') or {}, dict, f'{where}.parameters'),
        metadata=marked(mark, rest),
    )


def _tool_choice(choice: Any, own: JSON) -> ToolChoice | None:
    if choice is None:
        return None
    if choice in ('auto', 'none', 'required'):
        return ToolChoice(choice)
    if not isinstance(choice, dict):
        raise Malformed('tool_choice', f"is {shown(choice)}: give 'auto', 'none', 'required' or an object")
    name = dict_or_empty(choice.get('function')).get('name')
    if choice.get('type') == 'function' and isinstance(name, str):
        return ToolChoice('tool', name)
    own['tool_choice'] = choice
    return None


def _output(given: Any, own: JSON) -> OutputSpec | None:
    if given is None:
        return None
    kind = need(given, dict, 'response_format').get('type')
    if kind == 'text':
        return OutputSpec('text')
    if kind == 'json_object':
        return OutputSpec('json')
    if kind != 'json_schema':
        own['response_format'] = given
        return None
    schema = need(given.get('json_schema'), dict, 'response_format.json_schema')
    if rest := without(schema, frozenset(('name', 'schema', 'strict'))):
        own['response_format'] = {**given, 'json_schema': {**schema, **rest}}
    strict = schema.get('strict')
    return OutputSpec(
        'json',
        need(schema.get('schema') or {}, dict, 'response_format.json_schema.schema'),
        text_or_none(schema.get('name')) or 'output',
        strict if isinstance(strict, bool) else None,
    )
