"""What every store must do, as tests: subclass `StoreConformance` in your own test suite.

    class TestMyStore(StoreConformance):
        @pytest.fixture
        async def store(self, my_server):
            store = MyStore(my_server.url)
            yield store
            await store.aclose()

`SharedStoreConformance` has more, for stores that several processes share; it needs a second fixture, `other`: another store
on the same data. The tests are coroutines (run them with anyio or pytest-asyncio). They wait for real time where something
expires: override `pass_time` where time can be turned, and `tick_s` where the server is slow.
"""

from __future__ import annotations

import asyncio
import math
from typing import ClassVar
from uuid import uuid4

from lamella.core.ports import Addition, Bucket, Count, Store


def _check(condition: bool, what: object) -> None:
    if not condition:
        raise AssertionError(what)


class StoreConformance:
    """The promises of `lamella.core.ports`, one sentence each. Needs a fixture `store`; keys are new in every test."""

    tick_s: ClassVar[float] = 0.15  # what expires in the tests lives so long

    async def pass_time(self, store: Store, seconds: float) -> None:
        """Let the store's time pass."""
        await asyncio.sleep(seconds)

    def key(self) -> str:
        return f'conformance:{uuid4().hex}'

    async def test_a_value_is_what_was_put_last(self, store: Store) -> None:
        key = self.key()
        _check(await store.get(key) is None, 'a new key has no value')
        first = await store.put(key, b'\x00one')
        second = await store.put(key, b'two')
        found = await store.get(key)
        _check(found is not None and found.value == b'two' and found.version == second > first, found)

    async def test_only_the_first_of_many_is_put_if_absent(self, store: Store) -> None:
        key = self.key()
        found = await asyncio.gather(*[store.put_if_absent(key, str(n).encode()) for n in range(20)])
        _check(sum(one is None for one in found) == 1, found)
        winner = await store.get(key)
        _check(winner is not None and all(one is None or one == winner for one in found), found)

    async def test_only_one_of_many_wins_a_comparison(self, store: Store) -> None:
        key = self.key()
        version = await store.put(key, b'start')
        won = await asyncio.gather(*[store.compare_and_put(key, version, str(n).encode()) for n in range(20)])
        _check(sum(one is not None for one in won) == 1, won)
        _check(await store.compare_and_put(key, version, b'late') is None, 'an old version never wins')

    async def test_version_zero_means_that_there_is_nothing(self, store: Store) -> None:
        key = self.key()
        _check(await store.compare_and_put(key, 0, b'first') is not None, 'nothing was there')
        _check(await store.compare_and_put(key, 0, b'second') is None, 'something was there')

    async def test_a_deleted_value_is_gone_and_its_version_is_not_used_again(self, store: Store) -> None:
        key = self.key()
        version = await store.put(key, b'x')
        _check(not await store.delete(key, version=version + 1), 'another version is not deleted')
        _check(await store.delete(key, version=version), 'this version is')
        _check(not await store.delete(key), 'nothing is left to delete')
        _check(await store.put(key, b'y') > version, 'versions grow over a deletion')

    async def test_a_value_ends_when_it_expires(self, store: Store) -> None:
        key, kept = self.key(), self.key()
        version = await store.put(key, b'x', expire_s=self.tick_s)
        await store.put(kept, b'x', expire_s=self.tick_s)
        await store.put(kept, b'y')
        await self.pass_time(store, 2 * self.tick_s)
        _check(await store.get(key) is None, 'expired')
        _check(await store.compare_and_put(key, version, b'z') is None, 'an expired version is nobody’s')
        _check(await store.put_if_absent(key, b'new') is None, 'an expired key is free')
        _check((await store.get(kept)) is not None, 'a later put without an expiry keeps')

    async def test_a_counter_never_passes_its_ceiling(self, store: Store) -> None:
        key = self.key()
        counts = await asyncio.gather(*[store.add(key, 3, ceiling=20) for _ in range(20)])
        _check(sum(count.added for count in counts) == 6, counts)
        _check(max(count.value for count in counts) == 18, counts)
        _check((await store.add(key, 2, ceiling=20)).value == 20, 'what still fits is added')

    async def test_a_counter_gives_back_and_never_falls_below_zero(self, store: Store) -> None:
        key = self.key()
        await store.add(key, 5)
        _check((await store.add(key, -2)).value == 3, 'given back')
        _check((await store.add(key, -9)).value == 0, 'never below zero')
        await store.add(key, 9)
        back = await store.add(key, -1, ceiling=5)
        _check((back.added, back.fits, back.value) == (True, True, 8), 'a ceiling hinders nobody who gives back')

    async def test_buckets_give_all_or_nothing(self, store: Store) -> None:
        calls, tokens = self.key(), self.key()
        many, few = Bucket(calls, 0.001, 10, 1), Bucket(tokens, 0.001, 100, 60)
        _check((await store.take([many, few])).granted, 'both are full at first')
        refused = await store.take([many, few])
        _check(not refused.granted and refused.wait_s > 0, refused)
        _check((await store.take([many.replace(amount=9)])).granted, 'the refusal took nothing from the other bucket')
        _check(not (await store.take([many])).granted, 'and now it is empty')

    async def test_many_takers_get_exactly_what_there_is(self, store: Store) -> None:
        bucket = Bucket(self.key(), 0.001, 7)
        taken = await asyncio.gather(*[store.take([bucket]) for _ in range(30)])
        _check(sum(one.granted for one in taken) == 7, taken)

    async def test_more_than_a_bucket_holds_is_never_granted(self, store: Store) -> None:
        refused = await store.take([Bucket(self.key(), 1, 5, 6)])
        _check(not refused.granted and refused.wait_s == math.inf, refused)

    async def test_settling_gives_back_and_takes_more(self, store: Store) -> None:
        bucket = Bucket(self.key(), 0.001, 10, 10)
        await store.take([bucket])
        await store.settle([bucket.replace(amount=-4)])
        _check((await store.take([bucket.replace(amount=4)])).granted, 'what was given back can be taken')
        await store.settle([bucket.replace(amount=5)])
        await store.settle([bucket.replace(amount=-5)])
        _check(not (await store.take([bucket.replace(amount=1)])).granted, 'a debt is paid first')
        await store.settle([bucket.replace(amount=-99)])
        _check(not (await store.take([bucket.replace(amount=11)])).granted, 'never above the burst')

    async def test_one_of_many_holds_a_lease(self, store: Store) -> None:
        key = self.key()
        leases = await asyncio.gather(*[store.acquire(key, 60) for _ in range(20)])
        held = [lease for lease in leases if lease is not None]
        _check(len(held) == 1, leases)
        _check(await store.release(held[0]), 'released')
        _check(not await store.release(held[0]), 'only once')
        again = await store.acquire(key, 60)
        _check(again is not None and again.token > held[0].token, 'tokens grow')

    async def test_a_log_keeps_the_order_without_gaps(self, store: Store) -> None:
        key = self.key()
        positions = await asyncio.gather(*[store.append(key, str(n).encode()) for n in range(25)])
        _check(sorted(positions) == list(range(1, 26)), positions)
        first = await store.read(key, limit=10)
        rest = await store.read(key, after=10)
        _check([entry.position for entry in (*first, *rest)] == list(range(1, 26)), (first, rest))
        _check({entry.value for entry in (*first, *rest)} == {str(n).encode() for n in range(25)}, 'nothing is lost')

    async def test_a_log_ends_when_nothing_was_added_for_its_time(self, store: Store) -> None:
        key = self.key()
        await store.append(key, b'x', expire_s=self.tick_s)
        await self.pass_time(store, 2 * self.tick_s)
        _check(list(await store.read(key)) == [], 'expired')
        _check(await store.append(key, b'y') == 1, 'a new log begins')

    async def test_a_lost_lease_is_neither_renewed_nor_released(self, store: Store) -> None:
        key = self.key()
        lost = await store.acquire(key, 60)
        _check(lost is not None, 'free at first')
        if lost is None:
            return
        renewed = await store.renew(lost, self.tick_s)
        _check(renewed is not None and renewed.token == lost.token, 'renewed while held')
        await self.pass_time(store, 2 * self.tick_s)
        _check(await store.renew(lost, 60) is None, 'what has ended cannot be renewed')
        _check(not await store.release(lost), 'nor released')
        taken = await store.acquire(key, 60)
        _check(taken is not None and taken.token > lost.token, 'an expired lease is free')
        _check(await store.renew(lost, 60) is None, 'the old holder cannot renew')
        _check(not await store.release(lost), 'nor release')
        _check(await store.acquire(key, 60) is None, 'and the new one still holds it')

    async def test_a_lease_may_have_several_holders(self, store: Store) -> None:
        key = self.key()
        leases = await asyncio.gather(*[store.acquire(key, 60, slots=3) for _ in range(20)])
        held = [lease for lease in leases if lease is not None]
        _check(len({lease.token for lease in held}) == len(held) == 3, leases)
        _check(await store.renew(held[1], self.tick_s) is not None, 'each is renewed by itself')
        _check(await store.release(held[0]), 'and released by itself')
        _check(await store.acquire(key, 60, slots=3) is not None, 'which frees one place')
        await self.pass_time(store, 2 * self.tick_s)
        _check(await store.acquire(key, 60, slots=3) is not None, 'and so does the end of one')
        _check(await store.acquire(key, 60, slots=3) is None, 'but no more than that')

    async def test_the_first_addition_starts_the_window_and_later_ones_do_not_move_it(self, store: Store) -> None:
        key, brief = self.key(), self.key()
        first = await store.add(key, 1, expire_s=60)
        _check(first.expires_in_s is not None and 0 < first.expires_in_s <= 60, first)
        await store.add(brief, 1, expire_s=self.tick_s)
        later = await store.add(key, 1, expire_s=600)
        _check(later.expires_in_s is not None and later.expires_in_s <= 60 and later.window == first.window, later)
        await self.pass_time(store, 2 * self.tick_s)
        _check((await store.count(brief)).value == 0, 'the window has ended')
        _check((await store.add(brief, 1, expire_s=60)).value == 1, 'and a new one begins')

    async def test_what_was_reserved_in_one_window_is_not_given_back_into_the_next(self, store: Store) -> None:
        key = self.key()
        reserved = await store.add(key, 5, expire_s=self.tick_s)
        _check(reserved.window > 0, reserved)
        await self.pass_time(store, 2 * self.tick_s)
        late = await store.add(key, -5, window=reserved.window)
        _check(not late.added and late.value == 0, late)
        current = await store.add(key, 7, expire_s=60)
        _check(current.window not in (0, reserved.window), current)
        late = await store.add(key, -5, window=reserved.window)
        _check(not late.added and late.fits and late.value == 7, late)
        now = await store.add(key, -3, window=current.window)
        _check(now.added and now.value == 4, now)

    async def test_several_counters_are_added_to_or_none(self, store: Store) -> None:
        calls, tokens = self.key(), self.key()
        both = [Addition(calls, 1, 10, 60), Addition(tokens, 400, 1000, 60)]
        counts = await asyncio.gather(*[store.add_all(both) for _ in range(10)])
        _check(sum(one[0].added and one[1].added for one in counts) == 2, counts)
        refused = await store.add_all(both)
        _check([one.added for one in refused] == [False, False], refused)
        _check([one.fits for one in refused] == [True, False], 'it says which ceiling was in the way')
        _check([one.value for one in refused] == [2, 800], 'and what is there')
        settled = await store.add_all([Addition(calls, 0), Addition(tokens, -300)])
        _check([(one.added, one.value) for one in settled] == [(True, 2), (True, 500)], settled)
        _check((await store.add_all(both))[0].added, 'what was given back can be added')
        _check(list(await store.add_all([])) == [], 'nothing asked, nothing done')

    async def test_a_window_that_has_ended_hinders_no_other_counter(self, store: Store) -> None:
        short, long = self.key(), self.key()
        first, second = await store.add_all([Addition(short, 5, None, self.tick_s), Addition(long, 5, None, 60)])
        await self.pass_time(store, 2 * self.tick_s)
        back = await store.add_all([Addition(short, -5, window=first.window), Addition(long, -2, window=second.window)])
        _check([(one.added, one.value) for one in back] == [(False, 0), (True, 3)], back)

    async def test_a_counter_can_be_looked_at_and_forgotten(self, store: Store) -> None:
        key = self.key()
        _check(await store.count(key) == Count(0, added=False), 'a new counter is 0, and looking makes none')
        await store.add(key, 0, expire_s=self.tick_s)
        await store.add(key, -3, expire_s=self.tick_s)
        _check((await store.count(key)).window == 0, 'neither does adding nothing, or giving back what never was')
        added = await store.add(key, 4, expire_s=60)
        found = await store.count(key)
        _check(found.value == 4 and not found.added and found.window == added.window, found)
        _check(found.expires_in_s is not None and 0 < found.expires_in_s <= 60, found)
        _check(await store.reset(key) == 4, 'the last value')
        _check(await store.reset(key) == 0 == (await store.count(key)).value, 'and it is gone')
        _check((await store.add(key, 1)).expires_in_s is None, 'a counter without an end')

    async def test_large_amounts_are_exact(self, store: Store) -> None:
        key, large = self.key(), 2**53 - 2
        _check((await store.add(key, large)).value == large, 'all digits are kept')
        _check((await store.add(key, 1, ceiling=2**53 - 1)).value == large + 1, 'and counted on')
        _check(not (await store.add(key, 1, ceiling=2**53 - 1)).added, 'up to the ceiling')

    async def test_a_bucket_refills_with_time_and_says_when(self, store: Store) -> None:
        bucket = Bucket(self.key(), 20, 100, 100)
        await store.take([bucket])
        refused = await store.take([bucket])
        _check(not refused.granted and 0 < refused.wait_s <= 5, refused)
        await store.settle([bucket.replace(amount=-100 + 10 * self.tick_s)])
        await self.pass_time(store, self.tick_s)
        _check((await store.take([bucket])).granted, 'refilled')

    async def test_takers_that_wait_are_served_in_order(self, store: Store) -> None:
        bucket = Bucket(self.key(), 0.1, 1)
        taken = [await store.take([bucket], max_wait_s=1000) for _ in range(3)]
        _check(all(one.granted for one in taken), taken)
        waits = [one.wait_s for one in taken]
        _check(waits[0] == 0 and 0 < waits[1] <= 10 < waits[2] <= 20, waits)
        late = await store.take([bucket], max_wait_s=5)
        _check(not late.granted and 5 < late.wait_s <= 30, 'nobody waits longer than they are willing to')
        await store.settle([bucket.replace(amount=-1)])
        again = await store.take([bucket], max_wait_s=1000)
        _check(again.granted and 10 < again.wait_s <= 20, 'whoever gives up a place leaves it to the next')

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
            _check(False, 'a key that is named twice cannot be done in one step')

    async def test_a_list_holds_what_was_put_into_it(self, store: Store) -> None:
        name, others = self.key(), self.key()
        keys = [self.key() for _ in range(5)]
        for key in keys:
            await store.put_if_absent(key, b'new', expire_s=60, listed=name)
        await store.put(self.key(), b'elsewhere', listed=others)
        await store.put(self.key(), b'nowhere')
        found = await store.listed(name)
        _check([(one.key, one.value) for one in found] == [(key, b'new') for key in keys], found)
        version = await store.compare_and_put(keys[1], found[1].version, b'changed')
        await store.delete(keys[3])
        await store.put(keys[0], b'moved', listed=others)
        found = await store.listed(name)
        _check([one.key for one in found] == [keys[2], keys[4], keys[1]], 'oldest change first')
        _check((found[-1].value, found[-1].version) == (b'changed', version), 'a later write keeps the list')
        _check(len(await store.listed(others)) == 2, 'a key may move to another list')
        first = await store.listed(name, limit=2)
        rest = await store.listed(name, after=first[-1].version)
        _check([one.key for one in (*first, *rest)] == [keys[2], keys[4], keys[1]], 'page by page')
        _check(list(await store.listed(name, limit=0)) == [] == list(await store.listed(self.key())), 'none')

    async def test_what_expires_leaves_its_list(self, store: Store) -> None:
        name = self.key()
        brief, kept, again = self.key(), self.key(), self.key()
        for key in (brief, again):
            await store.put(key, b'x', expire_s=self.tick_s, listed=name)
        await store.put(kept, b'x', listed=name)
        await self.pass_time(store, 2 * self.tick_s)
        _check([one.key for one in await store.listed(name)] == [kept], 'expired')
        await store.put(again, b'y')
        _check([one.key for one in await store.listed(name)] == [kept], 'a new value of that key is in no list')

    async def test_nothing_is_kept_for_no_time(self, store: Store) -> None:
        key = self.key()
        await store.put(key, b'x', expire_s=0)
        await store.add(key, 1, expire_s=0)
        await self.pass_time(store, 0.001)
        _check(await store.get(key) is None and (await store.count(key)).value == 0, 'zero means zero')

    async def test_ports_do_not_see_each_others_keys(self, store: Store) -> None:
        key = self.key()
        await store.put(key, b'x', listed=key)
        _check((await store.add(key)).value == 1, 'a counter of the same name')
        _check((await store.take([Bucket(key, 0.001, 1)])).granted, 'a bucket of the same name')
        _check(await store.acquire(key, 60) is not None, 'a lease of the same name')
        _check(await store.append(key, b'x') == 1, 'a log of the same name')
        found = await store.get(key)
        _check(found is not None and found.value == b'x', 'and the value is still there')
        _check([one.key for one in await store.listed(key)] == [key], 'also in its list')

    async def test_odd_keys_are_just_keys(self, store: Store) -> None:
        base = self.key()
        odd = (
            *(
                f'{base} with spaces',
                f'{base}/{{slot}}:ü:\n',
                f"{base}'; DROP TABLE x; --",
                f'{base}\x00',
                f'{base}\ud800',
            ),
            *(base + 'k' * 10_000, base + 'k' * 10_001, f'{base}:', f':{base}', f'{{{base}', f'{base}%', f'{base}*'),
        )
        for key in odd:
            await store.put(key, key.encode('utf-8', 'surrogatepass'), listed=f'{base}list\x00')
            await store.add(key)
            await store.append(key, b'x')
            await store.take([Bucket(key, 0.001, 2)])
            await store.acquire(key, 60)
        for key in odd:
            found = await store.get(key)
            _check(found is not None and found.value == key.encode('utf-8', 'surrogatepass'), key)
            _check((await store.count(key)).value == 1 == len(await store.read(key)), key)
            _check((await store.take([Bucket(key, 0.001, 2)])).granted, key)
            _check(await store.acquire(key, 60) is None, key)
        _check({one.key for one in await store.listed(f'{base}list\x00')} == set(odd), 'listed as they are')

    async def test_any_bytes_are_a_value(self, store: Store) -> None:
        for value in (b'', bytes(range(256)), b'x' * 1_000_000):
            key = self.key()
            await store.put(key, value)
            await store.append(key, value)
            found, entries = await store.get(key), await store.read(key)
            _check(found is not None and found.value == value == entries[0].value, len(value))

    async def test_other_event_loops_use_it_too(self, store: Store) -> None:
        key = self.key()
        await store.add(key)
        for _ in range(2):
            await asyncio.to_thread(asyncio.run, store.add(key))
        _check((await store.add(key)).value == 4, 'one after the other, and beside this one')

    async def test_a_closed_store_opens_again(self, store: Store) -> None:
        key = self.key()
        await store.put(key, b'x')
        await store.aclose()
        _check(await store.put(key, b'y') > 0, 'usable after a close')

    async def test_verbs_that_were_cancelled_disturb_no_other(self, store: Store) -> None:
        key = self.key()
        await store.put(key, b'right')
        for patience in range(20):
            verbs = [asyncio.ensure_future(store.put(f'{key}:{n}', b'wrong')) for n in range(4)]
            for _ in range(patience):
                await asyncio.sleep(0)
            for verb in verbs:
                verb.cancel()
            await asyncio.gather(*verbs, return_exceptions=True)
            found = await store.get(key)
            _check(found is not None and found.value == b'right', 'an answer to somebody else')


class SharedStoreConformance(StoreConformance):
    """What holds between two stores on the same data. Needs a fixture `other` beside `store`."""

    async def test_what_one_writes_the_other_reads(self, store: Store, other: Store) -> None:
        key = self.key()
        version = await store.put(key, b'x', listed=key)
        await store.append(key, b'entry')
        added = await store.add(key, 3, expire_s=60)
        found = await other.get(key)
        _check(found is not None and (found.value, found.version) == (b'x', version), found)
        _check([one.key for one in await other.listed(key)] == [key], 'also lists')
        _check([entry.value for entry in await other.read(key)] == [b'entry'], 'also logs')
        count = await other.count(key)
        _check((count.value, count.window) == (3, added.window), count)

    async def test_two_stores_never_pass_a_ceiling_together(self, store: Store, other: Store) -> None:
        key = self.key()
        bucket = Bucket(key, 0.001, 7)
        asked = [one for _ in range(15) for one in (store, other)]
        counts = await asyncio.gather(*[one.add(key, 3, ceiling=20) for one in asked])
        _check(sum(count.added for count in counts) == 6, counts)
        taken = await asyncio.gather(*[one.take([bucket]) for one in asked])
        _check(sum(one.granted for one in taken) == 7, taken)
        positions = await asyncio.gather(*[one.append(key, b'x') for one in asked])
        _check(sorted(positions) == list(range(1, 31)), positions)

    async def test_one_of_two_stores_holds_a_lease(self, store: Store, other: Store) -> None:
        key = self.key()
        held = await store.acquire(key, 60)
        _check(held is not None and await other.acquire(key, 60) is None, held)
        if held is None:
            return
        _check(await other.renew(held, 60) is not None, 'a lease belongs to whoever has its token')
        _check(await other.release(held), 'wherever it was acquired')
        again = await other.acquire(key, 60)
        _check(again is not None and again.token > held.token, again)

    async def test_a_list_is_read_on_without_a_gap_while_two_write_to_it(self, store: Store, other: Store) -> None:
        name = self.key()
        keys = [f'{name}:{n}' for n in range(60)]
        writing = asyncio.gather(*[(store, other)[n % 2].put(key, b'x', listed=name) for n, key in enumerate(keys)])
        seen: list[str] = []
        after = 0
        while True:
            is_over = writing.done()
            page = await store.listed(name, after=after, limit=7)
            seen += [one.key for one in page]
            after = page[-1].version if page else after
            if is_over and not page:
                break
        await writing
        _check(sorted(seen) == sorted(keys), 'every key once')
