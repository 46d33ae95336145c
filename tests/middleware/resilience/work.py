"""What worker processes do with resilience layers over a store that they share (see tests/workers.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from lamella import Lamella, LamellaError, ModelResponse
from lamella.core.ports import Store
from lamella.middleware import CircuitBreaker, Retry, RetryBudget
from lamella.stores import open_store
from lamella.types import Rejected
from tests.workers import say

COOLDOWN_S = 0.3
BUDGET = {'ratio': 0.1, 'min_per_s': 0.0, 'burst': 10.0}


def prober(probes: int = 1, probe_lease_s: float = 60) -> CircuitBreaker:
    return CircuitBreaker(threshold=1, cooldown_s=COOLDOWN_S, probes=probes, probe_lease_s=probe_lease_s)


async def half_open(store: Store, breaker: CircuitBreaker) -> None:
    """A circuit whose cool-down is over, by the store's own time."""
    assert isinstance(await called(app(store, down), [breaker]), LamellaError)
    await store.add('cooling', expire_s=COOLDOWN_S)
    while (await store.count('cooling')).value:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def down(request: Any, ctx: Any) -> ModelResponse:
    raise LamellaError('UNAVAILABLE', 'down')


def app(store: Store, model: Callable[..., Any]) -> Lamella:
    ai = Lamella(store=store, model='x/a')
    ai.model('x/a')(model)
    return ai


async def called(ai: Lamella, use: list[Any]) -> Any:
    try:
        return await ai.generate(prompt='hi', use=use)
    except LamellaError as error:
        return error


async def everything(url: str, worker: int, calls: int, total: int) -> dict[str, int]:
    """What this worker sent, one kind of load after the other."""
    store = open_store(url)
    try:
        return {
            'failed': await fail(store, calls, threshold=50),
            'retried': await retry(store, calls, outside=worker % 2 == 0),
            'probed by 1': await probe(store, calls, 1, total),
            'probed by 3': await probe(store, calls, 3, total),
        }
    finally:
        await store.aclose()


async def probe(store: Store, calls: int, probes: int, total: int) -> int:
    """All calls at once. A probe is on its way until all the others, of all processes, were refused. How many were sent."""
    sent, refused = 0, f'refused by {probes}'

    async def model(request: Any, ctx: Any) -> ModelResponse:
        nonlocal sent
        sent += 1
        while (await store.count(refused)).value < total - probes:  # noqa: ASYNC110 (other processes)
            await asyncio.sleep(0.02)
        return ModelResponse.text_of('fine')

    async def call() -> None:
        if isinstance(await called(ai, [breaker]), Rejected):
            await store.add(refused)

    ai, breaker = app(store, model), prober(probes)
    await asyncio.gather(*[call() for _ in range(calls)])
    return sent


async def hold_a_probe(url: str) -> None:
    """Takes the only probe, says so, and never comes back."""
    store = open_store(url)

    async def model(request: Any, ctx: Any) -> ModelResponse:
        say('probing')
        await asyncio.sleep(3600)
        raise AssertionError('it should have been killed')

    await called(app(store, model), [prober(probe_lease_s=1.0)])


async def fail(store: Store, calls: int, threshold: int) -> int:
    """Calls that fail, one after the other. How many were sent."""
    ai, use = app(store, down), [CircuitBreaker(threshold=threshold, cooldown_s=3600)]
    return [type(await called(ai, use)) for _ in range(calls)].count(LamellaError)


async def retry(store: Store, calls: int, outside: bool) -> int:
    """Calls that fail, and are retried as long as the budget allows it. How many retries were sent."""
    budget, retrying = RetryBudget(**BUDGET), Retry(max_retries=3, initial_delay_ms=0)
    ai, use = app(store, down), [budget, retrying] if outside else [retrying, budget]
    return sum([len((await called(ai, use)).attempts) - 1 for _ in range(calls)])
