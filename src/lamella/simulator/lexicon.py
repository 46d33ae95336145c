"""A tiny lexicon of liking and disliking: what the simulator knows of sentiment."""

from __future__ import annotations

from lamella.simulator.words import word_set, words
from lamella.types import Data

_POSITIVE = """
    amazing appreciate awesome beautiful best better brilliant charming clean comfortable delicious delighted
    delightful easy effective efficient elegant enjoy enjoyed enjoys enjoyable exceeded exceeds excellent exceptional
    fabulous fantastic fast favorite favourite fine flawless friendly fresh fun generous glad good gorgeous grateful
    great happy helpful impressed impressive incredible intuitive liked love loved lovely loves magnificent nice
    outstanding perfect perfectly pleasant pleased polite positive quick recommend recommended reliable remarkable
    responsive robust satisfied smooth solid sturdy stunning succeed succeeded success successful super stylish superb
    terrific thank thanks thrilled top useful wonderful worth wow
"""
_NEGATIVE = """
    angry annoyed annoying awful bad boring broke broken bug bugs buggy cheap complain complaint complaints confusing
    cracked crash crashed crashes crashing damaged defective delayed difficult dirty disappoint disappointed
    disappointing disappointment disgusting dreadful error errors expensive fail failed fails failing failure fault
    faulty flawed fragile frustrated frustrating garbage hate hated horrible impossible inferior late leak leaks lost
    mediocre mess misleading miss missing negative never noisy outdated overpriced pain painful poor poorly problem
    problems refund regret rude sad scratched slow sticky stopped stuck terrible ugly unacceptable uncomfortable
    unfriendly unhappy unhelpful unreliable unusable upset useless waste wasted weak worse worst worthless wrong
"""
_FLIPS = word_set('not no never hardly without cannot cant dont doesnt didnt isnt wasnt wont nothing')
POSITIVE = word_set(_POSITIVE)
NEGATIVE = word_set(_NEGATIVE)
MIXED_BELOW = 0.25


class Sentiment(Data, frozen=True):
    """How many liking and disliking words a text holds; a negation up to two words before a word turns it around."""

    positive: int = 0
    negative: int = 0

    @property
    def margin(self) -> float:
        """From -1 (only disliking) to 1 (only liking); 0 when there is nothing to go by."""
        total = self.positive + self.negative
        return (self.positive - self.negative) / total if total else 0.0

    @property
    def label(self) -> str:
        """`positive`, `negative`, `mixed` or `neutral`."""
        if not self.positive + self.negative:
            return 'neutral'
        if abs(self.margin) < MIXED_BELOW:
            return 'mixed'
        return 'positive' if self.margin > 0 else 'negative'

    @property
    def confidence(self) -> float:
        """From 0.5 (no evidence, or as much against as for) towards 1 with every word on the same side."""
        return round(0.5 + 0.5 * abs(self.positive - self.negative) / (self.positive + self.negative + 1), 2)


def sentiment_of(text: str) -> Sentiment:
    found = [word.replace("'", '').replace('’', '') for word in words(text)]
    votes = [_vote(found, at) for at in range(len(found))]
    return Sentiment(votes.count(1), votes.count(-1))


def _vote(found: list[str], at: int) -> int:
    if found[at] not in POSITIVE and found[at] not in NEGATIVE:
        return 0
    liking = 1 if found[at] in POSITIVE else -1
    return -liking if _FLIPS.intersection(found[max(0, at - 2) : at]) else liking
