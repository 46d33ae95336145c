"""The LiteLLM plugin: against LiteLLM itself where it is installed, over HTTP to a server of this machine."""

import asyncio
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.model import Model
from lamella.plugins.litellm import LiteLLM
from lamella.types import (
    ConfigError,
    Finished,
    GenerationConfig,
    LamellaError,
    Message,
    ModelRequest,
    ResponseStarted,
    StreamPart,
    TextDelta,
    ToolDefinition,
    ToolRequest,
    ToolResponse,
    Usage,
    fold,
)
from lamella.types.parts import ToolRequestPart

pytestmark = [
    pytest.mark.anyio,
    # LiteLLM's own.
    pytest.mark.filterwarnings('ignore::UserWarning', 'ignore::DeprecationWarning'),
]
needs_litellm = pytest.mark.skipif(
    importlib.util.find_spec('litellm') is None,
    reason="LiteLLM is not installed (some 180 MB, not in lamella[all]): pip install 'lamella[litellm]'",
)

ASKED = ModelRequest(messages=(Message.system('Be brief.'), Message.user('hi')))


class Nobody:
    """These models ask nothing of the app."""

    def resolve_model(self, model: Any) -> Model:
        raise AssertionError(model)


def context() -> GenerateMiddlewareContext:
    return GenerateMiddlewareContext(Nobody())


async def drain(model: Model, request: ModelRequest) -> list[StreamPart]:
    return [part async for part in model.stream(request, context())]


# ── without LiteLLM ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_models_are_named_after_the_provider_and_cost_nothing_until_used() -> None:
    before = 'litellm' in sys.modules
    model = LiteLLM().model('openrouter/anthropic/claude-x')
    assert model.name == 'litellm/openrouter/anthropic/claude-x'
    assert model.info.structured_output == 'instructions'
    assert ('litellm' in sys.modules) is before


@pytest.mark.parametrize('name', ['num_retries', 'max_retries', 'fallbacks', 'messages', 'stream'])
def test_options_that_would_retry_behind_the_layers_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f'{name}: .*Retry and Fallback'):
        LiteLLM(options={name: 3})


async def test_options_of_a_call_are_refused_too() -> None:
    request = ASKED.replace(provider_options={'litellm': {'num_retries': 3}})
    with pytest.raises(LamellaError, match='num_retries') as caught:
        await LiteLLM().model('openai/x').generate(request, context())
    assert caught.value.status == 'INVALID_ARGUMENT'


async def test_its_absence_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'litellm', None)
    with pytest.raises(ConfigError, match=r"pip install 'lamella\[litellm\]'"):
        await LiteLLM().model('openai/x').generate(ASKED, context())


# ── with LiteLLM ────────────────────────────────────────────────────────────────────────────────────────────────────

Handler = Callable[[web.Request], Any]


@asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post('/v1/chat/completions', handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, '127.0.0.1', 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f'http://{host}:{port}/v1'
    finally:
        await runner.cleanup()


def answer(message: dict[str, Any], finish_reason: str = 'stop') -> dict[str, Any]:
    return {
        'id': 'chatcmpl-1',
        'object': 'chat.completion',
        'created': 1,
        'model': 'gpt-x',
        'choices': [{'index': 0, 'message': {'role': 'assistant', **message}, 'finish_reason': finish_reason}],
        'usage': {'prompt_tokens': 7, 'completion_tokens': 3, 'total_tokens': 10},
    }


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {'index': 0, 'delta': delta, 'finish_reason': finish_reason}
    return {'id': 'chatcmpl-1', 'object': 'chat.completion.chunk', 'created': 1, 'model': 'gpt-x', 'choices': [choice]}


CALLS = [
    {'id': 'call_1', 'type': 'function', 'function': {'name': 'weather', 'arguments': '{"city": "Bern"}'}},
    {'id': 'call_2', 'type': 'function', 'function': {'name': 'time', 'arguments': '{}'}},
]


async def streamed(request: web.Request, chunks: list[dict[str, Any]], *, whole: bool = True) -> web.StreamResponse:
    response = web.StreamResponse(headers={'content-type': 'text/event-stream'})
    await response.prepare(request)
    for item in chunks:
        await response.write(f'data: {json.dumps(item)}\n\n'.encode())
    if whole:
        await response.write(b'data: [DONE]\n\n')
        return response
    assert request.transport is not None
    request.transport.abort()
    return response


@needs_litellm
async def test_a_call_over_http_says_everything_and_understands_everything() -> None:
    seen: list[Any] = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.headers.get('authorization'), await request.json()))
        return web.json_response(answer({'content': 'Hello!'}))

    request = ASKED.replace(
        config=GenerationConfig(temperature=0.5, max_output_tokens=9, stop_sequences=('END',)),
        tools=(ToolDefinition('weather', 'Weather.', {'type': 'object', 'properties': {}}),),
    )
    async with server(handle) as url:
        model = LiteLLM(api_key='k1', base_url=url).model('openai/gpt-x')
        response = await model.generate(request, context())
    assert response.text == 'Hello!'
    assert response.finish_reason == 'stop'
    assert response.usage == Usage(7, 3, 10)
    ((authorization, body),) = seen
    assert authorization == 'Bearer k1'
    assert body['model'] == 'gpt-x'
    assert [message['role'] for message in body['messages']] == ['system', 'user']
    assert (body['temperature'], body['stop']) == (0.5, ['END'])
    assert 9 in (body.get('max_tokens'), body.get('max_completion_tokens'))
    assert body['tools'][0]['function']['name'] == 'weather'


@needs_litellm
async def test_tools_come_back_and_their_results_go_out() -> None:
    bodies: list[Any] = []

    async def handle(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        first = len(bodies) == 1
        return web.json_response(
            answer({'tool_calls': CALLS}, 'tool_calls') if first else answer({'content': 'Sunny.'})
        )

    async with server(handle) as url:
        model = LiteLLM(api_key='k', base_url=url).model('openai/gpt-x')
        response = await model.generate(ASKED, context())
        assert response.finish_reason == 'tool_calls'
        assert response.tool_requests == (
            ToolRequestPart(ToolRequest('weather', {'city': 'Bern'}, 'call_1')),
            ToolRequestPart(ToolRequest('time', {}, 'call_2')),
        )
        results = Message.tool(ToolResponse('weather', {'t': 20}, 'call_1'), ToolResponse('time', 'noon', 'call_2'))
        messages = (*ASKED.messages, response.message, results)
        assert (await model.generate(ASKED.replace(messages=messages), context())).text == 'Sunny.'
    sent = bodies[1]['messages']
    assert [call['id'] for call in sent[2]['tool_calls']] == ['call_1', 'call_2']
    assert [(message['tool_call_id'], message['content']) for message in sent[3:]] == [
        ('call_1', '{"t":20}'),
        ('call_2', 'noon'),
    ]


@needs_litellm
async def test_a_stream_over_http_comes_piece_by_piece() -> None:
    chunks = [
        chunk({'role': 'assistant', 'content': ''}),
        chunk({'content': 'Hel'}),
        chunk({'content': 'lo'}),
        chunk({}, 'stop'),
        {**chunk({}), 'choices': [], 'usage': {'prompt_tokens': 7, 'completion_tokens': 3, 'total_tokens': 10}},
    ]
    async with server(partial(streamed, chunks=chunks)) as url:
        parts = await drain(LiteLLM(api_key='k', base_url=url).model('openai/gpt-x'), ASKED)
    assert type(parts[0]) is ResponseStarted
    assert type(parts[-1]) is Finished
    assert [part.text for part in parts if type(part) is TextDelta and part.text] == ['Hel', 'lo']
    response = fold(parts)
    assert (response.text, response.finish_reason) == ('Hello', 'stop')
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (7, 3)


@needs_litellm
async def test_tool_requests_stream_too() -> None:
    pieces = [
        {'index': 0, 'id': 'call_1', 'type': 'function', 'function': {'name': 'weather', 'arguments': ''}},
        {'index': 0, 'function': {'arguments': '{"city":'}},
        {'index': 0, 'function': {'arguments': ' "Bern"}'}},
        {'index': 1, 'id': 'call_2', 'type': 'function', 'function': {'name': 'time', 'arguments': '{}'}},
    ]
    chunks = [chunk({'role': 'assistant'}), *[chunk({'tool_calls': [p]}) for p in pieces], chunk({}, 'tool_calls')]
    async with server(partial(streamed, chunks=chunks)) as url:
        response = fold(await drain(LiteLLM(api_key='k', base_url=url).model('openai/gpt-x'), ASKED))
    assert response.finish_reason == 'tool_calls'
    assert [(p.tool_request.name, p.tool_request.input, p.tool_request.ref) for p in response.tool_requests] == [
        ('weather', {'city': 'Bern'}, 'call_1'),
        ('time', {}, 'call_2'),
    ]


@needs_litellm
async def test_a_stream_cut_by_the_network_is_an_error() -> None:
    chunks = [chunk({'role': 'assistant', 'content': 'Hel'})]
    async with server(partial(streamed, chunks=chunks, whole=False)) as url:
        with pytest.raises(LamellaError) as caught:
            await drain(LiteLLM(api_key='k', base_url=url).model('openai/gpt-x'), ASKED)
    assert caught.value.status in ('UNAVAILABLE', 'INTERNAL')


@needs_litellm
@pytest.mark.parametrize(
    ('http_status', 'status'),
    [
        (400, 'INVALID_ARGUMENT'),
        (401, 'UNAUTHENTICATED'),
        (403, 'PERMISSION_DENIED'),
        (404, 'NOT_FOUND'),
        (429, 'RESOURCE_EXHAUSTED'),
        (500, 'INTERNAL'),
        (503, 'UNAVAILABLE'),
    ],
)
@pytest.mark.parametrize('stream', [False, True])
async def test_an_error_is_translated_once_and_nothing_is_retried(http_status: int, status: str, stream: bool) -> None:
    calls = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        body = {'error': {'message': 'it failed for sk-abcdefghijklmnop', 'type': 't', 'code': None}}
        return web.json_response(body, status=http_status, headers={'retry-after': '3', 'x-request-id': 'req_9'})

    async with server(handle) as url:
        model = LiteLLM(api_key='k', base_url=url).model('openai/gpt-x')
        with pytest.raises(LamellaError, match='it failed') as caught:
            await (drain(model, ASKED) if stream else model.generate(ASKED, context()))
    error = caught.value
    assert error.status == status
    assert error.details['http_status'] == http_status
    assert error.__cause__ is not None
    assert 'sk-abcdef' not in error.message
    assert calls == 1
    if http_status == 429:
        assert error.retry_after_s == 3


@needs_litellm
async def test_nobody_answering_is_unavailable() -> None:
    async with server(partial(streamed, chunks=[])) as url:
        pass  # and gone
    with pytest.raises(LamellaError) as caught:
        await LiteLLM(api_key='k', base_url=url).model('openai/gpt-x').generate(ASKED, context())
    assert caught.value.status in ('UNAVAILABLE', 'INTERNAL')


@needs_litellm
async def test_a_slow_answer_is_a_deadline_exceeded() -> None:
    release = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    async with server(handle) as url:
        model = LiteLLM(api_key='k', base_url=url, timeout_s=0.2).model('openai/gpt-x')
        with pytest.raises(LamellaError) as caught:
            await model.generate(ASKED, context())
        release.set()
    assert caught.value.status == 'DEADLINE_EXCEEDED'


@needs_litellm
async def test_a_missing_key_cannot_be_helped_by_waiting() -> None:
    with pytest.raises(LamellaError) as caught:
        await LiteLLM().model('openai/gpt-x').generate(ASKED, context())
    assert caught.value.status == 'UNAUTHENTICATED'


@needs_litellm
async def test_an_unknown_provider_is_the_callers_mistake() -> None:
    with pytest.raises(LamellaError, match='litellm/nosuch') as caught:
        await LiteLLM().model('nosuch').generate(ASKED, context())
    assert caught.value.status == 'INVALID_ARGUMENT'


@needs_litellm
async def test_a_package_that_litellm_lacks_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('google', 'google.auth', 'google.auth.transport', 'google.auth.transport.requests'):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(LamellaError) as caught:
        await LiteLLM(options={'vertex_credentials': '{}'}).model('vertex_ai/gemini-x').generate(ASKED, context())
    assert caught.value.status == 'FAILED_PRECONDITION'


@needs_litellm
async def test_its_own_mock_answers_whole_and_streamed() -> None:
    model = LiteLLM(options={'mock_response': 'Hello there'}).model('openai/gpt-x')
    whole = await model.generate(ASKED, context())
    assert (whole.text, whole.finish_reason) == ('Hello there', 'stop')
    assert fold(await drain(model, ASKED)).text == 'Hello there'


@needs_litellm
async def test_cancelling_passes() -> None:
    entered = asyncio.Event()
    release = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        entered.set()
        await release.wait()
        return web.Response()

    async with server(handle) as url:
        model = LiteLLM(api_key='k', base_url=url).model('openai/gpt-x')
        task = asyncio.create_task(model.generate(ASKED, context()))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()


@needs_litellm
async def test_the_table_of_prices_is_not_downloaded() -> None:
    await LiteLLM(options={'mock_response': 'x'}).model('openai/gpt-x').generate(ASKED, context())
    assert os.environ['LITELLM_LOCAL_MODEL_COST_MAP'] == 'True'
    assert importlib.import_module('litellm').suppress_debug_info is True
