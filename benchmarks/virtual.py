"""An event loop whose time is virtual: when nothing can run, the time of the next timer has come. Hours pass in seconds.

`run(main)` is `asyncio.run` on it. `LoopClock` is a `Clock` that tells its time, for apps and stores. Threads and sockets have
no place here: their time is real.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

R = TypeVar('R')
WALL = 1_800_000_000.0


class _Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Waits for no socket, and moves the time in place of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self.now += timeout
        return super().select(0 if timeout is not None else None)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


class LoopClock:
    """The time of the running loop."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def time(self) -> float:
        return WALL + self.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, callback)


def run(main: Coroutine[Any, Any, R]) -> R:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
