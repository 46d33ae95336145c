"""aiohttp for one event loop: a pool, a clock for each phase of a call, and errors in our own words."""

from __future__ import annotations

import asyncio
import importlib
import io
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from lamella.plugins._http_settings import WAITS, HttpSettings
from lamella.types import ConfigError, LamellaError
from lamella.wire.errors import redacted

LOOPBACK = ('127.0.0.1', 'localhost', '::1')
_STALE_WINDOW_S = 1.0
_DRAIN_S = 0.5
_LARGE = 2**20


def load(module: str, extra: str) -> ModuleType:
    """An optional package. Raises ConfigError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"{module} is not installed: pip install 'lamella[{extra}]'") from error


class _Phase:
    """Which wait a request is in. aiohttp tells when one ends and the next begins, and the clock starts anew."""

    __slots__ = ('limit', 'name', 'reused_at', 'settings')

    def __init__(self, settings: HttpSettings, limit: asyncio.Timeout) -> None:
        self.settings = settings
        self.limit = limit
        self.reused_at: float | None = None
        self.name = 'connect_timeout_s'

    def enter(self, name: str) -> None:
        self.name = name
        seconds = getattr(self.settings, name)
        self.limit.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)

    def is_stale(self, error: Exception) -> bool:
        """Whether the server had only closed a connection that it thought idle, and can have done no work.

        A server that hangs up much later than it got the request, or after a byte of its answer, may have done the work.
        """
        if self.reused_at is None or not isinstance(getattr(error, 'message', ''), str):
            return False
        return asyncio.get_running_loop().time() - self.reused_at < _STALE_WINDOW_S


class Client:
    """What belongs to one event loop: a session with its pool, and one without for second tries."""

    def __init__(self, settings: HttpSettings) -> None:
        self._aiohttp = load('aiohttp', 'http')
        self._environment = load('urllib.request', 'http')
        self._settings = settings
        self._tls = _tls(settings.verify)
        self._proxies: dict[tuple[str, str], str | None] = {}
        self._pooled = self._session(force_close=False)
        self._spare: Any = None
        self.keeper: AsyncGenerator[None, None] | None = None
        self._closing: asyncio.Future[None] | None = None
        self.errors: tuple[type[Exception], ...] = (
            self._aiohttp.ClientError,
            self._aiohttp.http_exceptions.HttpProcessingError,
            OSError,
        )

    def _session(self, force_close: bool) -> Any:
        aiohttp, settings = self._aiohttp, self._settings
        keepalive = {} if force_close else {'keepalive_timeout': settings.keepalive_s}
        connector = aiohttp.TCPConnector(
            limit=settings.max_connections, force_close=force_close, ssl=self._tls, **keepalive
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            trace_configs=[_phases(aiohttp)],
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def sent(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[Any, str]:
        """The response's head, and the host that it came from.

        A pooled connection that the server had closed meanwhile is replaced by a fresh one, once and unseen.
        """
        parts = urlsplit(url)
        host = parts.netloc.rpartition('@')[2]
        options = {
            'headers': headers,
            'proxy': self._proxy(parts.scheme, parts.hostname or '', host),
            'allow_redirects': False,
        }
        response = await self._attempt(self._pooled, url, host, body, options)
        if response is None:
            self._spare = self._spare or self._session(force_close=True)
            response = await self._attempt(self._spare, url, host, body, options)
        return response, host

    async def _attempt(self, session: Any, url: str, host: str, body: bytes, options: Mapping[str, Any]) -> Any:
        """The response, or `None` when the connection was stale."""
        aiohttp, phase = self._aiohttp, None
        data = body if len(body) < _LARGE else io.BytesIO(body)  # which aiohttp sends piece by piece
        try:
            async with asyncio.timeout(None) as limit:
                phase = _Phase(self._settings, limit)
                return await session.post(url, data=data, trace_request_ctx=phase, **options)
        except TimeoutError as error:
            raise _too_slow(host, phase.name if phase else 'connect_timeout_s', self._settings) from error
        except self.errors as error:
            if isinstance(error, aiohttp.InvalidURL):
                raise _unspeakable(host, error) from error
            if phase is not None and session is self._pooled and phase.is_stale(error):
                return None
            raise _unreachable(host, error, isinstance(error, aiohttp.ClientSSLError)) from error
        except ValueError as error:  # after the errors of TLS, some of which are a ValueError too
            raise _unspeakable(host, error) from error

    def _proxy(self, scheme: str, name: str, host: str) -> str | None:
        """Asked of the environment once for each host: aiohttp would use two threads and read ~/.netrc for every call."""
        if self._settings.proxy or not self._settings.trust_env or name in LOOPBACK:
            return self._settings.proxy
        key = (scheme, host)
        if key not in self._proxies:
            found = self._environment.getproxies()
            url = None if self._environment.proxy_bypass(host) else found.get(scheme) or found.get('all')
            self._proxies[key] = url if url and url.startswith(('http://', 'https://')) else None
        return self._proxies[key]

    def start_closing(self) -> None:
        if self.keeper is not None:
            self._closing = asyncio.ensure_future(self.keeper.aclose())

    async def close(self) -> None:
        for session in (self._pooled, self._spare):
            if session is not None:
                await session.close()


def _phases(aiohttp: ModuleType) -> Any:
    """Tell a request's `_Phase` what aiohttp is about."""

    async def queued(session: Any, context: Any, params: Any) -> None:
        context.trace_request_ctx.enter('pool_timeout_s')

    async def connecting(session: Any, context: Any, params: Any) -> None:
        context.trace_request_ctx.enter('connect_timeout_s')

    async def connected(session: Any, context: Any, params: Any) -> None:
        context.trace_request_ctx.enter('first_byte_timeout_s')

    async def reused(session: Any, context: Any, params: Any) -> None:
        context.trace_request_ctx.reused_at = asyncio.get_running_loop().time()
        context.trace_request_ctx.enter('first_byte_timeout_s')

    trace = aiohttp.TraceConfig()
    trace.on_connection_queued_start.append(queued)
    trace.on_connection_create_start.append(connecting)
    trace.on_connection_create_end.append(connected)
    trace.on_connection_reuseconn.append(reused)
    return trace


class HttpAnswer:
    """An answer of aiohttp. Its own iterator of pieces: there is nothing to close but the response."""

    __slots__ = ('_content', '_errors', '_host', '_settings', 'headers', 'status')

    def __init__(self, response: Any, host: str, settings: HttpSettings, errors: tuple[type[Exception], ...]) -> None:
        self.status: int = response.status
        self.headers: Mapping[str, str] = {key.lower(): value for key, value in response.headers.items()}
        self._content = response.content
        self._host = host
        self._settings = settings
        self._errors = errors

    async def read(self) -> bytes:
        limit, gathered, size = self._settings.max_body_bytes, [], 0
        async for piece in self:
            size += len(piece)
            if size > limit:
                raise LamellaError('OUT_OF_RANGE', f'{self._host}: the answer is larger than max_body_bytes={limit}')
            gathered.append(piece)
        return b''.join(gathered)

    def pieces(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        content = self._content
        try:
            piece: bytes = content.read_nowait()
            if not piece and not content.at_eof():
                async with asyncio.timeout(self._settings.idle_timeout_s):
                    piece = await content.readany()
        except TimeoutError as error:
            raise _too_slow(self._host, 'idle_timeout_s', self._settings) from error
        except self._errors as error:
            raise _unreachable(self._host, error, False) from error
        if not piece:
            raise StopAsyncIteration
        return piece

    async def drain(self) -> None:
        content = self._content
        try:
            content.read_nowait()
            if content.at_eof():
                return
            async with asyncio.timeout(_DRAIN_S):
                while await content.readany():
                    pass
        except self._errors:  # a TimeoutError is an OSError
            return


def _tls(verify: Any) -> Any:
    if isinstance(verify, (bool, ssl.SSLContext)):
        return verify
    try:
        return ssl.create_default_context(cafile=str(verify))
    except OSError as error:
        raise ConfigError(
            f'verify={verify!r}: no certificates can be read there ({error}): give a file in PEM form'
        ) from error


def _too_slow(host: str, field: str, settings: HttpSettings) -> LamellaError:
    return LamellaError('DEADLINE_EXCEEDED', f'{host}: {WAITS[field]} within {field}={getattr(settings, field):g}')


def _unspeakable(host: str, error: Exception) -> ConfigError:
    return ConfigError(f'{host}: the call cannot be sent, check base_url and headers: {redacted(str(error))}')


def _unreachable(host: str, error: Exception, tls: bool) -> LamellaError:
    hint = ' (for certificates of your own: verify=…)' if tls else ''
    return LamellaError('UNAVAILABLE', f'{host}: {type(error).__name__}: {redacted(str(error))}{hint}')
