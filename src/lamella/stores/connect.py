"""A store from its URL: `memory://`, `sqlite:///state.db` (relative) or `sqlite:////var/lib/state.db` (absolute)."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import SplitResult, unquote, urlsplit

from lamella.core.ports import Store
from lamella.stores.memory import MemoryStore
from lamella.stores.sqlite import SQLiteStore
from lamella.types import ConfigError, did_you_mean


def open_store(url: str) -> Store:
    """The store that the URL names; it connects when it is first used. Raises ConfigError for a URL that names none."""
    if not isinstance(url, str):
        raise ConfigError(f'store={url!r}: give a URL such as sqlite:///state.db, or a store')
    parts = urlsplit(url)
    make = _SCHEMES.get(parts.scheme)
    if make is None:
        raise ConfigError(
            f'store={_masked(parts)!r}: unknown scheme {parts.scheme!r}{did_you_mean(parts.scheme, list(_SCHEMES))}'
        )
    return make(parts)


def _memory(parts: SplitResult) -> Store:
    if parts.netloc or parts.path:
        raise ConfigError(f'store={_masked(parts)!r}: memory:// has no name; each one is a store of its own')
    return MemoryStore()


def _sqlite(parts: SplitResult) -> Store:
    path = unquote(parts.path.removeprefix('/'))
    if parts.netloc or not path:
        raise ConfigError(f'store={_masked(parts)!r}: write sqlite:///state.db, or sqlite:////var/lib/state.db')
    return SQLiteStore(path)


_SCHEMES: dict[str, Callable[[SplitResult], Store]] = {'memory': _memory, 'sqlite': _sqlite}


def _masked(parts: SplitResult) -> str:
    """The URL without its password."""
    host = parts.netloc.rpartition('@')[2]
    return parts._replace(netloc=f'***@{host}' if '@' in parts.netloc else host).geturl()
