"""Layers from functions, for those who need no class."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
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
Shape = tuple[tuple[str, CodeType, int, int], ...]
_MOST_SHAPES = 64


class FunctionMiddleware(BaseMiddleware[BaseModel]):
    """A layer whose hooks are functions. Made by `generate_middleware`.

    `seen` are the shapes that were found right before: a factory that is called for every request makes the same functions
    over and over.
    """

    def __init__(self, name: str, config: Any, hooks: Hooks, seen: set[Shape] | None = None) -> None:
        self.config = config
        self.name = self.label = name  # type: ignore[misc]  # the class stands for no layer, each factory does
        shape = _shape(hooks)
        if shape is None or seen is None or shape not in seen:
            _check(name, hooks)
            if shape is not None and seen is not None and len(seen) < _MOST_SHAPES:
                seen.add(shape)
        self._hooks = frozenset(map(_long, hooks))  # type: ignore[misc]  # the instance's own
        for key, function in hooks.items():
            setattr(self, _long(key), function)

    def __repr__(self) -> str:
        return super().__repr__().replace(type(self).__name__, self.label, 1)


def _long(hook: str) -> str:
    return _SHORT.get(hook) or hook


def _shape(hooks: Any) -> Shape | None:
    """What a check looks at, where that can be told quickly: the code of plain functions."""
    if type(hooks) is not dict or any(type(f) is not FunctionType or f.__dict__ for f in hooks.values()):
        return None
    told = [(key, f.__code__, len(f.__defaults__ or ()), len(f.__kwdefaults__ or ())) for key, f in hooks.items()]
    return tuple(told)


def _check(name: str, hooks: Any) -> None:
    """Raises ConfigError for what is no dict of hooks, and for hooks of another shape."""
    if not isinstance(hooks, Mapping):
        raise ConfigError(f'{name}: its factory returned {type(hooks).__name__}: it must return a dict of hooks')
    known = [*_SHORT, *HOOKS]
    if unknown := [key for key in hooks if key not in known]:
        raise ConfigError(f'{name}: {unknown[0]!r} is not a hook{did_you_mean(unknown[0], known)}')
    named = {_long(key): hook for key, hook in hooks.items()}
    if len(named) < len(hooks):
        raise ConfigError(f'{name}: the same hook is given twice, by its short and by its long name')
    body = {hook: staticmethod(function) for hook, function in named.items()}
    shape: type[BaseMiddleware[Any]] = type(name, (BaseMiddleware,), body)
    if shape._problems:
        raise ConfigError(f'{name}: ' + '; '.join(shape._problems))


def generate_middleware(
    factory: Factory | None = None,
    *,
    name: str,
    config: type[BaseModel] | None = None,
    config_schema: type[BaseModel] | None = None,
    description: str = '',
) -> Any:
    """A factory of layers: call what this returns with settings, and put the result into `use=[…]`.

    `factory` gets the checked settings (`factory(config)`, or `factory()` without a `config` model) and returns a dict of
    hooks: `model`, `stream`, `tool`, `generate`, `run`, `params`, `embed`, `tools`, or their long names. Usable as a decorator.
    Settings are checked when the layer is built: ConfigError lists every problem. `config_schema` is `config` by another name.
    """
    if config is not None and config_schema is not None:
        raise ConfigError(f'{name}: give config= or config_schema=, which are the same, not both')
    wanted = config if config is not None else config_schema
    if factory is None:
        return lambda function: generate_middleware(function, name=name, config=wanted, description=description)
    check_name(name)
    made_by, seen = factory, set[Shape]()
    takes_config = wanted is not None or bool(inspect.signature(made_by).parameters)

    def build(config_object: Any = None, **options: Any) -> FunctionMiddleware:
        settings = build_config(name, wanted, options.pop('config', config_object), options)
        return FunctionMiddleware(name, settings, made_by(settings) if takes_config else made_by(), seen)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = description or made_by.__doc__
    return build


def check_name(name: object) -> str:
    """A registry name is one token. Raises ConfigError for slashes, colons, whitespace and emptiness."""
    if not isinstance(name, str) or not name or any(c in '/:' or c.isspace() for c in name):
        raise ConfigError(f'middleware name {name!r}: use a single token without slash, colon or whitespace')
    return name
