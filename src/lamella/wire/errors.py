"""One classifier for the errors of all vendors: HTTP status, error body and headers to a `LamellaError`, and back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from lamella.types import LamellaError, ModelResponse
from lamella.wire._retry_after import retry_after_s
from lamella.wire._status import PERMANENT, as_http_status, classify, http_status_of

__all__ = [
    'classify',
    'error_from_body',
    'error_from_event',
    'http_status_of',
    'redacted',
    'retry_after_headers',
    'retry_after_s',
]

MAX_MESSAGE = 2000

_REQUEST_ID_HEADERS = (
    'x-request-id',
    'request-id',
    'apim-request-id',
    'x-goog-request-id',
    'x-amzn-requestid',
    'cf-ray',
)
_SECRETS = re.compile(
    r'(?:\b(?:sk|pk|rk)-[\w*-]{8,}|\b(?:gsk|xai|csk|hf|r8|pplx|nvapi|fw)[-_][\w*-]{16,}'
    r'|\bAIza[\w*-]{10,}|\bAQ\.[\w*-]{16,}|\bya29\.[\w*-]+|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*'
    r'|(?<=bearer )[^\s"\']+|(?<=basic )[A-Za-z0-9+/=]{8,}'
    r'|(?<=[?&]key=)[^&\s"\']+|(?<=api_key=)[^&\s"\']+|(?<=api-key: )\S+)',
    re.IGNORECASE,
)


def error_from_body(
    http_status: int, headers: Mapping[str, str], body: bytes, *, now: float | None = None
) -> LamellaError:
    """The error that an answer with an error status stands for, whatever its vendor.

    Understands `{'error': {…}}` of OpenAI, Anthropic and Google (also in a list), `{'error': 'text'}`, `{'message': …}`,
    `{'detail': …}`, and bodies that are no JSON. `details` gets `http_status`, and where they were told `request_id`,
    `type`, `code`, `param`, and `retryable=False` when waiting cannot help. `now` is for dates in Retry-After, see
    `retry_after_s`.
    """
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        data = _plain_text(body)
    return _error(data, http_status, headers, now, None)


def error_from_event(data: Any, *, partial: ModelResponse | None = None) -> LamellaError:
    """The error that arrives inside a stream that began with 200. `data` is the event's decoded JSON."""
    return _error(data, None, {}, None, partial)


def _error(
    data: Any, http_status: int | None, headers: Mapping[str, str], now: float | None, partial: ModelResponse | None
) -> LamellaError:
    if isinstance(data, list) and data:
        data = data[0]
    outer = data if isinstance(data, dict) else {}
    inner = outer.get('error')
    error = inner if isinstance(inner, dict) else outer
    type_ = _word(error.get('status')) or _word(error.get('type'))
    code = _reason(error) or _code(error.get('code'))
    lower = {name.lower(): value for name, value in headers.items()}
    facts = {
        'http_status': http_status or as_http_status(code),
        'request_id': _request_id(lower) or _word(outer.get('request_id')),
        'type': type_,
        'code': code,
        'param': _word(error.get('param')),
        'retryable': False
        if code in PERMANENT or type_ in PERMANENT or lower.get('x-should-retry') == 'false'
        else None,
    }
    return LamellaError(
        classify(http_status, type=type_, code=code),
        redacted(_message(data, inner, error))[:MAX_MESSAGE] or _nothing_said(http_status),
        details={name: value for name, value in facts.items() if value is not None},
        retry_after_s=retry_after_s(headers, now=now, error=error, http_status=http_status or as_http_status(code)),
        partial=partial,
    )


def _message(data: Any, inner: Any, error: Mapping[str, Any]) -> str:
    if isinstance(data, str):
        return data
    if isinstance(inner, str):
        return inner
    for name in ('message', 'detail', 'error_description'):
        value = error.get(name)
        if isinstance(value, str) and value:
            return value
        if value:
            return msgspec.json.encode(value).decode()
    return ''


def _nothing_said(http_status: int | None) -> str:
    where = 'in the stream' if http_status is None else f'with HTTP {http_status}'
    return f'the provider answered {where} and no message'


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _code(value: Any) -> str | int | None:
    return value if isinstance(value, (str, int)) and not isinstance(value, bool) and value != '' else None


def _reason(error: Mapping[str, Any]) -> str | None:
    """google.rpc.ErrorInfo's reason, when it says more than the status."""
    details = error.get('details')
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and str(detail.get('@type', '')).endswith('google.rpc.ErrorInfo'):
            return _word(detail.get('reason'))
    return None


def _request_id(headers: Mapping[str, str]) -> str | None:
    return next((headers[name] for name in _REQUEST_ID_HEADERS if headers.get(name)), None)


def _plain_text(body: bytes) -> str:
    """A proxy's page as one line, without its tags."""
    text = body[: 4 * MAX_MESSAGE].decode('utf-8', 'replace')
    text = re.sub(r'<(script|style)\b.*?</\1\s*>|<[^>]*>', ' ', text, flags=re.DOTALL | re.IGNORECASE)
    return ' '.join(text.split())


def redacted(text: str) -> str:
    """The text with everything that looks like a credential replaced: vendors echo the key they refuse."""
    return _SECRETS.sub('[redacted]', text)


def retry_after_headers(error: LamellaError) -> dict[str, str]:
    """`retry-after` in whole seconds, rounded up, and `retry-after-ms` for readers that know it; or nothing."""
    wait = error.retry_after_s
    if wait is None or not math.isfinite(wait) or wait < 0:
        return {}
    return {'retry-after': str(math.ceil(wait)), 'retry-after-ms': f'{wait * 1000:.0f}'}
