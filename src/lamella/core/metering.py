"""What each raw model call used: told where the model answers, so that no order of layers counts it twice or not at all.

A layer that prices or counts hands an `Account` inwards with the call's params. The innermost ring prices what the provider
reported, also of attempts that failed, and tells every meter once for each call of a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any, Literal, Protocol

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.prices import Prices, price_of
from lamella.types import (
    JSON,
    STREAM_PARTS,
    Data,
    Finished,
    Folder,
    LamellaError,
    ModelRequest,
    ModelResponse,
    ReasoningPart,
    TextPart,
    ToolInputDelta,
    ToolRequested,
    ToolRequestPart,
    Usage,
    is_content,
)

Ctx = GenerateMiddlewareContext


class RawCall(Data, frozen=True):
    """One call of one model that is over.

    `outcome` is `left` when the reader went away. `usage` is what the provider reported, `None` when nothing, with `cost_usd`
    where a price is known. `guess` stands in for it when a provider that answered, or began to, reported nothing: tokens
    estimated from the request and from what arrived, and priced alike. `own_price` says that the cost came with the usage: the
    provider told it, or the layers of the model (`layered`) did.
    """

    model: str
    request: ModelRequest
    outcome: Literal['answered', 'failed', 'left']
    usage: Usage | None = None
    guess: Usage | None = None
    answered: str | None = None
    own_price: bool = False
    layered: bool = False

    @property
    def used(self) -> Usage | None:
        """What the provider reported, or else the guess."""
        return self.guess if self.usage is None else self.usage


class Meter(Protocol):
    """Told of every call of a model. What it returns is added to the metadata of an answer. Must not wait or fail."""

    def __call__(self, call: RawCall, ctx: Ctx) -> JSON: ...


class Account(Data, frozen=True):
    """Who prices the calls further in, and who is told of them."""

    prices: Prices | None = None
    meters: tuple[Meter, ...] = ()


class Params(Protocol):
    """What is needed of a call's params."""

    @property
    def request(self) -> ModelRequest: ...
    @property
    def model(self) -> Any: ...
    @property
    def account(self) -> Account | None: ...


def metered(response: ModelResponse, params: Params, ctx: Ctx) -> ModelResponse:
    """The answer of a whole call, priced and told."""
    call, notes = _tell(params, ctx, 'answered', response.usage, response.model, response.message.content)
    if notes:
        response = response.replace(metadata={**response.metadata, **notes})
    return response if call.usage is response.usage else response.replace(usage=call.usage)


def metered_end(end: Finished, heard: Sequence[Any], params: Params, ctx: Ctx) -> Finished:
    """The end of a stream, priced and told."""
    call, notes = _tell(params, ctx, 'answered', end.usage, end.model, heard)
    if notes:
        end = end.replace(metadata={**(end.metadata or {}), **notes})
    return end if call.usage is end.usage else end.replace(usage=call.usage)


def metered_failure(error: LamellaError, heard: Sequence[Any], params: Params, ctx: Ctx) -> None:
    """A failed call: what the error tells of its usage is priced in place."""
    partial = error.partial
    usage, answered = (None, None) if partial is None else (partial.usage, partial.model)
    if partial is not None and not heard:
        heard = partial.message.content
    call, _ = _tell(params, ctx, 'failed', usage, answered, heard)
    if partial is not None and call.usage is not usage:
        error.partial = partial.replace(usage=call.usage)


def metered_leaving(heard: Sequence[Any], params: Params, ctx: Ctx) -> None:
    """A stream whose reader went away."""
    _tell(params, ctx, 'left', None, None, heard)


def _tell(
    params: Params,
    ctx: Ctx,
    outcome: Literal['answered', 'failed', 'left'],
    usage: Usage | None,
    answered: str | None,
    heard: Sequence[Any],
) -> tuple[RawCall, JSON]:
    account, model, guess = params.account or Account(), params.model, None
    own_price = usage is not None and usage.cost_usd is not None
    if usage is not None:
        usage = _priced(usage, account, model, answered, ctx)
    elif outcome == 'answered' or any(type(part) not in STREAM_PARTS or is_content(part) for part in heard):
        guess = _priced(guessed(params.request, heard), account, model, answered, ctx)
    call = RawCall(model.name, params.request, outcome, usage, guess, answered, own_price, model.layered)
    notes: JSON = {}
    for meter in account.meters:
        notes.update(meter(call, ctx))
    return call, notes


def _priced(usage: Usage, account: Account, model: Any, answered: str | None, ctx: Ctx) -> Usage:
    """A model with layers of its own may have asked another one, which its answer names."""
    if model.layered and answered is not None:
        usage = priced(usage, account.prices, answered, None, ctx)
    return priced(usage, account.prices, model.name, answered, ctx)


def priced(usage: Usage, prices: Prices | None, asked: str, answered: str | None, ctx: Ctx) -> Usage:
    """The usage with what it cost, unless it says so itself or nobody knows. Prices that fail are an event, and no price."""
    if usage.cost_usd is not None or prices is None:
        return usage
    try:
        price = price_of(prices, asked, usage, answered)
    except Exception as error:  # whoever knows prices never harms the call
        ctx.emit('prices.failed', model=asked, error=error)
        return usage
    return usage if price is None else usage.replace(cost_usd=price.cost_usd)


def tokens_of(usage: Usage) -> int:
    """All tokens of a usage, as far as it tells."""
    if usage.total_tokens is not None:
        return usage.total_tokens
    return (usage.input_tokens or 0) + (usage.output_tokens or 0)


def guessed(request: ModelRequest, heard: Sequence[Any]) -> Usage:
    """Tokens of a request and of what arrived of its answer: parts of a message, or of a stream."""
    folder, asked = Folder(), {part.index for part in heard if type(part) is ToolRequested}
    content = [part for part in heard if type(part) not in STREAM_PARTS]
    for part in heard:
        if type(part) in STREAM_PARTS:
            folder.add(part)
    said = sum([_said(part) for part in (*content, *folder.content())])
    unfinished = [part.delta for part in heard if type(part) is ToolInputDelta and part.index not in asked]
    said += _estimates().estimate_text(''.join(unfinished)) if unfinished else 0
    read: int = _estimates().estimate_tokens(request)
    return Usage(read, said, read + said)


def _said(part: Any) -> int:
    tokens = 0
    if isinstance(part, (TextPart, ReasoningPart)):
        tokens = _estimates().estimate_text(part.text)
    elif isinstance(part, ToolRequestPart):
        request = part.tool_request
        tokens = _estimates().estimate_text(request.name) + _estimates().estimate_json(request.input)
    return tokens


@cache
def _estimates() -> Any:
    """Loaded by the first guess: it takes some milliseconds, which few programs need."""
    return import_module('lamella.core.estimate')
