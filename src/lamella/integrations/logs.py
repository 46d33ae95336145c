"""Events as log records: sinks for the standard library's `logging` and for structlog."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from lamella.core.events import Event, Sink
from lamella.middleware._mask import masked
from lamella.types import LamellaError, Usage

_LOUD = {'run.error': 'error', 'model.error': 'warning', 'tool.error': 'error'}
_QUIET = frozenset(('model.start', 'model.first_part', 'turn.start', 'turn.end', 'tool.start'))
_MAX_CHARS = 500


class StructLogger(Protocol):
    """What is needed of a structlog logger."""

    def debug(self, event: str, **facts: Any) -> Any: ...
    def info(self, event: str, **facts: Any) -> Any: ...
    def warning(self, event: str, **facts: Any) -> Any: ...
    def error(self, event: str, **facts: Any) -> Any: ...


def to_logging(logger: logging.Logger | None = None) -> Sink:
    """A sink for `Lamella(sinks=[…])`: one record for each event, with the facts as `record.lamella` and in the message.

    The start of things is DEBUG, failures are WARNING or ERROR, everything else is INFO. Credentials are masked, texts cut, and
    what models and tools are given is left out. `logger` is the one named `lamella` when left out.
    """
    target = logger or logging.getLogger('lamella')

    def sink(event: Event) -> None:
        level = getattr(logging, level_of(event).upper())
        if target.isEnabledFor(level):
            facts = facts_of(event)
            told = ' '.join(f'{name}={value}' for name, value in facts.items())
            target.log(level, '%s %s', event.name, told, extra={'lamella': {'event': event.name, **facts}})

    return sink


def to_structlog(logger: StructLogger) -> Sink:
    """The same for a structlog logger: the event's name, and its facts as keys."""
    methods: Mapping[str, Callable[..., Any]] = {
        'debug': logger.debug,
        'info': logger.info,
        'warning': logger.warning,
        'error': logger.error,
    }

    def sink(event: Event) -> None:
        methods[level_of(event)](event.name, **facts_of(event))

    return sink


def level_of(event: Event) -> str:
    """`debug`, `info`, `warning` or `error`."""
    return _LOUD.get(event.name, 'debug' if event.name in _QUIET else 'info')


def facts_of(event: Event) -> dict[str, Any]:
    """The facts that may be written down, each a plain value."""
    facts: dict[str, Any] = {'run_id': event.run_id}
    for name, value in event.facts.items():
        facts.update(_plain(name, value))
    return facts


def _plain(name: str, value: Any) -> dict[str, Any]:
    if value is None or isinstance(value, (bool, int, float)):
        return {} if value is None else {name: value}
    if isinstance(value, str):
        return {name: _cut(masked(value))}
    if isinstance(value, Usage):
        return {field: count for field in value.__struct_fields__ if (count := getattr(value, field)) is not None}
    if isinstance(value, LamellaError):
        return {f'{name}_status': value.status, name: _cut(masked(value.message))}
    if isinstance(value, BaseException):
        return {f'{name}_type': type(value).__name__, name: _cut(masked(str(value)))}
    return {}


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else f'{text[: _MAX_CHARS - 1]}…'
