"""The app's decorators: functions and classes of a program, registered under a name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from lamella.core.embedders import FunctionEmbeddingModel
from lamella.core.embedding import EmbeddingInfo, EmbeddingModel
from lamella.core.middleware import BaseMiddleware
from lamella.core.model import Model
from lamella.core.models import FunctionModel, ModelRef
from lamella.core.tools import Tool, tool_of
from lamella.engine.flows import Flow
from lamella.engine.registry import Registry
from lamella.types import ConfigError

P = ParamSpec('P')
R = TypeVar('R')
F = TypeVar('F', bound=Callable[..., Any])
L = TypeVar('L', bound=type[BaseMiddleware[Any]])


class Registration:
    """What an app can be taught: flows, tools, models, other names for them, and layers."""

    registry: Registry

    def flow(self, name: str | None = None) -> Callable[[Callable[P, Awaitable[R]]], Flow[P, R]]:
        """Register an async function of one input as a flow. It stays callable as it is."""
        _refuse_function(name, 'flow')

        def register(function: Callable[P, Awaitable[R]]) -> Flow[P, R]:
            flow = Flow(function, name or function.__name__, self)
            self.registry.flows[flow.name] = flow
            return flow

        return register

    def tool(self, name: str | None = None, *, description: str | None = None) -> Callable[[F], F]:
        """Register a function as a tool. It stays a function, and can be named or given in `tools=[…]`."""
        _refuse_function(name, 'tool')

        def register(function: F) -> F:
            made = tool_of(function, name, description)
            self.registry.tools[made.name] = made
            if not isinstance(function, Tool):
                self.registry.remember(function, made)
            return function

        return register

    def model(self, name: str) -> Callable[[F], F]:
        """Register an async function of `(request, ctx)` as a model: it returns a `ModelResponse` or yields stream parts."""
        _refuse_function(name, 'model')

        def register(function: F) -> F:
            self.registry.add_model(name, FunctionModel(function, name))
            return function

        return register

    def embedding_model(
        self, name: str, *, max_batch: int | None = None, max_batch_bytes: int | None = None
    ) -> Callable[[F], F]:
        """Register an async function of `(request, ctx)` that returns a list of vectors, one for each of `request.texts`.

        It is given at most `max_batch` texts at once, of at most `max_batch_bytes` together.
        """
        _refuse_function(name, 'embedding_model')
        info = EmbeddingInfo(max_batch, max_batch_bytes)

        def register(function: F) -> F:
            self.registry.add_embedding_model(name, FunctionEmbeddingModel(function, name, info))
            return function

        return register

    def model_alias(self, name: str, model: str | Model | ModelRef | EmbeddingModel) -> None:
        """Let `name` stand for a model: one with layers fixed on it, one with settings of its own, or another name.

        It can be used wherever a name can. A name that it stands for is looked up when it is first used. Raises ConfigError
        for a name that is taken already.
        """
        given: Any = name
        if not isinstance(given, str) or not given.strip():
            raise ConfigError(f"model_alias({name!r}, …): give a name such as 'fast'")
        if not isinstance(model, (str, Model, ModelRef, EmbeddingModel)):
            raise ConfigError(
                f'model_alias({name!r}, {model!r}): give a name, a model, a ModelRef or an embedding model'
            )
        self.registry.add_alias(name, model)

    def middleware(self, name: str | None = None) -> Callable[[L], L]:
        """Register a layer class under a name, for chains in files and for tools. Not needed for `use=[…]`."""
        _refuse_function(name, 'middleware')

        def register(layer: L) -> L:
            self.registry.add_layer(layer.name if name is None else name, layer)
            if name is not None:
                layer.name = name
            return layer

        return register


def _refuse_function(name: object, decorator: str) -> None:
    if name is not None and not isinstance(name, str):
        raise ConfigError(f'write @ai.{decorator}() with brackets')
