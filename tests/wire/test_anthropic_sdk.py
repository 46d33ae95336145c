"""The vendor's own client understands what the codec's server side says, and the codec what the client asks."""

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
    ToolRequestPart,
    ToolResponse,
    Usage,
    unfold,
)
from lamella.wire.anthropic import AnthropicCodec

anthropic = pytest.importorskip('anthropic', reason="the vendor's client is not installed: pip install 'lamella[test]'")
pytestmark = pytest.mark.anyio

CODEC = AnthropicCodec()
ANSWER = ModelResponse(
    message=Message.assistant(
        ReasoningPart('Let me see.', 'signature=='),
        TextPart('I look it up.'),
        ToolRequestPart(ToolRequest('weather', {'city': 'Zürich', 'days': [1, 2]}, 'toolu_1')),
        ToolRequestPart(ToolRequest('time', {}, 'toolu_2')),
    ),
    finish_reason='tool_calls',
    usage=Usage(20, 9, 29, cached_tokens=5, cache_write_tokens=3),
    model='claude-x',
    id='msg_1',
)


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
            body = CODEC.encode_response(answer, model=decoded.model)
            return web.Response(body=body, content_type='application/json')
        response = web.StreamResponse(headers={'content-type': 'text/event-stream'})
        await response.prepare(request)
        encoder = CODEC.stream_encoder(model=decoded.model)
        pieces = [ToolInputDelta('{"city": "Zür', 2, 'weather', 'toolu_1'), ToolInputDelta('ich", "days": [1, 2]}', 2)]
        start, thinking, text, *rest = unfold(answer)
        for part in (start, thinking, text, *pieces, *rest):
            await response.write(encoder.feed(part))
        await response.write(encoder.finish())
        return response

    app = web.Application()
    app.router.add_post('/v1/messages', handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, '127.0.0.1', 0).start()
    host, port = runner.addresses[0][:2]
    async with anthropic.AsyncAnthropic(api_key='k', base_url=f'http://{host}:{port}', max_retries=0) as client:
        yield client
    await runner.cleanup()


def check(message: Any) -> None:
    assert [block.type for block in message.content] == ['thinking', 'text', 'tool_use', 'tool_use']
    thinking, text, weather, time = message.content
    assert (thinking.thinking, thinking.signature) == ('Let me see.', 'signature==')
    assert text.text == 'I look it up.'
    assert (weather.id, weather.name, weather.input) == ('toolu_1', 'weather', {'city': 'Zürich', 'days': [1, 2]})
    assert time.input == {}
    assert (message.id, message.model, message.stop_reason) == ('msg_1', 'claude-x', 'tool_use')
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (12, 5, 3)
    assert usage.output_tokens == 9


QUESTION: dict[str, Any] = {'model': 'claude-x', 'max_tokens': 100, 'messages': [{'role': 'user', 'content': 'hi'}]}


async def test_the_client_reads_a_whole_answer() -> None:
    async with serving(ANSWER, []) as client:
        check(await client.messages.create(**QUESTION))


async def test_the_client_reads_a_streamed_answer() -> None:
    async with serving(ANSWER, []) as client, client.messages.stream(**QUESTION) as stream:
        check(await stream.get_final_message())


async def test_the_client_reads_an_error() -> None:
    error = LamellaError('RESOURCE_EXHAUSTED', 'slow down', retry_after_s=2)
    async with serving(error, []) as client:
        with pytest.raises(anthropic.RateLimitError, match='slow down') as caught:
            await client.messages.create(**QUESTION)
    assert caught.value.response.headers['retry-after'] == '2'
    assert caught.value.type == 'rate_limit_error'


async def test_the_codec_reads_what_the_client_asks() -> None:
    seen: list[ModelRequest] = []
    async with serving(ModelResponse.text_of('ok', usage=Usage(1, 1, 2)), seen) as client:
        first = await client.messages.create(
            **QUESTION,
            system='Be brief.',
            stop_sequences=['END'],
            tools=[{'name': 'weather', 'description': 'W.', 'input_schema': {'type': 'object'}}],
            tool_choice={'type': 'tool', 'name': 'weather', 'disable_parallel_tool_use': True},
            output_config={'effort': 'low', 'format': {'type': 'json_schema', 'schema': {'type': 'object'}}},
            metadata={'user_id': 'u'},
        )
        assert first.content[0].text == 'ok'
        picture = {'type': 'image', 'source': {'type': 'base64', 'media_type': 'image/png', 'data': 'iVBORw=='}}
        turns = [
            {'role': 'user', 'content': [{'type': 'text', 'text': 'hi'}, picture]},
            {'role': 'assistant', 'content': [{'type': 'tool_use', 'id': 'a', 'name': 'weather', 'input': {'c': 1}}]},
            {'role': 'user', 'content': [{'type': 'tool_result', 'tool_use_id': 'a', 'content': 'sunny'}]},
        ]
        await client.messages.create(**{**QUESTION, 'messages': turns})
    assert seen[0] == ModelRequest(
        messages=(Message.system('Be brief.'), Message.user('hi')),
        config=GenerationConfig(
            max_output_tokens=100, stop_sequences=('END',), reasoning_effort='low', parallel_tool_calls=False
        ),
        tools=(ToolDefinition('weather', 'W.', {'type': 'object'}),),
        tool_choice=ToolChoice('tool', 'weather'),
        output=OutputSpec('json', {'type': 'object'}),
        provider_options={'anthropic': {'metadata': {'user_id': 'u'}, 'thinking': None}},
    )
    assert seen[1].messages == (
        Message.user('hi', MediaPart(data=b'\x89PNG', content_type='image/png')),
        Message.assistant(ToolRequestPart(ToolRequest('weather', {'c': 1}, 'a'))),
        Message.tool(ToolResponse('weather', 'sunny', 'a')),
    )


async def test_an_empty_answer_is_an_answer() -> None:
    empty = ModelResponse(id='msg_2', model='m')
    async with serving(empty, []) as client:
        assert (await client.messages.create(**QUESTION)).content == []
