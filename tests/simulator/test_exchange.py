"""Answers over HTTP: what is said, counted, checked and refused."""

import json

import jsonschema
import pytest

from lamella.simulator import Answer, Simulator
from tests.simulator.chat import PROMPT, ask, body, client, send


async def test_an_answer_has_the_shape_of_the_protocol_and_says_who_speaks() -> None:
    async with Simulator() as sim:
        answered = await ask(sim)
    assert answered.status == 200
    assert answered.headers['x-simulator'] == 'lamella'
    assert answered.headers['Content-Type'] == 'application/json'
    assert answered.json['object'] == 'chat.completion'
    assert answered.json['model'] == 'm'
    assert answered.json['id'].startswith('chatcmpl-')
    assert answered.json['choices'][0]['finish_reason'] == 'stop'
    assert 'Lamella simulator' in answered.text


async def test_the_stream_says_what_the_whole_answer_says() -> None:
    async with Simulator() as sim:
        whole = await ask(sim)
        streamed = await ask(sim, stream=True)
    assert streamed.headers['Content-Type'].startswith('text/event-stream')
    assert streamed.streamed == whole.text
    assert streamed.events[-1] == '[DONE]'
    assert len(streamed.events) > 10


async def test_usage_is_the_same_whole_and_streamed_and_only_streamed_when_asked_for() -> None:
    async with Simulator() as sim:
        whole = (await ask(sim)).json['usage']
        asked = await ask(sim, stream=True, stream_options={'include_usage': True})
        unasked = await ask(sim, stream=True)
    assert whole['prompt_tokens'] > 0
    assert whole['total_tokens'] == whole['prompt_tokens'] + whole['completion_tokens']
    assert json.loads(asked.events[-2])['usage'] == whole
    assert not any(json.loads(event).get('usage') for event in unasked.events[:-1])


async def test_a_longer_prompt_costs_more() -> None:
    async with Simulator() as sim:
        short, long = await ask(sim, 'Hi.'), await ask(sim, 'Hi. ' * 100)
    assert long.json['usage']['prompt_tokens'] > short.json['usage']['prompt_tokens'] + 100


async def test_max_tokens_and_stop_hold() -> None:
    async with Simulator() as sim:
        cut = await ask(sim, max_completion_tokens=10)
        stopped = await ask(sim, stop=['honey'])
    assert cut.json['choices'][0]['finish_reason'] == 'length'
    assert cut.json['usage']['completion_tokens'] <= 10
    assert 'honey' not in stopped.text


async def test_a_schema_is_filled() -> None:
    schema = {
        'type': 'object',
        'properties': {
            'sentiment': {'enum': ['positive', 'negative', 'neutral']},
            'keywords': {'type': 'array', 'items': {'type': 'string'}},
        },
        'required': ['sentiment', 'keywords'],
        'additionalProperties': False,
    }
    wanted = {'type': 'json_schema', 'json_schema': {'name': 'review', 'schema': schema, 'strict': True}}
    prompt = 'Classify with at most two keywords.\n\nI love this lamp. The lamp is bright and superb.'
    async with Simulator() as sim:
        whole = await ask(sim, prompt, response_format=wanted)
        streamed = await ask(sim, prompt, response_format=wanted, stream=True)
    value = json.loads(whole.text)
    jsonschema.validate(value, schema)
    assert value == json.loads(streamed.streamed)
    assert value['sentiment'] == 'positive'
    assert value['keywords'] == ['lamp', 'love']


TOOL = {
    'type': 'function',
    'function': {
        'name': 'get_weather',
        'description': 'The weather in a city',
        'parameters': {'type': 'object', 'properties': {'city': {'type': 'string'}}, 'required': ['city']},
    },
}


async def test_a_tool_round_ends_with_the_results() -> None:
    async with Simulator() as sim:
        first = await ask(sim, 'What is the weather in Paris and Rome?', tools=[TOOL])
        message = first.json['choices'][0]['message']
        results = [
            {'role': 'tool', 'tool_call_id': call['id'], 'content': '21 degrees'} for call in message['tool_calls']
        ]
        asked = body('What is the weather in Paris and Rome?', tools=[TOOL])
        second = await send(sim, {**asked, 'messages': [*asked['messages'], message, *results]})
    assert first.json['choices'][0]['finish_reason'] == 'tool_calls'
    calls = [call['function'] for call in message['tool_calls']]
    assert [json.loads(call['arguments']) for call in calls] == [{'city': 'Paris'}, {'city': 'Rome'}]
    assert len({call['id'] for call in message['tool_calls']}) == 2
    assert second.text.count('get_weather answered: 21 degrees') == 2


async def test_streamed_tool_arguments_come_in_pieces_that_add_up() -> None:
    async with Simulator() as sim:
        streamed = await ask(sim, 'What is the weather in Paris?', tools=[TOOL], stream=True)
    chunks = [json.loads(event) for event in streamed.events[:-1]]
    pieces = [call['function'] for chunk in chunks for call in chunk['choices'][0]['delta'].get('tool_calls', ())]
    assert len(pieces) > 2
    assert json.loads(''.join(piece['arguments'] for piece in pieces)) == {'city': 'Paris'}
    assert chunks[-1]['choices'][0]['finish_reason'] == 'tool_calls'


async def test_scripted_answers_are_sent_as_they_are_written() -> None:
    async with Simulator(answers=[Answer(match='honey', text=['Sweet', ' as ever.'])]) as sim:
        whole = await ask(sim)
        streamed = await ask(sim, stream=True)
    assert whole.text == 'Sweet as ever.'
    deltas = [json.loads(event)['choices'][0]['delta'].get('content') for event in streamed.events[:-1]]
    assert [delta for delta in deltas if delta] == ['Sweet', ' as ever.']


@pytest.mark.parametrize(
    'raw', [b'', b'{', b'[]', b'"x"', b'{"model": "m"}', b'\xff\xfe', b'{"model": "m", "messages": 3}']
)
async def test_a_body_that_is_no_request_gets_the_vendors_400(raw: bytes) -> None:
    async with Simulator() as sim:
        answered = await send(sim, raw)
        assert answered.status == 400
        assert answered.json['error']['type'] == 'invalid_request_error'
        assert sim.requests[0].status == 400


async def test_a_schema_that_nothing_fits_gets_a_400_that_says_so() -> None:
    schema = {'type': 'object', 'properties': {'a': False}, 'required': ['a']}
    async with Simulator() as sim:
        answered = await ask(
            sim, response_format={'type': 'json_schema', 'json_schema': {'name': 'x', 'schema': schema}}
        )
    assert answered.status == 400
    assert 'the simulator can make no value for this schema' in answered.json['error']['message']


@pytest.mark.parametrize(
    ('headers', 'path'),
    [
        ({'authorization': 'Bearer right'}, '/v1/chat/completions'),
        ({'authorization': 'bearer right'}, '/v1/chat/completions'),
        ({'api-key': 'right'}, '/v1/chat/completions'),
        ({}, '/v1/chat/completions?key=right'),
    ],
)
async def test_the_right_key_is_taken_wherever_it_stands(headers: dict[str, str], path: str) -> None:
    async with Simulator(api_keys=['right']) as sim:
        assert (await send(sim, body(), path, headers=headers)).status == 200


@pytest.mark.parametrize(
    'headers', [{}, {'authorization': 'Bearer wrong'}, {'authorization': 'right'}, {'x-api-key': ''}]
)
async def test_a_wrong_key_gets_the_vendors_401(headers: dict[str, str]) -> None:
    async with Simulator(api_keys=['right']) as sim:
        answered = await send(sim, body(), headers=headers)
    assert answered.status == 401
    assert answered.json['error']['code'] == 'invalid_api_key'
    assert 'wrong' not in answered.raw.decode()


async def test_without_keys_of_its_own_it_takes_any_and_none() -> None:
    async with Simulator() as sim:
        assert (await ask(sim)).status == 200
        assert (await send(sim, body(), headers={'authorization': 'Bearer whatever'})).status == 200


async def test_requests_are_recorded_with_credentials_that_repr_masks() -> None:
    async with Simulator() as sim:
        await send(
            sim, body(model='gpt-x'), '/v1/chat/completions?key=secret-q', headers={'authorization': 'Bearer secret-h'}
        )
        record = sim.requests[0]
    assert (record.method, record.model, record.number, record.status) == ('POST', 'gpt-x', 1, 200)
    assert record.path == '/v1/chat/completions?key=secret-q'
    assert record.headers['authorization'] == 'Bearer secret-h'
    assert record.body == body(model='gpt-x')
    assert record.request is not None
    assert record.request.messages[0].text == PROMPT
    assert record.done
    assert not record.disconnected
    assert 'secret' not in repr(record)


async def test_one_connection_carries_many_requests() -> None:
    async with Simulator() as sim, client(sim) as session:
        for _ in range(3):
            async with session.post('/v1/chat/completions', json=body(stream=True)) as response:
                assert response.headers.get('Connection') != 'close'
                await response.read()
        assert [record.number for record in sim.requests] == [1, 2, 3]


async def test_a_body_that_is_too_large_gets_a_413() -> None:
    async with Simulator() as sim:
        answered = await send(sim, b'"' + b'x' * (65 * 2**20) + b'"')
    assert answered.status == 413
    assert 'send less' in answered.json['error']['message']
