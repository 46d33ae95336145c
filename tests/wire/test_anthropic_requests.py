"""Requests in the Anthropic protocol: what is sent, and what cannot be said."""

import base64
import json
from typing import Any

import pytest

from lamella.types import (
    DataPart,
    GenerationConfig,
    LamellaError,
    MediaPart,
    Message,
    ModelRequest,
    OutputSpec,
    Part,
    ReasoningPart,
    TextPart,
    ToolChoice,
    ToolDefinition,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
    ToolResponsePart,
)
from lamella.wire.anthropic import AnthropicCodec

CODEC = AnthropicCodec()
SONNET = 'claude-sonnet-4-5'  # a budget for thinking, takes temperature
OPUS = 'claude-opus-4-6'  # thinks when asked, takes temperature
NEWEST = 'claude-opus-5-5'  # always thinks, takes no temperature
OLD = 'claude-3-5-haiku-20241022'
PNG = b'\x89PNG\r\n\x1a\n....'
SCHEMA = {'type': 'object', 'properties': {'city': {'type': 'string'}}, 'required': ['city']}
WEATHER = ToolDefinition('get_weather', 'The weather.', SCHEMA)


def sent(request: ModelRequest, model: str = OPUS, codec: AnthropicCodec = CODEC) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(codec.encode_request(request, model).body)
    return body


def asked(*messages: Message, **fields: Any) -> ModelRequest:
    return ModelRequest(messages=messages or (Message.user('hi'),), **fields)


def configured(**config: Any) -> ModelRequest:
    return asked(config=GenerationConfig(**config))


def blocks(*parts: Part) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = sent(asked(Message.user('first', *parts)))['messages'][0]['content']
    return content[1:]


def test_a_plain_request_is_as_small_as_it_can_be() -> None:
    assert sent(asked(Message.system('Be brief.'), Message.user('hi'))) == {
        'model': OPUS,
        'system': 'Be brief.',
        'messages': [{'role': 'user', 'content': 'hi'}],
        'max_tokens': 16_000,
    }
    assert json.loads(CODEC.encode_request(asked(), OPUS, stream=True).body)['stream'] is True


def test_all_settings_of_the_api_are_said() -> None:
    config = GenerationConfig(temperature=0.0, top_k=5, max_output_tokens=100, stop_sequences=('END', '\n\n'))
    body = sent(asked(config=config))
    assert {name: body[name] for name in ('temperature', 'top_k', 'max_tokens', 'stop_sequences')} == {
        'temperature': 0.0,
        'top_k': 5,
        'max_tokens': 100,
        'stop_sequences': ['END', '\n\n'],
    }
    assert sent(configured(top_p=0.9))['top_p'] == 0.9


def test_zero_tokens_mean_zero() -> None:
    assert sent(configured(max_output_tokens=0))['max_tokens'] == 0


@pytest.mark.parametrize(('model', 'limit'), [(OLD, 4_096), ('claude-3-7-sonnet-latest', 16_000), ('mock', 16_000)])
def test_the_required_limit_has_a_default(model: str, limit: int) -> None:
    assert sent(asked(), model)['max_tokens'] == limit


@pytest.mark.parametrize(
    ('name', 'value'), [('seed', 7), ('presence_penalty', 0.5), ('frequency_penalty', 0.0), ('logprobs', 3)]
)
def test_what_the_protocol_cannot_say_is_a_warning(name: str, value: Any) -> None:
    encoded = CODEC.encode_request(configured(**{name: value}), OPUS)
    assert name not in json.loads(encoded.body)
    assert encoded.warnings == (f'config.{name}={value!r} is not sent: the Anthropic Messages API has no such setting',)


def test_models_that_refuse_sampling_do_not_get_it() -> None:
    request = configured(temperature=0.2, top_p=0.9, top_k=3)
    for codec, model in ((CODEC, NEWEST), (CODEC, 'claude-opus-4-7'), (AnthropicCodec('2026-10-21'), OPUS)):
        encoded = codec.encode_request(request, model)
        assert not {'temperature', 'top_p', 'top_k'} & json.loads(encoded.body).keys()
        assert len(encoded.warnings) == 3


def test_what_the_caller_insists_on_is_sent() -> None:
    assert sent(asked(provider_options={'anthropic': {'temperature': 0.2}}), NEWEST)['temperature'] == 0.2


def test_temperature_and_top_p_do_not_go_together_on_newer_models() -> None:
    encoded = CODEC.encode_request(configured(temperature=0.2, top_p=0.9), SONNET)
    assert 'top_p' not in json.loads(encoded.body)
    assert encoded.warnings == (f'config.top_p=0.9 is not sent: {SONNET} takes temperature or top_p, not both',)
    assert sent(configured(temperature=0.2, top_p=0.9), OLD)['top_p'] == 0.9


# ── conversations ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_turns_alternate_and_results_of_tools_come_first() -> None:
    request = asked(
        Message.system('One.'),
        Message.user('hi'),
        Message.user('still me'),
        Message.assistant('Let me see.'),
        Message.assistant(ToolRequestPart(ToolRequest('f', {'x': 1}, 'a')), ToolRequestPart(ToolRequest('g', {}, 'b'))),
        Message.tool(ToolResponse('f', 'one', 'a')),
        Message.user('and hurry'),
        Message.tool(ToolResponse('g', 'two', 'b')),
        Message.system('Two.'),
    )
    body = sent(request)
    assert body['system'] == [{'type': 'text', 'text': 'One.'}, {'type': 'text', 'text': 'Two.'}]
    assert body['messages'] == [
        {'role': 'user', 'content': [{'type': 'text', 'text': 'hi'}, {'type': 'text', 'text': 'still me'}]},
        {
            'role': 'assistant',
            'content': [
                {'type': 'text', 'text': 'Let me see.'},
                {'type': 'tool_use', 'id': 'a', 'name': 'f', 'input': {'x': 1}},
                {'type': 'tool_use', 'id': 'b', 'name': 'g', 'input': {}},
            ],
        },
        {
            'role': 'user',
            'content': [
                {'type': 'tool_result', 'tool_use_id': 'a', 'content': 'one'},
                {'type': 'tool_result', 'tool_use_id': 'b', 'content': 'two'},
                {'type': 'text', 'text': 'and hurry'},
            ],
        },
    ]


def test_a_system_message_can_keep_its_place() -> None:
    late = Message.system('Now in French.', metadata={'anthropic': {'role': 'system'}})
    body = sent(asked(Message.user('hi'), late), NEWEST)
    assert body['messages'][1] == {'role': 'system', 'content': 'Now in French.'}
    assert 'system' not in body


def test_empty_texts_of_answers_are_not_sent_back() -> None:
    request = asked(Message.user('hi'), Message.assistant('\n\n'), Message.user('hello?'))
    assert [turn['role'] for turn in sent(request)['messages']] == ['user']


def test_cache_control_and_other_fields_of_blocks_come_from_metadata() -> None:
    mark = {'anthropic': {'cache_control': {'type': 'ephemeral', 'ttl': '1h'}}}
    request = asked(
        Message.system(TextPart('long', mark)),
        Message.user(TextPart('text', mark), MediaPart(url='https://example.org/a.png', metadata=mark)),
        Message.assistant(ToolRequestPart(ToolRequest('f', {}, 'a'), mark)),
        Message.tool(ToolResponsePart(ToolResponse('f', 'x', 'a'), mark)),
        tools=(WEATHER.replace(metadata={'anthropic': {'strict': True, 'name': 'ignored'}, 'mine': 1}),),
    )
    body = sent(request)
    marked = [body['system'][0], *[block for turn in body['messages'] for block in turn['content']]]
    assert all(block['cache_control'] == {'type': 'ephemeral', 'ttl': '1h'} for block in marked)
    assert body['tools'] == [
        {'strict': True, 'name': 'get_weather', 'description': 'The weather.', 'input_schema': SCHEMA}
    ]


def test_metadata_never_changes_what_a_part_says() -> None:
    liar = TextPart('yes', {'anthropic': {'text': 'no', 'type': 'image'}})
    assert blocks(liar) == [{'type': 'text', 'text': 'yes'}]


def test_thinking_goes_back_exactly_as_it_came() -> None:
    parts = (
        ReasoningPart('hm', 'sig=='),
        ReasoningPart('', 'hidden=='),
        ReasoningPart('', None, True, {'anthropic': {'data': 'Emw='}}),
    )
    content = sent(asked(Message.user('hi'), Message.assistant(*parts)))['messages'][1]['content']
    assert content == [
        {'type': 'thinking', 'thinking': 'hm', 'signature': 'sig=='},
        {'type': 'thinking', 'thinking': '', 'signature': 'hidden=='},
        {'type': 'redacted_thinking', 'data': 'Emw='},
    ]


@pytest.mark.parametrize(
    'part',
    [
        ReasoningPart('somebody thought'),
        ReasoningPart('somebody thought', 'theirs', metadata={'gemini': {'x': 1}}),
        ReasoningPart('', None, True),
        DataPart({'type': 'reasoning', 'id': 'rs_1'}, {'openai': {}}),
        DataPart('free text'),
    ],
)
def test_what_belongs_to_another_vendor_is_left_out_with_a_warning(part: Part) -> None:
    encoded = CODEC.encode_request(asked(Message.user('hi'), Message.assistant('yes', part)), OPUS)
    assert json.loads(encoded.body)['messages'][1]['content'] == 'yes'
    assert encoded.warnings[0].startswith('messages[1].content[1]: ')


def test_blocks_kept_from_answers_go_back_whole() -> None:
    block = {'type': 'server_tool_use', 'id': 'srvtoolu_1', 'name': 'web_search', 'input': {'query': 'x'}}
    assert blocks(DataPart(block, {'anthropic': {}}), DataPart(block)) == [block, block]


# ── media ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_images_and_documents() -> None:
    encoded = base64.b64encode(PNG).decode()
    image = {'type': 'image', 'source': {'type': 'base64', 'media_type': 'image/png', 'data': encoded}}
    assert blocks(
        MediaPart(data=PNG, content_type='image/png'),
        MediaPart(data=PNG),
        MediaPart(url=f'data:image/png;base64,{encoded}'),
        MediaPart(url='https://example.org/cat'),
        MediaPart(url='https://example.org/report.PDF?x=1'),
        MediaPart(data=b'%PDF-1.7', name='Report', metadata={'anthropic': {'citations': {'enabled': True}}}),
        MediaPart(data='Grüße'.encode(), content_type='text/markdown; charset=utf-8'),
        MediaPart(url='data:,a%20b'),
    ) == [
        image,
        image,
        image,
        {'type': 'image', 'source': {'type': 'url', 'url': 'https://example.org/cat'}},
        {'type': 'document', 'source': {'type': 'url', 'url': 'https://example.org/report.PDF?x=1'}},
        {
            'type': 'document',
            'source': {'type': 'base64', 'media_type': 'application/pdf', 'data': 'JVBERi0xLjc='},
            'title': 'Report',
            'citations': {'enabled': True},
        },
        {'type': 'document', 'source': {'type': 'text', 'media_type': 'text/plain', 'data': 'Grüße'}},
        {'type': 'document', 'source': {'type': 'text', 'media_type': 'text/plain', 'data': 'a b'}},
    ]


@pytest.mark.parametrize(
    ('part', 'kind'),
    [
        (MediaPart(data=b'x', content_type='image/jpg'), 'image/jpeg'),
        (MediaPart(data=b'x', content_type='IMAGE/PNG; q=1'), 'image/png'),
        (MediaPart(data=b'RIFF....WEBPVP8'), 'image/webp'),
        (MediaPart(data=b'\xff\xd8\xff\xe0'), 'image/jpeg'),
    ],
)
def test_content_types_are_spelt_as_the_api_wants_them(part: MediaPart, kind: str) -> None:
    assert blocks(part)[0]['source']['media_type'] == kind


def test_a_broken_data_url_is_an_error() -> None:
    with pytest.raises(LamellaError, match='base64') as caught:
        blocks(MediaPart(url='data:image/png;base64,A'))
    assert caught.value.status == 'INVALID_ARGUMENT'


@pytest.mark.parametrize('part', [MediaPart(data=b'RIFF', content_type='audio/wav'), MediaPart(data=b'who knows')])
def test_media_that_the_api_does_not_take_are_an_error_that_names_them(part: MediaPart) -> None:
    with pytest.raises(LamellaError, match=r'messages\[0\]\.content\[1\]\.content_type') as caught:
        blocks(part)
    assert caught.value.status == 'INVALID_ARGUMENT'


# ── tools ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('output', 'content'),
    [
        ('sunny', 'sunny'),
        ({'t': 20}, '{"t":20}'),
        ([1, 2], '[1,2]'),
        (None, 'null'),
        ([], '[]'),
        ({'type': 'text', 'text': 'plain data'}, '{"type":"text","text":"plain data"}'),
        (
            MediaPart(data=b'GIF89a'),
            [{'type': 'image', 'source': {'type': 'base64', 'media_type': 'image/gif', 'data': 'R0lGODlh'}}],
        ),
        (
            ['x', MediaPart(url='https://example.org/a.png')],
            '["x",{"type":"media","url":"https://example.org/a.png"}]',
        ),
        (
            [TextPart('a chart:'), {'type': 'media', 'url': 'https://example.org/a.png'}],
            [
                {'type': 'text', 'text': 'a chart:'},
                {'type': 'image', 'source': {'type': 'url', 'url': 'https://example.org/a.png'}},
            ],
        ),
    ],
)
def test_what_a_tool_answered(output: Any, content: Any) -> None:
    request = asked(Message.tool(ToolResponse('f', output, 'a')))
    assert sent(request)['messages'][0]['content'] == [{'type': 'tool_result', 'tool_use_id': 'a', 'content': content}]


def test_a_failed_tool_is_an_error() -> None:
    request = asked(Message.tool(ToolResponse('f', 'no such city', 'a', is_error=True)))
    assert sent(request)['messages'][0]['content'][0]['is_error'] is True


def test_ids_of_other_vendors_are_made_to_fit_and_missing_ones_pair() -> None:
    request = asked(
        Message.assistant(
            ToolRequestPart(ToolRequest('f', {}, 'call:1/é')),
            ToolRequestPart(ToolRequest('f', 'not json')),
            ToolRequestPart(ToolRequest('f', [1])),
        ),
        Message.tool(ToolResponse('f', 'a', 'call:1/é'), ToolResponse('f', 'b'), ToolResponse('f', 'c')),
    )
    asked_for, answered = [turn['content'] for turn in sent(request)['messages']]
    assert [block['id'] for block in asked_for] == ['call_1__', 'f_0', 'f_1']
    assert [block['tool_use_id'] for block in answered] == ['call_1__', 'f_0', 'f_1']
    assert [block['input'] for block in asked_for] == [{}, {'INVALID_JSON': 'not json'}, {'input': [1]}]


@pytest.mark.parametrize(
    ('choice', 'parallel', 'expected'),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {'type': 'auto', 'disable_parallel_tool_use': True}),
        (ToolChoice('auto'), None, {'type': 'auto'}),
        (ToolChoice('required'), None, {'type': 'any'}),
        (ToolChoice('required'), False, {'type': 'any', 'disable_parallel_tool_use': True}),
        (ToolChoice('tool', 'get_weather'), None, {'type': 'tool', 'name': 'get_weather'}),
        (ToolChoice('none'), False, {'type': 'none'}),
    ],
)
def test_tool_choice(choice: ToolChoice | None, parallel: bool | None, expected: object) -> None:
    config = GenerationConfig(parallel_tool_calls=parallel)
    assert sent(asked(tools=(WEATHER,), tool_choice=choice, config=config)).get('tool_choice') == expected


def test_a_choice_among_no_tools_is_not_sent() -> None:
    assert 'tool_choice' not in sent(asked(tool_choice=ToolChoice('none')))


def test_a_tool_without_a_schema_takes_an_object() -> None:
    assert sent(asked(tools=(ToolDefinition('f'),)))['tools'] == [{'name': 'f', 'input_schema': {'type': 'object'}}]


def test_tools_of_the_vendor_are_added() -> None:
    search = {'type': 'web_search_20260318', 'name': 'web_search', 'max_uses': 2}
    options = {'anthropic': {'tools': [search]}}
    assert sent(asked(tools=(WEATHER,), provider_options=options))['tools'][1] == search
    assert sent(asked(provider_options=options, tool_choice=ToolChoice('auto')))['tool_choice'] == {'type': 'auto'}


# ── thinking ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('model', 'effort', 'thinking', 'output_config'),
    [
        (OPUS, 'high', {'type': 'adaptive'}, {'effort': 'high'}),
        (OPUS, 'minimal', {'type': 'adaptive'}, {'effort': 'low'}),
        (OPUS, 'none', None, None),
        ('claude-sonnet-5', 'max', {'type': 'adaptive'}, {'effort': 'max'}),
        ('claude-sonnet-5', 'none', {'type': 'disabled'}, None),
        (NEWEST, 'none', None, {'effort': 'low'}),
        ('claude-fable-5-1', 'none', None, {'effort': 'low'}),
        ('claude-mythos-preview', 'high', {'type': 'adaptive'}, {'effort': 'high'}),
        (SONNET, 'low', {'type': 'enabled', 'budget_tokens': 2_048}, None),
        (SONNET, 'high', {'type': 'enabled', 'budget_tokens': 16_384}, None),
        (SONNET, 'none', None, None),
        ('claude-opus-4-5-20251101', 'medium', {'type': 'enabled', 'budget_tokens': 8_192}, {'effort': 'medium'}),
        ('claude-opus-4@20250514', 'medium', {'type': 'enabled', 'budget_tokens': 8_192}, None),
        ('claude-sonnet-4-20250514', 'medium', {'type': 'enabled', 'budget_tokens': 8_192}, None),
        ('anthropic.claude-opus-4-7-v1:0', 'low', {'type': 'adaptive'}, {'effort': 'low'}),
        (OLD, 'high', None, None),
        ('some-other-model', 'high', {'type': 'adaptive'}, {'effort': 'high'}),
    ],
)
def test_reasoning_effort_in_the_words_of_each_model(
    model: str, effort: str, thinking: object, output_config: object
) -> None:
    body = sent(configured(reasoning_effort=effort), model)
    assert body.get('thinking') == thinking
    assert body.get('output_config') == output_config


def test_a_model_that_cannot_think_or_cannot_stop_is_a_warning() -> None:
    for model, effort in ((OLD, 'high'), (NEWEST, 'none')):
        (warning,) = CODEC.encode_request(configured(reasoning_effort=effort), model).warnings
        assert model in warning


def test_thinking_leaves_room_for_the_answer() -> None:
    assert sent(configured(reasoning_effort='high'), SONNET)['max_tokens'] == 24_384
    body = sent(configured(reasoning_effort='high', max_output_tokens=4_000), SONNET)
    assert body['thinking']['budget_tokens'] == 2_000
    assert body['max_tokens'] == 4_000


@pytest.mark.parametrize(
    ('request_', 'reason'),
    [
        (configured(reasoning_effort='low', max_output_tokens=1_024), 'max_output_tokens=1024'),
        (
            asked(
                tools=(WEATHER,), tool_choice=ToolChoice('required'), config=GenerationConfig(reasoning_effort='low')
            ),
            'tool_choice',
        ),
        (
            asked(
                Message.user('hi'),
                Message.assistant(ToolRequestPart(ToolRequest('f', {}, 'a'))),
                Message.tool(ToolResponse('f', 'x', 'a')),
                config=GenerationConfig(reasoning_effort='low'),
            ),
            'began without thinking',
        ),
    ],
)
def test_where_the_api_refuses_a_budget_none_is_sent(request_: ModelRequest, reason: str) -> None:
    encoded = CODEC.encode_request(request_, SONNET)
    assert 'thinking' not in json.loads(encoded.body)
    assert reason in encoded.warnings[0]


def test_a_turn_that_began_with_thinking_goes_on_thinking() -> None:
    request = asked(
        Message.user('hi'),
        Message.assistant(ReasoningPart('hm', 's'), ToolRequestPart(ToolRequest('f', {}, 'a'))),
        Message.tool(ToolResponse('f', 'x', 'a')),
        Message.assistant(ToolRequestPart(ToolRequest('f', {}, 'b'))),
        Message.tool(ToolResponse('f', 'x', 'b')),
        config=GenerationConfig(reasoning_effort='low'),
    )
    assert sent(request, SONNET)['thinking']['type'] == 'enabled'


def test_only_the_turn_that_goes_on_counts() -> None:
    request = asked(
        Message.user('hi'),
        Message.assistant('An answer without thinking.'),
        Message.user('and now?'),
        Message.assistant(ReasoningPart('hm', 's'), ToolRequestPart(ToolRequest('f', {}, 'a'))),
        Message.tool(ToolResponse('f', 'x', 'a')),
        config=GenerationConfig(reasoning_effort='low'),
    )
    assert sent(request, SONNET)['thinking']['type'] == 'enabled'


def test_thinking_of_the_callers_own_wins_and_sets_the_limit() -> None:
    thinking = {'type': 'enabled', 'budget_tokens': 30_000}
    options = {'anthropic': {'thinking': thinking}}
    encoded = CODEC.encode_request(
        asked(provider_options=options, config=GenerationConfig(temperature=0.5, reasoning_effort='low')), SONNET
    )
    body = json.loads(encoded.body)
    assert body['thinking'] == thinking
    assert body['max_tokens'] == 38_000
    assert 'temperature' not in body


# ── structured output ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_schema_is_closed_and_its_bounds_are_told() -> None:
    schema = {
        'type': 'object',
        'title': 'Person',
        'properties': {
            'age': {'type': 'integer', 'minimum': 0, 'maximum': 150, 'description': 'In years'},
            'tags': {'type': 'array', 'items': {'type': 'string', 'pattern': '^a'}, 'minItems': 1, 'maxItems': 3},
            'born': {'type': 'string', 'format': 'date'},
            'home': {'$ref': '#/$defs/Address', 'description': 'lost'},
            'kind': {'oneOf': [{'type': 'null'}, {'const': 'x'}]},
        },
        'required': ['age'],
        '$defs': {'Address': {'type': 'object', 'properties': {'zip': {'type': 'string', 'minLength': 4}}}},
    }
    body = sent(asked(output=OutputSpec('json', schema)))
    assert body['output_config']['format'] == {
        'type': 'json_schema',
        'schema': {
            'type': 'object',
            'title': 'Person',
            'properties': {
                'age': {'type': 'integer', 'description': 'In years (minimum: 0, maximum: 150)'},
                'tags': {
                    'type': 'array',
                    'items': {'type': 'string', 'description': '(pattern: ^a)'},
                    'minItems': 1,
                    'description': '(maxItems: 3)',
                },
                'born': {'type': 'string', 'format': 'date'},
                'home': {'$ref': '#/$defs/Address'},
                'kind': {'anyOf': [{'type': 'null'}, {'const': 'x'}]},
            },
            'required': ['age'],
            '$defs': {
                'Address': {
                    'type': 'object',
                    'properties': {'zip': {'type': 'string', 'description': '(minLength: 4)'}},
                    'additionalProperties': False,
                }
            },
            'additionalProperties': False,
        },
    }


def test_a_schema_is_sent_untouched_when_strictness_is_refused() -> None:
    body = sent(asked(output=OutputSpec('json', SCHEMA, strict=False)))
    assert body['output_config']['format']['schema'] == SCHEMA


def test_effort_and_schema_share_their_place() -> None:
    request = asked(
        output=OutputSpec('json', SCHEMA),
        config=GenerationConfig(reasoning_effort='low'),
        provider_options={'anthropic': {'output_config': {'task_budget': 5}}},
    )
    assert sent(request)['output_config'].keys() == {'effort', 'format', 'task_budget'}


@pytest.mark.parametrize(
    ('output', 'model', 'warning'),
    [
        (OutputSpec('json'), OPUS, 'schema only'),
        (OutputSpec('json', SCHEMA), OLD, 'no structured output'),
        (
            OutputSpec('json', {'type': 'object', 'additionalProperties': {'type': 'integer'}}),
            OPUS,
            'additionalProperties',
        ),
    ],
)
def test_output_that_cannot_be_held_is_a_warning(output: OutputSpec, model: str, warning: str) -> None:
    assert warning in CODEC.encode_request(asked(output=output), model).warnings[0]


# ── options ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_options_are_merged_and_none_takes_a_key_out() -> None:
    options = {
        'service_tier': 'standard_only',
        'metadata': {'user_id': 'u'},
        'system': None,
        'betas': ['context-1m-2025-08-07'],
        'max_tokens': 5,
    }
    request = asked(Message.system('x'), Message.user('y'), provider_options={'anthropic': options, 'openai': {'n': 2}})
    assert sent(request) == {
        'model': OPUS,
        'messages': [{'role': 'user', 'content': 'y'}],
        'max_tokens': 5,
        'service_tier': 'standard_only',
        'metadata': {'user_id': 'u'},
    }


@pytest.mark.parametrize('output', [object(), {'x': {1, 2, object()}}, '\ud800'])
def test_what_json_cannot_hold_is_an_error(output: Any) -> None:
    with pytest.raises(LamellaError) as caught:
        sent(asked(Message.tool(ToolResponse('f', output, 'a'))))
    assert caught.value.status == 'INVALID_ARGUMENT'


def test_a_request_is_never_changed_by_being_sent() -> None:
    options = {'anthropic': {'tools': [{'type': 'x', 'name': 'y'}], 'output_config': {'effort': 'low'}}}
    request = asked(tools=(WEATHER,), provider_options=options, output=OutputSpec('json', SCHEMA))
    first = CODEC.encode_request(request, OPUS)
    assert CODEC.encode_request(request, OPUS) == first
    assert options == {'anthropic': {'tools': [{'type': 'x', 'name': 'y'}], 'output_config': {'effort': 'low'}}}
