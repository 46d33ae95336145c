"""Images and documents of the Anthropic Messages API (platform.claude.com/docs/en/build-with-claude/vision, /pdf-support)."""

from __future__ import annotations

from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from urllib.parse import unquote_to_bytes, urlsplit

from lamella.types import JSON, LamellaError, MediaPart
from lamella.wire._anthropic_json import metadata_of, rest_of

_MAGIC = (
    (b'\x89PNG', 'image/png'),
    (b'\xff\xd8\xff', 'image/jpeg'),
    (b'GIF8', 'image/gif'),
    (b'%PDF', 'application/pdf'),
)
_TEXTS = ('text/', 'application/json', 'application/xml', 'application/x-yaml', 'application/yaml')


def media_block(part: MediaPart, where: str) -> JSON:
    """An image or a document. Raises LamellaError for other media, and for data without a content type."""
    part = _without_data_url(part)
    kind = _content_type(part, where)
    if kind.startswith('image/'):
        return {'type': 'image', 'source': _source(part, kind)}
    block: JSON = {'type': 'document', 'source': _source(part, kind)}
    return {**block, 'title': part.name} if part.name else block


def _source(part: MediaPart, kind: str) -> JSON:
    if part.data is None:
        return {'type': 'url', 'url': part.url}
    if kind.startswith(_TEXTS):
        return {'type': 'text', 'media_type': 'text/plain', 'data': part.data.decode('utf-8', 'replace')}
    return {'type': 'base64', 'media_type': kind, 'data': b64encode(part.data).decode()}


def _without_data_url(part: MediaPart) -> MediaPart:
    if part.url is None or not part.url.startswith('data:'):
        return part
    head, _, payload = part.url[5:].partition(',')
    kind, *options = head.split(';')
    data = unquote_to_bytes(payload)
    if 'base64' in options:
        try:
            data = a2b_base64(data)
        except Base64Error as error:
            raise LamellaError(
                'INVALID_ARGUMENT', f'MediaPart.url is a data: URL whose base64 is broken: {error}'
            ) from error
    return part.replace(url=None, data=data, content_type=part.content_type or kind or 'text/plain')


def _content_type(part: MediaPart, where: str) -> str:
    kind = (part.content_type or '').partition(';')[0].strip().lower() or _guess(part)
    if kind == 'image/jpg':
        return 'image/jpeg'
    if kind.startswith(('image/', *_TEXTS)) or kind == 'application/pdf':
        return kind
    raise LamellaError(
        'INVALID_ARGUMENT',
        f'{where}.content_type is {part.content_type!r}: the Anthropic Messages API takes image/*, application/pdf and text;'
        ' set content_type, convert the media, or leave it out',
    )


def _guess(part: MediaPart) -> str:
    if part.data is None:
        return 'application/pdf' if urlsplit(part.url or '').path.lower().endswith('.pdf') else 'image/*'
    if part.data[8:12] == b'WEBP':
        return 'image/webp'
    return next((kind for magic, kind in _MAGIC if part.data.startswith(magic)), '')


def media_part(block: JSON) -> MediaPart | None:
    """An image or a document block whose source is known through and through; `None` for any other."""
    source, title = block.get('source'), block.get('title')
    is_document = block['type'] == 'document'
    if not isinstance(source, dict) or not isinstance(title if is_document else None, str | None):
        return None
    part = _from_source(source, is_document)
    if part is None:
        return None
    extras = rest_of(block, 'type', 'source', 'title') if is_document else rest_of(block, 'type', 'source')
    return part.replace(name=title if is_document else None, metadata=metadata_of(extras))


def _from_source(source: JSON, is_document: bool) -> MediaPart | None:
    match source:
        case {'type': 'base64', 'media_type': str(kind), 'data': str(data), **rest} if not rest:
            content = _from_base64(data)
            return None if content is None else MediaPart(data=content, content_type=kind)
        case {'type': 'url', 'url': str(url), **rest} if not rest:
            return MediaPart(url=url, content_type='application/pdf' if is_document else None)
        case {'type': 'text', 'media_type': 'text/plain', 'data': str(text), **rest} if not rest and is_document:
            return MediaPart(data=text.encode('utf-8', 'replace'), content_type='text/plain')
    return None


def _from_base64(text: str) -> bytes | None:
    try:
        return a2b_base64(text, strict_mode=True)
    except ValueError:
        return None
