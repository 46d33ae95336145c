"""The one HTTP client of all vendor plugins: pooled, streaming, with a limit on every wait. aiohttp is imported here alone.

Chosen by measuring (benchmarks/http_client.py). `Transport` is the port: another client needs these methods and no more.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from lamella.types import ConfigError, Data, LamellaError

_STALE_RETRIES = 4


class HttpSettings(Data, frozen=True):
    """How a plugin talks HTTP. Times in seconds, `None` for no limit.

    `connect_timeout_s` is for the connection with its TLS, `first_byte_timeout_s` for the wait from the request to the
    answer's headers, `idle_timeout_s` for the wait between two pieces of the body. `proxy` is a URL; without it the
    environment's proxies hold while `trust_env` is true. `verify` is `True`, a file of certificates, or an `SSLContext`.
    """

    connect_timeout_s: float | None = 10.0
    first_byte_timeout_s: float | None = 600.0
    idle_timeout_s: float | None = 120.0
    max_connections: int = 100
    keepalive_s: float = 30.0
    max_body_bytes: int = 64 * 2**20
    proxy: str | None = None
    trust_env: bool = True
    verify: Any = True

    def __post_init__(self) -> None:
        for name in ('connect_timeout_s', 'first_byte_timeout_s', 'idle_timeout_s'):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0):
                raise ConfigError(f'{name}={value!r}: give a number of seconds above 0, or None for no limit')
        limit: Any = self.max_connections
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ConfigError(f'max_connections={limit!r}: give a whole number of at least 1')


class Answer(Protocol):
    """What came back: the status, lower-case headers, and a body to read whole or in pieces."""

    status: int
    headers: Mapping[str, str]

    async def read(self) -> bytes: ...
    def pieces(self) -> AsyncIterator[bytes]: ...


class Transport(Protocol):
    """Sends one request; leaving the block closes it, and an unread answer closes its connection."""

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Any: ...
    async def aclose(self) -> None: ...


def load(module: str, extra: str) -> ModuleType:
    """An optional package. Raises ConfigError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"{module} is not installed: pip install 'lamella[{extra}]'") from error


@dataclass(slots=True)
class _Answer:
    """An answer of aiohttp."""

    status: int
    headers: Mapping[str, str]
    _response: Any
    _settings: HttpSettings
    _host: str
    _errors: tuple[type[Exception], ...]

    async def read(self) -> bytes:
        """The whole body. Raises OUT_OF_RANGE when it is larger than `max_body_bytes`."""
        gathered, size = [], 0
        async for piece in self.pieces():
            size += len(piece)
            if size > self._settings.max_body_bytes:
                raise LamellaError(
                    'OUT_OF_RANGE', f'{self._host}: the answer is over max_body_bytes={self._settings.max_body_bytes}'
                )
            gathered.append(piece)
        return b''.join(gathered)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it arrives."""
        content, limit = self._response.content, self._settings.idle_timeout_s
        try:
            while True:
                async with asyncio.timeout(limit):
                    piece = await content.readany()
                if not piece:
                    return
                yield piece
        except TimeoutError as error:
            raise _too_slow(self._host, 'nothing more arrived', 'idle_timeout_s', self._settings) from error
        except self._errors as error:
            raise _unreachable(self._host, error) from error


class AiohttpTransport:
    """The transport over aiohttp: one session for each event loop, so that it may outlive `asyncio.run`."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = WeakKeyDictionary()

    @asynccontextmanager
    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> AsyncGenerator[Answer, None]:
        aiohttp, session = self._session()
        host = urlsplit(url).netloc.rpartition('@')[2]
        response = await self._sent(aiohttp, session, host, url, headers, body)
        try:
            named = {key.lower(): value for key, value in response.headers.items()}
            errors = (aiohttp.ClientError, ConnectionError)
            yield _Answer(response.status, named, response, self._settings, host, errors)
        finally:
            response.close()

    async def _sent(
        self, aiohttp: ModuleType, session: Any, host: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> Any:
        """The response's head. A pooled connection that the server had closed meanwhile is replaced, unseen."""
        for attempt in range(_STALE_RETRIES + 1):
            trace = SimpleNamespace(reused=False)
            try:
                async with asyncio.timeout(self._settings.first_byte_timeout_s):
                    return await session.post(
                        url,
                        data=body,
                        headers=headers,
                        proxy=self._settings.proxy,
                        allow_redirects=False,
                        trace_request_ctx=trace,
                    )
            except aiohttp.ConnectionTimeoutError as error:
                raise _too_slow(host, 'no connection', 'connect_timeout_s', self._settings) from error
            except TimeoutError as error:
                raise _too_slow(host, 'no answer', 'first_byte_timeout_s', self._settings) from error
            except (aiohttp.ServerDisconnectedError, ConnectionResetError, BrokenPipeError) as error:
                if not trace.reused or attempt == _STALE_RETRIES:
                    raise _unreachable(host, error) from error
            except (aiohttp.InvalidURL, ValueError) as error:
                raise ConfigError(f'base_url: {url!r} is no address that can be called: {error}') from error
            except (aiohttp.ClientError, OSError) as error:
                raise _unreachable(host, error) from error
        raise LamellaError('UNAVAILABLE', f'{host}: no connection could be kept')

    def _session(self) -> tuple[ModuleType, Any]:
        aiohttp = load('aiohttp', 'http')
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.closed:
            session = self._sessions[loop] = self._new_session(aiohttp)
        return aiohttp, session

    def _new_session(self, aiohttp: ModuleType) -> Any:
        settings, trace = self._settings, aiohttp.TraceConfig()

        async def reused(session: Any, context: Any, params: Any) -> None:
            context.trace_request_ctx.reused = True

        trace.on_connection_reuseconn.append(reused)
        connector = aiohttp.TCPConnector(
            limit=settings.max_connections,
            keepalive_timeout=settings.keepalive_s,
            ssl=_tls(settings.verify),
        )
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_s)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            trust_env=settings.trust_env,
            trace_configs=[trace],
            auto_decompress=True,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def aclose(self) -> None:
        """Close this loop's session; those of loops that have ended are gone with them."""
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()


def _tls(verify: Any) -> Any:
    if isinstance(verify, (bool, ssl.SSLContext)):
        return verify
    try:
        return ssl.create_default_context(cafile=str(verify))
    except OSError as error:
        raise ConfigError(f'verify={verify!r}: no certificates can be read there: {error}') from error


def _too_slow(host: str, what: str, field: str, settings: HttpSettings) -> LamellaError:
    return LamellaError('DEADLINE_EXCEEDED', f'{host}: {what} within {field}={getattr(settings, field):g}')


def _unreachable(host: str, error: Exception) -> LamellaError:
    return LamellaError('UNAVAILABLE', f'{host}: {type(error).__name__}: {error}')
