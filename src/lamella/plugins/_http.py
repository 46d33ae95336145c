"""The one HTTP client of all vendor plugins: pooled, streaming, with a limit on every wait.

Chosen by measuring (benchmarks/http_client.py). `Transport` is the port: another client needs these methods and no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Protocol
from weakref import finalize

from lamella.plugins._http_client import LOOPBACK, Client, HttpAnswer, load
from lamella.plugins._http_settings import HttpSettings
from lamella.types import ConfigError

__all__ = ['LOOPBACK', 'AiohttpTransport', 'Answer', 'HttpSettings', 'Transport', 'load']


class Answer(Protocol):
    """What came back: the status, lower-case headers, and a body to read whole or in pieces."""

    status: int
    headers: Mapping[str, str]

    async def read(self) -> bytes:
        """The whole body. Raises OUT_OF_RANGE when it is too large."""

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives: nothing is read that nobody asks for."""

    async def drain(self) -> None:
        """Read what little follows the last event, so that the connection can be used again. Never raises."""


class Transport(Protocol):
    """Sends one request; leaving the block closes it, and an unread answer closes its connection."""

    def post(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> AbstractAsyncContextManager[Answer, bool | None]: ...
    async def aclose(self) -> None: ...


class AiohttpTransport:
    """The transport over aiohttp: one client for each event loop, so that it may outlive `asyncio.run`."""

    def __init__(self, settings: HttpSettings) -> None:
        given: Any = settings
        if not isinstance(given, HttpSettings):
            raise ConfigError(f'http={given!r}: give HttpSettings(connect_timeout_s=…)')
        self._settings = settings
        self._clients: dict[asyncio.AbstractEventLoop, Client] = {}
        finalize(self, _close_forgotten, self._clients).atexit = False

    @asynccontextmanager
    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> AsyncGenerator[Answer, None]:
        client = await self._client()
        response, host = await client.sent(url, headers, body)
        try:
            yield HttpAnswer(response, host, self._settings, client.errors)
        finally:
            response.close()

    async def _client(self) -> Client:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            for ended in [other for other in self._clients if other.is_closed()]:
                del self._clients[ended]
            client = self._clients[loop] = Client(self._settings)
            client.keeper = _until_the_loop_ends(self._clients, loop)
            await client.keeper.asend(None)
        return client

    async def aclose(self) -> None:
        """Close this loop's connections. Those of other loops are closed when these end."""
        client = self._clients.get(asyncio.get_running_loop())
        if client is not None and client.keeper is not None:
            await client.keeper.aclose()


def _close_forgotten(clients: dict[asyncio.AbstractEventLoop, Client]) -> None:
    """Nobody closed the transport, and nobody holds it any longer. May run in any thread."""
    for loop, client in list(clients.items()):
        with suppress(RuntimeError):  # the loop has ended, and closed them itself
            loop.call_soon_threadsafe(client.start_closing)


async def _until_the_loop_ends(
    clients: dict[asyncio.AbstractEventLoop, Client], loop: asyncio.AbstractEventLoop
) -> AsyncGenerator[None, None]:
    """`asyncio.run` closes the generators that are still open when it ends (PEP 525); this one then closes the client."""
    try:
        yield
    finally:
        client = clients.pop(loop, None)
        if client is not None:
            await client.close()
