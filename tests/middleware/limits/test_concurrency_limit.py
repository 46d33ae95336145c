"""ConcurrencyLimit: places that are held, waited for in order, and always come back."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import Lamella, LamellaError, ModelResponse, Usage
from lamella.middleware import ConcurrencyLimit, Retry
from lamella.middleware._gates import MAX_REMEMBERED
from lamella.testing import CollectingSink, FakeClock
from lamella.types import ConfigError, Finished, ModelRequest, Rejected, TextDelta
from tests.middleware.kit import HeldClock, down, no_leaks, world


class Desk:
    """A model whose calls stay open until the test ends them; counts how many are open."""

    def __init__(self) -> None:
        self.open: list[asyncio.Future[Any]] = []
        self.most = self.now = 0

    async def __call__(self, request: ModelRequest) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.open.append(answer)
        try:
            return await answer
        finally:
            self.now -= 1

    async def end(self, answer: Any = 'ok') -> None:
        """End the oldest call."""
        self.open.pop(0).set_result(answer)
        await settled()


async def settled() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


def at(desk: Desk, **options: Any) -> Any:
    return world({'x/a': [desk]}, repeat=True, clock=HeldClock(), **options)


async def start(tested: Any, layer: Any, count: int = 1, **options: Any) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(tested.answer(layer, **options)) for _ in range(count)]
    await settled()
    return tasks


class TestPlaces:
    async def test_never_more_calls_than_places_and_all_are_answered_in_order(self) -> None:
        desk, layer = Desk(), ConcurrencyLimit(max_concurrent=3)
        tested = at(desk)
        async with no_leaks():
            tasks = await start(tested, layer, 10)
            assert len(desk.open) == 3
            for number in range(10):
                assert [task.done() for task in tasks].count(True) == number
                await desk.end()
                assert tasks[number].done()
        assert desk.most == 3
        assert len(layer._gates) == 0

    async def test_a_newcomer_does_not_overtake_those_who_wait(self) -> None:
        desk, layer = Desk(), ConcurrencyLimit(max_concurrent=1)
        tested = at(desk)
        first, second = await start(tested, layer, 2)
        await desk.end('one')
        (third,) = await start(tested, layer)
        await desk.end('two')
        await desk.end('three')
        assert [(await task).text for task in (first, second, third)] == ['one', 'two', 'three']

    async def test_an_answer_that_waited_says_how_long(self) -> None:
        desk, layer = Desk(), ConcurrencyLimit(max_concurrent=1)
        tested = at(desk)
        first, second = await start(tested, layer, 2)
        await tested.clock.advance(4)
        await desk.end()
        await desk.end()
        assert 'concurrency_limit' not in (await first).metadata
        assert (await second).metadata['concurrency_limit'] == {'waited_s': 4}
        assert [e.facts for e in tested.sink.named('concurrency_limit.wait')] == [{'key': '', 'queued': 1, 'limit': 1}]

    async def test_each_key_has_places_of_its_own(self) -> None:
        desk, layer = Desk(), ConcurrencyLimit(max_concurrent=1, key='tenant')
        tested = at(desk)
        tasks = [
            *await start(tested, layer, context={'tenant': 'a'}),
            *await start(tested, layer, context={'tenant': 'b'}),
        ]
        assert len(desk.open) == 2
        for _ in tasks:
            await desk.end()

    @pytest.mark.parametrize(
        'failure', [LamellaError('UNAVAILABLE', 'down'), ValueError('bug'), Rejected('no', by='x')], ids=type
    )
    async def test_a_failed_call_gives_its_place_back(self, failure: Exception) -> None:
        layer = ConcurrencyLimit(max_concurrent=1)
        tested = world({'x/a': [failure]}, repeat=True, clock=HeldClock())
        for _ in range(3):
            with pytest.raises(type(failure)):
                await tested.ai.generate(prompt='hi', use=[layer])
        assert len(layer._gates) == 0

    async def test_a_cancelled_call_gives_its_place_back_to_the_next(self) -> None:
        desk, layer = Desk(), ConcurrencyLimit(max_concurrent=1)
        tested = at(desk)
        async with no_leaks():
            running, waiting, last = await start(tested, layer, 3)
            running.cancel()
            await settled()
            assert len(desk.open) == 2  # the cancelled one, and the next
            desk.open.pop(0)
            waiting.cancel()
            await settled()
            desk.open.pop(0)
            await desk.end()
            assert (await last).text == 'ok'
            await asyncio.gather(running, waiting, return_exceptions=True)
        assert len(layer._gates) == 0

    async def test_waiters_that_leave_are_passed_over(self) -> None:
        desk, layer = Desk(), ConcurrencyLimit(max_concurrent=1)
        tested = at(desk)
        first, *waiting, last = await start(tested, layer, 6)
        for task in waiting:
            task.cancel()
        await desk.end()
        await desk.end()
        assert [(await task).text for task in (first, last)] == ['ok', 'ok']
        assert len(layer._gates) == 0

    async def test_a_waiter_that_leaves_just_as_it_is_let_in_loses_no_place(self) -> None:
        gates = ConcurrencyLimit(max_concurrent=1)._gates
        gate, _, is_in = gates.enter('', 1)
        _, waiter, _ = gates.enter('', 1)
        assert is_in
        gates.leave(gate)
        assert waiter.done()
        gates.give_up(gate, waiter)
        assert len(gates) == 0

    @settings(max_examples=60)
    @given(
        st.lists(
            st.tuples(st.sampled_from(['call', 'stream', 'end', 'fail', 'cancel', 'leave', 'pass']), st.integers(0, 9))
        )
    )
    def test_whatever_happens_every_place_comes_back(self, acts: list[tuple[str, int]]) -> None:
        async def run() -> None:
            desk, layer = Desk(), ConcurrencyLimit(max_concurrent=2, max_queue=4)
            tested = at(desk)
            tasks: list[asyncio.Task[Any]] = []
            for act, which in acts:
                if act == 'call':
                    tasks.append(asyncio.create_task(tested.answer(layer)))
                elif act == 'stream':
                    tasks.append(asyncio.create_task(tested.read(layer)))
                elif act in ('end', 'fail') and desk.open:
                    waiting = desk.open.pop(which % len(desk.open))
                    if not waiting.done():
                        waiting.set_result('ok' if act == 'end' else LamellaError('INTERNAL', 'x'))
                elif act in ('cancel', 'leave') and tasks:
                    tasks[which % len(tasks)].cancel()
                for _ in range(which if act == 'pass' else 0):
                    await asyncio.sleep(0)
                assert desk.now <= 2
            while not all(task.done() for task in tasks):
                for waiting in desk.open:
                    if not waiting.done():
                        waiting.set_result('ok')
                await settled()
            assert len(layer._gates) == 0
            assert desk.most <= 2

        asyncio.run(run())


class TestStreams:
    async def test_a_place_is_held_for_the_whole_of_a_stream(self) -> None:
        layer = ConcurrencyLimit(max_concurrent=1)
        tested = world({'x/a': [[TextDelta('a'), TextDelta('b'), Finished()]]}, repeat=True, clock=HeldClock())
        stream = tested.ai.generate_stream(prompt='hi', use=[layer])
        async with no_leaks():
            parts = aiter(stream)
            await anext(parts)
            (waiting,) = await start(tested, layer)
            assert not waiting.done()
            await stream.aclose()
            await settled()
            assert (await waiting).text == 'ab'
        assert len(layer._gates) == 0

    async def test_a_stream_that_breaks_off_gives_its_place_back(self) -> None:
        layer = ConcurrencyLimit(max_concurrent=1)
        cut = lambda request: [TextDelta('a'), LamellaError('UNAVAILABLE', 'cut')]  # noqa: E731
        tested = world({'x/a': [cut]}, repeat=True, clock=HeldClock())
        for _ in range(3):
            _, error = await tested.read(layer)
            assert error is not None
        assert len(layer._gates) == 0

    async def test_a_stream_notes_its_wait_at_its_end(self) -> None:
        desk, layer = Desk(), ConcurrencyLimit(max_concurrent=1)
        tested = at(desk)
        await start(tested, layer)
        reading = asyncio.create_task(tested.read(layer))
        await settled()
        await tested.clock.advance(2)
        await desk.end()
        await desk.end()
        parts, _ = await reading
        assert parts[-1].metadata == {'concurrency_limit': {'waited_s': 2}}


class TestRefusals:
    async def test_one_too_many_in_the_queue_is_refused(self) -> None:
        desk, layer = Desk(), ConcurrencyLimit(max_concurrent=1, max_queue=1)
        tested = at(desk)
        await start(tested, layer, 2)
        refused = await tested.answer(layer)
        assert isinstance(refused, Rejected)
        assert (refused.status, refused.by, refused.retry_after_s) == ('RESOURCE_EXHAUSTED', 'concurrency_limit', None)
        assert '1 calls run and 1 wait already (max_queue)' in str(refused)
        await desk.end()
        await desk.end()

    async def test_once_calls_were_measured_a_refusal_says_when_a_place_is_likely(self) -> None:
        desk, layer = Desk(), ConcurrencyLimit(max_concurrent=2, max_queue=1, adaptive=None)
        tested = at(desk)
        first, *_ = await start(tested, layer, 3)
        await tested.clock.advance(6)
        await desk.end()
        await start(tested, layer, 1)
        refused = await tested.answer(layer)
        assert first.done()
        assert refused.retry_after_s == pytest.approx(2 * 6 / 2)
        for _ in range(3):
            await desk.end()

    async def test_a_wait_ends_after_max_wait(self) -> None:
        desk, layer = Desk(), ConcurrencyLimit(max_concurrent=1, max_wait_s=5)
        tested = at(desk)
        _, waiting = await start(tested, layer, 2)
        await tested.clock.advance(5)
        await settled()
        error = await waiting
        assert isinstance(error, Rejected)
        assert 'none of 1 places came free within max_wait_s=5' in str(error)
        await desk.end()
        assert len(layer._gates) == 0

    async def test_a_wait_ends_with_the_deadline_of_the_run(self) -> None:
        desk, layer = Desk(), ConcurrencyLimit(max_concurrent=1)
        tested = at(desk)
        await start(tested, layer)
        (waiting,) = await start(tested, layer, timeout_s=3)
        await tested.clock.advance(3)
        await settled()
        assert (await waiting).status == 'DEADLINE_EXCEEDED'
        await desk.end()
        assert len(layer._gates) == 0


class TestThreads:
    def test_two_threads_with_a_loop_each_share_the_places(self) -> None:
        """The loop that frees a place wakes a waiter of the other one."""
        layer, lock = ConcurrencyLimit(max_concurrent=2), threading.Lock()
        counts = {'now': 0, 'most': 0}

        async def model(request: Any, ctx: Any) -> ModelResponse:
            with lock:
                counts['now'] += 1
                counts['most'] = max(counts['most'], counts['now'])
            for _ in range(3):
                await asyncio.sleep(0)
            with lock:
                counts['now'] -= 1
            return ModelResponse.text_of('ok')

        answers: list[Any] = []

        async def many() -> None:
            ai = Lamella(model=model)
            answers.extend(await asyncio.gather(*[ai.generate(prompt='hi', use=[layer]) for _ in range(200)]))

        threads = [threading.Thread(target=asyncio.run, args=(many(),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(answers) == 600
        assert counts['most'] <= 2
        assert len(layer._gates) == 0


class Provider:
    """A provider that does `capacity` calls at once at full speed. More of them share its speed, and over `limit` it says 429."""

    def __init__(self, clock: FakeClock, capacity: int, limit: int = 10**6) -> None:
        self.clock, self.capacity, self.limit = clock, capacity, limit
        self.active = self.refused = self.done = 0
        self.base_s = 1.0

    async def __call__(self, request: Any, ctx: Any) -> ModelResponse:
        if self.active >= self.limit:
            self.refused += 1
            raise LamellaError('RESOURCE_EXHAUSTED', 'too many at once')
        self.active += 1
        try:
            await self.clock.sleep(self.base_s * max(1.0, self.active / self.capacity))
        finally:
            self.active -= 1
        self.done += 1
        return ModelResponse.text_of('ok', usage=Usage(output_tokens=100))


async def rush(provider: Provider, layer: ConcurrencyLimit, clients: int, seconds: float) -> None:
    """So many clients that call again and again for that long."""
    ai = Lamella(model=provider, clock=provider.clock)

    async def client() -> None:
        while True:
            try:
                await ai.generate(prompt='hi', use=[layer])
            except LamellaError:
                await provider.clock.sleep(0.5)

    clients_ = [asyncio.create_task(client()) for _ in range(clients)]
    for _ in range(int(seconds * 4)):
        await settled()
        await provider.clock.advance(0.25)
    for task in clients_:
        task.cancel()
    await asyncio.gather(*clients_, return_exceptions=True)


def places(layer: ConcurrencyLimit) -> float:
    (gate,) = layer._gates._gates.values()
    return gate.rule.limit


class TestAdaptive:
    async def test_aimd_finds_what_a_provider_takes_and_few_calls_are_refused(self) -> None:
        provider = Provider(FakeClock(auto=False), 1000, limit=20)
        layer = ConcurrencyLimit(max_concurrent=200, adaptive=True)
        await rush(provider, layer, 60, 120)
        assert 10 <= places(layer) <= 24
        assert provider.refused / provider.done < 0.06
        assert provider.done > 120 * 20 * 0.7

    async def test_gradient_finds_the_number_at_which_more_calls_only_wait(self) -> None:
        provider = Provider(FakeClock(auto=False), 10)
        layer = ConcurrencyLimit(max_concurrent=200, adaptive='gradient', initial_concurrent=4)
        await rush(provider, layer, 60, 300)
        assert 8 <= places(layer) <= 30
        assert provider.done > 300 * 10 * 0.9

    async def test_gradient_does_not_take_a_provider_that_became_slower_for_a_busy_one(self) -> None:
        provider = Provider(FakeClock(auto=False), 20)
        layer = ConcurrencyLimit(max_concurrent=200, adaptive='gradient')
        await rush(provider, layer, 60, 60)
        before = provider.done
        provider.base_s = 5.0
        await rush(provider, layer, 60, 600)
        assert 16 <= places(layer) <= 60
        assert provider.done - before > 600 * 20 / 5 * 0.8

    async def test_fewer_calls_than_places_change_nothing(self) -> None:
        for how in ('aimd', 'gradient'):
            provider = Provider(FakeClock(auto=False), 1000)
            layer = ConcurrencyLimit(max_concurrent=200, adaptive=how)
            await rush(provider, layer, 2, 60)
            assert places(layer) == 8

    async def test_the_number_stays_between_its_bounds(self) -> None:
        layer = ConcurrencyLimit(max_concurrent=10, min_concurrent=4, adaptive='aimd')
        tested = world({'x/a': [down('RESOURCE_EXHAUSTED')]}, repeat=True, clock=HeldClock())
        for _ in range(20):
            await tested.answer(layer)
            await tested.clock.advance(1)
        assert places(layer) == 4
        provider = Provider(FakeClock(auto=False), 1000)
        layer = ConcurrencyLimit(max_concurrent=10, adaptive='aimd')
        await rush(provider, layer, 20, 60)
        assert places(layer) == 10

    async def test_of_calls_that_fail_together_one_counts(self) -> None:
        desk, layer = Desk(), ConcurrencyLimit(max_concurrent=10, initial_concurrent=10, adaptive='aimd')
        tested = at(desk)
        await start(tested, layer, 10)
        await tested.clock.advance(1)
        for _ in range(10):
            await desk.end(LamellaError('RESOURCE_EXHAUSTED', 'busy'))
        assert places(layer) == pytest.approx(7)
        assert [e.facts['limit'] for e in tested.sink.named('concurrency_limit.changed')] == [7]

    @pytest.mark.parametrize('failure', [Rejected('no', by='x'), LamellaError('INVALID_ARGUMENT', 'bad')])
    async def test_what_is_not_the_providers_load_changes_nothing(self, failure: LamellaError) -> None:
        layer = ConcurrencyLimit(max_concurrent=10, adaptive='aimd')
        tested = world({'x/a': [failure]}, repeat=True, clock=HeldClock())
        await tested.answer(layer)
        assert places(layer) == 8

    async def test_a_stream_is_measured_by_its_first_content_and_not_by_its_length(self) -> None:
        clock = FakeClock()

        async def slow_speaker(request: Any, ctx: Any) -> Any:
            await clock.sleep(1)
            for _ in range(20):
                yield TextDelta('word ')
                await clock.sleep(5)
            yield Finished()

        layer = ConcurrencyLimit(max_concurrent=10, adaptive='gradient')
        ai = Lamella(model=slow_speaker, clock=clock)
        async for _ in ai.generate_stream(prompt='hi', use=[layer]):
            pass
        (gate,) = layer._gates._gates.values()
        lately, _ = gate.rule._means['stream']
        assert lately.value == 1

    async def test_what_was_learned_outlives_the_calls_but_not_for_more_than_so_many_keys(self) -> None:
        layer = ConcurrencyLimit(max_concurrent=10, adaptive='aimd', key='tenant')
        tested = world({'x/a': [down('RESOURCE_EXHAUSTED'), 'ok']}, repeat=True, clock=FakeClock())
        await tested.answer(Retry(no_jitter=True), layer, context={'tenant': 'busy'})
        assert layer._gates._gates['busy'].places == 5
        for number in range(MAX_REMEMBERED + 5):
            await tested.answer(layer, context={'tenant': f't{number}'})
        assert len(layer._gates) == MAX_REMEMBERED


class TestSettings:
    @pytest.mark.parametrize(
        ('options', 'said'),
        [
            ({}, 'max_concurrent'),
            ({'max_concurrent': 0}, 'max_concurrent'),
            ({'max_concurrent': 2, 'min_concurrent': 3}, 'min_concurrent=3 is more than'),
            ({'max_concurrent': 2, 'initial_concurrent': 3}, 'initial_concurrent=3 is not between'),
            ({'max_concurrent': 2, 'adaptive': 'vegas'}, 'adaptive'),
            ({'max_concurrent': 2, 'backoff_factor': 1.0}, 'backoff_factor'),
            ({'max_concurrent': 2, 'tolerance': 0.5}, 'tolerance'),
            ({'max_concurrent': 2, 'key': 'modle'}, "did you mean 'model'"),
        ],
    )
    def test_settings_that_cannot_work_are_refused_with_the_fix(self, options: dict[str, Any], said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            ConcurrencyLimit(**options)

    def test_true_means_aimd_and_false_means_fixed(self) -> None:
        assert ConcurrencyLimit(max_concurrent=2, adaptive=True).config.adaptive == 'aimd'
        assert ConcurrencyLimit(max_concurrent=2, adaptive=False).config.adaptive is None


async def test_a_hundred_thousand_keys_leave_nothing_behind() -> None:
    layer = ConcurrencyLimit(max_concurrent=1, key='tenant')
    for number in range(100_000):
        gate, _, is_in = layer._gates.enter(f't{number}', 0)
        assert is_in
        layer._gates.leave(gate)
    assert len(layer._gates) == 0


async def test_events_reach_the_sink() -> None:
    desk, layer, sink = Desk(), ConcurrencyLimit(max_concurrent=1, max_queue=0), CollectingSink()
    tested = at(desk)
    tested.ai.sinks = (sink,)
    await start(tested, layer)
    await tested.answer(layer)
    assert [e.facts for e in sink.named('concurrency_limit.refused')] == [
        {'key': '', 'reason': 'queue', 'retry_after_s': None}
    ]
    await desk.end()
