"""`Cache` over processes: 8 × 200 calls against each shared store ask once for each request, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from lamella import Lamella
from lamella.core.stores import open_store
from lamella.middleware import Cache
from tests.middleware.cost.kit import answer, ask_the_same
from tests.servers import Server
from tests.workers import Workers, run_workers, say

WORK = 'tests.middleware.cost.kit:ask_the_same'
PROMPTS = 20


async def asked(url: str, prompts: int = PROMPTS) -> list[int]:
    store = open_store(url)
    try:
        return [(await store.count(f'asked:prompt {number}')).value for number in range(prompts)]
    finally:
        await store.aclose()


def work(url: str, workers: int = 8, calls: int = 200, **layer: Any) -> list[dict[str, Any]]:
    return [{'url': url, 'layer': layer, 'calls': calls, 'prompts': PROMPTS}] * workers


@pytest.mark.slow
def test_eight_processes_ask_once_for_each_request(shared_store_url: str) -> None:
    results = run_workers(WORK, work(shared_store_url))
    assert asyncio.run(asked(shared_store_url)) == [1] * PROMPTS
    assert sum(result['asked'] for result in results) == PROMPTS
    assert sum(result['hit'] for result in results) == 1600 - PROMPTS
    assert sum(result['failed'] for result in results) == 0


@pytest.mark.slow
def test_a_clock_that_is_an_hour_off_changes_nothing(redis_url: str) -> None:
    url = f'{redis_url}?namespace=clock-{time.time_ns()}'
    run_workers(WORK, work(url, 3, 60, ttl_s=600, stale_s=600), clock_off_s={1: 3600, 2: -3600})
    assert asyncio.run(asked(url)) == [1] * PROMPTS


async def ask_and_never_answer(url: str) -> None:
    """In a worker: become the one who asks, say so, and hang."""

    async def model(request: Any, ctx: Any) -> Any:
        say('asking')
        await asyncio.sleep(3600)
        return answer()

    await Lamella(model=model, store=url).generate(
        prompt='prompt 0', use=[Cache(lease_s=1)], context={'tenant': 'acme'}
    )


@pytest.mark.slow
async def test_when_who_asks_is_killed_another_process_takes_over(shared_store_url: str) -> None:
    with Workers(f'{__name__}:ask_and_never_answer', [{'url': shared_store_url}]) as workers:
        workers.go()
        assert await asyncio.to_thread(workers.heard, 0) == 'asking'
        waiting = asyncio.create_task(ask_the_same(shared_store_url, {'lease_s': 1}, 50, 1))
        await asyncio.sleep(1.5)
        assert (await asked(shared_store_url, 1)) == [0]  # the lease is kept as long as he lives
        workers.kill(0)
        results = await asyncio.wait_for(waiting, 30)
    assert results == {'hit': 49, 'asked': 1, 'failed': 0}
    assert await asked(shared_store_url, 1) == [1]


@pytest.mark.slow
@pytest.mark.parametrize('server', ['own_redis', 'own_postgres'])
async def test_a_server_that_dies_in_the_middle_fails_no_call(server: str, request: pytest.FixtureRequest) -> None:
    own: Server = request.getfixturevalue(server)
    events: list[Any] = []
    calls = 0

    async def model(given: Any, ctx: Any) -> Any:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.005)
        return answer(text=given.messages[0].text)

    ai, cache = Lamella(model=model, store=own.url, sinks=[events.append]), Cache()

    async def client(number: int) -> list[str]:
        return [
            (await ai.generate(prompt=f'prompt {(number + n) % 10}', use=[cache])).text == f'prompt {(number + n) % 10}'
            for n in range(40)
        ]

    async def chaos() -> None:
        await asyncio.sleep(0.1)
        await asyncio.to_thread(own.kill)
        await asyncio.sleep(0.1)
        await asyncio.to_thread(own.start)

    _, *answers = await asyncio.gather(chaos(), *[client(number) for number in range(10)])
    assert all(all(texts) for texts in answers)
    assert {event.facts['action'] for event in events if event.name == 'store.away'} <= {'allow'}
    await asyncio.sleep(0.5)
    response = await ai.generate(prompt='prompt 0', use=[cache])
    response = await ai.generate(prompt='prompt 0', use=[cache])
    assert response.metadata['cache']['hit']
    await ai.aclose()
    assert calls < 400
