"""Checking a layer's settings: every problem in one error, and no key is ever ignored."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ValidationError

from lamella.types import ConfigError, did_you_mean


class NoConfig:
    """The settings of a layer that has none. Not a pydantic model: building one would double the time of the first import."""

    model_fields_set: frozenset[str] = frozenset()


_NO_CONFIG = NoConfig()


def build_config(owner: str, wanted: type[BaseModel] | None, given: Any, options: Mapping[str, Any]) -> Any:
    """The checked settings of `owner`, from a finished object or from keywords. Raises ConfigError."""
    if given is None and not options:
        return _default(owner, wanted)
    if wanted is None:
        what = ', '.join(map(repr, options)) or 'config='
        raise ConfigError(f'{owner} takes no settings, but was given {what}')
    if given is None:
        return _from_keywords(owner, wanted, options)
    if options:
        raise ConfigError(f'{owner}: give config= or keywords ({", ".join(options)}), not both')
    if not isinstance(given, wanted):
        raise ConfigError(f'{owner}: config= is a {type(given).__name__}, give a {wanted.__name__}')
    return given


def _default(owner: str, wanted: type[BaseModel] | None) -> Any:
    return _NO_CONFIG if wanted is None else _from_keywords(owner, wanted, {})


def _from_keywords(owner: str, wanted: type[BaseModel], options: Mapping[str, Any]) -> BaseModel:
    known = _known_keys(wanted)
    problems = [f'unknown setting {key!r}{did_you_mean(key, known)}' for key in options if key not in known]
    config: BaseModel | None = None
    try:
        config = wanted(**{key: value for key, value in options.items() if key in known})
    except ValidationError as error:
        problems += problems_of(error)
    if problems or config is None:
        raise ConfigError(f'{owner}: ' + '; '.join(problems))
    return config


@lru_cache(maxsize=512)
def _known_keys(wanted: type[BaseModel]) -> tuple[str, ...]:
    keys = []
    for name, field in wanted.model_fields.items():
        keys.append(field.alias or name)
        if field.alias and wanted.model_config.get('populate_by_name'):
            keys.append(name)
    return tuple(keys)


def problems_of(error: ValidationError) -> list[str]:
    """One short sentence for each problem: where, what is wrong, and the value that was given."""
    return [
        f'{".".join(map(str, e["loc"])) or "value"}: {e["msg"]}'
        + ('' if e['type'] == 'missing' else f' (given {_shown(e["input"])})')
        for e in error.errors(include_url=False)
    ]


def _shown(value: Any) -> str:
    if isinstance(value, (Mapping, BaseModel)):
        return f'a {type(value).__name__}'  # whose other fields are nobody's business
    text = repr(value)
    return text if len(text) <= 60 else f'{text[:57]}…'
