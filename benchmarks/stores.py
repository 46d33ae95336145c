"""Microseconds per verb and store, against the bare driver's round trip on the same server in the same run.

The servers are real and their own, without writing to the disk before they answer: what is measured is the way there and back.
A server that is not installed is left out with a sentence.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from redis import asyncio as redis

from benchmarks.measure import AsyncWork, Result, per_call, show
from lamella.core.ports import Addition, Bucket, Store
from lamella.stores import open_store
from tests.servers import PostgresServer, RedisServer, running

COUNT, ROUNDS = 200, 5
READ, WRITE = 'bare read', 'bare write'
_VALUE = b'x' * 200


@asynccontextmanager
async def memory() -> AsyncIterator[tuple[Store, dict[str, AsyncWork]]]:
    held: dict[str, bytes] = {'k': _VALUE}

    async def read() -> object:
        return held.get('k')

    async def write() -> None:
        held['k'] = _VALUE

    yield open_store('memory://'), {READ: read, WRITE: write}


@asynccontextmanager
async def sqlite() -> AsyncIterator[tuple[Store, dict[str, AsyncWork]]]:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as thread:
        path = Path(folder) / 'bare.db'
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        db.execute('PRAGMA journal_mode = WAL')
        db.execute('PRAGMA synchronous = NORMAL')
        db.execute('CREATE TABLE bare (k TEXT PRIMARY KEY, v BLOB)')
        db.execute('INSERT INTO bare VALUES (?, ?)', ('k', _VALUE))

        def update() -> None:
            db.execute('BEGIN IMMEDIATE')
            db.execute('UPDATE bare SET v = ? WHERE k = ?', (_VALUE, 'k'))
            db.execute('COMMIT')

        async def read() -> object:
            select = 'SELECT v FROM bare WHERE k = ?'
            run = asyncio.get_running_loop().run_in_executor
            return await run(thread, lambda: db.execute(select, ('k',)).fetchone())

        async def write() -> object:
            return await asyncio.get_running_loop().run_in_executor(thread, update)

        store = open_store(f'sqlite:///{folder}/state.db')
        yield store, {READ: read, WRITE: write}
        await store.aclose()
        db.close()


@asynccontextmanager
async def redis_server() -> AsyncIterator[tuple[Store, dict[str, AsyncWork]]]:
    with running(RedisServer, durable=False) as server:
        client = redis.Redis.from_pool(redis.BlockingConnectionPool.from_url(server.url))
        store = open_store(server.url)
        await client.set('bare', _VALUE)
        yield store, {READ: lambda: client.get('bare'), WRITE: lambda: client.set('bare', _VALUE)}
        await store.aclose()
        await client.aclose()


@asynccontextmanager
async def postgres_server() -> AsyncIterator[tuple[Store, dict[str, AsyncWork]]]:
    with running(PostgresServer, durable=False) as server:
        connection = await asyncpg.connect(server.url)
        await connection.execute('CREATE TABLE bare (k text PRIMARY KEY, v bytea)')
        await connection.execute('INSERT INTO bare VALUES ($1, $2)', 'k', _VALUE)
        store = open_store(server.url)
        yield (
            store,
            {
                READ: lambda: connection.fetchval('SELECT v FROM bare WHERE k = $1', 'k'),
                WRITE: lambda: connection.execute('UPDATE bare SET v = $2 WHERE k = $1', 'k', _VALUE),
            },
        )
        await store.aclose()
        await connection.close()


def verbs(store: Store) -> dict[str, tuple[str, AsyncWork]]:
    """What is measured, and against which round trip."""

    async def hold() -> None:
        lease = await store.acquire('lease', 60)
        if lease is not None:
            await store.release(lease)

    two = [Bucket('calls', 1e9, 1e9), Bucket('tokens', 1e9, 1e9, 100)]
    three = [Addition(f'budget:{name}', 10, 10**12, 3600) for name in ('calls', 'tokens', 'cost')]
    return {
        'get': (READ, lambda: store.get('k')),
        'put': (WRITE, lambda: store.put('k', _VALUE)),
        'put, expiring': (WRITE, lambda: store.put('brief', _VALUE, expire_s=60)),
        'put_if_absent, there already': (READ, lambda: store.put_if_absent('k', _VALUE)),
        'add': (WRITE, lambda: store.add('count', 1, ceiling=10**12, expire_s=3600)),
        'add_all, 3 counters': (WRITE, lambda: store.add_all(three)),
        'count': (READ, lambda: store.count('count')),
        'take, 1 bucket': (WRITE, lambda: store.take(two[:1])),
        'take, 2 buckets': (WRITE, lambda: store.take(two)),
        'settle, 2 buckets': (WRITE, lambda: store.settle(two)),
        'acquire and release': (WRITE, hold),
        'append': (WRITE, lambda: store.append('log', _VALUE)),
        'read, 10 entries': (READ, lambda: store.read('log', limit=10)),
    }


STORES: dict[str, Callable[[], object]] = {
    'memory': memory,
    'sqlite': sqlite,
    'redis': redis_server,
    'postgres': postgres_server,
}


async def measured(name: str) -> list[Result]:
    async with STORES[name]() as (store, bare):  # type: ignore[attr-defined]
        asked = verbs(store)
        works = {**bare, **{verb: work for verb, (_, work) in asked.items()}}
        best = await per_call(works, COUNT, ROUNDS)
    floors = [Result(f'{name}: {way}', best[way], 'µs') for way in (READ, WRITE)]
    return floors + [Result(f'{name}: {verb}', best[verb], 'µs', best[way]) for verb, (way, _) in asked.items()]


def run() -> list[Result]:
    results: list[Result] = []
    for name in STORES:
        try:
            results += asyncio.run(measured(name))
        except AssertionError as missing:
            print(f'{name} is left out: {missing}', file=sys.stderr)
    return results


if __name__ == '__main__':
    show(run())
