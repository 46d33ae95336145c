"""Breaker, hedge, budget and retry in every order: what a run used is counted once by everybody who counts."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import LamellaError, Usage
from lamella.middleware import Cache, CircuitBreaker, CostTracking, Fallback, Hedge, Retry, TenantBudget
from tests.middleware.cost.kit import answer, failed
from tests.middleware.kit import World, down, end, world

PRICES = {'v/*': {'input_per_mtok': 1_000_000, 'output_per_mtok': 0}}
CONTEXT = {'tenant': 'acme'}


def layers(hedge_s: float = 1000) -> dict[str, Any]:
    return {
        'breaker': CircuitBreaker(threshold=100),
        'hedge': Hedge(delay_s=hedge_s),
        'budget': TenantBudget(max_cost_usd=100_000),
        'retry': Retry(max_retries=3, no_jitter=True),
        'cost': CostTracking(),
        'cache': Cache(),
        'fallback': Fallback(models=['v/b']),
    }


def counted(app: World, budget: TenantBudget) -> float:
    row = app.ai.resolve_store(None)._tables['count'].get(f'{budget._prefix}acme:cost')
    return 0.0 if row is None else row.content[0] / 1e6


def script(*tokens: int) -> list[Any]:
    """Failures that cost as many dollars, and then answers that cost one."""
    return [failed(Usage(n, 0, n)) if n else down() for n in tokens] + [answer(Usage(1, 0, 1))] * 20


async def run(app: World, use: list[Any], streaming: bool) -> Usage | None:
    """The usage that the caller is told, also of a failure."""
    if streaming:
        parts, error = await app.read(*use, context=CONTEXT)
        return error.partial and error.partial.usage if error is not None else end(parts).usage
    response = await app.answer(*use, context=CONTEXT)
    told = response.partial if isinstance(response, LamellaError) else response
    return told and told.usage


@pytest.mark.parametrize('order', [*permutations(['breaker', 'hedge', 'budget', 'retry'])], ids='-'.join)
@pytest.mark.parametrize('streaming', [False, True], ids=['whole', 'streamed'])
async def test_in_every_order_the_budget_counts_what_was_used(order: tuple[str, ...], streaming: bool) -> None:
    app, made = world({'v/a': script(5, 0, 3)}, prices=PRICES), layers()
    usage = await run(app, [CostTracking(), *[made[name] for name in order]], streaming)
    assert len(app.models['v/a'].requests) == 4
    assert counted(app, made['budget']) == 9.0
    assert sum(event.facts['cost_usd'] for event in app.sink.named('cost.spent')) == 9.0
    assert usage is not None
    assert usage.cost_usd == 9.0


class Reported:
    """A sink that adds up what the models said they used, at the moment of each call's end."""

    def __init__(self) -> None:
        self.tokens = 0

    def __call__(self, event: Any) -> None:
        if event.name == 'model.end':
            self.tokens += event.facts['usage'].input_tokens
        elif event.name == 'model.error' and event.facts['error'].partial is not None:
            self.tokens += event.facts['error'].partial.usage.input_tokens


costs = st.lists(st.integers(0, 5), max_size=5)
stacks = st.lists(st.sampled_from(sorted(layers())), unique=True).map(lambda names: [*names, 'budget', 'cost'])


@settings(max_examples=150)
@given(costs, costs, stacks, st.booleans(), st.sampled_from([0.5, 3, 1000]))
async def test_in_any_stack_everybody_counts_the_same(
    a: Any, b: Any, names: Any, streaming: bool, hedge_s: float
) -> None:
    """Second requests too, that were stopped while they answered: what these used is estimated by both alike."""
    app, made = world({'v/a': script(*a), 'v/b': script(*b)}, prices=PRICES), layers(hedge_s)
    use, reported = [made[name] for name in dict.fromkeys(names)], Reported()
    app.ai.sinks = (*app.ai.sinks, reported)
    for _ in range(2):
        await run(app, use, streaming)
    spent = [event.facts for event in app.sink.named('cost.spent')]
    assert counted(app, made['budget']) == sum(fact['cost_usd'] for fact in spent)
    assert sum(fact['cost_usd'] for fact in spent if not fact['estimated']) == reported.tokens
