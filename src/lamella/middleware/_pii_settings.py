"""The settings of `PIIRedaction`, checked: names of entities and places, countries, and patterns that a stream can match."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from lamella.middleware._bounded_regex import bounded
from lamella.middleware._fields import listed
from lamella.middleware._pii import ENTITIES, KNOWN, expanded
from lamella.middleware._pii_phones import unknown_regions
from lamella.middleware._redacting import PLACES, Place
from lamella.types import did_you_mean

Pattern = str | re.Pattern[str]
_NAME = re.compile(r'[a-z][a-z0-9_]{0,39}')
_RESTORABLE = ('output', 'tool_input')


def _entities(value: Any) -> tuple[str, ...]:
    names = listed(value, 'entities', "'email'")
    expanded(names)
    if not names:
        raise ValueError(f'is empty: name some of {", ".join(ENTITIES)}, or leave it out for all of them')
    return names


def _patterns(value: Any) -> dict[str, Pattern]:
    if not isinstance(value, Mapping):
        raise ValueError(
            f"is a {type(value).__name__}: give names with their patterns, such as {{'employee': r'E\\d{{6}}'}}"
        )
    problems = [problem for name, pattern in value.items() for problem in _pattern_problems(name, pattern)]
    if problems:
        raise ValueError('; '.join(problems))
    return dict(value)


def _pattern_problems(name: Any, pattern: Any) -> list[str]:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in KNOWN:
        why = 'is the name of an entity that there is already' if name in KNOWN else 'is no name'
        return [f"{name!r} {why}: use small letters, digits and underscores, such as 'employee'"]
    if not isinstance(pattern, (str, re.Pattern)):
        return [f'{name!r} is a {type(pattern).__name__}: give a regular expression']
    try:
        bounded(pattern)
    except ValueError as error:
        shown = pattern if isinstance(pattern, str) else pattern.pattern
        return [f'{name!r}: the pattern {shown!r} {error}']
    return []


def _places(value: Any, known: Sequence[str]) -> tuple[str, ...]:
    places = listed(value, 'places', repr(known[0]))
    if wrong := [f'unknown place {place!r}{did_you_mean(str(place), known)}' for place in places if place not in known]:
        raise ValueError('; '.join(wrong))
    return places


def _regions(value: Any) -> tuple[str, ...]:
    regions = listed(value, 'countries', "'US'")
    if wrong := unknown_regions(regions):
        raise ValueError(f'unknown country {wrong[0]!r}: use two letters of ISO 3166, such as US or GB')
    return regions


def _allowed(value: Any) -> tuple[str, ...]:
    texts = listed(value, 'texts', "'help@example.com'")
    if wrong := [text for text in texts if not isinstance(text, str) or not text]:
        raise ValueError(f'has {wrong[0]!r}: give texts')
    return texts


Entities = Annotated[tuple[str, ...], BeforeValidator(_entities)]
Patterns = Annotated[dict[str, Any], BeforeValidator(_patterns)]
Places = Annotated[tuple[Place, ...], BeforeValidator(lambda value: _places(value, PLACES))]
Restorable = Literal['output', 'tool_input']
Restored = Annotated[tuple[Restorable, ...], BeforeValidator(lambda value: _places(value, _RESTORABLE))]
Regions = Annotated[tuple[str, ...], BeforeValidator(_regions)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_allowed)]
