"""Carrying out a prepared run, whole or part by part, and telling whoever listens how it went."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from lamella.core.bridge import Ended, answer_of
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.timeouts import Cutoff
from lamella.engine.loop import run_whole, stop_of
from lamella.engine.run import Keeper, Run
from lamella.engine.stream import GenerateStream, around, last_part, note, run_parts, stopped
from lamella.types import ControlFlow, GenerateResponse, LamellaError, StopRun, StreamPart, TextDelta, ungrouped

Ctx = GenerateMiddlewareContext


def too_long(ctx: Ctx) -> LamellaError:
    """What a run that is not done in time fails with."""
    limit = ctx.timeouts.total_s if ctx.timeouts is not None else None
    return LamellaError('DEADLINE_EXCEEDED', f'generate: not done within timeout_s={limit:g}', attempts=ctx.attempts)


async def whole_run(run: Run, ctx: Ctx) -> GenerateResponse:
    """A run through the layers around it. Every failure leaves with the attempts that were made."""
    if ctx.sinks:
        ctx.emit('run.start', model=run.model.name, streaming=False, **_resumed(run))
    try:
        if run.keeper is not None:
            response = await _kept_run(run, run.keeper, ctx)
        else:
            call = run.stack.around('wrap_run', run_whole)
            response = _run_response(await call(run.params, ctx), run)
    except BaseException as error:
        raised = ungrouped(error)
        if not isinstance(raised, StopRun):
            failed = _failed(raised, ctx)
            raise failed from (raised.__cause__ if failed is raised else raised)
        response = run.stopped(raised)
    if ctx.sinks:
        _tell_end(response, ctx)
    return response


async def streamed_run(run: Run, ctx: Ctx, stream: GenerateStream) -> AsyncGenerator[StreamPart, None]:
    """The same, part by part, for the stream that is read."""
    stream.begin()
    if run.keeper is not None:
        items = _kept_items(run, run.keeper, ctx)
    else:
        items = around('wrap_run', run.stack, run_parts)(run.params, ctx)
    if ctx.deadline is not None:
        items = _in_time(items, ctx)
    if ctx.sinks:
        ctx.emit('run.start', model=run.model.name, streaming=True, **_resumed(run))
    try:
        async for item in items:
            kind = type(item)
            if kind is Ended:
                yield _last(_run_response(item.response, run), run, ctx, stream)
                continue
            if kind is not TextDelta or not ctx.committed:
                note(item, run, ctx)
            yield item
    except GeneratorExit:
        await items.aclose()  # what was under way tells its end first
        if ctx.sinks and not stream.is_settled:
            ctx.emit('run.error', error=asyncio.CancelledError('the reader left the stream'))
        raise
    except BaseException as error:
        raised = ungrouped(error)
        if not isinstance(raised, StopRun):
            failed = _failed(raised, ctx)
            stream.end(failed)
            raise failed from (raised.__cause__ if failed is raised else raised)
        for item in stopped(raised, run, ctx):
            yield _last(_run_response(item.response, run), run, ctx, stream) if type(item) is Ended else item
    finally:
        await items.aclose()
        stream.end()


async def resumed_run(
    prepared: Callable[[], Awaitable[tuple[Run, Ctx]]], stream: GenerateStream
) -> AsyncGenerator[StreamPart, None]:
    """A kept run that goes on, part by part: it is looked up when reading begins."""
    stream.begin()
    try:
        run, ctx = await prepared()
    except BaseException as error:
        stream.end(error)
        raise
    parts = streamed_run(run, ctx, stream)
    try:
        async for part in parts:
            yield part
    finally:
        await parts.aclose()


async def _kept_run(run: Run, keeper: Keeper, ctx: Ctx) -> GenerateResponse:
    """A run in a session: nothing else happens in it meanwhile, and what happened is kept before the caller hears of it."""
    try:
        await keeper.begin(run, ctx)
        async with keeper.hold:
            try:
                call = run.stack.around('wrap_run', run_whole)
                response = _run_response(await call(run.params, ctx), run)
            except (StopRun, BaseExceptionGroup) as raised:
                response = run.stopped(stop_of(raised))
            await keeper.end(response, run, ctx)
            return response
    finally:
        await keeper.leave()


async def _kept_items(run: Run, keeper: Keeper, ctx: Ctx) -> AsyncGenerator[Any, None]:
    """The same, part by part. The hold is watched while a part is waited for; the reader's own time is the reader's."""
    try:
        await keeper.begin(run, ctx)
        items = _unstopped(run, ctx)
        try:
            while True:
                async with keeper.hold:
                    item = await anext(items, None)
                    if type(item) is Ended:
                        response = _run_response(item.response, run)
                        await keeper.end(response, run, ctx)
                        item = Ended(response)
                if item is None:
                    return
                yield item
                if type(item) is Ended:
                    return
        finally:
            await items.aclose()
    finally:
        await keeper.leave()


async def _unstopped(run: Run, ctx: Ctx) -> AsyncGenerator[Any, None]:
    """The run's items, with an end also when a layer around the run has stopped it."""
    items = around('wrap_run', run.stack, run_parts)(run.params, ctx)
    try:
        async for item in items:
            yield item
    except (StopRun, BaseExceptionGroup) as raised:
        for item in stopped(stop_of(raised), run, ctx):
            yield item
    finally:
        await items.aclose()


def _last(response: GenerateResponse, run: Run, ctx: Ctx, stream: GenerateStream) -> StreamPart:
    stream.settle(response)
    if ctx.sinks:
        _tell_end(response, ctx)
    return last_part(response, run)


async def _in_time(items: AsyncGenerator[Any, None], ctx: Ctx) -> AsyncGenerator[Any, None]:
    """The same items; the wait for each ends with the run's deadline. The reader's own time is never cut."""
    end = object()
    try:
        while True:
            async with Cutoff(ctx.clock, ctx.remaining_s() or 0.0, lambda: too_long(ctx)):
                item = await anext(items, end)
            if item is end:
                return
            yield item
    finally:
        await items.aclose()


def _resumed(run: Run) -> dict[str, Any]:
    """The traces of the interrupted runs that this one goes on with."""
    traces = dict.fromkeys(decision.traceparent for decision in run.decisions if decision.traceparent)
    return {'resumes': tuple(traces)} if run.decisions else {}


def _run_response(response: Any, run: Run) -> GenerateResponse:
    """A run's response, also where a `wrap_run` layer answered with a model's."""
    if isinstance(response, GenerateResponse):
        return response
    answer = answer_of(response, 'wrap_run')
    run.turns = [answer]
    run.messages = (*run.request.messages, answer.message)
    return run.finish('final')


def _failed(error: BaseException, ctx: Ctx) -> BaseException:
    """The error as the caller gets it: with every attempt. Control flow that nobody understood becomes an error."""
    if isinstance(error, LamellaError):
        error.attempts = error.attempts or tuple(ctx.attempts)
    elif isinstance(error, ControlFlow):
        error = LamellaError('FAILED_PRECONDITION', f'{type(error).__name__} raised outside a tool call: {error}')
    if ctx.sinks:
        ctx.emit('run.error', error=error)
    return error


def _tell_end(response: GenerateResponse, ctx: Ctx) -> None:
    ctx.emit(
        'run.end',
        model=response.model,
        stop_reason=response.stop_reason,
        usage=response.usage,
        turns=len(response.turns),
        response=response,
    )
