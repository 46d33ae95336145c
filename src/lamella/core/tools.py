"""Tools: plain functions with type hints, checked on the way in and made JSON on the way out."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NotRequired, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python
from typing_extensions import TypedDict

from lamella.core.session import Session
from lamella.types import ConfigError, Data, MediaPart, ToolDefinition, ToolError

_PLAIN = (str, int, float, bool, type(None))
_typed_dict: Any = TypedDict  # called with a name that is only known at run time


class ToolContext(Data, frozen=True):
    """What a tool function that takes a second argument `ctx` is given.

    `context` holds the caller's per-call values; `resumed` the metadata of the decision that restarted this call, or
    `None` on its first execution; `ref` the request's id. `run` is the run's own context (clock, events, models).
    """

    run: Any
    ref: str | None = None
    resumed: Mapping[str, Any] | None = None

    @property
    def context(self) -> Mapping[str, Any]:
        values: Mapping[str, Any] = self.run.context
        return values

    @property
    def session(self) -> Session | None:
        """The session of this run, with its state and artifacts, or `None`."""
        held: Session | None = self.run.session
        return held


class Tool:
    """A tool that a model may call.

    `run` takes the decoded input (and a `ToolContext` when `takes_ctx`), sync or async; a sync one runs in a thread.
    `input_schema` is a JSON Schema object; input is checked against `input_model` where there is one, and the checked
    value is what `run` gets: as its one argument, or as keywords when `spread`. Raises ConfigError for a name that providers
    refuse.
    """

    __slots__ = ('_call', '_validate', 'definition', 'input_model', 'is_async', 'run', 'spread', 'takes_ctx')

    def __init__(
        self,
        name: str,
        description: str = '',
        input_schema: Mapping[str, Any] | None = None,
        run: Callable[..., Any] | None = None,
        *,
        input_model: TypeAdapter[Any] | None = None,
        takes_ctx: bool = False,
        spread: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if not name or not all(c.isalnum() or c in '_-.' for c in name) or len(name) > 64 or not name.isascii():
            raise ConfigError(f'tool name {name!r}: use 1 to 64 letters, digits, "_", "-" or "."')
        if not callable(run):
            raise ConfigError(f'tool {name!r} needs run=, a function of its input')
        schema = dict(input_schema) if input_schema is not None else {'type': 'object', 'properties': {}}
        self.definition = ToolDefinition(
            name, description, schema, metadata=dict(metadata) if metadata is not None else None
        )
        self.run = run
        self.input_model = input_model
        self.takes_ctx = takes_ctx
        self.spread = spread
        self.is_async = inspect.iscoroutinefunction(run) or inspect.iscoroutinefunction(
            getattr(run, '__call__', None)  # noqa: B004 - an object with an async __call__
        )
        self._validate = input_model.validate_python if input_model is not None else None
        self._call = self._spread if spread else self._single

    name = property(lambda self: self.definition.name)
    description = property(lambda self: self.definition.description)
    input_schema = property(lambda self: self.definition.input_schema)

    def __repr__(self) -> str:
        return f'Tool({self.name!r})'

    def with_run(self, run: Callable[[Any], Any]) -> Tool:
        """The same tool to the model, carried out by `run`, which gets the checked input as its one argument."""
        metadata = self.definition.metadata
        return Tool(
            self.name, self.description, self.input_schema, run, input_model=self.input_model, metadata=metadata
        )

    def _single(self, value: Any, ctx: ToolContext) -> Any:
        return self.run(value, ctx) if self.takes_ctx else self.run(value)

    def _spread(self, value: Any, ctx: ToolContext) -> Any:
        return self.run(**value, ctx=ctx) if self.takes_ctx else self.run(**value)

    def _in_thread(self, value: Any, ctx: ToolContext) -> Any:
        try:
            return self._call(value, ctx)
        except StopIteration as error:  # which no future can carry: the caller would wait for ever
            raise RuntimeError(f'tool {self.name!r} raised StopIteration') from error

    def check_input(self, value: Any) -> Any:
        """The checked input. Raises ToolError with every problem, for the model to read."""
        if self._validate is None:
            return value
        try:
            return self._validate({} if value is None else value)
        except ValidationError as error:
            problems = '; '.join(f'{_place(e["loc"])}: {e["msg"]}' for e in error.errors(include_url=False))
            raise ToolError(f'invalid input for {self.name}: {problems}') from error

    async def execute(self, value: Any, ctx: ToolContext) -> Any:
        """Run with checked input; the result as a JSON value. Raises what the function raises."""
        checked = self.check_input(value)
        if self.is_async:
            result = await self._call(checked, ctx)
        else:
            result = await asyncio.to_thread(self._in_thread, checked, ctx)
            if inspect.isawaitable(result):
                result = await result
        return result if type(result) in _PLAIN else to_json(result, self.name)


def _place(loc: tuple[Any, ...]) -> str:
    return '.'.join(map(str, loc)) or 'input'


def to_json(value: Any, tool: str) -> Any:
    """A tool's result as a JSON value; media stays as it is. Raises ConfigError for what JSON cannot hold."""
    if isinstance(value, MediaPart):
        return value
    try:
        return to_jsonable_python(value)
    except (ValueError, TypeError) as error:
        raise ConfigError(f'tool {tool!r} returned a {type(value).__name__}, which is not JSON: {error}') from error


def tool_of(function: Callable[..., Any] | Tool, name: str | None = None, description: str | None = None) -> Tool:
    """A tool from a function: name, docstring and type hints give name, description and input schema.

    A single parameter that is a pydantic model is the input itself; otherwise each parameter is a property. A parameter
    named `ctx` gets the `ToolContext`. Raises ConfigError for `*args`, positional-only parameters and unusable hints.
    """
    if isinstance(function, Tool):
        return function
    if not callable(function):
        raise ConfigError(f'a tool is a function or a Tool, not {type(function).__name__} {function!r}')
    label = name or str(getattr(function, '__name__', type(function).__name__))
    text = inspect.cleandoc((function.__doc__ if description is None else description) or '')
    hints, parameters = _parameters(function, label)
    takes_ctx = 'ctx' in parameters
    fields = {key: parameter for key, parameter in parameters.items() if key != 'ctx'}
    if len(fields) == 1:
        (only,) = fields
        kind = hints.get(only)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            adapter = TypeAdapter[Any](kind)
            return Tool(label, text, adapter.json_schema(), function, input_model=adapter, takes_ctx=takes_ctx)
    keywords = _input_model(label, hints, fields)
    schema = _described(keywords.json_schema(), fields)
    return Tool(label, text, schema, function, input_model=keywords, takes_ctx=takes_ctx, spread=True)


def _parameters(function: Callable[..., Any], name: str) -> tuple[dict[str, Any], dict[str, inspect.Parameter]]:
    """Type hints and parameters by name. What a partial has fixed is not the model's to change."""
    inner, fixed = function, set[str]()
    while isinstance(inner, functools.partial):
        fixed |= inner.keywords.keys()
        inner = inner.func
    try:
        hints = get_type_hints(inner if inspect.isroutine(inner) else type(inner).__call__, include_extras=True)
        signature = inspect.signature(function)
    except (NameError, TypeError, ValueError) as error:
        raise ConfigError(f'tool {name!r}: its type hints cannot be read: {error}') from error
    parameters = {key: parameter for key, parameter in signature.parameters.items() if key not in fixed}
    for parameter in parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigError(f'tool {name!r}: parameter {parameter} cannot be named by a model; give it a name')
    return hints, parameters


def _input_model(name: str, hints: dict[str, Any], fields: dict[str, inspect.Parameter]) -> TypeAdapter[Any]:
    """A checker of keyword arguments. A typed dictionary and not a model: its keys may have any name."""
    spec = {key: _field(hints.get(key, Any), parameter.default) for key, parameter in fields.items()}
    try:
        keywords = _typed_dict(f'{name}_input', spec)
        keywords.__pydantic_config__ = ConfigDict(extra='forbid')
        return TypeAdapter[Any](keywords)
    except Exception as error:
        raise ConfigError(f'tool {name!r}: no schema can be made of its parameters: {error}') from error


def _field(hint: Any, default: Any) -> Any:
    return hint if default is inspect.Parameter.empty else NotRequired[hint]


def _described(schema: dict[str, Any], fields: dict[str, inspect.Parameter]) -> dict[str, Any]:
    """The schema with the parameters' defaults, which a typed dictionary cannot hold, and without its made-up title."""
    schema.pop('title', None)
    for key, described in schema.get('properties', {}).items():
        default = fields[key].default
        if type(default) in _PLAIN and default is not inspect.Parameter.empty:
            described['default'] = default
    return schema
