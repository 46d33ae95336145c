"""Liking and disliking."""

import pytest

from lamella.simulator.lexicon import NEGATIVE, POSITIVE, sentiment_of


@pytest.mark.parametrize(
    ('text', 'label'),
    [
        ('I love it, it is great.', 'positive'),
        ('Terrible and useless.', 'negative'),
        ('The box is blue.', 'neutral'),
        ('Great screen, awful sound.', 'mixed'),
        ('It is not good.', 'negative'),
        ("It isn't bad at all.", 'positive'),
        ('', 'neutral'),
    ],
)
def test_the_label_follows_the_words(text: str, label: str) -> None:
    assert sentiment_of(text).label == label


def test_more_evidence_is_more_confidence() -> None:
    confidences = [sentiment_of(text).confidence for text in ('', 'good', 'good great', 'good great nice superb')]
    assert confidences == sorted(set(confidences))
    assert confidences[0] == 0.5
    assert confidences[-1] < 1


def test_no_word_is_on_both_sides() -> None:
    assert frozenset() == POSITIVE & NEGATIVE
