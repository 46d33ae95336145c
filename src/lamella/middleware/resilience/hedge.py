"""`Hedge`: a second request beside a first one that takes unusually long; the first good answer wins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any, TypedDict, TypeVar, Unpack

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from lamella.core.calls import close
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import AnyAnswer, AnyParams, BaseMiddleware, Next, NextStream
from lamella.core.order import Order
from lamella.core.params import EmbedHookParams, ModelHookParams
from lamella.middleware._fields import Count, Duration
from lamella.middleware._race import Latencies, Race, Share, known
from lamella.middleware._relay import MAX_HELD, paid_for, with_debts, with_notes
from lamella.types import (
    JSON,
    EmbeddingRequest,
    EmbeddingResponse,
    Finished,
    LamellaError,
    ModelRequest,
    ModelResponse,
    Restarted,
    StreamPart,
    Usage,
    add_usage,
    is_content,
)

T = TypeVar('T')
Ctx = GenerateMiddlewareContext
Safe = Callable[[Any], bool]  # of a ModelRequest or an EmbeddingRequest
# Options with which a provider itself acts or remembers, so that a second request is a second act.
ACTING = ('background', 'container', 'conversation', 'mcp_servers', 'store', 'tools')


def _function(given: Any) -> Any:
    if given is not None and not callable(given):
        raise ValueError(f'is {given!r}: give a function of the request that says whether it may be sent twice')
    return given


class HedgeConfig(BaseModel, frozen=True, extra='forbid', arbitrary_types_allowed=True):
    """The settings of `Hedge`."""

    delay_s: Annotated[
        Annotated[Duration, Field(gt=0)] | None,
        Field(description='When the second request goes; with percentile, as long as there are too few samples.'),
    ] = None
    percentile: Annotated[
        Annotated[Duration, Field(gt=0, lt=100)] | None,
        Field(description='It goes when so many percent of the recent calls had their answer, or its first content.'),
    ] = None
    samples: Annotated[Count, Field(ge=1, description='How many recent calls of a model are remembered.')] = 200
    min_samples: Annotated[Count, Field(ge=1, description='Fewer of them say nothing about a percentile.')] = 20
    max_ratio: Annotated[
        Duration, Field(gt=0, le=1, description='At most this share of the calls gets a second request.')
    ] = 0.1
    safe: Annotated[
        Any,
        BeforeValidator(_function),
        Field(
            description='Which requests may be sent twice; None for all with which the provider itself does nothing.'
        ),
    ] = None

    @model_validator(mode='after')
    def _has_a_delay(self) -> HedgeConfig:
        if self.delay_s is None and self.percentile is None:
            raise ValueError('never sends a second request: give delay_s, percentile or both')
        if self.percentile is not None and self.min_samples > self.samples:
            raise ValueError(f'min_samples={self.min_samples} is more than samples={self.samples}')
        return self


class HedgeOptions(TypedDict, total=False):
    """The keywords of `Hedge`."""

    delay_s: float | None
    percentile: float | None
    samples: int
    min_samples: int
    max_ratio: float
    safe: Safe | None


class Hedge(BaseMiddleware[HedgeConfig]):
    """Sends the request a second time when the first has no answer yet after a delay; the first good answer wins, and the
    other request is cancelled and waited for (Dean and Barroso, "The Tail at Scale", Communications of the ACM 56/2, 2013).

    The delay is `delay_s`, or what `percentile` percent of the last `samples` calls of the model took, measured by this
    instance. In a stream it is the wait for the first content that is measured, and the first content that wins: the parts of
    two answers are never mixed. A request that fails before the delay is the failure of the call, and one that fails after it
    leaves the race to the other; when both fail, the first one's error is raised.

    A second request is extra load and extra cost. It goes for at most `max_ratio` of the calls (and one to begin with), with
    `params.attempt` one higher, so that a `RetryBudget` counts it. What the loser is known to have used is added to the
    answer's usage. Never sent twice: what continues another answer's text, and what makes the provider itself act or remember
    (its own tools, stored conversations); `safe` decides otherwise.

    Events: `hedge.sent(model, delay_s)`, `hedge.won(model, winner, took_s)`, `hedge.held_back(model, delay_s)` when the share
    was used up. An answer that took two requests has `metadata['hedge'] = {'winner': 1 or 2, 'delay_s', 'loser'}`, the loser
    being `'stopped'`, `'failed'` or `'answered'`.
    """

    order = Order(
        better_inside={
            'retry': 'its second request would be retried too, up to twice as many attempts',
            'fallback': 'its second request would go through the whole line of models again',
            'cache': 'an answer that is there would be waited for twice',
        }
    )

    def __init__(self, config: HedgeConfig | None = None, **options: Unpack[HedgeOptions]) -> None:
        super().__init__(config, **options)
        self._share = Share(self.config.max_ratio)
        self._latencies = Latencies(self.config.samples)

    async def wrap_model(self, params: AnyParams, ctx: Ctx, next_fn: Next[AnyParams, AnyAnswer]) -> AnyAnswer:
        delay_s, started = self._delay_s(params, ctx, 'whole'), ctx.clock.now()
        if delay_s is None:
            response = await next_fn(params, ctx)
            self._learn(params, 'whole', ctx.clock.now() - started)
            return response
        race = Race[AnyAnswer](ctx.clock)
        second = self._second(params, ctx, delay_s, lambda again: next_fn(again, ctx))
        response = await self._run(race, next_fn(params, ctx), delay_s, second)
        return with_notes(response, self._settled(race, params, ctx, delay_s, 'whole'), _used(known(race.others)))

    wrap_embed = wrap_model

    async def wrap_stream(self, params: ModelHookParams, ctx: Ctx, next_fn: NextStream) -> AsyncIterator[StreamPart]:
        delay_s, started, seen = self._delay_s(params, ctx, 'first'), ctx.clock.now(), False
        streams = [next_fn(params, ctx)]
        notes: JSON = {}
        paid: Usage | None = None
        try:
            winner = streams[0]
            if delay_s is not None:
                race = Race[list[StreamPart]](ctx.clock)
                second = self._second(params, ctx, delay_s, lambda again: _opened_too(streams, next_fn(again, ctx)))
                held = await self._run(race, _opened(winner), delay_s, second)
                winner, seen = streams[race.winner], True
                for other in streams:
                    if other is not winner:
                        await close(other)
                notes, paid = self._settled(race, params, ctx, delay_s, 'first'), _used(known(race.others))
                for part in held:
                    yield _ended(part, notes, paid)
            async for part in winner:
                if not seen and (is_content(part) or type(part) is Finished):
                    seen = True
                    self._learn(params, 'first', ctx.clock.now() - started)
                yield _ended(part, notes, paid) if type(part) is Finished else part
        finally:
            for stream in streams:
                await close(stream)

    def _delay_s(self, params: ModelHookParams | EmbedHookParams, ctx: Ctx, what: str) -> float | None:
        """When the second request would go; `None` when it must not, or nobody knows when."""
        c = self.config
        if ctx.committed or _continues(params) or not (c.safe or _is_safe)(params.request):
            return None
        self._share.called()
        delay_s = c.delay_s
        if c.percentile is not None:
            recent = self._latencies.of(f'{what} {params.model.name}')
            if len(recent) >= c.min_samples:
                delay_s = recent.at(c.percentile)
        remaining_s = ctx.remaining_s()
        return None if delay_s is None or (remaining_s is not None and delay_s >= remaining_s) else delay_s

    def _learn(self, params: ModelHookParams | EmbedHookParams, what: str, seconds: float) -> None:
        if self.config.percentile is not None:
            self._latencies.of(f'{what} {params.model.name}').add(seconds)

    def _second(
        self,
        params: AnyParams,
        ctx: Ctx,
        delay_s: float,
        ask: Callable[[AnyParams], Coroutine[Any, Any, T]],
    ) -> Callable[[], Coroutine[Any, Any, T] | None]:
        model = params.model.name

        def second() -> Coroutine[Any, Any, T] | None:
            if not self._share.take():
                ctx.emit('hedge.held_back', model=model, delay_s=delay_s)
                return None
            ctx.emit('hedge.sent', model=model, delay_s=delay_s)
            return ask(params.replace(attempt=params.attempt + 1))

        return second

    async def _run(
        self,
        race: Race[T],
        first: Coroutine[Any, Any, T],
        delay_s: float,
        second: Callable[[], Coroutine[Any, Any, T] | None],
    ) -> T:
        try:
            return await race.run(first, delay_s, second)
        except LamellaError as error:
            with_debts(error, _used(known(race.others)))
            raise

    def _settled(
        self, race: Race[Any], params: ModelHookParams | EmbedHookParams, ctx: Ctx, delay_s: float, what: str
    ) -> JSON:
        """Learn from a race that was won. What the answer says of it."""
        took_s = race.first_took_s or 0.0
        other = known(race.others)
        if race.winner == 0 or other is None:  # the first one took as long, or longer when it was stopped
            self._learn(params, what, took_s)
        if not race.others:
            return {}
        ctx.emit('hedge.won', model=params.model.name, winner=race.winner + 1, took_s=took_s)
        loser = 'stopped' if other is None else 'failed' if isinstance(other, BaseException) else 'answered'
        return {'hedge': {'winner': race.winner + 1, 'delay_s': delay_s, 'loser': loser}}


def _continues(params: ModelHookParams | EmbedHookParams) -> bool:
    return isinstance(params, ModelHookParams) and params.continues is not None


def _is_safe(request: ModelRequest | EmbeddingRequest) -> bool:
    return not any(options.get(name) for options in request.provider_options.values() for name in ACTING)


async def _opened(parts: AsyncIterator[StreamPart]) -> list[StreamPart]:
    """What comes up to the first content, or up to the end."""
    held: list[StreamPart] = []
    async for part in parts:
        if type(part) is Restarted:
            held.clear()  # an inner layer started over, which nobody has seen
            continue
        held.append(part)
        if is_content(part) or type(part) is Finished or len(held) > MAX_HELD:
            break
    return held


def _opened_too(
    streams: list[AsyncIterator[StreamPart]], parts: AsyncIterator[StreamPart]
) -> Coroutine[Any, Any, list[StreamPart]]:
    streams.append(parts)
    return _opened(parts)


def _used(other: Any) -> Usage | None:
    """What the loser is known to have used."""
    if isinstance(other, LamellaError):
        return paid_for(other)
    return other.usage if isinstance(other, (ModelResponse, EmbeddingResponse)) else None


def _ended(part: StreamPart, notes: JSON, paid: Usage | None) -> StreamPart:
    """The end of the winner's stream, with what is to be said of the race."""
    if type(part) is not Finished or not notes:
        return part
    return part.replace(usage=add_usage(paid, part.usage), metadata={**(part.metadata or {}), **notes})
