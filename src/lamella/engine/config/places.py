"""Where each key and value of a TOML document stands, so that an error can point at it.

`tomllib` says nothing of places. This reader runs only over documents that `tomllib` has accepted, and so needs no errors of
its own. Grammar: toml.io/en/v1.0.0.
"""

from __future__ import annotations

import tomllib
from typing import Any

from lamella.types import Data

Path = tuple[str | int, ...]
_BARE = frozenset('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-')
_BLANK = frozenset(' \t')
_GAP = frozenset(' \t\r\n,')


class Place(Data, frozen=True):
    """A line and a column, both from 1."""

    line: int
    column: int


class Places:
    """The places of one document. A path has keys and, for arrays, indices: `('chains', 'default', 1, 'use')`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._found: dict[Path, int] = {}
        reader = _Reader(text, self._found)
        reader.document()

    def of(self, path: Path) -> Place:
        """Of the longest beginning of the path that the document has."""
        while path and path not in self._found:
            path = path[:-1]
        at = self._found.get(path, 0)
        return Place(self._text.count('\n', 0, at) + 1, at - (self._text.rfind('\n', 0, at) + 1) + 1)

    def has(self, path: Path) -> bool:
        return path in self._found


class _Reader:
    def __init__(self, text: str, found: dict[Path, int]) -> None:
        self._text, self._at, self._found = text, 0, found
        self._tables: dict[Path, int] = {}  # how many elements an array of tables has so far

    def document(self) -> None:
        table: Path = ()
        while self._skip(_GAP):
            if self._text.startswith('[[', self._at):
                table = self._header(2, is_array=True)
            elif self._text[self._at] == '[':
                table = self._header(1, is_array=False)
            else:
                self._pair(table)

    def _header(self, brackets: int, *, is_array: bool) -> Path:
        start = self._at
        self._at += brackets
        keys = self._dotted()
        self._at += brackets
        path = self._inside(keys[:-1])
        path = (*path, keys[-1])
        self._found.setdefault(path, start)
        if is_array:
            index = self._tables[path] = self._tables.get(path, -1) + 1
            path = (*path, index)
            self._found[path] = start
        return path

    def _inside(self, keys: list[str]) -> Path:
        """A header's keys lead into the last element of each array of tables on the way."""
        path: Path = ()
        for key in keys:
            path = (*path, key)
            if path in self._tables:
                path = (*path, self._tables[path])
        return path

    def _pair(self, table: Path) -> None:
        start = self._at
        path = table
        for key in self._dotted():
            path = (*path, key)
            self._found.setdefault(path, start)
        self._skip(_BLANK)
        self._at += 1  # the equals sign
        self._skip(_BLANK)
        self._value(path)

    def _value(self, path: Path) -> None:
        mark = self._text[self._at]
        if mark == '[':
            self._array(path)
        elif mark == '{':
            self._inline(path)
        elif mark in '"\'':
            self._string()
        else:
            while self._at < len(self._text) and self._text[self._at] not in ',]}#\r\n':
                self._at += 1

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while self._skip(_GAP) and self._text[self._at] != ']':
            item = (*path, index)
            self._found[item] = self._at
            self._value(item)
            index += 1
        self._at += 1

    def _inline(self, path: Path) -> None:
        self._at += 1
        while self._skip(_GAP) and self._text[self._at] != '}':
            self._pair(path)
        self._at += 1

    def _dotted(self) -> list[str]:
        keys = []
        while True:
            self._skip(_BLANK)
            keys.append(self._key())
            self._skip(_BLANK)
            if self._text[self._at] != '.':
                return keys
            self._at += 1

    def _key(self) -> str:
        start = self._at
        if self._text[start] in '"\'':
            self._string()
            (key,) = tomllib.loads(f'{self._text[start : self._at]} = 0')
            return key
        while self._text[self._at] in _BARE:
            self._at += 1
        return self._text[start : self._at]

    def _string(self) -> None:
        quote = self._text[self._at]
        mark = quote * 3 if self._text.startswith(quote * 3, self._at) else quote
        self._at += len(mark)
        while not self._text.startswith(mark, self._at):
            self._at += 2 if quote == '"' and self._text[self._at] == '\\' else 1
        self._at += len(mark)
        while len(mark) == 3 and self._at < len(self._text) and self._text[self._at] == quote:
            self._at += 1  # up to two quotes may stand before the closing three

    def _skip(self, blanks: frozenset[str]) -> bool:
        """Over blanks and comments; false at the end."""
        while self._at < len(self._text):
            mark = self._text[self._at]
            if mark == '#' and '\n' in blanks:
                end = self._text.find('\n', self._at)
                self._at = len(self._text) if end < 0 else end
            elif mark in blanks:
                self._at += 1
            else:
                return True
        return False


def value_at(document: Any, path: Path) -> Any:
    """What stands at the path, or `None`."""
    for key in path:
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            return None
    return document
