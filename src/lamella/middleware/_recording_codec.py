"""What a recording is written in: plain JSON that says the type of each thing and holds no credential, and is read back."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from hashlib import sha256
from typing import Any

import msgspec
from pydantic import BaseModel

from lamella import types
from lamella.middleware._mask import MASK, is_secret_name, is_secret_value, without_credentials
from lamella.types import JSON, Data

KIND = '$'
DEEPEST = 200
MAX_SHOWN = 120
_KINDS: dict[str, type[Data]] = {
    name: kind
    for name, kind in vars(types).items()
    if isinstance(kind, type) and issubclass(kind, Data) and kind is not Data
}
_SAME = (type(None), bool, int)
_INLINE = re.compile(r'data:[\w.+/-]*[^,]{0,200};base64,', re.IGNORECASE)
_HEADERS = re.compile(r'(?i)headers$')
_FLOATS = {'nan': math.nan, 'inf': math.inf, '-inf': -math.inf}
Tellable = Callable[[Any], Any]


class Unreadable(ValueError):
    """Something in a recording that is none. The message says what."""


def plain(value: Any, depth: int = 0) -> Any:
    """Any value as JSON. Frozen data keep their type under `$`, bytes become base64, credentials `***`.

    Raises ValueError for what is nested more than 200 levels deep. Objects that are no data leave only the name of their type.
    """
    kind = type(value)
    if kind is str:
        return value if _INLINE.match(value) else without_credentials(value)
    if kind in _SAME:
        return value
    if depth > DEEPEST:
        raise ValueError(f'a value is nested more than {DEEPEST} levels deep')
    if kind is float:
        return value if math.isfinite(value) else {KIND: 'float', 'value': str(value)}
    if isinstance(value, Data):
        return _fields(value, depth + 1)
    if isinstance(value, Mapping):
        return {_key(key): _under(str(key), item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, (bytes, bytearray)):
        return {KIND: 'bytes', 'base64': base64.b64encode(value).decode()}
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode='json'), depth + 1)
    return {KIND: 'object', 'type': f'{kind.__module__}.{kind.__qualname__}'}


def _fields(value: Data, depth: int) -> JSON:
    """What differs from the defaults, under the type's name."""
    told: JSON = {KIND: type(value).__name__}
    for name, default in _defaults(type(value)):
        item = getattr(value, name)
        if item is not default and item != default:
            told[name] = plain(item, depth)
    return told


@cache  # of types, of which there are few
def _defaults(kind: type[Data]) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (field.name, field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory())
        for field in msgspec.structs.fields(kind)
    )


def _key(key: Any) -> str:
    text = without_credentials(str(key))
    return KIND + text if text.startswith(KIND) else text


def _under(name: str, value: Any, depth: int) -> Any:
    """What stands under this name in an object."""
    if isinstance(value, str) and value and is_secret_value(name, value):
        return MASK
    if isinstance(value, (list, tuple)) and is_secret_name(name):
        return [MASK if isinstance(item, str) else plain(item, depth) for item in value]
    if isinstance(value, Mapping) and _HEADERS.search(name):
        return {_key(key): MASK for key in value}
    return plain(value, depth)


def value_of(written: Any) -> Any:
    """What was written, with its types. Raises Unreadable."""
    if isinstance(written, list):
        return [value_of(item) for item in written]
    if not isinstance(written, dict):
        return written
    if KIND not in written:
        return {key.removeprefix(KIND): value_of(item) for key, item in written.items()}
    name = written[KIND]
    if name == 'float':
        return _FLOATS.get(str(written.get('value')), math.nan)
    if name == 'bytes':
        return _bytes(written.get('base64'))
    if name == 'object':
        return f'({written.get("type")}, which was not recorded)'
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise Unreadable(f'{name!r} is no type of a recording')
    fields = {key: value_of(item) for key, item in written.items() if key != KIND}
    try:
        return msgspec.convert(fields, kind)
    except (msgspec.ValidationError, TypeError, ValueError) as error:
        raise Unreadable(f'{name}: {error}') from None


def _bytes(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise Unreadable('bytes that are no base64') from None


def line_of(entry: JSON) -> bytes:
    """One line, in ASCII. Raises ValueError for numbers that JSON cannot hold."""
    return json.dumps(entry, separators=(',', ':'), allow_nan=False).encode() + b'\n'


def entry_of(line: bytes) -> JSON:
    """The object of a line. Raises Unreadable."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        said = str(error) if isinstance(error, ValueError) else 'nested too deeply'
        raise Unreadable(f'no JSON ({said})') from None
    if not isinstance(entry, dict):
        raise Unreadable(f'a {type(entry).__name__}, and no object')
    return entry


def digest(written: Any) -> str:
    """SHA-256 of something plain; the order of keys does not matter."""
    return sha256(json.dumps(written, sort_keys=True, separators=(',', ':')).encode()).hexdigest()


def first_difference(was: Any, now: Any) -> tuple[str, str, str] | None:
    """The first place at which two plain values differ, such as `messages[3].content[0].text`, with both values cut short."""
    found = next(_differences(was, now, ''), None)
    return None if found is None else (found[0].removeprefix('.') or 'the whole', shown(found[1]), shown(found[2]))


_ABSENT: Any = object()


def _differences(was: Any, now: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in [*was, *(key for key in now if key not in was)]:
            yield from _differences(was.get(key, _ABSENT), now.get(key, _ABSENT), f'{path}.{key}')
    elif isinstance(was, list) and isinstance(now, list):
        for index in range(max(len(was), len(now))):
            one, two = (side[index] if index < len(side) else _ABSENT for side in (was, now))
            yield from _differences(one, two, f'{path}[{index}]')
    elif type(was) is not type(now) or was != now:
        yield path, was, now


def shown(value: Any) -> str:
    """A plain value for a message: on one line, and cut."""
    if value is _ABSENT:
        return 'nothing'
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else f'{text[:MAX_SHOWN]}…'
