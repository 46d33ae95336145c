"""Phrases and patterns that no text may have, found in whole texts and in texts that arrive in pieces."""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from unicodedata import combining, normalize

from lamella.middleware._bounded_regex import Bounded, bounded
from lamella.middleware._pii_find import begins, ends, is_wordy
from lamella.middleware._pii_view import INVISIBLE, view_of

LONGEST = 256
_SPACES = ' {1,16}+'  # between two words
_SPACE = re.compile(r'\s+')
_UNSEEN = re.compile(f'[{INVISIBLE}]')
_CONTEXT = 96
MAX_HELD = 4_096


class Hit(NamedTuple):
    """What was found: the item of the list, by its place in it."""

    item: int


class Folded(NamedTuple):
    """A text for comparing; its character `i` is one of raw character `places[i]` (of `i` when `None`)."""

    text: str
    places: Sequence[int] | None

    def place(self, index: int, size: int) -> int:
        if self.places is None:
            return index
        return self.places[index] if index < len(self.places) else size


def folded(text: str) -> Folded:
    """Without case, in compatible decomposed form (Unicode NFKD after case folding, UAX #15 and section 3.13), each white space
    a space, and nothing that is invisible."""
    if text.isascii():
        return Folded(text.lower().translate(_WHITE), None)
    chars, places = list[str](), array('l')
    for at, char in enumerate(text):
        same = _fold(char)
        chars.append(same)
        places.extend([at] * len(same))
    return Folded(''.join(chars), places)


_WHITE = str.maketrans('\t\n\r\x0b\x0c', '     ')


@lru_cache(maxsize=4096)
def _fold(char: str) -> str:
    if _UNSEEN.match(char):
        return ''
    if char.isspace():
        return ' '
    return normalize('NFKD', normalize('NFKD', char).casefold())


def phrase_of(text: str) -> str:
    """A phrase in the form in which it is looked for."""
    return _SPACE.sub(' ', folded(text).text).strip()


class Banned:
    """The list, made once. Raises ValueError for a pattern that no stream can match."""

    def __init__(self, items: Sequence[str | re.Pattern[str]], whole_words: bool) -> None:
        self._whole_words = whole_words
        phrases = {phrase_of(item): index for index, item in reversed(list(enumerate(items))) if isinstance(item, str)}
        self._phrases = phrases
        self._regex = re.compile(_trie(list(phrases))) if phrases else None
        self._firsts = frozenset(phrase[0] for phrase in phrases)
        self._beginnings = {phrase[:end] for phrase in phrases for end in range(1, len(phrase) + 1)}
        self._patterns: list[tuple[int, Bounded]] = [
            (index, bounded(item)) for index, item in enumerate(items) if not isinstance(item, str)
        ]
        widths = [len(phrase) + 15 * phrase.count(' ') for phrase in phrases]
        self.longest = max([0, *widths, *(pattern.width for _, pattern in self._patterns)])

    def __bool__(self) -> bool:
        return bool(self._phrases or self._patterns)

    def find(self, text: str, start: int, final: bool) -> tuple[Hit | None, int]:
        """The first item that begins at `start` or later, and the place from which on more text could make one."""
        hit, hold = self._phrase(text, start, final) if self._phrases else (None, len(text))
        for index, pattern in self._patterns:
            if hit is None:
                hit, undecided = _pattern(text, start, final, index, pattern)
                hold = min(hold, undecided)
        return hit, hold

    def _phrase(self, raw: str, start: int, final: bool) -> tuple[Hit | None, int]:
        text, places = given = folded(raw)
        first = start if places is None else _index(places, start)
        hold = len(text) if final else self._clean(text, first, self._undecided(text, first))
        found = self._regex.search(text, first) if self._regex is not None else None
        while found is not None and found.start() < hold:
            if self._counts(text, *found.span()):
                return Hit(self._phrases[_SPACE.sub(' ', found[0])]), found.start()
            shorter = self._shorter(text, found.start(), found.end())
            if shorter is not None:
                return shorter, found.start()
            found = self._regex.search(text, found.start() + 1)  # type: ignore[union-attr]
        return None, given.place(hold, len(raw))

    def _shorter(self, text: str, start: int, end: int) -> Hit | None:
        """A phrase that is the beginning of the one that was found, and that counts."""
        for until in range(end - 1, start, -1):
            index = self._phrases.get(_SPACE.sub(' ', text[start:until]))
            if index is not None and self._counts(text, start, until):
                return Hit(index)
        return None

    def _counts(self, text: str, start: int, end: int) -> bool:
        if end < len(text) and combining(text[end]):  # it belongs to the last letter, which then is another one
            return False
        if not self._whole_words:
            return True
        return (not is_wordy(text[start]) or begins(text, start)) and (not is_wordy(text[end - 1]) or ends(text, end))

    def _undecided(self, text: str, start: int) -> int:
        """Where a phrase may begin that goes on behind the end of the text, or whose end is not sure."""
        for at in range(max(start, len(text) - self.longest), len(text)):
            if text[at] in self._firsts and _SPACE.sub(' ', text[at:]) in self._beginnings:
                return at
        return len(text)

    def _clean(self, text: str, start: int, hold: int) -> int:
        """No text ends with a phrase for the moment, such as the beginning of a longer word that is no phrase."""
        for at in range(max(start, hold - self.longest), hold):
            phrase = text[at] in self._firsts and _SPACE.sub(' ', text[at:hold]) in self._phrases
            if phrase and (not is_wordy(text[at]) or begins(text, at)):
                return self._clean(text, start, at)
        return hold


def _index(places: Sequence[int], raw: int) -> int:
    """The first folded character of the raw character at this place, or of the next that has one."""
    low, high = 0, len(places)
    while low < high:
        middle = (low + high) // 2
        if places[middle] < raw:
            low = middle + 1
        else:
            high = middle
    return low


def _pattern(text: str, start: int, final: bool, index: int, pattern: Bounded) -> tuple[Hit | None, int]:
    view = view_of(text)
    first = start if view.starts is None else _index(view.starts, start)
    hold = len(view.text)
    if not final:
        begun = pattern.started.search(view.text, max(first, hold - pattern.width))
        hold = begun.start() if begun is not None else hold
    found = pattern.regex.search(view.text, first)
    if found is not None and found.start() < hold:
        return Hit(index), view.start(found.start())
    return None, view.start(hold)


def _trie(phrases: Sequence[str]) -> str:
    """One pattern for all phrases, in which common beginnings stand once. The longest phrase at a place is found."""
    root: dict[str, Any] = {}
    for phrase in phrases:
        node = root
        for char in phrase:
            node = node.setdefault(char, {})
        node[''] = {}
    return _branches(root)


def _branches(node: dict[str, Any]) -> str:
    prefix = ''
    while len(node) == 1 and '' not in node:
        ((char, node),) = node.items()
        prefix += _SPACES if char == ' ' else re.escape(char)
    ways = [(_SPACES if char == ' ' else re.escape(char)) + _branches(node[char]) for char in node if char]
    if not ways:
        return prefix
    return f'{prefix}(?:{"|".join(ways)}){"?" if "" in node else ""}'


class Watch:
    """One text on its way. What may become an item of the list is held back, and nothing else."""

    __slots__ = ('_banned', '_raw', '_start')

    def __init__(self, banned: Banned) -> None:
        self._banned, self._raw, self._start = banned, '', 0

    @property
    def held(self) -> int:
        """How many characters are not sure."""
        return len(self._raw) - self._start

    def feed(self, text: str, final: bool = False) -> Hit | None:
        """What was found now that this text has come; `held` says how much of it is still open."""
        self._raw += text
        hit, hold = self._banned.find(self._raw, self._start, final)
        if hit is None and len(self._raw) - hold > MAX_HELD:
            return Hit(-1)  # endless invisible characters: nobody knows what they part
        cut = max(0, hold - _CONTEXT)
        self._raw, self._start = self._raw[cut:], hold - cut
        return hit
