"""Prices from the genai-prices package (github.com/pydantic/genai-prices): its data comes with it, nothing is downloaded.

Reached by name through `lamella.core.prices`, because importing it takes a while.
"""

from __future__ import annotations

from typing import Any

from genai_prices import Usage as Priced
from genai_prices import calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice, TieredPrices

from lamella.core.prices import MICRO, Price, Rates, has_tokens
from lamella.types import Usage

_REMEMBERED = 4096


class GenaiPrices:
    """What some 2,300 models cost by their providers' price lists, at the moment of asking.

    Most prices are the same for every token at any time: these are worked out once (the package takes 100 µs for each
    question). Those with tiers, times or a price for the call itself are asked of the package each time.
    """

    def __init__(self) -> None:
        self._data: Any = None
        self._known: dict[tuple[str, str], Rates | None] = {}

    def cost(self, provider: str, model: str, usage: Usage, answered: str | None = None) -> Price | None:
        if not has_tokens(usage):
            return None
        if answered is not None:
            price = self._price(*_split(answered), usage)
            if price is not None:
                return price
        return self._price(provider, model, usage)

    def _price(self, provider: str, model: str, usage: Usage) -> Price | None:
        """A model of no known provider has no price, whatever its name is like: it may run on a machine of one's own."""
        if not provider:
            return None
        rates = self._rates(provider, model)
        if rates is not None:
            return Price(rates.cost(usage), 'genai-prices')
        try:
            return Price(_asked(provider, model, _tokens(usage)), 'genai-prices')
        except (LookupError, ValueError):
            return None

    def _rates(self, provider: str, model: str) -> Rates | None:
        """The prices of a model that has the same ones for all tokens, or `None`."""
        data = get_snapshot()
        if data is not self._data or len(self._known) >= _REMEMBERED:
            self._data, self._known = data, {}
        key = (provider, model)
        if key not in self._known:
            self._known[key] = _flat(data, provider, model)
        return self._known[key]


def _split(name: str) -> tuple[str, str]:
    provider, slash, model = name.partition('/')
    return (provider, model) if slash else ('', name)


def _asked(provider: str, model: str, tokens: Priced) -> float:
    return float(calc_price(tokens, model, provider_id=provider).total_price)


def _tokens(usage: Usage) -> Priced:
    """Parts are never larger than the whole, which the package insists on and some providers do not."""
    cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    said, thought = usage.output_tokens or 0, usage.reasoning_tokens or 0
    return Priced(
        input_tokens=max(usage.input_tokens or 0, cached + written),
        output_tokens=max(said, thought),
        cache_read_tokens=cached or None,
        cache_write_tokens=written or None,
        output_reasoning_tokens=thought or None,
    )


def _flat(data: Any, provider: str, model: str) -> Rates | None:
    try:
        _, found = data.find_provider_model(model, None, provider, None)
        prices = found.prices
        if type(prices) is not ModelPrice or any(isinstance(value, TieredPrices) for value in vars(prices).values()):
            return None
        if _asked(provider, model, _tokens(Usage(0, 0))):  # each call costs something, too
            return None
        kinds = (
            Usage(MICRO, 0),
            Usage(0, MICRO),
            Usage(MICRO, 0, cached_tokens=MICRO),
            Usage(MICRO, 0, cache_write_tokens=MICRO),
            Usage(0, MICRO, reasoning_tokens=MICRO),
        )
        return Rates(*[_asked(provider, model, _tokens(kind)) for kind in kinds])
    except (LookupError, ValueError):
        return None
