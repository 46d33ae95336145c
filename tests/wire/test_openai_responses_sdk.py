"""The vendor's own client understands what the codec's server side says, and the codec what the client asks."""

import json
from typing import Any

import pytest

from lamella.types import (
    DataPart,
    GenerationConfig,
    LamellaError,
    Message,
    ModelRequest,
    ModelResponse,
    ReasoningPart,
    Source,
    TextPart,
    ToolInputDelta,
    ToolRequest,
    ToolRequestPart,
    Usage,
    unfold,
)
from tests.wire.openai_responses_events import CODEC, sent_events

openai = pytest.importorskip('openai', reason="the vendor's client is not installed: pip install 'lamella[test]'")
httpx2 = pytest.importorskip('httpx2', reason="the vendor's client is not installed: pip install 'lamella[test]'")
pytestmark = pytest.mark.anyio

ANSWER = ModelResponse(
    message=Message.assistant(
        ReasoningPart('Let me see.'),
        TextPart('I look it up.'),
        ToolRequestPart(ToolRequest('weather', {'city': 'Zürich', 'days': [1, 2]}, 'call_1')),
        ToolRequestPart(ToolRequest('time', {}, 'call_2')),
    ),
    finish_reason='tool_calls',
    usage=Usage(20, 9, 29, cached_tokens=5, reasoning_tokens=3),
    model='gpt-x',
    id='resp_1',
    sources=(Source('https://a.example', 'A', index=1),),
)


def client(answer: ModelResponse | LamellaError, seen: list[ModelRequest]) -> Any:
    """A client of a server that gives this answer."""

    def handle(request: Any) -> Any:
        decoded = CODEC.decode_request(request.read())
        seen.append(decoded.request)
        if isinstance(answer, LamellaError):
            error = CODEC.encode_error(answer)
            return httpx2.Response(error.status, headers=error.headers, content=error.body)
        if decoded.stream:
            stream = sent_events([*unfold(answer)], request=decoded.request)
            return httpx2.Response(200, headers={'content-type': 'text/event-stream'}, content=stream)
        body = CODEC.encode_response(answer, model=decoded.model, request=decoded.request)
        return httpx2.Response(200, headers={'content-type': 'application/json'}, content=body)

    transport = httpx2.MockTransport(handle)
    return openai.AsyncOpenAI(
        api_key='none',
        base_url='http://test/v1',
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=transport),
        _strict_response_validation=True,
    )


def checked(response: Any) -> None:
    assert (response.id, response.status, response.output_text) == ('resp_1', 'completed', 'I look it up.')
    thought, message, weather, time = response.output
    assert thought.summary[0].text == 'Let me see.'
    assert message.content[0].annotations[0].url == 'https://a.example'
    assert json.loads(weather.arguments) == {'city': 'Zürich', 'days': [1, 2]}
    assert (weather.call_id, time.name) == ('call_1', 'time')
    assert response.usage.input_tokens_details.cached_tokens == 5
    assert response.usage.output_tokens_details.reasoning_tokens == 3


async def test_the_client_reads_a_whole_answer() -> None:
    seen: list[ModelRequest] = []
    response = await client(ANSWER, seen).responses.create(
        model='gpt-x',
        instructions='Be brief.',
        input=[{'role': 'user', 'content': [{'type': 'input_text', 'text': 'hi'}]}],
        reasoning={'effort': 'low'},
        tools=[{'type': 'function', 'name': 'time', 'parameters': {'type': 'object'}, 'strict': True}],
        temperature=0.5,
        store=False,
    )
    checked(response)
    assert response.tools[0].name == 'time'
    (request,) = seen
    assert [message.text for message in request.messages] == ['Be brief.', 'hi']
    assert request.config == GenerationConfig(temperature=0.5, reasoning_effort='low')
    assert request.provider_options == {'openai': {'store': False}}


async def test_the_client_reads_a_stream_and_adds_it_up() -> None:
    async with client(ANSWER, []).responses.stream(model='gpt-x', input='hi') as stream:
        events = [event async for event in stream]
        response = await stream.get_final_response()
    checked(response)
    assert ''.join([event.delta for event in events if event.type == 'response.output_text.delta']) == 'I look it up.'
    assert [event.sequence_number for event in events if event.type != 'response.output_text.delta'][-1] > 10


async def test_the_client_takes_tool_input_in_pieces() -> None:
    request = ToolRequest('f', {'a': 1}, 'call_1')
    response = ModelResponse(message=Message.assistant(ToolRequestPart(request)), model='m', id='resp_1')
    first, whole, last = unfold(response)
    stream = sent_events([first, ToolInputDelta('{"a"', 0, 'f', 'call_1'), ToolInputDelta(':1}', 0), whole, last])

    def handle(request: Any) -> Any:
        return httpx2.Response(200, headers={'content-type': 'text/event-stream'}, content=stream)

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(handle))
    sdk = openai.AsyncOpenAI(api_key='none', base_url='http://test/v1', http_client=http)
    async with sdk.responses.stream(model='m', input='hi') as events:
        final = await events.get_final_response()
    assert final.output[0].arguments == '{"a":1}'


async def test_the_client_reads_refusals_and_limits() -> None:
    refusal = DataPart({'type': 'refusal', 'refusal': 'No.'}, {'openai': {}})
    refused = ModelResponse(message=Message.assistant(refusal), finish_reason='blocked', id='resp_1')
    response = await client(refused, []).responses.create(model='m', input='hi')
    assert response.output[0].content[0].refusal == 'No.'
    cut = ModelResponse.text_of('So', finish_reason='length', id='resp_1')
    response = await client(cut, []).responses.create(model='m', input='hi')
    assert (response.status, response.incomplete_details.reason) == ('incomplete', 'max_output_tokens')


async def test_the_client_sends_a_conversation_back_that_means_the_same() -> None:
    seen: list[ModelRequest] = []
    sdk = client(ANSWER, seen)
    first = await sdk.responses.create(model='m', input='hi')
    output = [item.model_dump(exclude_none=True) for item in first.output]
    answers = [{'type': 'function_call_output', 'call_id': f'call_{i}', 'output': 'x'} for i in (1, 2)]
    await sdk.responses.create(model='m', input=[{'role': 'user', 'content': 'hi'}, *output, *answers])
    said = seen[1].messages[1]
    assert said == CODEC.decode_response(CODEC.encode_response(ANSWER, model='m')).message
    assert [part.tool_response.name for part in seen[1].messages[2].tool_responses] == ['weather', 'time']


async def test_the_client_raises_its_own_errors() -> None:
    for status, error in (
        ('RESOURCE_EXHAUSTED', openai.RateLimitError),
        ('UNAUTHENTICATED', openai.AuthenticationError),
        ('INVALID_ARGUMENT', openai.BadRequestError),
        ('NOT_FOUND', openai.NotFoundError),
        ('UNAVAILABLE', openai.InternalServerError),
    ):
        with pytest.raises(error, match='Sorry'):
            await client(LamellaError(status, 'Sorry.'), []).responses.create(model='m', input='hi')  # type: ignore[arg-type]
