"""Approvals that several processes share: of all who decide at once one is first, and of all who go on at once one does."""

import asyncio
import json

import msgspec
import pytest

from lamella.types import ToolRequest
from tests.engine.approvals.work import app, ask, paid
from tests.workers import run_workers

WORK = 'tests.engine.approvals.work'


@pytest.mark.slow
def test_of_processes_that_decide_and_go_on_at_once_one_is_first(shared_store_url: str) -> None:
    id = asyncio.run(ask(shared_store_url))
    people = [{'url': shared_store_url, 'id': id, 'by': f'person {n}', 'yes': True} for n in range(4)]
    decided = run_workers(f'{WORK}:decide', people)
    winners = [by for first, by in decided if first]
    assert len(winners) == 1
    assert {by for _, by in decided} == set(winners)  # everybody is told who it was
    assert asyncio.run(paid(shared_store_url)) == 0
    results = run_workers(f'{WORK}:go_on', [{'url': shared_store_url, 'id': id}] * 4)
    assert set(results) <= {'ABORTED', 'FAILED_PRECONDITION', 'done'}  # it is being resumed, or has gone on
    assert results.count('done') == 1
    assert asyncio.run(paid(shared_store_url)) == 1


@pytest.mark.slow
def test_an_approval_and_a_denial_at_once_are_one_decision(shared_store_url: str) -> None:
    id = asyncio.run(ask(shared_store_url))
    people = [{'url': shared_store_url, 'id': id, 'by': f'person {n}', 'yes': n % 2 == 0} for n in range(4)]
    decided = run_workers(f'{WORK}:decide', people)
    (winner,) = [by for first, by in decided if first]
    (answer,) = set(run_workers(f'{WORK}:go_on', [{'url': shared_store_url, 'id': id}]))
    assert answer == 'done'
    assert asyncio.run(paid(shared_store_url)) == (1 if int(winner[-1]) % 2 == 0 else 0)


@pytest.mark.slow
@pytest.mark.parametrize('durable', [True, False])
def test_a_decision_in_the_arguments_counts_once_in_all_processes(shared_store_url: str, durable: bool) -> None:
    async def interrupted() -> list[object]:
        ai = app(shared_store_url, ToolRequest('pay', {'amount': 1}, 'r1'))
        response = await ai.generate(prompt='pay', tools=['pay'], durable=durable)
        await ai.resolve_store(None).aclose()
        messages: list[object] = json.loads(msgspec.json.encode(response.messages))
        return messages

    messages = asyncio.run(interrupted())
    results = run_workers(f'{WORK}:go_on_with_arguments', [{'url': shared_store_url, 'messages': messages}] * 4)
    assert results.count('done') == 1, results
    assert asyncio.run(paid(shared_store_url)) == 1
