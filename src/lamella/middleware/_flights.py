"""One call for all who ask the same at once: in this process by a flight that others wait for, among processes by a lease."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Literal

from lamella.core.clock import Clock, TimerHandle
from lamella.core.ports import Lease, Store
from lamella.core.timeouts import Cutoff
from lamella.types import LamellaError

Outcome = Literal['answered', 'private', 'failed', 'left']


class Flight:
    """One call that others wait for. It ends `answered` with something to share, `private` with an answer that is its own
    caller's alone, `failed` with an error, or `left`: then it is as if it had never begun."""

    __slots__ = ('_over', 'answer', 'error', 'outcome')

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self.answer: Any = None
        self.error: LamellaError | None = None
        self._over = asyncio.Event()

    def end(self, outcome: Outcome, answer: Any = None, error: LamellaError | None = None) -> None:
        """The first word counts."""
        if self.outcome is None:
            self.outcome, self.answer, self.error = outcome, answer, error
            self._over.set()

    async def over(self, clock: Clock, patience_s: float) -> Outcome | None:
        """How it ended, or `None` when that took too long."""
        if not self._over.is_set():
            late = LamellaError('DEADLINE_EXCEEDED', 'another call with the same request takes too long')
            try:
                async with Cutoff(clock, patience_s, lambda: late):
                    await self._over.wait()
            except LamellaError as error:
                if error is not late:
                    raise
        return self.outcome


class Flights:
    """The flights of one app, by key. Each event loop has its own: what they share is the store."""

    def __init__(self) -> None:
        self._open: dict[tuple[asyncio.AbstractEventLoop, str], Flight] = {}

    def __len__(self) -> int:
        return len(self._open)

    def of(self, key: str) -> Flight | None:
        return self._open.get((asyncio.get_running_loop(), key))

    def begin(self, key: str) -> Flight:
        flight = self._open[asyncio.get_running_loop(), key] = Flight()
        return flight

    def end(
        self, key: str, flight: Flight, outcome: Outcome, answer: Any = None, error: LamellaError | None = None
    ) -> None:
        """Everybody who waits goes on. Harmless when it is over already."""
        place = asyncio.get_running_loop(), key
        if self._open.get(place) is flight:
            del self._open[place]
        flight.end(outcome, answer, error)


class Heartbeat:
    """`async with Heartbeat(…)`: keeps a lease for as long as the block takes, and lets it go at its end, unless `keep` is set.

    Nothing runs until a third of the lease has passed. A store that is away, or a lease that was lost, ends it.
    """

    __slots__ = ('_clock', '_lease', '_store', '_task', '_timer', '_ttl_s', 'keep')

    def __init__(self, store: Store, lease: Lease | None, ttl_s: float, clock: Clock) -> None:
        self._store, self._lease, self._ttl_s, self._clock = store, lease, ttl_s, clock
        self._timer: TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.keep = False

    async def __aenter__(self) -> Heartbeat:
        if self._lease is not None:
            self._timer = self._clock.call_later(self._ttl_s / 3, self._beat)
        return self

    def _beat(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        try:
            lease = await self._store.renew(self._lease, self._ttl_s) if self._lease is not None else None
        except LamellaError:
            return
        if lease is not None:
            self._lease = lease
            self._timer = self._clock.call_later(self._ttl_s / 3, self._beat)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        if self._lease is not None and not self.keep:
            try:
                await self._store.release(self._lease)
            except LamellaError:
                return  # it ends by itself
