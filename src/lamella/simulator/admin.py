"""`/_sim/…`: the simulator's own door, for tests in other languages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from lamella.simulator.script import Script, script_of
from lamella.simulator.state import State
from lamella.types import JSON, ConfigError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Admin:
    """`use` puts a new script to work, `reset` starts over."""

    def __init__(self, state: State, use: Callable[[Script], None], reset: Callable[[], None]) -> None:
        self.state = state
        self.use = use
        self.reset_all = reset

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ('GET', '/_sim', self.about),
            ('GET', '/_sim/requests', self.requests),
            ('POST', '/_sim/reset', self.reset),
            ('POST', '/_sim/release', self.release),
            ('GET', '/_sim/faults', self.faults),
            ('PUT', '/_sim/faults', self.new_faults),
            ('POST', '/_sim/faults', self.new_faults),
        ]

    async def about(self, request: web.Request) -> web.StreamResponse:
        paths = [f'{method} {path}' for method, path, _ in self.routes()]
        return _json(
            {'simulator': 'lamella', 'seed': self.state.seed, 'requests': self.state.records.total, 'paths': paths}
        )

    async def requests(self, request: web.Request) -> web.StreamResponse:
        """The kept requests, credentials masked."""
        shown = [record.shown() for record in self.state.records.kept]
        return _json({'total': self.state.records.total, 'requests': shown})

    async def reset(self, request: web.Request) -> web.StreamResponse:
        self.reset_all()
        return _json({'reset': True})

    async def release(self, request: web.Request) -> web.StreamResponse:
        self.state.stalls.release()
        return _json({'released': True})

    async def faults(self, request: web.Request) -> web.StreamResponse:
        return _json(shown_script(self.state.script))

    async def new_faults(self, request: web.Request) -> web.StreamResponse:
        """`{"faults": [...], "answers": [...]}` replaces both; the tables are those of a TOML script."""
        try:
            table = msgspec.json.decode(await request.read())
            if not isinstance(table, dict):
                raise ConfigError(f'the body is {table!r}: send an object with faults and answers')
            self.use(script_of(table, 'the body'))
        except (msgspec.DecodeError, ConfigError) as error:
            return _json({'error': str(error)}, 400)
        return _json(shown_script(self.state.script))


def shown_script(script: Script) -> JSON:
    shown: JSON = {'faults': msgspec.to_builtins(script.faults), 'answers': msgspec.to_builtins(script.answers)}
    return shown


def _json(value: Any, status: int = 200) -> web.Response:
    headers = {'x-simulator': 'lamella', 'content-type': 'application/json'}
    return web.Response(status=status, headers=headers, body=msgspec.json.encode(value))
