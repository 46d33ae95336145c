"""Timeouts: total, first content, idle; by the run's own clock; cancellation from outside always passes."""

import asyncio
from typing import Any

import pytest

from lamella import Lamella, LamellaError, Timeouts
from lamella.core.timeouts import Cutoff
from lamella.middleware import BaseMiddleware
from lamella.testing import FakeClock
from lamella.types import ConfigError, Finished, Raw, ReasoningDelta, ResponseStarted, TextDelta, ToolRequest
from tests.engine.kit import app, no_leaks
from tests.engine.strategies import GenerateOnly, ModelOnly, NaiveRetry, RunOnly, StreamOnly


class Waits:
    """A model that waits by the clock before each part, and remembers that it was closed."""

    def __init__(self, clock: FakeClock, *steps: Any) -> None:
        self.clock, self.steps = clock, steps
        self.calls = self.closed = 0

    async def __call__(self, request: Any, ctx: Any) -> Any:
        self.calls += 1
        try:
            for step in self.steps:
                if isinstance(step, (int, float)):
                    await self.clock.sleep(step)
                else:
                    yield step
        finally:
            self.closed += 1


def waiting(*steps: Any, **options: Any) -> tuple[Lamella, FakeClock, Waits]:
    clock = FakeClock(auto=False)
    waits = Waits(clock, *steps)
    ai = Lamella(clock=clock, **options)

    @ai.model('slow')
    async def slow(request, ctx):
        async for part in waits(request, ctx):
            yield part

    ai.default_model = 'slow'
    return ai, clock, waits


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def whole(ai: Lamella, **options: Any) -> Any:
    return await ai.generate(prompt='hi', **options)


async def streamed(ai: Lamella, **options: Any) -> Any:
    stream = ai.generate_stream(prompt='hi', **options)
    async for _ in stream:
        pass
    return await stream.response


DOORS = pytest.mark.parametrize('door', [whole, streamed], ids=lambda f: f.__name__)
STACKS = pytest.mark.parametrize(
    'use',
    [
        [],
        [ModelOnly()],
        [StreamOnly()],
        [GenerateOnly(), RunOnly()],
        [RunOnly(), StreamOnly(), ModelOnly(), GenerateOnly()],
    ],
    ids=['bare', 'model', 'stream', 'turn', 'all'],
)


async def after(clock: FakeClock, *seconds: float, running: asyncio.Task[Any]) -> Any:
    """Turn the clock step by step, with pauses for the loop, and await the task."""
    await settle()
    for step in seconds:
        await clock.advance(step)
        await settle()
    assert running.done()
    return await running


@DOORS
@STACKS
async def test_the_total_limit_cuts_the_run_and_names_itself(door, use) -> None:
    ai, clock, waits = waiting(TextDelta('a'), 100, TextDelta('b'))
    async with no_leaks():
        task = asyncio.create_task(door(ai, timeout_s=5, use=use))
        with pytest.raises(LamellaError, match='timeout_s=5') as caught:
            await after(clock, 4.9, 0.2, running=task)
        assert caught.value.status == 'DEADLINE_EXCEEDED'
        assert waits.closed == 1


@DOORS
async def test_the_total_limit_holds_over_turns_and_tools(door) -> None:
    clock = FakeClock(auto=False)

    async def rests() -> str:
        await clock.sleep(3)
        return 'rested'

    ai = app(*[ToolRequest('rests', {}, f'r{n}') for n in range(9)], clock=clock)
    async with no_leaks():
        task = asyncio.create_task(door(ai, tools=[rests], timeout_s=Timeouts(total_s=7)))
        with pytest.raises(LamellaError, match='timeout_s=7'):
            await after(clock, 3, 3, 1.5, running=task)


@DOORS
async def test_what_is_done_in_time_is_not_touched(door) -> None:
    ai, clock, _ = waiting(TextDelta('a'), 4, TextDelta('b'))
    async with no_leaks():
        task = asyncio.create_task(door(ai, timeout_s=5))
        assert (await after(clock, 4, running=task)).text == 'ab'
        await clock.advance(100)
        await settle()


@STACKS
async def test_the_wait_for_the_first_content_is_limited(use) -> None:
    ai, clock, waits = waiting(ResponseStarted(), Raw('ping'), 30, TextDelta('late'))
    async with no_leaks():
        task = asyncio.create_task(streamed(ai, timeout_s=Timeouts(first_content_s=10), use=use))
        with pytest.raises(LamellaError, match='no content within first_content_s=10') as caught:
            await after(clock, 9, 2, running=task)
        assert caught.value.status == 'DEADLINE_EXCEEDED'
        assert 'slow' in str(caught.value)
        assert waits.closed == 1


async def test_a_start_and_raw_events_do_not_prolong_the_wait_for_the_first_content() -> None:
    ai, clock, _ = waiting(ResponseStarted(), 4, Raw(1), 4, Raw(2), 4, TextDelta('late'))
    task = asyncio.create_task(streamed(ai, timeout_s=Timeouts(first_content_s=10)))
    with pytest.raises(LamellaError, match='first_content_s=10'):
        await after(clock, 4, 4, 3, running=task)


@pytest.mark.parametrize('content', [TextDelta('a'), ReasoningDelta('hm')], ids=repr)
async def test_after_the_first_content_only_the_idle_limit_counts(content) -> None:
    ai, clock, waits = waiting(9, content, 19, TextDelta('b'), 21, TextDelta('c'))
    async with no_leaks():
        task = asyncio.create_task(streamed(ai, timeout_s=Timeouts(first_content_s=10, idle_s=20)))
        with pytest.raises(LamellaError, match='no further part within idle_s=20') as caught:
            await after(clock, 9, 19, 20.5, running=task)
        assert caught.value.partial is not None
        assert waits.closed == 1


async def test_without_a_first_content_limit_the_idle_limit_holds_from_the_start() -> None:
    ai, clock, _ = waiting(30, TextDelta('late'))
    task = asyncio.create_task(streamed(ai, timeout_s=Timeouts(idle_s=20)))
    with pytest.raises(LamellaError, match='idle_s=20'):
        await after(clock, 21, running=task)


async def test_a_timeout_of_a_model_call_can_be_retried_and_counts_as_an_attempt() -> None:
    ai, clock, waits = waiting(30, TextDelta('late'))
    async with no_leaks():
        task = asyncio.create_task(streamed(ai, timeout_s=Timeouts(first_content_s=10), use=[NaiveRetry()]))
        with pytest.raises(LamellaError, match='first_content_s=10') as caught:
            await after(clock, 10, 10, 10, 10, running=task)
    assert waits.calls == waits.closed == 4
    assert [attempt.status for attempt in caught.value.attempts] == ['DEADLINE_EXCEEDED'] * 4
    assert [attempt.duration_s for attempt in caught.value.attempts] == [10] * 4


@pytest.mark.parametrize(
    'limits', [Timeouts(first_content_s=5), Timeouts(idle_s=5), Timeouts(total_s=50, idle_s=5)], ids=repr
)
@STACKS
async def test_the_readers_own_slowness_is_never_cut(limits, use) -> None:
    ai, clock, _ = waiting(TextDelta('a'), TextDelta('b'), TextDelta('c'))
    got = []

    async def reads() -> None:
        async for part in ai.generate_stream(prompt='hi', timeout_s=limits, use=use):
            await clock.sleep(20 if len(got) < 2 else 0.1)
            got.append(part)

    async with no_leaks():
        task = asyncio.create_task(reads())
        await after(clock, 20, 20, 1, 1, 1, 1, 1, running=task)
    assert [part.text for part in got if type(part) is TextDelta] == ['a', 'b', 'c']


async def test_a_reader_who_sleeps_past_the_deadline_gets_the_deadline_when_he_asks_again() -> None:
    ai, clock, waits = waiting(TextDelta('a'), 1, TextDelta('b'))
    async with no_leaks():
        stream = ai.generate_stream(prompt='hi', timeout_s=5)
        parts = aiter(stream)
        await anext(parts)
        assert await anext(parts) == TextDelta('a')
        await clock.advance(60)
        task = asyncio.ensure_future(anext(parts))
        await settle()
        await clock.advance(0)
        await settle()
        with pytest.raises(LamellaError, match='timeout_s=5'):
            await task
        assert waits.closed == 1


@DOORS
@STACKS
@pytest.mark.parametrize('limits', [5, Timeouts(first_content_s=5), Timeouts(total_s=9, idle_s=5)], ids=repr)
async def test_cancellation_from_outside_passes_as_cancellation(door, use, limits) -> None:
    ai, clock, waits = waiting(100, TextDelta('a'))
    async with no_leaks():
        task = asyncio.create_task(door(ai, timeout_s=limits, use=use))
        await settle()
        await clock.advance(2)
        task.cancel('mine')
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert waits.closed == 1


@DOORS
async def test_cancellation_in_the_same_moment_as_the_limit_passes_as_cancellation(door) -> None:
    ai, clock, _ = waiting(100, TextDelta('a'))
    async with no_leaks():
        task = asyncio.create_task(door(ai, timeout_s=5))
        await settle()
        clock._move(clock.now() + 6)  # the limit has fired, and its cancellation is on its way
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@DOORS
async def test_an_outer_timeout_of_asyncio_stays_what_it_is(door) -> None:
    ai, _, _ = waiting(100, TextDelta('a'))
    async with no_leaks():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await door(ai, timeout_s=5)


async def test_a_layer_sees_the_deadline_and_what_is_left() -> None:
    seen = []

    class Looks(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            seen.append((ctx.deadline, ctx.remaining_s()))
            return await next_fn(params, ctx)

    clock = FakeClock(start=100)
    await app('x', clock=clock).generate(prompt='hi', timeout_s=7, use=[Looks()])
    await app('x', clock=clock).generate(prompt='hi', use=[Looks()])
    assert seen == [(107, 7), (None, None)]


@pytest.mark.parametrize('value', [0, -1, True, '5', float('nan')], ids=repr)
@pytest.mark.parametrize('field', ['total_s', 'first_content_s', 'idle_s'])
def test_a_limit_that_is_no_positive_number_is_refused_by_name(field, value) -> None:
    with pytest.raises(ConfigError, match=f'{field}='):
        Timeouts(**{field: value})


@pytest.mark.parametrize('value', [0, -1, True, '5', float('nan'), {}], ids=repr)
async def test_a_timeout_of_a_call_that_is_no_positive_number_is_refused(value) -> None:
    with pytest.raises(ConfigError, match='timeout_s='):
        await app('x').generate(prompt='hi', timeout_s=value)


async def test_a_cutoff_needs_a_task_and_lets_errors_of_the_block_pass() -> None:
    clock = FakeClock(auto=False)

    def late() -> LamellaError:
        return LamellaError('DEADLINE_EXCEEDED', 'late')

    with pytest.raises(KeyError):
        async with Cutoff(clock, 5, late):
            raise KeyError('mine')
    async with Cutoff(clock, 5, late):
        pass
    await clock.advance(10)
    assert asyncio.current_task().cancelling() == 0


async def test_cutoffs_inside_each_other_say_which_one_it_was() -> None:
    clock = FakeClock(auto=False)

    async def inside() -> None:
        def error(which: str) -> LamellaError:
            return LamellaError('DEADLINE_EXCEEDED', which)

        async with Cutoff(clock, 9, lambda: error('outer')), Cutoff(clock, 5, lambda: error('inner')):
            await clock.sleep(100)

    task = asyncio.create_task(inside())
    await settle()
    await clock.advance(5)
    with pytest.raises(LamellaError, match='inner'):
        await task


async def test_a_finished_stream_leaves_no_timer_behind() -> None:
    ai, clock, _ = waiting(TextDelta('a'), Finished('stop'))
    await streamed(ai, timeout_s=Timeouts(total_s=5, first_content_s=3, idle_s=2))
    before = asyncio.current_task().cancelling()
    await clock.advance(100)
    assert asyncio.current_task().cancelling() == before == 0
