"""The embedding port: what is needed of anything that turns texts into vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

from lamella.types import ConfigError, Data, EmbeddingRequest, EmbeddingResponse

if TYPE_CHECKING:
    from lamella.core.context import GenerateMiddlewareContext


class EmbeddingInfo(Data, frozen=True):
    """What one call may hold: `max_batch` texts of `max_batch_bytes` together (in UTF-8, where a token has at least one
    byte); `None` for no limit. A single text that is longer goes alone, and the provider decides."""

    max_batch: int | None = None
    max_batch_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ('max_batch', 'max_batch_bytes'):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigError(f'{name}={value!r}: give a whole number of at least 1, or None for no limit')


class EmbeddingModel(ABC):
    """Turns texts into vectors. `name` is `provider/model`; `embed` may be called concurrently.

    It gets no more texts than its limits allow, and gives one vector for each, in order. It raises `LamellaError` with a
    status when the provider fails, translated once at this edge. `layered` says that its calls go through layers to a model
    inside: events are that one's.
    """

    name: str
    info: EmbeddingInfo = EmbeddingInfo()
    layered: bool = False

    @abstractmethod
    async def embed(self, request: EmbeddingRequest, ctx: GenerateMiddlewareContext) -> EmbeddingResponse: ...

    def limits(self, ctx: GenerateMiddlewareContext) -> EmbeddingInfo:
        """What one call may hold, also for a model that is looked up in the app of the call."""
        return self.info

    @property
    def provider(self) -> str:
        """The part of the name before the first slash."""
        return self.name.split('/', 1)[0]

    @property
    def option_keys(self) -> tuple[str, ...]:
        """The keys of `provider_options` that this model reads."""
        return (self.provider,)

    def escorted(self, escorts: tuple[Any, ...], attempt: int) -> Self:
        """As of a `Model`."""
        return self

    async def aclose(self) -> None:
        """Free what the model holds (connections). Called once, by whoever built it."""
