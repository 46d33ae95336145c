"""JSON Schemas in the form that Anthropic's structured output takes."""

from __future__ import annotations

from typing import Any

from lamella.types import JSON

# platform.claude.com/docs/en/build-with-claude/structured-outputs, "JSON Schema limitations"
_FORMATS = frozenset(('date-time', 'time', 'date', 'duration', 'email', 'hostname', 'uri', 'ipv4', 'ipv6', 'uuid'))
_KEPT = frozenset(('type', 'enum', 'const', 'default', 'title', 'required'))
_ONE = ('items',)
_MANY = ('anyOf', 'allOf')
_NAMED = ('properties', '$defs', 'definitions')


def closed(schema: JSON) -> JSON:
    """The schema with every object closed, and what the API refuses (bounds, lengths, patterns) told in descriptions.

    The API answers 400 for an object without `additionalProperties: false` and for bounds; the full schema is checked
    again by whoever asked.
    """
    if '$ref' in schema:
        return {
            key: _named(value) if key in _NAMED else value for key, value in schema.items() if key in ('$ref', *_NAMED)
        }
    kept: JSON = {}
    told: list[str] = []
    for key, value in schema.items():
        _sort(key, value, kept, told)
    if schema.get('type') == 'object' or 'properties' in schema:
        kept['additionalProperties'] = False
    words = [schema['description']] if isinstance(schema.get('description'), str) else []
    if told:
        words.append(f'({", ".join(told)})')
    return {**kept, 'description': ' '.join(words)} if words else kept


def _sort(key: str, value: Any, kept: JSON, told: list[str]) -> None:
    if key in _KEPT or (key == 'format' and value in _FORMATS) or (key == 'minItems' and value in (0, 1)):
        kept[key] = value
    elif key in _ONE and isinstance(value, dict):
        kept[key] = closed(value)
    elif key in (*_MANY, 'oneOf') and isinstance(value, list):
        kept['anyOf' if key == 'oneOf' else key] = [_node(item) for item in value]
    elif key in _NAMED and isinstance(value, dict):
        kept[key] = _named(value)
    elif key not in ('description', '$schema', '$id', 'additionalProperties') or isinstance(value, dict):
        told.append(f'{key}: {value}')


def has_open_objects(schema: Any) -> bool:
    """Whether some object may have keys that the schema does not name: the API has no such objects."""
    if isinstance(schema, list):
        return any(map(has_open_objects, schema))
    if not isinstance(schema, dict):
        return False
    return isinstance(schema.get('additionalProperties'), dict) or any(map(has_open_objects, schema.values()))


def _node(value: Any) -> Any:
    return closed(value) if isinstance(value, dict) else value


def _named(value: Any) -> Any:
    return {name: _node(item) for name, item in value.items()} if isinstance(value, dict) else value
