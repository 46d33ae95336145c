"""State in Redis or Valkey: shared by processes and machines, every verb one Lua script and one round trip.

Time and expiry are the server's, so a wrong clock on one machine changes nothing. All keys of a namespace lie in one slot of a
cluster, which is what makes several buckets or counters one atomic step; load is spread over a cluster by namespaces. What
survives a crash is what the server was told to keep: see docs/stores.md for `appendfsync` and `maxmemory-policy`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

from lamella.core.clock import Clock
from lamella.core.loops import PerLoop
from lamella.core.ports import Addition, Bucket, Count, Entry, Lease, Listed, Stored, Taken, each_once
from lamella.core.stores import DEFAULT_NAMESPACE, key_bytes, masked, options_of
from lamella.stores._redis import Client, Settings, scripts
from lamella.types import ConfigError, LamellaError

_SCRIPTS = scripts()
_EXACT = 2**53  # the server's scripts count in doubles
_MOST_MS = 10**14  # longer lives overflow the server's own arithmetic


class RedisStore:
    """All ports over one Redis or Valkey server (Redis 5 or newer), or a cluster of them.

    At most `max_connections` verbs of an event loop are under way at once; others wait. A connection that cannot be had and an
    answer that does not come within `timeout_s` are UNAVAILABLE. Verbs that only read are tried again once, on a new connection.
    `connection` goes to the driver: `ssl_ca_certs`, `client_name` … Raises ConfigError for a URL that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        max_connections: int = 20,
        timeout_s: float = 5.0,
        **connection: Any,
    ) -> None:
        settings = Settings(urlsplit(url), max_connections, timeout_s, connection)
        self._shown = settings.shown
        self._prefix = f'{{{namespace}}}:'.encode()
        self._number = self._prefix + b'n'
        self._clients = PerLoop(lambda: Client(settings), Client.close)

    def __repr__(self) -> str:
        return f'RedisStore({self._shown!r})'

    def _name(self, kind: bytes, key: str) -> bytes:
        return self._prefix + kind + key_bytes(key)

    async def _run(self, verb: str, keys: Sequence[bytes], *args: Any, reads: bool = False) -> Any:
        client = await self._clients.get()
        return await client.run(_SCRIPTS[verb], keys, args, reads=reads)

    async def get(self, key: str) -> Stored | None:
        client = await self._clients.get()
        return _stored(await client.ask(('HMGET', self._name(b'v:', key), 'v', 'n'), reads=True))

    async def put(self, key: str, value: bytes, *, expire_s: float | None = None, listed: str | None = None) -> int:
        version: int = await self._run('put', self._value(key), value, _ms(expire_s), _list(listed))
        return version

    async def put_if_absent(
        self, key: str, value: bytes, *, expire_s: float | None = None, listed: str | None = None
    ) -> Stored | None:
        found = await self._run('put_if_absent', self._value(key), value, _ms(expire_s), _list(listed))
        return None if found is None else _stored(found)

    async def compare_and_put(
        self, key: str, version: int, value: bytes, *, expire_s: float | None = None, listed: str | None = None
    ) -> int | None:
        args = (value, _ms(expire_s), _list(listed), version)
        written: int | None = await self._run('compare_and_put', self._value(key), *args)
        return written

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        return bool(await self._run('delete', self._value(key), '' if version is None else version))

    async def listed(self, name: str, *, after: int = 0, limit: int = 100) -> Sequence[Listed]:
        found = await self._run('listed', [self._number], key_bytes(name), after, max(0, limit), reads=True)
        triples = zip(found[::3], found[1::3], found[2::3], strict=True)
        return [Listed(key.decode('utf-8', 'surrogatepass'), value, int(version)) for key, value, version in triples]

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
        keys = [self._name(b'c:', addition.key) for addition in additions]
        args: list[Any] = []
        for one in additions:
            if not -_EXACT < one.amount < _EXACT:
                raise LamellaError(
                    'INVALID_ARGUMENT', f'{self._shown} counts exactly up to 2**53 only, not {one.amount}'
                )
            args += (one.amount, _or_none(one.ceiling), _ms(one.expire_s), _or_none(one.window))
        found = await self._run('add_all', keys, *args)
        return [_count(*found[at : at + 5]) for at in range(0, len(found), 5)]

    async def count(self, key: str) -> Count:
        value, window, left = await self._run('count', [self._name(b'c:', key)], reads=True)
        return _count(value, 0, left, window, 1)

    async def reset(self, key: str) -> int:
        return int(await self._run('reset', [self._name(b'c:', key)]))

    async def take(self, buckets: Sequence[Bucket], *, max_wait_s: float = 0.0) -> Taken:
        each_once(buckets)
        if not buckets:
            return Taken(granted=True)
        granted, wait = await self._run('take', self._buckets(buckets), max_wait_s, *_amounts(buckets))
        return Taken(granted=bool(granted), wait_s=float(wait))

    async def settle(self, buckets: Sequence[Bucket]) -> None:
        each_once(buckets)
        if buckets:
            await self._run('settle', self._buckets(buckets), *_amounts(buckets))

    async def acquire(self, key: str, ttl_s: float, *, slots: int = 1) -> Lease | None:
        token = await self._run('acquire', [self._name(b'h:', key), self._number], _ttl_ms(ttl_s), slots)
        return None if token is None else Lease(key, token, ttl_s)

    async def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        held = await self._run('renew', [self._name(b'h:', lease.key)], lease.token, _ttl_ms(ttl_s))
        return lease.replace(expires_in_s=ttl_s) if held else None

    async def release(self, lease: Lease) -> bool:
        return bool(await self._run('release', [self._name(b'h:', lease.key)], lease.token))

    async def append(self, key: str, value: bytes, *, expire_s: float | None = None) -> int:
        return int(await self._run('append', [self._name(b'g:', key)], value, _ms(expire_s)))

    async def read(self, key: str, *, after: int = 0, limit: int = 100) -> Sequence[Entry]:
        if limit <= 0:
            return []
        client = await self._clients.get()
        values = await client.ask(('LRANGE', self._name(b'g:', key), after, after + limit - 1), reads=True)
        return [Entry(position, value) for position, value in enumerate(values, after + 1)]

    def _value(self, key: str) -> list[bytes]:
        return [self._name(b'v:', key), self._number]

    def _buckets(self, buckets: Sequence[Bucket]) -> list[bytes]:
        return [self._name(b'b:', bucket.key) for bucket in buckets]

    async def aclose(self) -> None:
        """Close the connections of this event loop; the next verb opens them again."""
        await self._clients.aclose()


def _stored(found: Sequence[bytes | None]) -> Stored | None:
    value, version = found
    return None if value is None or version is None else Stored(value, int(version))


def _count(value: int, added: int, left_ms: int, window: int, fits: int) -> Count:
    return Count(value, bool(added), None if left_ms < 0 else left_ms / 1000, window, bool(fits))


def _amounts(buckets: Sequence[Bucket]) -> list[float]:
    return [number for bucket in buckets for number in (bucket.rate, bucket.burst, bucket.amount)]


def _or_none(number: int | None) -> Any:
    return '' if number is None else number


def _list(name: str | None) -> bytes:
    return b'' if name is None else key_bytes(name)


def _ms(seconds: float | None) -> Any:
    """Milliseconds, or nothing for ever."""
    return '' if seconds is None or seconds == math.inf else _ttl_ms(seconds)


def _switch(text: str) -> bool:
    if text not in ('true', 'false'):
        raise ValueError('give true or false')
    return text == 'true'


def _ttl_ms(seconds: float) -> int:
    """Milliseconds, rounded up."""
    return _MOST_MS if seconds == math.inf else min(max(0, math.ceil(seconds * 1000)), _MOST_MS)


def from_url(parts: SplitResult, clock: Clock) -> RedisStore:
    """`redis://user:password@host:6379/0`, or `rediss://` for TLS, and the same with `valkey://` and `valkeys://`. Several hosts
    are separated by commas. Raises ConfigError for any other. The clock is the server's.
    """
    options = options_of(
        parts,
        {
            **dict.fromkeys(('max_connections',), int),
            **dict.fromkeys(('timeout_s',), float),
            'ssl_check_hostname': _switch,
            **dict.fromkeys(('ssl_ca_certs', 'ssl_certfile', 'ssl_keyfile', 'ssl_cert_reqs', 'client_name'), str),
        },
    )
    try:
        return RedisStore(parts._replace(query='').geturl(), **options)
    except ConfigError as error:
        raise ConfigError(f'store={masked(parts)!r}: {error.message}') from None
