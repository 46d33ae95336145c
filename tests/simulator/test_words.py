"""Sentences, instructions and what is worth saying."""

import pytest

from lamella.simulator.words import (
    extract,
    is_instruction,
    limit_in,
    name_words,
    ranked,
    sentences,
    sentences_wanted,
    stem,
    top_words,
)

TEXT = 'Bees make honey. Honey is sweet. Rain fell on Monday. Bees need flowers for honey.'


@pytest.mark.parametrize(
    ('text', 'wanted'),
    [
        ('One. Two! Three? Four', ['One.', 'Two!', 'Three?', 'Four']),
        ('Dr. Smith met Mr. Jones. They spoke.', ['Dr. Smith met Mr. Jones.', 'They spoke.']),
        ('It costs 3.50 euros. Cheap, e.g. for me.', ['It costs 3.50 euros.', 'Cheap, e.g. for me.']),
        ('- first\n- second\n\n3) third', ['first', 'second', 'third']),
        ('He said "stop." Then he left.', ['He said "stop."', 'Then he left.']),
        ('今日は。明日も。', ['今日は。', '明日も。']),
        ('', []),
        (' \n ', []),
    ],
)
def test_text_is_cut_into_sentences(text: str, wanted: list[str]) -> None:
    assert sentences(text) == wanted


@pytest.mark.parametrize(
    'text', ['Summarise this.', 'Please list three.', 'What is it?', 'The text:', 'Can you explain it?']
)
def test_asking_is_an_instruction(text: str) -> None:
    assert is_instruction(text)


@pytest.mark.parametrize('text', ['The list is long.', 'Bees make honey.', 'It explains a lot.', '', '...'])
def test_telling_is_none(text: str) -> None:
    assert not is_instruction(text)


def test_the_sentence_with_the_most_frequent_words_comes_first() -> None:
    assert ranked(sentences(TEXT))[0] == 'Bees make honey.'
    assert ranked(sentences(TEXT))[-1] == 'Rain fell on Monday.'


def test_a_question_moves_its_own_words_to_the_front() -> None:
    assert ranked(sentences(TEXT), 'When did rain fall?')[0] == 'Rain fell on Monday.'


def test_an_extract_keeps_the_order_and_says_nothing_twice() -> None:
    assert extract([*sentences(TEXT), 'Bees make honey.'], 2) == ['Bees make honey.', 'Bees need flowers for honey.']


@pytest.mark.parametrize(
    ('text', 'limit'), [('at most 3 words', 3), ('no more than five', 5), ('up to 12 tags', 12), ('many', None)]
)
def test_limits_are_read(text: str, limit: int | None) -> None:
    assert limit_in(text) == limit


def test_the_wanted_number_of_sentences_is_read() -> None:
    assert sentences_wanted('Explain it in one short sentence.') == 1
    assert sentences_wanted('in 2 sentences, please') == 2
    assert sentences_wanted('this sentence says nothing') is None


def test_identifiers_are_cut_into_words() -> None:
    assert name_words('getWeather_for-city') == ['get', 'weather', 'for', 'city']


def test_stems_bring_forms_together() -> None:
    assert stem('files') == stem('file')
    assert stem('reading') == stem('read')
    assert stem('is') == 'is'


def test_top_words_are_the_frequent_ones_without_stopwords() -> None:
    assert top_words(TEXT)[:2] == ['honey', 'bees']
