"""The same run, part by part: nothing is read from the model before the reader asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from functools import cache, partial
from types import TracebackType
from typing import Any
from weakref import ref

from lamella.core.bridge import Ended, answer_of, can_end, out_of_order, pump, step_through
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.params import Channel, GenerateHookParams, ModelHookParams, RunHookParams
from lamella.core.stack import Stack
from lamella.engine.loop import begin, stop_of, with_tools
from lamella.engine.resuming import keep, new_answers, resume
from lamella.engine.run import Run
from lamella.types import (
    ConfigError,
    Finished,
    Folder,
    GenerateResponse,
    LamellaError,
    ModelResponse,
    ResponseStarted,
    Restarted,
    StopRun,
    StreamPart,
    TextDelta,
    ToolRequestPart,
    ToolResponded,
    add_usage,
    finished_of,
    is_content,
    unfold_content,
)

Ctx = GenerateMiddlewareContext
Items = AsyncGenerator[Any, None]  # stream parts, and an `Ended` last


async def stream_turn(params: GenerateHookParams, ctx: Ctx) -> Items:
    """One model call and its tools, part by part; the turn's response last."""
    run: Run = ctx.run
    folder, finished = Folder(), False
    run.seen = folder
    try:
        asked = ModelHookParams(params.request, params.model, account=run.account)
        async for part in run.stack.stream(asked, ctx):
            if finished:
                raise out_of_order(f'{type(part).__name__} after Finished')
            folder.add(part)
            if type(part) is Finished:
                finished = True
            else:
                yield part
        if not finished:
            raise out_of_order('no Finished at its end')
    except LamellaError as error:
        folder.tell(error)
        raise
    finally:
        await ctx.close_streams()
    response = folder.response()
    for content in response.message.content:
        if type(content) is ToolRequestPart:
            response = await with_tools(response, ctx)
            break
    for answer in response.tool_responses:
        responded = ToolResponded(answer.tool_response, answer.metadata)
        folder.add(responded)
        yield responded
    yield Ended(response)


def note(part: StreamPart, run: Run, ctx: Ctx) -> None:
    """Keep account of what reaches the reader: that is what the commit rule and the usage at the end go by."""
    kind = type(part)
    if kind is TextDelta or is_content(part):
        ctx.committed = run.shown = True
    elif kind is Restarted:
        ctx.committed = False
        ctx.restarts += 1
    elif kind is ResponseStarted:
        if ctx.committed:
            raise _second_start(ctx)
        run.told, run.last_told = add_usage(run.told, run.last_told), None
    elif kind is Finished:
        run.last_told = part.usage  # type: ignore[union-attr]


def _second_start(ctx: Ctx) -> LamellaError:
    failed = ctx._last_error
    error = LamellaError(
        failed.status if failed is not None else 'FAILED_PRECONDITION',
        'a layer started the answer over after text had reached the reader: yield a Restarted part first, or set '
        "commit='finish' on the layer",
    )
    error.__cause__ = failed
    return error


async def run_parts(params: RunHookParams, ctx: Ctx) -> Items:
    """The loop of turns, part by part; the run's response last."""
    run: Run = ctx.run
    if run.shown:
        raise _second_start(ctx)
    begin(run, params)
    turn = around('wrap_generate', run.stack, stream_turn)
    try:
        if run.pending is not None:
            before = run.pending
            resumed = await resume(run, ctx)
            for answer in new_answers(resumed, before):
                yield ToolResponded(answer)
            if resumed.interrupts:
                yield Ended(run.finish('interrupted'))
                return
        while True:
            response = ModelResponse()
            if ctx.sinks:
                ctx.emit('turn.start', turn=len(run.turns))
            items = turn(run.next_params(), ctx)
            try:
                async for item in items:
                    if type(item) is Ended:
                        response = item.response
                    else:
                        yield item
            finally:
                await items.aclose()
            if ctx.sinks:
                ctx.emit('turn.end', turn=len(run.turns), response=response)
            stop = run.close_turn(response, ctx)
            if response.interrupts or (run.keeper is not None and response.tool_responses):
                await keep(run, ctx)
            if stop is not None:
                yield Ended(run.finish(stop))
                return
            yield finished_of(response)
            ctx.committed = False
    except (StopRun, BaseExceptionGroup) as raised:
        for item in stopped(stop_of(raised), run, ctx):
            yield item


def stopped(stop: StopRun, run: Run, ctx: Ctx) -> Generator[Any, None, None]:
    """The end of a stopped run, with the answer that the `StopRun` brings, unless the reader has just that."""
    answer = stop.response
    if answer is not None and not (ctx.committed and run.seen is not None and can_end(answer, run.seen.response())):
        if ctx.committed:
            yield Restarted(f'the run was stopped: {stop.message or stop.reason}')
        yield ResponseStarted(answer.model, answer.id)
        yield from unfold_content(answer)
    yield Ended(run.stopped(stop))


def last_part(response: GenerateResponse, run: Run) -> Finished:
    """The end of the stream: with the usage that the ends of earlier turns have not told yet."""
    finished = finished_of(response, response.stop_reason)
    if run.told is None or finished.usage is None:
        return finished
    last = response.turns[-1].usage if response.turns else None
    exact = last is not None and run.told + last == finished.usage
    return finished.replace(usage=last if exact else finished.usage - run.told)


def around(hook: str, stack: Stack, innermost: Callable[[Any, Ctx], Items]) -> Callable[[Any, Ctx], Items]:
    """`innermost` with the layers' coroutine hooks bridged around it; itself when there is none."""
    if hook not in stack.hooks:
        return innermost
    chain = stack.around(hook, _collector(innermost))
    hold = any(hook in layer._hooks and layer.commit == 'finish' for layer in stack.layers)

    closing = partial(_last_words, hook)

    def bridged(params: Any, ctx: Ctx) -> Items:
        channel = Channel()
        given = params if hold else params.replace(channel=channel)
        return step_through(chain, given, ctx, channel, closing)

    return bridged


@cache  # one for each kind of call, so that a stack folds it once
def _collector(inner: Callable[[Any, Ctx], Items]) -> Callable[[Any, Ctx], Coroutine[Any, Any, ModelResponse]]:
    async def collect(params: Any, ctx: Ctx) -> ModelResponse:
        channel: Channel | None = params.channel
        response = ModelResponse()

        def take(item: Any) -> bool:
            nonlocal response
            if type(item) is Ended:
                response = item.response
                return False
            if channel is not None and channel.stepping:
                channel.handed = True
            return True

        await pump(inner(params, ctx), take, channel)
        if channel is not None and channel.handed:
            channel.seen = response
        return response

    return collect


def _last_words(hook: str, response: Any, channel: Channel) -> Generator[Any, None, None]:
    """What the reader has not had yet of a turn's or a run's answer."""
    answer, seen = answer_of(response, hook), channel.seen
    if seen is None or not can_end(answer, seen):
        if channel.handed:
            yield Restarted('a layer changed the answer')
        yield ResponseStarted(answer.model, answer.id)
        yield from unfold_content(answer)
    yield Ended(answer)


class GenerateStream:
    """The parts of a run as they arrive: `async for part in stream`, once.

    `text_stream` gives the pieces of text alone; `await stream.response` the whole response (reading what is left);
    leaving the loop, `aclose()` or the end of `async with` cancels the provider's call. A failure raises from the loop.
    """

    def __init__(self, parts: Callable[[GenerateStream], AsyncGenerator[StreamPart, None]]) -> None:
        unread = parts(self)
        self._unread: AsyncGenerator[StreamPart, None] | None = unread
        self._reading = ref(unread)
        self._response: GenerateResponse | None = None
        self._failure: BaseException | None = None
        self._begun = False
        self._ended = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[StreamPart]:
        if self._unread is None:
            raise ConfigError('this stream is already being read: a stream is read once')
        unread, self._unread = self._unread, None
        return unread

    @property
    def text_stream(self) -> AsyncIterator[str]:
        """The pieces of text, without reasoning. A `Restarted` run raises: only whole parts can say it."""
        return _texts(self.__aiter__())

    @property
    def response(self) -> Coroutine[Any, Any, GenerateResponse]:
        """The whole response; reads the stream, or waits for the one who reads it. Raises what the run raised."""
        return self._settled()

    async def _settled(self) -> GenerateResponse:
        if self._response is None and self._unread is not None:
            async for _ in self:
                pass
        elif self._response is None and self._reading() is not None:
            await self._ended.wait()
        if self._response is not None:
            return self._response
        if self._failure is not None:
            raise self._failure
        raise LamellaError('CANCELLED', 'the stream was left before its end, so there is no response')

    async def aclose(self) -> None:
        """Stop reading and cancel the provider's call; done when all is closed. Harmless when the stream is at its end."""
        self._unread = None
        parts = self._reading()
        if parts is not None:
            await parts.aclose()
        elif self._begun:  # the loop that read was left: Python closes its generator in a task of its own
            await self._ended.wait()

    async def __aenter__(self) -> GenerateStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def is_settled(self) -> bool:
        """Whether the run is done and its response known."""
        return self._response is not None

    def begin(self) -> None:
        """For the engine: reading has begun."""
        self._begun = True

    def settle(self, response: GenerateResponse) -> None:
        """For the engine: the run is done."""
        self._response = response
        self._ended.set()

    def end(self, failure: BaseException | None = None) -> None:
        """For the engine: nothing more will come."""
        self._failure = self._failure or failure
        self._ended.set()


async def _texts(parts: AsyncIterator[StreamPart]) -> AsyncGenerator[str, None]:
    shown = False
    try:
        async for part in parts:
            if type(part) is TextDelta:
                shown = True
                yield part.text
            elif type(part) is Restarted and shown:
                raise LamellaError(
                    'ABORTED', f'the answer was started over ({part.reason}): read parts, not text_stream'
                )
    finally:
        if isinstance(parts, AsyncGenerator):
            await parts.aclose()
