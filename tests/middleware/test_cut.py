"""Cutting texts and JSON values: as long as allowed, both ends kept, nothing cut through that belongs together."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.middleware._cut_json import length_of, shortened
from lamella.middleware._cut_text import boundary_after, boundary_before, cut_text, is_boundary
from lamella.types import MediaPart, TextPart

# What a reader sees as one character.
CHARACTERS = [
    'a', ' ', 'ß', '中', '\r\n', '\n', '\t',
    'e\u0301', 'n\u0303\u0323', 'क\u094d', '9\ufe0f\u20e3', '❤\ufe0f',
    '👍🏽', '👩\u200d👩\u200d👧\u200d👦', '🏳\ufe0f\u200d🌈', '🇳🇴', '🏴\U000e0067\U000e0062\U000e007f',
    '\u1112\u1161\u11ab', '한', '글', '\uac00\u11a8', '\ud83d\udc4d',
]  # fmt: skip
texts = st.lists(st.sampled_from(CHARACTERS), max_size=400)


@pytest.mark.parametrize('character', CHARACTERS)
def test_no_character_is_cut_through(character: str) -> None:
    text = f'x{character}x'
    assert [place for place in range(len(text) + 1) if is_boundary(text, place)] == [0, 1, len(text) - 1, len(text)]


@given(texts)
def test_there_is_a_boundary_between_any_two_characters(characters: list[str]) -> None:
    """But where the second joins the first by itself: two halves of a line break, two flags' halves are never such a case."""
    text = ''.join(characters)
    ends, place = {0}, 0
    for character in characters:
        place += len(character)
        ends.add(place)
    found = {place for place in range(len(text) + 1) if is_boundary(text, place)}
    assert found <= ends
    joined = {place for place in ends - found if text[place - 1 : place + 1] != '\r\n'}
    assert joined == set()


@given(texts, st.integers(60, 400), st.floats(0, 1))
def test_a_cut_text_has_both_ends_and_says_what_is_missing(characters: list[str], most: int, share: float) -> None:
    text = ''.join(characters)
    short = cut_text(text, most, share)
    if len(text) <= most:
        assert short == text
        return
    assert len(short) <= most
    head, note, tail = (
        short.partition('\n… ')[0],
        short.partition('\n… ')[2].partition(' …\n')[0],
        short.rpartition(' …\n')[2],
    )
    assert text.startswith(head)
    assert text.endswith(tail)
    count = int(note.removesuffix(' characters cut').replace(',', ''))
    assert len(head) + count + len(tail) == len(text)
    assert is_boundary(text, len(head))
    assert is_boundary(text, len(text) - len(tail))


def test_the_shares_are_those_asked_for() -> None:
    text = ''.join(f'{number:04}' for number in range(1000))
    for share in (0.0, 0.3, 1.0):
        short = cut_text(text, 1000, share)
        tail = short.rpartition('…\n')[2]
        assert abs(len(tail) - 970 * share) < 20
    assert cut_text('x' * 2000, 1000, 0.3, more='; see y')[650:750].strip('x') == '\n… 1,033 characters cut; see y …\n'


def test_a_pile_of_accents_ends_somewhere() -> None:
    text = 'x' + '\u0301' * 100_000
    assert len(cut_text(text, 500, 0.3)) <= 500
    assert boundary_before(text, 50_000) == 50_000
    assert boundary_after(text, 50_000) == 50_000


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.text(max_size=20), inner, max_size=20),
    max_leaves=60,
)


@given(values, st.integers(100, 2000), st.floats(0, 1), st.sampled_from(['', '; the whole is the artifact x']))
def test_a_shortened_value_is_short_json_of_the_same_kind(value: Any, most: int, share: float, more: str) -> None:
    if length_of(value) <= most:
        return
    short = shortened(value, most, share, more)
    assert length_of(short) <= most
    if not isinstance(value, str):
        assert json.loads(json.dumps(short)) == short
        assert type(short) is type(value) or 'cut' in short
    assert more in json.dumps(short, ensure_ascii=False)


def test_records_lose_their_middle_and_are_whole_otherwise() -> None:
    rows = [{'id': number, 'name': f'name {number}'} for number in range(10_000)]
    short = shortened(rows, 2000, 0.3)
    assert 1800 <= length_of(short) <= 2000
    (at,) = [index for index, row in enumerate(short) if isinstance(row, str)]
    assert short[:at] == rows[:at]
    assert short[at + 1 :] == rows[len(rows) - len(short) + at + 1 :]
    assert short[at] == f'… {len(rows) - len(short) + 1:,} items cut …'


def test_one_long_text_in_an_object_takes_what_room_there_is() -> None:
    short = shortened({'path': 'a.txt', 'text': 'x' * 100_000, 'lines': 3}, 1000, 0.3)
    assert (short['path'], short['lines']) == ('a.txt', 3)
    assert 950 <= length_of(short) <= 1000
    assert 'characters cut' in short['text']


def test_an_object_of_many_keys_loses_the_middle_ones() -> None:
    value = {f'key {number}': number for number in range(1000)} | {'…': 'taken'}
    short = shortened(value, 500, 0.5)
    assert next(iter(short)) == 'key 0'
    assert list(short)[-1] == '…'
    assert short['……'] == f'{1001 - len(short) + 1:,} keys cut'


@pytest.mark.parametrize(
    'value',
    [10**4000, [10**5000], {'x' * 5000: 1}, {'a': {'x' * 5000: ['x' * 5000]}}, [[[['x' * 30] * 30] * 30] * 30]],
    ids=range(5),
)
def test_what_cannot_be_made_so_short_is_told_of(value: Any) -> None:
    short = shortened(value, 300, 0.3)
    assert length_of(short) <= 300
    assert json.loads(json.dumps(short)) == short


def test_a_value_that_is_nested_too_deeply_is_cut() -> None:
    value: Any = 'bottom'
    for _ in range(100_000):
        value = [value]
    short = shortened(value, 500, 0.3)
    assert 0 < length_of(short) <= 500
    json.dumps(short)
    while isinstance(value, list):  # taken apart by hand: Python would do it by recursion
        value = value[0]


def test_media_stay_and_count_for_nothing() -> None:
    picture = MediaPart(data=b'x' * 10_000, content_type='image/png')
    assert length_of(picture) == length_of({'type': 'media', 'data': 'x' * 10_000}) == length_of(None)
    short = shortened([TextPart('x' * 5000), picture, {'type': 'media', 'url': 'y' * 900}], 400, 0.3)
    assert short[1:] == [picture, {'type': 'media', 'url': 'y' * 900}]
    assert isinstance(short[0], TextPart)
    assert 200 < len(short[0].text) <= 400
