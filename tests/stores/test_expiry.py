"""100,000 keys expire and leave nothing behind: no rows, no memory; and while they come and go, only a few are there."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from redis import asyncio as redis

from lamella.core.ports import Bucket, Store
from lamella.stores import _sqlite as verbs
from lamella.stores import open_store
from lamella.stores._redis import scripts
from lamella.stores.memory import MemoryStore
from lamella.stores.sqlite import SQLiteStore
from lamella.testing import FakeClock
from tests.servers import PostgresServer, RedisServer, running
from tests.stores.test_postgres import rows

KEYS = 100_000
THROUGH_THE_STORE = 10_000  # of them, where each costs a round trip
BRIEF_S = 0.2


async def fill(store: Store, number: int, seconds: float) -> None:
    """One key of one port, in turn."""
    verbs: list[Callable[[], Awaitable[object]]] = [
        lambda: store.put(f'v{number}', b'x' * 50, expire_s=seconds),
        lambda: store.add(f'c{number}', expire_s=seconds),
        lambda: store.take([Bucket(f'b{number}', 1 / seconds, 1)]),
        lambda: store.acquire(f'l{number}', seconds),
        lambda: store.append(f'g{number}', b'x' * 50, expire_s=seconds),
        lambda: store.put(f'w{number}', b'x' * 50, expire_s=seconds, listed='all'),
    ]
    await verbs[number % len(verbs)]()


async def fill_all(
    store: Store, seconds: float, each: Callable[[], Awaitable[None]], keys: int = KEYS, step: int = 200
) -> None:
    for start in range(0, keys, step):
        await asyncio.gather(*[fill(store, number, seconds) for number in range(start, start + step)])
        await each()


async def test_memory_holds_the_living_only() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    most = 0

    async def later() -> None:
        nonlocal most
        most = max(most, len(store) + len(store._expiries))
        await clock.advance(1)

    await fill_all(store, 5.0, later)
    assert most < 4000
    await clock.advance(5)
    assert (len(store), store._expiries, store._lists) == (0, [], {})


@pytest.mark.slow
async def test_sqlite_holds_little_more_than_the_living(tmp_path: Path) -> None:
    clock = FakeClock()
    store = SQLiteStore(tmp_path / 'state.db', clock=clock)
    pages: list[int] = []

    async def later() -> None:
        await clock.advance(1)
        pages.append(await store._read(lambda db, now: db.execute('PRAGMA page_count').fetchone()[0]))

    await fill_all(store, 5.0, later, keys=THROUGH_THE_STORE)
    half = len(pages) // 2
    assert max(pages[half:]) <= 1.2 * max(pages[:half])  # no growth from the first half to the second
    await fill_sqlite(store, KEYS - THROUGH_THE_STORE)
    await clock.advance(5)
    await store.sweep()
    tables = ('values', 'counts', 'buckets', 'leases', 'logs', 'entries')
    left = [
        await store._read(lambda db, now, t=table: db.execute(f'SELECT count(*) FROM lamella_{t}').fetchone()[0])
        for table in tables
    ]
    assert left == [0] * len(tables)
    await store.aclose()


async def fill_sqlite(store: SQLiteStore, keys: int) -> None:
    """The store's own verb, many in one transaction."""

    def put_all(db: sqlite3.Connection, now: float) -> None:
        for number in range(keys):
            verbs.put(db, now, verbs.Written(f'bulk:{number}'.encode(), b'x' * 50, 5.0, b'all'))

    await store._write(put_all)


@pytest.mark.slow
async def test_redis_forgets_by_itself() -> None:
    with running(RedisServer, durable=False) as server:
        store = open_store(server.url)
        await store.put('version', b'x')
        before = used_bytes(server)
        await fill_all(store, BRIEF_S, nothing, keys=THROUGH_THE_STORE)
        await fill_redis(server.url, KEYS - THROUGH_THE_STORE)
        async with asyncio.timeout(60):
            while server.ask('DBSIZE') != b':2':  # noqa: ASYNC110 (the value above, and the number that versions come from)
                await asyncio.sleep(0.05)
        assert used_bytes(server) < before + 2_000_000
        await store.aclose()


async def nothing() -> None:
    pass


async def fill_redis(url: str, keys: int) -> None:
    """The store's own script, many at a time."""
    script = scripts()['put']
    async with redis.from_url(url) as client:
        for start in range(0, keys, 5000):
            pipeline = client.pipeline(transaction=False)
            for number in range(start, start + 5000):
                pipeline.evalsha(
                    script.sha, 2, f'{{bulk}}:v:{number}', '{bulk}:n', b'x' * 50, int(BRIEF_S * 1000), 'all'
                )
            await pipeline.execute()
        await client.delete('{bulk}:n')


def used_bytes(server: RedisServer) -> int:
    return int(server.ask('INFO', 'memory', lines=3).split(b'used_memory:')[1].split(b'\r')[0])


@pytest.mark.slow
async def test_postgres_holds_little_more_than_the_living() -> None:
    with running(PostgresServer, durable=False) as server:
        store = open_store(server.url)
        most = 0

        async def look() -> None:
            nonlocal most
            most = max(most, sum((await rows(server.url, 'lamella')).values()))

        await fill_all(store, BRIEF_S, look, keys=THROUGH_THE_STORE, step=1000)
        assert most < THROUGH_THE_STORE / 2
        await fill_postgres(server.url, KEYS - THROUGH_THE_STORE)
        await asyncio.sleep(2 * BRIEF_S)
        await store.sweep()
        assert sum((await rows(server.url, 'lamella')).values()) == 0
        await store.aclose()


async def fill_postgres(url: str, keys: int) -> None:
    """The store's own function, without a round trip for each."""
    connection = await asyncpg.connect(url)
    written = "lamella.write('bulk', n::text::bytea, NULL, 'x', $2, CASE WHEN n % 2 = 0 THEN 'all'::bytea END)"
    await connection.execute(f'SELECT count({written}) FROM generate_series(1, $1::int) n', keys, BRIEF_S)
    await connection.close()
