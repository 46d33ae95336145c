"""What a call cost, in tokens and money."""

from __future__ import annotations

from lamella.types.base import Data


class Usage(Data, frozen=True):
    """Token counts as the provider reported them; `None` means "not told", never zero.

    `cached_tokens` were read from the provider's prompt cache and are part of `input_tokens`; `cache_write_tokens` were
    written to it, and are part of `input_tokens` too; `reasoning_tokens` are part of `output_tokens`. `cost_usd` is filled
    by a layer that knows prices.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None
    cost_usd: float | None = None

    def __add__(self, other: Usage) -> Usage:
        """Field by field; what only one side knows counts as it is, what neither knows stays `None`."""
        return Usage(
            _sum(self.input_tokens, other.input_tokens),
            _sum(self.output_tokens, other.output_tokens),
            _sum(self.total_tokens, other.total_tokens),
            _sum(self.cached_tokens, other.cached_tokens),
            _sum(self.reasoning_tokens, other.reasoning_tokens),
            _sum(self.cache_write_tokens, other.cache_write_tokens),
            other.cost_usd if self.cost_usd is None else self.cost_usd + (other.cost_usd or 0.0),
        )

    def __sub__(self, other: Usage) -> Usage:
        """What is left after `other`, field by field; what is not known here stays `None`."""
        return Usage(
            _difference(self.input_tokens, other.input_tokens),
            _difference(self.output_tokens, other.output_tokens),
            _difference(self.total_tokens, other.total_tokens),
            _difference(self.cached_tokens, other.cached_tokens),
            _difference(self.reasoning_tokens, other.reasoning_tokens),
            _difference(self.cache_write_tokens, other.cache_write_tokens),
            None if self.cost_usd is None else self.cost_usd - (other.cost_usd or 0.0),
        )


def _difference(a: int | None, b: int | None) -> int | None:
    return a if a is None or b is None else a - b


def _sum(a: int | None, b: int | None) -> int | None:
    if a is None:
        return b
    return a if b is None else a + b


def add_usage(a: Usage | None, b: Usage | None) -> Usage | None:
    """The sum of two usages of which either may be unknown."""
    if a is None:
        return b
    return a if b is None else a + b
