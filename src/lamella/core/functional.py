"""Layers from functions, for those who need no class."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from lamella.core.config import build_config
from lamella.core.middleware import HOOKS, BaseMiddleware
from lamella.types import ConfigError, did_you_mean

_SHORT = {
    'model': 'wrap_model',
    'stream': 'wrap_stream',
    'tool': 'wrap_tool',
    'generate': 'wrap_generate',
    'run': 'wrap_run',
    'params': 'transform_params',
    'embed': 'wrap_embed',
}
Hooks = Mapping[str, Callable[..., Any]]
Factory = Callable[..., Hooks]


class FunctionMiddleware(BaseMiddleware[BaseModel]):
    """A layer whose hooks are functions. Made by `generate_middleware`."""

    def __init__(self, name: str, config: Any, hooks: Hooks) -> None:
        self.config = config
        self.label = name
        if not isinstance(hooks, Mapping):
            raise ConfigError(f'{name}: its factory returned {type(hooks).__name__}: it must return a dict of hooks')
        known = [*_SHORT, *HOOKS]
        if unknown := [key for key in hooks if key not in known]:
            raise ConfigError(f'{name}: {unknown[0]!r} is not a hook{did_you_mean(unknown[0], known)}')
        named = {_SHORT.get(key, key): hook for key, hook in hooks.items()}
        if len(named) < len(hooks):
            raise ConfigError(f'{name}: the same hook is given twice, by its short and by its long name')
        body = {hook: staticmethod(function) for hook, function in named.items()}
        shape: type[BaseMiddleware[Any]] = type(name, (BaseMiddleware,), body)
        if shape._problems:
            raise ConfigError(f'{name}: ' + '; '.join(shape._problems))
        self._hooks = frozenset(named)  # type: ignore[misc]  # these hooks belong to the instance
        for hook, function in named.items():
            setattr(self, hook, function)

    def __repr__(self) -> str:
        return f'{self.label}()'


def generate_middleware(
    factory: Factory | None = None,
    *,
    name: str,
    config: type[BaseModel] | None = None,
    description: str = '',
) -> Any:
    """A factory of layers: call what this returns with settings, and put the result into `use=[…]`.

    `factory` gets the checked settings (`factory(config)`, or `factory()` without a `config` model) and returns a dict of
    hooks: `model`, `stream`, `tool`, `generate`, `run`, `params`, `embed`, `tools`, or their long names. Usable as a decorator.
    Settings are checked when the layer is built: ConfigError lists every problem.
    """
    if factory is None:
        return lambda function: generate_middleware(function, name=name, config=config, description=description)
    check_name(name)
    made_by = factory

    def build(config_object: Any = None, **options: Any) -> FunctionMiddleware:
        settings = build_config(name, config, options.pop('config', config_object), options)
        hooks = made_by(settings) if config is not None or inspect.signature(made_by).parameters else made_by()
        return FunctionMiddleware(name, settings, hooks)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = description or made_by.__doc__
    return build


def check_name(name: object) -> str:
    """A registry name is one token. Raises ConfigError for slashes, colons, whitespace and emptiness."""
    if not isinstance(name, str) or not name or any(c in '/:' or c.isspace() for c in name):
        raise ConfigError(f'middleware name {name!r}: use a single token without slash, colon or whitespace')
    return name
