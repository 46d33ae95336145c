"""Answers of Chat Completions, whole and streamed, understood and said."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from lamella.types import (
    DataPart,
    Finished,
    LamellaError,
    MediaPart,
    Message,
    ModelResponse,
    Raw,
    ReasoningPart,
    ResponseStarted,
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
)
from lamella.wire.openai_chat import OpenAIChatCodec
from lamella.wire.sse import Event
from tests.wire.openai_chat_answers import ANSWERS, CITATION, HEAD, TOKENS, chunks, events, first, more, whole

CODEC = OpenAIChatCodec()


def understood(answer: Any) -> ModelResponse:
    return CODEC.decode_response(json.dumps(answer).encode())


def streamed(found: Iterable[Event | dict[str, Any]]) -> list[StreamPart]:
    decoder = CODEC.stream_decoder()
    parts: list[StreamPart] = []
    for event in found:
        parts += decoder.feed(event if isinstance(event, Event) else Event(data=json.dumps(event)))
    return [*parts, *decoder.finish()]


def content(name: str) -> tuple[Any, ...]:
    return understood(whole(name)).message.content


@pytest.mark.parametrize('name', ANSWERS)
def test_a_stream_adds_up_to_the_whole_answer(name: str) -> None:
    parts = streamed(events(name))
    assert fold(parts) == understood(whole(name))
    assert type(parts[0]) is ResponseStarted
    assert type(parts[-1]) is Finished
    assert [type(part) for part in parts].count(Finished) == 1


def test_text_with_its_facts() -> None:
    response = understood(whole('text'))
    assert (response.text, response.finish_reason, response.model, response.id) == (
        'Hello',
        'stop',
        'gpt-x-2026-01-01',
        'chatcmpl-1',
    )
    assert response.usage == Usage(19, 10, 29, cached_tokens=5, reasoning_tokens=3)
    assert response.metadata == {
        'openai': {
            'created': 1741569952,
            'service_tier': 'default',
            'system_fingerprint': 'fp_1',
            'usage': {'completion_tokens_details': {'accepted_prediction_tokens': 2}},
        }
    }


def test_what_is_not_told_stays_unknown_and_is_not_zero() -> None:
    response = understood({'choices': [{'message': {'content': 'hi'}}]})
    assert (response.usage, response.model, response.id, response.finish_reason) == (None, None, None, 'unknown')
    answer = {'choices': [{'message': {'content': 'hi'}}], 'usage': {'prompt_tokens': 3, 'completion_tokens': 'many'}}
    assert understood(answer).usage == Usage(input_tokens=3)


def test_cached_tokens_of_servers_that_count_them_elsewhere() -> None:
    for usage in ({'prompt_cache_hit_tokens': 4}, {'cached_tokens': 4}):
        found = understood({'choices': [{'message': {'content': 'hi'}}], 'usage': usage}).usage
        assert found == Usage(cached_tokens=4)


def test_parallel_tool_calls_are_decoded() -> None:
    response = understood(whole('parallel tool calls'))
    assert response.finish_reason == 'tool_calls'
    assert [part.tool_request for part in response.tool_requests] == [
        ToolRequest('a', {'x': 1}, 'c1'),
        ToolRequest('b', {}, 'c2'),
        ToolRequest('a', {}, 'c3'),
    ]


def test_pieces_of_arguments_arrive_as_they_come_and_requests_when_they_are_whole() -> None:
    parts = streamed(events('parallel tool calls'))
    pieces = [part for part in parts if type(part) is ToolInputDelta]
    assert [(part.index, part.name, part.ref, part.delta) for part in pieces] == [
        (0, 'a', 'c1', '{"x"'),
        (0, 'a', 'c1', ': 1}'),
        (1, 'b', 'c2', '{'),
        (1, 'b', 'c2', '}'),
    ]
    assert [part.index for part in parts if type(part) is ToolRequested] == [0, 1, 2]


def test_arguments_that_are_no_json_stay_a_string_for_the_engine_to_refuse() -> None:
    [part] = content('arguments that are no JSON')
    assert part == ToolRequestPart(ToolRequest('a', '{"x": oops}', 'c1'), {'openai': {'invalid_json': True}})
    sent = _sent_back(part)
    assert sent['tool_calls'][0]['function']['arguments'] == '{"x": oops}'


def _sent_back(part: Any) -> Any:
    answer = CODEC.encode_response(ModelResponse(message=Message('assistant', (part,))), model='m')
    return json.loads(answer)['choices'][0]['message']


def test_tool_calls_that_the_token_limit_cut_off_are_left_out_with_a_warning() -> None:
    response = understood(whole('a tool call cut by the token limit'))
    assert (response.finish_reason, response.text, response.tool_requests) == ('length', 'So', ())
    assert response.warnings == tuple(
        f'the token limit cut off the request of tool {name!r}: left out' for name in ('a', 'b', 'c')
    )


def test_a_call_that_is_whole_counts_even_at_the_token_limit() -> None:
    answer = whole('text and a tool call')
    answer['choices'][0]['finish_reason'] = 'length'
    assert [part.tool_request.input for part in understood(answer).tool_requests] == [[1, 2]]


def test_a_refusal_is_blocked_with_its_words_and_kept_for_the_conversation() -> None:
    response = understood(whole('a refusal'))
    assert (response.finish_reason, response.finish_message, response.text) == (
        'blocked',
        "I can't help with that.",
        '',
    )
    assert response.message.content == (
        DataPart({'type': 'refusal', 'refusal': "I can't help with that."}, {'openai': {}}),
    )


@pytest.mark.parametrize(
    ('reason', 'expected'),
    [
        ('stop', 'stop'),
        ('length', 'length'),
        ('content_filter', 'blocked'),
        ('function_call', 'tool_calls'),
        ('eos', 'stop'),
        ('model_length', 'length'),
        ('SAFETY', 'blocked'),
        ('error', 'other'),
        (None, 'unknown'),
        (5, 'unknown'),
    ],
)
def test_finish_reasons(reason: Any, expected: str) -> None:
    assert understood({'choices': [{'message': {'content': 'x'}, 'finish_reason': reason}]}).finish_reason == expected


def test_a_forced_call_is_a_tool_call_though_the_server_says_stop() -> None:
    assert understood(whole('stop with a forced call')).finish_reason == 'tool_calls'


def test_citations_are_sources() -> None:
    assert understood(whole('citations')).sources == (Source('https://h/a', 'A', metadata={'openai': CITATION}),)


def test_log_probabilities_are_a_list_of_tokens() -> None:
    assert understood(whole('log probabilities')).metadata['logprobs'] == TOKENS


def test_reasoning_comes_first_under_either_name() -> None:
    assert content('reasoning_content (DeepSeek)') == (ReasoningPart('Hm, well'), TextPart('Yes'))
    details = whole('reasoning with details (OpenRouter)')['choices'][0]['message']['reasoning_details']
    reasoning = ReasoningPart('Hm, well', metadata={'openai': {'reasoning_details': details}})
    assert content('reasoning with details (OpenRouter)') == (reasoning, TextPart('Yes'))


def test_opaque_reasoning_is_redacted_and_kept() -> None:
    opaque = [{'type': 'reasoning.encrypted', 'data': 'x'}]
    answer = {'choices': [{'message': {'content': 'Yes', 'reasoning_details': opaque}, 'finish_reason': 'stop'}]}
    reasoning, text = understood(answer).message.content
    assert (reasoning, text) == (
        ReasoningPart(redacted=True, metadata={'openai': {'reasoning_details': opaque}}),
        TextPart('Yes'),
    )
    assert _sent_back(reasoning)['reasoning_details'] == opaque


def test_blocks_of_content_are_told_apart() -> None:
    block = DataPart({'type': 'reference', 'reference_ids': [1]}, {'openai': {}})
    assert content('content in blocks (Mistral)') == (ReasoningPart('Hm'), TextPart('Yes'), block)


def test_images_and_sound_are_media() -> None:
    assert content('images (OpenRouter)')[1] == MediaPart(data=b'\x89PNG', content_type='image/png')
    text, sound = content('sound')
    assert (text.text, sound.data, sound.content_type) == ('Hello', b'RIFF....WAVE', 'audio/wav')
    assert sound.metadata == {'openai': {'audio': {'id': 'audio_1', 'expires_at': 9}}}


def test_fields_that_lamella_has_no_name_for_are_kept() -> None:
    response = understood(whole('fields nobody knows'))
    own = response.metadata['openai']
    assert (own['message'], own['choice']) == ({'mood': 'good', 'notes': [1, 2]}, {'stop_reason': 7})
    assert (response.finish_reason, own['finish_reason']) == ('other', 'insufficient_system_resource')


def test_of_several_choices_the_first_is_the_answer_and_a_warning_says_so() -> None:
    answer = whole('text')
    other = {**answer['choices'][0], 'index': 1}
    answer['choices'].append(other)
    response = understood(answer)
    assert (response.text, response.metadata['openai']['choices']) == ('Hello', [other])
    assert response.warnings == ('the answer has several choices (n > 1): only the first is used',)
    second = [{**HEAD, 'choices': [{'index': 1, 'delta': {'content': 'Bye'}, 'finish_reason': 'stop'}]}]
    parts = fold(streamed([*second, *events('text')]))
    assert (parts.text, parts.warnings) == ('Hello', response.warnings)


def test_metadata_goes_under_the_providers_own_name() -> None:
    response = OpenAIChatCodec('groq').decode_response(json.dumps(whole('text')).encode())
    assert list(response.metadata) == ['groq']


# Errors


@pytest.mark.parametrize(
    ('body', 'problem'),
    [
        (b'', 'is no JSON'),
        (b'<html>', 'is no JSON'),
        (b'[]', 'the answer is'),
        (b'{}', 'the answer: choices is missing'),
        (b'{"choices":[]}', 'the answer: choices is empty'),
        (b'{"choices":[3]}', r'the answer: choices\[0\] is 3'),
        (b'{"choices":[{}]}', r'choices\[0\].message is missing'),
        (b'{"choices":[{"message":{"content":5}}]}', 'content is 5: give a list'),
        (b'{"choices":[{"message":{"tool_calls":[{"function":{}}]}}]}', r'tool_calls\[0\].function.name is missing'),
        (b'[' * 100_000, 'nested too deeply'),
    ],
)
def test_an_answer_that_is_none_is_one_clear_error(body: bytes, problem: str) -> None:
    with pytest.raises(LamellaError, match=problem) as caught:
        CODEC.decode_response(body)
    assert caught.value.status == 'INTERNAL'


def test_an_error_that_came_with_a_200_is_an_error() -> None:
    with pytest.raises(LamellaError, match='Slow down') as caught:
        understood({'error': {'message': 'Slow down', 'code': 429}})
    assert caught.value.status == 'RESOURCE_EXHAUSTED'


def test_json_that_only_the_standard_library_reads_is_read_too() -> None:
    body = b'{"choices":[{"message":{"content":"a \\ud83d b"},"logprobs":{"content":[{"logprob":NaN}]}}]}'
    assert CODEC.decode_response(body).text == 'a \ufffd b'


# Streams


def test_a_stream_that_is_cut_is_unavailable_with_what_had_arrived() -> None:
    decoder = CODEC.stream_decoder()
    for chunk in chunks('text')[:3]:
        decoder.feed(Event(data=json.dumps(chunk)))
    with pytest.raises(LamellaError, match='cut') as caught:
        decoder.finish()
    assert caught.value.status == 'UNAVAILABLE'
    assert caught.value.partial is not None
    assert (caught.value.partial.text, caught.value.partial.finish_reason) == ('Hello', 'unknown')


def test_a_stream_that_never_began_is_unavailable() -> None:
    for found in ([], [Event(data='[DONE]')]):
        with pytest.raises(LamellaError) as caught:
            streamed(found)
        assert (caught.value.status, caught.value.partial) == ('UNAVAILABLE', None)


def test_a_finish_reason_ends_the_answer_for_servers_that_send_no_done() -> None:
    assert fold(streamed(chunks('text'))) == understood(whole('text'))


def test_done_ends_the_answer_for_servers_that_send_no_finish_reason() -> None:
    response = fold(streamed([*chunks('text')[:3], Event(data='[DONE]')]))
    assert (response.text, response.finish_reason) == ('Hello', 'unknown')


def test_an_error_inside_a_stream_is_raised_with_what_had_arrived() -> None:
    error = {'error': {'message': 'The server is overloaded', 'type': 'server_error', 'code': 'server_is_overloaded'}}
    with pytest.raises(LamellaError, match='overloaded') as caught:
        streamed([*chunks('text')[:2], error])
    assert caught.value.status == 'UNAVAILABLE'
    assert caught.value.partial is not None
    assert caught.value.partial.text == 'Hel'


@pytest.mark.parametrize(
    'data',
    ['{', '3', '{"choices": 3}', '{"choices": [3]}', '{"choices": [{"delta": 3}]}', '{"choices": [{"delta": {"content": 3}}]}',
     '{"choices": [{"delta": {"tool_calls": 3}}]}', '{"choices": [{"delta": {"tool_calls": [3]}}]}'],
)  # fmt: skip
def test_a_malformed_chunk_is_one_error_with_what_had_arrived(data: str) -> None:
    with pytest.raises(LamellaError, match='malformed chunk') as caught:
        streamed([*chunks('text')[:2], Event(data=data)])
    assert caught.value.status == 'INTERNAL'
    assert caught.value.partial is not None
    assert caught.value.partial.text == 'Hel'


def test_empty_events_and_what_follows_the_end_are_nothing() -> None:
    found = [Event(data=''), *events('text'), Event(data='[DONE]'), Event(data='{'), Event(data=' ')]
    assert fold(streamed(found)) == understood(whole('text'))


def test_azures_first_chunk_has_no_choices_and_no_model() -> None:
    filtered = {'choices': [], 'id': '', 'model': '', 'prompt_filter_results': [{'prompt_index': 0}]}
    response = fold(streamed([filtered, *events('text')]))
    assert (response.model, response.id) == ('gpt-x-2026-01-01', 'chatcmpl-1')
    assert response.metadata['openai']['prompt_filter_results'] == [{'prompt_index': 0}]


def test_a_chunk_of_another_kind_is_passed_on_raw() -> None:
    assert Raw({'type': 'ping'}) in streamed([{'type': 'ping'}, *events('text')])


BAD_NUMBERING = {
    'no index': [
        {'tool_calls': [{'id': 'c1', 'function': {'name': 'a', 'arguments': '{"x":1}'}}]},
        {'tool_calls': [{'id': 'c2', 'function': {'name': 'b', 'arguments': '{"y"'}}]},
        {'tool_calls': [{'function': {'arguments': ':2}'}}]},
    ],
    'no index and the id every time': [
        {'tool_calls': [{'id': 'c1', 'function': {'name': 'a', 'arguments': '{"x":'}}]},
        {'tool_calls': [{'id': 'c2', 'function': {'name': 'b', 'arguments': '{"y":2}'}}]},
        {'tool_calls': [{'id': 'c1', 'function': {'arguments': '1}'}}]},
    ],
    'index 0 for all': [first(0, 'c1', 'a', '{"x":1}'), first(0, 'c2', 'b', '{"y":2}')],
    'name and id repeated': [
        first(0, 'c1', 'a', '{"x"'),
        first(0, 'c1', 'a', ':1}'),
        first(1, 'c2', 'b', '{"y":2}'),
    ],
    'an empty id after the first piece': [
        first(0, 'c1', 'a', '{"x"'),
        {'tool_calls': [{'index': 0, 'id': '', 'function': {'name': '', 'arguments': ':1}'}}]},
        first(1, 'c2', 'b', '{"y":2}'),
    ],
    'arguments as an object': [
        {'tool_calls': [{'index': 0, 'id': 'c1', 'function': {'name': 'a', 'arguments': {'x': 1}}}]},
        first(1, 'c2', 'b', '{"y":2}'),
    ],
    'pieces of two calls in turn': [
        first(0, 'c1', 'a', '{"x"'),
        first(1, 'c2', 'b', '{"y"'),
        more(0, ':1}'),
        more(1, ':2}'),
    ],
    'both in one delta': [
        {'tool_calls': [*first(0, 'c1', 'a', '{"x":1}')['tool_calls'], *first(1, 'c2', 'b', '{"y":2}')['tool_calls']]}
    ],
}


@pytest.mark.parametrize('deltas', BAD_NUMBERING.values(), ids=BAD_NUMBERING.keys())
def test_tool_calls_are_put_together_however_they_are_numbered(deltas: list[dict[str, Any]]) -> None:
    found = [{'choices': [{'index': 0, 'delta': delta}]} for delta in deltas]
    response = fold(streamed([*found, Event(data='[DONE]')]))
    assert [part.tool_request for part in response.tool_requests] == [
        ToolRequest('a', {'x': 1}, 'c1'),
        ToolRequest('b', {'y': 2}, 'c2'),
    ]


def test_a_call_without_a_name_is_an_error() -> None:
    with pytest.raises(LamellaError, match='without a name'):
        streamed([{'choices': [{'delta': more(0, '{}')}]}, Event(data='[DONE]')])


def test_most_chunks_become_one_delta() -> None:
    assert streamed(events('text'))[1:3] == [TextDelta('Hel'), TextDelta('lo')]
