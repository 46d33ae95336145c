"""RateLimit: calls and tokens in a window, waiting in order, giving back what was not used."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import Lamella, LamellaError, ModelResponse, Usage
from lamella.core.ports import Bucket
from lamella.middleware import BaseMiddleware, RateLimit, Retry
from lamella.stores.memory import MemoryStore
from lamella.testing import FakeClock, ScriptedModel
from lamella.types import ConfigError, Finished, Rejected, TextDelta
from tests.middleware.kit import HeldClock, down, no_leaks, world

USED = Usage(input_tokens=20, output_tokens=30, total_tokens=50)


def answered(text: str = 'ok', usage: Usage | None = USED) -> ModelResponse:
    return ModelResponse.text_of(text, usage=usage)


def app(clock: FakeClock | None = None, *answers: Any, **options: Any) -> Any:
    return world({'x/a': list(answers or [answered()])}, clock=clock or HeldClock(), repeat=True, **options)


async def calls(app: Any, layer: RateLimit, count: int, **options: Any) -> list[Any]:
    """So many calls one after the other: texts of answers, and errors."""
    results = [await app.answer(layer, **options) for _ in range(count)]
    return [result if isinstance(result, LamellaError) else result.text for result in results]


async def settled() -> None:
    """Let everything that can run go on until it waits."""
    for _ in range(50):
        await asyncio.sleep(0)


class TestCalls:
    async def test_what_is_over_the_limit_is_refused_with_the_time_to_come_back(self) -> None:
        tested, layer = app(), RateLimit(max_calls=3, per_s=60, wait=False)
        assert (await calls(tested, layer, 3)) == ['ok'] * 3
        (refused,) = await calls(tested, layer, 1)
        assert isinstance(refused, Rejected)
        assert (refused.status, refused.by, refused.retry_after_s) == ('RESOURCE_EXHAUSTED', 'rate_limit', 20)
        assert 'over max_calls=3 in 60 s: the next turn is in 20 s' in str(refused)

    async def test_coming_back_when_told_is_early_enough_and_not_a_moment_too_late(self) -> None:
        tested, layer = app(), RateLimit(max_calls=3, per_s=60, wait=False)
        *_, refused = await calls(tested, layer, 4)
        await tested.clock.advance(refused.retry_after_s - 0.01)
        assert isinstance((await calls(tested, layer, 1))[0], Rejected)
        await tested.clock.advance(0.01)
        assert (await calls(tested, layer, 1)) == ['ok']

    async def test_a_call_over_the_limit_waits_its_turn_and_says_how_long(self) -> None:
        tested, layer = app(FakeClock()), RateLimit(max_calls=2, per_s=10)
        quick, slow = await tested.answer(layer), [await tested.answer(layer) for _ in range(2)][1]
        assert 'rate_limit' not in quick.metadata
        assert slow.metadata['rate_limit'] == {'waited_s': pytest.approx(5)}
        assert [(e.facts['key'], e.facts['wait_s']) for e in tested.sink.named('rate_limit.wait')] == [('', 5)]

    async def test_a_burst_of_one_spreads_calls_evenly(self) -> None:
        tested, layer = app(FakeClock()), RateLimit(max_calls=10, per_s=10, burst=1)
        for _ in range(4):
            await tested.answer(layer)
        assert tested.clock.slept == pytest.approx([1, 1, 1])

    async def test_no_window_has_more_than_the_limit_and_the_burst(self) -> None:
        clock = FakeClock()
        starts: list[float] = []
        tested = app(clock, lambda request: starts.append(clock.now()) or 'ok')
        layer = RateLimit(max_calls=5, per_s=10, burst=2)
        await asyncio.gather(*[tested.answer(layer) for _ in range(30)])
        for start in starts:
            assert sum(start <= other < start + 10 - 1e-6 for other in starts) <= 7
        assert clock.now() == pytest.approx(1000 + 28 * 2)

    async def test_zero_calls_are_no_calls(self) -> None:
        (refused,) = await calls(app(), RateLimit(max_calls=0, per_s=1), 1)
        assert isinstance(refused, Rejected)
        assert refused.retry_after_s is None
        assert 'nothing will ever be free' in str(refused)

    async def test_a_refusal_is_retried_when_it_says(self) -> None:
        tested, layer = app(FakeClock()), RateLimit(max_calls=1, per_s=30, wait=False)
        texts = [(await tested.answer(Retry(no_jitter=True), layer)).text for _ in range(2)]
        assert texts == ['ok', 'ok']
        assert tested.clock.slept == [30]

    async def test_two_layers_of_one_stack_both_hold_and_add_up_what_they_waited(self) -> None:
        tested = app(FakeClock())
        use = RateLimit(max_calls=1, per_s=10), RateLimit(max_calls=1, per_s=60)
        await tested.answer(*use)
        response = await tested.answer(*use)
        assert tested.clock.slept == pytest.approx([10, 50])
        assert response.metadata['rate_limit']['waited_s'] == pytest.approx(60)


class TestKeys:
    async def test_each_tenant_has_a_limit_of_its_own(self) -> None:
        tested, layer = app(), RateLimit(max_calls=1, per_s=60, key='tenant', wait=False)
        ask = [{'context': {'tenant': name}} for name in ('a', 'b', 'a')]
        results = [await tested.answer(layer, **options) for options in ask]
        assert [isinstance(result, Rejected) for result in results] == [False, False, True]
        assert "for 'a'" in str(results[2])

    async def test_calls_without_a_tenant_share_one_limit_and_are_not_free(self) -> None:
        tested, layer = app(), RateLimit(max_calls=1, per_s=60, key='tenant', wait=False)
        results = [await tested.answer(layer, context=context) for context in (None, {}, {'tenant': ''})]
        assert [isinstance(result, Rejected) for result in results] == [False, True, True]

    async def test_each_model_has_a_limit_of_its_own(self) -> None:
        tested = world({'x/a': ['ok'], 'y/b': ['ok']}, repeat=True, clock=HeldClock())
        layer = RateLimit(max_calls=1, per_s=60, key='model', wait=False)
        results = [await tested.answer(layer, model=name) for name in ('x/a', 'y/b', 'y/b')]
        assert [isinstance(result, Rejected) for result in results] == [False, False, True]

    async def test_a_function_decides(self) -> None:
        tested = app()
        layer = RateLimit(max_calls=1, per_s=60, key=lambda params, ctx: ctx.context.get('plan'), wait=False)
        results = [await tested.answer(layer, context={'plan': plan}) for plan in ('free', 'paid', 'free')]
        assert [isinstance(result, Rejected) for result in results] == [False, False, True]

    async def test_a_function_that_returns_no_text_is_told_so(self) -> None:
        error = await app().answer(RateLimit(max_calls=1, per_s=1, key=lambda params, ctx: 3))
        assert (error.status, 'key= returned int' in error.message) == ('FAILED_PRECONDITION', True)

    @pytest.mark.parametrize(
        'name', ['a:calls', 'a\n', 'x' * 10_000, '../..', '{a}', ':' + '0' * 64, 'ä', '\ud800', 'A', ' a']
    )
    async def test_no_tenant_can_use_or_break_the_limit_of_another(self, name: str) -> None:
        tested, layer = app(), RateLimit(max_calls=1, per_s=60, key='tenant', wait=False, max_tokens=10_000)
        results = [await tested.answer(layer, context={'tenant': tenant}) for tenant in ('a', name, name)]
        assert [isinstance(result, Rejected) for result in results] == [False, False, True]
        assert len(str(results[2])) < 300
        assert '\n' not in str(results[2])
        keys = tested.ai.resolve_store(None)._tables['bucket']
        assert len(keys) == 4
        assert all(len(key) < 150 and key.isascii() and key.isprintable() for key in keys)

    async def test_the_same_limits_in_two_layers_are_one_and_others_are_not(self) -> None:
        tested = app()
        one, same = (RateLimit(max_calls=1, per_s=60, wait=False) for _ in range(2))
        apart, wider = (
            RateLimit(max_calls=1, per_s=60, wait=False, scope='mine'),
            RateLimit(max_calls=1, per_s=61, wait=False),
        )
        results = [await tested.answer(layer) for layer in (one, same, apart, wider)]
        assert [isinstance(result, Rejected) for result in results] == [False, True, False, False]


class TestTokens:
    async def test_tokens_are_taken_before_and_corrected_after(self) -> None:
        tested, layer = app(), RateLimit(max_tokens=100, per_s=100, wait=False)
        assert (await calls(tested, layer, 2)) == ['ok', 'ok']  # 50 each, whatever was estimated
        (refused,) = await calls(tested, layer, 1)
        assert isinstance(refused, Rejected)
        assert 0 < refused.retry_after_s < 20

    async def test_expected_output_is_reserved_and_what_is_not_used_given_back(self) -> None:
        held = asyncio.Event()

        async def slow(request: Any) -> ModelResponse:
            await held.wait()
            return answered()

        tested = app(None, slow, answered())
        layer = RateLimit(max_tokens=150, per_s=150, wait=False)
        config = {'max_output_tokens': 100}
        first = asyncio.create_task(tested.answer(layer, config=config))
        await settled()
        assert isinstance(await tested.answer(layer, config=config), Rejected)
        held.set()
        assert (await first).text == 'ok'
        second = await tested.answer(layer, config={'max_output_tokens': 80})
        assert second.text == 'ok'

    async def test_calls_and_tokens_are_taken_together_or_not_at_all(self) -> None:
        tested = app(None, answered(usage=Usage(total_tokens=100)))
        layer = RateLimit(max_calls=2, max_tokens=100, per_s=100, wait=False)
        await tested.answer(layer)
        refused = [await tested.answer(layer) for _ in range(5)]  # no tokens: no call is taken either
        assert all(isinstance(result, Rejected) for result in refused)
        await tested.clock.advance(50)
        assert (await tested.answer(layer)).text == 'ok'

    async def test_a_call_that_used_more_than_there_was_makes_the_next_ones_wait_for_it(self) -> None:
        tested = app(FakeClock(), answered(usage=Usage(total_tokens=500)))
        layer = RateLimit(max_tokens=100, per_s=100)
        await tested.answer(layer)
        await tested.answer(layer)
        assert sum(tested.clock.slept) == pytest.approx(400 + 10, abs=10)

    async def test_a_request_that_can_never_fit_is_refused_at_once_in_a_sentence(self) -> None:
        tested = app()
        error = await tested.answer(RateLimit(max_tokens=50, per_s=1), config={'max_output_tokens': 60})
        assert isinstance(error, Rejected)
        assert error.retry_after_s is None
        assert '60 for max_output_tokens), more than max_tokens=50 in 1 s ever gives: shorten it' in str(error)
        assert tested.models['x/a'].requests == []

    async def test_without_a_report_the_text_is_counted(self) -> None:
        tested = app(None, answered('word ' * 80, usage=None))
        layer = RateLimit(max_tokens=100, per_s=100, wait=False)
        results = await calls(tested, layer, 3)
        assert [isinstance(result, Rejected) for result in results] == [False, False, True]

    async def test_estimates_learn_what_a_model_really_counts(self) -> None:
        tested = app(None, answered(usage=Usage(input_tokens=6000, output_tokens=0, total_tokens=6000)))
        layer = RateLimit(max_tokens=10**9, per_s=1)
        prompt = 'word ' * 2000
        before = layer._estimator.factor('x/a')
        for _ in range(3):
            await tested.ai.generate(prompt=prompt, use=[layer])
        assert before == 1.0
        assert layer._estimator.factor('x/a') > 2

    async def test_a_call_that_was_tried_twice_inside_teaches_nothing(self) -> None:
        tested = app(FakeClock(), down(), answered(usage=Usage(input_tokens=6000)))
        layer = RateLimit(max_tokens=10**9, per_s=1)
        await tested.ai.generate(prompt='word ' * 2000, use=[layer, Retry(no_jitter=True)])
        assert layer._estimator.factor('x/a') == 1.0


class Refuses(BaseMiddleware):
    """Refuses before the model is asked."""

    async def wrap_model(self, params, ctx, next_fn):
        raise Rejected('no', by=self)


class Blocks(BaseMiddleware):
    """Never asks the model, and never returns."""

    async def wrap_model(self, params, ctx, next_fn):
        await asyncio.Event().wait()


def levels(store: MemoryStore) -> dict[str, float]:
    """What is missing in each bucket."""
    rows = store._tables['bucket']
    return {key.rpartition(':')[2]: row.content[0] for key, row in rows.items()}


class TestGivingBack:
    def ready(self, *answers: Any) -> tuple[Any, RateLimit, MemoryStore]:
        clock = HeldClock()
        store = MemoryStore(clock=clock)
        return app(clock, *answers, store=store), RateLimit(max_calls=10, max_tokens=1000, per_s=1e9), store

    async def test_a_call_that_was_never_sent_gives_everything_back(self) -> None:
        tested, layer, store = self.ready()
        await tested.answer(layer, Refuses())
        assert levels(store) == {}

    async def test_a_call_that_was_cancelled_before_it_was_sent_gives_everything_back(self) -> None:
        tested, layer, store = self.ready()
        task = asyncio.create_task(tested.answer(layer, Blocks()))
        await settled()
        assert levels(store)['calls'] == 9
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert levels(store) == {}

    async def test_a_call_that_was_cancelled_after_it_was_sent_keeps_its_call_and_its_question(self) -> None:
        held = asyncio.Event()

        async def slow(request: Any) -> ModelResponse:
            await held.wait()
            return answered()

        tested, layer, store = self.ready(slow)
        task = asyncio.create_task(tested.answer(layer, config={'max_output_tokens': 500}))
        await settled()
        assert levels(store)['tokens'] < 500
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert levels(store)['calls'] == 9
        assert 980 < levels(store)['tokens'] < 1000

    @pytest.mark.parametrize(
        ('status', 'used'), [('RESOURCE_EXHAUSTED', 0), ('INVALID_ARGUMENT', 0), ('UNAVAILABLE', 5)]
    )
    async def test_a_failed_call_keeps_its_question_unless_the_provider_refused_it(
        self, status: Any, used: int
    ) -> None:
        tested, layer, store = self.ready(down(status))
        await tested.answer(layer, config={'max_output_tokens': 500})
        assert levels(store)['calls'] == 9
        assert levels(store).get('tokens', 1000) == pytest.approx(1000 - used, abs=3)

    async def test_a_failure_that_tells_its_usage_is_believed(self) -> None:
        partial = answered(usage=Usage(total_tokens=123))
        tested, layer, store = self.ready(down('UNAVAILABLE', partial=partial))
        await tested.answer(layer)
        assert levels(store)['tokens'] == 877

    async def test_a_stream_settles_with_the_usage_at_its_end(self) -> None:
        tested, layer, store = self.ready()
        parts, error = await tested.read(layer)
        assert error is None
        assert levels(store) == {'calls': 9, 'tokens': 950}
        assert type(parts[-1]) is Finished

    async def test_an_abandoned_stream_settles_with_what_was_used(self) -> None:
        pieces = [TextDelta('one two three four five ') for _ in range(100)]
        tested, layer, store = self.ready([*pieces, Finished('stop', USED)])
        stream = tested.ai.generate_stream(prompt='hi', use=[layer])
        async with no_leaks():
            read = 0
            async for _ in stream:
                read += 1
                if read == 41:
                    break
            await stream.aclose()
        assert levels(store)['calls'] == 9
        assert levels(store)['tokens'] == pytest.approx(1000 - 5 - 40 * 5, abs=12)

    async def test_a_stream_that_breaks_off_settles_with_what_had_arrived(self) -> None:
        pieces = [TextDelta('one two three four five ') for _ in range(40)]
        tested, layer, store = self.ready(lambda request: [*pieces, LamellaError('UNAVAILABLE', 'cut')])
        _, error = await tested.read(layer)
        assert error is not None
        assert levels(store)['tokens'] == pytest.approx(1000 - 5 - 40 * 5, abs=12)

    async def test_a_stream_that_is_left_after_its_end_is_settled_once(self) -> None:
        tested, layer, store = self.ready()
        stream = tested.ai.generate_stream(prompt='hi', use=[layer])
        async for part in stream:
            if type(part) is Finished:
                break
        await stream.aclose()
        assert levels(store) == {'calls': 9, 'tokens': 950}

    async def test_a_stream_that_fails_outside_after_its_end_is_settled_once(self) -> None:
        class Trips(BaseMiddleware):
            async def wrap_stream(self, params, ctx, next_fn):
                async for part in next_fn(params, ctx):
                    yield part
                    if type(part) is Finished:
                        raise LamellaError('INTERNAL', 'tripped')

        tested, layer, store = self.ready()
        _, error = await tested.read(Trips(), layer)
        assert error is not None
        assert levels(store) == {'calls': 9, 'tokens': 950}

    async def test_a_call_that_is_cancelled_while_it_waits_has_taken_nothing(self) -> None:
        tested, layer, store = self.ready()
        layer = RateLimit(max_calls=1, per_s=100)
        await tested.answer(layer)
        async with no_leaks():
            waiting = [asyncio.create_task(tested.answer(layer)) for _ in range(3)]
            await settled()
            for task in waiting:
                task.cancel()
            assert all(
                isinstance(r, asyncio.CancelledError) for r in await asyncio.gather(*waiting, return_exceptions=True)
            )
        assert levels(store) == {'calls': 0}
        assert len(layer._lines) == 0


class TestWaiting:
    async def test_first_come_first_served(self) -> None:
        tested, layer = app(), RateLimit(max_calls=1, per_s=1)
        order: list[int] = []

        async def ask(number: int) -> None:
            await tested.answer(layer)
            order.append(number)

        async with no_leaks():
            asking = [asyncio.create_task(ask(number)) for number in range(20)]
            for _ in range(25):
                await settled()
                await tested.clock.advance(1)
            await asyncio.gather(*asking)
        assert order == list(range(20))
        assert len(layer._lines) == 0

    async def test_a_large_call_at_the_head_is_not_overtaken_by_small_ones(self) -> None:
        tested, layer = app(None, answered(usage=None)), RateLimit(max_tokens=1000, per_s=1000)
        order: list[str] = []

        async def ask(name: str, tokens: int) -> None:
            await tested.answer(layer, config={'max_output_tokens': tokens})
            order.append(name)

        first = [
            asyncio.create_task(ask(name, tokens)) for name, tokens in [('full', 990), ('large', 900), ('small', 10)]
        ]
        for _ in range(60):
            await settled()
            await tested.clock.advance(20)
        await asyncio.gather(*first)
        assert order[0] == 'full'
        assert order.index('large') < order.index('small')

    async def test_when_the_first_leaves_the_next_takes_its_place(self) -> None:
        tested, layer = app(), RateLimit(max_calls=1, per_s=10)
        await tested.answer(layer)
        first, second = (asyncio.create_task(tested.answer(layer)) for _ in range(2))
        await settled()
        await tested.clock.advance(4)
        first.cancel()
        await settled()
        await tested.clock.advance(6)
        await settled()
        assert (await second).metadata['rate_limit'] == {'waited_s': pytest.approx(10)}

    async def test_one_key_does_not_hold_up_another(self) -> None:
        tested, layer = app(), RateLimit(max_calls=1, per_s=60, key='tenant')
        await tested.answer(layer, context={'tenant': 'busy'})
        waiting = asyncio.create_task(tested.answer(layer, context={'tenant': 'busy'}))
        await settled()
        assert (await tested.answer(layer, context={'tenant': 'other'})).text == 'ok'
        waiting.cancel()

    async def test_one_too_many_in_the_queue_is_refused_with_an_honest_time(self) -> None:
        tested, layer = app(), RateLimit(max_calls=1, per_s=10, max_queue=3)
        await tested.answer(layer)
        waiting = [asyncio.create_task(tested.answer(layer)) for _ in range(3)]
        await settled()
        refused = await tested.answer(layer)
        assert isinstance(refused, Rejected)
        assert refused.retry_after_s == pytest.approx(40)
        assert '3 calls wait for max_calls=1 in 10 s already' in str(refused)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert len(layer._lines) == 0

    async def test_no_queue_at_all_is_a_limit_without_waiting(self) -> None:
        tested, layer = app(), RateLimit(max_calls=1, per_s=10, max_queue=0)
        results = await calls(tested, layer, 2)
        assert isinstance(results[1], Rejected)
        assert len(layer._lines) == 0

    @pytest.mark.parametrize('streaming', [False, True])
    async def test_a_wait_past_the_deadline_is_refused_at_once(self, streaming: bool) -> None:
        tested, layer = app(), RateLimit(max_calls=1, per_s=60)
        await tested.answer(layer)
        if streaming:
            _, error = await tested.read(layer, timeout_s=59)
        else:
            error = await tested.answer(layer, timeout_s=59)
        assert isinstance(error, Rejected)
        assert error.retry_after_s == 60
        assert 'past the deadline' in str(error)
        assert tested.clock.slept == []

    async def test_somebody_behind_others_knows_that_it_will_be_too_late(self) -> None:
        tested, layer = app(), RateLimit(max_calls=1, per_s=10)
        await tested.answer(layer)
        waiting = [asyncio.create_task(tested.answer(layer)) for _ in range(2)]
        await settled()
        error = await tested.answer(layer, timeout_s=25)
        assert isinstance(error, Rejected)
        assert error.retry_after_s == pytest.approx(30)
        for task in waiting:
            task.cancel()

    async def test_a_deadline_that_comes_while_waiting_ends_the_wait(self) -> None:
        tested, layer = app(), RateLimit(max_tokens=100, per_s=100)
        await tested.answer(layer, config={'max_output_tokens': 80})
        waiting = [asyncio.create_task(tested.answer(layer, config={'max_output_tokens': 80})) for _ in range(3)]
        late = asyncio.create_task(tested.answer(layer, timeout_s=75))
        await settled()
        await tested.clock.advance(76)
        await settled()
        assert late.done()
        assert late.result().status in ('DEADLINE_EXCEEDED', 'RESOURCE_EXHAUSTED')
        for task in waiting:
            task.cancel()

    async def test_a_wait_longer_than_max_wait_is_refused_at_once(self) -> None:
        tested, layer = app(), RateLimit(max_calls=1, per_s=60, max_wait_s=59)
        results = await calls(tested, layer, 2)
        assert 'longer than max_wait_s=59' in str(results[1])
        assert results[1].retry_after_s == 60

    async def test_a_line_that_moves_slowly_is_left_after_max_wait(self) -> None:
        tested, layer = app(None, answered()), RateLimit(max_tokens=100, per_s=100, max_wait_s=50)
        await tested.answer(layer, config={'max_output_tokens': 90})
        config = {'max_output_tokens': 80}
        waiting = [asyncio.create_task(tested.answer(layer, config=config)) for _ in range(4)]
        for _ in range(12):
            await settled()
            await tested.clock.advance(5)
        await settled()
        results = await asyncio.gather(*waiting)
        refused = [result for result in results if isinstance(result, Rejected)]
        assert refused
        assert all('max_wait_s=50' in str(error) for error in refused)
        assert len(layer._lines) == 0

    def test_two_event_loops_of_one_process_share_a_layer(self) -> None:
        store = MemoryStore()
        layer = RateLimit(max_calls=5, per_s=1e9, store=store, wait=False)
        ai = Lamella(model=ScriptedModel(['ok'], repeat=True))
        results: list[Any] = []
        for _ in range(2):
            results += asyncio.run(self.ask(ai, layer))
        assert sum(isinstance(result, Rejected) for result in results) == 1

    async def ask(self, ai: Lamella, layer: RateLimit) -> list[Any]:
        return await asyncio.gather(*[ai.generate(prompt='hi', use=[layer]) for _ in range(3)], return_exceptions=True)


ACTS = st.lists(st.tuples(st.sampled_from(['call', 'call', 'cancel', 'pass']), st.integers(0, 30)), max_size=60)


class TestLaw:
    @settings(max_examples=100)
    @given(ACTS, st.integers(1, 4), st.integers(1, 3))
    def test_whoever_comes_and_leaves_no_stretch_of_time_has_more_than_the_bucket(
        self, acts: list[tuple[str, int]], burst: int, rate: int
    ) -> None:
        """n calls that start within t seconds: n ≤ burst + rate · t. Those who stay are served in order, without a gap."""

        async def run() -> None:
            clock = HeldClock()
            starts: list[float] = []
            order: list[int] = []
            tested = app(clock, lambda request: starts.append(clock.now()) or 'ok')
            layer = RateLimit(max_calls=10 * rate, per_s=10, burst=burst)
            tasks: list[asyncio.Task[None]] = []

            async def ask(number: int) -> None:
                await tested.answer(layer)
                order.append(number)

            for act, which in acts:
                if act == 'call':
                    tasks.append(asyncio.create_task(ask(len(tasks))))
                elif act == 'cancel' and tasks:
                    tasks[which % len(tasks)].cancel()
                else:
                    await clock.advance(which / 10)
                await settled()
            waiting = sum(not task.done() for task in tasks)
            for _ in range(waiting):
                await settled()
                await clock.advance(1 / rate)
            await settled()
            assert all(task.done() for task in tasks)
            assert order == sorted(order)
            for i, first in enumerate(starts):
                for n, last in enumerate(starts[i:], 1):
                    assert n <= burst + rate * (last - first) + 1e-6
            assert len(layer._lines) == 0

        asyncio.run(run())


class TestStreams:
    async def test_a_stream_waits_before_its_first_part_and_notes_it_at_its_end(self) -> None:
        tested, layer = app(FakeClock()), RateLimit(max_calls=1, per_s=10)
        await tested.read(layer)
        parts, _ = await tested.read(layer)
        assert parts[-1].metadata['rate_limit'] == {'waited_s': pytest.approx(10)}
        assert tested.clock.slept == [10]

    async def test_both_modes_say_the_same(self) -> None:
        whole, streamed = app(FakeClock()), app(FakeClock())
        layers = [RateLimit(max_calls=1, max_tokens=1000, per_s=10) for _ in range(2)]
        await whole.answer(layers[0])
        await streamed.read(layers[1])
        response = await whole.answer(layers[0])
        stream = streamed.ai.generate_stream(prompt='hi', use=[layers[1]])
        async for _ in stream:
            pass
        assert (await stream.response) == response


class TestPause:
    async def test_a_provider_that_asks_for_time_closes_the_key_for_everybody(self) -> None:
        tested = app(None, down('RESOURCE_EXHAUSTED', retry_after_s=30), answered())
        layer = RateLimit(max_calls=100, per_s=60, pause_on_429=True, wait=False)
        failed, refused = await calls(tested, layer, 2)
        assert not isinstance(failed, Rejected)
        assert isinstance(refused, Rejected)
        assert refused.retry_after_s == pytest.approx(30)
        await tested.clock.advance(30)
        assert (await calls(tested, layer, 1)) == ['ok']
        assert [e.facts for e in tested.sink.named('rate_limit.paused')] == [{'key': '', 'pause_s': 30}]

    async def test_many_that_fail_together_close_it_once(self) -> None:
        all_sent = asyncio.Event()

        async def busy(request: Any) -> LamellaError:
            await all_sent.wait()
            return LamellaError('RESOURCE_EXHAUSTED', 'busy', retry_after_s=30)

        tested = app(None, *[busy] * 20, answered())
        layer = RateLimit(max_calls=100, per_s=60, pause_on_429=True)
        failing = [asyncio.create_task(tested.answer(layer)) for _ in range(20)]
        await settled()
        all_sent.set()
        await asyncio.gather(*failing)
        waiting = asyncio.create_task(tested.answer(layer))
        await settled()
        await tested.clock.advance(30)
        assert (await waiting).metadata['rate_limit'] == {'waited_s': pytest.approx(30)}

    @pytest.mark.parametrize(
        'failure',
        [
            down('RESOURCE_EXHAUSTED'),
            down('RESOURCE_EXHAUSTED', retry_after_s=0),
            down('UNAVAILABLE', retry_after_s=30),
            lambda request: Rejected('no', by='other', retry_after_s=30),
        ],
    )
    async def test_nothing_else_closes_it(self, failure: Any) -> None:
        tested = app(None, failure, answered())
        layer = RateLimit(max_calls=100, per_s=60, pause_on_429=True, wait=False)
        assert (await calls(tested, layer, 2))[1] == 'ok'

    async def test_without_the_setting_a_429_is_the_callers_affair(self) -> None:
        tested = app(None, down('RESOURCE_EXHAUSTED', retry_after_s=30), answered())
        assert (await calls(tested, RateLimit(max_calls=100, per_s=60, wait=False), 2))[1] == 'ok'


class Away(MemoryStore):
    """A store whose server is down while `is_away`."""

    is_away = True

    async def take(self, buckets: Any, *, max_wait_s: float = 0.0) -> Any:
        if self.is_away:
            raise LamellaError('UNAVAILABLE', 'connection refused')
        return await super().take(buckets, max_wait_s=max_wait_s)

    async def settle(self, buckets: Any) -> None:
        if self.is_away:
            raise LamellaError('UNAVAILABLE', 'connection refused')
        await super().settle(buckets)


class TestStoreAway:
    async def test_a_limit_that_cannot_be_asked_refuses(self) -> None:
        tested = app()
        error = await tested.answer(RateLimit(max_calls=1, per_s=1, store=Away()))
        assert isinstance(error, Rejected)
        assert error.status == 'UNAVAILABLE'
        assert 'its store is away: connection refused' in str(error)
        assert [e.facts['action'] for e in tested.sink.named('store.away')] == ['refuse']

    async def test_or_allows_where_that_is_wanted_and_says_so(self) -> None:
        tested = app()
        layer = RateLimit(max_calls=1, per_s=1, store=Away(), on_store_error='allow', pause_on_429=True)
        assert (await calls(tested, layer, 3)) == ['ok'] * 3
        assert [e.facts['action'] for e in tested.sink.named('store.away')] == ['allow'] * 3

    async def test_a_store_that_goes_away_during_the_call_does_not_harm_the_answer(self) -> None:
        store = Away()
        store.is_away = False

        def answer(request: Any) -> ModelResponse:
            store.is_away = True
            return answered()

        tested = app(None, answer)
        assert (await calls(tested, RateLimit(max_tokens=1000, per_s=1, store=store), 1)) == ['ok']
        assert [e.facts['action'] for e in tested.sink.named('store.away')] == ['allow']


class Slow:
    """A store behind a network: every verb is done at once, and its answer takes a while."""

    def __init__(self, inner: MemoryStore) -> None:
        self._inner = inner
        self.reply = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._inner, name)

        async def later(*args: Any, **options: Any) -> Any:
            answer = await verb(*args, **options)
            await self.reply.wait()
            return answer

        return later if asyncio.iscoroutinefunction(verb) else verb


class TestSlowStore:
    async def test_a_call_cancelled_while_the_store_answers_gives_back_what_was_taken(self) -> None:
        inner = MemoryStore(clock=HeldClock())
        store = Slow(inner)
        tested, layer = app(), RateLimit(max_calls=5, per_s=1e9, store=store)
        async with no_leaks():
            task = asyncio.create_task(tested.answer(layer))
            await settled()
            assert levels(inner) == {'calls': 4}
            task.cancel()
            await settled()
            assert not task.done()
            store.reply.set()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert levels(inner) == {}


class TestSettings:
    @pytest.mark.parametrize(
        ('options', 'said'),
        [
            ({'per_s': 1}, 'limits nothing'),
            ({'max_calls': 1}, 'per_s'),
            ({'max_calls': 1, 'per_s': 0}, 'per_s'),
            ({'max_calls': -1, 'per_s': 1}, 'max_calls'),
            ({'max_calls': 1, 'per_s': 1, 'burst': 0}, 'burst'),
            ({'max_tokens': 1, 'per_s': 1, 'burst': 1}, 'burst is for max_calls'),
            ({'max_calls': 1, 'per_s': 1, 'key': 'tenent'}, "did you mean 'tenant'"),
            ({'max_calls': 1, 'per_s': 1, 'key': 3}, 'is 3'),
            ({'max_calls': 1, 'per_s': 1, 'store': 'redsi://x'}, 'redsi'),
            ({'max_calls': 1, 'per_s': 1, 'on_store_error': 'ignore'}, 'on_store_error'),
        ],
    )
    def test_settings_that_cannot_work_are_refused_with_the_fix(self, options: dict[str, Any], said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            RateLimit(**options)

    def test_an_async_key_function_is_refused(self) -> None:
        async def key(params: Any, ctx: Any) -> str:
            return 'x'

        with pytest.raises(ConfigError, match='async function'):
            RateLimit(max_calls=1, per_s=1, key=key)


async def test_a_hundred_thousand_keys_leave_nothing_behind() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    tested = app(clock, store=store)
    layer = RateLimit(max_calls=1, max_tokens=1000, per_s=1, key='tenant')
    for number in range(1000):
        await tested.answer(layer, context={'tenant': f't{number}'})
    ctx_free = [Bucket(f'rate_limit:x:{number}:calls', 1.0, 1.0) for number in range(99_000)]
    for bucket in ctx_free:
        await store.take([bucket])
    await clock.advance(2)
    assert len(store) == 0
    assert len(layer._lines) == 0
    assert len(store._expiries) <= 64


async def test_the_sink_sees_every_refusal() -> None:
    tested, layer = app(), RateLimit(max_calls=1, per_s=60, wait=False)
    await calls(tested, layer, 2)
    facts = [event.facts for event in tested.sink.named('rate_limit.refused')]
    assert facts == [{'key': '', 'reason': 'limit', 'retry_after_s': 60}]
