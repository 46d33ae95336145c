"""What can be said of an app without calling a model: what its names mean, how its layers stand, what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from lamella.core.models import ModelRef
from lamella.core.order import findings
from lamella.core.stack import Stack
from lamella.core.wrapped import WrappedModel
from lamella.engine.app import Lamella
from lamella.types import Data, LamellaError

PING = 'Say ok.'
PING_TOKENS = 16
PROBE = 'doctor:probe'


class Onion(Data, frozen=True):
    """One way through layers to a model, drawn."""

    title: str
    drawn: str


class Probe(Data, frozen=True):
    """What happened when something that is configured was reached for; `error` is `None` when it answered."""

    what: str
    took_s: float
    error: str | None = None


class Checkup(Data, frozen=True):
    """The whole of it. `errors` keep the app from working, `warnings` are orders that are rarely meant."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    onions: tuple[Onion, ...]
    stores: tuple[str, ...]
    models: tuple[str, ...]
    plugins: tuple[str, ...]
    notes: tuple[str, ...] = ()


def examine(app: Lamella, notes: tuple[str, ...] = ()) -> Checkup:
    """Everything that is known without a connection."""
    errors: list[str] = []
    warnings: list[str] = []
    ways = list(_ways(app, errors))
    for title, layers in ways:
        for finding in findings(layers.layers):
            where = errors if finding.level == 'error' else warnings
            where.append(f'{title}: {finding.message}')
        errors += [f'{title}: {problem}' for problem in _unknown_models(app, layers)]
    return Checkup(
        errors=tuple(dict.fromkeys(errors)),
        warnings=tuple(dict.fromkeys(warnings)),
        onions=tuple([Onion(title, layers.explain()) for title, layers in ways]),
        stores=tuple(sorted(set(map(repr, _all_stores(app))))),
        models=tuple(_models(app)),
        plugins=tuple(sorted(app.registry.plugins)),
        notes=notes,
    )


def _ways(app: Lamella, errors: list[str]) -> Iterator[tuple[str, Stack]]:
    """The app's own layers to its default model and to each that has layers fixed on it, and the other chains of its file."""
    default = app.default_model
    fixed = _fixed(app, default)
    try:
        if default is not None:
            app.default()
    except LamellaError as error:
        errors.append(f'the default model: {error.message}')
    yield 'every call', Stack([app.stack, *fixed])
    for name, target in app.registry.aliases.items():
        if isinstance(target, WrappedModel) and name != default:
            yield f'model {name}', Stack([app.stack, *_fixed(app, target)])
    seen = [app.stack.layers, *[_stack_of(target).layers for target in app.registry.aliases.values()]]
    for name, chain in app.chains.items():
        if chain.layers not in seen:
            yield f'chain {name}', Stack([app.stack, chain])


def _fixed(app: Lamella, model: Any) -> list[Stack]:
    """The layers fixed on a model, those of the model inside it last."""
    while isinstance(model, str) and model in app.registry.aliases:
        model = app.registry.aliases[model]
    if isinstance(model, WrappedModel):
        return [model.stack, *_fixed(app, model.given)]
    return []


def _stack_of(target: Any) -> Stack:
    return target.stack if isinstance(target, WrappedModel) else Stack()


def _unknown_models(app: Lamella, stack: Stack) -> Iterator[str]:
    """Models that layers would ask, and that are found to be missing only in an outage."""
    for layer in stack.layers:
        named = getattr(layer.config, 'models', None) if hasattr(layer, 'config') else None
        for model in named if isinstance(named, (list, tuple)) else ():
            try:
                app.resolve_model(model)
            except LamellaError as error:
                yield f'{type(layer).__name__}: {error.message}'


def _stores(app: Lamella, ways: list[tuple[str, Stack]]) -> Iterator[Any]:
    for _, stack in ways:
        for layer in stack.layers:
            if (wanted := getattr(getattr(layer, 'config', None), 'store', None)) is not None:
                yield app.resolve_store(wanted)


def _models(app: Lamella) -> Iterator[str]:
    if app.default_model is not None:
        yield f'default: {_said(app.default_model)}'
    for name, target in app.registry.aliases.items():
        yield f'{name}: {_said(target)}'
    for name in app.registry.models:
        yield f'{name}: a function of this app'


def _said(target: Any) -> str:
    if isinstance(target, str):
        return target
    if isinstance(target, WrappedModel):
        return f'{_said(target.given)} with layers fixed on it'
    return target.name if isinstance(target, ModelRef) or hasattr(target, 'name') else repr(target)


async def reach(app: Lamella, timeout_s: float = 10.0) -> list[Probe]:
    """Connects to every store, and asks every model that has a name one tiny question (at most 16 tokens of answer)."""
    probes = []
    for store in {id(found): found for found in _all_stores(app)}.values():
        probes.append(await _tried(app, f'store {store!r}', partial(store.get, PROBE), timeout_s))
    names = [*([app.default_model] if app.default_model is not None else []), *app.registry.aliases]
    for model in dict.fromkeys(names):
        ask = partial(app.generate, model=model, prompt=PING, config={'max_output_tokens': PING_TOKENS})
        probes.append(await _tried(app, f'model {_said(model)}', ask, timeout_s))
    return probes


def _all_stores(app: Lamella) -> list[Any]:
    return [app.resolve_store(None), *_stores(app, list(_ways(app, [])))]


async def _tried(app: Lamella, what: str, act: Callable[[], Awaitable[Any]], timeout_s: float) -> Probe:
    started, error = app.clock.now(), None
    try:
        async with asyncio.timeout(timeout_s):
            await act()
    except LamellaError as failed:
        error = str(failed)
    except TimeoutError:
        error = f'no answer within {timeout_s:g} s'
    return Probe(what, app.clock.now() - started, error)
