"""Lets coroutine hooks stand around a stream of parts without a task, a queue or a copy.

A hook such as `wrap_model` is a coroutine that awaits `next_fn`. Here that `next_fn` reads the inner stream, and *yields each
part up through the awaiting coroutines* to `bridge`, an async generator that steps the coroutine by hand: a part goes to
the reader, anything else (a future of the event loop) is waited for. The reader's pull is the coroutine's step, so nothing
runs ahead, cancellation and context variables are the reader's own, and a timeout of a layer cuts that layer alone
(`core/standin.py`).
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from typing import Any

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.params import Channel, ModelHookParams
from lamella.core.standin import StandIn
from lamella.types import (
    STREAM_PARTS,
    Finished,
    Folder,
    LamellaError,
    ModelResponse,
    Restarted,
    StreamPart,
    finished_of,
    is_content,
    unfold,
)

Ctx = GenerateMiddlewareContext


class Ended:
    """Last item of a turn's or a run's inner stream: the response itself, which no part carries whole."""

    __slots__ = ('response',)

    def __init__(self, response: ModelResponse) -> None:
        self.response = response


@types.coroutine
def pump(
    items: AsyncGenerator[Any, None], take: Callable[[Any], bool], channel: Channel | None
) -> Generator[Any, Any, None]:
    """Read a stream to its end inside a stepped coroutine: `take` sees every item and says whether it is handed on.

    Items are handed on only while the bridge itself steps: a layer that calls from a task of its own gets the answer whole.
    """
    read = items.__anext__
    told = channel is not None and channel.stepping
    if told:
        yield _WITHIN
    try:
        while True:
            try:
                item = yield from read()
            except StopAsyncIteration:
                return
            if take(item) and channel is not None and channel.stepping:
                yield item
    except GeneratorExit:
        told = False
        raise
    finally:
        yield from items.aclose()
        if told:
            yield _AROUND


# What a pump tells its bridge: the steps that follow run the stream within, or the layers around it.
_WITHIN, _AROUND = object(), object()
Closing = Callable[[Any, Channel], Iterator[Any]]


async def step_through(
    chain: Callable[[Any, Ctx], Coroutine[Any, Any, Any]], params: Any, ctx: Ctx, channel: Channel, closing: Closing
) -> AsyncGenerator[Any, None]:
    """The parts that a chain of coroutines hands on, then what `closing` makes of its result.

    A stand-in is the current task for the code of layers, which may hold a timeout while parts go to the reader, and not for
    the stream within, which may not: that would cost every part as much as the rest of its way.
    """
    coroutine, stand_in = chain(params, ctx), StandIn()
    resume: Callable[[Any], Any] = coroutine.send
    value: Any = None
    result: Any = None
    within = False
    try:
        while True:
            if stand_in.is_due:
                resume, value = coroutine.throw, stand_in.due()
            channel.stepping = True
            try:
                signal = resume(value) if within else stand_in.step(resume, value)
            except StopIteration as stop:
                result = stop.value
                break
            finally:
                channel.stepping = False
            resume, value = coroutine.send, None
            if type(signal) in STREAM_PARTS:
                yield signal
            elif signal is _WITHIN or signal is _AROUND:
                within = signal is _WITHIN
            else:
                try:
                    await stand_in.wait(signal)
                except BaseException as error:
                    resume, value = coroutine.throw, error
        for item in closing(result, channel):
            yield item
    finally:
        await _cancel(coroutine, stand_in)


async def _cancel(coroutine: Coroutine[Any, Any, Any], stand_in: StandIn) -> None:
    """Let an unfinished coroutine clean up: for it, a reader who left is a cancellation."""
    if coroutine.cr_frame is None:  # type: ignore[attr-defined]
        return
    resume: Callable[[Any], Any] = coroutine.throw
    value: Any = asyncio.CancelledError('the reader left the stream')
    while True:
        try:
            signal = stand_in.step(resume, value)
        except (StopIteration, asyncio.CancelledError):
            return
        resume, value = coroutine.send, None
        if type(signal) in STREAM_PARTS:
            resume, value = coroutine.throw, asyncio.CancelledError('the reader left the stream')
        elif signal is not _WITHIN and signal is not _AROUND:
            try:
                await stand_in.wait(signal)
            except BaseException as error:
                resume, value = coroutine.throw, error


def collector(
    inner: Callable[[ModelHookParams, Ctx], AsyncGenerator[StreamPart, None]],
) -> Callable[[ModelHookParams, Ctx], Coroutine[Any, Any, ModelResponse]]:
    """A model stream as a model call: the parts go to the bridge, the response comes back."""

    async def collect(params: ModelHookParams, ctx: Ctx) -> ModelResponse:
        channel, folder = params.channel, Folder()
        add, given = folder.add, False

        def take(part: StreamPart) -> bool:
            nonlocal given
            add(part)
            if channel is not None and channel.stepping:
                given = True
                if not channel.handed and is_content(part):
                    channel.handed = True
            return type(part) is not Finished

        if channel is not None and channel.stepping:
            channel.seen = None
            if channel.handed:
                await _hand(Restarted('a layer called the model again'))
        await pump(inner(params, ctx), take, channel)
        response = folder.response()
        if given and channel is not None:
            channel.seen = response
        return response

    return collect


@types.coroutine
def _hand(part: StreamPart) -> Generator[StreamPart, None, None]:
    yield part


def bridge(
    chain: Callable[[ModelHookParams, Ctx], Coroutine[Any, Any, ModelResponse]],
) -> Callable[[ModelHookParams, Ctx], AsyncGenerator[StreamPart, None]]:
    """A chain of coroutine hooks as a stream."""

    def bridged(params: ModelHookParams, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        channel = Channel()
        return step_through(chain, params.replace(channel=channel), ctx, channel, closing)

    return bridged


def held(
    chain: Callable[[ModelHookParams, Ctx], Coroutine[Any, Any, ModelResponse]],
) -> Callable[[ModelHookParams, Ctx], AsyncGenerator[StreamPart, None]]:
    """The same, but nothing leaves before the chain has returned."""

    async def parts(params: ModelHookParams, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        response = await chain(params.replace(channel=None), ctx)
        if params.continues is not None:
            params.continues.use(ctx.restarts)
        for part in unfold(answer_of(response)):
            yield part

    return parts


def closing(result: Any, channel: Channel) -> Iterator[StreamPart]:
    """What is still to be said of an answer after the parts that were handed on.

    When a layer changed the content that the reader already has, the reader is told so.
    """
    response, seen = answer_of(result), channel.seen
    if seen is None:
        if channel.handed:
            yield Restarted('a layer answered in place of the model')
        yield from unfold(response)
        return
    if response is not seen and not can_end(response, seen):
        yield Restarted('a layer changed the answer')
        yield from unfold(response)
        return
    yield finished_of(response)


def can_end(answer: ModelResponse, seen: ModelResponse) -> bool:
    """Whether a `Finished` alone can turn what the reader has seen into this answer."""
    return (
        answer.message.content == seen.message.content
        and answer.sources == seen.sources
        and answer.tool_responses == seen.tool_responses
        and (answer.id is not None or seen.id is None)
        and (answer.model is not None or seen.model is None)
    )


def answer_of(response: Any, hook: str = 'wrap_model') -> ModelResponse:
    """The response itself. Raises FAILED_PRECONDITION when a layer returned something else from this hook."""
    if isinstance(response, ModelResponse):
        return response
    raise LamellaError(
        'FAILED_PRECONDITION',
        f'a layer returned {type(response).__name__}: {hook} must return the response that next_fn gave it, or one of its own',
    )


def out_of_order(what: str) -> LamellaError:
    """A layer's stream that is no answer: pieces behind its end, or no end."""
    return LamellaError(
        'FAILED_PRECONDITION',
        f'a layer made a stream with {what}: wrap_stream yields the parts of next_fn(params, ctx), and one Finished last',
    )
