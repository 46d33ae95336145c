"""`RateLimit`: so many calls, and so many tokens, in so many seconds."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Coroutine
from typing import Annotated, Any, TypedDict, Unpack

from pydantic import BaseModel, Field, model_validator

from lamella.core.calls import close
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.estimate import TokenEstimator, estimate_text
from lamella.core.middleware import BaseMiddleware, NextEmbed, NextModel, NextStream
from lamella.core.order import Order
from lamella.core.params import EmbedHookParams, ModelHookParams
from lamella.core.ports import Bucket, Store, Taken
from lamella.core.timeouts import Cutoff
from lamella.middleware._fields import Count, Duration, Switch
from lamella.middleware._keys import Key, KeySetting, key_of, part
from lamella.middleware._permit import Permit, sentence
from lamella.middleware._relay import with_notes
from lamella.middleware._spent import Heard, tokens_of, tokens_of_answer, tokens_of_failure
from lamella.middleware._state import OnStoreError, StoreSetting, ask_store, unbroken
from lamella.middleware._turns import Lines, Turns
from lamella.types import EmbeddingResponse, Finished, LamellaError, ModelResponse, Rejected, StreamPart, Usage

Ctx = GenerateMiddlewareContext
LONGEST_WAIT_S = 1e9


class RateLimitConfig(BaseModel, frozen=True, extra='forbid', arbitrary_types_allowed=True):
    """The settings of `RateLimit`."""

    max_calls: Annotated[Count | None, Field(description='Calls in per_s seconds; None for any number.')] = None
    per_s: Annotated[Duration, Field(gt=0, description='The seconds that max_calls and max_tokens are for.')]
    max_tokens: Annotated[
        Count | None, Field(description='Tokens in per_s seconds, read and written; None for any number.')
    ] = None
    burst: Annotated[
        Count | None,
        Field(
            ge=1, description='Calls that may start at once after a rest; max_calls when None, 1 spreads them evenly.'
        ),
    ] = None
    key: Annotated[
        KeySetting,
        Field(
            description="What has a limit of its own: 'tenant', 'model', or what a function of (params, ctx) returns."
        ),
    ] = None
    scope: Annotated[
        str, Field(description='Layers with the same limits and scope share them; a name of its own keeps one apart.')
    ] = ''
    wait: Annotated[Switch, Field(description='Wait for a turn; False refuses and says when to come back.')] = True
    max_wait_s: Annotated[
        Duration | None, Field(description='The longest wait; None for as long as the run may take.')
    ] = None
    max_queue: Annotated[Count, Field(description='How many calls of one process wait for one key.')] = 1000
    pause_on_429: Annotated[
        Switch, Field(description="A provider's 429 with Retry-After stops all calls of the key for that long.")
    ] = False
    store: Annotated[
        StoreSetting, Field(description='Where the limit is kept: a store or a URL; the app’s own when None.')
    ] = None
    on_store_error: Annotated[
        OnStoreError, Field(description='When the store is away: refuse the call, or allow it without a limit.')
    ] = 'refuse'

    @model_validator(mode='after')
    def _limits_something(self) -> RateLimitConfig:
        if self.max_calls is None and self.max_tokens is None:
            raise ValueError('limits nothing: give max_calls, max_tokens or both')
        if self.burst is not None and self.max_calls is None:
            raise ValueError('burst is for max_calls, which is not given')
        return self


class RateLimitOptions(TypedDict, total=False):
    """The keywords of `RateLimit`."""

    max_calls: int | None
    per_s: float
    max_tokens: int | None
    burst: int | None
    key: Key
    scope: str
    wait: bool
    max_wait_s: float | None
    max_queue: int
    pause_on_429: bool
    store: Store | str | None
    on_store_error: OnStoreError


class RateLimit(BaseMiddleware[RateLimitConfig]):
    """Lets through `max_calls` calls and `max_tokens` tokens in `per_s` seconds; the others wait their turn or are refused.

    Two token buckets, taken from in one step of the store and shared by all processes that use it. A bucket fills evenly, so
    that in any `per_s` seconds at most `max_calls + burst` calls start. Tokens are estimated before the call (with
    `max_output_tokens`, where that is set) and corrected after it; what a call does not use is given back, and a call that
    was never sent gives itself back. A failed call that was sent has used what it asked, and what it had said.

    Calls of one process and key wait in the order in which they came; the first of them reserves its place in the store, so
    that processes take turns. Refused at once (`Rejected`, RESOURCE_EXHAUSTED, with `retry_after_s` where waiting helps): a call
    that would have to wait past the deadline or longer than `max_wait_s`, one too many in the queue, and one that asks for
    more tokens than the limit ever gives.

    Events: `rate_limit.wait(key, wait_s, queued)`, `rate_limit.refused(key, reason, retry_after_s)`,
    `rate_limit.paused(key, pause_s)`, `store.away`. An answer that waited has `metadata['rate_limit'] = {'waited_s'}`.
    """

    order = Order(
        better_inside={
            'retry': 'its further attempts would not count',
            'fallback': 'the models that it goes on to would not count',
            'hedge': 'its second requests would not count',
            'cache': 'answers that cost nothing would count',
        }
    )

    def __init__(self, config: RateLimitConfig | None = None, **options: Unpack[RateLimitOptions]) -> None:
        super().__init__(config, **options)
        c = self.config
        kind = c.key if isinstance(c.key, str) else 'one' if c.key is None else 'own'
        self._prefix = f'rate_limit:{part(c.scope)}:{c.max_calls}-{c.max_tokens}-{c.burst}-{c.per_s!r}:{kind}:'
        self._estimator = TokenEstimator()
        self._lines = Lines()

    async def wrap_model(self, params: ModelHookParams, ctx: Ctx, next_fn: NextModel) -> ModelResponse:
        permit = await self._admit(params, ctx)
        try:
            response = await next_fn(params, ctx)
        except BaseException as error:
            await self._give_back(permit, tokens_of_failure(error, permit.asked), ctx, error)
            raise
        self._learn(permit, params, response.usage, ctx)
        used = tokens_of_answer(response, permit.asked) if permit.tokens is not None else 0
        await self._give_back(permit, used, ctx)
        return with_notes(response, permit.note(response.metadata), None)

    async def wrap_stream(self, params: ModelHookParams, ctx: Ctx, next_fn: NextStream) -> AsyncIterator[StreamPart]:
        permit = await self._admit(params, ctx)
        parts, heard, error = next_fn(params, ctx), Heard(), None
        counts = permit.tokens is not None
        try:
            async for part in parts:
                if type(part) is Finished:
                    self._learn(permit, params, part.usage, ctx)
                    await self._give_back(permit, tokens_of(part.usage, permit.asked, heard.tokens), ctx)
                    if permit.waited_s:
                        metadata = part.metadata or {}
                        part = part.replace(metadata={**metadata, **permit.note(metadata)})
                elif counts:
                    heard.add(part)
                yield part
        except BaseException as failure:
            error = failure
            raise
        finally:
            try:
                await close(parts)
            finally:
                if error is not None:
                    used = tokens_of_failure(error, permit.asked, heard.tokens)
                    await self._give_back(permit, used, ctx, error)

    async def wrap_embed(self, params: EmbedHookParams, ctx: Ctx, next_fn: NextEmbed) -> EmbeddingResponse:
        permit = await self._admit(params, ctx)
        try:
            response = await next_fn(params, ctx)
        except BaseException as error:
            await self._give_back(permit, permit.asked, ctx, error)
            raise
        await self._give_back(permit, tokens_of(response.usage, permit.asked, 0), ctx)
        return with_notes(response, permit.note(response.metadata), None)

    async def _admit(self, params: ModelHookParams | EmbedHookParams, ctx: Ctx) -> Permit:
        """Take what the call needs, now or later. Raises Rejected when it is not to be had."""
        permit = self._permit(params, ctx)
        line = self._lines.of(permit.key)
        wait_s = self._known_wait_s(line, ctx)
        if line is None:
            taken = await self._take(permit, 0.0, ctx)
            if taken.granted:
                return permit
            wait_s = taken.wait_s
        if not self.config.wait:
            raise self._refused(permit, 'limit', wait_s, ctx)
        patience_s, reason = self._patience(ctx)
        if wait_s > patience_s:
            raise self._refused(permit, reason, wait_s, ctx)
        await self._stand_in_line(permit, wait_s, patience_s, reason, ctx)
        return permit

    async def _stand_in_line(self, permit: Permit, wait_s: float, patience_s: float, reason: str, ctx: Ctx) -> None:
        queued = len(self._lines.of(permit.key) or ())
        if queued >= self.config.max_queue:
            raise self._refused(permit, 'queue', wait_s, ctx)
        ctx.emit('rate_limit.wait', key=permit.key, wait_s=wait_s, queued=queued)
        started = ctx.clock.now()
        with self._lines.turn(permit.key) as (line, turn):
            if not turn.done():
                async with Cutoff(ctx.clock, patience_s, lambda: self._too_late(permit, line, reason, ctx)):
                    await turn
            await self._wait_as_first(permit, line, started + patience_s, reason, ctx)
        permit.waited_s = ctx.clock.now() - started

    async def _wait_as_first(self, permit: Permit, line: Turns, until: float, reason: str, ctx: Ctx) -> None:
        """Reserve what is needed ahead of time, and wait for it."""
        taken = await self._take(permit, max(0.0, until - ctx.clock.now()), ctx)
        if not taken.granted:
            raise self._refused(permit, reason, taken.wait_s, ctx)
        line.opens_at = ctx.clock.now() + taken.wait_s
        if not taken.wait_s:
            return
        try:
            await ctx.clock.sleep(taken.wait_s)
        except BaseException:
            await self._settle(permit, permit.unused(), ctx)
            raise

    def _known_wait_s(self, line: Turns | None, ctx: Ctx) -> float:
        """The least that somebody at the end of the line waits. Where only calls count, each before him takes its time."""
        if line is None:
            return 0.0
        ahead_s = 0.0
        if self.config.max_calls and self.config.max_tokens is None:
            ahead_s = len(line) * self.config.per_s / self.config.max_calls
        return max(0.0, line.opens_at - ctx.clock.now()) + ahead_s

    def _patience(self, ctx: Ctx) -> tuple[float, str]:
        """How long a call may wait, and what ends its wait."""
        remaining_s, longest_s = ctx.remaining_s(), self.config.max_wait_s
        if remaining_s is not None and (longest_s is None or remaining_s < longest_s):
            return remaining_s, 'deadline'
        return (LONGEST_WAIT_S, 'max_wait') if longest_s is None else (longest_s, 'max_wait')

    def _permit(self, params: ModelHookParams | EmbedHookParams, ctx: Ctx) -> Permit:
        """What the call needs. Raises Rejected when the limit can never give as much."""
        config = self.config
        key = key_of(config.key, params, ctx)
        permit = Permit(key, ctx.ai.resolve_store(config.store), ctx.sent)
        said = 0
        if config.max_tokens is not None:
            permit.asked, said = self._tokens(params)
        permit.need(config, self._prefix + part(key), permit.asked + said)
        if config.max_tokens is not None and permit.asked + said > config.max_tokens:
            raise self._refused(permit, 'too_large', math.inf, ctx)
        if config.max_calls == 0:
            raise self._refused(permit, 'limit', math.inf, ctx)
        return permit

    def _tokens(self, params: ModelHookParams | EmbedHookParams) -> tuple[int, int]:
        """What the call sends, as far as it can be estimated, and what it may be answered with."""
        if isinstance(params, EmbedHookParams):
            return sum(map(estimate_text, params.request.texts)), 0
        asked = self._estimator.estimate(params.request, params.model.name)
        return asked, params.request.config.max_output_tokens or 0

    async def _take(self, permit: Permit, max_wait_s: float, ctx: Ctx) -> Taken:
        store, buckets = permit.store, permit.buckets
        wanted = [*buckets, permit.pause] if permit.pause is not None else buckets

        def undo(taken: Taken) -> Coroutine[Any, Any, None]:
            return store.settle(permit.unused() if taken.granted else [])

        verb = unbroken(store, store.take(wanted, max_wait_s=max_wait_s), undo)
        taken = await ask_store(self, ctx, verb, self.config.on_store_error, None)
        if taken is None:
            permit.is_settled, permit.pause = True, None
            return Taken(granted=True)
        return taken

    async def _give_back(self, permit: Permit, used: int, ctx: Ctx, error: BaseException | None = None) -> None:
        """Correct what was taken, once, by what was used. A call that failed before it was sent has used nothing."""
        was_sent = error is None or ctx.sent != permit.sent
        await self._settle(permit, permit.corrections(used) if was_sent else permit.unused(), ctx)
        if permit.pause is not None and isinstance(error, LamellaError):
            await self._pause(permit, permit.pause, error, ctx)

    async def _settle(self, permit: Permit, corrections: list[Bucket], ctx: Ctx) -> None:
        """A store that is away now does no harm to an answer that is there."""
        first, permit.is_settled = not permit.is_settled, True
        if corrections and first:
            await ask_store(self, ctx, unbroken(permit.store, permit.store.settle(corrections)), 'allow', None)

    async def _pause(self, permit: Permit, pause: Bucket, error: LamellaError, ctx: Ctx) -> None:
        """Close the key for as long as the provider asks. Of many that fail together one closes it."""
        pause_s = error.retry_after_s
        if error.status != 'RESOURCE_EXHAUSTED' or isinstance(error, Rejected) or not pause_s or pause_s < 0:
            return
        store = permit.store
        if await ask_store(self, ctx, store.acquire(pause.key, pause_s), 'allow', None) is not None:
            ctx.emit('rate_limit.paused', key=permit.key, pause_s=pause_s)
            closed = pause.replace(amount=pause.burst + pause_s)
            await ask_store(self, ctx, unbroken(store, store.settle([closed])), 'allow', None)

    def _learn(self, permit: Permit, params: ModelHookParams, usage: Usage | None, ctx: Ctx) -> None:
        if permit.tokens is not None and ctx.sent - permit.sent == 1:
            self._estimator.learn(params.model.name, params.request, usage)

    def _too_late(self, permit: Permit, line: Turns, reason: str, ctx: Ctx) -> Rejected:
        return self._refused(permit, reason, self._known_wait_s(line, ctx), ctx)

    def _refused(self, permit: Permit, reason: str, wait_s: float, ctx: Ctx) -> Rejected:
        retry_after_s = None if math.isinf(wait_s) else wait_s
        ctx.emit('rate_limit.refused', key=permit.key, reason=reason, retry_after_s=retry_after_s)
        return Rejected(sentence(self.config, permit, reason, wait_s), by=self, retry_after_s=retry_after_s)
