"""State in this process's memory: the default of every layer that remembers, and gone when the process ends."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any
from urllib.parse import SplitResult

from lamella.core.clock import SYSTEM_CLOCK, Clock
from lamella.core.ports import Bucket, Count, Entry, Lease, Stored, Taken
from lamella.core.stores import masked
from lamella.types import ConfigError

_FOREVER = math.inf


class MemoryStore:
    """All ports over dictionaries. Safe for several threads and event loops; time is the clock's.

    What has expired is removed as the store is used, oldest first, so that nothing piles up.
    """

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._lock = Lock()
        self._tables: dict[str, dict[str, _Row]] = {name: {} for name in ('value', 'count', 'bucket', 'lease', 'log')}
        self._expiries: list[tuple[float, str, str]] = []
        self._version = 0

    def __len__(self) -> int:
        """How many keys are held, of all ports."""
        with self._now():
            return sum(map(len, self._tables.values()))

    @contextmanager
    def _now(self) -> Iterator[float]:
        with self._lock:
            now = self._clock.now()
            self._sweep(now)
            yield now

    def _sweep(self, now: float) -> None:
        while self._expiries and self._expiries[0][0] <= now:
            _, table, key = heapq.heappop(self._expiries)
            row = self._tables[table].get(key)
            if row is not None and row.until <= now:
                del self._tables[table][key]

    def _row(self, table: str, key: str, make: Callable[[], Any]) -> _Row:
        rows = self._tables[table]
        if key not in rows:
            rows[key] = _Row(make(), _FOREVER)
        return rows[key]

    def _expire(self, table: str, key: str, row: _Row, until: float) -> None:
        if until != row.until and until != _FOREVER:
            heapq.heappush(self._expiries, (until, table, key))
        row.until = until

    async def get(self, key: str) -> Stored | None:
        with self._now():
            row = self._tables['value'].get(key)
            return None if row is None else row.content

    async def put(self, key: str, value: bytes, *, expire_s: float | None = None) -> int:
        with self._now() as now:
            return self._put(key, value, expire_s, now)

    def _put(self, key: str, value: bytes, expire_s: float | None, now: float) -> int:
        self._version += 1
        row = self._row('value', key, lambda: None)
        row.content = Stored(bytes(value), self._version)
        self._expire('value', key, row, _until(now, expire_s))
        return self._version

    async def put_if_absent(self, key: str, value: bytes, *, expire_s: float | None = None) -> Stored | None:
        with self._now() as now:
            row = self._tables['value'].get(key)
            if row is not None:
                found: Stored = row.content
                return found
            self._put(key, value, expire_s, now)
            return None

    async def compare_and_put(
        self, key: str, version: int, value: bytes, *, expire_s: float | None = None
    ) -> int | None:
        with self._now() as now:
            row = self._tables['value'].get(key)
            if (0 if row is None else row.content.version) != version:
                return None
            return self._put(key, value, expire_s, now)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        with self._now():
            row = self._tables['value'].get(key)
            if row is None or (version is not None and row.content.version != version):
                return False
            del self._tables['value'][key]
            return True

    async def add(
        self, key: str, amount: int = 1, *, ceiling: int | None = None, expire_s: float | None = None
    ) -> Count:
        with self._now() as now:
            row = self._tables['count'].get(key)
            value = 0 if row is None else row.content
            if ceiling is not None and amount > 0 and value + amount > ceiling:
                return Count(value, added=False, expires_in_s=_left(row, now))
            if row is None:
                row = self._row('count', key, int)
                self._expire('count', key, row, _until(now, expire_s))
            row.content = max(0, value + amount)
            return Count(row.content, added=True, expires_in_s=_left(row, now))

    async def take(self, buckets: Sequence[Bucket]) -> Taken:
        with self._now() as now:
            levels = [self._level(bucket, now) for bucket in buckets]
            wait = max((_wait(bucket, level) for bucket, level in zip(buckets, levels, strict=True)), default=0.0)
            if wait > 0:
                return Taken(granted=False, wait_s=wait)
            for bucket, level in zip(buckets, levels, strict=True):
                self._fill(bucket, level - bucket.amount, now)
            return Taken(granted=True)

    async def settle(self, buckets: Sequence[Bucket]) -> None:
        with self._now() as now:
            for bucket in buckets:
                self._fill(bucket, min(bucket.burst, self._level(bucket, now) - bucket.amount), now)

    def _level(self, bucket: Bucket, now: float) -> float:
        row = self._tables['bucket'].get(bucket.key)
        if row is None:
            return bucket.burst
        level, since = row.content
        refilled: float = level + (now - since) * bucket.rate
        return min(bucket.burst, refilled)

    def _fill(self, bucket: Bucket, level: float, now: float) -> None:
        """A full bucket is the same as none, so it is forgotten when it would be full again."""
        row = self._row('bucket', bucket.key, tuple)
        row.content = (level, now)
        full_in = (bucket.burst - level) / bucket.rate if bucket.rate > 0 else _FOREVER
        self._expire('bucket', bucket.key, row, now + full_in)

    async def acquire(self, key: str, ttl_s: float) -> Lease | None:
        with self._now() as now:
            if key in self._tables['lease']:
                return None
            self._version += 1
            row = self._row('lease', key, int)
            row.content = self._version
            self._expire('lease', key, row, now + ttl_s)
            return Lease(key, row.content, ttl_s)

    async def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        with self._now() as now:
            row = self._tables['lease'].get(lease.key)
            if row is None or row.content != lease.token:
                return None
            self._expire('lease', lease.key, row, now + ttl_s)
            return lease.replace(expires_in_s=ttl_s)

    async def release(self, lease: Lease) -> bool:
        with self._now():
            row = self._tables['lease'].get(lease.key)
            if row is None or row.content != lease.token:
                return False
            del self._tables['lease'][lease.key]
            return True

    async def append(self, key: str, value: bytes, *, expire_s: float | None = None) -> int:
        with self._now() as now:
            row = self._row('log', key, list)
            row.content.append(bytes(value))
            self._expire('log', key, row, _until(now, expire_s))
            return len(row.content)

    async def read(self, key: str, *, after: int = 0, limit: int = 100) -> Sequence[Entry]:
        with self._now():
            row = self._tables['log'].get(key)
            values = [] if row is None else row.content[after : after + limit]
            return [Entry(after + index, value) for index, value in enumerate(values, 1)]

    async def aclose(self) -> None:
        """Nothing to close; what is stored stays."""


class _Row:
    """What is kept for one key, and until when."""

    __slots__ = ('content', 'until')

    def __init__(self, content: Any, until: float) -> None:
        self.content, self.until = content, until


def _until(now: float, expire_s: float | None) -> float:
    return _FOREVER if expire_s is None else now + expire_s


def _left(row: _Row | None, now: float) -> float | None:
    return None if row is None or row.until == _FOREVER else row.until - now


def _wait(bucket: Bucket, level: float) -> float:
    """Seconds until the bucket has what is asked of it."""
    if bucket.amount <= level:
        return 0.0
    if bucket.amount > bucket.burst or bucket.rate <= 0:
        return _FOREVER
    return (bucket.amount - level) / bucket.rate


def from_url(parts: SplitResult, clock: Clock) -> MemoryStore:
    """`memory://`. Raises ConfigError for a URL with more in it."""
    if parts.netloc or parts.path:
        raise ConfigError(f'store={masked(parts)!r}: memory:// has no name; each one is a store of its own')
    return MemoryStore(clock=clock)
