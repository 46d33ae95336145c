"""What a file's bytes are: text that a model reads as it is, or media of some MIME type."""

from __future__ import annotations

from mimetypes import guess_type

# The "magic" of common formats: offset, bytes, MIME type (mimesniff.spec.whatwg.org, and the formats' own papers).
_MAGIC = (
    (0, b'\x89PNG\r\n\x1a\n', 'image/png'),
    (0, b'\xff\xd8\xff', 'image/jpeg'),
    (0, b'GIF87a', 'image/gif'),
    (0, b'GIF89a', 'image/gif'),
    (8, b'WEBP', 'image/webp'),
    (0, b'BM', 'image/bmp'),
    (0, b'II*\0', 'image/tiff'),
    (0, b'MM\0*', 'image/tiff'),
    (4, b'ftypavif', 'image/avif'),
    (4, b'ftypheic', 'image/heic'),
    (0, b'%PDF-', 'application/pdf'),
    (0, b'ID3', 'audio/mpeg'),
    (0, b'\xff\xfb', 'audio/mpeg'),
    (0, b'fLaC', 'audio/flac'),
    (0, b'OggS', 'audio/ogg'),
    (8, b'WAVE', 'audio/wav'),
    (4, b'ftyp', 'video/mp4'),
    (0, b'\x1aE\xdf\xa3', 'video/webm'),
    (0, b'PK\x03\x04', 'application/zip'),
    (0, b'\x1f\x8b', 'application/gzip'),
    (0, b'\x7fELF', 'application/x-executable'),
)
_HEAD = 65_536
_TEXT_CONTROLS = b'\t\n\r\f\b\x1b'
_CONTROLS = bytes(set(range(32)) - set(_TEXT_CONTROLS))


def is_text(data: bytes) -> bool:
    """Whether these bytes are text, perhaps with a few that are no UTF-8: no NUL, and hardly a control character."""
    head = data[:_HEAD]
    return b'\0' not in data and len(head) - len(head.translate(None, _CONTROLS)) <= len(head) // 100


def media_type(data: bytes, name: str) -> str | None:
    """The MIME type of media: by the bytes, else by the name of bytes that are no text; `None` for text."""
    binary = not is_text(data)
    for offset, magic, kind in _MAGIC:
        if data.startswith(magic, offset) and (binary or kind == 'application/pdf'):
            return kind
    if not binary:
        return None
    return guess_type(f'x/{name}', strict=False)[0] or 'application/octet-stream'
