"""Options of one provider: a name that is nearly right is refused, since nobody would read what stands under it."""

from typing import Any

import pytest

from lamella import Lamella, wrap_language_model
from lamella.core.plugin import Plugin
from lamella.testing import ScriptedEmbeddingModel, ScriptedModel
from lamella.types import ConfigError


class Vendor(Plugin):
    def __init__(self, name: str) -> None:
        self.name = name


def app() -> Lamella:
    """Of two providers, of which only one has the model that is asked."""
    model = ScriptedModel(['x'], name='openai/m', repeat=True)
    embedder = ScriptedEmbeddingModel(name='openai/e')
    return Lamella(plugins=[Vendor('openai'), Vendor('openai_eu')], model=model, embedding_model=embedder)


@pytest.mark.parametrize('name', ['opnai', 'OpenAI', 'openai2', 'open_ai'])
async def test_a_name_that_is_nearly_the_models_own_is_refused(name: str) -> None:
    problem = rf"provider_options\['{name}'\] is read by nobody, openai/. reads 'openai': did you mean that"
    for call in (
        app().generate(prompt='hi', provider_options={name: {}}),
        app().embed('x', provider_options={name: {}}),
    ):
        with pytest.raises(ConfigError, match=problem):
            await call


@pytest.mark.parametrize('name', ['openai', 'openai_eu', 'anthropic', 'my_layer', ''])
async def test_the_names_of_the_model_of_other_providers_and_of_layers_are_fine(name: str) -> None:
    await app().generate(prompt='hi', provider_options={name: {'a': 1}})
    await app().embed('hi', provider_options={name: {'a': 1}})


async def test_a_wrapped_model_goes_by_what_the_inner_one_reads() -> None:
    model = wrap_language_model(model=ScriptedModel(['x'], name='acme/m'), middleware=[], provider_id='openai')
    with pytest.raises(ConfigError, match="reads 'acme'"):
        await Lamella(model=model).generate(prompt='hi', provider_options={'acmee': {}})


@pytest.mark.parametrize(
    ('options', 'problem'),
    [('openai', 'provider_options is a str: give a dict'), ({'openai': 'x'}, r"provider_options\['openai'\] is 'x'")],
)
async def test_what_is_no_dict_of_dicts_is_refused(options: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        await app().generate(prompt='hi', provider_options=options)
