"""`Cache`: what is identical, what is kept, who waits for whom, and what is never shared."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import Lamella, LamellaError, ModelResponse, Usage, wrap_language_model
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.models import ModelRef
from lamella.middleware import Cache, CostTracking, Fallback, RateLimit, Retry, SimulateStreaming, TenantBudget
from lamella.middleware._answers import VERSION, Kept, decoded, encoded, key_of_request
from lamella.middleware._cached import Ask
from lamella.stores.memory import MemoryStore
from lamella.testing import CollectingSink, FakeClock, ScriptedModel
from lamella.types import (
    ConfigError,
    DataPart,
    EmbeddingResponse,
    Finished,
    GenerationConfig,
    MediaPart,
    Message,
    ModelRequest,
    ReasoningPart,
    Rejected,
    Source,
    TextDelta,
    TextPart,
    ToolChoice,
    ToolDefinition,
    ToolRequest,
    ToolRequestPart,
    to_messages,
)
from tests.middleware.cost.kit import PRICES, USED, Away, answer, failed
from tests.middleware.kit import World, cut, down, end, folds_to, no_leaks, same_answer
from tests.middleware.kit import world as plain_world

RICH = ModelResponse(
    message=Message(
        'assistant',
        (
            ReasoningPart('thinking', 'sig', metadata={'v': {'n': 1}}),
            ReasoningPart('', None, True, {'v': {'data': 'opaque'}}),
            TextPart('some text', {'v': {'cited': [1, 2]}}),
            MediaPart(data=b'\x00\xff', content_type='image/png'),
            DataPart({'type': 'server_tool', 'n': None}),
            TextPart('and more'),
        ),
    ),
    finish_reason='stop',
    finish_message='done',
    usage=Usage(3, 4, 7, 1, 2),
    model='v/a-2025',
    id='id-1',
    sources=(Source('http://x', 'X', 'cited'),),
    metadata={'v': {'safety': [{'category': 'none'}]}},
    warnings=('seed is not supported',),
)


def world(*answers: Any, repeat: bool = False, **options: Any) -> World:
    return plain_world(
        {'v/a': list(answers) or [answer()]}, repeat=repeat or not answers, check_order='ignore', **options
    )


def note(response: Any) -> Any:
    return response.metadata['cache']


def calls(app: World) -> int:
    return len(app.models['v/a'].requests)


# ── an answer that is given again ───────────────────────────────────────────────────────────────────────────────────


async def test_an_identical_request_is_answered_without_a_call_and_without_a_price() -> None:
    app, layer = world(answer(USED, 'first'), answer(USED, 'second'), prices=PRICES), Cache()
    use = [CostTracking(), layer]
    first = await app.answer(*use)
    await app.clock.advance(10)
    again = await app.answer(*use)
    assert (again.text, calls(app)) == ('first', 1)
    assert note(first) == {'hit': False, 'stored': True}
    saved = {'input_tokens': 1, 'output_tokens': 1, 'total_tokens': 2, 'cost_usd': 3.0}
    assert note(again) == {'hit': True, 'age_s': 10.0, 'saved': saved}
    assert again.usage == Usage(0, 0, 0, cost_usd=0.0)
    assert again.metadata == {'cache': note(again)}
    assert (again.model, again.finish_reason) == (first.model, 'stop')


@pytest.mark.parametrize('first', ['whole', 'streamed'])
@pytest.mark.parametrize('second', ['whole', 'streamed'])
async def test_an_answer_comes_back_as_it_was_in_either_mode(first: str, second: str) -> None:
    app, layer = world(RICH), Cache()

    async def ask(mode: str) -> Any:
        if mode == 'whole':
            return await app.ai.generate(prompt='hi', use=[layer])
        stream = app.ai.generate_stream(prompt='hi', use=[layer])
        parts = [part async for part in stream]
        response = await stream.response
        folds_to(parts, response)
        return response

    one, two = await ask(first), await ask(second)
    assert calls(app) == 1
    assert two.message == one.message == RICH.message
    for field in ('finish_reason', 'finish_message', 'model', 'id', 'sources', 'warnings', 'text', 'reasoning'):
        assert getattr(two, field) == getattr(one, field), field
    assert two.metadata == {'v': RICH.metadata['v'], 'cache': note(two)}


async def test_a_miss_is_the_same_in_both_modes() -> None:
    whole = await world(RICH).ai.generate(prompt='hi', use=[Cache()])
    stream = world(RICH).ai.generate_stream(prompt='hi', use=[Cache()])
    parts = [part async for part in stream]
    same_answer(await stream.response, whole)
    folds_to(parts, whole)


async def test_a_stream_is_passed_on_as_it_comes() -> None:
    app = world([TextDelta('one '), TextDelta('two')])
    stream = app.ai.generate_stream(prompt='hi', use=[Cache()])
    async for part in stream:
        if type(part) is TextDelta:
            assert app.models['v/a'].pulled == 1
            break
    await stream.aclose()


async def test_an_answer_grows_old() -> None:
    app, layer = world(answer(text='first'), answer(text='second')), Cache(ttl_s=60)
    await app.answer(layer)
    await app.clock.advance(59)
    assert (await app.answer(layer)).text == 'first'
    await app.clock.advance(1)
    assert (await app.answer(layer)).text == 'second'


async def test_what_layers_noted_of_the_first_call_is_not_said_of_the_second() -> None:
    app = world(down(), answer(metadata={'v': 1}))
    layer = Cache()
    first = await app.answer(layer, Retry(no_jitter=True))
    assert set(first.metadata) == {'v', 'retry', 'cache'}
    assert set((await app.answer(layer, Retry())).metadata) == {'v', 'cache'}


async def test_a_wrong_clock_makes_no_answer_younger_than_new() -> None:
    store, behind = MemoryStore(clock=FakeClock()), FakeClock(wall=1_800_000_000.0 - 3600)
    app, late = world(store=store), world(store=store, clock=behind)
    await app.answer(Cache())
    assert note(await late.answer(Cache()))['age_s'] == 0.0


# ── what is identical ───────────────────────────────────────────────────────────────────────────────────────────────

BASE: dict[str, Any] = {
    'prompt': 'hi',
    'system': 's',
    'config': {'temperature': 0.5},
    'provider_options': {'v': {'b': {'y': 1, 'x': 2}, 'a': [1]}},
    'output_schema': {'type': 'object', 'properties': {'a': {'type': 'string'}, 'b': {'type': 'string'}}},
    'context': {'tenant': 'acme', 'user': 'ann', 'trace': 1},
}


def base(**changes: Any) -> dict[str, Any]:
    return {**BASE, **changes}


@pytest.mark.parametrize(
    'change',
    [
        {'prompt': 'ho'},
        {'prompt': ['hi', 'ho']},
        {'system': 'S'},
        {'config': {'temperature': 0.6}},
        {'config': {'temperature': 0.5, 'seed': 1}},
        {'provider_options': {'v': {'b': {'y': 1, 'x': 3}, 'a': [1]}}},
        {'provider_options': {'v': {'b': {'y': 1, 'x': 2}, 'a': [True]}}},
        {'output_schema': {'type': 'object'}},
        {'context': {'tenant': 'other', 'user': 'ann'}},
        {'context': {'tenant': 'acme', 'user': 'bob'}},
        {'context': {'user': 'ann'}},
        {'messages': ['before']},
        {'model': 'v/b'},
    ],
    ids=str,
)
async def test_what_differs_is_asked_anew(change: Any) -> None:
    ok = answer(text='{}')
    app = plain_world({'v/a': [ok], 'v/b': [ok]}, repeat=True)
    layer = Cache(vary=['user'])
    await app.ai.generate(**base(), use=[layer])
    await app.ai.generate(**base(**change), use=[layer])
    assert len(app.asked) == 2
    await app.ai.generate(**base(**change), use=[layer])
    assert len(app.asked) == 2


async def test_the_order_of_keys_and_what_is_never_sent_do_not_matter() -> None:
    app, layer = world(answer(text='{}')), Cache(vary=['user'])
    await app.ai.generate(**base(), use=[layer])
    turned = base(
        provider_options={'v': {'a': [1], 'b': {'x': 2, 'y': 1}}},
        output_schema={'properties': {'b': {'type': 'string'}, 'a': {'type': 'string'}}, 'type': 'object'},
        context={'trace': 2, 'user': 'ann', 'tenant': 'acme'},
    )
    assert note(await app.ai.generate(**turned, use=[layer]))['hit']


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(allow_nan=False), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


MODEL = ScriptedModel(name='v/a')


@given(values, values)
def test_two_requests_have_one_key_when_they_are_one_json_value(a: Any, b: Any) -> None:
    def key(value: Any) -> str | None:
        request = ModelRequest(to_messages(['hi']), tools=(ToolDefinition('t', input_schema={'v': value}),))
        return key_of_request(request, MODEL, [])

    assert key(a) == key(reversed_keys(a))
    same = msgspec.json.encode(a, order='deterministic') == msgspec.json.encode(b, order='deterministic')
    assert (key(a) == key(b)) == same


@pytest.mark.parametrize(
    'other',
    [
        {'tool_choice': ToolChoice('required')},
        {'tools': (ToolDefinition('u'),)},
        {'tools': (ToolDefinition('t', 'described'),)},
        {'messages': (Message.assistant('hi'),)},
        {'messages': (Message.user('h', 'i'),)},
        {'messages': (Message.user(MediaPart(data=b'hi', content_type='text/plain')),)},
        {'messages': (Message.user(MediaPart(url='hi')),)},
        {'config': GenerationConfig(stop_sequences=('a',))},
    ],
    ids=str,
)
def test_no_part_of_a_request_is_left_out_of_the_key(other: Any) -> None:
    request = ModelRequest(to_messages(['hi']), tools=(ToolDefinition('t'),))
    assert key_of_request(request, MODEL, []) != key_of_request(request.replace(**other), MODEL, [])


async def test_a_models_own_settings_and_layers_are_part_of_the_key() -> None:
    app, layer = world(), Cache()
    model = app.models['v/a']
    fixed = wrap_language_model(model=model, middleware=Retry())
    for one in (
        'v/a',
        ModelRef('v/a', {'temperature': 0}),
        ModelRef('v/a', {'temperature': 1}),
        fixed,
        wrap_language_model(model=model, middleware=Retry(max_retries=1)),
        wrap_language_model(model=ModelRef('v/a', {'seed': 1}), middleware=Retry()),
        wrap_language_model(model=ModelRef('v/a', {'seed': 2}), middleware=Retry()),
    ):
        before = calls(app)
        assert not note(await app.answer(layer, model=one))['hit']
        assert note(await app.answer(layer, model=one))['hit']
        assert calls(app) == before + 1
    assert note(await app.answer(layer, config={'temperature': 1}))['hit']  # it is what the reference says


async def test_a_model_that_only_simulates_streams_has_its_own_settings_in_the_key() -> None:
    app, use = world(), [SimulateStreaming(), Cache()]
    for seed in (1, 2):
        assert not note(
            await app.ai.generate_stream(prompt='hi', use=use, model=ModelRef('v/a', {'seed': seed})).response
        )['hit']
    assert calls(app) == 2


async def test_scopes_are_apart_and_instances_of_one_are_not() -> None:
    app = world()
    await app.answer(Cache())
    assert note(await app.answer(Cache()))['hit']
    assert not note(await app.answer(Cache(scope='other')))['hit']


async def test_what_cannot_be_compared_is_asked_and_said() -> None:
    app, layer = world(), Cache()
    for _ in range(2):
        response = await app.answer(layer, context={'tenant': object()})
        assert 'cache' not in response.metadata
    assert calls(app) == 2
    assert [event.facts['reason'] for event in app.sink.named('cache.skipped')] == ['request'] * 2


async def test_tenants_never_see_each_others_answers() -> None:
    app, layer = world(), Cache()
    names = [None, 'acme', 'ACME', ' acme', 'acme\x00', 'a' * 10_000, 1, '1', True, ['acme'], {'a': 1}, '']
    for name in names:
        assert not note(await app.answer(layer, context={'tenant': name}))['hit'], name
    for name in names:
        assert note(await app.answer(layer, context={'tenant': name}))['hit'], name


# ── what is kept ────────────────────────────────────────────────────────────────────────────────────────────────────

ASKS = ModelResponse(
    message=Message('assistant', (ToolRequestPart(ToolRequest('look', {}, 'r-1')),)),
    finish_reason='tool_calls',
    usage=USED,
)


@pytest.mark.parametrize(
    ('given_', 'reason'),
    [
        (answer(finish_reason='length'), 'length'),
        (answer(finish_reason='blocked'), 'blocked'),
        (answer(finish_reason='other'), 'other'),
        (answer(finish_reason='unknown'), 'unknown'),
        (ModelResponse(), 'empty'),
        (ASKS, 'tool_requests'),
        (ASKS.replace(finish_reason='length'), 'tool_requests'),
        (answer(metadata={'v': object()}), 'unwritable'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
@pytest.mark.parametrize('streaming', [False, True], ids=['whole', 'streamed'])
async def test_what_is_not_for_others_is_not_kept(given_: ModelResponse, reason: str, streaming: bool) -> None:
    app, layer = world(given_, repeat=True), Cache()
    for _ in range(2):
        if streaming:
            parts, _ = await app.read(layer, max_turns=1)
            assert end(parts).metadata['cache'] == {'hit': False, 'stored': False}
        else:
            assert note(await app.answer(layer, max_turns=1)) == {'hit': False, 'stored': False}
    assert calls(app) == 2
    assert [event.facts['reason'] for event in app.sink.named('cache.skipped')] == [reason] * 2


@pytest.mark.parametrize('streaming', [False, True], ids=['whole', 'streamed'])
@pytest.mark.parametrize('failure', [down(), cut('some text'), failed()])
async def test_errors_are_never_kept(failure: Any, streaming: bool) -> None:
    app, layer = world(failure, answer()), Cache()
    if streaming:
        assert (await app.read(layer))[1] is not None
    else:
        assert isinstance(await app.answer(layer), LamellaError)
    assert (await app.answer(layer)).text == 'ok'
    assert calls(app) == 2


async def test_a_stream_that_is_left_is_not_kept() -> None:
    app, layer = world([TextDelta('one '), TextDelta('two')], answer()), Cache()
    async with no_leaks():
        stream = app.ai.generate_stream(prompt='hi', use=[layer])
        async for part in stream:
            if type(part) is TextDelta:
                break
        await stream.aclose()
    assert (await app.answer(layer)).text == 'ok'


async def test_a_stream_is_kept_before_its_end_is_read() -> None:
    app, layer = world(), Cache()
    stream = app.ai.generate_stream(prompt='hi', use=[layer])
    async for part in stream:
        if type(part) is Finished:
            break
    await stream.aclose()
    assert note(await app.answer(layer))['hit']


async def test_a_fallbacks_answer_does_not_outlive_the_outage() -> None:
    app = plain_world({'v/a': [down(), answer(text='a')], 'v/b': [answer(text='b')]}, check_order='ignore')
    layer, fallback = Cache(), Fallback(models=['v/b'])
    assert (await app.answer(layer, fallback)).text == 'b'
    assert (await app.answer(layer, fallback)).text == 'a'
    assert [event.facts['reason'] for event in app.sink.named('cache.skipped')] == ['fallback']


async def test_inside_of_fallback_each_model_has_its_answers() -> None:
    app = plain_world({'v/a': [down(), down()], 'v/b': [answer(text='b')]}, check_order='ignore')
    layer, fallback = Cache(), Fallback(models=['v/b'])
    assert [(await app.answer(fallback, layer)).text for _ in range(2)] == ['b', 'b']
    assert app.asked == 'aba'


async def test_text_where_json_was_asked_for_is_not_kept() -> None:
    app, layer = world(answer(text='Sure! {"a"'), answer(text='{"a": 1}')), Cache()
    options: Any = {'output_format': 'json'}
    await app.answer(layer, **options)
    assert (await app.answer(layer, **options)).output == {'a': 1}
    assert note(await app.answer(layer, **options))['hit']
    fenced = world(answer(text='```json\n{"a": 1}\n```'))
    assert note(await fenced.answer(layer, **options))['stored']


def look() -> str:
    looked.append(1)
    return 'seen'


looked: list[int] = []


async def test_tool_requests_are_kept_where_that_is_wanted_and_have_new_ids() -> None:
    app, layer = world(ASKS, answer(text='one'), answer(text='two')), Cache(tool_requests=True)
    looked.clear()
    first = await app.answer(layer, tools=[look])
    second = await app.answer(layer, tools=[look])
    assert (first.text, second.text, len(looked)) == ('one', 'two', 2)
    (a,), (b,) = first.turns[0].tool_requests, second.turns[0].tool_requests
    assert a.tool_request.ref == 'r-1'
    assert b.tool_request.ref != 'r-1'
    assert b.tool_request.ref.startswith('call_')
    assert second.turns[0].tool_responses[0].tool_response.ref == b.tool_request.ref


async def test_a_temperature_may_be_too_warm() -> None:
    app, layer = world(), Cache(max_temperature=0)
    for config, kept in (({'temperature': 0}, True), ({'temperature': 0.1}, False), ({}, False)):
        before = calls(app)
        for _ in range(2):
            await app.answer(layer, config=config)
        assert calls(app) - before == (1 if kept else 2), config


async def test_a_function_decides_which_calls_are_the_caches_business() -> None:
    app, layer = world(), Cache(when=lambda params, ctx: ctx.context.get('fresh') is not True)
    await app.answer(layer)
    assert note(await app.answer(layer))['hit']
    assert 'cache' not in (await app.answer(layer, context={'fresh': True})).metadata
    assert calls(app) == 2


async def test_a_text_that_is_gone_on_with_is_neither_kept_nor_looked_for() -> None:
    app, layer = world(cut('some '), answer(text='text'), answer(text='whole')), Cache()
    parts, error = await app.read(Retry(on_partial='continue', no_jitter=True), layer)
    assert error is None
    assert 'cache' not in end(parts).metadata
    assert (await app.answer(layer)).text == 'whole'


async def test_the_latest_used_are_kept() -> None:
    store = MemoryStore(clock=FakeClock())
    app, layer = world(store=store), Cache(max_size=2)

    async def hit(text: str) -> bool:
        return bool(note(await app.ai.generate(prompt=text, use=[layer]))['hit'])

    assert [await hit(text) for text in 'abacbca'] == [False, False, True, False, False, True, False]
    assert len(store._tables['value']) == 2


async def test_an_unbounded_cache_keeps_all() -> None:
    app, layer = world(), Cache(max_size=None)
    for number in range(50):
        await app.ai.generate(prompt=str(number), use=[layer])
    assert len(app.ai.resolve_store(None)) == 50


# ── one call for all ────────────────────────────────────────────────────────────────────────────────────────────────


class Gate:
    """A model whose calls wait until they are let go, each with what it shall answer."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[Any]] = []

    async def __call__(self, request: Any, ctx: Any) -> ModelResponse:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        result: ModelResponse = await future
        return result

    def open(self, number: int, result: Any) -> None:
        if isinstance(result, BaseException):
            self.waiting[number].set_exception(result)
        else:
            self.waiting[number].set_result(result)


async def settled(turns: int = 30) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


class Apps:
    """Some apps that share a store and a model, as processes would."""

    def __init__(self, count: int = 1, **settings: Any) -> None:
        self.gate, self.clock = Gate(), FakeClock(auto=False)
        self.store = MemoryStore(clock=self.clock)
        self.sink = CollectingSink()
        self.ais = [
            Lamella(model=self.gate, store=self.store, clock=self.clock, sinks=[self.sink]) for _ in range(count)
        ]
        self.layers = [Cache(**settings) for _ in range(count)]
        self.tasks: list[asyncio.Task[Any]] = []

    def ask(self, app: int = 0, streaming: bool = False, **options: Any) -> asyncio.Task[Any]:
        options = {'prompt': 'hi', 'use': [self.layers[app]], **options}
        call = self.ais[app].generate_stream(**options).response if streaming else self.ais[app].generate(**options)
        task = asyncio.ensure_future(call)
        self.tasks.append(task)
        return task

    async def results(self) -> list[Any]:
        return await asyncio.gather(*self.tasks, return_exceptions=True)

    @property
    def asked(self) -> int:
        return len(self.gate.waiting)

    def nothing_is_left(self) -> bool:
        return all(len(answers.flights) == 0 for layer in self.layers for answers in layer._answers.values())


@pytest.mark.parametrize('streaming', [False, True], ids=['whole', 'streamed'])
async def test_of_many_at_once_one_asks(streaming: bool) -> None:
    apps = Apps()
    async with no_leaks():
        for number in range(100):
            apps.ask(streaming=streaming and number % 2 == 0)
        await settled()
        assert apps.asked == 1
        apps.gate.open(0, answer())
        results = await apps.results()
    assert apps.asked == 1
    assert [result.text for result in results] == ['ok'] * 100
    assert sum(result.usage.total_tokens for result in results) == 2  # paid for once
    assert sum(note(result).get('shared', False) for result in results) == 99
    assert apps.nothing_is_left()


async def test_processes_wait_for_each_other_too() -> None:
    apps = Apps(3)
    async with no_leaks():
        for number in range(30):
            apps.ask(number % 3)
        await settled()
        assert apps.asked == 1
        apps.gate.open(0, answer())
        await settled()
        await apps.clock.advance(1)
        results = await apps.results()
    assert [result.text for result in results] == ['ok'] * 30
    assert apps.asked == 1
    assert apps.nothing_is_left()


@pytest.mark.parametrize('count', [1, 3], ids=['one process', 'three processes'])
async def test_when_who_asks_is_cancelled_another_one_takes_over(count: int) -> None:
    apps = Apps(count)
    async with no_leaks():
        first = apps.ask(0)
        await settled()
        for number in range(9):
            apps.ask(number % count)
        await settled()
        first.cancel()
        await settled()
        await apps.clock.advance(1)
        await settled()
        assert apps.asked == 2
        apps.gate.open(1, answer())
        await settled()
        await apps.clock.advance(1)
        results = await apps.results()
    assert isinstance(results[0], asyncio.CancelledError)
    assert [result.text for result in results[1:]] == ['ok'] * 9
    assert apps.asked == 2
    assert apps.nothing_is_left()


async def test_when_who_asks_fails_another_one_takes_over() -> None:
    apps = Apps()
    for _ in range(10):
        apps.ask()
    await settled()
    apps.gate.open(0, LamellaError('UNAVAILABLE', 'down'))
    await settled()
    assert apps.asked == 2
    apps.gate.open(1, answer())
    results = await apps.results()
    assert isinstance(results[0], LamellaError)
    assert [result.text for result in results[1:]] == ['ok'] * 9


async def test_when_two_have_failed_those_who_waited_for_both_fail_with_them() -> None:
    apps = Apps()
    for _ in range(10):
        apps.ask()
    await settled()
    apps.gate.open(0, LamellaError('UNAVAILABLE', 'down'))
    await settled()
    apps.gate.open(1, LamellaError('UNAVAILABLE', 'still down', retry_after_s=7))
    results = await apps.results()
    assert [result.message for result in results] == ['down', *['still down'] * 9]
    assert {result.retry_after_s for result in results[1:]} == {7}
    assert len(set(map(id, results))) == 10
    assert apps.asked == 2
    assert apps.nothing_is_left()


async def test_who_waits_for_an_answer_that_is_not_for_others_asks_at_once() -> None:
    apps = Apps(2)
    for number in range(10):
        apps.ask(number % 2)
    await settled()
    assert apps.asked == 1
    apps.gate.open(0, answer(finish_reason='length'))
    await settled()
    assert apps.asked == 5  # all of this process, at the same time
    await apps.clock.advance(1)
    await settled()
    assert apps.asked == 10
    for number in range(1, 10):
        apps.gate.open(number, answer(finish_reason='length'))
    assert [result.finish_reason for result in await apps.results()] == ['length'] * 10
    assert apps.nothing_is_left()


@pytest.mark.parametrize('count', [1, 2], ids=['one process', 'two processes'])
async def test_nobody_waits_longer_than_he_is_willing_to(count: int) -> None:
    apps = Apps(count, wait_s=5)
    apps.ask(0)
    await settled()
    apps.ask(count - 1)
    await settled()
    assert apps.asked == 1
    for _ in range(12):
        await apps.clock.advance(0.5)
        await settled()
    assert apps.asked == 2
    apps.gate.open(1, answer(text='mine'))
    assert (await apps.tasks[1]).text == 'mine'
    apps.gate.open(0, answer(text='first'))
    assert (await apps.tasks[0]).text == 'first'
    assert apps.nothing_is_left()


async def test_a_call_that_waits_holds_to_its_own_deadline() -> None:
    apps = Apps()
    apps.ask()
    await settled()
    late = apps.ask(timeout_s=5)
    await settled()
    await apps.clock.advance(5)
    with pytest.raises(LamellaError, match='timeout_s=5'):
        await late
    apps.gate.open(0, answer())
    assert (await apps.tasks[0]).text == 'ok'
    assert apps.nothing_is_left()


async def test_a_slow_reader_keeps_nobody_waiting_once_the_answer_is_there() -> None:
    app, layer = world([TextDelta('one '), TextDelta('two'), Finished('stop', USED)]), Cache()
    stream = app.ai.generate_stream(prompt='hi', use=[layer])
    async for part in stream:
        if type(part) is Finished:
            assert (await app.answer(layer)).text == 'one two'
            break
    await stream.aclose()


async def test_a_reader_who_leaves_lets_the_next_one_ask() -> None:
    app, layer = world([TextDelta('one '), TextDelta('two')], answer()), Cache()
    async with no_leaks():
        stream = app.ai.generate_stream(prompt='hi', use=[layer])
        parts = aiter(stream)
        while type(await anext(parts)) is not TextDelta:
            pass
        waiting = asyncio.create_task(app.answer(layer))
        await settled()
        assert calls(app) == 1
        await stream.aclose()
        assert (await waiting).text == 'ok'


async def test_the_lease_of_a_process_that_died_ends_by_itself() -> None:
    apps = Apps(lease_s=15)
    key = await key_in(apps)
    assert await apps.store.acquire(key, 15) is not None  # and whoever has it is gone
    apps.ask()
    await settled()
    await apps.clock.advance(14)
    await settled()
    assert apps.asked == 0
    await apps.clock.advance(2)
    await settled()
    assert apps.asked == 1
    apps.gate.open(0, answer())
    assert (await apps.tasks[0]).text == 'ok'


async def key_in(apps: Apps) -> str:
    """The key of the request that `Apps.ask` makes."""
    task = apps.ask()
    await settled()
    (event,) = apps.sink.named('cache.miss')
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    apps.tasks.clear()
    apps.gate.waiting.clear()
    return str(event.facts['key'])


async def test_a_call_that_takes_longer_than_the_lease_keeps_it() -> None:
    apps = Apps(2, lease_s=3, wait_s=600)
    async with no_leaks():
        apps.ask(0)
        await settled()
        apps.ask(1)
        for _ in range(60):
            await apps.clock.advance(0.5)
            await settled()
        assert apps.asked == 1
        apps.gate.open(0, answer())
        await settled()
        await apps.clock.advance(1)
        assert [result.text for result in await apps.results()] == ['ok', 'ok']
    assert apps.asked == 1


async def test_different_requests_do_not_wait_for_each_other() -> None:
    apps = Apps()
    for number in range(5):
        apps.ask(prompt=str(number))
    await settled()
    assert apps.asked == 5
    for number in range(5):
        apps.gate.open(number, answer(text=str(number)))
    assert [result.text for result in await apps.results()] == list('01234')


async def test_a_program_error_is_the_callers_own() -> None:
    apps = Apps()
    for _ in range(2):
        apps.ask()
    await settled()
    apps.gate.open(0, TypeError('a bug'))
    await settled()
    apps.gate.open(1, answer())
    results = await apps.results()
    assert isinstance(results[0], TypeError)
    assert results[1].text == 'ok'


# ── old answers ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('count', [1, 2], ids=['one process', 'two processes'])
async def test_one_asks_anew_while_the_others_get_the_old_answer(count: int) -> None:
    apps = Apps(count, ttl_s=60, stale_s=600)
    apps.ask()
    await settled()
    apps.gate.open(0, answer(text='old'))
    await apps.results()
    await apps.clock.advance(60)
    for number in range(10):
        apps.ask(number % count)
    await settled()
    assert apps.asked == 2
    done = [task for task in apps.tasks if task.done()]
    assert len(done) == 10
    assert [task.result().text for task in done] == ['old'] * 10
    assert all(note(task.result()).get('stale') for task in done[1:])
    apps.gate.open(1, answer(text='new'))
    assert [result.text for result in await apps.results()].count('new') == 1
    assert (await apps.ask()).text == 'new'
    await apps.clock.advance(59)
    assert (await apps.ask()).text == 'new'
    assert apps.asked == 2
    assert apps.nothing_is_left()


@pytest.mark.parametrize('streaming', [False, True], ids=['whole', 'streamed'])
async def test_an_old_answer_is_better_than_an_error(streaming: bool) -> None:
    app, layer = world(answer(text='old'), down(), answer(text='new')), Cache(ttl_s=60, stale_s=600, lease_s=15)

    async def text() -> str:
        if streaming:
            return (await app.ai.generate_stream(prompt='hi', use=[layer]).response).text
        return str((await app.answer(layer)).text)

    assert await text() == 'old'
    await app.clock.advance(100)
    assert await text() == 'old'
    assert calls(app) == 2
    assert app.sink.named('cache.stale')[0].facts['error'].status == 'UNAVAILABLE'
    assert await text() == 'old'  # for a while nobody asks
    assert calls(app) == 2
    await app.clock.advance(16)
    assert await text() == 'new'
    await app.clock.advance(700)
    assert calls(app) == 3


async def test_a_stream_that_began_anew_fails_when_it_breaks_off() -> None:
    app, layer = world(answer(text='old'), cut('new '), answer(text='newer')), Cache(ttl_s=60, stale_s=600)
    await app.answer(layer)
    await app.clock.advance(61)
    _, error = await app.read(layer)
    assert error is not None
    assert (await app.answer(layer)).text == 'newer'


async def test_an_answer_that_is_too_old_is_gone() -> None:
    app, layer = world(answer(text='old'), answer(text='new')), Cache(ttl_s=60, stale_s=60)
    await app.answer(layer)
    await app.clock.advance(120)
    assert (await app.answer(layer)).text == 'new'


# ── the store ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('streaming', [False, True], ids=['whole', 'streamed'])
async def test_a_store_that_is_away_is_no_cache_and_no_obstacle(streaming: bool) -> None:
    store = Away(clock=FakeClock())
    store.is_away = True
    app, layer = world(store=store), Cache()
    if streaming:
        _, error = await app.read(layer)
        assert error is None
    else:
        assert note(await app.answer(layer)) == {'hit': False, 'stored': False}
    assert {event.facts['action'] for event in app.sink.named('store.away')} == {'allow'}
    assert app.clock.slept == []


async def test_a_store_that_is_away_still_leaves_one_call_for_all_of_this_process() -> None:
    apps = Apps()
    apps.store = Away(clock=apps.clock)
    apps.store.is_away = True
    apps.ais = [Lamella(model=apps.gate, store=apps.store, clock=apps.clock)]
    for _ in range(10):
        apps.ask()
    await settled()
    assert apps.asked == 1
    apps.gate.open(0, answer())
    assert [result.text for result in await apps.results()] == ['ok'] * 10


async def test_or_refuses_where_that_is_wanted() -> None:
    store = Away(clock=FakeClock())
    store.is_away = True
    app, layer = world(store=store), Cache(on_store_error='refuse')
    for _ in range(2):
        refused = await app.answer(layer)
        assert isinstance(refused, Rejected)
        assert (refused.status, refused.by) == ('UNAVAILABLE', 'cache')
    assert calls(app) == 0
    assert len(next(iter(layer._answers.values())).flights) == 0


def written(version: int = VERSION, key: str = 'KEY', **fields: Any) -> bytes:
    return msgspec.msgpack.encode({'version': version, 'key': key, 'at': 0.0, **fields})


EMPTY = {'role': 'assistant', 'content': []}


@pytest.mark.parametrize(
    'poison',
    [
        b'',
        b'\x00',
        b'{}',
        b'\xff' * 100,
        msgspec.msgpack.encode({'version': VERSION}),
        written(key='cache:other', answer={'message': EMPTY}),
        written(answer={'message': 'text'}),
        written(answer={'message': {**EMPTY, 'role': 'root'}}),
        written(VERSION + 1, answer={'message': EMPTY}),
    ],
    ids=range(9),
)
async def test_what_is_no_answer_is_not_there(poison: bytes) -> None:
    app, layer = world(), Cache()
    await app.answer(layer)
    (key,) = [event.facts['key'] for event in app.sink.named('cache.stored')]
    await app.ai.resolve_store(None).put(key, poison.replace(b'\xa3KEY', msgspec.msgpack.encode(key)))
    assert (await app.answer(layer)).text == 'ok'
    assert calls(app) == 2
    assert app.sink.named('cache.unreadable')
    assert note(await app.answer(layer))['hit']


@given(st.binary(max_size=200))
def test_no_bytes_are_an_exception(value: bytes) -> None:
    assert decoded(value, 'k') is None


def test_what_is_written_can_be_read() -> None:
    kept = Kept(VERSION, 'k', 1.5, RICH)
    assert decoded(encoded(kept), 'k') == kept
    assert decoded(encoded(kept), 'other') is None


# ── other layers ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('order', ['crft', 'rcft', 'rfct', 'tcrf', 'tfrc', 'ftrc'])
async def test_a_hit_costs_nothing_in_any_order(order: str) -> None:
    prices = {'v/*': {'input_per_mtok': 1_000_000, 'output_per_mtok': 0}}
    app = plain_world({'v/a': [failed(), answer()], 'v/b': [answer()]}, prices=prices, check_order='ignore')
    layers = {
        'c': Cache(),
        'r': Retry(max_retries=1, no_jitter=True),
        'f': Fallback(models=['v/b']),
        't': TenantBudget(max_cost_usd=100_000),
    }
    use = [CostTracking(), *[layers[letter] for letter in order]]
    context = {'tenant': 'acme'}
    first = await app.answer(*use, context=context)
    told = sum(event.facts['cost_usd'] for event in app.sink.named('cost.spent'))
    assert first.usage.cost_usd == told == len(app.asked)
    asked = app.asked
    second = await app.answer(*use, context=context)
    if app.asked == asked:
        assert second.usage.cost_usd == 0.0
    third = await app.answer(*use, context=context)
    assert third.usage.cost_usd == 0.0
    spent = sum(event.facts['cost_usd'] for event in app.sink.named('tenant_budget.settled'))
    assert spent == len(app.asked)


async def test_embeddings_are_kept_too() -> None:
    asked = []

    async def embed(request: Any, ctx: Any) -> EmbeddingResponse:
        asked.append(request.texts)
        return EmbeddingResponse(vectors=((0.5, 1.0),) * len(request.texts), usage=Usage(input_tokens=4))

    ai, layer = Lamella(embedding_model=embed), Cache()
    first = await ai.embed('some text', use=[layer])
    second = await ai.embed('some text', use=[layer])
    assert (second.vectors, len(asked)) == (first.vectors, 1)
    assert first.metadata['cache'] == {'hit': False, 'stored': True}
    assert second.metadata['cache']['hit']
    assert second.usage == Usage(0, 0, 0, cost_usd=0.0)
    await ai.embed('other text', use=[layer])
    assert len(asked) == 2


@pytest.mark.parametrize(
    ('wrong', 'says'),
    [
        ({'ttl_s': 0}, 'ttl_s'),
        ({'ttl_s': '5'}, 'ttl_s'),
        ({'max_size': 0}, 'max_size'),
        ({'lease_s': 0}, 'lease_s'),
        ({'vary': 'user'}, r"write a list of keys of context, such as \['user'\]"),
        ({'vary': [1]}, '1 is no key of context'),
        ({'when': True}, 'when: .*give a function'),
        ({'tool_requests': 1}, 'tool_requests'),
        ({'on_store_error': 'ignore'}, 'on_store_error'),
        ({'ttl': 5}, "'ttl': did you mean 'ttl_s'"),
    ],
)
def test_wrong_settings_are_found_when_it_is_built(wrong: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Cache(**wrong)


@pytest.mark.slow
async def test_a_hundred_thousand_answers_leave_nothing_behind() -> None:
    app, layer = world(), Cache(max_size=500)
    await app.answer(layer)
    (answers,) = layer._answers.values()
    ctx = GenerateMiddlewareContext(app.ai, clock=app.clock)
    for number in range(100_000):
        ask = await answers.find(f'cache:{number}', ctx)
        assert isinstance(ask, Ask)
        await answers.keep(ask, Kept(VERSION, ask.key, 0.0, answer()), ctx)
        await answers.store.release(ask.lease)
    store = app.ai.resolve_store(None)
    assert len(store) == 500
    await app.clock.advance(301)
    assert len(store) == 0
    assert (len(answers), len(answers.flights)) == (500, 0)


async def test_the_stack_that_the_page_recommends_stands_in_a_good_order() -> None:
    app = plain_world({'v/a': [answer()], 'v/b': []}, prices=PRICES, check_order='error')
    limits = [TenantBudget(max_cost_usd=100_000), RateLimit(max_calls=100, per_s=60)]
    use = [CostTracking(), Cache(), Fallback(models=['v/b']), Retry(), *limits]
    first, second = [await app.answer(*use, context={'tenant': 'acme'}) for _ in range(2)]
    assert (first.usage.cost_usd, second.usage.cost_usd, calls(app)) == (3.0, 0.0, 1)


@pytest.mark.parametrize('streamed', [False, True])
async def test_a_cache_inside_of_a_cache_does_not_wait_for_its_own_call(streamed: bool) -> None:
    clock = FakeClock()
    ai = Lamella(model=ScriptedModel(['one', 'two']), clock=clock, use=[Cache()])
    for _ in range(2):
        if streamed:
            answer = await ai.generate_stream(prompt='hi', use=[Cache()]).response
        else:
            answer = await ai.generate(prompt='hi', use=[Cache()])
        assert answer.text == 'one'
    assert clock.slept == []
