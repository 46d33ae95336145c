"""Gemini's older `Schema` (a subset of OpenAPI 3.0, ai.google.dev/api/caching#Schema) as JSON Schema."""

from __future__ import annotations

from typing import Any

from lamella.types import JSON
from lamella.wire._gemini_json import camel

_NUMBERS = ('maxItems', 'minItems', 'maxLength', 'minLength', 'maxProperties', 'minProperties')


def json_schema(schema: Any) -> Any:
    """The same demands in JSON Schema: lower-case types, `null` among them where `nullable`, counts as numbers."""
    if not isinstance(schema, dict):
        return schema
    result: JSON = {}
    for key, value in schema.items():
        result |= _said(camel(key), value)
    if result.pop('nullable', False) is True:
        return _with_null(result)
    return result


def _said(key: str, value: Any) -> JSON:
    if key == 'type' and isinstance(value, str):
        return {} if value == 'TYPE_UNSPECIFIED' else {'type': value.lower()}
    if key == 'properties' and isinstance(value, dict):
        return {key: {name: json_schema(item) for name, item in value.items()}}
    if key in ('items', 'additionalProperties'):
        return {key: json_schema(value)}
    if key in ('anyOf', 'oneOf', 'allOf', 'prefixItems') and isinstance(value, list):
        return {key: [json_schema(item) for item in value]}
    if key in _NUMBERS and isinstance(value, str) and value.isdigit():
        return {key: int(value)}
    return {'examples': [value]} if key == 'example' else {key: value}


def _with_null(schema: JSON) -> JSON:
    kind = schema.get('type')
    if not isinstance(kind, str):
        return {'anyOf': [schema, {'type': 'null'}]}
    with_null = {**schema, 'type': [kind, 'null']}
    if isinstance(schema.get('enum'), list):
        with_null['enum'] = [*schema['enum'], None]
    return with_null


def is_empty(schema: JSON) -> bool:
    """Whether a function with this schema takes nothing: Gemini wants no parameters at all then."""
    meaningful = schema.keys() - {'type', 'title', 'description', 'additionalProperties', '$schema', 'required'}
    if meaningful - {'properties'} or isinstance(schema.get('additionalProperties'), dict):
        return False
    return schema.get('type', 'object') == 'object' and not schema.get('properties') and not schema.get('required')
