"""State in one SQLite file: durable, without a server, safe for many processes of one machine.

One connection on one thread; every verb that writes is one `BEGIN IMMEDIATE` transaction, in WAL mode (sqlite.org/wal.html), so
that readers never wait and writers wait for each other at most `timeout_s`. Time is the machine's wall clock: processes that
share a file share a machine. A clock that is set back an hour lets what is stored live an hour longer.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import SplitResult, unquote
from weakref import finalize

from lamella.core.clock import SYSTEM_CLOCK, Clock
from lamella.core.ports import Addition, Bucket, Count, Entry, Lease, Listed, Stored, Taken, each_once
from lamella.core.stores import DEFAULT_NAMESPACE, key_bytes, masked, options_of
from lamella.stores import _sqlite as verbs
from lamella.types import ConfigError, LamellaError

T = TypeVar('T')
Work = Callable[[sqlite3.Connection, float], T]
_SWEEP_EVERY = 64
_FREED_PAGES = 256
_LOCKED_AGAIN_S = 0.005
_WAL_BYTES = 8_000_000


class SQLiteStore:
    """All ports over one file, or over `:memory:` for this process alone.

    `synchronous='normal'` keeps everything over the death of a process, and may lose the last moments when the machine loses
    power; `'full'` keeps those too, and costs a write to the disk for every verb. Raises ConfigError for a file that is no
    database, and UNAVAILABLE when the file cannot be opened or stays locked for `timeout_s`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        timeout_s: float = 5.0,
        synchronous: Literal['normal', 'full'] = 'normal',
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._path, self._timeout_s, self._clock = str(path), timeout_s, clock
        self._prefix = f'{namespace}:'.encode()
        self._synchronous = synchronous
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._forgotten: Any = None
        self._writes = 0

    def __repr__(self) -> str:
        return f'SQLiteStore({self._path!r})'

    async def _write(self, work: Work[T]) -> T:
        """One transaction on the store's thread: done whole, or not at all."""
        return await self._on_thread(self._transaction, work)

    async def _read(self, work: Work[T]) -> T:
        """One SELECT on the store's thread: what was there at one moment, without waiting for writers."""
        return await self._on_thread(self._look, work)

    async def _on_thread(self, run: Callable[[sqlite3.Connection, Work[T]], T], work: Work[T]) -> T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, 'lamella-sqlite')
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._told, run, work)

    def _told(self, run: Callable[[sqlite3.Connection, Work[T]], T], work: Work[T]) -> T:
        try:
            return run(self._connection or self._open(), work)
        except sqlite3.OperationalError as error:
            raise LamellaError('UNAVAILABLE', f'SQLite at {self._path}: {error}') from error
        except sqlite3.DatabaseError as error:
            raise ConfigError(f'{self._path} is no database that can be used: {error}') from error

    def _look(self, connection: sqlite3.Connection, work: Work[T]) -> T:
        return work(connection, self._clock.time())

    def _transaction(self, connection: sqlite3.Connection, work: Work[T]) -> T:
        self._writes += 1
        sweeps = self._writes % _SWEEP_EVERY == 1
        connection.execute('BEGIN IMMEDIATE')
        try:
            now = self._clock.time()
            if sweeps:
                verbs.sweep(connection, now)
            result = work(connection, now)
            connection.execute('COMMIT')
        except BaseException:
            if connection.in_transaction:
                connection.execute('ROLLBACK')
            raise
        if sweeps:
            self._shrink(connection)
        return result

    def _shrink(self, connection: sqlite3.Connection) -> None:
        """Give pages that are free back to the file system, some at a time. A script, as `execute` gives back only one."""
        if connection.execute('PRAGMA freelist_count').fetchone()[0] > _FREED_PAGES:
            with suppress(sqlite3.OperationalError):  # somebody else writes; the next time is soon
                connection.executescript(f'PRAGMA incremental_vacuum({_FREED_PAGES})')

    async def sweep(self) -> int:
        """Remove what has expired, at once instead of as the store is used. How many rows there were."""
        removed = 0
        while batch := await self._write(verbs.sweep):
            removed += batch
        return removed

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._forgotten = finalize(self, connection.close)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute('PRAGMA auto_vacuum = INCREMENTAL')
        self._patiently(connection, 'PRAGMA journal_mode = WAL')
        connection.execute(f'PRAGMA synchronous = {self._synchronous}')
        connection.execute(f'PRAGMA journal_size_limit = {_WAL_BYTES}')
        if verbs.version(connection) >= verbs.VERSION:
            return
        connection.execute('BEGIN IMMEDIATE')
        try:
            if verbs.version(connection) < verbs.VERSION:  # and no other process was faster
                for statement in verbs.SCHEMA:
                    connection.execute(statement)
            connection.execute('COMMIT')
        except BaseException:
            connection.execute('ROLLBACK')
            raise

    def _patiently(self, connection: sqlite3.Connection, statement: str) -> None:
        """The change to WAL does not wait for other processes by itself."""
        until = time.monotonic() + self._timeout_s
        while True:
            try:
                connection.execute(statement)
                return
            except sqlite3.OperationalError as error:
                if 'locked' not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(_LOCKED_AGAIN_S)

    async def get(self, key: str) -> Stored | None:
        return await self._read(lambda db, now: verbs.get(db, now, self._key(key)))

    async def put(self, key: str, value: bytes, *, expire_s: float | None = None, listed: str | None = None) -> int:
        entry = verbs.Written(self._key(key), bytes(value), expire_s, self._list(listed))
        return await self._write(lambda db, now: verbs.put(db, now, entry))

    async def put_if_absent(
        self, key: str, value: bytes, *, expire_s: float | None = None, listed: str | None = None
    ) -> Stored | None:
        entry = verbs.Written(self._key(key), bytes(value), expire_s, self._list(listed))
        return await self._write(lambda db, now: verbs.put_if_absent(db, now, entry))

    async def compare_and_put(
        self, key: str, version: int, value: bytes, *, expire_s: float | None = None, listed: str | None = None
    ) -> int | None:
        entry = verbs.Written(self._key(key), bytes(value), expire_s, self._list(listed))
        return await self._write(lambda db, now: verbs.compare_and_put(db, now, entry, version))

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        return await self._write(lambda db, now: verbs.delete(db, now, self._key(key), version))

    async def listed(self, name: str, *, after: int = 0, limit: int = 100) -> Sequence[Listed]:
        prefix = len(self._prefix)
        return await self._read(lambda db, now: verbs.listed(db, now, self._key(name), after, limit, prefix))

    async def add(
        self,
        key: str,
        amount: int = 1,
        *,
        ceiling: int | None = None,
        expire_s: float | None = None,
        window: int | None = None,
    ) -> Count:
        return (await self.add_all([Addition(key, amount, ceiling, expire_s, window)]))[0]

    async def add_all(self, additions: Sequence[Addition]) -> Sequence[Count]:
        keys = self._keys(additions)
        return await self._write(lambda db, now: verbs.add_all(db, now, keys, additions))

    async def count(self, key: str) -> Count:
        return await self._read(lambda db, now: verbs.count(db, now, self._key(key)))

    async def reset(self, key: str) -> int:
        return await self._write(lambda db, now: verbs.reset(db, now, self._key(key)))

    async def take(self, buckets: Sequence[Bucket], *, max_wait_s: float = 0.0) -> Taken:
        keys = self._keys(buckets)
        return await self._write(lambda db, now: verbs.take(db, now, keys, buckets, max_wait_s))

    async def settle(self, buckets: Sequence[Bucket]) -> None:
        keys = self._keys(buckets)
        await self._write(lambda db, now: verbs.settle(db, now, keys, buckets))

    async def acquire(self, key: str, ttl_s: float, *, slots: int = 1) -> Lease | None:
        token = await self._write(lambda db, now: verbs.acquire(db, now, self._key(key), ttl_s, slots))
        return None if token is None else Lease(key, token, ttl_s)

    async def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        held = await self._write(lambda db, now: verbs.renew(db, now, self._key(lease.key), lease.token, ttl_s))
        return lease.replace(expires_in_s=ttl_s) if held else None

    async def release(self, lease: Lease) -> bool:
        return await self._write(lambda db, now: verbs.release(db, now, self._key(lease.key), lease.token))

    async def append(self, key: str, value: bytes, *, expire_s: float | None = None) -> int:
        return await self._write(lambda db, now: verbs.append(db, now, self._key(key), bytes(value), expire_s))

    async def read(self, key: str, *, after: int = 0, limit: int = 100) -> Sequence[Entry]:
        return await self._read(lambda db, now: verbs.read(db, now, self._key(key), after, limit))

    def _key(self, key: str) -> bytes:
        return self._prefix + key_bytes(key)

    def _keys(self, steps: Sequence[Addition] | Sequence[Bucket]) -> list[bytes]:
        each_once(steps)
        return [self._key(step.key) for step in steps]

    def _list(self, name: str | None) -> bytes | None:
        return None if name is None else self._key(name)

    async def aclose(self) -> None:
        """Close the file and end the thread; the next verb opens them again."""
        thread, self._thread = self._thread, None
        connection, self._connection = self._connection, None
        if thread is not None:
            if connection is not None:
                self._forgotten.detach()
                await asyncio.get_running_loop().run_in_executor(thread, connection.close)
            thread.shutdown(wait=False)


def _synchronous(text: str) -> str:
    if text not in ('normal', 'full'):
        raise ValueError('give normal or full')
    return text


def from_url(parts: SplitResult, clock: Clock) -> SQLiteStore:
    """`sqlite:///state.db` (relative) or `sqlite:////var/lib/state.db` (absolute), with `?namespace=`, `?timeout_s=` and
    `?synchronous=`. Raises ConfigError for any other."""
    options = options_of(parts, {'timeout_s': float, 'synchronous': _synchronous})
    path = unquote(parts.path.removeprefix('/'))
    if parts.netloc or not path:
        raise ConfigError(f'store={masked(parts)!r}: write sqlite:///state.db, or sqlite:////var/lib/state.db')
    return SQLiteStore(path, clock=clock, **options)
