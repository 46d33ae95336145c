"""Sessions that several processes share, in every store that can be: one turn at a time, in turn, and no turn of the dead."""

import asyncio
import os
import signal
from collections import Counter
from typing import Any

import pytest

from lamella import Lamella, ModelResponse
from tests.engine.session_work import app
from tests.workers import Workers, run_workers

WORK = 'tests.engine.session_work'


async def texts(url: str, id: str) -> list[str]:
    ai = app(url)
    history = await ai.session(id).history()
    await ai.aclose()
    return [message.text for message in history]


def turns_of(said: list[str]) -> list[str]:
    """The questions, each of which is answered before the next one is asked."""
    assert said[1::2] == [f're {question}' for question in said[::2]]
    return said[::2]


@pytest.mark.slow
def test_turns_of_several_processes_are_never_interleaved_none_is_lost_and_each_is_served_in_turn(
    shared_store_url: str,
) -> None:
    workers = [{'url': shared_store_url, 'id': 's', 'name': name, 'times': 8, 'processes': 4} for name in 'abcd']
    found = run_workers(f'{WORK}:take_turns', workers)
    asked = turns_of(asyncio.run(texts(shared_store_url, 's')))
    assert sorted(asked) == sorted(f'{name} {n}' for name in 'abcd' for n in range(8))
    assert sorted(length for lengths in found for length in lengths) == list(range(0, 64, 2))
    for name in 'abcd':
        assert [turn for turn in asked if turn[0] == name] == [f'{name} {n}' for n in range(8)]
    for name in 'abcd':  # nobody is served again and again while others wait
        last = max(at for at, turn in enumerate(asked) if turn[0] == name)
        served = Counter(turn[0] for turn in asked[: last + 1])
        assert min(served[other] for other in 'abcd') >= 5, asked


def test_changes_of_the_state_by_several_processes_are_all_counted(shared_store_url: str) -> None:
    run_workers(f'{WORK}:count', [{'url': shared_store_url, 'id': 's', 'times': 25}] * 4)

    async def counted() -> Any:
        ai = app(shared_store_url)
        found = await ai.session('s').state.get('n')
        await ai.aclose()
        return found

    assert asyncio.run(counted()) == 100


def test_after_kill_9_in_a_turn_the_history_is_as_it_was_and_the_next_turn_works(shared_store_url: str) -> None:
    with Workers(f'{WORK}:die_in_a_turn', [{'url': shared_store_url, 'id': 's'}]) as workers:
        workers.go()
        assert workers.heard(0) == 'inside'
        workers.kill(0)

    async def after() -> tuple[list[str], Any, str]:
        ai = app(shared_store_url)
        session = ai.session('s', wait_s=60)
        roles, state = [message.role for message in await session.history()], await session.state.all()
        response = await ai.generate(prompt='go on', session=session)
        await ai.aclose()
        return roles, state, response.text

    roles, state, text = asyncio.run(after())
    assert roles == ['user', 'assistant', 'tool']  # the first turn is whole, and of the second there is nothing
    assert state == {'second': 'begun'}
    assert text == 're go on'
    assert [one[:3] for one in asyncio.run(texts(shared_store_url, 's'))[3:]] == ['go ', 're ']


def test_a_process_that_stood_still_writes_nothing_when_another_has_gone_on(shared_store_url: str) -> None:
    async def meanwhile() -> str:
        ai = app(shared_store_url)
        response = await ai.generate(prompt='quick', session=ai.session('s', wait_s=60))
        await ai.aclose()
        return response.text

    with Workers(f'{WORK}:stand_still_in_a_turn', [{'url': shared_store_url, 'id': 's'}]) as workers:
        workers.go()
        assert workers.heard(0) == 'inside'
        pid = workers._workers[0]._process.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            assert asyncio.run(meanwhile()) == 're quick'
        finally:
            os.kill(pid, signal.SIGCONT)
        (result,) = workers.results()
    assert result[0] == 'ABORTED'
    assert 'lost its hold' in result[1]
    assert asyncio.run(texts(shared_store_url, 's')) == ['quick', 're quick']


def test_a_session_survives_a_restart_of_everything(shared_store_url: str) -> None:
    async def once(prompt: str) -> int:
        ai = Lamella(model=one_word, store=shared_store_url)
        response = await ai.generate(prompt=prompt, session='s')
        await ai.session('s').artifacts.save('a', prompt)
        await ai.aclose()
        return len(response.messages)

    assert [asyncio.run(once(prompt)) for prompt in ('one', 'two', 'three')] == [2, 4, 6]

    async def saved() -> list[str]:
        ai = Lamella(model=one_word, store=shared_store_url)
        artifacts = ai.session('s').artifacts
        found = [(await artifacts.load('a', version)).text for version in (1, 2, 3)]
        await ai.aclose()
        return found

    assert asyncio.run(saved()) == ['one', 'two', 'three']


async def one_word(request: Any, ctx: Any) -> ModelResponse:
    return ModelResponse.text_of('word')
