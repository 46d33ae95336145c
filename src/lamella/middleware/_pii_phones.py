"""Recognises telephone numbers: digits written like one, which `phonenumbers` then has to know."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from lamella.middleware._pii_find import Found, begins, ends, named

LONGEST = 40
_BETWEEN = r'(?:[ ./-]|\)[ .-]?|[ -]?\()'
_WRITTEN = re.compile(rf'[+(]{{0,2}}[0-9]{{1,17}}+(?:{_BETWEEN}[0-9]{{1,17}}+){{0,8}}')
_BEGUN = re.compile(rf'[+(]{{0,2}}(?:[0-9]{{1,17}}+(?:{_BETWEEN}[0-9]{{1,17}}+){{0,8}}[ ./()-]{{0,2}})?\Z')
_NUMBER = re.compile(r'[0-9]+')
_DATE = re.compile(
    r'(?:19|20)[0-9]{2}[-/. ][0-9]{1,2}[-/. ][0-9]{1,2}(?![0-9])|[0-9]{1,2}[-/. ][0-9]{1,2}[-/. ](?:19|20)[0-9]{2}(?![0-9])'
)
_WORDS = re.compile(
    r'phone|\btel|\bcall\b|mobil|\bcell\b|\bfax\b|whatsapp|\bsms\b|\bdial|\bring\b|\bhandy\b|\brufnummer|t[ée]l[ée]fono|celular'
    r'|电话|電話|手机|전화|[Тт]ел',
    re.IGNORECASE | re.ASCII,
)
_AMERICAN = frozenset([(3, 3, 4), (1, 3, 3, 4), (3, 7), (1, 10), (1, 3, 7)])
Shape = tuple[int, ...]
FEWEST, MANY = 7, range(7, 18)


def phonenumbers_is_missing() -> bool:
    return find_spec('phonenumbers') is None


def unknown_regions(regions: Sequence[str]) -> list[str]:
    """Those that are no country's two letters, as far as that can be known here."""
    if phonenumbers_is_missing():
        return []
    known = import_module('lamella.middleware._pii_phonenumbers').REGIONS
    return [region for region in regions if region not in known]


class PhoneFinder:
    """International numbers (`+` or `00`), and those of `regions` as they are dialled there: in groups; in one piece only with
    the trunk prefix `0` or behind a word such as "phone"."""

    entities = ('phone',)
    needs_sign = True
    longest = LONGEST

    def __init__(self, regions: Sequence[str]) -> None:
        self._known: Any = import_module('lamella.middleware._pii_phonenumbers')
        self._regions = [self._known.Region(region) for region in regions]
        self._only_american = all(region.is_american for region in self._regions)
        self._lengths = {length for region in self._regions for length in region.lengths}

    def find(self, text: str, start: int, final: bool) -> tuple[list[Found], int]:
        found, hold = list[Found](), len(text)
        late = hold - LONGEST
        for number in _NUMBER.finditer(text, start):
            for at in _starts(text, number.start()):
                if at < start:
                    continue
                if not final and at >= late and _BEGUN.match(text, at):
                    return found, at
                if (end := self._longest(text, at)) is not None:
                    found.append(Found(at, end, 'phone'))
        return found, hold if final else _sign_at_end(text, start)

    def _longest(self, text: str, at: int) -> int | None:
        """Where the longest number that begins here ends."""
        written = _WRITTEN.match(text, at, at + LONGEST)
        if written is None or written.end() - at < FEWEST:
            return None
        signed = text[at] in '+(' or text.startswith('00', at)
        lengths = MANY if signed else self._lengths
        groups, digits, counts = _NUMBER.findall(text, at, written.end()), 0, list[int]()
        for count, group in enumerate(groups, 1):
            digits += len(group)
            if digits in lengths and (signed or count == 1 or self._is_usual(tuple(map(len, groups[:count])))):
                counts.append(count)
        for count in reversed(counts):
            end = _end_of(text, at, count)
            if ends(text, end) and self._is_phone(text, at, end, groups[:count]):
                return end
        return None

    def _is_usual(self, shape: Shape) -> bool:
        """Whether numbers of these regions are written in such groups."""
        return shape in _AMERICAN or (not self._only_american and len(shape) < 7 and min(shape[1:]) > 1)

    def _is_phone(self, text: str, at: int, end: int, groups: list[str]) -> bool:
        written, digits, shape = text[at:end], ''.join(groups), tuple(map(len, groups))
        if written.count('(') != written.count(')'):
            return False
        if '+' in written[:2]:
            return bool(self._known.is_international(digits))
        if len(shape) == 1:
            return self._is_bare(text, at, end, digits)
        if (len(shape) == 4 and written.count('.') == 3) or _DATE.match(written):
            return False
        if digits[:2] == '00' and shape[0] > 2 and self._known.is_international(digits[2:]):
            return True
        return self._is_usual(shape) and any(
            region.has(digits) for region in self._regions if not region.is_american or shape in _AMERICAN
        )

    def _is_bare(self, text: str, at: int, end: int, digits: str) -> bool:
        """Digits in one piece are anything, unless something says that they are a telephone's."""
        if text[end : end + 1] == '.' and text[end + 1 : end + 2].isdigit():
            return False
        if digits[:2] == '00' and digits[2:3] != '1' and self._known.is_international(digits[2:]):
            return True
        if not (digits[0] == '0' and len(digits) > 8) and not named(_WORDS, text, at):
            return False
        return any(region.has(digits) for region in self._regions)


def _end_of(text: str, at: int, count: int) -> int:
    """Where that many groups of digits end."""
    for _ in range(count):
        group = _NUMBER.search(text, at)
        at = group.end() if group is not None else at
    return at


def _starts(text: str, digit: int) -> Iterator[int]:
    """Where a number may begin of which this is the first digit: with a plus sign, with a bracket, or here."""
    at = digit
    if text[at - 1 : at] == '+':
        at -= 1
    if at and text[at - 1] == '(' and begins(text, at - 1):
        yield at - 1
    if begins(text, at) and not (at > 1 and text[at - 1] == '.' and text[at - 2].isdigit()):
        yield at


def _sign_at_end(text: str, start: int) -> int:
    """The place of a plus sign or bracket at the end of the text, which may begin a number."""
    at = len(text.rstrip('+('))
    at = max(at, len(text) - 2, start)
    return at
