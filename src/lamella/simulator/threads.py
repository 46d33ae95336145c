"""The simulator in a thread of its own, for tests that are not async."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, Self

from lamella.simulator.answers import Answer
from lamella.simulator.faults import Fault
from lamella.simulator.records import ReceivedRequest, Signal


class Served(Protocol):
    """What the thread needs of a simulator."""

    @property
    def base_url(self) -> str: ...
    @property
    def requests(self) -> Sequence[ReceivedRequest]: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def use(self, *, faults: Iterable[Fault] = (), answers: Iterable[Answer] = ()) -> None: ...
    def reset(self) -> None: ...
    def release(self) -> None: ...
    def refuse(self, for_s: float | None = None) -> None: ...
    async def reopen(self) -> None: ...
    def arrived(self, count: int) -> Signal: ...


class SimulatorThread:
    """Serves from `with` to its end. Every method may be called from any thread and returns when it is done."""

    def __init__(self, simulator: Served) -> None:
        self._simulator = simulator
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        return self._simulator.base_url

    @property
    def requests(self) -> Sequence[ReceivedRequest]:
        return self._simulator.requests

    def arrived(self, count: int) -> Signal:
        """`sim.arrived(3).wait(timeout=5)` waits until three requests have come since the start or the last reset."""
        return self._simulator.arrived(count)

    def use(self, *, faults: Iterable[Fault] = (), answers: Iterable[Answer] = ()) -> None:
        self._call(lambda: self._simulator.use(faults=faults, answers=answers))

    def reset(self) -> None:
        self._call(self._simulator.reset)

    def release(self) -> None:
        self._call(self._simulator.release)

    def refuse(self, for_s: float | None = None) -> None:
        self._call(lambda: self._simulator.refuse(for_s))

    def reopen(self) -> None:
        self._run(self._simulator.reopen())

    def __enter__(self) -> Self:
        ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._serve, args=(ready,), name='lamella-simulator', daemon=True)
        self._thread.start()
        try:
            self._loop = ready.result()
        except BaseException:
            self._thread.join()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._loop is None or self._thread is None:
            return
        self._run(self._simulator.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop = self._thread = None

    def _serve(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            try:
                runner.run(self._simulator.start())
            except BaseException as error:
                ready.set_exception(error)
                return
            ready.set_result(loop)
            loop.run_forever()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        if self._loop is None:
            work.close()
            raise RuntimeError('the simulator does not run: use `with Simulator().in_thread() as sim:`')
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _call(self, act: Callable[[], None]) -> None:
        async def work() -> None:
            act()

        self._run(work())
