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

from lamella.core.ports import Bucket, Store
from lamella.testing._store_case import check
from lamella.testing._store_counters import CountersConformance
from lamella.testing._store_leases import LeasesConformance
from lamella.testing._store_values import ValuesConformance

__all__ = ['SharedStoreConformance', 'StoreConformance']


class StoreConformance(ValuesConformance, CountersConformance, LeasesConformance):
    """The promises of `lamella.core.ports`, one sentence each. Needs a fixture `store`."""

    async def test_nothing_is_kept_for_no_time(self, store: Store) -> None:
        key = self.key()
        await store.put(key, b'x', expire_s=0)
        await store.add(key, 1, expire_s=0)
        await self.pass_time(store, 0.001)
        check(await store.get(key) is None and (await store.count(key)).value == 0, 'zero means zero')

    async def test_ports_do_not_see_each_others_keys(self, store: Store) -> None:
        key = self.key()
        await store.put(key, b'x', listed=key)
        check((await store.add(key)).value == 1, 'a counter of the same name')
        check((await store.take([Bucket(key, 0.001, 1)])).granted, 'a bucket of the same name')
        check(await store.acquire(key, 60) is not None, 'a lease of the same name')
        check(await store.append(key, b'x') == 1, 'a log of the same name')
        found = await store.get(key)
        check(found is not None and found.value == b'x', 'and the value is still there')
        check([one.key for one in await store.listed(key)] == [key], 'also in its list')

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
            check(found is not None and found.value == key.encode('utf-8', 'surrogatepass'), key)
            check((await store.count(key)).value == 1 == len(await store.read(key)), key)
            check((await store.take([Bucket(key, 0.001, 2)])).granted, key)
            check(await store.acquire(key, 60) is None, key)
        check({one.key for one in await store.listed(f'{base}list\x00')} == set(odd), 'listed as they are')

    async def test_any_bytes_are_a_value(self, store: Store) -> None:
        for value in (b'', bytes(range(256)), b'x' * 1_000_000):
            key = self.key()
            await store.put(key, value)
            await store.append(key, value)
            found, entries = await store.get(key), await store.read(key)
            check(found is not None and found.value == value == entries[0].value, len(value))

    async def test_other_event_loops_use_it_too(self, store: Store) -> None:
        key = self.key()
        await store.add(key)
        for _ in range(2):
            await asyncio.to_thread(asyncio.run, store.add(key))
        check((await store.add(key)).value == 4, 'one after the other, and beside this one')

    async def test_a_closed_store_opens_again(self, store: Store) -> None:
        key = self.key()
        await store.put(key, b'x')
        await store.aclose()
        check(await store.put(key, b'y') > 0, 'usable after a close')

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
            check(found is not None and found.value == b'right', 'an answer to somebody else')


class SharedStoreConformance(StoreConformance):
    """What holds between two stores on the same data. Needs a fixture `other` beside `store`."""

    async def test_what_one_writes_the_other_reads(self, store: Store, other: Store) -> None:
        key = self.key()
        version = await store.put(key, b'x', listed=key)
        await store.append(key, b'entry')
        added = await store.add(key, 3, expire_s=60)
        found = await other.get(key)
        check(found is not None and (found.value, found.version) == (b'x', version), found)
        check([one.key for one in await other.listed(key)] == [key], 'also lists')
        check([entry.value for entry in await other.read(key)] == [b'entry'], 'also logs')
        count = await other.count(key)
        check((count.value, count.window) == (3, added.window), count)

    async def test_two_stores_never_pass_a_ceiling_together(self, store: Store, other: Store) -> None:
        key = self.key()
        bucket = Bucket(key, 0.001, 7)
        asked = [one for _ in range(15) for one in (store, other)]
        counts = await asyncio.gather(*[one.add(key, 3, ceiling=20) for one in asked])
        check(sum(count.added for count in counts) == 6, counts)
        taken = await asyncio.gather(*[one.take([bucket]) for one in asked])
        check(sum(one.granted for one in taken) == 7, taken)
        positions = await asyncio.gather(*[one.append(key, b'x') for one in asked])
        check(sorted(positions) == list(range(1, 31)), positions)

    async def test_one_of_two_stores_holds_a_lease(self, store: Store, other: Store) -> None:
        key = self.key()
        held = await store.acquire(key, 60)
        check(held is not None and await other.acquire(key, 60) is None, held)
        if held is None:
            return
        check(await other.renew(held, 60) is not None, 'a lease belongs to whoever has its token')
        check(await other.release(held), 'wherever it was acquired')
        again = await other.acquire(key, 60)
        check(again is not None and again.token > held.token, again)

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
        check(sorted(seen) == sorted(keys), 'every key once')
