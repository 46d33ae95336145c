"""`Ledger`: what is set aside never passes a ceiling, comes back exactly once, and nothing of it is left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.middleware._ledger import FOR_GOOD_S, Full, Ledger, Reservation
from lamella.stores.memory import MemoryStore
from lamella.testing import FakeClock
from lamella.types import LamellaError
from tests.middleware.cost.kit import Away

HOUR = 3600.0
NAMES = ('cost', 'tokens')


class Desk:
    """A ledger with its own clock: `take` sets aside, `pay` settles."""

    def __init__(self, clock: FakeClock, store: Any, window_s: float | None = HOUR, hold_s: float = 60) -> None:
        self.clock, self.store = clock, store
        self.ledger = Ledger(store, NAMES, window_s, hold_s)

    async def take(self, *amounts: int, ceilings: Any = (100, None), key: str = 'k') -> Any:
        return await self.ledger.reserve(key, amounts, ceilings, self.clock.now())

    async def pay(self, reservation: Reservation, *used: int) -> Any:
        return [count.value for count in await self.ledger.settle(reservation, used, self.clock.now())]

    async def spent(self, key: str = 'k') -> list[int]:
        return [(await self.store.count(f'{key}:{name}')).value for name in NAMES]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def desk(clock: FakeClock) -> Desk:
    return Desk(clock, MemoryStore(clock=clock))


async def test_what_does_not_fit_is_not_set_aside_at_all(desk: Desk) -> None:
    first = await desk.take(60, 5)
    assert await desk.take(50, 5) == Full(0, 40, HOUR)
    assert await desk.spent() == [60, 5]
    assert await desk.pay(first, 10, 3) == [10, 3]
    assert isinstance(await desk.take(90, 5), Reservation)


async def test_each_amount_has_its_ceiling(desk: Desk) -> None:
    await desk.take(1, 8, ceilings=(None, 10))
    assert await desk.take(1, 3, ceilings=(None, 10)) == Full(1, 2, HOUR)


async def test_nothing_always_fits_and_is_settled_to_nothing(desk: Desk) -> None:
    await desk.pay(await desk.take(100, 1), 100, 1)
    free = await desk.take(0, 1)
    assert isinstance(free, Reservation)
    assert await desk.pay(free, 0, 1) == [100, 2]
    assert isinstance(await desk.take(0, 0, ceilings=(0, 0), key='other'), Reservation)


async def test_a_window_that_never_ends_tells_no_time(clock: FakeClock) -> None:
    desk = Desk(clock, MemoryStore(clock=clock), window_s=None)
    await desk.pay(await desk.take(100, 0), 100, 0)
    await clock.advance(10 * 365 * 86_400)
    assert await desk.take(1, 0) == Full(0, 0, None)


async def test_a_window_ends_and_a_new_one_is_empty(desk: Desk, clock: FakeClock) -> None:
    await desk.pay(await desk.take(100, 0), 100, 0)
    await clock.advance(HOUR - 1)
    assert await desk.take(1, 0) == Full(0, 0, 1.0)
    await clock.advance(1)
    assert isinstance(await desk.take(100, 0), Reservation)


async def test_what_was_set_aside_in_one_window_never_changes_the_next(desk: Desk, clock: FakeClock) -> None:
    await clock.advance(HOUR - 10)
    old = await desk.take(50, 5)
    await clock.advance(HOUR)
    new = await desk.take(70, 7)
    await desk.pay(old, 20, 2)
    assert await desk.spent() == [70, 7]
    assert await desk.pay(new, 60, 6) == [60, 6]


async def test_what_a_dead_process_had_set_aside_comes_back(clock: FakeClock) -> None:
    store = MemoryStore(clock=clock)
    dead, alive = Desk(clock, store), Desk(clock, store)
    await dead.take(80, 8)
    await alive.pay(await alive.take(20, 2), 20, 2)
    assert isinstance(await alive.take(1, 1), Full)
    await clock.advance(3 * 60 + 1)
    assert isinstance(await alive.take(70, 7), Reservation)
    assert await alive.spent() == [90, 9]
    assert list(alive.ledger.take_reclaimed('k')) == [(80, 8)]
    assert list(alive.ledger.take_reclaimed('k')) == []


async def test_it_comes_back_once_however_many_look_for_it(clock: FakeClock) -> None:
    store = MemoryStore(clock=clock)
    await Desk(clock, store).take(80, 8)
    await clock.advance(4 * 60)
    desks = [Desk(clock, store) for _ in range(20)]
    taken = await asyncio.gather(*[desk.take(30, 1) for desk in desks])
    assert sum(isinstance(one, Reservation) for one in taken) == 3
    assert await desks[0].spent() == [90, 3]


async def test_nothing_of_the_living_is_given_away(clock: FakeClock) -> None:
    store = MemoryStore(clock=clock)
    one, two = Desk(clock, store), Desk(clock, store)
    held = await one.take(80, 8)
    await clock.advance(59)  # settled in time, at the end of its slice
    await two.take(1, 1)
    assert await one.pay(held, 80, 8) == [81, 9]
    await clock.advance(5 * 60)
    await two.take(1, 1)
    assert await two.spent() == [81, 9]  # 80 that were spent, and the one that is held now: the other one is back


async def test_a_call_that_takes_longer_than_it_may_is_settled_in_full(clock: FakeClock) -> None:
    store = MemoryStore(clock=clock)
    slow, other = Desk(clock, store), Desk(clock, store)
    held = await slow.take(80, 8)
    await clock.advance(300)
    await other.take(10, 1)
    assert await other.spent() == [10, 1]  # what the slow one held was given back …
    assert await slow.pay(held, 70, 7) == [80, 8]  # … and what it used is counted
    await clock.advance(300)
    await other.take(1, 1)
    assert await other.spent() == [71, 8]


async def test_a_process_that_comes_later_finds_its_slice(clock: FakeClock) -> None:
    """The second process has no notion of the window until the store tells it; then its amounts stand in the right slice."""
    store = MemoryStore(clock=clock)
    first, second = Desk(clock, store), Desk(clock, store)
    await first.take(10, 1)
    await clock.advance(10 * 60)
    await second.take(10, 1)
    await clock.advance(60)
    await second.take(10, 1)
    await clock.advance(5 * 60)
    await first.take(1, 1)
    assert await first.spent() == [1, 1]


async def test_a_settlement_that_the_store_did_not_hear_of_is_made_up_for(clock: FakeClock) -> None:
    store = Away(clock=clock)
    desk = Desk(clock, store)
    held = await desk.take(80, 8)
    store.is_away = True
    with pytest.raises(LamellaError, match='connection refused'):
        await desk.pay(held, 70, 7)
    with pytest.raises(LamellaError, match='connection refused'):
        await desk.take(1, 1)
    store.is_away = False
    assert isinstance(await desk.take(1, 1), Full)  # for a while it counts twice: too much and never too little
    await clock.advance(5 * 60)
    assert isinstance(await desk.take(1, 1), Reservation)
    assert await desk.spent() == [71, 8]


async def test_what_was_used_without_a_reservation_is_told_later(desk: Desk) -> None:
    desk.ledger.owe('k', (5, 2))
    desk.ledger.owe('k', (6, 1))
    desk.ledger.owe('k', (0, 0))
    await desk.take(1, 1)
    assert await desk.spent() == [12, 4]


steps = st.lists(
    st.one_of(
        st.tuples(st.just('take'), st.integers(0, 3), st.integers(1, 40)),
        st.tuples(st.just('pay'), st.integers(0, 9), st.integers(0, 40)),
        st.tuples(st.just('die'), st.integers(0, 9), st.just(0)),
        st.tuples(st.just('wait'), st.integers(1, 200), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=150)
@given(steps)
async def test_the_counter_is_never_below_what_is_used_and_held_and_never_above_the_ceiling(steps: Any) -> None:
    """By four processes, in any order of taking, settling, dying and waiting. Only who takes longer than `hold_s` can pass the
    ceiling, by what he uses."""
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    desks = [Desk(clock, store, window_s=None) for _ in range(4)]
    held: list[tuple[Desk, Reservation]] = []
    used, late = 0, 0
    for what, number, amount in steps:
        if what == 'take':
            taken = await desks[number].take(amount, 1)
            if isinstance(taken, Reservation):
                held.append((desks[number], taken))
        elif what == 'wait':
            await clock.advance(number)
        elif held:
            desk, reservation = held.pop(number % len(held))
            if what == 'pay':
                mine = min(amount, reservation.amounts[0])
                await desk.pay(reservation, mine, 1)
                used += mine
                late += mine if clock.now() - reservation.at >= 60 else 0
        count = (await store.count('k:cost')).value
        assert used + sum([one.amounts[0] for _, one in held if clock.now() - one.at < 60]) <= count <= 100 + late
    for desk, reservation in held:
        await desk.pay(reservation, 0, 0)
    await clock.advance(1000)
    await desks[0].pay(await desks[0].take(0, 0), 0, 0)
    assert (await store.count('k:cost')).value == used


@pytest.mark.slow
async def test_a_hundred_thousand_keys_leave_nothing_behind(clock: FakeClock) -> None:
    store = MemoryStore(clock=clock)
    desk = Desk(clock, store)
    for number in range(100_000):
        taken = await desk.take(1, 1, key=f'k{number}')
        if number % 10:  # every tenth caller dies
            await desk.pay(taken, 1, 1)
    await clock.advance(2 * HOUR)
    assert len(store) == 0
    assert len(store._expiries) <= 64
    assert len(desk.ledger._windows) <= 4096


def test_a_window_for_good_is_longer_than_anybody_waits() -> None:
    assert FOR_GOOD_S > 50 * 365 * 86_400
