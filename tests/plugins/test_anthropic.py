"""The Anthropic plugin over HTTP, against servers of this machine that speak the protocol."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from lamella import Lamella
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.model import Model
from lamella.plugins._http import HttpSettings
from lamella.plugins.anthropic import Anthropic, AnthropicOptions
from lamella.types import (
    ConfigError,
    Finished,
    GenerationConfig,
    LamellaError,
    Message,
    ModelRequest,
    OutputSpec,
    ResponseStarted,
    StreamPart,
    TextDelta,
    fold,
)
from lamella.wire.anthropic import AnthropicCodec
from tests.wire.anthropic_events import ANSWERS, body_of, events_of, message

pytestmark = pytest.mark.anyio

CODEC = AnthropicCodec()
ASKED = ModelRequest(messages=(Message.system('Be brief.'), Message.user('hi')))
NAME = 'claude-opus-4-6'
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Nobody:
    """These models ask nothing of the app."""

    def resolve_model(self, model: Any) -> Model:
        raise AssertionError(model)


def context() -> GenerateMiddlewareContext:
    return GenerateMiddlewareContext(Nobody())


@asynccontextmanager
async def server(handler: Handler, path: str = '/v1/messages') -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post(path, handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, '127.0.0.1', 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f'http://{host}:{port}'
    finally:
        await runner.cleanup()


@asynccontextmanager
async def model_of(handler: Handler, name: str = NAME, **options: Any) -> AsyncIterator[Model]:
    async with server(handler) as url:
        plugin = Anthropic(base_url=url, **options)
        model = plugin.model(name)
        assert model is not None
        yield model
        await plugin.aclose()


def answering(name: str, seen: list[Any] | None = None) -> Handler:
    """A server that gives this answer, whole or as a stream, and notes what it was asked."""

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if seen is not None:
            seen.append((request.headers, body))
        if not body.get('stream'):
            return web.json_response(message(name), headers={'request-id': 'req_1'})
        response = web.StreamResponse(headers={'content-type': 'text/event-stream'})
        await response.prepare(request)
        for event in events_of(message(name)):
            await response.write(body_of([event]))
        return response

    return handle


async def drain(model: Model, request: ModelRequest = ASKED, into: list[StreamPart] | None = None) -> list[StreamPart]:
    parts = [] if into is None else into
    async for part in model.stream(request, context()):
        parts.append(part)
    return parts


async def sent(request: ModelRequest, name: str = NAME, **options: Any) -> tuple[Any, Any]:
    """The headers and the body of a call."""
    seen: list[Any] = []
    async with model_of(answering('text', seen), name, **options) as model:
        await model.generate(request, context())
    ((headers, body),) = seen
    return headers, body


@pytest.mark.parametrize('name', ANSWERS)
async def test_answers_come_whole_and_streamed_and_are_the_same(name: str) -> None:
    async with model_of(answering(name)) as model:
        whole = await model.generate(ASKED, context())
        parts = await drain(model)
    decoded = CODEC.decode_response(json.dumps(message(name)).encode())
    assert whole == decoded.replace(model=f'anthropic/{decoded.model}')
    assert fold(parts) == whole
    assert type(parts[0]) is ResponseStarted
    assert type(parts[-1]) is Finished


async def test_what_goes_over_the_wire() -> None:
    headers, body = await sent(ASKED, api_key='sk-ant-1', headers={'x-team': 'a'})
    assert body == {
        'model': NAME,
        'system': 'Be brief.',
        'messages': [{'role': 'user', 'content': 'hi'}],
        'max_tokens': 16_000,
    }
    assert headers['x-api-key'] == 'sk-ant-1'
    assert headers['anthropic-version'] == '2023-06-01'
    assert headers['content-type'] == 'application/json'
    assert headers['x-team'] == 'a'
    assert not {'authorization', 'anthropic-beta'} & {name.lower() for name in headers}


async def test_beta_features_of_the_plugin_and_of_the_call() -> None:
    request = ASKED.replace(provider_options={'anthropic': {'betas': ['b', 'c'], 'speed': 'fast'}})
    headers, body = await sent(request, beta=['a', 'b'])
    assert headers['anthropic-beta'] == 'a,b,c'
    assert body['speed'] == 'fast'
    assert 'betas' not in body


async def test_a_later_version_takes_no_temperature() -> None:
    request = ASKED.replace(config=GenerationConfig(temperature=0.5))
    headers, body = await sent(request, version='2026-10-21')
    assert headers['anthropic-version'] == '2026-10-21'
    assert 'temperature' not in body
    assert (await sent(request))[1]['temperature'] == 0.5


# ── credentials ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('environment', 'options', 'expected'),
    [
        ({'ANTHROPIC_API_KEY': 'k'}, {}, {'x-api-key': 'k'}),
        ({'ANTHROPIC_AUTH_TOKEN': 't'}, {}, {'authorization': 'Bearer t'}),
        ({'ANTHROPIC_API_KEY': 'k', 'ANTHROPIC_AUTH_TOKEN': 't'}, {}, {'x-api-key': 'k'}),
        ({'ANTHROPIC_API_KEY': 'k'}, {'auth_token': 't'}, {'authorization': 'Bearer t'}),
        ({'ANTHROPIC_AUTH_TOKEN': 't'}, {'api_key': 'k'}, {'x-api-key': 'k'}),
        ({'ANTHROPIC_API_KEY': 'k'}, {'headers': {'Authorization': 'Custom x'}}, {'authorization': 'Custom x'}),
        ({}, {}, {}),
    ],
)
async def test_where_the_key_comes_from(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], options: dict[str, Any], expected: dict[str, str]
) -> None:
    monkeypatch.delenv('ANTHROPIC_AUTH_TOKEN', raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    headers, _ = await sent(ASKED, **options)
    found = {name.lower(): value for name, value in headers.items() if name.lower() in ('x-api-key', 'authorization')}
    assert found == expected


async def test_the_key_is_read_when_a_model_is_first_used(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    async with model_of(answering('text', seen)) as model:
        monkeypatch.setenv('ANTHROPIC_API_KEY', 'late')
        await model.generate(ASKED, context())
    assert seen[0][0]['x-api-key'] == 'late'


@pytest.mark.parametrize('stream', [False, True])
async def test_a_missing_key_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    monkeypatch.delenv('ANTHROPIC_AUTH_TOKEN', raising=False)
    model = Anthropic().model(NAME)
    with pytest.raises(LamellaError, match=r'ANTHROPIC_API_KEY.*Anthropic\(api_key=…\)') as caught:
        await (drain(model) if stream else model.generate(ASKED, context()))
    assert caught.value.status == 'UNAUTHENTICATED'


async def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with server(answering('text')) as url:
        monkeypatch.setenv('ANTHROPIC_BASE_URL', f'{url}/v1/')
        plugin = Anthropic()
        response = await plugin.model(NAME).generate(ASKED, context())
        await plugin.aclose()
    assert response.model == f'anthropic/{NAME}'


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'base_url': 'api.example.com'}, 'base_url'),
        ({'api_key': 'k', 'auth_token': 't'}, 'not both'),
        ({'beta': 'context-1m'}, 'give a list'),
    ],
)
def test_settings_that_cannot_work_are_found_when_built(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Anthropic(**options)


def test_nothing_that_is_printed_holds_the_key() -> None:
    plugin = Anthropic(api_key='sk-ant-secret')
    assert 'secret' not in f'{plugin!r} {plugin.model(NAME)!r}'


# ── options ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_unknown_option_names_the_nearest_right_one() -> None:
    request = ASKED.replace(provider_options={'anthropic': {'thinkin': {}, 'service_tier': 'gold'}})
    for call in (lambda m: m.generate(request, context()), lambda m: drain(m, request)):
        with pytest.raises(ConfigError) as caught:
            await call(Anthropic(api_key='k').model(NAME))
        assert "unknown setting 'thinkin': did you mean 'thinking'?" in caught.value.message
        assert 'service_tier' in caught.value.message


async def test_options_go_into_the_body_and_so_do_newer_ones() -> None:
    options = {'container': 'c_1', 'system': None, 'extra_body': {'hologram': True}}
    _, body = await sent(ASKED.replace(provider_options={'anthropic': options, 'openai': {'n': 3}}))
    assert (body['container'], body['hologram']) == ('c_1', True)
    assert not {'system', 'extra_body', 'n'} & body.keys()


def test_the_options_are_listed_in_order() -> None:
    names = list(AnthropicOptions.model_fields)
    assert names == sorted(names)


@pytest.mark.parametrize(
    ('name', 'wanted'), [(NAME, 'native'), ('claude-3-5-haiku-20241022', 'instructions'), ('my-own', 'native')]
)
def test_a_model_says_whether_it_holds_answers_to_a_schema(name: str, wanted: str) -> None:
    assert Anthropic().model(name).info.structured_output == wanted


async def test_json_without_a_schema_is_asked_for_in_words() -> None:
    request = ASKED.replace(output=OutputSpec('json'))
    _, body = await sent(request)
    assert 'JSON' in body['system'][1]['text']
    _, body = await sent(ASKED.replace(output=OutputSpec('json', {'type': 'object'})))
    assert body['output_config']['format']['type'] == 'json_schema'
    _, body = await sent(ASKED.replace(output=OutputSpec('json', {'type': 'object'})), 'claude-3-5-haiku-20241022')
    assert 'output_config' not in body


async def test_what_could_not_be_said_is_in_the_answer() -> None:
    request = ASKED.replace(config=GenerationConfig(seed=7))
    async with model_of(answering('text')) as model:
        whole = await model.generate(request, context())
        streamed = fold(await drain(model, request))
    assert whole.warnings == ('config.seed=7 is not sent: the Anthropic Messages API has no such setting',)
    assert streamed == whole


# ── failures ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('stream', [False, True])
@pytest.mark.parametrize(
    ('http_status', 'kind', 'status'),
    [
        (400, 'invalid_request_error', 'INVALID_ARGUMENT'),
        (401, 'authentication_error', 'UNAUTHENTICATED'),
        (403, 'permission_error', 'PERMISSION_DENIED'),
        (404, 'not_found_error', 'NOT_FOUND'),
        (413, 'request_too_large', 'INVALID_ARGUMENT'),
        (429, 'rate_limit_error', 'RESOURCE_EXHAUSTED'),
        (500, 'api_error', 'INTERNAL'),
        (504, 'timeout_error', 'DEADLINE_EXCEEDED'),
        (529, 'overloaded_error', 'UNAVAILABLE'),
    ],
)
async def test_errors_of_the_provider(http_status: int, kind: str, status: str, stream: bool) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = {'type': 'error', 'error': {'type': kind, 'message': 'key sk-ant-abcdefgh12345 refused'}}
        return web.json_response(body, status=http_status, headers={'retry-after': '3', 'request-id': 'req_9'})

    async with model_of(handle) as model:
        with pytest.raises(LamellaError) as caught:
            await (drain(model) if stream else model.generate(ASKED, context()))
    error = caught.value
    assert (error.status, error.retry_after_s) == (status, 3)
    assert error.details['request_id'] == 'req_9'
    assert 'abcdefgh' not in error.message


async def test_an_overload_in_the_middle_of_a_stream_keeps_what_had_arrived() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={'content-type': 'text/event-stream'})
        await response.prepare(request)
        await response.write(body_of([*events_of(message('text'))][:5]))
        error = {'type': 'error', 'error': {'type': 'overloaded_error', 'message': 'Overloaded'}}
        await response.write(f'event: error\ndata: {json.dumps(error)}\n\n'.encode())
        return response

    async with model_of(handle) as model:
        with pytest.raises(LamellaError, match='Overloaded') as caught:
            await drain(model)
    assert caught.value.status == 'UNAVAILABLE'
    assert caught.value.partial is not None
    assert caught.value.partial.text == 'Hello! I'


@pytest.mark.parametrize('abort', [False, True])
async def test_a_cut_stream_is_unavailable(abort: bool) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={'content-type': 'text/event-stream'})
        await response.prepare(request)
        await response.write(body_of([*events_of(message('text'))][:5]))
        if abort and request.transport is not None:
            request.transport.abort()
        return response

    seen: list[StreamPart] = []
    async with model_of(handle) as model:
        with pytest.raises(LamellaError) as caught:
            await drain(model, into=seen)
    assert caught.value.status == 'UNAVAILABLE'
    assert fold(seen).text == 'Hello! I'


async def test_a_server_that_is_away_is_unavailable() -> None:
    async with server(answering('text')) as url:
        pass  # and gone
    plugin = Anthropic(base_url=url)
    with pytest.raises(LamellaError) as caught:
        await plugin.model(NAME).generate(ASKED, context())
    await plugin.aclose()
    assert caught.value.status == 'UNAVAILABLE'


async def test_a_server_that_says_nothing_is_a_deadline_exceeded() -> None:
    release = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    async with model_of(handle, http=HttpSettings(first_byte_timeout_s=0.05)) as model:
        with pytest.raises(LamellaError) as caught:
            await model.generate(ASKED, context())
        release.set()
    assert caught.value.status == 'DEADLINE_EXCEEDED'


async def test_leaving_a_stream_ends_the_call_on_the_server() -> None:
    left = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={'content-type': 'text/event-stream'})
        await response.prepare(request)
        try:
            await response.write(body_of([*events_of(message('text'))][:4]))
            while True:
                await response.write(body_of([{'type': 'ping'}]))
                await asyncio.sleep(0)
        except (ConnectionError, asyncio.CancelledError):
            left.set()
            raise

    async with model_of(handle) as model:
        parts = model.stream(ASKED, context())
        async with aclosing(parts):
            async for part in parts:
                if type(part) is TextDelta:
                    break
        await asyncio.wait_for(left.wait(), 10)


async def test_many_calls_at_once_keep_to_themselves() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = {'type': 'text', 'text': f'echo {body["messages"][0]["content"]}'}
        return web.Response(body=body_of(events_of({**message('text'), 'content': [text]})))

    async with model_of(handle) as model:
        requests = [ModelRequest(messages=(Message.user(str(n)),)) for n in range(30)]
        answers = await asyncio.gather(*[drain(model, request) for request in requests])
    assert [fold(parts).text for parts in answers] == [f'echo {n}' for n in range(30)]


async def test_an_app_thinks_and_uses_tools_over_four_turns_and_returns_every_signature() -> None:
    bodies: list[Any] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        bodies.append(body)
        turn = sum(sent['role'] == 'assistant' for sent in body['messages'])
        answer = {**message('text'), 'content': TURNS[turn], 'stop_reason': REASONS[turn]}
        if body.get('stream'):
            return web.Response(body=body_of(events_of(answer)))
        return web.json_response(answer)

    async with server(handle) as url:
        ai = Lamella(plugins=[Anthropic(base_url=url)], model='anthropic/claude-opus-4-6')

        @ai.tool()
        def look(page: int) -> str:
            """Look at a page."""
            return f'page {page}'

        whole = await ai.generate(prompt='Read.', tools=[look])
        stream = ai.generate_stream(prompt='Read.', tools=[look])
        streamed = await stream.response
        await ai.aclose()
    assert len(bodies) == 8
    for n, body in enumerate(bodies):
        assert [sent['content'] for sent in body['messages'] if sent['role'] == 'assistant'] == TURNS[: n % 4]
    assert bodies[3]['messages'] == bodies[7]['messages']
    results = [block for sent in bodies[3]['messages'][2::2] for block in sent['content']]
    assert [(block['tool_use_id'], block['content']) for block in results] == [
        ('t1', 'page 1'),
        ('t2', 'page 2'),
        ('t3', 'page 3'),
        ('t4', 'page 4'),
    ]
    assert whole.text == streamed.text == 'Done.'
    assert whole.usage == streamed.usage
    assert whole.usage is not None
    assert whole.usage.input_tokens == 4 * 145


def think(n: int) -> dict[str, Any]:
    return {'type': 'thinking', 'thinking': f'thought {n}', 'signature': f'signature-{n}'}


def turn_page(n: int) -> dict[str, Any]:
    return {'type': 'tool_use', 'id': f't{n}', 'name': 'look', 'input': {'page': n}}


REASONS = ['tool_use', 'tool_use', 'tool_use', 'end_turn']
TURNS: list[list[dict[str, Any]]] = [
    [think(1), {'type': 'text', 'text': 'First.'}, turn_page(1)],
    [think(2), {'type': 'redacted_thinking', 'data': 'Emw='}, turn_page(2), turn_page(3)],
    [{'type': 'thinking', 'thinking': '', 'signature': 'hidden'}, turn_page(4)],
    [think(4), {'type': 'text', 'text': 'Done.'}],
]
