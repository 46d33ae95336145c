"""How long to wait before trying again: a delay that grows, with full jitter, and never less than what was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from lamella.types import LamellaError


class Backoff(Protocol):
    """The settings that a wait is made of."""

    @property
    def initial_delay_ms(self) -> float: ...

    @property
    def max_delay_ms(self) -> float: ...

    @property
    def backoff_factor(self) -> float: ...

    @property
    def no_jitter(self) -> bool: ...


def floor_s(error: LamellaError) -> float:
    """The least wait in seconds that the one who failed asks for."""
    return max(0.0, error.retry_after_s or 0.0)


def backoff(config: Backoff, retry: int) -> float:
    """Seconds before retry number `retry` (from 0), without chance and without a provider's word."""
    try:
        delay_ms = config.initial_delay_ms * config.backoff_factor**retry
    except OverflowError:
        delay_ms = math.inf if config.initial_delay_ms else 0.0
    return min(delay_ms, config.max_delay_ms) / 1000


def wait_before(config: Backoff, retry: int, floor_s: float, draw: Callable[[float, float], float]) -> float:
    """Seconds to wait before retry number `retry` (from 0): never less than `floor_s`, never more than the cap.

    `floor_s` is within the cap; `draw(a, b)` is a number between the two.
    """
    delay_s, longest_s = backoff(config, retry), config.max_delay_ms / 1000
    if config.no_jitter:
        return max(delay_s, floor_s)
    return min(draw(floor_s, min(floor_s + delay_s, longest_s)), longest_s)
