"""Sentences and words: splitting a prompt, telling instructions from material, and picking the sentences that say most."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_SPLIT = re.compile(r'(?:(?<=[.!?])|(?<=[.!?]["\'”’)\]]))\s+(?=["\'“‘(\[]?[\w-])|\n+|(?<=[。！？])')
_ABBREVIATION = re.compile(r'(?:\b(?:e\.g|i\.e|etc|vs|Dr|Mr|Mrs|Ms|Prof|St|No|Fig|approx|[A-Z])\.|^\d{1,2}\.)$')
# A line that was wrapped: long, without an end, and going on in lower case.
_WRAPPED = re.compile(r'(?<=[^\n]{40})(?<![.!?:])[ \t]*\n[ \t]*(?=[a-z])')
_BULLET = re.compile(r'^\s*(?:[-*•>#]+|\d{1,2}[.)])\s+')
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_CAMEL = re.compile(r'(?<=[a-z0-9])(?=[A-Z])')


def word_set(text: str) -> frozenset[str]:
    """The words of a list that is written as text."""
    return frozenset(text.split())


STOPWORDS = word_set(
    """
    a about above after again all also am an and any are as at be because been before being below between both but by can
    could did do does doing down during each every few for from further had has have having he her here hers him his how i if
    in into is it its just like made make many may me might more most much must my no nor not now of off on once one only or
    other our out over own per please same she should so some such than that the their them then there these they this those
    through to too under until up use used using very was we were what when where which while who whom whose why will with
    would you your
    """
)
_ASKS = word_set(
    """
    analyse analyze answer assess calculate call check classify compare compute convert count create describe draft
    evaluate explain extract fetch find generate get give identify label list look name output pick produce provide
    rank rate read reply report respond return review rewrite run say search select send show state summarise
    summarize tell translate use write
    """
)
_COUNTED = 'zero one two three four five six seven eight nine ten eleven twelve'
_NUMBER_WORDS = {word: number for number, word in enumerate(_COUNTED.split())}
_NUMBER = rf'(\d{{1,3}}|{"|".join(_NUMBER_WORDS)})'
_LIMIT = re.compile(
    rf'\b(?:at most|no more than|not more than|up to|a maximum of|maximum|max\.?)\s+{_NUMBER}\b', re.IGNORECASE
)
_SENTENCES = re.compile(rf'\b{_NUMBER}(?:\s+\w+)?\s+sentences?\b', re.IGNORECASE)


def sentences(text: str) -> list[str]:
    """Sentences and lines, without bullets, in order. Text without a full stop is one sentence per line."""
    found: list[str] = []
    glue = False
    for piece in _SPLIT.split(_WRAPPED.sub(' ', text)):
        stripped = _BULLET.sub('', piece).strip()
        if not stripped:
            continue
        if glue:
            found[-1] = f'{found[-1]} {stripped}'
        else:
            found.append(stripped)
        glue = _ABBREVIATION.search(found[-1]) is not None
    return found


def words(text: str) -> list[str]:
    """All words, in lower case."""
    return [word.lower() for word in _WORD.findall(text)]


def content_words(text: str) -> list[str]:
    """The words that carry meaning, in lower case."""
    return [word for word in words(text) if word not in STOPWORDS and len(word) > 1]


def name_words(name: str) -> list[str]:
    """The words of an identifier: `getWeather`, `get_weather` and `get-weather` are `get`, `weather`."""
    return words(_CAMEL.sub(' ', name).replace('_', ' ').replace('-', ' '))


def stem(word: str) -> str:
    """A crude stem, good enough to match `files` with `file` and `reading` with `read`."""
    for ending in ('ing', 'ies', 'es', 'ed', 's', 'e'):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def stems(found: Sequence[str]) -> set[str]:
    return {stem(word) for word in found}


def is_instruction(sentence: str) -> bool:
    """Does it ask for something (a question, an imperative, a heading) rather than tell something?"""
    if sentence.rstrip('"\'”’) ').endswith(('?', ':')):
        return True
    first = [
        word
        for word in words(sentence)[:3]
        if word not in {'please', 'now', 'then', 'also', 'and', 'can', 'could', 'you'}
    ]
    return bool(first) and first[0] in _ASKS


def to_number(text: str) -> int:
    return int(text) if text.isdigit() else _NUMBER_WORDS[text.lower()]


def limit_in(text: str) -> int | None:
    """The N of an 'at most N' in the prompt."""
    found = _LIMIT.search(text)
    return to_number(found[1]) if found else None


def sentences_wanted(text: str) -> int | None:
    """The N of an 'in N sentences' in the prompt."""
    found = _SENTENCES.search(text)
    return max(1, to_number(found[1])) if found else None


def top_words(text: str, limit: int = 24) -> list[str]:
    """The most frequent content words; first come, first served among equals."""
    counted = Counter(word for word in content_words(text) if not word.isdigit() and len(word) > 2)
    return [word for word, _ in counted.most_common(limit)]


def ranked(material: Sequence[str], focus: str = '') -> list[str]:
    """The sentences, the ones that say most first.

    A sentence's score is the mean frequency of its content words (very short sentences count as four words), plus a bonus
    for being early, plus two for every word that it shares with `focus`.
    """
    frequency = Counter(stem(word) for sentence in material for word in content_words(sentence))
    asked = stems(content_words(focus))

    def score(position: int) -> float:
        found = [stem(word) for word in content_words(material[position])]
        if not found:
            return 0.0
        mean = sum(frequency[word] for word in found) / max(len(found), 4)
        return mean + 1 / (1 + position) + 2 * len(asked & set(found))

    return [material[i] for i in sorted(range(len(material)), key=lambda i: (-score(i), i))]


def extract(material: Sequence[str], count: int, focus: str = '') -> list[str]:
    """The `count` best sentences in the order in which they stand."""
    distinct = list(dict.fromkeys(material))
    chosen = set(ranked(distinct, focus)[:count])
    return [sentence for sentence in distinct if sentence in chosen]
