"""`Timeout`: no model call takes longer than it may, in all, until its first content, or between two parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, TypedDict, Unpack

from pydantic import BaseModel, Field, model_validator

from lamella.core.calls import close
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextEmbed, NextModel, NextStream
from lamella.core.order import Order
from lamella.core.params import EmbedHookParams, Escort, ModelHookParams
from lamella.core.timeouts import Cut, Patience, Timeouts, watched
from lamella.middleware._fields import Duration
from lamella.types import EmbeddingResponse, LamellaError, ModelResponse, StreamPart

Ctx = GenerateMiddlewareContext
Seconds = Annotated[Duration, Field(gt=0)]


class TimeoutConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `Timeout`."""

    total_s: Annotated[Seconds | None, Field(description='The longest wait for the whole answer; None for any.')] = None
    first_content_s: Annotated[
        Seconds | None, Field(description='The longest wait for the first content; None for any.')
    ] = None
    idle_s: Annotated[
        Seconds | None, Field(description='The longest wait between two parts of the answer; None for any.')
    ] = None

    @model_validator(mode='after')
    def _limits_something(self) -> TimeoutConfig:
        if self.total_s is None and self.first_content_s is None and self.idle_s is None:
            raise ValueError('limits nothing: give total_s, first_content_s or idle_s')
        return self


class TimeoutOptions(TypedDict, total=False):
    """The keywords of `Timeout`."""

    total_s: float | None
    first_content_s: float | None
    idle_s: float | None


class Timeout(BaseMiddleware[TimeoutConfig]):
    """Ends a call that takes too long with DEADLINE_EXCEEDED, which can be retried like any provider's timeout.

    `total_s` is for the whole answer, `first_content_s` until its first content, `idle_s` between two parts (before the first
    content too, where that has no limit of its own). Only waiting counts: a reader may take its time, and is never cut. The
    provider's request is closed at once.

    All three hold for whole calls and for streams. Nobody can tell a whole answer that is long in coming from one that never
    comes, so with `first_content_s` or `idle_s` the model is asked for a stream, also by `generate`. Inside of `Retry` each
    attempt has the limits, outside of it all attempts together, waits between them included.

    Events: `timeout.cut(model, limit, limit_s, status, duration_s, error)`. The error's `details` have `by`, `limit` and
    `limit_s`.
    """

    order = Order(better_inside={'cache': 'an answer that is there would be timed too'})

    def __init__(self, config: TimeoutConfig | None = None, **options: Unpack[TimeoutOptions]) -> None:
        super().__init__(config, **options)
        c = self.config
        self._limits = Timeouts(c.total_s, c.first_content_s, c.idle_s)
        self._listens = c.first_content_s is not None or c.idle_s is not None

    async def wrap_model(self, params: ModelHookParams, ctx: Ctx, next_fn: NextModel) -> ModelResponse:
        patience = Patience(ctx.clock, self._limits, self._cut(params, ctx))
        asked = params.escorted(_Ear(patience)) if self._listens else params
        try:
            with patience:
                return await next_fn(asked, ctx)
        finally:
            patience.close()

    async def wrap_stream(self, params: ModelHookParams, ctx: Ctx, next_fn: NextStream) -> AsyncIterator[StreamPart]:
        patience = Patience(ctx.clock, self._limits, self._cut(params, ctx))
        parts = next_fn(params.escorted(_Ear(patience)) if self._listens else params, ctx)
        timed = watched(parts, patience)
        try:
            async for part in timed:
                yield part
        finally:
            await close(timed)
            await close(parts)

    async def wrap_embed(self, params: EmbedHookParams, ctx: Ctx, next_fn: NextEmbed) -> EmbeddingResponse:
        """Only `total_s` holds: an embedding model gives all or nothing."""
        patience = Patience(ctx.clock, Timeouts(self.config.total_s), self._cut(params, ctx))
        try:
            with patience:
                return await next_fn(params, ctx)
        finally:
            patience.close()

    def _cut(self, params: ModelHookParams | EmbedHookParams, ctx: Ctx) -> Cut:
        model, started = params.model.name, ctx.clock.now()

        def cut(field: str, seconds: float) -> LamellaError:
            details = {'by': self.name, 'limit': field, 'limit_s': seconds}
            error = LamellaError('DEADLINE_EXCEEDED', sentence(model, field, seconds), details=details)
            ctx.record_failure(model, error, started, 'timeout.cut', limit=field, limit_s=seconds)
            return error

        return cut


class _Ear(Escort):
    """Hears the model itself: a layer between may hold its answer back."""

    __slots__ = ('heard',)
    listens = True

    def __init__(self, patience: Patience) -> None:
        self.heard = patience.heard  # type: ignore[method-assign]


def sentence(model: str, field: str, seconds: float) -> str:
    what = {'total_s': 'was not done', 'first_content_s': 'gave no content', 'idle_s': 'gave nothing more'}[field]
    return f'{model} {what} within {field}={seconds:g} (limit of timeout)'
