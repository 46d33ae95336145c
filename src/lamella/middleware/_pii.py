"""Finds personal data in texts that come whole or in pieces: which characters of a text are which entity."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from lamella.middleware._bounded_regex import bounded
from lamella.middleware._pii_find import CONTEXT, Finder, Found, LetterFinder, PatternFinder, Tail
from lamella.middleware._pii_ids import DIGIT_IDS, IBAN, LETTER_IDS, NATIONAL_IDS
from lamella.middleware._pii_numbers import NumberFinder
from lamella.middleware._pii_phones import PhoneFinder
from lamella.middleware._pii_secrets import KeyFinder, PrivateKeyFinder
from lamella.middleware._pii_view import MAX_INVISIBLE, QUOTE, View, fewer_invisible, invisible_at_end, view_of
from lamella.middleware._pii_web import EmailFinder, IPFinder
from lamella.types import did_you_mean

ENTITIES = ('email', 'phone', 'card', 'iban', 'national_id', 'ip', 'api_key', 'private_key')
GROUPS: Mapping[str, tuple[str, ...]] = {'national_id': NATIONAL_IDS}
KNOWN = (*ENTITIES, *NATIONAL_IDS)


_ANY_SIGN = re.compile('[0-9@]')  # without one of these there is nothing but keys, and patterns of the user's own


class Piece(NamedTuple):
    """A piece of a text: as it is (`entity` is empty), or a match. A match that was already told and goes on is no `first`."""

    text: str
    entity: str = ''
    first: bool = True


class Recognisers:
    """Those for the wanted entities and patterns; immutable, for any number of texts. Raises ValueError with what is wrong."""

    def __init__(
        self, entities: Sequence[str], patterns: Mapping[str, str | re.Pattern[str]], phone_regions: Sequence[str]
    ) -> None:
        finders = list(_built_in(expanded(entities), tuple(phone_regions)))
        finders += [PatternFinder(name, bounded(pattern)) for name, pattern in patterns.items()]
        self.finders = tuple(finders)
        self.entities = tuple(entity for finder in finders for entity in finder.entities)

    @property
    def longest(self) -> dict[str, int]:
        """How many characters of a text may have to wait for more, by entity."""
        return {entity: finder.longest for finder in self.finders for entity in finder.entities}

    def pieces(self, text: str, json: bool = False) -> list[Piece]:
        """A whole text in pieces, each match in one."""
        pieces: list[Piece] = []
        for piece in Sweep(self, json).feed(text, final=True):
            if piece.entity and not piece.first:
                pieces[-1] = pieces[-1]._replace(text=pieces[-1].text + piece.text)
            else:
                pieces.append(piece)
        return pieces


@cache
def _built_in(wanted: tuple[str, ...], phone_regions: tuple[str, ...]) -> tuple[Finder, ...]:
    """The finders of these entities, built once. Of two that find the same characters the earlier one names them."""
    finders: list[Finder] = []
    if 'private_key' in wanted:
        finders.append(PrivateKeyFinder())
    if 'api_key' in wanted:
        finders.append(KeyFinder())
    if 'email' in wanted:
        finders.append(EmailFinder())
    if 'phone' in wanted:
        finders.append(PhoneFinder(phone_regions))
    if letters := [one for one in (IBAN, *LETTER_IDS) if one.entity in wanted]:
        finders.append(LetterFinder(letters))
    if digits := [name for name in wanted if name == 'card' or any(name == one.entity for one in DIGIT_IDS)]:
        finders.append(NumberFinder(digits))
    if 'ip' in wanted:
        finders.append(IPFinder())
    return tuple(finders)


class Sweep:
    """One text on its way through the recognisers. However it is cut into pieces, the same characters are found.

    What may become a match is held back, and nothing else. Matches that overlap are one, named after the first of them.
    """

    __slots__ = ('_covered', '_entity', '_finders', '_invisible', '_json', '_new', '_raw', '_said', '_start', '_tails')

    def __init__(self, recognisers: Recognisers, json: bool = False) -> None:
        self._finders, self._json = recognisers.finders, json
        self._raw = ''  # what is not decided yet, with some of what came before
        self._said = 0  # how much of it has been told
        self._start = 0  # where what is not decided begins, as the recognisers see it
        self._covered = 0  # up to where the last match goes, as they see it
        self._entity, self._new = '', False
        self._tails: list[tuple[Tail, int]] = []
        self._invisible = 0

    @property
    def held(self) -> int:
        """How many characters wait."""
        return len(self._raw) - self._said

    def feed(self, text: str, final: bool = False) -> list[Piece]:
        """What is sure now that this text has come; with `final` all the rest."""
        self._raw += self._thinned(text)
        view = view_of(self._raw, self._json)
        matches, hold = self._matches(view.text, final)
        pieces: list[Piece] = []
        self._go_on(view, pieces)
        for match in matches:
            if self._json and QUOTE in view.text[match.start : match.end]:
                continue
            if match.start >= self._covered:
                self._say(view.start(match.start), pieces)
                self._entity, self._new, self._tails = match.entity, True, []
            self._hide(match.end, view, pieces)
            if match.tail is not None:
                self._tails.append((match.tail, match.end))
                self._go_on(view, pieces)
        if final:
            self._say(len(self._raw), pieces)
        elif not self._tails or hold > self._covered:
            self._say(view.start(hold), pieces)
        self._forget(hold, view)
        return pieces

    def _thinned(self, text: str) -> str:
        """The text without endless runs of what nobody sees."""
        if self._json or text.isascii():
            self._invisible = 0
            return text
        text = fewer_invisible(text, self._invisible)
        last = invisible_at_end(text)
        self._invisible = min(MAX_INVISIBLE, self._invisible + last) if last == len(text) else last
        return text

    def _matches(self, text: str, final: bool) -> tuple[list[Found], int]:
        """What begins at places that are decided, in order, and the first place that is not."""
        found, hold = list[Found](), len(text)
        bare = final and _ANY_SIGN.search(text, self._start) is None
        for finder in self._finders:
            if bare and finder.needs_sign:
                continue
            mine, undecided = finder.find(text, self._start, final)
            found += mine
            hold = min(hold, undecided)
        if not found:
            return found, hold
        return sorted([one for one in found if one.start < hold], key=lambda one: (one.start, -one.end)), hold

    def _go_on(self, view: View, pieces: list[Piece]) -> None:
        """Hide what belongs to matches that have no end of their own."""
        open_ones: list[tuple[Tail, int]] = []
        for tail, at in self._tails:
            end = tail.end(view.text, at)
            self._hide(len(view.text) if end is None else end, view, pieces)
            if end is None:
                open_ones.append((tail, len(view.text)))
        self._tails = open_ones

    def _say(self, until: int, pieces: list[Piece]) -> None:
        if until > self._said:
            pieces.append(Piece(self._raw[self._said : until]))
            self._said = until

    def _hide(self, until: int, view: View, pieces: list[Piece]) -> None:
        if until <= self._covered:
            return
        end = view.end(until)
        pieces.append(Piece(self._raw[self._said : end], self._entity, self._new))
        self._covered, self._said, self._new = until, end, False

    def _forget(self, hold: int, view: View) -> None:
        """Keep what is not decided, and as much before it as recognisers may look back."""
        cut = max(0, hold - CONTEXT)
        at = view.start(cut) if cut else 0
        self._raw, self._said = self._raw[at:], self._said - at
        self._start, self._covered = hold - cut, self._covered - cut
        self._tails = [(tail, place - cut) for tail, place in self._tails]


def expanded(names: Sequence[str]) -> tuple[str, ...]:
    """The entities of these names, those of a group one by one. Raises ValueError for unknown names, with the nearest."""
    if wrong := [f'unknown entity {name!r}{did_you_mean(str(name), KNOWN)}' for name in names if name not in KNOWN]:
        raise ValueError('; '.join(wrong))
    return tuple(dict.fromkeys(one for name in names for one in GROUPS.get(name, (name,))))
