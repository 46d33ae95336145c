"""The app: models, tools and layers by name, and the calls made with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from random import Random
from typing import Any, ParamSpec, TypeVar

from typing_extensions import Unpack

from lamella.core.bridge import Ended, answer_of
from lamella.core.clock import SYSTEM_CLOCK, Clock
from lamella.core.context import SYSTEM_RANDOM, GenerateMiddlewareContext
from lamella.core.events import Sink
from lamella.core.middleware import BaseMiddleware
from lamella.core.model import Model
from lamella.core.models import FunctionModel, ModelRef
from lamella.core.plugin import Plugin
from lamella.core.ports import Store
from lamella.core.stack import Stack
from lamella.core.timeouts import Cutoff
from lamella.core.tools import Tool, tool_of
from lamella.engine.flows import Flow
from lamella.engine.interrupts import Ledger
from lamella.engine.options import GenerateOptions
from lamella.engine.prepare import Stacks, positive, prepare, prepare_request
from lamella.engine.registry import Registry
from lamella.engine.run import Run, run_whole
from lamella.engine.shelf import StoreShelf
from lamella.engine.stream import GenerateStream, around, last_part, note, run_parts, stopped
from lamella.engine.sync import SyncDoor
from lamella.types import (
    ConfigError,
    ControlFlow,
    GenerateResponse,
    LamellaError,
    ModelRequest,
    StopRun,
    StreamPart,
    TextDelta,
)

P = ParamSpec('P')
R = TypeVar('R')
F = TypeVar('F', bound=Callable[..., Any])
L = TypeVar('L', bound=type[BaseMiddleware[Any]])
Ctx = GenerateMiddlewareContext


class Lamella:
    """An app. `model` is asked when a call names none; `use` are layers around every call, outside the call's own.

    `store` is where layers remember what outlives a call, when they name no store of their own: a store or a URL, memory when
    left out. `sinks` are functions that receive every event. `max_parallel_tools` bounds the tools of one turn that run at once.
    `clock` and `random` are for tests. Raises ConfigError for settings that cannot work.
    """

    def __init__(
        self,
        *,
        plugins: Sequence[Plugin] = (),
        model: str | Model | ModelRef | Callable[..., Any] | None = None,
        use: Iterable[BaseMiddleware[Any] | Stack] = (),
        store: Store | str | None = None,
        sinks: Sequence[Sink] = (),
        max_turns: int = 50,
        max_parallel_tools: int = 8,
        clock: Clock = SYSTEM_CLOCK,
        random: Random = SYSTEM_RANDOM,
    ) -> None:
        self.max_turns = positive('max_turns', max_turns)
        self.max_parallel_tools = positive('max_parallel_tools', max_parallel_tools)
        self.registry = Registry(plugins)
        self.default_model = model
        self._default: Model | None = None
        self.stack = Stack(use)
        self.sinks = _listeners(sinks)
        self.clock, self.random = clock, random
        self.shelf = StoreShelf(store, clock)
        self.ledger = Ledger()
        self.stacks = Stacks(self.stack)
        self.sync = SyncDoor(self)

    async def generate(self, **options: Unpack[GenerateOptions]) -> GenerateResponse:
        """Ask, run the tools that are asked for, and ask again until the model is done.

        Raises ConfigError for wrong options, OutputError for an answer that does not fit `output_schema`, and LamellaError
        with a status, the attempts and what had arrived when the call fails.
        """
        run, ctx = prepare(self, options, streaming=False)
        if ctx.deadline is None:
            return await _whole(run, ctx)
        async with Cutoff(ctx.clock, ctx.deadline - ctx.clock.now(), lambda: _too_long(ctx)):
            return await _whole(run, ctx)

    def generate_stream(self, **options: Unpack[GenerateOptions]) -> GenerateStream:
        """The same as a stream. Wrong options raise here; failures raise from the loop that reads."""
        run, ctx = prepare(self, options, streaming=True)
        return GenerateStream(lambda stream: _parts(run, ctx, stream))

    async def call_model(
        self,
        request: ModelRequest,
        *,
        model: str | Model | ModelRef | Callable[..., Any] | None = None,
        use: Sequence[BaseMiddleware[Any] | Stack] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> GenerateResponse:
        """One model call through the layers, for a request that is already made: tool requests are returned and not run."""
        return await _whole(*prepare_request(self, request, model, use, context, streaming=False))

    def call_model_stream(
        self,
        request: ModelRequest,
        *,
        model: str | Model | ModelRef | Callable[..., Any] | None = None,
        use: Sequence[BaseMiddleware[Any] | Stack] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> GenerateStream:
        """`call_model` as a stream."""
        run, ctx = prepare_request(self, request, model, use, context, streaming=True)
        return GenerateStream(lambda stream: _parts(run, ctx, stream))

    def default(self) -> Model:
        """The model that is asked when a call names none. Raises ConfigError when the app has none either."""
        if self._default is None:
            if self.default_model is None:
                raise ConfigError("no model: give model='provider/name' to generate, or to Lamella(…) as the default")
            self._default = self.registry.model(self.default_model)
        return self._default

    def resolve_model(self, model: Any) -> Model:
        """The model of that name, function, reference or object. Raises UnknownNameError with the nearest names."""
        return self.registry.model(model)

    def resolve_store(self, store: Store | str | None) -> Store:
        """The store of that URL, opened once for this app; the app's own for `None`. Raises ConfigError."""
        return self.shelf.get(store)

    def flow(self, name: str | None = None) -> Callable[[Callable[P, Awaitable[R]]], Flow[P, R]]:
        """Register an async function of one input as a flow. It stays callable as it is."""
        _refuse_function(name, 'flow')

        def register(function: Callable[P, Awaitable[R]]) -> Flow[P, R]:
            flow = Flow(function, name or function.__name__, self)
            self.registry.flows[flow.name] = flow
            return flow

        return register

    def tool(self, name: str | None = None, *, description: str | None = None) -> Callable[[F], F]:
        """Register a function as a tool. It stays a function, and can be named or given in `tools=[…]`."""
        _refuse_function(name, 'tool')

        def register(function: F) -> F:
            made = tool_of(function, name, description)
            self.registry.tools[made.name] = made
            if not isinstance(function, Tool):
                self.registry.remember(function, made)
            return function

        return register

    def model(self, name: str) -> Callable[[F], F]:
        """Register an async function of `(request, ctx)` as a model: it returns a `ModelResponse` or yields stream parts."""
        _refuse_function(name, 'model')

        def register(function: F) -> F:
            self.registry.add_model(name, FunctionModel(function, name))
            return function

        return register

    def middleware(self, name: str | None = None) -> Callable[[L], L]:
        """Register a layer class under a name, for chains in files and for tools. Not needed for `use=[…]`."""
        _refuse_function(name, 'middleware')

        def register(layer: L) -> L:
            self.registry.add_layer(layer.name if name is None else name, layer)
            if name is not None:
                layer.name = name
            return layer

        return register

    def run_main(self, main: Coroutine[Any, Any, R]) -> R:
        """Run a program's main coroutine to its end, close the app, and return its result or raise its exception."""

        async def run() -> R:
            try:
                return await main
            finally:
                await self.aclose()

        return asyncio.run(run())

    async def aclose(self) -> None:
        """Close the connections of plugins and stores. The app can be used again afterwards."""
        self.sync.close()
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.shelf.aclose)
            for plugin in self.registry.plugins.values():
                closing.push_async_callback(plugin.aclose)

    async def __aenter__(self) -> Lamella:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()


def _listeners(sinks: Any) -> tuple[Sink, ...]:
    if not isinstance(sinks, (list, tuple)) or not all(callable(sink) for sink in sinks):
        raise ConfigError(f'sinks= takes a list of functions of one event, not {sinks!r}')
    return tuple(sinks)


def _refuse_function(name: object, decorator: str) -> None:
    if name is not None and not isinstance(name, str):
        raise ConfigError(f'write @ai.{decorator}() with brackets')


def _too_long(ctx: Ctx) -> LamellaError:
    limit = ctx.timeouts.total_s if ctx.timeouts is not None else None
    return LamellaError('DEADLINE_EXCEEDED', f'generate: not done within timeout_s={limit:g}', attempts=ctx.attempts)


async def _whole(run: Run, ctx: Ctx) -> GenerateResponse:
    call = run.stack.around('wrap_run', run_whole)
    if ctx.sinks:
        ctx.emit('run.start', model=run.model.name, streaming=False)
    try:
        response = _run_response(await call(run.params, ctx), run)
    except StopRun as stop:
        response = run.stopped(stop)
    except BaseException as error:
        failed = _failed(error, ctx)
        raise failed from (error.__cause__ if failed is error else error)
    if ctx.sinks:
        _tell_end(response, ctx)
    return response


async def _parts(run: Run, ctx: Ctx, stream: GenerateStream) -> AsyncGenerator[StreamPart, None]:
    stream.begin()
    items = around('wrap_run', run.stack, run_parts)(run.params, ctx)
    if ctx.deadline is not None:
        items = _in_time(items, ctx)
    if ctx.sinks:
        ctx.emit('run.start', model=run.model.name, streaming=True)
    try:
        async for item in items:
            kind = type(item)
            if kind is Ended:
                yield _last(_run_response(item.response, run), run, ctx, stream)
                continue
            if kind is not TextDelta or not ctx.committed:
                note(item, run, ctx)
            yield item
    except StopRun as stop:
        for item in stopped(stop, run, ctx):
            yield _last(_run_response(item.response, run), run, ctx, stream) if type(item) is Ended else item
    except GeneratorExit:
        if ctx.sinks and not stream.is_settled:
            ctx.emit('run.error', error=asyncio.CancelledError('the reader left the stream'))
        raise
    except BaseException as error:
        failed = _failed(error, ctx)
        stream.end(failed)
        raise failed from (error.__cause__ if failed is error else error)
    finally:
        await items.aclose()
        stream.end()


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
            async with Cutoff(ctx.clock, ctx.remaining_s() or 0.0, lambda: _too_long(ctx)):
                item = await anext(items, end)
            if item is end:
                return
            yield item
    finally:
        await items.aclose()


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
    )
