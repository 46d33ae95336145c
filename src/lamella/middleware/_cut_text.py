"""Cutting the middle out of a text, never through what a reader sees as one character."""

from __future__ import annotations

import unicodedata

_LONGEST = 256  # code points of one character at most; a longer pile of accents is cut through
_JOINER, _CARRIAGE_RETURN, _LINE_FEED = '\u200d', '\r', '\n'


def cut_text(text: str, most: int, tail_share: float, what: str = 'characters', more: str = '') -> str:
    """The text with its middle cut out, `most` characters long at most (or as long as the note about the cut alone)."""
    if len(text) <= most:
        return text
    note = _note(len(text), what, more)
    room = max(0, most - len(note))
    tail = int(room * tail_share)
    start = boundary_before(text, room - tail)
    end = boundary_after(text, len(text) - tail)
    return f'{text[:start]}{_note(end - start, what, more)}{text[end:]}'


def _note(count: int, what: str, more: str) -> str:
    return f'\n… {count:,} {what} cut{more} …\n'


def boundary_before(text: str, index: int) -> int:
    """The last place at or before `index` where a character ends."""
    for place in range(index, max(0, index - _LONGEST), -1):
        if is_boundary(text, place):
            return place
    return 0 if index <= _LONGEST else index


def boundary_after(text: str, index: int) -> int:
    """The first place at or after `index` where a character begins."""
    for place in range(index, min(len(text), index + _LONGEST)):
        if is_boundary(text, place):
            return place
    return len(text) if len(text) - index <= _LONGEST else index


def is_boundary(text: str, index: int) -> bool:
    """Whether one character ends and another begins before `text[index]`: the rules of extended grapheme clusters that
    matter outside of a few scripts (Unicode Standard Annex 29, GB3 to GB13; Hangul, marks, joiners, flags, modifiers)."""
    if index <= 0 or index >= len(text):
        return True
    before, after = text[index - 1], text[index]
    if after == _LINE_FEED:
        return before != _CARRIAGE_RETURN
    if after == _JOINER or before == _JOINER or _extends(after):
        return False
    if _is_flag_half(after) and _is_flag_half(before):
        return _flag_halves_before(text, index) % 2 == 0
    return not (_is_one_syllable(before, after) or _is_lone_pair(before, after))


def _extends(character: str) -> bool:
    """Marks, variation selectors, skin tones and tags: they belong to what stands before them."""
    if character < '\u0300':
        return False
    if '\U0001f3fb' <= character <= '\U0001f3ff' or '\U000e0020' <= character <= '\U000e007f':
        return True
    return unicodedata.category(character) in ('Mn', 'Me', 'Mc')


def _is_flag_half(character: str) -> bool:
    return '\U0001f1e6' <= character <= '\U0001f1ff'


def _flag_halves_before(text: str, index: int) -> int:
    start = index
    while start and index - start < 2 * _LONGEST and _is_flag_half(text[start - 1]):
        start -= 1
    return index - start


def _is_one_syllable(before: str, after: str) -> bool:
    """Hangul that is spelled out: an initial takes what follows, and medials and finals belong to what stands before them."""
    if '\u1100' <= before <= '\u115f' or '\ua960' <= before <= '\ua97c':
        return '\u1100' <= after <= '\u11ff' or '\ua960' <= after <= '\ua97c' or '\uac00' <= after <= '\ud7fb'
    if '\u1160' <= after <= '\u11ff' or '\ud7b0' <= after <= '\ud7fb':
        return '\u1160' <= before <= '\u11ff' or '\uac00' <= before <= '\ud7fb'
    return False


def _is_lone_pair(before: str, after: str) -> bool:
    """The two halves of a surrogate pair, where a text came with them unjoined."""
    return '\ud800' <= before <= '\udbff' and '\udc00' <= after <= '\udfff'
