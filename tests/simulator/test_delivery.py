"""Every fault as a client meets it, over real sockets."""

import asyncio
import errno
import json
from typing import Any

import aiohttp
import pytest

from lamella.simulator import Answer, Fault, Simulator
from lamella.simulator.delivery import broken_event
from lamella.simulator.tokens import count_text
from lamella.testing import FakeClock
from tests.simulator.chat import PATH, ask, body, client, raw_connection, raw_read_all, raw_send, send

BOTH = pytest.mark.parametrize('stream', [False, True], ids=['whole', 'stream'])
WORDS = Answer(text=['one ', 'two ', 'three ', 'four'])


async def read_parts(response: aiohttp.ClientResponse, count: int) -> list[str]:
    """The next parts with content."""
    found: list[str] = []
    while len(found) < count:
        line = (await response.content.readline()).decode()
        if not line:
            break
        if line.startswith('data: {') and (text := json.loads(line[6:])['choices'][0]['delta'].get('content')):
            found.append(text)
    return found


# ── status ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
@pytest.mark.parametrize('status', [400, 404, 408, 418, 429, 500, 502, 503, 504, 529])
async def test_a_status_comes_with_the_vendors_error_body(status: int, stream: bool) -> None:
    async with Simulator(faults=[Fault('status', status=status, message='Try later.')]) as sim:
        answered = await ask(sim, stream=stream)
        assert sim.requests[0].status == status
    assert answered.status == status
    assert answered.json['error']['message'] == 'Try later.'


async def test_retry_after_is_sent_in_seconds_and_exactly_in_milliseconds() -> None:
    async with Simulator(faults=[Fault('status', status=429, retry_after_s=1.5)]) as sim:
        answered = await ask(sim)
    assert answered.headers['Retry-After'] == '2'
    assert answered.headers['retry-after-ms'] == '1500'


# ── connections ─────────────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
async def test_a_reset_is_econnreset(stream: bool) -> None:
    async with Simulator(faults=[Fault('reset')]) as sim:
        with pytest.raises(aiohttp.ClientOSError) as caught:
            await ask(sim, stream=stream)
        assert caught.value.errno == errno.ECONNRESET
        assert not sim.requests[0].disconnected
        assert sim.requests[0].status is None


async def test_a_reset_in_the_middle_comes_after_the_parts_before_it() -> None:
    async with Simulator(faults=[Fault('reset', after_parts=2)], answers=[WORDS]) as sim:
        with await raw_connection(sim) as connection:
            await raw_send(connection, body(stream=True))
            with pytest.raises(ConnectionResetError):
                await raw_read_all(connection)
        assert sim.requests[0].parts_sent == 2
        assert not sim.requests[0].disconnected


async def test_a_cut_stream_ends_without_its_end() -> None:
    async with Simulator(faults=[Fault('cut', after_parts=2)], answers=[WORDS]) as sim:
        connection = await raw_connection(sim)
        with connection:
            await raw_send(connection, body(stream=True))
            received = (await raw_read_all(connection)).decode()
        assert sim.requests[0].parts_sent == 2
        assert not sim.requests[0].disconnected
    assert 'two ' in received
    assert 'three' not in received
    assert '[DONE]' not in received
    assert not received.endswith('0\r\n\r\n')


async def test_a_cut_stream_is_an_error_to_a_real_client() -> None:
    async with Simulator(faults=[Fault('cut')]) as sim:
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(sim, stream=True)


async def test_a_cut_body_is_shorter_than_it_promised() -> None:
    async with Simulator(faults=[Fault('cut')]) as sim:
        with pytest.raises(aiohttp.ClientPayloadError, match='Not enough data to satisfy content length'):
            await ask(sim)


async def test_a_fault_beyond_the_end_acts_before_the_last_bytes() -> None:
    async with Simulator(faults=[Fault('cut', after_parts=99)], answers=[WORDS]) as sim:
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(sim, stream=True)
        assert sim.requests[0].parts_sent == 4


@pytest.mark.parametrize('after', [0, 1, 3, 99])
async def test_a_malformed_stream_has_one_event_that_is_no_json(after: int) -> None:
    async with Simulator(faults=[Fault('malformed', after_parts=after)], answers=[WORDS]) as sim:
        answered = await ask(sim, stream=True)
    broken = [event for event in answered.events if event != '[DONE]' and not is_json(event)]
    assert len(broken) == 1
    assert answered.events[-1] == '[DONE]'


@pytest.mark.parametrize(
    ('path', 'asked'),
    [
        ('/v1/responses', {'model': 'm', 'input': 'Bees fly.', 'stream': True}),
        ('/v1/messages', {**body('Bees fly.', stream=True), 'max_tokens': 50}),
        ('/v1beta/models/m:streamGenerateContent', {'contents': [{'role': 'user', 'parts': [{'text': 'Bees fly.'}]}]}),
    ],
)
async def test_every_protocol_has_its_malformed_and_its_cut_streams(path: str, asked: dict[str, Any]) -> None:
    async with Simulator(faults=[Fault('malformed', after_parts=2, times=1), Fault('cut')]) as sim:
        malformed = await send(sim, asked, path)
        with pytest.raises(aiohttp.ClientPayloadError):
            await send(sim, asked, path)
        assert [record.parts_sent > 0 for record in sim.requests] == [True, True]
    assert sum(not is_json(event) for event in malformed.events) == 1


async def test_a_malformed_body_breaks_off_but_has_the_length_it_promised() -> None:
    async with Simulator(faults=[Fault('malformed')]) as sim:
        answered = await ask(sim)
    assert answered.status == 200
    assert int(answered.headers['Content-Length']) == len(answered.raw)
    assert not is_json(answered.raw.decode())


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_events_without_json_are_broken_too() -> None:
    assert not is_json(broken_event(b'data: [DONE]\n\n').decode().split('\n')[0].removeprefix('data: '))


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@BOTH
async def test_stall_first_sends_not_even_headers_until_released(stream: bool) -> None:
    async with Simulator(faults=[Fault('stall_first')]) as sim:
        asking = asyncio.create_task(ask(sim, stream=stream))
        await sim.arrived(1)
        await sim.requests[0].stalled
        assert sim.requests[0].status is None
        sim.release()
        assert (await asking).status == 200
        assert sim.requests[0].done


async def test_stall_middle_holds_after_the_parts_it_names() -> None:
    async with Simulator(faults=[Fault('stall_middle', after_parts=2)], answers=[WORDS]) as sim, client(sim) as session:
        response = await session.post(PATH, json=body(stream=True))
        assert await read_parts(response, 2) == ['one ', 'two ']
        await sim.requests[0].stalled
        assert sim.requests[0].parts_sent == 2
        sim.release()
        assert await read_parts(response, 2) == ['three ', 'four']


async def test_stall_middle_after_no_parts_sends_headers_only() -> None:
    async with Simulator(faults=[Fault('stall_middle', after_parts=0)]) as sim, client(sim) as session:
        response = await session.post(PATH, json=body(stream=True))
        assert response.status == 200
        await sim.requests[0].stalled
        assert sim.requests[0].parts_sent == 0
        sim.release()
        assert b'[DONE]' in await response.read()


async def test_a_stall_ends_by_the_clock() -> None:
    clock = FakeClock(auto=False)
    async with Simulator(faults=[Fault('stall_first', for_s=30)], clock=clock) as sim:
        asking = asyncio.create_task(ask(sim))
        await sim.arrived(1)
        await sim.requests[0].stalled
        await clock.advance(29)
        assert not sim.requests[0].done
        await clock.advance(1)
        assert (await asking).status == 200


async def test_slow_takes_its_time_for_every_token() -> None:
    clock = FakeClock()
    async with Simulator(faults=[Fault('slow', per_token_s=0.25)], clock=clock) as sim:
        streamed = await ask(sim, stream=True)
    assert sum(clock.slept) == 0.25 * count_text(streamed.streamed)
    assert len(clock.slept) > 5


async def test_a_slow_whole_answer_takes_as_long_as_its_tokens() -> None:
    clock = FakeClock()
    async with Simulator(faults=[Fault('slow', per_token_s=0.25)], clock=clock) as sim:
        answered = await ask(sim)
    assert clock.slept == [0.25 * answered.json['usage']['completion_tokens']]


async def test_a_window_of_time_opens_and_closes() -> None:
    clock = FakeClock(auto=False)
    async with Simulator(faults=[Fault('status', status=503, from_s=10, until_s=20)], clock=clock) as sim:
        statuses = []
        for _ in range(3):
            statuses.append((await ask(sim)).status)
            await clock.advance(10)
    assert statuses == [200, 503, 200]


# ── readers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('kind', ['stall_first', 'stall_middle'])
async def test_a_client_that_leaves_is_noticed_during_a_stall(kind: Any) -> None:
    async with Simulator(faults=[Fault(kind)]) as sim, client(sim) as session:
        asking = asyncio.create_task(read_all(session))
        await sim.arrived(1)
        await sim.requests[0].stalled
        asking.cancel()
        await sim.requests[0].disconnected
        await sim.requests[0].done


async def read_all(session: aiohttp.ClientSession) -> bytes:
    async with session.post(PATH, json=body(stream=True)) as response:
        return await response.read()


async def test_leaving_a_stream_is_recorded_with_the_parts_that_were_sent() -> None:
    async with Simulator(faults=[Fault('stall_middle', after_parts=2)], answers=[WORDS]) as sim, client(sim) as session:
        response = await session.post(PATH, json=body(stream=True))
        await read_parts(response, 2)
        response.close()
        await sim.requests[0].disconnected
        assert sim.requests[0].parts_sent == 2


async def test_a_slow_client_that_leaves_is_noticed_between_tokens() -> None:
    clock = FakeClock(auto=False)
    async with Simulator(faults=[Fault('slow', per_token_s=1)], clock=clock) as sim, client(sim) as session:
        response = await session.post(PATH, json=body(stream=True))
        response.close()
        await sim.requests[0].disconnected
        assert sim.requests[0].parts_sent == 0


LARGE = ['x' * 16_384] * 500


async def test_a_reader_that_does_not_read_stops_the_sender() -> None:
    async with Simulator(answers=[Answer(text=LARGE)]) as sim:
        with await raw_connection(sim, receive_buffer=4096) as connection:
            await raw_send(connection, body(stream=True))
            await sim.arrived(1)
            await sim.requests[0].blocked
            assert not sim.requests[0].done
        await sim.requests[0].disconnected
        assert sim.requests[0].parts_sent < 20


async def test_a_reader_that_begins_late_gets_everything() -> None:
    async with Simulator(answers=[Answer(text=LARGE)]) as sim:
        with await raw_connection(sim, receive_buffer=4096) as connection:
            await raw_send(connection, {**body(stream=True)})
            await sim.arrived(1)
            await sim.requests[0].blocked
            received = 0
            while not sim.requests[0].done:
                received += len(await asyncio.get_running_loop().sock_recv(connection, 1 << 20))
        assert sim.requests[0].parts_sent == len(LARGE)
        assert received > 8_000_000
        assert not sim.requests[0].disconnected
