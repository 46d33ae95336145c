"""Paths, protocols, and what is said about paths that are not served."""

import json
from typing import Any

import httpx2
import pytest
from google import genai
from google.genai.types import HttpOptions

from lamella import Lamella
from lamella.plugins.google_genai import VertexAI
from lamella.simulator import Simulator
from lamella.simulator.tokens import count_request
from tests.simulator.chat import PROMPT, ask, body, send

ANTHROPIC = {'model': 'c', 'max_tokens': 50, 'messages': [{'role': 'user', 'content': PROMPT}]}
RESPONSES = {'model': 'r', 'input': PROMPT}
GEMINI = {'contents': [{'role': 'user', 'parts': [{'text': PROMPT}]}]}


@pytest.mark.parametrize(
    ('path', 'asked', 'protocol', 'model'),
    [
        ('/v1/chat/completions', body(), 'openai-chat', 'm'),
        ('/chat/completions', body(), 'openai-chat', 'm'),
        ('/v1/responses', RESPONSES, 'openai-responses', 'r'),
        ('/responses', RESPONSES, 'openai-responses', 'r'),
        ('/v1/messages', ANTHROPIC, 'anthropic', 'c'),
        ('/v1beta/models/g-1:generateContent', GEMINI, 'gemini', 'g-1'),
        ('/v1beta/models/g-1:streamGenerateContent?alt=sse', GEMINI, 'gemini', 'g-1'),
        ('/v1/models/g-1:generateContent', GEMINI, 'gemini', 'g-1'),
    ],
)
async def test_each_path_speaks_its_protocol(path: str, asked: Any, protocol: str, model: str) -> None:
    async with Simulator() as sim:
        answered = await send(sim, asked, path)
        assert answered.status == 200
        assert answered.headers['x-simulator'] == 'lamella'
        assert (sim.requests[0].protocol, sim.requests[0].model) == (protocol, model)
        assert sim.requests[0].stream is ('stream' in path)


@pytest.mark.parametrize('option', [{'previous_response_id': 'resp_1'}, {'background': True}, {'conversation': 'c'}])
async def test_what_needs_a_memory_is_refused(option: dict[str, Any]) -> None:
    async with Simulator() as sim:
        answered = await send(sim, {**RESPONSES, **option}, '/v1/responses')
    assert answered.status == 400
    assert answered.json['error']['param'] == next(iter(option))
    assert 'send the whole conversation' in answered.json['error']['message']


async def test_gemini_streams_events_that_add_up() -> None:
    async with Simulator() as sim:
        whole = await send(sim, GEMINI, '/v1beta/models/g:generateContent')
        streamed = await send(sim, GEMINI, '/v1beta/models/g:streamGenerateContent?alt=sse')
    chunks = [json.loads(event) for event in streamed.events]
    parts = [part for chunk in chunks for part in chunk['candidates'][0]['content']['parts']]
    assert ''.join(part['text'] for part in parts) == whole.json['candidates'][0]['content']['parts'][0]['text']


@pytest.mark.parametrize(
    ('path', 'asked', 'field'),
    [
        ('/v1/messages/count_tokens', {'model': 'c', 'messages': ANTHROPIC['messages']}, 'input_tokens'),
        ('/v1beta/models/g:countTokens', GEMINI, 'totalTokens'),
        ('/v1beta/models/g:countTokens', {'generateContentRequest': GEMINI}, 'totalTokens'),
    ],
)
async def test_tokens_are_counted_as_usage_counts_them(path: str, asked: Any, field: str) -> None:
    async with Simulator() as sim:
        answered = await send(sim, asked, path)
        request = sim.requests[0].request
    assert request is not None
    assert answered.json == {field: count_request(request)}


async def test_counting_tokens_is_no_request_of_the_model() -> None:
    async with Simulator() as sim:
        await send(sim, GEMINI, '/v1beta/models/g:countTokens')
        await send(sim, GEMINI, '/v1beta/models/g:generateContent')
        assert [record.number for record in sim.requests] == [None, 1]


@pytest.mark.parametrize(
    ('path', 'headers', 'names'),
    [
        ('/v1/models', {}, lambda shown: [model['id'] for model in shown['data']]),
        ('/models', {}, lambda shown: [model['id'] for model in shown['data']]),
        ('/v1/models', {'anthropic-version': '2023-06-01'}, lambda shown: [shown['first_id'], shown['last_id']]),
        ('/v1beta/models', {}, lambda shown: [model['displayName'] for model in shown['models']]),
        ('/v1/models', {'x-goog-api-key': 'k'}, lambda shown: [model['displayName'] for model in shown['models']]),
    ],
)
async def test_models_are_listed_as_the_vendor_lists_them(path: str, headers: dict[str, str], names: Any) -> None:
    async with Simulator() as sim:
        await ask(sim, model='org/seen')
        answered = await send(sim, path=path, method='GET', headers=headers)
    assert names(answered.json) == ['lamella-simulator', 'org/seen']


@pytest.mark.parametrize(
    ('path', 'headers', 'field'),
    [
        ('/v1/models/org/any', {}, 'id'),
        ('/v1/models/org/any', {'anthropic-version': '2023-06-01'}, 'display_name'),
        ('/v1beta/models/org/any', {}, 'displayName'),
    ],
)
async def test_any_model_is_known(path: str, headers: dict[str, str], field: str) -> None:
    async with Simulator() as sim:
        assert (await send(sim, path=path, method='GET', headers=headers)).json[field] == 'org/any'


@pytest.mark.parametrize(
    ('method', 'path', 'said'),
    [
        ('POST', '/v1/chat/completion', {'type': 'invalid_request_error', 'code': 'unknown_url'}),
        ('GET', '/v1/chat/completions', {'type': 'invalid_request_error', 'code': 'unknown_url'}),
        ('POST', '/v1/messages/nothing', {'type': 'not_found_error'}),
        ('POST', '/v1beta/nothing', {'status': 'NOT_FOUND'}),
    ],
)
async def test_an_unknown_path_gets_the_vendors_404(method: str, path: str, said: dict[str, str]) -> None:
    async with Simulator() as sim:
        answered = await send(sim, path=path, method=method)
        assert sim.requests[0].status == 404
    assert answered.status == 404
    assert f'the simulator does not serve {method} {path}' in answered.json['error']['message']
    assert said.items() <= answered.json['error'].items()


async def test_a_misspelled_path_is_answered_with_the_nearest_one() -> None:
    async with Simulator() as sim:
        answered = await send(sim, path='/v1/chat/completion')
    assert "did you mean 'POST /v1/chat/completions'" in answered.json['error']['message']


@pytest.mark.parametrize(
    ('path', 'said'),
    [
        ('/v1/messages', {'type': 'error', 'error': {'type': 'authentication_error'}}),
        ('/v1beta/models/g:generateContent', {'error': {'status': 'UNAUTHENTICATED'}}),
    ],
)
async def test_each_vendor_refuses_a_wrong_key_in_its_own_words(path: str, said: Any) -> None:
    async with Simulator(api_keys=['right']) as sim:
        refused = await send(sim, ANTHROPIC, path, headers={'x-api-key': 'wrong'})
        taken = [
            await send(sim, ANTHROPIC if 'messages' in path else GEMINI, path, headers={name: 'right'})
            for name in ('x-api-key', 'x-goog-api-key')
        ]
    assert refused.status == 401
    assert (
        said.items()
        <= {**refused.json, 'error': {k: v for k, v in refused.json['error'].items() if k in said['error']}}.items()
    )
    assert [answered.status for answered in taken] == [200, 200]


VERTEX_PATHS = [
    '/v1beta1/projects/p/locations/europe-west4/publishers/google/models/g',
    '/v1/projects/p/locations/global/publishers/google/models/g',
    '/v1beta1/publishers/google/models/g',
]


@pytest.mark.parametrize('path', VERTEX_PATHS)
async def test_vertex_speaks_gemini_under_its_own_paths(path: str) -> None:
    async with Simulator() as sim:
        whole = await send(sim, GEMINI, f'{path}:generateContent')
        counted = await send(sim, GEMINI, f'{path}:countTokens')
        records = list(sim.requests)
    assert whole.json['candidates'][0]['finishReason'] == 'STOP'
    assert counted.json['totalTokens'] == whole.json['usageMetadata']['promptTokenCount']
    assert [(record.protocol, record.model) for record in records[:1]] == [('gemini', 'g')]


async def test_the_client_of_google_and_our_plugin_reach_vertex() -> None:
    async with Simulator(api_keys=['express-key']) as sim:
        async with httpx2.AsyncClient() as http:
            options = HttpOptions(base_url=sim.base_url, httpx_async_client=http)
            client = genai.Client(vertexai=True, api_key='express-key', http_options=options)
            theirs = await client.aio.models.generate_content(model='gemini-x', contents='I love bees.')
        async with Lamella(plugins=[VertexAI(base_url=sim.base_url, api_key='express-key')]) as ai:
            ours = await ai.generate(model='vertexai/gemini-x', prompt='I love bees.')
            streamed = [
                t async for t in ai.generate_stream(model='vertexai/gemini-x', prompt='I love bees.').text_stream
            ]
    assert theirs.text == ours.text == ''.join(streamed)
