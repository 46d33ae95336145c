"""`ai.approvals`: calls are kept, decided by anybody, carried out anywhere, once, and the record says what happened."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from lamella import ApprovalSettings, Interrupt, Lamella, LamellaError, ModelRef, ToolContext, deny_tool, restart_tool
from lamella.middleware import BaseMiddleware, ToolApproval
from lamella.stores.memory import MemoryStore
from lamella.testing import FakeClock, ScriptedModel
from lamella.types import ConfigError, Message, OutputError, Rejected, ToolRequest, ToolResponse, UnknownNameError
from tests.engine.approvals.kit import KEYS, ONE, TWO, Server
from tests.engine.kit import no_leaks, scripted


@pytest.fixture(params=[False, True], ids=['whole', 'stream'])
def server(request: pytest.FixtureRequest) -> Any:
    return lambda *script, **options: Server(*script, streaming=request.param, **options)


async def test_an_interrupted_run_waits_in_the_store_with_everything_that_is_shown(server) -> None:
    at = server([ONE, TWO])
    id = await at.interrupted()
    first, second = await at.other().ai.approvals.list()
    assert (first.id, first.state, first.tool, first.input, first.ref) == (id, 'pending', 'pay', {'amount': 1}, 'r1')
    assert (second.run_id, second.id) == (first.run_id, f'{first.run_id}.2')
    assert first.message == 'pay is not in allowed_tools and needs an approval'
    assert first.note['by'] == 'tool_approval'
    assert (first.requested_s, first.expires_at_s) == (at.clock.time(), at.clock.time() + 7 * 86_400)
    assert [step.what for step in first.steps] == ['requested']
    assert first.session is None
    assert at.bank.paid == []
    assert await at.ai.approvals.get(second.id) == second


async def test_any_process_decides_and_another_one_goes_on(server) -> None:
    asked, decided = server(ONE), server()
    decided.store = decided.ai = None
    asked = server(ONE)
    id = await asked.interrupted()
    record = await asked.other().ai.approvals.approve(id, by='ann')
    assert (record.state, record.decision.kind, record.decision.by) == ('decided', 'approve', 'ann')
    resumed = asked.other('done')
    response = await resumed.resume(id)
    assert (response.text, response.stop_reason) == ('done', 'final')
    assert (asked.bank.paid, resumed.bank.paid) == ([], [1])
    assert [message.role for message in response.messages] == ['user', 'assistant', 'tool', 'assistant']
    record = await asked.ai.approvals.get(id)
    assert (record.state, record.response) == ('done', ToolResponse('pay', 'paid 1', 'r1'))
    assert [(step.what, step.by) for step in record.steps] == [
        ('requested', ''),
        ('approved', 'ann'),
        ('started', ''),
        ('done', ''),
    ]
    assert await asked.ai.approvals.list('all') == ()


async def test_the_run_goes_on_as_it_was(server) -> None:
    at = server(ONE, settings=ApprovalSettings(keep_context=('tenant',)))
    seen: dict[str, Any] = {}

    async def pay(amount: int, ctx: ToolContext) -> str:
        seen.update(context=dict(ctx.context), resumed=dict(ctx.resumed or {}))
        return 'paid'

    id = await at.interrupted(
        system='Be brief.',
        tools=[pay],
        config={'temperature': 0.5, 'stop_sequences': ['x']},
        provider_options={'bank': {'a': 1}},
        context={'tenant': 'acme', 'password': 'secret'},
        output_schema={'type': 'object', 'title': 'Receipt'},
        max_turns=3,
    )
    await at.ai.approvals.approve(id, by='ann')
    other = at.other('{"ok": true}')
    response = await other.resume(id, tools=[pay], context={'user': 'bob'})
    request = scripted(other.ai).requests[0]
    assert response.output == {'ok': True}
    assert (request.config.temperature, request.config.stop_sequences) == (0.5, ('x',))
    assert request.provider_options == {'bank': {'a': 1}}
    assert request.output.name == 'Receipt'
    assert request.messages[0] == Message.system('Be brief.')
    assert [tool.name for tool in request.tools] == ['pay']
    assert seen['context'] == {'tenant': 'acme', 'user': 'bob'}
    assert seen['resumed'] == {'toolApproved': True, 'approvedBy': 'ann', 'approval': id}
    raw = [value for value in (await dump(at.store)) if b'secret' in value]
    assert raw == []


async def dump(store: MemoryStore) -> list[bytes]:
    return [row.content.value for row in store._tables['value'].values()]


async def test_edited_input_is_what_runs_and_what_is_recorded(server) -> None:
    at = server(ONE, 'done')
    id = await at.interrupted()
    await at.ai.approvals.approve(id, by='ann', input={'amount': 50})
    await at.resume(id)
    assert at.bank.paid == [50]
    record = await at.ai.approvals.get(id)
    assert (record.input, record.decision.edited) == ({'amount': 1}, ({'amount': 50},))


async def test_a_denied_call_tells_the_model_why(server) -> None:
    at = server(ONE, 'as you wish')
    id = await at.interrupted()
    await at.ai.approvals.deny(id, 'too dear', by='ann')
    response = await at.resume(id)
    assert at.bank.paid == []
    assert response.messages[2].tool_responses[0].tool_response == ToolResponse('pay', 'too dear', 'r1', True)
    record = await at.ai.approvals.get(id)
    assert (record.state, record.decision.kind, record.decision.output) == ('done', 'deny', 'too dear')


async def test_an_answer_takes_the_tools_place(server) -> None:
    class Receipt(BaseModel):
        number: int

    at = server(ONE, 'thanks')
    id = await at.interrupted()
    await at.ai.approvals.answer(id, Receipt(number=7), by='ann')
    response = await at.resume(id)
    assert at.bank.paid == []
    assert response.messages[2].tool_responses[0].tool_response.output == {'number': 7}


async def test_calls_are_decided_one_by_one(server) -> None:
    at = server([ONE, TWO], 'done')
    first = await at.interrupted()
    second = f'{first[:-1]}2'
    with pytest.raises(Rejected, match='nothing is decided yet'):
        await at.resume(first)
    await at.ai.approvals.approve(second, by='ann')
    half = await at.resume(second)
    assert half.stop_reason == 'interrupted'
    assert [part.metadata['interrupt']['id'] for part in half.interrupts] == [first]
    assert at.bank.paid == [2]
    assert [record.id for record in await at.ai.approvals.list()] == [first]
    await at.ai.approvals.approve(first, by='bob')
    response = await at.resume(first.partition('.')[0])
    assert at.bank.paid == [2, 1]
    outputs = [part.tool_response.output for part in response.messages[2].tool_responses]
    assert (response.text, outputs) == ('done', ['paid 1', 'paid 2'])


async def test_finished_siblings_are_not_run_again(server) -> None:
    ran = []

    async def note(text: str) -> str:
        ran.append(text)
        return 'noted'

    at = server([ToolRequest('note', {'text': 'x'}, 'r0'), ONE], 'done')
    at.options = {'tools': [note, at.bank.pay], 'use': [ToolApproval(allowed_tools=['note'])]}
    id = await at.interrupted()
    await at.ai.approvals.approve(id, by='ann')
    response = await at.resume(id)
    assert (ran, at.bank.paid) == (['x'], [1])
    assert len(response.messages[2].tool_responses) == 2


async def test_a_run_that_is_interrupted_again_waits_under_a_new_id(server) -> None:
    at = server(ONE, TWO, 'done')
    first = await at.interrupted()
    await at.ai.approvals.approve(first, by='ann')
    response = await at.resume(first, durable=True)
    (second,) = [part.metadata['interrupt']['id'] for part in response.interrupts]
    assert second != first
    assert [record.id for record in await at.ai.approvals.list()] == [second]
    with pytest.raises(Rejected, match='has gone on already'):
        await at.resume(first)
    await at.ai.approvals.approve(second, by='ann')
    assert (await at.resume(second)).text == 'done'
    assert at.bank.paid == [1, 2]


async def test_a_call_that_is_asked_about_again_needs_a_decision_of_its_own(server) -> None:
    times = []

    async def pay(amount: int) -> str:
        times.append(amount)
        if len(times) < 2:
            raise Interrupt('really?', {'sum': amount})
        return 'ok'

    at = server(ONE, 'done')
    at.options = {'tools': [pay], 'use': [ToolApproval()]}
    id = await at.interrupted()
    token = await at.ai.approvals.sign(id, 'approve', by='bob')
    await at.ai.approvals.approve(id, by='ann')
    response = await at.resume(id)
    assert [part.metadata['interrupt']['id'] for part in response.interrupts] == [id]
    (record,) = await at.ai.approvals.list()
    assert (record.state, record.generation, record.message, record.note['sum']) == ('pending', 2, 'really?', 1)
    assert record.decision is None
    with pytest.raises(Rejected, match='an earlier question'):
        await at.ai.approvals.redeem(token)
    await at.ai.approvals.approve(id, by='bob')
    assert (await at.resume(id)).text == 'done'
    steps = [step.what for step in (await at.ai.approvals.get(id)).steps]
    assert steps == ['requested', 'approved', 'started', 'asked again', 'approved', 'started', 'done']


# ── when a run is kept ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_is_kept_when_somebody_wants_it_to_be(server) -> None:
    for options, kept in (
        ({}, False),
        ({'durable': True}, True),
        ({'use': [ToolApproval(durable=True)]}, True),
        ({'use': [ToolApproval(durable=True)], 'durable': False}, False),
        ({'session': 's'}, True),
        ({'session': 's', 'durable': False}, False),
    ):
        at = server(ONE)
        await at.ask(prompt='pay', **options)
        assert bool(await at.ai.approvals.list()) is kept, options
    at = server(ONE, settings=ApprovalSettings(always=True))
    await at.ask(prompt='pay')
    assert len(await at.ai.approvals.list()) == 1


@pytest.mark.parametrize('door', ['whole', 'stream'])
async def test_without_a_store_nothing_is_kept_and_wanting_it_is_an_error(door) -> None:
    async def pay(amount: int) -> str:
        return 'paid'

    async def ask(**options: Any) -> Any:
        if door == 'whole':
            return await ai.generate(prompt='pay', tools=[pay], **options)
        return [part async for part in ai.generate_stream(prompt='pay', tools=[pay], **options)]

    ai = Lamella(model=ScriptedModel([ONE, ONE]))
    with pytest.raises(ConfigError, match='durable=True: the app has no store'):
        await ask(use=[ToolApproval()], durable=True)
    with pytest.raises(ConfigError, match='the app has no store'):
        await ask(use=[ToolApproval(durable=True)])
    await ask(use=[ToolApproval()])
    assert await ai.approvals.list('all') == ()


def test_settings_without_a_store_are_refused() -> None:
    with pytest.raises(ConfigError, match='approvals= needs a store'):
        Lamella(approvals=ApprovalSettings(always=True))
    with pytest.raises(ConfigError, match=r'approvals= is a dict: give ApprovalSettings'):
        Lamella(store='memory://', approvals={'always': True})  # type: ignore[arg-type]


async def test_what_cannot_be_stored_fails_the_run_and_runs_nothing(server) -> None:
    at = server(ONE, settings=ApprovalSettings(keep_context=('lock',)))
    with pytest.raises(ConfigError, match='the interrupted run cannot be stored'):
        await at.interrupted(context={'lock': object()})
    assert at.bank.paid == []


# ── who was first ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_of_two_who_decide_at_once_one_wins_and_the_other_is_told_who(server) -> None:
    at = server(ONE, 'done')
    id = await at.interrupted()
    people = [at.other(seed=n).ai.approvals.approve(id, by=f'ann {n}') for n in range(5)]
    people += [at.other(seed=n).ai.approvals.deny(id, by=f'bob {n}') for n in range(5)]
    results = await asyncio.gather(*people, return_exceptions=True)
    won = [result for result in results if not isinstance(result, BaseException)]
    lost = [result for result in results if isinstance(result, Rejected)]
    assert (len(won), len(lost)) == (1, 9)
    winner = won[0].decision.by
    for refusal in lost:
        assert f'by {winner}' in refusal.message
        assert refusal.details['by'] == winner
        assert refusal.status == 'FAILED_PRECONDITION'
    audit = await at.ai.approvals.audit()
    decided = [entry for entry in audit if entry.what in ('approved', 'denied')]
    assert [entry.by for entry in decided if entry.is_effective] == [winner]


async def test_a_decision_is_made_once(server) -> None:
    at = server(ONE, 'done')
    id = await at.interrupted()
    await at.ai.approvals.approve(id, by='ann')
    for again in (
        lambda: at.ai.approvals.approve(id, by='ann'),
        lambda: at.ai.approvals.deny(id, by='bob'),
        lambda: at.ai.approvals.answer(id, 1, by='bob'),
        lambda: at.ai.approvals.restart(id, by='bob'),
    ):
        with pytest.raises(Rejected, match='already approved by ann'):
            await again()
    await at.resume(id)
    with pytest.raises(Rejected, match='already approved by ann, and is done'):
        await at.ai.approvals.approve(id, by='bob')
    assert [event.facts['by'] for event in at.sink.named('approval.refused')] == ['ann', 'bob', 'bob', 'bob', 'bob']


async def test_of_many_who_go_on_at_once_one_does(server) -> None:
    at = server(ONE)
    id = await at.interrupted()
    await at.ai.approvals.approve(id, by='ann')
    others = [at.other('done', seed=n) for n in range(5)]
    results = await asyncio.gather(*[other.resume(id) for other in others], return_exceptions=True)
    assert sum(len(other.bank.paid) for other in others) == 1
    assert sorted(type(result).__name__ for result in results)[0] == 'GenerateResponse'
    assert all(isinstance(result, Rejected) for result in results if isinstance(result, BaseException))
    assert sum(not isinstance(result, BaseException) for result in results) == 1


@pytest.mark.parametrize('by', ['', '  ', 7, None, 'a\nb', 'x' * 321])
async def test_somebody_decides(server, by) -> None:
    at = server(ONE)
    id = await at.interrupted()
    for decide in (at.ai.approvals.approve, at.ai.approvals.deny, at.ai.approvals.restart):
        with pytest.raises(ConfigError, match='say who decides'):
            await decide(id, by=by)
    assert (await at.ai.approvals.get(id)).state == 'pending'


@pytest.mark.parametrize(
    'id',
    ['', 'x', None, 7, 'run_' + 'a' * 32, 'run_' + 'a' * 32 + '.1', 'run_' + 'A' * 32 + '.1', 'run_x.1', 'run_' + '0' * 32 + '.0',
     'run_' + '0' * 32 + '.1\n', '../run', 'run_' + '0' * 32 + '.9999999', '٣' * 36],
)  # fmt: skip
async def test_an_id_that_is_none_is_not_found(server, id) -> None:
    at = server(ONE)
    await at.interrupted()
    for call in (
        lambda: at.ai.approvals.get(id),
        lambda: at.ai.approvals.approve(id, by='ann'),
        lambda: at.ai.approvals.sign(id, 'approve', by='ann'),
        lambda: at.resume(id) if id is not None else at.ai.approvals.get(id),
    ):
        with pytest.raises(LamellaError) as caught:
            await call()
        assert caught.value.status == 'NOT_FOUND'


async def test_a_number_that_the_run_does_not_have_is_not_found(server) -> None:
    at = server(ONE)
    id = await at.interrupted()
    with pytest.raises(LamellaError, match='no approval'):
        await at.ai.approvals.get(f'{id}1')


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_decision_that_comes_too_late_is_refused_and_the_call_never_runs(server) -> None:
    at = server(ONE, 'as you wish', settings=ApprovalSettings(expires_s=60, keys=KEYS))
    id = await at.interrupted()
    await at.clock.advance(61)
    assert (await at.ai.approvals.get(id)).state == 'expired'
    assert await at.ai.approvals.list() == ()
    assert [record.id for record in await at.ai.approvals.list('expired')] == [id]
    for decide in (at.ai.approvals.approve, at.ai.approvals.deny, at.ai.approvals.restart):
        with pytest.raises(Rejected, match=r'the time for a decision on .* is over') as caught:
            await decide(id, by='ann')
        assert caught.value.status == 'DEADLINE_EXCEEDED'
    response = await at.resume(id)
    assert at.bank.paid == []
    assert response.messages[2].tool_responses[0].tool_response.output.startswith('Nobody decided')


async def test_an_approval_that_is_not_carried_out_in_time_is_void(server) -> None:
    at = server(ONE, 'as you wish', settings=ApprovalSettings(expires_s=60))
    id = await at.interrupted()
    await at.clock.advance(50)
    await at.ai.approvals.approve(id, by='ann')
    await at.clock.advance(50)
    assert (await at.ai.approvals.get(id)).state == 'decided'
    await at.clock.advance(11)
    response = await at.resume(id)
    assert at.bank.paid == []
    assert response.messages[2].tool_responses[0].tool_response.is_error


async def test_nothing_is_kept_for_ever(server) -> None:
    at = server(ONE, 'done', ONE, settings=ApprovalSettings(expires_s=60, kept_s=600))
    id = await at.interrupted()
    await at.ai.approvals.approve(id, by='ann')
    await at.resume(id)
    await at.interrupted()
    await at.clock.advance(10_000)
    assert await at.ai.approvals.list('all') == ()
    left = [key for table in ('value', 'lease', 'count') for key in at.store._tables[table]]
    assert [key.split(':')[2] for key in left] == ['open'] * len(left)
    assert all(len(row.content.value) < 4 for row in at.store._tables['value'].values())


async def test_lists_do_not_grow_when_nobody_reads_them(server) -> None:
    at = server(settings=ApprovalSettings(expires_s=60, kept_s=600))
    for _ in range(200):
        at.ai.default_model, at.ai._default = ScriptedModel([ONE]), None
        await at.interrupted()
        await at.clock.advance(100)
    listed = [row.content.value for key, row in at.store._tables['value'].items() if ':open:' in key]
    assert sum(value.count(b'run_') for value in listed) < 80


# ── what failed, and what nobody knows ──────────────────────────────────────────────────────────────────────────────


async def test_a_tool_that_tells_the_model_what_is_wrong_is_done(server) -> None:
    at = server(ONE.replace(input={'amount': 'lots'}), 'sorry')
    id = await at.interrupted()
    await at.ai.approvals.approve(id, by='ann')
    assert (await at.resume(id)).text == 'sorry'
    record = await at.ai.approvals.get(id)
    assert (record.state, record.response.is_error, at.bank.paid) == ('done', True, [])


async def test_a_tool_that_fails_is_failed_and_waits_for_a_person(server) -> None:
    at = server(ONE, 'done')
    id = await at.interrupted()
    await at.ai.approvals.approve(id, by='ann')
    at.bank.error = ConnectionError('password=hunter2')
    with pytest.raises(ConnectionError):
        await at.resume(id)
    (record,) = await at.ai.approvals.list()
    assert (record.state, record.error) == ('failed', 'ConnectionError')
    with pytest.raises(Rejected, match=r'failed\. Nothing runs it again by itself'):
        await at.resume(id)
    with pytest.raises(Rejected, match='already approved by ann'):
        await at.ai.approvals.approve(id, by='bob')
    assert at.bank.paid == [1]
    at.bank.error = None
    record = await at.ai.approvals.restart(id, by='bob')
    assert (record.state, record.decision.by, record.generation) == ('decided', 'bob', 2)
    assert (await at.resume(id)).text == 'done'
    assert at.bank.paid == [1, 1]


async def test_a_failed_call_may_be_answered_for(server) -> None:
    at = server(ONE, 'done')
    id = await at.interrupted()
    await at.ai.approvals.approve(id, by='ann')
    at.bank.error = ConnectionError('gone')
    with pytest.raises(ConnectionError):
        await at.resume(id)
    await at.ai.approvals.answer(id, 'it went through, I called them', by='bob')
    response = await at.resume(id)
    assert response.messages[2].tool_responses[0].tool_response.output == 'it went through, I called them'
    assert at.bank.paid == [1]


async def test_a_run_that_fails_behind_the_tool_goes_on_without_running_it_again(server) -> None:
    at = server(ONE, LamellaError('UNAVAILABLE', 'down'), 'done')
    id = await at.interrupted()
    await at.ai.approvals.approve(id, by='ann')
    with pytest.raises(LamellaError, match='down'):
        await at.resume(id)
    response = await at.resume(id)
    assert (response.text, at.bank.paid) == ('done', [1])
    with pytest.raises(Rejected, match='has gone on already'):
        await at.resume(id)


async def test_a_cancelled_tool_is_unknown(server) -> None:
    entered = asyncio.Event()

    async def pay(amount: int) -> str:
        entered.set()
        await asyncio.Event().wait()
        return 'never'

    at = server(ONE, 'done')
    at.options = {'tools': [pay], 'use': [ToolApproval()]}
    id = await at.interrupted()
    await at.ai.approvals.approve(id, by='ann')
    async with no_leaks():
        task = asyncio.create_task(at.resume(id))
        await entered.wait()
        record = await at.ai.approvals.get(id)
        assert record.state == 'started'
        for decide in (at.ai.approvals.restart, at.ai.approvals.approve):
            with pytest.raises(Rejected):
                await decide(id, by='bob')
        with pytest.raises(Rejected, match='is running'):
            await at.ai.approvals.answer(id, 1, by='bob')
        with pytest.raises(Rejected, match='being resumed'):
            await at.other().resume(id)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (record,) = await at.ai.approvals.list()
    assert (record.id, record.state) == (id, 'unknown')
    with pytest.raises(Rejected, match='may have run or not'):
        await at.resume(id)
    await at.ai.approvals.answer(id, 'it did not', by='bob')
    assert (await at.resume(id)).text == 'done'


async def test_a_layer_that_refuses_the_call_makes_it_failed(server) -> None:
    class Refuses(BaseMiddleware):
        async def wrap_tool(self, params, ctx, next_fn):
            if params.approval is not None:
                raise Rejected('not today', by=self)
            return await next_fn(params, ctx)

    at = server(ONE, 'done')
    at.options['use'] = [Refuses(), ToolApproval()]
    id = await at.interrupted()
    await at.ai.approvals.approve(id, by='ann')
    with pytest.raises(Rejected, match='not today'):
        await at.resume(id)
    assert (await at.ai.approvals.get(id)).error == 'Rejected'
    assert at.bank.paid == []


async def test_a_run_that_never_began_uses_up_nothing(server) -> None:
    class Refuses(BaseMiddleware):
        async def wrap_run(self, params, ctx, next_fn):
            raise Rejected('over the limit', by=self)

    at = server(ONE, 'done')
    id = await at.interrupted()
    await at.ai.approvals.approve(id, by='ann')
    with pytest.raises(Rejected, match='over the limit'):
        await at.resume(id, use=[Refuses(), ToolApproval()])
    assert (await at.ai.approvals.get(id)).state == 'decided'
    assert (await at.resume(id)).text == 'done'


# ── the same app ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_does_not_go_on_without_its_layers_and_tools(server) -> None:
    class Guard(BaseMiddleware):
        name = 'guard'

    at = server(ONE, 'done')
    id = await at.interrupted(use=[Guard(), ToolApproval(), ToolApproval()])
    await at.ai.approvals.approve(id, by='ann')
    with pytest.raises(ConfigError, match='layers that are not here: guard, tool_approval'):
        await at.resume(id, use=[ToolApproval()])
    with pytest.raises(ConfigError, match='tools that are not here: pay'):
        await at.resume(id, use=[Guard(), ToolApproval(), ToolApproval()], tools=[])
    with pytest.raises(ConfigError, match='prompt= has no place beside resume='):
        await at.resume(id, prompt='x')
    response = await at.resume(id, use=[ToolApproval(), Guard(), ToolApproval()])
    assert (response.text, at.bank.paid) == ('done', [1])


async def test_registered_tools_are_found_by_name(server) -> None:
    at = server(ONE, 'done')
    at.ai.tool('pay')(at.bank.pay)
    at.options = {'use': [ToolApproval()]}
    id = await at.interrupted(tools=['pay'])
    await at.ai.approvals.approve(id, by='ann')
    assert (await at.resume(id)).text == 'done'
    assert at.bank.paid == [1]


async def test_tools_of_layers_come_from_the_layers(server) -> None:
    class Pays(BaseMiddleware):
        def tools(self, ctx):
            return [at.bank.pay]

    at = server(ONE, 'done')
    at.options = {'use': [Pays(), ToolApproval()]}
    id = await at.interrupted()
    await at.ai.approvals.approve(id, by='ann')
    assert (await at.resume(id)).text == 'done'


async def test_the_model_is_found_by_the_name_that_was_used(server) -> None:
    at = server()
    for name in ('x/one', 'x/two'):
        at.ai.registry.add_model(name, ScriptedModel([ONE, f'from {name}'], name=name))
    for model in ('x/one', ModelRef('x/two', {'temperature': 0.1})):
        id = await at.interrupted(model=model)
        await at.ai.approvals.approve(id, by='ann')
        response = await at.resume(id)
        assert response.text == f'from {model if isinstance(model, str) else model.name}'
    assert at.ai.registry.models['x/two'].requests[-1].config.temperature == 0.1


async def test_a_model_that_nobody_knows_by_name_must_be_given_again(server) -> None:
    at = server()
    mine = ScriptedModel([ONE, 'done'], name='mine')
    id = await at.interrupted(model=mine)
    await at.ai.approvals.approve(id, by='ann')
    with pytest.raises(UnknownNameError, match='mine'):
        await at.resume(id)
    assert (await at.resume(id, model=mine)).text == 'done'


async def test_a_typed_answer_is_typed_again_when_the_type_is_given(server) -> None:
    class Receipt(BaseModel):
        ok: bool

    at = server(ONE, 'no json', '{"ok": true}')
    id = await at.interrupted(output_schema=Receipt)
    await at.ai.approvals.approve(id, by='ann')
    with pytest.raises(OutputError):
        await at.resume(id)
    assert (await at.resume(id, output_schema=Receipt)).output == Receipt(ok=True)


async def test_another_app_in_the_same_store_sees_none_of_it(server) -> None:
    at = server(ONE)
    id = await at.interrupted()
    other = at.other(settings=ApprovalSettings(app='other'))
    assert await other.ai.approvals.list('all') == ()
    with pytest.raises(LamellaError, match='no approval'):
        await other.ai.approvals.approve(id, by='ann')


async def test_ids_that_are_taken_are_drawn_again(server) -> None:
    at = server(ONE)
    ids = {await at.interrupted(), await at.other(ONE, seed=7).interrupted()}
    assert len(ids) == 2
    assert len(await at.ai.approvals.list()) == 2


# ── decisions in the call's own arguments ───────────────────────────────────────────────────────────────────────────


async def test_the_seeds_loop_works_on_kept_calls_and_is_recorded(server) -> None:
    at = server(ONE, 'done')
    response = await at.ask(prompt='pay', durable=True)
    id = response.interrupts[0].metadata['interrupt']['id']
    approved = restart_tool(response.interrupts[0], metadata={'toolApproved': True})
    response = await at.ask(messages=response.messages, resume_restart=[approved])
    assert (response.text, at.bank.paid) == ('done', [1])
    record = await at.ai.approvals.get(id)
    assert (record.state, record.decision.by) == ('done', "the call's own arguments")
    assert await at.ai.approvals.list('all') == ()
    with pytest.raises(Rejected):
        await at.ai.approvals.approve(id, by='ann')


async def test_a_call_in_the_store_and_in_the_arguments_has_one_decision(server) -> None:
    at = server(ONE, 'done', 'never')
    response = await at.ask(prompt='pay', durable=True)
    id = response.interrupts[0].metadata['interrupt']['id']
    yes = {'toolApproved': True}
    stripped = response.messages[-1].tool_requests[0]  # as a client would give it back
    await at.ai.approvals.deny(id, by='ann')
    for part in (response.interrupts[0], stripped):
        with pytest.raises(Rejected, match=r'denied by ann|already used'):
            await at.ask(messages=response.messages, resume_restart=[restart_tool(part, metadata=yes)])
    await at.resume(id)
    for part in (response.interrupts[0], stripped):
        with pytest.raises(Rejected, match='already used'):
            await at.ask(messages=response.messages, resume_restart=[restart_tool(part, metadata=yes)])
    assert at.bank.paid == []


@pytest.mark.parametrize('stripped', [False, True])
async def test_arguments_of_another_process_count_once_too(server, stripped) -> None:
    at = server(ONE)
    response = await at.ask(prompt='pay', durable=True)
    part = response.messages[-1].tool_requests[0] if stripped else response.interrupts[0]
    yes = restart_tool(part, metadata={'toolApproved': True})
    others = [at.other('done', seed=n) for n in range(4)]
    results = await asyncio.gather(
        *[other.ask(messages=response.messages, resume_restart=[yes]) for other in others], return_exceptions=True
    )
    assert sum(len(other.bank.paid) for other in others) == 1
    assert sum(isinstance(result, Rejected) for result in results) == 3


async def test_a_denial_in_the_arguments_is_recorded(server) -> None:
    at = server([ONE, TWO], 'done')
    response = await at.ask(prompt='pay', durable=True)
    first, second = response.interrupts
    half = await at.ask(messages=response.messages, resume_respond=[deny_tool(first, 'no')])
    assert [part.metadata['interrupt']['id'] for part in half.interrupts] == [second.metadata['interrupt']['id']]
    record = await at.ai.approvals.get(first.metadata['interrupt']['id'])
    assert (record.state, record.decision.kind) == ('done', 'deny')
    assert len(await at.ai.approvals.list()) == 1


async def test_calls_that_are_not_kept_have_one_decision_in_all_processes(server) -> None:
    at = server(ONE)
    response = await at.ask(prompt='pay')
    yes = restart_tool(response.interrupts[0], metadata={'toolApproved': True})
    others = [at.other('done', seed=n) for n in range(4)]
    results = await asyncio.gather(
        *[other.ask(messages=response.messages, resume_restart=[yes]) for other in others], return_exceptions=True
    )
    assert sum(len(other.bank.paid) for other in others) == 1
    assert sum(isinstance(result, Rejected) and 'already used' in result.message for result in results) == 3


async def test_a_call_that_was_never_interrupted_here_has_one_decision_in_all_processes(server) -> None:
    foreign = [Message.user('pay'), Message.assistant(*requested(ONE))]
    at = server()
    yes = restart_tool(foreign[-1].tool_requests[0], metadata={'toolApproved': True})
    others = [at.other('done', seed=n) for n in range(3)]
    results = await asyncio.gather(
        *[other.ask(messages=foreign, resume_restart=[yes]) for other in others], return_exceptions=True
    )
    assert sum(len(other.bank.paid) for other in others) == 1
    assert sum(isinstance(result, Rejected) for result in results) == 2


def requested(request: ToolRequest) -> Any:
    return Message.assistant({'type': 'tool_request', 'tool_request': {'name': request.name, 'input': request.input,
                                                                       'ref': request.ref}}).content  # fmt: skip


async def test_the_same_call_twice_has_two_decisions(server) -> None:
    at = server(ONE, 'done', ONE, 'done')
    for _ in range(2):
        response = await at.ask(prompt='pay')
        yes = restart_tool(response.interrupts[0], metadata={'toolApproved': True})
        await at.ask(messages=response.messages, resume_restart=[yes])
    assert at.bank.paid == [1, 1]
    with pytest.raises(Rejected, match='already used'):
        await at.ask(messages=response.messages, resume_restart=[yes])


# ── sessions ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_in_a_session_goes_on_in_it(server) -> None:
    at = server('hello', ONE)
    await at.ask(prompt='hi', session='s')
    id = await at.interrupted(session='s', durable=None, system='Be brief.')
    (record,) = await at.ai.approvals.list(session='s')
    assert (record.id, record.session) == (id, 's')
    assert await at.ai.approvals.list(session='t') == ()
    await at.ai.approvals.approve(id, by='ann')
    other = at.other('done', 'more')
    response = await other.resume(id)
    assert response.text == 'done'
    assert [message.role for message in await other.ai.session('s').history()] == ['user', 'assistant'] * 2 + [
        'tool',
        'assistant',
    ]
    assert scripted(other.ai).requests[0].messages[0] == Message.system('Be brief.')
    assert (await other.ask(prompt='and?', session='s')).text == 'more'


async def test_a_session_is_decided_by_its_arguments_too(server) -> None:
    at = server(ONE, 'done')
    id = await at.interrupted(session='s')
    (waiting,) = await at.ai.session('s').waiting()
    yes = restart_tool(waiting, metadata={'toolApproved': True})
    response = await at.ask(session='s', resume_restart=[yes])
    assert (response.text, at.bank.paid) == ('done', [1])
    assert (await at.ai.approvals.get(id)).state == 'done'
    assert await at.ai.approvals.list('all') == ()


async def test_a_run_whose_session_was_deleted_or_has_gone_on_does_not(server) -> None:
    at = server(ONE, ONE, 'other', 'never')
    first = await at.interrupted(session='s')
    await at.ai.session('s').delete()
    await at.ai.approvals.approve(first, by='ann')
    with pytest.raises(Rejected, match='not where its session stands'):
        await at.resume(first)
    assert await at.ai.approvals.list('all') == ()
    assert at.bank.paid == []


async def test_a_run_in_a_session_that_fails_behind_the_tool_goes_on_from_there(server) -> None:
    at = server(ONE, LamellaError('UNAVAILABLE', 'down'), 'done', 'never')
    id = await at.interrupted(session='s')
    await at.ai.approvals.approve(id, by='ann')
    with pytest.raises(LamellaError, match='down'):
        await at.resume(id)
    assert [message.role for message in await at.ai.session('s').history()] == ['user', 'assistant', 'tool']
    response = await at.resume(id)
    assert (response.text, at.bank.paid) == ('done', [1])
    with pytest.raises(Rejected, match='has gone on already'):
        await at.resume(id)


async def test_a_session_with_settings_of_its_own_keeps_them(server) -> None:
    at = server(ONE, 'done')
    id = await at.interrupted(session=at.ai.session('s', ttl_s=600, on_busy='refuse'))
    await at.ai.approvals.approve(id, by='ann')
    await at.resume(id)
    await at.clock.advance(601)
    assert await at.ai.session('s').history() == ()


async def test_a_session_in_a_store_of_its_own_must_be_given_again(server) -> None:
    at, elsewhere = server(ONE, 'done'), MemoryStore()
    id = await at.interrupted(session=at.ai.session('s', elsewhere))
    await at.ai.approvals.approve(id, by='ann')
    with pytest.raises(ConfigError, match='own store'):
        await at.resume(id)
    with pytest.raises(ConfigError, match='another session'):
        await at.resume(id, session=at.ai.session('t', elsewhere))
    assert (await at.resume(id, session=at.ai.session('s', elsewhere))).text == 'done'


# ── the store away ──────────────────────────────────────────────────────────────────────────────────────────────────


class Away(MemoryStore):
    """A store that can be away."""

    is_away = False

    async def get(self, key: str) -> Any:
        if self.is_away:
            raise LamellaError('UNAVAILABLE', 'the store is away')
        return await super().get(key)

    async def compare_and_put(self, *args: Any, **options: Any) -> Any:
        if self.is_away:
            raise LamellaError('UNAVAILABLE', 'the store is away')
        return await super().compare_and_put(*args, **options)


async def test_with_the_store_away_nothing_runs(server) -> None:
    clock = FakeClock()
    at = server(ONE, ONE, 'done', store=Away(clock=clock), clock=clock)
    id = await at.interrupted()
    await at.ai.approvals.approve(id, by='ann')
    at.store.is_away = True
    with pytest.raises(LamellaError, match='the store is away'):
        await at.resume(id)
    with pytest.raises(LamellaError, match='the store is away'):
        await at.ask(prompt='pay', durable=True)
    assert at.bank.paid == []
    at.store.is_away = False
    assert (await at.resume(id)).text == 'done'


async def test_a_store_that_goes_away_during_the_tool_leaves_it_unknown(server) -> None:
    clock = FakeClock()
    at = server(ONE, 'done', store=Away(clock=clock), clock=clock)

    async def pay(amount: int) -> str:
        at.bank.paid.append(amount)
        at.store.is_away = True
        return 'paid'

    at.options['tools'] = [pay]
    id = await at.interrupted()
    await at.ai.approvals.approve(id, by='ann')
    with pytest.raises(LamellaError, match='the store is away'):
        await at.resume(id)
    at.store.is_away = False
    await clock.advance(40)
    assert (await at.ai.approvals.get(id)).state == 'unknown'
    with pytest.raises(Rejected, match='may have run or not'):
        await at.resume(id)
    assert at.bank.paid == [1]


# ── who is told ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_audit_log_says_who_did_what_and_when(server) -> None:
    at = server(ONE, 'done')
    id = await at.interrupted()
    await at.clock.advance(5)
    await at.ai.approvals.approve(id, by='ann')
    with pytest.raises(Rejected):
        await at.ai.approvals.deny(id, by='bob')
    await at.resume(id)
    audit = await at.ai.approvals.audit()
    assert [(e.id, e.what, e.by, e.is_effective) for e in audit] == [
        (id, 'requested', '', True),
        (id, 'approved', 'ann', True),
        (id, 'started', '', True),
        (id, 'done', '', True),
    ]
    assert audit[1].at_s == audit[0].at_s + 5
    assert await at.ai.approvals.audit(after=3) == audit[3:]
    assert await at.ai.approvals.audit(limit=2) == audit[:2]


async def test_listeners_are_told(server) -> None:
    at = server(ONE, 'done')
    id = await at.interrupted()
    await at.ai.approvals.approve(id, by='ann')
    await at.resume(id)
    told = [event for event in at.sink.events if event.name.startswith('approval.')]
    assert [(event.name, event.facts.get('id')) for event in told] == [
        ('approval.requested', id),
        ('approval.decided', id),
        ('approval.started', id),
        ('approval.done', id),
    ]
    assert told[1].facts == {'id': id, 'by': 'ann', 'decision': 'approved'}


async def test_a_listener_that_fails_does_no_harm(server) -> None:
    at = server(ONE)

    def broken(event: Any) -> None:
        raise RuntimeError('broken')

    at.ai.sinks = (broken,)
    id = await at.interrupted()
    assert (await at.ai.approvals.approve(id, by='ann')).state == 'decided'
