"""`TenantBudget`: set aside before, settled after, and never passed by more than it says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import Lamella, LamellaError, ModelResponse, Usage
from lamella.core import prices as prices_module
from lamella.core.estimate import estimate_tokens
from lamella.core.models import ModelRef
from lamella.middleware import CostTracking, Fallback, Retry, TenantBudget
from lamella.middleware._spending import micro_down, micro_up, most_tokens
from lamella.stores.memory import MemoryStore
from lamella.testing import CollectingSink, FakeClock, ScriptedModel
from lamella.types import (
    ConfigError,
    EmbeddingResponse,
    MediaPart,
    Message,
    ModelRequest,
    Rejected,
    TextDelta,
    ToolDefinition,
    to_messages,
)
from tests.middleware.cost.kit import PRICES, USED, Away, Holding, Slow, answer, failed
from tests.middleware.kit import World, both, cut, down, end, no_leaks
from tests.middleware.kit import world as plain_world

ACME = {'tenant': 'acme'}
READ = estimate_tokens(ModelRequest(to_messages(['hi'])))


def world(*answers: Any, repeat: bool = False, **options: Any) -> World:
    script = list(answers) or [answer()]
    return plain_world({'v/a': script}, repeat=repeat or not answers, prices=PRICES, check_order='ignore', **options)


async def call(app: World, layer: Any, said: int | None = 1, tenant: Any = 'acme', **options: Any) -> Any:
    config = {} if said is None else {'max_output_tokens': said}
    return await app.answer(layer, context={'tenant': tenant}, config=config, **options)


def used(app: World, layer: TenantBudget, name: str = 'cost') -> int:
    """Millionths of a dollar, or tokens, that the store holds as used or set aside for acme."""
    row = app.ai.resolve_store(layer.config.store)._tables['count'].get(f'{layer._prefix}acme:{name}')
    return 0 if row is None else int(row.content[0])


# ── what is let through ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_budget_that_is_spent_refuses_until_its_window_ends() -> None:
    app, layer = world(), TenantBudget(max_cost_usd=READ + 2, window_s=60)
    assert (await call(app, layer)).text == 'ok'
    await app.clock.advance(20)
    refused = await call(app, layer)
    assert isinstance(refused, Rejected)
    assert (refused.status, refused.by, refused.retry_after_s) == ('RESOURCE_EXHAUSTED', 'tenant_budget', 40.0)
    assert f"the budget of 'acme' (max_cost_usd={READ + 2.0}) has" in refused.message
    assert (await call(app, layer, tenant='other')).text == 'ok'
    await app.clock.advance(40)
    assert (await call(app, layer)).text == 'ok'
    assert [event.facts['reason'] for event in app.sink.named('tenant_budget.refused')] == ['max_cost_usd']


async def test_tokens_have_a_budget_of_their_own_and_need_no_prices(monkeypatch) -> None:
    monkeypatch.setattr(prices_module, 'find_spec', lambda name: None)
    app = plain_world({'y/unknown': [answer()]}, repeat=True)
    layer = TenantBudget(max_tokens=READ + 3)
    assert (await call(app, layer)).metadata['tenant_budget'] == {'cost_usd': 0.0, 'tokens': 2, 'left_tokens': READ + 1}
    assert (await call(app, layer)).text == 'ok'
    assert 'max_tokens' in (await call(app, layer)).message


async def test_both_modes_agree_and_say_what_is_left() -> None:
    layer = TenantBudget(max_cost_usd=100, max_tokens=1000, assumed_output_tokens=1)
    response = await both(lambda: world().ai, prompt='hi', use=[layer], context=ACME)
    assert response.metadata['tenant_budget'] == {'cost_usd': 3.0, 'tokens': 2, 'left_usd': 97.0, 'left_tokens': 998}


async def test_a_call_that_alone_is_too_dear_is_told_so_and_not_when_to_come_back() -> None:
    refused = await call(world(), TenantBudget(max_cost_usd=5), said=10)
    assert 'this call alone may take $' in refused.message
    assert refused.retry_after_s is None


async def test_a_window_without_an_end_has_no_time_to_come_back() -> None:
    app, layer = world(), TenantBudget(max_cost_usd=READ + 2, window_s=None)
    await call(app, layer)
    assert (await call(app, layer)).retry_after_s is None


async def test_zero_is_zero() -> None:
    assert isinstance(await call(world(), TenantBudget(max_cost_usd=0)), Rejected)
    assert isinstance(await call(world(), TenantBudget(max_tokens=0)), Rejected)
    free = plain_world({'v/a': [answer()]}, prices={'v/a': {'input_per_mtok': 0, 'output_per_mtok': 0}})
    assert (await call(free, TenantBudget(max_cost_usd=0))).text == 'ok'


# ── how far it can be passed ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('streaming', [False, True], ids=['whole', 'streamed'])
async def test_hundreds_of_calls_at_once_never_pass_the_budget(streaming: bool) -> None:
    app = world(lambda request: _later(answer(Usage(READ, 4, READ + 4))), repeat=True)
    each, count = READ + 8, 0
    layer, budget = TenantBudget(max_cost_usd=20 * each, max_tokens=10_000), 20

    async def one() -> None:
        nonlocal count
        options: Any = {'prompt': 'hi', 'use': [layer], 'context': ACME, 'config': {'max_output_tokens': 4}}
        try:
            if streaming:
                await app.ai.generate_stream(**options).response
            else:
                await app.ai.generate(**options)
            count += 1
        except Rejected:
            pass

    await asyncio.gather(*[one() for _ in range(400)])
    assert count == budget
    assert used(app, layer) == budget * each * 1_000_000


async def _later(response: ModelResponse) -> ModelResponse:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return response


tokens = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), min_size=1, max_size=40)


@settings(max_examples=60)
@given(tokens, st.integers(50, 900))
async def test_the_worst_case_is_never_passed_at_all(calls: Any, budget: int) -> None:
    """As long as answers keep to max_output_tokens and no token is shorter than a byte."""
    spent = 0

    def model(request: Any) -> Any:
        nonlocal spent
        text, said = request.messages[-1].text, request.config.max_output_tokens
        read = len(text.encode())
        spent += read + 2 * said
        return _later(answer(Usage(read, said, read + said)))

    app, layer = world(model, repeat=True), TenantBudget(max_cost_usd=budget, reserve='worst_case')
    await asyncio.gather(
        *[
            app.ai.generate(prompt='é' * size, use=[layer], context=ACME, config={'max_output_tokens': said})
            for size, said in calls
        ],
        return_exceptions=True,
    )
    assert spent <= budget
    assert used(app, layer) == spent * 1_000_000


async def test_it_is_passed_by_what_the_calls_under_way_use_beyond_what_was_set_aside() -> None:
    """Nothing said how long the answers may be, 10 tokens were assumed, and each takes 50."""
    app = world(lambda request: _later(answer(Usage(READ, 50, READ + 50))), repeat=True)
    each = READ + 20
    layer = TenantBudget(max_cost_usd=5 * each, assumed_output_tokens=10)
    done = await asyncio.gather(*[call(app, layer, None) for _ in range(100)])
    through = sum(not isinstance(one, LamellaError) for one in done)
    assert through == 5
    assert used(app, layer) == 5 * (READ + 100) * 1_000_000  # 5 calls, 80 dollars each beyond
    assert isinstance(await call(app, layer, None), Rejected)


def test_the_worst_case_counts_every_byte() -> None:
    for text in ('plain', 'süß 🙂', '\ud800 lone', '"quoted"\n' * 50):
        request = ModelRequest(to_messages([text]))
        assert most_tokens(request) >= len(text.encode('utf-8', 'surrogatepass')) + 4
    tools = ModelRequest(to_messages(['hi']), tools=(ToolDefinition('look'),))
    assert most_tokens(tools) > most_tokens(ModelRequest(to_messages(['hi']))) + 1024
    picture = ModelRequest((Message.user(MediaPart(url='http://x/y.png')),))
    assert most_tokens(picture) >= 100_000


@given(st.floats(0, 1e9))
def test_money_is_rounded_to_the_safe_side(dollars: float) -> None:
    assert micro_down(dollars) <= micro_up(dollars) <= micro_down(dollars) + 1


def test_a_sum_of_floats_costs_no_millionth_more() -> None:
    assert micro_up(0.1 + 0.2) == micro_down(0.1 + 0.2) == 300_000
    assert micro_up(sum([0.1] * 10)) == 1_000_000


async def test_the_worst_case_is_by_the_dearest_kind_of_token() -> None:
    prices = {'v/a': {'input_per_mtok': 1, 'output_per_mtok': 1, 'cache_write_per_mtok': 2, 'reasoning_per_mtok': 3}}
    app = plain_world({'v/a': [answer()]}, prices=prices)
    await call(app, TenantBudget(max_cost_usd=1, reserve='worst_case'), said=1000)
    (event,) = app.sink.named('tenant_budget.reserved')
    read = event.facts['tokens'] - 1000
    assert event.facts['cost_usd'] * 1e6 == pytest.approx(2 * read + 3000)


async def test_the_settings_of_a_model_reference_are_set_aside() -> None:
    app = world()
    await app.answer(TenantBudget(max_tokens=10_000), model=ModelRef('v/a', {'max_output_tokens': 7}), context=ACME)
    assert app.sink.named('tenant_budget.reserved')[0].facts['tokens'] == READ + 7


async def test_estimates_learn_from_what_models_report() -> None:
    app = world(answer(Usage(3 * READ, 1)), repeat=True)
    layer = TenantBudget(max_tokens=10**9)
    for _ in range(200):
        await call(app, layer)
    first, *_, last = [event.facts['tokens'] for event in app.sink.named('tenant_budget.reserved')]
    assert (first, last) == (READ + 1, pytest.approx(3 * READ + 1, abs=1))


# ── what comes back ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_cancelled_call_gives_back_all() -> None:
    app, layer, held = world(), TenantBudget(max_cost_usd=100_000), Holding()
    async with no_leaks():
        task = asyncio.create_task(app.answer(layer, held, context=ACME))
        await held.inside.wait()
        assert used(app, layer) > 0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert used(app, layer) == 0


async def test_a_call_cancelled_while_the_store_answers_gives_back_all() -> None:
    inner = MemoryStore(clock=FakeClock())
    store = Slow(inner)
    app, layer = world(), TenantBudget(max_cost_usd=100_000, store=store)
    async with no_leaks():
        task = asyncio.create_task(app.answer(layer, context=ACME))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        store.reply.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [row.content[0] for row in inner._tables['count'].values() if row.content[0]] == []


@pytest.mark.parametrize('streaming', [False, True], ids=['whole', 'streamed'])
async def test_a_failed_call_gives_back_what_it_did_not_use(streaming: bool) -> None:
    for script, cost in ((down(), 0), (failed(), 3)):
        app, layer = world(script), TenantBudget(max_cost_usd=100_000)
        if streaming:
            await app.read(layer, context=ACME)
        else:
            await app.answer(layer, context=ACME)
        assert used(app, layer) == cost * 1_000_000


async def test_a_stream_that_breaks_off_pays_for_what_had_arrived() -> None:
    app, layer = world(cut('some words', ' were said')), TenantBudget(max_cost_usd=100_000)
    await app.read(layer, context=ACME)
    cost = used(app, layer)
    assert READ * 1e6 < cost < (READ + 20) * 1e6


async def test_a_stream_that_is_left_pays_for_what_had_arrived() -> None:
    app, layer = world([TextDelta('one '), TextDelta('two')]), TenantBudget(max_tokens=100_000)
    async with no_leaks():
        stream = app.ai.generate_stream(prompt='hi', use=[layer], context=ACME)
        async for part in stream:
            if type(part) is TextDelta:
                break
        await stream.aclose()
    assert used(app, layer, 'tokens') == READ + 1


async def test_a_stream_that_is_left_before_anything_came_gives_back_all() -> None:
    app, layer, held = world(), TenantBudget(max_cost_usd=100_000), Holding()
    stream = app.ai.generate_stream(prompt='hi', use=[layer, held], context=ACME)
    task = asyncio.create_task(stream.response)
    await held.inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert used(app, layer) == 0


async def test_what_a_dead_process_had_set_aside_comes_back_and_is_told() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    layer = TenantBudget(max_cost_usd=100, hold_s=60, store=store)
    dead, held = world(clock=clock), Holding()
    task = asyncio.create_task(dead.answer(layer, held, context=ACME, config={'max_output_tokens': 40}))
    await held.inside.wait()
    alive = world(clock=clock)
    layer = TenantBudget(max_cost_usd=100, hold_s=60, store=store)
    assert isinstance(await call(alive, layer, said=40), Rejected)
    await clock.advance(240)
    assert (await call(alive, layer, said=40)).text == 'ok'
    (event,) = alive.sink.named('tenant_budget.reclaimed')
    assert event.facts == {'key': 'acme', 'cost_usd': READ + 80.0}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_window_that_ends_during_a_call_leaves_the_next_one_alone() -> None:
    clock = FakeClock()
    app, layer, held = world(clock=clock), TenantBudget(max_cost_usd=100, window_s=10), Holding()
    task = asyncio.create_task(app.answer(layer, held, context=ACME, config={'max_output_tokens': 1}))
    await held.inside.wait()
    await clock.advance(11)
    assert (await call(app, layer)).metadata['tenant_budget']['left_usd'] == 97.0
    held.go.set()
    await task
    assert used(app, layer) == 3_000_000


# ── other layers ────────────────────────────────────────────────────────────────────────────────────────────────────

ORDERS = ['brf', 'bfr', 'rbf', 'fbr', 'rfb', 'frb']


@pytest.mark.parametrize('order', ORDERS)
@pytest.mark.parametrize('streaming', [False, True], ids=['whole', 'streamed'])
async def test_attempts_and_fallbacks_are_counted_once_in_every_order(order: str, streaming: bool) -> None:
    prices = {'v/a': PRICES['v/*'], 'v/b': {'input_per_mtok': 10_000_000, 'output_per_mtok': 0}}
    scripts = {'v/a': [failed(), failed()] * 2, 'v/b': [failed(Usage(1, 0, 1)), answer()]}
    app = plain_world(scripts, prices=prices, check_order='ignore')
    layer = TenantBudget(max_cost_usd=100_000)
    layers = {'b': layer, 'r': Retry(max_retries=1, no_jitter=True), 'f': Fallback(models=['v/b'])}
    use = [layers[letter] for letter in order]
    if streaming:
        parts, error = await app.read(*use, context=ACME)
        assert error is None
        usage = end(parts).usage
    else:
        usage = (await app.answer(*use, context=ACME)).usage
    asked = app.asked
    dollars = 3 * asked.count('a') + 10 * asked.count('b')
    assert used(app, layer) == dollars * 1_000_000
    assert usage.cost_usd == dollars


@pytest.mark.parametrize('first', ['budget', 'tracking'])
async def test_with_cost_tracking_the_money_is_counted_once_and_by_its_prices(first: str) -> None:
    app = world()
    own = {'v/a': {'input_per_mtok': 7_000_000, 'output_per_mtok': 0}}
    layer, tracking = TenantBudget(max_cost_usd=100_000), CostTracking(prices=own)
    use = [layer, tracking] if first == 'budget' else [tracking, layer]
    response = await app.answer(*use, context=ACME)
    assert (response.usage.cost_usd, used(app, layer)) == (7.0, 7_000_000)


async def test_two_budgets_in_one_stack_each_hold() -> None:
    app = world()
    tenant = TenantBudget(max_cost_usd=100_000)
    user = TenantBudget(max_cost_usd=READ + 2, key=lambda params, ctx: ctx.context['user'], scope='user')
    context = {'tenant': 'acme', 'user': 'acme'}
    assert (await app.answer(tenant, user, context=context, config={'max_output_tokens': 1})).text == 'ok'
    refused = await app.answer(tenant, user, context=context, config={'max_output_tokens': 1})
    assert isinstance(refused, Rejected)
    assert (used(app, tenant), used(app, user)) == (3_000_000, 3_000_000)


async def test_layers_of_one_scope_share_and_of_another_do_not() -> None:
    app = world()
    await call(app, TenantBudget(max_cost_usd=READ + 2))
    assert isinstance(await call(app, TenantBudget(max_cost_usd=READ + 2)), Rejected)
    assert (await call(app, TenantBudget(max_cost_usd=READ + 2, scope='batch'))).text == 'ok'
    assert (await call(app, TenantBudget(max_cost_usd=READ + 2, window_s=60))).text == 'ok'


async def test_a_refusal_moves_fallback_on_and_is_not_retried() -> None:
    app = world()
    layer = TenantBudget(max_cost_usd=0)
    error = await app.answer(Retry(), layer, context=ACME)
    assert isinstance(error, Rejected)
    assert app.clock.slept == []


async def test_embeddings_are_paid_for() -> None:
    async def embed(request: Any, ctx: Any) -> EmbeddingResponse:
        return EmbeddingResponse(vectors=((1.0,),) * len(request.texts), usage=Usage(input_tokens=4))

    sink = CollectingSink()
    ai = Lamella(embedding_model=embed, sinks=[sink], prices={'*': PRICES['v/*']})
    layer = TenantBudget(max_cost_usd=9)
    response = await ai.embed('some text', use=[layer], context=ACME)
    assert response.metadata['tenant_budget'] == {'cost_usd': 4.0, 'tokens': 4, 'left_usd': 5.0}
    await ai.embed('some text', use=[layer], context=ACME)
    with pytest.raises(Rejected, match='max_cost_usd'):
        await ai.embed('some text', use=[layer], context=ACME)


async def test_an_embedding_that_fails_gives_back_all() -> None:
    async def embed(request: Any, ctx: Any) -> EmbeddingResponse:
        raise LamellaError('UNAVAILABLE', 'down')

    ai = Lamella(embedding_model=embed, prices={'*': PRICES['v/*']})
    layer = TenantBudget(max_cost_usd=100_000, reserve='worst_case')
    with pytest.raises(LamellaError, match='down'):
        await ai.embed('some text', use=[layer], context=ACME)
    assert used(World(ai, {}, CollectingSink(), FakeClock()), layer) == 0


# ── whose budget, whose prices ──────────────────────────────────────────────────────────────────────────────────────


async def test_calls_of_nobody_are_refused_unless_they_may_share() -> None:
    app = world()
    refused = await app.answer(TenantBudget(max_cost_usd=100))
    assert isinstance(refused, Rejected)
    assert refused.status == 'FAILED_PRECONDITION'
    assert "give context={'tenant': …}" in refused.message
    assert app.models['v/a'].requests == []
    assert (await app.answer(TenantBudget(max_cost_usd=100_000, unknown_tenant='share'))).text == 'ok'
    assert (await app.answer(TenantBudget(max_cost_usd=100_000, key=None))).text == 'ok'
    unnamed = await app.answer(TenantBudget(max_cost_usd=100, key=lambda params, ctx: None))
    assert 'key= gave no name' in unnamed.message


async def test_hostile_tenants_get_nobody_elses_budget() -> None:
    app, layer = world(), TenantBudget(max_cost_usd=READ + 2)
    names = [
        'acme',
        'acme:0',
        'acme\n',
        'Acme',
        ' acme',
        'a' * 10_000,
        'a' * 10_001,
        '\ud800',
        ':' + 'acme',
        '☃',
        'acme:1',
    ]
    for name in names:
        assert (await call(app, layer, tenant=name)).text == 'ok', name[:20]
    for name in names:
        refused = await call(app, layer, tenant=name)
        assert isinstance(refused, Rejected)
        assert len(refused.message) < 400
        assert '\n' not in refused.message


async def test_a_model_without_a_price_is_refused_with_the_fix_unless_only_its_tokens_shall_count() -> None:
    app = plain_world({'y/unknown': [answer()]}, repeat=True)
    refused = await call(app, TenantBudget(max_cost_usd=100))
    assert (refused.status, app.models['y/unknown'].requests) == ('FAILED_PRECONDITION', [])
    assert "no price is known for 'y/unknown', so that max_cost_usd cannot be held: give prices=" in refused.message
    allowed = await call(app, TenantBudget(max_cost_usd=100, max_tokens=100, unknown_price='ignore'))
    assert allowed.metadata['tenant_budget'] == {'cost_usd': 0.0, 'tokens': 2, 'left_usd': 100.0, 'left_tokens': 98}


async def test_prices_that_fail_refuse_the_call() -> None:
    class Broken:
        def cost(self, provider, model, usage, answered=None):
            raise RuntimeError('no such table')

    refused = await call(world(), TenantBudget(max_cost_usd=100, prices=Broken()))
    assert isinstance(refused, Rejected)


async def test_a_fallback_without_a_price_costs_what_the_first_model_would() -> None:
    scripts = {'v/a': [down()], 'y/unknown': [answer()]}
    app = plain_world(scripts, prices=PRICES, check_order='ignore')
    layer = TenantBudget(max_cost_usd=100_000)
    await app.answer(layer, Fallback(models=['y/unknown']), context=ACME)
    assert used(app, layer) == 3_000_000


async def test_no_prices_at_all_name_the_command(monkeypatch) -> None:
    monkeypatch.setattr(prices_module, 'find_spec', lambda name: None)
    app = plain_world({'v/a': [answer()]})
    error = await call(app, TenantBudget(max_cost_usd=100))
    assert isinstance(error, ConfigError)
    assert 'pip install' in str(error)


# ── the store away ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_budget_that_cannot_be_asked_refuses_and_says_so() -> None:
    store = Away(clock=FakeClock())
    store.is_away = True
    app = world()
    refused = await call(app, TenantBudget(max_cost_usd=100, store=store))
    assert (refused.status, refused.by) == ('UNAVAILABLE', 'tenant_budget')
    assert [event.facts['action'] for event in app.sink.named('store.away')] == ['refuse']
    assert app.models['v/a'].requests == []


async def test_or_allows_and_counts_later() -> None:
    store = Away(clock=FakeClock())
    store.is_away = True
    app, layer = world(), TenantBudget(max_cost_usd=100, store=store, on_store_error='allow')
    response = await call(app, layer)
    assert response.metadata['tenant_budget'] == {'cost_usd': 3.0, 'tokens': 2}
    assert [event.facts['action'] for event in app.sink.named('store.away')] == ['allow']
    store.is_away = False
    assert (await call(app, layer)).metadata['tenant_budget']['left_usd'] == 94.0


@pytest.mark.parametrize('streaming', [False, True], ids=['whole', 'streamed'])
async def test_a_store_that_goes_away_during_the_call_harms_no_answer_and_loses_nothing(streaming: bool) -> None:
    clock = FakeClock()
    store = Away(clock=clock)

    def goes(request: Any) -> Any:
        store.is_away = True
        return answer()

    app = world(goes, answer(), answer(), clock=clock)
    layer = TenantBudget(max_cost_usd=100_000, store=store, hold_s=60)
    if streaming:
        parts, error = await app.read(layer, context=ACME)
        assert error is None
        assert end(parts).metadata['tenant_budget'] == {'cost_usd': 3.0, 'tokens': 2}
    else:
        assert (await call(app, layer)).text == 'ok'
    store.is_away = False
    await call(app, layer)
    await clock.advance(300)
    assert (await call(app, layer)).metadata['tenant_budget']['left_usd'] == 99_991.0


# ── settings ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('wrong', 'says'),
    [
        ({}, 'limits nothing: give max_cost_usd, max_tokens or both'),
        ({'max_cost_usd': -1}, 'max_cost_usd'),
        ({'max_cost_usd': '5'}, 'max_cost_usd'),
        ({'max_tokens': 1.5}, 'max_tokens'),
        ({'max_tokens': 1, 'window_s': 0}, 'window_s'),
        ({'max_tokens': 1, 'hold_s': 0}, 'hold_s'),
        ({'max_tokens': 1, 'key': 'tenent'}, "did you mean 'tenant'"),
        ({'max_tokens': 1, 'reserve': 'all'}, 'reserve'),
        ({'max_tokens': 1, 'prices': {'v/a': 5}}, r"prices\['v/a'\] is 5"),
        ({'max_tokens': 1, 'store': 'rediss:x'}, 'store'),
        ({'max_token': 1}, "'max_token': did you mean 'max_tokens'"),
    ],
)
def test_wrong_settings_are_found_when_it_is_built(wrong: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        TenantBudget(**wrong)


def test_an_app_of_a_scripted_model_needs_only_a_price() -> None:
    ai = Lamella(model=ScriptedModel([answer(USED)], name='v/a'), prices=PRICES)
    assert ai.sync.generate(prompt='hi', use=[TenantBudget(max_cost_usd=5000)], context=ACME).text == 'ok'
    ai.sync.close()
