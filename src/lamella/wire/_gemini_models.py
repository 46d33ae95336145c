"""What a Gemini model's name tells of it: its generation, and how it takes a reasoning effort."""

from __future__ import annotations

import re

from lamella.types import JSON
from lamella.wire._gemini_json import Warn

UNKNOWN = (0, 0)
NEWEST = (99, 0)

_VERSION = re.compile(r'gemini-(\d+)(?:\.(\d+))?')
_FIRST = ('gemini-pro', 'gemini-pro-vision', 'gemini-ultra')

# ai.google.dev/gemini-api/docs/openai, "Thinking": how Google itself reads OpenAI's `reasoning_effort`.
_BUDGETS = {'none': 0, 'minimal': 1024, 'low': 1024, 'medium': 8192, 'high': 24576}
_LEVELS = ('minimal', 'low', 'medium', 'high')
_ABOVE_HIGH = ('xhigh', 'max')
_LEAST_BUDGET_OF_PRO = 128
_NO_MINIMAL = (3, 7)


def bare(model: str) -> str:
    """The last step of a resource name: `publishers/google/models/gemini-x` is `gemini-x`."""
    return model.rsplit('/', 1)[-1].lower()


def generation(model: str) -> tuple[int, int]:
    """`gemini-2.5-pro` is (2, 5); an alias without a number such as `gemini-flash-latest` the newest; others unknown."""
    name = bare(model)
    if match := _VERSION.match(name):
        return int(match[1]), int(match[2] or 0)
    if name in _FIRST:
        return 1, 0
    return NEWEST if name.startswith('gemini-') else UNKNOWN


def takes_penalties(model: str) -> bool:
    """Gemini 4 answers 400 to them (ai.google.dev/gemini-api/docs/generate-content/latest-model)."""
    return generation(model) < (4, 0)


def thinking(effort: str, model: str, warn: Warn) -> JSON:
    """The `thinkingConfig` of a reasoning effort: a level from Gemini 3 on, a budget for 2.5, nothing before.

    ai.google.dev/gemini-api/docs/thinking. Gemini refuses a level and a budget together.
    """
    word, number = effort.lower(), generation(model)
    if number < (2, 5) or word not in (*_BUDGETS, *_ABOVE_HIGH):
        warn(f'reasoning_effort={effort!r} was left out: {_why(word, model, number)}')
        return {}
    nearest = _nearest(word, model, number)
    if nearest != word:
        warn(f'reasoning_effort={effort!r} became {nearest!r}, the nearest that {model} has')
    if number >= (3, 0):
        return {'thinkingLevel': nearest.upper()}
    stays = word == 'none' and nearest != 'none'
    return {'thinkingBudget': _LEAST_BUDGET_OF_PRO if stays else _BUDGETS[nearest]}


def _nearest(word: str, model: str, number: tuple[int, int]) -> str:
    """Gemini 3 cannot stop thinking, nor can 2.5 Pro; only Flash up to 3.6 has a minimal level."""
    if word in _ABOVE_HIGH:
        return 'high'
    if number < (3, 0):
        return 'minimal' if word == 'none' and 'pro' in bare(model) else word
    least = 'low' if 'pro' in bare(model) or number >= _NO_MINIMAL else 'minimal'
    return least if word in ('none', 'minimal') else word


def _why(word: str, model: str, number: tuple[int, int]) -> str:
    if word not in (*_BUDGETS, *_ABOVE_HIGH):
        return f'use one of {", ".join(_BUDGETS)}'
    if number == UNKNOWN:
        return f"how {model} takes it is not known, set provider_options['google']['thinkingConfig']"
    return f'{model} does not think'


def effort_of(config: JSON) -> str | None:
    """The effort that a thinking level stands for, if it is one of those that Lamella sends."""
    level = config.get('thinkingLevel')
    word = level.lower() if isinstance(level, str) else None
    return word if word in _LEVELS else None
