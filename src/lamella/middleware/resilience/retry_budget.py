"""`RetryBudget`: retries are a small share of the calls, whatever fails, so that an outage is not made worse."""

from __future__ import annotations

from typing import Annotated, TypedDict, Unpack

from pydantic import BaseModel, Field, model_validator

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import AnyParams, BaseMiddleware, NextEmbed
from lamella.core.order import Order
from lamella.core.params import EmbedHookParams, Escort, ModelHookParams
from lamella.core.ports import Bucket, Store, Taken
from lamella.middleware._fields import Duration
from lamella.middleware._keys import Key, KeySetting, key_of, part
from lamella.middleware._state import OnStoreError, StoreSetting, ask_store
from lamella.types import EmbeddingResponse, Rejected

Ctx = GenerateMiddlewareContext


class RetryBudgetConfig(BaseModel, frozen=True, extra='forbid', arbitrary_types_allowed=True):
    """The settings of `RetryBudget`."""

    ratio: Annotated[Duration, Field(le=1, description='What each call pays in: 0.2 is one retry for five calls.')] = (
        0.2
    )
    min_per_s: Annotated[
        Duration, Field(description='Retries in a second that are always there, for those who call rarely.')
    ] = 0.1
    burst: Annotated[
        Duration, Field(ge=1, description='The most retries that are saved up, and what there is at the beginning.')
    ] = 10.0
    key: Annotated[
        KeySetting,
        Field(
            description="What has a budget of its own: 'model', 'tenant', or what a function of (params, ctx) returns."
        ),
    ] = 'model'
    scope: Annotated[
        str,
        Field(description='Layers with the same settings and scope share budgets; a name of its own keeps one apart.'),
    ] = ''
    store: Annotated[
        StoreSetting, Field(description='Where the budgets are kept: a store or a URL; the app’s own when None.')
    ] = None
    on_store_error: Annotated[
        OnStoreError, Field(description='When the store is away: refuse retries, or allow them all.')
    ] = 'refuse'

    @model_validator(mode='after')
    def _gives(self) -> RetryBudgetConfig:
        if not self.ratio and not self.min_per_s:
            raise ValueError('gives nothing after its first retries: give ratio, min_per_s or both')
        return self


class RetryBudgetOptions(TypedDict, total=False):
    """The keywords of `RetryBudget`."""

    ratio: float
    min_per_s: float
    burst: float
    key: Key
    scope: str
    store: Store | str | None
    on_store_error: OnStoreError


class RetryBudget(BaseMiddleware[RetryBudgetConfig]):
    """Each call of a model pays `ratio` into the model's budget, each further request for it takes 1; without it, none is sent.

    So there are at most `ratio` retries for each call, `min_per_s` in a second, and `burst` that were saved up: over all
    processes that share the store, and exactly (the retry budget of Finagle, twitter.github.io/finagle/guide/Clients.html).
    A first request is never refused. The others are `Rejected` with the status of the last failure, which they name.

    It sees each request where it is sent, so it may stand outside or inside of `Retry`, and of any other layer that asks
    again: what is asked with `params.attempt` above 1, or a second time within one call, is a retry. The second request of a
    `Hedge` is one, the next model of a `Fallback` is none. Outside of `Retry`, a retry is refused before its wait.

    Events: `retry_budget.spent(model, key, attempt)`, `retry_budget.refused(model, key, attempt, wait_s)`, `store.away`.
    """

    order = Order(better_outside={'retry': 'a retry would be waited for before it is refused'})

    def __init__(self, config: RetryBudgetConfig | None = None, **options: Unpack[RetryBudgetOptions]) -> None:
        super().__init__(config, **options)
        c = self.config
        kind = c.key if isinstance(c.key, str) else 'one' if c.key is None else 'own'
        self._prefix = f'retry_budget:{part(c.scope)}:{c.ratio!r}-{c.min_per_s!r}-{c.burst!r}:{kind}:'

    async def transform_params(self, params: ModelHookParams, ctx: Ctx) -> ModelHookParams:
        return self._escorted(params)

    async def wrap_embed(self, params: EmbedHookParams, ctx: Ctx, next_fn: NextEmbed) -> EmbeddingResponse:
        return await next_fn(self._escorted(params), ctx)

    def _escorted(self, params: AnyParams) -> AnyParams:
        if any(isinstance(escort, _Purse) and escort.prefix == self._prefix for escort in params.escorts):
            return params  # another one like this counts already
        return params.escorted(_Purse(self, self._prefix))

    async def pay_in(self, key: str, ctx: Ctx) -> None:
        """A call: it goes whatever happens to the store."""
        if self.config.ratio:
            paying = ctx.ai.resolve_store(self.config.store).settle([self._bucket(key, -self.config.ratio)])
            await ask_store(self, ctx, paying, 'allow', None)

    async def take(self, key: str, params: ModelHookParams | EmbedHookParams, ctx: Ctx) -> None:
        """A retry. Raises Rejected when there is nothing left."""
        taking = ctx.ai.resolve_store(self.config.store).take([self._bucket(key, 1.0)])
        taken = await ask_store(self, ctx, taking, self.config.on_store_error, Taken(granted=True))
        facts = {'model': params.model.name, 'key': key, 'attempt': params.attempt}
        if taken.granted:
            ctx.emit('retry_budget.spent', **facts)
            return
        ctx.emit('retry_budget.refused', wait_s=taken.wait_s, **facts)
        raise self._refusal(params.model.name, ctx)

    def _bucket(self, key: str, amount: float) -> Bucket:
        return Bucket(self._prefix + part(key), self.config.min_per_s, self.config.burst, amount)

    def _refusal(self, model: str, ctx: Ctx) -> Rejected:
        c, last = self.config, next((attempt for attempt in reversed(ctx.attempts) if attempt.model == model), None)
        share = f'one for {1 / c.ratio:.3g} calls' if c.ratio else f'{c.min_per_s:g} in a second'
        said = f'no further request to {model}: its retry budget is used up ({share})'
        if last is None:
            return Rejected(said, by=self, status='UNAVAILABLE')
        return Rejected(f'{said}; the last one failed with {last.status}: {last.message}', by=self, status=last.status)


class _Purse(Escort):
    """Goes along with one call, and tells its first requests from the others, model by model."""

    __slots__ = ('_asked', '_layer', '_taken', 'prefix')

    def __init__(self, layer: RetryBudget, prefix: str) -> None:
        self._layer, self.prefix = layer, prefix
        self._asked: set[str] = set()
        self._taken: set[int] = set()

    async def before_wait(self, params: ModelHookParams | EmbedHookParams, ctx: Ctx) -> None:
        await self._layer.take(key_of(self._layer.config.key, params, ctx), params, ctx)
        self._taken.add(params.attempt)

    async def before(self, params: ModelHookParams | EmbedHookParams, ctx: Ctx) -> None:
        model, key = params.model.name, key_of(self._layer.config.key, params, ctx)
        is_first = params.attempt == 1 and model not in self._asked
        self._asked.add(model)
        if is_first:
            await self._layer.pay_in(key, ctx)
        elif params.attempt in self._taken:
            self._taken.discard(params.attempt)
        else:
            await self._layer.take(key, params, ctx)
