"""One part of a message to Gemini's `Part` and back (ai.google.dev/api/caching#Part).

Whatever a part of the wire carries beside what Lamella names (`thoughtSignature`, `videoMetadata`, `partMetadata` …)
travels in `metadata={'gemini': {…}}` of the part it came with, and goes back to Gemini on that very part
(ai.google.dev/gemini-api/docs/thought-signatures).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes

from lamella.types import (
    JSON,
    DataPart,
    MediaPart,
    Part,
    ReasoningPart,
    TextPart,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
    ToolResponsePart,
)
from lamella.wire._gemini_json import (
    MARK,
    Malformed,
    Warn,
    at,
    base64_of,
    bytes_of,
    dict_of,
    extras_of,
    fields,
    marked,
    merged,
    shown,
    text_of,
    without,
)
from lamella.wire._tool_media import without_media

_DATA_URL = re.compile(r'data:([^;,]*)((?:;[^;,]*)*),(.*)', re.DOTALL | re.IGNORECASE)


# From the wire


def decode_part(value: Any) -> Part:
    """Raises Malformed. A kind of part that Lamella does not know becomes a `DataPart` that holds it whole."""
    part = fields(value)
    for kind, read in _READERS.items():
        if kind in part:
            return read(part)
    if 'thoughtSignature' in part or 'thought' in part:
        return _read_text(part)
    return DataPart(value, {MARK: {}})


def _read_text(part: JSON) -> Part:
    text, rest = text_of(part, 'text', ''), without(part, 'text', 'thought')
    if part.get('thought') is not True:
        return TextPart(text, marked(rest))
    signature = text_of(part, 'thoughtSignature') if 'thoughtSignature' in part else None
    return ReasoningPart(text, signature, metadata=marked(rest))


def _read_call(part: JSON) -> Part:
    """Gemini's own id stays among its fields, so that it can be told from those that others gave."""
    call = at('functionCall', fields, part['functionCall'])
    request = at('functionCall', _tool_request, call)
    return ToolRequestPart(request, marked(_rest(part, 'functionCall', without(call, 'name', 'args'))))


def _tool_request(call: JSON) -> ToolRequest:
    return ToolRequest(_name(call), dict_of(call, 'args'), _id(call))


def _read_response(part: JSON) -> Part:
    answer = at('functionResponse', fields, part['functionResponse'])
    response = at('functionResponse', _tool_response, answer)
    rest = _rest(part, 'functionResponse', without(answer, 'name', 'response', 'id'))
    return ToolResponsePart(response, marked(rest))


def _tool_response(answer: JSON) -> ToolResponse:
    """The key `output` holds what a function gave, `error` why it failed; otherwise the whole object is its output."""
    response = dict_of(answer, 'response')
    if response.keys() == {'output'}:
        return ToolResponse(_name(answer), response['output'], _id(answer))
    if response.keys() == {'error'}:
        return ToolResponse(_name(answer), response['error'], _id(answer), is_error=True)
    return ToolResponse(_name(answer), response, _id(answer))


def _read_inline(part: JSON) -> Part:
    blob = at('inlineData', fields, part['inlineData'])
    data = at('inlineData', lambda b: bytes_of(b, 'data'), blob)
    return _media(part, 'inlineData', blob, without(blob, 'mimeType', 'data'), data=data)


def _read_file(part: JSON) -> Part:
    file = at('fileData', fields, part['fileData'])
    url = at('fileData', lambda f: text_of(f, 'fileUri'), file)
    return _media(part, 'fileData', file, without(file, 'mimeType', 'fileUri'), url=url)


def _media(part: JSON, kind: str, value: JSON, rest: JSON, **where: Any) -> Part:
    content_type = at(kind, lambda v: text_of(v, 'mimeType', ''), value)
    name = at(kind, lambda v: text_of(v, 'displayName', ''), value)
    metadata = marked(_rest(part, kind, rest))
    return MediaPart(content_type=content_type or None, name=name or None, metadata=metadata, **where)


def _rest(part: JSON, kind: str, inner: JSON) -> JSON:
    """The unknown fields of a part and of the object inside it, in the places they came from."""
    rest = without(part, kind)
    return {**rest, kind: inner} if inner else rest


def _name(value: JSON) -> str:
    name = text_of(value, 'name')
    if not name:
        raise Malformed("is '': give the function's name", 'name')
    return name


def _id(value: JSON) -> str | None:
    return text_of(value, 'id', '') or None


_READERS: dict[str, Callable[[JSON], Part]] = {
    'functionCall': _read_call,
    'functionResponse': _read_response,
    'inlineData': _read_inline,
    'fileData': _read_file,
    'text': _read_text,
}


# To the wire


def encode_part(part: Part, warn: Warn) -> JSON | None:
    """Gemini's form of a part; `None`, with a warning, for what only another provider understands.

    Raises Malformed for a part that cannot be sent.
    """
    body = _WRITERS[type(part)](part, warn)
    extras = extras_of(part.metadata)
    return merged(body, extras) if body is not None and extras else body


def encode_answer_part(part: Part) -> JSON | None:
    """As a model says it. Reasoning is shown whoever thought it; only what is marked as another provider's goes unsigned."""
    if isinstance(part, ToolRequestPart) and part.tool_request.ref is not None:
        return merged({'functionCall': {'id': part.tool_request.ref}}, encode_part(part, _say_nothing) or {})
    if not isinstance(part, ReasoningPart):
        return encode_part(part, _say_nothing)
    if part.redacted:
        return None
    foreign = part.metadata and MARK not in part.metadata
    return merged(_thought(part.text, None if foreign else part.signature), extras_of(part.metadata))


def _say_nothing(warning: str) -> None:
    """An answer has no place for warnings."""


def _write_text(part: TextPart, warn: Warn) -> JSON:
    return {'text': part.text}


def _write_reasoning(part: ReasoningPart, warn: Warn) -> JSON | None:
    """Another provider's thinking means nothing to Gemini, and its signature would be refused. What Gemini signed is marked."""
    if MARK in (part.metadata or {}) or not (part.metadata or part.signature or part.redacted):
        return _thought(part.text, part.signature)
    warn('reasoning of another provider was left out: Gemini reads only its own')
    return None


def _thought(text: str, signature: str | None) -> JSON:
    body: JSON = {'text': text, 'thought': True}
    return body if signature is None else {**body, 'thoughtSignature': signature}


def _write_media(part: MediaPart, warn: Warn) -> JSON:
    if part.data is not None:
        return _inline(part.data, part.content_type)
    url = part.url or ''
    if url[:5].lower() == 'data:':
        return _from_data_url(url, part.content_type)
    mime_type = {'mimeType': part.content_type} if part.content_type else {}
    return {'fileData': {**mime_type, 'fileUri': url}}


def _inline(data: bytes, content_type: str | None) -> JSON:
    if not content_type:
        raise Malformed(
            "is None: Gemini needs the MIME type of inline data, give MediaPart(content_type='image/png') or the like",
            'content_type',
        )
    return {'inlineData': {'mimeType': content_type, 'data': base64_of(data)}}


def _from_data_url(url: str, content_type: str | None) -> JSON:
    match = _DATA_URL.fullmatch(url)
    if match is None:
        raise Malformed(f'is {shown(url)}: a data URL is data:<MIME type>;base64,<data>', 'url')
    mime_type, parameters, payload = match.groups()
    if parameters.lower().endswith(';base64'):
        data = bytes_of({'url': unquote_to_bytes(payload).decode('latin-1')}, 'url')
    else:
        data = unquote_to_bytes(payload)
    return _inline(data, content_type or mime_type or 'text/plain')


def _write_call(part: ToolRequestPart, warn: Warn) -> JSON:
    request = part.tool_request
    args = request.input if request.input is not None else {}
    if not isinstance(args, dict):
        warn(f'the input of tool request {request.name!r} is no object: it was sent as {{"input": …}}')
        args = {'input': args}
    return {'functionCall': {'name': request.name, 'args': args}}


def _write_response(part: ToolResponsePart, warn: Warn) -> JSON:
    """Media go beside the output (ai.google.dev/gemini-api/docs/function-calling, "Multimodal function responses")."""
    response = part.tool_response
    output, media = without_media(response.output)
    body: JSON = {'name': response.name, 'response': _output(output, response.is_error)}
    if media:
        body['parts'] = [_write_media(item, warn) for item in media]
    return {'functionResponse': body if response.ref is None else {'id': response.ref, **body}}


def _output(output: Any, is_error: bool) -> JSON:
    if is_error:
        return {'error': output}
    return output if isinstance(output, dict) and not output.keys() & {'output', 'error'} else {'output': output}


def _write_data(part: DataPart, warn: Warn) -> JSON | None:
    if MARK not in (part.metadata or {}) or not isinstance(part.data, dict):
        warn("a data part of another provider was left out: a Gemini part is marked with metadata={'gemini': {}}")
        return None
    return dict(part.data)


_WRITERS: dict[type, Callable[[Any, Warn], JSON | None]] = {
    TextPart: _write_text,
    ReasoningPart: _write_reasoning,
    MediaPart: _write_media,
    ToolRequestPart: _write_call,
    ToolResponsePart: _write_response,
    DataPart: _write_data,
}
