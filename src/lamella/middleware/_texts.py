"""The texts inside of a value, in order: of JSON, messages, and anything made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lamella.types import Data, MediaPart


def texts_of(value: Any) -> Iterator[str]:
    """Keys and values alike. Of media only names and addresses, not what is in them."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            if one:
                yield one
        elif isinstance(one, Mapping):
            waiting.extend(part for pair in reversed(tuple(one.items())) for part in reversed(pair))
        elif isinstance(one, (list, tuple, set, frozenset)):
            waiting.extend(reversed(tuple(one)))
        elif isinstance(one, MediaPart):
            waiting.extend([one.url if one.url is not None and not one.url.startswith('data:') else None, one.name])
        elif isinstance(one, Data):
            waiting.extend(getattr(one, field) for field in reversed(one.__struct_fields__))
