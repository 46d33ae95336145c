"""What a call costs: the port, a table of one's own prices, and where all other prices come from."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

from lamella.types import ConfigError, Data, Usage, did_you_mean

MICRO = 1_000_000
_ADAPTER, _PACKAGE = 'lamella.middleware._genai_prices', 'genai_prices'
HOW_TO_PRICE = "give prices={'provider/model': {'input_per_mtok': …, 'output_per_mtok': …}}"
INSTALL = "pip install 'lamella[prices]'"
_REMEMBERED = 1024


class Price(Data, frozen=True):
    """What the tokens of one call cost. `source` says whose prices they are: `own`, `genai-prices` or a name of yours."""

    cost_usd: float
    source: str = 'own'


@runtime_checkable
class Prices(Protocol):
    """Knows what calls cost. Must not wait for anything: it is asked for every call."""

    def cost(self, provider: str, model: str, usage: Usage, answered: str | None = None) -> Price | None:
        """The price of these tokens, `None` where none is known.

        `model` is the name that was asked, without the provider; `answered` is `provider/model` as the answer named it, where
        that says more. What the usage does not tell counts as nothing; cached, cache-write and reasoning tokens are part of
        the input and output tokens.
        """


class Rates(Data, frozen=True):
    """Dollars for a million tokens. `None` is the price of what they are part of: input for cached and cache-write tokens,
    output for reasoning."""

    input_per_mtok: float
    output_per_mtok: float
    cached_per_mtok: float | None = None
    cache_write_per_mtok: float | None = None
    reasoning_per_mtok: float | None = None

    def cost(self, usage: Usage) -> float:
        """Dollars for these tokens."""
        cached, written, thought = usage.cached_tokens or 0, usage.cache_write_tokens or 0, usage.reasoning_tokens or 0
        read, said = max(0, (usage.input_tokens or 0) - cached - written), max(0, (usage.output_tokens or 0) - thought)
        return (
            read * self.input_per_mtok
            + cached * _or(self.cached_per_mtok, self.input_per_mtok)
            + written * _or(self.cache_write_per_mtok, self.input_per_mtok)
            + said * self.output_per_mtok
            + thought * _or(self.reasoning_per_mtok, self.output_per_mtok)
        ) / MICRO


def _or(price: float | None, otherwise: float) -> float:
    return otherwise if price is None else price


class PriceTable:
    """One's own prices by `provider/model`, `*` standing for anything: the exact name first, then the pattern that says most.

    `otherwise` is asked for what the table does not have. Raises ConfigError with every problem, for unknown keys and for
    prices that are no numbers of at least 0.
    """

    def __init__(self, prices: Mapping[str, Any], otherwise: Prices | None = None, where: str = 'prices') -> None:
        self._otherwise = otherwise
        self._exact: dict[str, Rates] = {}
        patterns: dict[str, Rates] = {}
        problems: list[str] = []
        for name, given in prices.items():
            rates = _rates(given, f'{where}[{name!r}]', problems)
            (patterns if '*' in name else self._exact)[name] = rates
        if problems:
            raise ConfigError('; '.join(problems))
        ordered = sorted(patterns, key=lambda name: len(name.replace('*', '')), reverse=True)
        self._patterns = [(_matcher(name), patterns[name]) for name in ordered]
        self._found: dict[str, Rates | None] = {}

    def __repr__(self) -> str:
        return f'PriceTable({len(self._exact) + len(self._patterns)} prices)'

    def cost(self, provider: str, model: str, usage: Usage, answered: str | None = None) -> Price | None:
        name = f'{provider}/{model}' if provider else model
        rates = self._of(name) or (self._of(answered) if answered is not None else None)
        if rates is None:
            return self._otherwise.cost(provider, model, usage, answered) if self._otherwise is not None else None
        return Price(rates.cost(usage)) if has_tokens(usage) else None

    def _of(self, name: str) -> Rates | None:
        if name in self._exact:
            return self._exact[name]
        if name not in self._found:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[name] = next((rates for match, rates in self._patterns if match.fullmatch(name)), None)
        return self._found[name]


def _matcher(pattern: str) -> re.Pattern[str]:
    return re.compile('.*'.join(map(re.escape, pattern.split('*'))), re.DOTALL)


def _rates(given: Any, where: str, problems: list[str]) -> Rates:
    if isinstance(given, Rates):
        given = {name: getattr(given, name) for name in Rates.__struct_fields__}
    if not isinstance(given, Mapping):
        problems.append(f"{where} is {given!r}: give {{'input_per_mtok': …, 'output_per_mtok': …}}")
        return Rates(0, 0)
    known = Rates.__struct_fields__
    problems += [
        f'{where} has the unknown key {key!r}{did_you_mean(str(key), known)}' for key in given if key not in known
    ]
    problems += [f'{where} has no {key}' for key in known[:2] if given.get(key) is None]
    problems += [
        f'{where}.{key} is {given[key]!r}: give dollars for a million tokens, at least 0'
        for key in known
        if given.get(key) is not None and not is_price(given[key])
    ]
    return Rates(**{key: given[key] for key in known if is_price(given.get(key))}) if not problems else Rates(0, 0)


def is_price(value: Any) -> bool:
    """Whether this is a number of dollars."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


def has_tokens(usage: Usage) -> bool:
    """Whether the usage tells anything that can be priced."""
    return usage.input_tokens is not None or usage.output_tokens is not None


def check_prices(given: Any, where: str = 'prices') -> None:
    """Raises ConfigError for what is neither a table of prices, nor a `Prices`, nor `None`."""
    if isinstance(given, Mapping):
        PriceTable(given, where=where)
    elif given is not None and not isinstance(given, Prices):
        raise ConfigError(f'{where} is a {type(given).__name__}: {HOW_TO_PRICE}, or an object with a method cost')


def prices_of(given: Mapping[str, Any] | Prices | None) -> Prices:
    """What answers for these prices: a table of one's own, backed by genai-prices where that is installed; an object as it
    is; genai-prices for `None`.

    Raises ConfigError when there is no table and genai-prices is missing.
    """
    if isinstance(given, Mapping):
        return PriceTable(given, BUNDLED if find_spec(_PACKAGE) is not None else None)
    if given is not None:
        return given
    if find_spec(_PACKAGE) is None:
        raise ConfigError(f'no prices: {INSTALL}, or {HOW_TO_PRICE}')
    return BUNDLED


class PriceShelf:
    """The prices of one app: its own (`given`), checked now and looked for when they are first asked for."""

    def __init__(self, given: Mapping[str, Any] | Prices | None = None) -> None:
        check_prices(given)
        self._given = given
        self._own: Prices | None = None
        self._tables: dict[int, tuple[Mapping[str, Any], Prices]] = {}

    def get(self, wanted: Mapping[str, Any] | Prices | None = None) -> Prices:
        """Who answers for these prices: a table, backed by the app's own prices, or an object; the app's own for `None`.

        Raises ConfigError when there are none at all.
        """
        if isinstance(wanted, Mapping):
            return self._table(wanted)
        if wanted is not None:
            return wanted
        if self._own is None:
            self._own = prices_of(self._given)
        return self._own

    def _table(self, wanted: Mapping[str, Any]) -> Prices:
        known = self._tables.get(id(wanted))
        if known is not None and known[0] is wanted:
            return known[1]
        if len(self._tables) >= _REMEMBERED:
            self._tables.clear()
        table = PriceTable(wanted, self._backing())
        self._tables[id(wanted)] = wanted, table
        return table

    def _backing(self) -> Prices | None:
        try:
            return self.get()
        except ConfigError:  # nothing installed: the table has to do
            return None


class _Bundled:
    """The prices of genai-prices, which come with the package and need no network; the first question loads them, which
    takes 0.2 to 0.5 s."""

    def __init__(self) -> None:
        self._loaded: Prices | None = None

    def __repr__(self) -> str:
        return 'genai-prices'

    def cost(self, provider: str, model: str, usage: Usage, answered: str | None = None) -> Price | None:
        if self._loaded is None:
            self._loaded = import_module(_ADAPTER).GenaiPrices()
        return self._loaded.cost(provider, model, usage, answered)


BUNDLED: Prices = _Bundled()


def price_of(prices: Prices, asked: str, usage: Usage, answered: str | None = None) -> Price | None:
    """What this usage of the model named `asked` costs; `None` where no price is known."""
    provider, slash, model = asked.partition('/')
    return prices.cost(
        provider if slash else '', model if slash else asked, usage, answered if answered != asked else None
    )
