"""A store from its URL, through a table of module paths: nothing is imported until a URL asks for it.

Each module has `from_url(parts, clock)`, which checks the URL and makes a store that connects when it is first used. Other
packages add schemes as entry points of the group `lamella.stores`: `mystore = "my_package.lamella_store"`, the path of such a
module.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from lamella.core.clock import SYSTEM_CLOCK, Clock
from lamella.core.ports import Store
from lamella.types import ConfigError, did_you_mean

SCHEMES: dict[str, str] = {
    'memory': 'lamella.stores.memory',
    'sqlite': 'lamella.stores.sqlite',
    **dict.fromkeys(('redis', 'rediss', 'valkey', 'valkeys'), 'lamella.stores.redis'),
    **dict.fromkeys(('postgresql', 'postgres'), 'lamella.stores.postgres'),
}
GROUP = 'lamella.stores'
DEFAULT_NAMESPACE = 'lamella'
_NAMESPACE = re.compile(r'[A-Za-z0-9][A-Za-z0-9._-]{0,99}')
_SECRET = re.compile(r'((?:^|(?<=&))[^=&]*(?:pass|pwd|secret|token|key)[^=&]*)=[^&]*', re.IGNORECASE)
_VERBS = (
    *('get', 'put', 'put_if_absent', 'compare_and_put', 'delete', 'listed'),
    *('add', 'add_all', 'count', 'reset', 'take', 'settle'),
    *('acquire', 'renew', 'release', 'append', 'read', 'aclose'),
)


class StoreWarning(UserWarning):
    """A server that works, but may forget what it was told."""


def open_store(url: str, *, namespace: str | None = None, clock: Clock = SYSTEM_CLOCK) -> Store:
    """The store that the URL names; it connects when it is first used.

    Two namespaces in one server or file never see each other; `?namespace=` in the URL says the same. `clock` is the time of
    stores that have none of their own (memory, SQLite). Raises ConfigError for a URL that names no store, and for a driver that
    is not installed.
    """
    if not isinstance(url, str):
        raise ConfigError(f'store={url!r}: give a URL such as sqlite:///state.db, or a store')
    parts = _split(url)
    if namespace is not None:
        parts = parts._replace(query=_with_namespace(parts, namespace))
    store: Store = _module(parts).from_url(parts, clock)
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
    """The URL without its password, also when that has characters in it that end the host too early."""
    _, at, host = parts.netloc.rpartition('@')
    if not at and host and '@' in parts.path + parts.query:
        return f'{parts.scheme}://***'
    query = _SECRET.sub(r'\1=***', parts.query)
    return f'{parts.scheme}://{"***@" if at else ""}{host}{parts.path}{"?" if query else ""}{query}'


def host_of(parts: SplitResult) -> str:
    """Where the server is, for messages: host and port, or several of them, and no user or password."""
    return parts.netloc.rpartition('@')[2]


def options_of(parts: SplitResult, known: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """What stands behind `?` in the URL, made into what `known` says; `namespace` is always known and always there.

    Raises ConfigError with every problem: an unknown name, a name given twice, a value that does not fit.
    """
    readers = {'namespace': _namespace, **known}
    found: dict[str, Any] = {'namespace': DEFAULT_NAMESPACE}
    problems = []
    seen: set[str] = set()
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name not in readers:
            problems.append(f'unknown option {name!r}{did_you_mean(name, list(readers))}')
        elif name in seen:
            problems.append(f'{name} is given twice')
        else:
            seen.add(name)
            try:
                found[name] = readers[name](text)
            except ValueError as error:
                problems.append(f'{name}={text!r}: {error}')
    if problems:
        raise ConfigError(f'store={masked(parts)!r}: {"; ".join(problems)}')
    return found


def key_bytes(key: str) -> bytes:
    """Any text as bytes, also what is no proper Unicode."""
    return key.encode('utf-8', 'surrogatepass')


def _split(url: str) -> SplitResult:
    """Never shows what it cannot read: it may be a password."""
    hint = 'in a password or a path, write # as %23, / as %2F, ? as %3F and @ as %40'
    try:
        parts = urlsplit(url)
        if ',' not in parts.netloc:  # several hosts, each with its port, are the driver's to read
            parts.port  # noqa: B018 (read when it is asked for)
    except ValueError:
        raise ConfigError(f'store= is a URL whose host and port cannot be read: {hint}') from None
    if parts.fragment:
        raise ConfigError(f'store={parts.scheme}://… has a # in it: {hint}')
    return parts


def _with_namespace(parts: SplitResult, namespace: str) -> str:
    query = parse_qsl(parts.query, keep_blank_values=True)
    if any(name == 'namespace' for name, _ in query):
        raise ConfigError(f'store={masked(parts)!r} and namespace={namespace!r}: give the namespace once')
    return urlencode([*query, ('namespace', namespace)])


def _namespace(text: str) -> str:
    if not _NAMESPACE.fullmatch(text):
        raise ValueError('give up to 100 letters, digits, dots, dashes and underscores, a letter or digit first')
    return text


def _module(parts: SplitResult) -> Any:
    """The module behind the scheme: one of ours, else an entry point's."""
    path = SCHEMES.get(parts.scheme)
    if path is not None:
        return import_module(path)
    others = entry_points(group=GROUP)
    for entry in others.select(name=parts.scheme):
        return _checked(entry)
    known = [*SCHEMES, *others.names]
    raise ConfigError(f'store={masked(parts)!r}: unknown scheme {parts.scheme!r}{did_you_mean(parts.scheme, known)}')


def _checked(entry: Any) -> Any:
    try:
        module = entry.load()
    except ImportError as error:
        raise ConfigError(
            f'store={entry.name}://…: the entry point {entry.value!r} cannot be imported: {error}'
        ) from error
    if not callable(getattr(module, 'from_url', None)):
        raise ConfigError(f'store={entry.name}://…: the entry point {entry.value!r} has no from_url(parts, clock)')
    return module
