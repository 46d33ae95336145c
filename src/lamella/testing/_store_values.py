"""Conformance tests of values and lists."""

from __future__ import annotations

import asyncio

from lamella.core.ports import Store
from lamella.testing._store_case import StoreCase, check


class ValuesConformance(StoreCase):
    """The promises of `Values`, one sentence each."""

    async def test_a_value_is_what_was_put_last(self, store: Store) -> None:
        key = self.key()
        check(await store.get(key) is None, 'a new key has no value')
        first = await store.put(key, b'\x00one')
        second = await store.put(key, b'two')
        found = await store.get(key)
        check(found is not None and found.value == b'two' and found.version == second > first, found)

    async def test_only_the_first_of_many_is_put_if_absent(self, store: Store) -> None:
        key = self.key()
        found = await asyncio.gather(*[store.put_if_absent(key, str(n).encode()) for n in range(20)])
        check(sum(one is None for one in found) == 1, found)
        winner = await store.get(key)
        check(winner is not None and all(one is None or one == winner for one in found), found)

    async def test_only_one_of_many_wins_a_comparison(self, store: Store) -> None:
        key = self.key()
        version = await store.put(key, b'start')
        won = await asyncio.gather(*[store.compare_and_put(key, version, str(n).encode()) for n in range(20)])
        check(sum(one is not None for one in won) == 1, won)
        check(await store.compare_and_put(key, version, b'late') is None, 'an old version never wins')

    async def test_version_zero_means_that_there_is_nothing(self, store: Store) -> None:
        key = self.key()
        check(await store.compare_and_put(key, 0, b'first') is not None, 'nothing was there')
        check(await store.compare_and_put(key, 0, b'second') is None, 'something was there')

    async def test_a_deleted_value_is_gone_and_its_version_is_not_used_again(self, store: Store) -> None:
        key = self.key()
        version = await store.put(key, b'x')
        check(not await store.delete(key, version=version + 1), 'another version is not deleted')
        check(await store.delete(key, version=version), 'this version is')
        check(not await store.delete(key), 'nothing is left to delete')
        check(await store.put(key, b'y') > version, 'versions grow over a deletion')

    async def test_a_value_ends_when_it_expires(self, store: Store) -> None:
        key, kept = self.key(), self.key()
        version = await store.put(key, b'x', expire_s=self.tick_s)
        await store.put(kept, b'x', expire_s=self.tick_s)
        await store.put(kept, b'y')
        await self.pass_time(store, 2 * self.tick_s)
        check(await store.get(key) is None, 'expired')
        check(await store.compare_and_put(key, version, b'z') is None, 'an expired version is nobody’s')
        check(await store.put_if_absent(key, b'new') is None, 'an expired key is free')
        check((await store.get(kept)) is not None, 'a later put without an expiry keeps')

    async def test_a_list_holds_what_was_put_into_it(self, store: Store) -> None:
        name, others = self.key(), self.key()
        keys = [self.key() for _ in range(5)]
        for key in keys:
            await store.put_if_absent(key, b'new', expire_s=60, listed=name)
        await store.put(self.key(), b'elsewhere', listed=others)
        await store.put(self.key(), b'nowhere')
        found = await store.listed(name)
        check([(one.key, one.value) for one in found] == [(key, b'new') for key in keys], found)
        version = await store.compare_and_put(keys[1], found[1].version, b'changed')
        await store.delete(keys[3])
        await store.put(keys[0], b'moved', listed=others)
        found = await store.listed(name)
        check([one.key for one in found] == [keys[2], keys[4], keys[1]], 'oldest change first')
        check((found[-1].value, found[-1].version) == (b'changed', version), 'a later write keeps the list')
        check(len(await store.listed(others)) == 2, 'a key may move to another list')
        first = await store.listed(name, limit=2)
        rest = await store.listed(name, after=first[-1].version)
        check([one.key for one in (*first, *rest)] == [keys[2], keys[4], keys[1]], 'page by page')
        check(list(await store.listed(name, limit=0)) == [] == list(await store.listed(self.key())), 'none')

    async def test_what_expires_leaves_its_list(self, store: Store) -> None:
        name = self.key()
        brief, kept, again = self.key(), self.key(), self.key()
        for key in (brief, again):
            await store.put(key, b'x', expire_s=self.tick_s, listed=name)
        await store.put(kept, b'x', listed=name)
        await self.pass_time(store, 2 * self.tick_s)
        check([one.key for one in await store.listed(name)] == [kept], 'expired')
        await store.put(again, b'y')
        check([one.key for one in await store.listed(name)] == [kept], 'a new value of that key is in no list')
