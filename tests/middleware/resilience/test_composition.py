"""The resilience layers in every order, both modes, whatever fails: one whole answer or one error, bounded load, nothing left."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import virtual
from lamella import LamellaError
from lamella.middleware import BaseMiddleware, CircuitBreaker, Fallback, Hedge, Retry, RetryBudget, Timeout
from lamella.types import Finished, ResponseStarted, Restarted, TextDelta, Usage
from tests.engine.kit import no_leaks, same_answer
from tests.middleware.kit import shown
from tests.virtual import Timed, timed_app, tried

Layer = BaseMiddleware[Any]
RETRIES, BURST = 2, 3


def layers() -> list[Layer]:
    return [
        Fallback(models=['x/b']),
        Retry(max_retries=RETRIES, no_jitter=True),
        CircuitBreaker(threshold=4, cooldown_s=7),
        Hedge(delay_s=2, max_ratio=1),
        RetryBudget(ratio=0.5, min_per_s=0, burst=BURST),
        Timeout(total_s=40, first_content_s=9),
    ]


orders = st.permutations(range(len(layers())))


def in_order(order: Sequence[int]) -> list[Layer]:
    all_layers = layers()
    return [all_layers[index] for index in order]


def script(name: str, steps: list[tuple[float, str]]) -> Callable[[int], list[Any]]:
    """`down` and `denied` fail after their wait, `cut` after half of the text; anything else is an answer of its own name.

    The last step is for all further calls. No two waits are alike, so that no two things happen at the same moment.
    """

    def call(number: int) -> list[Any]:
        wait_s, what = steps[min(number, len(steps) - 1)]
        wait_s, word = wait_s + (number + 1) * (0.001 if name == 'a' else 0.0007), f'{name}{number}'
        if what in ('down', 'denied'):
            status: Any = 'UNAVAILABLE' if what == 'down' else 'PERMISSION_DENIED'
            return [wait_s, LamellaError(status, what)]
        if what == 'cut':
            return [wait_s, f'{word} ', wait_s, LamellaError('UNAVAILABLE', 'cut')]
        return [wait_s, f'{word} ', word, Finished('stop', Usage(1, 1, 2))]

    return call


class World:
    """Some calls, one after the other, and what came of them."""

    def __init__(self, a: list[tuple[float, str]], b: list[tuple[float, str]], use: list[Layer]) -> None:
        self.a, self.b = Timed(script('a', a)), Timed(script('b', b), name='x/b')
        self.ai, self.sink = timed_app(self.a, self.b, check_order='ignore')
        self.use = use

    async def calls(self, count: int, streaming: bool) -> list[Any]:
        async with no_leaks():
            return [await tried(self.ai, streaming, self.use) for _ in range(count)]

    def check(self, answers: list[Any], calls: int) -> None:
        for answer in answers:
            if isinstance(answer, LamellaError):
                assert answer.status in ('UNAVAILABLE', 'PERMISSION_DENIED', 'DEADLINE_EXCEEDED')
            else:
                one, _, two = answer.text.partition(' ')
                assert one == two, answer.text  # never a piece of one answer and a piece of another
                assert answer.usage is not None
        sent, most = len(self.a.calls) + len(self.b.calls), 2 * 2 * (RETRIES + 1) * calls
        assert sent <= most
        spent = len(self.sink.named('retry_budget.spent'))
        assert spent <= 2 * BURST + 0.5 * sent
        assert not [call for timed in (self.a, self.b) for call in timed.calls if call[2] < call[0]]  # all have ended


FIXED = [
    ([(1.0, 'down')] * 9, [(1.0, 'fine')]),
    ([(5.0, 'fine'), (1.0, 'down'), (1.0, 'fine')], [(3.0, 'down'), (1.0, 'fine')]),
    ([(60.0, 'fine'), (1.0, 'down')], [(60.0, 'fine'), (60.0, 'fine'), (1.0, 'fine')]),
    ([(1.0, 'denied'), (0.0, 'down')], [(0.0, 'down')]),
]


@pytest.mark.parametrize(('a', 'b'), FIXED)
def test_every_order_gives_one_answer_or_one_error_and_the_same_in_both_modes(a: Any, b: Any) -> None:
    async def run(order: Sequence[int], streaming: bool) -> tuple[list[Any], World]:
        world = World(a, b, in_order(order))
        return await world.calls(4, streaming), world

    for order in permutations(range(5)):
        whole, one = virtual.run(run(order, False))
        streamed, two = virtual.run(run(order, True))
        one.check(whole, len(whole))
        two.check(streamed, len(streamed))
        alike(whole, streamed, one, two)


def alike(whole: list[Any], streamed: list[Any], one: World, two: World) -> None:
    """Where no answer breaks in the middle, both doors do the same, second for second."""
    assert (one.a.begins, one.b.begins) == (two.a.begins, two.b.begins)
    for left, right in zip(whole, streamed, strict=True):
        if isinstance(left, LamellaError):
            assert (left.status, left.message) == (right.status, right.message)
        else:
            same_answer(right, left)


waits = st.sampled_from([0.0, 0.5, 1.0, 3.0, 8.0, 60.0])
whats = st.sampled_from(['fine', 'fine', 'down', 'down', 'denied'])
steps = st.lists(st.tuples(waits, whats), min_size=1, max_size=12)
broken_steps = st.lists(st.tuples(waits, st.sampled_from(['fine', 'down', 'cut'])), min_size=1, max_size=12)


@settings(max_examples=120)
@given(orders, steps, steps)
def test_any_failures_in_any_order_and_the_same_in_both_modes(order: Sequence[int], a: Any, b: Any) -> None:
    async def run(streaming: bool) -> tuple[list[Any], World]:
        world = World(a, b, in_order(order))
        return await world.calls(3, streaming), world

    whole, one = virtual.run(run(False))
    streamed, two = virtual.run(run(True))
    one.check(whole, len(whole))
    two.check(streamed, len(streamed))
    alike(whole, streamed, one, two)


@settings(max_examples=120)
@given(orders, broken_steps, broken_steps, st.sampled_from(['raise', 'restart']), st.booleans())
def test_streams_that_break_in_the_middle_are_never_mixed(
    order: Sequence[int], a: Any, b: Any, on_partial: Any, hold: bool
) -> None:
    async def run() -> None:
        use = in_order(order)
        for at, layer in enumerate(use):
            if isinstance(layer, (Retry, Fallback)):
                changes = {'on_partial': on_partial, 'commit': 'finish' if hold else 'first'}
                use[at] = type(layer)(layer.config.model_copy(update=changes))  # type: ignore[arg-type]
        world = World(a, b, use)
        for _ in range(3):
            parts: list[Any] = []
            async with no_leaks():
                error = await gathered(world, parts)
            words = set(shown(parts).split())
            assert len(words) <= 1, parts
            if error is None:
                assert words
                assert type(parts[-1]) is Finished
            starts = [part for part in parts if type(part) is ResponseStarted]
            assert len(starts) <= 1 + [type(part) for part in parts].count(Restarted)
        world.check([], 3)

    virtual.run(run())


async def gathered(world: World, parts: list[Any]) -> LamellaError | None:
    try:
        async for part in world.ai.generate_stream(prompt='hi', use=world.use):
            parts.append(part)
    except LamellaError as error:
        return error
    return None


@settings(max_examples=80)
@given(orders, steps, steps, st.lists(st.floats(0, 30), min_size=1, max_size=12), st.booleans())
def test_calls_that_are_cancelled_at_any_moment_leave_nothing_behind_and_the_rest_goes_on(
    order: Sequence[int], a: Any, b: Any, after: list[float], streaming: bool
) -> None:
    async def run() -> None:
        world = World(a, b, in_order(order))
        async with no_leaks():
            tasks = [asyncio.create_task(tried(world.ai, streaming, world.use)) for _ in after]
            for task, seconds in zip(tasks, after, strict=True):
                asyncio.get_running_loop().call_later(seconds, task.cancel)
            await asyncio.gather(*tasks, return_exceptions=True)
        left = [timed.calls for timed in (world.a, world.b)]
        assert all(call[2] >= call[0] for calls in left for call in calls)
        await asyncio.sleep(8)  # past the cool-down: no probe is held by those who left
        world.a.scripts = world.b.scripts = (('z ', 'z'),)
        (answer,) = await world.calls(1, streaming)
        assert answer.text == 'z z'

    virtual.run(run())


def test_the_check_for_mixed_texts_can_fail() -> None:
    """That a check for mixed texts can fail at all."""
    with pytest.raises(AssertionError):
        World([(0, 'fine')], [(0, 'fine')], []).check([type('Answer', (), {'text': 'a0 b0', 'usage': 1})], 1)
    assert shown([TextDelta('a0 '), Restarted(), TextDelta('b0 '), TextDelta('b0')]) == 'b0 b0'
