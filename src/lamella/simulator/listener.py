"""A port that can really be closed and opened again: while it is closed, connections are refused by the system."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web

from lamella.types import LamellaError

BACKLOG = 512
SEND_BUFFER = 8192


class Listener:
    """Port 0 takes a free one, and keeps it while closed: a socket that is bound and does not listen holds the place."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None

    @property
    def is_open(self) -> bool:
        return self._server is not None

    @property
    def base_url(self) -> str:
        host = f'[{self.host}]' if ':' in self.host else self.host
        return f'http://{host}:{self.port}'

    def take(self) -> socket.socket:
        """Binds the port. Raises LamellaError UNAVAILABLE when it is taken or the host is not of this machine."""
        family = socket.AF_INET6 if ':' in self.host else socket.AF_INET
        held = socket.socket(family, socket.SOCK_STREAM)
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            held.bind((self.host, self.port))
        except OSError as error:
            held.close()
            problem = f'the simulator cannot listen at {self.host}:{self.port}: {error.strerror or error}'
            raise LamellaError('UNAVAILABLE', f'{problem}. Choose another port, or 0 for a free one') from error
        held.setblocking(False)
        self._socket, self.port = held, held.getsockname()[1]
        return held

    async def open(self, protocol: web.Server) -> None:
        """Listens. Accepted connections inherit the small send buffer, so that a slow reader is felt soon."""
        if self._server is not None:
            return
        held = self._socket or self.take()
        self._socket = None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(protocol, sock=held, backlog=BACKLOG)

    def close(self) -> None:
        """Stops listening at once and holds on to the port, as far as the system lets us."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        try:
            self.take()
        except LamellaError:
            self._socket = None

    def give_up(self) -> None:
        """Stops listening and frees the port."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
