"""The line and the hold: served in order, alive as long as it is used, and told when it is lost."""

import asyncio
from typing import Any

import pytest

from lamella.core.holds import PLACE_S, Hold, enter
from lamella.stores.memory import MemoryStore
from lamella.testing import FakeClock
from lamella.types import LamellaError


async def steps(n: int = 10) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def hold(store: MemoryStore, clock: Any, lease_s: float = 30.0) -> Hold:
    lease = await enter(store, 'k', clock, lease_s=lease_s, wait_s=0)
    assert lease is not None
    return Hold(store, lease, clock, lease_s, lambda: LamellaError('ABORTED', 'lost it'))


async def test_a_free_key_is_taken_at_once_and_a_taken_one_is_not() -> None:
    store, clock = MemoryStore(), FakeClock()
    lease = await enter(store, 'k', clock, lease_s=30, wait_s=0)
    assert lease is not None
    assert await enter(store, 'k', clock, lease_s=30, wait_s=0) is None
    assert await enter(store, 'k', clock, lease_s=30, wait_s=2) is None
    assert clock.now() == pytest.approx(1002)
    assert await store.get('k:line') is None


async def test_those_who_wait_are_served_in_order_and_nobody_comes_between() -> None:
    store, clock = MemoryStore(), FakeClock(auto=False)
    held = await enter(store, 'k', clock, lease_s=1e6, wait_s=0)
    assert held is not None
    served: list[int] = []

    async def wait(n: int) -> None:
        lease = await enter(store, 'k', clock, lease_s=1e6, wait_s=1e6)
        assert lease is not None
        served.append(n)
        await store.release(lease)

    tasks = []
    for n in range(8):
        tasks.append(asyncio.create_task(wait(n)))
        await steps()
    await store.release(held)
    assert await enter(store, 'k', clock, lease_s=30, wait_s=0) is None  # free, but others were here first
    while not all(task.done() for task in tasks):
        await clock.advance(0.1)
        await steps()
    assert served == list(range(8))
    assert await store.get('k:line') is None


async def test_the_place_of_a_dead_process_is_taken_out() -> None:
    store, clock = MemoryStore(clock=(clock := FakeClock())), clock
    held = await enter(store, 'k', clock, lease_s=1e6, wait_s=0)
    assert held is not None
    await store.put('k:line', b'\x91\xa4dead')
    await store.acquire('k:place:dead', PLACE_S)
    waiting = asyncio.create_task(enter(store, 'k', clock, lease_s=30, wait_s=60))
    await steps(50)
    await store.release(held)
    before = clock.now()
    assert await waiting is not None
    assert clock.now() - before <= PLACE_S + 0.2


async def test_whoever_was_taken_for_dead_joins_again() -> None:
    store, clock = MemoryStore(), FakeClock(auto=False)
    held = await enter(store, 'k', clock, lease_s=1e6, wait_s=0)
    assert held is not None
    waiting = asyncio.create_task(enter(store, 'k', clock, lease_s=30, wait_s=1e6))
    await steps()
    await store.delete('k:line')
    for _ in range(5):
        await clock.advance(0.1)
        await steps()
    assert await store.get('k:line') is not None
    await store.release(held)
    for _ in range(5):
        await clock.advance(0.1)
        await steps()
    assert await waiting is not None


async def test_a_long_wait_keeps_its_place() -> None:
    clock = FakeClock(auto=False)
    store = MemoryStore(clock=clock)
    held = await enter(store, 'k', clock, lease_s=1e6, wait_s=0)
    assert held is not None
    first = asyncio.create_task(enter(store, 'k', clock, lease_s=1e6, wait_s=1e6))
    await steps()
    second = asyncio.create_task(enter(store, 'k', clock, lease_s=1e6, wait_s=1e6))
    for _ in range(600):
        await clock.advance(0.1)
        await steps()
    await store.release(held)
    for _ in range(5):
        await clock.advance(0.1)
        await steps()
    assert first.done()
    assert not second.done()
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


async def test_a_hold_is_renewed_until_it_is_released() -> None:
    clock = FakeClock(auto=False)
    store = MemoryStore(clock=clock)
    one = await hold(store, clock)
    for _ in range(30):
        await clock.advance(9)
        await steps()
    assert await store.acquire('k', 1) is None
    await one.release()
    assert await store.acquire('k', 1) is not None


async def test_a_lost_hold_cancels_what_runs_under_it_and_says_why() -> None:
    clock = FakeClock(auto=False)
    store = MemoryStore(clock=clock)
    one = await hold(store, clock)

    async def work() -> None:
        async with one:
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await steps()
    await store.release(one.lease)
    await clock.advance(10)
    await steps()
    with pytest.raises(LamellaError, match='lost it'):
        await task
    with pytest.raises(LamellaError, match='lost it'):
        async with one:
            pass
    await one.release()


async def test_a_hold_that_is_lost_between_two_steps_stops_the_next_one() -> None:
    clock = FakeClock(auto=False)
    store = MemoryStore(clock=clock)
    one = await hold(store, clock)
    async with one:
        await steps()
    await store.release(one.lease)
    await clock.advance(10)
    await steps()
    assert one.is_lost
    with pytest.raises(LamellaError, match='lost it'):
        async with one:
            pass
    await one.release()


async def test_a_cancellation_from_outside_is_one() -> None:
    clock = FakeClock(auto=False)
    one = await hold(MemoryStore(), clock)

    async def work() -> None:
        async with one:
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await steps()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await one.release()


class Away(MemoryStore):
    """A store that can be away."""

    is_away = False

    async def renew(self, lease: Any, ttl_s: float) -> Any:
        if self.is_away:
            raise LamellaError('UNAVAILABLE', 'away')
        return await super().renew(lease, ttl_s)

    async def release(self, lease: Any) -> bool:
        if self.is_away:
            raise LamellaError('UNAVAILABLE', 'away')
        return await super().release(lease)


async def test_a_store_that_is_away_for_a_moment_loses_nothing() -> None:
    clock = FakeClock(auto=False)
    store = Away(clock=clock)
    one = await hold(store, clock)
    store.is_away = True
    for _ in range(6):
        await clock.advance(3)
        await steps()
    store.is_away = False
    for _ in range(20):
        await clock.advance(3)
        await steps()
    assert not one.is_lost
    assert await store.acquire('k', 1) is None
    await one.release()


async def test_a_store_that_stays_away_means_that_the_hold_is_lost() -> None:
    clock = FakeClock(auto=False)
    store = Away(clock=clock)
    one = await hold(store, clock)
    store.is_away = True
    for _ in range(10):
        await clock.advance(3)
        await steps()
    assert not one.is_lost
    await clock.advance(3)
    await steps()
    assert one.is_lost
    await one.release()
