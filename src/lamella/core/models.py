"""Models made of other things: of a function, and of a model with its own settings."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, Self

from msgspec import ValidationError, convert

from lamella.core.calls import nonsense
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.model import Model, ModelInfo
from lamella.types import (
    STREAM_PARTS,
    ConfigError,
    Data,
    Finished,
    Folder,
    GenerateResponse,
    GenerationConfig,
    LamellaError,
    ModelRequest,
    ModelResponse,
    Status,
    StreamPart,
    ToolRequested,
    did_you_mean,
    unfold,
)

Ctx = GenerateMiddlewareContext
_PLAIN_MODEL = ModelInfo()


class FunctionModel(Model):
    """A model that is a function of `(request, ctx)`: a coroutine that returns a `ModelResponse`, or an async generator of
    stream parts. Connection failures and timeouts of the function become UNAVAILABLE and DEADLINE_EXCEEDED."""

    def __init__(self, function: Callable[..., Any], name: str | None = None, info: ModelInfo = _PLAIN_MODEL) -> None:
        self.name = str(name or getattr(function, '__name__', 'function'))
        self.info = info
        self._function = function
        if not callable(function):
            raise ConfigError(f'a model is a name, a Model, a ModelRef or a function, not {function!r}')
        called = (function, type(function).__call__)  # a function, a partial, or an object that is called
        self._streams = any(map(inspect.isasyncgenfunction, called))
        if not self._streams and not any(map(inspect.iscoroutinefunction, called)):
            raise ConfigError(
                f'model {self.name!r}: write `async def` (returning a ModelResponse or yielding stream parts)'
            )
        try:
            inspect.signature(function).bind(None, None)
        except TypeError as error:
            raise ConfigError(f'model {self.name!r}: the function must take (request, ctx): {error}') from error

    def __repr__(self) -> str:
        return f'FunctionModel({self.name!r})'

    async def generate(self, request: ModelRequest, ctx: Ctx) -> ModelResponse:
        if self._streams:
            return await fold_stream(self.stream(request, ctx))
        try:
            response: ModelResponse = await self._function(request, ctx)
        except (TimeoutError, ConnectionError) as error:
            raise _translated(self.name, error) from error
        return _plain(response) if isinstance(response, GenerateResponse) else response

    async def stream(self, request: ModelRequest, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        if not self._streams:
            response: Any = await self.generate(request, ctx)
            if not isinstance(response, ModelResponse):
                yield response
                return
            for part in unfold(response):
                yield part
            return
        requested, parts = False, self._function(request, ctx)
        try:
            async for part in parts:
                if type(part) not in STREAM_PARTS:
                    raise nonsense(self.name, part)
                yield part
                if type(part) is Finished:
                    return
                requested = requested or type(part) is ToolRequested
        except (TimeoutError, ConnectionError) as error:
            raise _translated(self.name, error) from error
        finally:
            await parts.aclose()
        yield Finished('tool_calls' if requested else 'stop')


def _plain(response: GenerateResponse) -> ModelResponse:
    """The answer of a whole run as a model's: what its tools answered is its own affair."""
    fields = {name: getattr(response, name) for name in ModelResponse.__struct_fields__}
    return ModelResponse(**{**fields, 'tool_responses': (), 'interrupts': ()})


def _translated(name: str, error: Exception) -> LamellaError:
    status: Status = 'DEADLINE_EXCEEDED' if isinstance(error, TimeoutError) else 'UNAVAILABLE'
    return LamellaError(status, f'{name}: {type(error).__name__}: {error}')


async def fold_stream(parts: AsyncIterator[StreamPart]) -> ModelResponse:
    """Read a stream to its end. On failure the error carries what had arrived as `partial`."""
    folder = Folder()
    try:
        async for part in parts:
            folder.add(part)
    except LamellaError as error:
        folder.tell(error)
        raise
    finally:
        if isinstance(parts, AsyncGenerator):
            await parts.aclose()
    return folder.response()


class ModelRef(Data, frozen=True):
    """A model by name with settings of its own, which a call's own settings override. Used where a name is taken."""

    name: str
    config: GenerationConfig | Mapping[str, Any] = GenerationConfig()
    provider_options: Mapping[str, Mapping[str, Any]] = {}


class ConfiguredModel(Model):
    """A model with default settings; what the request sets wins."""

    def __init__(
        self, model: Model, config: GenerationConfig, provider_options: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.name, self.info, self.inner = model.name, model.info, model
        self.layered = model.layered
        self._config, self._options = config, provider_options

    def __repr__(self) -> str:
        return f'ConfiguredModel({self.inner!r})'

    @property
    def option_keys(self) -> tuple[str, ...]:
        return self.inner.option_keys

    def filled(self, request: ModelRequest) -> ModelRequest:
        return self.inner.filled(with_settings(request, self._config, self._options))

    def escorted(self, escorts: tuple[Any, ...], attempt: int) -> Self:
        inner = self.inner.escorted(escorts, attempt)
        return self if inner is self.inner else type(self)(inner, self._config, self._options)

    async def generate(self, request: ModelRequest, ctx: Ctx) -> ModelResponse:
        return await self.inner.generate(self.filled(request), ctx)

    def stream(self, request: ModelRequest, ctx: Ctx) -> AsyncIterator[StreamPart]:
        return self.inner.stream(self.filled(request), ctx)


def with_settings(
    request: ModelRequest, config: GenerationConfig, provider_options: Mapping[str, Mapping[str, Any]]
) -> ModelRequest:
    """The request with these settings where it has none."""
    options = {**provider_options, **request.provider_options}
    for provider in provider_options.keys() & request.provider_options.keys():
        options[provider] = {**provider_options[provider], **request.provider_options[provider]}
    return request.replace(config=request.config.over(config), provider_options=options)


def to_config(value: GenerationConfig | Mapping[str, Any] | None, where: str = 'config') -> GenerationConfig:
    """Checked settings. Raises ConfigError for unknown keys, with the nearest right name, and for wrong types."""
    if value is None:
        return GenerationConfig()
    if isinstance(value, GenerationConfig):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(f'{where} is a {type(value).__name__}: give a GenerationConfig or a dict')
    known = GenerationConfig.__struct_fields__
    problems = [f'unknown setting {key!r}{did_you_mean(str(key), known)}' for key in value if key not in known]
    if problems:
        raise ConfigError(f"{where}: {'; '.join(problems)} (a provider's own settings go into provider_options)")
    try:
        return convert(dict(value), GenerationConfig)
    except ValidationError as error:
        raise ConfigError(f'{where}: {error}') from error
