"""`StructuredOutput`: an answer that fits a schema, or an error; what does not fit is sent back to be repaired."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, TypedDict, Unpack

import msgspec
from pydantic import BaseModel, BeforeValidator, Field, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from lamella.core.config import problems_of
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextModel
from lamella.core.order import Order
from lamella.core.params import ModelHookParams
from lamella.middleware._fields import Count
from lamella.middleware._relay import with_notes
from lamella.types import (
    ConfigError,
    Message,
    ModelRequest,
    ModelResponse,
    OutputError,
    OutputSpec,
    TextPart,
    Usage,
    add_usage,
)

Ctx = GenerateMiddlewareContext
_FENCED = re.compile(r'^\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*$', re.DOTALL)
_REPAIR = (
    'Your answer does not fit the schema:\n{problems}\n'
    'Answer again with the whole corrected JSON value and nothing else: no prose, no code fence.'
)


def _schema(value: Any) -> Any:
    if isinstance(value, (str, int, float, list, BaseModel)):
        raise ValueError('give a type, such as a pydantic model class, or a JSON Schema as a dict')
    return value


class StructuredOutputConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `StructuredOutput`."""

    schema_: Annotated[
        Any,
        BeforeValidator(_schema),
        Field(alias='schema', description='A type or a JSON Schema; that of the call (`output_schema`) when left out.'),
    ] = None
    max_repairs: Annotated[Count, Field(description='How often an answer that does not fit is sent back.')] = 2


class StructuredOutputOptions(TypedDict, total=False):
    """The keywords of `StructuredOutput`."""

    schema: Any
    max_repairs: int


class StructuredOutput(BaseMiddleware[StructuredOutputConfig]):
    """Holds final answers to a schema: the model is asked for it (natively where it can), and an answer that does not fit goes
    back with what is wrong with it, up to `max_repairs` times. The last one that does not fit is an OutputError.

    What passes is valid JSON without a code fence around it. Answers that ask for tools pass as they are; an answer that was
    cut off (`finish_reason='length'`) or refused is an OutputError at once, and never parsed. Without `schema`, the layer
    repairs towards the call's own `output_schema`, and does nothing for a call that has none.

    A stream is held back until its answer fits. The usage of all attempts is added up. `metadata['structured_output']` has
    `repairs`. JSON Schemas given as dicts, and those of calls, need `pip install 'lamella[schema]'`; types need nothing.
    Event: `structured_output.repair(attempt, problems)`.
    """

    commit = 'finish'

    order = Order(
        better_inside={'cache': 'answers that do not fit would be kept'},
        better_outside={
            'rate_limit': 'its further requests would not count',
            'tenant_budget': 'what is set aside would have to do for all of its requests',
        },
    )

    def __init__(
        self, config: StructuredOutputConfig | None = None, **options: Unpack[StructuredOutputOptions]
    ) -> None:
        super().__init__(config, **options)
        self._shape = None if self.config.schema_ is None else _shape_of(self.config.schema_)

    async def wrap_model(self, params: ModelHookParams, ctx: Ctx, next_fn: NextModel) -> ModelResponse:
        shape = self._shape or _of_request(params.request)
        if shape is None:
            return await next_fn(params, ctx)
        request = params.request.replace(output=shape.spec) if self._shape is not None else params.request
        paid: Usage | None = None
        repairs = 0
        while True:
            response = await next_fn(params.replace(request=request, attempt=params.attempt + repairs), ctx)
            if response.tool_requests:
                return with_notes(response, {}, paid)
            text, problems = _judged(response, shape)
            if not problems:
                notes = {self.name: {'repairs': repairs}} if repairs else {}
                return with_notes(_with_text(response, text), notes, paid)
            paid = add_usage(paid, response.usage)
            if repairs == self.config.max_repairs:
                said = f'after {repairs} repairs: {"; ".join(problems)}' if repairs else '; '.join(problems)
                raise OutputError(f'the answer does not fit the schema {said}', partial=response.replace(usage=paid))
            repairs += 1
            ctx.emit('structured_output.repair', attempt=repairs, problems=tuple(problems))
            request = request.replace(messages=(*request.messages, response.message, _asked_again(problems)))


def _asked_again(problems: list[str]) -> Message:
    return Message.user(_REPAIR.format(problems='\n'.join(f'- {each}' for each in problems)))


class _Shape:
    """What is wanted: what the model is told, and what is wrong with a value."""

    def __init__(self, spec: OutputSpec, adapter: TypeAdapter[Any] | None, validator: Any) -> None:
        self.spec, self._adapter, self._validator = spec, adapter, validator

    def problems(self, text: str) -> list[str]:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            return [f'it is no JSON: {error}']
        if self._adapter is None:
            found: list[str] = self._validator.problems(value) if self._validator is not None else []
            return found
        try:
            self._adapter.validate_json(text)
        except ValidationError as error:
            return problems_of(error)
        return []


def _shape_of(schema: Any) -> _Shape:
    if isinstance(schema, Mapping):
        return _Shape(OutputSpec('json', dict(schema)), None, _validator(dict(schema)))
    try:
        adapter = schema if isinstance(schema, TypeAdapter) else TypeAdapter(schema)
        return _Shape(OutputSpec('json', adapter.json_schema(), _name(schema)), adapter, None)
    except (PydanticUserError, PydanticSchemaGenerationError, TypeError) as error:
        raise ConfigError(f'StructuredOutput: schema={schema!r}: no JSON Schema can be made of it: {error}') from error


def _name(schema: Any) -> str:
    return re.sub(r'[^A-Za-z0-9_-]', '_', getattr(schema, '__name__', ''))[:64] or 'output'


def _of_request(request: ModelRequest) -> _Shape | None:
    output = request.output
    if output is None or output.format != 'json':
        return None
    if output.schema is None:
        return _Shape(output, None, None)
    return _Shape(output, None, _cached(msgspec.json.encode(output.schema)))


@lru_cache(maxsize=64)
def _cached(schema: bytes) -> Any:
    return _validator(msgspec.json.decode(schema))


def _validator(schema: dict[str, Any]) -> Any:
    try:
        module: Any = importlib.import_module('lamella.middleware._schemas')
    except ModuleNotFoundError as error:
        if error.name != 'jsonschema':
            raise
        raise ConfigError(
            "StructuredOutput checks JSON Schemas with jsonschema: pip install 'lamella[schema]'"
        ) from error
    return module.Validator(schema)


def _judged(response: ModelResponse, shape: _Shape) -> tuple[str, list[str]]:
    """The JSON text and what is wrong with it. Raises OutputError for an answer that repairing cannot help."""
    if response.finish_reason == 'length':
        raise OutputError(
            'the answer was cut off (finish_reason=length) and is not parsed: raise max_output_tokens', partial=response
        )
    if response.finish_reason == 'blocked':
        why = response.finish_message or 'no reason given'
        raise OutputError(f'the model refused to answer: {why}', partial=response)
    text = response.text
    found = _FENCED.match(text)
    text = found.group(1) if found else text
    return text, shape.problems(text)


def _with_text(response: ModelResponse, text: str) -> ModelResponse:
    if text == response.text:
        return response
    others = [part for part in response.message.content if not isinstance(part, TextPart)]
    return response.replace(message=response.message.replace(content=(*others, TextPart(text))))
