"""Streams of streamGenerateContent?alt=sse: however they are cut, the answer is the same."""

import json
from typing import Any

import pytest

from lamella.types import (
    Finished,
    LamellaError,
    Raw,
    ReasoningDelta,
    ResponseStarted,
    Source,
    StreamPart,
    TextDelta,
    ToolRequest,
    ToolRequested,
    Usage,
    fold,
)
from lamella.wire.gemini import GeminiSSEDecoder
from tests.wire.gemini_chunks import CODEC, NAMES, body_of, chunk, read, streamed, whole

EXAMPLE = [
    chunk({'text': 'Thinking about é', 'thought': True}, usage={'promptTokenCount': 4, 'totalTokenCount': 4}),
    chunk({'text': 'Hel'}),
    chunk({'text': 'lo, 世界'}, usage={'promptTokenCount': 4, 'candidatesTokenCount': 2, 'totalTokenCount': 6}),
    chunk(
        {'functionCall': {'name': 'f', 'args': {'a': 'ü'}}, 'thoughtSignature': 'QQ=='}, {'functionCall': {'name': 'g'}}
    ),
    chunk({'executableCode': {'language': 'PYTHON', 'code': '1\n2'}}),
    chunk({'text': '', 'thoughtSignature': 'Qg=='}, usage={'promptTokenCount': 4, 'candidatesTokenCount': 9}),
    chunk(
        {'text': ''},
        finishReason='STOP',
        groundingMetadata={'groundingChunks': [{'web': {'uri': 'https://a', 'title': 'A'}}]},
        usage={'promptTokenCount': 4, 'candidatesTokenCount': 9, 'thoughtsTokenCount': 2, 'totalTokenCount': 15},
    ),
]


def test_a_stream_is_read_part_by_part() -> None:
    assert streamed(*EXAMPLE) == [
        ResponseStarted('gemini-3-flash', 'r1'),
        ReasoningDelta('Thinking about é', 0),
        TextDelta('Hel', 1),
        TextDelta('lo, 世界', 1),
        ToolRequested(ToolRequest('f', {'a': 'ü'}), 2, {'gemini': {'thoughtSignature': 'QQ=='}}),
        ToolRequested(ToolRequest('g', {}), 3),
        Raw({'executableCode': {'language': 'PYTHON', 'code': '1\n2'}}, 4, True, {'gemini': {}}),
        TextDelta('', 5, {'gemini': {'thoughtSignature': 'Qg=='}}),
        Source('https://a', 'A', metadata={'gemini': {'groundingChunk': {'web': {'uri': 'https://a', 'title': 'A'}}}}),
        Finished(
            'tool_calls',
            Usage(4, 11, 15, reasoning_tokens=2),
            'gemini-3-flash',
            'r1',
            metadata={
                'gemini': {'groundingMetadata': {'groundingChunks': [{'web': {'uri': 'https://a', 'title': 'A'}}]}}
            },
        ),
    ]


def test_what_the_last_chunk_counted_is_the_usage() -> None:
    """Counts grow from chunk to chunk; a count that is not repeated stands."""
    counts = [
        {'promptTokenCount': 4, 'thoughtsTokenCount': 3},
        {'candidatesTokenCount': 1},
        {'candidatesTokenCount': 5},
    ]

    response = fold(streamed(*[chunk({'text': 'a'}, usage=usage) for usage in counts], chunk(finishReason='STOP')))

    assert response.usage == Usage(4, 8, reasoning_tokens=3)


@pytest.mark.parametrize(
    'beside',
    [
        {'thoughtSignature': 'QQ=='},
        {'partMetadata': {'a': 1}},
        {'thought': True},
        {'thought': False},
        {'fileData': None},
    ],
)
def test_text_with_company_is_never_taken_for_plain_text(beside: dict[str, object]) -> None:
    usage = {'candidatesTokenCount': 1}
    parts = [{'text': 'a'}, {'text': 'b', **beside}, {'text': 'c'}]

    streamed_answer = fold(streamed(*[chunk(part, usage=usage) for part in parts], chunk(finishReason='STOP')))

    assert streamed_answer == whole(*parts, usage=usage)


def test_a_stream_cut_at_every_byte_is_the_same_stream() -> None:
    body, expected = body_of(EXAMPLE), streamed(*EXAMPLE)

    for i in range(1, len(body)):
        assert read(body[:i], body[i:]) == expected, i


def test_a_stream_that_comes_byte_by_byte_is_the_same_stream() -> None:
    body = body_of(EXAMPLE)

    assert read(*[body[i : i + 1] for i in range(len(body))]) == streamed(*EXAMPLE)


def test_log_probabilities_and_citations_of_all_chunks_are_kept() -> None:
    def told(token: str, uri: str) -> dict[str, Any]:
        return {
            'logprobsResult': {'chosenCandidates': [{'token': token, 'logProbability': -1}]},
            'citationMetadata': {'citationSources': [{'uri': uri}]},
        }

    response = fold(
        streamed(
            chunk({'text': 'a'}, **told('a', 'https://1')),
            chunk({'text': 'b'}, **told('b', 'https://2')),
            chunk({'text': 'c'}, **told('c', 'https://2'), finishReason='STOP'),
        )
    )

    assert [token['token'] for token in response.metadata['logprobs']] == ['a', 'b', 'c']
    assert [source.url for source in response.sources] == ['https://1', 'https://2']
    assert response.metadata['gemini']['citationMetadata'] == {
        'citationSources': [{'uri': 'https://1'}, {'uri': 'https://2'}]
    }


def test_a_blocked_prompt_ends_a_stream() -> None:
    parts = streamed({'promptFeedback': {'blockReason': 'SAFETY'}, **NAMES})

    assert [type(part) for part in parts] == [ResponseStarted, Finished]
    assert fold(parts).finish_reason == 'blocked'


def test_a_server_that_ends_like_openai_is_understood() -> None:
    assert fold(read(body_of([chunk({'text': 'a'}, finishReason='STOP')]) + b'data: [DONE]\n\n')).text == 'a'


def test_a_list_of_chunks_in_one_event_is_read() -> None:
    assert fold(streamed([chunk({'text': 'a'}), chunk({'text': 'b'}, finishReason='STOP')])).text == 'ab'


# What goes wrong


def test_a_stream_that_is_cut_is_unavailable_and_keeps_what_had_arrived() -> None:
    with pytest.raises(LamellaError, match='without a finishReason') as caught:
        streamed(*EXAMPLE[:3])

    assert caught.value.status == 'UNAVAILABLE'
    assert caught.value.partial is not None
    assert caught.value.partial.text == 'Hello, 世界'


def test_an_empty_stream_is_unavailable() -> None:
    with pytest.raises(LamellaError) as caught:
        read()

    assert (caught.value.status, caught.value.partial) == ('UNAVAILABLE', None)


def test_counts_that_are_none_are_an_error_at_the_end() -> None:
    with pytest.raises(LamellaError, match=r'usageMetadata\.promptTokenCount') as caught:
        streamed(chunk({'text': 'a'}, usage={'promptTokenCount': 'many'}, finishReason='STOP'))

    assert caught.value.partial is not None


def test_a_functions_answer_inside_an_answer_is_kept_and_is_no_tool_that_ran() -> None:
    part = {'functionResponse': {'name': 'f', 'response': {'output': 1}}}

    parts = streamed(chunk(part, finishReason='STOP'))

    assert parts[1] == Raw(part, 0, True, {'gemini': {}})


def test_an_error_inside_a_stream_is_raised_with_what_had_arrived() -> None:
    details = [{'@type': 'type.googleapis.com/google.rpc.RetryInfo', 'retryDelay': '3.5s'}]
    error = {'error': {'code': 503, 'message': 'The model is overloaded.', 'status': 'UNAVAILABLE', 'details': details}}

    with pytest.raises(LamellaError, match=r'The model is overloaded\.') as caught:
        streamed(chunk({'text': 'Hel'}), error)

    assert caught.value.status == 'UNAVAILABLE'
    assert caught.value.retry_after_s == 3.5
    assert caught.value.details['gemini'] == details
    assert caught.value.partial is not None
    assert caught.value.partial.text == 'Hel'


@pytest.mark.parametrize(
    'data', ['{', '5', '"x"', '{"candidates":5}', '{"candidates":[{"content":{"parts":[{"text":[]}]}}]}']
)
def test_a_malformed_event_is_an_error_with_what_had_arrived(data: str) -> None:
    with pytest.raises(LamellaError, match='cannot be read') as caught:
        read(body_of([chunk({'text': 'Hel'})]), b'data: ' + data.encode() + b'\n\n')

    assert caught.value.status == 'INTERNAL'
    assert caught.value.partial is not None
    assert caught.value.partial.text == 'Hel'


ERROR = {'error': {'code': 503, 'message': 'The model is overloaded.', 'status': 'UNAVAILABLE'}}
NAKED = json.dumps(ERROR, indent=2).encode()


def read_with_errors(*pieces: bytes) -> list[StreamPart]:
    events, decoder = GeminiSSEDecoder(), CODEC.stream_decoder()
    found = [event for piece in pieces for event in events.feed(piece)]
    parts = [part for event in [*found, *events.finish()] for part in decoder.feed(event)]
    return [*parts, *decoder.finish()]


@pytest.mark.parametrize('ending', [b'', b'\n', b'\r\n', b'\n\n'])
@pytest.mark.parametrize('beginning', [b'', b'\n', b'\r\n'])
def test_an_error_between_the_events_is_heard_however_it_is_cut(beginning: bytes, ending: bytes) -> None:
    """The API writes it so when a model gives up in the middle."""
    body = body_of([chunk({'text': 'Hel'})]) + beginning + NAKED + ending

    for i in range(1, len(body)):
        with pytest.raises(LamellaError, match='overloaded') as caught:
            read_with_errors(body[:i], body[i:])
        assert caught.value.status == 'UNAVAILABLE'
        assert caught.value.partial is not None
        assert caught.value.partial.text == 'Hel'


def test_an_error_after_the_end_is_still_an_error() -> None:
    """An empty answer that says STOP was seen before such an error."""
    with pytest.raises(LamellaError, match='overloaded'):
        read_with_errors(body_of([chunk({'text': ''}, finishReason='STOP')]), NAKED)


def test_an_error_that_is_cut_itself_is_a_cut_stream() -> None:
    with pytest.raises(LamellaError, match='without a finishReason'):
        read_with_errors(body_of([chunk({'text': 'Hel'})]), NAKED[:-8])


def test_streams_without_such_errors_are_read_as_ever() -> None:
    body = body_of(EXAMPLE)

    assert read_with_errors(body[:77], body[77:]) == streamed(*EXAMPLE)


def test_an_array_of_chunks_in_place_of_events_is_read() -> None:
    body = json.dumps([chunk({'text': 'Hel'}), chunk({'text': 'lo'}, finishReason='STOP')], indent=1).encode()

    assert fold(read_with_errors(body[:50], body[50:])).text == 'Hello'
