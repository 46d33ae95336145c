"""LiteLLM's embedding models: against LiteLLM itself where it is installed, over HTTP to the simulator."""

import importlib.util
from typing import Any

import pytest

from lamella import Lamella, LamellaError
from lamella.core.embedding import EmbeddingInfo
from lamella.plugins.litellm import LiteLLM
from lamella.simulator import Fault, Simulator
from lamella.testing import word_vector
from lamella.types import Usage

pytestmark = pytest.mark.filterwarnings('ignore::UserWarning', 'ignore::DeprecationWarning')  # LiteLLM's own
needs_litellm = pytest.mark.skipif(
    importlib.util.find_spec('litellm') is None,
    reason="LiteLLM is not installed (some 180 MB, not in lamella[all]): pip install 'lamella[litellm]'",
)
MODEL = 'litellm/openai/text-embedding-3-small'


def test_a_model_costs_nothing_until_it_is_used() -> None:
    model = LiteLLM().embedding_model('cohere/embed-v4')
    assert (model.name, model.info.max_batch, model.option_keys) == ('litellm/cohere/embed-v4', 96, ('litellm',))
    assert repr(model) == "LiteLLMEmbeddingModel('litellm/cohere/embed-v4')"
    small = LiteLLM(embeddings=EmbeddingInfo(max_batch=2)).embedding_model('x')
    assert small.info.max_batch == 2


async def test_options_that_would_retry_behind_the_layers_are_refused() -> None:
    with pytest.raises(LamellaError, match=r'num_retries: .*Retry and Fallback'):
        await Lamella(plugins=[LiteLLM()]).embed('x', model=MODEL, provider_options={'litellm': {'num_retries': 3}})


@needs_litellm
async def test_texts_become_vectors_in_batches() -> None:
    async with Simulator() as sim:
        plugin = LiteLLM('k', f'{sim.base_url}/v1', embeddings=EmbeddingInfo(max_batch=2))
        ai = Lamella(plugins=[plugin])
        texts = ['a boat', 'the sea', 'the wind']
        response = await ai.embed(texts, model=MODEL, dimensions=16)
    assert response.vectors == tuple(word_vector(text, 16) for text in texts)
    assert (response.usage, response.model) == (Usage(input_tokens=6, total_tokens=6), MODEL)
    assert sorted(len(request.body['input']) for request in sim.requests) == [1, 2]
    assert all(request.body.get('encoding_format', 'float') == 'float' for request in sim.requests)


@needs_litellm
@pytest.mark.parametrize(
    ('status', 'name'), [(429, 'RESOURCE_EXHAUSTED'), (503, 'UNAVAILABLE'), (401, 'UNAUTHENTICATED')]
)
async def test_a_refusal_is_one_attempt_and_one_of_our_errors(status: int, name: Any) -> None:
    async with Simulator(faults=[Fault('status', status=status)]) as sim:
        with pytest.raises(LamellaError) as caught:
            await Lamella(plugins=[LiteLLM('k', f'{sim.base_url}/v1')]).embed('x', model=MODEL)
    assert caught.value.status == name
    assert len(sim.requests) == 1
