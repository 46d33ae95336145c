"""Deadlines: cut what takes too long, by the run's own clock, and say which limit it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import TracebackType

from lamella.core.clock import Clock
from lamella.types import CONTENT_PARTS, ConfigError, Data, LamellaError, StreamPart


class Timeouts(Data, frozen=True):
    """Limits in seconds, `None` for none: the whole run, the wait for the first content of a model call, and the wait
    between two parts of its stream. The last two hold for streamed calls and can be retried like any provider's timeout."""

    total_s: float | None = None
    first_content_s: float | None = None
    idle_s: float | None = None

    def __post_init__(self) -> None:
        for name in ('total_s', 'first_content_s', 'idle_s'):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0):
                raise ConfigError(f'{name}={value!r}: give a number of seconds above 0, or None for no limit')


class Cutoff:
    """`async with Cutoff(…)`: after `seconds` the block is cancelled and `error()` raised in its place.

    A cancellation that comes from outside always passes.
    """

    __slots__ = ('_cancelling', '_clock', '_error', '_expired', '_handle', '_seconds', '_task')

    def __init__(self, clock: Clock, seconds: float, error: Callable[[], LamellaError]) -> None:
        self._clock, self._seconds, self._error = clock, seconds, error
        self._expired = False

    async def __aenter__(self) -> Cutoff:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError('a timeout needs a running asyncio task')
        self._task, self._cancelling = task, task.cancelling()
        self._handle = self._clock.call_later(max(self._seconds, 0.0), self._expire)
        return self

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._handle.cancel()
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._error() from error


async def watched(
    parts: AsyncIterator[StreamPart], clock: Clock, limits: Timeouts, who: str
) -> AsyncGenerator[StreamPart, None]:
    """The same parts; DEADLINE_EXCEEDED when the first content or the next part is too long in coming."""
    first_until = None if limits.first_content_s is None else clock.now() + limits.first_content_s
    while True:
        field = 'idle_s' if first_until is None else 'first_content_s'
        wait = limits.idle_s if first_until is None else first_until - clock.now()
        part = await _next(parts, clock, wait, who, field, limits)
        if part is None:
            return
        if type(part) in CONTENT_PARTS:
            first_until = None
        yield part


async def _next(
    parts: AsyncIterator[StreamPart], clock: Clock, wait: float | None, who: str, field: str, limits: Timeouts
) -> StreamPart | None:
    if wait is None:
        return await anext(parts, None)

    def error() -> LamellaError:
        what = 'no content' if field == 'first_content_s' else 'no further part'
        return LamellaError('DEADLINE_EXCEEDED', f'{who}: {what} within {field}={getattr(limits, field):g}')

    async with Cutoff(clock, wait, error):
        return await anext(parts, None)
