"""Layers around the calls of the vendors' own clients: what the client sees, and what the server is sent."""

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from aiohttp import web
from google.genai import errors

from lamella.integrations.httpx2 import LamellaTransport
from lamella.middleware import BaseMiddleware, ConsoleLogger, Fallback, Retry, ToolApproval
from lamella.plugins.anthropic import Anthropic
from lamella.plugins.google_genai import GoogleAI
from lamella.plugins.openai import OpenAI
from lamella.simulator import Fault, Simulator
from lamella.types import ConfigError, Message, Rejected, Restarted, StopRun, StreamPart, TextDelta
from tests.integrations.clients import KEYS, Clients, clients, served, sync_clients
from tests.plugins.raw_server import raw_server
from tests.wire import openai_chat_answers

# google-genai's own way with aiohttp.
pytestmark = pytest.mark.filterwarnings('ignore:Inheritance class AiohttpClientSession:DeprecationWarning')

MESSAGES: Any = [{'role': 'user', 'content': 'I love bees. They make honey.'}]
RETRY = Retry(max_retries=3, initial_delay_ms=0)
VENDORS = ('openai', 'responses', 'anthropic', 'gemini')


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


async def ask(made: Clients, vendor: str, model: str = 'm-1', **more: Any) -> str:
    """One question through a vendor's client: the text of the answer."""
    if vendor == 'openai':
        chat = await made.gpt.chat.completions.create(model=model, messages=MESSAGES, **more)
        return str(chat.choices[0].message.content)
    if vendor == 'responses':
        response = await made.gpt.responses.create(model=model, input=MESSAGES, **more)
        return str(response.output_text)
    if vendor == 'anthropic':
        message = await made.claude.messages.create(model=model, max_tokens=99, messages=MESSAGES, **more)
        return str(message.content[0].text)
    generated = await made.gemini.models.generate_content(model=model, contents=MESSAGES[0]['content'], **more)
    return str(generated.text)


async def opened(made: Clients, vendor: str, model: str = 'm-1') -> AsyncIterator[str]:
    """The same as a stream that has begun: the pieces of text."""
    if vendor == 'openai':
        stream = await made.gpt.chat.completions.create(model=model, messages=MESSAGES, stream=True)
        return (chunk.choices[0].delta.content or '' async for chunk in stream)
    if vendor == 'responses':
        stream = await made.gpt.responses.create(model=model, input=MESSAGES, stream=True)
        return (event.delta async for event in stream if event.type == 'response.output_text.delta')
    if vendor == 'anthropic':
        stream = await made.claude.messages.create(model=model, max_tokens=99, messages=MESSAGES, stream=True)
        return (e.delta.text async for e in stream if e.type == 'content_block_delta')
    stream = await made.gemini.models.generate_content_stream(model=model, contents=MESSAGES[0]['content'])
    return (chunk.text or '' async for chunk in stream)


async def streamed(made: Clients, vendor: str, model: str = 'm-1') -> str:
    return ''.join([text async for text in await opened(made, vendor, model)])


def transport(*layers: Any, **options: Any) -> LamellaTransport:
    return LamellaTransport(use=layers, **options)


# ── one good answer ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('vendor', VENDORS)
async def test_the_client_sees_one_good_answer(sim: Simulator, vendor: str) -> None:
    async with clients(sim.base_url) as direct:
        wanted = await ask(direct, vendor)
    sim.reset()
    sim.use(faults=[Fault('status', status=503, times=2), Fault('reset', after=2, times=1)])
    async with clients(sim.base_url, transport(RETRY)) as made:
        assert await ask(made, vendor) == wanted
    assert [received.status for received in sim.requests] == [503, 503, None, 200]
    assert len({json.dumps(received.body) for received in sim.requests}) == 1


@pytest.mark.parametrize('vendor', VENDORS)
async def test_the_client_sees_one_good_stream(sim: Simulator, vendor: str) -> None:
    async with clients(sim.base_url) as direct:
        wanted = await streamed(direct, vendor)
    sim.reset()
    sim.use(faults=[Fault('status', status=429, times=1), Fault('cut', after=1, times=1, after_parts=0)])
    async with clients(sim.base_url, transport(RETRY)) as made:
        assert await streamed(made, vendor) == wanted
    assert len(sim.requests) == 3


@pytest.mark.parametrize('vendor', VENDORS)
async def test_another_model_of_the_same_vendor_answers_at_the_same_place(sim: Simulator, vendor: str) -> None:
    provider = {'responses': 'openai', 'gemini': 'googleai'}.get(vendor, vendor)
    layers = [Fallback(models=[f'{provider}/m-2'])]
    sim.use(faults=[Fault('status', status=529, model='m-1')])
    async with clients(sim.base_url, transport(*layers)) as made:
        whole, stream = await ask(made, vendor), await streamed(made, vendor)
    assert whole == stream
    assert [(received.model, received.status) for received in sim.requests] == [('m-1', 529), ('m-2', 200)] * 2
    first, second = list(sim.requests)[:2]
    unequal = {name for name in first.headers if first.headers[name] != second.headers.get(name)}
    assert unequal <= {'content-length'}


async def test_the_answer_names_the_model_that_gave_it(sim: Simulator) -> None:
    sim.use(faults=[Fault('status', status=503, model='m-1')])
    async with clients(sim.base_url, transport(Fallback(models=['openai/m-2']))) as made:
        whole = await made.gpt.chat.completions.create(model='m-1', messages=MESSAGES)
        stream = await made.gpt.chat.completions.create(model='m-1', messages=MESSAGES, stream=True)
        assert {whole.model, *[chunk.model async for chunk in stream]} == {'m-2'}


async def test_a_deployment_of_azure_is_named_in_the_path_too(sim: Simulator) -> None:
    seen: list[Any] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.append((request.path_qs, (await request.json())['model'], request.headers['api-key']))
        return web.json_response({'error': {'message': 'busy'}}, status=503)

    layers = Fallback(models=['openai/spare'])
    async with served(handle) as url, httpx2.AsyncClient(transport=transport(layers)) as http:
        azure = openai.AsyncAzureOpenAI(
            azure_endpoint=url, api_version='2026-01-01', api_key='az', http_client=http, max_retries=0
        )
        with pytest.raises(openai.InternalServerError):
            await azure.chat.completions.create(model='main', messages=MESSAGES)
    place = '/openai/deployments/{}/chat/completions?api-version=2026-01-01'
    assert seen == [(place.format('main'), 'main', 'az'), (place.format('spare'), 'spare', 'az')]


# ── another vendor ──────────────────────────────────────────────────────────────────────────────────────────────────

OTHERS = [
    ('openai', 'anthropic/c', lambda url: Anthropic(api_key='other-key', base_url=url), 'anthropic'),
    ('openai', 'googleai/g', lambda url: GoogleAI(api_key='other-key', base_url=url), 'gemini'),
    ('responses', 'anthropic/c', lambda url: Anthropic(api_key='other-key', base_url=url), 'anthropic'),
    ('anthropic', 'openai/o', lambda url: OpenAI(api_key='other-key', base_url=f'{url}/v1'), 'openai-chat'),
    ('anthropic', 'openai/o', lambda url: OpenAI('other-key', f'{url}/v1', api='responses'), 'openai-responses'),
    ('gemini', 'openai/o', lambda url: OpenAI(api_key='other-key', base_url=f'{url}/v1'), 'openai-chat'),
    ('gemini', 'anthropic/c', lambda url: Anthropic(api_key='other-key', base_url=url), 'anthropic'),
]
OPTIONS: dict[str, Any] = {
    'openai': {'logit_bias': {'50256': -7}, 'user': 'user-4711', 'extra_headers': {'x-mine': 'private'}},
    'responses': {'truncation': 'auto', 'safety_identifier': 'user-4711', 'extra_headers': {'x-mine': 'private'}},
    'anthropic': {'metadata': {'user_id': 'user-4711'}, 'extra_headers': {'x-mine': 'private'}},
    'gemini': {
        'config': {
            'safety_settings': [{'category': 'HARM_CATEGORY_HARASSMENT', 'threshold': 'BLOCK_NONE'}],
            'http_options': {'headers': {'x-mine': 'private'}},
        }
    },
}


@pytest.mark.parametrize(('vendor', 'model', 'plugin', 'protocol'), OTHERS)
async def test_another_vendor_answers_and_learns_nothing_of_the_first(
    sim: Simulator, vendor: str, model: str, plugin: Any, protocol: str
) -> None:
    async with Simulator() as other:
        sim.use(faults=[Fault('status', status=503)])
        layers = transport(Fallback(models=[model]), plugins=[plugin(other.base_url)])
        async with clients(sim.base_url, layers) as made:
            text = await ask(made, vendor, **OPTIONS[vendor])
            assert await streamed(made, vendor) == text
        assert 'I love bees' in text
        assert [received.protocol for received in other.requests] == [protocol] * 2
        for received in other.requests:
            shown = json.dumps([received.headers, received.body, received.path])
            assert 'other-key' in shown
            for secret in (*KEYS.values(), 'user-4711', 'HARASSMENT', 'private', '50256', 'stainless', 'google-genai'):
                assert secret not in shown


async def test_what_the_other_vendor_cannot_be_told_is_named_in_a_header(sim: Simulator) -> None:
    async with Simulator() as other:
        sim.use(faults=[Fault('status', status=503)])
        plugin = Anthropic(api_key='k', base_url=other.base_url)
        async with clients(sim.base_url, transport(Fallback(models=['anthropic/c']), plugins=[plugin])) as made:
            answer = await made.gpt.chat.completions.with_raw_response.create(
                model='m', messages=MESSAGES, seed=7, logit_bias={'1': 2}, user='ü'
            )
    warnings = json.loads(answer.headers['x-lamella-warnings'])
    assert [any(name in warning for warning in warnings) for name in ('seed', 'logit_bias', 'user')] == [True] * 3
    assert 'I love bees' in answer.parse().choices[0].message.content


async def test_without_a_plugin_the_error_says_which_one_is_missing(sim: Simulator) -> None:
    sim.use(faults=[Fault('status', status=503)])
    async with clients(sim.base_url, transport(Fallback(models=['anthropic/claude-x']))) as made:
        with pytest.raises(openai.NotFoundError, match=r"plugins=\[…\]\) the plugin of 'anthropic'"):
            await ask(made, 'openai')


# ── errors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('stream', [False, True])
async def test_errors_are_the_vendors_own_with_their_headers_and_bodies(sim: Simulator, stream: bool) -> None:
    sim.use(faults=[Fault('status', status=429, retry_after_s=2.5, message='Slow down, please.')])
    async with clients(sim.base_url, transport(Retry(max_retries=1, initial_delay_ms=0, max_delay_ms=1))) as made:
        with pytest.raises(openai.RateLimitError, match='Slow down') as gpt:
            await (streamed if stream else ask)(made, 'openai')
        with pytest.raises(anthropic.RateLimitError, match='Slow down') as claude:
            await (streamed if stream else ask)(made, 'anthropic')
        with pytest.raises(errors.ClientError, match='Slow down') as gemini:
            await (streamed if stream else ask)(made, 'gemini')
    assert {caught.value.response.headers['retry-after'] for caught in (gpt, claude)} == {'3'}
    assert gpt.value.request_id == gpt.value.response.headers['x-request-id'] != ''
    assert claude.value.body['error']['type'] == 'rate_limit_error'
    assert gemini.value.code == 429


async def test_an_error_body_passes_as_it_came() -> None:
    body = gzip.compress(json.dumps({'error': {'message': 'No.', 'type': 'x', 'brand_new': [1]}}).encode())

    async def handle(request: web.Request) -> web.StreamResponse:
        return web.Response(status=422, body=body, headers={'content-encoding': 'gzip', 'x-odd': 'ü'})

    async with served(handle) as url, clients(url, transport(RETRY)) as made:
        with pytest.raises(openai.UnprocessableEntityError) as caught:
            await ask(made, 'openai')
    assert caught.value.body == {'message': 'No.', 'type': 'x', 'brand_new': [1]}
    assert caught.value.response.headers['x-odd'] == 'ü'


class Refusing(BaseMiddleware[Any]):
    """A guard that lets nothing through."""

    async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
        raise Rejected('over budget', by=self, retry_after_s=7)


@pytest.mark.parametrize('stream', [False, True])
async def test_a_layers_refusal_is_a_vendors_error_that_says_who_refused(sim: Simulator, stream: bool) -> None:
    async with clients(sim.base_url, transport(Refusing())) as made:
        with pytest.raises(openai.RateLimitError, match='refused by refusing') as gpt:
            await (streamed if stream else ask)(made, 'openai')
        with pytest.raises(anthropic.RateLimitError, match='refused by refusing'):
            await (streamed if stream else ask)(made, 'anthropic')
        with pytest.raises(errors.ClientError, match='refused by refusing'):
            await (streamed if stream else ask)(made, 'gemini')
    assert gpt.value.response.headers['retry-after'] == '7'
    assert not sim.requests


async def test_a_connection_that_fails_stays_one() -> None:
    async with Simulator() as sim:
        url = sim.base_url
    async with clients(url, transport(RETRY)) as made:
        with pytest.raises(openai.APIConnectionError) as caught:
            await ask(made, 'openai')
    assert isinstance(caught.value.__cause__, httpx2.ConnectError)


async def test_the_clients_own_time_limits_hold_for_each_attempt(sim: Simulator) -> None:
    sim.use(faults=[Fault('stall_first', times=2)])
    async with clients(sim.base_url, transport(Retry(max_retries=1, initial_delay_ms=0))) as made:
        with pytest.raises(openai.APITimeoutError):
            await made.gpt.with_options(timeout=0.05).chat.completions.create(model='m', messages=MESSAGES)
    assert len(sim.requests) == 2


@pytest.mark.parametrize('vendor', VENDORS)
async def test_a_stream_that_is_cut_after_text_breaks_off_as_it_does_without_layers(
    sim: Simulator, vendor: str
) -> None:
    sim.use(faults=[Fault('cut', after_parts=3)])
    seen = []
    for layers in (None, transport(RETRY)):
        async with clients(sim.base_url, layers) as made:
            text, failure = '', 'none'
            try:
                async for piece in await opened(made, vendor):
                    text += piece
            except Exception as error:
                failure = type(error).__name__
            seen.append((text, failure))
    assert seen[0] == seen[1]
    assert 'none' not in seen[0]


async def test_an_error_inside_a_stream_is_an_error_of_the_client(sim: Simulator) -> None:
    events = [event.data for event in openai_chat_answers.events('text')]
    events[2] = json.dumps({'error': {'message': 'Overloaded inside.', 'type': 'server_error', 'code': None}})

    async def handle(request: web.Request) -> web.StreamResponse:
        body = ''.join([f'data: {data}\n\n' for data in events])
        return web.Response(text=body, content_type='text/event-stream')

    async with served(handle) as url, clients(url, transport(RETRY)) as made:
        with pytest.raises(openai.APIError, match='Overloaded inside'):
            await streamed(made, 'openai')


class Restarting(BaseMiddleware[Any]):
    """Takes back what it said."""

    async def wrap_stream(self, params: Any, ctx: Any, next_fn: Any) -> AsyncIterator[StreamPart]:
        async for part in next_fn(params, ctx):
            yield part
            if isinstance(part, TextDelta):
                yield Restarted('second thoughts')


async def test_an_answer_that_starts_over_after_text_is_an_error(sim: Simulator) -> None:
    async with clients(sim.base_url, transport(Restarting())) as made:
        with pytest.raises(openai.APIError, match='started over after text was sent: second thoughts'):
            await streamed(made, 'openai')


async def test_a_request_that_cannot_be_read_is_refused_and_not_sent(sim: Simulator) -> None:
    async with clients(sim.base_url, transport(RETRY)) as made:
        with pytest.raises(openai.BadRequestError, match=r'messages\[0\]'):
            await made.gpt.chat.completions.create(model='m', messages=['hi'])
        with pytest.raises(anthropic.BadRequestError, match='messages'):
            await made.claude.messages.create(model='m', max_tokens=1, messages='hi')
        bare = await made.http.post(f'{sim.base_url}/v1beta/models/m:streamGenerateContent', json={'contents': []})
    assert (bare.status_code, 'add ?alt=sse' in bare.text) == (400, True)
    assert not sim.requests


async def test_a_layers_own_bug_is_not_dressed_up_as_an_answer(sim: Simulator) -> None:
    class Broken(BaseMiddleware[Any]):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            raise TypeError('a bug')

    async with clients(sim.base_url, transport(Broken())) as made:
        with pytest.raises(TypeError, match='a bug'):
            await made.http.post(f'{sim.base_url}/v1/chat/completions', json={'model': 'm', 'messages': MESSAGES})


# ── layers see the call, the client sees its vendor ─────────────────────────────────────────────────────────────────


async def test_the_body_goes_out_as_the_client_wrote_it() -> None:
    seen: list[bytes] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.append(await request.read())
        return web.json_response(openai_chat_answers.whole('text'))

    body = json.dumps(
        {'model': 'm', 'messages': MESSAGES, 'max_tokens': 5, 'brand_new': {'a': None}}, indent=2
    ).encode()
    async with served(handle) as url, clients(url, transport(RETRY)) as made:
        await made.http.post(f'{url}/v1/chat/completions', content=body)
    assert seen == [body]


class Instructing(BaseMiddleware[Any]):
    """Changes the request."""

    async def transform_params(self, params: Any, ctx: Any) -> Any:
        messages = (Message.system('Be brief.'), *params.request.messages)
        return params.replace(request=params.request.replace(messages=messages))


@pytest.mark.parametrize('vendor', VENDORS)
async def test_what_a_layer_changes_is_sent_and_the_rest_stays(sim: Simulator, vendor: str) -> None:
    async with clients(sim.base_url, transport(Instructing())) as made:
        await ask(made, vendor, **OPTIONS[vendor])
        await streamed(made, vendor)
    first, second = sim.requests
    assert 'Be brief.' in json.dumps(first.body)
    assert 'Be brief.' in json.dumps(second.body)
    kept = {'openai': 'user-4711', 'responses': 'truncation', 'anthropic': 'user-4711', 'gemini': 'HARASSMENT'}[vendor]
    assert kept in json.dumps(first.body)
    assert first.headers['x-mine'] == 'private'


async def test_a_setting_is_spelt_again_as_the_client_spelt_it(sim: Simulator) -> None:
    """Servers that are compatible know `max_tokens` only."""
    async with clients(sim.base_url, transport(Instructing())) as made:
        await made.gpt.chat.completions.create(model='m', messages=MESSAGES, max_tokens=99)
        await made.gpt.chat.completions.create(model='m', messages=MESSAGES, max_completion_tokens=99)
    assert [sorted(received.body) for received in sim.requests] == [
        ['max_tokens', 'messages', 'model'],
        ['max_completion_tokens', 'messages', 'model'],
    ]


async def test_layers_learn_the_usage_of_a_stream_and_the_client_gets_what_it_asked_for(sim: Simulator) -> None:
    ends: list[Any] = []
    sinks = [lambda event: ends.append(event.facts['usage']) if event.name == 'model.end' else None]
    async with clients(sim.base_url, transport(sinks=sinks)) as made:
        plain = await made.gpt.chat.completions.create(model='m', messages=MESSAGES, stream=True)
        assert [chunk async for chunk in plain if not chunk.choices or chunk.usage] == []
        options: Any = {'include_usage': True}
        asked = await made.gpt.chat.completions.create(
            model='m', messages=MESSAGES, stream=True, stream_options=options
        )
        told = [chunk.usage async for chunk in asked if not chunk.choices]
    assert [usage.total_tokens for usage in ends] == [told[0].total_tokens] * 2
    assert [received.body['stream_options'] for received in sim.requests] == [{'include_usage': True}] * 2


async def test_a_server_that_refuses_to_be_asked_for_usage_is_not_asked(sim: Simulator) -> None:
    async with clients(sim.base_url, transport(include_usage=False)) as made:
        await streamed(made, 'openai')
    assert 'stream_options' not in sim.requests[0].body


async def test_layers_see_the_callers_values_and_no_credentials(sim: Simulator) -> None:
    seen: list[Any] = []

    class Looking(BaseMiddleware[Any]):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            seen.extend([dict(ctx.context), repr(ctx.context), repr(params), json.dumps(ctx.context)])
            return await next_fn(params, ctx)

    made_of = transport(Looking(), context={'tenant': 'acme'})
    async with clients(sim.base_url, made_of) as made:
        await ask(made, 'openai')
    assert seen[0] == {'tenant': 'acme'}
    assert KEYS['openai'] not in ''.join(map(str, seen)) + repr(made_of)


async def test_a_run_that_a_layer_stops_has_the_layers_answer(sim: Simulator) -> None:
    class Stopping(BaseMiddleware[Any]):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            response = await next_fn(params, ctx)
            raise StopRun('guardrail', 'enough', response=response.replace(message=Message.assistant('Stopped.')))

    async with clients(sim.base_url, transport(Stopping())) as made:
        for vendor in VENDORS:
            assert await ask(made, vendor) == 'Stopped.'


async def test_many_calls_at_once_keep_to_themselves(sim: Simulator) -> None:
    sim.use(faults=[Fault('status', status=503, probability=0.4)])
    layers = transport(Retry(max_retries=30, initial_delay_ms=0), Fallback(models=['openai/m-2']))
    async with clients(sim.base_url, layers) as made:

        async def one(number: int) -> bool:
            messages = [{'role': 'user', 'content': f'This is sentence {number}.'}]
            stream = await made.gpt.chat.completions.create(model='m', messages=messages, stream=True)
            whole = await made.gpt.chat.completions.create(model='m', messages=messages)
            text = ''.join([chunk.choices[0].delta.content or '' async for chunk in stream])
            return text == whole.choices[0].message.content and text.endswith(f'This is sentence {number}.')

        assert all(await asyncio.gather(*[one(number) for number in range(40)]))


async def test_a_logger_sees_every_attempt_and_no_key(sim: Simulator) -> None:
    lines = io.StringIO()
    sim.use(faults=[Fault('status', status=401, message=f'Incorrect API key provided: {KEYS["openai"]}')])
    async with clients(sim.base_url, transport(ConsoleLogger(stream=lines), RETRY)) as made:
        with pytest.raises(openai.AuthenticationError):
            await ask(made, 'openai')
    assert 'openai/m-1' in lines.getvalue()
    assert KEYS['openai'] not in lines.getvalue()


# ── what is no model call ───────────────────────────────────────────────────────────────────────────────────────────


async def test_other_requests_pass_untouched(sim: Simulator) -> None:
    async with clients(sim.base_url, transport(Refusing())) as made:
        assert [model.id async for model in made.gpt.models.list()] == ['lamella-simulator']
        counted = await made.claude.messages.count_tokens(model='c', messages=MESSAGES)
        assert counted.input_tokens > 0
        assert (await made.gemini.models.count_tokens(model='g', contents='hi')).total_tokens > 0


async def test_uploads_and_threads_pass_untouched_as_they_stream() -> None:
    seen: list[Any] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        seen.append((request.method, request.path, len(await request.read())))
        body = gzip.compress(json.dumps({'id': 'file-1', 'object': 'thread.message'}).encode())
        return web.Response(body=body, headers={'content-encoding': 'gzip', 'content-type': 'application/json'})

    async with served(handle) as url, clients(url, transport(Refusing())) as made:
        uploaded = await made.gpt.files.create(file=('x.bin', b'0' * 300_000), purpose='user_data')
        posted = await made.http.post(f'{url}/v1/threads/t1/messages', json={'role': 'user', 'content': 'hi'})
    assert uploaded.id == 'file-1'
    assert posted.json()['object'] == 'thread.message'
    assert [(method, path) for method, path, _ in seen] == [('POST', '/v1/files'), ('POST', '/v1/threads/t1/messages')]
    assert seen[0][2] > 300_000


async def test_a_redirect_is_the_clients_to_follow() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        if request.path == '/v1/chat/completions':
            return web.Response(status=307, headers={'location': '/v2/chat/completions'})
        return web.json_response(openai_chat_answers.whole('text'))

    async with served(handle) as url, clients(url, transport(RETRY), follow_redirects=True) as made:
        assert await ask(made, 'openai') == 'Hello'


async def test_a_server_that_does_not_stream_is_streamed_all_the_same() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.json_response(openai_chat_answers.whole('text'))

    async with served(handle) as url, clients(url, transport(RETRY)) as made:
        assert await streamed(made, 'openai') == 'Hello'


# ── leaving, connections, loops ─────────────────────────────────────────────────────────────────────────────────────


async def begun(made: Clients, vendor: str) -> Any:
    """A stream of which something was read, and how to leave it."""
    if vendor == 'openai':
        stream = await made.gpt.chat.completions.create(model='m', messages=MESSAGES, stream=True)
        return stream, stream.close
    if vendor == 'responses':
        stream = await made.gpt.responses.create(model='m', input=MESSAGES, stream=True)
        return stream, stream.close
    if vendor == 'anthropic':
        stream = await made.claude.messages.create(model='c', max_tokens=99, messages=MESSAGES, stream=True)
        return stream, stream.close
    # google-genai 3.4 holds on to the response of a stream that is left; here it is left as HTTP.
    asked = {'contents': [{'parts': [{'text': 'I love bees. They make honey.'}]}]}
    url = f'{made.url}/v1beta/models/g:streamGenerateContent?alt=sse'
    response = await made.http.send(made.http.build_request('POST', url, json=asked), stream=True)
    return response.aiter_lines(), response.aclose


@pytest.mark.parametrize('vendor', VENDORS)
async def test_leaving_a_stream_ends_the_call_on_the_server(sim: Simulator, vendor: str) -> None:
    sim.use(faults=[Fault('stall_middle', after_parts=2)])
    async with clients(sim.base_url, transport(RETRY)) as made:
        stream, leave = await begun(made, vendor)
        await anext(aiter(stream))
        await leave()
        await sim.requests[0].disconnected
    assert len(sim.requests) == 1


async def test_a_stream_that_is_closed_unread_ends_the_call_on_the_server(sim: Simulator) -> None:
    sim.use(faults=[Fault('stall_middle', after_parts=2)])
    asked = {'model': 'm', 'messages': MESSAGES, 'stream': True}
    async with clients(sim.base_url, transport(RETRY)) as made:
        request = made.http.build_request('POST', f'{sim.base_url}/v1/chat/completions', json=asked)
        response = await made.http.send(request, stream=True)
        await sim.requests[0].stalled
        await response.aclose()
        await sim.requests[0].disconnected


@pytest.mark.parametrize('stream', [False, True])
async def test_cancelling_a_call_ends_it_on_the_server(sim: Simulator, stream: bool) -> None:
    sim.use(faults=[Fault('stall_first')])
    async with clients(sim.base_url, transport(RETRY)) as made:
        task = asyncio.create_task((streamed if stream else ask)(made, 'openai'))
        await sim.arrived(1)
        await sim.requests[0].stalled
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await sim.requests[0].disconnected
    assert len(sim.requests) == 1


async def test_one_connection_serves_calls_and_streams_in_turn() -> None:
    chat = json.dumps(openai_chat_answers.whole('text')).encode()
    sse = b''.join([b'data: ' + event.data.encode() + b'\n\n' for event in openai_chat_answers.events('text')])

    async def handle(connection: Any) -> None:
        while (request := await connection.request()) is not None:
            if b'"stream"' in request[2]:
                await connection.answer(sse, '200 OK', 'content-type: text/event-stream')
            else:
                await connection.answer(chat, '200 OK', 'content-type: application/json')

    async with raw_server(handle) as (server, url), clients(url, transport(RETRY)) as made:
        for _ in range(3):
            assert await ask(made, 'openai') == 'Hello'
            assert await streamed(made, 'openai') == 'Hello'
    assert (len(server.connections), server.requests) == (1, 6)


def test_one_transport_serves_two_event_loops_in_turn() -> None:
    with Simulator().in_thread() as sim:
        layers = transport(RETRY)

        async def once() -> str:
            async with clients(sim.base_url, layers) as made:
                return await ask(made, 'openai')

        assert asyncio.run(once()) == asyncio.run(once())


async def test_the_proxies_of_the_environment_hold(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left alone, a client that is given a transport forgets them."""
    asked: list[str] = []

    async def proxy(request: web.Request) -> web.StreamResponse:
        asked.append(str(request.url))
        return web.json_response(openai_chat_answers.whole('text'))

    async with served(proxy) as proxy_url:
        monkeypatch.setenv('HTTP_PROXY', proxy_url)
        monkeypatch.delenv('NO_PROXY', raising=False)
        monkeypatch.delenv('no_proxy', raising=False)
        async with clients('http://api.vendor.test', transport(RETRY)) as made:
            assert await ask(made, 'openai') == 'Hello'
    assert asked == ['http://api.vendor.test/v1/chat/completions']


async def test_an_inner_transport_of_ones_own_does_the_sending() -> None:
    seen: list[httpx2.Request] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json=openai_chat_answers.whole('text'))

    async with clients('http://nowhere.test', transport(inner=httpx2.MockTransport(handle))) as made:
        assert await ask(made, 'openai') == 'Hello'
    assert seen[0].headers['authorization'] == f'Bearer {KEYS["openai"]}'


def test_what_cannot_work_is_refused_when_built() -> None:
    with pytest.raises(ConfigError, match='inner is a str'):
        LamellaTransport(inner='http://x')  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match='use'):
        LamellaTransport(use=['retry'])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r'ToolApproval.* would never act'):
        LamellaTransport(use=[Retry(), ToolApproval()])


# ── clients that are not async ──────────────────────────────────────────────────────────────────────────────────────


def test_the_sync_clients_see_one_good_answer_and_one_good_stream() -> None:
    with Simulator().in_thread() as sim, sync_clients(sim.base_url, transport(RETRY)) as made:
        sim.use(faults=[Fault('status', status=503, times=1)])
        chat = made.gpt.chat.completions.create(model='m', messages=MESSAGES)
        stream = made.gpt.chat.completions.create(model='m', messages=MESSAGES, stream=True)
        assert ''.join([c.choices[0].delta.content or '' for c in stream]) == chat.choices[0].message.content
        response = made.gpt.responses.create(model='m', input=MESSAGES)
        assert response.output_text == chat.choices[0].message.content
        message = made.claude.messages.create(model='c', max_tokens=99, messages=MESSAGES)
        with made.claude.messages.stream(model='c', max_tokens=99, messages=MESSAGES) as streaming:
            assert streaming.get_final_text() == message.content[0].text
        generated = made.gemini.models.generate_content(model='g', contents=MESSAGES[0]['content'])
        pieces = made.gemini.models.generate_content_stream(model='g', contents=MESSAGES[0]['content'])
        assert ''.join([piece.text or '' for piece in pieces]) == generated.text
        assert [received.status for received in sim.requests][:2] == [503, 200]


def test_the_sync_clients_raise_their_own_errors() -> None:
    with Simulator().in_thread() as sim, sync_clients(sim.base_url, transport(Refusing())) as made:
        with pytest.raises(openai.RateLimitError, match='refused by refusing'):
            made.gpt.chat.completions.create(model='m', messages=MESSAGES)
        with pytest.raises(anthropic.RateLimitError):
            made.claude.messages.create(model='c', max_tokens=9, messages=MESSAGES)
        with pytest.raises(errors.ClientError):
            made.gemini.models.generate_content(model='g', contents='hi')


def test_leaving_a_sync_stream_ends_the_call_on_the_server() -> None:
    with Simulator().in_thread() as sim, sync_clients(sim.base_url, transport(RETRY)) as made:
        sim.use(faults=[Fault('stall_middle', after_parts=2)])
        stream = made.gpt.chat.completions.create(model='m', messages=MESSAGES, stream=True)
        next(iter(stream))
        stream.close()
        sim.requests[0].disconnected.wait(timeout=10)


def test_other_requests_of_sync_clients_pass_untouched() -> None:
    with Simulator().in_thread() as sim, sync_clients(sim.base_url, transport(Refusing())) as made:
        assert [model.id for model in made.gpt.models.list()] == ['lamella-simulator']
