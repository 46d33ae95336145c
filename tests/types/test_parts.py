"""The parts of messages."""

import pytest

from lamella.types import MediaPart, ReasoningPart, TextPart, ToolRequest, ToolResponse


@pytest.mark.parametrize('given', [{}, {'url': 'u', 'data': b'x'}], ids=repr)
def test_media_is_by_address_or_by_content_and_not_both(given) -> None:
    with pytest.raises(ValueError, match='exactly one of url= and data='):
        MediaPart(**given)


def test_empty_content_is_content() -> None:
    assert MediaPart(data=b'').data == b''
    assert MediaPart(url='').url == ''


def test_parts_are_equal_by_value_and_told_apart_by_kind() -> None:
    assert TextPart('x') == TextPart('x')
    assert TextPart('x') != TextPart('x', {'a': 1})
    assert TextPart('x') != ReasoningPart('x')


def test_a_request_without_input_has_none_and_a_response_is_no_error() -> None:
    assert ToolRequest('t').input is None
    assert ToolResponse('t').is_error is False
