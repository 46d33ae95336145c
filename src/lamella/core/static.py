"""What all that has layers fixed on it shares: its stack, checked when it is built, and its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lamella.core.middleware import BaseMiddleware
from lamella.core.order import check_order
from lamella.core.stack import Stack
from lamella.types import ConfigError

Layers = BaseMiddleware[Any] | Stack | Iterable[BaseMiddleware[Any] | Stack]


def fixed_stack(middleware: Any, hooks: Iterable[str], what: str) -> Stack:
    """One layer or several as a stack. Raises ConfigError for an order that cannot work, and for a layer that has hooks, but
    none that would ever be called."""
    given = (middleware,) if isinstance(middleware, (BaseMiddleware, Stack)) else middleware
    stack = Stack(given, field='middleware')
    wanted = frozenset(hooks)
    if idle := [layer for layer in stack.layers if layer._hooks and not layer._hooks & wanted]:
        raise ConfigError(
            f'middleware: {", ".join(map(repr, idle))} would never act: fixed on a model, layers are around {what} '
            f'({", ".join(sorted(wanted))}) and nothing else. Give it to Lamella(use=[…]) or to the call'
        )
    check_order(stack.layers, whole=False)
    return stack


def named_after(inner: str, model_id: str | None, provider_id: str | None) -> str:
    """The name of a wrapped model: its inner one's, or as told."""
    provider, slash, short = inner.partition('/')
    if not slash:
        provider, short = '', inner
    return '/'.join(filter(None, (provider_id or provider, model_id or short)))
