"""The GoogleAI plugin, over real HTTP to a server of this machine."""

import asyncio
import json
from typing import Any

import pytest

from lamella.plugins._http import HttpSettings
from lamella.plugins.google_genai import GoogleAI, model_path
from lamella.types import (
    ConfigError,
    Finished,
    GenerationConfig,
    LamellaError,
    Message,
    ModelRequest,
    OutputSpec,
    ReasoningPart,
    ResponseStarted,
    Restarted,
    TextDelta,
    TextPart,
    ToolChoice,
    ToolDefinition,
    Usage,
    fold,
)
from tests.plugins.google_server import ASKED, chunk, context, drain, error, google, sse

pytestmark = pytest.mark.anyio

KEY = 'AQ.Ab8RN6not-a-real-key-0123456789'


async def failure(plugin: GoogleAI, *, stream: bool = False) -> LamellaError:
    model = plugin.model('gemini-2.5-pro')
    with pytest.raises(LamellaError) as caught:
        await (drain(model) if stream else model.generate(ASKED, context()))
    await plugin.aclose()
    return caught.value


def told(error: LamellaError) -> str:
    """All that a failure tells anybody."""
    chain: list[str] = []
    link: BaseException | None = error
    while link is not None:
        chain += [repr(link), str(link), repr(getattr(link, 'details', ''))]
        link = link.__cause__ or link.__context__
    return ' '.join(chain)


# Construction


def test_a_plugin_is_made_without_key_and_network() -> None:
    plugin = GoogleAI()
    model = plugin.model('gemini-2.5-pro')

    assert (plugin.name, model.name, model.provider) == ('googleai', 'googleai/gemini-2.5-pro', 'googleai')
    assert model.info.structured_output == 'native'
    assert 'gemini-2.5-pro' in plugin.known_models()


def test_a_key_is_in_no_repr() -> None:
    plugin = GoogleAI(KEY, headers={'x-secret': KEY})

    assert KEY not in repr(plugin) + repr(plugin.model('x')) + repr(vars(plugin)['_codec'])


@pytest.mark.parametrize('base_url', ['ftp://x', 'localhost:80', '', 5])
def test_an_address_that_is_none_is_refused_when_built(base_url: Any) -> None:
    with pytest.raises(ConfigError, match='base_url='):
        GoogleAI(base_url=base_url)


@pytest.mark.parametrize(
    ('name', 'path'),
    [
        ('gemini-2.5-pro', 'models/gemini-2.5-pro'),
        ('models/gemini-2.5-pro', 'models/gemini-2.5-pro'),
        ('tunedModels/my-model', 'tunedModels/my-model'),
        ('odd name?x=1#y:z%', 'models/odd%20name%3Fx%3D1%23y%3Az%25'),
    ],
)
def test_a_name_is_one_path_and_never_a_query(name: str, path: str) -> None:
    assert model_path(name) == path


@pytest.mark.parametrize('name', ['', '..', 'models/../files', 'a//b', './x', 'x/'])
def test_a_name_never_leads_elsewhere(name: str) -> None:
    with pytest.raises(LamellaError, match="model's name is"):
        model_path(name)


# Calls


async def test_a_whole_answer() -> None:
    async with google(chunk('Hello', 'STOP')) as server:
        plugin = GoogleAI(KEY, server.url)
        request = ModelRequest(
            (Message.system('Be brief.'), Message.user('hi')),
            config=GenerationConfig(temperature=0.5),
            provider_options={'googleai': {'safetySettings': []}},
        )
        response = await plugin.model('gemini-2.5-pro').generate(request, context())
        await plugin.aclose()

    assert (response.text, response.finish_reason, response.model, response.id) == (
        'Hello',
        'stop',
        'googleai/gemini-x',
        'r1',
    )
    assert response.usage == Usage(2, 5, 7)
    assert server.path == '/v1beta/models/gemini-2.5-pro:generateContent'
    assert server.headers['x-goog-api-key'] == KEY
    assert server.headers['content-type'] == 'application/json'
    assert server.bodies[-1] == {
        'contents': [{'role': 'user', 'parts': [{'text': 'hi'}]}],
        'systemInstruction': {'parts': [{'text': 'Be brief.'}]},
        'generationConfig': {'temperature': 0.5},
        'safetySettings': [],
    }


async def test_a_stream() -> None:
    async with google(sse(chunk('Hel'), chunk('lo'), chunk('', 'STOP'))) as server:
        plugin = GoogleAI(KEY, server.url)
        parts = await drain(plugin.model('gemini-2.5-pro'))
        await plugin.aclose()

    assert parts == [
        ResponseStarted('googleai/gemini-x', 'r1'),
        TextDelta('Hel', 0),
        TextDelta('lo', 0),
        Finished('stop', Usage(2, 0, 2), 'googleai/gemini-x', 'r1'),
    ]
    assert server.path == '/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse'
    assert server.headers['x-goog-api-key'] == KEY
    assert not any(isinstance(part, Restarted) for part in parts)


async def test_generate_is_the_fold_of_stream() -> None:
    thought = {'parts': [{'text': 'Hm.', 'thought': True}, {'text': 'Hi', 'thoughtSignature': 'QQ=='}], 'role': 'model'}
    async with google(chunk('', 'STOP', content=thought), sse(chunk('', content=thought), chunk('', 'STOP'))) as server:
        plugin = GoogleAI(KEY, server.url)
        model = plugin.model('gemini-2.5-pro')
        whole = await model.generate(ASKED, context())
        parts = await drain(model)
        await plugin.aclose()

    assert fold(parts) == whole
    assert whole.message.content == (ReasoningPart('Hm.'), TextPart('Hi', {'gemini': {'thoughtSignature': 'QQ=='}}))


async def test_warnings_of_the_request_are_on_the_answer() -> None:
    tool = ToolDefinition('f', '', {'type': 'object', 'properties': {'a': {'type': 'string'}}})
    request = ModelRequest(
        (Message.user('hi'),), tools=(tool,), tool_choice=ToolChoice('auto'), output=OutputSpec('json', {})
    )
    async with google(chunk('{}', 'STOP'), sse(chunk('{}', 'STOP'))) as server:
        plugin = GoogleAI(KEY, server.url)
        whole = await plugin.model('gemini-2.5-pro').generate(request, context())
        streamed = fold(await drain(plugin.model('gemini-2.5-pro'), request))
        await plugin.aclose()

    assert 'cannot be held to a schema' in whole.warnings[0]
    assert streamed == whole


async def test_a_version_in_the_address_is_kept() -> None:
    async with google(chunk('x', 'STOP')) as server:
        plugin = GoogleAI(KEY, f'{server.url}/proxy/v1/')
        await plugin.model('m').generate(ASKED, context())
        await plugin.aclose()

    assert server.path == '/proxy/v1/models/m:generateContent'


async def test_headers_and_query_of_the_caller_are_sent_and_win() -> None:
    async with google(sse(chunk('x', 'STOP'))) as server:
        plugin = GoogleAI(KEY, server.url, headers={'X-Goog-Api-Key': 'mine', 'x-tenant': 't'}, query={'q': 'a b&c'})
        await drain(plugin.model('m'))
        await plugin.aclose()

    assert server.headers.getall('x-goog-api-key') == ['mine']
    assert server.headers['x-tenant'] == 't'
    assert dict(server.requests[-1].query) == {'q': 'a b&c', 'alt': 'sse'}


async def test_the_address_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with google(chunk('x', 'STOP')) as server:
        monkeypatch.setenv('GOOGLE_GEMINI_BASE_URL', server.url)
        plugin = GoogleAI()
        await plugin.model('m').generate(ASKED, context())
        await plugin.aclose()

    assert server.path == '/v1beta/models/m:generateContent'


# Keys


async def test_a_server_on_this_machine_needs_no_key() -> None:
    async with google(chunk('x', 'STOP')) as server:
        plugin = GoogleAI(base_url=server.url)
        await plugin.model('m').generate(ASKED, context())
        await plugin.aclose()

    assert 'x-goog-api-key' not in server.headers


async def test_a_missing_key_is_one_clear_error_before_anything_is_sent() -> None:
    error = await failure(GoogleAI())

    assert error.status == 'UNAUTHENTICATED'
    assert all(word in error.message for word in ('GEMINI_API_KEY', 'GOOGLE_API_KEY', 'GoogleAI(api_key='))


@pytest.mark.parametrize(
    ('environment', 'key'),
    [
        ({'GEMINI_API_KEY': 'first', 'GOOGLE_API_KEY': 'second'}, 'first'),
        ({'GOOGLE_API_KEY': 'second'}, 'second'),
        ({'GEMINI_API_KEY': '', 'GOOGLE_API_KEY': 'second'}, 'second'),
    ],
)
async def test_the_key_is_read_when_a_model_is_used(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], key: str
) -> None:
    async with google(chunk('x', 'STOP')) as server:
        plugin = GoogleAI(base_url=server.url)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        await plugin.model('m').generate(ASKED, context())
        await plugin.aclose()

    assert server.headers['x-goog-api-key'] == key


# Failures

RETRY = {'@type': 'type.googleapis.com/google.rpc.RetryInfo', 'retryDelay': '34.5s'}


@pytest.mark.parametrize('stream', [False, True])
async def test_too_many_requests_say_when_to_come_back(stream: bool) -> None:
    async with google((429, error(429, 'RESOURCE_EXHAUSTED', 'Quota exceeded.', RETRY))) as server:
        failed = await failure(GoogleAI(KEY, server.url), stream=stream)

    assert (failed.status, failed.message, failed.retry_after_s) == ('RESOURCE_EXHAUSTED', 'Quota exceeded.', 34.5)
    assert failed.details['http_status'] == 429
    assert len(server.requests) == 1


@pytest.mark.parametrize('naked', [False, True])
async def test_an_error_inside_a_stream_is_raised_with_what_had_arrived(naked: bool) -> None:
    body = error(503, 'UNAVAILABLE', 'The model is overloaded.')
    tail = body if naked else b'data: ' + json.dumps(json.loads(body)).encode() + b'\r\n\r\n'
    async with google(sse(chunk('Hel')) + tail) as server:
        failed = await failure(GoogleAI(KEY, server.url), stream=True)

    assert (failed.status, failed.message) == ('UNAVAILABLE', 'The model is overloaded.')
    assert failed.partial is not None
    assert failed.partial.text == 'Hel'


async def test_a_stream_that_ends_too_early_is_unavailable() -> None:
    async with google(sse(chunk('Hel'))) as server:
        failed = await failure(GoogleAI(KEY, server.url), stream=True)

    assert failed.status == 'UNAVAILABLE'
    assert failed.partial is not None
    assert failed.partial.text == 'Hel'


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with google(chunk('x', 'STOP')) as server:
        url = server.url

    failed = await failure(GoogleAI(KEY, url))

    assert failed.status == 'UNAVAILABLE'
    assert KEY not in told(failed)


async def test_an_answer_that_is_no_answer_is_an_internal_error() -> None:
    async with google({'hello': 'world'}) as server:
        failed = await failure(GoogleAI(KEY, server.url))

    assert failed.status == 'INTERNAL'
    assert 'candidates is missing' in failed.message


@pytest.mark.parametrize('key', [KEY, 'AIzaSyD-1234567890abcdefghijklmnopqrstuv', 'a-plain-gateway-token'])
@pytest.mark.parametrize('stream', [False, True])
async def test_a_key_that_the_server_repeats_is_in_no_error(key: str, stream: bool) -> None:
    consumer = {'@type': 'type.googleapis.com/google.rpc.ErrorInfo', 'metadata': {'consumer': f'api_key:{key}'}}
    body = error(403, 'PERMISSION_DENIED', f"Consumer 'api_key:{key}' has been suspended.", consumer)
    async with google((403, body)) as server:
        failed = await failure(GoogleAI(key, server.url), stream=stream)

    assert failed.status == 'PERMISSION_DENIED'
    assert 'has been suspended' in failed.message
    assert key not in told(failed)


async def test_leaving_a_stream_ends_the_call() -> None:
    """The server sees its connection close while it still has much to say."""
    gone = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b'\r\n\r\n')
        writer.write(b'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n' + sse(chunk('Hel')))
        await writer.drain()
        while await reader.read(4096):
            pass
        gone.set()
        writer.close()

    server = await asyncio.start_server(endless, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    plugin = GoogleAI(KEY, f'http://127.0.0.1:{port}')
    stream = plugin.model('m').stream(ASKED, context())
    async for part in stream:
        if isinstance(part, TextDelta):
            break
    await stream.aclose()

    async with asyncio.timeout(30):
        await gone.wait()
    await plugin.aclose()
    server.close()
    await server.wait_closed()


async def test_a_limit_of_time_is_named() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        writer.close()

    server = await asyncio.start_server(silent, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]

    failed = await failure(GoogleAI(KEY, f'http://127.0.0.1:{port}', http=HttpSettings(first_byte_timeout_s=0.05)))

    assert failed.status == 'DEADLINE_EXCEEDED'
    assert 'first_byte_timeout_s=0.05' in failed.message
    server.close()
    await server.wait_closed()


# Long answers


def hop(text: str, token: str) -> dict[str, Any]:
    return chunk(text, 'CONTINUATION', continuationToken=token)


async def test_an_answer_of_several_requests_is_one_answer() -> None:
    async with google(hop('Once ', 'dDE='), hop('upon ', 'dDI='), chunk('a time.', 'STOP')) as server:
        plugin = GoogleAI(KEY, server.url)
        events: list[Any] = []
        request = ASKED.replace(provider_options={'google': {'labels': {'a': 'b'}}})
        response = await plugin.model('gemini-4-argon').generate(request, context(events.append))
        await plugin.aclose()

    assert response.message.content == (TextPart('Once upon a time.'),)
    assert response.finish_reason == 'stop'
    assert response.usage == Usage(6, 17, 23)
    assert [body.get('continuationToken') for body in server.bodies] == [None, 'dDE=', 'dDI=']
    assert all(
        body['contents'] == server.bodies[0]['contents'] and body['labels'] == {'a': 'b'} for body in server.bodies
    )
    assert [(event.name, event.facts['requests']) for event in events] == [
        ('model.continued', 2),
        ('model.continued', 3),
    ]


async def test_a_stream_of_several_requests_is_one_stream() -> None:
    first = sse(chunk('Once '), hop('upon ', 'dDE='))
    async with google(first, sse(chunk('a time.'), chunk('', 'STOP'))) as server:
        plugin = GoogleAI(KEY, server.url)
        parts = await drain(plugin.model('gemini-4-argon'))
        await plugin.aclose()

    assert [part.index for part in parts if isinstance(part, TextDelta)] == [0, 0, 0]
    assert sum(isinstance(part, ResponseStarted) for part in parts) == 1
    assert [type(part) for part in parts].count(Finished) == 1
    assert fold(parts).text == 'Once upon a time.'
    assert fold(parts).usage == Usage(4, 5, 9)


async def test_whole_and_streamed_are_the_same_over_several_requests() -> None:
    contents = [
        [{'text': 'Hm', 'thought': True}],
        [{'text': 'm.', 'thought': True}, {'text': 'a', 'thoughtSignature': 'QQ=='}],
        [{'text': 'b'}, {'functionCall': {'name': 'f', 'args': {}}}],
        [{'functionCall': {'name': 'g', 'args': {}}}, {'text': 'c'}],
    ]
    bodies = [
        chunk(
            '',
            'STOP' if i == 3 else 'CONTINUATION',
            content={'parts': parts},
            **({} if i == 3 else {'continuationToken': f'{i}'}),
        )
        for i, parts in enumerate(contents)
    ]
    async with google(*bodies, *[sse(body) for body in bodies]) as server:
        plugin = GoogleAI(KEY, server.url)
        model = plugin.model('gemini-4-argon')
        whole = await model.generate(ASKED, context())
        parts = await drain(model)
        await plugin.aclose()

    assert fold(parts) == whole
    assert [type(part).__name__ for part in whole.message.content] == [
        'ReasoningPart', 'TextPart', 'TextPart', 'ToolRequestPart', 'ToolRequestPart', 'TextPart'
    ]  # fmt: skip
    assert whole.finish_reason == 'tool_calls'


async def test_a_token_that_leads_nowhere_ends_the_answer() -> None:
    async with google(hop('a', 'dDE='), hop('b', 'dDE=')) as server:
        plugin = GoogleAI(KEY, server.url)
        response = await plugin.model('gemini-4-argon').generate(ASKED, context())
        await plugin.aclose()

    assert (response.text, response.finish_reason, len(server.requests)) == ('ab', 'length', 2)


async def test_a_spent_budget_is_not_continued() -> None:
    async with google(chunk('a', 'MAX_TOKENS', continuationToken='dDE=')) as server:
        plugin = GoogleAI(KEY, server.url)
        response = await plugin.model('gemini-4-argon').generate(ASKED, context())
        await plugin.aclose()

    assert (response.finish_reason, len(server.requests)) == ('length', 1)
    assert response.metadata['gemini']['continuationToken'] == 'dDE='
