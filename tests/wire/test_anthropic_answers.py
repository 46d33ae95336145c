"""Answers of the Anthropic protocol, whole and streamed."""

import json

import pytest

from lamella.types import (
    DataPart,
    LamellaError,
    ModelResponse,
    Raw,
    ReasoningPart,
    Source,
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
from lamella.wire.anthropic import AnthropicCodec
from lamella.wire.sse import SSEDecoder
from tests.wire.anthropic_events import (
    ANSWERS,
    CITATION,
    FOUND,
    JSON,
    REDACTED,
    SEARCH,
    TEXT,
    THINKING,
    TIME,
    UNHEARD_OF,
    WEATHER,
    WEB_CITATION,
    body_of,
    events_of,
    message,
    parts_of,
)

CODEC = AnthropicCodec()


def whole(answer: JSON) -> ModelResponse:
    return CODEC.decode_response(json.dumps(answer).encode())


@pytest.mark.parametrize('name', ANSWERS)
@pytest.mark.parametrize('size', [1, 4, 1000])
def test_a_whole_answer_is_the_fold_of_its_stream(name: str, size: int) -> None:
    assert fold(parts_of(body_of(events_of(message(name), size)))) == whole(message(name))


@pytest.mark.parametrize('name', ['tools', 'citations', 'server tools'])
def test_a_stream_means_the_same_however_its_bytes_are_cut(name: str) -> None:
    body = body_of(events_of(message(name), 6))
    expected = parts_of(body)
    for at in range(1, len(body)):
        assert parts_of(body[:at], body[at:]) == expected
    assert parts_of(*[bytes([byte]) for byte in body]) == expected


@pytest.mark.parametrize('name', ANSWERS)
def test_an_answer_survives_being_sent_again(name: str) -> None:
    response = whole(message(name))
    assert CODEC.decode_response(CODEC.encode_response(response, model='other')) == response


@pytest.mark.parametrize('name', ANSWERS)
def test_an_answer_survives_being_streamed_again(name: str) -> None:
    response = whole(message(name))
    encoder = CODEC.stream_encoder(model='other')
    assert fold(parts_of(*[encoder.feed(part) for part in unfold(response)], encoder.finish())) == response


def test_the_fields_of_a_whole_answer_come_back_as_they_were() -> None:
    answer = message('server tools')
    sent = json.loads(CODEC.encode_response(whole(answer), model='other'))
    assert {name: sent[name] for name in answer} == answer


def test_parts_stand_for_blocks() -> None:
    assert whole(message('tools')).message.content == (
        ReasoningPart(THINKING['thinking'], THINKING['signature']),
        TextPart(TEXT['text']),
        ToolRequestPart(ToolRequest('get_weather', WEATHER['input'], 'toolu_01A')),
        ToolRequestPart(ToolRequest('get_time', {}, 'toolu_01B'), {'anthropic': {'caller': TIME['caller']}}),
    )
    assert whole(message('thinking')).message.content[1] == ReasoningPart(
        '', None, True, {'anthropic': {'data': REDACTED['data']}}
    )


def test_blocks_that_no_part_stands_for_are_kept() -> None:
    data = [part.data for part in whole(message('server tools')).message.content if type(part) is DataPart]
    assert data == [SEARCH, FOUND]
    kept = [part for part in parts_of(body_of(events_of(message('unknown block')))) if type(part) is Raw]
    assert kept == [Raw(UNHEARD_OF, 0, True, {'anthropic': {}})]


def test_citations_are_sources_and_stay_with_their_text() -> None:
    response = whole(message('citations'))
    assert response.sources == (
        Source(None, 'My document', 'The grass is green. ', 1, {'anthropic': CITATION}),
        Source(WEB_CITATION['url'], 'Claude Shannon', WEB_CITATION['cited_text'], 1, {'anthropic': WEB_CITATION}),
    )
    assert response.message.content[1].metadata == {'anthropic': {'citations': [CITATION, WEB_CITATION]}}
    assert response.message.content[0].metadata is None


def test_input_tokens_include_what_the_cache_read_and_wrote() -> None:
    expected = Usage(
        input_tokens=145,
        output_tokens=60,
        total_tokens=205,
        cached_tokens=100,
        cache_write_tokens=5,
        reasoning_tokens=12,
    )
    assert whole(message('text')).usage == expected
    assert fold(parts_of(body_of(events_of(message('text'))))).usage == expected


def test_counts_that_are_not_told_are_unknown() -> None:
    usage = whole({**message('text'), 'usage': {'output_tokens': 3}}).usage
    assert usage == Usage(output_tokens=3)
    without = {name: value for name, value in message('text').items() if name != 'usage'}
    assert whole(without).usage is None


def test_counts_of_the_last_event_win_and_the_rest_stand() -> None:
    events = [*events_of(message('text'))]
    events[-2]['usage'] = {'input_tokens': 50, 'output_tokens': 70, 'cache_read_input_tokens': None}
    usage = fold(parts_of(body_of(events))).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (155, 70, 100)


@pytest.mark.parametrize(
    ('name', 'finish_reason', 'raw'),
    [
        ('text', 'stop', None),
        ('stop sequence', 'stop', 'stop_sequence'),
        ('limit', 'length', None),
        ('context window', 'length', 'model_context_window_exceeded'),
        ('tools', 'tool_calls', None),
        ('refusal', 'blocked', None),
        ('server tools', 'other', 'pause_turn'),
        ('unknown reason', 'other', 'sunset'),
    ],
)
def test_every_stop_reason_has_a_word_and_none_is_lost(name: str, finish_reason: str, raw: str | None) -> None:
    response = whole(message(name))
    assert response.finish_reason == finish_reason
    assert response.metadata['anthropic'].get('stop_reason') == raw


def test_a_refusal_says_why() -> None:
    response = whole(message('refusal'))
    assert response.finish_message == 'This was refused.'
    assert response.metadata['anthropic']['stop_details']['category'] == 'cyber'


def test_an_answer_that_says_no_reason_is_unknown() -> None:
    assert whole({**message('text'), 'stop_reason': None}).finish_reason == 'unknown'


# ── tools whose input was cut off ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('reason', ['max_tokens', 'model_context_window_exceeded', 'refusal'])
def test_a_cut_off_tool_request_is_none(reason: str) -> None:
    answer = {**message('tools'), 'content': [TEXT, TIME, WEATHER], 'stop_reason': reason}
    response = whole(answer)
    assert [part.tool_request.name for part in response.tool_requests] == ['get_time']
    assert response.warnings == (f"{reason} cut off the request of tool 'get_weather': left out",)
    assert fold(parts_of(body_of(events_of(answer)))) == response


@pytest.mark.parametrize('pieces', [[], ['{"city": "Zü'], ['{"city": "Zürich"}']])
@pytest.mark.parametrize('is_closed', [True, False])
def test_half_an_input_never_becomes_a_request(pieces: list[str], is_closed: bool) -> None:
    """Not even when the half is valid JSON, or nothing, which would read as an input without arguments."""
    start = [*events_of({**message('tools'), 'content': [TEXT]})][:-2]
    tool = [
        {'type': 'content_block_start', 'index': 1, 'content_block': {**WEATHER, 'input': {}}},
        *[
            {'type': 'content_block_delta', 'index': 1, 'delta': {'type': 'input_json_delta', 'partial_json': piece}}
            for piece in pieces
        ],
        *([{'type': 'content_block_stop', 'index': 1}] if is_closed else []),
    ]
    end = [
        {'type': 'message_delta', 'delta': {'stop_reason': 'max_tokens'}, 'usage': {'output_tokens': 9}},
        {'type': 'message_stop'},
    ]
    parts = parts_of(body_of([*start, *tool, *end]))
    assert not [part for part in parts if type(part) is ToolRequested]
    response = fold(parts)
    assert response.text == TEXT['text']
    assert response.finish_reason == 'length'
    assert "'get_weather'" in response.warnings[0]


def test_input_arrives_in_pieces_and_is_parsed_once() -> None:
    parts = parts_of(body_of(events_of({**message('tools'), 'content': [WEATHER]}, 5)))
    pieces = [part for part in parts if type(part) is ToolInputDelta]
    assert json.loads(''.join(part.delta for part in pieces)) == WEATHER['input']
    assert {(part.name, part.ref, part.index) for part in pieces} == {('get_weather', 'toolu_01A', 0)}
    assert [part for part in parts if type(part) is ToolRequested] == [
        ToolRequested(ToolRequest('get_weather', WEATHER['input'], 'toolu_01A'))
    ]


def test_input_that_is_no_json_stays_text_and_goes_back_wrapped() -> None:
    events = [*events_of({**message('tools'), 'content': [WEATHER]}, 1000)]
    events[4]['delta']['partial_json'] = '{"city": Zürich}'
    response = fold(parts_of(body_of(events)))
    assert response.tool_requests[0].tool_request.input == '{"city": Zürich}'
    sent = json.loads(CODEC.encode_response(response, model='x'))
    assert sent['content'][0]['input'] == {'INVALID_JSON': '{"city": Zürich}'}


# ── streams that go wrong ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_cut_anywhere_before_its_stop_reason_is_unavailable() -> None:
    events = [*events_of(message('tools'))]
    whole_answer = whole(message('tools'))
    last = next(i for i, event in enumerate(events) if event['type'] == 'message_delta')
    for count in range(1, last):
        with pytest.raises(LamellaError) as caught:
            parts_of(body_of(events[:count]))
        assert caught.value.status == 'UNAVAILABLE'
        partial = caught.value.partial
        assert partial is not None
        assert whole_answer.text.startswith(partial.text)
        assert partial.tool_requests == whole_answer.tool_requests[: len(partial.tool_requests)]
        assert partial.usage is not None
        assert partial.usage.input_tokens == 145
    assert fold(parts_of(body_of(events[: last + 1]))) == whole_answer


def test_a_body_without_events_has_no_partial_answer() -> None:
    with pytest.raises(LamellaError, match='cut off') as caught:
        parts_of(b'')
    assert caught.value.status == 'UNAVAILABLE'
    assert caught.value.partial is None


def test_text_comes_out_as_it_comes_in() -> None:
    events = [*events_of(message('text'))]
    decoder, splitter = CODEC.stream_decoder(), SSEDecoder()
    seen = [[*decoder.feed(event)] for e in events for event in splitter.feed(body_of([e]))]
    assert [len(parts) for parts in seen[:4]] == [1, 0, 0, 1]
    assert seen[3] == [TextDelta(TEXT['text'][:4])]


def test_what_follows_the_end_is_ignored() -> None:
    body = body_of(events_of(message('text')))
    assert parts_of(body, body) == parts_of(body)


def test_an_event_of_a_kind_nobody_knows_is_handed_on() -> None:
    events = [*events_of(message('text'))]
    strange = {'type': 'weather_report', 'index': 3, 'sun': True}
    parts = parts_of(body_of([strange, events[0], strange, *events[1:]]))
    assert [part for part in parts if type(part) is Raw] == [Raw(strange, 3)]
    assert fold(parts) == whole(message('text'))


def test_a_block_made_of_unknown_deltas_is_kept_whole() -> None:
    start, end = [*events_of(message('text'))][:2], [*events_of(message('text'))][-2:]
    middle = [
        {'type': 'content_block_start', 'index': 0, 'content_block': {'type': 'compaction', 'content': None}},
        {'type': 'content_block_delta', 'index': 0, 'delta': {'type': 'compaction_delta', 'content': 'Summ'}},
        {'type': 'content_block_delta', 'index': 0, 'delta': {'type': 'compaction_delta', 'content': 'ary'}},
        {'type': 'content_block_stop', 'index': 0},
    ]
    response = fold(parts_of(body_of([*start, *middle, *end])))
    assert response.message.content == (DataPart({'type': 'compaction', 'content': 'Summary'}, {'anthropic': {}}),)


@pytest.mark.parametrize(
    'event',
    [
        {'type': 'content_block_delta', 'index': 7, 'delta': {'type': 'input_json_delta', 'partial_json': '{'}},
        {'type': 'content_block_start', 'index': 0},
        {'type': 'content_block_start', 'index': 0, 'content_block': {'type': 'tool_use'}},
        {'type': 'content_block_delta', 'index': 0, 'delta': {'type': 'text_delta', 'text': 5}},
        {'type': 'message_start', 'message': {}},
        {'type': 'message_delta', 'delta': [], 'usage': {}},
        {'no': 'type'},
        [],
    ],
)
def test_an_event_against_the_protocol_is_one_error_with_what_had_arrived(event: object) -> None:
    start = body_of([*events_of(message('text'))][:5])
    with pytest.raises(LamellaError, match='Anthropic protocol') as caught:
        parts_of(start, f'data: {json.dumps(event)}\n\n'.encode())
    assert caught.value.status == 'INTERNAL'
    assert caught.value.partial is not None
    assert caught.value.partial.text == TEXT['text'][:8]


def test_content_before_the_start_is_against_the_protocol() -> None:
    with pytest.raises(LamellaError, match='before message_start'):
        parts_of(body_of([*events_of(message('text'))][2:]))


@pytest.mark.parametrize(
    'body', [b'', b'<html>', b'[]', b'{"type":"completion"}', b'{"type":"message"}', b'[' * 100_000]
)
def test_a_body_that_is_no_answer_is_one_error(body: bytes) -> None:
    with pytest.raises(LamellaError, match='Anthropic protocol') as caught:
        CODEC.decode_response(body)
    assert caught.value.status == 'INTERNAL'


@pytest.mark.parametrize(
    'block', ['text', {'type': 'text'}, {'type': 'text', 'text': None}, {'type': 'tool_use', 'id': 3}, {'text': 'x'}]
)
def test_a_block_that_is_none_is_named_by_its_place(block: object) -> None:
    with pytest.raises(LamellaError, match=r'content\[1\]'):
        whole({**message('text'), 'content': [TEXT, block]})
