"""`ToolTimeout`: which call is cut, what is told of it, and what goes on."""

import asyncio
import threading
from random import Random
from typing import Any

import pytest

from lamella.middleware import Idempotency, ToolRetry, ToolTimeout
from lamella.types import ConfigError, LamellaError, Rejected, ToolRequest
from tests.middleware.kit import HeldClock, both, no_leaks, world
from tests.middleware.tools import sandboxed
from tests.middleware.tools.boxes import built
from tests.middleware.tools.calls import Called, call, said

TOLD = 'slow took longer than timeout_s=5 (tool_timeout); whether it did its work is not known'


class Slow:
    """An async tool that waits by the run's clock, and notes how it ended."""

    def __init__(self, seconds: float = 60) -> None:
        self.seconds, self.ends = seconds, list[str]()
        self.clock = HeldClock()

    async def slow(self) -> str:
        try:
            await self.clock.sleep(self.seconds)
        except asyncio.CancelledError:
            self.ends.append('cancelled')
            raise
        self.ends.append('done')
        return 'answer'


async def after(tool: Slow, seconds: float, *use: Any, tools: Any = None) -> Called:
    """The call, with so much time passing once the tool waits."""
    async with no_leaks():
        task = asyncio.create_task(call(use, 'slow', tools=tools or [tool.slow], clock=tool.clock))
        await tool.clock.somebody_sleeps()
        await tool.clock.advance(seconds)
        return await task


async def test_a_tool_that_takes_too_long_is_cancelled_and_the_model_told() -> None:
    tool = Slow()
    called = await after(tool, 5, ToolTimeout(timeout_s=5))
    assert (called.error, called.output, tool.ends) == (True, TOLD, ['cancelled'])
    assert called.facts('tool_timeout.cut') == [{'tool': 'slow', 'ref': 'r-1', 'limit_s': 5.0, 'in_thread': False}]


async def test_a_tool_that_is_in_time_is_left_alone() -> None:
    tool = Slow(4.9)
    called = await after(tool, 5, ToolTimeout(timeout_s=5))
    assert (called.error, called.output, tool.ends) == (False, 'answer', ['done'])
    assert called.facts('tool_timeout.cut') == []


async def test_only_the_named_tools_are_timed() -> None:
    assert (await after(Slow(60), 60, ToolTimeout(timeout_s=5, tools=['other', 'fast_*']))).output == 'answer'
    assert (await after(Slow(60), 60, ToolTimeout(timeout_s=5, tools=['sl*']))).output == TOLD


async def test_of_two_limits_the_one_that_was_passed_is_named() -> None:
    inner, outer = ToolTimeout(timeout_s=5), ToolTimeout(timeout_s=30, tools=['slow'])
    called = await after(Slow(60), 60, outer, inner)
    assert called.output == TOLD
    assert [fact['limit_s'] for fact in called.facts('tool_timeout.cut')] == [5.0]


async def test_the_run_can_be_ended_instead() -> None:
    with pytest.raises(LamellaError) as caught:
        await after(Slow(), 5, ToolTimeout(timeout_s=5, on_timeout='raise'))
    assert (caught.value.status, caught.value.message) == ('DEADLINE_EXCEEDED', TOLD)
    assert caught.value.details == {'by': 'tool_timeout', 'limit': 'timeout_s', 'limit_s': 5.0, 'outcome': 'unknown'}


async def test_a_raised_timeout_can_be_retried() -> None:
    tool = Slow()
    use = [ToolRetry(tools=['slow'], max_retries=1, initial_delay_ms=0), ToolTimeout(timeout_s=5, on_timeout='raise')]
    async with no_leaks():
        task = asyncio.create_task(call(use, 'slow', tools=[tool.slow], clock=tool.clock))
        await tool.clock.somebody_sleeps()
        tool.seconds = 1
        await tool.clock.advance(5)
        while len(tool.ends) < 2:
            await tool.clock.advance(1)
        assert (await task).output == 'answer'
    assert tool.ends == ['cancelled', 'done']


async def test_a_tool_in_a_thread_is_left_to_itself_and_its_result_dropped() -> None:
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        release.wait()
        ended.set()
        return 'too late'

    clock = HeldClock()
    task = asyncio.create_task(call(ToolTimeout(timeout_s=5), 'slow', tools=[slow], clock=clock))
    await asyncio.to_thread(begun.wait)
    await clock.advance(5)
    called = await task
    assert (called.output, called.facts('tool_timeout.cut')[0]['in_thread']) == (TOLD, True)
    assert not ended.is_set()
    release.set()
    await asyncio.to_thread(ended.wait)


async def test_a_sandboxed_tool_is_ended_for_good() -> None:
    for box in built('limits'):
        clock, use = HeldClock(), [ToolTimeout(timeout_s=5), box()]
        task = asyncio.create_task(call(use, 'sleeps', tools=[sandboxed.sleeps], clock=clock, seconds=300))
        await box.populated(2, task)
        await clock.advance(5)
        assert 'sleeps took longer than timeout_s=5 (tool_timeout)' in (await task).output
        assert box.alive() == []


async def test_a_tool_that_will_not_be_cancelled_gives_its_late_answer() -> None:
    clock, stubborn = HeldClock(), asyncio.Event()

    async def slow() -> str:
        try:
            await clock.sleep(60)
        except asyncio.CancelledError:
            stubborn.set()
        return 'late'

    task = asyncio.create_task(call(ToolTimeout(timeout_s=5), 'slow', tools=[slow], clock=clock))
    await clock.somebody_sleeps()
    await clock.advance(5)
    await stubborn.wait()
    called = await task
    assert (called.error, called.output, called.facts('tool_timeout.cut')) == (False, 'late', [])


async def test_cancelling_the_run_is_no_timeout() -> None:
    tool = Slow()
    async with no_leaks():
        task = asyncio.create_task(call(ToolTimeout(timeout_s=5), 'slow', tools=[tool.slow], clock=tool.clock))
        await tool.clock.somebody_sleeps()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert tool.ends == ['cancelled']


async def test_two_calls_of_one_turn_have_a_limit_each() -> None:
    clock, ends = HeldClock(), list[float]()

    async def slow(seconds: float) -> float:
        await clock.sleep(seconds)
        ends.append(seconds)
        return seconds

    app = world({'x/a': [[ToolRequest('slow', {'seconds': n}, f'r-{n}') for n in (3, 60)], 'done']}, clock=clock)
    task = asyncio.create_task(app.ai.generate(prompt='go', use=[ToolTimeout(timeout_s=5)], tools=[slow]))
    await clock.somebody_sleeps()
    for _ in range(20):  # until the other one sleeps too
        await asyncio.sleep(0)
    await clock.advance(5)
    answers = [part.tool_response for part in (await task).turns[0].tool_responses]
    assert ([answer.is_error for answer in answers], ends) == ([False, True], [3.0])


async def test_the_outcome_of_a_tool_that_was_cut_is_unknown_to_those_who_remember() -> None:
    """Idempotency around it does not take the cut for a failure that may simply be repeated."""
    tool = Slow()
    app = world({'x/a': [ToolRequest('slow', {}, 'r-1'), ToolRequest('slow', {}, 'r-2'), 'done']}, clock=tool.clock)
    use = [Idempotency(tools=['slow']), ToolTimeout(timeout_s=5)]
    task = asyncio.create_task(app.ai.generate(prompt='go', use=use, tools=[tool.slow]))
    await tool.clock.somebody_sleeps()
    await tool.clock.advance(5)
    with pytest.raises(Rejected, match='may or may not have run'):
        await task
    assert tool.ends == ['cancelled']


async def test_streams_are_timed_too() -> None:
    def slow() -> str:
        return 'answer'

    response = await both(
        lambda: world({'x/a': [ToolRequest('slow', {}, 'r-1'), 'done']}, random=Random(3)).ai,
        prompt='go',
        tools=[slow],
        use=[ToolTimeout(timeout_s=5)],
    )
    assert response.turns[0].tool_responses[0].tool_response.output == 'answer'


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({}, 'timeout_s: Field required'),
        ({'timeout_s': 0}, 'greater than 0'),
        ({'timeout_s': -1}, 'greater than'),
        ({'timeout_s': float('inf')}, 'finite'),
        ({'timeout_s': '5'}, 'timeout_s'),
        ({'timeout_s': 5, 'tools': 'slow'}, "write a list of tool names, such as ['slow']"),
        ({'timeout_s': 5, 'on_timeout': 'ignore'}, 'on_timeout'),
        ({'timeout': 5}, "did you mean 'timeout_s'"),
    ],
)
def test_wrong_settings_are_refused_when_built(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ToolTimeout(**options)
    assert problem in str(caught.value)


async def test_a_fast_tool_costs_no_time() -> None:
    async def quick() -> str:
        return 'now'

    assert await said(ToolTimeout(timeout_s=5), 'quick', tools=[quick]) == 'now'
