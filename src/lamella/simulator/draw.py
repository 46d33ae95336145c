"""Values for fields: which piece of the prompt goes into a field of that name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from lamella.simulator.material import Material, to_number
from lamella.simulator.words import name_words, stem, stems, word_set, words

_SENTIMENT = word_set('sentiment polarity tone mood feeling emotion attitude')
_CERTAINTY = word_set('confidence certainty probability likelihood')
_SCORE = word_set('score rating stars grade satisfaction positivity')
_MONEY = word_set('price cost amount total budget fee sum cents usd eur')
_LABELS = word_set('positive negative neutral mixed')
_ALIASES = {
    'positive': ('positive', 'pos', 'good', 'happy', 'favorable', 'favourable'),
    'negative': ('negative', 'neg', 'bad', 'unhappy', 'unfavorable', 'unfavourable'),
    'neutral': ('neutral', 'none', 'unknown'),
    'mixed': ('mixed', 'neutral'),
}
Getter = Callable[[Material], Sequence[str]]
_SPECIFIC: tuple[tuple[frozenset[str], Getter], ...] = (
    (word_set('email mail'), lambda m: m.emails),
    (word_set('url uri link website href homepage'), lambda m: m.urls),
    (word_set('date day when deadline birthday'), lambda m: m.dates),
    (word_set('file path filename filepath directory folder'), lambda m: m.files),
    (word_set('id identifier code sku reference order invoice ticket'), lambda m: m.codes),
    (
        word_set('city town location place country region destination origin address where'),
        lambda m: m.places or m.names,
    ),
    (
        word_set(
            'name person author customer user who company organisation organization brand product sender recipient'
        ),
        lambda m: m.names,
    ),
)
_GENERAL: tuple[tuple[frozenset[str], Getter], ...] = (
    (
        word_set('title headline subject heading'),
        lambda m: [' '.join(s.split()[:8]).rstrip('.,;:!?') for s in m.best],
    ),
    (
        word_set('keyword keywords tag tags topic topics label labels category categories word words term terms'),
        lambda m: m.top_words,
    ),
    (word_set('query question prompt search request task'), lambda m: [m.instruction]),
)


class Draw:
    """Draws values for one answer. `terse` is for tool arguments: quotations and names before whole sentences.

    `index` is the place in an array: another place gets another value while the prompt has one.
    """

    def __init__(self, material: Material, *, terse: bool = False) -> None:
        self.material = material
        self.terse = terse

    def knows(self, name: str) -> bool:
        """False for a field of a special kind (an address, a date, a file) of which the prompt says nothing."""
        special = [getter for kind, getter in _SPECIFIC[:4] if kind & set(name_words(name))]
        return not special or self.labelled(name) is not None or any(getter(self.material) for getter in special)

    def labelled(self, name: str) -> str | None:
        spelled = ' '.join(name_words(name))
        return self.material.labelled(spelled) if spelled else None

    def strings(self, name: str, index: int = 0) -> list[str]:
        """Candidates, the likeliest first. Never empty."""
        found = set(name_words(name))
        if found & _SENTIMENT:
            return [self._mood()]
        labelled = self.labelled(name) if index == 0 else None
        ordered = [labelled] if labelled else []
        for kind, getter in (*_SPECIFIC, *_GENERAL):
            if kind & found:
                ordered += _from(getter(self.material), index)
        return [*ordered, *self._anything(index)]

    def _mood(self) -> str:
        """`mixed` only where the prompt offers it."""
        label = self.material.sentiment.label
        return 'neutral' if label == 'mixed' and 'mixed' not in words(self.material.text) else label

    def _anything(self, index: int) -> list[str]:
        material = self.material
        prose = _from(material.best, index)
        if not self.terse:
            return [*prose, *_from(material.top_words, index), 'unknown']
        special = [*_from(material.quoted, index), *_from(material.files, index), *_from(material.names, index)]
        return [*special, *_from([material.instruction], index), *prose, 'unknown']

    def number(self, name: str, index: int, low: float | None, high: float | None) -> float:
        """A number for the field; the caller bends it to the schema."""
        found = set(name_words(name))
        if found & _CERTAINTY:
            return _scaled(self.material.sentiment.confidence, low, high)
        if found & (_SCORE | _SENTIMENT):
            return _scaled((self.material.sentiment.margin + 1) / 2, low, high)
        if index == 0 and (told := self._told_number(name)) is not None:
            return told
        if 'count' in found and found & {'word', 'words', 'sentence', 'sentences', 'character', 'characters'}:
            return self._measured(found)
        numbers = (self.material.amounts if found & _MONEY else []) or self.material.numbers
        return numbers[index] if index < len(numbers) else index

    def _told_number(self, name: str) -> float | None:
        """`limit: 3`, `limit=3`, `limit of 3`, `3 items` for a field called items."""
        spoken = name_words(name)
        if not spoken or not self.material.mentions([stem(spoken[-1])]):
            return None
        spelled = r'[\s_-]*'.join(map(re.escape, spoken))
        number = r'(-?\d+(?:\.\d+)?)'
        text = self.material.text
        after = re.search(
            rf'\b{spelled}["\'`]?\s*(?:=|:|\bis\b|\bof\b|\bto\b)?\s*["\'`]?{number}\b', text, re.IGNORECASE
        )
        before = re.search(rf'{number}\s+{re.escape(stem(spoken[-1]))}', text, re.IGNORECASE)
        match = after or before
        return None if match is None else to_number(match[1])

    def _measured(self, found: set[str]) -> int:
        if found & {'character', 'characters'}:
            return len(self.material.source)
        if found & {'sentence', 'sentences'}:
            return len(self.material.told)
        return len(words(self.material.source))

    def boolean(self, name: str, index: int = 0) -> bool:
        """Yes when the lexicon says so, or when the prompt tells of what the field asks."""
        found = set(name_words(name)) - {'is', 'has', 'have', 'was', 'should', 'can', 'did', 'does', 'are'}
        margin = self.material.sentiment.margin
        if found & {'positive', 'happy', 'satisfied', 'recommended', 'recommend', 'good'}:
            return margin > 0
        if found & {'negative', 'angry', 'unhappy', 'complaint', 'dissatisfied'}:
            return margin < 0
        told = self.labelled(name)
        if told is not None:
            return told.lower() in ('true', 'yes', 'on', '1')
        return bool(found) and stems(sorted(found)) <= stems(words(self.material.source)) and index == 0

    def picks(self, name: str, options: Sequence[Any], index: int = 0) -> list[Any]:
        """The options of an enum, the likeliest first: by sentiment, by label, by what the material mentions."""
        ordered = sorted(range(len(options)), key=lambda at: (-self._likelihood(name, options[at]), at))
        turn = index % len(ordered)
        return [options[at] for at in (*ordered[turn:], *ordered[:turn])]

    def _likelihood(self, name: str, option: Any) -> int:
        if not isinstance(option, str):
            return 0
        spelled = ' '.join(name_words(option))
        if spelled in _ALIASES[self.material.sentiment.label] and (
            _is_mood(spelled) or set(name_words(name)) & _SENTIMENT
        ):
            return 1000 - _ALIASES[self.material.sentiment.label].index(spelled)
        if (told := self.labelled(name)) is not None and told.lower() == option.lower():
            return 900
        wanted = stems(name_words(option))
        told_words = [stem(word) for word in words(self.material.source)]
        return min(sum(word in wanted for word in told_words), 800) if wanted else 0


def _is_mood(spelled: str) -> bool:
    return spelled in _LABELS


def _from(values: Sequence[str], index: int) -> list[str]:
    """The value at that place first, then the others; a place beyond the end starts again from the front."""
    if not values:
        return []
    turn = index % len(values)
    return [*values[turn:], *values[:turn]]


def _scaled(share: float, low: float | None, high: float | None) -> float:
    """A share of 0 to 1 brought to the range; without a range it stays a share."""
    floor = 0.0 if low is None else low
    ceiling = max(1.0, floor + 1) if high is None else high
    return round(floor + (ceiling - floor) * share, 2)
