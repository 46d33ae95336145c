"""Requests of Chat Completions, said and understood."""

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
    ReasoningPart,
    TextPart,
    ToolChoice,
    ToolDefinition,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
    ToolResponsePart,
)
from lamella.wire.openai_chat import OpenAIChatCodec

CODEC = OpenAIChatCodec()
PNG = b'\x89PNG\r\n\x1a\n...'
WEATHER = ToolDefinition(
    'weather',
    'The weather of a city',
    {'type': 'object', 'properties': {'city': {'type': 'string'}}, 'required': ['city']},
)


def sent(request: ModelRequest, codec: OpenAIChatCodec = CODEC, **options: Any) -> Any:
    return json.loads(codec.encode_request(request, 'gpt-x', **options).body)


def sent_messages(*messages: Message, codec: OpenAIChatCodec = CODEC) -> list[Any]:
    found: list[Any] = sent(ModelRequest(messages), codec)['messages']
    return found


def received(**fields: Any) -> ModelRequest:
    body = {'model': 'gpt-x', 'messages': [{'role': 'user', 'content': 'hi'}], **fields}
    return CODEC.decode_request(json.dumps(body).encode()).request


def test_the_smallest_request() -> None:
    assert sent(ModelRequest((Message.user('hi'),))) == {
        'model': 'gpt-x',
        'messages': [{'role': 'user', 'content': 'hi'}],
    }


def test_settings_have_their_names() -> None:
    config = GenerationConfig(
        temperature=0.0,
        top_p=0.5,
        max_output_tokens=10,
        stop_sequences=('a', 'b'),
        seed=7,
        presence_penalty=1,
        frequency_penalty=2,
        reasoning_effort='low',
        logprobs=3,
    )
    body = sent(ModelRequest((Message.user('hi'),), config))
    del body['model'], body['messages']
    assert body == {
        'temperature': 0.0,
        'top_p': 0.5,
        'max_completion_tokens': 10,
        'stop': ['a', 'b'],
        'seed': 7,
        'presence_penalty': 1,
        'frequency_penalty': 2,
        'reasoning_effort': 'low',
        'logprobs': True,
        'top_logprobs': 3,
    }


def test_what_chat_completions_has_no_setting_for_is_a_warning() -> None:
    encoded = CODEC.encode_request(ModelRequest((Message.user('hi'),), GenerationConfig(top_k=5)), 'gpt-x')
    assert b'top_k' not in encoded.body
    assert len(encoded.warnings) == 1
    assert 'top_k=5 is no setting of Chat Completions' in encoded.warnings[0]


def test_a_stream_asks_for_its_usage_unless_told_not_to() -> None:
    request = ModelRequest((Message.user('hi'),))
    assert sent(request, stream=True)['stream_options'] == {'include_usage': True}
    assert 'stream_options' not in sent(request, OpenAIChatCodec(include_usage=False), stream=True)


def test_compatible_servers_have_their_options() -> None:
    codec = OpenAIChatCodec('groq', max_tokens_field='max_tokens', system_role='developer')
    request = ModelRequest(
        (Message.system('s'), Message.user('hi')),
        GenerationConfig(max_output_tokens=1),
        provider_options={'groq': {'x': 1}, 'openai': {'y': 1}},
    )
    body = sent(request, codec)
    assert (body['max_tokens'], body['x'], body['messages'][0]['role']) == (1, 1, 'developer')
    assert 'y' not in body


def test_the_providers_own_options_add_replace_and_remove() -> None:
    own = {'service_tier': 'flex', 'temperature': 1, 'seed': None, 'tools': [{'type': 'web_search'}], 'x': {'y': None}}
    request = ModelRequest(
        (Message.user('hi'),), GenerationConfig(temperature=0, seed=1), (WEATHER,), provider_options={'openai': own}
    )
    body = sent(request)
    assert (body['service_tier'], body['temperature'], body['x']) == ('flex', 1, {'y': None})
    assert 'seed' not in body
    assert [tool['type'] for tool in body['tools']] == ['function', 'web_search']


def test_the_callers_stream_options_are_merged_with_ours() -> None:
    request = ModelRequest(
        (Message.user('hi'),), provider_options={'openai': {'stream_options': {'include_obfuscation': False}}}
    )
    assert sent(request, stream=True)['stream_options'] == {'include_usage': True, 'include_obfuscation': False}
    assert 'stream_options' not in sent(request)


def test_tools_and_the_choice_among_them() -> None:
    request = ModelRequest((Message.user('hi'),), tools=(WEATHER, ToolDefinition('now')))
    assert sent(request)['tools'] == [
        {
            'type': 'function',
            'function': {
                'name': 'weather',
                'description': 'The weather of a city',
                'parameters': WEATHER.input_schema,
            },
        },
        {'type': 'function', 'function': {'name': 'now'}},
    ]
    named = {'type': 'function', 'function': {'name': 'now'}}
    for choice, wire in ((ToolChoice('required'), 'required'), (ToolChoice('tool', 'now'), named)):
        assert sent(request.replace(tool_choice=choice))['tool_choice'] == wire


def test_choices_without_tools_are_left_out_because_the_api_refuses_them() -> None:
    request = ModelRequest(
        (Message.user('hi'),), GenerationConfig(parallel_tool_calls=False), tool_choice=ToolChoice('required')
    )
    encoded = CODEC.encode_request(request, 'gpt-x')
    assert set(json.loads(encoded.body)) == {'model', 'messages'}
    assert encoded.warnings == ("tool_choice='required' without tools: left out",)


def test_a_whole_tool_round() -> None:
    messages = (
        Message.user('weather in Rome and Paris?'),
        Message.assistant(
            TextPart('Looking.'),
            ToolRequestPart(ToolRequest('weather', {'city': 'Rome'}, 'c1')),
            ToolRequestPart(ToolRequest('weather', None, 'c2')),
        ),
        Message.tool(
            ToolResponse('weather', {'c': 20}, 'c1'),
            ToolResponse('weather', 'no such city', 'c2', is_error=True),
        ),
    )
    assert sent_messages(*messages)[1:] == [
        {
            'role': 'assistant',
            'content': 'Looking.',
            'tool_calls': [
                {'id': 'c1', 'type': 'function', 'function': {'name': 'weather', 'arguments': '{"city":"Rome"}'}},
                {'id': 'c2', 'type': 'function', 'function': {'name': 'weather', 'arguments': '{}'}},
            ],
        },
        {'role': 'tool', 'tool_call_id': 'c1', 'content': '{"c":20}'},
        {'role': 'tool', 'tool_call_id': 'c2', 'content': '{"error":"no such city"}'},
    ]


def test_calls_without_ids_are_paired_with_their_answers_by_name() -> None:
    messages = sent_messages(
        Message.assistant(ToolRequestPart(ToolRequest('a', {})), ToolRequestPart(ToolRequest('b', {}))),
        Message.tool(ToolResponse('b', 'B'), ToolResponse('a', 'A')),
    )
    ids = {call['function']['name']: call['id'] for call in messages[0]['tool_calls']}
    assert messages[0]['content'] is None
    assert [(m['tool_call_id'], m['content']) for m in messages[1:]] == [(ids['b'], 'B'), (ids['a'], 'A')]


def test_an_answer_that_nobody_waits_for_is_an_error() -> None:
    with pytest.raises(LamellaError, match=r"messages\[0\]\.content\[0\]: the answer of tool 'a' has no ref"):
        sent_messages(Message.tool(ToolResponse('a', 'A')))


def test_files_that_tools_answered_with_follow_all_answers_and_a_warning_says_so() -> None:
    image, sound = (
        MediaPart(data=PNG, content_type='image/png'),
        {'type': 'media', 'data': 'UklGRg==', 'content_type': 'audio/wav'},
    )
    messages = (
        Message.assistant(
            ToolRequestPart(ToolRequest('look', {}, 'c1')), ToolRequestPart(ToolRequest('hear', {}, 'c2'))
        ),
        Message.tool(ToolResponse('look', ['A bee.', image], 'c1')),
        Message.tool(ToolResponse('hear', sound, 'c2', is_error=True)),
        Message.user('and now?'),
    )
    request = ModelRequest(messages)
    encoded = OpenAIChatCodec().encode_request(request, 'gpt-x')
    _, look, hear, files, user = json.loads(encoded.body)['messages']
    assert (look['content'], user) == ('A bee.', {'role': 'user', 'content': 'and now?'})
    assert hear['content'] == '{"error":"The files that this tool returned follow in the next message."}'
    assert [block['type'] for block in files['content']] == ['text', 'image_url', 'text', 'input_audio']
    assert [text for text in encoded.warnings if 'user message' in text] == list(encoded.warnings)
    assert [text.partition(':')[0] for text in encoded.warnings] == ['messages[1].content[0]', 'messages[2].content[0]']


def test_a_file_of_the_last_answer_follows_too() -> None:
    image = MediaPart(data=PNG, content_type='image/png')
    answer, files = sent_messages(Message('tool', (ToolResponsePart(ToolResponse('a', image, 'c1')),)))
    assert (answer['role'], files['role']) == ('tool', 'user')
    assert files['content'][1]['image_url']['url'].startswith('data:image/png')


def test_media_beside_a_tools_answer_follows_in_a_user_message() -> None:
    image = MediaPart(data=PNG, content_type='image/png')
    answers, user = sent_messages(Message('tool', (ToolResponsePart(ToolResponse('a', 'A', 'c1')), image)))
    assert (answers['role'], user['role']) == ('tool', 'user')
    assert user['content'][0]['type'] == 'image_url'


def test_media_goes_by_url_or_as_data() -> None:
    parts = (
        TextPart('look'),
        MediaPart(url='https://h/a.png'),
        MediaPart(url='https://h/picture'),
        MediaPart(data=PNG),
        MediaPart(data=b'RIFF....WAVE'),
        MediaPart(data=b'x', content_type='audio/mpeg'),
        MediaPart(data=b'%PDF-1.7', name='a.pdf'),
        MediaPart(url='data:application/pdf;base64,JVBERg=='),
        MediaPart(url='https://h/a.png', metadata={'openai': {'image_url': {'detail': 'low'}}}),
    )
    [message] = sent_messages(Message('user', parts))
    assert message['content'] == [
        {'type': 'text', 'text': 'look'},
        {'type': 'image_url', 'image_url': {'url': 'https://h/a.png'}},
        {'type': 'image_url', 'image_url': {'url': 'https://h/picture'}},
        {'type': 'image_url', 'image_url': {'url': 'data:image/png;base64,' + base64.b64encode(PNG).decode()}},
        {'type': 'input_audio', 'input_audio': {'data': 'UklGRi4uLi5XQVZF', 'format': 'wav'}},
        {'type': 'input_audio', 'input_audio': {'data': 'eA==', 'format': 'mp3'}},
        {'type': 'file', 'file': {'filename': 'a.pdf', 'file_data': 'data:application/pdf;base64,JVBERi0xLjc='}},
        {'type': 'file', 'file': {'filename': 'file', 'file_data': 'data:application/pdf;base64,JVBERg=='}},
        {'type': 'image_url', 'image_url': {'url': 'https://h/a.png', 'detail': 'low'}},
    ]


@pytest.mark.parametrize(
    ('part', 'problem'),
    [
        (MediaPart(url='https://h/a.pdf'), r'messages\[1\].content\[0\]: .* application/pdf as data only'),
        (MediaPart(url='https://h/a.mp3'), 'audio/mpeg as data only, not by url'),
        (MediaPart(data=b'??'), r"nothing tells what the data is: set content_type='image/png'"),
        (ToolRequestPart(ToolRequest('a')), 'tool requests belong into assistant messages'),
    ],
)
def test_content_that_cannot_be_said_is_an_error_that_names_the_place(part: Any, problem: str) -> None:
    with pytest.raises(LamellaError, match=problem) as caught:
        sent_messages(Message.user('hi'), Message('user', (part,)))
    assert caught.value.status == 'INVALID_ARGUMENT'


def test_blocks_go_back_to_the_provider_that_made_them_and_to_no_other() -> None:
    ours = DataPart({'type': 'video_url', 'video_url': {'url': 'x'}}, {'openai': {}})
    callers = DataPart({'type': 'file', 'file': {'file_id': 'file-1'}})
    theirs = DataPart({'type': 'redacted_thinking', 'data': 'x'}, {'anthropic': {}})
    encoded = CODEC.encode_request(ModelRequest((Message('user', (ours, callers, theirs)),)), 'gpt-x')
    assert json.loads(encoded.body)['messages'][0]['content'] == [ours.data, callers.data]
    assert encoded.warnings == ('messages[0].content[2]: a DataPart that is no content block of openai: left out',)


def test_reasoning_goes_back_only_where_the_server_wants_it() -> None:
    message = Message.assistant(ReasoningPart('hm'), TextPart('yes'))
    assert sent_messages(message) == [{'role': 'assistant', 'content': 'yes'}]
    codec = OpenAIChatCodec('deepseek', reasoning_field='reasoning_content')
    assert sent_messages(message, codec=codec)[0]['reasoning_content'] == 'hm'


def test_a_refusal_goes_back_as_a_refusal() -> None:
    message = Message.assistant(DataPart({'type': 'refusal', 'refusal': 'No.'}, {'openai': {}}))
    assert sent_messages(message) == [{'role': 'assistant', 'content': None, 'refusal': 'No.'}]


def test_sound_that_the_model_made_goes_back_by_its_id() -> None:
    sound = MediaPart(data=b'..', content_type='audio/wav', metadata={'openai': {'audio': {'id': 'audio_1'}}})
    [message] = sent_messages(Message.assistant(TextPart('hello'), sound))
    assert message == {'role': 'assistant', 'content': None, 'audio': {'id': 'audio_1'}}


def test_other_media_of_an_assistant_is_left_out_with_a_warning() -> None:
    image = MediaPart(data=PNG, content_type='image/png')
    encoded = CODEC.encode_request(ModelRequest((Message.assistant('look', image),)), 'gpt-x')
    assert json.loads(encoded.body)['messages'] == [{'role': 'assistant', 'content': 'look'}]
    assert 'no media in an assistant message' in encoded.warnings[0]


# Structured output

PERSON = {'type': 'object', 'properties': {'name': {'type': 'string'}}, 'required': ['name']}


def response_format(**fields: Any) -> Any:
    request = ModelRequest((Message.user('hi'),), output=OutputSpec('json', **fields))
    return sent(request)['response_format']


def test_a_schema_that_strict_mode_takes_is_closed_and_sent_as_strict() -> None:
    assert response_format(schema=PERSON, name='a person!') == {
        'type': 'json_schema',
        'json_schema': {'name': 'a_person_', 'schema': {**PERSON, 'additionalProperties': False}, 'strict': True},
    }


OPTIONAL = {**PERSON, 'required': []}


@pytest.mark.parametrize(
    'schema',
    [
        OPTIONAL,
        {'type': 'object'},
        {'type': 'object', 'additionalProperties': {'type': 'string'}},
        {'type': 'array', 'items': PERSON},
        {**PERSON, 'properties': {'name': {'type': 'string', 'minLength': 1}}},
        {**PERSON, 'properties': {'name': {'type': 'string', 'default': 'x'}}},
        {**PERSON, 'properties': {'name': {}}},
        {**PERSON, 'properties': {'name': True}},
        {**PERSON, 'properties': {'name': {'oneOf': [PERSON]}}},
        {**PERSON, 'properties': {'name': {'type': 'string', 'format': 'uri'}}},
        {**PERSON, 'properties': {'name': {'type': 'object'}}},
        {**PERSON, 'properties': {'name': {'$ref': '#/$defs/X', 'description': 'd'}}, '$defs': {'X': PERSON}},
    ],
)
def test_a_schema_that_strict_mode_refuses_is_sent_as_it_is(schema: Any) -> None:
    assert response_format(schema=schema) == {
        'type': 'json_schema',
        'json_schema': {'name': 'output', 'schema': schema},
    }


def test_nested_objects_are_closed_too() -> None:
    schema = {
        'type': 'object',
        'properties': {
            'a': {'anyOf': [{'$ref': '#/$defs/P'}, {'type': 'null'}]},
            'b': {'type': 'array', 'items': {'enum': [1]}},
        },
        'required': ['a', 'b'],
        '$defs': {'P': PERSON},
    }
    found = response_format(schema=schema)['json_schema']
    assert found['strict'] is True
    assert found['schema']['$defs']['P']['additionalProperties'] is False


def test_strictness_may_be_asked_for_and_declined() -> None:
    asked = response_format(schema=OPTIONAL, strict=True)['json_schema']
    declined = response_format(schema=PERSON, strict=False)['json_schema']
    assert (asked['strict'], asked['schema']) == (True, OPTIONAL)
    assert (declined['strict'], declined['schema']) == (False, PERSON)


def test_json_without_a_schema_is_json_mode_which_wants_the_word_in_a_message() -> None:
    encoded = CODEC.encode_request(ModelRequest((Message.user('colours?'),), output=OutputSpec('json')), 'gpt-x')
    body = json.loads(encoded.body)
    assert body['response_format'] == {'type': 'json_object'}
    assert body['messages'][0] == {'role': 'system', 'content': 'Answer in JSON.'}
    assert len(encoded.warnings) == 1
    asked = CODEC.encode_request(ModelRequest((Message.user('colours as json?'),), output=OutputSpec('json')), 'gpt-x')
    assert (len(json.loads(asked.body)['messages']), asked.warnings) == (1, ())


# What cannot be sent


def test_a_lone_surrogate_names_its_message() -> None:
    messages = (Message.user('fine'), Message.assistant('fine'), Message.user('torn \ud83d'))
    with pytest.raises(LamellaError, match=r"messages\[2\]: the text has the lone surrogate '\\ud83d' at") as caught:
        CODEC.encode_request(ModelRequest(messages), 'gpt-x')
    assert caught.value.status == 'INVALID_ARGUMENT'


def test_a_lone_surrogate_in_a_tools_answer_names_its_message() -> None:
    with pytest.raises(LamellaError, match=r'messages\[0\]\.content\[0\]: .* lone surrogate'):
        sent_messages(Message.tool(ToolResponse('a', {'x': '\ud800'}, 'c1')))


@pytest.mark.parametrize(
    'changes',
    [
        {'tools': (ToolDefinition('a', input_schema={'x': '\ud800'}),)},
        {'tools': (ToolDefinition('a', input_schema={'x': object()}),)},
        {'provider_options': {'openai': {'tools': [{'x': object()}]}}},
    ],
)
def test_what_is_no_json_names_its_place(changes: Any) -> None:
    with pytest.raises(LamellaError, match=r'^INVALID_ARGUMENT: tools: '):
        CODEC.encode_request(ModelRequest((Message.user('hi'),)).replace(**changes), 'gpt-x')


# What a server receives


def test_a_received_request_has_its_parts() -> None:
    request = received(
        temperature=1,
        max_tokens=5,
        stop='x',
        tools=[
            {'type': 'function', 'function': {'name': 'a', 'description': 'd', 'parameters': PERSON, 'strict': True}}
        ],
        tool_choice={'type': 'function', 'function': {'name': 'a'}},
        response_format={'type': 'json_schema', 'json_schema': {'name': 'n', 'schema': PERSON, 'strict': True}},
        logprobs=True,
        top_logprobs=2,
    )
    assert request == ModelRequest(
        (Message.user('hi'),),
        GenerationConfig(temperature=1, max_output_tokens=5, stop_sequences=('x',), logprobs=2),
        (ToolDefinition('a', 'd', PERSON, metadata={'openai': {'function': {'strict': True}}}),),
        ToolChoice('tool', 'a'),
        OutputSpec('json', PERSON, 'n', True),
    )


def test_unknown_fields_of_a_request_survive_on_every_level() -> None:
    body = {
        'model': 'gpt-x',
        'messages': [
            {'role': 'developer', 'content': 'Be brief.', 'name': 'boss'},
            {
                'role': 'user',
                'name': 'ann',
                'content': [
                    {'type': 'text', 'text': 'hi', 'prompt_cache_breakpoint': {'mode': 'explicit'}},
                    {'type': 'image_url', 'image_url': {'url': 'https://h/a.png', 'detail': 'low'}, 'x': 1},
                    {'type': 'file', 'file': {'file_id': 'file-1'}},
                    {'type': 'video_url', 'video_url': {'url': 'https://h/v.mp4'}},
                ],
            },
            {
                'role': 'assistant',
                'content': None,
                'tool_calls': [
                    {
                        'id': 'c1',
                        'type': 'function',
                        'function': {'name': 'a', 'arguments': '{"x":1}'},
                        'extra': {'s': 1},
                    },
                    {'id': 'c2', 'type': 'custom', 'custom': {'name': 'sh', 'input': 'ls -l'}},
                ],
            },
            {'role': 'tool', 'tool_call_id': 'c1', 'content': 'one', 'x': 1},
            {'role': 'tool', 'tool_call_id': 'c2', 'content': [{'type': 'text', 'text': 'two'}]},
            {'role': 'assistant', 'content': None, 'refusal': 'No.'},
        ],
        'tools': [
            {'type': 'function', 'function': {'name': 'a', 'parameters': PERSON, 'strict': True}},
            {'type': 'custom', 'custom': {'name': 'sh'}},
        ],
        'tool_choice': {'type': 'allowed_tools', 'allowed_tools': {'mode': 'auto', 'tools': []}},
        'n': 2,
        'logit_bias': {'50256': -100},
        'metadata': {'k': 'v'},
        'top_k': 5,
        'service_tier': 'flex',
    }
    decoded = CODEC.decode_request(json.dumps(body).encode())
    assert json.loads(CODEC.encode_request(decoded.request, decoded.model).body) == body


def test_answers_in_a_row_are_one_message_and_know_their_tools() -> None:
    request = received(
        messages=[
            {
                'role': 'assistant',
                'tool_calls': [
                    {'id': 'c1', 'type': 'function', 'function': {'name': 'a', 'arguments': ''}},
                    {'id': 'c2', 'type': 'function', 'function': {'name': 'b', 'arguments': '{bad'}},
                ],
            },
            {'role': 'tool', 'tool_call_id': 'c1', 'content': 'A'},
            {'role': 'tool', 'tool_call_id': 'c2', 'content': '{"error":"bad"}'},
        ]
    )
    calls, answers = request.messages
    assert [part.tool_request.input for part in calls.tool_requests] == [{}, '{bad']
    assert answers == Message.tool(ToolResponse('a', 'A', 'c1'), ToolResponse('b', 'bad', 'c2', is_error=True))


def test_data_urls_become_bytes_that_any_provider_can_take() -> None:
    url = 'data:image/png;base64,' + base64.b64encode(PNG).decode()
    request = received(messages=[{'role': 'user', 'content': [{'type': 'image_url', 'image_url': {'url': url}}]}])
    assert request.messages[0].content == (MediaPart(data=PNG, content_type='image/png'),)


@pytest.mark.parametrize(
    ('fields', 'problem'),
    [
        ({'messages': None}, 'messages is missing'),
        ({'messages': 'hi'}, 'messages is hi: give a list'),
        ({'messages': [3]}, r'messages\[0\] is 3: give an object'),
        ({'messages': [{'role': 'robot'}]}, r'messages\[0\].role is robot: use system'),
        ({'messages': [{'role': 'user'}]}, r'messages\[0\].content is missing'),
        (
            {'messages': [{'role': 'user', 'content': [{'type': 'text'}]}]},
            r'messages\[0\].content\[0\].text is missing',
        ),
        ({'messages': [{'role': 'user', 'content': [{}]}]}, r'messages\[0\].content\[0\].type is missing'),
        ({'messages': [{'role': 'tool', 'content': 'x'}]}, r'messages\[0\].tool_call_id is missing'),
        ({'messages': [{'role': 'assistant', 'tool_calls': [{}]}]}, r'tool_calls\[0\].function is missing'),
        ({'temperature': 'hot'}, 'the settings do not fit: .*temperature'),
        ({'stop': 5}, 'the settings do not fit: .*stop'),
        ({'tools': [{'type': 'function'}]}, r'tools\[0\].function is missing'),
        ({'tool_choice': 7}, 'tool_choice is 7'),
        ({'response_format': 'json'}, 'response_format is json: give an object'),
        ({'model': 5}, 'model is 5: give a string'),
    ],
)
def test_a_request_that_is_wrong_names_the_field(fields: Any, problem: str) -> None:
    with pytest.raises(LamellaError, match=problem) as caught:
        received(**fields)
    assert caught.value.status == 'INVALID_ARGUMENT'


@pytest.mark.parametrize('body', [b'', b'{', b'[]', b'\xff', b'[' * 100_000, b'{"model":"m"}'])
def test_a_body_that_is_no_request_is_one_error(body: bytes) -> None:
    with pytest.raises(LamellaError) as caught:
        CODEC.decode_request(body)
    assert caught.value.status == 'INVALID_ARGUMENT'


def test_a_caller_who_wants_no_usage_is_remembered_and_the_upstream_is_asked_for_it_anyway() -> None:
    without = CODEC.decode_request(b'{"model":"m","messages":[],"stream":true}')
    asked = CODEC.decode_request(b'{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}')
    assert (without.stream, asked.stream) == (True, True)
    assert without.request.metadata == {'openai': {'include_usage': False}}
    assert asked.request == ModelRequest()
    assert sent(without.request, stream=True)['stream_options'] == {'include_usage': True}
