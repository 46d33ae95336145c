"""`TenantBudget` over processes: 8 × 200 calls against each shared store; servers and workers that die; a clock an hour off."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from lamella import Lamella, Usage
from lamella.core.stores import open_store
from lamella.middleware import TenantBudget
from lamella.types import LamellaError, Rejected
from tests.middleware.cost.kit import answer, spend
from tests.servers import Server
from tests.workers import Workers, run_workers, say

WORK = 'tests.middleware.cost.kit:spend'
MOST = 10


async def counted(url: str, layer: TenantBudget) -> int:
    """Millionths of a dollar that the store holds as used or set aside."""
    store = open_store(url)
    try:
        return (await store.count(f'{layer._prefix}acme:cost')).value
    finally:
        await store.aclose()


def work(url: str, layer: dict[str, Any], calls: int = 200, workers: int = 8, **options: Any) -> list[dict[str, Any]]:
    return [
        {'url': url, 'layer': layer, 'calls': calls, 'seed': seed, 'most': MOST, **options} for seed in range(workers)
    ]


@pytest.mark.slow
def test_eight_processes_never_pass_the_budget(shared_store_url: str) -> None:
    """What is set aside is exactly what a call uses at most, so the bound is nothing; with half of the money for all calls the
    budget is used up to what the last calls might have taken."""
    layer = {'max_cost_usd': 4000, 'max_tokens': 1_000_000, 'hold_s': 600, 'assumed_output_tokens': 0}
    results = run_workers(WORK, work(shared_store_url, layer))
    used = sum(result['used'] for result in results)
    assert used <= 4000
    assert used > 4000 - 8 * 25 * MOST
    assert sum(result['refused'] for result in results) > 100
    assert sum(result['let_through'] + result['refused'] for result in results) == 1600
    assert asyncio.run(counted(shared_store_url, TenantBudget(**layer))) == used * 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize('store', ['redis_url', 'postgres_url'])
def test_a_clock_that_is_an_hour_off_changes_nothing(store: str, request: pytest.FixtureRequest) -> None:
    url = f'{request.getfixturevalue(store)}?namespace=clock-{time.time_ns()}'
    layer = {'max_cost_usd': 500, 'window_s': 1800}
    results = run_workers(WORK, work(url, layer, calls=80, workers=3), clock_off_s={1: 3600, 2: -3600})
    used = sum(result['used'] for result in results)
    assert 500 - 3 * 25 * MOST < used <= 500
    assert asyncio.run(counted(url, TenantBudget(**layer))) == used * 1_000_000


async def hold_for_ever(url: str, layer: dict[str, Any]) -> None:
    """In a worker: set aside, say so, and never come back."""

    async def model(request: Any, ctx: Any) -> Any:
        say('held')
        await asyncio.sleep(3600)
        return answer()

    ai = Lamella(model=model, store=url, prices={'*': {'input_per_mtok': 0, 'output_per_mtok': 1_000_000}})
    await ai.generate(
        prompt='hi', use=[TenantBudget(**layer)], context={'tenant': 'acme'}, config={'max_output_tokens': 90}
    )


@pytest.mark.slow
async def test_what_a_killed_worker_had_set_aside_comes_back_by_itself(shared_store_url: str) -> None:
    layer = {'max_cost_usd': 100, 'hold_s': 0.5}
    with Workers(f'{__name__}:hold_for_ever', [{'url': shared_store_url, 'layer': layer}]) as workers:
        workers.go()
        assert await asyncio.to_thread(workers.heard, 0) == 'held'
        workers.kill(0)
    first = await spend(shared_store_url, layer, calls=1, seed=1, most=20)
    assert first['refused'] == 1
    deadline, later = time.monotonic() + 60, first
    while later['refused']:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
        later = await spend(shared_store_url, layer, calls=1, seed=1, most=20)
    assert (await counted(shared_store_url, TenantBudget(**layer))) == later['used'] * 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize('server', ['own_redis', 'own_postgres'])
@pytest.mark.parametrize('on_store_error', ['refuse', 'allow'])
async def test_a_server_that_dies_in_the_middle_loses_nothing(
    server: str, on_store_error: Any, request: pytest.FixtureRequest
) -> None:
    """Calls go on while the server is killed and started again. `refuse` lets nothing through meanwhile; `allow` does, and
    counts it later. At the end the store holds what was used, or more by the settlements whose fate nobody knew."""
    own: Server = request.getfixturevalue(server)
    used, outcomes = 0, {'ok': 0, 'away': 0, 'full': 0}
    events: list[Any] = []

    async def model(request: Any, ctx: Any) -> Any:
        nonlocal used
        await asyncio.sleep(0.005)
        used += 3
        return answer(Usage(0, 3, 3))

    prices = {'*': {'input_per_mtok': 0, 'output_per_mtok': 1_000_000}}
    layer = TenantBudget(max_cost_usd=100_000, on_store_error=on_store_error)
    ai = Lamella(model=model, store=own.url, prices=prices, sinks=[events.append])

    async def client() -> None:
        for _ in range(40):
            try:
                await ai.generate(prompt='hi', use=[layer], context={'tenant': 'acme'}, config={'max_output_tokens': 5})
                outcomes['ok'] += 1
            except Rejected as refusal:
                outcomes['away' if refusal.status == 'UNAVAILABLE' else 'full'] += 1

    async def chaos() -> None:
        await asyncio.sleep(0.1)
        await asyncio.to_thread(own.kill)
        await asyncio.sleep(0.1)
        await asyncio.to_thread(own.start)

    await asyncio.gather(chaos(), *[client() for _ in range(10)])
    for _ in range(20):  # the server is back: what could not be told is told now
        try:
            await ai.generate(prompt='hi', use=[layer], context={'tenant': 'acme'}, config={'max_output_tokens': 5})
        except LamellaError:
            await asyncio.sleep(0.1)
        else:
            break
    await ai.aclose()
    assert outcomes['full'] == 0
    actions = {event.facts['action'] for event in events if event.name == 'store.away'}
    assert actions
    assert outcomes['ok'] + outcomes['away'] == 400
    if on_store_error == 'allow':
        assert outcomes['away'] == 0
    cost = await counted(own.url, layer)
    slack = 10 * 5  # the calls that were under way when it died: what they had set aside is still there
    assert used <= cost / 1e6 <= used + slack * 2


def test_the_work_of_the_processes_is_what_it_says() -> None:
    result = asyncio.run(spend('memory://', {'max_cost_usd': 1000}, 50, 1, MOST))
    assert result['let_through'] == 50
    assert 0 < result['used'] <= 500
