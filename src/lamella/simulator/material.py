"""What a prompt offers to answer with: its instruction, its sentences, and the names, numbers and quotations in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import islice

from lamella.simulator.lexicon import Sentiment, sentiment_of
from lamella.simulator.words import content_words, is_instruction, limit_in, ranked, sentences, top_words
from lamella.types import JSON, Message, ModelRequest

_QUOTED = re.compile(r'"([^"\n]{1,400})"|“([^”\n]{1,400})”|(?<!\w)\'([^\'\n]{1,400})\'(?!\w)|`([^`\n]{1,400})`')
_NUMBER = re.compile(r'(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w])')
_MONEY = re.compile(
    r'[$€£]\s?(\d+(?:,\d{3})*(?:\.\d+)?)|(\d+(?:,\d{3})*(?:\.\d+)?)\s?(?:[$€£]|(?:euros?|dollars?|pounds?|USD|EUR|GBP)\b)',
    re.IGNORECASE,
)
_EMAIL = re.compile(r'(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+')
_URL = re.compile(r'https?://[^\s<>"\')\]]+[^\s<>"\')\].,;:!?]')
_DATE = re.compile(r'\b\d{4}-\d\d-\d\d\b')
_FILE = re.compile(
    r'(?<![\w@/.:])(?:~?/)?(?:[\w.-]+/)*[\w-]+(?:\.[A-Za-z][A-Za-z0-9]{0,7})+\b(?![@/])|(?<!\w)~?/[\w./-]+'
)
_CODE = re.compile(r'\b(?=[\w#-]*\d)(?:[A-Za-z]+[-_#]?\d[\w-]*|\d+-[\w-]+|\d{3,})\b|(?<=#)\d+')
_NAME = re.compile(r'\b[A-Z][\w’\'-]*(?:\s+(?:(?:de|la|van|von|of|der)\s+)?[A-Z][\w’-]*)*')
_LIST = re.compile(r'\s*(?:,|;|\band\b|\bor\b|&)\s*(?:and\s+)?')
_DECODER = json.JSONDecoder()
MAX_TEXT = 100_000
MAX_NAMES = 100
MAX_BRACES = 50


class Material:
    """Everything is drawn from `text` (its first 100,000 characters); the same text gives the same material."""

    def __init__(self, text: str, background: str = '') -> None:
        self.text = text[:MAX_TEXT]
        self.background = background[-MAX_TEXT:]

    def without(self, passage: str) -> Material:
        """The material with a passage taken out that is no prose."""
        return Material(self.text.replace(passage, '\n'), self.background.replace(passage, '\n'))

    @cached_property
    def sentences(self) -> list[str]:
        return sentences(self.text)

    @cached_property
    def instruction(self) -> str:
        """The sentences that ask for something; all of it when the prompt is one sentence."""
        asking = [sentence for sentence in self.sentences if is_instruction(sentence)]
        return ' '.join(asking or self.sentences[:1])

    @cached_property
    def told(self) -> list[str]:
        """The sentences that tell something: the prompt's, or the conversation's before it, or what was asked."""
        for candidates in (self.sentences, sentences(self.background)):
            told = [sentence for sentence in candidates if not is_instruction(sentence)]
            if told:
                return told
        return self.sentences

    @cached_property
    def best(self) -> list[str]:
        """What is told, the sentence that says most first."""
        return ranked(list(dict.fromkeys(self.told)), self.instruction)

    @cached_property
    def source(self) -> str:
        return '\n'.join(self.told)

    @cached_property
    def limit(self) -> int | None:
        return limit_in(self.text)

    @cached_property
    def sentiment(self) -> Sentiment:
        return sentiment_of(self.source)

    @cached_property
    def top_words(self) -> list[str]:
        return top_words(self.source) or content_words(self.text)

    @cached_property
    def quoted(self) -> list[str]:
        return _unique([next(filter(None, match.groups())) for match in _QUOTED.finditer(self.text)])

    @cached_property
    def numbers(self) -> list[float]:
        """The numbers that are told (of the whole prompt when none is), without those of dates."""
        for text in (self.source, self.text):
            if found := [match[0] for match in _NUMBER.finditer(_DATE.sub(' ', text))]:
                return list(map(to_number, found))
        return []

    @cached_property
    def amounts(self) -> list[float]:
        """The numbers beside a currency."""
        return [to_number(match[1] or match[2]) for match in _MONEY.finditer(self.text)]

    @cached_property
    def tokens(self) -> list[str]:
        """What stands between spaces, without the punctuation around it."""
        return _unique([token.strip('.,;:!?()[]<>"\'“”`') for token in self.text.split()])

    @cached_property
    def emails(self) -> list[str]:
        return _unique(_EMAIL.findall(self.text))

    @cached_property
    def urls(self) -> list[str]:
        return _unique(_URL.findall(self.text))

    @cached_property
    def dates(self) -> list[str]:
        return _unique(_DATE.findall(self.text))

    @cached_property
    def files(self) -> list[str]:
        return _unique(_FILE.findall(_URL.sub(' ', self.text)))

    @cached_property
    def codes(self) -> list[str]:
        return _unique(_CODE.findall(_DATE.sub(' ', self.text)))

    @cached_property
    def names(self) -> list[str]:
        """Capitalised words that do not merely begin a sentence; those of what is told before those of what is asked."""
        return _unique([name for sentence in (*self.told, *self.sentences) for name in _names_in(sentence)])[:MAX_NAMES]

    @cached_property
    def places(self) -> list[str]:
        """The names after `in`, `to` or `near`, then those after `from` or `at`."""
        return _unique(
            [name for before in ('in|to|near', 'from|at') for name in self.names if self._stands(before, name)]
        )

    def _stands(self, before: str, name: str) -> bool:
        return re.search(rf'\b(?:{before})\s+{re.escape(name)}\b', self.text) is not None

    @cached_property
    def lowered(self) -> str:
        return self.text.lower()

    def mentions(self, words: Sequence[str]) -> bool:
        """Quick to say no: does the text hold all these words somewhere?"""
        return all(word in self.lowered for word in words)

    def labelled(self, name: str) -> str | None:
        """What follows the name of a field: `city: Paris`, `order id is A-17`, `limit=3`."""
        if not self.mentions(name.lower().split()):
            return None
        label = r'[\s_-]*'.join(map(re.escape, name.split()))
        found = re.search(
            rf'\b{label}\b["\'`]?\s*(?:=|:|\bis\b|\bare\b)\s*["\'“`]?([^\n,;"”\'`]{{1,200}}?)["”\'`]?(?=[,;\n"”\'`]|[.!?](?:\s|$)|$)',
            self.text,
            re.IGNORECASE,
        )
        return found[1].strip() if found else None


def _names_in(sentence: str) -> list[str]:
    found = []
    for match in _NAME.finditer(sentence):
        name = match[0] if match.start() > 1 else match[0].partition(' ')[2]
        if name and name[:1].isupper() and name not in ('I', "I'm"):
            found.append(name)
    return found


def _unique(found: list[str]) -> list[str]:
    return list(dict.fromkeys(found))


def to_number(text: str) -> float:
    plain = text.replace(',', '')
    return float(plain) if '.' in plain else int(plain)


def named_together(text: str, names: list[str]) -> list[str]:
    """The names of one enumeration (`Paris, Rome and Oslo`), or nothing when they do not stand together."""
    for name in names:
        rest = text[text.find(name) :]
        together = [part for part in _LIST.split(re.split(r'[.?!\n]', rest)[0]) if part in names]
        if len(together) > 1:
            return together
    return []


def last_user_at(messages: tuple[Message, ...]) -> int:
    """The place of the last message from the user; -1 when there is none."""
    return max((at for at, message in enumerate(messages) if message.role == 'user'), default=-1)


def material_of(request: ModelRequest) -> Material:
    """The last run of user messages is the prompt; what was said before is the background."""
    last = last_user_at(request.messages)
    first = last
    while first > 0 and request.messages[first - 1].role == 'user':
        first -= 1
    before, prompt = request.messages[: max(first, 0)], request.messages[max(first, 0) : last + 1]
    if last < 0:
        prompt, before = request.messages[-1:], request.messages[:-1]
    return Material(_text(prompt, lambda role: True), _text(before, lambda role: role in ('user', 'tool')))


def _text(messages: tuple[Message, ...], wanted: Callable[[str], bool]) -> str:
    return '\n'.join(message.text for message in messages if wanted(message.role))


def schema_in_words(request: ModelRequest) -> tuple[JSON, str] | None:
    """A JSON Schema that the messages hold as text, for clients that ask for JSON in words, and that text.

    It must be an object with `properties`, or `type` and one more keyword, and the word JSON must stand before it.
    """
    for message in reversed(request.messages):
        if message.role not in ('system', 'user'):
            continue
        text = message.text
        start = re.search(r'json', text, re.IGNORECASE)
        if start and (found := _first_schema(text, start.end())) is not None:
            return found
    return None


def _first_schema(text: str, at: int) -> tuple[JSON, str] | None:
    for brace in islice(re.finditer(r'\{', text[at:]), MAX_BRACES):
        start = at + brace.start()
        value, end = _object_at(text, start)
        if value is not None and ('properties' in value or ('type' in value and len(value) > 1)):
            return value, text[start:end]
    return None


def _object_at(text: str, at: int) -> tuple[JSON | None, int]:
    try:
        value, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None, at
    return (value, end) if isinstance(value, dict) else (None, at)
