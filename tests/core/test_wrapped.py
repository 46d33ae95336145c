"""Models and providers with layers fixed on them, in one app, in several, and outside of any."""

import asyncio
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import (
    Interrupt,
    Lamella,
    LamellaError,
    Message,
    ModelRef,
    Stack,
    StopRun,
    wrap_language_model,
    wrap_provider,
)
from lamella.core.calls import call_model, stream_model
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.model import Model, ModelInfo
from lamella.core.order import Order
from lamella.core.outside import outside_context, streamed, whole
from lamella.core.params import ModelHookParams
from lamella.core.plugin import Plugin
from lamella.core.wrapped import WrappedModel
from lamella.middleware import BaseMiddleware, ConsoleLogger, Fallback, Retry, ToolApproval
from lamella.plugins.middleware import Middleware
from lamella.stores.memory import MemoryStore
from lamella.testing import CollectingSink, FakeClock, ScriptedEmbeddingModel, ScriptedModel, checked
from lamella.types import (
    ConfigError,
    Finished,
    ModelRequest,
    ModelResponse,
    ResponseStarted,
    Restarted,
    TextDelta,
    ToolRequest,
    UnknownNameError,
    fold,
)
from tests.engine import strategies
from tests.engine.kit import both, no_leaks, read
from tests.engine.strategies import Louder, ModelOnly, StreamOnly

HI = ModelRequest((Message.user('hi'),))


class Notes(BaseMiddleware):
    """Notes each call, on its way in."""

    def __init__(self, label: str, log: list[str]) -> None:
        self.label, self.log = label, log

    async def wrap_model(self, params, ctx, next_fn):
        self.log.append(self.label)
        return await next_fn(params, ctx)


async def gathered(parts: Any, seen: list[Any]) -> list[Any]:
    """All parts; `seen` has those that came before a failure too."""
    async for part in parts:
        seen.append(part)
    return seen


class Adds(BaseMiddleware):
    """Adds a word to what is asked."""

    async def transform_params(self, params, ctx):
        messages = (*params.request.messages, Message.user('more'))
        return params.replace(request=params.request.replace(messages=messages))


class Tenant(BaseMiddleware):
    """A static layer that goes by the caller's values."""

    async def transform_params(self, params, ctx):
        return params.replace(request=params.request.replace(metadata={'tenant': ctx.context.get('tenant')}))


class Vendor(Plugin):
    """A provider with a model, an embedding model, a layer, and something that no other plugin has."""

    name = 'vendor'

    def __init__(self) -> None:
        self.made = ScriptedModel(['one', 'two', 'three'], name='vendor/m')
        self.embedder = ScriptedEmbeddingModel(name='vendor/e')
        self.closed = 0

    def model(self, name: str) -> Model | None:
        return self.made if name == 'm' else None

    def embedding_model(self, name: str) -> ScriptedEmbeddingModel | None:
        return self.embedder if name == 'e' else None

    def known_models(self) -> Sequence[str]:
        return ('m',)

    def middleware(self) -> Mapping[str, type[Any]]:
        return {'notes': Notes}

    def balance(self) -> int:
        return 7

    async def aclose(self) -> None:
        self.closed += 1


# ── wrapping ────────────────────────────────────────────────────────────────────────────────────────────────────────


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
    log: list[str] = []
    inner = wrap_language_model(model=ScriptedModel(['x'], repeat=True), middleware=Notes('inner', log))
    model = wrap_language_model(model=inner, middleware=[Notes('1', log), Stack([Notes('2', log)])])
    await both(lambda: Lamella(model=model, use=[Notes('app', log)]), prompt='x', use=[Notes('call', log)])
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


async def test_a_stack_may_be_fixed_on_a_model_as_it_is() -> None:
    log: list[str] = []
    model = wrap_language_model(model=ScriptedModel(['x']), middleware=Stack([Notes('1', log), Notes('2', log)]))
    await model.generate(HI)
    assert log == ['1', '2']


@pytest.mark.parametrize(
    ('middleware', 'problem'),
    [
        ('retry', r"middleware= takes a list of layers, not str 'retry': write middleware=\[…\]"),
        ([Retry], r'middleware\[0\] is the class Retry, not a layer: give an instance, Retry\(\)'),
        (Retry, 'middleware= takes a list of layers, not the class Retry'),
    ],
    ids=repr,
)
def test_an_error_speaks_of_middleware_and_not_of_use(middleware: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        wrap_language_model(model=ScriptedModel(), middleware=middleware)


@pytest.mark.parametrize('layer', [ToolApproval(), strategies.RunOnly(), strategies.GenerateOnly()], ids=repr)
def test_a_layer_that_would_never_act_is_refused_when_it_is_fixed(layer: BaseMiddleware) -> None:
    """A guard around tools, fixed on a model, would be off without a word."""
    with pytest.raises(ConfigError, match=r'would never act.*around model calls.*Lamella'):
        wrap_language_model(model=ScriptedModel(), middleware=[Retry(), layer])


def test_layers_with_a_hook_around_models_or_with_none_at_all_can_be_fixed() -> None:
    wrap_language_model(model=ScriptedModel(), middleware=[ConsoleLogger(), BaseMiddleware(), strategies.Both()])


def test_an_order_that_cannot_work_is_refused_when_it_is_fixed() -> None:
    class Guard(BaseMiddleware):
        order = Order(wraps={'model_only': 'it would act first'})

        async def wrap_model(self, params, ctx, next_fn):
            return await next_fn(params, ctx)

    with pytest.raises(ConfigError, match='it would act first'):
        wrap_language_model(model=ScriptedModel(), middleware=[ModelOnly(), Guard()])
    wrap_language_model(model=ScriptedModel(), middleware=[Guard(), ModelOnly()])


def test_a_wrapped_model_explains_all_that_is_around_the_model() -> None:
    inner = wrap_language_model(model=ScriptedModel(name='x/m'), middleware=Adds())
    model = wrap_language_model(model=inner, middleware=[Retry(max_retries=1), Louder()])
    assert model.explain() == (
        'Retry(max_retries=1)  [wrap_embed, wrap_model, wrap_stream]\n'
        '  Louder()  [wrap_model]\n'
        '    Adds()  [transform_params]\n'
        '      x/m'
    ).replace('wrap_embed, ', 'wrap_embed, ' if 'wrap_embed' in Retry._hooks else '')
    assert wrap_language_model(model='x/m', middleware=Adds()).explain() == 'Adds()  [transform_params]\n  x/m'


async def test_a_wrapped_model_keeps_what_the_model_can_do() -> None:
    class Able(ScriptedModel):
        closed_times = 0

        @property
        def option_keys(self) -> tuple[str, ...]:
            return ('able', 'also')

        def batch(self, requests: Sequence[ModelRequest]) -> int:
            return len(requests)

        async def aclose(self) -> None:
            Able.closed_times += 1

    inner = Able(name='able/m')
    model = wrap_language_model(model=wrap_language_model(model=inner, middleware=[]), middleware=[Retry()])
    assert (model.info, model.option_keys, model.batch([HI])) == (inner.info, ('able', 'also'), 1)
    assert wrap_language_model(model=inner, middleware=[], provider_id='else').option_keys == ('able', 'also')
    await model.aclose()
    assert Able.closed_times == 1
    with pytest.raises(AttributeError, match='no_such_thing'):
        _ = model.no_such_thing
    with pytest.raises(AttributeError, match='batch'):
        _ = wrap_language_model(model='able/m', middleware=[]).batch


# ── order, identity, and asking again ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('in_parts', [False, True])
@pytest.mark.parametrize('place', ['call', 'outside it', 'same stack'])
async def test_a_layer_that_asks_again_asks_the_inner_ones_with_the_same_params(in_parts: bool, place: str) -> None:
    """Each attempt begins from what the outer layer was given: nothing is added twice."""
    seen: list[Any] = []

    class Looks(BaseMiddleware):
        async def transform_params(self, params, ctx):
            seen.append(params)
            return params

    down = LamellaError('UNAVAILABLE', 'down')
    model = ScriptedModel([down, down, 'third'])
    retry, inner = Retry(no_jitter=True), [Looks(), Adds()]
    if place == 'same stack':
        wrapped = wrap_language_model(model=model, middleware=[retry, *inner])
    else:
        wrapped = wrap_language_model(model=model, middleware=inner)
        wrapped = wrap_language_model(model=wrapped, middleware=retry) if place == 'outside it' else wrapped
    ai = Lamella(model=wrapped, clock=FakeClock(), use=[retry] if place == 'call' else [])
    response = await (ai.generate_stream(prompt='hi').response if in_parts else ai.generate(prompt='hi'))
    assert response.text == 'third'
    assert [params.request.messages for params in seen] == [HI.messages] * 3
    assert [[message.text for message in request.messages] for request in model.requests] == [['hi', 'more']] * 3


async def test_two_calls_at_once_out_of_one_layer_are_two_calls_of_the_inner_ones() -> None:
    class Both(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            first, _ = await asyncio.gather(next_fn(params, ctx), next_fn(params, ctx))
            return first

    model = ScriptedModel(['x'], repeat=True)
    wrapped = wrap_language_model(model=model, middleware=[Both(), Adds(), Both()])
    assert (await wrapped.generate(HI)).text == 'x'
    assert [[message.text for message in request.messages] for request in model.requests] == [['hi', 'more']] * 4


async def test_one_instance_may_stand_in_an_app_a_call_and_a_model_at_once() -> None:
    log: list[str] = []
    same = Notes('same', log)
    model = wrap_language_model(model=ScriptedModel(['x']), middleware=[same, same])
    await Lamella(model=model, use=[same]).generate(prompt='hi', use=[same])
    assert log == ['same'] * 4


# ── usable wherever a model is ──────────────────────────────────────────────────────────────────────────────────────


async def test_the_callers_values_reach_static_layers_and_each_call_its_own() -> None:
    model = ScriptedModel(['x'], repeat=True)
    wrapped = wrap_language_model(model=model, middleware=Tenant())
    ai = Lamella(model=wrapped)
    tenants = [f'tenant {n}' for n in range(50)]
    await asyncio.gather(*[ai.generate(prompt=t, context={'tenant': t}) for t in tenants])
    await asyncio.gather(*[ai.generate_stream(prompt=t, context={'tenant': t}).response for t in tenants])
    told = [(request.messages[0].text, request.metadata['tenant']) for request in model.requests]
    assert sorted(told) == sorted([(t, t) for t in tenants] * 2)


async def test_what_layers_remember_belongs_to_the_app_and_not_to_the_model() -> None:
    class Counts(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            count = await ctx.store.add('calls', 1)
            response = await next_fn(params, ctx)
            return response.replace(metadata={'count': count.value})

    model = wrap_language_model(model=ScriptedModel(['x'], repeat=True), middleware=Counts())
    first, second = Lamella(model=model), Lamella(model=model)
    counts = [(await ai.generate(prompt='x')).metadata['count'] for ai in (first, first, second)]
    counts += [(await model.ask('x')).metadata['count'] for _ in range(2)]
    assert counts == [1, 2, 1, 1, 2]


async def test_a_wrapped_model_is_a_fallback_and_an_alias_and_a_default() -> None:
    down = LamellaError('UNAVAILABLE', 'down')
    second = wrap_language_model(model=ScriptedModel([down, 'second'], name='b/m'), middleware=Retry(no_jitter=True))
    ai = Lamella(model='first', clock=FakeClock())
    ai.model_alias('first', wrap_language_model(model=ScriptedModel([down, down], name='a/m'), middleware=Louder()))
    ai.model_alias('second', second)
    for fallback in (second, 'second'):
        second.given._answers.append('second')
        response = await ai.generate(prompt='hi', use=[Fallback(models=[fallback])])
        assert (response.text, response.metadata['fallback']['original_model']) == ('second', 'a/m')


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([ModelOnly, StreamOnly, Louder, Adds, Tenant, Retry]), max_size=5), st.booleans())
async def test_wrapping_again_is_one_longer_list(kinds: list[Any], checking: bool) -> None:
    layers = [kind() for kind in kinds]
    nested: Any = wrap_language_model(model=ScriptedModel(['x'], repeat=True), middleware=[])
    for layer in reversed(layers):
        nested = wrap_language_model(model=nested, middleware=checked(layer) if checking else layer)
    flat = wrap_language_model(model=ScriptedModel(['x'], repeat=True), middleware=layers)
    one, two = await nested.generate(HI), await flat.generate(HI)
    assert one == two
    assert fold([part async for part in nested.stream(HI)]) == fold([part async for part in flat.stream(HI)]) == one


# ── aliases ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_alias_is_a_name_like_any_other() -> None:
    ai = Lamella(plugins=[Vendor()])
    ai.model_alias('fast', 'vendor/m')
    ai.model_alias('faster', ModelRef('fast', config={'seed': 1}))
    assert (await ai.generate(prompt='hi', model='fast')).model == 'vendor/m'
    assert (await ai.generate(prompt='hi', model='faster')).text == 'two'
    assert ai.resolve_model('fast') is ai.resolve_model('vendor/m')
    with pytest.raises(UnknownNameError, match="did you mean 'faster'"):
        await ai.generate(prompt='hi', model='fastr')


async def test_an_alias_of_a_name_that_comes_later_works_when_it_is_there() -> None:
    ai = Lamella()
    ai.model_alias('fast', 'own/m')
    with pytest.raises(UnknownNameError, match='own/m'):
        await ai.generate(prompt='hi', model='fast')

    @ai.model('own/m')
    async def own(request: Any, ctx: Any) -> ModelResponse:
        return ModelResponse.text_of('own')

    assert (await ai.generate(prompt='hi', model='fast')).text == 'own'


async def test_an_alias_may_stand_in_front_of_a_plugins_own_name() -> None:
    vendor = Vendor()
    ai = Lamella(plugins=[vendor])
    ai.model_alias('vendor/m', wrap_language_model(model=vendor.made, middleware=Louder()))
    assert (await ai.generate(prompt='hi', model='vendor/m')).text == 'ONE!'


def test_an_alias_never_means_itself() -> None:
    ai = Lamella(plugins=[Vendor()])
    ai.model_alias('a', 'b')
    ai.model_alias('b', ModelRef('c'))
    wrapped = wrap_language_model(model=wrap_language_model(model='a', middleware=[]), middleware=[])
    for target in ('a', 'c', ModelRef('b'), wrapped):
        with pytest.raises(ConfigError, match='would mean itself'):
            ai.model_alias('c', target)
    with pytest.raises(ConfigError, match='vendor/m -> vendor/m'):
        ai.model_alias('vendor/m', wrap_language_model(model='vendor/m', middleware=[]))


@pytest.mark.parametrize(
    ('name', 'model', 'problem'),
    [
        ('taken', 'x/y', 'already registered'),
        ('fast', 5, 'give a name, a model, a ModelRef'),
        ('fast', ScriptedModel, 'give a name, a model'),
        ('', 'x/y', "give a name such as 'fast'"),
        (None, 'x/y', "give a name such as 'fast'"),
    ],
)
def test_a_wrong_alias_is_refused(name: Any, model: Any, problem: str) -> None:
    ai = Lamella()
    ai.registry.add_model('taken', ScriptedModel())
    with pytest.raises(ConfigError, match=problem):
        ai.model_alias(name, model)


def test_a_name_that_is_an_alias_cannot_be_registered_again() -> None:
    ai = Lamella()
    ai.model_alias('fast', 'x/y')
    with pytest.raises(ConfigError, match="'fast' is already registered"):
        ai.model_alias('fast', 'x/z')
    with pytest.raises(ConfigError, match="'fast' is already registered"):
        ai.registry.add_model('fast', ScriptedModel())


# ── all models of a provider ────────────────────────────────────────────────────────────────────────────────────────


async def test_all_models_of_a_provider_have_the_layers() -> None:
    class Both(Notes):
        async def wrap_embed(self, params, ctx, next_fn):
            self.log.append(f'{self.label} embeds')
            return await next_fn(params, ctx)

    log: list[str] = []
    vendor = Vendor()
    ai = Lamella(plugins=[wrap_provider(vendor, middleware=[Both('static', log), Louder()])])
    assert (await ai.generate(prompt='hi', model='vendor/m')).text == 'ONE!'
    assert (await ai.embed('hi', model='vendor/e')).model == 'vendor/e'
    assert log == ['static', 'static embeds']
    for name in ('vendor/x', 'vendr/m'):
        with pytest.raises(UnknownNameError, match="did you mean 'vendor/m'"):
            await ai.generate(prompt='hi', model=name)
    with pytest.raises(UnknownNameError):
        await ai.embed('hi', model='vendor/x')


async def test_a_wrapped_provider_keeps_all_that_the_plugin_has() -> None:
    vendor = Vendor()
    wrapped = wrap_provider(wrap_provider(vendor, Louder()), [Retry()])
    assert (wrapped.name, wrapped.known_models(), wrapped.middleware(), wrapped.balance()) == (
        'vendor',
        ('m',),
        {'notes': Notes},
        7,
    )
    assert repr(wrapped).startswith('WrappedPlugin(WrappedPlugin(<')
    async with Lamella(plugins=[wrapped]) as ai:
        assert ai.registry.layer('notes') is Notes
    assert vendor.closed == 1
    with pytest.raises(AttributeError):
        _ = wrapped.no_such_thing


@pytest.mark.parametrize(
    ('plugin', 'middleware', 'problem'),
    [
        (5, [], 'takes a Plugin instance'),
        (Vendor, [], 'not Vendor'),
        (Middleware(), [], 'has no models to wrap'),
        (Vendor(), ToolApproval(), 'would never act'),
        (Vendor(), 'retry', 'middleware= takes a list'),
    ],
    ids=repr,
)
def test_what_is_no_provider_cannot_be_wrapped(plugin: Any, middleware: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        wrap_provider(plugin, middleware)


# ── outside of any app ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_wrapped_model_answers_without_an_app() -> None:
    model = wrap_language_model(model=ScriptedModel(['one'], repeat=True), middleware=Louder())
    assert (await model.generate(HI)).text == 'ONE!'
    assert (await model.ask('hi')).text == 'ONE!'
    assert fold([part async for part in model.stream(HI)]).text == 'ONE!'
    assert fold([part async for part in model.ask_stream('hi')]).text == 'ONE!'


async def test_a_question_may_have_messages_settings_options_and_values() -> None:
    inner = ScriptedModel(['x'], repeat=True)
    model = wrap_language_model(model=inner, middleware=Tenant())
    asked: Any = {
        'prompt': [Message.user('a'), {'role': 'assistant', 'content': 'b'}, 'c'],
        'system': 'be brief',
        'config': {'seed': 7},
        'provider_options': {'scripted': {'x': 1}},
        'context': {'tenant': 'acme'},
    }
    await model.ask(**asked)
    async for _ in model.ask_stream(**asked):
        pass
    assert inner.requests[0] == inner.requests[1]
    request = inner.requests[0]
    assert [(message.role, message.text) for message in request.messages] == [
        ('system', 'be brief'),
        ('user', 'a'),
        ('assistant', 'b'),
        ('user', 'c'),
    ]
    assert (request.config.seed, request.provider_options, request.metadata) == (
        7,
        {'scripted': {'x': 1}},
        {'tenant': 'acme'},
    )


@pytest.mark.parametrize(
    ('asked', 'problem'),
    [
        ({'prompt': 'x', 'config': {'temprature': 1}}, "'temperature'"),
        ({'prompt': 'x', 'context': 'acme'}, 'context is a str'),
        ({'prompt': 'x', 'system': 5}, 'system is a int'),
    ],
)
async def test_a_wrong_question_is_refused(asked: Any, problem: str) -> None:
    model = wrap_language_model(model=ScriptedModel(['x']), middleware=[])
    with pytest.raises(ConfigError, match=problem):
        await model.ask(**asked)
    with pytest.raises(ConfigError, match=problem):
        model.ask_stream(**asked)


@pytest.mark.parametrize('model', ['openai/gpt-5', ModelRef('openai/gpt-5')], ids=repr)
async def test_a_name_without_an_app_is_a_clear_error(model: Any) -> None:
    wrapped = wrap_language_model(model=model, middleware=[Retry()])
    for call in (wrapped.ask('hi'), wrapped.generate(HI)):
        with pytest.raises(ConfigError, match="'openai/gpt-5' can only be looked up in an app, and this call has none"):
            await call
    with pytest.raises(ConfigError, match='only be looked up in an app'):
        await gathered(wrapped.stream(HI), [])


async def test_a_fallback_by_name_without_an_app_is_the_same_clear_error() -> None:
    model = wrap_language_model(model=ScriptedModel(['x']), middleware=Fallback(models=['openai/gpt-5']))
    with pytest.raises(ConfigError, match='only be looked up in an app'):
        await model.ask('hi')


async def test_layers_remember_between_calls_in_a_memory_of_the_models_own() -> None:
    stores = []

    class Remembers(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            stores.append(ctx.store)
            return await next_fn(params, ctx)

    inner = wrap_language_model(model=ScriptedModel(['x'], repeat=True), middleware=Remembers())
    outer = wrap_language_model(model=inner, middleware=Remembers())
    for model in (outer, outer, inner):
        await model.ask('hi')
    assert isinstance(stores[0], MemoryStore)
    assert [store is stores[0] for store in stores] == [True] * 4 + [False]


async def test_stores_that_were_opened_outside_are_closed_with_the_model(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores: list[Any] = []
    closed: list[Any] = []

    class Keeps(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            stores.append(ctx.ai.resolve_store(f'sqlite:///{tmp_path}/s.db'))
            await stores[-1].put('k', b'v')
            return await next_fn(params, ctx)

    model = wrap_language_model(model=ScriptedModel(['x'], repeat=True), middleware=Keeps())
    await model.ask('hi')
    close = type(stores[0]).aclose

    async def aclose(store: Any) -> None:
        closed.append(store)
        await close(store)

    monkeypatch.setattr(type(stores[0]), 'aclose', aclose)
    await model.aclose()
    assert closed == [stores[0]]
    await model.ask('hi')  # and opened again where it is used again
    await model.aclose()


async def test_a_test_may_bring_its_own_time_chance_and_listeners() -> None:
    sink, clock = CollectingSink(), FakeClock()
    down = LamellaError('UNAVAILABLE', 'down')
    model = wrap_language_model(model=ScriptedModel([down, 'x']), middleware=Retry(no_jitter=True))
    ctx = outside_context(clock=clock, random=Random(1), sinks=(sink,))
    assert (await model.generate(HI, ctx)).text == 'x'
    assert clock.slept == [1.0]
    assert sink.names == ['model.start', 'model.error', 'retry.wait', 'model.start', 'model.end']


async def test_a_failure_has_its_attempts_and_what_had_arrived() -> None:
    def cut(request: Any) -> list[Any]:
        return [TextDelta('half'), LamellaError('UNAVAILABLE', 'down')]

    model = wrap_language_model(model=ScriptedModel([cut], repeat=True), middleware=ModelOnly())
    with pytest.raises(LamellaError, match='down') as whole:
        await model.ask('hi')
    parts: list[Any] = []
    with pytest.raises(LamellaError, match='down') as streamed:
        await gathered(model.ask_stream('hi'), parts)
    for caught in (whole, streamed):
        assert [attempt.status for attempt in caught.value.attempts] == ['UNAVAILABLE']
        assert caught.value.partial is not None
        assert caught.value.partial.text == 'half'
    assert [type(part) for part in parts] == [ResponseStarted, TextDelta]


async def test_a_stop_is_an_answer_that_says_so() -> None:
    class Stops(BaseMiddleware):
        def __init__(self, response: ModelResponse | None = None, after: bool = False) -> None:
            self.response, self.after = response, after

        async def wrap_model(self, params, ctx, next_fn):
            if self.after:
                await next_fn(params, ctx)
            raise StopRun('max_cost', 'over the budget', response=self.response)

    for response, after in (
        (None, False),
        (ModelResponse.text_of('so far'), False),
        (ModelResponse.text_of('x'), True),
    ):
        model = wrap_language_model(model=ScriptedModel(['abc'], repeat=True), middleware=Stops(response, after))
        whole = await model.ask('hi')
        assert whole.text == ('' if response is None else response.text)
        assert whole.finish_message == 'max_cost: over the budget'
        parts = [part async for part in model.ask_stream('hi')]
        assert (fold(parts).message, fold(parts).finish_message) == (whole.message, whole.finish_message)
        assert [type(part) for part in parts].count(Restarted) == int(after)


async def test_a_stop_with_what_the_reader_has_already_takes_nothing_back() -> None:
    class Stops(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            raise StopRun('max_cost', response=await next_fn(params, ctx))

    model = wrap_language_model(model=ScriptedModel(['abc']), middleware=Stops())
    parts = [part async for part in model.ask_stream('hi')]
    assert [type(part) for part in parts] == [ResponseStarted, TextDelta, Finished]


@pytest.mark.parametrize('streamed', [False, True])
async def test_other_control_flow_is_an_error_outside_of_a_run(streamed: bool) -> None:
    class Interrupts(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            raise Interrupt('wait')

    model = wrap_language_model(model=ScriptedModel(['x']), middleware=Interrupts())
    with pytest.raises(LamellaError, match='Interrupt raised outside a tool call: wait'):
        await (gathered(model.ask_stream('hi'), []) if streamed else model.ask('hi'))


@pytest.mark.breaks_stream_rules
async def test_nothing_starts_over_in_silence_outside_either() -> None:
    class Careless(BaseMiddleware):
        """Starts over after its text, and says nothing."""

        async def wrap_stream(self, params, ctx, next_fn):
            yield ResponseStarted()
            yield TextDelta('a')
            async for part in next_fn(params, ctx):
                yield part

    class Repeats(BaseMiddleware):
        async def wrap_stream(self, params, ctx, next_fn):
            for _ in range(2):
                yield ResponseStarted()
                yield TextDelta('a')
            yield Finished()

    class Endless(BaseMiddleware):
        async def wrap_stream(self, params, ctx, next_fn):
            yield ResponseStarted()

    class TalksOn(BaseMiddleware):
        async def wrap_stream(self, params, ctx, next_fn):
            async for part in next_fn(params, ctx):
                yield part
            yield TextDelta('more')

    problems = {
        Careless: 'was called after text had reached the reader',
        Repeats: 'a second start after content',
        Endless: 'the stream ended before the answer was finished',
        TalksOn: 'TextDelta after Finished',
    }
    for kind, problem in problems.items():
        model = wrap_language_model(model=ScriptedModel(['x']), middleware=kind())
        async with no_leaks():
            with pytest.raises(LamellaError, match=problem):
                [part async for part in model.ask_stream('hi')]


@pytest.mark.parametrize('streamed_in', ['app', 'outside', 'wrapped twice'])
async def test_a_layer_fixed_on_a_model_comes_to_its_own_end(streamed_in: str) -> None:
    """What stands behind the loop over the parts is done, as in a layer around the call."""
    done = []

    class Counts(BaseMiddleware):
        async def wrap_stream(self, params, ctx, next_fn):
            count = 0
            async for part in next_fn(params, ctx):
                count += 1
                yield part
            done.append(count)

    model = wrap_language_model(model=ScriptedModel(['x'], repeat=True), middleware=[Counts(), ModelOnly(), Counts()])
    if streamed_in == 'wrapped twice':
        model = wrap_language_model(model=model, middleware=[Counts(), Retry()])
    async with no_leaks():
        if streamed_in == 'app':
            await Lamella(model=model).generate_stream(prompt='hi').response
        else:
            await gathered(model.ask_stream('hi'), [])
    assert done == [3] * (3 if streamed_in == 'wrapped twice' else 2)


async def test_a_reader_who_leaves_closes_the_providers_stream() -> None:
    inner = ScriptedModel([[TextDelta('a'), TextDelta('b')]])
    model = wrap_language_model(model=inner, middleware=[ModelOnly(), StreamOnly()])
    async with no_leaks():
        parts = model.ask_stream('hi')
        await anext(parts)
        await anext(parts)
        await parts.aclose()
    assert inner.closed == 1


async def test_a_cancellation_passes() -> None:
    entered = asyncio.Event()

    async def waits(request: Any) -> str:
        entered.set()
        await asyncio.Event().wait()
        return 'never'

    model = wrap_language_model(model=ScriptedModel([waits], repeat=True), middleware=[Retry(), ModelOnly()])
    async with no_leaks():
        for streamed in (False, True):
            entered.clear()
            call = model.ask_stream('hi').__anext__() if streamed else model.ask('hi')
            task = asyncio.ensure_future(call)
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_tool_requests_are_returned_and_not_run() -> None:
    model = wrap_language_model(model=ScriptedModel([ToolRequest('look', {}, 'r-1')]), middleware=[])
    assert (await model.ask('hi')).tool_requests[0].tool_request.name == 'look'


def bare(parts: list[Any]) -> list[Any]:
    """Without the reasons of restarts: one speaks of a call, the other of a run."""
    return [Restarted() if type(part) is Restarted else part for part in parts]


AROUND_MODELS = [
    kind
    for kind in vars(strategies).values()
    if isinstance(kind, type)
    and issubclass(kind, BaseMiddleware)
    and kind._hooks & {'transform_params', 'wrap_model', 'wrap_stream'}
    and kind is not BaseMiddleware
]


@pytest.mark.breaks_stream_rules  # its models say anything
@settings(max_examples=300, deadline=None)
@given(strategies.answers(), st.lists(st.sampled_from(AROUND_MODELS), max_size=4))
async def test_outside_of_an_app_a_call_is_what_it_is_inside(script: list[Any], kinds: list[Any]) -> None:
    """The same answer or the same failure, whole and part by part."""

    layers = [kind() for kind in kinds]

    def model() -> WrappedModel:
        return wrap_language_model(model=ScriptedModel(strategies.fresh([script]), repeat=True), middleware=layers)

    async def tried(call: Any) -> Any:
        try:
            return await call
        except (LamellaError, ValueError) as error:
            return type(error), str(error), getattr(error, 'status', None), getattr(error, 'partial', None)

    def ctx(streaming: bool = False) -> GenerateMiddlewareContext:
        return outside_context(clock=FakeClock(), random=Random(7), is_streaming=streaming)

    def app() -> Lamella:
        return Lamella(model=model(), clock=FakeClock(), random=Random(7))

    request = ModelRequest((Message.user('hi'),))
    inside = await tried(app().call_model(request))
    one, two = ctx(), ctx(streaming=True)
    outside = await tried(whole(call_model(ModelHookParams(request, model()), one), one))
    if isinstance(outside, ModelResponse):
        assert isinstance(inside, ModelResponse), inside
        for field in ('message', 'finish_reason', 'usage', 'model', 'id', 'sources', 'metadata', 'warnings'):
            assert getattr(inside, field) == getattr(outside, field), field
    else:
        assert inside[:3] == outside[:3]
    seen_inside: list[Any] = []
    seen_outside: list[Any] = []
    parts_inside = await tried(gathered(app().call_model_stream(request), seen_inside))
    parts_outside = await tried(
        gathered(streamed(stream_model(ModelHookParams(request, model()), two), two), seen_outside)
    )
    last = -1 if isinstance(parts_outside, list) else None  # a run's end has a stop reason
    assert bare(seen_outside[:last]) == bare(seen_inside[:last])
    assert isinstance(parts_outside, list) == isinstance(parts_inside, list)


@pytest.mark.parametrize('by_name', [False, True])
@pytest.mark.parametrize('way', ['native', 'instructions'])
async def test_a_structured_answer_is_asked_for_in_the_inner_models_own_way(by_name: bool, way: Any) -> None:
    """Also where the model is only known by its name: what the wrapped one cannot know it leaves to the inner one."""
    inner = ScriptedModel(['{"x": 3}'], name='own/m', info=ModelInfo(structured_output=way), repeat=True)
    ai = Lamella()
    ai.registry.add_model('own/m', inner)
    model = wrap_language_model(model='own/m' if by_name else inner, middleware=[ModelOnly()])
    model = wrap_language_model(model=model, middleware=Adds())
    schema = {'type': 'object', 'properties': {'x': {'type': 'integer'}}}
    response = await ai.generate(prompt='hi', model=model, output_schema=schema)
    assert response.output == {'x': 3}
    assert inner.requests[0].output is not None
    in_words = any('JSON Schema' in message.text for message in inner.requests[0].messages)
    assert in_words == (way == 'instructions')
