"""What an app knows by name."""

import gc
import weakref
from typing import Any

import pytest

from lamella import ModelRef, Tool
from lamella.core.plugin import Plugin
from lamella.engine.registry import Registry
from lamella.testing import ScriptedModel
from lamella.types import ConfigError, GenerationConfig, ModelResponse, UnknownNameError


class Acme(Plugin):
    """A provider of one model."""

    name = 'acme'

    def model(self, name: str) -> ScriptedModel | None:
        return ScriptedModel(name=f'acme/{name}') if name == 'one' else None

    def known_models(self) -> list[str]:
        return ['one']


class OnlyLayers(Plugin):
    """Has no models."""

    name = 'layers'


def test_a_function_is_one_tool_and_one_model_however_often_it_is_given() -> None:
    registry = Registry([])

    def tool(x: int) -> int:
        return x

    async def model(request: Any, ctx: Any) -> ModelResponse:
        return ModelResponse.text_of('x')

    assert registry.tool(tool) is registry.tool(tool)
    assert registry.model(model) is registry.model(model)


def test_functions_and_names_made_anew_for_every_call_do_not_pile_up() -> None:
    registry = Registry([Anything()])

    def made() -> Any:
        def tool(x: int) -> int:
            return x

        async def model(request: Any, ctx: Any) -> None: ...

        registry.tool(tool)
        registry.model(model)
        return tool

    first = weakref.ref(made())
    for n in range(300):
        made()
        registry.model(f'any/{n}')
    gc.collect()
    assert first() is None
    assert len(registry._function_tools) == len(registry._function_models) == len(registry._resolved) == 256


def test_a_registered_function_is_never_forgotten() -> None:
    registry = Registry([])

    def tool(x: int) -> int:
        return x

    given = Tool('of_another_name', run=tool)
    registry.remember(tool, given)
    for _ in range(300):
        registry.tool(lambda_like())
    assert registry.tool(tool) is given


def lambda_like() -> Any:
    def tool(x: int) -> int:
        return x

    return tool


class Anything(Plugin):
    """A provider that knows every name."""

    name = 'any'

    def model(self, name: str) -> ScriptedModel:
        return ScriptedModel(name=f'any/{name}')


def test_a_bound_method_of_an_unhashable_object_is_a_tool_too() -> None:
    class Shop(list):  # type: ignore[type-arg]
        def sell(self, item: str) -> str:
            return item

    assert Registry([]).tool(Shop().sell).name == 'sell'


def test_a_tool_is_itself() -> None:
    tool = Tool('t', run=print)
    assert Registry([]).tool(tool) is tool


@pytest.mark.parametrize('wrong', [5, None, [print], {'name': 't'}], ids=repr)
def test_what_is_no_tool_is_refused(wrong) -> None:
    with pytest.raises(ConfigError, match='a tool is a function'):
        Registry([]).tool(wrong)


def test_a_reference_is_a_model_with_settings_that_are_checked() -> None:
    registry = Registry([Acme()])
    assert registry.model(ModelRef('acme/one', config={'seed': 1}))._config == GenerationConfig(seed=1)
    with pytest.raises(ConfigError, match="did you mean 'temperature'"):
        registry.model(ModelRef('acme/one', config={'temprature': 1}))
    with pytest.raises(UnknownNameError, match="did you mean 'acme/one'"):
        registry.model(ModelRef('acme/onne'))


def test_an_unknown_model_says_what_providers_there_are() -> None:
    registry = Registry([Acme(), OnlyLayers()])
    registry.add_model('mine', ScriptedModel(name='mine'))
    with pytest.raises(UnknownNameError) as caught:
        registry.model('nobody/one')
    assert "'acme/one'" in str(caught.value)
    assert 'acme/…' in str(caught.value)
    assert 'layers/…' not in str(caught.value)
    assert 'mine' in str(caught.value)
    with pytest.raises(UnknownNameError, match="did you mean 'mine'"):
        registry.model('mime')
    assert 'acme/onne' not in UnknownNameError('model', 'acme/onne', registry._known_models('acme/onne')).known


def test_a_model_registered_later_is_found() -> None:
    registry = Registry([Acme()])
    with pytest.raises(UnknownNameError):
        registry.model('acme/two')
    registry.add_model('acme/two', ScriptedModel(name='acme/two'))
    assert registry.model('acme/two').name == 'acme/two'


def test_a_registered_model_wins_over_the_plugins() -> None:
    registry = Registry([Acme()])
    registry.model('acme/one')
    mine = ScriptedModel(name='acme/one')
    registry.add_model('acme/one', mine)
    assert registry.model('acme/one') is mine
