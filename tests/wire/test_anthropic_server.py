"""The Anthropic protocol from the server's side: requests understood, errors sent, streams written."""

import json
from typing import Any

import pytest

from lamella.types import (
    DataPart,
    File,
    Finished,
    GenerationConfig,
    LamellaError,
    MediaPart,
    Message,
    ModelRequest,
    OutputSpec,
    Raw,
    ReasoningDelta,
    ReasoningPart,
    ResponseStarted,
    Restarted,
    Source,
    StreamPart,
    TextDelta,
    TextPart,
    ToolChoice,
    ToolDefinition,
    ToolInputDelta,
    ToolRequest,
    ToolRequested,
    ToolRequestPart,
    ToolResponded,
    ToolResponse,
    ToolResponsePart,
    Usage,
    fold,
)
from lamella.wire.anthropic import AnthropicCodec
from lamella.wire.sse import SSEDecoder
from tests.wire.anthropic_events import CITATION, JSON, parts_of

CODEC = AnthropicCodec()
CACHED = {'cache_control': {'type': 'ephemeral'}}

REQUEST: JSON = {
    'model': 'claude-opus-4-6',
    'max_tokens': 1024,
    'temperature': 0.5,
    'top_k': 3,
    'stop_sequences': ['END'],
    'stream': True,
    'system': [{'type': 'text', 'text': 'Be brief.', **CACHED}, {'type': 'text', 'text': 'Be kind.'}],
    'tools': [
        {
            'name': 'get_weather',
            'description': 'Weather.',
            'input_schema': {'type': 'object'},
            'strict': True,
            **CACHED,
        },
        {'type': 'web_search_20260318', 'name': 'web_search', 'max_uses': 5},
    ],
    'tool_choice': {'type': 'any', 'disable_parallel_tool_use': True},
    'output_config': {
        'effort': 'medium',
        'format': {'type': 'json_schema', 'schema': {'type': 'object', 'additionalProperties': False}},
        'task_budget': {'total': 9},
    },
    'metadata': {'user_id': 'u1'},
    'service_tier': 'auto',
    'future_setting': [1, None],
    'messages': [
        {
            'role': 'user',
            'content': [
                {'type': 'text', 'text': 'hi', **CACHED},
                {'type': 'image', 'source': {'type': 'base64', 'media_type': 'image/png', 'data': 'iVBORw=='}},
                {'type': 'image', 'source': {'type': 'url', 'url': 'https://example.org/a.png'}, **CACHED},
                {'type': 'image', 'source': {'type': 'file', 'file_id': 'file_1'}},
                {
                    'type': 'document',
                    'source': {'type': 'base64', 'media_type': 'application/pdf', 'data': 'JVBERi0xLjc='},
                    'title': 'Report',
                    'citations': {'enabled': True},
                },
                {'type': 'document', 'source': {'type': 'text', 'media_type': 'text/plain', 'data': 'Grüße'}},
                {'type': 'document', 'source': {'type': 'content', 'content': 'x'}, 'title': 'y'},
                {'type': 'search_result', 'source': 'https://x', 'title': 't', 'content': []},
            ],
        },
        {
            'role': 'assistant',
            'content': [
                {'type': 'thinking', 'thinking': 'hm', 'signature': 'sig=='},
                {'type': 'redacted_thinking', 'data': 'Emw='},
                {'type': 'text', 'text': 'I look.', 'citations': [CITATION]},
                {'type': 'tool_use', 'id': 'a', 'name': 'get_weather', 'input': {'c': 1}, 'caller': {'type': 'direct'}},
                {'type': 'tool_use', 'id': 'b', 'name': 'get_time', 'input': {}},
                {'type': 'server_tool_use', 'id': 's', 'name': 'web_search', 'input': {'query': 'x'}},
            ],
        },
        {
            'role': 'user',
            'content': [
                {'type': 'tool_result', 'tool_use_id': 'a', 'content': 'sunny', **CACHED},
                {
                    'type': 'tool_result',
                    'tool_use_id': 'b',
                    'content': [
                        {'type': 'text', 'text': 'a clock'},
                        {'type': 'image', 'source': {'type': 'url', 'url': 'https://example.org/clock.png'}},
                    ],
                    'is_error': True,
                },
                {'type': 'text', 'text': 'and?'},
            ],
        },
        {'role': 'system', 'content': 'Now in French.'},
        {'role': 'assistant', 'content': 'Oui'},
    ],
}


def decoded(body: JSON) -> ModelRequest:
    return CODEC.decode_request(json.dumps(body).encode()).request


def test_a_request_survives_being_understood_and_said_again() -> None:
    first = CODEC.decode_request(json.dumps(REQUEST).encode())
    assert (first.model, first.stream) == ('claude-opus-4-6', True)
    encoded = CODEC.encode_request(first.request, first.model, stream=first.stream)
    assert encoded.warnings == ()
    assert json.loads(encoded.body) == REQUEST
    assert CODEC.decode_request(encoded.body) == first


def test_what_a_request_means() -> None:
    request = decoded(REQUEST)
    assert request.config == GenerationConfig(
        temperature=0.5,
        top_k=3,
        max_output_tokens=1024,
        stop_sequences=('END',),
        reasoning_effort='medium',
        parallel_tool_calls=False,
    )
    cached = {'anthropic': {'strict': True, **CACHED}}
    assert request.tools == (ToolDefinition('get_weather', 'Weather.', {'type': 'object'}, None, cached),)
    assert request.tool_choice == ToolChoice('required')
    assert request.output == OutputSpec('json', {'type': 'object', 'additionalProperties': False})
    assert request.provider_options['anthropic']['future_setting'] == [1, None]
    assert [message.role for message in request.messages] == [
        'system',
        'user',
        'assistant',
        'tool',
        'user',
        'system',
        'assistant',
    ]


def test_what_its_parts_mean() -> None:
    _, user, assistant, tool, *_ = decoded(REQUEST).messages
    assert user.content[:3] == (
        TextPart('hi', {'anthropic': CACHED}),
        MediaPart(data=b'\x89PNG', content_type='image/png'),
        MediaPart(url='https://example.org/a.png', metadata={'anthropic': CACHED}),
    )
    assert [type(part) for part in user.content[3:]] == [DataPart, MediaPart, MediaPart, DataPart, DataPart]
    assert assistant.content[0] == ReasoningPart('hm', 'sig==')
    assert assistant.content[3] == ToolRequestPart(
        ToolRequest('get_weather', {'c': 1}, 'a'), {'anthropic': {'caller': {'type': 'direct'}}}
    )
    picture = MediaPart(url='https://example.org/clock.png')
    assert tool.content == (
        ToolResponsePart(ToolResponse('get_weather', 'sunny', 'a'), {'anthropic': CACHED}),
        ToolResponsePart(ToolResponse('get_time', [TextPart('a clock'), picture], 'b', is_error=True)),
    )


@pytest.mark.parametrize(
    'source',
    [
        {'type': 'base64', 'media_type': 'image/png', 'data': '!!iVBORw=='},
        {'type': 'base64', 'media_type': 'image/png', 'data': 'iVBORw==', 'detail': 'high'},
        {'type': 'url', 'url': 5},
        'https://example.org/a.png',
    ],
)
def test_a_picture_that_is_not_understood_is_kept_as_it_is(source: Any) -> None:
    block = {'type': 'image', 'source': source}
    body = {'model': 'm', 'max_tokens': 1, 'messages': [{'role': 'user', 'content': [block]}]}
    assert decoded(body).messages[0].content == (DataPart(block, {'anthropic': {}}),)
    assert json.loads(CODEC.encode_request(decoded(body), 'm').body) == body


def test_the_smallest_request() -> None:
    body = {'model': 'm', 'max_tokens': 5, 'system': 'x', 'messages': [{'role': 'user', 'content': 'hi'}]}
    assert CODEC.decode_request(json.dumps(body).encode()).stream is False
    assert decoded(body) == ModelRequest(
        messages=(Message.system('x'), Message.user('hi')), config=GenerationConfig(max_output_tokens=5)
    )


def test_effort_alone_does_not_turn_thinking_on() -> None:
    body = {'model': 'claude-opus-4-6', 'max_tokens': 5, 'messages': [], 'output_config': {'effort': 'low'}}
    assert json.loads(CODEC.encode_request(decoded(body), 'claude-opus-4-6').body) == body
    body['thinking'] = {'type': 'adaptive', 'display': 'summarized'}
    assert json.loads(CODEC.encode_request(decoded(body), 'claude-opus-4-6').body) == body


def test_a_tool_result_of_one_text_is_that_text() -> None:
    result = {'type': 'tool_result', 'tool_use_id': 'a', 'content': [{'type': 'text', 'text': 'x'}]}
    without = {'type': 'tool_result', 'tool_use_id': 'b'}
    request = decoded({'model': 'm', 'messages': [{'role': 'user', 'content': [result, without]}]})
    assert [part.tool_response.output for part in request.messages[0].tool_responses] == ['x', '']


@pytest.mark.parametrize(
    ('change', 'place'),
    [
        ({'model': None}, 'body.model'),
        ({'messages': None}, 'body.messages'),
        ({'messages': ['hi']}, 'messages[0]'),
        ({'messages': [{'role': 'robot', 'content': ''}]}, 'messages[0].role'),
        ({'messages': [{'role': 'user'}]}, 'messages[0].content'),
        ({'messages': [{'role': 'user', 'content': [5]}]}, 'messages[0].content[0]'),
        ({'messages': [{'role': 'user', 'content': [{'type': 'text'}]}]}, 'messages[0].content[0].text'),
        ({'messages': [{'role': 'user', 'content': [{'type': 'tool_result'}]}]}, 'tool_use_id'),
        ({'tools': [{}]}, 'tools[0].name'),
        ({'tools': [None]}, 'tools[0]'),
        ({'tool_choice': {'type': 'maybe'}}, 'tool_choice.type'),
        ({'temperature': 'hot'}, 'body.temperature'),
        ({'top_k': True}, 'body.top_k'),
        ({'stop_sequences': [1]}, 'body.stop_sequences'),
        ({'output_config': {'format': {'type': 'json_schema'}}}, 'output_config.format.schema'),
    ],
)
def test_what_is_wrong_with_a_request_is_named_by_its_place(change: JSON, place: str) -> None:
    with pytest.raises(LamellaError) as caught:
        decoded({**REQUEST, **change})
    assert caught.value.status == 'INVALID_ARGUMENT'
    assert place in caught.value.message


@pytest.mark.parametrize('body', [b'', b'{', b'[]', b'null', b'\xff', b'{"a":' * 100_000])
def test_a_body_that_is_no_object_is_an_error(body: bytes) -> None:
    with pytest.raises(LamellaError) as caught:
        CODEC.decode_request(body)
    assert caught.value.status == 'INVALID_ARGUMENT'


# ── streams as a server writes them ─────────────────────────────────────────────────────────────────────────────────


def written(*parts: StreamPart) -> bytes:
    encoder = CODEC.stream_encoder(model='claude-x')
    return b''.join([encoder.feed(part) for part in parts]) + encoder.finish()


def events(body: bytes) -> list[Any]:
    found = SSEDecoder().feed(body)
    assert all(event.event == json.loads(event.data)['type'] for event in found)
    return [json.loads(event.data) for event in found]


def test_a_stream_is_written_as_the_documentation_shows_it() -> None:
    usage = Usage(input_tokens=10, output_tokens=5, cached_tokens=4)
    body = written(ResponseStarted('claude-y', 'msg_1'), TextDelta('Hel'), TextDelta('lo'), Finished('stop', usage))
    start = {
        'id': 'msg_1',
        'type': 'message',
        'role': 'assistant',
        'model': 'claude-y',
        'content': [],
        'stop_reason': None,
        'stop_sequence': None,
        'usage': {'input_tokens': 0, 'output_tokens': 0},
    }
    assert events(body) == [
        {'type': 'message_start', 'message': start},
        {'type': 'content_block_start', 'index': 0, 'content_block': {'type': 'text', 'text': ''}},
        {'type': 'content_block_delta', 'index': 0, 'delta': {'type': 'text_delta', 'text': 'Hel'}},
        {'type': 'content_block_delta', 'index': 0, 'delta': {'type': 'text_delta', 'text': 'lo'}},
        {'type': 'content_block_stop', 'index': 0},
        {
            'type': 'message_delta',
            'delta': {'stop_reason': 'end_turn', 'stop_sequence': None},
            'usage': {'input_tokens': 6, 'output_tokens': 5, 'cache_read_input_tokens': 4},
        },
        {'type': 'message_stop'},
    ]


def test_every_kind_of_part_arrives() -> None:
    block = {'type': 'server_tool_use', 'id': 's', 'name': 'web_search', 'input': {'query': 'x'}}
    parts: list[StreamPart] = [
        ResponseStarted('claude-y', 'msg_1'),
        ReasoningDelta('hm', 0),
        ReasoningDelta('', 0, 'sig=='),
        ReasoningDelta('', 1, None, True, {'anthropic': {'data': 'Emw='}}),
        TextDelta('a', 2),
        TextDelta('', 2, {'anthropic': {'citations': [CITATION]}}),
        TextDelta('b', 3),
        ToolInputDelta('{"x"', 4, 'f', 't1'),
        ToolInputDelta(':1}', 4, 'f', 't1'),
        ToolRequested(ToolRequest('f', {'x': 1}, 't1'), 4),
        ToolRequested(ToolRequest('g', {}, 't2'), 5, {'anthropic': {'caller': {'type': 'direct'}}}),
        Raw(block, 6, True, {'anthropic': {}}),
        File(MediaPart(url='https://example.org/a.png'), 7),
        Finished('tool_calls', Usage(1, 2, 3)),
    ]
    seen = fold(parts_of(written(*parts)))
    expected = fold(parts)
    picture = DataPart(
        {'type': 'image', 'source': {'type': 'url', 'url': 'https://example.org/a.png'}}, {'anthropic': {}}
    )
    assert seen.message.content == (*expected.message.content[:-1], picture)
    assert (seen.finish_reason, seen.usage, seen.id) == ('tool_calls', Usage(1, 2, 3), 'msg_1')
    assert seen.sources == (Source(None, 'My document', 'The grass is green. ', 2, {'anthropic': CITATION}),)


def test_pieces_of_several_tools_may_come_mixed() -> None:
    parts: list[StreamPart] = [
        ResponseStarted('m'),
        ToolInputDelta('{"a"', 0, 'f', 't1'),
        ToolInputDelta('{"b"', 1, 'g', 't2'),
        ToolInputDelta(':1}', 0, 'f', 't1'),
        ToolInputDelta(':2}', 1, 'g', 't2'),
        ToolRequested(ToolRequest('f', {'a': 1}, 't1'), 0),
        ToolRequested(ToolRequest('g', {'b': 2}, 't2'), 1),
        Finished('tool_calls'),
    ]
    requests = fold(parts_of(written(*parts))).tool_requests
    assert [(part.tool_request.name, part.tool_request.input) for part in requests] == [
        ('f', {'a': 1}),
        ('g', {'b': 2}),
    ]


def test_requests_without_pieces_or_numbers_stay_several() -> None:
    requests = [ToolRequested(ToolRequest('f', {'n': n}, f't{n}')) for n in range(3)]
    seen = fold(parts_of(written(ResponseStarted('m'), *requests, Finished('tool_calls'))))
    assert [part.tool_request.input for part in seen.tool_requests] == [{'n': 0}, {'n': 1}, {'n': 2}]


def test_pieces_without_a_name_wait_for_the_request() -> None:
    body = written(
        ResponseStarted('m'), ToolInputDelta('{}'), ToolRequested(ToolRequest('f', {}, 't')), Finished('tool_calls')
    )
    assert fold(parts_of(body)).tool_requests == (ToolRequestPart(ToolRequest('f', {}, 't')),)


def test_a_request_that_is_not_what_its_pieces_said_is_an_error() -> None:
    encoder = CODEC.stream_encoder(model='m')
    encoder.feed(ToolInputDelta('{"amount": 5}', 0, 'pay', 't1'))
    with pytest.raises(LamellaError, match="'pay'"):
        encoder.feed(ToolRequested(ToolRequest('pay', {'amount': 5_000}, 't1')))


def test_a_stream_may_begin_without_its_beginning() -> None:
    assert fold(parts_of(written(TextDelta('x'), Finished()))).model == 'claude-x'


def test_what_the_wire_has_no_event_for_is_left_out() -> None:
    parts = [
        ResponseStarted('m', 'i'),
        ToolResponded(ToolResponse('f', 'x')),
        Raw({'anything': 1}),
        Source('https://example.org'),
        Finished(),
        TextDelta('after the end'),
    ]
    assert written(*parts) == written(ResponseStarted('m', 'i'), Finished())


def test_an_answer_that_starts_over_is_an_error_once_content_went_out() -> None:
    encoder = CODEC.stream_encoder(model='m')
    encoder.feed(ResponseStarted('m'))
    assert encoder.feed(Restarted('retry')) == b''
    encoder.feed(TextDelta('x'))
    with pytest.raises(LamellaError) as caught:
        encoder.feed(Restarted('retry'))
    assert caught.value.status == 'ABORTED'


def test_a_failure_in_the_middle_is_an_error_event() -> None:
    encoder = CODEC.stream_encoder(model='m')
    body = (
        encoder.feed(TextDelta('x')) + encoder.error(LamellaError('UNAVAILABLE', 'gone')) + encoder.feed(TextDelta('y'))
    )
    with pytest.raises(LamellaError, match='gone') as caught:
        parts_of(body)
    assert caught.value.status == 'UNAVAILABLE'
    assert caught.value.partial is not None
    assert caught.value.partial.text == 'x'


def test_a_refusal_of_another_vendor_says_why() -> None:
    body = written(ResponseStarted('m'), Finished('blocked', finish_message='SAFETY'))
    seen = fold(parts_of(body))
    assert (seen.finish_reason, seen.finish_message) == ('blocked', 'SAFETY')


def test_thinking_of_another_vendor_is_shown() -> None:
    body = written(ResponseStarted('m'), ReasoningDelta('hm', metadata={'gemini': {}}), Finished())
    assert fold(parts_of(body)).reasoning == 'hm'
