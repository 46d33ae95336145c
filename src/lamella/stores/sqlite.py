"""State in one SQLite file: durable, without a server, safe for many processes of one machine.

One connection on one thread; every verb is one `BEGIN IMMEDIATE` transaction, in WAL mode (sqlite.org/wal.html), so that
readers never wait and writers wait for each other at most `timeout_s`. Time is the wall clock: processes that share a file
share a machine.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote

from lamella.core.clock import SYSTEM_CLOCK, Clock
from lamella.core.ports import Bucket, Count, Entry, Lease, Stored, Taken
from lamella.core.stores import masked
from lamella.types import ConfigError, LamellaError

T = TypeVar('T')
_SWEPT_ROWS = 200
_SCHEMA = """
CREATE TABLE IF NOT EXISTS lamella_values (key TEXT PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL, until REAL);
CREATE TABLE IF NOT EXISTS lamella_counts (key TEXT PRIMARY KEY, value INTEGER NOT NULL, until REAL);
CREATE TABLE IF NOT EXISTS lamella_buckets (key TEXT PRIMARY KEY, level REAL NOT NULL, since REAL NOT NULL, until REAL);
CREATE TABLE IF NOT EXISTS lamella_leases (key TEXT PRIMARY KEY, token INTEGER NOT NULL, until REAL);
CREATE TABLE IF NOT EXISTS lamella_logs
    (key TEXT, position INTEGER, value BLOB NOT NULL, until REAL, PRIMARY KEY (key, position));
CREATE TABLE IF NOT EXISTS lamella_sequence (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS lamella_values_until ON lamella_values (until) WHERE until IS NOT NULL;
CREATE INDEX IF NOT EXISTS lamella_counts_until ON lamella_counts (until) WHERE until IS NOT NULL;
CREATE INDEX IF NOT EXISTS lamella_buckets_until ON lamella_buckets (until) WHERE until IS NOT NULL;
CREATE INDEX IF NOT EXISTS lamella_leases_until ON lamella_leases (until) WHERE until IS NOT NULL;
CREATE INDEX IF NOT EXISTS lamella_logs_until ON lamella_logs (until) WHERE until IS NOT NULL;
"""
_TABLES = ('values', 'counts', 'buckets', 'leases', 'logs')


class SQLiteStore:
    """All ports over one file, or over `:memory:` for this process alone.

    Raises ConfigError for a path that cannot be a database, and UNAVAILABLE when the file stays locked for `timeout_s`.
    """

    def __init__(self, path: str | Path, *, timeout_s: float = 5.0, clock: Clock = SYSTEM_CLOCK) -> None:
        self._path, self._timeout_s, self._clock = str(path), timeout_s, clock
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None
        self._writes = 0

    def __repr__(self) -> str:
        return f'SQLiteStore({self._path!r})'

    async def _run(self, work: Callable[[sqlite3.Connection, float], T]) -> T:
        """One transaction on the store's thread: done whole, or not at all."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, 'lamella-sqlite')
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)

    def _transaction(self, work: Callable[[sqlite3.Connection, float], T]) -> T:
        try:
            connection = self._connection or self._open()
            connection.execute('BEGIN IMMEDIATE')
            try:
                now = self._clock.time()
                self._sweep(connection, now)
                result = work(connection, now)
            except BaseException:
                connection.execute('ROLLBACK')
                raise
            connection.execute('COMMIT')
            return result
        except sqlite3.OperationalError as error:
            raise LamellaError('UNAVAILABLE', f'{self._path}: {error}') from error
        except sqlite3.DatabaseError as error:
            raise ConfigError(f'{self._path} is no database that can be used: {error}') from error

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False)
        try:
            connection.execute('PRAGMA journal_mode=WAL')
            connection.execute('PRAGMA synchronous=NORMAL')
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _sweep(self, connection: sqlite3.Connection, now: float) -> None:
        """Remove what has expired, a bounded number of rows at a time and not at every verb."""
        self._writes += 1
        if self._writes % 64 != 1:
            return
        for table in _TABLES:
            connection.execute(
                f'DELETE FROM lamella_{table} WHERE rowid IN '
                f'(SELECT rowid FROM lamella_{table} WHERE until <= ? LIMIT {_SWEPT_ROWS})',
                (now,),
            )

    async def get(self, key: str) -> Stored | None:
        return await self._run(lambda db, now: _value(db, key, now))

    async def put(self, key: str, value: bytes, *, expire_s: float | None = None) -> int:
        return await self._run(lambda db, now: _put(db, key, value, expire_s, now))

    async def put_if_absent(self, key: str, value: bytes, *, expire_s: float | None = None) -> Stored | None:
        def work(db: sqlite3.Connection, now: float) -> Stored | None:
            found = _value(db, key, now)
            if found is None:
                _put(db, key, value, expire_s, now)
            return found

        return await self._run(work)

    async def compare_and_put(
        self, key: str, version: int, value: bytes, *, expire_s: float | None = None
    ) -> int | None:
        def work(db: sqlite3.Connection, now: float) -> int | None:
            found = _value(db, key, now)
            if (0 if found is None else found.version) != version:
                return None
            return _put(db, key, value, expire_s, now)

        return await self._run(work)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        def work(db: sqlite3.Connection, now: float) -> bool:
            found = _value(db, key, now)
            if found is None or (version is not None and found.version != version):
                return False
            db.execute('DELETE FROM lamella_values WHERE key = ?', (key,))
            return True

        return await self._run(work)

    async def add(
        self, key: str, amount: int = 1, *, ceiling: int | None = None, expire_s: float | None = None
    ) -> Count:
        def work(db: sqlite3.Connection, now: float) -> Count:
            row = _one(db, 'SELECT value, until FROM lamella_counts WHERE key = ?', key, now)
            value, until = row if row is not None else (0, None)
            if ceiling is not None and amount > 0 and value + amount > ceiling:
                return Count(value, added=False, expires_in_s=_left(until, now))
            until = until if row is not None else _until(now, expire_s)
            value = max(0, value + amount)
            db.execute('REPLACE INTO lamella_counts VALUES (?, ?, ?)', (key, value, until))
            return Count(value, added=True, expires_in_s=_left(until, now))

        return await self._run(work)

    async def take(self, buckets: Sequence[Bucket]) -> Taken:
        def work(db: sqlite3.Connection, now: float) -> Taken:
            levels = [_level(db, bucket, now) for bucket in buckets]
            wait = max((_wait(bucket, level) for bucket, level in zip(buckets, levels, strict=True)), default=0.0)
            if wait > 0:
                return Taken(granted=False, wait_s=wait)
            for bucket, level in zip(buckets, levels, strict=True):
                _fill(db, bucket, level - bucket.amount, now)
            return Taken(granted=True)

        return await self._run(work)

    async def settle(self, buckets: Sequence[Bucket]) -> None:
        def work(db: sqlite3.Connection, now: float) -> None:
            for bucket in buckets:
                _fill(db, bucket, min(bucket.burst, _level(db, bucket, now) - bucket.amount), now)

        await self._run(work)

    async def acquire(self, key: str, ttl_s: float) -> Lease | None:
        def work(db: sqlite3.Connection, now: float) -> Lease | None:
            if _one(db, 'SELECT token, until FROM lamella_leases WHERE key = ?', key, now) is not None:
                return None
            token = _next_number(db)
            db.execute('REPLACE INTO lamella_leases VALUES (?, ?, ?)', (key, token, now + ttl_s))
            return Lease(key, token, ttl_s)

        return await self._run(work)

    async def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        def work(db: sqlite3.Connection, now: float) -> Lease | None:
            changed = db.execute(
                'UPDATE lamella_leases SET until = ? WHERE key = ? AND token = ? AND until > ?',
                (now + ttl_s, lease.key, lease.token, now),
            ).rowcount
            return lease.replace(expires_in_s=ttl_s) if changed else None

        return await self._run(work)

    async def release(self, lease: Lease) -> bool:
        def work(db: sqlite3.Connection, now: float) -> bool:
            statement = 'DELETE FROM lamella_leases WHERE key = ? AND token = ? AND until > ?'
            return db.execute(statement, (lease.key, lease.token, now)).rowcount > 0

        return await self._run(work)

    async def append(self, key: str, value: bytes, *, expire_s: float | None = None) -> int:
        def work(db: sqlite3.Connection, now: float) -> int:
            db.execute('DELETE FROM lamella_logs WHERE key = ? AND until <= ?', (key, now))
            last = db.execute('SELECT max(position) FROM lamella_logs WHERE key = ?', (key,)).fetchone()[0]
            position, until = (last or 0) + 1, _until(now, expire_s)
            db.execute('UPDATE lamella_logs SET until = ? WHERE key = ?', (until, key))
            db.execute('INSERT INTO lamella_logs VALUES (?, ?, ?, ?)', (key, position, value, until))
            return int(position)

        return await self._run(work)

    async def read(self, key: str, *, after: int = 0, limit: int = 100) -> Sequence[Entry]:
        def work(db: sqlite3.Connection, now: float) -> list[Entry]:
            rows = db.execute(
                'SELECT position, value FROM lamella_logs WHERE key = ? AND position > ? AND (until IS NULL OR until > ?) '
                'ORDER BY position LIMIT ?',
                (key, after, now, limit),
            )
            return [Entry(position, value) for position, value in rows]

        return await self._run(work)

    async def aclose(self) -> None:
        """Close the file and end the thread; the next verb opens them again."""
        thread, self._thread = self._thread, None
        connection, self._connection = self._connection, None
        if thread is not None:
            if connection is not None:
                await asyncio.get_running_loop().run_in_executor(thread, connection.close)
            thread.shutdown(wait=False)


def _one(db: sqlite3.Connection, select: str, key: str, now: float) -> Any:
    return db.execute(f'{select} AND (until IS NULL OR until > ?)', (key, now)).fetchone()


def _value(db: sqlite3.Connection, key: str, now: float) -> Stored | None:
    row = _one(db, 'SELECT value, version FROM lamella_values WHERE key = ?', key, now)
    return None if row is None else Stored(row[0], row[1])


def _put(db: sqlite3.Connection, key: str, value: bytes, expire_s: float | None, now: float) -> int:
    version = _next_number(db)
    db.execute('REPLACE INTO lamella_values VALUES (?, ?, ?, ?)', (key, value, version, _until(now, expire_s)))
    return version


def _next_number(db: sqlite3.Connection) -> int:
    """Grows for ever, over all keys: versions and fencing tokens are never used twice, also after an expiry."""
    statement = """
        INSERT INTO lamella_sequence VALUES ('next', 1)
        ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value
    """
    return int(db.execute(statement).fetchone()[0])


def _level(db: sqlite3.Connection, bucket: Bucket, now: float) -> float:
    row = db.execute('SELECT level, since FROM lamella_buckets WHERE key = ?', (bucket.key,)).fetchone()
    if row is None:
        return bucket.burst
    refilled: float = row[0] + max(0.0, now - row[1]) * bucket.rate
    return min(bucket.burst, refilled)


def _fill(db: sqlite3.Connection, bucket: Bucket, level: float, now: float) -> None:
    until = now + (bucket.burst - level) / bucket.rate if bucket.rate > 0 else None
    db.execute('REPLACE INTO lamella_buckets VALUES (?, ?, ?, ?)', (bucket.key, level, now, until))


def _wait(bucket: Bucket, level: float) -> float:
    if bucket.amount <= level:
        return 0.0
    if bucket.amount > bucket.burst or bucket.rate <= 0:
        return math.inf
    return (bucket.amount - level) / bucket.rate


def _until(now: float, expire_s: float | None) -> float | None:
    return None if expire_s is None else now + expire_s


def _left(until: float | None, now: float) -> float | None:
    return None if until is None else until - now


def from_url(parts: SplitResult, clock: Clock) -> SQLiteStore:
    """`sqlite:///state.db` (relative) or `sqlite:////var/lib/state.db` (absolute). Raises ConfigError for any other."""
    path = unquote(parts.path.removeprefix('/'))
    if parts.netloc or not path:
        raise ConfigError(f'store={masked(parts)!r}: write sqlite:///state.db, or sqlite:////var/lib/state.db')
    return SQLiteStore(path, clock=clock)
