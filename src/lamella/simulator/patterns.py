"""A string for a regular expression: for the common subset that schemas use (classes, groups, alternatives, repeats)."""

from __future__ import annotations

import re
from collections.abc import Iterator

_CLASSES = {'d': '0123456789', 'w': 'abcdefghijklmnopqrstuvwxyz', 's': ' ', 'D': 'abcdefg', 'W': '-.', 'S': 'abcdefg'}
_ESCAPES = {'n': '\n', 't': '\t', 'r': '\r', 'f': '\f', 'v': '\v'}
_NAMED = re.compile(r'\?(?::|P<\w+>|<\w+>)')
_REPEAT = re.compile(r'\{(\d+)(?:(,)(\d*))?\}')
_PRINTABLE = [chr(code) for code in range(97, 123)] + [chr(code) for code in range(32, 127)]
MAX_ATOMS = 20_000


class Unsupported(Exception):
    """The expression uses something outside of the subset."""


def examples(pattern: str, index: int = 0, min_length: int = 0) -> Iterator[str]:
    """Strings in which `pattern` is found, short ones first; another `index` gives others where the pattern leaves a choice.

    Nothing comes when the pattern is beyond the subset.
    """
    for extra in dict.fromkeys((0, 1, 2, 4, 8, 16, min_length)):
        try:
            text = _Reader(pattern, extra, index).whole()
        except (Unsupported, IndexError, ValueError):
            return
        if found(pattern, text):
            yield text


def found(pattern: str, text: str) -> bool:
    """JSON Schema patterns are not anchored. A pattern that Python cannot read is found nowhere."""
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


class _Reader:
    """One pass over the expression that writes as it reads; open repeats get `extra` turns more than they need."""

    def __init__(self, pattern: str, extra: int, index: int) -> None:
        self.pattern, self.extra, self.at = pattern, extra, 0
        self.turn, self.atoms = index, 0

    def whole(self) -> str:
        text = self.alternatives()
        if self.at < len(self.pattern):
            raise Unsupported(self.pattern[self.at])
        return text

    def alternatives(self) -> str:
        """The first alternative is taken; the others are read to find the end."""
        first = self.sequence()
        while self.peek() == '|':
            self.at += 1
            self.sequence()
        return first

    def sequence(self) -> str:
        written = []
        while self.peek() not in ('', '|', ')'):
            start = self.at
            once = self.atom()
            written.append(self.repeated(start, once))
        return ''.join(written)

    def repeated(self, start: int, once: str) -> str:
        least, most = self.bounds()
        count = least + self.extra if most is None else min(most, least + self.extra)
        end, again = self.at, []
        for _ in range(count - 1):
            self.at = start
            again.append(self.atom())
        self.at = end
        return (once + ''.join(again)) if count else ''

    def bounds(self) -> tuple[int, int | None]:
        """How often the atom before is wanted, at least and at most."""
        sign = self.peek()
        low, high = {'*': (0, None), '+': (1, None), '?': (0, 1)}.get(sign, (1, 1))
        braces = _REPEAT.match(self.pattern, self.at)
        if braces:
            low = int(braces[1])
            high = low if not braces[2] else (int(braces[3]) if braces[3] else None)
            self.at = braces.end()
        elif sign in ('*', '+', '?'):
            self.at += 1
        else:
            return 1, 1
        if self.peek() == '?':
            self.at += 1
        return low, high

    def atom(self) -> str:
        self.atoms += 1
        if self.atoms > MAX_ATOMS:
            raise Unsupported('too long')
        sign = self.take()
        if sign in '^$':
            return ''
        if sign == '(':
            return self.group()
        if sign == '[':
            return self.pick(list(self.members()))
        if sign == '\\':
            return self.escaped()
        if sign in '*+?':
            raise Unsupported(sign)
        return self.pick(_PRINTABLE) if sign == '.' else sign

    def group(self) -> str:
        if self.peek() == '?':
            named = _NAMED.match(self.pattern, self.at)
            if named is None:
                raise Unsupported(self.pattern[self.at :])
            self.at = named.end()
        text = self.alternatives()
        if self.take() != ')':
            raise Unsupported('(')
        return text

    def escaped(self) -> str:
        sign = self.take()
        if sign in 'bB':
            return ''
        if sign in _CLASSES:
            return self.pick(list(_CLASSES[sign]))
        if sign.isalnum() and sign not in _ESCAPES:
            raise Unsupported(f'\\{sign}')
        return _ESCAPES.get(sign, sign)

    def members(self) -> Iterator[str]:
        """The characters of a class, or what the class leaves of the printable ones when it is negated."""
        negated = self.peek() == '^'
        self.at += negated
        named: list[str] = []
        first = True
        while first or self.peek() != ']':
            named += self.span()
            first = False
        self.at += 1
        yield from [sign for sign in _PRINTABLE if sign not in named] if negated else named

    def span(self) -> list[str]:
        low = self.member()
        ends = self.pattern[self.at + 1 : self.at + 2]
        if len(low) > 1 or self.peek() != '-' or ends in ('', ']'):
            return low
        self.at += 1
        high = self.member()
        return [chr(code) for code in range(ord(low[0]), ord(high[0]) + 1)]

    def member(self) -> list[str]:
        sign = self.take()
        if sign != '\\':
            return [sign]
        sign = self.take()
        if sign in _CLASSES:
            return list(_CLASSES[sign])
        return [_ESCAPES.get(sign, sign)]

    def pick(self, signs: list[str]) -> str:
        """Another sign at each turn, so that repeats do not look like stuttering."""
        if not signs:
            raise Unsupported('[]')
        self.turn += 1
        return signs[(self.turn - 1) % len(signs)]

    def peek(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def take(self) -> str:
        sign = self.pattern[self.at]
        self.at += 1
        return sign
