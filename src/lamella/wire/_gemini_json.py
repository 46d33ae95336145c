"""Reading Gemini's JSON without trust: checked fields under one spelling, and errors that name the path.

Google's JSON mapping of protobuf (protobuf.dev/programming-guides/json) takes `lowerCamelCase` and the original
`snake_case` names alike, reads `null` as "not set" and 64-bit numbers as strings; so does this.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from lamella.types import JSON
from lamella.wire import _openai_json as json

merged, write = json.merged, json.write

MARK = 'gemini'
"""The key of part, message and response metadata under which Gemini's own fields travel."""

Warn = Callable[[str], None]
"""Takes one sentence about what could not be said."""

SHOWN = 80

_SNAKE = re.compile(r'(?<=[a-zA-Z0-9])_([a-z0-9])')
_NUMBERS: dict[type, str] = {int: 'a whole number', float: 'a number'}


class Malformed(Exception):
    """What is wrong with a document, and where: `path` grows as the error passes outwards."""

    def __init__(self, problem: str, path: str = '') -> None:
        super().__init__(problem)
        self.problem = problem
        self.path = path

    def __str__(self) -> str:
        return f'{self.path} {self.problem}'

    def within(self, step: str) -> Malformed:
        joint = '' if not self.path or self.path.startswith('[') else '.'
        return Malformed(self.problem, f'{step}{joint}{self.path}')


def at(step: str, read: Callable[[Any], Any], value: Any) -> Any:
    """`read(value)`, whose errors happen at `step` of the path."""
    try:
        return read(value)
    except Malformed as error:
        raise error.within(step) from None


def each(step: str, read: Callable[[Any], Any], value: Any) -> list[Any]:
    """`read` of every item of a list; a missing list is empty."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed(f'is {shown(value)}: give a list', step)
    return [at(f'{step}[{i}]', read, item) for i, item in enumerate(value)]


def parsed(body: bytes | str) -> Any:
    try:
        return json.parse(body)
    except json.Malformed as error:
        raise Malformed(str(error)) from error


def fields(value: Any) -> JSON:
    """The set fields of an object, by their camelCase names. Only this level: what is inside may be a user's own."""
    if not isinstance(value, dict):
        raise Malformed(f'is {shown(value)}: give an object')
    return {camel(key): item for key, item in value.items() if item is not None}


def camel(key: str) -> str:
    return _SNAKE.sub(lambda match: match[1].upper(), key) if '_' in key else key


def text_of(value: JSON, name: str, default: str | None = None) -> str:
    found = value.get(name, default)
    if isinstance(found, str):
        return found
    raise Malformed('is missing: give a string' if found is None else f'is {shown(found)}: give a string', name)


def dict_of(value: JSON, name: str) -> JSON:
    """A free-form object, its keys untouched; empty when missing."""
    found = value.get(name, {})
    if not isinstance(found, dict):
        raise Malformed(f'is {shown(found)}: give an object', name)
    return found


def number_of(value: JSON, name: str, kind: type[Any]) -> Any:
    """A number of that kind, also from a string of digits; `None` when missing."""
    found = value.get(name)
    if found is None:
        return None
    try:
        return msgspec.convert(found, kind, strict=isinstance(found, bool))
    except msgspec.ValidationError:
        raise Malformed(f'is {shown(found)}: give {_NUMBERS[kind]}', name) from None


def bytes_of(value: JSON, name: str) -> bytes:
    """Base64 of either alphabet, padded or not."""
    text = text_of(value, name, '')
    if '-' in text or '_' in text:
        text = text.replace('-', '+').replace('_', '/')
    try:
        return binascii.a2b_base64(text + '=' * (-len(text) % 4), strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(f'is no base64 ({error}): encode the bytes with base64.b64encode', name) from None


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode('ascii')


def without(value: Mapping[str, Any], *names: str) -> JSON:
    return {key: item for key, item in value.items() if key not in names}


def marked(rest: JSON) -> JSON | None:
    """Metadata that carries these fields, if there are any."""
    return json.marked(MARK, rest)


def extras_of(metadata: Mapping[str, Any] | None) -> JSON:
    """Gemini's own fields out of metadata."""
    return json.extras_of(metadata, MARK)


def shown(value: Any) -> str:
    """A value in an error message, cut short."""
    text = repr(value)
    return text if len(text) <= SHOWN else f'{text[:SHOWN]}…'
