"""`ToolRetry`: which failures of which tools are tried again, how long it waits, and what the last word is."""

import asyncio
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import GenerateResponse, restart_tool
from lamella.middleware import ToolApproval, ToolRetry
from lamella.types import (
    STATUSES,
    TRANSIENT,
    ConfigError,
    Interrupt,
    LamellaError,
    Rejected,
    StopRun,
    ToolError,
    ToolRequest,
)
from tests.middleware.kit import HeldClock, both, no_leaks, world
from tests.middleware.tools.calls import Called, call


class Flaky:
    """A tool that fails as scripted, and then answers."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures, self.calls = list(failures), 0

    async def look(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return 'seen'


def down(status: Any = 'UNAVAILABLE', **facts: Any) -> LamellaError:
    return LamellaError(status, 'down', **facts)


async def look(flaky: Flaky, **options: Any) -> Called:
    options = {'tools': ['look'], 'no_jitter': True, **options}
    return await call(ToolRetry(**options), 'look', tools=[flaky.look])


async def test_a_transient_failure_is_tried_again() -> None:
    flaky = Flaky(down(), ConnectionResetError('reset'))
    called = await look(flaky)
    assert (called.output, flaky.calls, called.world.clock.slept) == ('seen', 3, [0.2, 0.4])
    waits = called.facts('tool_retry.wait')
    assert [(wait['tool'], wait['ref'], wait['attempt'], wait['wait_s']) for wait in waits] == [
        ('look', 'r-1', 1, 0.2),
        ('look', 'r-1', 2, 0.4),
    ]


async def test_a_response_that_took_retries_says_so() -> None:
    app = world({'x/a': [ToolRequest('look', {}, 'r-1'), 'done']})
    flaky = Flaky(down())
    response = await app.ai.generate(prompt='go', use=[ToolRetry(tools=['look'], no_jitter=True)], tools=[flaky.look])
    answer = response.turns[0].tool_responses[0].tool_response
    assert answer.metadata == {'tool_retry': {'attempts': 2, 'waited_s': 0.2}}


async def test_a_tool_that_is_not_named_runs_once() -> None:
    for tools in (['other'], ['loo'], ['Look'], []):
        flaky = Flaky(down())
        with pytest.raises(LamellaError, match='down'):
            await look(flaky, tools=tools)
        assert flaky.calls == 1


@pytest.mark.parametrize('status', sorted(set(STATUSES) - {'OK'}))
async def test_the_statuses_are_those_of_retry(status: Any) -> None:
    flaky = Flaky(down(status))
    if status in TRANSIENT:
        assert (await look(flaky)).output == 'seen'
    else:
        with pytest.raises(LamellaError):
            await look(flaky)
        assert flaky.calls == 1


@pytest.mark.parametrize(
    ('error', 'options'),
    [
        (ValueError('wrong'), {}),
        (KeyError('x'), {}),
        (OSError('disk'), {}),
        (ConfigError('wrong'), {'statuses': ['INVALID_ARGUMENT']}),
        (ConfigError('wrong'), {'exceptions': [Exception]}),
        (down(details={'retryable': False}), {}),
        (Rejected('no', by='guard'), {}),
        (down('PERMISSION_DENIED'), {'exceptions': [Exception]}),
    ],
)
async def test_what_is_no_transient_failure_passes_at_once(error: Exception, options: dict[str, Any]) -> None:
    flaky = Flaky(error)
    with pytest.raises(type(error)) as caught:
        await look(flaky, **options)
    assert caught.value is error or caught.value.__cause__ is error or error in _chain(caught.value)
    assert flaky.calls == 1


def _chain(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


@pytest.mark.parametrize(
    ('error', 'options'),
    [
        (ConnectionRefusedError(), {}),
        (TimeoutError(), {}),
        (BrokenPipeError(), {}),
        (ValueError(), {'exceptions': [ValueError]}),
        (KeyError(), {'exceptions': [LookupError]}),
        (down('ABORTED'), {'exceptions': []}),
        (down('NOT_FOUND'), {'statuses': ['NOT_FOUND']}),
        (Rejected('later', by='limit', retry_after_s=1), {}),
        (ToolError('try again'), {'exceptions': [ToolError]}),
        (down('PERMISSION_DENIED'), {'exceptions': [LamellaError]}),
    ],
)
async def test_what_is_asked_for_is_tried_again(error: Exception, options: dict[str, Any]) -> None:
    flaky = Flaky(error)
    assert ((await look(flaky, **options)).output, flaky.calls) == ('seen', 2)


@pytest.mark.parametrize('options', [{}, {'statuses': ['FAILED_PRECONDITION']}, {'exceptions': [Exception]}])
async def test_a_tool_error_is_for_the_model_and_not_for_us(options: dict[str, Any]) -> None:
    flaky = Flaky(ToolError('no such city'))
    called = await look(flaky, **options)
    assert (called.error, called.output, flaky.calls) == (True, 'no such city', 1)
    assert called.world.sink.named('tool_retry.gave_up') == []


async def test_an_interrupt_is_no_failure() -> None:
    flaky = Flaky(Interrupt('may I?'))
    app = world({'x/a': [ToolRequest('look', {}, 'r-1'), 'done']})
    response: GenerateResponse = await app.ai.generate(
        prompt='go', use=[ToolRetry(tools=['*'], exceptions=[Exception])], tools=[flaky.look]
    )
    assert (response.stop_reason, flaky.calls) == ('interrupted', 1)


async def test_the_end_of_a_run_is_no_failure() -> None:
    flaky = Flaky(StopRun('guardrail', 'enough'))
    app = world({'x/a': [ToolRequest('look', {}, 'r-1'), 'done']})
    response = await app.ai.generate(prompt='go', use=[ToolRetry(tools=['*'])], tools=[flaky.look])
    assert (response.stop_reason, flaky.calls) == ('guardrail', 1)


async def test_used_up_retries_raise_the_last_error() -> None:
    flaky = Flaky(*[down(details={'number': number}) for number in range(5)])
    with pytest.raises(LamellaError) as caught:
        await look(flaky, max_retries=2)
    assert (caught.value.details['number'], flaky.calls) == (2, 3)


async def test_or_the_model_is_told_and_reads_no_text_of_the_error() -> None:
    for error, kind in ((down(), 'UNAVAILABLE'), (ConnectionError('to https://user:secret@host'), 'ConnectionError')):
        flaky = Flaky(error, error, error)
        called = await look(flaky, on_exhausted='tell')
        assert (called.error, flaky.calls) == (True, 3)
        assert called.output == f'look failed 3 times ({kind}): try something else, or later'
        (told,) = called.facts('tool_retry.gave_up')
        assert (told['attempts'], told['reason'], told['error']) == (3, 'exhausted', error)


async def test_other_errors_still_end_the_run_then() -> None:
    with pytest.raises(ValueError, match='wrong'):
        await look(Flaky(ValueError('wrong')), on_exhausted='tell')


async def test_zero_retries_are_none() -> None:
    flaky = Flaky(down())
    with pytest.raises(LamellaError):
        await look(flaky, max_retries=0)
    assert flaky.calls == 1


async def test_what_the_tool_asks_for_is_a_floor_and_too_much_ends_it() -> None:
    called = await look(Flaky(down(retry_after_s=3)))
    assert called.world.clock.slept == [3.0]
    flaky = Flaky(down(retry_after_s=11))
    with pytest.raises(LamellaError):
        await look(flaky)
    assert flaky.calls == 1
    told = await look(Flaky(down(retry_after_s=11)), on_exhausted='tell')
    assert told.output == 'look failed at the first attempt (UNAVAILABLE): try something else, or later'


async def test_no_wait_passes_the_deadline_of_the_run() -> None:
    app, flaky = world({'x/a': [ToolRequest('look', {}, 'r-1'), 'done']}), Flaky(down(), down(), down())
    layer = ToolRetry(tools=['look'], no_jitter=True, initial_delay_ms=800)
    with pytest.raises(LamellaError, match='down'):
        await app.ai.generate(prompt='go', use=[layer], tools=[flaky.look], timeout_s=2)
    assert (flaky.calls, app.clock.slept) == (2, [0.8])
    assert app.sink.named('tool_retry.gave_up')[0].facts['reason'] == 'deadline'


@given(st.integers(0, 2**32), st.lists(st.floats(0, 3), max_size=3))
def test_jitter_lies_between_what_was_asked_for_and_the_cap(seed: int, floors: list[float]) -> None:
    async def run() -> None:
        app = world({'x/a': [ToolRequest('look', {}, 'r-1'), 'done']}, random=Random(seed))
        flaky = Flaky(*[down(retry_after_s=floor) for floor in floors])
        layer = ToolRetry(tools=['look'], max_retries=3, max_delay_ms=3000)
        await app.ai.generate(prompt='go', use=[layer], tools=[flaky.look])
        caps = [0.2, 0.4, 0.8]
        for wait, floor, cap in zip(app.clock.slept, floors, caps, strict=False):
            assert floor <= wait <= min(floor + cap, 3.0)

    asyncio.run(run())


async def test_a_wait_ends_with_the_run() -> None:
    clock, flaky = HeldClock(), Flaky(down())
    async with no_leaks():
        task = asyncio.create_task(call(ToolRetry(tools=['look']), 'look', tools=[flaky.look], clock=clock))
        await clock.somebody_sleeps()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert flaky.calls == 1


async def test_the_attempt_is_counted_for_the_layers_inside() -> None:
    seen: list[int] = []

    class Sees(ToolRetry):
        async def wrap_tool(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            seen.append(params.attempt)
            return await next_fn(params, ctx)

    await call([ToolRetry(tools=['look']), Sees(tools=['look'])], 'look', tools=[Flaky(down(), down()).look])
    assert seen == [1, 2, 3]


async def test_an_approved_call_is_retried_under_the_same_approval() -> None:
    app, flaky = world({'x/a': [ToolRequest('look', {}, 'r-1'), 'done']}), Flaky(down())
    asked = {'use': [ToolApproval(), ToolRetry(tools=['look'])], 'tools': [flaky.look]}
    waiting = await app.ai.generate(prompt='go', **asked)
    approved = [restart_tool(part, metadata={'toolApproved': True}) for part in waiting.interrupts]
    response = await app.ai.generate(messages=waiting.messages, resume_restart=approved, **asked)
    assert (response.text, flaky.calls) == ('done', 2)


async def test_two_calls_at_once_are_retried_each_for_itself() -> None:
    calls: list[int] = []

    async def look(number: int) -> int:
        calls.append(number)
        if calls.count(number) <= number:
            raise down()
        return number

    app = world({'x/a': [[ToolRequest('look', {'number': n}, f'r-{n}') for n in range(3)], 'done']})
    response = await app.ai.generate(prompt='go', use=[ToolRetry(tools=['look'])], tools=[look])
    assert [part.tool_response.output for part in response.turns[0].tool_responses] == [0, 1, 2]
    assert [calls.count(number) for number in range(3)] == [1, 2, 3]


async def test_streams_are_retried_too() -> None:
    def build() -> Any:
        flaky.append(Flaky(down()))
        return world({'x/a': [ToolRequest('look', {}, 'r-1'), 'done']}, random=Random(3)).ai

    flaky: list[Flaky] = []

    async def look() -> str:
        return await flaky[-1].look()

    response = await both(build, prompt='go', tools=[look], use=[ToolRetry(tools=['look'], no_jitter=True)])
    assert response.turns[0].tool_responses[0].tool_response.output == 'seen'
    assert [one.calls for one in flaky] == [2, 2]


@pytest.mark.parametrize(
    ('options', 'problems'),
    [
        ({}, ['tools: Field required']),
        ({'tools': 'look'}, ["write a list of tool names, such as ['look']"]),
        ({'tools': None}, ['tools']),
        ({'tools': ['look'], 'exceptions': [asyncio.CancelledError]}, ['is no exception class']),
        ({'tools': ['look'], 'exceptions': [Interrupt]}, ['is no exception class']),
        ({'tools': ['look'], 'exceptions': [ValueError('x')]}, ['is no exception class']),
        ({'tools': ['look'], 'exceptions': ValueError}, ['write a list of exception classes']),
        ({'tools': ['look'], 'statuses': ['DOWN']}, ["unknown status 'DOWN'"]),
        ({'tools': ['look'], 'max_retries': -1, 'backoff_factor': 0.5}, ['max_retries', 'backoff_factor']),
        ({'tools': ['look'], 'on_exhausted': 'ignore'}, ['on_exhausted']),
        ({'tool': ['look']}, ["did you mean 'tools'"]),
    ],
)
def test_wrong_settings_are_refused_when_built(options: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        ToolRetry(**options)
    assert [problem for problem in problems if problem not in str(caught.value)] == []
