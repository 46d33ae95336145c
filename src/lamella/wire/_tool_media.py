"""Media that a tool answered with, apart from the rest: two protocols carry them in a place of their own."""

from __future__ import annotations

from typing import Any

import msgspec

from lamella.types import MediaPart, TextPart


def without_media(output: Any) -> tuple[Any, list[MediaPart]]:
    """A tool may answer with parts, also when they went through JSON since: the media among them, and the rest."""
    items = output if isinstance(output, (list, tuple)) else [output]
    media = [part for item in items if (part := _as_media(item)) is not None]
    rest = [_as_value(item) for item in items if _as_media(item) is None]
    if not media:
        return _as_value(output), []
    return (rest[0] if len(rest) == 1 else rest or None), media


def _as_value(item: Any) -> Any:
    return item.text if isinstance(item, TextPart) else item


def _as_media(item: Any) -> MediaPart | None:
    if isinstance(item, MediaPart):
        return item
    if not isinstance(item, dict) or item.get('type') != 'media':
        return None
    try:
        return msgspec.convert(item, MediaPart)
    except msgspec.ValidationError:
        return None
