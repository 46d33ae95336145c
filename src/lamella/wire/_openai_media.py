"""Images, sounds and files in the OpenAI protocols: data URLs, MIME types, and what a few first bytes say."""

from __future__ import annotations

import base64
import binascii
import mimetypes
import re
from urllib.parse import unquote_to_bytes, urlsplit

from lamella.types import MediaPart

_DATA_URL = re.compile(r'data:([^;,]*)((?:;[^;,]*)*),(.*)', re.DOTALL | re.IGNORECASE)
_MAGIC = (
    (b'\x89PNG', 'image/png'),
    (b'\xff\xd8\xff', 'image/jpeg'),
    (b'GIF8', 'image/gif'),
    (b'%PDF', 'application/pdf'),
    (b'ID3', 'audio/mpeg'),
    (b'\xff\xfb', 'audio/mpeg'),
    (b'fLaC', 'audio/flac'),
    (b'OggS', 'audio/ogg'),
)
_FORMATS = {'mpeg': 'mp3', 'mp3': 'mp3', 'wave': 'wav', 'wav': 'wav', 'x-wav': 'wav', 'vnd.wave': 'wav', 'l16': 'pcm16'}
_TYPES = {'mp3': 'audio/mpeg', 'wav': 'audio/wav', 'pcm16': 'audio/l16'}


def content_type_of(media: MediaPart) -> str | None:
    """The MIME type: as given, of the data URL, by the name, or by the first bytes; `None` when nothing tells."""
    if media.content_type:
        return media.content_type
    if media.url is not None:
        found = _DATA_URL.match(media.url)
        return (found[1] or None) if found else _guess(media.name) or _guess(urlsplit(media.url).path)
    return _guess(media.name) or sniff(media.data or b'')


def _guess(name: str | None) -> str | None:
    return mimetypes.guess_type(name)[0] if name else None


def sniff(data: bytes) -> str | None:
    """The MIME type that the first bytes tell."""
    if data[:4] == b'RIFF':
        return {b'WAVE': 'audio/wav', b'WEBP': 'image/webp'}.get(data[8:12])
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)


def data_url(data: bytes, content_type: str) -> str:
    return f'data:{content_type};base64,{to_base64(data)}'


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode('ascii')


def from_base64(text: str) -> bytes | None:
    """The bytes, or `None` when the text is no base64."""
    try:
        return base64.b64decode(text + '=' * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def from_data_url(url: str) -> tuple[bytes, str] | None:
    """The bytes and MIME type of a `data:` URL (RFC 2397), or `None` when it is none."""
    found = _DATA_URL.fullmatch(url)
    if found is None:
        return None
    data = from_base64(found[3]) if found[2].lower().endswith(';base64') else unquote_to_bytes(found[3])
    return None if data is None else (data, found[1] or 'text/plain')


def media_of_url(url: str, name: str | None = None, metadata: dict[str, object] | None = None) -> MediaPart:
    """A part with the bytes where the URL holds them, else with the URL."""
    inside = from_data_url(url)
    if inside is None:
        return MediaPart(url=url, name=name, metadata=metadata)
    return MediaPart(data=inside[0], content_type=inside[1], name=name, metadata=metadata)


def bytes_of(media: MediaPart) -> bytes | None:
    """The bytes, if they are here and not behind an address."""
    if media.data is not None:
        return media.data
    inside = from_data_url(media.url or '')
    return inside[0] if inside else None


def audio_format(content_type: str) -> str:
    """OpenAI's word for a MIME type: `audio/mpeg` is `mp3`."""
    subtype = content_type.partition('/')[2].partition(';')[0].lower()
    return _FORMATS.get(subtype, subtype.removeprefix('x-'))


def audio_type(format: str) -> str:
    """The MIME type of OpenAI's word for a sound format."""
    return _TYPES.get(format, f'audio/{format}')
