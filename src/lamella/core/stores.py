"""A store from its URL, through a table of module paths: nothing is imported until a URL asks for it.

Each module has `from_url(parts, clock)`, which checks the URL and makes a store that connects when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any
from urllib.parse import SplitResult, urlsplit

from lamella.core.clock import SYSTEM_CLOCK, Clock
from lamella.core.ports import Store
from lamella.types import ConfigError, did_you_mean

SCHEMES: dict[str, str] = {
    'memory': 'lamella.stores.memory',
    'sqlite': 'lamella.stores.sqlite',
}
_VERBS = ('get', 'put_if_absent', 'compare_and_put', 'add', 'take', 'settle', 'acquire', 'append', 'read', 'aclose')


def open_store(url: str, *, clock: Clock = SYSTEM_CLOCK) -> Store:
    """The store that the URL names; it connects when it is first used.

    `clock` is the time of stores that have none of their own (memory, SQLite). Raises ConfigError for a URL that names no
    store, and for a driver that is not installed.
    """
    if not isinstance(url, str):
        raise ConfigError(f'store={url!r}: give a URL such as sqlite:///state.db, or a store')
    parts = urlsplit(url)
    path = SCHEMES.get(parts.scheme)
    if path is None:
        raise ConfigError(
            f'store={masked(parts)!r}: unknown scheme {parts.scheme!r}{did_you_mean(parts.scheme, list(SCHEMES))}'
        )
    store: Store = import_module(path).from_url(parts, clock)
    return store


def check_store(given: Any) -> None:
    """Raises ConfigError for what is neither a store, nor the URL of one, nor `None`."""
    if isinstance(given, str):
        open_store(given)
    elif given is not None and (missing := [verb for verb in _VERBS if not callable(getattr(given, verb, None))]):
        raise ConfigError(
            f'store= is a {type(given).__name__} without {", ".join(missing)}: give a store, or a URL such as sqlite:///state.db'
        )


def masked(parts: SplitResult) -> str:
    """The URL without its password."""
    host = parts.netloc.rpartition('@')[2]
    return parts._replace(netloc=f'***@{host}' if '@' in parts.netloc else host).geturl()
