"""The base of all data: frozen, copied, and at home in pydantic models."""

import json
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from lamella import types
from lamella.types import (
    Attempt,
    Data,
    DataPart,
    File,
    Finished,
    GenerateResponse,
    GenerationConfig,
    MediaPart,
    Message,
    ModelRequest,
    ModelResponse,
    OutputSpec,
    Part,
    ReasoningPart,
    Source,
    StreamPart,
    TextDelta,
    TextPart,
    ToolChoice,
    ToolDefinition,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
    ToolResponsePart,
    Usage,
)

CONVERSATION = (
    Message.system('be brief'),
    Message.user('look', MediaPart(url='http://x', content_type='image/png'), metadata={'k': [1]}),
    Message.assistant(
        ReasoningPart('hm', 'signature', metadata={'a': 1}), TextPart('so', {'b': 2}),
        ToolRequestPart(ToolRequest('t', {'x': [1, None]}, 'r')), DataPart({'free': 1}),
    ),
    Message.tool(ToolResponse('t', {'y': 1.5}, 'r', True)),
)  # fmt: skip
VALUES: list[Data] = [
    *CONVERSATION,
    MediaPart(data=b'\x00\xff', name='f'),
    Usage(1, None, 3, cost_usd=0.1),
    ModelResponse(message=CONVERSATION[2], sources=(Source('u', index=2),), warnings=('w',), usage=Usage(1)),
    GenerateResponse(message=CONVERSATION[2], messages=CONVERSATION, turns=(ModelResponse(),), stop_reason='loop'),
    ModelRequest(
        CONVERSATION, GenerationConfig(seed=1), (ToolDefinition('t', 'd', {'type': 'object'}),), ToolChoice('tool', 't'),
        OutputSpec('json', {'type': 'string'}), {'acme': {'a': 1}}, {'m': 1},
    ),
    Attempt('m', 'ABORTED', 1.5),
    TextDelta('x', 1, {'a': 1}),
    File(MediaPart(url='u')),
    Finished('stop', Usage(1), metadata={}),
]  # fmt: skip


def name_of(value: Any) -> str:
    return type(value).__name__


@pytest.mark.parametrize('value', VALUES, ids=name_of)
def test_a_value_goes_through_json_and_comes_back_equal(value) -> None:
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value


@pytest.mark.parametrize('value', VALUES, ids=name_of)
def test_a_value_is_a_field_of_a_users_model_in_python_and_in_json(value) -> None:
    class Holder(BaseModel):
        one: type(value)  # type: ignore[valid-type]
        many: list[type(value)] = []  # type: ignore[valid-type]
        maybe: type(value) | None = None  # type: ignore[valid-type]

    holder = Holder(one=value, many=[value])
    assert holder.one is value
    assert Holder.model_validate_json(holder.model_dump_json()) == holder
    assert Holder.model_validate(holder.model_dump()) == holder
    assert Holder.model_validate(holder.model_dump(mode='json')) == holder


@pytest.mark.parametrize('value', VALUES, ids=name_of)
def test_the_schema_of_a_type_is_valid_and_fits_its_own_values(value) -> None:
    class Holder(BaseModel):
        one: type(value)  # type: ignore[valid-type]
        other: list[type(value)] = []  # type: ignore[valid-type]

    schema = Holder.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(Holder(one=value, other=[value]).model_dump_json()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({'one': 'no such thing'}, schema)


def test_every_public_type_has_a_schema() -> None:
    for name in types.__all__:
        kind = getattr(types, name)
        if isinstance(kind, type) and issubclass(kind, Data):
            jsonschema.Draft202012Validator.check_schema(TypeAdapter(kind).json_schema())


def test_a_wrong_value_is_pydantics_own_error_with_the_place() -> None:
    class Chat(BaseModel):
        messages: list[Message]

    with pytest.raises(ValidationError) as caught:
        Chat(messages=[{'role': 'user', 'content': []}, {'role': 'user', 'content': [{'type': 'text', 'text': 5}]}])
    assert caught.value.errors()[0]['loc'] == ('messages', 1)
    assert 'text' in str(caught.value)


@pytest.mark.parametrize('role', ['model', '', None, 5])
def test_a_wrong_role_is_refused_inside_a_users_model_too(role) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Message).validate_python({'role': role, 'content': []})


def test_the_short_forms_of_a_message_are_taken_inside_a_users_model_too() -> None:
    class Chat(BaseModel):
        messages: list[Message]

    chat = Chat(
        messages=['hi', {'role': 'assistant', 'content': 'hello'}, {'role': 'user', 'content': ['a', TextPart('b')]}]
    )
    assert [message.text for message in chat.messages] == ['hi', 'hello', 'ab']


def test_unions_of_parts_are_told_apart_by_their_tag() -> None:
    parts = TypeAdapter(list[Part])
    given = [TextPart('x'), ToolRequestPart(ToolRequest('t')), MediaPart(url='u'), DataPart(1)]
    assert parts.validate_json(parts.dump_json(given)) == given
    stream = TypeAdapter(list[StreamPart])
    told = [TextDelta('x'), Finished('stop')]
    assert stream.validate_json(stream.dump_json(told)) == told


def test_data_is_frozen_and_changed_by_copying() -> None:
    usage = Usage(1, 2)
    with pytest.raises(AttributeError):
        usage.input_tokens = 5  # type: ignore[misc]
    assert usage.replace(input_tokens=5) == Usage(5, 2)
    assert usage == Usage(1, 2)
    with pytest.raises(TypeError, match='no_such'):
        usage.replace(no_such=1)


def test_defaults_are_not_shared_between_values() -> None:
    first, second = Message('user'), Message('user')
    first.metadata['x'] = 1
    assert second.metadata == {}


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-2**60, 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8,
))  # fmt: skip
def test_any_json_value_survives_as_the_input_of_a_tool_request(value) -> None:
    part = ToolRequestPart(ToolRequest('t', value, 'r'))
    try:
        text = msgspec.json.encode(part)
    except UnicodeEncodeError:
        return  # a lone surrogate has no UTF-8
    assert msgspec.json.decode(text, type=ToolRequestPart) == part


def test_tool_response_parts_hold_media() -> None:
    part = ToolResponsePart(ToolResponse('draw', MediaPart(data=b'png')))
    assert json.loads(msgspec.json.encode(part))['tool_response']['output']['type'] == 'media'
