"""The memory store keeps the ports' promises, and forgets what has expired."""

from __future__ import annotations

import asyncio

import pytest

from lamella.core.ports import Bucket
from lamella.stores.memory import MemoryStore
from lamella.testing import FakeClock
from lamella.testing.stores import StoreConformance


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def store(self, clock: FakeClock) -> MemoryStore:
        self._clock = clock
        return MemoryStore(clock=clock)

    async def pass_time(self, store, seconds: float) -> None:
        await self._clock.advance(seconds)


async def test_100_000_expired_keys_leave_nothing_behind() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    for number in range(20_000):
        await store.put(f'v{number}', b'x', expire_s=1 + number / 1000)
        await store.add(f'c{number}', expire_s=10)
        await store.acquire(f'l{number}', 10)
        await store.append(f'g{number}', b'x', expire_s=10)
        await store.put(f'v{number}', b'y', expire_s=5)
    assert len(store) == 80_000
    await clock.advance(30)
    assert len(store) == 0
    assert store._expiries == []


async def test_a_bucket_that_is_full_again_is_forgotten() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    await store.take([Bucket('k', rate=1, burst=10, amount=4)])
    assert len(store) == 1
    await clock.advance(4)
    assert len(store) == 0


def test_one_store_serves_several_event_loops() -> None:
    store = MemoryStore()
    asyncio.run(store.put('k', b'x'))
    assert asyncio.run(store.get('k')).value == b'x'


async def test_memory_does_not_grow_with_what_is_written_again_and_again() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    for _ in range(2000):
        await store.put('k', b'x', expire_s=3600)
        await store.take([Bucket('b', rate=1, burst=1_000_000)])
        await store.delete('gone')
        await store.put('gone', b'x', expire_s=3600)
        lease = await store.acquire('l', 3600)
        await store.release(lease)
        await clock.advance(0.001)
    assert len(store) == 3
    assert len(store._expiries) < 100
    await clock.advance(7200)
    assert len(store) == 0
    assert store._expiries == []


async def test_a_shorter_life_counts_after_a_longer_one() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    await store.put('k', b'x', expire_s=3600)
    await store.put('k', b'y', expire_s=1)
    await clock.advance(2)
    assert await store.get('k') is None
    await store.put('k', b'x', expire_s=1)
    await store.put('k', b'y')
    await clock.advance(7200)
    assert (await store.get('k')).value == b'y'
