"""Embedding models made of other things: of a function, of a model with layers fixed on it; and the innermost ring of a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.embedding import EmbeddingInfo, EmbeddingModel
from lamella.core.middleware import BaseMiddleware
from lamella.core.outside import Outside, outside_context
from lamella.core.params import EmbedHookParams, Escort
from lamella.core.stack import Stack
from lamella.core.static import fixed_stack, named_after
from lamella.types import ConfigError, EmbeddingRequest, EmbeddingResponse, LamellaError, Status, Vector

Ctx = GenerateMiddlewareContext
_NO_LIMITS = EmbeddingInfo()


async def call_embedding(params: EmbedHookParams, ctx: Ctx) -> EmbeddingResponse:
    """Ask the model. Raises what the model raises; INTERNAL when it does not give one vector for each text."""
    if params.escorts:
        model = params.model.escorted(params.escorts, params.attempt)
        if model is params.model:
            for escort in params.escorts:
                await escort.before(params, ctx)
        params = params.replace(model=model, escorts=())
    model, started, texts = params.model, ctx.clock.now(), len(params.request.texts)
    tells, call = bool(ctx.sinks) and not model.layered, 0
    if not model.layered:
        call = ctx.sent = ctx.sent + 1
    if tells:
        ctx.emit('embedding.start', model=model.name, attempt=params.attempt, call=call, texts=texts)
    try:
        response = _answered(await model.embed(params.request, ctx), model.name, texts)
    except LamellaError as error:
        ctx.record_failure(model.name, error, started, 'embedding.error', call=call)
        raise
    if tells:
        took = ctx.clock.now() - started
        facts = {'model': model.name, 'attempt': params.attempt, 'call': call, 'texts': texts, 'usage': response.usage}
        ctx.emit('embedding.end', **facts, duration_s=took)
    return response


def _answered(response: Any, model: str, texts: int) -> EmbeddingResponse:
    if type(response) is not EmbeddingResponse:
        raise LamellaError(
            'FAILED_PRECONDITION',
            f'{model} answered with {type(response).__name__}: an embedding model returns an EmbeddingResponse',
        )
    if len(response.vectors) != texts:
        raise LamellaError('INTERNAL', f'{model} answered {texts} texts with {len(response.vectors)} vectors')
    return response if response.model is not None else response.replace(model=model)


class FunctionEmbeddingModel(EmbeddingModel):
    """An embedding model that is a coroutine function of `(request, ctx)`: it returns an `EmbeddingResponse`, or a list of
    vectors. Connection failures and timeouts of the function become UNAVAILABLE and DEADLINE_EXCEEDED."""

    def __init__(self, function: Callable[..., Any], name: str | None = None, info: EmbeddingInfo = _NO_LIMITS) -> None:
        self.name = str(name or getattr(function, '__name__', 'function'))
        self.info = info
        self._function = function
        if not callable(function):
            raise ConfigError(f'an embedding model is a name, an EmbeddingModel or a function, not {function!r}')
        if not any(map(inspect.iscoroutinefunction, (function, type(function).__call__))):
            raise ConfigError(f'embedding model {self.name!r}: write `async def` (returning vectors)')
        try:
            inspect.signature(function).bind(None, None)
        except TypeError as error:
            raise ConfigError(
                f'embedding model {self.name!r}: the function must take (request, ctx): {error}'
            ) from error

    def __repr__(self) -> str:
        return f'FunctionEmbeddingModel({self.name!r})'

    async def embed(self, request: EmbeddingRequest, ctx: Ctx) -> EmbeddingResponse:
        try:
            given = await self._function(request, ctx)
        except (TimeoutError, ConnectionError) as error:
            status: Status = 'DEADLINE_EXCEEDED' if isinstance(error, TimeoutError) else 'UNAVAILABLE'
            raise LamellaError(status, f'{self.name}: {type(error).__name__}: {error}') from error
        return (
            given if isinstance(given, EmbeddingResponse) else EmbeddingResponse(vectors=to_vectors(given, self.name))
        )


def to_vectors(given: Any, model: str) -> tuple[Vector, ...]:
    """Vectors out of lists or arrays of numbers. Raises FAILED_PRECONDITION."""
    try:
        return tuple([tuple([float(number) for number in vector]) for vector in given])
    except (TypeError, ValueError) as error:
        raise LamellaError(
            'FAILED_PRECONDITION', f'{model} answered with {type(given).__name__}, not with a list of vectors: {error}'
        ) from error


class WrappedEmbeddingModel(EmbeddingModel):
    """An embedding model with layers fixed on it, closer to it than any layer of an app or a call.

    `embed` works without a context too: outside of any app, where layers remember in a memory of the model's own.
    """

    layered = True

    def __init__(
        self,
        model: EmbeddingModel | str,
        stack: Stack,
        model_id: str | None = None,
        provider_id: str | None = None,
    ) -> None:
        self.given, self.stack = model, stack
        inner = model if isinstance(model, str) else model.name
        self.name = named_after(inner, model_id, provider_id)
        self.info = model.info if isinstance(model, EmbeddingModel) else EmbeddingInfo()
        self._home: Outside | None = None
        self._escorts: tuple[Escort, ...] = ()
        self._attempt = 1

    def __repr__(self) -> str:
        return f'WrappedEmbeddingModel({self.name!r}, {self.stack!r})'

    def __getattr__(self, name: str) -> Any:
        """What the model can do beside answering, without the layers."""
        if name.startswith('_') or not isinstance(self.__dict__.get('given'), EmbeddingModel):
            raise AttributeError(f'{type(self).__name__} has no {name!r}')
        return getattr(self.given, name)

    @property
    def option_keys(self) -> tuple[str, ...]:
        given = self.given
        return given.option_keys if isinstance(given, EmbeddingModel) else (given.split('/', 1)[0],)

    def limits(self, ctx: Ctx) -> EmbeddingInfo:
        return self._model(ctx).limits(ctx)

    def escorted(self, escorts: tuple[Escort, ...], attempt: int) -> Self:
        same = object.__new__(type(self))
        same.__dict__.update(self.__dict__, _escorts=escorts, _attempt=attempt)
        return same

    def _model(self, ctx: Ctx) -> EmbeddingModel:
        given = self.given
        return given if isinstance(given, EmbeddingModel) else ctx.ai.resolve_embedding_model(given)

    async def embed(self, request: EmbeddingRequest | str | Sequence[str], ctx: Ctx | None = None) -> EmbeddingResponse:
        """One call, with no more texts than the model takes at once. Texts may be given as they are."""
        if ctx is None:
            self._home = self._home or Outside()
            ctx = outside_context(self._home)
        if not isinstance(request, EmbeddingRequest):
            request = EmbeddingRequest(to_texts(request))
        call = self.stack.around('wrap_embed', call_embedding)
        params = EmbedHookParams(request, self._model(ctx), self._attempt, self._escorts)
        response: EmbeddingResponse = await call(params, ctx)
        return response

    async def aclose(self) -> None:
        if self._home is not None:
            await self._home.aclose()
        if isinstance(self.given, EmbeddingModel):
            await self.given.aclose()


def to_texts(given: Any) -> tuple[str, ...]:
    """One text or several. Raises ConfigError for anything else, naming the first that is none."""
    if isinstance(given, str):
        return (given,)
    if isinstance(given, (bytes, dict)) or not isinstance(given, Iterable):
        raise ConfigError(f'to embed is given {type(given).__name__}: give a text or a list of texts')
    texts = tuple(given)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ConfigError(f'text {index} to embed is {type(text).__name__}: give a string')
    return texts


def wrap_embedding_model(
    *,
    model: EmbeddingModel | str | Callable[..., Any],
    middleware: BaseMiddleware[Any] | Stack | Iterable[BaseMiddleware[Any] | Stack],
    model_id: str | None = None,
    provider_id: str | None = None,
) -> WrappedEmbeddingModel:
    """An embedding model with layers fixed on it, usable wherever one is. `middleware` is one layer or several, outermost first.

    A model given by name is looked up in the app that makes the call. Raises ConfigError for a layer without `wrap_embed`.
    """
    if not isinstance(model, (EmbeddingModel, str)):
        model = FunctionEmbeddingModel(model)
    return WrappedEmbeddingModel(
        model, fixed_stack(middleware, ('wrap_embed',), 'embedding calls'), model_id, provider_id
    )
