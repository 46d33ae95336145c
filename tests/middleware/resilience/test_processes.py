"""Breaker and retry budget over many processes and one store: exact, also with wrong clocks and killed workers and servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from lamella import LamellaError, ModelResponse
from lamella.core.ports import Store
from lamella.middleware import CircuitBreaker, Retry, RetryBudget
from lamella.stores import open_store
from lamella.testing import CollectingSink
from lamella.types import Rejected
from tests.middleware.resilience.work import BUDGET, app, called, down, half_open, prober
from tests.servers import Server
from tests.workers import Workers, run_workers

PROCESSES, CALLS = 8, 200
TOTAL = PROCESSES * CALLS
WORK = 'tests.middleware.resilience.work'


@pytest.fixture
async def shared_store(shared_store_url: str) -> AsyncIterator[Store]:
    store = open_store(shared_store_url)
    yield store
    await store.aclose()


@pytest.mark.slow
async def test_eight_processes_hold_the_bounds_exactly_though_two_have_wrong_clocks(
    shared_store_url: str, shared_store: Store
) -> None:
    """A SQLite file has the clock of its machine, so that there all are right."""
    for probes in (1, 3):
        await half_open(shared_store, prober(probes))
    off_s = {} if shared_store_url.startswith('sqlite') else {0: 3600.0, 1: -3600.0}
    arguments = [{'url': shared_store_url, 'worker': n, 'calls': CALLS, 'total': TOTAL} for n in range(PROCESSES)]
    results = await asyncio.to_thread(run_workers, f'{WORK}:everything', arguments, clock_off_s=off_s)
    sent = {name: sum(result[name] for result in results) for name in results[0]}
    assert (sent['probed by 1'], sent['probed by 3']) == (1, 3)
    # Inherent: what is on its way when the last failure is counted; here one call for each other process.
    assert 50 <= sent['failed'] < 50 + PROCESSES
    most = BUDGET['burst'] + BUDGET['ratio'] * TOTAL
    assert most - 2 <= sent['retried'] <= most  # what is paid into a full budget at the beginning is too much


async def test_a_worker_killed_with_the_probe_blocks_the_circuit_for_its_lease_and_no_longer(
    shared_store_url: str, shared_store: Store
) -> None:
    breaker = prober(probe_lease_s=1.0)
    await half_open(shared_store, breaker)
    with Workers(f'{WORK}:hold_a_probe', [{'url': shared_store_url}]) as workers:
        workers.go()
        assert await asyncio.to_thread(workers.heard, 0) == 'probing'
        workers.kill(0)

    async def fine(request: object, ctx: object) -> ModelResponse:
        return ModelResponse.text_of('fine')

    ai = app(shared_store, fine)
    assert isinstance(await called(ai, [breaker]), Rejected)
    async with asyncio.timeout(30):
        while isinstance(answer := await called(ai, [breaker]), Rejected):  # noqa: ASYNC110 (the server's time)
            await asyncio.sleep(0.05)
    assert answer.metadata['circuit_breaker'] == {'probe': True, 'closed': True}


@pytest.mark.parametrize('server', ['own_redis', 'own_postgres'])
async def test_a_killed_server_stops_no_call_and_forgets_no_open_circuit(
    server: str, request: pytest.FixtureRequest
) -> None:
    own: Server = request.getfixturevalue(server)
    sink = CollectingSink()
    store = open_store(own.url)
    ai = app(store, down)
    ai.sinks = (sink,)
    breaker, strict = CircuitBreaker(threshold=2, cooldown_s=3600), RetryBudget(burst=100)
    use = [breaker, strict, Retry(max_retries=1, initial_delay_ms=0)]
    assert [type(await called(ai, use)) for _ in range(3)] == [LamellaError, LamellaError, Rejected]
    await asyncio.to_thread(own.kill)
    sink.events.clear()
    error = await called(ai, use)
    assert (error.by, len(error.attempts)) == ('retry_budget', 1)  # sent, and not retried without knowing the budget
    assert {(event.facts['by'], event.facts['action']) for event in sink.named('store.away')} == {
        ('circuit_breaker', 'allow'), ('retry_budget', 'allow'), ('retry_budget', 'refuse'),
    }  # fmt: skip
    refusing = CircuitBreaker(threshold=2, cooldown_s=3600, on_store_error='refuse')
    assert 'its store is away' in (await called(ai, [refusing])).message
    await asyncio.to_thread(own.start)
    async with asyncio.timeout(30):
        while 'is left alone' not in (await called(ai, use)).message:  # noqa: ASYNC110 (a server that starts)
            await asyncio.sleep(0.05)
    await store.aclose()
