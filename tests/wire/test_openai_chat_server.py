"""What a server of Chat Completions says: answers, streams and errors that read back as they were meant."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.types import (
    STATUSES,
    DataPart,
    File,
    Finished,
    LamellaError,
    MediaPart,
    Message,
    ModelRequest,
    ModelResponse,
    Raw,
    ReasoningDelta,
    ReasoningPart,
    ResponseStarted,
    Restarted,
    Source,
    StreamPart,
    TextDelta,
    TextPart,
    ToolInputDelta,
    ToolRequest,
    ToolRequested,
    ToolRequestPart,
    Usage,
    fold,
    unfold,
)
from lamella.wire.openai_chat import OpenAIChatCodec
from lamella.wire.sse import SSEDecoder
from tests.wire.openai_chat_answers import ANSWERS, events, whole

CODEC = OpenAIChatCodec()


def said(response: ModelResponse) -> Any:
    return json.loads(CODEC.encode_response(response, model='gpt-x'))


def body_of(parts: Iterable[StreamPart], request: ModelRequest | None = None) -> bytes:
    encoder = CODEC.stream_encoder(model='gpt-x', request=request)
    return b''.join([*[encoder.feed(part) for part in parts], encoder.finish()])


def read(body: bytes) -> list[StreamPart]:
    sse, decoder = SSEDecoder(), CODEC.stream_decoder()
    parts = [part for event in sse.feed(body) for part in decoder.feed(event)]
    return [*parts, *decoder.finish()]


def deltas(body: bytes) -> list[Any]:
    chunks = [json.loads(event.data) for event in SSEDecoder().feed(body) if event.data != '[DONE]']
    return [chunk['choices'][0]['delta'] for chunk in chunks if chunk['choices']]


def understood(name: str) -> ModelResponse:
    return CODEC.decode_response(json.dumps(whole(name)).encode())


@pytest.mark.parametrize('name', ANSWERS)
def test_an_answer_survives_being_read_and_said_again(name: str) -> None:
    response = understood(name)
    again = CODEC.decode_response(CODEC.encode_response(response, model=response.model or 'm'))
    assert _comparable(again) == _comparable(response)


@pytest.mark.parametrize('name', ANSWERS)
def test_a_stream_survives_being_read_and_said_again(name: str) -> None:
    decoder = CODEC.stream_decoder()
    parts = [part for event in events(name) for part in decoder.feed(event)]
    response = understood(name)
    assert _comparable(fold(read(body_of(parts)))) == _comparable(response)
    assert _comparable(fold(read(body_of(unfold(response))))) == _comparable(response)


def _comparable(response: ModelResponse) -> ModelResponse:
    """Without what the protocol cannot say again: the vendor's word for the end, blocks in the text, warnings, order.

    When the answer was made is said at a stream's start, where a whole answer's parts do not know it.
    """
    own = {key: value for key, value in response.metadata['openai'].items() if key not in ('finish_reason', 'created')}
    parts = [part for part in response.message.content if type(part) is not DataPart or part.data['type'] == 'refusal']
    kept = [
        part.replace(tool_request=part.tool_request.replace(ref=part.tool_request.ref or 'call_0'))
        if type(part) is ToolRequestPart
        else part
        for part in parts
    ]
    reason = {'other': 'stop'}.get(response.finish_reason, response.finish_reason)
    return response.replace(
        message=Message('assistant', tuple(sorted(kept, key=lambda part: type(part).__name__))),
        metadata={**response.metadata, 'openai': own},
        finish_reason=reason,
        model='m',
        warnings=(),
    )


def test_a_whole_answer_has_the_documented_shape() -> None:
    response = ModelResponse(
        message=Message.assistant(ReasoningPart('Hm'), 'Hi', ToolRequestPart(ToolRequest('a', {'x': 1}))),
        finish_reason='tool_calls',
        usage=Usage(1, 2, cached_tokens=0, reasoning_tokens=1),
        sources=(Source('https://h', 'H'),),
        metadata={'openai': {'created': 5, 'service_tier': 'flex'}},
        id='chatcmpl-9',
    )
    assert said(response) == {
        'id': 'chatcmpl-9',
        'object': 'chat.completion',
        'created': 5,
        'model': 'gpt-x',
        'service_tier': 'flex',
        'choices': [
            {
                'index': 0,
                'message': {
                    'role': 'assistant',
                    'content': 'Hi',
                    'refusal': None,
                    'reasoning_content': 'Hm',
                    'annotations': [
                        {
                            'type': 'url_citation',
                            'url_citation': {'url': 'https://h', 'title': 'H', 'start_index': 0, 'end_index': 0},
                        }
                    ],
                    'tool_calls': [
                        {'id': 'call_0', 'type': 'function', 'function': {'name': 'a', 'arguments': '{"x":1}'}}
                    ],
                },
                'logprobs': None,
                'finish_reason': 'tool_calls',
            }
        ],
        'usage': {
            'prompt_tokens': 1,
            'completion_tokens': 2,
            'total_tokens': 3,
            'prompt_tokens_details': {'cached_tokens': 0},
            'completion_tokens_details': {'reasoning_tokens': 1},
        },
    }


def test_an_answer_without_an_id_gets_one_from_its_content() -> None:
    one, same, other = (said(ModelResponse.text_of(text))['id'] for text in ('a', 'a', 'b'))
    assert one.startswith('chatcmpl-')
    assert (one == same, one == other) == (True, False)


@pytest.mark.parametrize(
    ('reason', 'wire'),
    [('stop', 'stop'), ('length', 'length'), ('blocked', 'content_filter'), ('other', 'stop'), ('unknown', 'stop')],
)
def test_finish_reasons_are_openais_words(reason: Any, wire: str) -> None:
    response = ModelResponse.text_of('x', finish_reason=reason)
    assert said(response)['choices'][0]['finish_reason'] == wire
    assert fold(read(body_of(unfold(response)))).finish_reason == {'content_filter': 'blocked'}.get(wire, wire)


def test_blocks_of_other_vendors_are_left_out_of_an_answer() -> None:
    answer = Message.assistant(DataPart({'type': 'redacted_thinking'}), 'Hi')
    assert said(ModelResponse(message=answer))['choices'][0]['message']['content'] == 'Hi'


# Streams

STARTED = ResponseStarted('m', 'chatcmpl-9', {'openai': {'created': 5}})
DONE = Finished(usage=Usage(1, 2, 3))


def test_a_streamed_answer_has_the_documented_shape() -> None:
    body = body_of([STARTED, TextDelta('H'), TextDelta('i'), DONE])
    head = {'id': 'chatcmpl-9', 'object': 'chat.completion.chunk', 'created': 5, 'model': 'gpt-x'}
    *chunks, end = [event.data for event in SSEDecoder().feed(body)]
    open_end = {'index': 0, 'logprobs': None, 'finish_reason': None}
    assert end == '[DONE]'
    assert [json.loads(chunk) for chunk in chunks] == [
        {**head, 'choices': [{**open_end, 'delta': {'role': 'assistant', 'content': ''}}]},
        {**head, 'choices': [{**open_end, 'delta': {'content': 'H'}}]},
        {**head, 'choices': [{**open_end, 'delta': {'content': 'i'}}]},
        {**head, 'choices': [{**open_end, 'delta': {}, 'finish_reason': 'stop'}]},
        {**head, 'choices': [], 'usage': {'prompt_tokens': 1, 'completion_tokens': 2, 'total_tokens': 3}},
    ]


def test_the_usage_is_sent_when_the_caller_asked_for_it_and_only_then() -> None:
    parts = [STARTED, TextDelta('x'), DONE]
    for options, expected in ((b'', False), (b',"stream_options":{"include_usage":true}', True)):
        request = CODEC.decode_request(b'{"model":"m","messages":[],"stream":true%b}' % options).request
        assert (b'"usage"' in body_of(parts, request)) is expected


def test_tool_input_is_sent_as_it_comes_and_not_twice() -> None:
    parts = [
        STARTED,
        ToolInputDelta('{"x"', 0, 'a', 'c1'),
        ToolInputDelta(':1}', 0),
        ToolRequested(ToolRequest('a', {'x': 1}, 'c1'), 0),
        ToolInputDelta('{}', 1),
        ToolRequested(ToolRequest('b', {}, 'c2'), 1),
        Finished('tool_calls'),
    ]
    body = body_of(parts)
    assert [delta['tool_calls'] for delta in deltas(body) if 'tool_calls' in delta] == [
        [{'index': 0, 'type': 'function', 'id': 'c1', 'function': {'name': 'a', 'arguments': '{"x"'}}],
        [{'index': 0, 'function': {'arguments': ':1}'}}],
        [{'index': 1, 'id': 'c2', 'type': 'function', 'function': {'name': 'b', 'arguments': '{}'}}],
    ]
    requests = [part.tool_request for part in fold(read(body)).tool_requests]
    assert requests == [ToolRequest('a', {'x': 1}, 'c1'), ToolRequest('b', {}, 'c2')]


def test_an_id_that_comes_late_is_sent_late() -> None:
    parts = [
        STARTED,
        ToolInputDelta('{}', 0, 'a'),
        ToolRequested(ToolRequest('a', {}, 'c1'), 0),
        Finished('tool_calls'),
    ]
    assert [part.tool_request for part in fold(read(body_of(parts))).tool_requests] == [ToolRequest('a', {}, 'c1')]


def test_requests_with_one_index_stay_several() -> None:
    requests = [ToolRequest('a', {}, 'c1'), ToolRequest('a', {}, 'c2')]
    parts = [STARTED, *[ToolRequested(request) for request in requests], Finished('tool_calls')]
    assert [part.tool_request for part in fold(read(body_of(parts))).tool_requests] == requests


def test_a_stream_without_a_start_begins_by_itself() -> None:
    assert fold(read(body_of([TextDelta('x'), DONE]))).text == 'x'
    assert fold(read(body_of([Finished('length')]))).finish_reason == 'length'


def test_starting_over_is_fine_before_content_and_impossible_after_it() -> None:
    assert fold(read(body_of([STARTED, Restarted(), STARTED, TextDelta('x'), DONE]))).text == 'x'
    with pytest.raises(LamellaError, match='cannot take back') as caught:
        body_of([STARTED, TextDelta('x'), Restarted()])
    assert caught.value.status == 'ABORTED'


def test_every_kind_of_content_goes_through_a_stream() -> None:
    parts = [
        STARTED,
        ReasoningDelta('Hm'),
        ReasoningDelta(),
        TextDelta('Hi'),
        Source('https://h', 'H'),
        File(MediaPart(data=b'\x89PNG', content_type='image/png')),
        File(MediaPart(data=b'x', content_type='application/pdf')),
        Raw({'type': 'ping'}),
        Raw({'type': 'refusal', 'refusal': 'No.'}, keep=True),
        Finished('blocked', metadata={'logprobs': [{'token': 'Hi', 'logprob': 0}]}),
    ]
    response = fold(read(body_of(parts)))
    assert (response.reasoning, response.text, response.finish_message) == ('Hm', 'Hi', 'No.')
    assert (response.sources[0].url, response.metadata['logprobs'][0]['token']) == ('https://h', 'Hi')
    assert MediaPart(data=b'\x89PNG', content_type='image/png') in response.message.content


def test_a_stream_that_never_finished_is_not_made_to_look_finished() -> None:
    body = body_of([STARTED, TextDelta('x')])
    assert fold(read(body)).finish_reason == 'unknown'


def test_a_lone_surrogate_in_a_delta_is_one_clear_error() -> None:
    with pytest.raises(LamellaError, match='lone surrogate'):
        body_of([STARTED, TextDelta('\ud800')])


words = st.text(st.characters(exclude_categories=['Cs']), min_size=1, max_size=6)
ids = st.integers(0, 10**6).map('c{}'.format)
answers = st.builds(
    lambda reasoning, text, calls, sources, usage: ModelResponse(
        message=Message(
            'assistant',
            (
                *([ReasoningPart(reasoning)] if reasoning else []),
                *([TextPart(text)] if text else []),
                *[ToolRequestPart(ToolRequest(name, input, f'{id}_{i}')) for i, (name, input, id) in enumerate(calls)],
            ),
        ),
        finish_reason='tool_calls' if calls else 'stop',
        usage=usage,
        sources=tuple(sources),
        model='gpt-x',
        id='chatcmpl-9',
        metadata={'openai': {'created': 0}},
    ),
    reasoning=st.none() | words,
    text=st.none() | words,
    calls=st.lists(st.tuples(words, st.dictionaries(words, st.integers() | words), ids), max_size=3),
    sources=st.lists(words.map(lambda url: Source(url, url, metadata=_citation(url))), max_size=2),
    usage=st.none() | st.builds(lambda a, b, c: Usage(a, b, a + b, c), *[st.integers(0, 99)] * 3),
)


def _citation(url: str) -> dict[str, Any]:
    cited = {'url': url, 'title': url, 'start_index': 0, 'end_index': 0}
    return {'openai': {'type': 'url_citation', 'url_citation': cited}}


@given(response=answers)
def test_what_is_said_whole_and_in_pieces_is_understood_alike(response: ModelResponse) -> None:
    assert CODEC.decode_response(CODEC.encode_response(response, model='gpt-x')) == response
    assert fold(read(body_of(unfold(response)))) == response


# Errors


@pytest.mark.parametrize('status', [status for status in STATUSES if status not in ('OK', 'UNKNOWN')])
def test_an_error_is_read_back_as_it_was_inside_a_stream_and_before_it(status: Any) -> None:
    error = LamellaError(status, 'No luck.', details={'param': 'messages', 'request_id': 'r1'}, retry_after_s=1.5)
    encoded = CODEC.encode_error(error)
    before = CODEC.decode_error(encoded.status, encoded.headers, encoded.body)
    assert (before.message, before.retry_after_s) == ('No luck.', 1.5)
    assert (before.details['param'], before.details['request_id']) == ('messages', 'r1')
    encoder = CODEC.stream_encoder(model='gpt-x')
    with pytest.raises(LamellaError) as inside:
        read(encoder.feed(TextDelta('x')) + encoder.error(error))
    assert (before.status, inside.value.status) == (status, status)


def test_an_unknown_error_reads_as_an_internal_one_because_that_is_what_a_500_says() -> None:
    encoded = CODEC.encode_error(LamellaError('UNKNOWN', 'No luck.'))
    assert CODEC.decode_error(encoded.status, encoded.headers, encoded.body).status == 'INTERNAL'


def test_when_an_answer_was_made_is_said_in_every_chunk_and_once() -> None:
    decoder = CODEC.stream_decoder()
    body = body_of([part for event in events('text') for part in decoder.feed(event)])
    assert {json.loads(event.data)['created'] for event in SSEDecoder().feed(body)[:-1]} == {1741569952}
    assert all(event.data.count('"created"') == 1 for event in SSEDecoder().feed(body)[:-1])


def test_a_providers_own_words_are_kept() -> None:
    error = LamellaError('UNAVAILABLE', 'Overloaded', details={'http_status': 529, 'type': 'overloaded_error'})
    encoded = CODEC.encode_error(error)
    assert (encoded.status, json.loads(encoded.body)['error']['type']) == (529, 'overloaded_error')


def test_an_error_names_no_credential_and_says_anything() -> None:
    encoded = CODEC.encode_error(LamellaError('UNAUTHENTICATED', 'bad key sk-proj-1234567890ab \ud800'))
    assert json.loads(encoded.body)['error']['message'] == 'bad key [redacted] ?'


def test_a_request_id_with_line_ends_makes_no_header() -> None:
    assert (
        'x-request-id'
        not in CODEC.encode_error(LamellaError('INTERNAL', 'm', details={'request_id': 'a\r\nb: c'})).headers
    )
