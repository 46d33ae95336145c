"""A second try beside a first one that takes long: the first good result wins, and nobody is left running."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from lamella.core.clock import Clock
from lamella.types import LamellaError

T = TypeVar('T')
MAX_MODELS = 256


class Race(Generic[T]):
    """One race of at most two. `winner` is its index, `others` what became of the other: its result, its error, or `None`
    when it was stopped."""

    __slots__ = ('_clock', '_tasks', 'first_took_s', 'others', 'winner')

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tasks: list[asyncio.Task[T]] = []
        self.winner = 0
        self.others: list[T | BaseException | None] = []
        self.first_took_s: float | None = None

    async def run(
        self, first: Coroutine[Any, Any, T], delay_s: float, second: Callable[[], Coroutine[Any, Any, T] | None]
    ) -> T:
        """The first good result. `second` is asked for a second try when the first is not done after `delay_s`, and may have
        none. Raises the first one's LamellaError when no try is good, and any other exception of either at once.
        """
        started = self._clock.now()
        tasks = self._tasks = [asyncio.ensure_future(first)]
        try:
            await self._wait(delay_s)
            if not tasks[0].done() and (more := second()) is not None:
                tasks.append(asyncio.ensure_future(more))
            result = await self._first_good()
            self.first_took_s = self._clock.now() - started
            return result
        finally:
            await self._end()

    async def _wait(self, delay_s: float) -> None:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self._clock.call_later(delay_s, lambda: None if over.done() else over.set_result(None))
        waited_for: list[asyncio.Future[Any]] = [self._tasks[0], over]
        try:
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()

    async def _first_good(self) -> T:
        while True:
            for index, task in enumerate(self._tasks):
                if task.done() and not _has_failed(task):
                    self.winner = index
                    return task.result()
            running = [task for task in self._tasks if not task.done()]
            if not running:
                return self._tasks[0].result()  # which raises its error
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)

    async def _end(self) -> None:
        """Stop who still runs and wait until it has ended, whatever happens meanwhile."""
        late: asyncio.CancelledError | None = None
        for task in self._tasks:
            task.cancel()
        while running := [task for task in self._tasks if not task.done()]:
            try:
                await asyncio.wait(running)
            except asyncio.CancelledError as error:
                late = error
        self.others = [_outcome(task) for index, task in enumerate(self._tasks) if index != self.winner]
        _outcome(self._tasks[self.winner])
        if late is not None:
            raise late


def _has_failed(task: asyncio.Task[Any]) -> bool:
    return not task.cancelled() and isinstance(task.exception(), LamellaError)


def _outcome(task: asyncio.Task[T]) -> T | BaseException | None:
    if task.cancelled():
        return None
    error = task.exception()
    return task.result() if error is None else error


class Share:
    """So many extras for each call, and one to begin with. At most ten are saved up."""

    __slots__ = ('_left', '_ratio')

    def __init__(self, ratio: float) -> None:
        self._ratio, self._left = ratio, 1.0

    def called(self) -> None:
        self._left = min(10.0, self._left + self._ratio)

    def take(self) -> bool:
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Recent:
    """The last `size` durations, in order of time and of length."""

    __slots__ = ('_by_length', '_by_time')

    def __init__(self, size: int) -> None:
        self._by_time: deque[float] = deque(maxlen=size)
        self._by_length: list[float] = []

    def __len__(self) -> int:
        return len(self._by_time)

    def add(self, seconds: float) -> None:
        if len(self._by_time) == self._by_time.maxlen:
            del self._by_length[bisect_left(self._by_length, self._by_time[0])]
        self._by_time.append(seconds)
        insort(self._by_length, seconds)

    def at(self, percentile: float) -> float:
        """The shortest duration that so many percent do not exceed (the nearest rank)."""
        count = len(self._by_length)
        return self._by_length[min(count - 1, int(count * percentile / 100))]


class Latencies:
    """Recent durations by name, of the names that were used last."""

    __slots__ = ('_recent', '_size')

    def __init__(self, size: int) -> None:
        self._size = size
        self._recent: OrderedDict[str, Recent] = OrderedDict()

    def of(self, name: str) -> Recent:
        recent = self._recent.get(name)
        if recent is None:
            recent = self._recent[name] = Recent(self._size)
            if len(self._recent) > MAX_MODELS:
                self._recent.popitem(last=False)
        else:
            self._recent.move_to_end(name)
        return recent

    def __len__(self) -> int:
        return len(self._recent)


def known(others: Sequence[Any]) -> Any:
    """What became of the other, where there was one."""
    return others[0] if others else None
