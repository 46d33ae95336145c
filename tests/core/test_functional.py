"""Layers from functions."""

import functools
from typing import Any

import pytest
from pydantic import BaseModel

from lamella import Lamella, Stack, Tool
from lamella.core.functional import check_name
from lamella.middleware import generate_middleware
from lamella.testing import ScriptedModel
from lamella.types import ConfigError, TextDelta
from tests.engine.kit import both


def nothing() -> dict[str, Any]:
    return {}


class Settings(BaseModel):
    word: str = 'hi'
    times: int = 1


async def model_hook(params: Any, ctx: Any, next_fn: Any) -> Any:
    response = await next_fn(params, ctx)
    return response.replace(metadata={**response.metadata, 'seen': True})


async def test_a_factory_makes_layers_with_checked_settings() -> None:
    def factory(config: Settings) -> Any:
        async def transform(params: Any, ctx: Any) -> Any:
            metadata = {'words': config.word * config.times}
            return params.replace(request=params.request.replace(metadata=metadata))

        return {'model': model_hook, 'params': transform}

    words = generate_middleware(factory, name='words', config=Settings)
    model = ScriptedModel(['x'], repeat=True)
    response = await both(
        lambda: Lamella(model=model), prompt='x', use=[words(times=2), words(config=Settings(word='a'))]
    )
    assert response.metadata == {'seen': True}
    assert model.requests[0].metadata == {'words': 'a'}
    with pytest.raises(ConfigError, match="words: unknown setting 'wrod': did you mean 'word'"):
        words(wrod='x')
    with pytest.raises(ConfigError, match='times'):
        words(times='many')
    with pytest.raises(ConfigError, match='not both'):
        words(config=Settings(), times=1)


async def test_it_works_as_a_decorator_and_without_settings() -> None:
    @generate_middleware(name='notes')
    def notes() -> Any:
        """Takes notes."""
        return {'model': model_hook}

    assert (notes.__name__, notes.__doc__) == ('notes', 'Takes notes.')
    assert (await both(lambda: Lamella(model=ScriptedModel(['x'])), prompt='x', use=[notes()])).metadata == {
        'seen': True
    }
    with pytest.raises(ConfigError, match='takes no settings'):
        notes(size=1)
    assert repr(notes()) == 'notes()'
    assert 'notes()  [wrap_model]' in Stack([notes()]).explain()


async def test_every_hook_has_a_short_and_a_long_name() -> None:
    log = []

    def passing(label: str) -> Any:
        async def hook(params: Any, ctx: Any, next_fn: Any) -> Any:
            log.append(label)
            return await next_fn(params, ctx)

        return hook

    async def stream(params: Any, ctx: Any, next_fn: Any) -> Any:
        log.append('stream')
        async for part in next_fn(params, ctx):
            yield part

    async def transform(params: Any, ctx: Any) -> Any:
        log.append('params')
        return params

    short = {
        'run': passing('run'), 'generate': passing('generate'), 'params': transform, 'stream': stream,
        'tool': passing('tool'), 'tools': lambda ctx: [Tool('t', run=lambda value: 'ok')],
    }  # fmt: skip
    made = generate_middleware(lambda: short, name='all')
    long = {'wrap_model': passing('model'), 'wrap_run': passing('run 2')}
    second = generate_middleware(lambda: long, name='long')
    model = ScriptedModel([[TextDelta('x')]])
    await Lamella(model=model).generate(prompt='x', use=[made(), second()])
    assert log == ['run', 'run 2', 'generate', 'params', 'stream', 'model']
    assert [tool.name for tool in model.requests[0].tools] == ['t']


def test_what_is_no_hook_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="'modle' is not a hook: did you mean 'model'"):
        generate_middleware(lambda: {'modle': model_hook}, name='x')()
    with pytest.raises(ConfigError, match='x: '):
        generate_middleware(lambda: {'model': lambda params: None}, name='x')()
    with pytest.raises(ConfigError, match='twice'):
        generate_middleware(lambda: {'model': model_hook, 'wrap_model': model_hook}, name='x')()


@pytest.mark.parametrize('answer', [None, [], 'model', model_hook], ids=repr)
def test_a_factory_must_return_a_dict_of_hooks(answer) -> None:
    with pytest.raises(ConfigError, match=r'x: .*dict'):
        generate_middleware(lambda: answer, name='x')()


@pytest.mark.parametrize('name', ['a/b', 'a:b', 'a b', 'a\nb', '', ' ', None, 5])
def test_a_name_is_one_token(name) -> None:
    with pytest.raises(ConfigError, match='single token'):
        generate_middleware(nothing, name=name)
    with pytest.raises(ConfigError, match='single token'):
        check_name(name)


@pytest.mark.parametrize('name', ['a', 'a-b', 'a.b', 'A_1', 'ü'])
def test_other_names_are_fine(name) -> None:
    assert check_name(name) == name


def test_hooks_that_do_nothing_make_a_layer_that_does_nothing() -> None:
    assert generate_middleware(nothing, name='x')()._hooks == frozenset()


async def test_two_layers_of_one_factory_keep_their_state_apart() -> None:
    counts = []

    def factory() -> Any:
        calls = []

        async def hook(params: Any, ctx: Any, next_fn: Any) -> Any:
            calls.append(1)
            counts.append(len(calls))
            return await next_fn(params, ctx)

        return {'model': hook}

    made = generate_middleware(factory, name='counts')
    ai = Lamella(model=ScriptedModel(['x'], repeat=True), use=[made()])
    await ai.generate(prompt='x', use=[made()])
    await ai.generate(prompt='x')
    assert counts == [1, 1, 2]


# ── a factory that is called for every request ──────────────────────────────────────────────────────────────────────


def test_a_layer_goes_by_its_factorys_name_and_shows_its_settings() -> None:
    layer = generate_middleware(lambda config: {'model': model_hook}, name='words', config=Settings)(times=2)
    assert (layer.name, repr(layer)) == ('words', 'words(times=2)')
    assert repr(generate_middleware(nothing, name='plain')()) == 'plain()'


def test_settings_may_be_called_config_schema() -> None:
    factory = generate_middleware(lambda config: {'model': model_hook}, name='words', config_schema=Settings)
    assert factory(times=2).config == Settings(times=2)
    assert generate_middleware(name='w', config_schema=Settings)(lambda config: {})(times=3).config.times == 3
    with pytest.raises(ConfigError, match='not both'):
        generate_middleware(nothing, name='words', config=Settings, config_schema=Settings)


def test_hooks_of_the_same_shape_are_checked_once_and_others_always() -> None:
    async def right(params: Any, ctx: Any, next_fn: Any) -> Any: ...

    async def short(params: Any) -> Any: ...

    def plain(params: Any, ctx: Any, next_fn: Any) -> Any: ...

    given = [right, right, short, right, plain]
    factory = generate_middleware(lambda: {'model': given.pop(0)}, name='changes')
    for _ in range(2):
        assert factory()._hooks == {'wrap_model'}
    with pytest.raises(ConfigError, match='must take'):
        factory()
    assert factory().wrap_model is right
    with pytest.raises(ConfigError, match='async def'):
        factory()


def test_the_same_code_with_other_defaults_is_another_shape() -> None:
    def made(defaults: Any) -> Any:
        async def hook(params: Any, ctx: Any, next_fn: Any, more: Any = ()) -> Any: ...

        hook.__defaults__ = defaults
        return hook

    given = [made(([],)), made(None)]
    factory = generate_middleware(lambda: {'model': given.pop(0)}, name='changes')
    factory()
    with pytest.raises(ConfigError, match='must take'):
        factory()


def test_hooks_that_are_no_plain_functions_are_checked_each_time() -> None:
    class Hook:
        async def __call__(self, params: Any, ctx: Any, next_fn: Any) -> Any: ...

    given: list[Any] = [Hook().__call__, functools.partial(model_hook), {'x': 1}]
    factory = generate_middleware(lambda: {'model': given.pop(0)}, name='changes')
    for _ in range(2):
        factory()
    with pytest.raises(ConfigError, match='a hook is a method'):
        factory()
