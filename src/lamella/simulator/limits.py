"""Rate limits as the vendors' headers tell them. They are told and not enforced: a `status` fault of 429 is what refuses.

Each request finds a full bucket, so what remains depends on this request alone; only moments in time are real.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime

from lamella.types import Data

REQUESTS = 10_000
INPUT_TOKENS = 2_000_000
OUTPUT_TOKENS = 400_000
_MINUTE_S = 60.0


class Spent(Data, frozen=True):
    """What one request took. `wait_s` is set when nothing is left (429): the seconds until there is."""

    input_tokens: int = 0
    output_tokens: int = 0
    wait_s: float | None = None


Limits = Callable[[Spent, float], dict[str, str]]
"""The headers of one answer, at that time (seconds since 1970)."""


def no_limits(spent: Spent, now: float) -> dict[str, str]:
    """Gemini has no such headers: a 429 says when to come back in its body (google.rpc.RetryInfo)."""
    return {}


def openai_limits(spent: Spent, now: float) -> dict[str, str]:
    """developers.openai.com/api/docs/guides/rate-limits, "Rate limits in headers": resets are durations (`6m0s`, `20ms`)."""
    headers = {}
    tokens = spent.input_tokens + spent.output_tokens
    for name, limit, taken in (('requests', REQUESTS, 1), ('tokens', INPUT_TOKENS, tokens)):
        headers[f'x-ratelimit-limit-{name}'] = str(limit)
        headers[f'x-ratelimit-remaining-{name}'] = str(_left(limit, taken, spent))
        headers[f'x-ratelimit-reset-{name}'] = duration(_wait_s(limit, taken, spent))
    return headers


def anthropic_limits(spent: Spent, now: float) -> dict[str, str]:
    """platform.claude.com/docs/en/api/rate-limits, "Response headers": tokens left are rounded to the nearest thousand, resets
    are moments (RFC 3339) in whole seconds."""
    headers = {}
    tokens = spent.input_tokens + spent.output_tokens
    for name, limit, taken in (
        ('requests', REQUESTS, 1),
        ('tokens', INPUT_TOKENS + OUTPUT_TOKENS, tokens),
        ('input-tokens', INPUT_TOKENS, spent.input_tokens),
        ('output-tokens', OUTPUT_TOKENS, spent.output_tokens),
    ):
        left = _left(limit, taken, spent)
        headers[f'anthropic-ratelimit-{name}-limit'] = str(limit)
        headers[f'anthropic-ratelimit-{name}-remaining'] = str(left if name == 'requests' else round(left, -3))
        headers[f'anthropic-ratelimit-{name}-reset'] = moment(now, _wait_s(limit, taken, spent))
    return headers


def _left(limit: int, taken: int, spent: Spent) -> int:
    return 0 if spent.wait_s is not None else max(0, limit - taken)


def _wait_s(limit: int, taken: int, spent: Spent) -> float:
    """How long it takes until the bucket is full, or until the next request is let in."""
    return spent.wait_s if spent.wait_s is not None else min(taken, limit) * _MINUTE_S / limit


def duration(seconds: float) -> str:
    """As Go writes it: `20ms`, `1.5s`, `6m0s`, `1h0m0s`."""
    if seconds < 1:
        return f'{math.ceil(seconds * 1000)}ms' if seconds else '0s'
    minutes, rest = divmod(round(seconds, 3), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f'{f"{hours}h" if hours else ""}{f"{minutes}m" if hours or minutes else ""}{round(rest, 3):g}s'


def moment(now: float, wait_s: float) -> str:
    """Seconds from now on, in the whole seconds that `Retry-After` and `Date` count in."""
    return datetime.fromtimestamp(int(now) + math.ceil(wait_s), UTC).strftime('%Y-%m-%dT%H:%M:%SZ')
