"""`OTelMiddleware`: one tree of OpenTelemetry spans for each run, and measurements."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict, Unpack

from pydantic import BaseModel, BeforeValidator, Field

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextEmbed, NextTool
from lamella.core.params import EmbedHookParams, ModelHookParams, ToolHookParams
from lamella.core.spans import SpanTree
from lamella.core.tools import Tool
from lamella.middleware._fields import Switch
from lamella.types import ConfigError, EmbeddingResponse, Interrupt, ToolResponse

Ctx = GenerateMiddlewareContext


def _with(method: str, what: str) -> Any:
    def check(given: Any) -> Any:
        if given is None or hasattr(given, method) or hasattr(given, f'get_{what}'):
            return given
        raise ValueError(
            f'is a {type(given).__name__}: give a {what} of OpenTelemetry or its provider, or None for the global one'
        )

    return BeforeValidator(check)


class OTelMiddlewareConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `OTelMiddleware`."""

    tracer: Annotated[
        Any, _with('start_span', 'tracer'), Field(description='A tracer or its provider; the global one when left out.')
    ] = None
    meter: Annotated[
        Any,
        _with('create_histogram', 'meter'),
        Field(description='A meter or its provider; the global one when left out.'),
    ] = None
    capture_content: Annotated[
        Switch, Field(description='Record what models and tools are given and what they answer.')
    ] = False
    max_chars: Annotated[int, Field(strict=True, ge=20, description='Where one recorded content is cut.')] = 8_000


class OTelMiddlewareOptions(TypedDict, total=False):
    """The keywords of `OTelMiddleware`."""

    tracer: Any
    meter: Any
    capture_content: bool
    max_chars: int


class OTelMiddleware(BaseMiddleware[OTelMiddlewareConfig]):
    """One span tree for each run: the run, its turns, each call of a model, each tool; what layers decided as span events.

    Attributes are those of OpenTelemetry's conventions for generative AI (1.41, in development there) and `lamella.*`
    beside them. The run's span is a child of the span that the caller stands in; tools run inside of their span, in threads
    too, and a model call carries `traceparent` to the provider. A run that goes on after an interrupt, in this process or
    another one, is linked to the run before it. What models and tools say is recorded only with `capture_content`, as the layers
    inside have left it, and without what looks like a credential.

    Needs `pip install 'lamella[otel]'`. Exporters work in a thread of their own: one that is slow, fails or hangs holds up no
    call, and what it cannot keep up with is dropped (`dropped` counts). `flush(timeout_s)` waits for it, before a program
    ends or in a test; flush the tracer provider after it. It stands in no stream of parts. However often it is in a stack, a
    run is told once to each tracer.
    """

    name = 'otel_middleware'

    def __init__(self, config: OTelMiddlewareConfig | None = None, **options: Unpack[OTelMiddlewareOptions]) -> None:
        super().__init__(config, **options)
        try:
            self._otel: Any = importlib.import_module('lamella.middleware._otel')
        except ModuleNotFoundError as error:
            if (error.name or '').partition('.')[0] != 'opentelemetry':
                raise
            raise ConfigError("OTelMiddleware needs OpenTelemetry: pip install 'lamella[otel]'") from error
        settings = self.config
        capture = settings.max_chars if settings.capture_content else 0
        self._telemetry: Any = self._otel.Telemetry(settings.tracer, settings.meter, capture)

    @property
    def dropped(self) -> int:
        """How much could not be handed to the exporter's thread, which was too far behind."""
        dropped: int = self._telemetry.worker.dropped
        return dropped

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything told so far is with the tracer. False when it took longer; blocks the calling thread."""
        done: bool = self._telemetry.worker.flush(timeout_s)
        return done

    def tools(self, ctx: Ctx) -> Sequence[Tool]:
        self._tree(ctx)
        return ()

    async def transform_params(self, params: ModelHookParams, ctx: Ctx) -> ModelHookParams:
        self._tree(ctx)  # for a layer fixed on a model, which runs do not ask for tools
        return params

    async def wrap_embed(self, params: EmbedHookParams, ctx: Ctx, next_fn: NextEmbed) -> EmbeddingResponse:
        self._tree(ctx)
        return await next_fn(params, ctx)

    async def wrap_tool(self, params: ToolHookParams, ctx: Ctx, next_fn: NextTool) -> ToolResponse:
        tree = self._tree(ctx)
        span = None if tree is None else tree.tool(params.tool_request.ref)
        if span is None:
            return await next_fn(params, ctx)
        token = self._otel.attach(span.context)
        try:
            return await next_fn(params, ctx)
        except Interrupt as interrupt:
            if (parent := self._otel.traceparent_of(span)) is not None:
                interrupt.metadata.setdefault('traceparent', parent)
            raise
        finally:
            self._otel.detach(token)

    def _tree(self, ctx: Ctx) -> SpanTree[Any] | None:
        """The run's tree, begun when first asked for; `None` when another layer tells the same tracer."""
        mine = ctx.state(self)
        if 'tree' not in mine:
            mine['tree'] = self._subscribed(ctx)
        tree: SpanTree[Any] | None = mine['tree']
        return tree

    def _subscribed(self, ctx: Ctx) -> SpanTree[Any] | None:
        told: list[Any] = ctx.state(OTelMiddleware).setdefault('told', [])
        if any(tracer is self._telemetry.tracer for tracer in told):
            return None
        told.append(self._telemetry.tracer)

        def outgoing(headers: dict[str, str]) -> None:
            ctx.outgoing = headers

        offset_s = ctx.clock.time() - ctx.clock.now()
        writer = self._otel.OTelWriter(self._telemetry, self._otel.current_context(), offset_s, outgoing)
        tree: SpanTree[Any] = SpanTree(writer)
        ctx.sinks = (*ctx.sinks, tree)
        return tree
