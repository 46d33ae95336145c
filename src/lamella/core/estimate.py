"""How many tokens a request will be: an estimate by word class, made here, and corrected by what providers report.

No tokenizer is loaded and nothing is downloaded. The weights below were fitted to the counts of four real tokenizers
(o200k_base, cl100k_base, Mistral's Tekken and an early Claude's) over prose in eight languages, source code, markup and JSON.
Pieces of 2,000 characters of such texts came out within 31 % of o200k_base, and each kind of text within 20 % on the average;
the texts of `tests/core/test_estimate.py` are within 25 %. Tokenizers of before 2024 need up to three times as many tokens for
Russian, Korean, Arabic and Hindi. `TokenEstimator` learns such a factor for each model from the usage that it reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from lamella.types import (
    DataPart,
    MediaPart,
    Message,
    ModelRequest,
    ReasoningPart,
    TextPart,
    ToolDefinition,
    ToolRequestPart,
    ToolResponsePart,
    Usage,
)

MESSAGE_FRAME = 4
TOOL_FRAME = 8
MAX_REMEMBERED = 4096  # texts, and models

_WORD = re.compile(r'[A-Z]?[a-z]{1,40}')
_CAPITALS = re.compile(r'[A-Z]{1,40}(?![a-z])')
_NUMBER = re.compile(r'[0-9]{1,3}')
_SIGNS = re.compile(r'[!-/:-@\[-`{-~]+')
_BREAK = re.compile(r'\n\s*|[ \t]{2,}')
_WORD_COST = (0.0, *[0.95 + 0.28 * max(0, length - 6) for length in range(1, 42)])
_CAPITALS_COST = (0.0, *[0.8 + 0.32 * max(0, length - 4) for length in range(1, 41)])
_NUMBER_COST, _SIGNS_COST, _MORE_SIGNS_COST, _BREAK_COST = 1.4, 0.8, 0.15, 1.2
# Tokens for each character of the other scripts, the first class that fits.
_SCRIPTS: tuple[tuple[re.Pattern[str], float], ...] = (
    (re.compile('[\u00c0-\u024f\u1e00-\u1eff]+'), 0.6),  # Latin letters with accents: they break a word up
    (re.compile('[\u0370-\u052f]+'), 0.31),  # Greek and Cyrillic
    (re.compile('[\u0530-\u08ff]+'), 0.42),  # Hebrew and Arabic
    (re.compile('[\u0900-\u0eff\u1000-\u1cff]+'), 0.5),  # the scripts of India, Thai, Georgian …
    (re.compile('[\u3040-\u30ff]+'), 0.65),  # Kana
    (re.compile('[\u3400-\u9fff\uf900-\ufaff]+'), 0.8),  # Han
    (re.compile('[\uac00-\ud7af]+'), 0.75),  # Hangul
    (re.compile('[\u2010-\u2bff\u3000-\u303f\uff00-\uffef]+'), 1.4),  # marks and full-width signs
    (re.compile('[\U00010000-\U0010ffff]+'), 2.0),  # emoji and rare scripts
)

_MEASURED = 8192  # characters of one text; a longer one is measured in slices
_SLICES = 8

# Tokens for a medium whose size is not known, by its kind, and how many bytes of it make one token where the data is there:
# 32 tokens for a second of sound (ai.google.dev, "Tokens") at 128 kbit/s, 300 for a second of film at 2 Mbit/s, and some 1,500
# for a PDF page of 50 kB (docs.claude.com, "PDF support"). An image is at most about 1,600 (docs.claude.com, "Vision").
_MEDIA: tuple[tuple[str, int, float], ...] = (
    ('image/', 1000, 0),
    ('audio/', 2000, 500),
    ('video/', 10_000, 800),
    ('application/pdf', 3000, 33),
)
_OTHER_MEDIA = 1000

_counted: dict[tuple[int, int], int] = {}


def estimate_tokens(request: ModelRequest) -> int:
    """Tokens that the model has to read: messages, tools and the wanted schema. What it will write is not in it."""
    return sum(_costs(request))


def estimate_text(text: str) -> int:
    """Tokens of one text. Takes about a millisecond at most: of a long text only slices are measured."""
    key = (hash(text), len(text))
    known = _counted.get(key)
    if known is None:
        if len(_counted) >= MAX_REMEMBERED:
            _counted.clear()
        known = _counted[key] = _count(text)
    return known


def estimate_message(message: Message) -> int:
    """Tokens of one message with its frame."""
    return MESSAGE_FRAME + sum([_part(part) for part in message.content])


def estimate_json(value: Any) -> int:
    """Tokens of a JSON value as compact text."""
    return 0 if value is None else estimate_text(_json(value))


def _costs(request: ModelRequest) -> Iterator[int]:
    for message in request.messages:
        yield estimate_message(message)
    for tool in request.tools:
        yield _tool(tool)
    if request.output is not None and request.output.schema is not None:
        yield estimate_json(request.output.schema)


def _tool(tool: ToolDefinition) -> int:
    return TOOL_FRAME + estimate_text(tool.name) + estimate_text(tool.description) + estimate_json(tool.input_schema)


def _part(part: Any) -> int:
    kind = type(part)
    if kind is TextPart or kind is ReasoningPart:
        return estimate_text(part.text)
    if kind is ToolRequestPart:
        request = part.tool_request
        return TOOL_FRAME + estimate_text(request.name) + estimate_json(request.input)
    if kind is ToolResponsePart:
        return TOOL_FRAME + estimate_text(part.tool_response.name) + _output(part.tool_response.output)
    if kind is MediaPart:
        return _medium(part)
    return estimate_json(part.data) if kind is DataPart else 0


def _output(value: Any) -> int:
    if isinstance(value, str):
        return estimate_text(value)
    return _medium(value) if isinstance(value, MediaPart) else estimate_json(value)


def _medium(part: MediaPart) -> int:
    kind, data = part.content_type or '', part.data
    if kind.startswith('text/') and data is not None:
        return estimate_text(data.decode('utf-8', 'replace'))
    for prefix, unknown, bytes_a_token in _MEDIA:
        if kind.startswith(prefix):
            return unknown if data is None or not bytes_a_token else max(1, round(len(data) / bytes_a_token))
    return _OTHER_MEDIA


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode('utf-8', 'replace')
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return str(value)


def _count(text: str) -> int:
    if len(text) <= _MEASURED:
        return _measure(text)
    size, step = _MEASURED // _SLICES, (len(text) - _MEASURED // _SLICES) / (_SLICES - 1)
    slices = [text[round(index * step) :][:size] if index else text[:size] for index in range(_SLICES)]
    return round(sum(map(_measure, slices)) * len(text) / _MEASURED)


def _measure(text: str) -> int:
    signs = _SIGNS.findall(text)
    cost = sum([_WORD_COST[len(word)] for word in _WORD.findall(text)])
    cost += sum([_CAPITALS_COST[len(word)] for word in _CAPITALS.findall(text)])
    cost += _NUMBER_COST * len(_NUMBER.findall(text))
    cost += _SIGNS_COST * len(signs) + _MORE_SIGNS_COST * (sum(map(len, signs)) - len(signs))
    cost += _BREAK_COST * len(_BREAK.findall(text))
    if not text.isascii():
        cost += sum([weight * sum(map(len, script.findall(text))) for script, weight in _SCRIPTS])
    return round(cost) or (1 if text else 0)


class TokenEstimator:
    """Estimates that learn: for each model, how many tokens it reported for each one that was estimated.

    The latest calls count most (a call's weight falls by a tenth with each later one of its size), the first guess counts like a
    call of 500 tokens, and the factor stays between 0.25 and 4. Remembers the 4,096 models that were heard of last.
    """

    __slots__ = ('_heard',)

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, float]] = {}

    def factor(self, model: str) -> float:
        """What an estimate for this model is multiplied with."""
        estimated, reported = self._heard.get(model, (1.0, 1.0))
        return min(4.0, max(0.25, reported / estimated))

    def estimate(self, request: ModelRequest, model: str) -> int:
        """Tokens that this model has to read, by what is known of it."""
        return max(1, round(estimate_tokens(request) * self.factor(model)))

    def learn(self, model: str, request: ModelRequest, usage: Usage | None) -> None:
        """Compare the estimate with what the model reported. Requests with media teach nothing about text."""
        if usage is None or not usage.input_tokens or has_media(request):
            return
        estimated, reported = self._heard.pop(model, (500.0, 500.0))
        if len(self._heard) >= MAX_REMEMBERED:
            del self._heard[next(iter(self._heard))]
        self._heard[model] = (
            0.9 * estimated + estimate_tokens(request),
            0.9 * reported + usage.input_tokens,
        )


def has_media(request: ModelRequest) -> bool:
    """Whether an image, a sound or a file is in it."""
    return any(type(part) is MediaPart for message in request.messages for part in message.content)
