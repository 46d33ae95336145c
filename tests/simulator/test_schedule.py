"""Which requests a fault is for."""

from itertools import permutations

import pytest

from lamella.simulator.faults import Fault
from lamella.simulator.schedule import Moment, Plan, closes_after, closes_by_time, plan_for


def numbers(fault: Fault, count: int = 12, model: str = 'm', seed: int = 0) -> list[int]:
    return [n for n in range(1, count + 1) if plan_for([fault], Moment(model, n, 0.0, seed)).fault is not None]


@pytest.mark.parametrize(
    ('when', 'hit'),
    [
        ({}, list(range(1, 13))),
        ({'times': 2}, [1, 2]),
        ({'after': 3}, list(range(4, 13))),
        ({'after': 3, 'times': 2}, [4, 5]),
        ({'every': 4}, [4, 8, 12]),
        ({'every': 4, 'times': 2}, [4, 8]),
        ({'after': 2, 'every': 3, 'times': 2}, [5, 8]),
        ({'probability': 0}, []),
        ({'probability': 1}, list(range(1, 13))),
    ],
)
def test_the_counts_choose_requests(when: dict[str, int], hit: list[int]) -> None:
    assert numbers(Fault('cut', **when)) == hit


@pytest.mark.parametrize(('elapsed', 'acts'), [(0, False), (1.9, False), (2, True), (4.9, True), (5, False)])
def test_a_window_of_time_is_closed_at_its_start_and_open_at_its_end(elapsed: float, acts: bool) -> None:
    plan = plan_for([Fault('cut', from_s=2, until_s=5)], Moment('m', 1, elapsed))
    assert (plan.fault is not None) is acts


@pytest.mark.parametrize(
    ('pattern', 'model', 'fits'),
    [
        ('*', 'x/y', True),
        ('gpt-*', 'gpt-5', True),
        ('GPT-5', 'gpt-5', True),
        ('gpt-*', 'claude', False),
        ('m?', 'm', False),
    ],
)
def test_models_are_chosen_by_pattern(pattern: str, model: str, fits: bool) -> None:
    assert bool(numbers(Fault('cut', model=pattern), model=model)) is fits


def test_a_probability_is_met_and_depends_on_nothing_but_the_request() -> None:
    fault = Fault('cut', probability=0.3)
    hits = numbers(fault, 3000)
    assert 0.27 < len(hits) / 3000 < 0.33
    assert hits == numbers(fault, 3000)
    assert hits != numbers(fault, 3000, seed=1)
    assert hits != numbers(fault, 3000, model='other')


def test_the_order_in_which_requests_are_asked_about_changes_nothing() -> None:
    fault = Fault('cut', probability=0.5)
    outcomes = {
        tuple(sorted((n, plan_for([fault], Moment('m', n)).fault is None) for n in order))
        for order in permutations(range(1, 6))
    }
    assert len(outcomes) == 1


def test_two_faults_of_one_probability_are_drawn_apart() -> None:
    pair = [Fault('cut', probability=0.5), Fault('malformed', probability=0.5)]
    kinds = [plan_for(pair, Moment('m', n)).fault for n in range(1, 200)]
    assert {None if fault is None else fault.kind for fault in kinds} == {None, 'cut', 'malformed'}


def test_the_first_that_applies_acts_and_slow_acts_beside_it() -> None:
    faults = [Fault('slow', per_token_s=0.5), Fault('cut', after=1), Fault('reset'), Fault('slow', per_token_s=9)]
    assert plan_for(faults, Moment('m', 1)) == Plan(faults[2], 0.5)
    assert plan_for(faults, Moment('m', 2)) == Plan(faults[1], 0.5)


def test_refusing_is_planned_by_count_or_by_time_and_never_for_one_request() -> None:
    by_count, by_time = Fault('refuse', model='a*', after=2), Fault('refuse', from_s=1)
    assert plan_for([by_count, by_time], Moment('a', 3)) == Plan()
    assert closes_by_time([by_count, by_time]) == [by_time]
    assert closes_after([by_count, by_time], Moment('a', 2)) is by_count
    assert closes_after([by_count, by_time], Moment('a', 1)) is None
    assert closes_after([by_count, by_time], Moment('b', 2)) is None
