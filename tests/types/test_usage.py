"""Adding up what was paid for: what nobody told stays untold."""

from hypothesis import given
from hypothesis import strategies as st

from lamella.types import Usage, add_usage

counts = st.none() | st.integers(0, 10**9)
usages = st.builds(Usage, counts, counts, counts, counts, counts, counts, st.none() | st.integers(0, 99).map(float))
maybe = st.none() | usages


def test_unknown_is_not_zero() -> None:
    assert Usage(1, None, 3) + Usage(None, None, 4) == Usage(1, None, 7)
    assert Usage() + Usage() == Usage()
    assert Usage(0) + Usage() == Usage(0)
    assert Usage(cost_usd=0.5) + Usage() == Usage() + Usage(cost_usd=0.5) == Usage(cost_usd=0.5)


def test_a_missing_usage_adds_nothing() -> None:
    assert add_usage(None, None) is None
    assert add_usage(None, Usage(1)) == add_usage(Usage(1), None) == Usage(1)


@given(maybe, maybe, maybe)
def test_the_order_of_adding_does_not_matter(a, b, c) -> None:
    assert add_usage(a, b) == add_usage(b, a)
    assert add_usage(add_usage(a, b), c) == add_usage(a, add_usage(b, c))


@given(usages, usages)
def test_what_is_left_and_what_was_told_add_up_to_the_whole(a, b) -> None:
    assert b + ((a + b) - b) == a + b


def test_what_is_left_of_the_unknown_is_unknown() -> None:
    assert Usage(5, None) - Usage(2, 3) == Usage(3, None)
    assert Usage(5) - Usage() == Usage(5)
