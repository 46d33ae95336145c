"""Function calls whose arguments arrive in pieces, as Vertex AI streams them."""

from typing import Any

import pytest

from lamella.types import (
    LamellaError,
    ToolRequest,
    ToolRequested,
    ToolRequestPart,
    fold,
)
from tests.wire.gemini_chunks import chunk, streamed


def piece(path: str, *, more: bool = False, follows: bool = True, **value: Any) -> dict[str, Any]:
    arg = {'jsonPath': path, **value, **({'willContinue': True} if more else {})}
    return {'functionCall': {'partialArgs': [arg], **({'willContinue': True} if follows else {})}}


BEGIN = {'functionCall': {'name': 'write', 'willContinue': True}, 'thoughtSignature': 'QQ=='}
PIECES = [
    BEGIN,
    piece('$.items[0].name', stringValue='ap', more=True),
    piece('$.items[0].name', stringValue='ple', more=True),
    piece('$.items[0].name', stringValue=''),
    piece('$.items[0].price', numberValue=0.5),
    piece('$.items[1].name', stringValue='pear'),
    piece("$['a key'].fresh", boolValue=True),
    piece('$.nothing', nullValue='NULL_VALUE'),
]
WRITTEN = {
    'items': [{'name': 'apple', 'price': 0.5}, {'name': 'pear'}],
    'a key': {'fresh': True},
    'nothing': None,
}


@pytest.mark.parametrize(
    'ending',
    [
        [chunk({'functionCall': {}}), chunk({'text': ''}, finishReason='STOP')],
        [chunk({'functionCall': {}}, finishReason='STOP')],
        [chunk({'text': ''}, finishReason='STOP')],
        [chunk(finishReason='STOP')],
        [chunk({'functionCall': {}}), chunk({'functionCall': {}}), chunk(finishReason='STOP')],
    ],
)
def test_arguments_in_pieces_are_one_call(ending: list[Any]) -> None:
    response = fold(streamed(*[chunk(part) for part in PIECES], *ending))

    assert response.message.content == (
        ToolRequestPart(ToolRequest('write', WRITTEN), {'gemini': {'thoughtSignature': 'QQ=='}}),
    )
    assert response.finish_reason == 'tool_calls'


def test_calls_in_pieces_follow_each_other() -> None:
    second = {'functionCall': {'name': 'write', 'id': 'c2', 'willContinue': True}}
    last = piece('$.id', stringValue='B', follows=False)

    parts = streamed(
        *[chunk(part) for part in (BEGIN, piece('$.id', stringValue='A'), second, last)], chunk(finishReason='STOP')
    )

    assert [part.tool_request for part in parts if isinstance(part, ToolRequested)] == [
        ToolRequest('write', {'id': 'A'}),
        ToolRequest('write', {'id': 'B'}, 'c2'),
    ]


def test_a_call_in_pieces_that_is_cut_is_never_requested() -> None:
    with pytest.raises(LamellaError) as caught:
        streamed(*[chunk(part) for part in PIECES])

    assert caught.value.status == 'UNAVAILABLE'
    assert caught.value.partial is None


@pytest.mark.parametrize('path', ['', 'items', '$', '$..a', '$.a[x]', '$.a[*]', '$.a[99999]', '$[0]'])
def test_a_path_that_cannot_be_followed_is_an_error(path: str) -> None:
    with pytest.raises(LamellaError, match='jsonPath'):
        streamed(chunk(BEGIN), chunk(piece(path, stringValue='x')), chunk(finishReason='STOP'))


def test_a_path_against_the_grain_is_an_error() -> None:
    with pytest.raises(LamellaError, match='jsonPath has the step 0 where a dict is'):
        streamed(chunk(BEGIN), chunk(piece('$.a.b', stringValue='x')), chunk(piece('$.a[0]', stringValue='x')))
