"""Promise: keys that expire cost the same each, be they 10,000 or 100,000, and leave nothing behind.

Microseconds per key, from its writing to its removal, by the store's own verbs and its own sweep. Redis removes by itself, in
time that belongs to nobody, and is not in the table; tests/stores/test_expiry.py looks at its memory.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

from benchmarks.measure import Result, show
from lamella.core.ports import Store
from lamella.stores.memory import MemoryStore
from lamella.stores.postgres import PostgresStore
from lamella.stores.sqlite import SQLiteStore
from lamella.testing import FakeClock
from tests.servers import PostgresServer, running

FEW, MANY = 10_000, 100_000
LIFE_S = 0.05
Left = Callable[[], Awaitable[int]]
Pass = Callable[[], Awaitable[object]]


@asynccontextmanager
async def memory() -> AsyncIterator[tuple[Store, Pass, Left]]:
    clock = FakeClock()
    store = MemoryStore(clock=clock)

    async def left() -> int:
        return len(store)

    yield store, lambda: clock.advance(LIFE_S), left


@asynccontextmanager
async def sqlite() -> AsyncIterator[tuple[Store, Pass, Left]]:
    clock = FakeClock()
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteStore(f'{folder}/state.db', clock=clock)

        async def left() -> int:
            await store.sweep()
            count: int = await store._read(
                lambda db, now: db.execute('SELECT count(*) FROM lamella_values').fetchone()[0]
            )
            return count

        yield store, lambda: clock.advance(LIFE_S), left
        await store.aclose()


@asynccontextmanager
async def postgres() -> AsyncIterator[tuple[Store, Pass, Left]]:
    with running(PostgresServer, durable=False) as server:
        store = PostgresStore(server.url)
        watcher = await asyncpg.connect(server.url)

        async def left() -> int:
            await store.sweep()
            count: int = await watcher.fetchval('SELECT count(*) FROM lamella.items')
            return count

        yield store, lambda: asyncio.sleep(LIFE_S), left
        await watcher.close()
        await store.aclose()


async def per_key(name: str, keys: int) -> float:
    """Microseconds per key. Raises when something is left behind."""
    async with STORES[name]() as (store, passed, left):  # type: ignore[operator]
        await store.get('k')
        started = time.perf_counter()
        for number in range(keys):
            await store.put(f'key {number}', b'x' * 50, expire_s=LIFE_S)
        await passed()
        if remains := await left():
            raise RuntimeError(f'{name}: {remains} of {keys} keys are still there')
        return (time.perf_counter() - started) / keys * 1e6


STORES = {'memory': memory, 'sqlite': sqlite, 'postgres': postgres}


def run() -> list[Result]:
    results = []
    for name in STORES:
        try:
            few, many = asyncio.run(per_key(name, FEW)), asyncio.run(per_key(name, MANY))
        except AssertionError as missing:
            print(f'{name} is left out: {missing}', file=sys.stderr)
            continue
        kept = many <= 1.5 * few
        results.append(
            Result(f'{name}: each of {MANY:,} keys that expire', many, 'µs', few, f'≤ 1.5 × of {FEW:,}', kept)
        )
    return results


if __name__ == '__main__':
    show(run())
