"""Replacing pieces of a file by the bytes: what is not named is not touched, whatever it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, Field

from lamella.middleware._files import shown
from lamella.types import ToolError

MAX_EDITS = 100


class Edit(BaseModel, frozen=True, extra='forbid'):
    """One replacement."""

    old: Annotated[str, Field(min_length=1, description='The text to replace. It must occur exactly once.')]
    new: Annotated[str, Field(description='The text to put in its place.')]


def edited(content: bytes, edits: Sequence[Edit], path: str) -> bytes:
    """The content after all edits, each applied to the result of those before it. Raises ToolError when one does not fit.

    In a file whose lines all end in CRLF, a line feed in an edit means such an end: models write line feeds.
    """
    crlf = b'\r\n' in content and content.count(b'\n') == content.count(b'\r\n')
    for index, edit in enumerate(edits):
        where = f'{shown(path)}: edits[{index}].old'
        old, new = (encoded(text, where, crlf) for text in (edit.old, edit.new))
        start = content.find(old)
        if start < 0:
            raise ToolError(
                f'{where} does not occur: nothing was changed. Read the file again and copy the text exactly'
            )
        if content.find(old, start + 1) >= 0:
            raise ToolError(
                f'{where} occurs more than once: nothing was changed. Add lines around it until it is unique'
            )
        content = content[:start] + new + content[start + len(old) :]
    return content


def encoded(text: str, where: str, crlf: bool = False) -> bytes:
    """The text in UTF-8. Raises ToolError for half a character (a lone surrogate), which no file can hold."""
    if crlf and '\r' not in text:
        text = text.replace('\n', '\r\n')
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ToolError(f'{where}: half of a character (a lone surrogate) cannot be written') from None
