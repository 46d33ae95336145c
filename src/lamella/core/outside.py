"""What stands in for the app where there is none: for a wrapped model that is called by itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Mapping
from random import Random
from typing import Any, NoReturn

from lamella.core.bridge import answer_of, can_end, out_of_order
from lamella.core.calls import close
from lamella.core.clock import SYSTEM_CLOCK, Clock
from lamella.core.context import SYSTEM_RANDOM, GenerateMiddlewareContext
from lamella.core.embedding import EmbeddingModel
from lamella.core.events import Sink
from lamella.core.model import Model
from lamella.core.ports import Store
from lamella.core.prices import Prices, PriceShelf
from lamella.core.shelf import StoreShelf
from lamella.types import (
    ConfigError,
    ControlFlow,
    Folder,
    LamellaError,
    ModelResponse,
    ResponseStarted,
    Restarted,
    StopRun,
    StreamPart,
    finished_of,
    is_content,
    unfold_content,
)

Ctx = GenerateMiddlewareContext


class Outside:
    """No app: knows no names, and keeps what layers remember in a memory of its own. URLs of stores are opened as by an app."""

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self._shelf, self._prices = StoreShelf(None, clock), PriceShelf()

    def resolve_model(self, model: Any) -> Model:
        """The model itself. Raises ConfigError for what only an app can look up."""
        return model if isinstance(model, Model) else _needs_an_app(model, 'Model')

    def resolve_embedding_model(self, model: Any) -> EmbeddingModel:
        """The model itself. Raises ConfigError for what only an app can look up."""
        return model if isinstance(model, EmbeddingModel) else _needs_an_app(model, 'EmbeddingModel')

    def resolve_store(self, store: Store | str | None) -> Store:
        """The store of that URL, opened once; a memory for `None`."""
        return self._shelf.get(store)

    def resolve_prices(self, prices: Mapping[str, Any] | Prices | None) -> Prices:
        """Who answers for these prices; genai-prices for `None`."""
        return self._prices.get(prices)

    async def aclose(self) -> None:
        """Close what was opened here."""
        await self._shelf.aclose()


def _needs_an_app(model: Any, kind: str) -> NoReturn:
    name = model if isinstance(model, str) else getattr(model, 'name', model)
    raise ConfigError(
        f'{name!r} can only be looked up in an app, and this call has none: wrap the model itself instead of its name (a '
        f"plugin's is such a {kind}, as OpenAI().model('gpt-5') is), or call through Lamella(plugins=[…])"
    )


def outside_context(
    home: Outside | None = None,
    *,
    context: Mapping[str, Any] | None = None,
    clock: Clock = SYSTEM_CLOCK,
    random: Random = SYSTEM_RANDOM,
    sinks: tuple[Sink, ...] = (),
    is_streaming: bool = False,
) -> Ctx:
    """The context of one call that no app makes. Calls that share a `home` share what their layers remember."""
    if context is not None and not isinstance(context, Mapping):
        raise ConfigError(f'context is a {type(context).__name__}: give a dict')
    return Ctx(home or Outside(clock), context, clock, random, None, is_streaming, sinks)


async def whole(call: Coroutine[Any, Any, ModelResponse], ctx: Ctx) -> ModelResponse:
    """One whole call. A failure leaves with the attempts that were made; a `StopRun` is an answer."""
    try:
        return answer_of(await call)
    except StopRun as stop:
        return _stopped(stop)
    except (LamellaError, ControlFlow) as error:
        failed = _told(error, ctx)
        raise failed from (error.__cause__ if failed is error else error)


async def streamed(parts: AsyncIterator[StreamPart], ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
    """One call part by part, with the commit rule of a run: what the reader has seen is never taken back in silence."""
    folder = Folder()
    try:
        async for part in parts:
            _note(part, ctx)
            folder.add(part)
            yield part
    except StopRun as stop:
        for part in _last_words(_stopped(stop), folder.response(), ctx):
            yield part
    except (LamellaError, ControlFlow) as error:
        failed = _told(error, ctx)
        folder.tell(failed)
        raise failed from (error.__cause__ if failed is error else error)
    finally:
        await close(parts)
        await ctx.close_streams()


def _note(part: StreamPart, ctx: Ctx) -> None:
    kind = type(part)
    if is_content(part):
        ctx.committed = True
    elif kind is Restarted:
        ctx.committed = False
        ctx.restarts += 1
    elif kind is ResponseStarted and ctx.committed:
        raise out_of_order('a second start after content, and no Restarted before it')


def _stopped(stop: StopRun) -> ModelResponse:
    """A single call has no stop reason of its own: the finish message tells it."""
    answer = stop.response or ModelResponse(finish_reason='other')
    return answer.replace(finish_message=answer.finish_message or str(stop))


def _last_words(answer: ModelResponse, seen: ModelResponse, ctx: Ctx) -> Iterator[StreamPart]:
    """The end of a stopped stream, with the answer that the `StopRun` brings, unless the reader has just that."""
    if not (ctx.committed and can_end(answer, seen)):
        if ctx.committed:
            yield Restarted(f'the call was stopped: {answer.finish_message}')
        yield ResponseStarted(answer.model, answer.id)
        yield from unfold_content(answer)
    yield finished_of(answer)


def _told(error: LamellaError | ControlFlow, ctx: Ctx) -> LamellaError:
    """The error with every attempt. Control flow that nobody understood becomes an error."""
    if isinstance(error, ControlFlow):
        return LamellaError('FAILED_PRECONDITION', f'{type(error).__name__} raised outside a tool call: {error}')
    error.attempts = error.attempts or tuple(ctx.attempts)
    return error
