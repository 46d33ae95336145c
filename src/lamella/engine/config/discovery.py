"""Plugins and layers by name: Lamella's own, those that other packages register, and `module:Class`."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lamella.core.middleware import BaseMiddleware, snake_case
from lamella.core.plugin import Plugin
from lamella.plugins.middleware import Middleware
from lamella.types import ConfigError, UnknownNameError

PLUGINS: dict[str, str] = {
    'anthropic': 'lamella.plugins.anthropic:Anthropic',
    'googleai': 'lamella.plugins.google_genai:GoogleAI',
    'litellm': 'lamella.plugins.litellm:LiteLLM',
    'openai': 'lamella.plugins.openai:OpenAI',
    'vertexai': 'lamella.plugins.google_genai:VertexAI',
}
PLUGIN_GROUP = 'lamella.plugins'
LAYER_GROUP = 'lamella.middleware'


def plugin_class(name: str) -> type[Plugin]:
    """Raises UnknownNameError with the nearest names, or ConfigError for what is no plugin or cannot be imported."""
    found = _imported(PLUGINS[name]) if name in PLUGINS else _other('plugin', PLUGIN_GROUP, name, sorted(PLUGINS))
    if not (isinstance(found, type) and issubclass(found, Plugin)):
        raise ConfigError(f'{name!r} is {found!r}: a plugin is a subclass of lamella.core.plugin.Plugin')
    return found


def layer_class(name: str) -> type[BaseMiddleware[Any]]:
    """Raises UnknownNameError with the nearest names, or ConfigError for what is no layer or cannot be imported."""
    catalog = Middleware().middleware()
    name = layer_name(name)
    found = catalog[name] if name in catalog else _other('layer', LAYER_GROUP, name, sorted(catalog))
    if not (isinstance(found, type) and issubclass(found, BaseMiddleware)):
        raise ConfigError(f'{name!r} is {found!r}: a layer is a subclass of lamella.middleware.BaseMiddleware')
    return found


def layer_name(name: str) -> str:
    """`Retry`, as Python has it, is `retry` in a file."""
    if ':' in name:
        return name
    catalog = Middleware().middleware().items()
    own = (known for known, layer in catalog if (layer.__name__, layer.name) == (name, known))
    return next(own, snake_case(name))


def registered(group: str) -> dict[str, EntryPoint]:
    """What installed packages register in this group of entry points, by name."""
    return {point.name: point for point in entry_points(group=group)}


def _other(kind: str, group: str, name: str, known: list[str]) -> Any:
    if ':' in name:
        return _imported(name)
    others = registered(group)
    if name not in others:
        raise UnknownNameError(kind, name, [*known, *sorted(others)], "Another package's goes by 'module:Class'")
    try:
        return others[name].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f'{name!r} is registered as {others[name].value} and cannot be loaded: {error}') from error


def _imported(path: str) -> Any:
    module, _, attribute = path.partition(':')
    try:
        found: Any = import_module(module)
        for step in attribute.split('.'):
            found = getattr(found, step)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ConfigError(f'{path!r} cannot be loaded: {error}') from error
    return found
