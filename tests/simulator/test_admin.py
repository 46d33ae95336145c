"""The door for tests in other languages."""

import asyncio

from lamella.simulator import Fault, Simulator
from tests.simulator.chat import ask, send


async def test_it_tells_what_it_is_and_what_it_can() -> None:
    async with Simulator(seed=3) as sim:
        await ask(sim)
        about = (await send(sim, path='/_sim', method='GET')).json
    assert (about['simulator'], about['seed'], about['requests']) == ('lamella', 3, 1)
    assert 'POST /_sim/faults' in about['paths']


async def test_requests_are_shown_without_credentials() -> None:
    async with Simulator() as sim:
        await send(
            sim, {'model': 'm', 'messages': []}, '/v1/chat/completions?key=secret', headers={'x-api-key': 'secret'}
        )
        answered = await send(sim, path='/_sim/requests', method='GET')
    assert answered.json['total'] == 1
    assert answered.json['requests'][0]['headers']['x-api-key'] == '***'
    assert answered.json['requests'][0]['status'] == 200
    assert b'secret' not in answered.raw


async def test_its_own_requests_are_not_recorded() -> None:
    async with Simulator() as sim:
        await send(sim, path='/_sim', method='GET')
        assert list(sim.requests) == []


async def test_faults_and_answers_are_shown_and_replaced() -> None:
    script = {'faults': [{'kind': 'status', 'status': 503, 'times': 1}], 'answers': [{'text': 'told'}]}
    async with Simulator(faults=[Fault('cut')]) as sim:
        assert (await send(sim, path='/_sim/faults', method='GET')).json == {'faults': [{'kind': 'cut'}], 'answers': []}
        assert (await send(sim, script, '/_sim/faults')).json == script
        assert (await ask(sim)).status == 503
        assert (await ask(sim)).text == 'told'


async def test_a_script_that_cannot_work_changes_nothing_and_says_why() -> None:
    async with Simulator() as sim:
        refused = await send(sim, {'faults': [{'kind': 'cutt'}, {'kind': 'cut', 'time': 1}]}, '/_sim/faults')
        no_json = await send(sim, b'{', '/_sim/faults')
        no_object = await send(sim, b'[]', '/_sim/faults')
        assert (await ask(sim)).status == 200
    assert refused.status == no_json.status == no_object.status == 400
    assert "did you mean 'cut'" in refused.json['error']
    assert "did you mean 'times'" in refused.json['error']
    assert 'send an object' in no_object.json['error']


async def test_reset_starts_over() -> None:
    async with Simulator(faults=[Fault('status', status=500, times=1)]) as sim:
        before = [(await ask(sim)).status for _ in range(2)]
        assert (await send(sim, path='/_sim/reset')).json == {'reset': True}
        assert list(sim.requests) == []
        assert [(await ask(sim)).status for _ in range(2)] == before == [500, 200]


async def test_release_ends_stalls() -> None:
    async with Simulator(faults=[Fault('stall_first')]) as sim:
        asking = asyncio.create_task(ask(sim))
        await sim.arrived(1)
        await sim.requests[0].stalled
        await send(sim, path='/_sim/release')
        assert (await asking).status == 200
