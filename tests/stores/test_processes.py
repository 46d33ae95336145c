"""Each verb is one atomic step for eight processes at once, on every store that processes share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from lamella.core.ports import Store
from lamella.stores import open_store
from tests.workers import Workers, run_workers

PROCESSES, TIMES = 8, 200


@pytest.fixture(params=['redis_url', 'postgres_url'])
def server_store_url(request: pytest.FixtureRequest) -> str:
    return f'{request.getfixturevalue(request.param)}?namespace=test-{uuid4().hex}'


@pytest.fixture
async def shared_store(shared_store_url: str) -> AsyncIterator[Store]:
    store = open_store(shared_store_url)
    yield store
    await store.aclose()


@pytest.mark.slow
async def test_eight_processes_hold_exactly(shared_store_url: str) -> None:
    url = shared_store_url
    if url.startswith('postgresql'):  # where they all find nothing, and make it at the same moment
        url += f'&schema=fresh_{uuid4().hex}'
    arguments = [{'url': url, 'worker': n, 'times': TIMES} for n in range(PROCESSES)]
    results = await asyncio.to_thread(run_workers, 'tests.stores.work:every_verb', arguments)
    store = open_store(url)
    try:
        assert sum(result['put'] for result in results) == TIMES
        assert sum(result['compared'] for result in results) == int((await store.get('number')).value)
        assert sum(result['added'] for result in results) == 1000 == (await store.count('calls')).value
        assert sum(result['both'] for result in results) == 500 == (await store.count('requests')).value
        assert (await store.count('tokens')).value == 5000
        assert sum(result['taken'] for result in results) == 500
        assert int((await store.get('guarded')).value) == PROCESSES * TIMES // 4
        tokens = [token for result in results for token in result['held']]
        assert len(set(tokens)) == len(tokens)
        assert all(result['held'] == sorted(result['held']) for result in results)
        positions = [position for result in results for position in result['positions']]
        assert sorted(positions) == list(range(1, PROCESSES * TIMES + 1))
        assert [entry.position for entry in await store.read('log', limit=10_000)] == sorted(positions)
        versions = sorted(version for result in results for version in result['listed'])
        assert [one.version for one in await store.listed('list', limit=10_000)] == versions
    finally:
        await store.aclose()


async def test_a_lease_outlives_its_killed_holder_for_its_time_and_no_longer(
    shared_store_url: str, shared_store: Store
) -> None:
    with Workers('tests.stores.work:hold_for_ever', [{'url': shared_store_url, 'ttl_s': 1.0}]) as workers:
        workers.go()
        token = await asyncio.to_thread(workers.heard, 0)
        workers.kill(0)
    assert await shared_store.acquire('lease', 60) is None
    async with asyncio.timeout(30):
        while (lease := await shared_store.acquire('lease', 60)) is None:  # noqa: ASYNC110 (the server's time)
            await asyncio.sleep(0.05)
    assert lease.token > token


@pytest.mark.parametrize('off_s', [3600, -3600])
async def test_a_wrong_clock_of_one_process_changes_nothing_where_the_server_has_the_time(
    server_store_url: str, off_s: float
) -> None:
    arguments = [{'url': server_store_url, 'name': 'right'}, {'url': server_store_url, 'name': 'wrong'}]
    results = await asyncio.to_thread(run_workers, 'tests.stores.work:see_time', arguments, clock_off_s={1: off_s})
    assert sorted(result['held'] for result in results) == [False, True]
    assert sorted(result['value'] for result in results) == [1, 2]
    assert sorted(result['taken'] for result in results) == [False, True]
    assert all(50 < result['left'] <= 60 for result in results)
    store = open_store(server_store_url)
    assert await store.get('right') is not None
    assert await store.get('wrong') is not None
    await store.aclose()


async def test_a_file_goes_by_the_clock_of_the_machine(tmp_path: Path) -> None:
    """It has no other: this is what the page says, and why processes that share a file share a machine."""
    arguments = [{'url': f'sqlite:///{tmp_path}/state.db', 'name': name} for name in ('right', 'wrong')]
    right, wrong = [
        (await asyncio.to_thread(run_workers, 'tests.stores.work:see_time', [one], clock_off_s={0: off_s}))[0]
        for one, off_s in zip(arguments, (0, 3600), strict=True)
    ]
    assert right['held']
    assert wrong['held']
