"""Worker processes start together, report, fail loudly, and die when they are killed."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from tests.workers import Workers, run_workers, say


def double(number: int) -> int:
    print('prints do not disturb')
    return 2 * number


async def later(number: int) -> dict[str, int]:
    await asyncio.sleep(0)
    return {'number': number, 'pid': os.getpid()}


def hold() -> None:
    say({'held': True})
    time.sleep(600)


def wall_clock() -> float:
    return time.time()


def fail() -> None:
    raise ValueError('no good')


def test_results_come_in_order_from_processes_of_their_own() -> None:
    assert run_workers('tests.test_workers:double', [{'number': n} for n in range(3)]) == [0, 2, 4]
    results = run_workers('tests.test_workers:later', [{'number': n} for n in range(2)])
    assert [result['number'] for result in results] == [0, 1]
    assert len({result['pid'] for result in results} | {os.getpid()}) == 3


def test_a_killed_worker_has_no_result() -> None:
    with Workers('tests.test_workers:hold', [{}]) as workers:
        workers.go()
        assert workers.heard(0) == {'held': True}
        workers.kill(0)
        assert workers.results() == [None]


def test_a_worker_that_fails_fails_the_test_with_its_traceback() -> None:
    with pytest.raises(AssertionError, match='no good'):
        run_workers('tests.test_workers:fail', [{}])
    with pytest.raises(AssertionError, match='no_such_module'):
        run_workers('tests.no_such_module:work', [{}])


def test_one_worker_has_a_wrong_clock() -> None:
    right, wrong = run_workers('tests.test_workers:wall_clock', [{}, {}], clock_off_s={1: 3600})
    assert 3500 < wrong - right < 3700
