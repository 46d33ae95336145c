"""What a caller may say to one provider alone: typed, and no key is ever ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from lamella.core.config import build_config
from lamella.types import JSON, ConfigError, EmbeddingRequest, ModelRequest
from lamella.wire import crossing

EXTRA = 'extra_body'
Request = TypeVar('Request', ModelRequest, EmbeddingRequest)


def checked(request: Request, keys: Iterable[str], wanted: type[BaseModel]) -> Request:
    """The request with the options under these keys of `provider_options` checked, and `extra_body` spread among them.

    A request that came in over the wire keeps what it came with: its fields are the client's affair. Raises ConfigError for
    an unknown option, with the nearest right name, and for a wrong value.
    """
    if not request.provider_options or crossing.is_received(request):
        return request
    options = {key: _body(key, given, wanted) for key in keys if (given := request.provider_options.get(key))}
    return request.replace(provider_options={**request.provider_options, **options}) if options else request


def _body(key: str, given: Any, wanted: type[BaseModel]) -> JSON:
    where = f'provider_options[{key!r}]'
    if not isinstance(given, Mapping):
        raise ConfigError(f'{where} is {given!r}: give a dict of options')
    try:
        build_config(where, wanted, None, given)
    except ConfigError as error:
        if 'unknown setting' not in error.message:
            raise
        raise ConfigError(f'{error.message}. Fields of the body that are not listed go into {EXTRA}') from error
    return {**{name: value for name, value in given.items() if name != EXTRA}, **(given.get(EXTRA) or {})}
