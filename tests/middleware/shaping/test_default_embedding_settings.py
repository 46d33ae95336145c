"""`DefaultEmbeddingSettings`: what an embedding request leaves open is filled in, and what it says wins."""

from typing import Any

import pytest

from lamella import Lamella, wrap_embedding_model
from lamella.middleware import DefaultEmbeddingSettings
from lamella.testing import ScriptedEmbeddingModel, ScriptedModel
from lamella.types import ConfigError, EmbeddingRequest


async def asked(layer: DefaultEmbeddingSettings, **options: Any) -> EmbeddingRequest:
    """What the model was asked."""
    model = ScriptedEmbeddingModel()
    await Lamella(embedding_model=model).embed('x', use=[layer], **options)
    return model.requests[0]


async def test_what_the_call_does_not_set_is_filled_in() -> None:
    request = await asked(DefaultEmbeddingSettings(dimensions=8, provider_options={'x': {'user': 'u'}}))
    assert request == EmbeddingRequest(('x',), 8, {'x': {'user': 'u'}})


async def test_what_the_call_sets_wins_at_every_depth() -> None:
    layer = DefaultEmbeddingSettings(dimensions=8, provider_options={'x': {'a': {'b': 1, 'c': 2}, 'd': [1]}})
    request = await asked(layer, dimensions=4, provider_options={'x': {'a': {'c': 3}, 'd': [2]}, 'y': {}})
    assert request == EmbeddingRequest(('x',), 4, {'x': {'a': {'b': 1, 'c': 3}, 'd': [2]}, 'y': {}})


async def test_nothing_set_changes_nothing() -> None:
    assert await asked(DefaultEmbeddingSettings()) == EmbeddingRequest(('x',))


async def test_of_two_such_layers_the_outer_one_wins() -> None:
    model = ScriptedEmbeddingModel()
    layers = [DefaultEmbeddingSettings(dimensions=n) for n in (4, 8)]
    await Lamella(embedding_model=model).embed('x', use=layers)
    assert model.requests[0].dimensions == 4


async def test_it_works_fixed_on_a_model_and_leaves_language_models_alone() -> None:
    layer = DefaultEmbeddingSettings(dimensions=8)
    model = wrap_embedding_model(model=ScriptedEmbeddingModel(), middleware=layer)
    assert len((await model.embed('x')).vector) == 8
    assert (await Lamella(model=ScriptedModel(['hi']), use=[layer]).generate(prompt='x')).text == 'hi'


async def test_the_settings_are_never_changed_by_a_call() -> None:
    given: dict[str, Any] = {'x': {'a': {'b': 1}}}
    layer = DefaultEmbeddingSettings(provider_options=given)
    await asked(layer, provider_options={'x': {'a': {'b': 2}}})
    given['x']['a']['b'] = 3
    assert (await asked(layer)).provider_options == {'x': {'a': {'b': 1}}}


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'dimensions': 0}, 'dimensions: Input should be greater than or equal to 1'),
        ({'dimensions': '8'}, 'dimensions: Input should be a valid integer'),
        ({'provider_options': {'openai': 'float'}}, r"provider_options: .*\['openai'\] is 'float': give a dict"),
        ({'provider_options': []}, r'provider_options: .*is \[\]: give a dict of dicts'),
        ({'dimension': 8}, "unknown setting 'dimension': did you mean 'dimensions'"),
    ],
)
def test_wrong_settings_are_refused_when_it_is_built(options: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        DefaultEmbeddingSettings(**options)
