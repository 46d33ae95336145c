"""From a checked file to the things that it names: stores, plugins, layers in chains, models. Every problem is collected."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from lamella.core.config import _known_keys
from lamella.core.middleware import BaseMiddleware
from lamella.core.models import ModelRef, to_config
from lamella.core.order import findings
from lamella.core.plugin import Plugin
from lamella.core.stack import Stack
from lamella.core.stores import open_store
from lamella.core.wrapped import WrappedModel, wrap_language_model
from lamella.engine.config.discovery import layer_class, layer_name, plugin_class
from lamella.engine.config.file import File, FileHints, ModelTable
from lamella.engine.config.places import Path
from lamella.engine.config.problems import Problems
from lamella.plugins._http_settings import HttpSettings
from lamella.types import ConfigError, LamellaError, did_you_mean

Layer = BaseMiddleware[Any]
_HINTS = FileHints()


class Builder:
    """Builds what one file names. What cannot be built is a problem, and left out."""

    def __init__(self, file: File, problems: Problems) -> None:
        self._file, self._problems = file, problems

    def store(self, given: str, path: Path) -> str:
        """The URL: `given` itself, or that of `[stores]` by this name."""
        if given in self._file.stores:
            return self._file.stores[given]
        if '://' not in given:
            self._problems.add(
                path,
                f'unknown store {given!r}{did_you_mean(given, list(self._file.stores))}',
                _HINTS.example(('store',)),
            )
            return given
        self._check_store(given, path)
        return given

    def stores(self) -> None:
        for name, url in self._file.stores.items():
            self._check_store(url, ('stores', name))

    def layers(self) -> None:
        """`[layers.x]` must name a layer, also when no chain does."""
        for name, settings in self._file.layers.items():
            try:
                wanted = layer_class(name)
            except LamellaError as error:
                self._problems.add(('layers', name), error.message)
                continue
            places: dict[str, Path] = {key: ('layers', name, key) for key in settings}
            if wanted._config_class is not None:
                self._fits(wanted._config_class, wanted.__name__, settings, places, None)

    def _check_store(self, url: str, path: Path) -> None:
        try:
            open_store(url)
        except LamellaError as error:
            self._problems.add(path, error.message, _HINTS.example(('stores', '*')))

    def plugins(self) -> list[Plugin]:
        made = [
            self._plugin(name, dict(table.__pydantic_extra__ or {}), table.use)
            for name, table in self._file.plugins.items()
        ]
        return [plugin for plugin in made if plugin is not None]

    def _plugin(self, name: str, settings: dict[str, Any], use: str | None) -> Plugin | None:
        path: Path = ('plugins', name)
        try:
            wanted = plugin_class(use or name)
        except LamellaError as error:
            self._problems.add((*path, 'use') if use else path, error.message, _HINTS.example((*path, 'use')))
            return None
        known = [each for each in inspect.signature(wanted).parameters if each != 'self']
        if unknown := [key for key in settings if key not in known]:
            for key in unknown:
                self._problems.add((*path, key), f'unknown setting of {wanted.__name__}{did_you_mean(key, known)}')
            return None
        if use is not None and 'name' in known:
            settings.setdefault('name', name)
        try:
            if isinstance(settings.get('http'), dict):
                settings['http'] = _http(settings['http'])
            return wanted(**settings)
        except (LamellaError, TypeError, ValueError) as error:
            self._problems.add(path, error.message if isinstance(error, LamellaError) else str(error))
            return None

    def chains(self) -> dict[str, Stack]:
        return {name: self._chain(name, entries) for name, entries in self._file.chains.items()}

    def _chain(self, name: str, entries: Sequence[Any]) -> Stack:
        path: Path = ('chains', name)
        placed = [(index, self.layer(entry, (*path, index))) for index, entry in enumerate(entries)]
        layers = [(index, layer) for index, layer in placed if layer is not None]
        if len(layers) == len(entries):
            for finding in findings([layer for _, layer in layers]):
                if finding.level == 'error' or self._file.check_order == 'error':
                    self._problems.add((*path, layers[finding.layers[-1]][0]), finding.message)
        return Stack([layer for _, layer in layers])

    def layer(self, entry: Any, path: Path) -> Layer | None:
        """One layer of a chain: its name, or a table with `use` and its settings."""
        given = {'use': entry} if isinstance(entry, str) else entry
        if not isinstance(given, dict) or not isinstance(given.get('use'), str):
            self._problems.add(
                path, 'give the name of a layer, or a table with use', _HINTS.example(('chains', '*', '*'))
            )
            return None
        name = given['use']
        try:
            wanted = layer_class(name)
        except LamellaError as error:
            self._problems.add((*path, 'use') if isinstance(entry, dict) else path, error.message)
            return None
        own = {key: value for key, value in given.items() if key != 'use'}
        table = next((each for each in self._file.layers if layer_name(each) == layer_name(name)), name)
        common = self._file.layers.get(table, {})
        places = {key: (*path, key) if key in own else ('layers', table, key) for key in (*common, *own)}
        return self._built(wanted, {**common, **own}, places, path)

    def _built(
        self, wanted: type[Layer], settings: dict[str, Any], places: Mapping[str, Path], path: Path
    ) -> Layer | None:
        config = wanted._config_class
        settings = self._settings(settings, places)
        if config is not None and not self._fits(config, wanted.__name__, settings, places, path):
            return None
        try:
            return wanted(**settings)
        except (LamellaError, TypeError) as error:
            self._problems.add(
                path, error.message if isinstance(error, LamellaError) else f'{wanted.__name__}: {error}'
            )
            return None

    def _settings(self, settings: dict[str, Any], places: Mapping[str, Path]) -> dict[str, Any]:
        """With a store by its name in this file."""
        if not isinstance(settings.get('store'), str):
            return settings
        return {**settings, 'store': self.store(settings['store'], places['store'])}

    def _fits(
        self,
        config: type[BaseModel],
        owner: str,
        settings: Mapping[str, Any],
        places: Mapping[str, Path],
        path: Path | None,
    ) -> bool:
        """`path` is that of the layer, `None` for settings that a chain may add to: what is missing is no problem then."""
        known = _known_keys(config)
        unknown = [key for key in settings if key not in known]
        for key in unknown:
            self._problems.add(places[key], f'unknown setting of {owner}{did_you_mean(key, known)}')
        try:
            config(**{key: value for key, value in settings.items() if key in known})
        except ValidationError as error:
            for found in error.errors(include_url=False, include_context=False):
                first = str(found['loc'][0]) if found['loc'] else ''
                if first in places:
                    self._problems.add((*places[first], *found['loc'][1:]), _told(owner, first, found))
                elif path is not None:
                    self._problems.add(path, _told(owner, first, found))
            return False
        return not unknown

    def models(self, chains: Mapping[str, Stack]) -> dict[str, ModelRef | WrappedModel]:
        return {name: self._model(name, table, chains) for name, table in self._file.models.items()}

    def _model(self, name: str, table: ModelTable, chains: Mapping[str, Stack]) -> ModelRef | WrappedModel:
        path: Path = ('models', name)
        try:
            config = to_config(table.config)
        except ConfigError as error:
            self._problems.add(
                (*path, 'config'), error.message.removeprefix('config: '), _HINTS.example((*path, 'config'))
            )
            config = to_config(None)
        ref = ModelRef(slashed(table.model), config, table.provider_options)
        if table.chain is None:
            return ref
        fixed = self.chain(table.chain, (*path, 'chain'), chains)
        return wrap_language_model(model=ref, middleware=[fixed])

    def names(self, plugins: Sequence[Plugin]) -> None:
        """Models that the file names must have a provider in it, or be one of its own."""
        known = {plugin.name for plugin in plugins if type(plugin).model is not Plugin.model}
        named: list[tuple[str, Path]] = [
            (table.model, ('models', name, 'model')) for name, table in self._file.models.items()
        ]
        if self._file.model is not None:
            named.append((self._file.model, ('model',)))
        for model, path in named:
            provider, slash, _ = slashed(model).partition('/')
            if model in self._file.models or (slash and provider in known):
                continue
            if slash and provider not in self._file.plugins:
                near = did_you_mean(provider, sorted(self._file.plugins))
                self._problems.add(path, f'no plugin {provider!r} for {model!r}{near}', f'[plugins.{provider}]')
            elif not slash:
                near = did_you_mean(model, [*self._file.models, *[f'{each}/{model}' for each in sorted(known)]])
                self._problems.add(path, f'unknown model {model!r}{near}', _HINTS.example(('model',)))

    def chain(self, name: str, path: Path, chains: Mapping[str, Stack]) -> Stack:
        """The chain of that name; an empty one, and a problem, when there is none."""
        if name not in chains:
            self._problems.add(
                path, f'unknown chain {name!r}{did_you_mean(name, list(chains))}', _HINTS.example(('chains', '*'))
            )
        return chains.get(name, Stack())


def slashed(model: str) -> str:
    """`openai:gpt-x`, as Spine writes it, is `openai/gpt-x`."""
    provider, colon, name = model.partition(':')
    return f'{provider}/{name}' if colon and '/' not in provider else model


def _http(given: Mapping[str, Any]) -> HttpSettings:
    known = HttpSettings.__struct_fields__
    if unknown := [key for key in given if key not in known]:
        raise ConfigError(f'http: unknown setting {unknown[0]!r}{did_you_mean(unknown[0], known)}')
    return HttpSettings(**given)


def _told(owner: str, field: str, found: Any) -> str:
    message = str(found['msg']).removeprefix('Value error, ')
    if found['type'] == 'missing':
        return f'{owner} needs {field}'
    return f'{field}: {message}' if field else message
