"""OpenAI's own client understands what the codec's server side says, and the codec what the client asks."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from lamella.types import (
    GenerationConfig,
    LamellaError,
    MediaPart,
    Message,
    ModelRequest,
    ModelResponse,
    OutputSpec,
    ReasoningPart,
    TextPart,
    ToolChoice,
    ToolDefinition,
    ToolInputDelta,
    ToolRequest,
    ToolRequested,
    ToolRequestPart,
    ToolResponse,
    Usage,
    unfold,
)
from lamella.wire.openai_chat import OpenAIChatCodec

openai = pytest.importorskip('openai', reason="the vendor's client is not installed: pip install 'lamella[test]'")
pytestmark = pytest.mark.anyio

CODEC = OpenAIChatCodec()
CALLS = (
    ToolRequestPart(ToolRequest('weather', {'city': 'Zürich', 'days': [1, 2]}, 'call_1')),
    ToolRequestPart(ToolRequest('time', {}, 'call_2')),
)
ANSWER = ModelResponse(
    message=Message.assistant(ReasoningPart('Let me see.'), TextPart('I look it up.'), *CALLS),
    finish_reason='tool_calls',
    usage=Usage(20, 9, 29, cached_tokens=5, reasoning_tokens=3),
    id='chatcmpl-1',
)
SCHEMA = {'type': 'object', 'properties': {'city': {'type': 'string'}}, 'required': ['city']}
TOOL = {'type': 'function', 'function': {'name': 'weather', 'description': 'd', 'parameters': SCHEMA}}
ASKED: dict[str, Any] = {'model': 'gpt-x', 'messages': [{'role': 'user', 'content': 'hi'}]}


@asynccontextmanager
async def serving(answer: ModelResponse | LamellaError, seen: list[ModelRequest]) -> AsyncIterator[Any]:
    """A client of a server that gives this answer."""

    async def handle(request: web.Request) -> web.StreamResponse:
        decoded = CODEC.decode_request(await request.read())
        seen.append(decoded.request)
        if isinstance(answer, LamellaError):
            error = CODEC.encode_error(answer)
            return web.Response(status=error.status, headers=error.headers, body=error.body)
        if not decoded.stream:
            body = CODEC.encode_response(answer, model=decoded.model, request=decoded.request)
            return web.Response(body=body, content_type='application/json')
        response = web.StreamResponse(headers={'content-type': 'text/event-stream'})
        await response.prepare(request)
        encoder = CODEC.stream_encoder(model=decoded.model, request=decoded.request)
        for part in unfold(answer):
            if isinstance(part, ToolRequested):
                piece = ToolInputDelta(call_arguments(part), part.index, part.tool_request.name, part.tool_request.ref)
                await response.write(encoder.feed(piece))
            await response.write(encoder.feed(part))
        await response.write(encoder.finish())
        return response

    app = web.Application(client_max_size=2**24)
    app.router.add_post('/v1/chat/completions', handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, '127.0.0.1', 0).start()
    host, port = runner.addresses[0][:2]
    try:
        async with openai.AsyncOpenAI(api_key='none', base_url=f'http://{host}:{port}/v1', max_retries=0) as client:
            yield client
    finally:
        await runner.cleanup()


def call_arguments(part: ToolRequested) -> str:
    wire = CODEC.encode_request(ModelRequest((Message.assistant(ToolRequestPart(part.tool_request)),)), 'm').body
    return str(CODEC.decode_request(wire).request.messages[0].tool_requests[0].tool_request.input).replace("'", '"')


async def test_the_client_reads_a_whole_answer() -> None:
    seen: list[ModelRequest] = []
    async with serving(ANSWER, seen) as client:
        answer = await client.chat.completions.create(**ASKED, temperature=0, max_completion_tokens=9)
    assert seen == [ModelRequest((Message.user('hi'),), GenerationConfig(temperature=0, max_output_tokens=9))]
    message = answer.choices[0].message
    assert (answer.id, answer.model, message.content) == ('chatcmpl-1', 'gpt-x', 'I look it up.')
    assert [(call.id, call.function.name) for call in message.tool_calls] == [('call_1', 'weather'), ('call_2', 'time')]
    assert (message.tool_calls[0].function.arguments, answer.choices[0].finish_reason) == (
        '{"city":"Zürich","days":[1,2]}',
        'tool_calls',
    )
    assert (answer.usage.total_tokens, answer.usage.prompt_tokens_details.cached_tokens) == (29, 5)


async def test_the_client_puts_a_stream_together() -> None:
    async with (
        serving(ANSWER, []) as client,
        client.chat.completions.stream(**ASKED, stream_options={'include_usage': True}) as stream,
    ):
        answer = await stream.get_final_completion()
    message = answer.choices[0].message
    assert (message.content, answer.choices[0].finish_reason) == ('I look it up.', 'tool_calls')
    assert [call.function.name for call in message.tool_calls] == ['weather', 'time']
    assert answer.usage.completion_tokens_details.reasoning_tokens == 3


async def test_what_the_client_asks_is_understood() -> None:
    seen: list[ModelRequest] = []
    image = 'data:image/png;base64,' + base64.b64encode(b'\x89PNG').decode()
    messages = [
        {'role': 'developer', 'content': 'Be brief.'},
        {
            'role': 'user',
            'content': [{'type': 'text', 'text': 'hi'}, {'type': 'image_url', 'image_url': {'url': image}}],
        },
        {
            'role': 'assistant',
            'tool_calls': [{'id': 'c1', 'type': 'function', 'function': {'name': 'a', 'arguments': '{}'}}],
        },
        {'role': 'tool', 'tool_call_id': 'c1', 'content': '20'},
    ]
    async with serving(ANSWER, seen) as client:
        await client.chat.completions.create(
            model='gpt-x',
            messages=messages,
            tools=[TOOL],
            tool_choice='required',
            response_format={'type': 'json_schema', 'json_schema': {'name': 'n', 'schema': SCHEMA, 'strict': True}},
            extra_body={'top_k': 3},
        )
    assert seen == [
        ModelRequest(
            (
                Message.system('Be brief.', metadata={'openai': {'role': 'developer'}}),
                Message.user('hi', MediaPart(data=b'\x89PNG', content_type='image/png')),
                Message.assistant(ToolRequestPart(ToolRequest('a', {}, 'c1'))),
                Message.tool(ToolResponse('a', '20', 'c1')),
            ),
            tools=(ToolDefinition('weather', 'd', SCHEMA),),
            tool_choice=ToolChoice('required'),
            output=OutputSpec('json', SCHEMA, 'n', True),
            provider_options={'openai': {'top_k': 3}},
        )
    ]


async def test_the_client_raises_the_error_that_was_meant() -> None:
    error = LamellaError('RESOURCE_EXHAUSTED', 'Slow down.', details={'request_id': 'req_1'}, retry_after_s=2)
    async with serving(error, []) as client:
        with pytest.raises(openai.RateLimitError, match='Slow down') as caught:
            await client.chat.completions.create(**ASKED)
    assert (caught.value.code, caught.value.request_id) == ('rate_limit_exceeded', 'req_1')
    assert caught.value.response.headers['retry-after'] == '2'
