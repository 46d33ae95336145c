"""A request that was received in one protocol, said in another: always possible, and what is lost on the way is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from lamella.types import (
    JSON,
    Data,
    DataPart,
    EmbeddingRequest,
    LamellaError,
    MediaPart,
    Message,
    ModelRequest,
    Part,
    ReasoningPart,
    TextPart,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
    ToolResponsePart,
)
from lamella.wire.codec import Codec, Decoded, Encoded

RECEIVED = 'received'
MAX_PLACES = 3

# Options that both protocols of OpenAI have (platform.openai.com/docs/api-reference/chat/create, …/responses/create).
_OF_BOTH = frozenset(
    (
        'metadata', 'moderation', 'prompt_cache_key', 'prompt_cache_options', 'prompt_cache_retention', 'safety_identifier',
        'service_tier', 'store', 'user', 'verbosity',
    )
)  # fmt: skip
# Notes with which a codec remembers how it read something: no field of any body.
_OWN_NOTES = frozenset(('after', 'instructions', 'invalid_json', 'item'))


_GROUPS = frozenset(('generationConfig', 'reasoning', 'text', 'toolConfig'))
# Fields in Chat Completions' notes that the Responses API has too.
_READ_BY_BOTH = frozenset(('role', 'type', 'image_url.detail', 'function.strict'))
# Objects of a body that hold the field in question.
_HOLDERS = frozenset(('function', 'functionCall', 'functionResponse', 'image_url', 'inlineData', 'fileData'))


class Received(Data, frozen=True):
    """Where a request came from: the protocol, its key of `provider_options`, and the options that it came with."""

    protocol: str
    provider: str
    options: tuple[str, ...] = ()


def received(decoded: Decoded, codec: Codec) -> ModelRequest:
    """The decoded request with a note of its protocol, for whoever says it in another one.

    Servers put this on what they hand to a model; models that speak to a provider encode with `encode_request` below.
    """
    options = tuple(_names(decoded.request.provider_options.get(codec.provider) or {}))
    note = Received(codec.name, codec.provider, options)
    return decoded.request.replace(metadata={**decoded.request.metadata, RECEIVED: note})


def is_received(request: ModelRequest | EmbeddingRequest) -> bool:
    """Whether this request came in over a wire protocol, and was not made by a caller in this process."""
    return isinstance(request.metadata.get(RECEIVED), Received)


def encode_request(codec: Codec, request: ModelRequest, model: str, *, stream: bool = False) -> Encoded:
    """`codec.encode_request`, which for a request that was received in another protocol never refuses content.

    A caller who gives a provider what it cannot take is told so by an error. A request that crosses goes on without it:
    in its place stands a short text for the model to read, and the warnings name it, as they name every option, setting and
    note that only the first protocol has.
    """
    origin = request.metadata.get(RECEIVED)
    if not isinstance(origin, Received) or (origin.protocol, origin.provider) == (codec.name, codec.provider):
        return codec.encode_request(request, model, stream=stream)
    warnings: list[str] = []
    request = _with_shared_options(request, origin, codec, warnings)
    try:
        encoded = codec.encode_request(request, model, stream=stream)
    except LamellaError:
        request = _sayable(request, codec, model, warnings)
        encoded = codec.encode_request(request, model, stream=stream)
    lost = (*warnings, *encoded.warnings, *_lost(request, origin, codec, encoded.body))
    return Encoded(encoded.body, tuple(dict.fromkeys(lost)))


def _names(options: Mapping[str, Any]) -> Iterator[str]:
    """The options by name; of those that only hold others, these."""
    for name, value in options.items():
        if name in _GROUPS and isinstance(value, Mapping):
            yield from [f'{name}.{inner}' for inner in value]
        else:
            yield name


# ── options of the two protocols of OpenAI, which share a key ───────────────────────────────────────────────────────


def _with_shared_options(request: ModelRequest, origin: Received, codec: Codec, warnings: list[str]) -> ModelRequest:
    """Chat Completions refuses what only the Responses API has; the other way round its codec knows."""
    own = request.provider_options.get(codec.provider)
    if not own or origin.provider != codec.provider or codec.name != 'openai-chat':
        return request
    kept = {name: value for name, value in own.items() if name in _OF_BOTH}
    text = own.get('text')
    if isinstance(text, Mapping) and text.get('verbosity') is not None:
        kept['verbosity'] = text['verbosity']
        own = {**own, **{f'text.{name}': value for name, value in text.items() if name != 'verbosity'}}
    warnings += [_not_sent(name, origin) for name in own if name not in kept and name != 'text']
    return request.replace(provider_options={**request.provider_options, codec.provider: kept})


def _not_sent(name: str, origin: Received) -> str:
    return f'{name} is an option of {origin.protocol} alone: not sent'


# ── content that the codec refuses ──────────────────────────────────────────────────────────────────────────────────


def _sayable(request: ModelRequest, codec: Codec, model: str, warnings: list[str]) -> ModelRequest:
    """The request with a short text in the place of every part that this codec refuses."""
    waiting: list[ToolRequest] = []
    messages = []
    for i, message in enumerate(request.messages):
        waiting += [part.tool_request for part in message.tool_requests]
        content: list[Part] = []
        for j, part in enumerate(message.content):
            where = f'messages[{i}].content[{j}]'
            if isinstance(part, ToolResponsePart) and message.role == 'tool':
                part = _paired(part, f'call_{i}_{j}', waiting)
                content.append(_answer(part, where, codec, model, warnings))
            else:
                content.append(_said(part, message, where, codec, model, warnings))
        messages.append(message.replace(content=tuple(content)))
    return request.replace(messages=tuple(messages))


def _paired(part: ToolResponsePart, new_ref: str, waiting: list[ToolRequest]) -> ToolResponsePart:
    """An answer that says no id and answers no earlier request needs one where ids make the pairs."""
    answer = part.tool_response
    for asked in waiting:
        if asked.ref == answer.ref if answer.ref else asked.name == answer.name:
            waiting.remove(asked)
            return part
    return part if answer.ref else part.replace(tool_response=answer.replace(ref=new_ref))


def _said(part: Part, message: Message, where: str, codec: Codec, model: str, warnings: list[str]) -> Part:
    reason = _refusal(codec, model, Message(message.role, (part,)))
    if reason is None:
        return part
    warnings.append(f'{where} is not sent: {reason.replace("messages[0].content[0]", where)}')
    return TextPart(_stand_in(part, codec))


def _answer(part: ToolResponsePart, where: str, codec: Codec, model: str, warnings: list[str]) -> ToolResponsePart:
    answer = part.tool_response
    asked = Message('assistant', (ToolRequestPart(ToolRequest(answer.name, {}, answer.ref)),))
    reason = _refusal(codec, model, asked, Message('tool', (part,)))
    if reason is None:
        return part
    warnings.append(f'{where}.output is not sent as it is: {reason}')
    return part.replace(tool_response=answer.replace(output=_in_words(answer, codec)))


def _in_words(answer: ToolResponse, codec: Codec) -> Any:
    """The output with texts in the place of media, which may have become JSON objects on their way."""
    items = answer.output if isinstance(answer.output, (list, tuple)) else [answer.output]
    return [TextPart(_stand_in(item, codec)) if _is_media(item) else item for item in items]


def _is_media(item: Any) -> bool:
    return isinstance(item, MediaPart) or (isinstance(item, dict) and item.get('type') == 'media')


def _stand_in(part: Any, codec: Codec) -> str:
    kind = 'A tool request' if isinstance(part, ToolRequestPart) else 'A part'
    if _is_media(part):
        content_type = part.content_type if isinstance(part, MediaPart) else part.get('content_type')
        kind = f'A file of type {content_type}' if content_type else 'A file'
    return f'[{kind} was left out here: {codec.name} cannot carry it.]'


def _refusal(codec: Codec, model: str, *messages: Message) -> str | None:
    try:
        codec.encode_request(ModelRequest(messages), model)
    except LamellaError as error:
        return error.message
    return None


# ── what the body does not say ──────────────────────────────────────────────────────────────────────────────────────


def _lost(request: ModelRequest, origin: Received, codec: Codec, body: bytes) -> Iterator[str]:
    if origin.provider != codec.provider:
        yield from [_not_sent(name, origin) for name in origin.options]
    notes: dict[str, list[str]] = {}
    for where, metadata in _metadata(request):
        for name in _foreign(metadata, codec):
            notes.setdefault(name, []).append(where)
    for name, places in notes.items():
        shown = ', '.join(places[:MAX_PLACES]) + (' …' if len(places) > MAX_PLACES else '')
        yield f'{name} is not sent, {codec.name} has nothing like it ({shown})'
    for where, what, said in _said_elsewhere(request, codec):
        if said not in body:
            yield f'{where}: {what} is not sent, {codec.name} has no place for it'


def _metadata(request: ModelRequest) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    """The notes of everything that is sent: what is left out as a whole is named by its codec."""
    for i, message in enumerate(request.messages):
        yield f'messages[{i}]', message.metadata
        for j, part in enumerate(message.content):
            if not isinstance(part, (DataPart, ReasoningPart)):
                yield f'messages[{i}].content[{j}]', part.metadata
    for i, tool in enumerate(request.tools):
        yield f'tools[{i}]', tool.metadata


def _foreign(metadata: Mapping[str, Any] | None, codec: Codec) -> list[str]:
    """The fields in these notes that only another protocol reads."""
    responses = codec.name == 'openai-responses'
    marks = (codec.name, f'{codec.provider}-responses') if responses else (codec.name, codec.provider)
    found = []
    for mark, fields in (metadata or {}).items():
        if mark not in marks and isinstance(fields, dict):
            known = _READ_BY_BOTH if responses and mark == codec.provider else ()
            found += [f'{name} of {mark}' for name in _set(fields) if name not in known]
    return found


def _set(fields: JSON) -> Iterator[str]:
    for name, value in fields.items():
        if isinstance(value, dict) and value and name in _HOLDERS:
            yield from [f'{name}.{inner}' for inner in _set(value)]
        elif value is not None and name not in _OWN_NOTES:
            yield name


def _said_elsewhere(request: ModelRequest, codec: Codec) -> Iterator[tuple[str, str, bytes]]:
    """What some protocols have no place for: where, what it is, and the bytes that stand for it in a body.

    That Chat Completions takes no reasoning back is nothing to warn of, until a request has crossed; the others say it.
    """
    to_chat = codec.name == 'openai-chat'
    for i, message in enumerate(request.messages):
        for j, part in enumerate(message.content):
            if isinstance(part, ReasoningPart) and part.text and to_chat:
                yield f'messages[{i}].content[{j}]', 'reasoning', _inside(part.text)
            elif isinstance(part, MediaPart) and part.name:
                yield f'messages[{i}].content[{j}]', f'the name {part.name!r}', _inside(part.name)
            elif isinstance(part, ToolResponsePart) and part.tool_response.name:
                name = part.tool_response.name
                yield f'messages[{i}].content[{j}]', f"the tool's name {name!r}", _inside(name)
    for i, tool in enumerate(request.tools):
        if tool.output_schema:
            yield f'tools[{i}]', 'output_schema', msgspec.json.encode(tool.output_schema)
    if request.output is not None and request.output.name != 'output':
        yield 'output', f'the name {request.output.name!r}', _inside(request.output.name)


def _inside(text: str) -> bytes:
    """The text as it stands inside of a JSON string."""
    return msgspec.json.encode(text)[1:-1]
