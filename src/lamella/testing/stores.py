"""What every store must do, as tests: subclass `StoreConformance` in your own test suite.

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self):
            return MyStore(...)

The tests are coroutines (run them with anyio or pytest-asyncio). `pass_time` waits; override it where time can be turned.
"""

from __future__ import annotations

import asyncio
import math
from uuid import uuid4

from lamella.core.ports import Bucket, Store

TICK_S = 0.15  # long for every store that is tested, short for whoever waits


def _check(condition: bool, what: object) -> None:
    if not condition:
        raise AssertionError(what)


class StoreConformance:
    """The promises of `lamella.core.ports`, one sentence each. Needs a fixture `store`; keys are new in every test."""

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
        version = await store.put(key, b'x', expire_s=TICK_S)
        await store.put(kept, b'x', expire_s=TICK_S)
        await store.put(kept, b'y')
        await self.pass_time(store, 2 * TICK_S)
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

    async def test_the_first_addition_starts_the_window_and_later_ones_do_not_move_it(self, store: Store) -> None:
        key = self.key()
        first = await store.add(key, 1, expire_s=2 * TICK_S)
        _check(first.expires_in_s is not None and 0 < first.expires_in_s <= 2 * TICK_S, first)
        await self.pass_time(store, TICK_S)
        later = await store.add(key, 1, expire_s=60)
        _check(later.expires_in_s is not None and later.expires_in_s <= 1.5 * TICK_S, later)
        await self.pass_time(store, 2 * TICK_S)
        _check((await store.add(key, 1, expire_s=60)).value == 1, 'a new window')

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

    async def test_a_bucket_refills_with_time_and_says_when(self, store: Store) -> None:
        bucket = Bucket(self.key(), 1 / TICK_S, 1)
        await store.take([bucket])
        refused = await store.take([bucket])
        _check(not refused.granted and 0 < refused.wait_s <= TICK_S * 1.01, refused)
        await self.pass_time(store, 1.5 * TICK_S)
        _check((await store.take([bucket])).granted, 'refilled')

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

    async def test_a_lost_lease_is_neither_renewed_nor_released(self, store: Store) -> None:
        key = self.key()
        lost = await store.acquire(key, TICK_S)
        _check(lost is not None, 'free at first')
        if lost is None:
            return
        _check(await store.renew(lost, TICK_S) is not None, 'renewed while held')
        await self.pass_time(store, 2 * TICK_S)
        taken = await store.acquire(key, 60)
        _check(taken is not None and taken.token > lost.token, 'an expired lease is free')
        _check(await store.renew(lost, 60) is None, 'the old holder cannot renew')
        _check(not await store.release(lost), 'nor release')
        _check(await store.acquire(key, 60) is None, 'and the new one still holds it')

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
        await store.append(key, b'x', expire_s=TICK_S)
        await self.pass_time(store, 2 * TICK_S)
        _check(list(await store.read(key)) == [], 'expired')
        _check(await store.append(key, b'y') == 1, 'a new log begins')

    async def test_ports_do_not_see_each_others_keys(self, store: Store) -> None:
        key = self.key()
        await store.put(key, b'x')
        _check((await store.add(key)).value == 1, 'a counter of the same name')
        _check(await store.acquire(key, 60) is not None, 'a lease of the same name')
        _check(await store.append(key, b'x') == 1, 'a log of the same name')
        found = await store.get(key)
        _check(found is not None and found.value == b'x', 'and the value is still there')

    async def test_odd_keys_are_just_keys(self, store: Store) -> None:
        base = self.key()
        for key in (f'{base} with spaces', f'{base}/{{slot}}:ü:\n', f"{base}'; DROP TABLE x; --", base + 'k' * 400):
            await store.put(key, key.encode())
            found = await store.get(key)
            _check(found is not None and found.value == key.encode(), key)

    async def test_a_closed_store_opens_again(self, store: Store) -> None:
        key = self.key()
        await store.put(key, b'x')
        await store.aclose()
        _check(await store.put(key, b'y') > 0, 'usable after a close')
