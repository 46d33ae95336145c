"""Strings for regular expressions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.simulator.patterns import MAX_ATOMS, examples, found


@pytest.mark.parametrize(
    'pattern',
    [
        r'^[A-Z]{3}-\d{4}$',
        r'^(?:red|green|blue)$',
        r'^[^@\s]+@[^@\s]+\.[a-z]{2,}$',
        r'\d+(\.\d+)?',
        r'^(ab(c|d)?){2,3}$',
        r'^[\w.-]+$',
        r'^[]a]+$',
        r'^\^\$\.\\$',
        r'^.{5}$',
        r'^a{0}b*c?$',
        r'^{"a": 1}$',
        r'^(?P<year>\d{4})-(?P<month>0[1-9]|1[0-2])$',
        r'',
    ],
)
def test_the_pattern_is_found_in_its_examples(pattern: str) -> None:
    made = list(examples(pattern))
    assert made
    assert all(re.search(pattern, text) for text in made)


@pytest.mark.parametrize('pattern', [r'(?=x)', r'(a)\1', r'\p{L}', r'(', r'[', r'a{99999}', r'(?i)a', r'*a', '\\'])
def test_beyond_the_subset_nothing_is_made_up(pattern: str) -> None:
    assert list(examples(pattern)) == []


def test_open_repeats_reach_a_wanted_length() -> None:
    assert max(map(len, examples(r'^[a-z]+$', 0, 40))) >= 40


def test_another_index_gives_another_string_where_there_is_a_choice() -> None:
    assert len({next(examples(r'^[a-z]{2}$', index)) for index in range(10)}) == 10


def test_nested_repeats_end_in_time() -> None:
    assert all(len(text) <= MAX_ATOMS for text in examples('((((a+)+)+)+)+', 0, 500))


@given(st.from_regex(r'\A[a-z\[\](){}|*+?.\\d0-9-]{0,12}\Z'))
def test_no_pattern_breaks_it(pattern: str) -> None:
    assert all(found(pattern, text) for text in examples(pattern))
