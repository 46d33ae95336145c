"""`ai.embed`: one vector for each text, in batches that the model takes, through the layers."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import Lamella, LamellaError, wrap_embedding_model
from lamella.core.embedding import EmbeddingInfo
from lamella.core.plugin import Plugin
from lamella.engine.embed import batches
from lamella.middleware import BaseMiddleware
from lamella.testing import CollectingSink, FakeClock, ScriptedEmbeddingModel, word_vector
from lamella.types import ConfigError, EmbeddingRequest, EmbeddingResponse, StopRun, UnknownNameError, Usage
from tests.engine.kit import no_leaks


def scripted(*answers: Any, max_batch: int | None = None, **options: Any) -> ScriptedEmbeddingModel:
    return ScriptedEmbeddingModel(answers, info=EmbeddingInfo(max_batch=max_batch), **options)


def app(model: Any, **options: Any) -> Lamella:
    return Lamella(embedding_model=model, clock=FakeClock(), **options)


class Counts(BaseMiddleware):
    """Notes the texts of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []

    async def wrap_embed(self, params, ctx, next_fn):
        self.calls.append(params.request.texts)
        return await next_fn(params, ctx)


# ── one answer ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_one_text_has_one_vector() -> None:
    response = await app(scripted()).embed('the sea')
    assert response.vector == response.vectors[0] == word_vector('the sea')
    assert (response.model, response.usage) == ('scripted/embedding', Usage(input_tokens=2, total_tokens=2))


async def test_many_texts_have_their_vectors_in_order_and_their_usage_summed() -> None:
    texts = [f'text number {n}' for n in range(25)]
    model = scripted(max_batch=4)
    response = await app(model).embed(texts)
    assert response.vectors == tuple(map(word_vector, texts))
    assert response.usage == Usage(input_tokens=75, total_tokens=75)
    assert sorted(len(request.texts) for request in model.requests) == [1, 4, 4, 4, 4, 4, 4]


async def test_texts_may_come_from_any_iterable() -> None:
    response = await app(scripted()).embed(str(n) for n in range(3))
    assert len(response.vectors) == 3


async def test_nothing_is_asked_about_nothing() -> None:
    model = scripted()
    response = await app(model).embed([])
    assert (response.vectors, response.usage, model.requests) == ((), None, [])
    with pytest.raises(IndexError):
        _ = response.vector


async def test_settings_and_options_reach_the_model() -> None:
    model = scripted()
    options = {'scripted': {'purpose': 'query'}}
    response = await app(model).embed('x', dimensions=8, provider_options=options)
    assert len(response.vector) == 8
    assert model.requests == [EmbeddingRequest(('x',), 8, options)]


async def test_metadata_and_warnings_of_all_calls_are_kept() -> None:
    def answer(request: EmbeddingRequest) -> EmbeddingResponse:
        (text,) = request.texts
        return EmbeddingResponse(vectors=((1.0,),), metadata={text: 1}, warnings=('cut', text), usage=Usage(1))

    response = await app(scripted(answer, repeat=True, max_batch=1)).embed(['a', 'b'])
    assert (response.metadata, response.warnings) == ({'a': 1, 'b': 1}, ('cut', 'a', 'b'))


# ── models ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Vendor(Plugin):
    name = 'vendor'

    def embedding_model(self, name: str) -> ScriptedEmbeddingModel | None:
        return ScriptedEmbeddingModel(name=f'vendor/{name}') if name == 'small' else None


async def test_a_model_is_a_name_of_a_plugin_a_registered_function_a_function_or_a_model() -> None:
    ai = Lamella(plugins=[Vendor()], embedding_model='vendor/small')

    @ai.embedding_model('own/lengths')
    async def lengths(request: EmbeddingRequest, ctx: Any) -> Any:
        return [[float(len(text))] for text in request.texts]

    assert (await ai.embed('x')).model == 'vendor/small'
    assert (await ai.embed(['a', 'bcd'], model='own/lengths')).vectors == ((1.0,), (3.0,))
    assert (await ai.embed('ab', model=lengths)).vector == (2.0,)
    assert (await ai.embed('ab', model=scripted(name='given/model'))).model == 'given/model'


async def test_a_function_gets_no_more_texts_than_it_said() -> None:
    ai, sizes = Lamella(), []

    @ai.embedding_model('own/model', max_batch=2)
    async def embed(request: EmbeddingRequest, ctx: Any) -> Any:
        sizes.append(len(request.texts))
        return [[0.0] for _ in request.texts]

    await ai.embed(['a', 'b', 'c'], model='own/model')
    assert sizes == [2, 1]


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('vendor/smal', 'Providers with embeddings in this app: vendor/'),
        ('own/lenghts', "did you mean 'own/lengths'"),
        ('nobody/x', 'Providers with embeddings'),
        ('small', 'unknown embedding model'),
    ],
)
async def test_an_unknown_name_is_answered_with_what_there_is(name: str, said: str) -> None:
    ai = Lamella(plugins=[Vendor()])

    @ai.embedding_model('own/lengths')
    async def lengths(request: EmbeddingRequest, ctx: Any) -> Any:
        return []

    with pytest.raises(UnknownNameError, match=said):
        await ai.embed('x', model=name)


async def test_an_alias_stands_for_an_embedding_model() -> None:
    ai = Lamella(plugins=[Vendor()])
    ai.model_alias('search', wrap_embedding_model(model='vendor/small', middleware=Counts()))
    ai.model_alias('find', 'search')
    assert (await ai.embed('x', model='find')).model == 'vendor/small'


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({}, 'no embedding model: give model='),
        ({'model': 5}, 'embedding model 5'),
        ({'model': scripted(), 'modle': 1}, "no option 'modle': did you mean 'model'"),
        ({'model': scripted(), 'dimensions': 0}, 'dimensions=0'),
        ({'model': scripted(), 'max_parallel': 0}, 'max_parallel=0'),
        ({'model': scripted(), 'timeout_s': 0}, 'timeout_s=0'),
        ({'model': scripted(), 'context': 'acme'}, 'context is a str'),
        ({'model': scripted(), 'provider_options': {'openai': 1}}, r"provider_options\['openai'\] is 1"),
        ({'model': scripted(), 'use': ['retry']}, r'use\[0\]'),
    ],
)
async def test_wrong_options_are_refused_before_anything_is_asked(options: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        await Lamella().embed('x', **options)


@pytest.mark.parametrize(('texts', 'problem'), [(5, 'int'), (['a', None], 'text 1 to embed is NoneType'), ({}, 'dict')])
async def test_what_is_no_text_is_refused(texts: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        await app(scripted()).embed(texts)


# ── layers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_each_call_goes_through_the_layers_of_the_app_then_the_calls_then_the_models() -> None:
    log: list[str] = []

    class Notes(BaseMiddleware):
        def __init__(self, label: str) -> None:
            self.label = label

        async def wrap_embed(self, params, ctx, next_fn):
            log.append(f'{self.label} {ctx.context["tenant"]} {",".join(params.request.texts)}')
            return await next_fn(params, ctx)

    model = wrap_embedding_model(model=scripted(max_batch=2), middleware=Notes('model'))
    ai = app(model, use=[Notes('app')])
    await ai.embed(['a', 'b', 'c'], use=[Notes('call')], context={'tenant': 't'}, max_parallel=1)
    places = ['app', 'call', 'model']
    assert log == [f'{place} t a,b' for place in places] + [f'{place} t c' for place in places]


async def test_layers_without_the_hook_cost_no_call_and_change_nothing() -> None:
    class ModelOnly(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            raise AssertionError

    assert len((await app(scripted(), use=[ModelOnly()]).embed('x')).vectors) == 1


@pytest.mark.parametrize('answer', [None, EmbeddingResponse(), EmbeddingResponse(vectors=((1.0,),) * 3)], ids=repr)
async def test_a_layer_that_answers_with_other_than_a_vector_for_each_text_is_refused(answer: Any) -> None:
    class Wrong(BaseMiddleware):
        async def wrap_embed(self, params, ctx, next_fn):
            return answer

    with pytest.raises(LamellaError, match='wrap_embed must return') as caught:
        await app(scripted(), use=[Wrong()]).embed(['a', 'b'])
    assert caught.value.status == 'FAILED_PRECONDITION'


async def test_a_run_that_a_layer_stops_is_an_error_without_an_answer() -> None:
    class Stops(BaseMiddleware):
        async def wrap_embed(self, params, ctx, next_fn):
            raise StopRun('max_cost', 'over the budget')

    with pytest.raises(LamellaError, match='max_cost: over the budget'):
        await app(scripted(), use=[Stops()]).embed('a')


async def test_events_tell_of_the_whole_and_of_each_call() -> None:
    sink = CollectingSink()
    await app(scripted(max_batch=1), sinks=[sink]).embed(['a', 'b'], max_parallel=1)
    call = ['embedding.start', 'embedding.end']
    assert sink.names == ['embed.start', *call, *call, 'embed.end']
    assert sink.events[-1].facts == {
        'model': 'scripted/embedding',
        'texts': 2,
        'usage': Usage(input_tokens=2, total_tokens=2),
    }
    with pytest.raises(LamellaError):
        await app(scripted(LamellaError('INTERNAL', 'x')), sinks=[sink]).embed('a')
    assert sink.names[-2:] == ['embedding.error', 'embed.error']


# ── several calls at once ───────────────────────────────────────────────────────────────────────────────────────────


class Gate:
    """A model whose calls wait until they are let through, and that knows how many wait."""

    def __init__(self, fail: int | None = None) -> None:
        self.open, self.inside, self.most, self.calls, self.cancelled = asyncio.Event(), 0, 0, 0, 0
        self._fail = fail

    async def __call__(self, request: EmbeddingRequest) -> Any:
        self.calls += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            if request.texts == (str(self._fail),):
                await asyncio.sleep(0)
                raise LamellaError('UNAVAILABLE', 'down')
            await self.open.wait()
            return [[float(request.texts[0])]]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.inside -= 1


@pytest.mark.parametrize(('max_parallel', 'most'), [(1, 1), (3, 3), (None, 4), (50, 10)])
async def test_no_more_calls_are_made_at_once_than_allowed(max_parallel: Any, most: int) -> None:
    gate = Gate()
    embedding = asyncio.create_task(
        app(scripted(gate.__call__, repeat=True, max_batch=1)).embed(map(str, range(10)), max_parallel=max_parallel)
    )
    for _ in range(20):
        await asyncio.sleep(0)
    assert gate.inside == most
    gate.open.set()
    assert (await embedding).vectors == tuple((float(n),) for n in range(10))
    assert gate.most == most


async def test_when_one_call_fails_the_others_are_cancelled_and_no_further_one_begins() -> None:
    gate = Gate(fail=1)
    async with no_leaks():
        with pytest.raises(LamellaError, match='down') as caught:
            await app(scripted(gate.__call__, repeat=True, max_batch=1)).embed(map(str, range(10)), max_parallel=3)
    assert (gate.calls, gate.cancelled, gate.inside) == (3, 2, 0)
    assert [attempt.status for attempt in caught.value.attempts] == ['UNAVAILABLE']


async def test_a_call_that_ends_at_the_same_moment_as_one_fails_is_followed_by_none() -> None:
    opened, asked = asyncio.Event(), list[str]()

    async def answers(request: EmbeddingRequest) -> Any:
        (text,) = request.texts
        asked.append(text)
        await opened.wait()
        if text == '0':
            raise LamellaError('UNAVAILABLE', 'down')
        return [[1.0]]

    ai = app(scripted(answers, repeat=True, max_batch=1))
    embedding = asyncio.create_task(ai.embed(map(str, range(9)), max_parallel=2))
    for _ in range(5):
        await asyncio.sleep(0)
    opened.set()
    with pytest.raises(LamellaError, match='down'):
        await embedding
    assert asked == ['0', '1']


async def test_what_was_paid_before_a_failure_is_on_the_error() -> None:
    paid = EmbeddingResponse(vectors=((1.0,),), usage=Usage(input_tokens=5, total_tokens=5))
    model = scripted(paid, paid, LamellaError('UNAVAILABLE', 'down'), max_batch=1)
    with pytest.raises(LamellaError) as caught:
        await app(model).embed(['a', 'b', 'c', 'd'], max_parallel=1)
    assert caught.value.partial is not None
    assert caught.value.partial.usage == Usage(input_tokens=10, total_tokens=10)
    assert len(model.requests) == 3


async def test_a_cancellation_passes_and_leaves_nothing_running() -> None:
    gate = Gate()
    async with no_leaks():
        ai = app(scripted(gate.__call__, repeat=True, max_batch=1))
        embedding = asyncio.create_task(ai.embed(map(str, range(10))))
        for _ in range(5):
            await asyncio.sleep(0)
        embedding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await embedding
    assert (gate.cancelled, gate.inside) == (4, 0)


async def test_a_timeout_holds_for_all_texts_together() -> None:
    clock = FakeClock(auto=False)
    gate = Gate()
    ai = Lamella(embedding_model=scripted(gate.__call__, repeat=True, max_batch=1), clock=clock)
    async with no_leaks():
        embedding = asyncio.create_task(ai.embed(['0', '1'], timeout_s=5))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await clock.advance(6)
        with pytest.raises(LamellaError, match='embed: not done within timeout_s=5') as caught:
            await embedding
    assert (caught.value.status, gate.cancelled) == ('DEADLINE_EXCEEDED', 2)


async def test_vectors_of_different_lengths_are_never_one_answer() -> None:
    long = EmbeddingResponse(vectors=((1.0, 2.0),), model='x/long')
    short = EmbeddingResponse(vectors=((1.0,),), model='x/short')
    with pytest.raises(LamellaError, match='x/long gave 2 numbers, x/short gave 1 numbers') as caught:
        await app(scripted(long, short, max_batch=1)).embed(['a', 'b'])
    assert caught.value.status == 'ABORTED'


async def test_an_answer_of_several_models_says_so() -> None:
    one = EmbeddingResponse(vectors=((1.0,),), model='x/one')
    two = EmbeddingResponse(vectors=((2.0,),), model='y/one')
    response = await app(scripted(one, two, max_batch=1)).embed(['a', 'b'])
    assert (response.model, response.vectors) == ('x/one', ((1.0,), (2.0,)))
    assert 'several models answered (x/one, y/one)' in response.warnings[0]


def test_the_synchronous_door_embeds_too() -> None:
    ai = app(scripted())
    assert ai.sync.embed('x').vector == word_vector('x')
    ai.sync.close()


# ── batches ─────────────────────────────────────────────────────────────────────────────────────────────────────────

sizes = st.none() | st.integers(1, 5)


@settings(max_examples=300)
@given(st.lists(st.text(max_size=6), max_size=30), sizes, st.none() | st.integers(1, 12))
def test_batches_are_all_texts_in_order_and_no_larger_than_they_may_be(
    texts: list[str], count: int | None, size: int | None
) -> None:
    found = list(batches(texts, EmbeddingInfo(count, size)))
    assert [text for batch in found for text in batch] == texts
    assert all(found)
    for batch, following in zip(found, (*found[1:], None), strict=False):
        held = sum(len(text.encode('utf-8', 'surrogatepass')) for text in batch)
        assert count is None or len(batch) <= count
        assert size is None or held <= size or len(batch) == 1
        if following is not None:  # and no smaller than they must be
            more = held + len(following[0].encode('utf-8', 'surrogatepass'))
            assert (count is not None and len(batch) == count) or (size is not None and more > size)


def test_a_text_that_is_too_long_for_any_call_goes_alone() -> None:
    assert list(batches(['a', 'b' * 9, 'c'], EmbeddingInfo(max_batch_bytes=4))) == [('a',), ('b' * 9,), ('c',)]
