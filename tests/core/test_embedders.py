"""Embedding models made of functions, and with layers fixed on them, in an app and outside of any."""

import asyncio
from typing import Any

import pytest

from lamella import Lamella, LamellaError, Stack, wrap_embedding_model
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.embedders import FunctionEmbeddingModel, WrappedEmbeddingModel
from lamella.core.embedding import EmbeddingInfo, EmbeddingModel
from lamella.middleware import BaseMiddleware, ToolApproval, generate_middleware
from lamella.stores.memory import MemoryStore
from lamella.testing import CollectingSink, FakeClock, ScriptedEmbeddingModel, word_vector
from lamella.types import ConfigError, EmbeddingRequest, EmbeddingResponse, Usage

REQUEST = EmbeddingRequest(('a', 'b'))


def ctx() -> GenerateMiddlewareContext:
    return GenerateMiddlewareContext(Lamella(), clock=FakeClock())


class Louder(BaseMiddleware):
    """Changes what is asked, and what is answered."""

    async def wrap_embed(self, params, ctx, next_fn):
        texts = tuple(text.upper() for text in params.request.texts)
        response = await next_fn(params.replace(request=params.request.replace(texts=texts)), ctx)
        return response.replace(metadata={**response.metadata, 'louder': True})


class Notes(BaseMiddleware):
    def __init__(self, label: str, log: list[str]) -> None:
        self.label, self.log = label, log

    async def wrap_embed(self, params, ctx, next_fn):
        self.log.append(f'{self.label} in')
        response = await next_fn(params, ctx)
        self.log.append(f'{self.label} out')
        return response


# ── functions ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_function_may_return_a_response_or_any_lists_of_numbers() -> None:
    async def lists(request: EmbeddingRequest, ctx: Any) -> Any:
        return [[1, 2], (3, 4.5)]

    async def whole(request: EmbeddingRequest, ctx: Any) -> EmbeddingResponse:
        return EmbeddingResponse(vectors=((1.0,), (2.0,)), usage=Usage(2))

    found = await FunctionEmbeddingModel(lists).embed(REQUEST, ctx())
    assert found.vectors == ((1.0, 2.0), (3.0, 4.5))
    assert all(type(number) is float for vector in found.vectors for number in vector)
    assert (await FunctionEmbeddingModel(whole).embed(REQUEST, ctx())).usage == Usage(2)


@pytest.mark.parametrize('answer', [None, 'text', [1, 2], [['a']], 7], ids=repr)
async def test_what_is_no_list_of_vectors_is_refused(answer: Any) -> None:
    async def model(request: Any, ctx: Any) -> Any:
        return answer

    with pytest.raises(LamellaError, match='model answered with') as caught:
        await FunctionEmbeddingModel(model).embed(REQUEST, ctx())
    assert caught.value.status == 'FAILED_PRECONDITION'


@pytest.mark.parametrize(
    ('error', 'status'), [(ConnectionError('gone'), 'UNAVAILABLE'), (TimeoutError(), 'DEADLINE_EXCEEDED')]
)
async def test_a_functions_connection_failures_can_be_retried(error: Exception, status: str) -> None:
    async def model(request: Any, ctx: Any) -> Any:
        raise error

    with pytest.raises(LamellaError) as caught:
        await FunctionEmbeddingModel(model).embed(REQUEST, ctx())
    assert caught.value.status == status


async def async_of_one(request: Any) -> Any: ...


@pytest.mark.parametrize(
    ('wrong', 'problem'), [(len, 'async def'), (5, 'an embedding model is'), (async_of_one, r'\(request, ctx\)')]
)
def test_what_is_no_embedding_function_is_refused(wrong: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        FunctionEmbeddingModel(wrong)


# ── the innermost ring ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('answer', 'status', 'problem'),
    [
        ([[1.0]], 'INTERNAL', 'answered 2 texts with 1 vectors'),
        (lambda request: EmbeddingResponse(), 'INTERNAL', 'answered 2 texts with 0 vectors'),
    ],
)
async def test_every_text_gets_one_vector_or_it_is_no_answer(answer: Any, status: str, problem: str) -> None:
    model = wrap_embedding_model(model=ScriptedEmbeddingModel([answer]), middleware=[])
    with pytest.raises(LamellaError, match=problem) as caught:
        await model.embed(REQUEST, ctx())
    assert caught.value.status == status


async def test_a_model_that_answers_nonsense_is_named() -> None:
    class Broken(EmbeddingModel):
        name = 'x/broken'

        async def embed(self, request: Any, ctx: Any) -> Any:
            return [[1.0], [2.0]]

    with pytest.raises(LamellaError, match='x/broken answered with list'):
        await wrap_embedding_model(model=Broken(), middleware=[]).embed(REQUEST, ctx())


async def test_a_call_is_told_once_however_often_the_model_is_wrapped() -> None:
    sink = CollectingSink()
    down = LamellaError('UNAVAILABLE', 'down')
    model: EmbeddingModel = ScriptedEmbeddingModel([[[1.0], [2.0]], down])
    for _ in range(3):
        model = wrap_embedding_model(model=model, middleware=[Louder()])
    within = GenerateMiddlewareContext(Lamella(), clock=FakeClock(), sinks=(sink,))
    await model.embed(REQUEST, within)
    with pytest.raises(LamellaError):
        await model.embed(REQUEST, within)
    assert sink.names == ['embedding.start', 'embedding.end', 'embedding.start', 'embedding.error']
    facts = {'model': 'scripted/embedding', 'attempt': 1, 'call': 1, 'texts': 2}
    assert sink.events[0].facts == facts
    assert sink.events[1].facts == {**facts, 'usage': None, 'duration_s': 0.0}
    assert (len(within.attempts), within.attempts[0].status) == (1, 'UNAVAILABLE')


# ── layers fixed on an embedding model ──────────────────────────────────────────────────────────────────────────────


async def test_layers_see_what_is_asked_and_answered() -> None:
    inner = ScriptedEmbeddingModel()
    response = await wrap_embedding_model(model=inner, middleware=Louder()).embed(REQUEST, ctx())
    assert (inner.texts, response.metadata, response.model) == (['A', 'B'], {'louder': True}, 'scripted/embedding')


async def test_the_first_layer_is_outermost_and_inner_wrappings_are_inside() -> None:
    log: list[str] = []
    inner = wrap_embedding_model(model=ScriptedEmbeddingModel(), middleware=Notes('inner', log))
    model = wrap_embedding_model(model=inner, middleware=[Notes('1', log), Stack([Notes('2', log)])])
    await model.embed(REQUEST, ctx())
    assert log == ['1 in', '2 in', 'inner in', 'inner out', '2 out', '1 out']


async def test_a_layer_that_asks_twice_asks_the_inner_layers_with_the_same_params() -> None:
    seen: list[Any] = []

    class Twice(BaseMiddleware):
        async def wrap_embed(self, params, ctx, next_fn):
            await next_fn(params, ctx)
            return await next_fn(params, ctx)

    class Looks(BaseMiddleware):
        async def wrap_embed(self, params, ctx, next_fn):
            seen.append(params)
            return await next_fn(params, ctx)

    model = ScriptedEmbeddingModel()
    await wrap_embedding_model(model=model, middleware=[Twice(), Looks(), Louder()]).embed(REQUEST, ctx())
    assert seen[0] is seen[1]
    assert model.texts == ['A', 'B', 'A', 'B']


async def test_the_function_form_has_the_hook_too() -> None:
    def factory() -> Any:
        async def embed(params: Any, ctx: Any, next_fn: Any) -> Any:
            response = await next_fn(params, ctx)
            return response.replace(metadata={'noted': params.attempt})

        return {'embed': embed}

    layer = generate_middleware(factory, name='notes')()
    model = wrap_embedding_model(model=ScriptedEmbeddingModel(), middleware=layer)
    assert (await model.embed(REQUEST, ctx())).metadata == {'noted': 1}


@pytest.mark.parametrize(
    ('ids', 'name'),
    [
        ({}, 'scripted/embedding'),
        ({'model_id': 'm'}, 'scripted/m'),
        ({'provider_id': 'p'}, 'p/embedding'),
        ({'model_id': 'm', 'provider_id': 'p'}, 'p/m'),
    ],
)
def test_a_wrapped_model_is_named_after_what_it_wraps_or_as_told(ids: Any, name: str) -> None:
    model = wrap_embedding_model(model=ScriptedEmbeddingModel(), middleware=[], **ids)
    assert (model.name, model.option_keys) == (name, ('scripted',))


async def test_a_wrapped_model_keeps_what_the_model_can_do() -> None:
    class Able(ScriptedEmbeddingModel):
        def count(self, text: str) -> int:
            return len(text)

    inner = Able(info=EmbeddingInfo(max_batch=7))
    model = wrap_embedding_model(model=wrap_embedding_model(model=inner, middleware=[]), middleware=[Louder()])
    assert (model.info.max_batch, model.limits(ctx()).max_batch, model.count('abc')) == (7, 7, 3)
    with pytest.raises(AttributeError, match='no_such_thing'):
        _ = model.no_such_thing
    await model.aclose()
    assert inner.closed == 1


async def test_a_name_is_looked_up_in_the_app_that_calls_with_its_limits() -> None:
    model = wrap_embedding_model(model='a/b', middleware=[Louder()])
    first, second = Lamella(), Lamella()
    for number, ai in enumerate((first, second), 1):

        @ai.embedding_model('a/b', max_batch=number)
        async def embed(request: EmbeddingRequest, ctx: Any, number: int = number) -> Any:
            return [[float(number)] for _ in request.texts]

    assert (await first.embed(['x', 'y'], model=model)).vectors == ((1.0,), (1.0,))
    assert (await second.embed('x', model=model)).vector == (2.0,)
    assert model.limits(GenerateMiddlewareContext(second)).max_batch == 2
    with pytest.raises(LookupError, match='a/b'):
        await Lamella().embed('x', model=model)


@pytest.mark.parametrize(
    ('layer', 'problem'),
    [
        (ToolApproval(), r'ToolApproval\(\) would never act.*around embedding calls \(wrap_embed\)'),
        ('retry', r"middleware= takes a list of layers, not str 'retry'"),
        ([Louder], r'middleware\[0\] is the class Louder.*Louder\(\)'),
        (None, 'middleware= takes a list of layers'),
    ],
    ids=repr,
)
def test_what_would_never_act_cannot_be_fixed_on_an_embedding_model(layer: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        wrap_embedding_model(model=ScriptedEmbeddingModel(), middleware=layer)


# ── outside of any app ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_wrapped_model_answers_without_an_app() -> None:
    model = wrap_embedding_model(model=ScriptedEmbeddingModel(dimensions=8), middleware=Louder())
    assert (await model.embed('hi')).vector == word_vector('HI', 8)
    assert (await model.embed(['hi', 'ho'])).vectors == (word_vector('HI', 8), word_vector('HO', 8))
    assert (await model.embed(EmbeddingRequest(('hi',), dimensions=4))).vector == word_vector('HI', 4)


async def test_outside_of_an_app_layers_remember_in_a_memory_of_the_models_own() -> None:
    stores: list[Any] = []

    class Remembers(BaseMiddleware):
        async def wrap_embed(self, params, ctx, next_fn):
            stores.append(ctx.store)
            return await next_fn(params, ctx)

    one, two = (wrap_embedding_model(model=ScriptedEmbeddingModel(), middleware=Remembers()) for _ in range(2))
    for model in (one, one, two):
        await model.embed('hi')
    assert stores[0] is stores[1] is not stores[2]
    assert isinstance(stores[0], MemoryStore)


async def test_a_name_outside_of_an_app_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match=r"'a/b' can only be looked up in an app, and this call has none"):
        await wrap_embedding_model(model='a/b', middleware=[]).embed('hi')


@pytest.mark.parametrize(('given', 'problem'), [(7, 'int'), ([1], 'text 0 to embed is int'), (b'x', 'bytes')])
async def test_what_is_no_text_is_refused(given: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        await wrap_embedding_model(model=ScriptedEmbeddingModel(), middleware=[]).embed(given)


async def test_a_wrapped_model_is_shared_by_concurrent_calls_of_several_apps() -> None:
    model = wrap_embedding_model(model=ScriptedEmbeddingModel(), middleware=Louder())
    apps = [Lamella() for _ in range(4)]
    texts = [f'text {n}' for n in range(100)]
    found = await asyncio.gather(*[apps[n % 4].embed(text, model=model) for n, text in enumerate(texts)])
    assert [answer.vector for answer in found] == [word_vector(text.upper()) for text in texts]


def test_limits_are_whole_numbers() -> None:
    for wrong in (0, -1, 1.5, True, 'many'):
        with pytest.raises(ConfigError, match='max_batch'):
            EmbeddingInfo(max_batch=wrong)  # type: ignore[arg-type]


def test_a_wrapped_model_says_what_it_is() -> None:
    model = wrap_embedding_model(model=ScriptedEmbeddingModel(), middleware=Louder())
    assert isinstance(model, WrappedEmbeddingModel)
    assert repr(model) == "WrappedEmbeddingModel('scripted/embedding', Stack([Louder()]))"
