"""The simulator: a local HTTP server that speaks the vendors' protocols, answers by rule and fails on schedule."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Self

from aiohttp import web

from lamella.core.clock import SYSTEM_CLOCK, Clock
from lamella.simulator.admin import Admin, Handler
from lamella.simulator.answers import Answer
from lamella.simulator.exchange import MAX_BODY, Exchange
from lamella.simulator.faults import Fault
from lamella.simulator.listener import Listener
from lamella.simulator.outage import Outage
from lamella.simulator.records import ReceivedRequest, Signal
from lamella.simulator.routes import ROUTES, Act, Route, protocol_of, unknown_path
from lamella.simulator.script import Script, load_script
from lamella.simulator.state import State
from lamella.simulator.threads import SimulatorThread
from lamella.types import LamellaError


class Simulator:
    """A provider on this machine. `async with Simulator() as sim:` serves at `sim.base_url` on the running loop.

    `faults` and `answers` are what goes wrong and what is said, `script` a TOML file of both (all are used, the arguments
    first). With the same `seed` the same requests get the same bytes, but for the `Date` header. `api_keys` are the keys
    that are taken (any, or none, when left out). `port` 0 takes a free one. `clock` is what faults wait for. Only the last
    `keep_requests` requests are kept. `on_done` is called with each request when nothing more will be sent for it.

    Raises ConfigError for a script that cannot be read, and LamellaError UNAVAILABLE when the port cannot be had.
    """

    def __init__(
        self,
        *,
        faults: Iterable[Fault] = (),
        answers: Iterable[Answer] = (),
        script: str | Path | None = None,
        seed: int = 0,
        api_keys: Sequence[str] | None = None,
        host: str = '127.0.0.1',
        port: int = 0,
        clock: Clock = SYSTEM_CLOCK,
        keep_requests: int = 10_000,
        on_done: Callable[[ReceivedRequest], None] | None = None,
    ) -> None:
        told = load_script(script) if script is not None else Script()
        self._first = Script((*faults, *told.faults), (*answers, *told.answers))
        self._state = State(self._first, seed=seed, api_keys=api_keys, clock=clock, keep_requests=keep_requests)
        self._listener = Listener(host, port)
        self._outage = Outage(self._state, self._listener)
        self._state.on_done = [self._outage.after] if on_done is None else [self._outage.after, on_done]
        self._runner: web.AppRunner | None = None

    @property
    def base_url(self) -> str:
        """Such as `http://127.0.0.1:8089`; a vendor's client adds its own path (`/v1` …)."""
        return self._listener.base_url

    @property
    def requests(self) -> Sequence[ReceivedRequest]:
        """What was received, the oldest first."""
        return self._state.records.kept

    @property
    def script(self) -> Script:
        return self._state.script

    def arrived(self, count: int) -> Signal:
        """`await sim.arrived(3)` waits until three requests have come since the start or the last reset."""
        return self._state.records.arrived(count)

    def use(self, *, faults: Iterable[Fault] = (), answers: Iterable[Answer] = ()) -> None:
        """Puts these in the place of the faults and answers there are. Counts and time go on."""
        self._use(Script(tuple(faults), tuple(answers)))

    def reset(self) -> None:
        """As if just started: the first script, no requests, counts and time from zero, the port open."""
        self._state.restart()
        self._state.script = self._first
        self._outage.restart()

    def release(self) -> None:
        """Ends the stalls that are going on."""
        self._state.stalls.release()

    def refuse(self, for_s: float | None = None) -> None:
        """Closes the port and idle connections: clients get ECONNREFUSED for that long, or until `reopen`."""
        self._outage.begin(for_s)

    async def reopen(self) -> None:
        """Opens the port again."""
        await self._outage.end()

    def in_thread(self) -> SimulatorThread:
        """For synchronous tests: `with Simulator().in_thread() as sim:` serves from a thread of its own."""
        return SimulatorThread(self)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Takes the port and serves. Raises LamellaError when it is already running."""
        if self._runner is not None:
            raise LamellaError(
                'FAILED_PRECONDITION', f'the simulator is already running at {self.base_url}: stop it first'
            )
        self._listener.take()
        self._runner = web.AppRunner(self._app(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        self._state.restart()
        if self._runner.server is not None:
            await self._outage.start(self._runner.server)

    async def stop(self) -> None:
        """Closes the port and every connection; answers on their way are cut."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        await self._outage.stop()
        self._listener.give_up()
        for connection in list(self._state.active):
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()

    def _use(self, script: Script) -> None:
        self._state.script = script
        self._outage.plan()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY)
        for method, path, handler in Admin(self._state, self._use, self.reset).routes():
            app.router.add_route(method, path, handler)
        for route in ROUTES:
            app.router.add_route(route.method, route.path, self._handler(route))
        app.router.add_route('*', '/{path:.*}', self._handler(None))
        return app

    def _handler(self, route: Route | None) -> Handler:
        act = unknown_path if route is None else route.act

        async def handle(request: web.Request) -> web.StreamResponse:
            record = ReceivedRequest(
                request.method, request.path_qs, {k.lower(): v for k, v in request.headers.items()}
            )
            self._state.records.add(record)
            self._state.active.add(request.protocol)
            try:
                return await self._exchange(request, route, act, record)
            finally:
                self._state.active.discard(request.protocol)
                record.done.set()
                for listener in self._state.on_done:
                    listener(record)

        return handle

    async def _exchange(
        self, request: web.Request, route: Route | None, act: Act, record: ReceivedRequest
    ) -> web.StreamResponse:
        exchange = Exchange(self._state, request, protocol_of(request, route), record)
        try:
            return await exchange.run(act)
        except (ConnectionError, asyncio.CancelledError):
            if self._runner is not None and (request.transport is None or request.transport.is_closing()):
                record.disconnected.set()
            raise
