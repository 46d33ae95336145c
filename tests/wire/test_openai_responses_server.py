"""Answers of the Responses API, whole and streamed, said: what a server sends."""

import json
from typing import Any

import pytest

from lamella.types import (
    DataPart,
    Finished,
    GenerationConfig,
    LamellaError,
    MediaPart,
    Message,
    ModelRequest,
    ModelResponse,
    OutputSpec,
    Raw,
    ReasoningPart,
    ResponseStarted,
    Restarted,
    Source,
    TextDelta,
    TextPart,
    ToolChoice,
    ToolDefinition,
    ToolInputDelta,
    ToolRequest,
    ToolRequested,
    ToolRequestPart,
    Usage,
    fold,
    unfold,
)
from lamella.wire.sse import SSEDecoder
from tests.wire.openai_responses_events import (
    ANSWERS,
    CODEC,
    JSON,
    body,
    events_of,
    folded,
    parts_of,
    sent_events,
    sse,
    whole,
)

MODEL = 'gpt-x-2026-01-01'


def sent(response: ModelResponse, **options: Any) -> Any:
    return json.loads(CODEC.encode_response(response, model=MODEL, **options))


def events(stream: bytes) -> list[JSON]:
    found = []
    for event in SSEDecoder().feed(stream):
        data = json.loads(event.data)
        assert data['type'] == event.event
        found.append(data)
    return found


def kinds(stream: bytes) -> list[str]:
    return [event['type'].removeprefix('response.') for event in events(stream)]


@pytest.mark.parametrize('name', [name for name in ANSWERS if name != 'cut call'])
def test_an_answer_survives_being_read_and_said_again(name: str) -> None:
    assert sent(whole(name)) == ANSWERS[name]


@pytest.mark.parametrize('name', ANSWERS)
def test_a_stream_survives_being_read_and_said_again(name: str) -> None:
    parts = parts_of(sse(events_of(ANSWERS[name])))
    again = sent_events(parts)
    assert folded(again).replace(warnings=()) == fold(parts).replace(warnings=())
    if name != 'cut call':
        assert events(again)[-1]['response'] == ANSWERS[name]


@pytest.mark.parametrize('name', ANSWERS)
def test_the_shortest_stream_says_what_the_whole_answer_says(name: str) -> None:
    response = whole(name)
    stream = sent_events(list(unfold(response)))
    assert events(stream)[-1]['response'] == sent(response)
    assert folded(stream).replace(sources=()) == response.replace(sources=(), warnings=())


@pytest.mark.parametrize('name', ANSWERS)
def test_events_are_numbered_without_a_gap(name: str) -> None:
    sequence = [event['sequence_number'] for event in events(sent_events(list(unfold(whole(name)))))]
    assert sequence == [*range(len(sequence))]


def test_a_text_has_all_its_events() -> None:
    stream = sent_events([ResponseStarted(id='resp_7'), TextDelta('He'), TextDelta('y'), Finished(usage=Usage(1, 2))])
    assert kinds(stream) == [
        'created',
        'in_progress',
        'output_item.added',
        'content_part.added',
        'output_text.delta',
        'output_text.delta',
        'output_text.done',
        'content_part.done',
        'output_item.done',
        'completed',
    ]
    last = events(stream)[-1]['response']
    assert (last['id'], last['status'], last['model']) == ('resp_7', 'completed', MODEL)
    assert last['usage'] == {
        'input_tokens': 1,
        'input_tokens_details': {'cached_tokens': 0, 'cache_write_tokens': 0},
        'output_tokens': 2,
        'output_tokens_details': {'reasoning_tokens': 0},
        'total_tokens': 3,
    }
    assert last['output'][0]['content'] == [{'type': 'output_text', 'text': 'Hey', 'annotations': [], 'logprobs': []}]


def test_every_event_names_the_item_that_was_announced() -> None:
    parts = [
        ToolInputDelta('{"a', 3, 'f', 'call_1'),
        ToolInputDelta('":1}', 3),
        TextDelta('Hm'),
        Finished('tool_calls'),
    ]
    parts.insert(2, ToolRequested(ToolRequest('f', {'a': 1}, 'call_1'), 3))
    ids: dict[int, str] = {}
    for event in events(sent_events(parts)):
        if event['type'] == 'response.output_item.added':
            ids[event['output_index']] = event['item']['id']
        elif 'item_id' in event:
            assert event['item_id'] == ids[event['output_index']]
        elif 'item' in event:
            assert event['item']['id'] == ids[event['output_index']]
    assert len(ids) == 2


def test_tool_input_is_sent_as_it_comes_and_once() -> None:
    parts = [
        ToolInputDelta('{"a"', 0, 'f', 'call_1'),
        ToolInputDelta(': 1}', 0, 'f', 'call_1'),
        ToolRequested(ToolRequest('f', {'a': 1}, 'call_1'), 0),
        ToolRequested(ToolRequest('g', {}, 'call_2'), 1),
        Finished('tool_calls'),
    ]
    stream = sent_events([ResponseStarted(), *parts])
    deltas = [event['delta'] for event in events(stream) if event['type'].endswith('arguments.delta')]
    assert deltas == ['{"a"', ': 1}', '{}']
    output = events(stream)[-1]['response']['output']
    assert [(item['call_id'], item['arguments']) for item in output] == [('call_1', '{"a": 1}'), ('call_2', '{}')]


def test_tool_input_without_a_name_waits_for_the_request() -> None:
    stream = sent_events([ToolInputDelta('{}', 0), ToolRequested(ToolRequest('f', {}, None)), Finished('tool_calls')])
    (request,) = folded(stream).tool_requests
    assert request.tool_request.name == 'f'
    assert request.tool_request.ref


def test_a_call_that_never_became_whole_is_incomplete() -> None:
    stream = sent_events([TextDelta('So'), ToolInputDelta('{"a', 1, 'f', 'call_1'), Finished('length')])
    last = events(stream)[-1]
    assert last['type'] == 'response.incomplete'
    assert last['response']['incomplete_details'] == {'reason': 'max_output_tokens'}
    assert last['response']['output'][1]['status'] == 'incomplete'
    assert folded(stream).tool_requests == ()


def test_text_that_goes_on_after_a_call_is_a_message_of_its_own() -> None:
    call = ToolRequested(ToolRequest('f', {}, 'call_1'), 1)
    output = events(sent_events([TextDelta('a'), call, TextDelta('b'), Finished()]))[-1]['response']['output']
    assert [item['type'] for item in output] == ['message', 'function_call', 'message']


def test_a_stream_without_its_last_part_has_no_last_event() -> None:
    assert 'completed' not in kinds(sent_events([ResponseStarted(), TextDelta('x')]))


def test_a_restart_after_content_cannot_be_said() -> None:
    encoder = CODEC.stream_encoder(model='m')
    encoder.feed(ResponseStarted())
    assert encoder.feed(Restarted()) == b''
    encoder.feed(TextDelta('x'))
    with pytest.raises(LamellaError, match='cannot take back') as caught:
        encoder.feed(Restarted())
    assert caught.value.status == 'ABORTED'


def test_an_error_in_the_stream_is_an_event_with_the_next_number() -> None:
    encoder = CODEC.stream_encoder(model='m')
    begun = encoder.feed(ResponseStarted())
    (event,) = events(encoder.error(LamellaError('RESOURCE_EXHAUSTED', 'slow down')))
    assert event == {
        'type': 'error',
        'sequence_number': len(events(begun)),
        'code': 'rate_limit_exceeded',
        'message': 'slow down',
        'param': None,
    }


@pytest.mark.parametrize(
    ('reason', 'status', 'details'),
    [
        ('stop', 'completed', None),
        ('tool_calls', 'completed', None),
        ('length', 'incomplete', {'reason': 'max_output_tokens'}),
        ('blocked', 'incomplete', {'reason': 'content_filter'}),
        ('other', 'completed', None),
        ('unknown', 'completed', None),
    ],
)
def test_the_finish_reason_is_the_status(reason: Any, status: str, details: JSON | None) -> None:
    wire = sent(ModelResponse.text_of('x', finish_reason=reason))
    assert (wire['status'], wire['incomplete_details']) == (status, details)


def test_a_refusal_of_the_other_protocol_is_a_refusal_here() -> None:
    refusal = DataPart({'type': 'refusal', 'refusal': 'No.'}, {'openai': {}})
    wire = sent(ModelResponse(message=Message.assistant(refusal), finish_reason='blocked'))
    assert wire['status'] == 'completed'
    assert wire['output'][0]['content'] == [{'type': 'refusal', 'refusal': 'No.'}]


def test_an_answer_repeats_its_request() -> None:
    request = ModelRequest(
        (Message.user('hi'),),
        GenerationConfig(temperature=0.5, max_output_tokens=9, reasoning_effort='low', logprobs=2),
        (ToolDefinition('f', 'F', {'type': 'object'}),),
        ToolChoice('required'),
        OutputSpec('json', {'type': 'object'}),
        {'openai': {'store': False, 'previous_response_id': 'resp_0', 'tools': [{'type': 'web_search'}]}},
    )
    wire = sent(ModelResponse.text_of('x'), request=request)
    assert (wire['temperature'], wire['max_output_tokens'], wire['tool_choice']) == (0.5, 9, 'required')
    assert (wire['store'], wire['previous_response_id'], wire['reasoning']) == (False, 'resp_0', {'effort': 'low'})
    assert [tool['type'] for tool in wire['tools']] == ['function', 'web_search']
    assert wire['text']['format']['type'] == 'json_schema'
    assert 'include' not in wire
    assert 'input' not in wire
    stream = sent_events(list(unfold(ModelResponse.text_of('x'))), request=request)
    for event in (events(stream)[0], events(stream)[-1]):
        assert event['response']['tools'] == wire['tools']


def test_an_answer_repeats_the_instructions_it_was_given() -> None:
    given = b'{"model": "m", "instructions": "Be brief.", "input": "hi"}'
    wire = sent(ModelResponse.text_of('x'), request=CODEC.decode_request(given).request)
    assert wire['instructions'] == 'Be brief.'


def test_sources_of_another_protocol_become_annotations_of_their_text() -> None:
    chat = {
        'type': 'url_citation',
        'url_citation': {'url': 'https://b', 'title': 'B', 'start_index': 1, 'end_index': 2},
    }
    response = ModelResponse.text_of(
        'x', sources=(Source('https://a', 'A'), Source('https://b', 'B', metadata={'openai': chat}))
    )
    assert sent(response)['output'][0]['content'][0]['annotations'] == [
        {'type': 'url_citation', 'url': 'https://a', 'title': 'A', 'start_index': 0, 'end_index': 0},
        {'type': 'url_citation', 'url': 'https://b', 'title': 'B', 'start_index': 1, 'end_index': 2},
    ]
    assert (
        events(sent_events(list(unfold(response))))[-1]['response']['output'][0]['content'][0]['annotations']
        == (sent(response)['output'][0]['content'][0]['annotations'])
    )


def test_a_source_without_any_text_still_arrives() -> None:
    response = ModelResponse(sources=(Source('https://a', 'A'),))
    assert folded(sent_events(list(unfold(response)))).sources[0].url == 'https://a'
    assert CODEC.decode_response(CODEC.encode_response(response, model='m')).sources[0].url == 'https://a'


def test_thoughts_of_another_vendor_are_shown_without_their_proof() -> None:
    thoughts = (ReasoningPart('Hm.', 'sig=='), ReasoningPart('Ah.', 'sig==', metadata={'gemini': {}}), TextPart('x'))
    items = sent(ModelResponse(message=Message.assistant(*thoughts)))['output']
    assert [item.get('summary', [{}])[0].get('text') for item in items[:2]] == ['Hm.', 'Ah.']
    assert not [item for item in items if 'encrypted_content' in item]


def test_what_the_protocol_has_no_item_for_is_left_out() -> None:
    content = (
        DataPart({'type': 'thing'}, {'anthropic': {}}),
        MediaPart(data=b'ID3', content_type='audio/mpeg'),
        ReasoningPart('', None, True, {'anthropic': {'data': 'x'}}),
        TextPart('x'),
    )
    response = ModelResponse(message=Message.assistant(*content))
    assert [item['type'] for item in sent(response)['output']] == ['message']
    last = events(sent_events(list(unfold(response))))[-1]['response']
    assert [item['type'] for item in last['output']] == ['message']


def test_an_image_of_any_model_is_a_generated_image() -> None:
    response = ModelResponse(message=Message.assistant(MediaPart(data=b'\x89PNG', content_type='image/png')))
    again = CODEC.decode_response(CODEC.encode_response(response, model='m')).message.content[0]
    assert isinstance(again, MediaPart)
    assert (again.data, again.content_type) == (b'\x89PNG', 'image/png')


def test_a_custom_tool_is_asked_in_its_own_item() -> None:
    part = ToolRequestPart(ToolRequest('sql', 'SELECT 1', 'call_1'), {'openai': {'type': 'custom'}})
    (item,) = sent(ModelResponse(message=Message.assistant(part), finish_reason='tool_calls'))['output']
    assert (item['type'], item['input'], item['call_id']) == ('custom_tool_call', 'SELECT 1', 'call_1')
    assert item['id'].startswith('ctc_')


def test_raw_parts_that_are_not_kept_are_not_said() -> None:
    stream = sent_events([ResponseStarted(), Raw({'type': 'response.web_search_call.searching'}), Finished()])
    assert kinds(stream) == ['created', 'in_progress', 'completed']


def test_ids_are_the_same_for_the_same_answer() -> None:
    response = ModelResponse.text_of('x')
    assert sent(response) == sent(response)
    assert sent(response)['id'] != sent(ModelResponse.text_of('y'))['id']


def test_the_tools_answers_of_a_whole_run_are_not_part_of_the_answer() -> None:
    first = [ResponseStarted(id='resp_1'), TextDelta('a'), Finished('tool_calls', Usage(1, 1, 2))]
    second = [ResponseStarted(id='resp_2'), TextDelta('b', 1), Finished('stop', Usage(2, 2, 4))]
    last = events(sent_events([*first, *second]))[-1]['response']
    assert (last['id'], last['usage']['total_tokens']) == ('resp_1', 6)


def test_what_is_no_json_is_refused_with_its_name() -> None:
    response = ModelResponse(message=Message.assistant(TextPart('\ud800')), id='resp_1')
    with pytest.raises(LamellaError, match='lone surrogate') as caught:
        CODEC.encode_response(response, model='m')
    assert caught.value.status == 'INVALID_ARGUMENT'


def test_a_body_is_what_it_is_whatever_its_name() -> None:
    assert CODEC.decode_response(body('text')) == whole('text')
