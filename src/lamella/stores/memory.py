"""State in this process's memory: the default of every layer that remembers, and gone when the process ends."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import SplitResult

from lamella.core.clock import SYSTEM_CLOCK, Clock
from lamella.core.ports import Addition, Bucket, Count, Entry, Lease, Listed, NeverWaits, Stored, Taken, each_once
from lamella.core.stores import masked, options_of
from lamella.stores._memory import FOREVER, Row, Rows
from lamella.types import ConfigError


class MemoryStore(Rows, NeverWaits):
    """All ports over dictionaries. Safe for several threads and event loops; time is the clock's."""

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(clock)

    def __repr__(self) -> str:
        return 'MemoryStore()'

    async def get(self, key: str) -> Stored | None:
        with self._lock:
            self._now()
            return self._stored(key)

    def _stored(self, key: str) -> Stored | None:
        row = self._tables['value'].get(key)
        return None if row is None else row.content

    async def put(self, key: str, value: bytes, *, expire_s: float | None = None, listed: str | None = None) -> int:
        with self._lock:
            now = self._now()
            return self._put(key, value, expire_s, listed, now)

    def _put(self, key: str, value: bytes, expire_s: float | None, listed: str | None, now: float) -> int:
        row = self._row('value', key, lambda: None)
        row.content = Stored(bytes(value), self._number())
        listed = row.listed if listed is None else listed
        if row.listed is not None:
            self._unlist(row.listed, key)
        if listed is not None:
            self._lists.setdefault(listed, {})[key] = None
        row.listed = listed
        self._expire('value', key, row, _until(now, expire_s))
        return self._version

    async def put_if_absent(
        self, key: str, value: bytes, *, expire_s: float | None = None, listed: str | None = None
    ) -> Stored | None:
        with self._lock:
            now = self._now()
            found = self._stored(key)
            if found is None:
                self._put(key, value, expire_s, listed, now)
            return found

    async def compare_and_put(
        self, key: str, version: int, value: bytes, *, expire_s: float | None = None, listed: str | None = None
    ) -> int | None:
        with self._lock:
            now = self._now()
            found = self._stored(key)
            if (0 if found is None else found.version) != version:
                return None
            return self._put(key, value, expire_s, listed, now)

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        with self._lock:
            self._now()
            found = self._stored(key)
            if found is None or (version is not None and found.version != version):
                return False
            self._forget('value', key)
            return True

    async def listed(self, name: str, *, after: int = 0, limit: int = 100) -> Sequence[Listed]:
        with self._lock:
            self._now()
            rows = self._tables['value']
            found = [(key, rows[key].content) for key in self._lists.get(name, ())]
            newer = [Listed(key, stored.value, stored.version) for key, stored in found if stored.version > after]
            return newer[: max(0, limit)]

    async def add(
        self,
        key: str,
        amount: int = 1,
        *,
        ceiling: int | None = None,
        expire_s: float | None = None,
        window: int | None = None,
    ) -> Count:
        addition = Addition(key, amount, ceiling, expire_s, window)
        with self._lock:
            now = self._now()
            judged = addition.judged(self._counted(key, now))
            return self._add(addition, now) if judged.added else judged

    async def add_all(self, additions: Sequence[Addition]) -> Sequence[Count]:
        each_once(additions)
        with self._lock:
            now = self._now()
            before = [self._counted(addition.key, now) for addition in additions]
            judged = [addition.judged(count) for addition, count in zip(additions, before, strict=True)]
            if not all(count.fits for count in judged):
                return [count.replace(added=False) for count in judged]
            return [
                self._add(addition, now) if count.added else count
                for addition, count in zip(additions, judged, strict=True)
            ]

    def _add(self, addition: Addition, now: float) -> Count:
        key, amount = addition.key, addition.amount
        row = self._tables['count'].get(key)
        if row is None:
            if amount <= 0:
                return Count(0, added=True)
            row = self._row('count', key, lambda: (0, self._number()))
            self._expire('count', key, row, _until(now, addition.expire_s))
        value, window = row.content
        row.content = (max(0, value + amount), window)
        return Count(row.content[0], added=True, expires_in_s=_left(row, now), window=window)

    def _counted(self, key: str, now: float) -> Count:
        row = self._tables['count'].get(key)
        if row is None:
            return Count(0, added=False)
        value, window = row.content
        return Count(value, added=False, expires_in_s=_left(row, now), window=window)

    async def count(self, key: str) -> Count:
        with self._lock:
            now = self._now()
            return self._counted(key, now)

    async def reset(self, key: str) -> int:
        with self._lock:
            self._now()
            content = self._forget('count', key)
            return 0 if content is None else int(content[0])

    async def take(self, buckets: Sequence[Bucket], *, max_wait_s: float = 0.0) -> Taken:
        each_once(buckets)
        with self._lock:
            now = self._now()
            levels = [self._level(bucket, now) for bucket in buckets]
            wait = max((bucket.wait_s(level) for bucket, level in zip(buckets, levels, strict=True)), default=0.0)
            if wait > max_wait_s or wait == FOREVER:
                return Taken(granted=False, wait_s=wait)
            for bucket, level in zip(buckets, levels, strict=True):
                self._fill(bucket, level - bucket.amount, now)
            return Taken(granted=True, wait_s=wait)

    async def settle(self, buckets: Sequence[Bucket]) -> None:
        each_once(buckets)
        with self._lock:
            now = self._now()
            for bucket in buckets:
                self._fill(bucket, min(bucket.burst, self._level(bucket, now) - bucket.amount), now)

    def _level(self, bucket: Bucket, now: float) -> float:
        row = self._tables['bucket'].get(bucket.key)
        return bucket.burst if row is None else bucket.refilled(row.content[0], now - row.content[1])

    def _fill(self, bucket: Bucket, level: float, now: float) -> None:
        """A full bucket is the same as none, so it is forgotten when it would be full again."""
        if level >= bucket.burst:
            self._forget('bucket', bucket.key)
            return
        row = self._row('bucket', bucket.key, tuple)
        row.content = (level, now)
        self._expire('bucket', bucket.key, row, now + bucket.full_in_s(level))

    async def acquire(self, key: str, ttl_s: float, *, slots: int = 1) -> Lease | None:
        with self._lock:
            now = self._now()
            held = self._held(key, now)
            if len(held) >= slots:
                return None
            token = self._number()
            self._hold(key, held | {token: now + ttl_s})
            return Lease(key, token, ttl_s)

    async def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        with self._lock:
            now = self._now()
            held = self._held(lease.key, now)
            if lease.token not in held:
                return None
            self._hold(lease.key, held | {lease.token: now + ttl_s})
            return lease.replace(expires_in_s=ttl_s)

    async def release(self, lease: Lease) -> bool:
        with self._lock:
            now = self._now()
            held = self._held(lease.key, now)
            if held.pop(lease.token, None) is None:
                return False
            self._hold(lease.key, held)
            return True

    def _held(self, key: str, now: float) -> dict[int, float]:
        """Tokens and until when they hold."""
        row = self._tables['lease'].get(key)
        return {} if row is None else {token: until for token, until in row.content.items() if until > now}

    def _hold(self, key: str, held: dict[int, float]) -> None:
        if not held:
            self._forget('lease', key)
            return
        row = self._row('lease', key, dict)
        row.content = held
        self._expire('lease', key, row, max(held.values()))

    async def append(self, key: str, value: bytes, *, expire_s: float | None = None) -> int:
        with self._lock:
            now = self._now()
            row = self._row('log', key, list)
            row.content.append(bytes(value))
            self._expire('log', key, row, _until(now, expire_s))
            return len(row.content)

    async def read(self, key: str, *, after: int = 0, limit: int = 100) -> Sequence[Entry]:
        with self._lock:
            self._now()
            row = self._tables['log'].get(key)
            values = [] if row is None else row.content[after : after + max(0, limit)]
            return [Entry(after + index, value) for index, value in enumerate(values, 1)]

    async def aclose(self) -> None:
        """Nothing to close; what is stored stays."""


def _until(now: float, expire_s: float | None) -> float:
    return FOREVER if expire_s is None else now + expire_s


def _left(row: Row, now: float) -> float | None:
    return None if row.until == FOREVER else row.until - now


def from_url(parts: SplitResult, clock: Clock) -> MemoryStore:
    """`memory://` is a new store each time. Raises ConfigError for anything behind it but a namespace."""
    options_of(parts, {})
    if parts.netloc or parts.path:
        raise ConfigError(f'store={masked(parts)!r}: memory:// has no name; every use is a store of its own')
    return MemoryStore(clock=clock)
