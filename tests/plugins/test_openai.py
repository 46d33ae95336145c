"""The OpenAI plugin over Chat Completions, by HTTP, against servers of this machine that speak the protocol."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from pydantic import BaseModel

from lamella import Lamella
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.model import Model
from lamella.plugins import HttpSettings
from lamella.plugins.openai import OpenAI
from lamella.types import (
    ConfigError,
    Finished,
    GenerationConfig,
    LamellaError,
    Message,
    ModelRequest,
    ModelResponse,
    ResponseStarted,
    StreamPart,
    TextDelta,
    ToolRequest,
    ToolRequestPart,
    Usage,
    fold,
)
from lamella.wire.openai_chat import OpenAIChatCodec
from lamella.wire.sse import encode_event
from tests.plugins.raw_server import Connection, Handler, raw_server
from tests.wire.openai_chat_answers import ANSWERS, chunks, whole

pytestmark = pytest.mark.anyio

CODEC = OpenAIChatCodec()
ASKED = ModelRequest((Message.system('Be brief.'), Message.user('hi')))
SSE = b'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n'


class Nobody:
    """These models ask nothing of the app."""

    def resolve_model(self, model: Any) -> Model:
        raise AssertionError(model)


def context() -> GenerateMiddlewareContext:
    return GenerateMiddlewareContext(Nobody())


@asynccontextmanager
async def model_of(handler: Handler, model: str = 'gpt-x', **options: Any) -> AsyncIterator[Model]:
    """A model of the plugin, and the server that it asks."""
    async with raw_server(handler) as (_, url):
        plugin = OpenAI(base_url=f'{url}/v1', **options)
        try:
            yield plugin.model(model)
        finally:
            await plugin.aclose()


async def send(connection: Connection, *bodies: bytes) -> None:
    """Pieces of a body in chunked coding, each in a write of its own."""
    for body in bodies:
        await connection.send(b'%x\r\n%b\r\n' % (len(body), body))


def events(name: str) -> bytes:
    return b''.join([encode_event(json.dumps(chunk)) for chunk in chunks(name)]) + b'data: [DONE]\n\n'


def answering(name: str, seen: list[Any] | None = None, size: int = 37) -> Handler:
    """A server that gives this answer, whole or streamed in pieces of that size, and notes what it was asked."""

    async def handle(connection: Connection) -> None:
        while found := await connection.request():
            asked = json.loads(found[2])
            if seen is not None:
                seen.append((found[0], found[1], asked))
            if not asked.get('stream'):
                await connection.answer(json.dumps(whole(name)).encode())
                continue
            body = events(name)
            await connection.send(SSE)
            await send(connection, *[body[i : i + size] for i in range(0, len(body), size)])
            await connection.send(b'0\r\n\r\n')

    return handle


def refusing(status: str, body: bytes, *headers: str) -> Handler:
    async def handle(connection: Connection) -> None:
        while await connection.request():
            await connection.answer(body, status, *headers)

    return handle


async def parts_of(
    model: Model, request: ModelRequest = ASKED, into: list[StreamPart] | None = None
) -> list[StreamPart]:
    parts = [] if into is None else into
    async for part in model.stream(request, context()):
        parts.append(part)
    return parts


async def failure(handler: Handler, *, stream: bool = False, **options: Any) -> LamellaError:
    async with model_of(handler, **options) as model:
        with pytest.raises(LamellaError) as caught:
            await (parts_of(model) if stream else model.generate(ASKED, context()))
    return caught.value


# Answers


@pytest.mark.parametrize('name', ANSWERS)
async def test_answers_come_whole_and_streamed_and_are_the_same(name: str) -> None:
    async with model_of(answering(name)) as model:
        response = await model.generate(ASKED, context())
        parts = await parts_of(model)
    decoded = CODEC.decode_response(json.dumps(whole(name)).encode())
    assert response == decoded.replace(model=f'openai/{decoded.model}')
    assert fold(parts) == response
    assert type(parts[0]) is ResponseStarted
    assert type(parts[-1]) is Finished


@pytest.mark.parametrize('size', [1, 2, 1000, 10**6])
async def test_the_network_may_cut_a_stream_anywhere(size: int) -> None:
    async with model_of(answering('text', size=size)) as model:
        assert fold(await parts_of(model)).text == 'Hello'


async def test_what_cannot_be_said_is_a_warning_of_the_answer() -> None:
    request = ASKED.replace(config=GenerationConfig(top_k=5))
    async with model_of(answering('text')) as model:
        response = await model.generate(request, context())
        streamed = fold(await parts_of(model, request))
    assert 'top_k=5' in response.warnings[0]
    assert streamed == response


async def test_one_connection_serves_call_after_call() -> None:
    async with raw_server(answering('text')) as (server, url):
        plugin = OpenAI(base_url=f'{url}/v1')
        model = plugin.model('gpt-x')
        for _ in range(3):
            await model.generate(ASKED, context())
            await parts_of(model)
        await plugin.aclose()
    assert (len(server.connections), server.requests) == (1, 6)


async def test_an_answer_ends_with_its_last_event_though_the_body_goes_on() -> None:
    async def handle(connection: Connection) -> None:
        await connection.request()
        await connection.send(SSE)
        await send(connection, events('text'), b': still here\n\n')
        await connection.hung_up()

    async with model_of(handle) as model:
        assert fold(await parts_of(model)).text == 'Hello'


async def test_a_server_that_does_not_stream_is_understood_all_the_same() -> None:
    async def handle(connection: Connection) -> None:
        await connection.request()
        body = json.dumps(whole('parallel tool calls')).encode()
        await connection.answer(body, '200 OK', 'content-type: application/json; charset=utf-8')

    async with model_of(handle) as model:
        response = fold(await parts_of(model))
    assert (len(response.tool_requests), response.model) == (3, 'openai/gpt-x-2026-01-01')


async def test_a_web_page_is_no_api() -> None:
    for stream in (False, True):
        error = await failure(refusing('200 OK', b'<!doctype html>', 'content-type: text/html'), stream=stream)
        assert error.status == 'FAILED_PRECONDITION'
        assert 'check base_url' in error.message


# What is sent


async def sent(**options: Any) -> tuple[str, dict[str, str], Any]:
    seen: list[Any] = []
    async with model_of(answering('text', seen), **options) as model:
        await model.generate(ASKED, context())
    return seen[0]


async def test_the_request_goes_where_it_belongs() -> None:
    first, headers, asked = await sent(api_key='sk-test-123456789')
    assert first == 'POST /v1/chat/completions HTTP/1.1'
    assert (headers['authorization'], headers['content-type']) == ('Bearer sk-test-123456789', 'application/json')
    assert asked == json.loads(CODEC.encode_request(ASKED, 'gpt-x').body)


async def test_organization_project_headers_and_query_go_along() -> None:
    first, headers, _ = await sent(
        organization='org-1', project='proj-1', headers={'api-key': 'k', 'x-a': 'b'}, query={'api-version': 'a b'}
    )
    assert first == 'POST /v1/chat/completions?api-version=a+b HTTP/1.1'
    assert (headers['openai-organization'], headers['openai-project'], headers['x-a']) == ('org-1', 'proj-1', 'b')
    assert 'authorization' not in headers


async def test_a_model_name_may_have_slashes() -> None:
    seen: list[Any] = []
    async with model_of(answering('text', seen), 'meta/llama-x', name='router') as model:
        response = await model.generate(ASKED, context())
    assert (model.name, seen[0][2]['model'], model.provider) == ('router/meta/llama-x', 'meta/llama-x', 'router')
    assert response.metadata.keys() == {'router'}


# Keys


async def test_this_machine_needs_no_key() -> None:
    assert 'authorization' not in (await sent())[1]


async def test_a_missing_key_is_named_when_a_model_is_first_used() -> None:
    model = OpenAI().model('gpt-x')
    with pytest.raises(LamellaError, match=r'set OPENAI_API_KEY, or give OpenAI\(api_key=…\)') as caught:
        await model.generate(ASKED, context())
    assert caught.value.status == 'UNAUTHENTICATED'


async def test_key_and_address_are_read_when_a_model_is_first_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = OpenAI().model('gpt-x')
    seen: list[Any] = []
    async with raw_server(answering('text', seen)) as (_, url):
        monkeypatch.setenv('OPENAI_API_KEY', 'sk-of-the-shell\n')
        monkeypatch.setenv('OPENAI_BASE_URL', f'{url}/v2/')
        await model.generate(ASKED, context())
    assert (seen[0][0], seen[0][1]['authorization']) == ('POST /v2/chat/completions HTTP/1.1', 'Bearer sk-of-the-shell')


async def test_another_vendor_never_gets_openais_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('OPENAI_API_KEY', 'sk-of-openai')
    assert 'authorization' not in (await sent(name='my-groq'))[1]
    monkeypatch.setenv('MY_GROQ_API_KEY', 'gsk-of-groq')
    assert (await sent(name='my-groq'))[1]['authorization'] == 'Bearer gsk-of-groq'
    with pytest.raises(LamellaError, match='set OTHER_API_KEY'):
        await OpenAI(name='other', base_url='https://api.invalid/v1').model('x').generate(ASKED, context())


async def test_no_key_is_ever_shown() -> None:
    key = 'test_key_without_a_shape'
    body = json.dumps({'error': {'message': f'Incorrect API key provided: {key}.', 'code': 'invalid_api_key'}}).encode()
    error = await failure(refusing('401 Unauthorized', body), api_key=key)
    assert (error.status, error.message) == ('UNAUTHENTICATED', 'Incorrect API key provided: [redacted].')
    plugin = OpenAI(key, 'https://api.invalid/v1')
    for shown in (repr(plugin), repr(plugin.model('x')), repr(await plugin._aim('x', False)), repr(error.__cause__)):
        assert key not in shown


@pytest.mark.parametrize('url', ['api.invalid/v1', 'ftp://api.invalid', '', 5])
def test_an_address_that_is_none_is_named_when_the_plugin_is_built(url: Any) -> None:
    with pytest.raises(ConfigError, match='base_url='):
        OpenAI(base_url=url)


# Refusals


async def test_a_rate_limit_says_when_to_come_back() -> None:
    body = b'{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}'
    for stream in (False, True):
        error = await failure(
            refusing('429 Too Many Requests', body, 'Retry-After: 7', 'x-request-id: req_1'), stream=stream
        )
        assert (error.status, error.message, error.retry_after_s) == ('RESOURCE_EXHAUSTED', 'Rate limit reached', 7.0)
        assert (error.details['http_status'], error.details['request_id']) == (429, 'req_1')


@pytest.mark.parametrize(
    ('status', 'expected'),
    [
        ('400 Bad Request', 'INVALID_ARGUMENT'),
        ('404 Not Found', 'NOT_FOUND'),
        ('408 Request Timeout', 'DEADLINE_EXCEEDED'),
        ('500 Internal Server Error', 'INTERNAL'),
        ('503 Service Unavailable', 'UNAVAILABLE'),
        ('302 Found', 'FAILED_PRECONDITION'),
    ],
)
async def test_every_status_has_its_error_whole_and_streamed(status: str, expected: str) -> None:
    for stream in (False, True):
        assert (await failure(refusing(status, b'<h1>no</h1>'), stream=stream)).status == expected


async def test_the_status_counts_though_the_rest_of_the_refusal_never_comes() -> None:
    async def handle(connection: Connection) -> None:
        await connection.request()
        await connection.send(b'HTTP/1.1 503 No\r\ncontent-length: 100\r\n\r\n{"error":')

    assert (await failure(handle)).details['http_status'] == 503


async def test_a_huge_refusal_is_read_in_part() -> None:
    error = await failure(refusing('502 Bad Gateway', b'x' * 5_000_000))
    assert (error.status, len(error.message)) == ('UNAVAILABLE', 2000)


# Streams that fail


def beginning(*then: bytes, hang: bool = False) -> Handler:
    """A stream that says "Hel" and then something else, or nothing any more."""

    async def handle(connection: Connection) -> None:
        await connection.request()
        await connection.send(SSE)
        await send(connection, *[encode_event(json.dumps(chunk)) for chunk in chunks('text')[:2]], *then)
        if hang:
            await connection.hung_up()

    return handle


ERROR = encode_event('{"error":{"message":"Overloaded","code":"server_is_overloaded"}}')


@pytest.mark.parametrize(
    ('handler', 'status', 'words'),
    [
        (beginning(), 'UNAVAILABLE', 'ClientPayloadError'),
        (beginning(b'data: {"choi\n\n'), 'INTERNAL', 'malformed chunk'),
        (beginning(ERROR), 'UNAVAILABLE', 'Overloaded'),
    ],
    ids=['cut', 'garbled', 'error event'],
)
async def test_a_stream_that_fails_gives_what_came_and_then_one_error(
    handler: Handler, status: str, words: str
) -> None:
    parts: list[StreamPart] = []
    async with model_of(handler) as model:
        with pytest.raises(LamellaError, match=words) as caught:
            await parts_of(model, into=parts)
    assert caught.value.status == status
    assert [part.text for part in parts if type(part) is TextDelta] == ['Hel']


async def test_a_body_that_ends_before_the_answer_says_so_with_what_had_come() -> None:
    async def handle(connection: Connection) -> None:
        await beginning()(connection)
        await connection.send(b'0\r\n\r\n')

    error = await failure(handle, stream=True)
    assert (error.status, error.message) == (
        'UNAVAILABLE',
        'the stream ended before the answer was complete: the connection was cut',
    )
    assert error.partial is not None
    assert error.partial.text == 'Hel'


async def test_a_stream_that_stalls_names_the_setting() -> None:
    error = await failure(beginning(hang=True), stream=True, http=HttpSettings(idle_timeout_s=0.05))
    assert error.status == 'DEADLINE_EXCEEDED'
    assert 'idle_timeout_s=0.05' in error.message


# Leaving


async def test_leaving_a_stream_is_seen_by_the_server_at_once() -> None:
    closed = asyncio.Event()

    async def handle(connection: Connection) -> None:
        await beginning(hang=True)(connection)
        closed.set()

    async with model_of(handle) as model:
        async with aclosing(model.stream(ASKED, context())) as parts:  # type: ignore[type-var]
            async for part in parts:
                if type(part) is TextDelta:
                    break
        await asyncio.wait_for(closed.wait(), 5)


@pytest.mark.parametrize('stream', [False, True])
async def test_cancelling_is_seen_by_the_server_at_once(stream: bool) -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def handle(connection: Connection) -> None:
        await connection.request()
        asked.set()
        await connection.hung_up()
        closed.set()

    async with model_of(handle) as model:
        call = asyncio.ensure_future(parts_of(model) if stream else model.generate(ASKED, context()))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(closed.wait(), 5)


# With the app


class Sum(BaseModel):
    total: int


async def test_the_app_runs_tools_and_structured_output_over_it() -> None:
    asked: list[ModelRequest] = []
    call = ToolRequestPart(ToolRequest('add', {'a': 2, 'b': 3}, 'call_1'))
    answers = [
        ModelResponse(message=Message.assistant(call), finish_reason='tool_calls', usage=Usage(1, 1, 2)),
        ModelResponse.text_of('{"total": 5}', usage=Usage(2, 2, 4)),
    ]

    async def handle(connection: Connection) -> None:
        while found := await connection.request():
            asked.append(CODEC.decode_request(found[2]).request)
            await connection.answer(CODEC.encode_response(answers[len(asked) - 1], model='gpt-x'))

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    async with raw_server(handle) as (_, url):
        plugin = OpenAI(base_url=url)
        ai = Lamella(plugins=[plugin], model='openai/gpt-x')
        response = await ai.generate(prompt='2 + 3?', tools=[add], output_schema=Sum)
        await plugin.aclose()
    assert (response.output, response.usage) == (Sum(total=5), Usage(3, 3, 6))
    assert [tool.name for tool in asked[0].tools] == ['add']
    assert asked[0].output is not None
    assert (asked[0].output.schema or {})['required'] == ['total']
    assert [part.tool_response.output for part in asked[1].messages[-1].tool_responses] == ['5']


def test_one_plugin_serves_several_event_loops_in_turn() -> None:
    ready, done = threading.Event(), threading.Event()
    urls: list[str] = []

    async def serve() -> None:
        async with raw_server(answering('text')) as (_, url):
            urls.append(f'{url}/v1')
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    try:
        model = OpenAI(base_url=urls[0]).model('gpt-x')
        for _ in range(3):
            assert asyncio.run(model.generate(ASKED, context())).text == 'Hello'
            assert fold(asyncio.run(parts_of(model))).text == 'Hello'
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize('stream', [False, True])
async def test_headers_of_whoever_traces_go_with_the_call_that_begins(stream: bool) -> None:
    seen: list[Any] = []
    async with model_of(answering('text', seen), api_key='sk-test-123456789') as model:
        traced = context()
        traced.outgoing = {'traceparent': '00-1-2-01', 'Authorization': 'never'}
        if stream:
            parts = model.stream(ASKED, traced)
            first = asyncio.ensure_future(anext(parts))
            await asyncio.sleep(0)
            traced.outgoing = {'traceparent': 'of another call'}
            await first
            await parts.aclose()
        else:
            await model.generate(ASKED, traced)
    ((_, headers, _),) = seen
    assert headers['traceparent'] == '00-1-2-01'
    assert headers['authorization'] == 'Bearer sk-test-123456789'
