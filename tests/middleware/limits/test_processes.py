"""Rate limits and idempotency over several processes: exact on every store, through outages, deaths, and with wrong clocks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from lamella import Lamella
from lamella.middleware import Idempotency
from lamella.types import Rejected
from tests.middleware.limits.work import Acts
from tests.servers import Server
from tests.workers import Workers, run_workers

pytestmark = pytest.mark.slow
WORK = 'tests.middleware.limits.work'
WORKERS, CALLS = 8, 200
AN_HOUR_S = 3600.0
# An hour would bring 18 calls back, the test itself not one.
LIMITS: list[tuple[int, dict[str, Any]]] = [
    (CALLS, {'max_calls': 500, 'per_s': 100_000.0, 'wait': False}),
    (60, {'max_tokens': 6000, 'per_s': 1e9, 'wait': False}),
    (50, {'max_calls': 200, 'per_s': 0.5}),
]
TOKENS = 25


def test_eight_processes_with_two_hundred_calls_each(shared_store_url: str, tmp_path: Path) -> None:
    """Two of them have clocks that are wrong by an hour, where the store has a clock of its own."""
    off = {} if shared_store_url.startswith('sqlite') else {0: AN_HOUR_S, 1: -AN_HOUR_S}
    path = str(tmp_path / 'acts')
    arguments = {'url': shared_store_url, 'path': path, 'limits': LIMITS, 'tokens': TOKENS, 'acts': CALLS}
    results = run_workers(f'{WORK}:together', [arguments] * WORKERS, clock_off_s=off)

    calls, tokens, waiting = ([result['limits'][n] for result in results] for n in range(3))
    assert sum(one['answered'] for one in calls) == 500

    spent = sum(one['answered'] for one in tokens) * TOKENS
    assert 5500 <= spent <= 6000 + WORKERS * 10 * TOKENS  # what calls under way use beyond their estimates

    assert sum(one['answered'] for one in waiting) == WORKERS * 50
    took_s = max(one['ended'] for one in waiting) - min(one['began'] for one in waiting)
    assert took_s >= 0.98 * 0.5 * (WORKERS * 50 - 200) / 200

    assert sorted(Acts(shared_store_url, path).done()) == sorted(f'k{n}' for n in range(CALLS))
    assert all(result['acts'] == results[0]['acts'] for result in results)
    assert len(results[0]['acts']) == CALLS


@pytest.mark.parametrize('kind', ['own_redis', 'own_postgres'])
def test_a_store_that_is_killed_in_the_middle_and_comes_back(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: Server = request.getfixturevalue(kind)
    workers_, rounds, path = 2, 150, str(tmp_path / 'acts')
    limit = {'max_calls': 200, 'per_s': 1e9, 'wait': False}
    arguments = {'url': server.url, 'path': path, 'rounds': rounds, 'limit': limit}
    with Workers(f'{WORK}:through_an_outage', [arguments] * workers_) as workers:
        workers.go()
        for number in range(workers_):
            assert workers.heard(number) == 'under way'
        server.kill()
        time.sleep(0.5)
        server.start()
        results = workers.results()

    # No call more than the limit gives; one whose answer was lost took its place with it.
    statuses = [status for result in results for status in result['refusing']]
    assert 200 - 2 * workers_ <= statuses.count('OK') <= 200
    assert statuses.count('UNAVAILABLE') >= 1
    # While the store was away the other limit let calls pass.
    assert sum(result['allowing'].count('OK') for result in results) >= 200 - 2 * workers_
    assert not any('UNAVAILABLE' in result['allowing'] for result in results)
    # No act was done twice, and every one that was not done is known to be unknown.
    done = Acts(server.url, path).done()
    assert len(set(done)) == len(done)
    ended = {f'k{n}': {result['acts'][n] for result in results} for n in range(rounds)}
    assert set().union(*ended.values()) <= {'done', 'unknown'}
    assert set(ended) - set(done) <= {key for key, ends in ended.items() if 'unknown' in ends}
    assert sum(ends != {'done'} for ends in ended.values()) <= 2 * workers_
    # It was said.
    told = {tuple(pair) for result in results for pair in result['told']}
    assert {('rate_limit', 'allow'), ('rate_limit', 'refuse')} <= told
    assert told <= {
        ('rate_limit', 'allow'),
        ('rate_limit', 'refuse'),
        ('idempotency', 'refuse'),
        ('idempotency', 'allow'),
    }


POINTS = {
    'leased': 'runs',  # the store has only heard of a lease: the tool cannot have begun
    'before': 'unknown',
    'begun': 'unknown',
    'during': 'unknown',
    'after': 'unknown',
    'recorded': 'replayed',
}


async def test_a_worker_killed_at_any_point_of_an_act(shared_store_url: str, tmp_path: Path) -> None:
    path, lease_s = str(tmp_path / 'acts'), 1.0
    arguments = {'url': shared_store_url, 'path': path, 'points': list(POINTS), 'lease_s': lease_s}
    with Workers(f'{WORK}:dies_at', [arguments]) as workers:
        workers.go()
        assert {workers.heard(0) for _ in POINTS} == set(POINTS)
        workers.kill(0)
    before = Acts(shared_store_url, path).done()
    assert sorted(before) == ['after', 'during', 'recorded']
    layer = Idempotency(tools=['act'], lease_s=lease_s, wait_s=60)
    async with Lamella(store=shared_store_url) as ai:
        acts = Acts(ai.resolve_store(None), path)
        for point, wanted in POINTS.items():
            for _ in range(2):
                assert await outcome(acts, point, layer) == wanted, point
                wanted = 'replayed' if wanted == 'runs' else wanted
        assert sorted(acts.done()) == sorted([*before, 'leased'])
        consent = Idempotency(tools=['act'], lease_s=lease_s, on_unknown='rerun')
        assert [await outcome(acts, 'during', consent) for _ in range(2)] == ['runs', 'replayed']
        assert acts.done().count('during') == 2


async def outcome(acts: Acts, key: str, layer: Idempotency) -> str:
    """Whether the act was run, replayed, or refused for which reason."""
    before = len(acts.done())
    try:
        await acts.ask(key, layer)
    except Rejected as error:
        assert len(acts.done()) == before
        return str(error.details['reason'])
    return 'replayed' if len(acts.done()) == before else 'runs'
