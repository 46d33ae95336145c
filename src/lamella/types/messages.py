"""Messages, and the short forms that are taken in their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import msgspec

from lamella.types.base import JSON, Data
from lamella.types.parts import (
    PART_TYPES,
    Part,
    TextPart,
    ToolRequestPart,
    ToolResponse,
    ToolResponsePart,
)

Role = Literal['system', 'user', 'assistant', 'tool']
ROLES: tuple[str, ...] = get_args(Role)
_KINDS = frozenset(PART_TYPES)


class Message(Data, frozen=True):
    """One message of a conversation. `content` is a tuple of parts; a string or a list is taken and converted.

    Raises ValueError for an unknown role and TypeError for content that is not made of parts.
    """

    role: Role
    content: tuple[Part, ...] = ()
    metadata: JSON = {}

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f'Message.role is {self.role!r}: use one of {", ".join(ROLES)}')
        if type(self.content) is not tuple:
            msgspec.structs.force_setattr(self, 'content', _parts(self.content, 'Message.content'))
            return
        for part in self.content:
            if type(part) not in _KINDS:
                msgspec.structs.force_setattr(self, 'content', _parts(self.content, 'Message.content'))
                return

    @classmethod
    def system(cls, *content: str | Part, metadata: JSON | None = None) -> Message:
        return cls('system', _parts(content, 'content'), metadata or {})

    @classmethod
    def user(cls, *content: str | Part, metadata: JSON | None = None) -> Message:
        return cls('user', _parts(content, 'content'), metadata or {})

    @classmethod
    def assistant(cls, *content: str | Part, metadata: JSON | None = None) -> Message:
        return cls('assistant', _parts(content, 'content'), metadata or {})

    @classmethod
    def tool(cls, *responses: ToolResponse | ToolResponsePart, metadata: JSON | None = None) -> Message:
        parts = tuple(ToolResponsePart(r) if isinstance(r, ToolResponse) else r for r in responses)
        return cls('tool', _parts(parts, 'responses'), metadata or {})

    @classmethod
    def _taken(cls, value: Any) -> Message:
        return to_message(value)

    @property
    def text(self) -> str:
        """All text parts joined, reasoning left out."""
        return ''.join([part.text for part in self.content if type(part) is TextPart])

    @property
    def tool_requests(self) -> tuple[ToolRequestPart, ...]:
        return tuple(part for part in self.content if type(part) is ToolRequestPart)

    @property
    def tool_responses(self) -> tuple[ToolResponsePart, ...]:
        return tuple(part for part in self.content if type(part) is ToolResponsePart)


MessageLike = Message | str | Mapping[str, Any]


def to_message(value: MessageLike, where: str = 'message') -> Message:
    """A message from a message, a string (role `user`) or a `{'role', 'content'}` mapping.

    Raises TypeError or ValueError naming `where` for anything else.
    """
    if isinstance(value, Message):
        return value
    if isinstance(value, str):
        return Message('user', (TextPart(value),))
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{where} is a {type(value).__name__}: give a Message, a string, or a {{'role', 'content'}} dict"
        )
    if unknown := [key for key in value if key not in ('role', 'content', 'metadata')]:
        raise ValueError(f'{where} has the unknown key {unknown[0]!r}: a message has role, content and metadata')
    role = value.get('role')
    if role not in ROLES:
        raise ValueError(f'{where}.role is {role!r}: use one of {", ".join(ROLES)}')
    metadata = value.get('metadata') or {}
    if not isinstance(metadata, Mapping):
        raise TypeError(f'{where}.metadata is a {type(metadata).__name__}: give a dict')
    return Message(role, _parts(value.get('content', ()), f'{where}.content'), dict(metadata))


def to_messages(values: Sequence[MessageLike], where: str = 'messages') -> tuple[Message, ...]:
    """Each item by `to_message`. A lone string or mapping is refused: it is nearly always a forgotten list."""
    if isinstance(values, (str, Mapping, Message)):
        raise TypeError(f'{where} is a single {type(values).__name__}: give a list of messages')
    if not isinstance(values, Iterable):
        raise TypeError(f'{where} is a {type(values).__name__}: give a list of messages')
    return tuple([v if type(v) is Message else to_message(v, f'{where}[{i}]') for i, v in enumerate(values)])


def to_parts(value: Any, where: str = 'content') -> tuple[Part, ...]:
    """Parts from a string, a part, a `{'type': …}` mapping, or a sequence of these."""
    return _parts(value, where)


def _parts(value: Any, where: str) -> tuple[Part, ...]:
    if isinstance(value, str):
        return (TextPart(value),)
    if isinstance(value, (*PART_TYPES, Mapping)):
        return (_part(value, where),)
    if not isinstance(value, Sequence) or isinstance(value, (bytes, bytearray)):
        raise TypeError(f'{where} is a {type(value).__name__}: give a string, a part, or a list of parts')
    return tuple([_part(item, f'{where}[{i}]') for i, item in enumerate(value)])


def _part(value: Any, where: str) -> Part:
    if isinstance(value, PART_TYPES):
        return value
    if isinstance(value, str):
        return TextPart(value)
    if not isinstance(value, Mapping):
        raise TypeError(f'{where} is a {type(value).__name__}: give a string or a part such as TextPart')
    try:
        part: Part = msgspec.convert(value, Part)
    except msgspec.ValidationError as error:
        raise ValueError(f'{where}: {error}') from error
    return part
