"""Requests of the Responses API, said and understood."""

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
from lamella.wire.openai_responses import OpenAIResponsesCodec
from tests.wire.openai_responses_events import CODEC, JSON

OWN = 'openai-responses'
PNG = b'\x89PNG\r\n\x1a\n...'
PNG_URL = f'data:image/png;base64,{base64.b64encode(PNG).decode()}'
CITY = {'type': 'object', 'properties': {'city': {'type': 'string'}}, 'required': ['city']}
WEATHER = ToolDefinition('weather', 'The weather of a city', CITY)


def encoded(*messages: Message, **fields: Any) -> Any:
    return CODEC.encode_request(ModelRequest(messages or (Message.user('hi'),), **fields), 'gpt-x')


def sent(*messages: Message, **fields: Any) -> Any:
    return json.loads(encoded(*messages, **fields).body)


def sent_input(*messages: Message, **fields: Any) -> list[Any]:
    found: list[Any] = sent(*messages, **fields)['input']
    return found


def own(**options: Any) -> dict[str, JSON]:
    return {'openai': options}


def received(**fields: Any) -> ModelRequest:
    return CODEC.decode_request(json.dumps({'model': 'gpt-x', 'input': 'hi', **fields}).encode()).request


def round_trip(data: JSON) -> JSON:
    decoded = CODEC.decode_request(json.dumps(data).encode())
    again: JSON = json.loads(CODEC.encode_request(decoded.request, decoded.model, stream=decoded.stream).body)
    return again


# ── said ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_smallest_request() -> None:
    assert sent() == {'model': 'gpt-x', 'input': [{'type': 'message', 'role': 'user', 'content': 'hi'}]}
    assert json.loads(CODEC.encode_request(ModelRequest(), 'm', stream=True).body) == {
        'model': 'm',
        'input': [],
        'stream': True,
    }


def test_settings_have_their_names() -> None:
    config = GenerationConfig(
        temperature=0.0, top_p=0.5, max_output_tokens=10, reasoning_effort='low', logprobs=3, parallel_tool_calls=False
    )
    body = sent(config=config, tools=(WEATHER,))
    del body['model'], body['input'], body['tools']
    assert body == {
        'temperature': 0.0,
        'top_p': 0.5,
        'max_output_tokens': 10,
        'reasoning': {'effort': 'low'},
        'top_logprobs': 3,
        'include': ['message.output_text.logprobs'],
        'parallel_tool_calls': False,
    }


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('stop_sequences', ('END',)),
        ('seed', 0),
        ('presence_penalty', 0.5),
        ('frequency_penalty', 0.0),
        ('top_k', 5),
    ],
)
def test_settings_that_the_protocol_does_not_have_are_warnings(field: str, value: Any) -> None:
    request = encoded(config=GenerationConfig(**{field: value}))
    (warning,) = request.warnings
    assert warning.startswith(f'{field}={value!r} is no setting of the Responses API')
    assert json.loads(request.body).keys() == {'model', 'input'}


def test_the_first_system_message_is_the_instructions() -> None:
    body = sent(Message.system('Be ', 'brief.'), Message.user('hi'), Message.system('Now rhyme.'))
    assert body['instructions'] == 'Be brief.'
    assert [item['role'] for item in body['input']] == ['user', 'system']


def test_a_system_message_that_is_not_only_text_stays_in_the_input() -> None:
    body = sent(Message.system('See', MediaPart(url='https://x/y.png')), Message.user('hi'))
    assert 'instructions' not in body
    assert body['input'][0]['content'][1] == {'type': 'input_image', 'image_url': 'https://x/y.png'}


def test_a_developer_message_keeps_its_role_from_either_protocol() -> None:
    developer = Message.system('Be brief.', metadata={'openai': {'role': 'developer'}})
    assert sent_input(developer) == [{'type': 'message', 'role': 'developer', 'content': 'Be brief.'}]


def test_a_server_may_want_developer_for_system() -> None:
    codec = OpenAIResponsesCodec(system_role='developer')
    body = json.loads(codec.encode_request(ModelRequest((Message.user('a'), Message.system('b'))), 'm').body)
    assert body['input'][1]['role'] == 'developer'


def test_images_files_and_sounds_have_their_blocks() -> None:
    parts = (
        TextPart('See:'),
        MediaPart(data=PNG),
        MediaPart(url='https://x/y.png', metadata={'openai': {'image_url': {'detail': 'low'}}}),
        MediaPart(url=PNG_URL),
        MediaPart(data=b'%PDF-1.7', name='a.pdf'),
        MediaPart(url='https://x/y.pdf', name='b.pdf'),
        MediaPart(url='data:text/plain,hi'),
        MediaPart(data=b'ID3', content_type='audio/mpeg'),
    )
    (message,) = sent_input(Message.user(*parts))
    assert message['content'] == [
        {'type': 'input_text', 'text': 'See:'},
        {'type': 'input_image', 'image_url': PNG_URL},
        {'type': 'input_image', 'image_url': 'https://x/y.png', 'detail': 'low'},
        {'type': 'input_image', 'image_url': PNG_URL},
        {'type': 'input_file', 'filename': 'a.pdf', 'file_data': 'data:application/pdf;base64,JVBERi0xLjc='},
        {'type': 'input_file', 'file_url': 'https://x/y.pdf', 'filename': 'b.pdf'},
        {'type': 'input_file', 'filename': 'file', 'file_data': 'data:text/plain;base64,aGk='},
        {'type': 'input_audio', 'input_audio': {'data': 'SUQz', 'format': 'mp3'}},
    ]


@pytest.mark.parametrize(
    ('part', 'problem'),
    [
        (MediaPart(data=b'???'), r"messages\[0\].content\[0\]: nothing tells what the data is: set content_type"),
        (MediaPart(url='https://x/a.mp3'), r'messages\[0\].content\[0\]: the Responses API takes audio/mpeg as data only'),
        (ToolRequestPart(ToolRequest('f')), r'messages\[0\].content\[0\] is a ToolRequestPart'),
    ],
)  # fmt: skip
def test_content_that_cannot_be_sent_is_refused_by_name(part: Any, problem: str) -> None:
    with pytest.raises(LamellaError, match=problem) as caught:
        encoded(Message.user(part))
    assert caught.value.status == 'INVALID_ARGUMENT'


def test_tools_say_whether_they_are_strict() -> None:
    strict = ToolDefinition('now', metadata={'openai': {'function': {'strict': True}}})
    assert sent(tools=(WEATHER, strict))['tools'] == [
        {
            'type': 'function',
            'name': 'weather',
            'description': 'The weather of a city',
            'parameters': CITY,
            'strict': False,
        },
        {'type': 'function', 'name': 'now', 'parameters': {'type': 'object', 'properties': {}}, 'strict': True},
    ]


def test_the_choice_among_tools() -> None:
    for choice, wire in (
        (ToolChoice('auto'), 'auto'),
        (ToolChoice('none'), 'none'),
        (ToolChoice('required'), 'required'),
        (ToolChoice('tool', 'weather'), {'type': 'function', 'name': 'weather'}),
    ):
        assert sent(tools=(WEATHER,), tool_choice=choice)['tool_choice'] == wire
    request = encoded(tool_choice=ToolChoice('required'))
    assert request.warnings == ("tool_choice='required' without tools: left out",)
    builtin = sent(tool_choice=ToolChoice('required'), provider_options=own(tools=[{'type': 'web_search'}]))
    assert builtin['tool_choice'] == 'required'


def test_the_shape_of_the_answer_is_a_text_format() -> None:
    form = sent(output=OutputSpec('json', CITY, 'my city!'))['text']['format']
    assert form == {
        'type': 'json_schema',
        'name': 'my_city_',
        'schema': {**CITY, 'additionalProperties': False},
        'strict': True,
    }
    loose = {'type': 'object', 'additionalProperties': True}
    assert 'strict' not in sent(output=OutputSpec('json', loose))['text']['format']
    assert sent(output=OutputSpec('json', CITY, strict=False))['text']['format']['strict'] is False
    assert 'text' not in sent(output=OutputSpec('text'))


def test_json_mode_needs_the_word_in_the_input_and_not_in_the_instructions() -> None:
    body = sent(Message.system('Answer in JSON.'), Message.user('hi'), output=OutputSpec('json'))
    assert body['text'] == {'format': {'type': 'json_object'}}
    assert body['input'][0] == {'type': 'message', 'role': 'system', 'content': 'Answer in JSON.'}
    request = encoded(output=OutputSpec('json'))
    assert json.loads(request.body)['input'][0]['content'] == 'Answer in JSON.'
    assert 'was put in front' in request.warnings[0]
    assert not encoded(Message.user('as Json please'), output=OutputSpec('json')).warnings
    assert not encoded(Message.user('as Json', 'please'), output=OutputSpec('json')).warnings


def test_the_providers_own_options_add_replace_and_remove() -> None:
    body = sent(
        config=GenerationConfig(temperature=0, top_p=0.5, reasoning_effort='low', logprobs=0),
        tools=(WEATHER,),
        output=OutputSpec('json', CITY),
        provider_options=own(
            store=True,
            previous_response_id='resp_0',
            temperature=1,
            top_p=None,
            reasoning={'summary': 'auto'},
            text={'verbosity': 'low'},
            include=['file_search_call.results', 'message.output_text.logprobs'],
            tools=[{'type': 'web_search'}],
        ),
    )
    assert (body['store'], body['previous_response_id'], body['temperature']) == (True, 'resp_0', 1)
    assert 'top_p' not in body
    assert body['reasoning'] == {'effort': 'low', 'summary': 'auto'}
    assert body['text'].keys() == {'format', 'verbosity'}
    assert body['include'] == ['message.output_text.logprobs', 'file_search_call.results']
    assert [tool['type'] for tool in body['tools']] == ['function', 'web_search']


def test_another_providers_options_are_not_sent() -> None:
    assert 'store' not in sent(provider_options={'anthropic': {'store': True}})
    codec = OpenAIResponsesCodec('azure')
    request = ModelRequest((Message.user('hi'),), provider_options={'azure': {'x': 1}, 'openai': {'y': 1}})
    assert json.loads(codec.encode_request(request, 'm').body).keys() == {'model', 'input', 'x'}


def test_stream_options_are_for_streams() -> None:
    request = ModelRequest((Message.user('hi'),), provider_options=own(stream_options={'include_obfuscation': False}))
    assert 'stream_options' not in json.loads(CODEC.encode_request(request, 'm').body)
    assert json.loads(CODEC.encode_request(request, 'm', stream=True).body)['stream_options'] == {
        'include_obfuscation': False
    }


def test_options_in_the_words_of_the_other_protocol_are_understood() -> None:
    custom = {'type': 'custom', 'custom': {'name': 'sql', 'format': {'type': 'grammar', 'grammar': {'syntax': 'lark'}}}}
    choice = {
        'type': 'allowed_tools',
        'allowed_tools': {'mode': 'auto', 'tools': [{'type': 'function', 'function': {'name': 'f'}}]},
    }
    options = own(verbosity='low', n=2, logit_bias=None, tools=[custom], tool_choice=choice, web_search_options={})
    request = encoded(provider_options=options)
    body = json.loads(request.body)
    assert body['text'] == {'verbosity': 'low'}
    assert body['tools'] == [{'type': 'custom', 'name': 'sql', 'format': {'type': 'grammar', 'syntax': 'lark'}}]
    assert body['tool_choice'] == {
        'type': 'allowed_tools',
        'mode': 'auto',
        'tools': [{'type': 'function', 'name': 'f'}],
    }
    assert not {'n', 'logit_bias', 'web_search_options'} & body.keys()
    assert [warning.split()[0] for warning in request.warnings] == ['n', 'web_search_options']


def test_a_conversation_kept_by_the_provider_needs_no_input() -> None:
    body = json.loads(CODEC.encode_request(ModelRequest(provider_options=own(prompt={'id': 'pmpt_1'})), 'gpt-x').body)
    assert 'input' not in body


def test_what_a_tool_answered_is_text_json_or_content() -> None:
    request = Message.assistant(*[ToolRequestPart(ToolRequest('f', {}, f'call_{i}')) for i in range(6)])
    answers = Message.tool(
        ToolResponse('f', 'plain', 'call_0'),
        ToolResponse('f', {'a': [1]}, 'call_1'),
        ToolResponse('f', 'broken', 'call_2', is_error=True),
        ToolResponse('f', [TextPart('a'), MediaPart(data=PNG)], 'call_3'),
        ToolResponse('f', {'type': 'media', 'url': 'https://x/y.png'}, 'call_4'),
        ToolResponse('f', None),
    )
    outputs = sent_input(request, answers)[6:]
    assert {item['type'] for item in outputs} == {'function_call_output'}
    assert [item['call_id'] for item in outputs] == [f'call_{i}' for i in range(6)]
    assert [item['output'] for item in outputs] == [
        'plain',
        '{"a":[1]}',
        '{"error":"broken"}',
        [{'type': 'input_text', 'text': 'a'}, {'type': 'input_image', 'image_url': PNG_URL}],
        [{'type': 'input_image', 'image_url': 'https://x/y.png'}],
        'null',
    ]


def test_what_only_looks_like_media_is_json() -> None:
    outputs = [{'type': 'media'}, [{'type': 'media', 'url': 3}], [{'type': 'text', 'text': 'a', 'more': 1}]]
    answers = [ToolResponse('f', output, f'call_{i}') for i, output in enumerate(outputs)]
    assert [json.loads(item['output']) for item in sent_input(Message.tool(*answers))] == outputs


def test_an_answer_without_a_ref_needs_a_request_that_waits() -> None:
    with pytest.raises(LamellaError, match=r"messages\[0\]: the answer of tool 'f' has no ref"):
        encoded(Message.tool(ToolResponse('f', 1)))
    (item,) = sent_input(Message.tool(ToolResponse('f', 1, 'call_9')))
    assert item['call_id'] == 'call_9'
    made, answered = sent_input(
        Message.assistant(ToolRequestPart(ToolRequest('f'))), Message.tool(ToolResponse('f', 1))
    )
    assert made['call_id'] == answered['call_id']


def test_a_tool_message_without_an_answer_is_refused() -> None:
    with pytest.raises(LamellaError, match=r'messages\[0\] of role tool has no ToolResponsePart'):
        encoded(Message('tool', ()))
    with pytest.raises(LamellaError, match=r'messages\[0\] is of role assistant and has a ToolResponsePart'):
        encoded(Message('assistant', (ToolResponsePart(ToolResponse('f', 1, 'x')),)))


def test_what_else_a_tool_message_holds_follows_as_the_users() -> None:
    message = Message('tool', (ToolResponsePart(ToolResponse('f', 1, 'call_1')), TextPart('By the way')))
    assert [item.get('role') for item in sent_input(message)] == [None, 'user']


def test_a_custom_tool_is_answered_in_its_own_item() -> None:
    asked = ToolRequestPart(ToolRequest('sql', 'SELECT 1', 'call_1'), {'openai': {'type': 'custom'}})
    call, output = sent_input(Message.assistant(asked), Message.tool(ToolResponse('sql', '1', 'call_1')))
    assert call == {'type': 'custom_tool_call', 'call_id': 'call_1', 'name': 'sql', 'input': 'SELECT 1'}
    assert output == {'type': 'custom_tool_call_output', 'call_id': 'call_1', 'output': '1'}


def test_input_that_was_no_json_goes_back_as_it_came() -> None:
    asked = ToolRequestPart(ToolRequest('f', '{"a', 'call_1'), {'openai': {'invalid_json': True}})
    assert sent_input(Message.assistant(asked))[0]['arguments'] == '{"a'


def test_an_assistant_speaks_in_plain_words_or_in_blocks() -> None:
    refusal = DataPart({'type': 'refusal', 'refusal': 'No.'}, {'openai': {}})
    plain, blocks = sent_input(Message.assistant('Hi'), Message.assistant('Hm.', 'No: ', refusal))
    assert plain == {'type': 'message', 'role': 'assistant', 'content': 'Hi'}
    assert [block['type'] for block in blocks['content']] == ['output_text', 'output_text', 'refusal']


def test_what_others_made_is_left_out_with_a_warning() -> None:
    request = encoded(
        Message.assistant(
            ReasoningPart('Hm.', 'sig=='),
            ReasoningPart('Hm.', 'sig==', metadata={'anthropic': {}}),
            DataPart({'type': 'thing'}, {'anthropic': {}}),
            DataPart('no item'),
            MediaPart(data=PNG),
            TextPart('x'),
        ),
        Message.user(DataPart({'type': 'document'}, {'anthropic': {}}), 'y', DataPart({'type': 'z'}, {'openai': {}})),
    )
    assert [item['content'] for item in json.loads(request.body)['input']] == ['x', 'y']
    assert len(request.warnings) == 7
    assert [warning.split(':')[0] for warning in request.warnings] == ['messages[0]'] * 5 + ['messages[1]'] * 2


def test_the_callers_own_items_go_where_they_stand() -> None:
    approval = {'type': 'mcp_approval_response', 'approval_request_id': 'mcpr_1', 'approve': True}
    image = {'type': 'input_image', 'file_id': 'file_1'}
    items = sent_input(Message.user('a', DataPart(image), DataPart(approval), 'b'))
    assert [item['type'] for item in items] == ['message', 'mcp_approval_response', 'message']
    assert items[0]['content'][1] == image
    assert sent_input(Message.assistant(DataPart({'type': 'item_reference', 'id': 'msg_1'}))) == [
        {'type': 'item_reference', 'id': 'msg_1'}
    ]


def test_what_is_no_json_is_refused_by_name() -> None:
    with pytest.raises(LamellaError, match=r'messages\[1\]: the text has the lone surrogate'):
        encoded(Message.user('a'), Message.user('\ud800'))
    with pytest.raises(LamellaError, match='metadata: is not JSON'):
        encoded(provider_options=own(metadata={'x': object()}))


# ── understood ──────────────────────────────────────────────────────────────────────────────────────────────────────

FULL: JSON = {
    'model': 'gpt-x',
    'instructions': 'Be brief.',
    'input': [
        {'type': 'message', 'role': 'developer', 'content': 'And kind.'},
        {
            'type': 'message',
            'role': 'user',
            'content': [
                {'type': 'input_text', 'text': 'See', 'prompt_cache_breakpoint': {'mode': 'explicit'}},
                {'type': 'input_image', 'image_url': PNG_URL, 'detail': 'low'},
                {'type': 'input_image', 'file_id': 'file_1', 'detail': 'auto'},
                {'type': 'input_file', 'filename': 'a.pdf', 'file_data': 'data:application/pdf;base64,JVBERi0xLjc='},
                {'type': 'input_file', 'file_url': 'https://x/y'},
                {'type': 'input_file', 'file_id': 'file_2'},
                {'type': 'input_audio', 'input_audio': {'data': 'SUQz', 'format': 'mp3'}},
                {'type': 'input_smell', 'smell': 'rose'},
                {'type': 'crystal', 'clear': True},
            ],
            'id': 'msg_u',
        },
        {'type': 'reasoning', 'id': 'rs_1', 'summary': [], 'encrypted_content': 'gAAAA=='},
        {
            'type': 'message',
            'role': 'assistant',
            'id': 'msg_1',
            'status': 'completed',
            'phase': 'commentary',
            'content': [
                {'type': 'output_text', 'text': 'I call', 'annotations': [{'type': 'file_path', 'file_id': 'f'}]},
                {'type': 'output_text', 'text': 'two.', 'annotations': []},
            ],
        },
        {
            'type': 'function_call',
            'call_id': 'call_1',
            'name': 'weather',
            'arguments': '{"city":"Zürich"}',
            'id': 'fc_1',
            'status': 'completed',
        },
        {'type': 'custom_tool_call', 'call_id': 'call_2', 'name': 'sql', 'input': 'SELECT 1'},
        {'type': 'web_search_call', 'id': 'ws_1', 'status': 'completed', 'action': {'type': 'search', 'query': None}},
        {'type': 'function_call_output', 'call_id': 'call_1', 'output': 'sunny', 'id': 'fco_1'},
        {'type': 'custom_tool_call_output', 'call_id': 'call_2', 'output': '1'},
        {'type': 'message', 'role': 'assistant', 'content': 'One.'},
        {'type': 'message', 'role': 'assistant', 'content': 'Two.'},
        {'type': 'mcp_approval_response', 'approval_request_id': 'mcpr_1', 'approve': True},
        {'type': 'item_reference', 'id': 'msg_0'},
        {'type': 'crystal_ball_call', 'mist': None},
    ],
    'temperature': 0.5,
    'top_p': 0.25,
    'max_output_tokens': 9,
    'parallel_tool_calls': False,
    'reasoning': {'effort': 'low', 'summary': 'auto'},
    'top_logprobs': 3,
    'include': ['message.output_text.logprobs', 'reasoning.encrypted_content'],
    'tools': [
        {
            'type': 'function',
            'name': 'weather',
            'description': 'W',
            'parameters': CITY,
            'strict': True,
            'output_schema': {'type': 'string'},
        },
        {'type': 'function', 'name': 'loose', 'parameters': CITY, 'strict': False},
        {'type': 'function', 'name': 'unsaid', 'parameters': CITY},
        {'type': 'web_search', 'filters': {'allowed_domains': ['a']}},
    ],
    'tool_choice': {'type': 'function', 'name': 'weather'},
    'text': {
        'format': {'type': 'json_schema', 'name': 'x', 'schema': CITY, 'strict': False, 'description': 'D'},
        'verbosity': 'low',
    },
    'store': False,
    'previous_response_id': 'resp_0',
    'truncation': 'auto',
    'metadata': {'a': 'b'},
    'new_field': {'x': [1, {'y': 2}]},
    'stream': True,
    'stream_options': {'include_obfuscation': False},
}


def test_a_whole_request_survives_being_understood_and_said_again() -> None:
    assert round_trip(FULL) == FULL


def test_the_fields_have_their_places() -> None:
    decoded = CODEC.decode_request(json.dumps(FULL).encode())
    request = decoded.request
    assert (decoded.model, decoded.stream) == ('gpt-x', True)
    assert request.config == GenerationConfig(
        temperature=0.5,
        top_p=0.25,
        max_output_tokens=9,
        parallel_tool_calls=False,
        reasoning_effort='low',
        logprobs=3,
    )
    assert request.tool_choice == ToolChoice('tool', 'weather')
    assert request.output == OutputSpec('json', CITY, 'x', False)
    assert [tool.name for tool in request.tools] == ['weather', 'loose', 'unsaid']
    assert request.tools[0].output_schema == {'type': 'string'}
    options = request.provider_options['openai']
    assert options['previous_response_id'] == 'resp_0'
    assert options['store'] is False
    assert [tool['type'] for tool in options['tools']] == ['web_search']


def test_the_messages_are_turns() -> None:
    messages = CODEC.decode_request(json.dumps(FULL).encode()).request.messages
    roles = ['system', 'system', 'user', 'assistant', 'tool', 'assistant', 'assistant', 'user', 'assistant']
    assert [message.role for message in messages] == roles
    kinds = [type(part).__name__ for part in messages[3].content]
    assert kinds == ['ReasoningPart', 'TextPart', 'TextPart', 'ToolRequestPart', 'ToolRequestPart', 'DataPart']
    answers = [part.tool_response for part in messages[4].tool_responses]
    assert answers == [ToolResponse('weather', 'sunny', 'call_1'), ToolResponse('sql', '1', 'call_2')]
    file = messages[2].content[4]
    assert isinstance(file, MediaPart)
    assert (file.url, file.content_type) == ('https://x/y', 'application/pdf')


def test_a_string_is_what_the_user_says() -> None:
    assert received().messages == (Message.user('hi'),)
    assert received(input=None).messages == ()


def test_messages_need_no_type() -> None:
    request = received(input=[{'role': 'user', 'content': 'a'}, {'role': 'assistant', 'content': 'b'}, {'id': 'msg_0'}])
    assert [message.role for message in request.messages] == ['user', 'assistant']
    assert request.messages[1].content[1] == DataPart({'type': 'item_reference', 'id': 'msg_0'}, {OWN: {}})


def test_a_system_message_in_the_input_stays_there() -> None:
    data = {'model': 'm', 'input': [{'type': 'message', 'role': 'system', 'content': 'a'}]}
    assert round_trip(data) == data


def test_what_a_tool_answered_is_understood() -> None:
    outputs = [
        {'call_id': 'c', 'output': '{"error":"broken"}'},
        {'call_id': 'c', 'output': '{"error":1,"more":2}'},
        {'call_id': 'c', 'output': '{"error":'},
        {'call_id': 'c', 'output': [{'type': 'input_text', 'text': 'a'}]},
        {
            'call_id': 'c',
            'output': [{'type': 'input_text', 'text': 'a'}, {'type': 'input_image', 'image_url': PNG_URL}],
        },
        {'call_id': 'c', 'output': 'x', 'name': 'clock'},
        {'call_id': 'c', 'output': []},
    ]
    (message,) = received(input=[{'type': 'function_call_output', **output} for output in outputs]).messages
    assert [part.tool_response for part in message.tool_responses] == [
        ToolResponse('', 'broken', 'c', is_error=True),
        ToolResponse('', '{"error":1,"more":2}', 'c'),
        ToolResponse('', '{"error":', 'c'),
        ToolResponse('', 'a', 'c'),
        ToolResponse('', [TextPart('a'), MediaPart(data=PNG, content_type='image/png')], 'c'),
        ToolResponse('clock', 'x', 'c'),
        ToolResponse('', [], 'c'),
    ]


def test_bare_base64_is_a_file_too() -> None:
    (message,) = received(
        input=[{'role': 'user', 'content': [{'type': 'input_file', 'filename': 'a.bin', 'file_data': 'JVBERi0xLjc='}]}]
    ).messages
    part = message.content[0]
    assert isinstance(part, MediaPart)
    assert part.data == b'%PDF-1.7'


@pytest.mark.parametrize(
    ('fields', 'output'),
    [
        ({'text': {'format': {'type': 'text'}}}, OutputSpec('text')),
        ({'text': {'format': {'type': 'json_object'}}}, OutputSpec('json')),
        ({'text': {}}, None),
        ({'text': {'format': {'type': 'grammar', 'x': 1}}}, None),
    ],
)
def test_the_wanted_shape(fields: JSON, output: OutputSpec | None) -> None:
    assert received(**fields).output == output


@pytest.mark.parametrize(
    'fields',
    [
        {'text': {'format': {'type': 'grammar', 'x': 1}, 'verbosity': 'low'}},
        {'tool_choice': {'type': 'mcp', 'server_label': 's'}, 'tools': [{'type': 'mcp', 'server_label': 's'}]},
        {'tool_choice': {'type': 'web_search'}, 'tools': [{'type': 'web_search'}]},
        {'top_logprobs': 2},
        {'seed': 7, 'stop': ['x']},
        {'reasoning': {'summary': 'detailed'}},
        {'include': ['file_search_call.results']},
    ],
)
def test_what_has_no_name_here_survives(fields: JSON) -> None:
    data = {'model': 'm', 'input': [{'type': 'message', 'role': 'user', 'content': 'hi'}], **fields}
    assert round_trip(data) == data


@pytest.mark.parametrize(
    ('body', 'problem'),
    [
        (b'', 'the body is no JSON'),
        (b'[]', r'the body is \[\]: give an object'),
        (b'{}', 'model is missing'),
        (b'{"model": 1}', 'model is 1: give a string'),
        (b'{"model": "m", "input": 5}', 'input is 5: give a list'),
        (b'{"model": "m", "input": [5]}', r'input\[0\] is 5: give an object'),
        (b'{"model": "m", "input": [{}]}', r'input\[0\].role is None'),
        (b'{"model": "m", "input": [{"type": []}]}', r'input\[0\].type is \[\]: give a string'),
        (b'{"model": "m", "input": [{"role": "king", "content": ""}]}', r"input\[0\].role is king"),
        (b'{"model": "m", "input": [{"role": "user"}]}', r'input\[0\].content is missing'),
        (b'{"model": "m", "input": [{"role": "user", "content": [{}]}]}', r'input\[0\].content\[0\].type is missing'),
        (
            b'{"model": "m", "input": [{"type": "function_call_output", "output": ""}]}',
            r'input\[0\].call_id is missing: name the tool call that this answers',
        ),
        (b'{"model": "m", "input": [{"type": "function_call"}]}', r'input\[0\].name is missing'),
        (
            b'{"model": "m", "input": [{"role": "user", "content": [{"type": "input_audio", "input_audio": '
            b'{"data": "?", "format": "mp3"}}]}]}',
            r'input_audio.data is no base64',
        ),
        (b'{"model": "m", "instructions": []}', r'instructions is \[\]: give a string'),
        (b'{"model": "m", "temperature": "hot"}', r'the settings do not fit: .*temperature'),
        (b'{"model": "m", "reasoning": {"effort": 3}}', r'the settings do not fit: .*reasoning.effort'),
        (b'{"model": "m", "tools": [{"type": "function"}]}', r'tools\[0\].name is missing'),
        (b'{"model": "m", "tool_choice": "any"}', "tool_choice is any: give 'auto'"),
        (b'{"model": "m", "text": {"format": "json"}}', 'text.format is json: give an object'),
        (b'{"model": "m", "text": {"format": {"type": "json_schema", "schema": 1}}}', 'text.format.schema is 1'),
    ],
)  # fmt: skip
def test_a_malformed_request_is_refused_by_the_name_of_its_field(body: bytes, problem: str) -> None:
    with pytest.raises(LamellaError, match=problem) as caught:
        CODEC.decode_request(body)
    assert caught.value.status == 'INVALID_ARGUMENT'


def test_a_file_that_is_no_base64_is_kept_as_it_is() -> None:
    block = {'type': 'input_file', 'filename': 'a', 'file_data': '???'}
    data = {'model': 'm', 'input': [{'type': 'message', 'role': 'user', 'content': [block]}]}
    assert round_trip(data) == data


def test_the_path_may_name_the_model() -> None:
    decoded = CODEC.decode_request(b'{"input": "hi"}', model='m', stream=True)
    assert (decoded.model, decoded.stream) == ('m', True)
