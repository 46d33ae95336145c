"""What layers that remember share: the setting `store=`, and what is done when the store is away."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import BeforeValidator, PlainSerializer

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.stores import check_store
from lamella.types import LamellaError, Rejected

T = TypeVar('T')
Ctx = GenerateMiddlewareContext
OnStoreError = Literal['allow', 'refuse']


def _store(given: Any) -> Any:
    check_store(given)
    return given


# A store, a URL, or `None` for the app's own; use it as `ctx.ai.resolve_store(self.config.store)`.
StoreSetting = Annotated[Any, BeforeValidator(_store), PlainSerializer(str, when_used='json-unless-none')]


class _Named(Protocol):
    name: Any  # a ClassVar of the layer


async def ask_store(layer: _Named, ctx: Ctx, verb: Awaitable[T], on_store_error: OnStoreError, otherwise: T) -> T:
    """The verb's answer. When the store is away: `otherwise` for `allow`, and for `refuse` a Rejected (UNAVAILABLE) that
    names the layer. Either way it is told as the event `store.away(by, action, error)`.
    """
    try:
        return await verb
    except LamellaError as error:
        ctx.emit('store.away', by=layer.name, action=on_store_error, error=error)
        if on_store_error == 'allow':
            return otherwise
        raise Rejected(f'its store is away: {error.message}', by=layer, status='UNAVAILABLE') from error
