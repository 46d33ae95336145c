"""Checking values against JSON Schemas, for schemas that are no Python types. The one module that imports `jsonschema`."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from lamella.types import ConfigError

MAX_PROBLEMS = 10


class Validator:
    """One schema. Raises ConfigError when it is none."""

    def __init__(self, schema: dict[str, Any]) -> None:
        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            raise ConfigError(f'the schema is no JSON Schema: {error.message}') from error
        self._validator = Draft202012Validator(schema)

    def problems(self, value: Any) -> list[str]:
        """What does not fit: where, and why; at most ten."""
        found = sorted(self._validator.iter_errors(value), key=lambda error: list(map(str, error.absolute_path)))
        return [
            f'{error.json_path.removeprefix("$.") or "value"}: {error.message[:300]}' for error in found[:MAX_PROBLEMS]
        ]
