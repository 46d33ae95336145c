"""State in Postgres: shared by processes and machines, as durable as the database, every verb one statement.

Time is the server's. The tables and functions lie in a schema of their own (`lamella`), which the first process makes and a newer
version brings up to date. What has expired is invisible at once, and removed as the store is used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b, sha256
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from lamella.core.clock import Clock
from lamella.core.loops import PerLoop
from lamella.core.ports import Addition, Bucket, Count, Entry, Lease, Listed, Stored, Taken, each_once
from lamella.core.stores import DEFAULT_NAMESPACE, host_of, key_bytes, masked, options_of
from lamella.stores._postgres import Ask, Client, T
from lamella.types import ConfigError, LamellaError

_SCHEMA = re.compile(r'[a-z_][a-z0-9_]{0,40}')
_LONGEST_KEY = 1024  # an index entry holds some 2,700 bytes
_SWEEP_EVERY = 64
_SWEPT_ROWS = 500
_ALIVE = '(until IS NULL OR until > {0}.now_s())'
_DRIVER_OPTIONS = ('sslmode', 'sslrootcert', 'sslcert', 'sslkey', 'target_session_attrs', 'application_name', 'host')


class PostgresStore:
    """All ports over one Postgres database (11 or newer).

    At most `max_connections` verbs of an event loop are under way at once; others wait. A connection that cannot be had and an
    answer that does not come within `timeout_s` are UNAVAILABLE. Verbs that only read are tried again once, on a new connection.
    `statement_cache_size=0` is for a pooler that gives each transaction another session. Raises ConfigError for a URL or a
    schema that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        schema: str = 'lamella',
        max_connections: int = 10,
        timeout_s: float = 5.0,
        statement_cache_size: int = 100,
    ) -> None:
        if not _SCHEMA.fullmatch(schema):
            raise ConfigError(f'schema={schema!r}: give small letters, digits and underscores, at most 41')
        options = {
            'timeout': timeout_s,
            'command_timeout': timeout_s,
            'statement_cache_size': statement_cache_size,
        }
        shown = f'Postgres at {host_of(urlsplit(url)) or "this machine"}'
        self._shown, self._schema, self._namespace = shown, schema, namespace
        self._clients = PerLoop(lambda: Client(url, shown, schema, max_connections, options), Client.close)
        self._writes = 0

    def __repr__(self) -> str:
        return f'PostgresStore({self._shown!r})'

    async def _write(self, work: Ask[T]) -> T:
        client = await self._clients.get()
        result = await client.ask(work)
        self._writes += 1
        if self._writes % _SWEEP_EVERY == 0:
            with suppress(LamellaError):  # the verb is done, and tells of no other's trouble
                await client.ask(self._swept)
        return result

    async def _read(self, work: Ask[T]) -> T:
        client = await self._clients.get()
        return await client.ask(work, reads=True)

    async def _call(self, verb: str, *args: Any) -> Any:
        """One function that answers with one value."""
        places = ', '.join(f'${number}' for number in range(1, len(args) + 1))
        return await self._write(lambda db: db.fetchval(f'SELECT {self._schema}.{verb}({places})', *args))

    async def _rows(self, verb: str, *args: Any) -> Sequence[Any]:
        """One function that answers with rows."""
        places = ', '.join(f'${number}' for number in range(1, len(args) + 1))
        return await self._write(lambda db: db.fetch(f'SELECT * FROM {self._schema}.{verb}({places})', *args))

    async def _select(self, statement: str, *args: Any) -> Sequence[Any]:
        text = statement.format(self._schema)
        return await self._read(lambda db: db.fetch(text, self._namespace, *args))

    async def _swept(self, db: Any) -> int:
        return int(await db.fetchval(f'SELECT {self._schema}.sweep({_SWEPT_ROWS})'))

    async def sweep(self) -> int:
        """Remove what has expired, at once instead of as the store is used. How many rows there were."""
        removed = 0
        while batch := await (await self._clients.get()).ask(self._swept):
            removed += batch
        return removed

    async def get(self, key: str) -> Stored | None:
        statement = f'SELECT value, version FROM {{0}}.items WHERE namespace = $1 AND key = $2 AND {_ALIVE}'
        rows = await self._select(statement, _key(key))
        return Stored(*rows[0]) if rows else None

    async def put(self, key: str, value: bytes, *, expire_s: float | None = None, listed: str | None = None) -> int:
        return int(await self._call('put', *self._written(key, value, expire_s, listed)))

    async def put_if_absent(
        self, key: str, value: bytes, *, expire_s: float | None = None, listed: str | None = None
    ) -> Stored | None:
        [(found, version)] = await self._rows('put_if_absent', *self._written(key, value, expire_s, listed))
        return None if version is None else Stored(found, version)

    async def compare_and_put(
        self, key: str, version: int, value: bytes, *, expire_s: float | None = None, listed: str | None = None
    ) -> int | None:
        args = self._written(key, value, expire_s, listed)
        written: int | None = await self._call('compare_and_put', *args, version)
        return written

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        return bool(await self._call('remove', *self._locked('v', key), version))

    async def listed(self, name: str, *, after: int = 0, limit: int = 100) -> Sequence[Listed]:
        statement = (
            'SELECT coalesce(name, key), value, version FROM {0}.items '
            f'WHERE namespace = $1 AND list = $2 AND version > $3 AND {_ALIVE} ORDER BY version LIMIT $4'
        )
        rows = await self._select(statement, _key(name), after, max(0, limit))
        return [Listed(key.decode('utf-8', 'surrogatepass'), value, version) for key, value, version in rows]

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
        each_once(additions)
        if not additions:
            return []
        rows = await self._rows(
            'add_all',
            *self._all_locked('c', additions),
            [one.amount for one in additions],
            [one.ceiling for one in additions],
            [_finite(one.expire_s) for one in additions],
            [one.window for one in additions],
        )
        return [Count(value, added, left, window, fits) for value, added, left, window, fits in rows]

    async def count(self, key: str) -> Count:
        statement = (
            'SELECT value, number, until - {0}.now_s() FROM {0}.counters '
            f'WHERE namespace = $1 AND key = $2 AND {_ALIVE}'
        )
        rows = await self._select(statement, _key(key))
        if not rows:
            return Count(0, added=False)
        value, window, left = rows[0]
        return Count(value, added=False, expires_in_s=left, window=window)

    async def reset(self, key: str) -> int:
        return int(await self._call('reset', *self._locked('c', key)))

    async def take(self, buckets: Sequence[Bucket], *, max_wait_s: float = 0.0) -> Taken:
        each_once(buckets)
        if not buckets:
            return Taken(granted=True)
        [(granted, wait)] = await self._rows('take', *self._filled(buckets), max_wait_s)
        return Taken(granted=granted, wait_s=wait)

    async def settle(self, buckets: Sequence[Bucket]) -> None:
        each_once(buckets)
        if buckets:
            await self._call('settle', *self._filled(buckets))

    async def acquire(self, key: str, ttl_s: float, *, slots: int = 1) -> Lease | None:
        token = await self._call('acquire', *self._locked('h', key), ttl_s, slots)
        return None if token is None else Lease(key, token, ttl_s)

    async def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        held = await self._call('renew', *self._locked('h', lease.key), lease.token, ttl_s)
        return lease.replace(expires_in_s=ttl_s) if held else None

    async def release(self, lease: Lease) -> bool:
        return bool(await self._call('release', *self._locked('h', lease.key), lease.token))

    async def append(self, key: str, value: bytes, *, expire_s: float | None = None) -> int:
        return int(await self._call('append', *self._locked('g', key), value, _finite(expire_s)))

    async def read(self, key: str, *, after: int = 0, limit: int = 100) -> Sequence[Entry]:
        statement = (
            'SELECT position, value FROM {0}.entries WHERE namespace = $1 AND key = $2 AND position > $3 '
            f'AND EXISTS (SELECT 1 FROM {{0}}.logs WHERE namespace = $1 AND key = $2 AND {_ALIVE}) ORDER BY position LIMIT $4'
        )
        return [Entry(*row) for row in await self._select(statement, _key(key), after, max(0, limit))]

    def _lock(self, kind: str, key: str) -> int:
        """A number for the key, over all its parts: the advisory lock that its verbs take."""
        text = f'{self._schema}:{self._namespace}:{kind}:'.encode() + key_bytes(key)
        return int.from_bytes(blake2b(text, digest_size=8).digest(), 'big', signed=True)

    def _locked(self, kind: str, key: str) -> tuple[int, str, bytes]:
        return self._lock(kind, key), self._namespace, _key(key)

    def _all_locked(self, kind: str, steps: Sequence[Addition] | Sequence[Bucket]) -> tuple[Any, ...]:
        locks = sorted(self._lock(kind, step.key) for step in steps)
        return locks, self._namespace, [_key(step.key) for step in steps]

    def _written(self, key: str, value: bytes, expire_s: float | None, listed: str | None) -> tuple[Any, ...]:
        whole, kept = key_bytes(key), _key(key)
        name = None if kept == whole else whole
        return (
            *(self._lock('v', key), self._namespace, kept, name),
            *(value, _finite(expire_s), None if listed is None else _key(listed)),
        )

    def _filled(self, buckets: Sequence[Bucket]) -> tuple[Any, ...]:
        return (
            *self._all_locked('b', buckets),
            [bucket.rate for bucket in buckets],
            [bucket.burst for bucket in buckets],
            [bucket.amount for bucket in buckets],
        )

    async def aclose(self) -> None:
        """Close the connections of this event loop; the next verb opens them again."""
        await self._clients.aclose()


def _key(key: str) -> bytes:
    """The key, or what stands for one that is too long; no text has the byte 0xFF in it."""
    whole = key_bytes(key)
    return whole if len(whole) <= _LONGEST_KEY else b'\xff' + sha256(whole).digest()


def _finite(seconds: float | None) -> float | None:
    return None if seconds == math.inf else seconds


def from_url(parts: SplitResult, clock: Clock) -> PostgresStore:
    """`postgresql://user:password@host:5432/database`, or `postgres://`. Raises ConfigError. The clock is the server's."""
    numbers = dict.fromkeys(('max_connections', 'statement_cache_size'), int)
    texts = dict.fromkeys(('schema', *_DRIVER_OPTIONS), str)
    options = options_of(parts, {**numbers, 'timeout_s': float, **texts})
    passed = {name: options.pop(name) for name in _DRIVER_OPTIONS if name in options}
    try:
        return PostgresStore(parts._replace(query=urlencode(passed)).geturl(), **options)
    except ConfigError as error:
        raise ConfigError(f'store={masked(parts)!r}: {error.message}') from None
