"""One thing for each event loop: connections belong to the loop that opened them, and a store may be used from several."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar
from weakref import finalize

T = TypeVar('T')


class PerLoop(Generic[T]):
    """Made where it is first asked for, and closed when that loop ends, or by `aclose`; then the next use makes a new one.

    `close` must not need the object that holds this one: it runs when that is forgotten, too.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[object]]) -> None:
        self._make, self._close = make, close
        self._kept: dict[asyncio.AbstractEventLoop, _Kept[T]] = {}
        finalize(self, _close_forgotten, self._kept).atexit = False

    async def get(self) -> T:
        loop = asyncio.get_running_loop()
        kept = self._kept.get(loop)
        if kept is None:
            for ended in [other for other in list(self._kept) if other.is_closed()]:
                self._kept.pop(ended, None)
            kept = self._kept[loop] = _Kept(self._make())
            kept.keeper = _until_the_loop_ends(self._kept, loop, self._close)
            await kept.keeper.asend(None)
        return kept.thing

    async def aclose(self) -> None:
        """Close this loop's. Those of other loops are closed when these end."""
        kept = self._kept.get(asyncio.get_running_loop())
        if kept is not None and kept.keeper is not None:
            await kept.keeper.aclose()


class _Kept(Generic[T]):
    def __init__(self, thing: T) -> None:
        self.thing = thing
        self.keeper: AsyncGenerator[None, None] | None = None
        self._closing: asyncio.Future[None] | None = None

    def start_closing(self) -> None:
        if self.keeper is not None:
            self._closing = asyncio.ensure_future(self.keeper.aclose())


def _close_forgotten(kept: dict[asyncio.AbstractEventLoop, _Kept[T]]) -> None:
    """Nobody closed it, and nobody holds it any longer. May run in any thread."""
    for loop, one in list(kept.items()):
        with suppress(RuntimeError):  # the loop has ended, and closed it itself
            loop.call_soon_threadsafe(one.start_closing)


async def _until_the_loop_ends(
    kept: dict[asyncio.AbstractEventLoop, _Kept[T]],
    loop: asyncio.AbstractEventLoop,
    close: Callable[[T], Awaitable[object]],
) -> AsyncGenerator[None, None]:
    """`asyncio.run` closes the generators that are still open when it ends (PEP 525); this one then closes what is kept."""
    try:
        yield
    finally:
        one = kept.pop(loop, None)
        if one is not None:
            await close(one.thing)
