"""Who a layer's coroutine takes for its own task while it is stepped inside of the reader's.

`asyncio.timeout` and `TaskGroup` cancel the task that entered them. A coroutine hook that stands around a stream is stepped
by the reader's pulls, so that this would be the reader's task, also while the reader's own code runs. The stand-in takes the
cancellation in its place: it wakes the coroutine where that waits, or at the next pull, and nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any, cast

Resume = Callable[[Any], Any]


class StandIn:
    """The current task (docs.python.org, "Extending asyncio") while the coroutine runs. What it does not answer itself, the
    reader's task answers."""

    __slots__ = (
        '__weakref__',
        '_cancels',
        '_fut_waiter',
        '_loop',
        '_message',
        '_must_cancel',
        '_passed_on',
        '_task',
    )

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task: Any = None
        self._cancels = 0
        self._passed_on = False
        self._must_cancel = False  # the name, and the one below, are a task's: anyio looks at them
        self._message: Any = None
        self._fut_waiter: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def step(self, resume: Resume, value: Any) -> Any:
        """One step of the coroutine: what it yields. Raises what it raises."""
        loop, standing = self._loop, cast('asyncio.Task[Any]', self)
        task = cast('asyncio.Task[Any]', asyncio.current_task(loop))
        self._task = task
        asyncio._leave_task(loop, task)
        asyncio._enter_task(loop, standing)
        try:
            return resume(value)
        finally:
            asyncio._leave_task(loop, standing)
            asyncio._enter_task(loop, task)
            self._passed_on = False

    @property
    def is_due(self) -> bool:
        """Whether a cancellation is to be raised in the coroutine at its next step."""
        return self._must_cancel

    def due(self) -> asyncio.CancelledError:
        self._must_cancel = False
        return asyncio.CancelledError() if self._message is None else asyncio.CancelledError(self._message)

    def cancel(self, msg: Any = None) -> bool:
        """As of a task, for the coroutine alone.

        A task group takes back a request from outside and makes it again in one breath (Python 3.13): then it is the outside's.
        """
        if self._passed_on:
            self._passed_on = False
            return bool(self._task.cancel(msg))
        self._cancels += 1
        if self._fut_waiter is None or not self._fut_waiter.cancel(msg):
            self._must_cancel, self._message = True, msg
        return True

    def cancelling(self) -> int:
        """The requests that wait: the coroutine's own, and those of the task that it runs in."""
        return self._cancels + self._outer_cancels()

    def uncancel(self) -> int:
        if not self._cancels:
            self._passed_on = self._outer_cancels() > 0
            return int(self._task.uncancel())
        self._cancels -= 1
        if not self._cancels:
            self._must_cancel = False
        return self.cancelling()

    def _outer_cancels(self) -> int:
        return int(self._task.cancelling()) if self._task is not None else 0

    def wait(self, signal: Any) -> Waiting:
        """Await what the coroutine asked the event loop for."""
        if self._must_cancel and signal is not None and signal.cancel(self._message):
            self._must_cancel = False
        self._fut_waiter = signal
        return Waiting(self, signal)


class Waiting:
    __slots__ = ('_signal', '_stand_in')

    def __init__(self, stand_in: StandIn, signal: Any) -> None:
        self._stand_in, self._signal = stand_in, signal

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            return (yield self._signal)
        finally:
            self._stand_in._fut_waiter = None
