"""Deadlines: cut what takes too long, by the run's own clock, and say which limit it was."""

from __future__ import annotations

import asyncio
import math
import types
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from types import TracebackType
from typing import Any

from lamella.core.clock import Clock, TimerHandle
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


Cut = Callable[[str, float], LamellaError]  # the error for a limit, by its name and its seconds


class Patience:
    """How long one call may be waited for: in all, until its first content, and between two parts of it.

    `with patience:` around each wait for it; the waits are added up, so that the time between them, which is the reader's, is
    never cut. After `heard_content` the limit for the first content is off. In one long wait `heard` tells of each part.
    One timer serves for the whole of a call: it is moved when it goes off too early.
    """

    __slots__ = (
        '_cancelling',
        '_clock',
        '_cut',
        '_field',
        '_first',
        '_handle',
        '_limits',
        '_rings_at',
        '_since',
        '_task',
        '_until',
        '_waited',
        'expired',
    )

    def __init__(self, clock: Clock, limits: Timeouts, cut: Cut) -> None:
        self._clock, self._limits, self._cut = clock, limits, cut
        self._first = limits.first_content_s
        self._waited = 0.0
        self._handle: TimerHandle | None = None
        self._rings_at = self._until = math.inf
        self._field = ''
        self._task: asyncio.Task[Any] | None = None
        self.expired = False

    def __enter__(self) -> None:
        task = self._task = asyncio.current_task()
        if task is None:
            raise RuntimeError('a timeout needs a running asyncio task')
        self._cancelling = task.cancelling()
        self._since = self._clock.now()
        self._aim(self._since)

    def _aim(self, now: float) -> None:
        """Until when this wait may take, if nothing more is heard."""
        limits, begun = self._limits, self._since - self._waited
        if self._first is not None:
            self._until, self._field = begun + self._first, 'first_content_s'
        elif limits.idle_s is not None:
            self._until, self._field = now + limits.idle_s, 'idle_s'
        else:
            self._until = math.inf
        if limits.total_s is not None and begun + limits.total_s < self._until:
            self._until, self._field = begun + limits.total_s, 'total_s'
        if self._until < self._rings_at:
            self._ring_at(self._until, now)

    def _ring_at(self, when: float, now: float) -> None:
        self.close()
        self._handle, self._rings_at = self._clock.call_later(max(0.0, when - now), self._ring), when

    def _ring(self) -> None:
        self._handle, self._rings_at = None, math.inf
        if self._task is None or self._until == math.inf:
            return
        if (now := self._clock.now()) < self._until:
            self._ring_at(self._until, now)
            return
        self.expired = True
        self._task.cancel()

    def heard_content(self) -> None:
        self._first = None

    def heard(self, part: StreamPart) -> None:
        """A part came in the middle of a wait."""
        if type(part) in CONTENT_PARTS:
            self._first = None
        if self._task is not None:
            self._aim(self._clock.now())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        self._waited += self._clock.now() - self._since
        if not self.expired or task is None:
            return
        self.expired = False
        if task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._cut(self._field, getattr(self._limits, self._field)) from error

    def close(self) -> None:
        """Stop the timer."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle, self._rings_at = None, math.inf


@types.coroutine
def _the_rest(step: Generator[Any, Any, StreamPart], signal: Any) -> Generator[Any, Any, StreamPart]:
    """Goes on with a step that has begun, and waits for `signal`."""
    while True:
        try:
            value = yield signal
        except BaseException as error:
            resume: Callable[[Any], Any] = step.throw
            value = error
        else:
            resume = step.send
        try:
            signal = resume(value)
        except StopIteration as done:
            result: StreamPart = done.value
            return result


async def watched(parts: AsyncIterator[StreamPart], patience: Patience) -> AsyncGenerator[StreamPart, None]:
    """The same parts, each waited for with patience. They are left open: close them.

    A part that is there already is taken by one step of the inner stream, without a clock or a timer.
    """
    pull, first = parts.__anext__, True
    part: StreamPart
    try:
        while True:
            step: Any = pull().__await__()
            try:
                signal = step.send(None)
            except StopIteration as ready:
                part = ready.value
            except StopAsyncIteration:
                return
            else:
                with patience:
                    try:
                        part = await _the_rest(step, signal)
                    except StopAsyncIteration:
                        return
            if first and type(part) in CONTENT_PARTS:
                first = False
                patience.heard_content()
            yield part
    finally:
        patience.close()


def not_in_time(who: str) -> Cut:
    """The errors for the limits of one model's calls."""

    def cut(field: str, seconds: float) -> LamellaError:
        return LamellaError('DEADLINE_EXCEEDED', f'{who}: {_MISSING[field]} within {field}={seconds:g}')

    return cut


_MISSING = {'total_s': 'not done', 'first_content_s': 'no content', 'idle_s': 'no further part'}
