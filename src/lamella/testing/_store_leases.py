"""Conformance tests of leases and logs."""

from __future__ import annotations

import asyncio

from lamella.core.ports import Store
from lamella.testing._store_case import StoreCase, check


class LeasesConformance(StoreCase):
    """The promises of `Leases` and `Log`, one sentence each."""

    async def test_one_of_many_holds_a_lease(self, store: Store) -> None:
        key = self.key()
        leases = await asyncio.gather(*[store.acquire(key, 60) for _ in range(20)])
        held = [lease for lease in leases if lease is not None]
        check(len(held) == 1, leases)
        check(await store.release(held[0]), 'released')
        check(not await store.release(held[0]), 'only once')
        again = await store.acquire(key, 60)
        check(again is not None and again.token > held[0].token, 'tokens grow')

    async def test_a_log_keeps_the_order_without_gaps(self, store: Store) -> None:
        key = self.key()
        positions = await asyncio.gather(*[store.append(key, str(n).encode()) for n in range(25)])
        check(sorted(positions) == list(range(1, 26)), positions)
        first = await store.read(key, limit=10)
        rest = await store.read(key, after=10)
        check([entry.position for entry in (*first, *rest)] == list(range(1, 26)), (first, rest))
        check({entry.value for entry in (*first, *rest)} == {str(n).encode() for n in range(25)}, 'nothing is lost')

    async def test_a_log_ends_when_nothing_was_added_for_its_time(self, store: Store) -> None:
        key = self.key()
        await store.append(key, b'x', expire_s=self.tick_s)
        await self.pass_time(store, 2 * self.tick_s)
        check(list(await store.read(key)) == [], 'expired')
        check(await store.append(key, b'y') == 1, 'a new log begins')

    async def test_a_lost_lease_is_neither_renewed_nor_released(self, store: Store) -> None:
        key = self.key()
        lost = await store.acquire(key, 60)
        check(lost is not None, 'free at first')
        if lost is None:
            return
        renewed = await store.renew(lost, self.tick_s)
        check(renewed is not None and renewed.token == lost.token, 'renewed while held')
        await self.pass_time(store, 2 * self.tick_s)
        check(await store.renew(lost, 60) is None, 'what has ended cannot be renewed')
        check(not await store.release(lost), 'nor released')
        taken = await store.acquire(key, 60)
        check(taken is not None and taken.token > lost.token, 'an expired lease is free')
        check(await store.renew(lost, 60) is None, 'the old holder cannot renew')
        check(not await store.release(lost), 'nor release')
        check(await store.acquire(key, 60) is None, 'and the new one still holds it')

    async def test_a_lease_may_have_several_holders(self, store: Store) -> None:
        key = self.key()
        leases = await asyncio.gather(*[store.acquire(key, 60, slots=3) for _ in range(20)])
        held = [lease for lease in leases if lease is not None]
        check(len({lease.token for lease in held}) == len(held) == 3, leases)
        check(await store.renew(held[1], self.tick_s) is not None, 'each is renewed by itself')
        check(await store.release(held[0]), 'and released by itself')
        check(await store.acquire(key, 60, slots=3) is not None, 'which frees one place')
        await self.pass_time(store, 2 * self.tick_s)
        check(await store.acquire(key, 60, slots=3) is not None, 'and so does the end of one')
        check(await store.acquire(key, 60, slots=3) is None, 'but no more than that')
