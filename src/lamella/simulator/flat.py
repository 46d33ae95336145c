"""A schema made flat: references followed, `allOf` merged, alternatives laid out one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lamella.simulator.fits import point, same
from lamella.types import JSON

MAX_HOPS = 32


class Contradiction(Exception):
    """No value can fit."""


def flat(schema: Any, root: Any, hops: int = 0) -> JSON:
    """The schema without `$ref` and `allOf`. Raises Contradiction for `false`, and LookupError for a lost reference."""
    if schema is True:
        return {}
    if not isinstance(schema, Mapping):
        raise Contradiction('nothing fits the schema `false`' if schema is False else f'{schema!r} is not a schema')
    if hops > MAX_HOPS:
        raise Contradiction('its references go in a circle')
    merged = {key: value for key, value in schema.items() if key not in ('$ref', 'allOf')}
    if '$ref' in schema:
        merged = merge(merged, flat(point(root, schema['$ref']), root, hops + 1))
    for branch in schema.get('allOf', ()):
        merged = merge(merged, flat(branch, root, hops + 1))
    return merged


def alternatives(schema: JSON, root: Any) -> Iterator[JSON]:
    """The flat schemas that `anyOf` and `oneOf` leave to choose from; the schema itself when it has neither."""
    for key in ('anyOf', 'oneOf'):
        if key not in schema:
            continue
        rest = {name: value for name, value in schema.items() if name != key}
        for branch in schema[key]:
            try:
                chosen = merge(rest, flat(branch, root))
            except Contradiction:
                continue
            yield from alternatives(chosen, root)
        return
    yield schema


def merge(a: JSON, b: JSON) -> JSON:
    """Both at once. What cannot be joined in one keyword is kept as `allOf` for the check at the end."""
    merged = dict(a)
    for key, value in b.items():
        if key in merged and not same(merged[key], value):
            merged[key] = _joined(key, merged[key], value)
        else:
            merged[key] = value
    return merged


def _joined(key: str, a: Any, b: Any) -> Any:
    return _JOINS.get(key, lambda first, second: second)(a, b)


def _types(a: Any, b: Any) -> list[str]:
    first, second = _listed(a), _listed(b)
    both = [kind for kind in first if kind in second]
    if 'integer' not in both and 'integer' in first + second and 'number' in first + second:
        both.append('integer')
    if not both:
        raise Contradiction(f'nothing is both {a!r} and {b!r}')
    return both


def _listed(kinds: Any) -> list[str]:
    return [str(kind).lower() for kind in ([kinds] if isinstance(kinds, str) else kinds)]


def _options(a: Sequence[Any], b: Sequence[Any]) -> list[Any]:
    both = [option for option in a if any(same(option, other) for other in b)]
    if not both:
        raise Contradiction(f'the enums {a!r} and {b!r} have nothing in common')
    return both


def _both(a: Any, b: Any) -> Any:
    if a is True or b is True:
        return b if a is True else a
    return False if a is False or b is False else {'allOf': [a, b]}


def _properties(a: JSON, b: JSON) -> JSON:
    return {**a, **{name: _both(a[name], schema) if name in a else schema for name, schema in b.items()}}


def _names(a: Sequence[str], b: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*a, *b]))


def _one_value(a: Any, b: Any) -> Any:
    raise Contradiction(f'nothing is both {a!r} and {b!r}')


_JOINS: dict[str, Callable[[Any, Any], Any]] = {
    'type': _types,
    'enum': _options,
    'const': _one_value,
    'properties': _properties,
    'required': _names,
    'items': _both,
    'additionalProperties': _both,
    'minimum': max,
    'exclusiveMinimum': max,
    'minLength': max,
    'minItems': max,
    'minProperties': max,
    'maximum': min,
    'exclusiveMaximum': min,
    'maxLength': min,
    'maxItems': min,
    'maxProperties': min,
    'uniqueItems': lambda a, b: a or b,
    'nullable': lambda a, b: a and b,
}
