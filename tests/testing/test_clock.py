"""The clock that tests turn."""

import asyncio

import pytest

from lamella.testing import FakeClock
from tests.engine.kit import no_leaks


async def test_sleep_moves_the_time_and_is_written_down() -> None:
    clock = FakeClock(start=10, wall=1_000)
    await clock.sleep(5)
    assert (clock.now(), clock.time(), clock.slept) == (15, 1_005, [5])


async def test_a_sleep_lets_others_run() -> None:
    clock, ran = FakeClock(), []
    asyncio.get_running_loop().call_soon(ran.append, 1)
    await clock.sleep(0)
    assert ran == [1]


@pytest.mark.parametrize('auto', [True, False])
async def test_a_sleep_of_nothing_or_less_ends_without_moving_the_time(auto) -> None:
    clock = FakeClock(start=10, auto=auto)
    task = asyncio.create_task(clock.sleep(-3))
    await asyncio.sleep(0)
    await clock.advance(0)
    await task
    assert clock.now() == 10


async def test_sleepers_wait_for_advance_and_wake_in_order() -> None:
    clock, woken = FakeClock(start=0, auto=False), []

    async def sleeps(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.now()))

    async with no_leaks():
        tasks = [asyncio.create_task(sleeps(seconds)) for seconds in (3, 1, 2)]
        await asyncio.sleep(0)
        await clock.advance(0.5)
        assert woken == []
        await clock.advance(10)
        await asyncio.gather(*tasks)
    assert woken == [(1, 1), (2, 2), (3, 3)]
    assert clock.now() == 10.5


async def test_a_sleeper_who_sleeps_again_wakes_within_the_same_advance() -> None:
    clock, woken = FakeClock(start=0, auto=False), []

    async def naps() -> None:
        for _ in range(3):
            await clock.sleep(1)
            woken.append(clock.now())

    task = asyncio.create_task(naps())
    await asyncio.sleep(0)
    await clock.advance(5)
    await task
    assert woken == [1, 2, 3]


async def test_a_cancelled_sleeper_is_gone() -> None:
    clock = FakeClock(auto=False)
    task = asyncio.create_task(clock.sleep(5))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await clock.advance(10)


async def test_a_timer_fires_once_unless_it_is_called_off() -> None:
    clock, fired = FakeClock(start=0), []
    clock.call_later(1, lambda: fired.append('a'))
    clock.call_later(2, lambda: fired.append('b')).cancel()
    await clock.advance(1)
    await clock.advance(5)
    assert fired == ['a']


async def test_an_auto_sleep_fires_the_timers_on_its_way() -> None:
    clock, fired = FakeClock(start=0), []
    clock.call_later(1, lambda: fired.append(clock.now()))
    await clock.sleep(3)
    assert (fired, clock.now()) == ([1], 3)


async def test_a_timer_that_cancels_the_sleeper_on_the_way_wakes_it() -> None:
    clock, woken_at = FakeClock(start=0), []

    async def sleep() -> None:
        try:
            await clock.sleep(60)
        finally:
            woken_at.append(clock.now())

    task = asyncio.create_task(sleep())
    clock.call_later(30, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert woken_at == [30]
    assert task.cancelled()


async def test_what_a_timer_sets_going_happens_before_the_time_goes_on() -> None:
    clock, rung, at = FakeClock(start=0), asyncio.Event(), []

    async def react() -> None:
        await rung.wait()
        for _ in range(5):
            await asyncio.sleep(0)
        await clock.sleep(2)
        at.append(clock.now())

    clock.call_later(5, rung.set)
    reacting = asyncio.create_task(react())
    await clock.sleep(60)
    at.append(clock.now())
    await reacting
    assert at == [7, 60]
