"""Which JSON Schemas OpenAI's strict mode takes, and the closed form that it wants.

Rules: developers.openai.com/api/docs/guides/structured-outputs, "Supported schemas".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella.types import JSON

_PLAIN = frozenset(
    (
        'type', 'title', 'description', 'enum', 'const', 'pattern', 'multipleOf', 'minimum', 'maximum',
        'exclusiveMinimum', 'exclusiveMaximum', 'minItems', 'maxItems', 'required',
    )
)  # fmt: skip
_FORMATS = frozenset(('date-time', 'time', 'date', 'duration', 'email', 'hostname', 'ipv4', 'ipv6', 'uuid'))
_TYPES = frozenset(('string', 'number', 'integer', 'boolean', 'object', 'array', 'null'))
MAX_DEPTH = 10


class _NotStrictError(Exception):
    pass


def strict_form(schema: Mapping[str, Any]) -> JSON | None:
    """The schema with every object closed (`additionalProperties: false`), or `None` when strict mode refuses it.

    Only objects whose properties are all required are closed, so whatever fits the closed form fits the schema as given.
    """
    try:
        if schema.get('type') != 'object' or 'anyOf' in schema:
            return None
        return _closed(schema, 0)
    except _NotStrictError:
        return None


def _closed(node: Any, depth: int) -> JSON:
    if not isinstance(node, Mapping) or depth > 2 * MAX_DEPTH:
        raise _NotStrictError
    if '$ref' in node and len(node) > 1 and '$defs' not in node:
        raise _NotStrictError
    if 'type' not in node and not node.keys() & {'$ref', 'anyOf', 'enum', 'const'}:
        raise _NotStrictError
    result = {key: _keyword(key, value, depth) for key, value in node.items() if key != '$schema'}
    return _closed_object(result) if _is_object(node) else result


def _is_object(node: Mapping[str, Any]) -> bool:
    kind = node.get('type')
    return kind == 'object' or (isinstance(kind, list) and 'object' in kind)


def _keyword(key: str, value: Any, depth: int) -> Any:
    if key == 'type' and not _known_type(value):
        raise _NotStrictError
    if key in _PLAIN or (key == 'format' and value in _FORMATS):
        return value
    if key in ('properties', '$defs', 'definitions') and isinstance(value, Mapping):
        return {name: _closed(item, depth + 1) for name, item in value.items()}
    if key == 'items':
        return _closed(value, depth + 1)
    if key == 'anyOf' and isinstance(value, (list, tuple)):
        return [_closed(item, depth + 1) for item in value]
    if key == '$ref' and isinstance(value, str) and value.startswith('#'):
        return value
    if key == 'additionalProperties' and value is False:
        return value
    raise _NotStrictError


def _known_type(value: Any) -> bool:
    names = value if isinstance(value, (list, tuple)) else [value]
    return all(isinstance(name, str) and name in _TYPES for name in names)


def _closed_object(node: JSON) -> JSON:
    properties = node.get('properties')
    if not properties or set(node.get('required') or ()) != set(properties):
        raise _NotStrictError
    return {**node, 'additionalProperties': False}
