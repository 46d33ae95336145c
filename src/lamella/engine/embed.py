"""Embedding: texts in batches that the model takes, through the layers, several at once; one answer in the order of the texts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, TypedDict

from typing_extensions import Unpack

from lamella.core.clock import Clock
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.embedders import call_embedding, to_texts
from lamella.core.embedding import EmbeddingInfo, EmbeddingModel
from lamella.core.events import Sink
from lamella.core.middleware import BaseMiddleware
from lamella.core.params import EmbedHookParams
from lamella.core.stack import Stack
from lamella.core.timeouts import Cutoff
from lamella.engine.prepare import Stacks, positive
from lamella.engine.provider_options import provider_options_of
from lamella.engine.registry import Registry
from lamella.types import (
    ConfigError,
    ControlFlow,
    EmbeddingRequest,
    EmbeddingResponse,
    LamellaError,
    ModelResponse,
    Usage,
    add_usage,
    did_you_mean,
)

Ctx = GenerateMiddlewareContext
AnyEmbeddingModel = str | EmbeddingModel | Callable[..., Any]
Call = Callable[[EmbeddingRequest], Coroutine[Any, Any, EmbeddingResponse]]
MAX_PARALLEL = 4


class EmbedOptions(TypedDict, total=False):
    """The keywords of `embed`.

    `model` is a name (`provider/model`), an embedding model or a function; the app's own when left out. `dimensions` is the
    wanted length of the vectors. `use` are the layers of this call, the first outermost. `context` holds values for layers.
    `timeout_s` is seconds for all texts together. `max_parallel` bounds the calls that are made at once (4 when left out).
    `provider_options` maps a provider's name to its own options.
    """

    model: AnyEmbeddingModel | None
    dimensions: int | None
    use: Sequence[BaseMiddleware[Any] | Stack] | None
    context: Mapping[str, Any] | None
    timeout_s: float | None
    max_parallel: int | None
    provider_options: Mapping[str, Mapping[str, Any]] | None


OPTIONS = frozenset(EmbedOptions.__annotations__)


class Embedding:
    """The door for texts that are to become vectors."""

    registry: Registry
    default_embedding_model: AnyEmbeddingModel | None
    stack: Stack
    stacks: Stacks
    clock: Clock
    random: Random
    sinks: tuple[Sink, ...]

    async def embed(self, texts: str | Iterable[str], **options: Unpack[EmbedOptions]) -> EmbeddingResponse:
        """A vector for each text: `response.vectors` in the order of the texts, or `response.vector` for one.

        More texts than the model takes at once go in several calls, each through the layers' `wrap_embed`. Raises ConfigError
        for wrong options. When a call fails, the others are cancelled; the LamellaError has the attempts, and in `partial` the
        usage that was paid.
        """
        given, plan = to_texts(texts), _Plan(self, options)
        ctx = plan.ctx
        if ctx.sinks:
            ctx.emit('embed.start', model=plan.model.name, texts=len(given))
        try:
            if ctx.deadline is None:
                response = await plan.carried_out(given)
            else:
                async with Cutoff(ctx.clock, ctx.deadline - ctx.clock.now(), plan.too_long):
                    response = await plan.carried_out(given)
        except BaseException as error:
            failed = plan.failed(error)
            raise failed from (error.__cause__ if failed is error else error)
        if ctx.sinks:
            ctx.emit('embed.end', model=response.model, texts=len(given), usage=response.usage)
        return response

    def resolve_embedding_model(self, model: Any) -> EmbeddingModel:
        """The embedding model of that name, function or object. Raises UnknownNameError with the nearest names."""
        return self.registry.embedding_model(model)


class _Plan:
    """One `embed`, checked, and what it has paid so far."""

    def __init__(self, app: Any, options: Mapping[str, Any]) -> None:
        _refuse_unknown(options)
        get = options.get
        wanted, context, width = get('model') or app.default_embedding_model, get('context'), get('max_parallel')
        if wanted is None:
            raise ConfigError(
                "no embedding model: give model='provider/name' to embed, or embedding_model= to Lamella(…) as the default"
            )
        if context is not None and not isinstance(context, Mapping):
            raise ConfigError(f'context is a {type(context).__name__}: give a dict')
        self.model: EmbeddingModel = app.registry.embedding_model(wanted)
        self.width = MAX_PARALLEL if width is None else positive('max_parallel', width)
        self.timeout_s = _seconds(get('timeout_s'))
        deadline = None if self.timeout_s is None else app.clock.now() + self.timeout_s
        self.ctx = Ctx(app, context, app.clock, app.random, deadline, False, app.sinks)
        dimensions = get('dimensions')
        self._request = EmbeddingRequest(
            (),
            None if dimensions is None else positive('dimensions', dimensions),
            provider_options_of(get('provider_options'), self.model, app.registry.plugins),
        )
        stack = app.stack if get('use') is None else app.stacks.of(get('use'))
        self._around = stack.around('wrap_embed', call_embedding)
        self._paid: Usage | None = None

    async def carried_out(self, texts: tuple[str, ...]) -> EmbeddingResponse:
        """One answer for all texts."""
        requests = [self._request.replace(texts=batch) for batch in batches(texts, self.model.limits(self.ctx))]
        if not requests:
            return EmbeddingResponse(model=self.model.name)
        if len(requests) == 1:
            return await self._call(requests[0])
        return joined(await several(self._call, requests, self.width))

    async def _call(self, request: EmbeddingRequest) -> EmbeddingResponse:
        response = await self._around(EmbedHookParams(request, self.model), self.ctx)
        if not isinstance(response, EmbeddingResponse) or len(response.vectors) != len(request.texts):
            raise LamellaError(
                'FAILED_PRECONDITION',
                f'a layer returned {_shown(response)} for {len(request.texts)} texts: wrap_embed must return the response '
                'that next_fn gave it, or one with a vector for each text',
            )
        self._paid = add_usage(self._paid, response.usage)
        return response

    def too_long(self) -> LamellaError:
        return LamellaError('DEADLINE_EXCEEDED', f'embed: not done within timeout_s={self.timeout_s:g}')

    def failed(self, error: BaseException) -> BaseException:
        """The error as the caller gets it: with every attempt, and with what the calls that succeeded have cost."""
        if isinstance(error, ControlFlow):
            error = LamellaError('FAILED_PRECONDITION', f'embed: a layer raised {type(error).__name__}: {error}')
        if isinstance(error, LamellaError):
            error.attempts = error.attempts or tuple(self.ctx.attempts)
            if self._paid is not None:
                partial = error.partial or ModelResponse(finish_reason='unknown')
                error.partial = partial.replace(usage=add_usage(self._paid, partial.usage))
        if self.ctx.sinks:
            self.ctx.emit('embed.error', error=error)
        return error


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    if unknown := options.keys() - OPTIONS:
        name = min(unknown)
        raise ConfigError(f'embed has no option {name!r}{did_you_mean(name, sorted(OPTIONS))}')


def _seconds(given: Any) -> float | None:
    if given is None or (isinstance(given, (int, float)) and not isinstance(given, bool) and given > 0):
        return given
    raise ConfigError(f'timeout_s={given!r}: give a number of seconds above 0')


def _shown(response: Any) -> str:
    if not isinstance(response, EmbeddingResponse):
        return type(response).__name__
    return f'{len(response.vectors)} vectors'


def batches(texts: Sequence[str], limits: EmbeddingInfo) -> Iterator[tuple[str, ...]]:
    """The texts in runs that one call takes, in order. A text that is too long for any call is a run of its own."""
    batch, size = list[str](), 0
    for text in texts:
        length = 0 if limits.max_batch_bytes is None else len(text.encode('utf-8', 'surrogatepass'))
        full = len(batch) == limits.max_batch
        if batch and (full or (limits.max_batch_bytes is not None and size + length > limits.max_batch_bytes)):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(text)
        size += length
    if batch:
        yield tuple(batch)


async def several(call: Call, requests: Sequence[EmbeddingRequest], width: int) -> list[EmbeddingResponse]:
    """The answers in the order of the requests, at most `width` at once. After a failure none begins, and those that have
    begun are cancelled and awaited."""
    answers: dict[int, EmbeddingResponse] = {}
    waiting = list(reversed(list(enumerate(requests))))

    async def work() -> None:
        try:
            while waiting:
                index, request = waiting.pop()
                answers[index] = await call(request)
        except BaseException:
            waiting.clear()
            raise

    tasks = [asyncio.create_task(work()) for _ in range(min(width, len(requests)))]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in tasks:
            if task in done:
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [answers[index] for index in range(len(requests))]


def joined(answers: Sequence[EmbeddingResponse]) -> EmbeddingResponse:
    """One answer out of those of several calls. Raises ABORTED when their vectors are of different lengths: such vectors are
    of different models, and cannot be compared."""
    lengths = {len(vector): answer.model for answer in answers for vector in answer.vectors}
    if len(lengths) > 1:
        told = ', '.join(f'{model} gave {length} numbers' for length, model in lengths.items())
        raise LamellaError('ABORTED', f'embed: the vectors of one answer differ in length: {told}')
    usage: Usage | None = None
    metadata: dict[str, Any] = {}
    for answer in answers:
        usage = add_usage(usage, answer.usage)
        metadata.update(answer.metadata)
    models = list(dict.fromkeys(answer.model for answer in answers))
    warnings = [warning for answer in answers for warning in answer.warnings]
    if len(models) > 1:
        warnings.append(
            f'several models answered ({", ".join(map(str, models))}): compare their vectors only if they agree'
        )
    return EmbeddingResponse(
        vectors=tuple([vector for answer in answers for vector in answer.vectors]),
        usage=usage,
        model=models[0],
        metadata=metadata,
        warnings=tuple(dict.fromkeys(warnings)),
    )
