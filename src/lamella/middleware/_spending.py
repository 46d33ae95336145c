"""What one call may spend, before it; and what it has spent, while it runs."""

from __future__ import annotations

import math

import msgspec

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.metering import RawCall, priced, tokens_of
from lamella.core.prices import MICRO, Prices
from lamella.middleware._ledger import Ledger, Reservation
from lamella.types import JSON, MediaPart, ModelRequest, ToolResponsePart, Usage

Ctx = GenerateMiddlewareContext
ANY_MEDIUM, PROVIDERS_WORDS = 100_000, 1024
_ROUNDING = 1e-6  # of a millionth of a dollar: what sums of floats are off by


class Spending:
    """The spending of one call: a meter that is told of every raw call inside, failed attempts and lost races too."""

    __slots__ = (
        '_model',
        '_settled',
        'base',
        'cost_usd',
        'is_settled',
        'key',
        'ledger',
        'prices',
        'reservation',
        'tokens',
    )

    def __init__(self, key: str, base: str, ledger: Ledger, model: str, prices: Prices | None) -> None:
        self.key, self.base, self.ledger, self.prices = key, base, ledger, prices
        self.reservation: Reservation | None = None
        self.is_settled = False
        self.cost_usd, self.tokens = 0.0, 0
        self._model, self._settled = model, (0, 0)

    def __call__(self, call: RawCall, ctx: Ctx) -> JSON:
        if call.used is not None:
            self.add(call.used, call.answered, ctx)
        return {}

    def add(self, used: Usage, answered: str | None, ctx: Ctx) -> None:
        """Count a usage; one without a price as if the model had been asked that the amounts were set aside for."""
        self.cost_usd += priced(used, self.prices, self._model, answered, ctx).cost_usd or 0.0
        self.tokens += tokens_of(used)

    def unsettled(self) -> tuple[int, int]:
        """Millionths of a dollar (rounded up) and tokens that were used since this was last asked."""
        cost, tokens = micro_up(self.cost_usd), self.tokens
        before, self._settled = self._settled, (cost, tokens)
        return cost - before[0], tokens - before[1]


def micro_up(dollars: float) -> int:
    """Whole millionths of a dollar, rounded up."""
    return max(0, math.ceil(dollars * MICRO - _ROUNDING))


def micro_down(dollars: float) -> int:
    """Whole millionths of a dollar, rounded down."""
    return math.floor(dollars * MICRO + _ROUNDING)


def worst_cost(usage: Usage, prices: Prices, model: str, ctx: Ctx) -> float | None:
    """What so many tokens cost at most: all written to the provider's cache, all thought. `None` where no price is known."""
    kinds = (
        usage,
        usage.replace(cache_write_tokens=usage.input_tokens),
        usage.replace(reasoning_tokens=usage.output_tokens),
        usage.replace(cache_write_tokens=usage.input_tokens, reasoning_tokens=usage.output_tokens),
    )
    costs = [priced(kind, prices, model, None, ctx).cost_usd for kind in kinds]
    known = [cost for cost in costs if cost is not None]
    return max(known) if known else None


def most_tokens(request: ModelRequest) -> int:
    """A number of tokens that no request like this passes: one for each byte of it as JSON, since a token of any byte-pair
    encoding has at least one; 100,000 for each medium; and 1,024 for what providers say to the model of its tools and of the
    wanted output (up to some 800 at docs.claude.com, "Tool use: pricing"). What a provider's own tools read is not in it."""
    sent = (request.messages, request.tools, request.output)
    try:
        size = len(msgspec.json.encode(sent, enc_hook=repr))
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        size = 4 * len(repr(sent))
    own_words = PROVIDERS_WORDS if request.tools or request.output is not None else 0
    return size + own_words + ANY_MEDIUM * _media(request)


def _media(request: ModelRequest) -> int:
    parts = [part for message in request.messages for part in message.content]
    answers = [part.tool_response.output for part in parts if isinstance(part, ToolResponsePart)]
    return sum([isinstance(part, MediaPart) for part in (*parts, *answers)])
