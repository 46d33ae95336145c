"""What an app knows by name: models, tools, layers and flows. Unknown names are answered with the nearest known ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from lamella.core.embedders import FunctionEmbeddingModel, WrappedEmbeddingModel
from lamella.core.embedding import EmbeddingModel
from lamella.core.functional import check_name
from lamella.core.middleware import BaseMiddleware
from lamella.core.model import Model
from lamella.core.models import ConfiguredModel, FunctionModel, ModelRef, to_config
from lamella.core.plugin import Plugin
from lamella.core.tools import Tool, tool_of
from lamella.core.wrapped import WrappedModel
from lamella.types import ConfigError, UnknownNameError

K = TypeVar('K')
V = TypeVar('V')
KEPT = 256


class Registry:
    """Names and what they stand for, in one app."""

    def __init__(self, plugins: Any) -> None:
        if not isinstance(plugins, (list, tuple)):
            raise ConfigError(f'plugins= takes a list of plugins, such as [OpenAI()], not {plugins!r}')
        self.models: dict[str, Model] = {}
        self.embedding_models: dict[str, EmbeddingModel] = {}
        self.aliases: dict[str, Any] = {}
        self.tools: dict[str, Tool] = {}
        self.flows: dict[str, Any] = {}
        self.layers: dict[str, type[BaseMiddleware[Any]]] = {}
        self.plugins: dict[str, Plugin] = {}
        self._registered_tools: dict[Callable[..., Any], Tool] = {}
        self._resolved: dict[str, Model] = {}
        self._resolved_embedding: dict[str, EmbeddingModel] = {}
        self._function_tools: dict[Callable[..., Any], Tool] = {}
        self._function_models: dict[Callable[..., Any], Model] = {}
        for plugin in plugins:
            self._add_plugin(plugin)

    def _add_plugin(self, plugin: Any) -> None:
        if not isinstance(plugin, Plugin):
            what = plugin.__name__ if isinstance(plugin, type) else repr(plugin)
            raise ConfigError(f'plugins= takes Plugin instances, such as OpenAI(), not {what}')
        if plugin.name in self.plugins:
            raise ConfigError(f'two plugins are named {plugin.name!r}: give one of them another name=')
        self.plugins[plugin.name] = plugin
        for name, layer in plugin.middleware().items():
            self.add_layer(name, layer)

    def add_layer(self, name: str, layer: Any) -> None:
        if not (isinstance(layer, type) and issubclass(layer, BaseMiddleware)):
            raise ConfigError(f'middleware {name!r} is {layer!r}: register a subclass of BaseMiddleware')
        self.layers[check_name(name)] = layer

    def layer(self, name: str) -> type[BaseMiddleware[Any]]:
        """A registered layer class. Raises UnknownNameError."""
        if name not in self.layers:
            raise UnknownNameError(
                'middleware', name, sorted(self.layers), 'Register layers with plugins=[Middleware()]'
            )
        return self.layers[name]

    def add_model(self, name: str, model: Model) -> None:
        self._refuse_taken(name, self.models)
        self.models[name] = model
        self._resolved.pop(name, None)

    def add_embedding_model(self, name: str, model: EmbeddingModel) -> None:
        self._refuse_taken(name, self.embedding_models)
        self.embedding_models[name] = model
        self._resolved_embedding.pop(name, None)

    def add_alias(self, name: str, target: Any) -> None:
        """A second name for a model or an embedding model. Raises ConfigError for a name that is taken, or means itself."""
        self._refuse_taken(name, {**self.models, **self.embedding_models})
        seen, means = [name], named_by(target)
        while means is not None:
            if means in seen:
                raise ConfigError(f'the alias {name!r} would mean itself: {" -> ".join([*seen, means])}')
            seen.append(means)
            means = named_by(self.aliases.get(means))
        self.aliases[name] = target
        self._resolved.pop(name, None)
        self._resolved_embedding.pop(name, None)

    def _refuse_taken(self, name: str, taken: Mapping[str, Any]) -> None:
        if name in taken or name in self.aliases:
            raise ConfigError(f'a model named {name!r} is already registered')

    def model(self, wanted: Any) -> Model:
        """A model from a name, a `ModelRef`, a function or a model. Raises UnknownNameError or ConfigError."""
        if isinstance(wanted, str):
            found = self._resolved.get(wanted)
            return self._by_name(wanted) if found is None else found
        if isinstance(wanted, Model):
            return wanted
        if isinstance(wanted, ModelRef):
            return ConfiguredModel(self.model(wanted.name), to_config(wanted.config), wanted.provider_options)
        if callable(wanted) and not isinstance(wanted, type):
            known = self._function_models.get(wanted)
            return _keep(self._function_models, wanted, FunctionModel(wanted)) if known is None else known
        raise ConfigError(f"model={wanted!r}: give a name such as 'openai/gpt-5', a Model, a ModelRef or a function")

    def embedding_model(self, wanted: Any) -> EmbeddingModel:
        """An embedding model from a name, a function or a model. Raises UnknownNameError or ConfigError."""
        if isinstance(wanted, str):
            found = self._resolved_embedding.get(wanted)
            return self._embedding_by_name(wanted) if found is None else found
        if isinstance(wanted, EmbeddingModel):
            return wanted
        if callable(wanted) and not isinstance(wanted, type):
            return FunctionEmbeddingModel(wanted)
        raise ConfigError(
            f"embedding model {wanted!r}: give a name such as 'openai/text-embedding-3-small', an EmbeddingModel or a function"
        )

    def _embedding_by_name(self, name: str) -> EmbeddingModel:
        if name in self.aliases:
            return self.embedding_model(self.aliases[name])
        model = self.embedding_models.get(name)
        if model is None:
            provider, slash, short = name.partition('/')
            plugin = self.plugins.get(provider)
            model = plugin.embedding_model(short) if plugin is not None and slash else None
        if model is None:
            able = [
                f'{n}/…'
                for n, plugin in self.plugins.items()
                if type(plugin).embedding_model is not Plugin.embedding_model
            ]
            known = [*self.embedding_models, *self.aliases]
            hint = f'Providers with embeddings in this app: {", ".join(sorted(able)) or "none"}'
            raise UnknownNameError('embedding model', name, known, hint)
        return _keep(self._resolved_embedding, name, model)

    def _by_name(self, name: str) -> Model:
        if name in self.aliases:
            return self.model(self.aliases[name])
        model = self.models.get(name)
        if model is None:
            provider, slash, short = name.partition('/')
            plugin = self.plugins.get(provider)
            model = plugin.model(short) if plugin is not None and slash else None
        if model is None:
            raise UnknownNameError('model', name, self._known_models(name), self._model_hint(name))
        return _keep(self._resolved, name, model)

    def _known_models(self, name: str) -> list[str]:
        known = [f'{plugin.name}/{model}' for plugin in self.plugins.values() for model in plugin.known_models()]
        provider, _, short = name.partition('/')
        elsewhere = [] if provider in self.plugins or not short else [f'{other}/{short}' for other in self._providers()]
        return list(dict.fromkeys([*self.models, *self.aliases, *known, *elsewhere]))

    def _providers(self) -> list[str]:
        """The plugins that have models."""
        return [name for name, plugin in self.plugins.items() if type(plugin).model is not Plugin.model]

    def _model_hint(self, name: str) -> str:
        providers = ', '.join(sorted(f'{name}/…' for name in self._providers())) or 'none'
        return f'Providers of this app: {providers}; registered models: {", ".join(sorted(self.models)) or "none"}'

    def tool(self, wanted: Any) -> Tool:
        """A tool from a `Tool`, a function or a registered name."""
        if isinstance(wanted, Tool):
            return wanted
        if isinstance(wanted, str):
            if wanted not in self.tools:
                raise UnknownNameError('tool', wanted, sorted(self.tools), 'Register tools with @ai.tool()')
            return self.tools[wanted]
        try:
            found = self._registered_tools.get(wanted) or self._function_tools.get(wanted)
        except TypeError:  # methods and partials of what cannot be hashed
            return tool_of(wanted)
        return _keep(self._function_tools, wanted, tool_of(wanted)) if found is None else found

    def remember(self, function: Any, tool: Tool) -> None:
        """The tool that a registered function stands for."""
        self._registered_tools[function] = tool


def named_by(target: Any) -> str | None:
    """The name that this model is looked up by, if it is."""
    while isinstance(target, (WrappedModel, WrappedEmbeddingModel)):
        target = target.given
    return target.name if isinstance(target, ModelRef) else target if isinstance(target, str) else None


def _keep(kept: dict[K, V], key: K, value: V) -> V:
    """Remember, and forget the oldest of more than 256: functions and names may be made anew for every call."""
    while len(kept) >= KEPT:
        del kept[next(iter(kept))]
    kept[key] = value
    return value
