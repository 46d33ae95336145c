"""Banned phrases: found in every form and however a text is cut, and nothing held back that cannot become one."""

import re
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.middleware._banned import MAX_HELD, Banned, Watch, phrase_of

LIST = [
    'bad',
    'bad guy',
    'worse thing',
    'Straße',
    'ça',
    '#tag',
    '脏话',
    re.compile(r'\bX-\d{2,4}\b'),
    'ﬁne print',
    'naïve',
]
WORDS, ANYWHERE = Banned(LIST, whole_words=True), Banned(LIST, whole_words=False)


def found(text: str, banned: Banned = WORDS) -> int | None:
    hit, _ = banned.find(text, 0, True)
    return None if hit is None else hit.item


def streamed(pieces: Sequence[str], banned: Banned = WORDS) -> tuple[int | None, str]:
    """What is found in a text that arrives in pieces, and what was sure before."""
    watch, text = Watch(banned), ''
    for piece in pieces:
        hit = watch.feed(piece)
        if hit is not None:
            return hit.item, text
        text += piece
    hit = watch.feed('', final=True)
    return (None if hit is None else hit.item), text


@pytest.mark.parametrize(
    ('text', 'item'),
    [
        ('so bad!', 0),
        ('BAD', 0),
        ('ＢＡＤ', 0),
        ('b\u200ba\u00add', 0),
        ('𝐛𝐚𝐝', 0),
        ('the bad guys', 0),
        ('the bad guy', 1),
        ('bad  \n\tguy', 1),
        ('bad\u00a0guy', 1),
        ('worse thing', 2),
        ('worse' + ' ' * 17 + 'thing', None),
        ('STRASSE', 3),
        ('straße', 3),
        ('C\u0327A', 4),
        ('ça', 4),
        ('ca', None),
        ('c\u0327a\u0301', None),  # the last letter is another one
        ('bad\u0301', None),
        ('see #tag', 5),
        ('x#tag', 5),
        ('#tags', None),
        ('说脏话的人', 6),
        ('X-123', 7),
        ('X-12345', None),
        ('fine print', 8),
        ('nai\u0308ve', 9),
        ('naive', None),
        ('badger', None),
        ('a_bad', None),
        ('forbad', None),
        ('', None),
    ],
)
def test_what_is_found(text: str, item: int | None) -> None:
    assert found(text) == item
    assert streamed([text])[0] == item
    assert streamed(list(text))[0] == item


@pytest.mark.parametrize(
    ('text', 'item'), [('badger', 0), ('forbad', 0), ('#tags', 5), ('naïvety', 9), ('ab ad', None), ('bad\u0301', None)]
)
def test_inside_of_words_when_that_is_wanted(text: str, item: int | None) -> None:
    assert found(text, ANYWHERE) == item
    assert streamed(list(text), ANYWHERE)[0] == item


pieces = st.lists(
    st.sampled_from(
        [
            'bad',
            'b',
            'ad',
            ' guy',
            'worse',
            ' ',
            'thing',
            '\n',
            'Stra',
            'ße',
            'SSE',
            'c\u0327',
            'a',
            '\u0301',
            '#',
            'tag',
            '脏',
            '话',
            'X-',
            '12',
            '3',
            '\u200b',
            'ﬁ',
            'ne',
            'ger',
            '.',
            '_',
            'É',
        ]
    ),
    max_size=9,
)


@settings(max_examples=500, deadline=None)
@given(pieces, st.data(), st.booleans())
def test_however_a_text_is_cut_the_same_is_found(words: list[str], data: st.DataObject, whole_words: bool) -> None:
    banned = WORDS if whole_words else ANYWHERE
    text = ''.join(words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    item, _ = streamed(parts, banned)
    assert (item is None) == (found(text, banned) is None)
    assert streamed(list(text), banned)[0] == item


PHRASES = Banned([item for item in LIST if isinstance(item, str)], whole_words=True)


@settings(max_examples=500, deadline=None)
@given(pieces)
def test_nothing_of_what_is_found_was_sure_before(words: list[str]) -> None:
    watch, raw = Watch(PHRASES), ''
    for piece in words:
        raw += piece
        if watch.feed(piece) is not None:
            return
        sure = len(raw) - watch.held
        assert found(raw[:sure], PHRASES) is None


@settings(max_examples=500, deadline=None)
@given(pieces)
def test_what_is_found_from_the_beginning_is_found_when_it_came(words: list[str]) -> None:
    """A pattern may end where another letter undoes it: then it was sure, and is none."""
    watch, raw = Watch(WORDS), ''
    for piece in words:
        raw += piece
        hit, _ = WORDS.find(raw, 0, False)
        assert (watch.feed(piece) is None) == (hit is None)
        if hit is not None:
            return


def test_what_cannot_become_a_phrase_is_sure_at_once() -> None:
    watch = Watch(WORDS)
    for text, held in (('Hello', 0), (' wor', 3), ('ld', 0), (' b', 1), ('ad', 3), ('ly', 0), (' bad', 3)):
        assert watch.feed(text) is None
        assert watch.held == held
    assert watch.feed('', final=True) is not None


def test_a_thousand_phrases_take_little() -> None:
    banned = Banned([f'phrase number {n} of {n * 7}' for n in range(1000)], whole_words=True)
    assert found('this is phrase number 999 of 6993.', banned) == 999
    assert found('this is phrase number 999 of 6994.', banned) is None
    text = 'phrase number nine of many. ' * 1000
    started = time.process_time()
    assert found(text, banned) is None
    assert time.process_time() - started < 5


def test_endless_invisible_characters_are_not_waited_for() -> None:
    watch = Watch(WORDS)
    watch.feed('ba')
    hit = None
    for _ in range(MAX_HELD // 1000 + 2):
        hit = hit or watch.feed('\u200b' * 1000)
    assert hit is not None
    assert hit.item == -1


@pytest.mark.parametrize('unit', ['bad g', 'worse  ', 'b', ' ', 'X-', '\u0301', 'ba\u200b'])
def test_hostile_text_takes_time_in_proportion_to_its_length(unit: str) -> None:
    def seconds(size: int) -> float:
        text, best = (unit * (size // len(unit) + 1))[:size], float('inf')
        for _ in range(2):
            started = time.process_time()
            WORDS.find(text, 0, True)
            best = min(best, time.process_time() - started)
        return best

    assert seconds(200_000) < 10 * max(seconds(50_000), 0.004)


def test_a_phrase_has_one_form() -> None:
    assert phrase_of('  Foo \n BAR ') == 'foo bar'
    assert phrase_of('\u200b') == ''
