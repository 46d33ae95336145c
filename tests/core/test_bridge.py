"""The bridge: coroutine hooks around a stream of parts, stepped by the reader's own pull."""

import asyncio
import contextlib
import contextvars
from typing import Any

import pytest

from lamella import Lamella
from lamella.core.bridge import bridge, can_end, collector, held
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.params import ModelHookParams
from lamella.core.standin import StandIn
from lamella.testing import ScriptedModel
from lamella.types import (
    Finished,
    LamellaError,
    ModelRequest,
    ModelResponse,
    ResponseStarted,
    Restarted,
    Source,
    TextDelta,
    TextPart,
    ToolResponse,
    ToolResponsePart,
    fold,
)
from tests.engine.kit import no_leaks

PARAMS = ModelHookParams(ModelRequest(), ScriptedModel())
ABC = [ResponseStarted('m'), TextDelta('a'), TextDelta('b'), TextDelta('c'), Finished('stop', model='m')]


def ctx() -> GenerateMiddlewareContext:
    return GenerateMiddlewareContext(Lamella())


def source(*parts: Any, log: list[str] | None = None) -> Any:
    """A stream of parts, with a pause of the loop before each; exceptions are raised."""

    async def inner(params: Any, ctx: Any) -> Any:
        try:
            for part in parts or ABC:
                await asyncio.sleep(0)
                if isinstance(part, BaseException):
                    raise part
                yield part
        finally:
            if log is not None:
                log.append('closed')

    return inner


async def read(chain: Any, build: Any = bridge) -> list[Any]:
    return [part async for part in build(chain)(PARAMS, ctx())]


async def test_parts_pass_through_a_chain_that_only_awaits() -> None:
    inner = collector(source())

    async def chain(params: Any, ctx: Any) -> Any:
        await asyncio.sleep(0)
        response = await inner(params, ctx)
        await asyncio.sleep(0)
        return response

    assert await read(chain) == ABC


async def test_a_chain_may_wait_for_futures_and_tasks_on_the_way() -> None:
    inner = collector(source())

    async def chain(params: Any, ctx: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, 1)
        assert await future == 1
        assert await asyncio.create_task(asyncio.sleep(0, 'x')) == 'x'
        failing = asyncio.get_running_loop().create_future()
        failing.set_exception(KeyError('x'))
        with pytest.raises(KeyError):
            await failing
        async with asyncio.timeout(10), asyncio.Lock():
            return await inner(params, ctx)

    assert fold(await read(chain)).text == 'abc'


async def test_the_end_waits_until_the_chain_has_returned() -> None:
    inner, gate = collector(source()), asyncio.Event()

    async def chain(params: Any, ctx: Any) -> Any:
        response = await inner(params, ctx)
        await gate.wait()
        return response

    parts = bridge(chain)(PARAMS, ctx())
    for wanted in ABC[:-1]:
        assert await anext(parts) == wanted
    last = asyncio.ensure_future(anext(parts))
    await asyncio.sleep(0)
    assert not last.done()
    gate.set()
    assert await last == ABC[-1]


async def test_an_error_of_the_stream_is_raised_inside_the_chain() -> None:
    inner = collector(source(ResponseStarted('m'), TextDelta('a'), LamellaError('UNAVAILABLE', 'down')))

    async def chain(params: Any, ctx: Any) -> Any:
        try:
            return await inner(params, ctx)
        except LamellaError as error:
            return ModelResponse.text_of(f'caught {error.status}')

    parts = await read(chain)
    assert [type(part) for part in parts] == [
        ResponseStarted, TextDelta, Restarted, ResponseStarted, TextDelta, Finished,
    ]  # fmt: skip
    assert fold(parts).text == 'caught UNAVAILABLE'


async def test_an_error_of_the_chain_reaches_the_reader() -> None:
    async def chain(params: Any, ctx: Any) -> Any:
        raise KeyError('mine')

    async with no_leaks():
        with pytest.raises(KeyError, match='mine'):
            await read(chain)


async def test_the_chain_runs_in_the_readers_own_context_with_a_stand_in_for_its_task() -> None:
    inner, variable, seen = collector(source()), contextvars.ContextVar('v', default='none'), []

    async def chain(params: Any, ctx: Any) -> Any:
        seen.append((type(asyncio.current_task()), variable.get()))
        response = await inner(params, ctx)
        seen.append((type(asyncio.current_task()), variable.get()))
        return response

    variable.set('mine')
    await read(chain)
    assert seen == [(StandIn, 'mine')] * 2


async def test_nothing_runs_between_two_pulls() -> None:
    steps = []

    async def counting(params: Any, ctx: Any) -> Any:
        for part in ABC:
            steps.append(part)
            yield part

    inner = collector(counting)

    async def chain(params: Any, ctx: Any) -> Any:
        return await inner(params, ctx)

    parts = bridge(chain)(PARAMS, ctx())
    for pulled in range(1, 5):
        await anext(parts)
        await asyncio.sleep(0)
        assert len(steps) == pulled
    await parts.aclose()


async def test_a_reader_who_leaves_is_a_cancellation_for_the_chain_which_may_clean_up() -> None:
    log: list[str] = []
    inner = collector(source(log=log))

    async def chain(params: Any, ctx: Any) -> Any:
        try:
            return await inner(params, ctx)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            log.append('cancelled')
            raise
        finally:
            log.append('finally')

    async with no_leaks():
        parts = bridge(chain)(PARAMS, ctx())
        await anext(parts)
        await anext(parts)
        await parts.aclose()
    assert log == ['closed', 'cancelled', 'finally']


async def test_an_error_in_the_clean_up_of_a_chain_is_not_lost() -> None:
    inner = collector(source())

    async def chain(params: Any, ctx: Any) -> Any:
        try:
            return await inner(params, ctx)
        finally:
            raise KeyError('in the clean-up')

    parts = bridge(chain)(PARAMS, ctx())
    await anext(parts)
    with pytest.raises(KeyError, match='clean-up'):
        await parts.aclose()


async def test_a_chain_that_is_never_read_is_never_begun() -> None:
    async def chain(params: Any, ctx: Any) -> Any:
        raise AssertionError

    async with no_leaks():
        parts = bridge(chain)(PARAMS, ctx())
        await parts.aclose()
        bridge(chain)(PARAMS, ctx())


async def test_a_held_chain_gives_its_parts_at_the_end_and_none_of_a_failed_try() -> None:
    calls = []

    async def twice(params: Any, ctx: Any) -> Any:
        calls.append(1)
        yield ResponseStarted('m')
        yield TextDelta(f'{len(calls)}')
        if len(calls) == 1:
            raise LamellaError('UNAVAILABLE', 'down')
        yield Finished('stop')

    inner = collector(twice)

    async def chain(params: Any, ctx: Any) -> Any:
        try:
            return await inner(params, ctx)
        except LamellaError:
            return await inner(params, ctx)

    parts = await read(chain, held)
    assert [type(part) for part in parts] == [ResponseStarted, TextDelta, Finished]
    assert fold(parts).text == '2'


async def test_an_answer_given_first_and_asked_again_later_is_shown_whole() -> None:
    answers = [
        [ResponseStarted('m'), TextDelta('one'), Finished('stop')],
        [ResponseStarted('m'), TextDelta('two'), Finished('stop')],
    ]

    async def each(params: Any, ctx: Any) -> Any:
        for part in answers.pop(0):
            yield part

    inner = collector(each)

    async def chain(params: Any, ctx: Any) -> Any:
        first = await inner(params, ctx)
        await inner(params, ctx)
        return first

    parts = await read(chain)
    assert [type(part) for part in parts].count(Restarted) == 2
    assert fold(parts).text == 'one'


async def test_a_second_try_that_fails_leaves_the_first_answer_shown_whole() -> None:
    answers = [
        [ResponseStarted('m'), TextDelta('one'), Finished('stop')],
        [ResponseStarted('m'), TextDelta('tw'), LamellaError('UNAVAILABLE', 'down')],
    ]

    async def each(params: Any, ctx: Any) -> Any:
        for part in answers.pop(0):
            if isinstance(part, Exception):
                raise part
            yield part

    inner = collector(each)

    async def chain(params: Any, ctx: Any) -> Any:
        first = await inner(params, ctx)
        with contextlib.suppress(LamellaError):
            await inner(params, ctx)
        return first

    assert fold(await read(chain)).text == 'one'


def test_what_an_end_alone_can_say() -> None:
    seen = ModelResponse.text_of('x', id='1', model='m')
    assert can_end(seen.replace(metadata={'a': 1}, model='n', id='2', finish_reason='length'), seen)
    assert not can_end(seen.replace(message=seen.message.replace(content=(TextPart('y'),))), seen)
    assert not can_end(seen.replace(sources=(Source('u'),)), seen)
    assert not can_end(seen.replace(tool_responses=(ToolResponsePart(ToolResponse('t')),)), seen)
    assert not can_end(seen.replace(id=None), seen)
    assert not can_end(seen.replace(model=None), seen)
