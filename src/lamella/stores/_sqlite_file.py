"""A SQLite file that is open: one connection on one thread, transactions, and errors in our own words."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar
from weakref import finalize

from lamella.core.clock import Clock
from lamella.stores import _sqlite as verbs
from lamella.types import ConfigError, LamellaError

T = TypeVar('T')
Work = Callable[[sqlite3.Connection, float], T]
_SWEEP_EVERY = 64
_FREED_PAGES = 256
_LOCKED_AGAIN_S = 0.005
_WAL_BYTES = 8_000_000


class File:
    """Opened by the first work, on its own thread, which does one work after the other."""

    def __init__(self, path: str, timeout_s: float, synchronous: str, clock: Clock) -> None:
        self._path, self._timeout_s, self._synchronous, self._clock = path, timeout_s, synchronous, clock
        self._thread = ThreadPoolExecutor(1, 'lamella-sqlite')
        self._connection: sqlite3.Connection | None = None
        self._writes = 0
        self._process = os.getpid()

    @property
    def is_usable(self) -> bool:
        """Not after a fork: neither the thread nor the connection has come along (sqlite.org/howtocorrupt.html)."""
        return self._process == os.getpid()

    async def write(self, work: Work[T]) -> T:
        """One transaction: done whole, or not at all."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._told, self._transaction, work)

    async def read(self, work: Work[T]) -> T:
        """One SELECT: what was there at one moment, without waiting for writers."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._told, self._look, work)

    async def close(self) -> None:
        """After what is under way. The thread ends."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._end)
        self._thread.shutdown(wait=False)

    def _told(self, run: Callable[[sqlite3.Connection, Work[T]], T], work: Work[T]) -> T:
        try:
            return run(self._connection or self._open(), work)
        except sqlite3.OperationalError as error:
            raise self._translated(error) from error
        except sqlite3.DatabaseError as error:
            raise ConfigError(f'{self._path} is no database that can be used: {error}') from error
        except OverflowError as error:
            raise LamellaError(
                'INVALID_ARGUMENT', f'SQLite at {self._path} cannot hold such a value: {error}'
            ) from error

    def _translated(self, error: sqlite3.OperationalError) -> LamellaError:
        name = getattr(error, 'sqlite_errorname', '')
        if name.startswith('SQLITE_READONLY'):
            return LamellaError('FAILED_PRECONDITION', f'SQLite at {self._path} may only be read: {error}')
        if name == 'SQLITE_FULL':
            return LamellaError('RESOURCE_EXHAUSTED', f'SQLite at {self._path} has no room left: {error}')
        return LamellaError('UNAVAILABLE', f'SQLite at {self._path}: {error}')

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
            if connection.in_transaction:
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

    def _end(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._forgotten.detach()
            connection.close()
