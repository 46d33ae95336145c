"""The port, really closed."""

import asyncio
import contextlib
import errno

import aiohttp

from lamella.simulator import Fault, Simulator
from lamella.testing import FakeClock
from tests.simulator.chat import ask, body, raw_connection, raw_read_all, raw_send


async def is_refused(sim: Simulator) -> bool:
    try:
        await ask(sim)
    except aiohttp.ClientConnectorError as error:
        return error.os_error.errno == errno.ECONNREFUSED
    return False


async def test_a_closed_port_refuses_and_an_open_one_serves_at_the_same_address() -> None:
    async with Simulator() as sim:
        address = sim.base_url
        assert not await is_refused(sim)
        sim.refuse()
        assert await is_refused(sim)
        assert await is_refused(sim)
        await sim.reopen()
        assert not await is_refused(sim)
        assert sim.base_url == address


async def test_connections_that_are_kept_alive_are_closed_with_the_port() -> None:
    async with Simulator() as sim:
        with await raw_connection(sim) as idle:
            await raw_send(idle, body())
            assert (await asyncio.get_running_loop().sock_recv(idle, 65536)).startswith(b'HTTP/1.1 200 OK')
            await sim.requests[0].done
            sim.refuse()
            await raw_read_all(idle)
        assert await is_refused(sim)


async def test_a_connection_that_was_just_made_is_closed_too() -> None:
    async with Simulator() as sim:
        with await raw_connection(sim) as fresh:
            sim.refuse()
            with contextlib.suppress(ConnectionResetError):
                assert await raw_read_all(fresh) == b''


async def test_an_answer_on_its_way_goes_on() -> None:
    async with Simulator(faults=[Fault('stall_middle')]) as sim:
        asking = asyncio.create_task(ask(sim, stream=True))
        await sim.arrived(1)
        await sim.requests[0].stalled
        sim.refuse()
        sim.release()
        assert (await asking).events[-1] == '[DONE]'


async def test_the_port_closes_after_so_many_requests_of_a_model() -> None:
    async with Simulator(faults=[Fault('refuse', model='a', after=2)]) as sim:
        assert [(await ask(sim, model=model)).status for model in ('a', 'b', 'b', 'a')] == [200] * 4
        assert await is_refused(sim)
        await sim.reopen()
        assert (await ask(sim, model='a')).status == 200


async def test_an_outage_ends_by_the_clock() -> None:
    clock = FakeClock(auto=False)
    async with Simulator(faults=[Fault('refuse', after=1, for_s=5)], clock=clock) as sim:
        await ask(sim)
        assert await is_refused(sim)
        await clock.advance(5)
        await opened(sim)


async def test_an_outage_begins_and_ends_by_the_clock() -> None:
    clock = FakeClock(auto=False)
    async with Simulator(faults=[Fault('refuse', from_s=10, until_s=20)], clock=clock) as sim:
        assert not await is_refused(sim)
        await clock.advance(10)
        assert await is_refused(sim)
        await clock.advance(10)
        await opened(sim)


async def opened(sim: Simulator) -> None:
    """The port opens in a task that the clock started: asking for it to be open joins that."""
    await sim.reopen()
    assert not await is_refused(sim)


async def test_an_outage_from_the_start_lasts_until_reopened() -> None:
    async with Simulator(faults=[Fault('refuse')]) as sim:
        assert await is_refused(sim)
        await sim.reopen()
        assert not await is_refused(sim)


async def test_new_faults_end_no_outage_but_reset_does() -> None:
    async with Simulator() as sim:
        sim.refuse()
        sim.use()
        assert await is_refused(sim)
        sim.reset()
        for _ in range(100):
            if not await is_refused(sim):
                break
        assert not await is_refused(sim)


async def test_closing_twice_and_opening_twice_are_one() -> None:
    async with Simulator() as sim:
        sim.refuse()
        sim.refuse()
        await sim.reopen()
        await sim.reopen()
        assert not await is_refused(sim)
        sim.refuse()
        assert await is_refused(sim)
