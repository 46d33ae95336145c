"""Every text inside of a value, changed by one function: in JSON, in messages and answers, in anything made of them."""

from __future__ import annotations

import dataclasses
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from lamella.types import Data, MediaPart, Message, ReasoningPart, ToolDefinition, ToolRequest, ToolResponse, Usage

DEEPEST = 64
SHORTEST_NUMBER = 9  # digits: no number that means somebody has fewer
_SAME = (type(None), bool, Usage, ToolDefinition)  # a tool's description is the developer's
# Names and marks that say how things belong together. They are nobody's data, and nothing fits when they change.
_KEPT = frozenset(
    ('role', 'ref', 'id', 'model', 'signature', 'content_type', 'finish_reason', 'stop_reason', 'redacted', 'index')
)
_TEXT_TYPE = re.compile(r'text/|application/(?:[\w.+-]*\+)?(?:json|xml|yaml|csv|x-yaml|x-ndjson)\b', re.IGNORECASE)
_INLINE = re.compile(r'data:([\w.+/-]*)[^,]{0,200}?(;base64)?,', re.IGNORECASE)
_NAMED = (ToolRequest, ToolResponse)


class CannotLook(ValueError):
    """A value that cannot be looked through. The message tells nothing of what is in it."""


class Walk:
    """`change` is given each text, also the keys of objects, and numbers with nine or more digits as text. What it leaves
    alone stays the very same object.

    `others` says what becomes of objects that are no data; left out, they stay. `memo` remembers messages that were changed.
    Raises CannotLook for what is nested more than 64 levels deep, and for a file of text that is no UTF-8.
    """

    def __init__(
        self,
        change: Callable[[str], str],
        others: Callable[[Any], Any] | None = None,
        memo: dict[int, tuple[Message, Message]] | None = None,
    ) -> None:
        self._change, self._others, self._memo = change, others, memo

    def __call__(self, value: Any, depth: int = 0) -> Any:
        kind = type(value)
        if kind is str:
            changed = self._change(value)
            return value if changed == value else changed
        if kind in _SAME:
            return value
        if depth > DEEPEST:
            raise CannotLook(f'a value is nested more than {DEEPEST} levels deep')
        if kind is int or kind is float:
            return self._number(value)
        if isinstance(value, Mapping):
            return self._mapping(value, depth + 1)
        if isinstance(value, (list, tuple, set, frozenset)):
            return self._items(value, depth + 1)
        if kind is Message and self._memo is not None:
            return self._message(value, self._memo, depth + 1)
        if kind is MediaPart:
            return self._media(value)
        if isinstance(value, Data):
            return self._data(value, depth + 1)
        return self._other(value, depth + 1)

    def _number(self, value: int | float) -> Any:
        if not 10 ** (SHORTEST_NUMBER - 1) <= abs(value) < 1e40 or value != int(value):
            return value
        digits = str(abs(int(value)))
        changed = self._change(digits)
        return value if changed == digits else changed

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> Any:
        items = {key: self(item, depth) for key, item in value.items()}
        keys = {key: self._change(key) if isinstance(key, str) else key for key in value}
        if all(items[key] is value[key] and keys[key] == key for key in value):
            return value
        changed: dict[Any, Any] = {}
        for key, item in items.items():
            changed[_free(keys[key], changed)] = item
        return changed

    def _items(self, value: Any, depth: int) -> Any:
        items = [self(item, depth) for item in value]
        if all(one is other for one, other in zip(items, value, strict=True)):
            return value
        return type(value)(items) if type(value) in (list, tuple, set, frozenset) else items

    def _message(self, message: Message, memo: dict[int, tuple[Message, Message]], depth: int) -> Message:
        known = memo.get(id(message))
        if known is None:
            changed: Message = self._data(message, depth)
            memo[id(message)] = message, changed  # what is remembered lives, so that its id stays its own
            return changed
        return known[1]

    def _media(self, media: MediaPart) -> MediaPart:
        """Names, addresses, and files of text. Nobody looks into pictures and sound."""
        changes: dict[str, Any] = {}
        if media.name is not None and (name := self._change(media.name)) != media.name:
            changes['name'] = name
        if media.metadata is not None and (metadata := self(media.metadata)) is not media.metadata:
            changes['metadata'] = metadata
        if media.data is not None and (data := self._text_of(media.data, media.content_type or '')) != media.data:
            changes['data'] = data
        if media.url is not None and (url := self._url(media.url)) != media.url:
            changes['url'] = url
        return media.replace(**changes) if changes else media

    def _text_of(self, data: bytes, content_type: str) -> bytes:
        if not _TEXT_TYPE.match(content_type):
            return data
        try:
            return self._change(data.decode()).encode()
        except UnicodeDecodeError as error:
            raise CannotLook(f'a file of {content_type} is no UTF-8, so that it cannot be looked through') from error

    def _url(self, url: str) -> str:
        inline = _INLINE.match(url)
        if inline is None:
            return self._change(url)
        if inline[2] is None:
            return inline[0] + self._change(url[inline.end() :]) if _TEXT_TYPE.match(inline[1]) else url
        try:
            data = b64decode(url[inline.end() :])
        except ValueError:
            return url
        changed = self._text_of(data, inline[1])
        return url if changed == data else inline[0] + b64encode(changed).decode()

    def _data(self, value: Data, depth: int) -> Any:
        kept = {'name'} if isinstance(value, _NAMED) else ()
        changes = {
            field: changed
            for field in value.__struct_fields__
            if field not in _KEPT and field not in kept
            if (changed := self(old := getattr(value, field), depth)) is not old
        }
        changes = {field: changed for field, changed in changes.items() if changed != getattr(value, field)}
        if not changes:
            return value
        if isinstance(value, ReasoningPart) and 'text' in changes:
            changes['signature'] = None  # it was given for the other text
        return value.replace(**changes)

    def _other(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):  # a kind of string, such as an enum's
            return value if self._change(str(value)) == str(value) else self._change(str(value))
        if isinstance(value, BaseModel):
            return self._if_changed(value, value.model_dump(), depth)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return self._if_changed(value, fields, depth)
        return value if self._others is None else self._others(value)

    def _if_changed(self, value: Any, fields: dict[str, Any], depth: int) -> Any:
        changed = self(fields, depth)
        return value if changed is fields else changed


def _free(key: Any, taken: Mapping[Any, Any]) -> Any:
    """The key, with a number behind it where two became the same."""
    number, free = 1, key
    while free in taken:
        number += 1
        free = f'{key}_{number}'
    return free
