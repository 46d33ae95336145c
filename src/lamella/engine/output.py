"""Structured output: what is asked of the model, and what may be made of its answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from inspect import isroutine
from typing import Any

import msgspec
from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError

from lamella.core.config import problems_of
from lamella.types import ConfigError, ModelResponse, OutputError, OutputSpec

_FENCED = re.compile(r'^\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*$', re.DOTALL)


class OutputShape:
    """The wanted shape of an answer: a spec for the model, and a reader of what it sends back."""

    __slots__ = ('_adapter', 'spec')

    def __init__(self, spec: OutputSpec, adapter: TypeAdapter[Any] | None) -> None:
        self.spec, self._adapter = spec, adapter

    def read(self, response: ModelResponse) -> Any:
        """The value in the answer. Raises OutputError when it was cut off, is no JSON, or does not fit the schema."""
        if response.finish_reason == 'length':
            raise OutputError(
                'the answer was cut off (finish_reason=length) and is not parsed: raise max_output_tokens',
                partial=response,
            )
        if response.finish_reason == 'blocked':
            why = response.finish_message or 'no reason given'
            raise OutputError(f'the model refused to answer: {why}', partial=response)
        text = unfenced(response.text)
        try:
            return msgspec.json.decode(text) if self._adapter is None else self._adapter.validate_json(text)
        except ValidationError as error:
            problems = '; '.join(problems_of(error))
            raise OutputError(f'the answer does not fit the schema: {problems}', partial=response) from error
        except ValueError as error:
            raise OutputError(f'the answer is not JSON: {error}', partial=response) from error


def unfenced(text: str) -> str:
    """Without the code fence that models like to put around JSON."""
    found = _FENCED.match(text)
    return found.group(1) if found else text


def output_shape(schema: Any, format_: Any) -> OutputShape | None:
    """The shape that `output_schema` and `output_format` ask for, or `None` for plain text. Raises ConfigError."""
    if format_ not in (None, 'text', 'json'):
        raise ConfigError(f"output_format={format_!r}: use 'json' or 'text'")
    if schema is None:
        return _ANY_JSON if format_ == 'json' else None
    if format_ == 'text':
        raise ConfigError("output_schema needs output_format='json' (or leave output_format out)")
    if isinstance(schema, Mapping):
        return OutputShape(OutputSpec('json', dict(schema), _name(schema.get('title'))), None)
    try:
        return _typed_shape(schema)
    except TypeError:  # an unhashable type expression
        return _typed_shape.__wrapped__(schema)


_ANY_JSON = OutputShape(OutputSpec('json'), None)


@lru_cache(maxsize=256)
def _typed_shape(schema: Any) -> OutputShape:
    if isinstance(schema, (str, int, float, list, BaseModel)) or isroutine(schema):
        raise ConfigError(
            f'output_schema={schema!r}: give a type, such as a pydantic model class, or a JSON Schema dict'
        )
    try:
        adapter = schema if isinstance(schema, TypeAdapter) else TypeAdapter[Any](schema)
        described = adapter.json_schema()
    except (PydanticUserError, PydanticSchemaGenerationError) as error:
        raise ConfigError(f'output_schema={schema!r}: no JSON Schema can be made of it: {error}') from error
    return OutputShape(OutputSpec('json', described, _name(getattr(schema, '__name__', None))), adapter)


def _name(title: Any) -> str:
    cleaned = re.sub(r'[^A-Za-z0-9_-]', '_', title)[:64] if isinstance(title, str) else ''
    return cleaned or 'output'
