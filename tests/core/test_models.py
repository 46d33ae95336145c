"""Models made of functions, of other models, and of models with layers on them."""

import functools
from random import Random
from typing import Any

import pytest

from lamella import Lamella, LamellaError, ModelRef, Stack, wrap_language_model
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.model import Model, ModelInfo
from lamella.core.models import ConfiguredModel, FunctionModel, fold_stream, to_config
from lamella.middleware import BaseMiddleware
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
from tests.engine.kit import CollectingSink, app, both, no_leaks, read
from tests.engine.strategies import Louder, ModelOnly, StreamOnly

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


# ── models with settings and layers ─────────────────────────────────────────────────────────────────────────────────


async def test_a_configured_model_passes_everything_else_on() -> None:
    inner = ScriptedModel(['x'], name='a/b', repeat=True)
    model = ConfiguredModel(inner, GenerationConfig(seed=1), {})
    assert (model.name, model.info, model.provider) == ('a/b', inner.info, 'a')
    await model.generate(REQUEST, ctx())
    await parts_of(model)
    assert [request.config.seed for request in inner.requests] == [1, 1]


def test_a_name_is_split_at_its_first_slash() -> None:
    model = wrap_language_model(model='router/acme/one', middleware=[], model_id='two')
    assert model.name == 'router/two'
    assert wrap_language_model(model='alone', middleware=[]).name == 'alone'


@pytest.mark.parametrize(
    ('model_id', 'provider_id', 'name'),
    [
        (None, None, 'scripted/model'),
        ('m', None, 'scripted/m'),
        (None, 'p', 'p/model'),
        ('m', 'p', 'p/m'),
        ('m/n', 'p', 'p/m/n'),
    ],
)
def test_a_wrapped_model_is_named_after_what_it_wraps_or_as_told(model_id, provider_id, name) -> None:
    model = wrap_language_model(model=ScriptedModel(), middleware=[], model_id=model_id, provider_id=provider_id)
    assert model.name == name


async def test_layers_fixed_on_a_model_are_inside_those_of_the_call() -> None:
    log = []

    class Notes(BaseMiddleware):
        def __init__(self, label):
            super().__init__()
            self.label = label

        async def wrap_model(self, params, ctx, next_fn):
            log.append(self.label)
            return await next_fn(params, ctx)

    inner = wrap_language_model(model=ScriptedModel(['x'], repeat=True), middleware=Notes('inner'))
    model = wrap_language_model(model=inner, middleware=[Notes('1'), Stack([Notes('2')])])
    await both(lambda: Lamella(model=model, use=[Notes('app')]), prompt='x', use=[Notes('call')])
    assert log == ['app', 'call', '1', '2', 'inner'] * 2


async def test_layers_fixed_on_a_model_change_its_answer_in_both_doors() -> None:
    model = wrap_language_model(model=ScriptedModel(['quiet'], repeat=True), middleware=[Louder(), StreamOnly()])
    response = await both(lambda: Lamella(model=model), prompt='x', use=[ModelOnly()])
    assert (response.text, response.model) == ('QUIET!', 'scripted/model')


async def test_a_wrapped_name_is_looked_up_in_the_app_that_calls() -> None:
    model = wrap_language_model(model='a/b', middleware=[ModelOnly()])
    first, second = Lamella(), Lamella()
    first.registry.add_model('a/b', ScriptedModel(['one'], name='a/b'))
    second.registry.add_model('a/b', ScriptedModel(['two'], name='a/b'))
    assert (await first.generate(prompt='x', model=model)).text == 'one'
    assert (await second.generate(prompt='x', model=model)).text == 'two'
    with pytest.raises(LookupError, match='a/b'):
        await Lamella().generate(prompt='x', model=model)


@pytest.mark.parametrize('wrong', ['retry', [ModelOnly], None, [5]], ids=repr)
def test_what_is_no_layer_cannot_be_fixed_on_a_model(wrong) -> None:
    with pytest.raises(ConfigError):
        wrap_language_model(model=ScriptedModel(), middleware=wrong)


@pytest.mark.parametrize('wrong', [5, None, object()], ids=repr)
def test_what_is_no_model_cannot_be_wrapped(wrong) -> None:
    with pytest.raises(ConfigError, match='model'):
        wrap_language_model(model=wrong, middleware=[])


async def test_a_wrapped_reference_keeps_its_settings() -> None:
    inner = ScriptedModel(['x'], name='a/b')
    ai = Lamella()
    ai.registry.add_model('a/b', inner)
    model = wrap_language_model(model=ModelRef('a/b', config={'seed': 7}), middleware=[ModelOnly()])
    await ai.generate(prompt='x', model=model)
    assert inner.requests[0].config.seed == 7


async def test_events_of_a_wrapped_model_are_told_once() -> None:
    sink = CollectingSink()
    model = wrap_language_model(model=ScriptedModel(['x'], repeat=True), middleware=[ModelOnly()])
    ai = Lamella(model=model, sinks=[sink])
    await ai.generate(prompt='x')
    await read(ai, prompt='x')
    assert sink.names.count('model.start') == sink.names.count('model.end') == 2


async def test_a_failure_through_a_wrapped_model_is_one_attempt() -> None:
    model = wrap_language_model(model=ScriptedModel([LamellaError('UNAVAILABLE', 'down')]), middleware=[ModelOnly()])
    with pytest.raises(LamellaError) as caught:
        await Lamella(model=model).generate(prompt='x')
    assert len(caught.value.attempts) == 1


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
