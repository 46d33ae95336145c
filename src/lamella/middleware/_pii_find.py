"""What recognisers of personal data have in common, and those that are a pattern."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from lamella.middleware._bounded_regex import Bounded, measured
from lamella.middleware._pii_ids import LetterId

CONTEXT = 96  # how many characters before a place a recogniser may look back
_WORDS_BEFORE = 40
_DIGITS = re.compile(r'[0-9]+')
_LETTERS_BEFORE = 6


class Tail(Protocol):
    """A match without an end of its own, such as a private key: whatever its length, nothing of it is held back."""

    def end(self, text: str, at: int) -> int | None:
        """Where the match that has come as far as `at` ends, or `None` when it goes on behind the text."""


class Found(NamedTuple):
    """Characters `start` to `end` are an `entity`, and with a `tail` what follows as well."""

    start: int
    end: int
    entity: str
    tail: Tail | None = None


class Finder(Protocol):
    """Finds matches of one kind. Whether one begins at a place depends on the text alone: on at most 96 characters before it
    and `longest` from it on."""

    @property
    def entities(self) -> tuple[str, ...]: ...

    @property
    def longest(self) -> int: ...

    @property
    def needs_sign(self) -> bool:
        """Whether each match has a digit or an @ in it."""

    def find(self, text: str, start: int, final: bool) -> tuple[list[Found], int]:
        """The matches that begin at `start` or later, and the place from which on more text could change that: the length of
        the text when it could change nothing. `final` says that no more text comes."""


def begins(text: str, at: int) -> bool:
    """Whether a word may begin here."""
    return not at or not is_wordy(text[at - 1])


def ends(text: str, at: int) -> bool:
    """Whether a word may end here."""
    return at >= len(text) or not is_wordy(text[at])


def is_wordy(char: str) -> bool:
    """A letter, a digit or an underscore, in scripts that part words by spaces."""
    return char == '_' or (char.isalnum() and (char.isascii() or char.islower() or char.isupper()))


def named(words: re.Pattern[str], text: str, at: int) -> bool:
    """Whether one of these words stands in the 40 characters before this place."""
    return words.search(text, max(0, at - _WORDS_BEFORE), at) is not None


def every(regex: re.Pattern[str], text: str, start: int) -> Iterator[re.Match[str]]:
    """The match at each place from `start` on, also where they overlap."""
    at = start
    while (match := regex.search(text, at)) is not None:
        yield match
        at = match.start() + 1


class PatternFinder:
    """A user's own pattern."""

    needs_sign = False

    def __init__(self, entity: str, pattern: Bounded) -> None:
        self.entities, self.longest, self._pattern = (entity,), pattern.width, pattern

    def find(self, text: str, start: int, final: bool) -> tuple[list[Found], int]:
        hold = len(text)
        if not final and (begun := self._pattern.started.search(text, max(start, hold - self.longest))) is not None:
            hold = begun.start()
        matches = every(self._pattern.regex, text, start)
        return [Found(*match.span(), self.entities[0]) for match in matches if match.start() < hold], hold


class LetterFinder:
    """Numbers with letters in them: tried where a word with a digit begins."""

    needs_sign = True

    def __init__(self, ids: Sequence[LetterId]) -> None:
        self.entities = tuple(one.entity for one in ids)
        patterns = [measured(one.regex) for one in ids]
        self._ids = [(one, pattern.regex.match) for one, pattern in zip(ids, patterns, strict=True)]
        self.longest = max(pattern.width for pattern in patterns)
        begun = '|'.join(pattern.started.pattern for pattern in patterns)
        self._begun = re.compile(rf'(?<![A-Za-z0-9_])(?:{begun})')

    def find(self, text: str, start: int, final: bool) -> tuple[list[Found], int]:
        hold, found = len(text) if final else self._hold(text, start), list[Found]()
        for digits in _DIGITS.finditer(text, start):
            for at in _word_starts(text, digits.start()):
                if start <= at < hold:
                    found += self._at(text, at)
        return found, hold

    def _hold(self, text: str, start: int) -> int:
        first = max(start, len(text) - self.longest)
        if _DIGITS.search(text, first) is None:
            first = max(first, len(text) - _LETTERS_BEFORE)  # no number begins with more letters than these
        begun = self._begun.search(text, first)
        return begun.start() if begun is not None else len(text)

    def _at(self, text: str, at: int) -> Iterator[Found]:
        for one, match in self._ids:
            written = match(text, at)
            if written is not None and one.check(_compact(written[0])):
                yield Found(*written.span(), one.entity)


def _word_starts(text: str, digit: int) -> Iterator[int]:
    """Where a number that has its first digit here may begin: there, before the letters in front, and before one or two
    letters that a space or a hyphen parts from it."""
    first = _letters_start(text, digit, _LETTERS_BEFORE)
    if begins(text, first):
        yield first
    if first == digit > 1 and text[digit - 1] in ' -':
        apart = _letters_start(text, digit - 1, 2)
        if apart < digit - 1 and begins(text, apart):
            yield apart


def _letters_start(text: str, end: int, most: int) -> int:
    """Where the letters begin that end here, at most so many."""
    first, least = end, max(0, end - most)
    while first > least and text[first - 1].isascii() and text[first - 1].isalpha():
        first -= 1
    return first


def _compact(written: str) -> str:
    return written.replace(' ', '').replace('-', '').upper()
