"""Text as recognisers see it: plain characters for their look-alikes, nothing invisible, JSON escapes read; with the way back."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from unicodedata import category, normalize

QUOTE = '\x00'  # stands for the quotes around JSON strings: no recogniser looks across one
MAX_INVISIBLE = 32

# Default_Ignorable_Code_Point of the Unicode Character Database (DerivedCoreProperties.txt).
INVISIBLE = (
    '\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f'
    '\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff'
)
_INVISIBLE = re.compile(f'[{INVISIBLE}]+')
_TOO_MANY = re.compile(f'([{INVISIBLE}]{{{MAX_INVISIBLE}}})[{INVISIBLE}]+')
_LAST_INVISIBLE = re.compile(f'[{INVISIBLE}]{{0,{MAX_INVISIBLE}}}\\Z')
_ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(.))', re.DOTALL)
_WHOLE_ESCAPE = re.compile(r'\\(?:u[0-9a-fA-F]{4}|u[0-9a-fA-F]{0,3}[^0-9a-fA-F]|[^u])', re.DOTALL)
_SHORT = {'n': '\n', 't': '\t', 'r': '\r', 'b': '\b', 'f': '\f'}


class View(NamedTuple):
    """`text` is what recognisers see; its character `i` stands for `raw[starts[i]:ends[i]]` (for `raw[i]` when both are
    `None`). `size` is how much of the raw text it covers: half an escape at the end waits for the other half."""

    text: str
    starts: Sequence[int] | None
    ends: Sequence[int] | None
    size: int

    def start(self, index: int) -> int:
        """Where character `index` begins in the raw text; its covered end for the index behind the last."""
        if self.starts is None:
            return index
        return self.starts[index] if index < len(self.starts) else self.size

    def end(self, index: int) -> int:
        """Where the characters before `index` end in the raw text, invisible ones behind them left out."""
        return index if self.ends is None else self.ends[index - 1]


def view_of(raw: str, json: bool = False) -> View:
    """What recognisers see of a text, or, with `json`, of the text of a JSON document or a part of one."""
    if json and ('\\' in raw or '"' in raw):
        return _json_view(raw)
    text = plain(raw)
    if text.isascii() or _INVISIBLE.search(text) is None:
        return View(text, None, None, len(raw))
    kept = [index for index, char in enumerate(text) if _INVISIBLE.match(char) is None]
    return View(_INVISIBLE.sub('', text), array('q', kept), array('q', [index + 1 for index in kept]), len(raw))


def _json_view(raw: str) -> View:
    """An escape is the character that it says. More than 32 invisible ones in a row are seen: there is no end to them."""
    size = len(raw) - _open_escape(raw)
    chars, starts, ends, at, unseen = list[str](), array('q'), array('q'), 0, 0
    for escape in _ESCAPE.finditer(raw, 0, size):
        if escape.start() > at:
            unseen = 0
            _add(raw, at, escape.start(), chars, starts, ends)
        at = escape.end()
        code, short = escape.groups()
        char = chr(int(code, 16)) if code is not None else _SHORT.get(short, short)
        unseen = unseen + 1 if _INVISIBLE.match(char) else 0
        if not unseen or unseen > MAX_INVISIBLE:
            chars.append(plain(char))
            starts.append(escape.start())
            ends.append(at)
    _add(raw, at, size, chars, starts, ends)
    return View(''.join(chars), starts, ends, size)


def _open_escape(raw: str) -> int:
    """How long the escape is that the text ends within."""
    last = raw.rfind('\\', max(0, len(raw) - 6))
    if last < 0 or _WHOLE_ESCAPE.match(raw, last):
        return 0
    before = raw[:last]
    return 0 if (len(before) - len(before.rstrip('\\'))) % 2 else len(raw) - last


def _add(raw: str, start: int, end: int, chars: list[str], starts: array[int], ends: array[int]) -> None:
    """The characters between two escapes: each stands for itself, and a quote for the edge of a string."""
    between = plain(raw[start:end]).replace('"', QUOTE)
    if between.isascii() or _INVISIBLE.search(between) is None:
        chars.append(between)
        starts.extend(range(start, end))
        ends.extend(range(start + 1, end + 1))
        return
    for index, char in enumerate(between, start):
        if _INVISIBLE.match(char) is None:
            chars.append(char)
            starts.append(index)
            ends.append(index + 1)


def plain(text: str) -> str:
    """The same text, character for character, with what looks like an ASCII character as that character: full-width and
    mathematical letters, the digits of other scripts, spaces that do not break, dashes of all lengths."""
    if text.isascii():
        return text
    for char in set(text):
        if char > '\x7f' and (other := _plain_of(char)) is not None:
            text = text.replace(char, other)
    return text


@lru_cache(maxsize=4096)
def _plain_of(char: str) -> str | None:
    kind = category(char)
    if kind == 'Zs':
        return ' '
    if kind == 'Pd' or char == '\u2212':
        return '-'
    if kind == 'Nd':
        return str(int(char))
    same = normalize('NFKC', char)
    return same if len(same) == 1 and same.isascii() else None


def fewer_invisible(text: str, before: int) -> str:
    """The text without the invisible characters of a run beyond the 32nd; `before` of them came right before it.

    Nobody sees the difference, and what is held back of a text stays bounded.
    """
    if text.isascii():
        return text
    lead = _INVISIBLE.match(text) if before else None
    if lead is not None and before + lead.end() > MAX_INVISIBLE:
        text = text[: max(0, MAX_INVISIBLE - before)] + text[lead.end() :]
    return _TOO_MANY.sub(r'\1', text)


def invisible_at_end(text: str) -> int:
    """How many invisible characters a text ends with, counted up to 32."""
    found = None if text.isascii() else _LAST_INVISIBLE.search(text[-MAX_INVISIBLE:])
    return len(found[0]) if found is not None else 0
