"""Making a JSON value shorter: long lists and long texts lose their middle, and what is left is a JSON value still."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from lamella.middleware._cut_text import cut_text
from lamella.types import DataPart, MediaPart, TextPart

_TEXTS, _SHORTEST_TEXT, _FEWEST_ITEMS, _DEEPEST = 200, 40, 3, 64
_BEYOND = 1 << 60  # what is nested too deeply, or holds a number of too many digits, cannot be written at all


def length_of(value: Any) -> int:
    """Characters of the value as a model gets it: a text as it is, anything else as JSON; media count for nothing."""
    if isinstance(value, str):
        return len(value)
    try:
        return len(_written(_without_media(value)))
    except (RecursionError, ValueError):
        return _BEYOND


def fits(value: Any, most: int) -> bool:
    """Whether the value is no longer than that. Quick where it is much shorter."""
    if isinstance(value, str):
        return len(value) <= most
    with suppress(msgspec.MsgspecError, TypeError, ValueError, RecursionError, OverflowError):
        if len(msgspec.json.encode(value)) <= most:  # bytes, of which there are no fewer than characters
            return True
    return length_of(value) <= most


def shortened(value: Any, most: int, tail_share: float, more: str = '') -> Any:
    """A value of the same kind that is at most `most` characters long, with `more` said where something is cut.

    Lists and objects keep as many items as fit with their texts shortened to 200 characters, and then texts get what room
    there is. Media stay as they are. What cannot be made so short is told of by the beginning and the end of its JSON.
    """
    if isinstance(value, str):
        return cut_text(value, most, tail_share, more=more)
    note = f'…{more} …' if more else ''
    room = most - length_of({'…': note}) - 4 if note else most
    cut = _Cut(value, room, tail_share)
    for texts in (_TEXTS, _SHORTEST_TEXT):
        items = cut.largest(_FEWEST_ITEMS, cut.most_items, partial(cut.applied, texts))
        if items is not None:
            longest = cut.largest(texts, max(texts, room), partial(cut.with_items, items))
            return _noted(cut.applied(longest or texts, items), note)
    return {'cut': cut_text(_shown(value), max(0, most * 3 // 4 - 16), tail_share, more=more)}


class _Cut:
    """A value, and ways to shorten it: no text longer than so much, no list or object with more than so many items."""

    def __init__(self, value: Any, room: int, tail_share: float) -> None:
        self._value, self._room, self._tail_share = value, room, tail_share
        self.most_items = _most_items(value)

    def largest(self, low: int, high: int, shorter: Callable[[int], Any]) -> int | None:
        """The largest number from `low` to `high` with which the value fits, `None` when it does not fit with `low`."""
        if length_of(shorter(low)) > self._room:
            return None
        while low < high:
            middle = (low + high + 1) // 2
            if length_of(shorter(middle)) <= self._room:
                low = middle
            else:
                high = middle - 1
        return low

    def applied(self, longest: int, items: int) -> Any:
        return self._cut(self._value, longest, items, 0)

    def with_items(self, items: int, longest: int) -> Any:
        return self.applied(longest, items)

    def _cut(self, value: Any, longest: int, items: int, depth: int) -> Any:
        if isinstance(value, str):
            return cut_text(value, longest, self._tail_share)
        if isinstance(value, TextPart):
            return value.replace(text=cut_text(value.text, longest, self._tail_share))
        if not isinstance(value, (list, tuple, dict)) or _is_media(value):
            return value
        if depth >= _DEEPEST:
            return f'… {"keys" if isinstance(value, dict) else "items"} cut …'
        if isinstance(value, dict):
            pairs = self._ends(list(value.items()), items, lambda count: (_unused('…', value), f'{count:,} keys cut'))
            return {key: self._cut(item, longest, items, depth + 1) for key, item in pairs}
        kept = self._ends(list(value), items, lambda count: f'… {count:,} items cut …')
        return [self._cut(item, longest, items, depth + 1) for item in kept]

    def _ends(self, items: list[Any], most: int, note: Callable[[int], Any]) -> list[Any]:
        if len(items) <= most:
            return items
        tail = min(int(most * self._tail_share), most - 1)
        return [*items[: most - tail], note(len(items) - most), *items[len(items) - tail :]]


def _most_items(value: Any) -> int:
    """The size of the largest list or object in the value."""
    most, waiting = _FEWEST_ITEMS, [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, (list, tuple, dict)) and depth < _DEEPEST:
            most = max(most, len(one))
            waiting += [(item, depth + 1) for item in (one.values() if isinstance(one, dict) else one)]
    return most


def _noted(value: Any, note: str) -> Any:
    if not note:
        return value
    return {**value, _unused('…', value): note} if isinstance(value, dict) else [*value, note]


def _unused(key: str, taken: dict[Any, Any]) -> str:
    while key in taken:
        key += '…'
    return key


def _is_media(value: Any) -> bool:
    return isinstance(value, (MediaPart, DataPart)) or (isinstance(value, dict) and value.get('type') == 'media')


def _without_media(value: Any) -> Any:
    if _is_media(value):
        return None
    if isinstance(value, TextPart):
        return value.text
    if isinstance(value, dict):
        return {key: _without_media(item) for key, item in value.items()}
    return [_without_media(item) for item in value] if isinstance(value, (list, tuple)) else value


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(',', ':'), default=str)


def _shown(value: Any) -> str:
    try:
        return _written(value)
    except (RecursionError, ValueError) as error:
        return f'a {type(value).__name__} that cannot be shown ({type(error).__name__})'
