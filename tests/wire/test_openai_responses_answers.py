"""Answers of the Responses API, whole and streamed, read."""

import json
from typing import Any

import pytest

from lamella.types import (
    CONTENT_PARTS,
    DataPart,
    Finished,
    LamellaError,
    MediaPart,
    Raw,
    ReasoningDelta,
    ReasoningPart,
    ResponseStarted,
    Source,
    TextDelta,
    TextPart,
    ToolInputDelta,
    ToolRequest,
    ToolRequested,
    Usage,
    fold,
)
from lamella.wire.openai_responses import OpenAIResponsesCodec
from lamella.wire.sse import Event
from tests.wire.openai_responses_events import (
    ANSWERS,
    CITATION,
    CODEC,
    FILE_CITATION,
    JSON,
    LOGPROB,
    SEARCH,
    answer,
    body,
    call,
    events_of,
    folded,
    message,
    parts_of,
    reasoning,
    sse,
    text,
    whole,
)

OWN = 'openai-responses'


def read(data: Any) -> Any:
    return CODEC.decode_response(json.dumps(data).encode())


def test_text_keeps_the_message_it_came_in() -> None:
    response = whole('text')
    item = {'id': 'msg_1', 'status': 'completed'}
    assert response.message.content == (
        TextPart('In a peaceful grove – a unicorn 🦄 named Lumina.', {OWN: {'item': item}}),
    )
    assert (response.finish_reason, response.id, response.model) == ('stop', 'resp_1', 'gpt-x-2026-01-01')


def test_usage_has_all_its_counts() -> None:
    assert whole('text').usage == Usage(36, 87, 123, cached_tokens=12, reasoning_tokens=50, cache_write_tokens=3)
    assert read(answer(usage=None)).usage is None


def test_reasoning_keeps_its_id_its_paragraphs_and_its_encrypted_content() -> None:
    part = whole('tools').message.content[0]
    summary = [{'type': 'summary_text', 'text': 'First.'}, {'type': 'summary_text', 'text': 'Second.'}]
    assert part == ReasoningPart('First.\n\nSecond.', 'gAAAA==', False, {OWN: {'id': 'rs_1', 'summary': summary}})


def test_reasoning_without_words_is_redacted_and_keeps_its_id() -> None:
    assert whole('silent reasoning').message.content[0] == ReasoningPart('', None, True, {OWN: {'id': 'rs_1'}})


def test_thoughts_themselves_are_text_too() -> None:
    assert whole('raw reasoning').reasoning == 'Hm.'


def test_tool_requests_have_their_call_id_as_ref() -> None:
    response = whole('tools')
    assert [part.tool_request for part in response.tool_requests] == [
        ToolRequest('weather', {'city': 'Zürich'}, 'call_1'),
        ToolRequest('time', {}, 'call_2'),
    ]
    assert response.finish_reason == 'tool_calls'
    assert response.tool_requests[1].metadata == {
        OWN: {'after': 'rs_1', 'id': 'fc_2', 'status': 'completed', 'namespace': 'clocks'}
    }


def test_arguments_that_are_no_json_stay_text_and_say_so() -> None:
    first, second = whole('invalid json').tool_requests
    assert first.tool_request.input == '{"city": Zü'
    assert first.metadata is not None
    assert first.metadata['openai'] == {'invalid_json': True}
    assert second.tool_request.input == {}


def test_a_custom_tool_is_asked_with_plain_text() -> None:
    (part,) = whole('custom tool').tool_requests
    assert part.tool_request == ToolRequest('sql', 'SELECT 1', 'call_1')
    assert part.metadata is not None
    assert part.metadata['openai'] == {'type': 'custom'}


def test_a_refusal_is_blocked_and_kept_as_a_block() -> None:
    response = whole('half a refusal')
    assert (response.finish_reason, response.finish_message, response.text) == ('blocked', 'no.', 'Well,')
    refusal = response.message.content[1]
    assert isinstance(refusal, DataPart)
    assert refusal.data == {'type': 'refusal', 'refusal': 'no.'}


def test_citations_are_sources_of_the_text_they_stand_in() -> None:
    assert whole('citations').sources == (
        Source('https://a.example/x', 'A page', None, 1, {OWN: CITATION}),
        Source(None, 'deep.pdf', None, 2, {OWN: FILE_CITATION}),
    )


def test_other_items_are_kept_whole() -> None:
    assert whole('citations').message.content[0] == DataPart(SEARCH, {OWN: {}})
    ball = whole('unknown').message.content[0]
    assert ball == DataPart({'type': 'crystal_ball_call', 'id': 'cb_1', 'mist': [1, {'deep': None}]}, {OWN: {}})


def test_a_generated_image_is_media() -> None:
    image = whole('image').message.content[0]
    own = {'type': 'image_generation_call', 'id': 'ig_1', 'status': 'completed'}
    assert image == MediaPart(data=b'\x89PNG\r\n\x1a\n', content_type='image/png', metadata={OWN: own})


def test_an_image_that_is_not_there_is_no_media() -> None:
    item = {'type': 'image_generation_call', 'id': 'ig_1', 'status': 'failed', 'result': None}
    assert read(answer(item)).message.content == (DataPart(item, {OWN: {}}),)


def test_log_probabilities_are_in_the_metadata() -> None:
    assert whole('logprobs').metadata['logprobs'] == [LOGPROB]


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({}, 'stop'),
        ({'status': None}, 'stop'),
        ({'status': 'incomplete', 'incomplete_details': {'reason': 'max_output_tokens'}}, 'length'),
        ({'status': 'incomplete', 'incomplete_details': {'reason': 'content_filter'}}, 'blocked'),
        ({'status': 'incomplete', 'incomplete_details': {'reason': 'boredom'}}, 'other'),
        ({'status': 'incomplete'}, 'other'),
        ({'status': 'queued'}, 'unknown'),
        ({'status': 'in_progress'}, 'unknown'),
        ({'status': 'paused'}, 'other'),
    ],
)
def test_the_status_is_the_finish_reason(changes: JSON, reason: str) -> None:
    assert read(answer(message(text('x')), **changes)).finish_reason == reason


def test_an_answer_that_is_not_there_yet_says_so() -> None:
    response = read(answer(status='queued', background=True))
    assert response.warnings == ("the answer is not there yet (status 'queued'): ask for it later by its id",)
    assert response.metadata[OWN]['status'] == 'queued'


def test_a_cut_off_call_is_left_out_with_a_warning() -> None:
    response = whole('cut call')
    assert [part.tool_request.name for part in response.tool_requests] == ['time']
    assert response.finish_reason == 'length'
    assert response.warnings == ("the token limit cut off the request of tool 'weather': left out",)


def test_a_call_without_arguments_is_whole_when_it_says_so() -> None:
    cut = {'status': 'incomplete', 'incomplete_details': {'reason': 'max_output_tokens'}}
    assert read(answer(call('time', ''), **cut)).tool_requests[0].tool_request.input == {}
    assert read(answer(call('time', '', status='in_progress'), **cut)).tool_requests == ()


def test_fields_without_a_name_here_are_kept() -> None:
    own = whole('new fields').metadata[OWN]
    assert own['service_tier'] == 'flex'
    assert own['incomplete_details'] == {'reason': 'boredom', 'level': 3}
    assert own['usage'] == {'carbon': 1, 'output_tokens_details': {'dreams': 2}}


def test_another_provider_has_its_own_names() -> None:
    response = OpenAIResponsesCodec('azure').decode_response(body('custom tool'))
    metadata = response.tool_requests[0].metadata
    assert metadata is not None
    assert metadata.keys() == {'azure', 'azure-responses'}


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('size', [1, 3, 1000])
@pytest.mark.parametrize('name', ANSWERS)
def test_the_whole_answer_is_the_fold_of_its_stream(name: str, size: int) -> None:
    assert folded(sse(events_of(ANSWERS[name], size))) == whole(name)


@pytest.mark.parametrize('name', ['tools', 'citations', 'new fields'])
def test_a_stream_means_the_same_cut_at_every_byte(name: str) -> None:
    stream = sse(events_of(ANSWERS[name]))
    expected = parts_of(stream)
    for at in range(len(stream)):
        assert parts_of(stream[:at], stream[at:]) == expected


def test_a_stream_means_the_same_byte_by_byte() -> None:
    stream = sse(events_of(ANSWERS['tools']))
    assert parts_of(*[stream[i : i + 1] for i in range(len(stream))]) == parts_of(stream)


@pytest.mark.parametrize('name', ANSWERS)
def test_events_without_a_name_mean_the_same(name: str) -> None:
    stream = sse(events_of(ANSWERS[name]))
    nameless = b''.join([line for line in stream.splitlines(keepends=True) if not line.startswith(b'event:')])
    assert parts_of(nameless) == parts_of(stream)


def test_the_parts_arrive_as_they_are_said() -> None:
    parts = parts_of(sse(events_of(answer(reasoning('Hm.'), message(text('Hi')), call('f', '{"a":1}')), 3)))
    assert [type(part) for part in parts] == [
        ResponseStarted,
        ReasoningDelta,
        ReasoningDelta,
        TextDelta,
        TextDelta,
        ToolInputDelta,
        ToolInputDelta,
        ToolInputDelta,
        ToolRequested,
        Finished,
    ]
    assert parts[5] == ToolInputDelta('{"a', 2, 'f', 'call_1')
    assert parts[0] == ResponseStarted('gpt-x-2026-01-01', 'resp_1')


def test_no_content_comes_before_the_first_word() -> None:
    stream = events_of(ANSWERS['text'])
    at = next(i for i, event in enumerate(stream) if event['type'] == 'response.output_text.delta')
    decoder = CODEC.stream_decoder()
    parts = [part for event in stream[:at] for part in decoder.feed(_event(event))]
    assert not [part for part in parts if type(part) in CONTENT_PARTS]


def _event(event: JSON) -> Event:
    return Event(event['type'], json.dumps(event))


def test_events_of_built_in_tools_are_raw() -> None:
    searching = [part for part in parts_of(sse(events_of(ANSWERS['citations']))) if type(part) is Raw and not part.keep]
    assert [part.data['type'] for part in searching] == ['response.web_search_call.searching']


def test_ids_that_change_with_every_event_do_not_matter() -> None:
    events = events_of(ANSWERS['tools'])
    for i, event in enumerate(events):
        if 'item_id' in event:
            event['item_id'] = f'opaque_{i}'
    assert folded(sse(events)) == whole('tools')


@pytest.mark.parametrize(
    'left_out',
    [
        (
            'response.output_text.delta',
            'response.reasoning_summary_text.delta',
            'response.function_call_arguments.delta',
        ),
        ('response.output_item.added', 'response.content_part.added', 'response.created', 'response.in_progress'),
        ('response.output_text.done', 'response.content_part.done', 'response.output_item.done'),
        ('response.output_text.annotation.added',),
    ],
)
@pytest.mark.parametrize('name', ['text', 'two texts', 'tools', 'refusal', 'cut call'])
def test_servers_that_leave_out_events_are_understood(name: str, left_out: tuple[str, ...]) -> None:
    events = [event for event in events_of(ANSWERS[name]) if event['type'] not in left_out]
    assert folded(sse(events)).replace(sources=()) == whole(name).replace(sources=())


@pytest.mark.parametrize(
    'left_out', [('response.output_item.done',), ('response.output_item.added', 'response.output_item.done')]
)
def test_items_that_are_never_said_to_be_done_come_at_the_end_and_once(left_out: tuple[str, ...]) -> None:
    response = folded(sse([event for event in events_of(ANSWERS['citations']) if event['type'] not in left_out]))
    assert sorted(response.message.content, key=repr) == sorted(whole('citations').message.content, key=repr)


def test_only_the_last_event_is_an_answer_too() -> None:
    assert folded(sse(events_of(ANSWERS['tools'])[-1:])) == whole('tools')


def test_items_that_are_all_said_to_be_the_first_stay_apart() -> None:
    events = events_of(ANSWERS['tools'])
    assert folded(sse([{**event, 'output_index': 0} for event in events])) == whole('tools')


def test_a_last_event_without_its_items_is_filled_from_the_pieces() -> None:
    events = [event for event in events_of(ANSWERS['two texts']) if event['type'] != 'response.output_item.done']
    events[-1]['response'] = {**events[-1]['response'], 'output': []}
    response = folded(sse(events))
    assert [part.text for part in response.message.content if isinstance(part, TextPart)] == ['One.', 'Two.']


def test_pieces_stand_in_for_an_item_that_comes_back_empty() -> None:
    events = events_of(answer(reasoning('a', 'b'), message(text('c')), call('f', '{"d":1}')))
    for event in events:
        if event['type'] == 'response.output_item.done':
            kept = {'message': {'content': []}, 'reasoning': {'summary': []}, 'function_call': {'arguments': ''}}
            event['item'] = {**event['item'], **kept[event['item']['type']]}
    response = folded(sse(events))
    assert (response.reasoning, response.text) == ('a\n\nb', 'c')
    assert response.tool_requests[0].tool_request.input == {'d': 1}


def test_a_refusal_in_pieces_stands_in_for_a_message_that_comes_back_empty() -> None:
    events = [event for event in events_of(ANSWERS['refusal']) if event['type'] != 'response.content_part.done']
    for event in events:
        if event['type'] == 'response.output_item.done':
            event['item'] = {**event['item'], 'content': []}
    assert folded(sse(events)).finish_message == 'I will not.'


def test_citations_that_were_not_streamed_come_with_their_text() -> None:
    left_out = 'response.output_text.annotation.added'
    response = folded(sse([event for event in events_of(ANSWERS['citations']) if event['type'] != left_out]))
    assert response == whole('citations')


def test_done_and_blank_data_after_the_end_are_nothing() -> None:
    assert folded(sse(events_of(ANSWERS['text'])) + b'data: [DONE]\n\ndata: \n\n') == whole('text')


def test_a_cut_stream_is_unavailable_with_what_had_arrived() -> None:
    stream = events_of(ANSWERS['tools'])
    with pytest.raises(LamellaError, match='before the answer was complete') as caught:
        parts_of(sse(stream[:-1]))
    assert caught.value.status == 'UNAVAILABLE'
    assert caught.value.partial is not None
    assert caught.value.partial.text == 'I call two.'
    assert len(caught.value.partial.tool_requests) == 2


def test_nothing_at_all_is_unavailable_without_an_answer() -> None:
    with pytest.raises(LamellaError) as caught:
        parts_of(b'')
    assert (caught.value.status, caught.value.partial) == ('UNAVAILABLE', None)


def test_a_call_that_may_be_cut_waits_for_what_shows_that_it_is_not() -> None:
    events = events_of(ANSWERS['invalid json'])
    done = next(i for i, event in enumerate(events) if event['type'] == 'response.output_item.done')
    decoder = CODEC.stream_decoder()
    before = [part for event in events[: done + 1] for part in decoder.feed(_event(event))]
    assert not [part for part in before if type(part) is ToolRequested]
    after = [part for event in events[done + 1 : done + 3] for part in decoder.feed(_event(event))]
    assert [type(part) for part in after] == [ToolRequested, ToolInputDelta]


def test_the_fold_of_a_prefix_never_has_half_a_request() -> None:
    events = events_of(ANSWERS['tools'], 2)
    decoder, parts = CODEC.stream_decoder(), []
    for event in events:
        parts += decoder.feed(_event(event))
        for request in fold(parts).tool_requests:
            assert isinstance(request.tool_request.input, dict)
