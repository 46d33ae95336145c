"""What holds for every store that processes share: SQLite, Redis and Postgres."""

from __future__ import annotations

import asyncio
import gc
from uuid import uuid4

from lamella.core.ports import Addition, Bucket, Store
from lamella.engine.app import Lamella
from lamella.stores import open_store
from lamella.testing import ScriptedModel


def namespaced(url: str, name: str) -> Store:
    return open_store(url.partition('?')[0], namespace=name)


async def seen_by(store: Store) -> list[object]:
    """Each port's answer about the same names."""
    return [
        await store.get('k'),
        list(await store.listed('l')),
        (await store.count('k')).value,
        (await store.take([Bucket('k', 1e-6, 1)])).granted,
        (await store.acquire('k', 60)) is not None,
        list(await store.read('k')),
    ]


async def test_two_namespaces_never_see_each_other(shared_store_url: str) -> None:
    name = uuid4().hex
    one, two = namespaced(shared_store_url, f'{name}-a'), namespaced(shared_store_url, f'{name}-b')
    await one.put('k', b'x', listed='l')
    await one.add_all([Addition('k', 3)])
    await one.take([Bucket('k', 1e-6, 1)])
    await one.acquire('k', 60)
    await one.append('k', b'x')
    assert await seen_by(two) == [None, [], 0, True, True, []]
    found = await seen_by(one)
    assert found[0].value == b'x'
    assert [listed.key for listed in found[1]] == ['k']
    assert found[2:5] == [3, False, False]
    assert len(found[5]) == 1
    await one.aclose()
    await two.aclose()


async def test_a_name_and_a_key_cannot_be_shifted_into_another(shared_store_url: str) -> None:
    name = uuid4().hex
    one, two = namespaced(shared_store_url, name), namespaced(shared_store_url, f'{name}-x')
    await two.put('k', b'x')
    for key in ('-x:k', 'x:k', '}:v:k', ':k'):
        assert await one.get(key) is None
    await one.aclose()
    await two.aclose()


def test_one_event_loop_after_the_other_without_a_close(shared_store_url: str) -> None:
    store = open_store(shared_store_url)
    for expected in (1, 2, 3):
        assert asyncio.run(store.add('k')).value == expected
    asyncio.run(store.aclose())
    del store
    gc.collect()  # a connection that is still open would warn here


def test_the_sync_door_and_the_async_one_share_an_app_and_its_store(shared_store_url: str) -> None:
    ai = Lamella(model=ScriptedModel(['hi'], repeat=True), store=shared_store_url)

    async def counted() -> int:
        return (await ai.resolve_store(None).add('calls')).value

    assert ai.sync.run(counted()) == 1
    assert asyncio.run(counted()) == 2
    assert ai.sync.run(counted()) == 3
    assert ai.sync.generate(prompt='hi').text == 'hi'
    ai.sync.run(ai.resolve_store(None).aclose())
    ai.sync.close()


async def test_many_at_once_wait_for_a_connection_and_do_not_fail(shared_store_url: str) -> None:
    store = open_store(shared_store_url)
    counts = await asyncio.gather(*[store.add('k') for _ in range(200)])
    assert sorted(count.value for count in counts) == list(range(1, 201))
    await store.aclose()


async def test_a_close_in_the_middle_lets_what_is_under_way_end(shared_store_url: str) -> None:
    store = open_store(shared_store_url)
    for _ in range(3):
        verbs = [asyncio.ensure_future(store.add('k')) for _ in range(30)]
        for _ in range(5):
            await asyncio.sleep(0)
        await store.aclose()
        assert all(count.added for count in await asyncio.gather(*verbs))
    assert (await store.count('k')).value == 90
    await store.aclose()
    del store
    gc.collect()
