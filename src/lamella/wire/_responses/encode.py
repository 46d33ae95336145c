"""A request of Lamella to the body of `POST /responses` (platform.openai.com/docs/api-reference/responses/create)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lamella.types import JSON, Message, ModelRequest, OutputSpec, TextPart, ToolDefinition
from lamella.wire._openai_json import dict_or_empty, list_or_empty, merged, write
from lamella.wire._openai_schema import strict_form
from lamella.wire._responses.input_write import INSTRUCTIONS, InputWriter
from lamella.wire._responses.marks import Marks
from lamella.wire._responses.own import from_chat
from lamella.wire.codec import Encoded

LOGPROBS = 'message.output_text.logprobs'
ENCRYPTED = 'reasoning.encrypted_content'
MAX_NAME = 64

_NO_NAME = re.compile(r'[^a-zA-Z0-9_-]')
_SAME_NAME = ('temperature', 'top_p', 'max_output_tokens')
_NOT_KNOWN = ('stop_sequences', 'seed', 'presence_penalty', 'frequency_penalty', 'top_k')
_WIRE_NAMES = {'stop_sequences': 'stop'}
_MERGED = ('reasoning', 'text')
_JOINED = ('tools', 'include')
_ELSEWHERE = ('prompt', 'previous_response_id', 'conversation')


def encode_request(request: ModelRequest, model: str, stream: bool, marks: Marks, system_role: str) -> Encoded:
    """The whole body. The provider's own options come last: they add fields, replace them, and remove them with `None`."""
    warnings: list[str] = []
    own = from_chat(request.provider_options.get(marks.shared, {}), warnings)
    body: JSON = {'model': model}
    messages = request.messages
    if (instructions := _instructions(request, marks)) is not None:
        body['instructions'] = instructions
        messages = messages[1:]
    writer = InputWriter(marks, system_role, own.get('store') is not False, warnings)
    for i, message in enumerate(messages, len(request.messages) - len(messages)):
        writer.add(i, message)
    items = writer.finished()
    if items or not any(own.get(name) for name in _ELSEWHERE):
        body['input'] = items
    body.update(settings(request, marks, own, warnings))
    _mention_json(body, items, warnings)
    if stream:
        body['stream'] = True
    body = with_own(body, own, stream)
    return Encoded(write(body, lambda: _places(request, body)), tuple(warnings))


def _places(request: ModelRequest, body: JSON) -> Mapping[str, Any]:
    """The parts of a request by the names their writer knows, to find the one that is no JSON."""
    messages = {f'messages[{i}]': message for i, message in enumerate(request.messages)}
    return {**messages, **body}


def _instructions(request: ModelRequest, marks: Marks) -> str | None:
    """The text of a first system message that is only text: with `previous_response_id` it is for this turn, and does not
    pile up in the stored conversation. JSON mode looks for the word JSON in the input only, so there it stays in the input.
    """
    first = request.messages[0] if request.messages else None
    if first is None or first.role != 'system' or not _is_plain(first, marks):
        return None
    given = marks.own_of(first.metadata).get(INSTRUCTIONS)
    output = request.output
    json_mode = output is not None and output.format == 'json' and output.schema is None
    if given is False or (json_mode and given is None):
        return None
    return first.text


def _is_plain(message: Message, marks: Marks) -> bool:
    texts = all(type(part) is TextPart and not marks.own_of(part.metadata) for part in message.content)
    rest = marks.own_of(message.metadata).keys() - {INSTRUCTIONS}
    return texts and not rest and not marks.shared_of(message.metadata).get('role') and message.text != ''


def settings(request: ModelRequest, marks: Marks, own: JSON, warnings: list[str]) -> JSON:
    """Everything but the model, the input and the stream: what an answer repeats of its request."""
    config, body = request.config, _config(request, marks, warnings)
    if config.reasoning_effort is not None:
        body['reasoning'] = {'effort': config.reasoning_effort}
    body.update(_tools(request, marks, own, warnings))
    if (form := _format(request.output)) is not None:
        body['text'] = {'format': form}
    include = [LOGPROBS] if config.logprobs is not None else []
    if own.get('store') is False and ('reasoning' in body or own.get('reasoning')):
        include.append(ENCRYPTED)
    if include:
        body['include'] = include
    return body


def _config(request: ModelRequest, marks: Marks, warnings: list[str]) -> JSON:
    config = request.config
    body = {name: value for name in _SAME_NAME if (value := getattr(config, name)) is not None}
    if config.logprobs is not None:
        body['top_logprobs'] = config.logprobs
    if config.parallel_tool_calls is not None and request.tools:
        body['parallel_tool_calls'] = config.parallel_tool_calls
    for name in _NOT_KNOWN:
        if (value := getattr(config, name)) is None or value == ():
            continue
        wire = _WIRE_NAMES.get(name, name)
        warnings.append(
            f'{name}={value!r} is no setting of the Responses API: left out '
            f'(for a server that knows it: provider_options={{{marks.shared!r}: {{{wire!r}: …}}}})'
        )
    return body


def _tools(request: ModelRequest, marks: Marks, own: JSON, warnings: list[str]) -> Iterator[tuple[str, Any]]:
    tools = [_tool(tool, marks) for tool in request.tools]
    if tools:
        yield 'tools', tools
    choice = request.tool_choice
    if choice is None:
        return
    if not tools and not own.get('tools'):
        if choice.mode in ('required', 'tool'):
            warnings.append(f'tool_choice={choice.mode!r} without tools: left out')
        return
    yield 'tool_choice', {'type': 'function', 'name': choice.name} if choice.mode == 'tool' else choice.mode


def _tool(tool: ToolDefinition, marks: Marks) -> JSON:
    """`strict` is said in any case: left out, it means true here, and false in Chat Completions."""
    extras = marks.own_of(tool.metadata)
    function = dict_or_empty(marks.shared_of(tool.metadata).get('function'))
    wire: JSON = {'type': 'function', 'name': tool.name}
    if tool.description:
        wire['description'] = tool.description
    wire['parameters'] = tool.input_schema or {'type': 'object', 'properties': {}}
    wire['strict'] = function.get('strict', False)
    return {key: value for key, value in merged(wire, extras).items() if value is not None}


def _format(output: OutputSpec | None) -> JSON | None:
    if output is None or output.format != 'json':
        return None
    if output.schema is None:
        return {'type': 'json_object'}
    closed = strict_form(output.schema) if output.strict is not False else None
    form: JSON = {
        'type': 'json_schema',
        'name': _NO_NAME.sub('_', output.name)[:MAX_NAME] or 'output',
        'schema': output.schema if closed is None else closed,
    }
    if closed is not None or output.strict is not None:
        form['strict'] = output.strict is not False
    return form


def _mention_json(body: JSON, items: list[JSON], warnings: list[str]) -> None:
    """JSON mode is refused unless the word stands in some message of the input (structured outputs guide, "JSON mode")."""
    if dict_or_empty(body.get('text')).get('format') != {'type': 'json_object'}:
        return
    if any('json' in text.lower() for item in items for text in _texts(item.get('content'))):
        return
    items.insert(0, {'type': 'message', 'role': 'system', 'content': 'Answer in JSON.'})
    body['input'] = items
    warnings.append("JSON mode needs the word JSON in the input: a system message 'Answer in JSON.' was put in front")


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for block in list_or_empty(content):
        if isinstance(text := dict_or_empty(block).get('text'), str):
            yield text


def with_own(body: JSON, own: JSON, stream: bool) -> JSON:
    """`reasoning` and `text` are merged, `tools` and `include` appended; the rest replaces."""
    if not own:
        return body
    for key, value in own.items():
        if key in _MERGED and isinstance(value, Mapping):
            body[key] = merged(body.get(key, {}), value)
        elif key in _JOINED and isinstance(value, (list, tuple)):
            before = body.get(key, [])
            body[key] = [*before, *[item for item in value if item not in before]]
        elif key != 'stream_options' or stream:
            body[key] = value
    return {key: value for key, value in body.items() if value is not None}
