"""The OpenAI plugin over the Responses API, by HTTP, against servers of this machine that speak the protocol."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from pydantic import BaseModel

from lamella import Lamella
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.model import Model
from lamella.plugins.openai import OpenAI
from lamella.types import (
    Finished,
    GenerationConfig,
    LamellaError,
    Message,
    ModelRequest,
    ReasoningPart,
    ResponseStarted,
    StreamPart,
    fold,
)
from tests.wire.openai_responses_events import (
    ANSWERS,
    CODEC,
    JSON,
    answer,
    body,
    call,
    events_of,
    message,
    reasoning,
    sse,
    text,
)

pytestmark = pytest.mark.anyio

ASKED = ModelRequest((Message.system('Be brief.'), Message.user('hi')))
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Nobody:
    """These models ask nothing of the app."""

    def resolve_model(self, model: Any) -> Model:
        raise AssertionError(model)


def context() -> GenerateMiddlewareContext:
    return GenerateMiddlewareContext(Nobody())


@asynccontextmanager
async def plugin_of(handler: Handler, **options: Any) -> AsyncIterator[OpenAI]:
    """The plugin, and a server at whose `/v1/responses` the handler stands."""
    app = web.Application()
    app.router.add_post('/v1/responses', handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, '127.0.0.1', 0).start()
    host, port = runner.addresses[0][:2]
    plugin = OpenAI(base_url=f'http://{host}:{port}/v1', api='responses', **options)
    try:
        yield plugin
    finally:
        await plugin.aclose()
        await runner.cleanup()


def answering(*answers: JSON, seen: list[Any] | None = None) -> Handler:
    """A server that gives these answers in turn, whole or streamed in small pieces, and notes what it was asked."""
    waiting = list(answers)

    async def handle(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        if seen is not None:
            seen.append((request.headers, asked))
        data = waiting.pop(0)
        if not asked.get('stream'):
            return web.json_response(data)
        response = web.StreamResponse(headers={'content-type': 'text/event-stream; charset=utf-8'})
        await response.prepare(request)
        for event in events_of(data):
            await response.write(sse([event]))
        return response

    return handle


async def drain(model: Model, request: ModelRequest = ASKED, into: list[StreamPart] | None = None) -> list[StreamPart]:
    parts = [] if into is None else into
    async for part in model.stream(request, context()):
        parts.append(part)
    return parts


def model_of(plugin: OpenAI, name: str = 'gpt-x') -> Model:
    model = plugin.model(name)
    assert model is not None
    return model


@pytest.mark.parametrize('name', ANSWERS)
async def test_answers_come_whole_and_streamed_and_are_the_same(name: str) -> None:
    async with plugin_of(answering(ANSWERS[name], ANSWERS[name])) as plugin:
        whole = await model_of(plugin).generate(ASKED, context())
        parts = await drain(model_of(plugin))
    assert whole == CODEC.decode_response(body(name)).replace(model='openai/gpt-x-2026-01-01')
    assert fold(parts) == whole
    assert type(parts[0]) is ResponseStarted
    assert type(parts[-1]) is Finished


async def test_what_goes_over_the_wire() -> None:
    seen: list[Any] = []
    async with plugin_of(answering(ANSWERS['text'], seen=seen), api_key='sk-1', project='p') as plugin:
        await model_of(plugin).generate(ASKED.replace(provider_options={'openai': {'store': False}}), context())
    ((headers, asked),) = seen
    assert asked == {
        'model': 'gpt-x',
        'instructions': 'Be brief.',
        'input': [{'type': 'message', 'role': 'user', 'content': 'hi'}],
        'store': False,
    }
    assert headers['authorization'] == 'Bearer sk-1'
    assert headers['openai-project'] == 'p'
    assert headers['content-type'] == 'application/json'


async def test_a_second_provider_has_its_own_options_and_metadata() -> None:
    seen: list[Any] = []
    async with plugin_of(answering(ANSWERS['custom tool'], seen=seen), name='other') as plugin:
        request = ASKED.replace(provider_options={'other': {'extra_body': {'x': 1}}, 'openai': {'y': 2}})
        response = await model_of(plugin).generate(request, context())
    ((_, asked),) = seen
    assert asked['x'] == 1
    assert 'y' not in asked
    metadata = response.tool_requests[0].metadata
    assert metadata is not None
    assert metadata.keys() == {'other', 'other-responses'}


async def test_what_could_not_be_said_is_in_the_warnings_of_the_answer() -> None:
    request = ASKED.replace(config=GenerationConfig(seed=7))
    async with plugin_of(answering(ANSWERS['text'], ANSWERS['text'])) as plugin:
        whole = await model_of(plugin).generate(request, context())
        streamed = fold(await drain(model_of(plugin), request))
    assert whole.warnings == streamed.warnings
    assert whole.warnings[0].startswith('seed=7 is no setting of the Responses API')


async def test_an_error_status_is_an_error_with_its_wait() -> None:
    async def refuse(request: web.Request) -> web.StreamResponse:
        error = {'message': 'Slow down.', 'type': 'requests', 'code': 'rate_limit_exceeded', 'param': None}
        return web.json_response({'error': error}, status=429, headers={'retry-after': '3', 'x-request-id': 'req_1'})

    async with plugin_of(refuse) as plugin:
        for ask in (model_of(plugin).generate(ASKED, context()), drain(model_of(plugin))):
            with pytest.raises(LamellaError, match='Slow down') as caught:
                await ask
            assert (caught.value.status, caught.value.retry_after_s) == ('RESOURCE_EXHAUSTED', 3)
            assert caught.value.details['request_id'] == 'req_1'


def broken(*events: JSON) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={'content-type': 'text/event-stream'})
        await response.prepare(request)
        await response.write(sse(list(events)))
        return response

    return handle


async def test_an_error_in_the_stream_comes_after_what_had_arrived() -> None:
    begun = events_of(ANSWERS['text'])[:6]
    failed = {
        'type': 'response.failed',
        'response': answer(status='failed', error={'code': 'server_error', 'message': 'x'}),
    }
    parts: list[StreamPart] = []
    async with plugin_of(broken(*begun, failed)) as plugin:
        with pytest.raises(LamellaError) as caught:
            await drain(model_of(plugin), into=parts)
    assert caught.value.status == 'INTERNAL'
    assert caught.value.partial is not None
    assert caught.value.partial.text == fold(parts).text != ''


async def test_a_stream_that_ends_too_early_is_unavailable() -> None:
    async with plugin_of(broken(*events_of(ANSWERS['text'])[:-1])) as plugin:
        with pytest.raises(LamellaError, match='before the answer was complete') as caught:
            await drain(model_of(plugin))
    assert caught.value.status == 'UNAVAILABLE'


# ── whole runs ──────────────────────────────────────────────────────────────────────────────────────────────────────

TURNS = [
    answer(reasoning('A.', id='rs_1', encrypted_content='e1'), call('look', '{"n":1}', 'fc_1', 'call_1')),
    answer(
        reasoning(id='rs_2', encrypted_content='e2'),
        call('look', '{"n":2}', 'fc_2', 'call_2'),
        call('look', '{"n":3}', 'fc_3', 'call_3'),
    ),
    answer(reasoning('B.', id='rs_3', encrypted_content='e3'), call('look', '{"n":4}', 'fc_4', 'call_4')),
    answer(reasoning(id='rs_4', encrypted_content='e4'), message(text('Done.'), id='msg_4')),
]


@pytest.mark.parametrize('streamed', [False, True])
async def test_a_run_of_four_turns_sends_every_item_back(streamed: bool) -> None:
    seen: list[Any] = []
    async with plugin_of(answering(*TURNS, seen=seen)) as plugin:
        ai = Lamella(plugins=[plugin])

        @ai.tool()
        def look(n: int) -> str:
            """Look at number n."""
            return f'saw {n}'

        options: Any = {
            'model': 'openai/gpt-x',
            'prompt': 'Look around.',
            'tools': [look],
            'provider_options': {'openai': {'store': False}},
        }
        if streamed:
            async with ai.generate_stream(**options) as stream:
                _ = [part async for part in stream]
                response = await stream.response
        else:
            response = await ai.generate(**options)
    assert response.text == 'Done.'
    assert [asked['store'] for _, asked in seen] == [False] * 4
    expected: list[Any] = [{'type': 'message', 'role': 'user', 'content': 'Look around.'}]
    for turn, (_, asked) in zip(TURNS, seen, strict=True):
        assert asked['input'] == expected
        expected += turn['output']
        expected += [
            {
                'type': 'function_call_output',
                'call_id': item['call_id'],
                'output': f'saw {json.loads(item["arguments"])["n"]}',
            }
            for item in turn['output']
            if item['type'] == 'function_call'
        ]
    assert [part.signature for part in response.messages[1].content if isinstance(part, ReasoningPart)] == ['e1']
    assert response.usage is not None
    assert response.usage.total_tokens == 4 * 123


class City(BaseModel):
    name: str


async def test_a_wanted_shape_is_asked_for_in_the_providers_own_way() -> None:
    seen: list[Any] = []
    async with plugin_of(answering(answer(message(text('{"name":"Zürich"}'))), seen=seen)) as plugin:
        ai = Lamella(plugins=[plugin])
        response = await ai.generate(model='openai/gpt-x', prompt='Which city?', output_schema=City)
    assert response.output == City(name='Zürich')
    ((_, asked),) = seen
    assert asked['text']['format']['type'] == 'json_schema'
    assert asked['text']['format']['strict'] is True
