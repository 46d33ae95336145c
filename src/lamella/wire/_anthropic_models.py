"""What Claude models differ in, read from their names."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from lamella.types import Data

_VERSION = re.compile(r'claude-(?:[a-z]+-)*?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)')
_NEWEST = (99, 0)

# `none` cannot think; `budget` wants a number of tokens; the others decide for themselves: only when asked, unless told not
# to, or always.
Thinking = Literal['none', 'budget', 'asked', 'default', 'always']


class Traits(Data, frozen=True):
    """What one model takes. The defaults are today's API, for names that are no Claude's (compatible servers).

    `max_tokens` is sent when the request names no limit.
    """

    max_tokens: int = 16_000
    thinking: Thinking = 'asked'
    effort: bool = True
    sampling: bool = True
    top_p_with_temperature: bool = True
    structured_output: bool = True


@lru_cache(maxsize=256)
def traits(model: str) -> Traits:
    """By the vendor's pages (platform.claude.com/docs/en: build-with-claude/effort, /adaptive-thinking,
    /structured-outputs, about-claude/models/migration-guide). A Claude without a version in its name counts as the newest.
    """
    name = model.lower()
    if 'claude' not in name:
        return Traits()
    found = _VERSION.search(name)
    version = (int(found[1]), int(found[2] or 0)) if found else _NEWEST
    opus = 'opus' in name
    return Traits(
        max_tokens=4_096 if version < (3, 7) else 16_000,
        thinking=_thinking(name, version, opus),
        effort=version >= (4, 6) or (opus and version == (4, 5)),
        sampling=version < (4, 7),
        top_p_with_temperature=version < (4, 1),
        structured_output=version >= (4, 5) or (opus and version >= (4, 1)),
    )


def _thinking(name: str, version: tuple[int, int], opus: bool) -> Thinking:
    if version < (3, 7):
        return 'none'
    if version < (4, 6):
        return 'budget'
    if version < (5, 0):
        return 'asked'
    return 'always' if 'fable' in name or 'mythos' in name or (opus and version >= (5, 5)) else 'default'
