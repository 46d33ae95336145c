"""The wire of the Postgres store: connections for one event loop, the schema made and migrated, and errors in our own words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from importlib.resources import files
from typing import Any, TypeVar

from lamella.types import ConfigError, LamellaError, Status

try:
    import asyncpg
except ModuleNotFoundError as missing:
    raise ConfigError("a store in Postgres needs the package asyncpg: pip install 'lamella[postgres]'") from missing

T = TypeVar('T')
_FAREWELL_S = 1.0
_IDLE_S = 300.0  # firewalls forget connections that are idle for longer
Ask = Callable[[Any], Awaitable[T]]
_AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection on which the server has said good-bye, unasked
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
)
_GONE = (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError)
# The first that fits (postgresql.org/docs/current/errcodes-appendix.html). What is not here is INTERNAL.
_ANSWERS: tuple[tuple[tuple[type[BaseException], ...], Status, str], ...] = (
    ((asyncpg.InvalidAuthorizationSpecificationError,), 'UNAUTHENTICATED', 'refuses the user or the password'),
    ((asyncpg.InvalidCatalogNameError,), 'NOT_FOUND', 'has no database of that name'),
    ((asyncpg.InsufficientPrivilegeError,), 'PERMISSION_DENIED', 'does not allow this user what a store does'),
    ((asyncpg.ReadOnlySQLTransactionError,), 'FAILED_PRECONDITION', 'is a read-only replica: give the primary'),
    ((asyncpg.TransactionRollbackError,), 'ABORTED', 'rolled the step back; nothing was done'),
    ((asyncpg.DiskFullError, asyncpg.OutOfMemoryError), 'RESOURCE_EXHAUSTED', 'has no room left'),
    ((asyncpg.DataError,), 'INVALID_ARGUMENT', 'cannot hold such a value'),
    (_GONE, 'FAILED_PRECONDITION', 'has lost its tables; they are made anew when the store is used again'),
    (_AWAY, 'UNAVAILABLE', 'is away'),
)


def migrations(schema: str) -> list[str]:
    """Of `postgres.sql`, in order; the first brings version 1."""
    text = files('lamella.stores').joinpath('postgres.sql').read_text(encoding='utf-8')
    return [part.partition('\n')[2] for part in text.replace('{schema}', schema).split('\n--- ')[1:]]


class Client:
    """What belongs to one event loop: its connections, and whether the schema was looked after.

    A pool of its own, as verbs leave nothing behind in a session: the driver's makes a task for every return of a connection.
    """

    def __init__(self, dsn: str, shown: str, schema: str, max_connections: int, options: Mapping[str, Any]) -> None:
        self._shown, self._schema = shown, schema
        self._timeout_s: float = options['timeout']
        self._idle: list[tuple[float, Any]] = []  # since when; the last that was used is used next
        self._most, self._free = max_connections, asyncio.Semaphore(max_connections)
        self._is_ready = self._is_closed = False
        self._preparing = asyncio.Lock()
        self._open: Callable[[], Any] = lambda: asyncpg.connect(dsn, **options)

    async def ask(self, work: Ask[T], *, reads: bool = False) -> T:
        """The work's answer, on a connection of the pool. What only `reads` is tried again once when the connection breaks."""
        try:
            if not self._is_ready:
                await self._prepare()
            try:
                return await self._on_a_connection(work)
            except _AWAY:
                if not reads:
                    raise
                return await self._on_a_connection(work)
        except (*_AWAY, asyncpg.PostgresError) as error:
            self._is_ready = self._is_ready and not isinstance(error, _GONE)
            raise self._translated(error) from error

    async def _on_a_connection(self, work: Ask[T]) -> T:
        await self._my_turn()
        connection = None
        try:
            connection = self._idle_one() or await self._opened()
            result = await work(connection)
        except asyncpg.PostgresError as error:
            await (self._end(connection) if isinstance(error, _AWAY) else self._put_back(connection))
            raise
        except BaseException:
            # After a time-out or a cancellation, the driver tells the server to let be what is still waiting there.
            await self._end(connection)
            raise
        else:
            await self._put_back(connection)
            return result
        finally:
            self._free.release()

    async def _my_turn(self) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._free.acquire()
        except TimeoutError:
            busy = f'all of its max_connections={self._most} are busy for {self._timeout_s:g} s already'
            raise LamellaError('UNAVAILABLE', f'{self._shown}: {busy}') from None

    def _idle_one(self) -> Any:
        while self._idle:
            since, connection = self._idle.pop()
            if connection.is_closed():
                continue
            if asyncio.get_running_loop().time() - since < _IDLE_S:
                return connection
            connection.terminate()
        return None

    async def _put_back(self, connection: Any) -> None:
        if self._is_closed:
            await self._end(connection)
        elif connection is not None and not connection.is_closed():
            self._idle.append((asyncio.get_running_loop().time(), connection))

    async def _opened(self) -> Any:
        """Not left half open by a cancellation, which the driver would complain about: it is waited for, and then closed."""
        connecting = asyncio.ensure_future(self._open())
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            with suppress(Exception):
                (await connecting).terminate()
            raise

    async def _end(self, connection: Any) -> None:
        if connection is not None:
            with suppress(*_AWAY):
                await connection.close(timeout=_FAREWELL_S)

    async def _prepare(self) -> None:
        async with self._preparing:
            if not self._is_ready:
                await self._on_a_connection(self._migrate)
                self._is_ready = True

    async def _migrate(self, connection: Any) -> None:
        """Bring the schema up to date, one process at a time; a newer one is left alone."""
        if await connection.fetchval('SHOW default_transaction_isolation') != 'read committed':
            raise LamellaError(
                'FAILED_PRECONDITION',
                f"{self._shown}: set default_transaction_isolation = 'read committed' for this user; "
                'in any other, a step would not see what was done just before it',
            )
        scripts = migrations(self._schema)
        if await self._version(connection) >= len(scripts):
            return
        async with connection.transaction():
            await connection.execute('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', f'lamella:{self._schema}')
            version = await self._version(connection)
            if version >= len(scripts):
                return
            if not await connection.fetchval(
                'SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = $1', self._schema
            ):
                await connection.execute(f'CREATE SCHEMA {self._schema}')
            await connection.execute(
                f'CREATE TABLE IF NOT EXISTS {self._schema}.schema_version (version integer NOT NULL)'
            )
            for script in scripts[version:]:
                await connection.execute(script)
            await connection.execute(f'DELETE FROM {self._schema}.schema_version')
            await connection.execute(f'INSERT INTO {self._schema}.schema_version VALUES ($1)', len(scripts))

    async def _version(self, connection: Any) -> int:
        # Not to_regclass(), which may remember from before the lock that there was nothing.
        tables = "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = $1 AND tablename = 'schema_version'"
        if not await connection.fetchval(tables, self._schema):
            return 0
        return int(await connection.fetchval(f'SELECT coalesce(max(version), 0) FROM {self._schema}.schema_version'))

    def _translated(self, error: Exception) -> LamellaError:
        if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
            return LamellaError('INVALID_ARGUMENT', f'{self._shown} was not asked: {error}')
        if isinstance(error, TimeoutError):
            return LamellaError('UNAVAILABLE', f'{self._shown} did not answer within {self._timeout_s:g} s')
        for kinds, status, what in _ANSWERS:
            if isinstance(error, kinds):
                said = str(error) or type(error).__name__
                shown = '' if status == 'UNAUTHENTICATED' else f' ({said})'
                return LamellaError(status, f'{self._shown} {what}{shown}')
        return LamellaError('INTERNAL', f'{self._shown} answers {str(error)!r}')

    async def close(self) -> None:
        """What is under way goes on, and closes its connection when it is done."""
        self._is_closed = True
        idle, self._idle = self._idle, []
        for _, connection in idle:
            await self._end(connection)
