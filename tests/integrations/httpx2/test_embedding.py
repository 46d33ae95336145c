"""Embedding calls of the vendors' own clients pass through the layers that stand around embedding, and no others do."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from google.genai import types

from lamella.integrations.httpx2 import LamellaTransport
from lamella.integrations.httpx2.embedding import text_route_of
from lamella.middleware import BaseMiddleware, Fallback, Retry
from lamella.plugins.openai import OpenAI
from lamella.simulator import Fault, Simulator
from lamella.testing import word_vector
from lamella.types import EmbeddingResponse, Rejected
from tests.integrations.clients import clients, sync_clients

# google-genai's own way with aiohttp.
pytestmark = pytest.mark.filterwarnings('ignore:Inheritance class AiohttpClientSession:DeprecationWarning')

SMALL = 'text-embedding-3-small'
GEMINI = 'gemini-embedding-001'
CONFIG = types.EmbedContentConfig(output_dimensionality=8)
AGAIN = Retry(max_retries=1, initial_delay_ms=0)


class Hides(BaseMiddleware):
    """A guard: no name leaves the house."""

    async def wrap_embed(self, params, ctx, next_fn):
        texts = tuple(text.replace('Ann', '<name>') for text in params.request.texts)
        if texts == params.request.texts:
            return await next_fn(params, ctx)
        return await next_fn(params.replace(request=params.request.replace(texts=texts)), ctx)


class Refuses(BaseMiddleware):
    async def wrap_embed(self, params, ctx, next_fn):
        raise Rejected('no texts today', by=self, retry_after_s=7)


class Knows(BaseMiddleware):
    """Answers without asking."""

    async def wrap_embed(self, params, ctx, next_fn):
        return EmbeddingResponse(vectors=tuple((1.0, 2.0) for _ in params.request.texts))


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as simulator:
        yield simulator


async def test_failures_are_retried_below_the_vendors_client(sim: Simulator) -> None:
    sim.use(faults=[Fault('status', status=503, times=1)])
    async with clients(sim.base_url, LamellaTransport(use=[AGAIN])) as vendor:
        ours = await vendor.gpt.embeddings.create(model=SMALL, input=['a', 'b'], dimensions=8)
        google = await vendor.gemini.models.embed_content(model=GEMINI, contents=['a', 'b'], config=CONFIG)
    assert [tuple(item.embedding) for item in ours.data] == [word_vector('a', 8), word_vector('b', 8)]
    assert [tuple(item.values) for item in google.embeddings] == [word_vector('a', 8), word_vector('b', 8)]
    assert [request.status for request in sim.requests] == [503, 200, 503, 200]
    assert sim.requests[0].body == sim.requests[1].body


async def test_a_sync_client_passes_through_the_same_layers() -> None:
    transport, failing = LamellaTransport(use=[AGAIN]), Simulator(faults=[Fault('status', status=503, times=1)])
    with failing.in_thread() as sim, sync_clients(sim.base_url, transport) as vendor:
        answer = vendor.gpt.embeddings.create(model=SMALL, input='a', dimensions=8)
    assert tuple(answer.data[0].embedding) == word_vector('a', 8)


async def test_a_guard_sees_the_texts_of_every_client(sim: Simulator) -> None:
    async with clients(sim.base_url, LamellaTransport(use=[Hides()])) as vendor:
        ours = await vendor.gpt.embeddings.create(model=SMALL, input='Ann is here', dimensions=8)
        google = await vendor.gemini.models.embed_content(model=GEMINI, contents='Ann is here', config=CONFIG)
    assert tuple(ours.data[0].embedding) == tuple(google.embeddings[0].values) == word_vector('<name> is here', 8)
    assert 'Ann' not in str([request.body for request in sim.requests])


async def test_what_no_layer_changes_goes_and_comes_byte_for_byte(sim: Simulator) -> None:
    body = b'{ "input":"a",  "model": "text-embedding-3-small", "novel": 1 }'
    async with httpx2.AsyncClient(transport=LamellaTransport(use=[Hides(), AGAIN])) as http:
        url = f'{sim.base_url}/v1/embeddings'
        headers = {'content-type': 'application/json', 'authorization': 'Bearer k', 'x-mine': '1'}
        through = await http.post(url, content=body, headers=headers)
    async with httpx2.AsyncClient() as http:
        direct = await http.post(url, content=body, headers=headers)
    assert through.content == direct.content
    assert through.headers['x-request-id']
    one, two = sim.requests
    assert one.body == two.body == json.loads(body)
    assert one.headers['x-mine'] == '1'
    assert one.headers['content-length'] == str(len(body))


async def test_without_a_layer_around_embedding_nothing_is_looked_at(sim: Simulator) -> None:
    class Models(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            raise AssertionError

    async with clients(sim.base_url, LamellaTransport(use=[Models()])) as vendor:
        with pytest.raises(openai.BadRequestError, match='give texts, not tokens'):  # the simulator's own word
            await vendor.gpt.embeddings.create(model=SMALL, input=[[1, 2, 3]])
        await vendor.gpt.embeddings.create(model=SMALL, input='a')
    assert len(sim.requests) == 2


async def test_texts_that_no_guard_can_read_are_not_sent_past_it(sim: Simulator) -> None:
    async with clients(sim.base_url, LamellaTransport(use=[Hides()])) as vendor:
        with pytest.raises(openai.BadRequestError, match='give texts, not tokens'):
            await vendor.gpt.embeddings.create(model=SMALL, input=[[1, 2, 3]])
    assert list(sim.requests) == []


async def test_a_refusal_of_a_layer_is_the_clients_own_exception(sim: Simulator) -> None:
    async with clients(sim.base_url, LamellaTransport(use=[Refuses()])) as vendor:
        with pytest.raises(openai.RateLimitError, match='no texts today') as caught:
            await vendor.gpt.embeddings.create(model=SMALL, input='a')
    assert caught.value.response.headers['retry-after'] == '7'
    assert list(sim.requests) == []


async def test_an_answer_of_a_layer_is_said_in_the_clients_protocol(sim: Simulator) -> None:
    async with clients(sim.base_url, LamellaTransport(use=[Knows()])) as vendor:
        ours = await vendor.gpt.embeddings.create(model=SMALL, input=['a', 'b'])
        google = await vendor.gemini.models.embed_content(model=GEMINI, contents=['a', 'b'])
    assert [item.embedding for item in ours.data] == [[1.0, 2.0]] * 2
    assert [item.values for item in google.embeddings] == [[1.0, 2.0]] * 2
    assert list(sim.requests) == []


async def test_vectors_that_a_layer_changes_are_those_that_the_client_gets(sim: Simulator) -> None:
    class Doubles(BaseMiddleware):
        async def wrap_embed(self, params, ctx, next_fn):
            response = await next_fn(params, ctx)
            return response.replace(vectors=tuple(tuple(n * 2 for n in vector) for vector in response.vectors))

    async with clients(sim.base_url, LamellaTransport(use=[Doubles()])) as vendor:
        ours = await vendor.gpt.embeddings.create(model=SMALL, input='a', dimensions=8)
        floats = await vendor.gpt.embeddings.create(model=SMALL, input='a', dimensions=8, encoding_format='float')
    doubled = tuple(n * 2 for n in word_vector('a', 8))
    assert tuple(ours.data[0].embedding) == tuple(floats.data[0].embedding) == doubled
    assert ours.usage.prompt_tokens == 1


async def test_an_error_of_the_endpoint_passes_as_it_came(sim: Simulator) -> None:
    sim.use(faults=[Fault('status', status=429, retry_after_s=9, message='slow down')])
    async with clients(sim.base_url, LamellaTransport(use=[Hides()])) as vendor:
        with pytest.raises(openai.RateLimitError, match='slow down') as caught:
            await vendor.gpt.embeddings.create(model=SMALL, input='a')
    assert caught.value.response.headers['retry-after'] == '9'


async def test_a_connection_that_fails_stays_one() -> None:
    async with Simulator() as closed:
        url = closed.base_url
    async with clients(url, LamellaTransport(use=[AGAIN])) as vendor:
        with pytest.raises(openai.APIConnectionError):
            await vendor.gpt.embeddings.create(model=SMALL, input='a')


async def test_another_model_at_the_same_endpoint_and_one_at_another_may_stand_in(sim: Simulator) -> None:
    sim.use(faults=[Fault('status', status=503, model='first')])
    layers = [Fallback(embedding_models=['openai/second', 'googleai/second'])]
    async with clients(sim.base_url, LamellaTransport(use=layers)) as vendor:
        answer = await vendor.gpt.embeddings.create(model='first', input='a', dimensions=8)
        assert answer.model == 'second'
    assert [request.model for request in sim.requests] == ['first', 'second']
    async with Simulator() as another:
        spare = OpenAI('key-of-the-spare', f'{another.base_url}/v1', name='spare')
        transport = LamellaTransport(use=[Fallback(embedding_models=['spare/second'])], plugins=[spare])
        async with clients(sim.base_url, transport) as vendor:
            answer = await vendor.gpt.embeddings.create(model='first', input='a', dimensions=8)
        assert tuple(answer.data[0].embedding) == word_vector('a', 8)
        assert another.requests[0].headers['authorization'] == 'Bearer key-of-the-spare'


async def test_a_model_in_the_path_is_named_anew(sim: Simulator) -> None:
    sim.use(faults=[Fault('status', status=503, model='first')])
    layers = [Fallback(embedding_models=['googleai/second'])]
    async with clients(sim.base_url, LamellaTransport(use=layers)) as vendor:
        await vendor.gemini.models.embed_content(model='first', contents='a', config=CONFIG)
    assert [request.path.rpartition('/')[2] for request in sim.requests] == [
        'first:batchEmbedContents',
        'second:batchEmbedContents',
    ]


@pytest.mark.parametrize(
    ('path', 'found'),
    [
        ('/v1/embeddings', ('openai', None)),
        ('/openai/deployments/mine/embeddings', ('openai', 'mine')),
        ('/v1beta/models/e:embedContent', ('googleai', 'e')),
        ('/v1beta/models/e:batchEmbedContents', ('googleai', 'e')),
        ('/v1beta1/projects/p/locations/l/publishers/google/models/e:predict', ('vertexai', 'e')),
        ('/v1beta1/publishers/google/models/e:embedContent', ('vertexai', 'e')),
        ('/v1/embeddings/x', None),
        ('/v1beta/models/e:generateContent', None),
    ],
)
def test_which_paths_embed(path: str, found: Any) -> None:
    route = text_route_of('POST', path)
    assert (None if route is None else (route.provider, route.model)) == found
    assert text_route_of('GET', path) is None


async def test_a_prediction_that_embeds_nothing_passes_untouched(sim: Simulator) -> None:
    path = '/v1beta1/publishers/google/models/imagen:predict'
    async with httpx2.AsyncClient(transport=LamellaTransport(use=[Hides()])) as http:
        answer = await http.post(f'{sim.base_url}{path}', json={'instances': [{'prompt': 'a bee'}]})
    assert len(sim.requests) == 1
    assert answer.status_code == 400  # the simulator draws no pictures
