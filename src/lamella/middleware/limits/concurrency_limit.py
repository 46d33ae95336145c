"""`ConcurrencyLimit`: so many calls at once, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal, TypedDict, Unpack

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from lamella.core.calls import close
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextEmbed, NextModel, NextStream
from lamella.core.order import Order
from lamella.core.params import EmbedHookParams, ModelHookParams
from lamella.core.timeouts import Cutoff
from lamella.middleware._fields import Count, Duration
from lamella.middleware._gates import Gate, Gates, Waiter
from lamella.middleware._keys import Key, KeySetting, key_of, shown
from lamella.middleware._limit_rules import AIMD, Fixed, Gradient, How, Outcome, Rule
from lamella.middleware._relay import with_notes
from lamella.types import (
    EmbeddingResponse,
    Finished,
    LamellaError,
    ModelResponse,
    Rejected,
    StreamPart,
    Usage,
    is_content,
)

Ctx = GenerateMiddlewareContext
Adaptive = Literal['aimd', 'gradient']
OVERLOADED = frozenset(('RESOURCE_EXHAUSTED', 'UNAVAILABLE', 'DEADLINE_EXCEEDED'))
# An answer's time is told by its length, and less so by its beginning: as if that were so many tokens.
BEGINNING_TOKENS = 50


def _adaptive(given: Any) -> Any:
    return {True: 'aimd', False: None}.get(given, given) if isinstance(given, bool) else given


class ConcurrencyLimitConfig(BaseModel, frozen=True, extra='forbid', arbitrary_types_allowed=True):
    """The settings of `ConcurrencyLimit`."""

    max_concurrent: Annotated[
        Count, Field(ge=1, description='Calls at once; with adaptive the most that there will ever be.')
    ]
    adaptive: Annotated[
        Adaptive | None,
        BeforeValidator(_adaptive),
        Field(
            description="Find the right number: 'aimd' by overload errors (True means that), 'gradient' by answer times too."
        ),
    ] = None
    min_concurrent: Annotated[Count, Field(ge=1, description='With adaptive: never fewer than these.')] = 1
    initial_concurrent: Annotated[
        Count | None,
        Field(ge=1, description='With adaptive: where to begin; 8, or max_concurrent if that is less, when None.'),
    ] = None
    backoff_factor: Annotated[
        Duration, Field(gt=0, lt=1, description='With adaptive: what the number is multiplied by on overload.')
    ] = 0.7
    tolerance: Annotated[
        Duration,
        Field(
            ge=1,
            description="With 'gradient': how many times its long-term mean the answer time may be before the number falls.",
        ),
    ] = 1.5
    key: Annotated[
        KeySetting,
        Field(
            description="What has places of its own: 'tenant', 'model', or what a function of (params, ctx) returns."
        ),
    ] = None
    max_queue: Annotated[Count, Field(description='How many calls wait for one key; 0 refuses instead.')] = 1000
    max_wait_s: Annotated[
        Duration | None, Field(description='The longest wait; None for as long as the run may take.')
    ] = None

    @model_validator(mode='after')
    def _in_order(self) -> ConcurrencyLimitConfig:
        if self.min_concurrent > self.max_concurrent:
            raise ValueError(f'min_concurrent={self.min_concurrent} is more than max_concurrent={self.max_concurrent}')
        start = self.initial_concurrent
        if start is not None and not self.min_concurrent <= start <= self.max_concurrent:
            raise ValueError(f'initial_concurrent={start} is not between min_concurrent and max_concurrent')
        return self


class ConcurrencyLimitOptions(TypedDict, total=False):
    """The keywords of `ConcurrencyLimit`."""

    max_concurrent: int
    adaptive: Adaptive | bool | None
    min_concurrent: int
    initial_concurrent: int | None
    backoff_factor: float
    tolerance: float
    key: Key
    max_queue: int
    max_wait_s: float | None


class ConcurrencyLimit(BaseMiddleware[ConcurrencyLimitConfig]):
    """Lets at most `max_concurrent` calls run at once in this process; the others wait in order, or are refused.

    A place is held from before the call until its answer, error or cancellation, and for the whole of a stream, however that
    ends. With `adaptive` the number of places follows what the provider can take: `aimd` adds one for each round of answers and
    takes a part away on an overload error (429, 503, 529, a timeout); `gradient` follows the answer times as well, measured as
    the time to the first content of a stream, and as the time for each token of a whole answer.

    Refused (`Rejected`, RESOURCE_EXHAUSTED): a call that finds `max_queue` others waiting, and one that has waited for
    `max_wait_s`. `retry_after_s` is then the time that a place is likely to take, once calls have been measured.

    Events: `concurrency_limit.wait(key, queued, limit)`, `concurrency_limit.refused(key, reason, retry_after_s)`,
    `concurrency_limit.changed(key, limit)`. An answer that waited has `metadata['concurrency_limit'] = {'waited_s'}`.
    """

    order = Order(
        better_inside={
            'retry': 'a place would be held while Retry waits',
            'fallback': 'a place would be held for one model while another is asked',
            'rate_limit': 'a place would be held while RateLimit waits',
            'cache': 'answers that cost nothing would take places',
        }
    )

    def __init__(
        self, config: ConcurrencyLimitConfig | None = None, **options: Unpack[ConcurrencyLimitOptions]
    ) -> None:
        super().__init__(config, **options)
        self._gates = Gates(self._rule, keep=self.config.adaptive is not None)

    def _rule(self) -> Rule:
        c = self.config
        if c.adaptive is None:
            return Fixed(c.max_concurrent)
        start = c.initial_concurrent or max(c.min_concurrent, min(8, c.max_concurrent))
        if c.adaptive == 'aimd':
            return AIMD(start, c.min_concurrent, c.max_concurrent, c.backoff_factor)
        return Gradient(start, c.min_concurrent, c.max_concurrent, c.backoff_factor, c.tolerance)

    async def wrap_model(self, params: ModelHookParams, ctx: Ctx, next_fn: NextModel) -> ModelResponse:
        gate, waited_s = await self._enter(params, ctx)
        started, outcome = ctx.clock.now(), None
        try:
            response = await next_fn(params, ctx)
            outcome = _answered(started, ctx, gate, 'whole', _for_each_token(ctx.clock.now() - started, response.usage))
        except LamellaError as error:
            outcome = _failed(error, started, ctx, gate)
            raise
        finally:
            self._leave(gate, outcome, ctx)
        return with_notes(response, _note(waited_s, response.metadata), None)

    async def wrap_embed(self, params: EmbedHookParams, ctx: Ctx, next_fn: NextEmbed) -> EmbeddingResponse:
        gate, waited_s = await self._enter(params, ctx)
        started, outcome = ctx.clock.now(), None
        try:
            response = await next_fn(params, ctx)
            outcome = _answered(started, ctx, gate, 'embed', None)
        except LamellaError as error:
            outcome = _failed(error, started, ctx, gate)
            raise
        finally:
            self._leave(gate, outcome, ctx)
        return with_notes(response, _note(waited_s, response.metadata), None)

    async def wrap_stream(self, params: ModelHookParams, ctx: Ctx, next_fn: NextStream) -> AsyncIterator[StreamPart]:
        gate, waited_s = await self._enter(params, ctx)
        started, first_s, outcome = ctx.clock.now(), None, None
        parts = next_fn(params, ctx)
        try:
            async for part in parts:
                if first_s is None and is_content(part):
                    first_s = ctx.clock.now() - started
                elif type(part) is Finished:
                    outcome = _answered(started, ctx, gate, 'stream', first_s)
                    if waited_s:
                        part = part.replace(metadata={**(part.metadata or {}), **_note(waited_s, part.metadata)})
                yield part
        except LamellaError as error:
            outcome = _failed(error, started, ctx, gate)
            raise
        finally:
            try:
                await close(parts)
            finally:
                self._leave(gate, outcome, ctx)

    async def _enter(self, params: ModelHookParams | EmbedHookParams, ctx: Ctx) -> tuple[Gate, float]:
        """A place, and how long it took to get one. Raises Rejected."""
        gate, waiter, is_in = self._gates.enter(key_of(self.config.key, params, ctx), self.config.max_queue)
        if is_in:
            return gate, 0.0
        if waiter is None:
            raise self._refused(gate, 'queue', ctx)
        started = ctx.clock.now()
        ctx.emit('concurrency_limit.wait', key=gate.key, queued=len(gate.waiting), limit=gate.places)
        try:
            await self._wait(gate, waiter, ctx)
        except BaseException:
            self._gates.give_up(gate, waiter)
            raise
        return gate, ctx.clock.now() - started

    async def _wait(self, gate: Gate, waiter: Waiter, ctx: Ctx) -> None:
        longest_s = self.config.max_wait_s
        if longest_s is None:
            await waiter
            return
        async with Cutoff(ctx.clock, longest_s, lambda: self._refused(gate, 'max_wait', ctx)):
            await waiter

    def _leave(self, gate: Gate, outcome: Outcome | None, ctx: Ctx) -> None:
        before = gate.places
        self._gates.leave(gate, outcome)
        if gate.places != before:
            ctx.emit('concurrency_limit.changed', key=gate.key, limit=gate.places)

    def _refused(self, gate: Gate, reason: str, ctx: Ctx) -> Rejected:
        retry_after_s = gate.expected_wait_s()
        ctx.emit('concurrency_limit.refused', key=gate.key, reason=reason, retry_after_s=retry_after_s)
        whose = f' for {shown(gate.key)}' if gate.key else ''
        why = {
            'queue': f'{gate.places} calls run{whose} and {len(gate.waiting)} wait already (max_queue)',
            'max_wait': f'none of {gate.places} places{whose} came free within max_wait_s={self.config.max_wait_s}',
        }
        return Rejected(why[reason], by=self, retry_after_s=retry_after_s)


def _answered(started: float, ctx: Ctx, gate: Gate, kind: str, latency: float | None) -> Outcome:
    return Outcome('answered', started, ctx.clock.now(), latency, kind, gate.active)


def _failed(error: LamellaError, started: float, ctx: Ctx, gate: Gate) -> Outcome | None:
    """What a failure tells of the provider. A layer's own refusal tells nothing."""
    if isinstance(error, Rejected):
        return None
    how: How = 'overloaded' if error.status in OVERLOADED else 'unknown'
    return Outcome(how, started, ctx.clock.now(), active=gate.active)


def _for_each_token(took_s: float, usage: Usage | None) -> float:
    return took_s / (BEGINNING_TOKENS + (usage.output_tokens or 0 if usage is not None else 0))


def _note(waited_s: float, metadata: dict[str, Any] | None) -> dict[str, Any]:
    """What the answer says of its wait, with the wait of another such layer inside of this one."""
    if not waited_s:
        return {}
    inner = (metadata or {}).get('concurrency_limit')
    return {'concurrency_limit': {'waited_s': waited_s + (inner['waited_s'] if inner else 0.0)}}
