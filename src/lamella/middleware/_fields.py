"""Kinds of settings that several layers share: checked when a layer is built, with the right spelling in the error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from lamella.types import STATUSES, ConfigError, Status, did_you_mean


def listed(value: Any, what: str, example: str) -> tuple[Any, ...]:
    """The items of a list. Raises ValueError for a string, which is nearly always a forgotten list, and for no list."""
    if isinstance(value, str):
        raise ValueError(f'is the string {value!r}: write a list of {what}, such as [{value!r}]')
    if isinstance(value, (bytes, dict)) or not isinstance(value, Iterable):
        raise ValueError(f'is a {type(value).__name__}: write a list of {what}, such as [{example}]')
    return tuple(value)


def with_first(owner: str, name: str, first: Any, options: Any) -> Any:
    """The keywords of a layer whose first argument may be given without its name. Raises ConfigError when it is there twice."""
    if name in options:
        raise ConfigError(f'{owner}: {name} is given twice')
    return {name: first, **options}


def _statuses(value: Any) -> tuple[Any, ...]:
    given = listed(value, 'statuses', "'UNAVAILABLE'")
    wrong = [f'unknown status {item!r}{did_you_mean(str(item), STATUSES)}' for item in given if item not in STATUSES]
    if wrong:
        raise ValueError('; '.join(wrong))
    return given


Statuses = Annotated[tuple[Status, ...], BeforeValidator(_statuses)]
Count = Annotated[int, Field(strict=True, ge=0)]
Duration = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Switch = Annotated[bool, Field(strict=True)]
