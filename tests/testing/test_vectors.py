"""Vectors by words: the same for the same text, and near for texts that share words."""

import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.testing import word_vector


def likeness(a: str, b: str) -> float:
    return sum(x * y for x, y in zip(word_vector(a), word_vector(b), strict=True))


@given(st.text(), st.integers(1, 300))
def test_every_text_has_a_vector_of_length_one_in_32_bits(text: str, dimensions: int) -> None:
    vector = word_vector(text, dimensions)
    assert len(vector) == dimensions
    assert math.isclose(math.fsum(number * number for number in vector), 1, rel_tol=1e-5)
    assert tuple(array('f', vector)) == vector == word_vector(text, dimensions)


def test_it_is_the_same_on_every_machine() -> None:
    assert word_vector('the sea', 8) == pytest.approx([0.4082, 0.0, 0.0, 0.0, 0.4082, 0.0, -0.8165, 0.0], abs=1e-4)
    assert sum(word_vector('the sea', 8)) == pytest.approx(sum(word_vector('sea THE', 8)))


def test_texts_that_share_words_are_nearer_than_those_that_do_not() -> None:
    assert likeness('a boat on the sea', 'the sea and a boat') > 0.7
    assert likeness('a boat on the sea', 'invoices are due in March') < 0.5
