"""The time of a run that is recorded, and of its replay."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

from lamella.core.clock import Clock, TimerHandle

_RESTS = 20  # turns of the loop in which others may act before time is skipped


class ToldClock:
    """The clock of a run, whose waits are told."""

    def __init__(self, clock: Clock, told: Callable[[float], None]) -> None:
        self._clock, self._told = clock, told
        self.now, self.time = clock.now, clock.time

    async def sleep(self, seconds: float) -> None:
        self._told(seconds)
        await self._clock.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> TimerHandle:
        return self._clock.call_later(seconds, callback)


class SkippingClock:
    """Time in which nobody waits: while somebody sleeps, it skips to the next timer as soon as all others have acted.

    Otherwise it goes on as the clock below it does, so that timers around something that really takes time are kept too.
    """

    def __init__(self, clock: Clock, wall: float) -> None:
        self._clock, self._skipped, self._wall = clock, 0.0, wall - clock.time()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._order = count()
        self._asleep = 0
        self._skipping = False

    def now(self) -> float:
        return self._clock.now() + self._skipped

    def time(self) -> float:
        return self._clock.time() + self._skipped + self._wall

    def call_later(self, seconds: float, callback: Callable[[], None]) -> TimerHandle:
        timer = _Timer(callback)
        timer.real = self._clock.call_later(seconds, timer.fire)
        heapq.heappush(self._timers, (self.now() + seconds, next(self._order), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        timer = self.call_later(seconds, lambda: None if woken.done() else woken.set_result(None))
        self._asleep += 1
        if not self._skipping:
            self._skipping = True
            loop.call_soon(self._skip, loop, _RESTS)
        try:
            await woken
        finally:
            self._asleep -= 1
            timer.cancel()

    def _skip(self, loop: asyncio.AbstractEventLoop, rests: int) -> None:
        if not self._asleep:
            self._skipping = False
            return
        if not rests:
            self._jump()
        loop.call_soon(self._skip, loop, rests - 1 if rests else _RESTS)

    def _jump(self) -> None:
        """To the next timer that somebody waits for; those that are due fire."""
        while self._timers and self._timers[0][2].is_over:
            heapq.heappop(self._timers)
        if not self._timers:
            return
        self._skipped += max(0.0, self._timers[0][0] - self.now())
        now = self._timers[0][0]
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2].fire()


class _Timer:
    """A callback that fires once: when its time has come, or is skipped to."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback
        self.real: TimerHandle | None = None

    @property
    def is_over(self) -> bool:
        return self._callback is None

    def cancel(self) -> None:
        self._callback = None
        if self.real is not None:
            self.real.cancel()

    def fire(self) -> None:
        callback = self._callback
        self.cancel()
        if callback is not None:
            callback()
