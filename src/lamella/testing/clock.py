"""A clock that moves only when a test or a sleeper moves it."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

_RESTS = 20  # turns of the loop in which others may act on a timer before the next one


class FakeClock:
    """A `Clock` without waiting. By default `sleep` moves the time forward itself and returns at once (after letting others
    run); with `auto=False` sleepers and timers wait for `advance`.

    `slept` lists every sleep in seconds.
    """

    def __init__(self, start: float = 1000.0, *, wall: float = 1_800_000_000.0, auto: bool = True) -> None:
        self._now, self._offset, self._auto = start, wall - start, auto
        self._timers: list[tuple[float, int, _Timer]] = []
        self._order = count()
        self.slept: list[float] = []

    def now(self) -> float:
        return self._now

    def time(self) -> float:
        return self._now + self._offset

    def call_later(self, seconds: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(callback)
        heapq.heappush(self._timers, (self._now + seconds, next(self._order), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        timer = self.call_later(seconds, lambda: None if woken.done() else woken.set_result(None))
        if self._auto:
            loop.call_soon(self._pass, self._now + max(0.0, seconds), woken, 0)
        try:
            await woken
        finally:
            timer.cancel()

    def _pass(self, target: float, woken: asyncio.Future[None], rests: int) -> None:
        """Move on from timer to timer, and let others act on each, until the sleeper wakes or is cancelled."""
        if woken.done():
            return
        if not rests:
            self._move(min(target, self._timers[0][0]) if self._timers else target)
            rests = _RESTS
        asyncio.get_running_loop().call_soon(self._pass, target, woken, rests - 1)

    async def advance(self, seconds: float) -> None:
        """Move the time forward; what was waiting for it runs, in order."""
        target = self._now + seconds
        while self._timers and self._timers[0][0] <= target:
            self._move(self._timers[0][0])
            await asyncio.sleep(0)
        self._move(target)
        await asyncio.sleep(0)

    def _move(self, target: float) -> None:
        while self._timers and self._timers[0][0] <= target:
            when, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            timer.fire()
        self._now = max(self._now, target)


class _Timer:
    """One scheduled callback."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self._callback = None

    def fire(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()
