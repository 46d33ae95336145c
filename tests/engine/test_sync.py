"""The synchronous door: the async code, waited for, from wherever one stands."""

import asyncio
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest

from lamella import Lamella, LamellaError
from lamella.testing import ScriptedModel
from lamella.types import ConfigError, TextDelta, ToolRequest
from tests.engine.kit import shown
from tests.engine.strategies import ModelOnly, echo


@pytest.fixture
def ai() -> Any:
    made = Lamella(model=ScriptedModel([[TextDelta('a'), TextDelta('b')]], repeat=True))
    yield made
    made.sync.close()


def test_generate_from_plain_code(ai) -> None:
    response = ai.sync.generate(prompt='x', use=[ModelOnly()], tools=[echo])
    assert response.text == 'ab'


async def test_generate_inside_a_running_loop(ai) -> None:
    assert ai.sync.generate(prompt='x').text == 'ab'


def test_generate_from_many_threads(ai) -> None:
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda n: ai.sync.generate(prompt=str(n)).text, range(40)))
    assert texts == ['ab'] * 40
    assert sum(thread.name == 'lamella-sync' for thread in threading.enumerate()) == 1


def test_errors_come_out_as_they_are(ai) -> None:
    ai.default_model = ScriptedModel([LamellaError('UNAVAILABLE', 'down')])
    with pytest.raises(LamellaError, match='down') as caught:
        ai.sync.generate(prompt='x', model=ai.default_model)
    assert caught.value.attempts
    with pytest.raises(ConfigError, match='nothing to ask'):
        ai.sync.generate()
    with pytest.raises(ConfigError, match='no option'):
        ai.sync.generate(promt='x')
    with pytest.raises(ConfigError, match='no option'):
        list(ai.sync.generate_stream(promt='x'))


def test_a_stream_is_a_plain_iterator(ai) -> None:
    parts = list(ai.sync.generate_stream(prompt='x', use=[ModelOnly()]))
    assert shown(parts) == 'ab'


def test_leaving_a_stream_early_closes_the_call(ai) -> None:
    closed = threading.Event()

    async def endless(request: Any, ctx: Any) -> Any:
        try:
            while True:
                yield TextDelta('x')
        finally:
            closed.set()

    for part in ai.sync.generate_stream(prompt='x', model=endless, use=[ModelOnly()]):
        if type(part) is TextDelta:
            break
    assert closed.wait(10)


def test_the_door_opens_again_after_it_was_closed(ai) -> None:
    assert ai.sync.generate(prompt='x').text == 'ab'
    ai.sync.close()
    ai.sync.close()
    assert ai.sync.generate(prompt='x').text == 'ab'


def test_a_sync_tool_may_use_the_sync_door_itself(ai) -> None:
    # A sync tool runs in a thread, so the door's loop is free to serve it.
    from_tool = ScriptedModel(['deep'], repeat=True)

    def ask(text: str) -> str:
        return ai.sync.generate(prompt=text, model=from_tool).text

    outer = ScriptedModel([ToolRequest('ask', {'text': 'x'}, 'r'), 'done'])
    response = ai.sync.generate(prompt='x', model=outer, tools=[ask])
    assert response.turns[0].tool_responses[0].tool_response.output == 'deep'


def test_the_sync_door_inside_async_code_on_its_own_loop_is_refused_and_does_not_hang(ai) -> None:
    async def inside(request: Any, ctx: Any) -> Any:
        return ai.sync.generate(prompt='again')

    with pytest.raises(Exception, match=r'ai\.sync'):
        ai.sync.generate(prompt='x', model=inside)


def test_run_waits_for_any_coroutine(ai) -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    assert ai.sync.run(answer()) == 42


def test_closing_the_door_cancels_the_calls_that_wait_behind_it(ai) -> None:
    started = threading.Event()

    async def endless(request: Any, ctx: Any) -> Any:
        started.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ai.sync.generate, prompt='x', model=endless)
        assert started.wait(10)
        ai.sync.close()
        with pytest.raises(CancelledError):
            waiting.result(10)
