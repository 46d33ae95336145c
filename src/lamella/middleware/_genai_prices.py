"""Prices from the genai-prices package (github.com/pydantic/genai-prices): its data comes with it, nothing is downloaded.

Reached by name through `lamella.core.prices`, because importing it takes a while.
"""

from __future__ import annotations

from typing import Any

from genai_prices import Usage as Priced
from genai_prices import calc_price

from lamella.core.prices import Price, has_tokens
from lamella.types import Usage


class GenaiPrices:
    """What some 2,000 models cost by their providers' price lists, at the moment of asking."""

    def cost(self, provider: str, model: str, usage: Usage, answered: str | None = None) -> Price | None:
        if not has_tokens(usage):
            return None
        tokens = _tokens(usage)
        if answered is not None:
            price = _price(*_split(answered), tokens)
            if price is not None:
                return price
        return _price(provider, model, tokens)


def _split(name: str) -> tuple[str, str]:
    provider, slash, model = name.partition('/')
    return (provider, model) if slash else ('', name)


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


def _price(provider: str, model: str, tokens: Any) -> Price | None:
    """A model of no known provider has no price, whatever its name is like: it may run on a machine of one's own."""
    if not provider:
        return None
    try:
        return Price(float(calc_price(tokens, model, provider_id=provider).total_price), 'genai-prices')
    except (LookupError, ValueError):
        return None
