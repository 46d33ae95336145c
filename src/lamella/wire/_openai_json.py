"""JSON of the OpenAI protocols: read without trust, written with errors that name the place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from lamella.types import JSON, LamellaError

SHOWN = 200

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Malformed(Exception):
    """What is wrong with a document, and where."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f'{where} {problem}')


def parse(data: bytes | str) -> Any:
    """The JSON value. Raises Malformed.

    What msgspec refuses gets a second reading by the standard library, because servers do send `NaN` (a log probability)
    and halves of surrogate pairs (text cut between two UTF-16 units); the halves become U+FFFD.
    """
    try:
        return _decode(data)
    except RecursionError:
        raise Malformed('the JSON', 'is nested too deeply') from None
    except (ValueError, UnicodeError):
        return _parse_leniently(data)


def _parse_leniently(data: bytes | str) -> Any:
    text = data.decode('utf-8', 'replace') if isinstance(data, bytes) else data
    try:
        return _whole_text(json.loads(text))
    except RecursionError:
        raise Malformed('the JSON', 'is nested too deeply') from None
    except ValueError as error:
        raise Malformed('the body', f'is no JSON ({error}): {shown(text)}') from None


def _whole_text(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')
    if isinstance(value, list):
        return [_whole_text(item) for item in value]
    if isinstance(value, dict):
        return {_whole_text(key): _whole_text(item) for key, item in value.items()}
    return value


def shown(value: Any) -> str:
    """A value in an error message: its beginning, and never a long one."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN else f'{text[:SHOWN]}…'


def write(body: Any, parts: Callable[[], Mapping[str, Any]] | None = None) -> bytes:
    """The body as JSON. Raises LamellaError INVALID_ARGUMENT that names the first of `parts` which cannot be said."""
    try:
        return _encode(body)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError) as error:
        where = next((name for name, part in parts().items() if not _can_say(part)), 'body') if parts else 'body'
        raise LamellaError('INVALID_ARGUMENT', f'{where}: {_problem(error)}') from error


def _can_say(value: Any) -> bool:
    try:
        _encode(value)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        return False
    return True


def _problem(error: Exception) -> str:
    if isinstance(error, UnicodeEncodeError):
        bad = ascii(error.object[error.start])
        return f'the text has the lone surrogate {bad} at {error.start}, which UTF-8 cannot hold: remove or replace it'
    if isinstance(error, RecursionError):
        return 'is nested too deeply, or holds itself'
    return f'is not JSON ({error}): give strings, numbers, booleans, None, lists and dicts'


def arguments_of(value: Any) -> str:
    """Tool input as the JSON text of `arguments`; no input is an empty object."""
    return write({} if value is None else value).decode()


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> JSON:
    """Both, objects merged field by field; elsewhere `over` wins."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def without(value: Mapping[str, Any], known: frozenset[str]) -> JSON:
    """The set fields that are not in `known`."""
    return {key: item for key, item in value.items() if key not in known and item is not None}


def marked(mark: str, rest: JSON) -> JSON | None:
    """Metadata that carries these fields under the provider's name, if there are any."""
    return {mark: rest} if rest else None


def extras_of(metadata: Mapping[str, Any] | None, mark: str) -> JSON:
    """The provider's own fields out of metadata."""
    found = metadata.get(mark) if metadata else None
    return found if isinstance(found, dict) else {}


def need(value: Any, kind: type, where: str) -> Any:
    """The value, if it is of that type. Raises Malformed."""
    if isinstance(value, kind):
        return value
    wanted = 'a string' if kind is str else 'an object' if kind is dict else 'a list'
    raise Malformed(where, 'is missing' if value is None else f'is {shown(value)}: give {wanted}')


def dict_or_empty(value: Any) -> JSON:
    return value if isinstance(value, dict) else {}


def list_or_empty(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text_or_none(value: Any) -> str | None:
    """A string that says something."""
    return value if isinstance(value, str) and value else None


def count(value: Any) -> int | None:
    """A number of tokens; anything else is unknown."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
