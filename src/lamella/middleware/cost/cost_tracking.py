"""`CostTracking`: fill in what every call cost, and say so where no price is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypedDict, Unpack

from pydantic import BaseModel, Field, model_validator

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.metering import RawCall, priced
from lamella.core.middleware import BaseMiddleware, NextEmbed
from lamella.core.params import EmbedHookParams, ModelHookParams
from lamella.core.prices import Prices
from lamella.middleware._prices import PricesSetting, with_meter
from lamella.types import JSON, EmbeddingResponse, Usage

Ctx = GenerateMiddlewareContext
Rate = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
_RATES = ('input_per_mtok', 'output_per_mtok', 'cached_per_mtok', 'cache_write_per_mtok', 'reasoning_per_mtok')


class CostTrackingConfig(BaseModel, frozen=True, extra='forbid', arbitrary_types_allowed=True):
    """The settings of `CostTracking`."""

    prices: Annotated[
        PricesSetting,
        Field(description='Own prices by `provider/model` (`*` for anything), or an object that knows prices.'),
    ] = None
    input_per_mtok: Annotated[
        Rate | None, Field(description='Dollars for a million input tokens of every model that `prices` does not name.')
    ] = None
    output_per_mtok: Annotated[Rate | None, Field(description='The same for output tokens.')] = None
    cached_per_mtok: Annotated[
        Rate | None, Field(description="The same for what the provider's cache gave; the input's price when left out.")
    ] = None
    cache_write_per_mtok: Annotated[
        Rate | None, Field(description="The same for what was put there; the input's price when left out.")
    ] = None
    reasoning_per_mtok: Annotated[
        Rate | None, Field(description="The same for reasoning tokens; the output's price when left out.")
    ] = None

    @model_validator(mode='after')
    def _whole(self) -> CostTrackingConfig:
        given = [name for name in _RATES if getattr(self, name) is not None]
        missing = [name for name in _RATES[:2] if name not in given]
        if given and missing:
            raise ValueError(f'{", ".join(given)} needs {" and ".join(missing)} too')
        if given and self.prices is not None and not isinstance(self.prices, Mapping):
            raise ValueError(f'give {given[0]} or an object as prices, not both')
        return self


class CostTrackingOptions(TypedDict, total=False):
    """The keywords of `CostTracking`."""

    prices: Mapping[str, Any] | Prices | None
    input_per_mtok: float | None
    output_per_mtok: float | None
    cached_per_mtok: float | None
    cache_write_per_mtok: float | None
    reasoning_per_mtok: float | None


class CostTracking(BaseMiddleware[CostTrackingConfig]):
    """Fills `usage.cost_usd` of every call: by one's own prices, then the app's, then those of genai-prices.

    Every raw model call is priced where the model answers, by the model that was asked or answered: failed attempts as far as
    their usage is known, fallbacks, and streams; so the layer may stand anywhere among others and counts nothing twice. A cost
    that the provider tells is believed. Where no price is known `cost_usd` stays `None`: in a sum over several calls it is what
    the priced ones cost, and the metadata says that it is not all.

    Events: `cost.spent(model, cost_usd, usage, outcome, estimated)` for each call of a model; `estimated` where a stream broke
    off, or an answer came, without a report of its usage: such a guess is told and never added to `usage`. `cost.unknown(model,
    usage, outcome)` where no price is known. `metadata['cost_tracking']` tells of the run so far: `cost_usd`, `calls`,
    `estimated_usd` where there are guesses, and `unknown: True` with `unpriced_calls` where `cost_usd` is not all.
    """

    def __init__(self, config: CostTrackingConfig | None = None, **options: Unpack[CostTrackingOptions]) -> None:
        super().__init__(config, **options)
        rates = {name: rate for name in _RATES if (rate := getattr(self.config, name)) is not None}
        self._prices: Mapping[str, Any] | Prices | None = self.config.prices
        if rates:
            self._prices = {'*': rates, **(self.config.prices or {})}

    async def transform_params(self, params: ModelHookParams, ctx: Ctx) -> ModelHookParams:
        account = params.account
        if account is not None and any(isinstance(meter, CostTracking) for meter in account.meters):
            if self._prices is None:
                return params
            return params.replace(account=account.replace(prices=ctx.ai.resolve_prices(self._prices)))
        known = account.prices if account is not None and self._prices is None else None
        return params.replace(account=with_meter(account, self, known or ctx.ai.resolve_prices(self._prices)))

    def __call__(self, call: RawCall, ctx: Ctx) -> JSON:
        """For the metering at the innermost ring."""
        used = call.used
        if used is None:  # a failure that nobody pays for, as far as is known
            return {}
        note = self._note(used, call.usage is None, ctx)
        if not (call.layered and call.own_price and self._told_inside(ctx)):
            self._tell(ctx, call.answered or call.model, used, call.outcome, call.usage is None)
        return {self.name: note}

    async def wrap_embed(self, params: EmbedHookParams, ctx: Ctx, next_fn: NextEmbed) -> EmbeddingResponse:
        response = await next_fn(params, ctx)
        prices, asked = ctx.ai.resolve_prices(self._prices), params.model.name
        usage = priced(response.usage or Usage(), prices, asked, response.model, ctx)
        note = self._note(usage, False, ctx)
        self._tell(ctx, response.model or asked, usage, 'answered', False)
        metadata = {**response.metadata, self.name: note}
        return response.replace(usage=response.usage and usage, metadata=metadata)

    def _note(self, used: Usage, guessed: bool, ctx: Ctx) -> JSON:
        """What the run cost up to and with this call."""
        state = ctx.state(self)
        state['calls'] = state.get('calls', 0) + 1
        if guessed or used.cost_usd is None:
            state['unpriced'] = state.get('unpriced', 0) + 1
        if used.cost_usd is not None:
            kind = 'estimated_usd' if guessed else 'cost_usd'
            state[kind] = state.get(kind, 0.0) + used.cost_usd
        note: JSON = {'cost_usd': state.get('cost_usd'), 'calls': state['calls']}
        if 'estimated_usd' in state:
            note['estimated_usd'] = state['estimated_usd']
        if 'unpriced' in state:
            note |= {'unknown': True, 'unpriced_calls': state['unpriced']}
        return note

    def _told_inside(self, ctx: Ctx) -> bool:
        """Whether another one of these, on the model itself, has told what its calls cost."""
        return bool(ctx.state(CostTracking).get('tellers', set()) - {id(self)})

    def _tell(self, ctx: Ctx, model: str, used: Usage, outcome: str, estimated: bool) -> None:
        ctx.state(CostTracking).setdefault('tellers', set()).add(id(self))
        if used.cost_usd is None:
            ctx.emit('cost.unknown', model=model, usage=used, outcome=outcome)
            return
        ctx.emit('cost.spent', model=model, cost_usd=used.cost_usd, usage=used, outcome=outcome, estimated=estimated)
