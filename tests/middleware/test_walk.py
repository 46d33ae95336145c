"""Every text inside of a value, and nothing else."""

import enum
from base64 import b64encode
from collections import OrderedDict
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import BaseModel

from lamella.middleware._walk import DEEPEST, CannotLook, Walk
from lamella.types import (
    DataPart,
    MediaPart,
    Message,
    ModelResponse,
    ReasoningPart,
    TextPart,
    ToolDefinition,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
    Usage,
)


def hide(text: str) -> str:
    return text.replace('bob', '[X]').replace('123456789', '[N]')


walk = Walk(hide)


@dataclass
class Point:
    name: str
    x: int = 1


class Person(BaseModel):
    name: str


class Name(enum.StrEnum):
    BOB = 'bob'
    EVE = 'eve'


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        ('a bob', 'a [X]'),
        (None, None),
        (True, True),
        (12345678, 12345678),
        (123456789, '[N]'),
        (-123456789, '[N]'),
        (123456789.0, '[N]'),
        (123456789.5, 123456789.5),
        (float('inf'), float('inf')),
        ({'bob': 'bob', 'n': [1, 'bob', {'x': ('bob',)}]}, {'[X]': '[X]', 'n': [1, '[X]', {'x': ('[X]',)}]}),
        ({'bob': 1, '[X]': 2, 3: 'bob'}, {'[X]': 1, '[X]_2': 2, 3: '[X]'}),
        (OrderedDict(a='bob'), {'a': '[X]'}),
        (MappingProxyType({'a': 'bob'}), {'a': '[X]'}),
        ({'bob'}, {'[X]'}),
        (Message.user('bob', metadata={'k': 'bob'}), Message.user('[X]', metadata={'k': '[X]'})),
        (ReasoningPart('bob', 'sig'), ReasoningPart('[X]')),
        (
            ToolRequestPart(ToolRequest('bob', {'a': 'bob'}, 'bob')),
            ToolRequestPart(ToolRequest('bob', {'a': '[X]'}, 'bob')),
        ),
        (ToolResponse('bob', [123456789], 'r'), ToolResponse('bob', ['[N]'], 'r')),
        (DataPart({'t': 'bob'}), DataPart({'t': '[X]'})),
        (MediaPart(url='http://x/bob', name='bob.png'), MediaPart(url='http://x/[X]', name='[X].png')),
        (MediaPart(data=b'hi bob', content_type='text/plain'), MediaPart(data=b'hi [X]', content_type='text/plain')),
        (MediaPart(data=b'bob', content_type='image/png'), MediaPart(data=b'bob', content_type='image/png')),
        (MediaPart(url='data:text/csv,bob'), MediaPart(url='data:text/csv,[X]')),
        (
            MediaPart(url='data:application/json;base64,' + b64encode(b'"bob"').decode()),
            MediaPart(url='data:application/json;base64,' + b64encode(b'"[X]"').decode()),
        ),
        (
            ModelResponse.text_of('bob', id='bob', usage=Usage(123456789)),
            ModelResponse.text_of('[X]', id='bob', usage=Usage(123456789)),
        ),
        (Point('bob'), {'name': '[X]', 'x': 1}),
        (Person(name='bob'), {'name': '[X]'}),
        (Name.BOB, '[X]'),
    ],
)
def test_what_becomes_of_a_value(value: Any, expected: Any) -> None:
    assert walk(value) == expected


@pytest.mark.parametrize(
    'value',
    [
        'eve',
        {'a': ['eve', 1, None, {'b': ('eve',)}]},
        Message.user('eve'),
        ReasoningPart('eve', 'sig'),
        Point('eve'),
        Person(name='eve'),
        Name.EVE,
        b'bob',
        MediaPart(url='data:image/png;base64,Ym9i'),
        MediaPart(url='data:text/plain;base64,!'),
        1.5,
        float('nan'),
        ToolDefinition('bob', 'ask bob'),
    ],
)
def test_what_has_nothing_in_it_stays_the_same_object(value: Any) -> None:
    assert walk(value) is value


def test_it_is_told_where_it_cannot_look() -> None:
    deep: Any = 'x'
    for _ in range(DEEPEST + 2):
        deep = [deep]
    with pytest.raises(CannotLook, match='nested'):
        walk(deep)
    with pytest.raises(CannotLook, match='UTF-8'):
        walk(MediaPart(data=b'\xff\xfe', content_type='text/plain'))


def test_messages_are_looked_through_once() -> None:
    seen: list[str] = []
    memo: dict[int, tuple[Message, Message]] = {}

    def note(text: str) -> str:
        seen.append(text)
        return hide(text)

    message = Message.user('bob')
    for _ in range(3):
        assert Walk(note, memo=memo)([message, message]) == [Message.user('[X]')] * 2
    assert seen == ['bob']


def test_objects_that_are_no_data_are_somebody_elses_business() -> None:
    thing = object()
    assert walk([thing])[0] is thing
    assert Walk(hide, lambda value: 'told')([thing]) == ['told']


def test_a_part_of_a_message_without_anything_keeps_its_place() -> None:
    message = Message('assistant', (TextPart('eve'), TextPart('bob')))
    changed = walk(message)
    assert changed.content[0] is message.content[0]
    assert changed.content[1] == TextPart('[X]')
