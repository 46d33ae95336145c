"""`RetryBudget`: how many retries there can be, wherever it stands."""

import asyncio
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import virtual
from lamella import LamellaError
from lamella.middleware import BaseMiddleware, Fallback, Retry, RetryBudget, wrap_language_model
from lamella.stores.memory import MemoryStore
from lamella.types import ConfigError, Rejected, ToolRequest, ToolRequested
from tests.engine.kit import no_leaks
from tests.virtual import Clock, Timed, in_virtual_time, timed_app, tried

modes = pytest.mark.parametrize('streaming', [False, True], ids=['whole', 'streamed'])
places = pytest.mark.parametrize('outside', [False, True], ids=['inside', 'outside'])
DOWN = LamellaError('UNAVAILABLE', 'down', retry_after_s=1)


def stack(budget: RetryBudget, outside: bool, **options: Any) -> list[BaseMiddleware[Any]]:
    retry = Retry(**{'max_retries': 3, 'no_jitter': True, 'initial_delay_ms': 1000, 'backoff_factor': 1, **options})
    return [budget, retry] if outside else [retry, budget]


@modes
@places
@in_virtual_time
async def test_retries_are_what_was_saved_and_a_share_of_the_calls(outside: bool, streaming: bool) -> None:
    model = Timed((DOWN,))
    ai, sink = timed_app(model)
    use = stack(RetryBudget(ratio=0.2, min_per_s=0, burst=4), outside)
    errors = [await tried(ai, streaming, use) for _ in range(20)]
    assert len(model.calls) == 20 + 4 + 3  # the first call finds its budget full: what it pays in is too much
    assert {error.status for error in errors} == {'UNAVAILABLE'}
    assert [type(error) for error in errors].count(Rejected) == 20 - 1
    spent, refused = sink.named('retry_budget.spent'), sink.named('retry_budget.refused')
    assert (len(spent), len(refused)) == (7, 19)
    assert refused[0].facts == {'model': 'x/a', 'key': 'x/a', 'attempt': 3, 'wait_s': float('inf')}


@modes
@places
@in_virtual_time
async def test_a_refusal_says_what_went_wrong_before_and_is_not_retried(outside: bool, streaming: bool) -> None:
    ai, sink = timed_app(Timed((DOWN,), (LamellaError('RESOURCE_EXHAUSTED', 'too many'),)))
    use = stack(RetryBudget(burst=1, min_per_s=0, ratio=0.25), outside)
    error = await tried(ai, streaming, use)
    assert isinstance(error, Rejected)
    assert (error.by, error.status, error.retry_after_s) == ('retry_budget', 'RESOURCE_EXHAUSTED', None)
    assert error.message == (
        'no further request to x/a: its retry budget is used up (one for 4 calls); the last one failed with '
        'RESOURCE_EXHAUSTED: too many (refused by retry_budget)'
    )
    assert [attempt.status for attempt in error.attempts] == ['UNAVAILABLE', 'RESOURCE_EXHAUSTED']
    (gave_up,) = sink.named('retry.gave_up')
    assert (gave_up.facts['reason'], gave_up.facts['attempts']) == ('refused', 2 if outside else 3)


@modes
@in_virtual_time
async def test_outside_of_a_retry_nobody_waits_for_what_is_then_refused(streaming: bool) -> None:
    for outside, waited_s in ((True, 1), (False, 2)):
        ai, sink = timed_app(Timed((DOWN,)))
        began = asyncio.get_running_loop().time()
        await tried(ai, streaming, stack(RetryBudget(burst=1, min_per_s=0), outside))
        assert asyncio.get_running_loop().time() - began == waited_s
        assert len(sink.named('retry.wait')) == waited_s


@modes
@places
@in_virtual_time
async def test_a_first_request_is_never_refused_and_good_calls_spend_nothing(outside: bool, streaming: bool) -> None:
    model = Timed((DOWN,), (DOWN,), ('fine',))
    ai, _ = timed_app(model)
    use = stack(RetryBudget(burst=1, min_per_s=0, ratio=0.5), outside)
    assert isinstance(await tried(ai, streaming, use), Rejected)
    for _ in range(3):
        assert (await tried(ai, streaming, use)).text == 'fine'
    model.scripts, model.calls = ((DOWN,), ('fine',)), []
    answer = await tried(ai, streaming, use)
    assert (answer.text, answer.metadata['retry']['attempts']) == ('fine', 2)


@in_virtual_time
async def test_some_are_there_in_every_second_whatever_is_paid_in() -> None:
    model = Timed((DOWN,))
    ai, _ = timed_app(model)
    use = stack(RetryBudget(ratio=0, min_per_s=0.5, burst=1), True)
    error = await tried(ai, False, use)
    assert 'used up (0.5 in a second)' in error.message
    assert len(model.calls) == 2
    await asyncio.sleep(10)
    await tried(ai, False, use)
    assert len(model.calls) == 4  # no more than was saved up


@modes
@in_virtual_time
async def test_the_next_model_of_a_fallback_is_no_retry_and_each_model_has_its_budget(streaming: bool) -> None:
    a, b = Timed((DOWN,)), Timed((DOWN,), name='x/b')
    ai, sink = timed_app(a, b)
    budget = RetryBudget(burst=1, min_per_s=0)
    retry = Retry(max_retries=1, no_jitter=True)
    await tried(ai, streaming, [budget, Fallback(models=['x/b']), retry])
    assert (len(a.calls), len(b.calls)) == (2, 2)
    assert [event.facts['model'] for event in sink.named('retry_budget.spent')] == ['x/a', 'x/b']
    await tried(ai, streaming, [Fallback(models=['x/b']), retry, budget])
    assert (len(a.calls), len(b.calls)) == (3, 3)


@modes
@in_virtual_time
async def test_the_whole_chain_again_is_a_retry_of_each_model_in_it(streaming: bool) -> None:
    a, b = Timed((DOWN,)), Timed((DOWN,), name='x/b')
    ai, sink = timed_app(a, b)
    chain = [Retry(max_retries=1, no_jitter=True), Fallback(models=['x/b'])]
    for at in range(3):
        await tried(ai, streaming, [*chain[:at], RetryBudget(burst=9, min_per_s=0), *chain[at:]])
        assert [event.facts['model'] for event in sink.named('retry_budget.spent')] == ['x/a', 'x/b']
        sink.events.clear()


@modes
@in_virtual_time
async def test_a_layer_of_yours_that_asks_twice_is_counted_too_without_saying_so(streaming: bool) -> None:
    class Twice(BaseMiddleware[Any]):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            try:
                return await next_fn(params, ctx)
            except LamellaError:
                return await next_fn(params, ctx)

    model = Timed((DOWN,))
    ai, _ = timed_app(model)
    use = [RetryBudget(burst=1, min_per_s=0, ratio=0.1), Twice()]
    await tried(ai, streaming, use)
    assert isinstance(await tried(ai, streaming, use), Rejected)
    assert len(model.calls) == 3


@modes
@places
@in_virtual_time
async def test_what_layers_on_the_model_itself_retry_is_counted_too(outside: bool, streaming: bool) -> None:
    raw = Timed((DOWN,))
    ai, sink = timed_app(raw)
    model = wrap_language_model(model=raw.model, middleware=[Retry(max_retries=1, no_jitter=True)])
    use = stack(RetryBudget(burst=2, min_per_s=0), outside, max_retries=1)
    await tried(ai, streaming, use, model=model)
    assert len(raw.calls) == 1 + 2
    assert len(sink.named('retry_budget.spent')) == 2


@modes
@in_virtual_time
async def test_each_turn_of_a_run_is_a_call_of_its_own(streaming: bool) -> None:
    model = Timed(lambda n: [ToolRequested(ToolRequest('look', {}, f'r-{n}'))] if n < 5 else ['done'])
    ai, sink = timed_app(model)
    answer = await tried(ai, streaming, [RetryBudget(burst=1)], tools=[look])
    assert (answer.text, sink.named('retry_budget.spent')) == ('done', [])


def look() -> str:
    return 'seen'


@places
@in_virtual_time
async def test_of_two_alike_in_one_stack_one_counts(outside: bool) -> None:
    model = Timed((DOWN,))
    ai, sink = timed_app(model)
    await tried(ai, False, [RetryBudget(burst=2, min_per_s=0), *stack(RetryBudget(burst=2, min_per_s=0), outside)])
    assert (len(model.calls), len(sink.named('retry_budget.spent'))) == (3, 2)


@in_virtual_time
async def test_keys_scopes_and_settings_keep_budgets_apart() -> None:
    ai, sink = timed_app(Timed((DOWN,)))
    options: dict[str, Any] = {'burst': 1, 'min_per_s': 0, 'key': 'tenant'}
    hostile = ['', 'a', 'a:b', 'b\n', 'x' * 10_000, 'ä']
    for tenant in hostile:
        await tried(ai, False, stack(RetryBudget(**options), True), context={'tenant': tenant})
    assert len(sink.named('retry_budget.spent')) == len(hostile)
    await tried(ai, False, stack(RetryBudget(**options), True), context={'tenant': 'a'})
    assert len(sink.named('retry_budget.spent')) == len(hostile)
    for other in ({'scope': 'mine'}, {'ratio': 0.1}):
        await tried(ai, False, stack(RetryBudget(**{**options, **other}), True), context={'tenant': 'a'})
    assert len(sink.named('retry_budget.spent')) == len(hostile) + 2


class Away(MemoryStore):
    async def take(self, *_: Any, **__: Any) -> Any:
        raise LamellaError('UNAVAILABLE', 'connection refused')

    settle = take


@modes
@places
@in_virtual_time
async def test_with_its_store_away_calls_go_and_retries_do_not_or_all_do(outside: bool, streaming: bool) -> None:
    model = Timed((DOWN,), ('fine',))
    ai, sink = timed_app(model, store=Away(clock=Clock()))
    error = await tried(ai, streaming, stack(RetryBudget(), outside))
    assert (error.by, error.status, len(model.calls)) == ('retry_budget', 'UNAVAILABLE', 1)
    assert {event.facts['by'] for event in sink.named('store.away')} == {'retry_budget'}
    assert (await tried(ai, streaming, stack(RetryBudget(), outside))).text == 'fine'
    model.calls.clear()
    assert (await tried(ai, streaming, stack(RetryBudget(on_store_error='allow'), outside))).text == 'fine'


@modes
@places
@in_virtual_time
async def test_a_cancelled_call_leaks_nothing(outside: bool, streaming: bool) -> None:
    ai, _ = timed_app(Timed((5, DOWN)))
    async with no_leaks():
        for after in (1, 5.5, 7):
            task = asyncio.create_task(tried(ai, streaming, stack(RetryBudget(), outside)))
            await asyncio.sleep(after)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


@settings(max_examples=40)
@given(
    st.floats(0.05, 1), st.integers(1, 9), st.floats(0, 0.5), st.integers(1, 40), st.booleans(), st.integers(0, 2**20)
)
def test_there_are_never_more_retries_than_the_budget_has(
    ratio: float, burst: int, min_per_s: float, calls: int, outside: bool, seed: int
) -> None:
    async def run() -> None:
        chance = Random(seed)
        model = Timed(lambda n: (chance.random(), DOWN) if chance.random() < 0.8 else (chance.random(), 'fine'))
        ai, sink = timed_app(model)
        use = stack(RetryBudget(ratio=ratio, min_per_s=min_per_s, burst=burst), outside, max_retries=5)
        await asyncio.gather(*[tried(ai, n % 2 == 0, use) for n in range(calls)])
        took_s = asyncio.get_running_loop().time()
        retries = len(model.calls) - calls
        assert retries <= burst + ratio * calls + min_per_s * took_s + 1e-6
        assert retries <= len(sink.named('retry_budget.spent'))

    virtual.run(run())


def test_wrong_settings_are_said_all_at_once() -> None:
    with pytest.raises(ConfigError, match='gives nothing after its first retries'):
        RetryBudget(ratio=0, min_per_s=0)
    with pytest.raises(ConfigError) as caught:
        RetryBudget(ratio=2, min_per_s=-1, burst=0)
    for field in ('ratio', 'min_per_s', 'burst'):
        assert field in caught.value.message
