"""The `Middleware` plugin: registers the whole catalog by name. The layers can be imported from here too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lamella.middleware as catalog
from lamella.core.middleware import BaseMiddleware, snake_case
from lamella.core.plugin import Plugin
from lamella.middleware import *  # noqa: F403 - every name of the catalog, without a second list of them

__all__ = ['Middleware']
__all__ += catalog.__all__


class Middleware(Plugin):
    """Makes every layer of the catalog known by name (`retry`, `tool_approval` …), for chains in files and for tools.

    `use=[…]` takes instances, registered or not.
    """

    name = 'middleware'

    def middleware(self) -> Mapping[str, type[Any]]:
        exported = {name: getattr(catalog, name) for name in catalog.__all__}
        return {_registry_name(name, layer): layer for name, layer in exported.items() if is_layer(layer)}


def _registry_name(exported: str, layer: type[BaseMiddleware[Any]]) -> str:
    """The layer's own name; a second name of a class (`ModelFallback`) makes one of its own."""
    return layer.name if layer.__name__ == exported else snake_case(exported)


def is_layer(exported: object) -> bool:
    """Whether this is a class of the catalog, and not the contract that it is written against."""
    return isinstance(exported, type) and issubclass(exported, BaseMiddleware) and exported is not BaseMiddleware
