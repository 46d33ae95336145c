"""What is kept in a store, as bytes: exactly what was given comes back, odd numbers and odd text included."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, TypeVar

import msgspec

from lamella.types import ConfigError, LamellaError

T = TypeVar('T')


def pack(value: Any, what: str) -> bytes:
    """MessagePack; JSON for the rare value it cannot hold (lone surrogates, numbers of more than 64 bits).

    Raises ConfigError, naming `what`, for a value that no other process could read.
    """
    try:
        return msgspec.msgpack.encode(value)
    except (UnicodeEncodeError, OverflowError):
        return _as_json(value, what)
    except (TypeError, ValueError, RecursionError) as error:
        raise _not_kept(what, error) from error


def _as_json(value: Any, what: str) -> bytes:
    try:
        return json.dumps(msgspec.to_builtins(value)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _not_kept(what, error) from error


def _not_kept(what: str, error: Exception) -> ConfigError:
    return ConfigError(f'{what} cannot be stored: {error}')


def unpack(data: bytes, kind: type[T], what: str) -> T:
    """What was packed. Raises DATA_LOSS for bytes that are something else."""
    try:
        if data[:1] in (b'{', b'['):  # a packed object or list never begins so
            return msgspec.convert(json.loads(data), kind)
        return msgspec.msgpack.decode(data, type=kind)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise LamellaError('DATA_LOSS', f'{what} in the store cannot be read: {error}') from error


def hashed(*parts: str) -> str:
    """SHA-256 of some texts as a key: other texts, and other cuts between them, give another key, however odd they are."""
    digest = sha256()
    for part in parts:
        data = part.encode('utf-8', 'surrogatepass')
        digest.update(len(data).to_bytes(8, 'big') + data)
    return digest.hexdigest()
