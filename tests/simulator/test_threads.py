"""The simulator beside synchronous code."""

import json
import socket
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from lamella.simulator import Answer, Fault, Simulator
from lamella.types import LamellaError

BODY = json.dumps({'model': 'm', 'messages': [{'role': 'user', 'content': 'Bees fly.'}]}).encode()


def ask(base_url: str) -> str:
    request = urllib.request.Request(f'{base_url}/v1/chat/completions', BODY, {'content-type': 'application/json'})
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: str = json.loads(response.read())['choices'][0]['message']['content']
    return answer


def refused(base_url: str) -> bool:
    try:
        ask(base_url)
    except urllib.error.URLError as error:
        return isinstance(error.reason, ConnectionRefusedError)
    return False


def test_synchronous_code_gets_answers_and_sees_requests() -> None:
    with Simulator(answers=[Answer(text='told')]).in_thread() as sim:
        assert ask(sim.base_url) == 'told'
        sim.requests[0].done.wait(timeout=30)
        assert sim.requests[0].model == 'm'


def test_stalls_are_released_from_the_test() -> None:
    with Simulator(faults=[Fault('stall_first')]).in_thread() as sim, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, sim.base_url)
        sim.arrived(1).wait(timeout=30)
        sim.requests[0].stalled.wait(timeout=30)
        sim.release()
        assert 'Bees fly.' in asking.result(30)


def test_faults_change_and_reset_from_the_test() -> None:
    with Simulator().in_thread() as sim:
        sim.use(faults=[Fault('status', status=503)])
        with pytest.raises(urllib.error.HTTPError, match='503') as caught:
            ask(sim.base_url)
        caught.value.close()
        sim.reset()
        assert 'Bees fly.' in ask(sim.base_url)
        assert len(sim.requests) == 1


def test_the_port_closes_and_opens_from_the_test() -> None:
    with Simulator().in_thread() as sim:
        sim.refuse()
        assert refused(sim.base_url)
        sim.reopen()
        assert not refused(sim.base_url)


def test_the_end_of_the_block_is_the_end_of_server_and_thread() -> None:
    with Simulator().in_thread() as sim:
        assert any(thread.name == 'lamella-simulator' for thread in threading.enumerate())
    assert not any(thread.name == 'lamella-simulator' for thread in threading.enumerate())
    assert refused(sim.base_url)
    with pytest.raises(RuntimeError, match='does not run'):
        sim.reopen()


def test_a_port_that_cannot_be_had_is_an_error_in_the_test() -> None:
    with socket.create_server(('127.0.0.1', 0)) as taken:
        running = Simulator(port=taken.getsockname()[1]).in_thread()
        with pytest.raises(LamellaError, match='Choose another port'):
            running.__enter__()
    assert not any(thread.name == 'lamella-simulator' for thread in threading.enumerate())


async def test_signals_are_awaited_on_another_loop_than_the_servers() -> None:
    with Simulator(faults=[Fault('stall_first')]).in_thread() as sim, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, sim.base_url)
        await sim.arrived(1)
        await sim.requests[0].stalled
        sim.release()
        await sim.requests[0].done
        assert 'Bees fly.' in asking.result(30)
