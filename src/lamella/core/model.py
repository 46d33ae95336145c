"""The model port: what the engine needs of anything that answers requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal, Self

from lamella.types import Data, ModelRequest, ModelResponse, StreamPart

if TYPE_CHECKING:
    from lamella.core.context import GenerateMiddlewareContext


class ModelInfo(Data, frozen=True):
    """What a model can do. `structured_output='native'` means that the provider itself holds the answer to a schema;
    otherwise the engine asks for it in words."""

    structured_output: Literal['native', 'instructions'] = 'instructions'
    tools: bool = True
    streaming: bool = True


class Model(ABC):
    """Answers requests. `name` is `provider/model`; both methods may be called concurrently.

    Both raise `LamellaError` with a status when the provider fails, translated once at this edge. `stream` yields a
    `ResponseStarted` first and one `Finished` last, and its iterator is an async generator: closing it cancels the call.
    `layered` says that its calls go through layers to a model inside: events and timeouts are that one's.
    """

    name: str
    info: ModelInfo = ModelInfo()
    layered: bool = False

    @abstractmethod
    async def generate(self, request: ModelRequest, ctx: GenerateMiddlewareContext) -> ModelResponse: ...

    @abstractmethod
    def stream(self, request: ModelRequest, ctx: GenerateMiddlewareContext) -> AsyncIterator[StreamPart]: ...

    @property
    def provider(self) -> str:
        """The part of the name before the first slash."""
        return self.name.split('/', 1)[0]

    @property
    def option_keys(self) -> tuple[str, ...]:
        """The keys of `provider_options` that this model reads. A fallback of another vendor is not shown what they hold."""
        return (self.provider,)

    def filled(self, request: ModelRequest) -> ModelRequest:
        """The request as this model takes it: with settings of its own where the request has none."""
        return request

    def escorted(self, escorts: tuple[Any, ...], attempt: int) -> Self:
        """The model for one call on which escorts go along, and which is this attempt: one with layers inside (`layered`) hands
        both on to them; any other is itself, and the escorts are asked before it."""
        return self

    async def aclose(self) -> None:
        """Free what the model holds (connections). Called once, by whoever built it."""
