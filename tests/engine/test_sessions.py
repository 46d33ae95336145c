"""Sessions: what is kept of a conversation, one turn at a time; a turn that died or lost its hold leaves nothing behind."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lamella import (
    GenerateResponse,
    Interrupt,
    Lamella,
    LamellaError,
    MediaPart,
    Message,
    ModelResponse,
    Session,
    StopRun,
    deny_tool,
    restart_tool,
)
from lamella.core.tools import tool_of
from lamella.middleware import BaseMiddleware
from lamella.stores.memory import MemoryStore
from lamella.testing import FakeClock, ScriptedModel
from lamella.types import ConfigError, OutputError, Rejected, TextDelta, ToolRequest, ToolRequestPart, ToolResponse
from tests.engine.kit import app, no_leaks, read, scripted

PAY = ToolRequest('pay', {'amount': 1}, 'r1')


def texts(messages: Any) -> list[str]:
    return [f'{message.role}: {message.text}' for message in messages]


@pytest.fixture(params=[False, True], ids=['whole', 'stream'])
def ask(request: pytest.FixtureRequest) -> Any:
    """One turn, by either door."""

    async def go(ai: Lamella, **options: Any) -> GenerateResponse:
        if not request.param:
            return await ai.generate(**options)
        stream = ai.generate_stream(**options)
        async for _ in stream:
            pass
        return await stream.response

    return go


def pay(amount: int) -> str:
    return f'paid {amount}'


def ai_tool(function: Any) -> Any:
    return tool_of(function, 'pay')


def tool_parts(*requests: ToolRequest) -> list[Any]:
    return [ToolRequestPart(request) for request in requests]


# ── history ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_turn_goes_on_from_the_history_and_adds_to_it(ask) -> None:
    ai = app('one', 'two')
    first = await ask(ai, prompt='a', session='s')
    second = await ask(ai, prompt='b', session='s')
    assert texts(first.messages) == ['user: a', 'assistant: one']
    assert texts(second.messages) == ['user: a', 'assistant: one', 'user: b', 'assistant: two']
    assert scripted(ai).requests[1].messages == second.messages[:3]
    assert await ai.session('s').history() == second.messages


async def test_the_same_words_again_are_messages_of_their_own(ask) -> None:
    ai = app('yes', 'yes', PAY, 'yes', PAY, 'yes')
    for _ in range(2):
        await ask(ai, prompt='sure?', session='s')
    for _ in range(2):
        await ask(ai, prompt='sure?', session='s', tools=[pay])
    roles = [message.role for message in await ai.session('s').history()]
    assert roles == ['user', 'assistant'] * 2 + ['user', 'assistant', 'tool', 'assistant'] * 2


async def test_sessions_of_other_ids_and_calls_without_one_know_nothing_of_it(ask) -> None:
    ai = app('one', 'two', 'three')
    await ask(ai, prompt='a', session='s')
    assert texts((await ask(ai, prompt='b', session='S')).messages) == ['user: b', 'assistant: two']
    assert texts((await ask(ai, prompt='c')).messages) == ['user: c', 'assistant: three']
    assert len(await ai.session('s').history()) == 2


async def test_the_system_message_is_the_calls_own_and_is_not_kept(ask) -> None:
    ai = app('one', 'two')
    await ask(ai, prompt='a', session='s', system='Be brief.')
    response = await ask(ai, prompt='b', session='s', system='Be kind.')
    assert texts(response.messages)[:2] == ['system: Be kind.', 'user: a']
    assert [message.role for message in await ai.session('s').history()] == ['user', 'assistant'] * 2


async def test_tools_and_their_answers_are_part_of_the_history(ask) -> None:
    ai = app(PAY, 'done', 'again')
    await ask(ai, prompt='pay', session='s', tools=[pay])
    history = await ai.session('s').history()
    assert [message.role for message in history] == ['user', 'assistant', 'tool', 'assistant']
    assert history[2].tool_responses[0].tool_response == ToolResponse('pay', 'paid 1', 'r1')
    response = await ask(ai, prompt='more', session='s')
    assert response.messages[:4] == history


async def test_everything_in_a_message_comes_back_as_it_was(ask) -> None:
    odd = ToolRequest('pay', {'amount': float('inf'), 'big': 10**40, 'lone': '\ud800', 'one': 1.0}, 'r1')
    said = Message.user('look', MediaPart(data=b'\x00\xff', content_type='image/png'), metadata={'who': 'ann'})
    ai = app('one', odd, 'end')
    await ask(ai, messages=[said], session='s')
    assert (await ai.session('s').history())[0] == said

    def free(amount: float, big: int, lone: str, one: float) -> str:
        return lone

    await ask(ai, prompt='b', session='s', tools=[ai_tool(free)])
    history = await ai.session('s').history()
    assert history[-3].tool_requests[0].tool_request == odd
    assert history[-2].tool_responses[0].tool_response.output == '\ud800'


async def test_a_question_that_got_no_answer_is_not_kept(ask) -> None:
    ai = app(LamellaError('UNAVAILABLE', 'down'), 'one')
    with pytest.raises(LamellaError, match='down'):
        await ask(ai, prompt='a', session='s')
    assert await ai.session('s').history() == ()
    assert texts((await ask(ai, prompt='a', session='s')).messages) == ['user: a', 'assistant: one']


async def test_tools_that_ran_are_kept_also_when_the_run_fails_afterwards(ask) -> None:
    ai = app(PAY, LamellaError('UNAVAILABLE', 'down'), 'after all')
    with pytest.raises(LamellaError, match='down'):
        await ask(ai, prompt='pay', session='s', tools=[pay])
    assert [message.role for message in await ai.session('s').history()] == ['user', 'assistant', 'tool']
    response = await ask(ai, session='s', tools=[pay])
    assert response.text == 'after all'
    assert [message.role for message in await ai.session('s').history()] == ['user', 'assistant', 'tool', 'assistant']


async def test_a_turn_whose_tool_failed_for_good_is_not_kept(ask) -> None:
    def broken(amount: int) -> str:
        raise RuntimeError('no')

    ai = app('one', PAY, 'two')
    await ask(ai, prompt='a', session='s')
    with pytest.raises(RuntimeError):
        await ask(ai, prompt='pay', session='s', tools=[ai_tool(broken)])
    assert texts(await ai.session('s').history()) == ['user: a', 'assistant: one']
    await ask(ai, prompt='b', session='s')
    assert len(await ai.session('s').history()) == 4


async def test_an_answer_that_a_layer_refuses_is_not_kept(ask) -> None:
    class Refuses(BaseMiddleware):
        async def wrap_run(self, params, ctx, next_fn):
            await next_fn(params, ctx)
            raise Rejected('not fit to print', by=self)

    ai = app(PAY, 'rude')
    with pytest.raises(Rejected):
        await ask(ai, prompt='pay', session='s', tools=[pay], use=[Refuses()])
    assert [message.role for message in await ai.session('s').history()] == ['user', 'assistant', 'tool']


async def test_what_layers_made_of_question_and_answer_is_what_is_kept(ask) -> None:
    class Redacts(BaseMiddleware):
        async def wrap_run(self, params, ctx, next_fn):
            clean = tuple(Message(m.role, m.text.replace('ann', '***')) for m in params.messages)
            response = await next_fn(params.replace(request=params.request.replace(messages=clean)), ctx)
            return response.replace(message=Message.assistant(response.text.replace('bob', '***')))

    ai = app('hello bob', 'again')
    await ask(ai, prompt='I am ann', session='s', use=[Redacts()])
    assert texts(await ai.session('s').history()) == ['user: I am ***', 'assistant: hello ***']
    response = await ask(ai, prompt='and?', session='s', use=[Redacts()])
    assert response.text == 'again'
    assert len(await ai.session('s').history()) == 4


async def test_what_layers_add_to_or_leave_out_of_a_run_is_for_that_run_alone(ask) -> None:
    class Reminds(BaseMiddleware):
        async def wrap_run(self, params, ctx, next_fn):
            messages = (Message.system('remember the milk'), *params.messages[-1:])
            return await next_fn(params.replace(request=params.request.replace(messages=messages)), ctx)

    ai = app('one', PAY, 'two')
    await ask(ai, prompt='a', session='s', use=[Reminds()])
    await ask(ai, prompt='b', session='s', use=[Reminds()], tools=[pay], system='Be brief.')
    history = await ai.session('s').history()
    assert [message.role for message in history] == ['user', 'assistant', 'user', 'assistant', 'tool', 'assistant']
    assert texts(history)[:3] == ['user: a', 'assistant: one', 'user: b']


async def test_a_layer_that_answers_in_place_of_the_run_is_kept_too(ask) -> None:
    class Answers(BaseMiddleware):
        async def wrap_run(self, params, ctx, next_fn):
            return ModelResponse.text_of('from the cache')

    ai = app('one')
    await ask(ai, prompt='a', session='s')
    await ask(ai, prompt='b', session='s', use=[Answers()])
    assert texts(await ai.session('s').history())[2:] == ['user: b', 'assistant: from the cache']


async def test_a_stopped_run_keeps_what_the_caller_was_told(ask) -> None:
    class Stops(BaseMiddleware):
        async def wrap_run(self, params, ctx, next_fn):
            raise StopRun('guardrail', 'no', response=ModelResponse.text_of('I would rather not.'))

    class Halts(BaseMiddleware):
        async def wrap_generate(self, params, ctx, next_fn):
            raise StopRun('loop', 'enough')

    ai = app('one')
    response = await ask(ai, prompt='a', session='s', use=[Stops()])
    assert (response.text, response.stop_reason) == ('I would rather not.', 'guardrail')
    assert texts(await ai.session('s').history()) == ['user: a', 'assistant: I would rather not.']
    await ask(ai, prompt='b', session='s', use=[Halts()])
    assert len(await ai.session('s').history()) == 2


async def test_requests_that_were_cut_off_are_not_kept(ask) -> None:
    cut = ModelResponse(message=Message.assistant('Let me', *tool_parts(PAY)), finish_reason='length')
    bare = ModelResponse(message=Message.assistant(*tool_parts(PAY)), finish_reason='length')
    ai = app(cut, bare, 'two')
    await ask(ai, prompt='a', session='s', tools=[pay])
    await ask(ai, prompt='b', session='s', tools=[pay])
    assert texts(await ai.session('s').history()) == ['user: a', 'assistant: Let me']
    assert (await ai.session('s').history())[1].tool_requests == ()
    assert (await ask(ai, prompt='c', session='s')).text == 'two'


async def test_an_answer_of_the_wrong_shape_is_an_error_and_is_not_kept(ask) -> None:
    ai = app('not json')
    with pytest.raises(OutputError):
        await ask(ai, prompt='a', session='s', output_schema={'type': 'object'})
    assert await ai.session('s').history() == ()


async def test_a_run_at_its_limit_of_turns_can_go_on_in_the_session(ask) -> None:
    ai = app(PAY, 'done')
    response = await ask(ai, prompt='pay', session='s', tools=[pay], max_turns=1)
    assert response.stop_reason == 'max_turns'
    assert (await ask(ai, session='s', tools=[pay])).text == 'done'
    assert [message.role for message in await ai.session('s').history()] == ['user', 'assistant', 'tool', 'assistant']


@pytest.mark.parametrize('before', [[], ['one']], ids=['new', 'answered'])
async def test_with_nothing_to_ask_a_session_says_so(ask, before) -> None:
    ai = app(*before)
    for _ in before:
        await ask(ai, prompt='a', session='s')
    with pytest.raises(ConfigError, match='nothing to ask'):
        await ask(ai, session='s')


async def test_what_cannot_be_stored_is_found_out_before_the_model_is_asked(ask) -> None:
    ai = app('one')
    with pytest.raises(ConfigError, match='a message for the session cannot be stored'):
        await ask(ai, messages=[Message.user('a', metadata={'lock': object()})], session='s')
    assert scripted(ai).requests == []


async def test_call_options_of_a_wrong_kind_are_refused(ask) -> None:
    ai = app('one')
    for wrong in ('', 7, b's', 'x' * 10_001, ['s']):
        with pytest.raises(ConfigError, match='a session id is a text'):
            await ask(ai, prompt='a', session=wrong)


@pytest.mark.parametrize(
    ('settings', 'problem'),
    [
        ({'on_busy': 'queue'}, "on_busy='queue': use 'wait' or 'refuse'"),
        ({'wait_s': -1}, 'wait_s=-1: give a number of seconds, at least 0'),
        ({'wait_s': True}, 'wait_s=True'),
        ({'wait_s': float('nan')}, 'wait_s=nan'),
        ({'lease_s': 0}, 'lease_s=0: give a number of seconds, at least 1'),
        ({'ttl_s': 1}, 'ttl_s=1: give a number of seconds, at least 60'),
        ({'store': 3}, 'store= is a int without get'),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, problem) -> None:
    with pytest.raises(ConfigError, match=problem):
        app().session('s', **settings)


# ── interrupts ──────────────────────────────────────────────────────────────────────────────────────────────────────


def asks_first(amount: int, ctx: Any) -> str:
    if ctx.resumed is None:
        raise Interrupt('may I?')
    return f'paid {amount}'


ASKS = {'tools': [ai_tool(asks_first)]}


async def test_an_interrupted_run_goes_on_in_the_session(ask) -> None:
    ai = app([PAY, PAY.replace(input={'amount': 2}, ref='r2')], 'done')
    await ask(ai, prompt='pay', session='s', **ASKS)
    waiting = await ai.session('s').waiting()
    assert [part.tool_request.ref for part in waiting] == ['r1', 'r2']
    half = await ask(ai, session='s', resume_restart=[restart_tool(waiting[0])], **ASKS)
    assert half.stop_reason == 'interrupted'
    assert [part.tool_request.ref for part in await ai.session('s').waiting()] == ['r2']
    response = await ask(ai, session='s', resume_respond=[deny_tool(waiting[1])], **ASKS)
    assert response.text == 'done'
    history = await ai.session('s').history()
    assert [message.role for message in history] == ['user', 'assistant', 'tool', 'assistant']
    assert [part.tool_response.output for part in history[2].tool_responses] == ['paid 1', 'denied by the user']
    assert history == response.messages


async def test_a_new_question_while_a_call_waits_is_refused_and_named(ask) -> None:
    ai = app(PAY, 'done', 'other')
    await ask(ai, prompt='pay', session='s', **ASKS)
    with pytest.raises(Rejected, match=r'waits for a decision on pay \(id r1\)') as caught:
        await ask(ai, prompt='something else', session='s', **ASKS)
    assert caught.value.status == 'FAILED_PRECONDITION'
    (waiting,) = await ai.session('s').waiting()
    response = await ask(
        ai, prompt='something else', session='s', resume_respond=[deny_tool(waiting, 'never mind')], **ASKS
    )
    assert response.text == 'done'
    roles = [message.role for message in await ai.session('s').history()]
    assert roles == ['user', 'assistant', 'tool', 'user', 'assistant']


async def test_a_new_question_with_decisions_on_some_of_the_calls_alone_is_refused(ask) -> None:
    ai = app([PAY, PAY.replace(ref='r2')], 'done')
    await ask(ai, prompt='pay', session='s', **ASKS)
    first, _ = await ai.session('s').waiting()
    with pytest.raises(Rejected, match='waits for a decision'):
        await ask(ai, prompt='x', session='s', resume_respond=[deny_tool(first)], **ASKS)
    assert len(await ai.session('s').waiting()) == 2


async def test_a_decision_of_one_session_is_worth_nothing_in_another(ask) -> None:
    ai = app(PAY, 'x', PAY, 'y')
    first = await ask(ai, prompt='pay', session='a', **ASKS)
    await ask(ai, session='a', resume_restart=[restart_tool(first.interrupts[0])], **ASKS)
    with pytest.raises(Rejected):
        await ask(ai, session='b', resume_restart=[restart_tool(first.interrupts[0])], **ASKS)


# ── one turn at a time ──────────────────────────────────────────────────────────────────────────────────────────────


class Gate:
    """A model that waits inside of its first call until the test lets it go."""

    def __init__(self) -> None:
        self.entered, self.go = asyncio.Event(), asyncio.Event()
        self.asked: list[str] = []
        self.inside = self.most = 0

    async def __call__(self, request: Any, ctx: Any) -> AsyncIterator[Any]:
        self.asked.append(request.messages[-1].text)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            self.entered.set()
            await self.go.wait()
            yield TextDelta(f're {request.messages[-1].text}')
        finally:
            self.inside -= 1


def gated(store: Any = None, clock: Any = None) -> tuple[Lamella, Gate]:
    gate = Gate()
    return Lamella(model=gate.__call__, store=store, clock=clock or FakeClock()), gate


async def test_turns_at_the_same_time_wait_for_each_other_in_order(ask) -> None:
    ai, gate = gated()
    async with no_leaks():
        first = asyncio.create_task(ask(ai, prompt='q0', session=ai.session('s', wait_s=1e6, lease_s=1e6)))
        await gate.entered.wait()
        others = []
        for n in range(1, 6):
            others.append(
                asyncio.create_task(ask(ai, prompt=f'q{n}', session=ai.session('s', wait_s=1e6, lease_s=1e6)))
            )
            for _ in range(20):
                await asyncio.sleep(0)
        gate.go.set()
        await asyncio.gather(first, *others)
    assert gate.asked == ['q0', 'q1', 'q2', 'q3', 'q4', 'q5']
    assert gate.most == 1
    expected = [text for n in range(6) for text in (f'user: q{n}', f'assistant: re q{n}')]
    assert texts(await ai.session('s').history()) == expected


async def test_a_busy_session_refuses_when_told_to(ask) -> None:
    ai, gate = gated()
    first = asyncio.create_task(ask(ai, prompt='a', session='s'))
    await gate.entered.wait()
    with pytest.raises(Rejected, match='busy with another turn') as caught:
        await ask(ai, prompt='b', session=ai.session('s', on_busy='refuse'))
    assert (caught.value.by, caught.value.status) == ('session', 'ABORTED')
    gate.go.set()
    await first
    await ask(ai, prompt='b', session=ai.session('s', on_busy='refuse'))
    assert gate.asked == ['a', 'b']


async def test_the_wait_has_an_end(ask) -> None:
    clock = FakeClock()
    ai, gate = gated(clock=clock)
    first = asyncio.create_task(ask(ai, prompt='a', session='s'))
    await gate.entered.wait()
    before = clock.now()
    with pytest.raises(Rejected, match=r'busy with another turn, also after 3 s'):
        await ask(ai, prompt='b', session=ai.session('s', wait_s=3))
    assert 3 <= clock.now() - before < 3.5
    gate.go.set()
    await first


async def test_the_wait_ends_with_the_deadline_of_the_call(ask) -> None:
    ai, gate = gated()
    first = asyncio.create_task(ask(ai, prompt='a', session='s'))
    await gate.entered.wait()
    with pytest.raises(LamellaError, match='not done within timeout_s=2'):
        await ask(ai, prompt='b', session='s', timeout_s=2)
    gate.go.set()
    await first
    assert (await ask(ai, prompt='c', session='s')).text == 're c'


async def test_whoever_stops_waiting_leaves_the_line(ask) -> None:
    store = MemoryStore()
    ai, gate = gated(store)
    async with no_leaks():
        first = asyncio.create_task(ask(ai, prompt='a', session=ai.session('s', lease_s=1e6)))
        await gate.entered.wait()
        waiting = asyncio.create_task(ask(ai, prompt='b', session=ai.session('s', wait_s=1e6)))
        for _ in range(10):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.go.set()
        await first
    assert await store.get(f'{ai.session("s").key}:line') is None
    assert (await ask(ai, prompt='c', session=ai.session('s', on_busy='refuse'))).text == 're c'


async def test_a_cancelled_turn_lets_go_and_keeps_nothing(ask) -> None:
    ai, gate = gated()
    turn = asyncio.create_task(ask(ai, prompt='a', session='s'))
    await gate.entered.wait()
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    gate.go.set()
    await ask(ai, prompt='b', session=ai.session('s', on_busy='refuse'))
    assert texts(await ai.session('s').history()) == ['user: b', 'assistant: re b']


async def test_a_reader_who_leaves_a_stream_lets_go_of_the_session() -> None:
    ai = app([TextDelta('a'), TextDelta('b')], 'two')
    async with no_leaks(), ai.generate_stream(prompt='a', session='s') as stream:
        async for _ in stream:
            break
    await ai.generate(prompt='b', session=ai.session('s', on_busy='refuse'))
    assert texts(await ai.session('s').history()) == ['user: b', 'assistant: two']


async def test_a_stream_has_let_go_and_kept_its_answer_when_its_last_part_arrives() -> None:
    ai = app('one', 'two')
    async for part in ai.generate_stream(prompt='a', session='s'):
        last = part
        if hasattr(part, 'stop_reason'):
            await ai.generate(prompt='b', session=ai.session('s', on_busy='refuse'))
    assert last.stop_reason == 'final'
    assert len(await ai.session('s').history()) == 4


async def test_a_turn_inside_of_the_turn_that_holds_the_session_is_a_clear_error(ask) -> None:
    async def nested(amount: int, ctx: Any) -> str:
        return (await ai.generate(prompt='x', session=ctx.session)).text

    ai = app(PAY)
    with pytest.raises(ConfigError, match='this run holds the session itself'):
        await ask(ai, prompt='a', session='s', tools=[ai_tool(nested)])


# ── the hold ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_long_turn_renews_its_hold() -> None:
    clock = FakeClock(auto=False)
    ai, gate = gated(MemoryStore(clock=clock), clock)
    turn = asyncio.create_task(ai.generate(prompt='a', session=ai.session('s', lease_s=30)))
    await gate.entered.wait()
    for _ in range(20):
        await clock.advance(10)
        for _ in range(5):
            await asyncio.sleep(0)
    with pytest.raises(Rejected, match='busy'):
        await ai.generate(prompt='b', session=ai.session('s', on_busy='refuse'))
    gate.go.set()
    assert (await turn).text == 're a'
    assert len(await ai.session('s').history()) == 2


class Paused(MemoryStore):
    """A store that this process cannot reach for renewals: as if it had stood still."""

    is_paused = True

    async def renew(self, lease: Any, ttl_s: float) -> Any:
        if self.is_paused:
            raise LamellaError('UNAVAILABLE', 'no renewals')
        return await super().renew(lease, ttl_s)


@pytest.mark.parametrize('door', ['whole', 'stream'])
async def test_a_turn_that_has_lost_its_hold_is_stopped_and_writes_nothing(door) -> None:
    clock = FakeClock(auto=False)
    store = Paused(clock=clock)
    ai, gate = gated(store, clock)
    session = ai.session('s', lease_s=30)
    turn = asyncio.create_task(
        ai.generate(prompt='slow', session=session) if door == 'whole' else read(ai, prompt='slow', session=session)
    )
    await gate.entered.wait()
    for _ in range(12):
        await clock.advance(3)
        for _ in range(5):
            await asyncio.sleep(0)
    with pytest.raises(LamellaError, match='lost its hold') as caught:
        await turn
    assert caught.value.status == 'ABORTED'
    gate.go.set()
    assert texts((await ai.generate(prompt='b', session=session)).messages) == ['user: b', 'assistant: re b']


async def test_after_another_turn_began_an_old_one_can_write_neither_history_nor_state_nor_artifacts() -> None:
    store = MemoryStore()
    ai = app('one', 'two', store=store)
    session = ai.session('s')
    await session.artifacts.save('old', 'x')
    hold = await session.hold()
    stale = session.held(hold.lease.token)
    await stale.record.take_over(hold.lease.token)
    await stale.state.put('k', 1)
    await store.release(hold.lease)  # as if it had run out
    await ai.generate(prompt='a', session='s')
    for write in (
        lambda: stale.record.append(0, [Message.user('x')], fence=hold.lease.token, at_s=0, run=''),
        lambda: stale.state.put('k', 2),
        lambda: stale.state.update('k', lambda old: old + 1),
        lambda: stale.state.delete('k'),
        lambda: stale.artifacts.save('old', 'y'),
        lambda: stale.artifacts.save('new', 'y'),
        lambda: stale.artifacts.delete('old'),
        lambda: stale.record.take_over(hold.lease.token),
        lambda: stale.record.erase(hold.lease.token),
    ):
        with pytest.raises(LamellaError, match='lost its hold'):
            await write()
    await hold.release()
    assert texts(await ai.session('s').history()) == ['user: a', 'assistant: one']
    assert await session.state.all() == {'k': 1}
    assert [info.version for info in await session.artifacts.versions('old')] == [1]


async def test_the_first_artifact_of_a_session_is_fenced_too() -> None:
    store = MemoryStore()
    ai = app('one', store=store)
    session = ai.session('s')
    hold = await session.hold()
    stale = session.held(hold.lease.token)
    await stale.record.take_over(hold.lease.token)
    await store.release(hold.lease)
    await ai.generate(prompt='a', session='s')
    with pytest.raises(LamellaError, match='lost its hold'):
        await stale.artifacts.save('new', 'y')
    await hold.release()
    assert await session.artifacts.list() == ()


# ── state and artifacts in a run ────────────────────────────────────────────────────────────────────────────────────


async def test_tools_and_layers_reach_the_session(ask) -> None:
    seen: list[Any] = []

    class Looks(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            seen.append(ctx.session.id)
            return await next_fn(params, ctx)

    async def note(amount: int, ctx: Any) -> str:
        await ctx.session.state.update('total', lambda old: old + amount, 0)
        await ctx.session.artifacts.save('bill.txt', f'{amount} paid')
        return 'noted'

    ai = app(PAY, 'done', PAY.replace(input={'amount': 4}), 'done')
    for _ in range(2):
        await ask(ai, prompt='pay', session='s', tools=[ai_tool(note)], use=[Looks()])
    session = ai.session('s')
    assert seen == ['s'] * 4
    assert await session.state.get('total') == 5
    assert (await session.artifacts.load('bill.txt')).text == '4 paid'


async def test_without_a_session_there_is_none(ask) -> None:
    seen: list[Any] = []

    async def note(amount: int, ctx: Any) -> str:
        seen.append((ctx.session, ctx.run.session))
        return 'noted'

    await ask(app(PAY, 'done'), prompt='pay', tools=[ai_tool(note)])
    assert seen == [(None, None)]


async def test_state_that_is_written_from_outside_during_a_turn_is_not_lost(ask) -> None:
    async def slow(amount: int, ctx: Any) -> str:
        await ai.session('s').state.put('outside', 1)
        await ctx.session.state.put('inside', 2)
        return 'ok'

    ai = app(PAY, 'done')
    await ask(ai, prompt='pay', session='s', tools=[ai_tool(slow)])
    assert await ai.session('s').state.all() == {'outside': 1, 'inside': 2}
    assert len(await ai.session('s').history()) == 4


def test_a_session_shows_itself_by_its_id() -> None:
    assert repr(app().session('ann')) == "Session('ann')"
    assert isinstance(app().session('ann'), Session)


async def test_sync_code_has_sessions_too() -> None:
    def work() -> list[str]:
        ai = Lamella(model=ScriptedModel(['one', 'two']))
        ai.sync.generate(prompt='a', session='s')
        ai.sync.generate(prompt='b', session='s')
        history = ai.sync.run(ai.session('s').history())
        ai.sync.close()
        return texts(history)

    assert await asyncio.to_thread(work) == ['user: a', 'assistant: one', 'user: b', 'assistant: two']
