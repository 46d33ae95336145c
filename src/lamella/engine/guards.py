"""Limits of one run, looked at between its turns: what it may cost, how many tokens it may use, and its deadline."""

from __future__ import annotations

from typing import Any

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.metering import RawCall, tokens_of
from lamella.core.prices import HOW_TO_PRICE, is_price
from lamella.types import JSON, ConfigError, Data, LamellaError, StopRun

Ctx = GenerateMiddlewareContext


class RunLimits(Data, frozen=True):
    """What a run may use; `None` for no limit."""

    max_cost_usd: float | None = None
    max_tokens: int | None = None

    def over(self, base: RunLimits) -> RunLimits:
        """These limits where they are set, `base` elsewhere."""
        cost = base.max_cost_usd if self.max_cost_usd is None else self.max_cost_usd
        return RunLimits(cost, base.max_tokens if self.max_tokens is None else self.max_tokens)


NO_LIMITS = RunLimits()


def limits_of(max_cost_usd: Any, max_tokens: Any) -> RunLimits:
    """Checked limits; `NO_LIMITS` itself where there are none. Raises ConfigError."""
    if max_cost_usd is None and max_tokens is None:
        return NO_LIMITS
    if max_cost_usd is not None and not is_price(max_cost_usd):
        raise ConfigError(f'max_cost_usd={max_cost_usd!r}: give a number of dollars of at least 0')
    if max_tokens is not None and (isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 0):
        raise ConfigError(f'max_tokens={max_tokens!r}: give a whole number of at least 0')
    return RunLimits(max_cost_usd, max_tokens)


class Guard:
    """The meter of one run: told of each raw model call, failed attempts too, and asked when a turn is over.

    Where a provider reports no usage, estimates count.
    """

    __slots__ = ('_cost_usd', '_limits', '_tokens', '_unpriced')

    def __init__(self, limits: RunLimits) -> None:
        self._limits = limits
        self._cost_usd, self._tokens = 0.0, 0
        self._unpriced: str | None = None

    def __call__(self, call: RawCall, ctx: Ctx) -> JSON:
        used = call.used
        if used is not None:
            self._tokens += tokens_of(used)
            if used.cost_usd is None:
                self._unpriced = call.answered or call.model
            else:
                self._cost_usd += used.cost_usd
        return {}

    def check(self, turns: int, ctx: Ctx) -> None:
        """Raises StopRun when another turn must not begin, and FAILED_PRECONDITION when nobody can tell."""
        limits, took = self._limits, 'one turn' if turns == 1 else f'{turns} turns'
        if limits.max_cost_usd is not None:
            if self._unpriced is not None:
                raise unpriced(limits.max_cost_usd, self._unpriced)
            if self._cost_usd >= limits.max_cost_usd:
                spent = f'{self._cost_usd:.6f}'.rstrip('0').rstrip('.')
                raise StopRun('max_cost', f'max_cost_usd={limits.max_cost_usd:g} reached: ${spent} in {took}')
        if limits.max_tokens is not None and self._tokens >= limits.max_tokens:
            raise StopRun('max_tokens', f'max_tokens={limits.max_tokens} reached: {self._tokens} in {took}')
        remaining_s = ctx.remaining_s()
        if remaining_s is not None and remaining_s <= 0:
            raise StopRun('timeout', f'timeout_s reached after {took}')


def unpriced(max_cost_usd: float, model: str) -> LamellaError:
    """The error of a limit that nobody can hold."""
    return LamellaError(
        'FAILED_PRECONDITION',
        f'max_cost_usd={max_cost_usd:g} cannot be held: no price is known for {model!r}; {HOW_TO_PRICE} to Lamella(…)',
    )
