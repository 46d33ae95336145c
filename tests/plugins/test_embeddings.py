"""The plugins' embedding models, over HTTP, against the simulator and against servers that are no good."""

import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from google import genai
from google.genai import types

from lamella import Lamella, LamellaError
from lamella.core.embedding import EmbeddingInfo
from lamella.plugins.anthropic import Anthropic
from lamella.plugins.google_genai import GoogleAI, VertexAI
from lamella.plugins.openai import OpenAI
from lamella.simulator import Fault, Simulator
from lamella.testing import word_vector
from lamella.types import ConfigError, Usage
from tests.plugins.raw_server import Connection, raw_server

# google-genai's own way with aiohttp.
pytestmark = pytest.mark.filterwarnings('ignore:Inheritance class AiohttpClientSession:DeprecationWarning')

OPENAI, GEMINI = 'openai/text-embedding-3-small', 'googleai/gemini-embedding-001'
VERTEX, VERTEX_TEXT = 'vertexai/gemini-embedding-001', 'vertexai/text-embedding-005'
MODELS = [OPENAI, GEMINI, VERTEX, VERTEX_TEXT]
TEXTS = ['a boat on the sea', 'the sea', 'bills']


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


@pytest.fixture
async def ai(sim: Simulator) -> AsyncIterator[Lamella]:
    url = sim.base_url
    plugins = [OpenAI(base_url=f'{url}/v1'), GoogleAI(base_url=url), VertexAI(base_url=url, project='p')]
    async with Lamella(plugins=[*plugins, Anthropic(base_url=url)]) as app:
        yield app


@pytest.mark.parametrize('model', MODELS)
async def test_texts_become_vectors_at_every_vendor(model: str, ai: Lamella) -> None:
    response = await ai.embed(TEXTS, model=model, dimensions=32)
    assert response.vectors == tuple(word_vector(text, 32) for text in TEXTS)
    assert response.usage == Usage(input_tokens=8, total_tokens=8)
    assert response.model == model
    assert response.warnings == ()


@pytest.mark.parametrize(
    ('model', 'count', 'calls'), [(OPENAI, 2050, 2), (GEMINI, 201, 3), (VERTEX, 3, 3), (VERTEX_TEXT, 251, 2)]
)
async def test_no_call_has_more_texts_than_the_vendor_takes(
    model: str, count: int, calls: int, ai: Lamella, sim: Simulator
) -> None:
    texts = [f'text {n}' for n in range(count)]
    response = await ai.embed(texts, model=model, dimensions=4)
    assert response.vectors == tuple(word_vector(text, 4) for text in texts)
    assert len(sim.requests) == calls


async def test_no_call_has_more_tokens_than_openai_takes(ai: Lamella, sim: Simulator) -> None:
    texts = ['!' * 100_000] * 4  # a token each
    response = await ai.embed(texts, model=OPENAI, dimensions=4)
    assert response.usage == Usage(input_tokens=400_000, total_tokens=400_000)
    assert len(sim.requests) == 2
    with pytest.raises(LamellaError, match='more than one call takes'):
        await ai.embed('!' * 300_001, model=OPENAI)


@pytest.mark.parametrize('model', MODELS)
async def test_a_refusal_is_the_vendors_own_error(model: str, ai: Lamella, sim: Simulator) -> None:
    sim.use(faults=[Fault('status', status=429, retry_after_s=3)])
    with pytest.raises(LamellaError, match='429') as caught:
        await ai.embed('a', model=model)
    assert (caught.value.status, caught.value.retry_after_s) == ('RESOURCE_EXHAUSTED', 3)
    assert [attempt.model for attempt in caught.value.attempts] == [model]


@pytest.mark.parametrize('model', MODELS)
async def test_options_are_checked_and_reach_the_vendor(model: str, ai: Lamella, sim: Simulator) -> None:
    options: Any = {
        'openai': {'user': 'u', 'extra_body': {'input_type': 'query'}},
        'google': {'task_type': 'RETRIEVAL_QUERY'},
    }
    await ai.embed('a', model=model, provider_options=options)
    assert sim.requests[0].embedding is not None
    told = next(iter(sim.requests[0].embedding.provider_options.values()))
    if model == OPENAI:
        assert (told['user'], told['input_type']) == ('u', 'query')
    else:
        assert told == {'taskType': 'RETRIEVAL_QUERY'}
    for wrong, right in (({'openai': {'usr': 'u'}}, 'user'), ({'google': {'tasktype': 'X'}}, 'taskType')):
        if (model == OPENAI) == ('openai' in wrong):
            with pytest.raises(ConfigError, match=right):
                await ai.embed('a', model=model, provider_options=wrong)


async def test_a_server_that_refuses_base64_is_asked_for_numbers(ai: Lamella, sim: Simulator) -> None:
    options = {'openai': {'encoding_format': 'float'}}
    response = await ai.embed('a', model=OPENAI, provider_options=options, dimensions=8)
    assert sim.requests[0].body['encoding_format'] == 'float'
    assert response.vector == word_vector('a', 8)


async def test_a_compatible_server_says_how_many_texts_it_takes(sim: Simulator) -> None:
    plugin = OpenAI(name='tei', base_url=f'{sim.base_url}/v1', embeddings=EmbeddingInfo(max_batch=2))
    async with Lamella(plugins=[plugin]) as app:
        assert (await app.embed(TEXTS, model='tei/bge')).model == 'tei/bge'
    assert sorted(len(request.body['input']) for request in sim.requests) == [1, 2]


async def test_a_vendor_without_embeddings_says_so(ai: Lamella) -> None:
    with pytest.raises(LookupError, match='Providers with embeddings in this app: googleai/…, openai/…, vertexai/…'):
        await ai.embed('a', model='anthropic/claude')


async def test_the_key_goes_where_the_texts_go_and_into_no_error() -> None:
    seen: list[dict[str, str]] = []

    async def refuses(connection: Connection) -> None:
        while (asked := await connection.request()) is not None:
            seen.append(asked[1])
            error = json.dumps({'error': {'message': 'bad key sk-secret-of-mine', 'type': 'invalid_request_error'}})
            await connection.answer(error.encode(), '401 Unauthorized', 'content-type: application/json')

    async with raw_server(refuses) as (_, url), Lamella(plugins=[OpenAI('sk-secret-of-mine', f'{url}/v1')]) as app:
        with pytest.raises(LamellaError) as caught:
            await app.embed('a', model='openai/e')
    assert seen[0]['authorization'] == 'Bearer sk-secret-of-mine'
    assert caught.value.status == 'UNAUTHENTICATED'
    assert 'secret' not in str(caught.value)


@pytest.mark.parametrize(
    ('status', 'kind', 'body', 'error'),
    [
        ('200 OK', 'text/html', b'<h1>hi</h1>', ('FAILED_PRECONDITION', 'a web page')),
        ('301 Moved', 'text/plain', b'', ('FAILED_PRECONDITION', 'redirected')),
        ('200 OK', 'application/json', b'{"data": [{"embed', ('INTERNAL', 'malformed')),
        ('200 OK', 'application/json', b'{"data": []}', ('INTERNAL', 'answered 1 texts with 0 vectors')),
        ('503 Busy', 'text/plain', b'busy', ('UNAVAILABLE', 'busy')),
    ],
)
async def test_a_server_that_is_no_good_is_one_clear_error(
    status: str, kind: str, body: bytes, error: tuple[str, str]
) -> None:
    async def answers(connection: Connection) -> None:
        while await connection.request() is not None:
            await connection.answer(body, status, f'content-type: {kind}')

    async with raw_server(answers) as (_, url), Lamella(plugins=[OpenAI(base_url=f'{url}/v1')]) as app:
        with pytest.raises(LamellaError, match=error[1]) as caught:
            await app.embed('a', model='openai/e')
    assert caught.value.status == error[0]


# ── the vendors' own clients as oracles ─────────────────────────────────────────────────────────────────────────────


async def test_openais_client_says_and_reads_the_same(ai: Lamella, sim: Simulator) -> None:
    async with openai.AsyncOpenAI(base_url=f'{sim.base_url}/v1', api_key='k', max_retries=0) as client:
        theirs = await client.embeddings.create(model='text-embedding-3-small', input=TEXTS, dimensions=16, user='u')
    ours = await ai.embed(TEXTS, model=OPENAI, dimensions=16, provider_options={'openai': {'user': 'u'}})
    said = [request.body for request in sim.requests]
    assert said[0] == said[1]
    assert ours.vectors == tuple(tuple(item.embedding) for item in theirs.data)
    assert ours.usage is not None
    assert (ours.usage.input_tokens, ours.usage.total_tokens) == (theirs.usage.prompt_tokens, theirs.usage.total_tokens)


def without_roles(body: Any) -> Any:
    """Google's client says `role: user` where the API does not look."""
    if isinstance(body, dict):
        return {key: without_roles(value) for key, value in body.items() if key != 'role'}
    return [without_roles(item) for item in body] if isinstance(body, list) else body


@pytest.mark.parametrize(('model', 'texts'), [(GEMINI, TEXTS), (VERTEX, TEXTS[:1]), (VERTEX_TEXT, TEXTS)])
async def test_googles_client_says_and_reads_the_same(
    model: str, texts: list[str], ai: Lamella, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = types.HttpOptions(base_url=sim.base_url)
    vertex = model.startswith('vertexai')
    config: Any = {'task_type': 'RETRIEVAL_DOCUMENT', 'title': 'T', 'output_dimensionality': 16}
    key = (
        {'vertexai': True, 'project': 'p', 'location': 'global', 'credentials': Never()} if vertex else {'api_key': 'k'}
    )
    async with genai.Client(http_options=options, **key).aio as client:
        theirs = await client.models.embed_content(model=model.partition('/')[2], contents=texts, config=config)
    mine = {'google': {'task_type': 'RETRIEVAL_DOCUMENT', 'title': 'T'}}
    ours = await ai.embed(texts, model=model, dimensions=16, provider_options=mine)
    said = [without_roles(request.body) for request in sim.requests]
    assert said[0] == said[1]
    assert sim.requests[0].path.rpartition(':')[2] == sim.requests[1].path.rpartition(':')[2]
    assert ours.vectors == tuple(tuple(embedding.values) for embedding in theirs.embeddings)


class Never:
    """Credentials that are valid for this test."""

    token, expired, valid, quota_project_id = 'token', False, True, None

    def refresh(self, request: Any) -> None:
        raise AssertionError
