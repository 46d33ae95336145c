"""Messages, and the short forms that are taken in their place."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.types import (
    DataPart,
    MediaPart,
    Message,
    TextPart,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
    ToolResponsePart,
    to_message,
    to_messages,
    to_parts,
)


def test_each_role_has_its_constructor() -> None:
    assert Message.system('a') == Message('system', (TextPart('a'),))
    assert Message.user('a', MediaPart(url='u'), metadata={'k': 1}).metadata == {'k': 1}
    assert Message.assistant('a', TextPart('b')).text == 'ab'
    answer = ToolResponse('t', 1, 'r')
    assert Message.tool(answer) == Message.tool(ToolResponsePart(answer))
    assert Message.user() == Message('user')


def test_content_is_taken_as_a_string_a_part_or_a_list() -> None:
    text = TextPart('hi')
    for content in (
        'hi',
        text,
        ['hi'],
        [text],
        (text,),
        [{'type': 'text', 'text': 'hi'}],
        {'type': 'text', 'text': 'hi'},
    ):
        assert Message('user', content).content == (text,)  # type: ignore[arg-type]
    assert Message('user', []).content == ()  # type: ignore[arg-type]
    assert Message('user', '').content == (TextPart(''),)  # type: ignore[arg-type]


@pytest.mark.parametrize('role', ['model', 'User', '', None, 5, [], 'developer'], ids=repr)
def test_an_unknown_role_is_refused_with_those_there_are(role) -> None:
    with pytest.raises(ValueError, match='system, user, assistant, tool'):
        Message(role)
    with pytest.raises(ValueError, match=r'here\.role'):
        to_message({'role': role, 'content': 'x'}, 'here')


@pytest.mark.parametrize('content', [5, b'x', None, [5], [None], [b'x'], ['a', ['b']], object(), {1, 2}], ids=repr)
def test_content_that_is_not_made_of_parts_is_refused(content) -> None:
    with pytest.raises(TypeError, match='content'):
        Message('user', content)
    if content is not None:
        with pytest.raises(TypeError, match=r'here\.content'):
            to_message({'role': 'user', 'content': content}, 'here')


def test_even_a_tuple_is_looked_into() -> None:
    with pytest.raises(TypeError, match='content'):
        Message('user', (5,))  # type: ignore[arg-type]
    assert Message('user', ('a', TextPart('b'))).text == 'ab'  # type: ignore[arg-type]


@pytest.mark.parametrize(
    'part',
    [
        {'type': 'image'},
        {'text': 'x'},
        {'type': 'text'},
        {'type': 'text', 'text': 5},
        {},
        {'type': 'media'},
        {'type': 'media', 'url': 'a', 'data': ''},
    ],
    ids=repr,
)
def test_a_part_that_is_none_is_refused_with_its_place(part) -> None:
    with pytest.raises(ValueError, match=r'here\[1\]'):
        to_parts(['fine', part], 'here')


def test_the_text_of_a_message_leaves_everything_else_out() -> None:
    call, answer = ToolRequestPart(ToolRequest('t')), ToolResponsePart(ToolResponse('t'))
    message = Message.assistant('a', call, 'b', DataPart(1), answer)
    assert (message.text, message.tool_requests, message.tool_responses) == ('ab', (call,), (answer,))


def test_a_message_is_taken_as_itself_a_string_or_a_dict() -> None:
    message = Message.user('x')
    assert to_message(message) is message
    assert to_message('x') == message
    assert to_message({'role': 'user', 'content': 'x'}) == message
    assert to_message({'role': 'user', 'content': 'x', 'metadata': {'a': 1}}).metadata == {'a': 1}
    assert to_message({'role': 'assistant'}).content == ()
    assert to_message({'role': 'assistant', 'content': 'x', 'metadata': None}).metadata == {}


@pytest.mark.parametrize('value', [5, None, ['user', 'x'], b'x', TextPart('x')], ids=repr)
def test_what_is_no_message_is_refused(value) -> None:
    with pytest.raises(TypeError, match='here is a'):
        to_message(value, 'here')


def test_an_unknown_key_of_a_message_is_named() -> None:
    with pytest.raises(ValueError, match="unknown key 'name'"):
        to_message({'role': 'user', 'content': 'x', 'name': 'ann'})


@pytest.mark.parametrize('metadata', [5, 'x', ['a', 'b']], ids=repr)
def test_metadata_that_is_no_dict_is_refused(metadata) -> None:
    with pytest.raises((TypeError, ValueError), match='metadata'):
        to_message({'role': 'user', 'content': 'x', 'metadata': metadata})


@pytest.mark.parametrize('value', ['hi', {'role': 'user', 'content': 'x'}, Message.user('x')], ids=repr)
def test_one_message_where_a_list_belongs_is_refused(value) -> None:
    with pytest.raises(TypeError, match='give a list of messages'):
        to_messages(value)


@pytest.mark.parametrize('value', [5, None, object()], ids=repr)
def test_what_is_no_list_is_refused(value) -> None:
    with pytest.raises(TypeError, match='messages is a'):
        to_messages(value)


def test_a_list_of_messages_names_the_place_of_a_wrong_one() -> None:
    assert to_messages(iter(['a', Message.assistant('b')])) == (Message.user('a'), Message.assistant('b'))
    with pytest.raises(TypeError, match=r'messages\[1\]'):
        to_messages(['a', 5])  # type: ignore[list-item]


@given(st.text())
def test_any_text_is_kept_as_it_is(text: str) -> None:
    assert Message.user(text).text == Message('user', text).text == to_message(text).text == text  # type: ignore[arg-type]


def test_the_metadata_of_two_messages_is_not_shared() -> None:
    given: dict[str, Any] = {'a': 1}
    first = to_message({'role': 'user', 'content': 'x', 'metadata': given})
    given['b'] = 2
    assert first.metadata == {'a': 1}
