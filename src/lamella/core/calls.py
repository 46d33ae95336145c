"""The innermost ring: one call of one model, whole or as a stream, with its answer checked."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from lamella.core.bridge import out_of_order
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.metering import metered, metered_end, metered_failure, metered_leaving
from lamella.core.params import Continuing, EmbedHookParams, ModelHookParams
from lamella.core.timeouts import Patience, Timeouts, not_in_time, watched
from lamella.core.wording import ask_in_words
from lamella.types import (
    STREAM_PARTS,
    Finished,
    Folder,
    LamellaError,
    Message,
    ModelRequest,
    ModelResponse,
    ResponseStarted,
    StreamPart,
    TextDelta,
    ToolRequest,
    ToolRequested,
    ToolRequestPart,
    is_content,
)

Ctx = GenerateMiddlewareContext
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


async def call_model(params: ModelHookParams, ctx: Ctx) -> ModelResponse:
    """Ask the model. Raises what the model raises; FAILED_PRECONDITION when it answers with something that is no response."""
    if params.escorts:
        if not params.model.layered and any(escort.listens for escort in params.escorts):
            return await _call_in_parts(params, ctx)
        params = await _escorted(params, ctx)
    model, started, call = params.model, ctx.clock.now(), 0
    if not model.layered:
        call = ctx.sent = ctx.sent + 1
        if ctx.sinks:
            _tell_start(ctx, params, call)
    try:
        response = await model.generate(_said(params), ctx)
    except LamellaError as error:
        if params.account is not None:
            metered_failure(error, (), params, ctx)
        ctx.record_failure(model.name, error, started, call=call)
        raise
    except BaseException as error:
        if call and ctx.sinks:
            _tell_left(ctx, params, call, error, started)
        raise
    if type(response) is not ModelResponse:
        raise nonsense(model.name, response)
    if response.model is None:
        response = response.replace(model=model.name)
    for part in response.message.content:
        if type(part) is ToolRequestPart and part.tool_request.ref is None:
            response = response.replace(message=_with_refs(response.message, ctx))
            break
    if params.account is not None:
        response = metered(response, params, ctx)
    if ctx.sinks and not model.layered:
        _tell_end(ctx, params, call, response, started)
    return response


async def _escorted(params: ModelHookParams, ctx: Ctx) -> ModelHookParams:
    """Asks all that go along. The call with those of them that want to hear it. A model with layers inside takes them in."""
    model = params.model.escorted(params.escorts, params.attempt)
    if model is not params.model:
        return params.replace(model=model, escorts=())
    for escort in params.escorts:
        await escort.before(params, ctx)
    return params.replace(escorts=tuple([escort for escort in params.escorts if escort.listens]))


async def before_wait(params: ModelHookParams | EmbedHookParams, ctx: Ctx) -> None:
    """For a layer that waits before it sends this: whoever goes along may refuse it now. Raises Rejected."""
    for escort in params.escorts:
        await escort.before_wait(params, ctx)


async def _call_in_parts(params: ModelHookParams, ctx: Ctx) -> ModelResponse:
    """A whole call that somebody listens to: the model answers in parts, which are folded here."""
    folder, parts = Folder(), stream_model(params, ctx)
    try:
        async for part in parts:
            folder.add(part)
    except LamellaError as error:
        folder.tell(error)
        raise
    finally:
        await parts.aclose()
    return folder.response()


def _said(params: ModelHookParams) -> ModelRequest:
    """The request as this model needs to hear it."""
    if params.request.output is None or params.model.layered:
        return params.request
    return ask_in_words(params.request, params.model)


Transform = Callable[[ModelHookParams, Ctx], Awaitable[ModelHookParams]]


async def stream_model(
    params: ModelHookParams, ctx: Ctx, transforms: Sequence[Transform] = ()
) -> AsyncGenerator[StreamPart, None]:
    """Ask the model for parts: a start first, exactly one end last, every tool request with an id."""
    for transform in transforms:
        params = params_of(await transform(params, ctx))
    if params.escorts:
        params = await _escorted(params, ctx)
    model, started = params.model, ctx.clock.now()
    if ctx.committed and not may_go_on(params, ctx):
        raise _already_said(model.name, ctx)
    call = 0
    if not model.layered:
        call = ctx.sent = ctx.sent + 1
        if ctx.sinks:
            _tell_start(ctx, params, call)
    source = model.stream(_said(params), ctx)
    parts = source if ctx.timeouts is None or model.layered else _timed(source, ctx, ctx.timeouts, model.name)
    opening, begun, spoken, running = ResponseStarted(model.name), False, False, False
    heard: list[StreamPart] | None = None if params.account is None else []
    part: Any
    try:
        async for part in parts:
            kind = type(part)
            if running and kind is TextDelta:  # what most parts are: nothing is left to look at
                yield part
                continue
            if kind not in STREAM_PARTS:
                raise nonsense(model.name, part)
            if params.escorts:
                for escort in params.escorts:
                    escort.heard(part)
            if not begun:
                if kind is ResponseStarted:
                    opening = part  # kept until something follows: an attempt that fails at once leaves no trace
                    continue
                if ctx.sinks and not model.layered:
                    ctx.emit('model.first_part', model=model.name, call=call, waited_s=ctx.clock.now() - started)
                yield opening if opening.metadata is None else opening.replace(metadata=None)
                begun = True
            if not spoken and is_content(part):
                if ctx.committed and not may_go_on(params, ctx):
                    raise _already_said(model.name, ctx)  # another call of this turn has the reader's ear
                if params.continues is not None:
                    params.continues.use(ctx.restarts)
                spoken = True
                running = not params.escorts and heard is None
            if kind is ToolRequested and part.tool_request.ref is None:
                part = part.replace(tool_request=with_ref(part.tool_request, ctx))
            if kind is Finished:
                part = _ending(part, opening, model.name)
                if heard is not None:
                    part, heard = metered_end(part, heard, params, ctx), None
                if ctx.sinks and not model.layered:
                    _tell_end(ctx, params, call, part, started)
                    call = 0
                yield part
                if model.layered:
                    await _run_out(parts)
                return
            if heard is not None:
                heard.append(part)
            yield part
        raise LamellaError('UNAVAILABLE', f'{model.name}: the stream ended before the answer was finished')
    except LamellaError as error:
        if heard is not None:
            metered_failure(error, heard, params, ctx)
            heard = None
        ctx.record_failure(model.name, error, started, call=call)
        raise
    except BaseException as error:
        if call and ctx.sinks:
            _tell_left(ctx, params, call, error, started)
        raise
    finally:
        if heard:
            metered_leaving(heard, params, ctx)
        await close(parts)
        if parts is not source:
            await close(source)


async def _run_out(parts: AsyncIterator[Any]) -> None:
    """Let the layers that are fixed on a model come to their own end, as those around a call do."""
    async for part in parts:
        raise out_of_order(f'{type(part).__name__} after Finished')


def _timed(parts: AsyncIterator[StreamPart], ctx: Ctx, limits: Timeouts, who: str) -> AsyncIterator[StreamPart]:
    """The run's limits for one call: the total is the run's own affair."""
    if limits.first_content_s is None and limits.idle_s is None:
        return parts
    return watched(parts, Patience(ctx.clock, limits.replace(total_s=None), not_in_time(who)))


def may_go_on(params: ModelHookParams, ctx: Ctx) -> bool:
    """Whether this call, made after text has reached the reader, has the leave to add to it."""
    leave = params.continues
    if leave is not None and type(leave) is not Continuing:
        raise LamellaError('FAILED_PRECONDITION', f'continues={leave!r}: give Continuing(), the leave for one answer')
    return leave is not None and leave.is_left(ctx.restarts)


def _ending(finished: Finished, start: ResponseStarted, model: str) -> Finished:
    """The end, with what the start noted: layers may change it until then, and a fold takes the last word."""
    if start.metadata is not None:
        finished = finished.replace(metadata={**start.metadata, **(finished.metadata or {})})
    if finished.model is None or finished.id is None:
        finished = finished.replace(model=finished.model or start.model or model, id=finished.id or start.id)
    return finished


async def close(parts: AsyncIterator[Any]) -> None:
    """Close an async generator; any other iterator has nothing to close."""
    if isinstance(parts, AsyncGenerator):
        await parts.aclose()


def params_of(given: Any) -> ModelHookParams:
    """What `transform_params` returned. Raises FAILED_PRECONDITION when that is something else."""
    if type(given) is ModelHookParams:
        return given
    raise LamellaError(
        'FAILED_PRECONDITION',
        f'a layer returned {type(given).__name__}: transform_params must return the params that it was given, or a copy',
    )


def with_ref(request: ToolRequest, ctx: Ctx) -> ToolRequest:
    """The request with an id, for providers that give none."""
    return request.replace(ref=f'call_{ctx.random.getrandbits(64):016x}')


def _with_refs(message: Message, ctx: Ctx) -> Message:
    return message.replace(
        content=tuple(
            [
                part.replace(tool_request=with_ref(part.tool_request, ctx))
                if type(part) is ToolRequestPart and part.tool_request.ref is None
                else part
                for part in message.content
            ]
        )
    )


def _tell_start(ctx: Ctx, params: ModelHookParams, call: int) -> None:
    """`call` numbers the requests of a run that were handed to a model, so that what belongs together can be found."""
    ctx.outgoing = _NO_HEADERS
    ctx.emit('model.start', model=params.model.name, attempt=params.attempt, call=call, request=params.request)


def _tell_end(ctx: Ctx, params: ModelHookParams, call: int, answer: ModelResponse | Finished, started: float) -> None:
    ctx.emit(
        'model.end',
        model=params.model.name,
        attempt=params.attempt,
        call=call,
        answered_by=answer.model,
        id=answer.id,
        finish_reason=answer.finish_reason,
        usage=answer.usage,
        duration_s=ctx.clock.now() - started,
    )


def _tell_left(ctx: Ctx, params: ModelHookParams, call: int, error: BaseException, started: float) -> None:
    """Cancelled, left by the reader, or broken by an error in the program."""
    why = 'left' if isinstance(error, GeneratorExit) else 'cancelled' if isinstance(error, CancelledError) else 'broken'
    took = ctx.clock.now() - started
    ctx.emit(
        'model.left', model=params.model.name, attempt=params.attempt, call=call, why=why, error=error, duration_s=took
    )


def _already_said(model: str, ctx: Ctx) -> LamellaError:
    """The commit rule: after the first text nobody silently starts over, whatever a layer tries."""
    failed = ctx._last_error
    why = f' (the first attempt failed: {failed})' if failed is not None else ''
    error = LamellaError(
        failed.status if failed is not None else 'FAILED_PRECONDITION',
        f'{model} was called after text had reached the reader{why}. Restart visibly with a Restarted part, hold the stream '
        "back with commit='finish', or go on from that text with params.replace(continues=Continuing())",
    )
    error.__cause__ = failed
    return error


def nonsense(model: str, answer: object) -> LamellaError:
    """The error for a model that answers with something that is no answer."""
    return LamellaError(
        'FAILED_PRECONDITION',
        f'{model} answered with {type(answer).__name__}: a model returns a ModelResponse (ModelResponse.text_of("…") for '
        'plain text) or yields stream parts',
    )
