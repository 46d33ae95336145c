"""When a provider says to come back: every header and body field that vendors use, read in one place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

# Longer than a month is no waiting time: most often a point in time where seconds were expected.
ABSURD_S = 31 * 86400.0

_NUMBER = re.compile(r'\d+(?:\.\d*)?|\.\d+')
_UNITS = {'d': 86400.0, 'h': 3600.0, 'm': 60.0, 's': 1.0, 'ms': 1e-3, 'us': 1e-6, 'µs': 1e-6, 'ns': 1e-9}
_STEP = re.compile(r'(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)')
_DURATION = re.compile(rf'(?:{_STEP.pattern})+')
_ANTHROPIC = 'anthropic-ratelimit-'


def retry_after_s(
    headers: Mapping[str, str],
    *,
    now: float | None = None,
    error: Any = None,
    http_status: int | None = None,
) -> float | None:
    """Seconds to wait before the next try, or `None` when the provider did not say.

    Read in this order, the first that makes sense wins: `retry-after-ms`; `retry-after` in seconds, whole or not, or as an
    HTTP date (RFC 9110 section 10.2.3); google.rpc.RetryInfo in the error object's `details` (`{'retryDelay': '34.07s'}`);
    and on a 429 the reset time of each rate limit of which nothing remains: OpenAI's `x-ratelimit-reset-{requests,tokens}`
    (`6m0s`, `20ms`; developers.openai.com/api/docs/guides/rate-limits) and Anthropic's `anthropic-ratelimit-*-reset`
    (RFC 3339; docs.claude.com/en/api/rate-limits), the latest of them.

    `now` is the caller's wall clock in seconds since 1970, which dates are compared with; without it the answer's own
    `Date` header is. Values that are negative, no numbers, in the past or beyond a month are ignored. `headers` may have
    any case.
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    if now is None:
        now = _http_date(lower.get('date', ''))
    for seconds in _candidates(lower, now, error, http_status):
        if seconds is not None and 0 <= seconds <= ABSURD_S:
            return seconds
    return None


def _candidates(
    headers: Mapping[str, str], now: float | None, error: Any, http_status: int | None
) -> Iterator[float | None]:
    milliseconds = _number(headers.get('retry-after-ms', ''))
    yield None if milliseconds is None else milliseconds / 1000
    after = headers.get('retry-after', '')
    yield _number(after)
    yield _until(_http_date(after), now)
    yield _retry_info(error)
    if http_status == 429:
        yield max(_resets(headers, now), default=None)


def _number(text: str) -> float | None:
    return float(text) if text.isascii() and _NUMBER.fullmatch(text) else None


def _until(moment: float | None, now: float | None) -> float | None:
    return None if moment is None or now is None else moment - now


def _http_date(text: str) -> float | None:
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _rfc3339(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def duration_s(text: str) -> float | None:
    """Seconds from a duration such as `6m0s`, `1h2m3.5s`, `20ms` or `34.07s`; a bare number counts as seconds."""
    if not _DURATION.fullmatch(text):
        return _number(text)
    return sum([float(amount) * _UNITS[unit] for amount, unit in _STEP.findall(text)])


def _retry_info(error: Any) -> float | None:
    details = error.get('details') if isinstance(error, Mapping) else None
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, Mapping) and str(detail.get('@type', '')).endswith('google.rpc.RetryInfo'):
            return duration_s(str(detail.get('retryDelay', '')))
    return None


def _resets(headers: Mapping[str, str], now: float | None) -> Iterator[float]:
    for kind in ('requests', 'tokens'):
        reset = duration_s(headers.get(f'x-ratelimit-reset-{kind}', ''))
        if _nothing_left(headers.get(f'x-ratelimit-remaining-{kind}')) and reset is not None:
            yield reset
    for name, value in headers.items():
        if not name.startswith(_ANTHROPIC) or not name.endswith('-reset'):
            continue
        wait = _until(_rfc3339(value), now)
        if wait is not None and _nothing_left(headers.get(name.removesuffix('reset') + 'remaining')):
            yield max(wait, 0.0)


def _nothing_left(remaining: str | None) -> bool:
    return remaining is not None and _number(remaining) == 0.0
