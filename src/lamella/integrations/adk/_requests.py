"""From a request of the ADK to Lamella's, and back: what no layer changed goes to the model as the ADK made it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from google.adk.models.llm_request import LlmRequest
from google.genai import types

from lamella.integrations.adk._json import loaded, request_body
from lamella.types import (
    JSON,
    Message,
    ModelRequest,
    Part,
    ToolRequestPart,
    ToolResponsePart,
)
from lamella.wire import crossing
from lamella.wire.gemini import GeminiCodec

CODEC = GeminiCodec()
MADE = 'adk-'  # how the ADK's own ids of calls begin, which it takes away before a model sees them
_BARE = types.GenerateContentConfig


def received(llm_request: LlmRequest, model: str) -> ModelRequest:
    """The request as layers see it. Raises INVALID_ARGUMENT for what cannot be read."""
    decoded = CODEC.decode_request(msgspec.json.encode(request_body(llm_request)), model=model)
    request = crossing.received(decoded, CODEC)
    return request.replace(messages=_paired(request.messages))


def _paired(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Calls and their answers with ids, which the ADK takes away: other vendors need them. The same history gives the same."""
    waiting: dict[str, deque[str]] = defaultdict(deque)
    count = 0

    def named(part: Part) -> Part:
        nonlocal count
        if isinstance(part, ToolRequestPart) and part.tool_request.ref is None:
            count += 1
            ref = f'{MADE}call-{count}'
            waiting[part.tool_request.name].append(ref)
            return part.replace(tool_request=part.tool_request.replace(ref=ref))
        if isinstance(part, ToolResponsePart) and part.tool_response.ref is None:
            open_refs = waiting[part.tool_response.name]
            if open_refs:
                return part.replace(tool_response=part.tool_response.replace(ref=open_refs.popleft()))
        return part

    def whole(message: Message) -> Message:
        content = tuple([named(part) for part in message.content])
        changed = any(now is not before for now, before in zip(content, message.content, strict=True))
        return message.replace(content=content) if changed else message

    return tuple([whole(message) for message in messages])


def to_send(
    request: ModelRequest, model: str, original: ModelRequest | None, llm_request: LlmRequest | None
) -> tuple[LlmRequest, tuple[str, ...]]:
    """A request of the ADK of one's own, which the model may change, and what could not be said in it.

    Where there is an original, only what layers changed of it is put into a copy of the ADK's request: clients, callables and
    everything that cannot be written down stay.
    """
    if llm_request is None or original is None:
        return _written(LlmRequest(), {}, request, model)
    config: Any = llm_request.config
    copy = llm_request.model_copy(
        update={
            'model': model,
            'contents': list(llm_request.contents),
            'config': _BARE() if config is None else config.model_copy(),
        }
    )
    if request is original:
        return copy, ()
    return _written(copy, _encoded(original, model)[0], request, model)


def _encoded(request: ModelRequest, model: str) -> tuple[JSON, tuple[str, ...]]:
    encoded = CODEC.encode_request(request, model)
    body: JSON = msgspec.json.decode(encoded.body)
    return body, encoded.warnings


def _written(
    llm_request: LlmRequest, before: JSON, request: ModelRequest, model: str
) -> tuple[LlmRequest, tuple[str, ...]]:
    body, warnings = _encoded(request, model)
    llm_request.model = model
    if body.get('contents') != before.get('contents'):
        llm_request.contents = [_without_made(loaded(types.Content, content)) for content in body['contents']]
    config, lost = _settings(llm_request.config, before, body)
    llm_request.config = config
    return llm_request, (*warnings, *[f'the ADK has no setting {name!r}: it was not sent' for name in lost])


def _settings(config: Any, before: JSON, now: JSON) -> tuple[Any, list[str]]:
    """The config with what differs between the two bodies."""
    lost: list[str] = []
    changes = {
        **_changes(_top(before), _top(now)),
        **_changes(before.get('generationConfig', {}), now.get('generationConfig', {})),
    }
    fields = {field.alias or name: name for name, field in _BARE.model_fields.items()}
    updates: dict[str, Any] = {}
    for name, value in changes.items():
        if name not in fields:
            lost.append(name)
        elif value is None:
            updates[fields[name]] = None
        else:
            updates[fields[name]] = getattr(loaded(_BARE, {name: value}), fields[name])
    if 'tools' in updates:
        kept = [tool for tool in config.tools or () if not isinstance(tool, types.Tool)]
        updates['tools'] = [*(updates['tools'] or ()), *kept] or None
    if 'response_json_schema' in updates and updates['response_json_schema'] is not None:
        updates['response_schema'] = None
    return config.model_copy(update=updates), lost


def _top(body: JSON) -> JSON:
    return {name: value for name, value in body.items() if name not in ('contents', 'generationConfig')}


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> JSON:
    """The fields that differ, as they are now; `None` for one that is gone."""
    return {name: now.get(name) for name in (*before, *now) if before.get(name) != now.get(name)}


def _without_made(content: types.Content) -> types.Content:
    """Without the ids that `_paired` gave."""
    for part in content.parts or ():
        for said in (part.function_call, part.function_response):
            if said is not None and (said.id or '').startswith(MADE):
                said.id = None
    return content
