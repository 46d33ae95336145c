"""`Retry`: ask again after a transient failure, after a wait that grows, with full jitter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Literal, TypedDict, Unpack

from pydantic import BaseModel, Field

from lamella.core.calls import before_wait, close, may_go_on
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import AnyAnswer, AnyParams, BaseMiddleware, Next, NextStream
from lamella.core.params import EmbedHookParams, ModelHookParams
from lamella.middleware._backoff import floor_s, wait_before
from lamella.middleware._continuation import Continuation
from lamella.middleware._fields import Count, Duration, Statuses, Switch
from lamella.middleware._relay import Relay, paid_for, with_debts, with_notes
from lamella.types import (
    JSON,
    TRANSIENT,
    ConfigError,
    LamellaError,
    Rejected,
    Status,
    StreamPart,
    TextDelta,
    UnknownNameError,
    add_usage,
)

Ctx = GenerateMiddlewareContext
OnPartial = Literal['raise', 'restart', 'continue']


class RetryConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `Retry`."""

    max_retries: Annotated[Count, Field(description='Attempts after the first.')] = 3
    initial_delay_ms: Annotated[Duration, Field(description='The longest wait before the first retry.')] = 1000
    max_delay_ms: Annotated[
        Duration, Field(description='No wait is longer; a provider that asks for more ends it.')
    ] = 60_000
    backoff_factor: Annotated[Duration, Field(ge=1, description='What the wait is multiplied by at each retry.')] = 2.0
    no_jitter: Annotated[
        Switch, Field(description='Wait exactly the computed time instead of a random part of it.')
    ] = False
    statuses: Annotated[Statuses, Field(description='The statuses that are retried.')] = TRANSIENT
    on_partial: Annotated[
        OnPartial,
        Field(description='A stream that fails after its first content: raise, restart visibly, or continue its text.'),
    ] = 'raise'
    commit: Annotated[
        Literal['first', 'finish'],
        Field(description="'finish' holds a stream back until its end, so that no failed attempt is ever seen."),
    ] = 'first'


class RetryOptions(TypedDict, total=False):
    """The keywords of `Retry`."""

    max_retries: int
    initial_delay_ms: float
    max_delay_ms: float
    backoff_factor: float
    no_jitter: bool
    statuses: Sequence[Status]
    on_partial: OnPartial
    commit: Literal['first', 'finish']


class Retry(BaseMiddleware[RetryConfig]):
    """Asks the same model again when it fails with one of `statuses`, up to `max_retries` times.

    The wait before retry n (from 0) is drawn from [0, initial_delay_ms × backoff_factor^n], capped at `max_delay_ms`: full
    jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). A provider's `retry_after_s` is a floor:
    jitter is added to it. The last error is raised, at once, when the provider asks for more than `max_delay_ms`, when the
    wait would pass the run's deadline, and when the retries are used up. A layer's refusal (`Rejected`) is retried only when
    it says when to come back, and what the provider calls final (a used-up quota: `details['retryable']` is false) never is.

    A stream that fails before its first content is retried unseen. After it `on_partial` decides: `raise` (the error has
    what had arrived as `partial`), `restart` (a `Restarted` part, then the answer from its beginning) or `continue` (the
    model gets the text so far as the beginning of its answer; only for text, not for tool requests). With
    `commit='finish'` the reader has seen nothing yet, so that `raise` starts over too.

    Events: `retry.wait(attempt, wait_s, error)`, `retry.gave_up(attempts, reason, error)`. An answer that took retries has
    `metadata['retry'] = {'attempts', 'waited_s'}`.
    """

    def __init__(self, config: RetryConfig | None = None, **options: Unpack[RetryOptions]) -> None:
        super().__init__(config, **options)
        self.commit = self.config.commit

    async def wrap_model(self, params: AnyParams, ctx: Ctx, next_fn: Next[AnyParams, AnyAnswer]) -> AnyAnswer:
        asked, retries, waited_s, paid = params, 0, 0.0, None
        while True:
            try:
                response = await next_fn(asked, ctx)
            except LamellaError as error:
                wait_s = self._plan(error, retries, ctx)
                if wait_s is None:
                    with_debts(error, paid)
                    raise
                paid = add_usage(paid, paid_for(error))
                asked = params.replace(attempt=params.attempt + retries + 1)
                try:
                    await self._announce(asked, ctx, retries, wait_s, error)
                except Rejected as refused:
                    with_debts(refused, paid)
                    raise
            else:
                return with_notes(response, _note(retries, waited_s) if retries else {}, paid)
            await ctx.clock.sleep(wait_s)
            retries, waited_s = retries + 1, waited_s + wait_s

    wrap_embed = wrap_model

    async def wrap_stream(self, params: ModelHookParams, ctx: Ctx, next_fn: NextStream) -> AsyncIterator[StreamPart]:
        relay, asked, retries, waited_s = self._relay(), params, 0, 0.0
        while True:
            parts = next_fn(asked, ctx)
            try:
                async for part in parts:
                    if relay.open and type(part) is TextDelta:
                        yield part
                        continue
                    for ready in relay.take(part):
                        yield ready
                for ready in relay.rest():
                    yield ready
                return
            except LamellaError as error:
                stuck = relay.stuck or (ctx.committed and not relay.shown and not may_go_on(params, ctx))
                wait_s, reason = self._plan(error, retries, ctx, stuck), f'retry after {error.status}'
                if wait_s is None:
                    relay.give_up(error)
                    raise
                relay.failed(error)
                asked = params.replace(attempt=params.attempt + retries + 1)
                try:
                    await self._announce(asked, ctx, retries, wait_s, error)
                except Rejected as refused:
                    relay.give_up(refused)
                    raise
            finally:
                await close(parts)
            await ctx.clock.sleep(wait_s)
            retries, waited_s = retries + 1, waited_s + wait_s
            for ready in relay.turn(reason, params.model.name):
                yield ready
            relay.notes = _note(retries, waited_s)
            asked = relay.ask(params).replace(attempt=asked.attempt)

    def _relay(self) -> Relay:
        on_partial = self.config.on_partial
        if on_partial == 'continue':
            return Continuation()
        return Relay('restart' if self.commit == 'finish' else on_partial)

    def _plan(self, error: LamellaError, retries: int, ctx: Ctx, stuck: bool = False) -> float | None:
        """Seconds until the next attempt, or `None` when this error is the last word."""
        reason = self._why_not(error, retries, stuck)
        if reason is None:
            wait_s = wait_before(self.config, retries, floor_s(error), ctx.random.uniform)
            remaining_s = ctx.remaining_s()
            if remaining_s is None or wait_s < remaining_s:
                return wait_s
            reason = 'deadline'
        if retries or reason != 'status':
            ctx.emit('retry.gave_up', attempts=retries + 1, reason=reason, error=error)
        return None

    async def _announce(
        self, asked: ModelHookParams | EmbedHookParams, ctx: Ctx, retries: int, wait_s: float, error: LamellaError
    ) -> None:
        """Tell of the wait. Raises Rejected when a layer outside will not have the retry: then nobody need wait for it."""
        try:
            await before_wait(asked, ctx)
        except Rejected as refused:
            ctx.emit('retry.gave_up', attempts=retries + 1, reason='refused', error=refused)
            raise refused from error
        ctx.emit('retry.wait', attempt=retries + 1, wait_s=wait_s, error=error)

    def _why_not(self, error: LamellaError, retries: int, stuck: bool) -> str | None:
        if error.status not in self.config.statuses or isinstance(error, (ConfigError, UnknownNameError)):
            return 'status'
        if isinstance(error, Rejected) and error.retry_after_s is None:
            return 'refused'
        if error.details.get('retryable') is False:
            return 'final'
        if stuck:
            return 'partial'
        if retries >= self.config.max_retries:
            return 'exhausted'
        return 'retry_after' if floor_s(error) > self.config.max_delay_ms / 1000 else None


def _note(retries: int, waited_s: float) -> JSON:
    return {'retry': {'attempts': retries + 1, 'waited_s': waited_s}}
