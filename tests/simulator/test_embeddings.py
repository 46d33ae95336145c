"""The simulator's vectors: by the words of a text, in each vendor's own words, within each vendor's limits."""

from typing import Any

import pytest

from lamella.simulator import Fault, Simulator
from lamella.testing import word_vector
from tests.simulator.chat import send

V1BETA = '/v1beta/models/gemini-embedding-001'
EXPRESS = '/v1beta1/publishers/google/models/text-embedding-005'


@pytest.mark.parametrize(
    ('path', 'body', 'found'),
    [
        ('/v1/embeddings', {'model': 'e', 'input': 'a'}, lambda answer: answer['data'][0]['embedding']),
        ('/embeddings', {'model': 'e', 'input': ['a']}, lambda answer: answer['data'][0]['embedding']),
        (f'{V1BETA}:embedContent', {'content': 'a'}, lambda answer: answer['embedding']['values']),
        (
            f'{V1BETA}:batchEmbedContents',
            {'requests': [{'content': 'a'}]},
            lambda answer: answer['embeddings'][0]['values'],
        ),
        (
            f'{EXPRESS}:predict',
            {'instances': [{'content': 'a'}]},
            lambda a: a['predictions'][0]['embeddings']['values'],
        ),
    ],
)
async def test_every_path_gives_the_same_vector(path: str, body: Any, found: Any) -> None:
    async with Simulator() as sim:
        answer = await send(sim, body, path)
        assert answer.status == 200
        vector = found(answer.json)
        assert tuple(vector) == word_vector('a', len(vector))
        assert sim.requests[0].embedding is not None
        assert sim.requests[0].embedding.texts == ('a',)


@pytest.mark.parametrize(
    ('model', 'size'), [('text-embedding-3-small', 1536), ('text-embedding-3-large', 3072), ('anything', 768)]
)
async def test_vectors_are_as_long_as_the_models_own(model: str, size: int) -> None:
    async with Simulator() as sim:
        answer = await send(sim, {'model': model, 'input': 'a'}, '/v1/embeddings')
        assert len(answer.json['data'][0]['embedding']) == size


@pytest.mark.parametrize(
    ('path', 'body'),
    [
        ('/v1/embeddings', {'model': 'e', 'input': []}),
        ('/v1/embeddings', {'model': 'e', 'input': ['a', '']}),
        ('/v1/embeddings', {'model': 'e', 'input': ['a'] * 2049}),
        ('/v1/embeddings', {'model': 'e', 'input': '!' * 300_001}),
        ('/v1/embeddings', {'model': 'e', 'input': 'a', 'dimensions': 9999}),
        (f'{V1BETA}:batchEmbedContents', {'requests': [{'content': 'a'}] * 101}),
        (f'{EXPRESS}:predict', {'instances': [{'content': 'a'}] * 251}),
        (f'{EXPRESS}:predict', {'instances': [{'content': '!' * 20_001}]}),
    ],
)
async def test_what_the_vendors_refuse_is_refused(path: str, body: Any) -> None:
    async with Simulator() as sim:
        answer = await send(sim, body, path)
        assert (answer.status, 'error' in answer.json) == (400, True)


async def test_faults_hold_for_embeddings_too_and_usage_is_spent() -> None:
    async with Simulator(faults=[Fault('status', status=503, times=1)]) as sim:
        body = {'model': 'e', 'input': 'a'}
        assert (await send(sim, body, '/v1/embeddings')).status == 503
        answer = await send(sim, body, '/v1/embeddings')
        assert (answer.status, answer.json['usage']) == (200, {'prompt_tokens': 1, 'total_tokens': 1})
        assert answer.headers['x-ratelimit-remaining-tokens'] == '1999999'
        assert [request.number for request in sim.requests] == [1, 2]
