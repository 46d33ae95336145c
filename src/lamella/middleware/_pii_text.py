"""Texts with masks in place of personal data: whole, or as they arrive."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Set
from typing import Protocol

from lamella.middleware._pii import Piece, Recognisers, Sweep

_QUOTES = re.compile(r'\\.|"', re.DOTALL)


class TextStream(Protocol):
    """Changes a text that arrives in pieces. How it is cut makes no difference."""

    def feed(self, text: str) -> str:
        """What is sure now that this text has come."""

    def close(self) -> str:
        """The rest, at the end of the text."""

    def all(self, text: str) -> str:
        """A whole text at once."""


class Masker:
    """Recognisers, and the texts that are nobody's secret."""

    def __init__(self, recognisers: Recognisers, allow: Set[str] = frozenset()) -> None:
        self.recognisers, self.allow = recognisers, frozenset(text.casefold() for text in allow)

    def masked(self, text: str, found: Counter[str] | None = None, json: bool = False) -> str:
        """A whole text with masks such as `[EMAIL]`; what was masked is counted in `found`. With `json` the text is that of a
        JSON document, and stays one."""
        return MaskStream(self, found, json).all(text)


def mask_of(entity: str) -> str:
    return f'[{entity.upper()}]'


class MaskStream:
    """One text on its way."""

    __slots__ = ('_allow', '_found', '_in_string', '_json', '_sweep')

    def __init__(self, masker: Masker, found: Counter[str] | None, json: bool) -> None:
        self._sweep, self._allow = Sweep(masker.recognisers, json), masker.allow
        self._found, self._json, self._in_string = found, json, False

    def feed(self, text: str) -> str:
        return self._said(self._sweep.feed(text))

    def close(self) -> str:
        return self._said(self._sweep.feed('', final=True))

    def all(self, text: str) -> str:
        return self._said(self._sweep.feed(text, final=True))

    def _said(self, pieces: list[Piece]) -> str:
        if len(pieces) == 1 and not pieces[0].entity and not self._json:
            return pieces[0].text
        return ''.join(map(self._piece, pieces))

    def _piece(self, piece: Piece) -> str:
        if not piece.entity:
            if self._json:
                self._in_string ^= sum(quote[0] == '"' for quote in _QUOTES.findall(piece.text)) % 2 == 1
            return piece.text
        if not piece.first:
            return ''
        if self._allow and piece.text.casefold() in self._allow:
            return piece.text
        if self._found is not None:
            self._found[piece.entity] += 1
        mask = mask_of(piece.entity)
        return mask if self._in_string or not self._json else f'"{mask}"'


class Chain:
    """One stream behind another."""

    __slots__ = ('_first', '_second')

    def __init__(self, first: TextStream, second: TextStream) -> None:
        self._first, self._second = first, second

    def feed(self, text: str) -> str:
        return self._second.feed(self._first.feed(text))

    def close(self) -> str:
        return self._second.all(self._first.close())

    def all(self, text: str) -> str:
        return self._second.all(self._first.all(text))


class AsItIs:
    """Changes nothing."""

    def feed(self, text: str) -> str:
        return text

    def close(self) -> str:
        return ''

    def all(self, text: str) -> str:
        return text
