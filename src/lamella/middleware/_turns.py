"""A line of waiters for one thing: first come, first served, and whoever leaves holds up nobody."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

Turn = asyncio.Future[None]


class Turns:
    """Waiters of one event loop, in order. `opens_at` is when the first of them will go, by the clock, as far as is known."""

    __slots__ = ('_waiting', 'opens_at')

    def __init__(self) -> None:
        self._waiting: OrderedDict[Turn, None] = OrderedDict()
        self.opens_at = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """A place at the end of the line, to be awaited until it is the first, and left with the block."""
        mine: Turn = asyncio.get_running_loop().create_future()
        if not self._waiting:
            mine.set_result(None)
        self._waiting[mine] = None
        try:
            yield mine
        finally:
            was_first = next(iter(self._waiting)) is mine
            del self._waiting[mine]
            if was_first and self._waiting:
                following = next(iter(self._waiting))
                if not following.done():
                    following.set_result(None)


class Lines:
    """A line for each key, while somebody waits in it. Event loops have lines of their own."""

    __slots__ = ('_lines',)

    def __init__(self) -> None:
        self._lines: dict[tuple[asyncio.AbstractEventLoop, str], Turns] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def of(self, key: str) -> Turns | None:
        return self._lines.get((asyncio.get_running_loop(), key))

    @contextmanager
    def turn(self, key: str) -> Iterator[tuple[Turns, Turn]]:
        """A place at the end of the key's line, as `Turns.turn`."""
        place = asyncio.get_running_loop(), key
        line = self._lines.setdefault(place, Turns())
        try:
            with line.turn() as mine:
                yield line, mine
        finally:
            if not line:
                del self._lines[place]
