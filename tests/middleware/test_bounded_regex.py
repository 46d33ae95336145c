"""Patterns for streams: what is refused and why, how long a match gets, and that no beginning of one is overlooked."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.middleware._bounded_regex import MAX_WIDTH, bounded, measured

GOOD = {
    r'E\d{6}': 7,
    r'\bE-\d{2,4}\b': 6,
    r'(?i:ab|cd)[^x-z\d]{1,3}+': 5,
    r'(?<![A-Z])A(?>b|bc)d?': 4,
    r'(?P<name>a{2}|b)(?:-c){0,2}?': 6,
    r'a.b': 3,
    r'(?s:a.)b(?!c)': 3,
    r'ab(?=\d{1,2})': 2,
    r'[]^\\-]{1,3}': 3,
    r'\w{1,10}+@\w{1,10}': 21,
    r'x\Bx': 2,
    r'(?:a|ab|abc){2}': 6,
    r'é[à-ü]': 2,
}
BAD = {
    r'a+': 'no longest match',
    r'a*b': 'no longest match',
    r'\d{300}': 'may match 300 characters',
    r'a{0,3}': 'matches an empty text',
    r'^a': 'anchor',
    r'a$': 'anchor',
    r'\Aab': 'anchor',
    r'(a{1,10}){1,10}b': 'ways',
    r'\w{1,60}\w{1,60}\w{1,60}x': 'ways',
    r'(a)\1': 'refers back',
    r'(?:a(?!b)){2}': 'inside of a group',
    r'(?=.{1,50}x)a': 'looks further',
    r'(': 'no regular expression',
    r'[': 'no regular expression',
    r'(?<=a+)b': 'no regular expression',
}


@pytest.mark.parametrize(('pattern', 'width'), GOOD.items())
def test_a_pattern_with_a_longest_match_is_taken(pattern: str, width: int) -> None:
    assert bounded(pattern).width == width
    assert bounded(re.compile(pattern, re.IGNORECASE)).width == width


@pytest.mark.parametrize(('pattern', 'why'), BAD.items())
def test_a_pattern_that_no_stream_can_match_is_refused_and_the_reason_told(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        bounded(pattern)


def test_a_pattern_of_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match='bytes'):
        bounded(re.compile(b'a'))  # type: ignore[arg-type]


def test_the_longest_width_is_taken() -> None:
    assert bounded(f'a{{{MAX_WIDTH}}}').width == MAX_WIDTH


ALPHABET = 'abcdABx-@E0123 \nà'
patterns = st.sampled_from([*GOOD, *(f'(?i){pattern}' for pattern in GOOD)])


@settings(max_examples=700, deadline=None)
@given(patterns, st.text(ALPHABET, max_size=14), st.text(ALPHABET, max_size=10))
def test_where_more_text_changes_what_matches_the_beginning_was_noticed(pattern: str, text: str, more: str) -> None:
    """At a place where nothing begins that goes on behind the text, the text alone decides."""
    given_ = bounded(pattern)
    whole = text + more
    begun = given_.started.search(text)
    for at in range(len(text)):
        if begun is not None and at >= begun.start():
            break
        now, later = given_.regex.match(text, at), given_.regex.match(whole, at)
        assert (now is None) == (later is None)
        if now is not None and later is not None:
            assert now.span() == later.span()


@pytest.mark.parametrize('pattern', [r'(?:ab|cd)x{2}', r'a\d{8,1024}+\.b'])
def test_patterns_of_our_own_are_not_judged(pattern: str) -> None:
    assert measured(pattern).started.search('zz a12') is not None or 'cd' in pattern
