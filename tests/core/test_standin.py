"""A layer's timeouts and task groups around `next_fn` cut that layer, and never the code of whoever reads the stream."""

import asyncio
from typing import Any

import anyio
import pytest

from lamella import Lamella, LamellaError, ModelResponse
from lamella.core.standin import StandIn
from lamella.middleware import BaseMiddleware
from lamella.types import Finished, TextDelta
from tests.engine.kit import no_leaks
from tests.virtual import in_virtual_time

SHORT, LONG = 2.0, 60.0


class Limit(BaseMiddleware[Any]):
    """A user's own timeout, as anybody would write it."""

    def __init__(self, seconds: float, how: str = 'asyncio') -> None:
        self.seconds, self.how = seconds, how

    async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> ModelResponse:
        if self.how == 'anyio':
            with anyio.fail_after(self.seconds):
                return await next_fn(params, ctx)
        if self.how == 'wait_for':
            return await asyncio.wait_for(next_fn(params, ctx), self.seconds)
        async with asyncio.timeout(self.seconds):
            return await next_fn(params, ctx)


async def quick(request: Any, ctx: Any) -> Any:
    yield TextDelta('one ')
    yield TextDelta('two')


async def stalls(request: Any, ctx: Any) -> Any:
    yield TextDelta('one ')
    await asyncio.sleep(LONG)
    yield TextDelta('two')


def stream(model: Any, *use: Any) -> Any:
    return Lamella().generate_stream(model=model, prompt='hi', use=list(use))


@pytest.mark.parametrize('how', ['asyncio', 'anyio'])
@in_virtual_time
async def test_a_timeout_that_ends_while_the_reader_is_busy_does_not_touch_the_reader(how: str) -> None:
    seen = []

    async def read() -> None:
        async for part in stream(quick, Limit(SHORT, how)):
            await asyncio.sleep(SHORT)  # a reader with work of its own
            for _ in range(9):
                await asyncio.sleep(0)
            seen.append(part)

    async with no_leaks():
        with pytest.raises(TimeoutError):
            await read()
    assert len(seen) == 1
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


@pytest.mark.parametrize('how', ['asyncio', 'anyio', 'wait_for'])
@in_virtual_time
async def test_a_timeout_cuts_a_model_that_stalls(how: str) -> None:
    async with no_leaks():
        with pytest.raises(TimeoutError):
            async for _ in stream(stalls, Limit(SHORT, how)):
                pass
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


@in_virtual_time
async def test_the_inner_of_two_timeouts_is_told_apart_by_the_outer() -> None:
    class Tells(Limit):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> ModelResponse:
            try:
                return await super().wrap_model(params, ctx, next_fn)
            except TimeoutError:
                raise LamellaError('DEADLINE_EXCEEDED', f'within {self.seconds}') from None

    for use in ([Tells(LONG), Tells(SHORT)], [Tells(SHORT), Tells(LONG)]):
        with pytest.raises(LamellaError, match=f'within {SHORT}'):
            async for _ in stream(stalls, *use):
                pass


@in_virtual_time
async def test_a_layer_between_that_waits_on_its_own_is_not_cut_by_a_timeout_inside() -> None:
    class Between(BaseMiddleware[Any]):
        async def wrap_stream(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            async for part in next_fn(params, ctx):
                await asyncio.sleep(SHORT)
                seen.append(type(part))
                yield part

    seen: list[type] = []
    with pytest.raises(TimeoutError):
        async for _ in stream(quick, Between(), Limit(SHORT / 2)):
            pass
    assert seen  # its own waiting came to its end each time


@in_virtual_time
async def test_a_task_group_that_fails_cancels_its_layer_and_not_the_reader() -> None:
    class Watched(BaseMiddleware[Any]):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> ModelResponse:
            async def watch() -> None:
                await asyncio.sleep(SHORT)
                raise LamellaError('ABORTED', 'the watcher barks')

            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(watch())
                    return await next_fn(params, ctx)
            except* LamellaError as found:
                raise found.exceptions[0] from None

    async def read(model: Any, work_s: float) -> None:
        async for _ in stream(model, Watched()):
            await asyncio.sleep(work_s)
            done.append(work_s)

    for model, work_s in ((quick, SHORT * 2), (stalls, 0)):
        done: list[float] = []
        with pytest.raises(LamellaError, match='the watcher barks'):
            await read(model, work_s)
        assert done


@in_virtual_time
async def test_the_reader_s_own_cancellation_passes_through_a_layer_s_timeout() -> None:
    async def read() -> None:
        async for _ in stream(stalls, Limit(LONG)):
            pass

    async with no_leaks():
        task = asyncio.create_task(read())
        await asyncio.sleep(SHORT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()


@in_virtual_time
async def test_a_reader_s_own_timeout_around_the_loop_is_its_own() -> None:
    async def read() -> None:
        async with asyncio.timeout(SHORT):
            async for _ in stream(stalls, Limit(LONG)):
                pass

    async with no_leaks():
        with pytest.raises(TimeoutError):
            await read()


@in_virtual_time
async def test_a_timeout_that_did_not_end_leaves_nothing_behind() -> None:
    parts = [part async for part in stream(quick, Limit(LONG), Limit(LONG, 'anyio'))]
    assert type(parts[-1]) is Finished


@in_virtual_time
async def test_a_stream_may_be_read_from_several_tasks_one_after_the_other() -> None:
    parts = aiter(stream(quick, Limit(LONG)))
    seen = [await asyncio.create_task(anext(parts)) for _ in range(3)]
    assert [part.text for part in seen if type(part) is TextDelta] == ['one ', 'two']
    assert type(await anext(parts)) is Finished


@in_virtual_time
async def test_a_layer_that_cancels_its_own_task_cancels_itself() -> None:
    class Cancels(BaseMiddleware[Any]):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> ModelResponse:
            task = asyncio.current_task()
            assert task is not None
            task.cancel('enough')
            with pytest.raises(asyncio.CancelledError, match='enough'):
                await asyncio.sleep(LONG)
            assert (task.cancelling(), task.uncancel()) == (1, 0)
            return await next_fn(params, ctx)

    assert type([part async for part in stream(quick, Cancels())][-1]) is Finished


@in_virtual_time
async def test_what_it_does_not_know_is_the_readers_task_s() -> None:
    stand_in, seen = StandIn(), []
    stand_in.step(lambda _: seen.append(asyncio.current_task()), None)
    me = asyncio.current_task()
    assert me is not None
    assert seen == [stand_in]
    assert (stand_in.get_name(), stand_in.done(), stand_in.get_coro()) == (me.get_name(), False, me.get_coro())


@in_virtual_time
async def test_its_count_of_cancellations_adds_the_reader_s() -> None:
    me, stand_in = asyncio.current_task(), StandIn()
    assert me is not None
    stand_in.step(lambda _: None, None)
    me.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    stand_in.cancel()
    assert (stand_in.cancelling(), stand_in.uncancel(), stand_in.uncancel(), me.cancelling()) == (2, 1, 0, 0)


@in_virtual_time
async def test_a_request_from_outside_that_is_taken_back_and_made_again_stays_the_outside_s() -> None:
    """As TaskGroup does since Python 3.13 before it raises what its tasks raised."""
    me, stand_in = asyncio.current_task(), StandIn()
    assert me is not None
    me.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)

    def step(_: Any) -> None:
        stand_in.uncancel()
        stand_in.cancel()

    stand_in.step(step, None)
    assert (me.cancelling(), stand_in.cancelling()) == (1, 1)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    me.uncancel()
    stand_in.cancel()
    assert (me.cancelling(), stand_in.cancelling()) == (0, 1)
