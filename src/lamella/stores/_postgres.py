"""The wire of the Postgres store: a pool for one event loop, the schema made and migrated, and errors in our own words."""

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


_BROKEN = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError, ConnectionError)


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # it has no types
    """Verbs leave nothing behind in the session, so nothing needs the round trip that cleans it."""

    def get_reset_query(self) -> str:
        return ''


async def _connect(*args: Any, **options: Any) -> Any:
    """Not left half open by a cancellation, which the driver would complain about: it is waited for, and then closed."""
    connecting = asyncio.ensure_future(asyncpg.connect(*args, **options))
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        with suppress(Exception):
            (await connecting).terminate()
        raise


def migrations(schema: str) -> list[str]:
    """Of `postgres.sql`, in order; the first brings version 1."""
    text = files('lamella.stores').joinpath('postgres.sql').read_text(encoding='utf-8')
    return [part.partition('\n')[2] for part in text.replace('{schema}', schema).split('\n--- ')[1:]]


class Client:
    """What belongs to one event loop: a pool, and whether the schema was looked after."""

    def __init__(self, dsn: str, shown: str, schema: str, max_connections: int, options: Mapping[str, Any]) -> None:
        self._shown, self._schema = shown, schema
        self._timeout_s: float = options['timeout']
        self._pool: Any = None
        self._is_ready = False
        self._preparing = asyncio.Lock()
        self._open: Callable[[], Any] = lambda: asyncpg.create_pool(
            dsn, min_size=0, max_size=max_connections, connect=_connect, connection_class=_Connection, **options
        )

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
        async with asyncio.timeout(self._timeout_s):
            connection = await self._pool.acquire()
        try:
            return await work(connection)
        except _BROKEN:
            with suppress(asyncpg.InterfaceError):  # it ended by itself
                connection.terminate()
            raise
        finally:
            # After a time-out or a cancellation, the driver tells the server to let be what is still waiting there.
            await self._pool.release(connection, timeout=self._timeout_s)

    async def _prepare(self) -> None:
        async with self._preparing:
            if self._pool is None:
                self._pool = await self._open()
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
        for kinds, status, what in _ANSWERS:
            if isinstance(error, kinds):
                said = str(error) or type(error).__name__
                shown = '' if status == 'UNAUTHENTICATED' else f' ({said})'
                return LamellaError(status, f'{self._shown} {what}{shown}')
        return LamellaError('INTERNAL', f'{self._shown} answers {str(error)!r}')

    async def close(self) -> None:
        pool, self._pool, self._is_ready = self._pool, None, False
        if pool is not None:
            await pool.close()
