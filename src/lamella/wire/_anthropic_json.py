"""Reading JSON of the Anthropic protocol, and what parts carry of it in their metadata."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from lamella.types import JSON, LamellaError

KEY = 'anthropic'
T = TypeVar('T')


class Malformed(ValueError):
    """The data is not what the protocol says. The message names the field."""


def need(data: JSON, name: str, kind: type[T], where: str) -> T:
    value = data.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Malformed(f'{where}.{name} is {short(value)}, not of type {kind.__name__}')
    return value


def maybe(data: JSON, name: str, kind: type[T], where: str) -> T | None:
    return None if data.get(name) is None else need(data, name, kind, where)


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f'{text[:57]}...'


def extras_of(metadata: JSON | None) -> JSON:
    """What a part's metadata adds to its block."""
    extras = metadata.get(KEY) if metadata else None
    return dict(extras) if isinstance(extras, dict) else {}


def metadata_of(extras: JSON) -> JSON | None:
    return {KEY: extras} if extras else None


def rest_of(data: JSON, *known: str) -> JSON:
    return {name: value for name, value in data.items() if name not in known}


def is_foreign(metadata: JSON | None) -> bool:
    """Whether a part says that it belongs to another vendor: its opaque data means nothing here."""
    return bool(metadata) and KEY not in (metadata or {})


def write(value: Any, where: str) -> bytes:
    """The value as JSON. Raises LamellaError INVALID_ARGUMENT that names the innermost place which cannot be said."""
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        problem: Exception = error
    while not isinstance(problem, RecursionError) and (inner := _culprit(value)) is not None:
        place, value, problem = inner
        where += place
    raise LamellaError(
        'INVALID_ARGUMENT',
        f'{where} is not JSON ({type(problem).__name__}: {problem}): give strings, numbers, booleans, None, lists and dicts',
    ) from problem


def _problem(value: Any) -> Exception | None:
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return error
    return None


def _culprit(value: Any) -> tuple[str, Any, Exception] | None:
    items: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        items = [(f'.{key}', item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(f'[{i}]', item) for i, item in enumerate(value)]
    return next(((place, item, problem) for place, item in items if (problem := _problem(item)) is not None), None)
