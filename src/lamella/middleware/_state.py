"""What layers that remember share: the setting `store=`, and what is done when the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import BeforeValidator, PlainSerializer

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.ports import NeverWaits, Store
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
    @property
    def name(self) -> Any: ...  # a ClassVar of the layer


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


async def unbroken(
    store: Store, verb: Coroutine[Any, Any, T], undo: Callable[[T], Coroutine[Any, Any, Any]] | None = None
) -> T:
    """The verb's answer, waited for to the end also when the call is cancelled in the middle of it: what a store has done
    and nobody heard of would be lost. Then `undo` is done with the answer, and the cancellation passes.
    """
    if isinstance(store, NeverWaits):
        return await verb
    task = asyncio.ensure_future(verb)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(LamellaError):
            answer = await _to_the_end(task)
            if undo is not None:
                await _to_the_end(asyncio.ensure_future(undo(answer)))
        raise


async def _to_the_end(task: asyncio.Future[T]) -> T:
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    return task.result()
