"""The one base of everything that flows: a frozen msgspec struct that changes by copying and fits into pydantic models."""

from __future__ import annotations

from typing import Any, Self

import msgspec

JSON = dict[str, Any]


class Data(msgspec.Struct, frozen=True, omit_defaults=True):
    """Immutable data. `x.replace(field=…)` is the only way to change it, and gives a new object."""

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed. Raises TypeError for a field that does not exist."""
        return msgspec.structs.replace(self, **changes)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> JSON:
        """Lets users declare these types as fields of pydantic models (docs.pydantic.dev, "Custom Types").

        The schema is the plain dictionary form of pydantic's core schema, so that this floor needs no pydantic.
        """

        def validate(value: Any) -> Any:
            if isinstance(value, cls):
                return value
            try:
                return cls._taken(value)
            except (msgspec.ValidationError, TypeError) as error:
                raise ValueError(str(error)) from error

        return {
            'type': 'function-plain',
            'function': {'type': 'no-info', 'function': validate},
            'serialization': {
                'type': 'function-plain',
                'function': msgspec.to_builtins,
                'return_schema': {'type': 'any'},
            },
        }

    @classmethod
    def _taken(cls, value: Any) -> Self:
        """From a plain value, as it comes out of JSON."""
        return msgspec.convert(value, cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> JSON:
        schema = msgspec.json.schema(cls)
        inlined: JSON = _inlined(schema, schema.pop('$defs', {}), ())
        return inlined


def _inlined(node: Any, defs: JSON, seen: tuple[str, ...]) -> Any:
    """Replace `$ref`s by what they point to: pydantic keeps its own table of definitions and knows none of ours."""
    if isinstance(node, list):
        return [_inlined(item, defs, seen) for item in node]
    if not isinstance(node, dict):
        return node
    if '$ref' in node:
        name = node['$ref'].rsplit('/', 1)[-1]
        return {} if name in seen else _inlined(defs[name], defs, (*seen, name))
    return {key: _inlined(value, defs, seen) for key, value in node.items() if key != 'discriminator'}
