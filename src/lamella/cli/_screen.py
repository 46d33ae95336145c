"""What may reach a terminal: text without commands to it, values without credentials, and words for an error."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from lamella.cli._values import plain
from lamella.middleware._lines import one_line
from lamella.middleware._mask import MASK, masked
from lamella.types import LamellaError, Usage

_LONGEST = 4096
_JOINERS = '\u200c\u200d'  # scripts and emoji need them
_COMMANDS = frozenset(('Cc', 'Cf', 'Cs'))


def clean(text: str) -> str:
    """The text, lines and tabs too, without what commands a terminal or turns text around.

    Each character is judged alone, so that a sequence cannot get through in pieces.
    """
    return text if text.isprintable() else ''.join(map(_harmless, text))


def _harmless(c: str) -> str:
    if c.isprintable() or c in '\n\t' or c in _JOINERS:
        return c
    kind = unicodedata.category(c)
    if kind in _COMMANDS:
        return ''
    return '\n' if kind in ('Zl', 'Zp') else c


def whole(value: Any) -> str:
    """A value as JSON on several lines, for whoever decides on it: nothing in it is hidden but credentials.

    What cannot be seen is spelled out (`\\u202e`), and where text is left out this is said.
    """
    text = json.dumps(concealed(plain(value)), ensure_ascii=False, indent=2)
    seen = ''.join([c if c.isprintable() or c == '\n' else f'\\u{ord(c):04x}' for c in text])
    return seen if len(seen) <= _LONGEST else f'{seen[:_LONGEST]}\n… and {len(seen) - _LONGEST:,} characters more'


def concealed(value: Any) -> Any:
    """JSON data without what looks like a credential, by itself or by its name."""
    if isinstance(value, str):
        return _masked(value)
    if isinstance(value, Mapping):
        return {key: _named(key, item) for key, item in value.items()}
    return [concealed(item) for item in value] if isinstance(value, (list, tuple)) else value


def _named(name: Any, value: Any) -> Any:
    if not isinstance(value, str):
        return concealed(value)
    pair = json.dumps({name: value[:256]})
    hidden = _masked(value)
    return MASK if hidden == value and masked(pair) != pair else hidden


def _masked(text: str) -> str:
    """Masked in pieces that end between words, since a piece is masked as a whole."""
    if len(text) <= _LONGEST:
        return masked(text)
    end = max(text.rfind(' ', 0, _LONGEST), text.rfind('\n', 0, _LONGEST)) + 1 or _LONGEST
    return masked(text[:end]) + _masked(text[end:]) if end < len(text) else masked(text)


def problem_of(error: BaseException) -> str:
    """A failure on one line: the status, what was said, and how often it was tried."""
    if not isinstance(error, LamellaError):
        return one_line(masked(f'{type(error).__name__}: {error}'))
    attempts = f' (after {len(error.attempts)} attempts)' if len(error.attempts) > 1 else ''
    return one_line(masked(str(error))) + attempts


def spent(usage: Usage | None) -> str:
    """`12+30 tokens, $0.000120`: what is known of it."""
    if usage is None:
        return ''
    known = []
    if usage.input_tokens is not None or usage.output_tokens is not None:
        tokens = ['?' if count is None else f'{count:,}' for count in (usage.input_tokens, usage.output_tokens)]
        known.append(f'{"+".join(tokens)} tokens')
    return ', '.join([*known, *([] if usage.cost_usd is None else [f'${usage.cost_usd:.6f}'])])


def moment(at_s: float) -> str:
    """Local time, to the second."""
    return datetime.fromtimestamp(at_s, UTC).astimezone().strftime('%Y-%m-%d %H:%M:%S')


def width() -> int:
    """The columns of the terminal, 80 where there is none."""
    return max(20, shutil.get_terminal_size((80, 24)).columns)


def can_show(text: str, stream: TextIO) -> bool:
    """Whether the stream has these letters."""
    try:
        text.encode(stream.encoding or 'ascii')
    except (UnicodeEncodeError, LookupError):
        return False
    return True
