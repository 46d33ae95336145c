"""Idempotency: once for each key, whatever happens in between, and never again without the user's consent."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import warnings
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import Lamella, LamellaError, Message, ModelResponse, respond_to_tool, restart_tool
from lamella.core.order import OrderWarning
from lamella.middleware import BaseMiddleware, Idempotency, ToolApproval
from lamella.middleware._acts import Act, digest
from lamella.stores.memory import MemoryStore
from lamella.stores.sqlite import SQLiteStore
from lamella.testing import CollectingSink, FakeClock, ScriptedModel
from lamella.types import (
    ConfigError,
    Interrupt,
    MediaPart,
    Rejected,
    ToolError,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
)
from tests.middleware.kit import HeldClock, no_leaks


async def settled(rounds: int = 50) -> None:
    for _ in range(rounds):
        await asyncio.sleep(0)


class Till:
    """A tool `pay`, with what it did; `behave` is what happens inside of it."""

    def __init__(self, behave: Any = None) -> None:
        self.paid: list[Any] = []
        self.behave = behave

    async def pay(self, amount: float = 10, to: str = 'ann') -> Any:
        self.paid.append((amount, to))
        result = self.behave() if self.behave is not None else f'paid {amount:g} to {to}'
        return await result if asyncio.iscoroutine(result) else result


class Shop:
    """An app whose model asks for `pay` once and then is done."""

    def __init__(self, till: Till, *, clock: Any = None, store: Any = None) -> None:
        self.till, self.sink = till, CollectingSink()
        self.clock = clock or FakeClock()
        self.store = MemoryStore(clock=self.clock) if store is None else store
        self.use: list[Any] = [Idempotency(tools=['pay'])]

    async def buy(self, *inputs: Any, **options: Any) -> Any:
        """One run with a tool call for each input. The tools' responses, or the error."""
        asked = [ToolRequest('pay', given, f'r{n}') for n, given in enumerate(inputs or ({'amount': 10},))]
        ai = self.app(asked)
        try:
            response = await ai.generate(prompt='go', tools=[self.till.pay], use=self.use, **options)
        except LamellaError as error:
            return error
        return response if response.interrupts else [part.tool_response for part in response.turns[0].tool_responses]

    def app(self, asked: Any) -> Lamella:
        return Lamella(model=ScriptedModel([asked, 'done']), clock=self.clock, store=self.store, sinks=[self.sink])

    def told(self, name: str) -> list[Any]:
        return [event.facts.get('reason') for event in self.sink.named(f'idempotency.{name}')]


class TestOnce:
    async def test_a_second_call_is_answered_with_the_first_ones_result_and_says_so(self) -> None:
        shop = Shop(Till())
        (first,), (second,) = await shop.buy(), await shop.buy()
        assert shop.till.paid == [(10, 'ann')]
        assert (first.output, first.metadata) == ('paid 10 to ann', None)
        assert second.output == first.output
        assert second.metadata['idempotency']['replayed'] is True
        assert len(shop.told('replayed')) == 1

    async def test_the_mark_reaches_whoever_reads_a_stream(self) -> None:
        shop = Shop(Till())
        await shop.buy()
        ai = shop.app([ToolRequest('pay', {'amount': 10}, 'r')])
        stream = ai.generate_stream(prompt='go', tools=[shop.till.pay], use=shop.use)
        async for _ in stream:
            pass
        (part,) = (await stream.response).turns[0].tool_responses
        assert part.tool_response.metadata['idempotency']['replayed'] is True
        assert len(shop.till.paid) == 1

    @pytest.mark.parametrize(
        ('inputs', 'times'),
        [
            ([{'amount': 1, 'to': 'x'}, {'to': 'x', 'amount': 1}], 1),
            ([{'amount': 1}, {'amount': 1.0}], 1),
            ([{'amount': 1}, {'amount': 2}], 2),
            ([{'amount': 1, 'to': 'x'}, {'amount': 1, 'to': 'y'}], 2),
        ],
    )
    async def test_what_is_the_same_input(self, inputs: list[Any], times: int) -> None:
        shop = Shop(Till())
        for given_ in inputs:
            await shop.buy(given_)
        assert len(shop.till.paid) == times

    async def test_other_tools_run_as_often_as_they_are_asked_for(self) -> None:
        shop = Shop(Till())
        shop.use = [Idempotency(tools=['send_*', 'pay_back'])]
        for _ in range(3):
            await shop.buy()
        assert len(shop.till.paid) == 3

    async def test_patterns_name_tools(self) -> None:
        shop = Shop(Till())
        shop.use = [Idempotency(tools=['p*'])]
        for _ in range(3):
            await shop.buy()
        assert len(shop.till.paid) == 1

    async def test_a_model_that_asks_twice_in_one_turn_gets_one_result_twice(self) -> None:
        shop = Shop(Till())
        one, two = await shop.buy({'amount': 5}, {'amount': 5})
        assert (one.output, two.output) == ('paid 5 to ann', 'paid 5 to ann')
        assert (one.ref, two.ref) == ('r0', 'r1')
        assert len(shop.till.paid) == 1

    async def test_a_sync_tool_in_a_thread_runs_once_too(self) -> None:
        done = []

        def pay(amount: int) -> str:
            done.append(threading.get_ident())
            return 'ok'

        shop = Shop(Till())
        for _ in range(2):
            ai = shop.app([ToolRequest('pay', {'amount': 1}, 'r')])
            await ai.generate(prompt='go', tools=[pay], use=shop.use)
        assert len(done) == 1

    @pytest.mark.parametrize(
        'result',
        [
            None,
            0,
            '',
            [],
            {'a': [1, {'b': None}]},
            2**80,
            math.inf,
            '\ud800 ä 漢',
            MediaPart(url='https://x/y.png', content_type='image/png'),
            MediaPart(data=b'\x00\xff', content_type='image/png', name='n', metadata={'m': 1}),
        ],
        ids=repr,
    )
    async def test_a_repeated_result_is_the_result(self, result: Any) -> None:
        shop = Shop(Till(lambda: result))
        (first,), (second,) = await shop.buy(), await shop.buy()
        assert second.output == first.output == result
        assert type(second.output) is type(first.output)
        assert len(shop.till.paid) == 1


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
)


class TestScope:
    @pytest.mark.parametrize(
        ('scope', 'contexts', 'times'),
        [
            ('session', [{}, {}], 1),
            ('session', [{'session': 's'}, {'session': 's'}], 1),
            ('session', [{'session': 's'}, {'session': 't'}], 2),
            ('session', [{'session': 's'}, {}], 2),
            ('session', [{'tenant': 'a', 'session': 's'}, {'tenant': 'b', 'session': 's'}], 2),
            ('session', [{'tenant': 'a'}, {'tenant': 'a'}, {'tenant': 'b'}], 2),
            ('session', [{'session': 's', 'idempotency_key': 'k'}, {'session': 't', 'idempotency_key': 'k'}], 1),
            ('session', [{'session': 's', 'idempotency_key': 'k'}, {'session': 's', 'idempotency_key': 'l'}], 2),
            ('session', [{'tenant': 'a', 'idempotency_key': 'k'}, {'tenant': 'b', 'idempotency_key': 'k'}], 2),
            ('run', [{}, {}], 2),
            ('run', [{'idempotency_key': 'k'}, {'idempotency_key': 'k'}], 1),
            ('tenant', [{'tenant': 'a', 'session': 's'}, {'tenant': 'a', 'session': 't'}], 1),
            ('tenant', [{'tenant': 'a'}, {'tenant': 'b'}], 2),
            ('global', [{'tenant': 'a', 'session': 's'}, {'tenant': 'b'}], 1),
            ('global', [{'idempotency_key': 'k'}, {'idempotency_key': 'l'}], 2),
            ('session', [{'tenant': 1}, {'tenant': '1'}], 1),
            ('session', [{'tenant': 'a', 'session': 'b'}, {'tenant': "a', 'b"}], 2),
        ],
    )
    async def test_where_a_key_is_the_same(self, scope: Any, contexts: list[Any], times: int) -> None:
        shop = Shop(Till())
        shop.use = [Idempotency(tools=['pay'], scope=scope)]
        for context in contexts:
            await shop.buy(context=context)
        assert len(shop.till.paid) == times

    async def test_a_function_says_what_is_the_same_act(self) -> None:
        shop = Shop(Till())
        shop.use = [Idempotency(tools=['pay'], key=lambda params, ctx: params.tool_request.input.get('to'))]
        for amount, to in [(1, 'ann'), (2, 'ann'), (3, 'bob')]:
            await shop.buy({'amount': amount, 'to': to})
        assert shop.till.paid == [(1, 'ann'), (3, 'bob')]

    async def test_where_the_function_says_nothing_the_input_counts(self) -> None:
        shop = Shop(Till())
        shop.use = [Idempotency(tools=['pay'], key=lambda params, ctx: None)]
        for amount in (1, 1, 2):
            await shop.buy({'amount': amount})
        assert len(shop.till.paid) == 2

    async def test_a_function_that_returns_no_text_is_told_so_before_the_tool_runs(self) -> None:
        shop = Shop(Till())
        shop.use = [Idempotency(tools=['pay'], key=lambda params, ctx: 7)]
        error = await shop.buy()
        assert (error.status, 'key= returned int' in error.message) == ('FAILED_PRECONDITION', True)
        assert shop.till.paid == []

    @given(st.lists(JSON_VALUES, min_size=2, max_size=2))
    def test_no_two_inputs_look_alike(self, values: list[Any]) -> None:
        one, two = values
        same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
        assert (digest(one) == digest(two)) == same

    def test_what_is_no_json_cannot_be_compared(self) -> None:
        deep: Any = []
        for _ in range(100_000):
            deep = [deep]
        for value in ({1, 2}, object(), deep):
            with pytest.raises(ConfigError, match='cannot be compared'):
                digest(value)


class TestTwoAtOnce:
    def held(self) -> tuple[Shop, asyncio.Event]:
        go = asyncio.Event()

        async def wait() -> str:
            await go.wait()
            return 'paid at last'

        return Shop(Till(wait), clock=HeldClock()), go

    async def test_the_second_waits_for_the_firsts_result(self) -> None:
        shop, go = self.held()
        async with no_leaks():
            tasks = [asyncio.create_task(shop.buy()) for _ in range(5)]
            await settled()
            for _ in range(5):
                await shop.clock.advance(1)
            assert not any(task.done() for task in tasks)
            go.set()
            await settled()
            await shop.clock.advance(1)
            await settled()
            results = await asyncio.gather(*tasks)
        assert [result[0].output for result in results] == ['paid at last'] * 5
        assert len(shop.till.paid) == 1
        assert len(shop.told('waiting')) == 4

    async def test_but_not_for_ever(self) -> None:
        shop, go = self.held()
        shop.use = [Idempotency(tools=['pay'], wait_s=5)]
        first, second = (asyncio.create_task(shop.buy()) for _ in range(2))
        for _ in range(15):
            await settled()
            await shop.clock.advance(0.5)
        error = await second
        assert isinstance(error, Rejected)
        assert (error.status, error.by, error.details['reason']) == ('ABORTED', 'idempotency', 'running')
        assert 'running with the same key already, without a result after wait_s=5' in str(error)
        go.set()
        assert (await first)[0].output == 'paid at last'

    async def test_or_not_at_all(self) -> None:
        shop, go = self.held()
        shop.use = [Idempotency(tools=['pay'], wait_s=0)]
        first = asyncio.create_task(shop.buy())
        await settled()
        assert isinstance(await shop.buy(), Rejected)
        go.set()
        await first

    async def test_a_call_that_takes_longer_than_its_lease_keeps_it(self) -> None:
        shop, go = self.held()
        shop.use = [Idempotency(tools=['pay'], lease_s=3, wait_s=1000)]
        async with no_leaks():
            first, second = (asyncio.create_task(shop.buy()) for _ in range(2))
            for _ in range(100):
                await settled()
                await shop.clock.advance(1)
            assert not first.done()
            assert not second.done()
            go.set()
            await settled()
            await shop.clock.advance(1)
            await settled()
            assert (await first)[0].output == (await second)[0].output
        assert len(shop.till.paid) == 1

    async def test_a_result_is_there_before_the_lease_of_its_process_has_run_out(self) -> None:
        shop = Shop(Till())
        await shop.buy()
        (key,) = shop.store._tables['value']
        assert await shop.store.acquire(key, 1000)
        assert (await shop.buy())[0].output == 'paid 10 to ann'
        assert shop.clock.slept == []

    async def test_the_second_runs_when_the_first_was_interrupted(self) -> None:
        asked = asyncio.Event()

        async def interrupted() -> str:
            if len(shop.till.paid) == 1:
                await asked.wait()
                raise Interrupt('sure?')
            return 'paid'

        shop = Shop(Till(interrupted), clock=HeldClock())
        first, second = (asyncio.create_task(shop.buy()) for _ in range(2))
        await settled()
        asked.set()
        await settled()
        await shop.clock.advance(1)
        await settled()
        assert (await first).interrupts
        assert (await second)[0].output == 'paid'


class Refusing(BaseMiddleware):
    """Interrupts each call that nobody has approved."""

    async def wrap_tool(self, params, ctx, next_fn):
        if params.approval is None:
            raise Interrupt('approve?')
        return await next_fn(params, ctx)


class TestInterrupts:
    async def test_an_interrupted_tool_has_not_run_and_runs_when_it_is_restarted(self) -> None:
        shop = Shop(Till())
        shop.use = [*shop.use, Refusing()]
        waiting = await shop.buy()
        assert shop.till.paid == []
        ai = shop.app([])
        ai.default_model._answers = ['done']
        response = await ai.generate(
            messages=waiting.messages,
            tools=[shop.till.pay],
            use=shop.use,
            resume_restart=[restart_tool(waiting.interrupts[0])],
        )
        assert response.text == 'done'
        assert shop.till.paid == [(10, 'ann')]
        assert (await shop.buy())[0].metadata['idempotency']['replayed'] is True

    async def test_an_interrupt_of_a_call_that_failed_before_leaves_the_failure(self) -> None:
        shop = Shop(Till(lambda: (_ for _ in ()).throw(ToolError('no money'))))
        await shop.buy()
        shop.use = [*shop.use, Refusing()]
        await shop.buy()
        shop.use = [Idempotency(tools=['pay'], on_failed='refuse')]
        error = await shop.buy()
        assert 'no money' in str(error)


def raising(*errors: BaseException) -> Any:
    left = list(errors)

    def behave() -> str:
        if left:
            raise left.pop(0)
        return 'paid'

    return behave


class TestFailures:
    @pytest.mark.parametrize(
        'error', [ToolError('no money'), ValueError('bug'), LamellaError('INTERNAL', 'x')], ids=type
    )
    async def test_a_tool_that_failed_may_run_again(self, error: Exception) -> None:
        shop = Shop(Till(raising(error)))
        if isinstance(error, (ToolError, LamellaError)):
            await shop.buy()
        else:
            with pytest.raises(ValueError, match='bug'):
                await shop.buy()
        (second,) = await shop.buy()
        assert (second.output, second.metadata) == ('paid', None)
        assert len(shop.till.paid) == 2
        assert shop.told('rerun') == ['failed']

    async def test_or_not_where_that_is_not_wanted(self) -> None:
        shop = Shop(Till(raising(ToolError('no money on the account'))))
        shop.use = [Idempotency(tools=['pay'], on_failed='refuse')]
        (first,), error = await shop.buy(), await shop.buy()
        assert first.is_error
        assert isinstance(error, Rejected)
        assert error.status == 'FAILED_PRECONDITION'
        assert 'pay has failed with this key 0 s ago (no money on the account)' in str(error)
        assert len(shop.till.paid) == 1
        assert shop.told('refused') == ['failed']

    async def test_an_unexpected_error_is_recorded_by_its_kind_alone(self) -> None:
        shop = Shop(Till(raising(ValueError('token sk-secret'))))
        shop.use = [Idempotency(tools=['pay'], on_failed='refuse')]
        with pytest.raises(ValueError, match='sk-secret'):
            await shop.buy()
        error = await shop.buy()
        assert 'it raised ValueError' in str(error)
        assert 'sk-secret' not in str(error)

    async def test_an_error_result_of_an_inner_layer_is_a_failure(self) -> None:
        class Softens(BaseMiddleware):
            async def wrap_tool(self, params, ctx, next_fn):
                await next_fn(params, ctx)
                return ToolResponse('pay', 'sorry', is_error=len(shop.till.paid) == 1)

        shop = Shop(Till())
        shop.use = [*shop.use, Softens()]
        (first,), (second,), (third,) = await shop.buy(), await shop.buy(), await shop.buy()
        assert (first.is_error, second.is_error, third.is_error) == (True, False, False)
        assert len(shop.till.paid) == 2


UNKNOWN = [
    TimeoutError('slow'),
    LamellaError('DEADLINE_EXCEEDED', 'slow'),
    LamellaError('CANCELLED', 'stopped'),
    ToolError('the bank did not answer', details={'outcome': 'unknown'}),
]


class TestUnknown:
    @pytest.mark.parametrize('error', UNKNOWN, ids=str)
    async def test_a_call_that_was_cut_off_is_refused_from_then_on(self, error: Exception) -> None:
        shop = Shop(Till(raising(error)))
        with suppress(TimeoutError):
            await shop.buy()
        refused = await shop.buy()
        assert isinstance(refused, Rejected)
        assert (refused.status, refused.details['reason']) == ('FAILED_PRECONDITION', 'unknown')
        assert 'may or may not have run' in str(refused)
        assert "Find out first; on_unknown='rerun' would run it again" in str(refused)
        assert len(shop.till.paid) == 1

    async def test_a_cancelled_call_is_refused_from_then_on(self) -> None:
        never = asyncio.Event()
        shop = Shop(Till(never.wait))
        task = asyncio.create_task(shop.buy())
        await settled()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        refused = await shop.buy()
        assert 'it was cut off (CancelledError)' in str(refused)
        assert len(shop.till.paid) == 1

    async def test_a_call_that_its_deadline_ended_is_refused_from_then_on(self) -> None:
        never = asyncio.Event()
        shop = Shop(Till(never.wait), clock=HeldClock())
        task = asyncio.create_task(shop.buy(timeout_s=2))
        await settled()
        await shop.clock.advance(2)
        assert (await task).status == 'DEADLINE_EXCEEDED'
        assert isinstance(await shop.buy(), Rejected)

    async def test_a_result_that_cannot_be_kept_is_not_made_twice(self) -> None:
        shop = Shop(Till(lambda: object()))
        first, second = await shop.buy(), await shop.buy()
        assert 'not JSON' in str(first)
        assert isinstance(second, Rejected)
        assert len(shop.till.paid) == 1

    async def left_behind(self, shop: Shop) -> str:
        """A call whose process died in the middle of it: a record and no lease."""
        await shop.buy()
        (key,) = shop.store._tables['value']
        await shop.store.put(key, Act('running', shop.clock.time() - 90, 'run_dead').encoded())
        shop.till.paid.clear()
        return key

    async def test_a_call_whose_process_died_is_refused_and_names_its_key(self) -> None:
        shop = Shop(Till())
        key = await self.left_behind(shop)
        refused = await shop.buy()
        assert 'pay was called with this key 90 s ago and may or may not have run: its process ended' in str(refused)
        assert refused.details['key'] == key
        assert shop.till.paid == []
        assert await shop.store.delete(key)  # whoever found out that it has not run
        assert (await shop.buy())[0].output == 'paid 10 to ann'

    async def test_with_consent_it_runs_again_and_once(self) -> None:
        shop = Shop(Till())
        await self.left_behind(shop)
        shop.use = [Idempotency(tools=['pay'], on_unknown='rerun')]
        (first,), (second,) = await shop.buy(), await shop.buy()
        assert first.metadata is None
        assert second.metadata is not None
        assert len(shop.till.paid) == 1
        assert shop.told('rerun') == ['unknown']

    async def test_somebody_can_be_asked_and_say_yes(self) -> None:
        shop = Shop(Till())
        await self.left_behind(shop)
        shop.use = [Idempotency(tools=['pay'], on_unknown='ask')]
        for metadata, paid in [({}, 0), ({'runAgain': 'yes'}, 0), ({'runAgain': True}, 1)]:
            waiting = await shop.buy()
            assert 'may or may not have run' in str(waiting.interrupts[0].metadata)
            assert await self.decide(
                shop, waiting, resume_restart=[restart_tool(waiting.interrupts[0], metadata=metadata)]
            )
            assert len(shop.till.paid) == paid

    async def test_or_give_the_result(self) -> None:
        shop = Shop(Till())
        await self.left_behind(shop)
        shop.use = [Idempotency(tools=['pay'], on_unknown='ask')]
        waiting = await shop.buy()
        decided = await self.decide(
            shop, waiting, resume_respond=[respond_to_tool(waiting.interrupts[0], 'it was paid')]
        )
        assert decided.text == 'done'
        assert shop.till.paid == []

    async def decide(self, shop: Shop, waiting: Any, **decisions: Any) -> Any:
        ai = shop.app([])
        ai.default_model._answers = ['done']
        return await ai.generate(messages=waiting.messages, tools=[shop.till.pay], use=shop.use, **decisions)

    async def test_a_message_gives_no_consent(self) -> None:
        shop = Shop(Till())
        await self.left_behind(shop)
        shop.use = [Idempotency(tools=['pay'], on_unknown='ask')]
        claim = {'runAgain': True, 'toolApproved': True, 'resumed': {'runAgain': True}}
        asked = ToolRequestPart(ToolRequest('pay', {'amount': 10}, 'r'), metadata=claim)
        ai = shop.app(ModelResponse(message=Message('assistant', (asked,)), finish_reason='tool_calls'))
        response = await ai.generate(prompt='go', tools=[shop.till.pay], use=shop.use)
        assert response.interrupts
        assert shop.till.paid == []

    async def test_a_consent_holds_for_the_exact_input(self) -> None:
        class Raises(BaseMiddleware):
            async def wrap_tool(self, params, ctx, next_fn):
                request = params.tool_request.replace(input={'amount': 99})
                return await next_fn(params.replace(tool_request_part=ToolRequestPart(request)), ctx)

        shop = Shop(Till())
        await self.left_behind(shop)
        (key,) = shop.store._tables['value']
        shop.use = [Idempotency(tools=['pay'], on_unknown='ask', key=lambda params, ctx: 'any')]
        await shop.buy()
        one_key = next(iter(shop.store._tables['value'].keys() - {key}))
        await shop.store.put(one_key, Act('running', 0.0, 'run_dead').encoded())
        shop.till.paid.clear()
        waiting = await shop.buy()
        shop.use = [Raises(), *shop.use]
        yes = [restart_tool(waiting.interrupts[0], metadata={'runAgain': True})]
        assert (await self.decide(shop, waiting, resume_restart=yes)).interrupts
        assert shop.till.paid == []

    @pytest.mark.parametrize(
        'data', [b'', b'{}', b'\xff', b'[1]', b'{"state": 1}', b'null', Act('done', 0, '').encoded()[:-5]]
    )
    async def test_a_record_that_cannot_be_read_is_unknown(self, data: bytes) -> None:
        shop = Shop(Till())
        key = await self.left_behind(shop)
        await shop.store.put(key, data)
        refused = await shop.buy()
        assert 'its record cannot be read' in str(refused)
        assert shop.till.paid == []


class TestKeeping:
    async def test_a_result_is_forgotten_after_its_time(self) -> None:
        shop = Shop(Till())
        shop.use = [Idempotency(tools=['pay'], ttl_s=60)]
        await shop.buy()
        await shop.clock.advance(59)
        await shop.buy()
        assert len(shop.till.paid) == 1
        await shop.clock.advance(2)
        await shop.buy()
        assert len(shop.till.paid) == 2

    async def test_what_is_unknown_is_not(self) -> None:
        shop = Shop(Till(raising(TimeoutError())))
        shop.use = [Idempotency(tools=['pay'], ttl_s=60)]
        with pytest.raises(TimeoutError):
            await shop.buy()
        await shop.clock.advance(10**9)
        assert isinstance(await shop.buy(), Rejected)

    async def test_a_result_that_is_too_long_is_given_once_and_not_made_again(self) -> None:
        shop = Shop(Till(lambda: 'x' * 2000))
        shop.use = [Idempotency(tools=['pay'], max_result_bytes=1000)]
        (first,), second = await shop.buy(), await shop.buy()
        assert len(first.output) == 2000
        assert isinstance(second, Rejected)
        assert 'pay has run with this key 0 s ago, but its result of' in str(second)
        assert 'max_result_bytes=1000: it is not run again' in str(second)
        assert len(shop.till.paid) == 1
        assert 'max_result_bytes' in shop.told('unrecorded')[0]

    async def test_a_tool_declared_to_return_what_is_no_json_does_not_run(self) -> None:
        ran = []

        def pay(amount: int) -> threading.Event:
            ran.append(amount)
            return threading.Event()

        shop = Shop(Till())
        ai = shop.app([ToolRequest('pay', {'amount': 1}, 'r')])
        with pytest.raises(ConfigError, match="'pay' is declared to return Event, which is not JSON"):
            await ai.generate(prompt='go', tools=[pay], use=shop.use)
        assert ran == []

    async def test_a_hundred_thousand_keys_leave_nothing_behind(self) -> None:
        shop = Shop(Till())
        shop.use = [Idempotency(tools=['pay'], ttl_s=60)]
        for number in range(300):
            await shop.buy({'amount': number})
        acts = [Act('done', 0.0, 'run').encoded()] * 1
        for number in range(99_700):
            await shop.store.put(f'idempotency:pay:{number}', acts[0], expire_s=60)
        await shop.clock.advance(61)
        assert len(shop.store) == 0
        assert len(shop.store._expiries) <= 64


class Flaky(MemoryStore):
    """A store that is away for the verbs named in `away`, or answers them and loses the answer (`lost`)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.away: dict[str, int] = {}
        self.lost: dict[str, int] = {}

    def _is(self, table: dict[str, int], verb: str) -> bool:
        table[verb] = table.get(verb, 0) - 1
        return table[verb] >= 0

    async def _do(self, verb: str, *args: Any, **options: Any) -> Any:
        if self._is(self.away, verb):
            raise LamellaError('UNAVAILABLE', 'connection refused')
        answer = await getattr(super(), verb)(*args, **options)
        if self._is(self.lost, verb):
            raise LamellaError('UNAVAILABLE', 'connection lost')
        return answer

    async def acquire(self, key: str, ttl_s: float, *, slots: int = 1) -> Any:
        return await self._do('acquire', key, ttl_s)

    async def renew(self, lease: Any, ttl_s: float) -> Any:
        return await self._do('renew', lease, ttl_s)

    async def release(self, lease: Any) -> Any:
        return await self._do('release', lease)

    async def compare_and_put(self, key: str, version: int, value: bytes, **options: Any) -> Any:
        return await self._do('compare_and_put', key, version, value, **options)


def flaky(behave: Any = None, clock: Any = None) -> tuple[Shop, Flaky]:
    clock = clock or FakeClock()
    store = Flaky(clock=clock)
    return Shop(Till(behave), clock=clock, store=store), store


class TestStoreAway:
    @pytest.mark.parametrize('verb', ['acquire', 'compare_and_put'])
    async def test_a_tool_that_cannot_be_protected_does_not_run(self, verb: str) -> None:
        shop, store = flaky()
        store.away[verb] = 1
        refused = await shop.buy()
        assert isinstance(refused, Rejected)
        assert refused.status == 'UNAVAILABLE'
        assert shop.till.paid == []
        assert (await shop.buy())[0].output == 'paid 10 to ann'

    @pytest.mark.parametrize('verb', ['acquire', 'compare_and_put'])
    async def test_or_runs_unprotected_where_that_is_wanted(self, verb: str) -> None:
        shop, store = flaky()
        shop.use = [Idempotency(tools=['pay'], on_store_error='allow')]
        store.away[verb] = 10**6
        for _ in range(2):
            await shop.buy()
        assert len(shop.till.paid) == 2
        assert {event.facts['action'] for event in shop.sink.named('store.away')} == {'allow'}

    async def test_a_result_is_recorded_when_the_store_comes_back_soon(self) -> None:
        shop, store = flaky(lambda: store.away.update(compare_and_put=2) or 'paid')
        (first,) = await shop.buy()
        assert first.output == 'paid'
        assert (await shop.buy())[0].metadata is not None
        assert len(shop.till.paid) == 1

    async def test_a_record_whose_answer_was_lost_is_not_written_twice(self) -> None:
        shop, store = flaky(lambda: store.lost.update(compare_and_put=1) or 'paid')
        await shop.buy()
        assert shop.told('unrecorded') == []
        assert (await shop.buy())[0].metadata is not None

    async def test_a_result_that_could_not_be_recorded_is_given_and_never_made_again(self) -> None:
        shop, store = flaky(lambda: store.away.update(compare_and_put=10, release=10) or 'paid')
        (first,) = await shop.buy()
        assert first.output == 'paid'
        assert 'its store is away' in shop.told('unrecorded')[0]
        store.away.clear()
        await shop.clock.advance(30)
        refused = await shop.buy()
        assert refused.details['reason'] == 'unknown'
        assert len(shop.till.paid) == 1

    async def test_a_claim_whose_answer_was_lost_is_refused_and_safe(self) -> None:
        shop, store = flaky()
        store.lost['compare_and_put'] = 1
        assert isinstance(await shop.buy(), Rejected)
        assert shop.till.paid == []
        assert (await shop.buy()).details['reason'] == 'unknown'  # nobody can tell that it has not run

    async def test_a_lease_that_ran_out_while_the_store_was_away_is_taken_again(self) -> None:
        go = asyncio.Event()
        shop, store = flaky(go.wait, HeldClock())
        shop.use = [Idempotency(tools=['pay'], lease_s=3, wait_s=0)]
        first = asyncio.create_task(shop.buy())
        await settled()
        store.away['renew'] = 4
        for _ in range(6):
            await shop.clock.advance(1)
            await settled()
        assert (await shop.buy()).details['reason'] == 'running'
        go.set()
        assert (await first)[0].output is True
        assert len(shop.sink.named('store.away')) == 4

    async def test_a_call_that_was_taken_over_with_consent_does_not_overwrite_the_other_ones_record(self) -> None:
        go = asyncio.Event()

        async def slow() -> str:
            if len(shop.till.paid) == 1:
                await go.wait()
            return f'paid {len(shop.till.paid)}'

        shop, store = flaky(slow, HeldClock())
        shop.use = [Idempotency(tools=['pay'], lease_s=3, on_unknown='rerun')]
        first = asyncio.create_task(shop.buy())
        await settled()
        store.away['renew'] = 10**6
        for _ in range(4):
            await shop.clock.advance(1)
            await settled()
        (second,) = await shop.buy()
        go.set()
        await first
        assert shop.told('unrecorded') == ['another call has taken over']
        assert (await shop.buy())[0].output == second.output == 'paid 2'


@pytest.mark.parametrize('off_s', [3600, -3600])
async def test_over_a_file_a_process_whose_clock_is_wrong_by_an_hour_runs_nothing_twice(
    off_s: float, tmp_path: Any
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        begun.set()
        await go.wait()
        return 'paid'

    till = Till(slow)
    right, wrong = HeldClock(), FakeClock(wall=1_800_000_000.0 + off_s)
    stores = [SQLiteStore(tmp_path / 'state.db', clock=clock) for clock in (right, wrong)]
    here, there = (Shop(till, clock=clock, store=store) for clock, store in zip((right, wrong), stores, strict=True))
    first = asyncio.create_task(here.buy())
    await begun.wait()
    refused = await there.buy()
    assert refused.details['reason'] in ('unknown', 'running')
    go.set()
    await first
    assert (await there.buy())[0].metadata is not None
    assert len(till.paid) == 1
    for store in stores:
        await store.aclose()


class Remote:
    """A store behind a network: each verb is done at its second step and answers at its fourth."""

    def __init__(self, inner: MemoryStore) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._inner, name)

        async def later(*args: Any, **options: Any) -> Any:
            await asyncio.sleep(0)
            answer = await verb(*args, **options)
            await settled(2)
            return answer

        return later if asyncio.iscoroutinefunction(verb) else verb


class TestCancellation:
    @pytest.mark.parametrize('ticks', range(40))
    async def test_cancelled_at_any_moment_it_runs_once_or_is_known_to_be_unknown(self, ticks: int) -> None:
        clock = FakeClock()
        inner = MemoryStore(clock=clock)
        shop = Shop(Till(lambda: settled(3)), clock=clock, store=Remote(inner))
        async with no_leaks():
            task = asyncio.create_task(shop.buy())
            await settled(ticks)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            before = len(shop.till.paid)
            second = await shop.buy()
        if before == 0:  # as if it had never been
            assert not isinstance(second, Rejected)
        elif isinstance(second, Rejected):
            assert second.details['reason'] == 'unknown'
        assert len(shop.till.paid) == 1
        assert inner._tables['lease'] == {}
        assert clock.now() < 1001


class TestSettings:
    @pytest.mark.parametrize(
        ('options', 'said'),
        [
            ({}, 'tools'),
            ({'tools': []}, 'name the tools that must not run twice'),
            ({'tools': 'pay'}, 'write a list'),
            ({'tools': ['pay!']}, 'name of a tool'),
            ({'tools': ['pay'], 'scope': 'sesion'}, 'scope'),
            ({'tools': ['pay'], 'key': 'order'}, 'plain function'),
            ({'tools': ['pay'], 'lease_s': 0}, 'lease_s'),
            ({'tools': ['pay'], 'ttl_s': 0}, 'ttl_s'),
            ({'tools': ['pay'], 'on_unknown': 'allow'}, 'on_unknown'),
        ],
    )
    def test_settings_that_cannot_work_are_refused_with_the_fix(self, options: dict[str, Any], said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            Idempotency(**options)

    def test_an_order_that_would_repeat_results_without_approval_is_warned_of(self) -> None:
        layers = [Idempotency(tools=['pay']), ToolApproval()]
        with warnings.catch_warnings():
            warnings.simplefilter('error', OrderWarning)
            with pytest.raises(OrderWarning, match='given without asking'):
                Lamella(use=layers)
            Lamella(use=layers[::-1])
