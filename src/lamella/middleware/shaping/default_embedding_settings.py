"""`DefaultEmbeddingSettings`: settings for every embedding call that does not say otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypedDict, Unpack

from pydantic import BaseModel, Field

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextEmbed
from lamella.core.params import EmbedHookParams
from lamella.middleware._provider_options import ProviderOptions, merged
from lamella.types import EmbeddingResponse

Ctx = GenerateMiddlewareContext


class DefaultEmbeddingSettingsConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `DefaultEmbeddingSettings`."""

    dimensions: Annotated[
        int | None, Field(strict=True, ge=1, description="The wanted length of the vectors; None for the model's own.")
    ] = None
    provider_options: Annotated[
        ProviderOptions, Field(description="Options by provider; merged with the call's own at every depth.")
    ] = {}


class DefaultEmbeddingSettingsOptions(TypedDict, total=False):
    """The keywords of `DefaultEmbeddingSettings`."""

    dimensions: int | None
    provider_options: Mapping[str, Mapping[str, Any]]


class DefaultEmbeddingSettings(BaseMiddleware[DefaultEmbeddingSettingsConfig]):
    """Fills in what an embedding request leaves open, as `defaultEmbeddingSettingsMiddleware` of the Vercel AI SDK does
    (ai-sdk.dev/docs/reference/ai-sdk-core).

    What the call sets wins. `provider_options` are merged at every depth; lists and other values of the call replace.
    """

    def __init__(
        self,
        config: DefaultEmbeddingSettingsConfig | None = None,
        **options: Unpack[DefaultEmbeddingSettingsOptions],
    ) -> None:
        super().__init__(config, **options)

    async def wrap_embed(self, params: EmbedHookParams, ctx: Ctx, next_fn: NextEmbed) -> EmbeddingResponse:
        defaults, request = self.config, params.request
        dimensions = defaults.dimensions if request.dimensions is None else request.dimensions
        options = merged(defaults.provider_options, request.provider_options)
        return await next_fn(
            params.replace(request=request.replace(dimensions=dimensions, provider_options=options)), ctx
        )
