"""State in one SQLite file: durable, without a server, safe for many processes of one machine.

One connection on one thread; every verb that writes is one `BEGIN IMMEDIATE` transaction, in WAL mode (sqlite.org/wal.html), so
that readers never wait and writers wait for each other at most `timeout_s`. Time is the machine's wall clock: processes that
share a file share a machine. A clock that is set back an hour lets what is stored live an hour longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, unquote

from lamella.core.clock import SYSTEM_CLOCK, Clock
from lamella.core.ports import Addition, Bucket, Count, Entry, Lease, Listed, Stored, Taken, each_once
from lamella.core.stores import DEFAULT_NAMESPACE, key_bytes, masked, options_of
from lamella.stores import _sqlite as verbs
from lamella.stores._sqlite_file import File, T, Work
from lamella.types import ConfigError


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
        self._path = str(path)
        self._prefix = f'{namespace}:'.encode()
        self._open = partial(File, self._path, timeout_s, synchronous, clock)
        self._file: File | None = None

    def __repr__(self) -> str:
        return f'SQLiteStore({self._path!r})'

    def _opened(self) -> File:
        if self._file is None or not self._file.is_usable:
            self._file = self._open()
        return self._file

    async def _write(self, work: Work[T]) -> T:
        return await self._opened().write(work)

    async def _read(self, work: Work[T]) -> T:
        return await self._opened().read(work)

    async def sweep(self) -> int:
        """Remove what has expired, at once instead of as the store is used. How many rows there were."""
        removed = 0
        while batch := await self._write(verbs.sweep):
            removed += batch
        return removed

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
        file, self._file = self._file, None
        if file is not None and file.is_usable:
            await file.close()


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
