"""Does a value fit a schema? The check behind every value that the simulator makes up (json-schema.org, draft 2020-12)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lamella.simulator.formats import has_format
from lamella.simulator.patterns import found
from lamella.types import JSON

MAX_DEPTH = 64


def fits(value: Any, schema: Any, root: Any = None, depth: int = 0) -> bool:
    """True when the value satisfies every keyword that the simulator knows; unknown keywords are no constraint."""
    if isinstance(schema, bool):
        return schema
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return False
    top = schema if root is None else root
    if value is None and schema.get('nullable') is True:
        return True
    return all(check(value, schema, top, depth + 1) for key, check in _CHECKS.items() if key in schema)


def point(root: Any, ref: str) -> Any:
    """What a local `$ref` such as `#/$defs/x` points to. Raises LookupError when it points nowhere."""
    if not ref.startswith('#'):
        raise LookupError(f'$ref {ref!r} leaves the schema: only local ones (#/…) can be followed')
    node = root
    for step in [part.replace('~1', '/').replace('~0', '~') for part in ref[1:].split('/') if part]:
        node = node[int(step)] if isinstance(node, list) else node[step]
    return node


def kind_of(value: Any) -> str:
    if value is None:
        return 'null'
    if isinstance(value, bool):
        return 'boolean'
    if isinstance(value, (int, float)):
        return 'number'
    if isinstance(value, str):
        return 'string'
    return 'array' if isinstance(value, list) else 'object'


def same(a: Any, b: Any) -> bool:
    """JSON equality: 1 is 1.0, and true is not 1."""
    if kind_of(a) != kind_of(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


def _type(value: Any, schema: JSON, root: Any, depth: int) -> bool:
    wanted = schema['type']
    kinds = [wanted] if isinstance(wanted, str) else wanted
    return any(_is(value, str(kind).lower()) for kind in kinds)


def _is(value: Any, kind: str) -> bool:
    if kind == 'integer':
        return kind_of(value) == 'number' and float(value).is_integer()
    return kind_of(value) == kind


def _ref(value: Any, schema: JSON, root: Any, depth: int) -> bool:
    try:
        return fits(value, point(root, schema['$ref']), root, depth)
    except (LookupError, ValueError):
        return False


def _count(value: Any, branches: Any, root: Any, depth: int) -> int:
    return sum(fits(value, branch, root, depth) for branch in branches)


def _number(compare: Callable[[Any, Any], bool], key: str) -> Callable[[Any, JSON, Any, int], bool]:
    """A bound on numbers. `exclusiveMinimum: true` is OpenAPI 3.0's and OpenAPI's only; it is ignored here."""

    def check(value: Any, schema: JSON, root: Any, depth: int) -> bool:
        limit = schema[key]
        return kind_of(value) != 'number' or kind_of(limit) != 'number' or compare(value, limit)

    return check


def _size(kind: str, compare: Callable[[int, Any], bool], key: str) -> Callable[[Any, JSON, Any, int], bool]:
    def check(value: Any, schema: JSON, root: Any, depth: int) -> bool:
        return kind_of(value) != kind or compare(len(value), int(schema[key]))

    return check


def is_multiple(value: float, step: float) -> bool:
    if step == 0 or not math.isfinite(value / step):
        return False
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    return float(value / step).is_integer()


def _items(value: Any, schema: JSON, root: Any, depth: int) -> bool:
    if kind_of(value) != 'array':
        return True
    start = len(schema.get('prefixItems', ()))
    return all(fits(item, schema['items'], root, depth) for item in value[start:])


def _prefix(value: Any, schema: JSON, root: Any, depth: int) -> bool:
    if kind_of(value) != 'array':
        return True
    pairs = zip(value, schema['prefixItems'], strict=False)
    return all(fits(item, wanted, root, depth) for item, wanted in pairs)


def all_different(values: list[Any]) -> bool:
    return not any(same(a, b) for at, a in enumerate(values) for b in values[:at])


def _properties(value: Any, schema: JSON, root: Any, depth: int) -> bool:
    if kind_of(value) != 'object':
        return True
    return all(fits(value[name], wanted, root, depth) for name, wanted in schema['properties'].items() if name in value)


def _additional(value: Any, schema: JSON, root: Any, depth: int) -> bool:
    if kind_of(value) != 'object':
        return True
    named, patterns = schema.get('properties', {}), schema.get('patternProperties', {})
    others = [key for key in value if key not in named and not any(found(pattern, key) for pattern in patterns)]
    return all(fits(value[key], schema['additionalProperties'], root, depth) for key in others)


_CHECKS: dict[str, Callable[[Any, JSON, Any, int], bool]] = {
    'type': _type,
    'enum': lambda value, schema, root, depth: any(same(value, option) for option in schema['enum']),
    'const': lambda value, schema, root, depth: same(value, schema['const']),
    '$ref': _ref,
    'allOf': lambda v, s, root, depth: all(fits(v, branch, root, depth) for branch in s['allOf']),
    'anyOf': lambda v, s, root, depth: any(fits(v, branch, root, depth) for branch in s['anyOf']),
    'oneOf': lambda v, s, root, depth: _count(v, s['oneOf'], root, depth) == 1,
    'not': lambda v, s, root, depth: not fits(v, s['not'], root, depth),
    'minimum': _number(lambda value, limit: value >= limit, 'minimum'),
    'maximum': _number(lambda value, limit: value <= limit, 'maximum'),
    'exclusiveMinimum': _number(lambda value, limit: value > limit, 'exclusiveMinimum'),
    'exclusiveMaximum': _number(lambda value, limit: value < limit, 'exclusiveMaximum'),
    'multipleOf': _number(is_multiple, 'multipleOf'),
    'minLength': _size('string', lambda size, limit: size >= limit, 'minLength'),
    'maxLength': _size('string', lambda size, limit: size <= limit, 'maxLength'),
    'pattern': lambda v, s, root, depth: kind_of(v) != 'string' or found(s['pattern'], v),
    'format': lambda v, s, root, depth: kind_of(v) != 'string' or has_format(v, s['format']),
    'minItems': _size('array', lambda size, limit: size >= limit, 'minItems'),
    'maxItems': _size('array', lambda size, limit: size <= limit, 'maxItems'),
    'uniqueItems': lambda v, s, root, depth: kind_of(v) != 'array' or not s['uniqueItems'] or all_different(v),
    'items': _items,
    'prefixItems': _prefix,
    'required': lambda v, s, root, depth: kind_of(v) != 'object' or all(name in v for name in s['required']),
    'properties': _properties,
    'additionalProperties': _additional,
    'minProperties': _size('object', lambda size, limit: size >= limit, 'minProperties'),
    'maxProperties': _size('object', lambda size, limit: size <= limit, 'maxProperties'),
}
