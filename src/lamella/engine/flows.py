"""Flows: the app's own functions, with checked input, under a name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from lamella.core.config import problems_of
from lamella.types import ConfigError, Data

P = ParamSpec('P')
R = TypeVar('R')


class FlowContext(Data, frozen=True):
    """What a flow function that takes `ctx` is given: the app, and the caller's per-call values."""

    ai: Any
    context: Mapping[str, Any]


class Flow(Generic[P, R]):
    """A registered flow. Call it like the function it is; `run(input, context=…)` takes plain JSON input and checks it."""

    def __init__(self, function: Callable[P, Awaitable[R]], name: str, ai: Any) -> None:
        if not inspect.iscoroutinefunction(function):
            raise ConfigError(f'flow {name!r}: write `async def`')
        functools.update_wrapper(self, function)
        parameters = dict(inspect.signature(function).parameters)
        self.name = name
        self.ai = ai
        self._function = function
        self._takes_ctx = parameters.pop('ctx', None) is not None
        self._inputs = list(parameters)
        self._optional = all(parameter.default is not parameter.empty for parameter in parameters.values())
        hint = get_type_hints(function, include_extras=True).get(self._inputs[0], Any) if self._inputs else Any
        self._adapter = TypeAdapter[Any](hint)

    def __repr__(self) -> str:
        return f'Flow({self.name!r})'

    @property
    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of the input; empty for a flow without input."""
        return self._adapter.json_schema() if self._inputs else {}

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._takes_ctx and 'ctx' not in kwargs and len(args) <= len(self._inputs):
            kwargs['ctx'] = FlowContext(self.ai, {})
        return await self._function(*args, **kwargs)

    async def run(self, input: Any = None, *, context: Mapping[str, Any] | None = None) -> R:
        """Run with decoded JSON. Raises ConfigError when the input does not fit the function's hint."""
        keywords: dict[str, Any] = {'ctx': FlowContext(self.ai, dict(context or {}))} if self._takes_ctx else {}
        if not self._inputs or (input is None and self._optional):
            return await self._function(**keywords)  # type: ignore[call-arg]
        try:
            keywords[self._inputs[0]] = self._adapter.validate_python(input)
        except ValidationError as error:
            raise ConfigError(f'flow {self.name!r}: ' + '; '.join(problems_of(error))) from error
        return await self._function(**keywords)  # type: ignore[call-arg]
