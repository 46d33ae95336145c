"""A request of Lamella to the body of `POST /chat/completions` (platform.openai.com/docs/api-reference/chat/create)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lamella.types import JSON, ModelRequest, OutputSpec, ToolDefinition
from lamella.wire._openai_chat_messages import MessageWriter
from lamella.wire._openai_chat_options import ChatOptions
from lamella.wire._openai_json import extras_of, merged, write
from lamella.wire._openai_schema import strict_form
from lamella.wire.codec import Encoded

_SAME_NAME = ('temperature', 'top_p', 'seed', 'presence_penalty', 'frequency_penalty', 'reasoning_effort')
_NO_NAME = re.compile(r'[^a-zA-Z0-9_-]')
MAX_NAME = 64


def encode_request(request: ModelRequest, model: str, stream: bool, options: ChatOptions) -> Encoded:
    """The whole body. The provider's own options come last: they add fields, replace them, and remove them with `None`."""
    warnings: list[str] = []
    writer = MessageWriter(options, warnings)
    messages = [wire for i, message in enumerate(request.messages) for wire in writer.write(i, message)] + writer.rest()
    own = request.provider_options.get(options.provider, {})
    body: JSON = {'model': model, 'messages': messages}
    body.update(_settings(request, options, warnings))
    body.update(_tools(request, options, warnings, own))
    body.update(_output(request.output, messages, warnings))
    if stream:
        body['stream'] = True
        body.update({'stream_options': {'include_usage': True}} if options.include_usage else {})
    body = _with_own(body, own, stream)
    return Encoded(write(body, lambda: _places(request, body)), tuple(warnings))


def _with_own(body: JSON, own: Mapping[str, Any], stream: bool) -> JSON:
    if not own:
        return body
    body.update({key: value for key, value in own.items() if key not in ('tools', 'stream_options')})
    if stream and 'stream_options' in own:
        given = own['stream_options']
        body['stream_options'] = None if given is None else merged(body.get('stream_options', {}), given)
    return {key: value for key, value in body.items() if value is not None}


def _places(request: ModelRequest, body: JSON) -> Mapping[str, Any]:
    """The parts of a request by the names their writer knows, to find the one that is no JSON."""
    messages = {f'messages[{i}]': message for i, message in enumerate(request.messages)}
    return {**messages, **body}


def _settings(request: ModelRequest, options: ChatOptions, warnings: list[str]) -> Iterator[tuple[str, Any]]:
    config = request.config
    for name in _SAME_NAME:
        if (value := getattr(config, name)) is not None:
            yield name, value
    if config.max_output_tokens is not None:
        yield options.max_tokens_field, config.max_output_tokens
    if config.stop_sequences:
        yield 'stop', list(config.stop_sequences)
    if config.logprobs is not None:
        yield 'logprobs', True
        yield 'top_logprobs', config.logprobs
    if config.parallel_tool_calls is not None and request.tools:
        yield 'parallel_tool_calls', config.parallel_tool_calls
    if config.top_k is not None:
        warnings.append(
            f'top_k={config.top_k} is no setting of Chat Completions: left out '
            f"(for a server that knows it: provider_options={{'{options.provider}': {{'top_k': {config.top_k}}}}})"
        )


def _tools(
    request: ModelRequest, options: ChatOptions, warnings: list[str], own: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    tools = [_tool(tool, options.provider) for tool in request.tools]
    tools += own.get('tools') or ()
    if tools:
        yield 'tools', tools
    choice = request.tool_choice
    if choice is None:
        return
    if not tools:
        if choice.mode in ('required', 'tool'):
            warnings.append(f'tool_choice={choice.mode!r} without tools: left out')
        return
    named = {'type': 'function', 'function': {'name': choice.name}}
    yield 'tool_choice', named if choice.mode == 'tool' else choice.mode


def _tool(tool: ToolDefinition, mark: str) -> JSON:
    function: JSON = {'name': tool.name}
    if tool.description:
        function['description'] = tool.description
    if tool.input_schema:
        function['parameters'] = tool.input_schema
    return merged({'type': 'function', 'function': function}, extras_of(tool.metadata, mark))


def _output(output: OutputSpec | None, messages: list[JSON], warnings: list[str]) -> Iterator[tuple[str, Any]]:
    if output is None or output.format != 'json':
        return
    if output.schema is None:
        _mention_json(messages, warnings)
        yield 'response_format', {'type': 'json_object'}
        return
    closed = strict_form(output.schema) if output.strict is not False else None
    schema: JSON = {
        'name': _NO_NAME.sub('_', output.name)[:MAX_NAME] or 'output',
        'schema': output.schema if closed is None else closed,
    }
    if closed is not None or output.strict is not None:
        schema['strict'] = output.strict is not False
    yield 'response_format', {'type': 'json_schema', 'json_schema': schema}


def _mention_json(messages: list[JSON], warnings: list[str]) -> None:
    """JSON mode is refused unless the word stands in some message (structured outputs guide, "JSON mode")."""
    if any('json' in text.lower() for message in messages for text in _texts(message.get('content'))):
        return
    messages.insert(0, {'role': 'system', 'content': 'Answer in JSON.'})
    warnings.append("JSON mode needs the word JSON in a message: a system message 'Answer in JSON.' was put in front")


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for block in content if isinstance(content, list) else ():
        if isinstance(text := block.get('text'), str):
            yield text
