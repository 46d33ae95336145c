"""Models with layers fixed on them, one by one or all of a provider, usable wherever a model or a provider is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Self

from lamella.core.calls import call_model, stream_model
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.embedders import WrappedEmbeddingModel
from lamella.core.embedding import EmbeddingModel
from lamella.core.model import Model, ModelInfo
from lamella.core.models import FunctionModel, ModelRef, to_config, with_settings
from lamella.core.outside import Outside, outside_context, streamed, whole
from lamella.core.params import Continuing, Escort, ModelHookParams
from lamella.core.plugin import Plugin
from lamella.core.stack import Stack
from lamella.core.static import Layers, fixed_stack, named_after
from lamella.types import (
    ConfigError,
    GenerationConfig,
    Message,
    MessageLike,
    ModelRequest,
    ModelResponse,
    StreamPart,
    to_messages,
)

Ctx = GenerateMiddlewareContext
_MODEL_HOOKS = ('transform_params', 'wrap_model', 'wrap_stream')
Prompt = str | Sequence[MessageLike]


class WrappedModel(Model):
    """A model with layers fixed on it, closer to it than any layer of an app or a call.

    `generate` and `stream` work without a context too, as `ask` and `ask_stream` do with a prompt: outside of any app, where
    layers remember in a memory of the model's own. What else the model can do is found here as well, without the layers.
    """

    layered = True

    def __init__(
        self,
        model: Model | str | ModelRef,
        stack: Stack,
        model_id: str | None = None,
        provider_id: str | None = None,
    ) -> None:
        self.given, self.stack = model, stack
        self._inner = model if isinstance(model, str) else model.name
        self.name = named_after(self._inner, model_id, provider_id)
        self.info = model.info if isinstance(model, Model) else ModelInfo()
        self._home: Outside | None = None
        self._escorts: tuple[Escort, ...] = ()
        self._attempt = 1

    def __repr__(self) -> str:
        return f'WrappedModel({self.name!r}, {self.stack!r})'

    def __getattr__(self, name: str) -> Any:
        """What the model can do beside answering, without the layers."""
        if name.startswith('_') or not isinstance(self.__dict__.get('given'), Model):
            raise AttributeError(f'{type(self).__name__} has no {name!r}')
        return getattr(self.given, name)

    @property
    def option_keys(self) -> tuple[str, ...]:
        given = self.given
        return given.option_keys if isinstance(given, Model) else (self._inner.split('/', 1)[0],)

    def filled(self, request: ModelRequest) -> ModelRequest:
        given = self.given
        if isinstance(given, ModelRef):
            return with_settings(request, to_config(given.config), given.provider_options)
        return given.filled(request) if isinstance(given, Model) else request

    def explain(self) -> str:
        """The onion as text: the layers, the outermost first, and the model in the middle with those fixed on it in turn."""
        lines = self.stack.explain().splitlines()[:-1]
        given = self.given
        middle = given.explain() if isinstance(given, WrappedModel) else self._inner
        return '\n'.join([*lines, *[f'{"  " * len(lines)}{line}' for line in middle.splitlines()]])

    def escorted(self, escorts: tuple[Escort, ...], attempt: int) -> Self:
        same = object.__new__(type(self))
        same.__dict__.update(self.__dict__, _escorts=escorts, _attempt=attempt)
        return same

    def _params(self, request: ModelRequest, ctx: Ctx) -> ModelHookParams:
        model = self.given if isinstance(self.given, Model) else ctx.ai.resolve_model(self.given)
        leave = Continuing() if ctx.committed else None
        return ModelHookParams(request, model, self._attempt, leave, escorts=self._escorts)

    async def generate(self, request: ModelRequest, ctx: Ctx | None = None) -> ModelResponse:
        if ctx is None:
            return await self._answered(request, None)
        return await self.stack.model(self._params(request, ctx), ctx)

    def stream(self, request: ModelRequest, ctx: Ctx | None = None) -> AsyncIterator[StreamPart]:
        if ctx is None:
            return self._streamed(request, None)
        return self.stack.stream(self._params(request, ctx), ctx)

    async def ask(
        self,
        prompt: Prompt,
        *,
        system: str | None = None,
        config: GenerationConfig | Mapping[str, Any] | None = None,
        provider_options: Mapping[str, Mapping[str, Any]] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> ModelResponse:
        """One call outside of any app. `prompt` is a text or a list of messages; `context` holds values for the layers.

        Tools, turns and structured output are a run's: `Lamella().generate(model=…)`.
        """
        return await self._answered(_request(prompt, system, config, provider_options), context)

    def ask_stream(
        self,
        prompt: Prompt,
        *,
        system: str | None = None,
        config: GenerationConfig | Mapping[str, Any] | None = None,
        provider_options: Mapping[str, Mapping[str, Any]] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[StreamPart, None]:
        """`ask`, part by part."""
        return self._streamed(_request(prompt, system, config, provider_options), context)

    async def _answered(self, request: ModelRequest, context: Mapping[str, Any] | None) -> ModelResponse:
        ctx = outside_context(self._own_home(), context=context)
        return await whole(call_model(ModelHookParams(request, self), ctx), ctx)

    def _streamed(self, request: ModelRequest, context: Mapping[str, Any] | None) -> AsyncGenerator[StreamPart, None]:
        ctx = outside_context(self._own_home(), context=context, is_streaming=True)
        return streamed(stream_model(ModelHookParams(request, self), ctx), ctx)

    def _own_home(self) -> Outside:
        if self._home is None:
            self._home = Outside()
        return self._home

    async def aclose(self) -> None:
        """Close the model that was wrapped, and what its layers opened outside of any app."""
        if self._home is not None:
            await self._home.aclose()
        if isinstance(self.given, Model):
            await self.given.aclose()


def _request(prompt: Prompt, system: str | None, config: Any, options: Any) -> ModelRequest:
    messages = (Message.user(prompt),) if isinstance(prompt, str) else to_messages(prompt)
    given: object = system
    if given is not None and not isinstance(given, str):
        raise ConfigError(f'system is a {type(given).__name__}: give a string')
    if system is not None:
        messages = (Message.system(system), *messages)
    return ModelRequest(messages, to_config(config), provider_options=options or {})


def wrap_language_model(
    *,
    model: Model | str | ModelRef | Callable[..., Any],
    middleware: Layers,
    model_id: str | None = None,
    provider_id: str | None = None,
) -> WrappedModel:
    """A model with layers fixed on it, usable wherever a model is. `middleware` is one layer or several, outermost first.

    A model given by name is looked up in the app that makes the call. Only the hooks around model calls apply: turns, runs
    and tools belong to the call. Raises ConfigError for a layer that has hooks around those alone.
    """
    if not isinstance(model, (Model, str, ModelRef)):
        model = FunctionModel(model)
    return WrappedModel(model, fixed_stack(middleware, _MODEL_HOOKS, 'model calls'), model_id, provider_id)


class WrappedPlugin(Plugin):
    """A provider all of whose models have the same layers fixed on them. Everything else is the plugin's own."""

    def __init__(self, plugin: Plugin, stack: Stack) -> None:
        self.plugin, self.stack, self.name = plugin, stack, plugin.name

    def __repr__(self) -> str:
        return f'WrappedPlugin({self.plugin!r}, {self.stack!r})'

    def __getattr__(self, name: str) -> Any:
        if name.startswith('_') or name == 'plugin':
            raise AttributeError(f'WrappedPlugin has no {name!r}')
        return getattr(self.plugin, name)

    def model(self, name: str) -> Model | None:
        model = self.plugin.model(name)
        return None if model is None else WrappedModel(model, self.stack)

    def embedding_model(self, name: str) -> EmbeddingModel | None:
        model = self.plugin.embedding_model(name)
        return None if model is None else WrappedEmbeddingModel(model, self.stack)

    def known_models(self) -> Sequence[str]:
        return self.plugin.known_models()

    def middleware(self) -> Mapping[str, type[Any]]:
        return self.plugin.middleware()

    async def aclose(self) -> None:
        await self.plugin.aclose()


def wrap_provider(plugin: Plugin, middleware: Layers) -> WrappedPlugin:
    """The same provider with layers fixed on each of its models and embedding models, for `Lamella(plugins=[…])`.

    Raises ConfigError for what is no plugin or has no models, and for a layer that has only hooks around turns, runs and tools.
    """
    given: Any = plugin
    if not isinstance(given, Plugin):
        what = given.__name__ if isinstance(given, type) else repr(given)
        raise ConfigError(f'wrap_provider takes a Plugin instance, such as OpenAI(), not {what}')
    if not isinstance(plugin, WrappedPlugin) and {type(plugin).model, type(plugin).embedding_model} <= _NO_MODELS:
        raise ConfigError(f'{plugin!r} has no models to wrap')
    hooks = (*_MODEL_HOOKS, 'wrap_embed')
    return WrappedPlugin(plugin, fixed_stack(middleware, hooks, 'model and embedding calls'))


_NO_MODELS = {Plugin.model, Plugin.embedding_model}
