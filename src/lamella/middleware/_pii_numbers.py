"""Recognises numbers of digits alone: payment cards and national numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lamella.middleware._pii_checks import card_lengths, luhn
from lamella.middleware._pii_find import Found, begins, ends, named
from lamella.middleware._pii_ids import BY_LENGTH, WORDS, DigitId, Shape

FEWEST_OF_A_CARD, MOST_DIGITS = 12, 19
SHORTEST = 9
LONGEST = 37  # 19 digits, and a separator between each two
_GROUPS = re.compile(r'[0-9]{1,20}+(?:[ ./-][0-9]{1,20}+){0,18}')
_NUMBER = re.compile(r'[0-9]+')
_BEGUN = re.compile(r'[0-9]{1,20}+(?:[ ./-][0-9]{1,20}+){0,18}[ ./-]?\Z')
_HEX_BEFORE = re.compile(r'[0-9A-Fa-f]{4}-\Z')
_CARD_WORDS = re.compile(
    r'\bcard|\bcredit|\bdebit|\bvisa\b|mastercard|\bamex\b|maestro|\bpan\b|\bcc\b', re.IGNORECASE | re.ASCII
)


class Written(NamedTuple):
    """Digits as they stand in a text, and the groups they are parted into."""

    start: int
    end: int
    digits: str
    shape: Shape


class NumberFinder:
    """Cards and national numbers. `wanted` are the entities, of which `card` may be one."""

    longest = LONGEST
    needs_sign = True

    def __init__(self, wanted: Sequence[str]) -> None:
        self.entities = tuple(wanted)
        self._cards = 'card' in wanted
        self._ids = {
            length: mine
            for length, ids in BY_LENGTH.items()
            if (mine := tuple(one for one in ids if one.entity in wanted))
        }
        self._shapes = {shape for ids in self._ids.values() for one in ids for shape in one.shapes}

    def find(self, text: str, start: int, final: bool) -> tuple[list[Found], int]:
        found, hold = list[Found](), len(text)
        late = hold - LONGEST
        for number in _NUMBER.finditer(text, start):
            at = number.start()
            if not final and at >= late and _may_begin(text, at) and _BEGUN.match(text, at):
                return found, at
            written = _GROUPS.match(text, at)
            if written is not None and written.end() - at >= SHORTEST and _may_begin(text, at):
                found += self._readings(text, at, written.end())
        return found, hold

    def _readings(self, text: str, at: int, until: int) -> Iterator[Found]:
        """What the digits from here on are, up to the end of those groups that something is written in."""
        groups = _NUMBER.findall(text, at, until)
        shape = tuple(map(len, groups))
        if len(groups) > 1 or shape[0] <= MOST_DIGITS:
            for count in self._counts(shape, groups):
                end = at + sum(shape[:count]) + count - 1
                if _may_end(text, end, count):
                    yield from self._at(text, Written(at, end, ''.join(groups[:count]), shape[:count]))

    def _counts(self, shape: Shape, groups: list[str]) -> Iterator[int]:
        """After how many groups a number of some kind may be at its end."""
        if shape[0] > SHORTEST - 1:
            yield 1
        for usual in self._shapes:
            if shape[: len(usual)] == usual:
                yield len(usual)
        if self._cards and len(shape) > 1:
            yield from _card_counts(shape, groups)

    def _at(self, text: str, written: Written) -> Iterator[Found]:
        digits, shape = written.digits, written.shape
        if self._cards and FEWEST_OF_A_CARD <= len(digits) <= MOST_DIGITS and is_card(text, written):
            yield Found(written.start, written.end, 'card')
        for one in self._ids.get(len(digits), ()):
            if (len(shape) == 1 or shape in one.shapes) and is_written_as(text, written, one) and one.check(digits):
                yield Found(written.start, written.end, one.entity)


def _card_counts(shape: Shape, groups: list[str]) -> Iterator[int]:
    """Groups as on a card, of three digits at least but for the last; or the digits one by one."""
    if shape[0] == shape[1] == 1:
        ones = next((count for count, length in enumerate(shape) if length > 1), len(shape))
        if ones >= FEWEST_OF_A_CARD:
            yield from [count for count in card_lengths(''.join(groups[:4])) if count <= ones]
        return
    digits = 0
    for count, length in enumerate(shape, 1):
        digits += length
        if digits >= FEWEST_OF_A_CARD and count > 1:
            yield count
        if length < 3 or digits >= MOST_DIGITS:
            return


def _may_begin(text: str, at: int) -> bool:
    """Whether a number may begin here: not inside of a word, and not behind a decimal point."""
    return begins(text, at) and not (at > 1 and text[at - 1] == '.' and text[at - 2].isdigit())


def _may_end(text: str, at: int, groups: int) -> bool:
    return ends(text, at) and not (groups == 1 and text[at : at + 1] == '.' and text[at + 1 : at + 2].isdigit())


def is_card(text: str, written: Written) -> bool:
    """A number that a network gives out, parted in one way; in one piece also any other behind a word such as "card"."""
    digits, shape = written.digits, written.shape
    if len(shape) == 1 and _HEX_BEFORE.search(text, max(0, written.start - 5), written.start):
        return False
    known = len(digits) in card_lengths(digits)
    if not (known or len(shape) < len(digits)) or not luhn(digits) or not digits.strip(digits[0]):
        return False
    if len(shape) > 1 and _between(text, written) not in (' ', '-'):
        return False
    return known or named(_CARD_WORDS, text, written.start)


def is_written_as(text: str, written: Written, one: DigitId) -> bool:
    """In the usual groups of such a number, or, where its digits tell enough or a word names it, in one piece."""
    if len(written.shape) == 1:
        hex_before = _HEX_BEFORE.search(text, max(0, written.start - 5), written.start)
        return not hex_before and (one.sure or named(WORDS[one.entity], text, written.start))
    usual = one.shapes[written.shape]
    between = _between(text, written)
    return between in usual if len(between) == 1 else between == usual == '.-'


def _between(text: str, written: Written) -> str:
    """The different characters between the groups, in the order in which they come."""
    return ''.join(dict.fromkeys(c for c in text[written.start : written.end] if not c.isdigit()))
