"""`CostTracking`: every call priced once, wherever the layer stands; what is unknown is said and never zero."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import Lamella, LamellaError, ModelResponse, Usage, wrap_language_model
from lamella.core import prices as prices_module
from lamella.middleware import BaseMiddleware, CostTracking, Fallback, Retry
from lamella.testing import CollectingSink, ScriptedModel
from lamella.types import ConfigError, EmbeddingResponse, Finished, TextDelta, ToolRequest, ToolRequested
from tests.middleware.kit import World, both, cut, down, end, world

DOLLARS = {'input_per_mtok': 1_000_000, 'output_per_mtok': 2_000_000}  # a dollar for a token read, two for one written
PRICES = {'v/a': DOLLARS, 'v/b': {'input_per_mtok': 10_000_000, 'output_per_mtok': 0}}
USED = Usage(1, 1, 2)
STANDARD = Usage(1000, 100, 1100)


def answer(usage: Usage | None = USED, text: str = 'ok', **fields: Any) -> ModelResponse:
    return ModelResponse.text_of(text, usage=usage, **fields)


def failed(usage: Usage | None = USED) -> Any:
    return lambda request: LamellaError('UNAVAILABLE', 'down', partial=ModelResponse(usage=usage))


def spent(app: World) -> list[tuple[str, float, str, bool]]:
    return [
        (event.facts['model'][-1], event.facts['cost_usd'], event.facts['outcome'], event.facts['estimated'])
        for event in app.sink.named('cost.spent')
    ]


async def test_every_kind_of_token_is_priced_in_both_modes() -> None:
    usage = Usage(1000, 100, 1100, cached_tokens=400, reasoning_tokens=60, cache_write_tokens=100)
    layer = CostTracking(
        input_per_mtok=1, output_per_mtok=10, cached_per_mtok=0.1, cache_write_per_mtok=2, reasoning_per_mtok=20
    )
    response = await both(lambda: world({'v/a': [answer(usage)]}).ai, prompt='hi', use=[layer])
    dollars = (500 * 1 + 400 * 0.1 + 100 * 2 + 40 * 10 + 60 * 20) / 1e6
    assert response.usage == usage.replace(cost_usd=pytest.approx(dollars))
    assert response.metadata == {'cost_tracking': {'cost_usd': pytest.approx(dollars), 'calls': 1}}


async def test_the_seeds_two_names_are_a_price_for_every_model() -> None:
    response = await world({'any/thing': [answer()]}).answer(CostTracking(input_per_mtok=1e6, output_per_mtok=2e6))
    assert response.usage.cost_usd == 3.0


async def test_zero_is_a_price() -> None:
    response = await world({'v/a': [answer()]}).answer(CostTracking(input_per_mtok=0, output_per_mtok=0))
    assert (response.usage.cost_usd, response.metadata['cost_tracking']) == (0.0, {'cost_usd': 0.0, 'calls': 1})


async def test_the_packages_prices_need_no_setting() -> None:
    app = world({'openai/gpt-5': [answer(STANDARD, model='openai/gpt-5-2025-08-07')]})
    response = await app.answer(CostTracking())
    assert response.usage.cost_usd == pytest.approx(0.00225)
    assert spent(app) == [('7', response.usage.cost_usd, 'answered', False)]


async def test_own_prices_come_before_the_apps_and_those_before_the_packages() -> None:
    scripts = {'v/a': [answer()], 'v/b': [answer()], 'openai/gpt-5': [answer(STANDARD)]}
    app = world(scripts, prices={'v/*': {'input_per_mtok': 5_000_000, 'output_per_mtok': 0}})
    layer = CostTracking(prices={'v/a': DOLLARS})
    costs = [(await app.answer(layer, model=model)).usage.cost_usd for model in scripts]
    assert costs == [3.0, 5.0, pytest.approx(0.00225)]


async def test_an_unknown_price_is_said_and_never_zero() -> None:
    app = world({'v/unknown': [answer()]})
    response = await app.answer(CostTracking())
    assert response.usage == USED
    assert response.metadata['cost_tracking'] == {'cost_usd': None, 'calls': 1, 'unknown': True, 'unpriced_calls': 1}
    (event,) = app.sink.named('cost.unknown')
    assert event.facts == {'model': 'v/unknown', 'usage': USED, 'outcome': 'answered'}
    assert spent(app) == []


def look() -> str:
    return 'seen'


class ToSecond(BaseMiddleware):
    """Sends the second turn to the second model."""

    async def wrap_generate(self, params, ctx, next_fn):
        model = ctx.ai.resolve_model('v/unknown' if params.iteration else 'v/a')
        return await next_fn(params.replace(model=model), ctx)


async def test_a_run_of_which_a_part_has_no_price_says_that_its_sum_is_not_all() -> None:
    asks = [ToolRequested(ToolRequest('look', {}, 'r')), Finished('tool_calls', USED)]
    app = world({'v/a': [asks], 'v/unknown': [answer()]})
    response = await app.answer(ToSecond(), CostTracking(prices=PRICES), tools=[look])
    assert [turn.usage.cost_usd for turn in response.turns] == [3.0, None]
    assert response.usage == Usage(2, 2, 4, cost_usd=3.0)  # what the priced turn cost …
    assert response.metadata['cost_tracking'] == {'cost_usd': 3.0, 'calls': 2, 'unknown': True, 'unpriced_calls': 1}


ORDERS = [
    lambda cost: [cost, Fallback(models=['v/b']), Retry(max_retries=1, no_jitter=True)],
    lambda cost: [Fallback(models=['v/b']), cost, Retry(max_retries=1, no_jitter=True)],
    lambda cost: [Fallback(models=['v/b']), Retry(max_retries=1, no_jitter=True), cost],
]


@pytest.mark.parametrize('order', ORDERS, ids=['outside', 'between', 'inside'])
async def test_attempts_and_fallbacks_are_counted_once_in_every_order(order) -> None:
    scripts = {'v/a': [failed(), failed()], 'v/b': [failed(Usage(1, 0, 1)), answer()]}
    for streaming in (False, True):
        app = world(scripts)
        use = order(CostTracking(prices=PRICES))
        response = await app.ai.generate_stream(prompt='hi', use=use).response if streaming else await app.answer(*use)
        assert spent(app) == [
            *[('a', 3.0, 'failed', False)] * 2, ('b', 10.0, 'failed', False), ('b', 10.0, 'answered', False),
        ]  # fmt: skip
        assert response.usage == Usage(4, 3, 7, cost_usd=26.0)
        assert response.metadata['cost_tracking'] == {'cost_usd': 26.0, 'calls': 4}


async def test_a_failed_run_says_what_it_cost() -> None:
    error = await world({'v/a': [failed(), failed()]}).answer(
        CostTracking(prices=PRICES), Retry(max_retries=1, no_jitter=True)
    )
    assert error.partial.usage == Usage(2, 2, 4, cost_usd=6.0)


async def test_a_failure_without_any_trace_costs_nothing_that_is_known() -> None:
    app = world({'v/a': [down(), answer()]})
    response = await app.answer(CostTracking(prices=PRICES), Retry(no_jitter=True))
    assert spent(app) == [('a', 3.0, 'answered', False)]
    assert response.metadata['cost_tracking'] == {'cost_usd': 3.0, 'calls': 1}


async def test_a_stream_that_breaks_off_is_estimated_and_the_estimate_stays_out_of_the_usage() -> None:
    app = world({'v/a': [cut('some words were said'), answer()]})
    parts, error = await app.read(CostTracking(prices=PRICES), Retry(no_jitter=True, on_partial='restart'))
    assert error is None
    (_, guess, outcome, estimated), (_, cost, _, _) = spent(app)
    assert (outcome, estimated, cost) == ('failed', True, 3.0)
    assert guess > 5
    assert end(parts).usage == USED.replace(cost_usd=3.0)
    assert end(parts).metadata['cost_tracking'] == {
        'cost_usd': 3.0, 'calls': 2, 'estimated_usd': guess, 'unknown': True, 'unpriced_calls': 1,
    }  # fmt: skip


async def test_a_stream_that_is_left_is_told_as_an_estimate() -> None:
    app = world({'v/a': [[TextDelta('one '), TextDelta('two')]]})
    stream = app.ai.generate_stream(prompt='hi', use=[CostTracking(prices=PRICES)])
    async for part in stream:
        if type(part) is TextDelta:
            break
    await stream.aclose()
    ((_, cost, outcome, estimated),) = spent(app)
    assert (outcome, estimated) == ('left', True)
    assert cost > 0


async def test_an_answer_without_a_report_is_estimated_and_its_usage_stays_unknown() -> None:
    app = world({'v/a': [answer(None)]})
    response = await app.answer(CostTracking(prices=PRICES))
    assert response.usage is None
    note = response.metadata['cost_tracking']
    assert (note['cost_usd'], note['unknown'], note['unpriced_calls']) == (None, True, 1)
    assert note['estimated_usd'] > 0


async def test_what_the_provider_says_it_cost_is_believed() -> None:
    response = await world({'v/a': [answer(USED.replace(cost_usd=0.25))]}).answer(CostTracking(prices=PRICES))
    assert response.usage.cost_usd == 0.25


async def test_an_app_and_a_call_may_both_track_and_the_call_knows_better() -> None:
    app = world({'v/a': [answer()]}, use=[CostTracking(input_per_mtok=9e6, output_per_mtok=9e6)])
    response = await app.answer(CostTracking(prices=PRICES))
    assert response.usage.cost_usd == 3.0
    assert len(spent(app)) == 1
    response = await world({'v/a': [answer()]}, use=[CostTracking(prices=PRICES)]).answer(CostTracking())
    assert response.usage.cost_usd == 3.0


async def test_a_model_that_tracks_for_itself_is_told_once() -> None:
    inner = ScriptedModel([failed(), answer()], name='v/a')
    layers = [Retry(no_jitter=True), CostTracking(input_per_mtok=7e6, output_per_mtok=0)]
    app = world({'v/x': []})
    fixed = wrap_language_model(model=inner, middleware=layers)
    response = await app.answer(CostTracking(prices=PRICES), model=fixed)
    assert response.usage.cost_usd == 14.0
    assert response.metadata['cost_tracking'] == {'cost_usd': 14.0, 'calls': 1}
    assert spent(app) == [('a', 7.0, 'failed', False), ('a', 7.0, 'answered', False)]


async def test_what_a_layered_model_costs_by_its_providers_word_is_told_once() -> None:
    app = world({'v/x': []})
    fixed = wrap_language_model(
        model=ScriptedModel([answer(USED.replace(cost_usd=0.5))], name='v/a'), middleware=Retry()
    )
    await app.answer(CostTracking(prices=PRICES), model=fixed)
    assert spent(app) == [('a', 0.5, 'answered', False)]


async def test_embeddings_are_priced_too() -> None:
    async def embed(request: Any, ctx: Any) -> EmbeddingResponse:
        return EmbeddingResponse(vectors=((1.0,),) * len(request.texts), usage=Usage(input_tokens=4))

    sink = CollectingSink()
    ai = Lamella(embedding_model=embed, sinks=[sink])
    response = await ai.embed('hi', use=[CostTracking(input_per_mtok=1e6, output_per_mtok=0)])
    assert response.usage == Usage(input_tokens=4, cost_usd=4.0)
    assert response.metadata['cost_tracking'] == {'cost_usd': 4.0, 'calls': 1}
    assert [event.facts['cost_usd'] for event in sink.named('cost.spent')] == [4.0]


async def test_calls_at_once_do_not_disturb_each_other() -> None:
    app = world({'v/a': [answer(Usage(n, 0, n)) for n in range(100)]})
    layer = CostTracking(prices=PRICES)
    responses = await asyncio.gather(*[app.answer(layer) for _ in range(100)])
    assert sorted(response.metadata['cost_tracking']['cost_usd'] for response in responses) == list(range(100))


async def test_prices_that_fail_harm_no_call() -> None:
    class Broken:
        def cost(self, provider, model, usage, answered=None):
            raise RuntimeError('no such table')

    app = world({'v/a': [answer()]})
    response = await app.answer(CostTracking(prices=Broken()))
    assert (response.text, response.usage.cost_usd, response.metadata['cost_tracking']['unknown']) == ('ok', None, True)
    assert 'prices.failed' in app.sink.names


async def test_no_prices_at_all_is_an_error_that_names_the_command(monkeypatch) -> None:
    monkeypatch.setattr(prices_module, 'find_spec', lambda name: None)
    app = world({'v/a': [answer()]})
    error = await app.answer(CostTracking())
    assert isinstance(error, ConfigError)
    assert "pip install 'lamella[prices]'" in str(error)
    assert app.models['v/a'].requests == []
    assert (await app.answer(CostTracking(prices=PRICES))).usage.cost_usd == 3.0


@pytest.mark.parametrize(
    ('wrong', 'says'),
    [
        ({'input_per_mtok': 1}, 'input_per_mtok needs output_per_mtok too'),
        ({'cached_per_mtok': 1}, 'cached_per_mtok needs input_per_mtok and output_per_mtok too'),
        ({'input_per_mtok': -1, 'output_per_mtok': '2'}, 'input_per_mtok.*output_per_mtok'),
        ({'prices': {'v/a': {'input': 1}}}, "unknown key 'input'"),
        ({'prices': 'cheap'}, 'prices is a str'),
        ({'price': {}}, "'price': did you mean 'prices'"),
    ],
)
def test_wrong_settings_are_found_when_it_is_built(wrong: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        CostTracking(**wrong)


def test_an_object_and_a_flat_price_cannot_both_be_right() -> None:
    class Mine:
        def cost(self, provider, model, usage, answered=None):
            return None

    with pytest.raises(ConfigError, match='not both'):
        CostTracking(prices=Mine(), input_per_mtok=1, output_per_mtok=1)


attempts = st.lists(
    st.one_of(
        st.tuples(st.just('failed'), st.integers(0, 5)),
        st.tuples(st.just('answered'), st.integers(0, 5)),
        st.tuples(st.just('silent'), st.just(0)),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60)
@given(attempts, attempts, st.permutations(['cost', 'retry', 'fallback']), st.booleans())
async def test_what_is_told_adds_up_to_what_the_models_used(a, b, order, streaming) -> None:
    def script(steps: Any) -> list[Any]:
        made = {
            'failed': lambda n: failed(Usage(n, 0, n)),
            'answered': lambda n: answer(Usage(n, 0, n)),
            'silent': lambda n: down(),
        }
        return [made[kind](n) for kind, n in steps] + [down()] * 8

    app = world({'v/a': script(a), 'v/b': script(b)})
    layers = {
        'cost': CostTracking(prices=PRICES),
        'retry': Retry(max_retries=1, no_jitter=True),
        'fallback': Fallback(models=['v/b']),
    }
    use = [layers[name] for name in order]
    if streaming:
        parts, error = await app.read(*use)
        usage = error.partial and error.partial.usage if error else end(parts).usage
    else:
        response = await app.answer(*use)
        partial = response.partial if isinstance(response, LamellaError) else response
        usage = partial and partial.usage
    used = {
        name: sum(n for kind, n in steps[: len(app.models[f'v/{name}'].requests)])
        for name, steps in (('a', a), ('b', b))
    }
    dollars = used['a'] * 1 + used['b'] * 10
    assert sum(cost for _, cost, _, _ in spent(app)) == dollars
    assert (usage.cost_usd if usage is not None else 0.0) == dollars
