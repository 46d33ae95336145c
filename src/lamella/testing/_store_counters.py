"""Conformance tests of counters and token buckets."""

from __future__ import annotations

import asyncio
import math

from lamella.core.ports import Addition, Bucket, Count, Store
from lamella.testing._store_case import StoreCase, check


class CountersConformance(StoreCase):
    """The promises of `Counters`, one sentence each."""

    async def test_a_counter_never_passes_its_ceiling(self, store: Store) -> None:
        key = self.key()
        counts = await asyncio.gather(*[store.add(key, 3, ceiling=20) for _ in range(20)])
        check(sum(count.added for count in counts) == 6, counts)
        check(max(count.value for count in counts) == 18, counts)
        check((await store.add(key, 2, ceiling=20)).value == 20, 'what still fits is added')

    async def test_a_counter_gives_back_and_never_falls_below_zero(self, store: Store) -> None:
        key = self.key()
        await store.add(key, 5)
        check((await store.add(key, -2)).value == 3, 'given back')
        check((await store.add(key, -9)).value == 0, 'never below zero')
        await store.add(key, 9)
        back = await store.add(key, -1, ceiling=5)
        check((back.added, back.fits, back.value) == (True, True, 8), 'a ceiling hinders nobody who gives back')

    async def test_buckets_give_all_or_nothing(self, store: Store) -> None:
        calls, tokens = self.key(), self.key()
        many, few = Bucket(calls, 0.001, 10, 1), Bucket(tokens, 0.001, 100, 60)
        check((await store.take([many, few])).granted, 'both are full at first')
        refused = await store.take([many, few])
        check(not refused.granted and refused.wait_s > 0, refused)
        check((await store.take([many.replace(amount=9)])).granted, 'the refusal took nothing from the other bucket')
        check(not (await store.take([many])).granted, 'and now it is empty')

    async def test_many_takers_get_exactly_what_there_is(self, store: Store) -> None:
        bucket = Bucket(self.key(), 0.001, 7)
        taken = await asyncio.gather(*[store.take([bucket]) for _ in range(30)])
        check(sum(one.granted for one in taken) == 7, taken)

    async def test_more_than_a_bucket_holds_is_never_granted(self, store: Store) -> None:
        refused = await store.take([Bucket(self.key(), 1, 5, 6)])
        check(not refused.granted and refused.wait_s == math.inf, refused)

    async def test_settling_gives_back_and_takes_more(self, store: Store) -> None:
        bucket = Bucket(self.key(), 0.001, 10, 10)
        await store.take([bucket])
        await store.settle([bucket.replace(amount=-4)])
        check((await store.take([bucket.replace(amount=4)])).granted, 'what was given back can be taken')
        await store.settle([bucket.replace(amount=5)])
        await store.settle([bucket.replace(amount=-5)])
        check(not (await store.take([bucket.replace(amount=1)])).granted, 'a debt is paid first')
        await store.settle([bucket.replace(amount=-99)])
        check(not (await store.take([bucket.replace(amount=11)])).granted, 'never above the burst')

    async def test_the_first_addition_starts_the_window_and_later_ones_do_not_move_it(self, store: Store) -> None:
        key, brief = self.key(), self.key()
        first = await store.add(key, 1, expire_s=60)
        check(first.expires_in_s is not None and 0 < first.expires_in_s <= 60, first)
        await store.add(brief, 1, expire_s=self.tick_s)
        later = await store.add(key, 1, expire_s=600)
        check(later.expires_in_s is not None and later.expires_in_s <= 60 and later.window == first.window, later)
        await self.pass_time(store, 2 * self.tick_s)
        check((await store.count(brief)).value == 0, 'the window has ended')
        check((await store.add(brief, 1, expire_s=60)).value == 1, 'and a new one begins')

    async def test_what_was_reserved_in_one_window_is_not_given_back_into_the_next(self, store: Store) -> None:
        key = self.key()
        reserved = await store.add(key, 5, expire_s=self.tick_s)
        check(reserved.window > 0, reserved)
        await self.pass_time(store, 2 * self.tick_s)
        late = await store.add(key, -5, window=reserved.window)
        check(not late.added and late.value == 0, late)
        current = await store.add(key, 7, expire_s=60)
        check(current.window not in (0, reserved.window), current)
        late = await store.add(key, -5, window=reserved.window)
        check(not late.added and late.fits and late.value == 7, late)
        now = await store.add(key, -3, window=current.window)
        check(now.added and now.value == 4, now)

    async def test_several_counters_are_added_to_or_none(self, store: Store) -> None:
        calls, tokens = self.key(), self.key()
        both = [Addition(calls, 1, 10, 60), Addition(tokens, 400, 1000, 60)]
        counts = await asyncio.gather(*[store.add_all(both) for _ in range(10)])
        check(sum(one[0].added and one[1].added for one in counts) == 2, counts)
        refused = await store.add_all(both)
        check([one.added for one in refused] == [False, False], refused)
        check([one.fits for one in refused] == [True, False], 'it says which ceiling was in the way')
        check([one.value for one in refused] == [2, 800], 'and what is there')
        settled = await store.add_all([Addition(calls, 0), Addition(tokens, -300)])
        check([(one.added, one.value) for one in settled] == [(True, 2), (True, 500)], settled)
        check((await store.add_all(both))[0].added, 'what was given back can be added')
        check(list(await store.add_all([])) == [], 'nothing asked, nothing done')

    async def test_a_window_that_has_ended_hinders_no_other_counter(self, store: Store) -> None:
        short, long = self.key(), self.key()
        first, second = await store.add_all([Addition(short, 5, None, self.tick_s), Addition(long, 5, None, 60)])
        await self.pass_time(store, 2 * self.tick_s)
        back = await store.add_all([Addition(short, -5, window=first.window), Addition(long, -2, window=second.window)])
        check([(one.added, one.value) for one in back] == [(False, 0), (True, 3)], back)

    async def test_a_counter_can_be_looked_at_and_forgotten(self, store: Store) -> None:
        key = self.key()
        check(await store.count(key) == Count(0, added=False), 'a new counter is 0, and looking makes none')
        await store.add(key, 0, expire_s=self.tick_s)
        await store.add(key, -3, expire_s=self.tick_s)
        check((await store.count(key)).window == 0, 'neither does adding nothing, or giving back what never was')
        added = await store.add(key, 4, expire_s=60)
        found = await store.count(key)
        check(found.value == 4 and not found.added and found.window == added.window, found)
        check(found.expires_in_s is not None and 0 < found.expires_in_s <= 60, found)
        check(await store.reset(key) == 4, 'the last value')
        check(await store.reset(key) == 0 == (await store.count(key)).value, 'and it is gone')
        check((await store.add(key, 1)).expires_in_s is None, 'a counter without an end')

    async def test_large_amounts_are_exact(self, store: Store) -> None:
        key, large = self.key(), 2**53 - 2
        check((await store.add(key, large)).value == large, 'all digits are kept')
        check((await store.add(key, 1, ceiling=2**53 - 1)).value == large + 1, 'and counted on')
        check(not (await store.add(key, 1, ceiling=2**53 - 1)).added, 'up to the ceiling')

    async def test_a_bucket_refills_with_time_and_says_when(self, store: Store) -> None:
        bucket = Bucket(self.key(), 20, 100, 100)
        await store.take([bucket])
        refused = await store.take([bucket])
        check(not refused.granted and 0 < refused.wait_s <= 5, refused)
        await store.settle([bucket.replace(amount=-100 + 10 * self.tick_s)])
        await self.pass_time(store, self.tick_s)
        check((await store.take([bucket])).granted, 'refilled')

    async def test_takers_that_wait_are_served_in_order(self, store: Store) -> None:
        bucket = Bucket(self.key(), 0.1, 1)
        taken = [await store.take([bucket], max_wait_s=1000) for _ in range(3)]
        check(all(one.granted for one in taken), taken)
        waits = [one.wait_s for one in taken]
        check(waits[0] == 0 and 0 < waits[1] <= 10 < waits[2] <= 20, waits)
        late = await store.take([bucket], max_wait_s=5)
        check(not late.granted and 5 < late.wait_s <= 30, 'nobody waits longer than they are willing to')
        await store.settle([bucket.replace(amount=-1)])
        again = await store.take([bucket], max_wait_s=1000)
        check(again.granted and 10 < again.wait_s <= 20, 'whoever gives up a place leaves it to the next')

    async def test_one_step_names_a_key_once(self, store: Store) -> None:
        key = self.key()
        for step in (
            store.take([Bucket(key, 1, 1), Bucket(key, 1, 1)]),
            store.add_all([Addition(key), Addition(key)]),
        ):
            try:
                await step
            except ValueError:
                continue
            check(False, 'a key that is named twice cannot be done in one step')
