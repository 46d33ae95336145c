"""Models made of functions, of other models, and of models with layers on them."""

import functools
from random import Random
from typing import Any

import pytest

from lamella import Lamella, LamellaError
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.model import Model, ModelInfo
from lamella.core.models import ConfiguredModel, FunctionModel, fold_stream, to_config
from lamella.testing import ScriptedModel
from lamella.types import (
    ConfigError,
    Finished,
    GenerationConfig,
    ModelRequest,
    ModelResponse,
    ResponseStarted,
    TextDelta,
    ToolRequest,
    ToolRequested,
)
from tests.engine.kit import app, both, no_leaks

REQUEST = ModelRequest()


def ctx() -> GenerateMiddlewareContext:
    return GenerateMiddlewareContext(Lamella(), random=Random(1))


async def parts_of(model: Model) -> list[Any]:
    return [part async for part in model.stream(REQUEST, ctx())]


# ── functions ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_coroutine_function_is_a_model_in_both_doors() -> None:
    async def hello(request: Any, ctx: Any) -> ModelResponse:
        return ModelResponse.text_of('hello')

    model = FunctionModel(hello)
    assert (model.name, repr(model)) == ('hello', "FunctionModel('hello')")
    assert (await model.generate(REQUEST, ctx())).text == 'hello'
    assert [type(part) for part in await parts_of(model)] == [ResponseStarted, TextDelta, Finished]


async def test_a_generator_function_needs_neither_start_nor_end() -> None:
    async def hello(request: Any, ctx: Any) -> Any:
        yield TextDelta('hel')
        yield TextDelta('lo')

    async def asks(request: Any, ctx: Any) -> Any:
        yield ToolRequested(ToolRequest('t', {}))

    assert (await FunctionModel(hello).generate(REQUEST, ctx())).text == 'hello'
    assert (await parts_of(FunctionModel(hello)))[-1] == Finished('stop')
    assert (await parts_of(FunctionModel(asks)))[-1] == Finished('tool_calls')


async def test_nothing_is_read_of_a_function_after_its_end() -> None:
    log = []

    async def talks_on(request: Any, ctx: Any) -> Any:
        try:
            yield TextDelta('a')
            yield Finished('stop')
            log.append('read on')
            yield TextDelta('b')
        finally:
            log.append('closed')

    async with no_leaks():
        assert (await both(lambda: Lamella(model=talks_on), prompt='x')).text == 'a'
    assert log == ['closed', 'closed']


@pytest.mark.parametrize('wrong', [lambda request, ctx: None, print, len], ids=repr)
def test_a_function_that_is_not_async_is_no_model(wrong) -> None:
    with pytest.raises(ConfigError, match='async def'):
        FunctionModel(wrong)


def test_a_function_of_other_arguments_is_no_model() -> None:
    async def one(request: Any) -> None: ...
    async def three(request: Any, ctx: Any, more: Any) -> None: ...

    for wrong in (one, three):
        with pytest.raises(ConfigError, match=r'\(request, ctx\)'):
            FunctionModel(wrong)


async def test_a_callable_object_is_a_model() -> None:
    class Parrot:
        async def __call__(self, request: Any, ctx: Any) -> ModelResponse:
            return ModelResponse.text_of('parrot')

    class Streams:
        async def __call__(self, request: Any, ctx: Any) -> Any:
            yield TextDelta('parrot')

    for thing in (Parrot(), Streams(), functools.partial(Parrot().__call__), functools.partial(Streams().__call__)):
        assert (await both(lambda thing=thing: Lamella(model=thing), prompt='x')).text == 'parrot'


# ── models with settings ────────── ─────────────────────────────────────────────────────────────────────────────────


async def test_a_configured_model_passes_everything_else_on() -> None:
    inner = ScriptedModel(['x'], name='a/b', repeat=True)
    model = ConfiguredModel(inner, GenerationConfig(seed=1), {})
    assert (model.name, model.info, model.provider) == ('a/b', inner.info, 'a')
    await model.generate(REQUEST, ctx())
    await parts_of(model)
    assert [request.config.seed for request in inner.requests] == [1, 1]


# ── reading a stream to its end ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_stream_that_fails_leaves_what_had_arrived_on_the_error() -> None:
    async def fails() -> Any:
        yield TextDelta('half')
        raise LamellaError('UNAVAILABLE', 'down')

    async def fails_at_once() -> Any:
        raise LamellaError('UNAVAILABLE', 'down')
        yield

    with pytest.raises(LamellaError) as caught:
        await fold_stream(fails())
    assert caught.value.partial.text == 'half'
    with pytest.raises(LamellaError) as caught:
        await fold_stream(fails_at_once())
    assert caught.value.partial is None


# ── settings ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_settings_are_taken_as_a_dict_or_as_they_are() -> None:
    assert to_config(None) == GenerationConfig()
    given = GenerationConfig(seed=1)
    assert to_config(given) is given
    assert to_config({'top_p': 1, 'stop_sequences': ('a',)}) == GenerationConfig(top_p=1, stop_sequences=('a',))


@pytest.mark.parametrize(
    ('value', 'pieces'),
    [
        ({'temprature': 1}, ['temprature', "'temperature'", 'provider_options']),
        ({'max_tokens': 1}, ['max_tokens', 'max_output_tokens']),
        ({'temperature': 'hot'}, ['config', 'temperature']),
        ({'seed': 1.5}, ['seed']),
        ({'seed': True}, ['seed']),
        (5, ['int']),
        ([], ['list']),
        ({5: 1}, ['5']),
    ],
    ids=repr,
)
def test_wrong_settings_are_one_clear_error(value, pieces) -> None:
    with pytest.raises(ConfigError) as caught:
        to_config(value)
    for piece in pieces:
        assert piece in str(caught.value)


def test_settings_over_others_win_where_they_are_set() -> None:
    base = GenerationConfig(temperature=1, seed=1, parallel_tool_calls=True)
    over = GenerationConfig(temperature=0, parallel_tool_calls=False)
    assert over.over(base) == GenerationConfig(temperature=0, seed=1, parallel_tool_calls=False)
    assert GenerationConfig().over(base) == base


def test_a_model_says_its_provider_and_what_it_can() -> None:
    assert ScriptedModel(name='a/b/c').provider == 'a'
    assert ScriptedModel(name='alone').provider == 'alone'
    assert ModelInfo() == ModelInfo(structured_output='instructions', tools=True, streaming=True)


async def test_an_answer_without_a_model_gets_the_name_of_the_one_that_was_asked() -> None:
    assert (await both(lambda: app([TextDelta('x')]), prompt='x')).model == 'scripted/model'
    given = ModelResponse.text_of('x', model='scripted/model-2026')
    assert (await both(lambda: app(given), prompt='x')).model == 'scripted/model-2026'
