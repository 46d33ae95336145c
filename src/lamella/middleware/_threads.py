"""Blocking work in a thread that a cancellation stops, and waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Event, Lock
from typing import TypeVar

T = TypeVar('T')


class Stopped(Exception):
    """The caller was cancelled: the work ends here and has changed nothing since it was told."""


class Stop:
    """What the work asks before each step that can be left out: `stop.check()` raises `Stopped` after a cancellation."""

    __slots__ = ('_flag', '_lock', '_started')

    def __init__(self) -> None:
        self._flag, self._lock, self._started = Event(), Lock(), False

    def check(self) -> None:
        if self._flag.is_set():
            raise Stopped

    def start(self) -> None:
        """The thread begins. Raises Stopped when it was called off before."""
        with self._lock:
            self.check()
            self._started = True

    def now(self) -> bool:
        """Tell the work to stop; whether it had begun."""
        with self._lock:
            self._flag.set()
            return self._started


async def in_thread(work: Callable[[Stop], T]) -> T:
    """The result of `work(stop)`. A cancellation tells the work to stop and passes when it has: nothing goes on unseen.

    Work that still waits for a free thread is called off and not waited for.
    """
    stop = Stop()

    def run() -> T:
        stop.start()
        return work(stop)

    future = asyncio.get_running_loop().run_in_executor(None, run)
    future.add_done_callback(_seen)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if stop.now():
            await _end_of(future)
        raise


async def to_the_end(work: Callable[[], T]) -> T:
    """The result of work that cannot be called off, such as cleaning up. A cancellation passes when it is done."""
    future = asyncio.get_running_loop().run_in_executor(None, work)
    future.add_done_callback(_seen)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await _end_of(future)
        raise


async def _end_of(future: asyncio.Future[T]) -> None:
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:  # the first one is already on its way to the caller
            continue


def _seen(future: asyncio.Future[T]) -> None:
    """Nobody is left to hear how work that was called off ended."""
    if not future.cancelled():
        future.exception()
