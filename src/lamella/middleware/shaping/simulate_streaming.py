"""`SimulateStreaming`: a model that is asked for its whole answer, which is then told as a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware
from lamella.core.model import Model
from lamella.core.params import ModelHookParams
from lamella.types import ModelRequest, ModelResponse, StreamPart, unfold

Ctx = GenerateMiddlewareContext


class SimulateStreaming(BaseMiddleware[Any]):
    """Makes streams out of whole answers, as `simulateStreamingMiddleware` of the Vercel AI SDK does
    (ai-sdk.dev/docs/reference/ai-sdk-core/simulate-streaming-middleware): for models that cannot stream, or not well.

    Each part of the answer comes in one piece, when the answer is there. Calls that do not stream are not touched. It holds
    for the model that the call arrives with: place it inside of layers that change the model, or fix it on one.
    """

    async def transform_params(self, params: ModelHookParams, ctx: Ctx) -> ModelHookParams:
        return params.replace(model=WholeModel(params.model)) if ctx.is_streaming else params


class WholeModel(Model):
    """The same model, never asked for a stream."""

    def __init__(self, inner: Model) -> None:
        self.inner, self.name, self.info, self.layered = inner, inner.name, inner.info, inner.layered

    def __repr__(self) -> str:
        return f'WholeModel({self.inner!r})'

    @property
    def option_keys(self) -> tuple[str, ...]:
        return self.inner.option_keys

    def filled(self, request: ModelRequest) -> ModelRequest:
        return self.inner.filled(request)

    def escorted(self, escorts: tuple[Any, ...], attempt: int) -> WholeModel:
        inner = self.inner.escorted(escorts, attempt)
        return self if inner is self.inner else WholeModel(inner)

    async def generate(self, request: ModelRequest, ctx: Ctx) -> ModelResponse:
        return await self.inner.generate(request, ctx)

    async def stream(self, request: ModelRequest, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        response: object = await self.inner.generate(request, ctx)
        if not isinstance(response, ModelResponse):
            yield response  # type: ignore[misc]  # no answer at all: the call says so
            return
        for part in unfold(response):
            yield part

    async def aclose(self) -> None:
        await self.inner.aclose()
