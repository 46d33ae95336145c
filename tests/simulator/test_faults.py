"""Faults that cannot work are refused when they are written down."""

from typing import Any

import pytest

from lamella.simulator.faults import Fault
from lamella.types import ConfigError


@pytest.mark.parametrize(
    ('kind', 'fields', 'said'),
    [
        ('cutt', {}, "kind is 'cutt': did you mean 'cut'?"),
        ('status', {}, 'needs status'),
        ('status', {'status': 200}, 'status is 200: give a whole number from 400 to 599'),
        ('status', {'status': True}, 'status is True'),
        ('slow', {}, 'needs per_token_s'),
        ('slow', {'per_token_s': -1}, 'per_token_s is -1: give seconds, zero or more'),
        ('cut', {'probability': 1.5}, 'probability is 1.5: give a number from 0 to 1'),
        ('cut', {'times': 0}, 'times is 0: give a whole number, 1 or more'),
        ('cut', {'every': '2'}, "every is '2'"),
        ('cut', {'model': 3}, 'model is 3: give a string'),
        ('cut', {'status': 429}, "status has no meaning for kind 'cut': take it out"),
        ('cut', {'from_s': 5, 'until_s': 2}, 'until_s is 2: it must be later than from_s (5)'),
        ('refuse', {'times': 2}, "times has no meaning for kind 'refuse'"),
        ('refuse', {'after': 2, 'from_s': 1}, 'use either after (with for_s) or from_s and until_s'),
        ('refuse', {'until_s': 2, 'for_s': 1}, 'use either for_s or until_s'),
    ],
)
def test_a_fault_that_cannot_work_says_why(kind: Any, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Fault(kind, **fields)
    assert said in str(caught.value)


def test_every_problem_is_in_one_error() -> None:
    with pytest.raises(ConfigError) as caught:
        Fault('status', status=99, times=0, probability=2, per_token_s=1)
    assert all(name in str(caught.value) for name in ('status', 'times', 'probability', 'per_token_s'))


def test_zero_is_a_value() -> None:
    assert Fault('stall_middle', after_parts=0, for_s=0).after_parts == 0
