"""Conversations over several turns: what goes back with them, and what the API would refuse."""

import json
from typing import Any

import pytest

from lamella.types import (
    GenerationConfig,
    Message,
    ModelRequest,
    ModelResponse,
    ReasoningPart,
    TextPart,
    ToolResponse,
)
from lamella.wire.anthropic import AnthropicCodec
from lamella.wire.codec import Codec
from lamella.wire.gemini import GeminiCodec
from lamella.wire.openai_chat import OpenAIChatCodec
from tests.wire.openai_responses_events import (
    CODEC,
    JSON,
    answer,
    call,
    events_of,
    folded,
    message,
    reasoning,
    sse,
    text,
)

STATELESS = {'openai': {'store': False}}
QUESTION = {'type': 'message', 'role': 'user', 'content': 'What now?'}
TURNS = [
    [reasoning('A.', id='rs_1', encrypted_content='e1'), call('look', '{"n":1}', 'fc_1', 'call_1')],
    [
        reasoning(id='rs_2', encrypted_content='e2'),
        message(text('Two more.'), id='msg_2', phase='commentary'),
        call('look', '{"n":2}', 'fc_2', 'call_2'),
        call('look', '{"n":3}', 'fc_3', 'call_3'),
    ],
    [reasoning('B.', 'C.', id='rs_3', encrypted_content='e3'), call('look', '{"n":4}', 'fc_4', 'call_4')],
    [reasoning(id='rs_4', encrypted_content='e4'), message(text('Done.'), id='msg_4')],
]


def as_whole(data: JSON) -> ModelResponse:
    return CODEC.decode_response(json.dumps(data).encode())


def as_stream(data: JSON) -> ModelResponse:
    return folded(sse(events_of(data)))


def sent(messages: list[Message], **fields: Any) -> list[Any]:
    found: list[Any] = json.loads(CODEC.encode_request(ModelRequest(tuple(messages), **fields), 'gpt-x').body)['input']
    return found


def without_logprobs(items: list[JSON]) -> list[JSON]:
    """Answers have log probabilities, and input does not need them."""
    blocks = [block for item in items if item['type'] == 'message' for block in item['content']]
    for block in blocks:
        block.pop('logprobs', None)
    return items


@pytest.mark.parametrize('read', [as_whole, as_stream])
@pytest.mark.parametrize('options', [STATELESS, {}])
def test_four_turns_send_back_every_item_as_it_came(read: Any, options: JSON) -> None:
    messages, expected = [Message.user('What now?')], [QUESTION]
    for output in json.loads(json.dumps(TURNS)):
        response = read(answer(*output))
        answers = [
            ToolResponse('look', f'saw {request.tool_request.input["n"]}', request.tool_request.ref)
            for request in response.tool_requests
        ]
        messages += [response.message, *([Message.tool(*answers)] if answers else [])]
        expected += without_logprobs(output)
        expected += [
            {'type': 'function_call_output', 'call_id': answer.ref, 'output': answer.output} for answer in answers
        ]
        assert sent(messages, provider_options=options) == expected
    assert [item['encrypted_content'] for item in expected if item['type'] == 'reasoning'] == ['e1', 'e2', 'e3', 'e4']


def test_a_server_understands_the_conversation_as_the_client_had_it() -> None:
    messages = [Message.user('What now?')]
    for output in TURNS:
        response = as_whole(answer(*output))
        answers = [ToolResponse('look', 'x', request.tool_request.ref) for request in response.tool_requests]
        messages += [response.message, *([Message.tool(*answers)] if answers else [])]
    body = CODEC.encode_request(ModelRequest(tuple(messages)), 'm').body
    assert list(CODEC.decode_request(body).request.messages) == messages


def test_without_storing_it_asks_for_what_must_come_back() -> None:
    body = CODEC.encode_request(
        ModelRequest((Message.user('a'),), GenerationConfig(reasoning_effort='low'), provider_options=STATELESS), 'm'
    ).body
    assert json.loads(body)['include'] == ['reasoning.encrypted_content']
    plain = CODEC.encode_request(ModelRequest((Message.user('a'),), provider_options=STATELESS), 'm').body
    assert 'include' not in json.loads(plain)


def test_without_storing_reasoning_that_only_has_an_id_is_left_out_with_the_ids_that_need_it() -> None:
    response = as_whole(answer(reasoning('A.'), message(text('Hi')), call('f', '{}')))
    request = ModelRequest(
        (response.message, Message.tool(ToolResponse('f', 'x', 'call_1'))), provider_options=STATELESS
    )
    encoded = CODEC.encode_request(request, 'm')
    assert json.loads(encoded.body)['input'] == [
        {'type': 'message', 'role': 'assistant', 'content': 'Hi'},
        {'type': 'function_call', 'call_id': 'call_1', 'name': 'f', 'arguments': '{}'},
        {'type': 'function_call_output', 'call_id': 'call_1', 'output': 'x'},
    ]
    (warning,) = encoded.warnings
    assert 'reasoning without encrypted_content cannot be sent back with store=False' in warning


def test_items_whose_reasoning_a_layer_took_away_go_without_their_ids() -> None:
    response = as_whole(answer(reasoning('A.'), message(text('Hi'), phase='commentary'), call('f', '{}')))
    kept = tuple(part for part in response.message.content if not isinstance(part, ReasoningPart))
    items = sent([Message.user('q'), response.message.replace(content=kept), Message.user('r')])
    assert [item.get('id') for item in items] == [None, None, None, None]
    assert items[1] == {'type': 'message', 'role': 'assistant', 'phase': 'commentary', 'content': 'Hi'}


def test_items_that_never_had_reasoning_keep_their_ids() -> None:
    response = as_whole(answer(message(text('Hi')), call('f', '{}')))
    assert [item['id'] for item in sent([response.message])] == ['msg_1', 'fc_1']


def test_reasoning_that_nothing_follows_is_left_out() -> None:
    cut = as_whole(answer(reasoning('A.'), status='incomplete', incomplete_details={'reason': 'max_output_tokens'}))
    request = ModelRequest((Message.user('q'), cut.message, Message.user('Go on.')))
    encoded = CODEC.encode_request(request, 'm')
    assert [item['type'] for item in json.loads(encoded.body)['input']] == ['message', 'message']
    assert encoded.warnings == ('messages[1]: reasoning that nothing follows is refused by the API: left out',)


def test_reasoning_in_a_message_of_its_own_is_followed_by_the_next() -> None:
    first, second = as_whole(answer(reasoning('A.'))), as_whole(answer(message(text('Hi'))))
    assert [item['type'] for item in sent([first.message, second.message])] == ['reasoning', 'message']


def test_reasoning_that_a_layer_rewrote_is_sent_as_rewritten() -> None:
    response = as_whole(answer(reasoning('My name is X.', 'And.'), message(text('Hi'))))
    first, *rest = response.message.content
    assert isinstance(first, ReasoningPart)
    items = sent([Message('assistant', (first.replace(text='My name is [name].'), *rest))])
    assert items[0]['summary'] == [{'type': 'summary_text', 'text': 'My name is [name].'}]


def test_a_generated_image_goes_back_to_be_edited() -> None:
    item = {'type': 'image_generation_call', 'id': 'ig_1', 'status': 'completed', 'result': 'iVBORw0KGgo='}
    assert sent([as_whole(answer(item)).message, Message.user('bigger')])[0] == item


# ── other protocols ─────────────────────────────────────────────────────────────────────────────────────────────────

OTHERS: list[Codec] = [OpenAIChatCodec(), AnthropicCodec(), GeminiCodec()]
REQUEST: JSON = {
    'model': 'm',
    'instructions': 'Be brief.',
    'input': [
        QUESTION,
        *without_logprobs(json.loads(json.dumps(TURNS[1]))),
        {'type': 'function_call_output', 'call_id': 'call_2', 'output': 'saw 2'},
        {'type': 'function_call_output', 'call_id': 'call_3', 'output': '{"error":"blind"}'},
        {'type': 'web_search_call', 'id': 'ws_1', 'status': 'completed', 'action': {'type': 'search', 'query': 'x'}},
        message({'type': 'output_text', 'text': 'Two.', 'annotations': []}),
        {
            'type': 'message',
            'role': 'user',
            'content': [{'type': 'input_image', 'image_url': 'data:image/png;base64,iVBO'}],
        },
    ],
    'temperature': 0.5,
    'max_output_tokens': 100,
    'tools': [
        {'type': 'function', 'name': 'look', 'description': 'L', 'parameters': {'type': 'object'}, 'strict': True}
    ],
    'tool_choice': 'auto',
}


@pytest.mark.parametrize('other', OTHERS, ids=lambda codec: codec.name)
def test_a_request_is_understood_by_the_other_protocols(other: Codec) -> None:
    request = CODEC.decode_request(json.dumps(REQUEST).encode()).request
    encoded = other.encode_request(request, 'm')
    again = other.decode_request(encoded.body, model='m').request
    assert any('DataPart' in warning or 'data' in warning for warning in encoded.warnings)
    assert [message.text for message in again.messages if message.text] == [
        'Be brief.',
        'What now?',
        'Two more.',
        'Two.',
    ]
    calls = [part.tool_request for message in again.messages for part in message.tool_requests]
    assert [(call.name, call.input) for call in calls] == [('look', {'n': 2}), ('look', {'n': 3})]
    answers = [part.tool_response for message in again.messages for part in message.tool_responses]
    assert [(answer.name, answer.is_error) for answer in answers] == [('look', False), ('look', True)]
    assert (again.config.temperature, again.config.max_output_tokens) == (0.5, 100)
    assert [tool.name for tool in again.tools] == ['look']


@pytest.mark.parametrize('other', OTHERS, ids=lambda codec: codec.name)
def test_a_request_comes_back_from_the_other_protocols_with_its_words(other: Codec) -> None:
    request = CODEC.decode_request(json.dumps(REQUEST).encode()).request
    again = other.decode_request(other.encode_request(request, 'm').body, model='m').request
    body = json.loads(CODEC.encode_request(again, 'm').body)
    assert body['instructions'] == 'Be brief.'
    kinds = [item['type'] for item in body['input']]
    assert kinds == ['message', 'message', *['function_call'] * 2, *['function_call_output'] * 2, 'message', 'message']
    ids = [item['call_id'] for item in body['input'][2:6]]
    assert ids[:2] == ids[2:]
    assert ids[0] != ids[1]
    image = body['input'][-1]['content'][0]
    assert image == {'type': 'input_image', 'image_url': 'data:image/png;base64,iVBO'}
    assert body['tools'][0]['name'] == 'look'


def test_nothing_that_only_this_protocol_knows_gets_into_chat_completions() -> None:
    request = CODEC.decode_request(json.dumps(REQUEST).encode()).request
    body = json.loads(OpenAIChatCodec().encode_request(request, 'm').body)
    fields = {'role', 'content', 'tool_calls', 'tool_call_id'}
    assert {key for message in body['messages'] for key in message} <= fields
    assert body['tools'][0]['function']['strict'] is True
    assert body['tools'][0].keys() == {'type', 'function'}


@pytest.mark.parametrize('other', OTHERS, ids=lambda codec: codec.name)
def test_an_answer_is_said_in_the_other_protocols(other: Codec) -> None:
    response = as_whole(answer(*TURNS[1]))
    again = other.decode_response(other.encode_response(response, model='m'))
    assert (again.text, again.finish_reason) == ('Two more.', 'tool_calls')
    assert [part.tool_request for part in again.tool_requests] == [part.tool_request for part in response.tool_requests]


@pytest.mark.parametrize('other', OTHERS, ids=lambda codec: codec.name)
def test_an_answer_of_another_protocol_is_said_here(other: Codec) -> None:
    said = other.decode_response(other.encode_response(as_whole(answer(*TURNS[1])), model='m'))
    again = as_whole(json.loads(CODEC.encode_response(said, model='m')))
    assert (again.text, again.finish_reason) == ('Two more.', 'tool_calls')
    assert [part.tool_request.input for part in again.tool_requests] == [{'n': 2}, {'n': 3}]


def test_the_words_of_a_user_come_back_as_one_text() -> None:
    body = CODEC.encode_request(ModelRequest((Message.user('a', 'b'),)), 'm').body
    assert CODEC.decode_request(body).request.messages == (Message.user(TextPart('a'), TextPart('b')),)
