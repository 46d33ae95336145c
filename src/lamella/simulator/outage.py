"""Outages of the whole port: begun by a test, by a clock or by a count, ended by a clock or by a test."""

from __future__ import annotations

import asyncio

from aiohttp import web

from lamella.core.clock import TimerHandle
from lamella.simulator.faults import Fault
from lamella.simulator.listener import Listener
from lamella.simulator.records import ReceivedRequest
from lamella.simulator.schedule import Moment, closes_after, closes_by_time
from lamella.simulator.state import State

# An accepted connection is handed over two turns of the event loop later.
SWEEPS = 3


class Outage:
    """While the port is closed, connections are refused; those that are idle are closed, answers on their way go on."""

    def __init__(self, state: State, listener: Listener) -> None:
        self._state = state
        self._listener = listener
        self._server: web.Server | None = None
        self._timers: list[TimerHandle] = []
        self._down = False
        self._opening: set[asyncio.Task[None]] = set()

    async def start(self, server: web.Server) -> None:
        """Opens the port, unless an outage from the start is planned."""
        self._server, self._down = server, False
        self.plan()
        if not self._down:
            await self.end()

    async def stop(self) -> None:
        self._cancel_timers()
        self._server = None
        for task in list(self._opening):
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)

    def restart(self) -> None:
        """As at the start: the port opens unless an outage from the start is planned."""
        was_down, self._down = self._down, False
        self.plan()
        if was_down and not self._down:
            self._open_soon()

    def plan(self) -> None:
        """Sets the clock for the outages that go by time. Those that are over are over."""
        self._cancel_timers()
        if self._server is None:
            return
        for fault in closes_by_time(self._state.script.faults):
            self._schedule(fault)

    def _schedule(self, fault: Fault) -> None:
        start, elapsed = fault.from_s or 0.0, self._state.elapsed_s
        end = fault.until_s if fault.until_s is not None else None if fault.for_s is None else start + fault.for_s
        if end is not None and end <= elapsed:
            return
        for_s = None if end is None else end - max(start, elapsed)
        if start <= elapsed:
            self.begin(for_s)
        else:
            self._later(start - elapsed, for_s)

    def _later(self, seconds: float, for_s: float | None) -> None:
        self._timers.append(self._state.clock.call_later(seconds, lambda: self.begin(for_s)))

    def after(self, record: ReceivedRequest) -> None:
        """Begins the outage that was planned for after this request."""
        if record.model is None or record.number is None:
            return
        moment = Moment(record.model, record.number, self._state.elapsed_s, self._state.seed)
        fault = closes_after(self._state.script.faults, moment)
        if fault is not None:
            self.begin(fault.for_s)

    def begin(self, for_s: float | None) -> None:
        """Closes the port now."""
        if self._server is None:
            return
        self._down = True
        self._listener.close()
        self._hang_up(SWEEPS)
        if for_s is not None:
            self._timers.append(self._state.clock.call_later(for_s, self._open_soon))

    def _hang_up(self, sweeps: int) -> None:
        """Closes idle connections, also those that were being accepted when the port closed."""
        if self._server is None or not self._down:
            return
        for connection in self._server.connections:
            connection.close() if connection in self._state.active else connection.force_close()
        if sweeps:
            asyncio.get_running_loop().call_soon(self._hang_up, sweeps - 1)

    def _open_soon(self) -> None:
        task = asyncio.get_running_loop().create_task(self.end())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def end(self) -> None:
        """Opens the port, if the simulator still runs."""
        self._down = False
        if self._server is not None:
            await self._listener.open(self._server)
        if self._down:
            self._listener.close()

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
