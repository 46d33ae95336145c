"""`TenantBudget`: what each tenant may spend in a window, set aside before every call and settled after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Annotated, Any, Literal, TypedDict, Unpack
from weakref import WeakKeyDictionary

from pydantic import BaseModel, Field, model_validator

from lamella.core.calls import close
from lamella.core.context import GenerateMiddlewareContext, Resolver
from lamella.core.estimate import TokenEstimator, estimate_text
from lamella.core.metering import RawCall, priced
from lamella.core.middleware import BaseMiddleware, NextEmbed, NextModel, NextStream
from lamella.core.order import Order
from lamella.core.params import EmbedHookParams, ModelHookParams
from lamella.core.ports import Store
from lamella.core.prices import HOW_TO_PRICE, MICRO, Prices
from lamella.middleware._fields import Count, Duration
from lamella.middleware._keys import Key, KeySetting, key_of, part, shown
from lamella.middleware._ledger import Full, Ledger, Reservation
from lamella.middleware._prices import PricesSetting, with_meter
from lamella.middleware._spending import Spending, micro_down, micro_up, most_tokens, worst_cost
from lamella.middleware._state import OnStoreError, StoreSetting, ask_store, unbroken
from lamella.types import JSON, EmbeddingResponse, Finished, ModelResponse, Rejected, StreamPart, Usage

Ctx = GenerateMiddlewareContext
Dollars = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
LIMITS = {'cost': 'max_cost_usd', 'tokens': 'max_tokens'}
_FACTS = {'cost': 'cost_usd', 'tokens': 'tokens'}
_LEFT = {'cost': 'left_usd', 'tokens': 'left_tokens'}


class TenantBudgetConfig(BaseModel, frozen=True, extra='forbid', arbitrary_types_allowed=True):
    """The settings of `TenantBudget`."""

    max_cost_usd: Annotated[Dollars | None, Field(description='Dollars in a window; None for any number.')] = None
    max_tokens: Annotated[Count | None, Field(description='Tokens in a window, read and written; None for any.')] = None
    window_s: Annotated[
        Duration | None, Field(gt=0, description='The window in seconds, from the first call in it; None for no end.')
    ] = 86_400
    key: Annotated[
        KeySetting,
        Field(description="Whose budget it is: 'tenant', 'model', or what a function of (params, ctx) returns."),
    ] = 'tenant'
    scope: Annotated[
        str, Field(description='Budgets of the same scope and window share what was spent; a name keeps one apart.')
    ] = ''
    reserve: Annotated[
        Literal['estimate', 'worst_case'],
        Field(description="What is set aside for the input: an estimate, or more than it can be ('worst_case')."),
    ] = 'estimate'
    assumed_output_tokens: Annotated[
        Count, Field(description='What is set aside for the answer of a request without max_output_tokens.')
    ] = 1024
    hold_s: Annotated[
        Duration,
        Field(
            gt=0,
            description='What a call takes at most. What a dead process had set aside is free after three times that.',
        ),
    ] = 600
    unknown_tenant: Annotated[
        Literal['refuse', 'share'], Field(description='Calls of nobody: refuse them, or let them share one budget.')
    ] = 'refuse'
    unknown_price: Annotated[
        Literal['refuse', 'ignore'],
        Field(description='Models without a price under max_cost_usd: refuse them, or count only their tokens.'),
    ] = 'refuse'
    prices: Annotated[PricesSetting, Field(description="Prices of one's own; the app's when None.")] = None
    store: Annotated[
        StoreSetting, Field(description="Where it is kept: a store or a URL; the app's own when None.")
    ] = None
    on_store_error: Annotated[
        OnStoreError, Field(description='When the store is away: refuse the call, or allow it and count it later.')
    ] = 'refuse'

    @model_validator(mode='after')
    def _limits_something(self) -> TenantBudgetConfig:
        if self.max_cost_usd is None and self.max_tokens is None:
            raise ValueError('limits nothing: give max_cost_usd, max_tokens or both')
        return self


class TenantBudgetOptions(TypedDict, total=False):
    """The keywords of `TenantBudget`."""

    max_cost_usd: float | None
    max_tokens: int | None
    window_s: float | None
    key: Key
    scope: str
    reserve: Literal['estimate', 'worst_case']
    assumed_output_tokens: int
    hold_s: float
    unknown_tenant: Literal['refuse', 'share']
    unknown_price: Literal['refuse', 'ignore']
    prices: Mapping[str, Any] | Prices | None
    store: Store | str | None
    on_store_error: OnStoreError


class TenantBudget(BaseMiddleware[TenantBudgetConfig]):
    """Lets each tenant (`context={'tenant': …}`) spend `max_cost_usd` dollars and `max_tokens` tokens in a window, over all
    processes that share the store.

    Before a call the store sets aside, in one step, what it will use: its input as estimated, `max_output_tokens` (or
    `assumed_output_tokens`) for the answer. What does not fit is refused: `Rejected`, RESOURCE_EXHAUSTED, with the end of the
    window as `retry_after_s`. After the call what it really used is put in that place. So a budget is passed by no more than what
    the calls under way use beyond what was set aside for them, however many calls and processes there are; with
    `reserve='worst_case'` and `max_output_tokens` that is nothing.

    Whatever the models inside used is counted once: answers, failed attempts, streams that broke off or were left (estimated,
    where the provider reported nothing). A call that failed or was cancelled without a trace gives back all. What was set
    aside by a process that died is given back after a while.

    Events: `tenant_budget.reserved(key, cost_usd, tokens)`, `tenant_budget.settled(key, cost_usd, tokens)`,
    `tenant_budget.refused(key, reason, retry_after_s)`, `tenant_budget.reclaimed(key, cost_usd, tokens)` (of a process that
    died), `store.away`. `metadata['tenant_budget']` has what the call cost
    (`cost_usd`, `tokens`) and what is left (`left_usd`, `left_tokens`).
    """

    order = Order(
        better_inside={
            'retry': 'what is set aside would have to do for all of its attempts',
            'fallback': 'what is set aside would be by the price of the first model',
            'hedge': 'what is set aside would have to do for its second requests too',
            'cache': 'answers that cost nothing would have to be affordable',
            'cost_tracking': 'prices of its own would not be known when money is set aside',
        }
    )

    def __init__(self, config: TenantBudgetConfig | None = None, **options: Unpack[TenantBudgetOptions]) -> None:
        super().__init__(config, **options)
        c = self.config
        kind = c.key if isinstance(c.key, str) else 'one' if c.key is None else 'own'
        self._prefix = f'tenant_budget:{part(c.scope)}:{c.window_s!r}:{kind}:'
        cost = None if c.max_cost_usd is None else micro_down(c.max_cost_usd)
        self._ceilings = {name: most for name, most in (('cost', cost), ('tokens', c.max_tokens)) if most is not None}
        self._estimator = TokenEstimator()
        self._ledgers: WeakKeyDictionary[Resolver, Ledger] = WeakKeyDictionary()

    async def wrap_model(self, params: ModelHookParams, ctx: Ctx, next_fn: NextModel) -> ModelResponse:
        spending, inside = await self._open(params, ctx)
        try:
            response = await next_fn(inside, ctx)
        except BaseException:
            await self._settle(spending, ctx)
            raise
        note = await self._settle(spending, ctx)
        return response.replace(metadata={**response.metadata, self.name: note})

    async def wrap_stream(self, params: ModelHookParams, ctx: Ctx, next_fn: NextStream) -> AsyncIterator[StreamPart]:
        spending, inside = await self._open(params, ctx)
        parts = next_fn(inside, ctx)
        try:
            async for part in parts:
                if type(part) is Finished:
                    note = await self._settle(spending, ctx)
                    part = part.replace(metadata={**(part.metadata or {}), self.name: note})
                yield part
        finally:
            try:
                await close(parts)
            finally:
                await self._settle(spending, ctx)

    async def wrap_embed(self, params: EmbedHookParams, ctx: Ctx, next_fn: NextEmbed) -> EmbeddingResponse:
        texts = params.request.texts
        read = sum([len(text.encode('utf-8', 'surrogatepass')) for text in texts])
        if self.config.reserve == 'estimate':
            read = sum(map(estimate_text, texts))
        spending = self._spending(params, self._prices(None, ctx), ctx)
        await self._reserve(spending, params.model.name, Usage(read, 0, read), ctx)
        try:
            response = await next_fn(params, ctx)
            spending.add(response.usage or Usage(read, 0, read), response.model, ctx)
        finally:
            note = await self._settle(spending, ctx)
        return response.replace(metadata={**response.metadata, self.name: note})

    async def _open(self, params: ModelHookParams, ctx: Ctx) -> tuple[Spending, ModelHookParams]:
        """Set aside what the call may use. The params by which what is inside tells what it uses."""
        own = params.account.prices if params.account is not None else None
        prices = self._prices(own, ctx)
        spending = self._spending(params, prices, ctx)
        model, request = params.model.name, params.model.filled(params.request)
        worst = self.config.reserve == 'worst_case'
        read = most_tokens(request) if worst else self._estimator.estimate(request, model)
        said = request.config.max_output_tokens
        said = self.config.assumed_output_tokens if said is None else said
        await self._reserve(spending, model, Usage(read, said, read + said), ctx)

        def meter(call: RawCall, ctx: Ctx) -> JSON:
            if call.outcome == 'answered' and not call.layered:
                self._estimator.learn(call.model, call.request, call.usage)
            return spending(call, ctx)

        return spending, params.replace(account=with_meter(params.account, meter, own or prices))

    def _prices(self, known: Prices | None, ctx: Ctx) -> Prices | None:
        """The layer's own prices, else those of whoever prices the call anyway, else the app's; nobody's where none matter."""
        if self.config.prices is None and (known is not None or self.config.max_cost_usd is None):
            return known
        return ctx.ai.resolve_prices(self.config.prices)

    def _spending(self, params: Any, prices: Prices | None, ctx: Ctx) -> Spending:
        key = key_of(self.config.key, params, ctx)
        if not key and self.config.key is not None and self.config.unknown_tenant == 'refuse':
            whose = "give context={'tenant': …}" if self.config.key == 'tenant' else 'key= gave no name'
            raise self._refused('', 'unknown_tenant', f'nobody knows whose budget this is: {whose}', None, ctx)
        ledger = self._ledgers.get(ctx.ai)
        if ledger is None:
            store = ctx.ai.resolve_store(self.config.store)
            ledger = self._ledgers[ctx.ai] = Ledger(
                store, tuple(self._ceilings), self.config.window_s, self.config.hold_s
            )
        return Spending(key, self._prefix + part(key), ledger, params.model.name, prices)

    async def _reserve(self, spending: Spending, model: str, wanted: Usage, ctx: Ctx) -> None:
        """Raises Rejected when it does not fit, and when it cannot be known whether it does."""
        cost_usd = self._cost(spending, model, wanted, ctx)
        ledger, now = spending.ledger, ctx.clock.now()
        amounts = self._limited((micro_up(cost_usd), wanted.total_tokens or 0))

        def undo(taken: Reservation | Full) -> Coroutine[Any, Any, Any]:
            return _given_back(ledger, taken, now)

        verb = unbroken(ledger.store, ledger.reserve(spending.base, amounts, [*self._ceilings.values()], now), undo)
        taken = await ask_store(self, ctx, verb, self.config.on_store_error, None)
        for freed in ledger.take_reclaimed(spending.base):
            told = {_FACTS[name]: _fact(name, amount) for name, amount in zip(self._ceilings, freed, strict=True)}
            ctx.emit('tenant_budget.reclaimed', key=spending.key, **told)
        if isinstance(taken, Full):
            raise self._full(spending.key, taken, amounts[taken.which], ctx)
        spending.reservation = taken
        ctx.emit('tenant_budget.reserved', key=spending.key, cost_usd=cost_usd, tokens=wanted.total_tokens)

    def _limited(self, amounts: tuple[int, int]) -> tuple[int, ...]:
        """Of cost and tokens what has a limit."""
        return tuple([amount for name, amount in zip(_FACTS, amounts, strict=True) if name in self._ceilings])

    def _cost(self, spending: Spending, model: str, wanted: Usage, ctx: Ctx) -> float:
        prices = spending.prices
        if prices is None:
            return 0.0
        if self.config.reserve == 'worst_case':
            cost_usd = worst_cost(wanted, prices, model, ctx)
        else:
            cost_usd = priced(wanted, prices, model, None, ctx).cost_usd
        if cost_usd is None and self.config.max_cost_usd is not None and self.config.unknown_price == 'refuse':
            message = f'no price is known for {model!r}, so that max_cost_usd cannot be held: {HOW_TO_PRICE}'
            raise self._refused(spending.key, 'unknown_price', message, None, ctx)
        return cost_usd or 0.0

    async def _settle(self, spending: Spending, ctx: Ctx) -> JSON:
        """Put what was used in the place of what was set aside, once. A store that is away now is told later."""
        ledger, reservation, was_settled = spending.ledger, spending.reservation, spending.is_settled
        used, spending.is_settled = self._limited(spending.unsettled()), True
        note: JSON = {'cost_usd': spending.cost_usd, 'tokens': spending.tokens}
        if was_settled or reservation is None:
            ledger.owe(spending.base, used, reservation.windows if reservation is not None else ())
            return note
        ctx.emit('tenant_budget.settled', key=spending.key, **note)
        verb = unbroken(ledger.store, ledger.settle(reservation, used, ctx.clock.now()))
        counts = await ask_store(self, ctx, verb, 'allow', ())
        for (name, most), count in zip(self._ceilings.items(), counts, strict=False):
            note[_LEFT[name]] = _fact(name, max(0, most - count.value))
        return note

    def _full(self, key: str, full: Full, wanted: int, ctx: Ctx) -> Rejected:
        name, most = list(self._ceilings.items())[full.which]
        limit = LIMITS[name]
        whose = f'the budget of {shown(key)}' if key else 'the budget'
        said = f'{limit}={getattr(self.config, limit)}'
        if wanted > most:
            message = f'{whose} is {said}, and this call alone may take {_shown(name, wanted)}'
            return self._refused(key, limit, message, None, ctx)
        message = f'{whose} ({said}) has {_shown(name, full.left)} left, and this call may take {_shown(name, wanted)}'
        return self._refused(key, limit, message, full.ends_in_s, ctx)

    def _refused(self, key: str, reason: str, message: str, retry_after_s: float | None, ctx: Ctx) -> Rejected:
        ctx.emit('tenant_budget.refused', key=key, reason=reason, retry_after_s=retry_after_s)
        status: Literal['RESOURCE_EXHAUSTED', 'FAILED_PRECONDITION'] = (
            'RESOURCE_EXHAUSTED' if reason in LIMITS.values() else 'FAILED_PRECONDITION'
        )
        return Rejected(message, by=self, status=status, retry_after_s=retry_after_s)


async def _given_back(ledger: Ledger, taken: Reservation | Full, now: float) -> None:
    if isinstance(taken, Reservation):
        await ledger.settle(taken, (0,) * len(taken.amounts), now)


def _fact(name: str, amount: int) -> float:
    return amount / MICRO if name == 'cost' else amount


def _shown(name: str, amount: int) -> str:
    return f'${amount / MICRO:.6f}' if name == 'cost' else f'{amount} tokens'
