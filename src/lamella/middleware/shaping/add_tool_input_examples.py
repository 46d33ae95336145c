"""`AddToolInputExamples`: examples of a tool's input are written into its description."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypedDict, Unpack

from msgspec import json
from pydantic import BaseModel, BeforeValidator, Field

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware
from lamella.core.params import ModelHookParams
from lamella.middleware._fields import Switch
from lamella.types import ConfigError, ToolDefinition

Ctx = GenerateMiddlewareContext
Example = Mapping[str, Any]
Format = Callable[[Example, int], str]
KEY = 'input_examples'


def _format(value: Any) -> Any:
    if value is not None and not callable(value):
        raise ValueError(f'is {value!r}: give a function of (example, index) that returns text, or None')
    if inspect.iscoroutinefunction(value):
        raise ValueError(f'{value.__name__} is async: give a plain function of (example, index)')
    return value


class AddToolInputExamplesConfig(BaseModel, frozen=True, extra='forbid', arbitrary_types_allowed=True):
    """The settings of `AddToolInputExamples`."""

    prefix: Annotated[str, Field(strict=True, description='The line before the examples.')] = 'Input Examples:'
    format: Annotated[
        Callable[[Mapping[str, Any], int], str] | None,
        BeforeValidator(_format),
        Field(
            description='Makes a line of (example, index), the example being a dict with `input`; None for its JSON.'
        ),
    ] = None
    remove: Annotated[Switch, Field(description="Take the examples out of the tool's metadata afterwards.")] = True


class AddToolInputExamplesOptions(TypedDict, total=False):
    """The keywords of `AddToolInputExamples`."""

    prefix: str
    format: Format | None
    remove: bool


class AddToolInputExamples(BaseMiddleware[AddToolInputExamplesConfig]):
    """For providers that have no field for examples, as `addToolInputExamplesMiddleware` of the Vercel AI SDK does
    (ai-sdk.dev/docs/ai-sdk-core/middleware).

    A tool's examples are its `metadata['input_examples']`: a list of `{'input': …}`. They follow its description after an
    empty line, each on a line of its own. Only what the model is told changes, not the tool. Raises ConfigError, when the
    tool is first offered, for examples of another shape and for a `format` that returns no text.
    """

    def __init__(
        self, config: AddToolInputExamplesConfig | None = None, **options: Unpack[AddToolInputExamplesOptions]
    ) -> None:
        super().__init__(config, **options)

    async def transform_params(self, params: ModelHookParams, ctx: Ctx) -> ModelHookParams:
        tools = params.request.tools
        if all(not tool.metadata or KEY not in tool.metadata for tool in tools):
            return params
        told = tuple([self._told(tool) for tool in tools])
        return params.replace(request=params.request.replace(tools=told))

    def _told(self, tool: ToolDefinition) -> ToolDefinition:
        metadata = tool.metadata or {}
        examples = _examples(metadata.get(KEY, ()), tool.name)
        if not examples:
            return tool
        lines = [self._line(example, index, tool.name) for index, example in enumerate(examples)]
        section = '\n'.join([self.config.prefix, *lines])
        if not tool.description.endswith(section):
            tool = tool.replace(description=f'{tool.description}\n\n{section}' if tool.description else section)
        if not self.config.remove:
            return tool
        return tool.replace(metadata={key: value for key, value in metadata.items() if key != KEY} or None)

    def _line(self, example: Example, index: int, tool: str) -> str:
        if self.config.format is None:
            return _json(example['input'], index, tool)
        line = self.config.format(example, index)
        if not isinstance(line, str):
            raise ConfigError(f'AddToolInputExamples: format returned {line!r} for tool {tool!r}: return text')
        return line


def _json(value: Any, index: int, tool: str) -> str:
    try:
        return json.encode(value).decode()
    except (TypeError, ValueError) as error:
        raise ConfigError(f'tool {tool!r}: metadata[{KEY!r}][{index}] is not JSON: {error}') from error


def _examples(given: Any, tool: str) -> Sequence[Example]:
    wanted = "give a list of {'input': …}"
    if not isinstance(given, (list, tuple)):
        raise ConfigError(f'tool {tool!r}: metadata[{KEY!r}] is {given!r}: {wanted}')
    for index, example in enumerate(given):
        if not isinstance(example, Mapping) or 'input' not in example:
            raise ConfigError(f'tool {tool!r}: metadata[{KEY!r}][{index}] is {example!r}: {wanted}')
    return given
