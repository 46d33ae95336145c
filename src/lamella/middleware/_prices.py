"""What layers that count money share: the setting `prices=`, and the account that they hand inwards."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from lamella.core.metering import Account, Meter
from lamella.core.prices import Prices, check_prices
from lamella.types import ConfigError


def _prices(given: Any) -> Any:
    try:
        check_prices(given)
    except ConfigError as error:
        raise ValueError(error.message) from error
    return given


# A table of prices, an object with a method `cost`, or `None` for the app's own; `ctx.ai.resolve_prices(…)` gives a `Prices`.
PricesSetting = Annotated[Any, BeforeValidator(_prices), PlainSerializer(str, when_used='json-unless-none')]


def with_meter(account: Account | None, meter: Meter, prices: Prices | None) -> Account:
    """The account with one meter more, and with these prices for what is inside."""
    return Account(prices, (*(account.meters if account is not None else ()), meter))
