"""The server as a whole: the same seed, the same bytes; start and stop."""

import asyncio
import errno
import socket

import aiohttp
import pytest

from lamella.simulator import Answer, Fault, Simulator
from lamella.types import LamellaError
from tests.simulator.chat import Answered, ask, client, raw_connection, raw_send, send

FAULTS = (
    Fault('status', status=503, retry_after_s=2, probability=0.4),
    Fault('malformed', after_parts=2, every=3),
)
PROMPTS = [f'Tell me of bee number {n}. It is brown.' for n in range(12)]


def kept(answered: Answered) -> tuple[int, dict[str, str], bytes]:
    """All but the date, which is the real one."""
    return answered.status, {k: v for k, v in answered.headers.items() if k != 'Date'}, answered.raw


async def run(seed: int, prompts: list[str]) -> list[tuple[int, dict[str, str], bytes]]:
    async with Simulator(faults=FAULTS, seed=seed) as sim:
        return [kept(await ask(sim, prompt, stream=at % 2 == 0)) for at, prompt in enumerate(prompts)]


async def test_two_servers_with_one_seed_send_the_same_bytes() -> None:
    first, second = await run(7, PROMPTS), await run(7, PROMPTS)
    assert first == second
    assert {status for status, _, _ in first} == {200, 503}


async def test_another_seed_has_other_ids_and_other_luck() -> None:
    first, second = await run(7, PROMPTS), await run(8, PROMPTS)
    assert [status for status, _, _ in first] != [status for status, _, _ in second]
    assert first[0][2] != second[0][2]


async def test_the_order_of_arrival_changes_no_byte_of_an_answer() -> None:
    async with Simulator() as one, Simulator() as other:
        forward = {prompt: (await ask(one, prompt)).raw for prompt in PROMPTS}
        backward = {prompt: (await ask(other, prompt)).raw for prompt in reversed(PROMPTS)}
    assert forward == backward


async def test_a_repeated_request_has_another_id() -> None:
    async with Simulator() as sim:
        ids = {(await ask(sim)).json['id'] for _ in range(3)}
    assert len(ids) == 3


async def test_concurrent_requests_are_all_answered_and_numbered_once() -> None:
    async with Simulator() as sim, client(sim) as session:

        async def one(n: int) -> int:
            async with session.post(
                '/v1/chat/completions', json={'model': 'm', 'messages': [{'role': 'user', 'content': f'{n}'}]}
            ) as r:
                return r.status

        assert set(await asyncio.gather(*[one(n) for n in range(50)])) == {200}
        assert sorted(record.number or 0 for record in sim.requests) == list(range(1, 51))


async def test_models_are_counted_apart() -> None:
    async with Simulator(faults=[Fault('status', status=429, times=1)]) as sim:
        statuses = [(await ask(sim, model=model)).status for model in ('a', 'a', 'b', 'b')]
    assert statuses == [429, 200, 429, 200]


async def test_only_the_last_requests_are_kept_and_all_are_counted() -> None:
    async with Simulator(keep_requests=2) as sim:
        for _ in range(5):
            await ask(sim)
        assert [record.number for record in sim.requests] == [4, 5]
        await sim.arrived(5)


async def test_new_faults_and_answers_act_on_the_next_request() -> None:
    async with Simulator() as sim:
        sim.use(faults=[Fault('status', status=500, after=1)], answers=[Answer(text='told')])
        first, second = await ask(sim), await ask(sim)
    assert first.text == 'told'
    assert second.status == 500


async def test_reset_starts_over_with_the_first_script() -> None:
    async with Simulator(faults=[Fault('status', status=500, times=1)]) as sim:
        before = kept(await ask(sim)), kept(await ask(sim))
        sim.use()
        sim.reset()
        after = kept(await ask(sim)), kept(await ask(sim))
        assert len(sim.requests) == 2
    assert before == after


async def test_arrived_waits_for_requests_to_come() -> None:
    async with Simulator() as sim:
        third = sim.arrived(3)
        assert not third
        for _ in range(3):
            await ask(sim)
        await third
        assert len(sim.requests) == 3


async def test_stopping_frees_the_port_and_cuts_what_is_on_its_way() -> None:
    sim = Simulator(faults=[Fault('stall_middle')])
    await sim.start()
    async with client(sim) as session:
        response = await session.post(
            '/v1/chat/completions', json={'model': 'm', 'stream': True, 'messages': [{'role': 'user', 'content': 'hi'}]}
        )
        await sim.requests[0].stalled
        await sim.stop()
        with pytest.raises(aiohttp.ClientError):
            await response.read()
    assert not sim.requests[0].disconnected
    with pytest.raises(ConnectionRefusedError):
        await raw_connection(sim)


async def test_stopping_twice_and_starting_again_work() -> None:
    sim = Simulator()
    async with sim:
        await ask(sim)
    await sim.stop()
    async with sim:
        assert (await ask(sim)).status == 200
        assert len(sim.requests) == 1


async def test_a_taken_port_is_an_error_that_says_what_to_do() -> None:
    with (
        socket.create_server(('127.0.0.1', 0)) as taken,
        pytest.raises(LamellaError, match='Choose another port, or 0 for a free one') as caught,
    ):
        await Simulator(port=taken.getsockname()[1]).start()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EADDRINUSE


async def test_starting_twice_is_an_error() -> None:
    async with Simulator() as sim:
        with pytest.raises(LamellaError, match='already'):
            await sim.start()
        assert (await ask(sim)).status == 200


async def test_an_ipv6_address_is_served_and_spelled_with_brackets() -> None:
    try:
        socket.create_server(('::1', 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip('no IPv6 on this machine')
    async with Simulator(host='::1') as sim:
        assert sim.base_url.startswith('http://[::1]:')
        assert (await ask(sim)).status == 200


async def test_on_done_sees_every_request_at_its_end() -> None:
    seen = []
    async with Simulator(on_done=lambda record: seen.append((record.model, record.status))) as sim:
        await ask(sim, model='a')
        await send(sim, b'{')
    assert seen == [('a', 200), (None, 400)]


async def test_a_client_that_leaves_in_the_middle_of_its_own_request_harms_nobody() -> None:
    async with Simulator() as sim:
        connection = await raw_connection(sim)
        head = b'POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"mod'
        await asyncio.get_running_loop().sock_sendall(connection, head)
        await sim.arrived(1)
        connection.close()
        await sim.requests[0].disconnected
        assert (await ask(sim)).status == 200


async def test_a_client_that_sends_and_leaves_is_recorded() -> None:
    async with Simulator(faults=[Fault('stall_first')]) as sim:
        connection = await raw_connection(sim)
        await raw_send(connection, {'model': 'm', 'messages': [{'role': 'user', 'content': 'hi'}]})
        await sim.arrived(1)
        await sim.requests[0].stalled
        connection.close()
        await sim.requests[0].disconnected
        assert sim.requests[0].status is None
