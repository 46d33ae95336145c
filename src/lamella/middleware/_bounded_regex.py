"""Regular expressions that can be matched in a stream: how long a match can get, and whether one may be on its way.

What a pattern consists of is read with the parser of `re` itself (`re._parser`, which `re.compile` uses).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

MAX_WIDTH = 256
MAX_LOOK = 32
MAX_WAYS = 10_000

Item = tuple[Any, Any]
_LOOKS = (op.ASSERT, op.ASSERT_NOT)
_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
_CATEGORIES = {
    op.CATEGORY_DIGIT: r'\d',
    op.CATEGORY_NOT_DIGIT: r'\D',
    op.CATEGORY_SPACE: r'\s',
    op.CATEGORY_NOT_SPACE: r'\S',
    op.CATEGORY_WORD: r'\w',
    op.CATEGORY_NOT_WORD: r'\W',
}
_MOODS = {op.MAX_REPEAT: '', op.MIN_REPEAT: '?', op.POSSESSIVE_REPEAT: '+'}
_OPENINGS = {op.BRANCH: '(?:', op.ATOMIC_GROUP: '(?>'}
_BOUNDARIES = (op.AT_BOUNDARY, op.AT_NON_BOUNDARY)


class Bounded(NamedTuple):
    """A pattern of which a match is at most `width` characters long. `started` finds, at its first place, the beginning of
    a match that goes on behind the end of the text (`search` it in the last `width` characters)."""

    regex: re.Pattern[str]
    started: re.Pattern[str]
    width: int


def bounded(pattern: str | re.Pattern[str]) -> Bounded:
    """Raises ValueError, saying what to write in its place, for a pattern that cannot be matched in a stream: one that is no
    regular expression, matches nothing or without end, looks far away, or tries too many ways on hostile text."""
    try:
        regex = re.compile(pattern)
        tree = list(parser.parse(regex.pattern, regex.flags & ~re.DEBUG))
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f'is no regular expression: {error}') from error
    if not isinstance(regex.pattern, str):
        raise ValueError('is a pattern of bytes: write one of text')
    problems = list(dict.fromkeys([*_unfit(tree), *_too_long(tree)]))
    if not problems and (ways := _ways(tree)) > MAX_WAYS:
        problems.append(
            f'may try {ways:,} ways at one place of a hostile text (at most {MAX_WAYS:,}): repeat in fewer places, or '
            'possessively, such as [a-z]{1,40}+'
        )
    if problems:
        raise ValueError('; '.join(problems))
    return _measured(regex, tree)


def measured(pattern: str) -> Bounded:
    """A pattern of our own, known to be fit."""
    return _measured(re.compile(pattern), list(parser.parse(pattern)))


def _measured(regex: re.Pattern[str], tree: list[Item]) -> Bounded:
    return Bounded(regex, re.compile(_prefix(tree), regex.flags & ~re.DEBUG), _width(tree)[1])


def _children(item: Item) -> Iterator[list[Item]]:
    kind, value = item
    if kind is op.BRANCH:
        yield from map(list, value[1])
    elif kind is op.SUBPATTERN:
        yield list(value[3])
    elif kind in _REPEATS:
        yield list(value[2])
    elif kind is op.ATOMIC_GROUP:
        yield list(value)
    elif kind in _LOOKS:
        yield list(value[1])


def _all(tree: Sequence[Item]) -> Iterator[Item]:
    for item in tree:
        yield item
        for child in _children(item):
            yield from _all(child)


def _unfit(tree: Sequence[Item]) -> Iterator[str]:
    """What has no meaning where a text arrives in pieces."""
    known = (*_REPEATS, op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN, op.BRANCH, op.SUBPATTERN, op.ATOMIC_GROUP)
    outer = {id(value) for kind, value in tree if kind in _LOOKS}
    for kind, value in _all(tree):
        if kind is op.AT:
            if value not in _BOUNDARIES:
                yield r'uses an anchor (^, $, \A or \Z), but a stream has no such places: use \b, or look around'
        elif kind in _LOOKS:
            if _width(list(value[1]))[1] > MAX_LOOK:
                yield f'looks further around than {MAX_LOOK} characters'
            elif id(value) not in outer:
                yield 'looks around inside of a group: do so in front of the groups, or behind them'
        elif kind in (op.GROUPREF, op.GROUPREF_EXISTS):
            yield 'refers back to a group: write out what may stand there'
        elif kind not in known:
            yield f'uses {kind}, which is not supported here'


def _too_long(tree: Sequence[Item]) -> Iterator[str]:
    least, most = _width(tree)
    if not least:
        yield 'matches an empty text'
    if most > MAX_WIDTH:
        how = 'has no longest match' if most > 1 << 31 else f'may match {most} characters'
        yield f'{how} (at most {MAX_WIDTH}): a stream holds back as much; give bounds, such as {{1,40}} for + and {{0,40}} for *'


def _width(tree: Sequence[Item]) -> tuple[int, int]:
    """The shortest and the longest match."""
    least = most = 0
    for kind, value in tree:
        if kind in (op.LITERAL, op.NOT_LITERAL, op.ANY, op.IN):
            low = high = 1
        elif kind in _REPEATS:
            times, until, body = value
            low, high = _width(list(body))
            low, high = low * times, high * int(until)
        elif kind in (op.BRANCH, op.SUBPATTERN, op.ATOMIC_GROUP):
            widths = [_width(child) for child in _children((kind, value))]
            low, high = min(w[0] for w in widths), max(w[1] for w in widths)
        else:
            low = high = 0
        least, most = least + low, most + high
    return least, most


def _ways(tree: Sequence[Item]) -> int:
    """How many ways there are, at most, to walk through the pattern from one place: what backtracking may have to try."""
    ways = 1
    for item in tree:
        ways *= _ways_of(item)
        if ways > 1 << 62:
            return 1 << 62
    return ways


def _ways_of(item: Item) -> int:
    kind, value = item
    if kind is op.BRANCH:
        return sum(_ways(child) for child in _children(item))
    if kind in (op.ATOMIC_GROUP, op.POSSESSIVE_REPEAT):
        return max(map(_ways, _children(item)))
    if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
        times, until, body = value
        inner, until = _ways(list(body)), int(until)
        if inner == 1:
            return until - int(times) + 1
        return 1 << 62 if until > 62 else min(sum(inner**n for n in range(times, until + 1)), 1 << 62)
    return max(map(_ways, _children(item)), default=1)


def _prefix(tree: Sequence[Item]) -> str:
    """A pattern for the beginnings of what the tree matches, up to the end of the text. It may find a few too many."""
    if not tree:
        return r'\Z'
    item, rest = tree[0], tree[1:]
    if item[0] in _LOOKS:
        way, body = item[1]
        return (
            f'{_whole(item)}{_prefix(rest)}' if way < 0 else f'(?:{_prefix(list(body))}|{_whole(item)}{_prefix(rest)})'
        )
    return f'(?:{_part(item)}|{_whole(item)}{_prefix(rest)})'


def _part(item: Item) -> str:
    """The beginnings of one item."""
    kind, value = item
    if kind in _REPEATS:
        _, until, body = value
        before = f'(?:{_said(body)}){{0,{int(until) - 1}}}' if until > 1 else ''
        return before + _prefix(list(body))
    if kind in (op.BRANCH, op.SUBPATTERN, op.ATOMIC_GROUP):
        inner = '|'.join(_prefix(child) for child in _children(item))
        return f'{_flags(value) if kind is op.SUBPATTERN else "(?:"}{inner})'
    return r'\Z'


def _said(tree: Sequence[Item]) -> str:
    return ''.join(map(_whole, tree))


def _whole(item: Item) -> str:
    """The item as a pattern again, without its groups' names and numbers."""
    kind, value = item
    if kind is op.LITERAL:
        return re.escape(chr(value))
    if kind is op.NOT_LITERAL:
        return f'[^{_in_class(op.LITERAL, value)}]'
    if kind is op.ANY:
        return '.'
    if kind is op.IN:
        negated = value[0][0] is op.NEGATE
        members = ''.join(_in_class(*member) for member in value[negated:])
        return f'[{"^" if negated else ""}{members}]'
    if kind is op.AT:
        return r'\b' if value is op.AT_BOUNDARY else r'\B'
    if kind in _REPEATS:
        times, until, body = value
        return f'(?:{_said(body)}){{{times},{int(until)}}}{_MOODS[kind]}'
    if kind in _LOOKS:
        way, body = value
        return f'(?{"<" if way < 0 else ""}{"=" if kind is op.ASSERT else "!"}{_said(body)})'
    inner = '|'.join(_said(child) for child in _children(item))
    return f'{_flags(value) if kind is op.SUBPATTERN else _OPENINGS[kind]}{inner})'


def _flags(subpattern: Any) -> str:
    """`(?:` with the flags that the group sets or unsets."""
    _, added, removed, _ = subpattern
    on, off = (''.join(letter for letter, bit in _LETTERS.items() if bits & bit) for bits in (added, removed))
    return f'(?{on}{"-" if off else ""}{off}:'


_LETTERS = {'a': re.A.value, 'i': re.I.value, 'm': re.M.value, 's': re.S.value, 'u': re.U.value, 'x': re.X.value}


def _in_class(kind: Any, value: Any) -> str:
    if kind is op.RANGE:
        return f'{_in_class(op.LITERAL, value[0])}-{_in_class(op.LITERAL, value[1])}'
    return _CATEGORIES[value] if kind is op.CATEGORY else re.escape(chr(value))
