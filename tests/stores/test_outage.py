"""Redis and Postgres are killed and come back in the middle of a load: nothing acknowledged is lost, nothing is counted twice."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from lamella.stores import open_store
from tests.servers import Server
from tests.workers import Workers

PROCESSES, WANTED = 4, 300


@pytest.fixture(params=['own_redis', 'own_postgres'])
def own_server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.mark.slow
async def test_a_kill_in_the_middle_of_a_load_loses_nothing_and_doubles_nothing(own_server: Server) -> None:
    arguments = [{'url': own_server.url, 'worker': n, 'wanted': WANTED} for n in range(PROCESSES)]
    with Workers('tests.stores.work:through_an_outage', arguments) as workers:
        workers.go()
        for _ in range(3):
            await asyncio.to_thread(workers.heard, 0)
            await asyncio.to_thread(own_server.restart)
        results = await asyncio.to_thread(workers.results)

    def names(known: str, kind: str) -> set[str]:
        return {name for result in results for name in result[known][kind]}

    errors = Counter(message for result in results for message in result['errors'])
    assert errors, 'the load did not notice the kill: it proves nothing'
    assert all(message.startswith('UNAVAILABLE') and own_server.address in message for message in errors), errors
    store = open_store(own_server.url)
    try:
        entries = [entry.value.decode() for entry in await store.read('log', limit=100_000)]
        assert len(set(entries)) == len(entries)
        assert names('acknowledged', 'log') <= set(entries) <= names('acknowledged', 'log') | names('unknown', 'log')
        for name in names('acknowledged', 'value'):
            assert (await store.get(f'value:{name}')).value == name.encode()
        counted = (await store.count('count')).value
        acknowledged, unknown = len(names('acknowledged', 'count')), len(names('unknown', 'count'))
        assert acknowledged <= counted <= acknowledged + unknown
    finally:
        await store.aclose()


async def test_a_process_that_is_killed_while_it_writes_leaves_whole_steps(shared_store_url: str) -> None:
    for _ in range(2):
        with Workers('tests.stores.work:append_for_ever', [{'url': shared_store_url}] * 2) as workers:
            workers.go()
            acknowledged = max([await asyncio.to_thread(workers.heard, number) for number in (0, 1) for _ in range(20)])
            for number in (0, 1):
                workers.kill(number)
        store = open_store(shared_store_url)
        try:
            positions = [entry.position for entry in await store.read('log', limit=100_000)]
            assert positions == list(range(1, len(positions) + 1))
            assert len(positions) >= acknowledged
            assert await store.append('log', b'x') == len(positions) + 1
        finally:
            await store.aclose()
