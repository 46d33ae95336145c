"""Checks of settings from Python, TOML or HTTP: every problem in one list, each with the field, the value and the fix."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lamella.types import did_you_mean

Check = Callable[[Any], str | None]
"""Says what is wanted when a value is not that, and nothing when it is."""


def text(value: Any) -> str | None:
    return None if isinstance(value, str) else 'give a string'


def anything(value: Any) -> str | None:
    return None


def seconds(value: Any) -> str | None:
    return None if _is_number(value) and value >= 0 else 'give seconds, zero or more'


def share(value: Any) -> str | None:
    return None if _is_number(value) and 0 <= value <= 1 else 'give a number from 0 to 1'


def whole(low: int, high: int | None = None) -> Check:
    wanted = f'give a whole number from {low} to {high}' if high is not None else f'give a whole number, {low} or more'

    def check(value: Any) -> str | None:
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= low
        return None if fits and (high is None or value <= high) else wanted

    return check


def one_of(options: Sequence[str]) -> Check:
    def check(value: Any) -> str | None:
        if value in options:
            return None
        near = did_you_mean(value, options) if isinstance(value, str) else ''
        return near.removeprefix(': ').removeprefix('; ') or f'use one of {", ".join(map(repr, options))}'

    return check


def texts(value: Any) -> str | None:
    if isinstance(value, str) or (isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)):
        return None
    return 'give a string, or a list of strings (the pieces of the stream)'


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def unknown_keys(where: str, table: Mapping[str, Any], known: Sequence[str]) -> list[str]:
    return [f'{where}: unknown key {key!r}{did_you_mean(str(key), known)}' for key in table if key not in known]


def wrong_values(where: str, table: Mapping[str, Any], checks: Mapping[str, Check]) -> list[str]:
    """One line for each value that is not what its field wants; unknown keys are not looked at."""
    said = [(key, checks[key](value)) for key, value in table.items() if key in checks]
    return [f'{where}.{key} is {table[key]!r}: {wanted}' for key, wanted in said if wanted is not None]
