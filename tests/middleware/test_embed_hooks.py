"""Layers of the catalog around embedding calls: written once, and the same there as around models."""

import asyncio
import io
from random import Random
from typing import Any

import pytest

from lamella import Lamella, LamellaError, wrap_embedding_model
from lamella.core.embedding import EmbeddingInfo
from lamella.core.plugin import Plugin
from lamella.middleware import (
    BaseMiddleware,
    CircuitBreaker,
    ConcurrencyLimit,
    ConsoleLogger,
    DefaultEmbeddingSettings,
    Fallback,
    Hedge,
    RateLimit,
    Retry,
    RetryBudget,
    Timeout,
)
from lamella.testing import CollectingSink, FakeClock, ScriptedEmbeddingModel, word_vector
from lamella.types import ConfigError, EmbeddingRequest, EmbeddingResponse, ModelResponse, Rejected, Usage
from tests.engine.kit import no_leaks
from tests.middleware.samples import LAYERS, sample

CONTEXT = {'tenant': 'acme'}


class Vendor(Plugin):
    name = 'v'

    def __init__(self, **models: ScriptedEmbeddingModel) -> None:
        self.models = models

    def embedding_model(self, name: str) -> ScriptedEmbeddingModel | None:
        return self.models.get(name)


def down(status: Any = 'UNAVAILABLE', **facts: Any) -> Any:
    return lambda request: LamellaError(status, 'down', **facts)


def paid(*vectors: float, tokens: int = 5, **fields: Any) -> EmbeddingResponse:
    return EmbeddingResponse(vectors=tuple((v,) for v in vectors), usage=Usage(tokens, None, tokens), **fields)


class World:
    """An app whose embedding models follow scripts."""

    def __init__(self, clock: FakeClock | None = None, **scripts: Any) -> None:
        self.models = {name: ScriptedEmbeddingModel(script, name=f'v/{name}') for name, script in scripts.items()}
        self.sink, self.clock = CollectingSink(), clock or FakeClock()
        self.ai = Lamella(
            plugins=[Vendor(**self.models)],
            embedding_model=f'v/{next(iter(scripts))}',
            clock=self.clock,
            random=Random(1),
            sinks=[self.sink],
        )

    async def embed(self, *use: Any, texts: Any = 'x', **options: Any) -> Any:
        try:
            return await self.ai.embed(texts, use=list(use), **options)
        except LamellaError as error:
            return error


# ── every layer ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('name', sorted(name for name, layer in LAYERS.items() if 'wrap_embed' in layer._hooks))
async def test_a_layer_that_stands_around_embedding_keeps_to_the_contract(name: str) -> None:
    """One vector for each text in order, usage kept, cancellation and errors passed on."""
    entered = asyncio.Event()

    async def waits(request: EmbeddingRequest) -> Any:
        entered.set()
        await asyncio.Event().wait()

    texts, others, last = ('a boat', 'the sea'), ('wind',), ('sand',)
    world = World(a=[lambda request: paid(1, 2, metadata={'kept': 1}), down('INVALID_ARGUMENT'), waits])
    response = await world.embed(sample(name), texts=texts, context=CONTEXT)
    assert (response.vectors, response.usage.input_tokens, response.metadata['kept']) == (((1.0,), (2.0,)), 5, 1)
    assert response.model == 'v/a'
    error = await world.embed(sample(name), texts=others, context=CONTEXT)
    assert (error.status, error.message) == ('INVALID_ARGUMENT', 'down')
    async with no_leaks():
        task = asyncio.create_task(world.embed(sample(name), texts=last, context=CONTEXT))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [request.texts for request in world.models['a'].requests] == [texts, others, last]


# ── CircuitBreaker, RetryBudget, Hedge ──────────────────────────────────────────────────────────────────────────────


async def test_a_circuit_of_an_embedding_model_opens_and_is_its_own() -> None:
    world = World(a=[down(), down(), [[1]]], b=[[[2]]])
    breaker = CircuitBreaker(threshold=2, cooldown_s=30)
    errors = [await world.embed(breaker) for _ in range(3)]
    assert [type(error) for error in errors] == [LamellaError, LamellaError, Rejected]
    assert (await world.embed(Fallback(embedding_models=['v/b']), breaker)).model == 'v/b'
    await world.clock.sleep(30)
    response = await world.embed(breaker)
    assert response.metadata == {'circuit_breaker': {'probe': True, 'closed': True}}


@pytest.mark.parametrize('outside', [True, False])
async def test_retries_of_embedding_calls_are_counted_inside_and_outside(outside: bool) -> None:
    world = World(a=[down()] * 9)
    use = [RetryBudget(burst=1, min_per_s=0), Retry(no_jitter=True)]
    error = await world.embed(*(use if outside else reversed(use)))
    assert (error.by, len(error.attempts)) == ('retry_budget', 2)
    assert world.clock.slept == ([1] if outside else [1, 2])
    assert len(world.sink.named('retry_budget.spent')) == 1


async def test_an_embedding_call_that_takes_long_is_sent_twice() -> None:
    async def slow(request: EmbeddingRequest) -> Any:
        await world.clock.sleep(60)
        return [[1]]

    world = World(a=[slow, [[2]]])
    async with no_leaks():
        response = await world.embed(Hedge(delay_s=5))
    assert (response.vectors, response.metadata['hedge']['winner']) == (((2.0,),), 2)


# ── Retry ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_retry_asks_again_and_says_so() -> None:
    world = World(a=[down(), down(), [[1]]])
    response = await world.embed(Retry(no_jitter=True))
    assert response.metadata['retry'] == {'attempts': 3, 'waited_s': 3.0}
    assert world.clock.slept == [1.0, 2.0]
    starts = world.sink.named('embedding.start')
    assert [event.facts['attempt'] for event in starts] == [1, 2, 3]


async def test_retry_gives_up_where_it_would_around_a_model() -> None:
    for error, calls in ((down('INVALID_ARGUMENT'), 1), (down(retry_after_s=999), 1), (down(), 4)):
        world = World(a=[error] * 9)
        assert isinstance(await world.embed(Retry(no_jitter=True)), LamellaError)
        assert len(world.models['a'].requests) == calls


async def test_each_batch_is_retried_by_itself() -> None:
    model = ScriptedEmbeddingModel([[[1]], down(), [[2]], [[3]]], name='v/a', info=EmbeddingInfo(max_batch=1))
    ai = Lamella(embedding_model=model, clock=FakeClock())
    response = await ai.embed(['a', 'b', 'c'], use=[Retry(no_jitter=True)], max_parallel=1)
    assert response.vectors == ((1.0,), (2.0,), (3.0,))
    assert model.texts == ['a', 'b', 'b', 'c']


# ── Fallback ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_fallback_asks_the_embedding_models_and_never_the_others() -> None:
    world = World(a=[down()], b=[down()], c=[[[3]]])
    layer = Fallback(models=['openai/gpt-5'], embedding_models=['v/b', 'v/c'])
    response = await world.embed(layer)
    assert (response.vector, response.model) == ((3.0,), 'v/c')
    assert response.metadata['fallback'] == {
        'fallback_triggered': True,
        'original_model': 'v/a',
        'fallback_model': 'v/c',
        'fallback_attempt': 2,
        'error_code': 'UNAVAILABLE',
    }
    assert [event.facts['to_model'] for event in world.sink.named('fallback.switch')] == ['v/b', 'v/c']


async def test_fallback_without_embedding_models_stands_aside() -> None:
    world = World(a=[down(), down()])
    error = await world.embed(Fallback(models=['openai/gpt-5']))
    assert (error.status, len(world.models['a'].requests)) == ('UNAVAILABLE', 1)


async def test_fallback_may_be_for_embedding_alone() -> None:
    world = World(a=[down()], b=[[[2]]])
    assert (await world.embed(Fallback(embedding_models=['v/b']))).vector == (2.0,)

    async def says_no(request: Any, ctx: Any) -> ModelResponse:
        raise LamellaError('UNAVAILABLE', 'down')

    with pytest.raises(LamellaError, match='down'):
        await world.ai.generate(model=says_no, prompt='x', use=[Fallback(embedding_models=['v/b'])])


async def test_a_model_that_is_tired_is_asked_last() -> None:
    world = World(a=[down(), [[1]]], b=[[[2]], [[2]]])
    layer = Fallback(embedding_models=['v/b'], cooldown_s=60)
    assert [(await world.embed(layer)).vector for _ in range(2)] == [(2.0,), (2.0,)]
    await world.clock.advance(61)
    assert (await world.embed(layer)).vector == (1.0,)


async def test_a_fallback_sees_its_own_options_only_and_functions_and_models_may_stand_in() -> None:
    async def own(request: EmbeddingRequest, ctx: Any) -> Any:
        assert request.provider_options == {'own': {'b': 2}}
        return [[7]]

    world = World(a=[down()])
    response = await world.embed(Fallback(embedding_models=[own]), provider_options={'v': {'a': 1}, 'own': {'b': 2}})
    assert response.vector == (7.0,)


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'embedding_models': 'v/b'}, r"embedding_models: .*is the string 'v/b': write a list"),
        ({'embedding_models': [5]}, r'embedding_models: .*\[0\] is 5: give a name'),
        ({'embedding_models': []}, 'models: Field required'),
        ({'embedding_models': [], 'models': []}, 'is empty: name at least one model'),
    ],
)
def test_what_is_no_embedding_model_is_refused_when_it_is_built(options: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Fallback(**options)


async def test_an_unknown_fallback_is_found_before_the_first_call() -> None:
    world = World(a=[[[1]]])
    error = await world.embed(Fallback(embedding_models=['v/nobody']))
    assert (error.status, world.models['a'].requests) == ('NOT_FOUND', [])


# ── limits and timeouts ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_rate_limit_counts_embedding_calls_and_their_tokens() -> None:
    world = World(a=[lambda request: paid(1, tokens=40)] * 9)
    calls = RateLimit(max_calls=2, per_s=60, wait=False)
    assert [type(await world.embed(calls)) for _ in range(3)] == [EmbeddingResponse, EmbeddingResponse, Rejected]
    tokens = RateLimit(max_tokens=100, per_s=60, wait=False)
    assert [type(await world.embed(tokens)) for _ in range(4)] == [EmbeddingResponse] * 3 + [Rejected]


async def test_a_rate_limit_gives_back_what_was_never_sent_and_keeps_what_was() -> None:
    class Refuses(BaseMiddleware):
        async def wrap_embed(self, params, ctx, next_fn):
            raise LamellaError('FAILED_PRECONDITION', 'not now')

    world = World(a=[down(), [[1]]])
    layer = RateLimit(max_calls=2, per_s=60, wait=False)
    for _ in range(5):
        assert (await world.embed(layer, Refuses())).status == 'FAILED_PRECONDITION'
    assert (await world.embed(layer)).status == 'UNAVAILABLE'
    assert isinstance(await world.embed(layer), EmbeddingResponse)
    assert isinstance(await world.embed(layer), Rejected)


async def test_a_rate_limit_lets_a_call_wait_and_says_so() -> None:
    world = World(a=[[[1]], [[1]]])
    layer = RateLimit(max_calls=1, per_s=10)
    await world.embed(layer)
    assert (await world.embed(layer)).metadata['rate_limit']['waited_s'] == pytest.approx(10)


async def test_no_more_embedding_calls_run_at_once_than_allowed() -> None:
    inside, most, opened = 0, 0, asyncio.Event()

    async def answers(request: EmbeddingRequest) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await opened.wait()
        inside -= 1
        return [[1]]

    model = ScriptedEmbeddingModel([answers], repeat=True, info=EmbeddingInfo(max_batch=1))
    ai = Lamella(embedding_model=model, use=[ConcurrencyLimit(max_concurrent=2)])
    task = asyncio.create_task(ai.embed(map(str, range(6)), max_parallel=6))
    for _ in range(30):
        await asyncio.sleep(0)
    assert (inside, most) == (2, 2)
    opened.set()
    assert len((await task).vectors) == 6
    assert most == 2


async def test_a_place_is_free_again_after_a_failure() -> None:
    world = World(a=[down(), [[1]]])
    layer = ConcurrencyLimit(max_concurrent=1, max_queue=0)
    assert (await world.embed(layer)).status == 'UNAVAILABLE'
    assert (await world.embed(layer)).vector == (1.0,)


async def test_a_timeout_ends_a_call_that_takes_too_long() -> None:
    async def waits(request: EmbeddingRequest) -> Any:
        await asyncio.Event().wait()

    clock = FakeClock(auto=False)
    world = World(clock, a=[waits, [[1]]])
    layer = Timeout(total_s=5, first_content_s=1)
    async with no_leaks():
        task = asyncio.create_task(world.embed(layer))
        for _ in range(5):
            await asyncio.sleep(0)
        await clock.advance(4)
        assert not task.done()
        await clock.advance(2)
        error = await task
    assert (error.status, error.details['limit']) == ('DEADLINE_EXCEEDED', 'total_s')
    assert (await world.embed(layer)).vector == (1.0,)


# ── settings and telling ────────────────────────────────────────────────────────────────────────────────────────────


async def test_settings_and_retries_are_fixed_on_a_model_once() -> None:
    inner = ScriptedEmbeddingModel(
        [down(), lambda request: [word_vector(text, request.dimensions) for text in request.texts]]
    )
    layers = [Retry(no_jitter=True, initial_delay_ms=0), DefaultEmbeddingSettings(dimensions=8)]
    model = wrap_embedding_model(model=inner, middleware=layers)
    assert (await model.embed('x')).vector == word_vector('x', 8)
    assert [request.dimensions for request in inner.requests] == [8, 8]


async def test_the_console_tells_of_embedding() -> None:
    out = io.StringIO()
    world = World(a=[paid(1, 2, tokens=7), down()])
    layer = ConsoleLogger(stream=out)
    await world.embed(layer, texts=['a', 'b'])
    await world.embed(layer)
    said = [line.split('s ', 1)[1] for line in out.getvalue().splitlines()]
    assert [' '.join(line.split()) for line in said] == [
        'model v/a attempt 1: 2 texts in 0.00 s, 7+? tokens',
        'embed v/a: 2 texts, 7+? tokens',
        'model v/a failed in 0.00 s: UNAVAILABLE: down',
        'embed failed: UNAVAILABLE: down',
    ]
