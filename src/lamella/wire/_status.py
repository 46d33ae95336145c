"""What an error is called: HTTP statuses and vendors' words to the 17 statuses, and back."""

from __future__ import annotations

from lamella.types import STATUSES, LamellaError, Status

_BY_HTTP: dict[int, Status] = {
    400: 'INVALID_ARGUMENT',
    401: 'UNAUTHENTICATED',
    402: 'RESOURCE_EXHAUSTED',
    403: 'PERMISSION_DENIED',
    404: 'NOT_FOUND',
    405: 'UNIMPLEMENTED',
    407: 'UNAUTHENTICATED',
    408: 'DEADLINE_EXCEEDED',
    409: 'ABORTED',
    410: 'NOT_FOUND',
    412: 'FAILED_PRECONDITION',
    413: 'INVALID_ARGUMENT',
    416: 'OUT_OF_RANGE',
    422: 'INVALID_ARGUMENT',
    423: 'ABORTED',
    424: 'FAILED_PRECONDITION',
    425: 'UNAVAILABLE',
    428: 'FAILED_PRECONDITION',
    429: 'RESOURCE_EXHAUSTED',
    451: 'PERMISSION_DENIED',
    498: 'UNAVAILABLE',
    499: 'CANCELLED',
    501: 'UNIMPLEMENTED',
    502: 'UNAVAILABLE',
    503: 'UNAVAILABLE',
    504: 'DEADLINE_EXCEEDED',
    521: 'UNAVAILABLE',
    522: 'DEADLINE_EXCEEDED',
    523: 'UNAVAILABLE',
    524: 'DEADLINE_EXCEEDED',
    529: 'UNAVAILABLE',
    530: 'UNAVAILABLE',
}

# Words that say more than the HTTP status they come with.
_SPECIFIC: dict[str, Status] = {
    # developers.openai.com/api/docs/guides/error-codes
    'insufficient_quota': 'RESOURCE_EXHAUSTED',
    'credit_balance_exhausted': 'RESOURCE_EXHAUSTED',
    'billing_hard_limit_reached': 'RESOURCE_EXHAUSTED',
    'billing_not_active': 'RESOURCE_EXHAUSTED',
    'context_length_exceeded': 'INVALID_ARGUMENT',
    'string_above_max_length': 'INVALID_ARGUMENT',
    'content_policy_violation': 'INVALID_ARGUMENT',
    'invalid_api_key': 'UNAUTHENTICATED',
    'model_not_found': 'NOT_FOUND',
    'unsupported_country_region_territory': 'PERMISSION_DENIED',
    'server_is_overloaded': 'UNAVAILABLE',
    'slow_down': 'UNAVAILABLE',
    # docs.claude.com/en/api/errors
    'authentication_error': 'UNAUTHENTICATED',
    'billing_error': 'RESOURCE_EXHAUSTED',
    'permission_error': 'PERMISSION_DENIED',
    'not_found_error': 'NOT_FOUND',
    'timeout_error': 'DEADLINE_EXCEEDED',
    'overloaded_error': 'UNAVAILABLE',
    'request_too_large': 'INVALID_ARGUMENT',
    # cloud.google.com/apis/design/errors: ErrorInfo.reason
    'api_key_invalid': 'UNAUTHENTICATED',
    'api_key_expired': 'UNAUTHENTICATED',
}

# Words that only repeat what an HTTP status says better; they count inside a 200 stream.
_GENERIC: dict[str, Status] = {
    'rate_limit_exceeded': 'RESOURCE_EXHAUSTED',
    'rate_limit_error': 'RESOURCE_EXHAUSTED',
    'invalid_request_error': 'INVALID_ARGUMENT',
    'invalid_prompt': 'INVALID_ARGUMENT',
    'badrequesterror': 'INVALID_ARGUMENT',
    'notfounderror': 'NOT_FOUND',
    'conflict_error': 'ABORTED',
    'api_error': 'INTERNAL',
    'server_error': 'INTERNAL',
    'internal_server_error': 'INTERNAL',
    'internalservererror': 'INTERNAL',
    'service_unavailable_error': 'UNAVAILABLE',
}

# Waiting does not help these: a plan, a bill or a key must change first.
PERMANENT = frozenset(
    (
        'insufficient_quota',
        'credit_balance_exhausted',
        'billing_hard_limit_reached',
        'billing_not_active',
        'billing_error',
    )
)

# google.rpc.Code's own mapping (github.com/googleapis/googleapis, google/rpc/code.proto).
_TO_HTTP: dict[str, int] = {
    'OK': 200,
    'CANCELLED': 499,
    'UNKNOWN': 500,
    'INVALID_ARGUMENT': 400,
    'DEADLINE_EXCEEDED': 504,
    'NOT_FOUND': 404,
    'ALREADY_EXISTS': 409,
    'PERMISSION_DENIED': 403,
    'RESOURCE_EXHAUSTED': 429,
    'FAILED_PRECONDITION': 400,
    'ABORTED': 409,
    'OUT_OF_RANGE': 400,
    'UNIMPLEMENTED': 501,
    'INTERNAL': 500,
    'UNAVAILABLE': 503,
    'DATA_LOSS': 500,
    'UNAUTHENTICATED': 401,
}


def classify(http_status: int | None = None, *, type: str | None = None, code: str | int | None = None) -> Status:
    """The status of an error by its HTTP status and the vendor's words for it.

    `type` and `code` are OpenAI's `error.type` and `error.code`, Anthropic's `error.type`, Google's `error.status` (the
    canonical names) and ErrorInfo reason. A number as `code` counts as HTTP status when the answer itself was a 200.
    """
    words = [word for word in (code, type) if isinstance(word, str)]
    for word in words:
        if (specific := _SPECIFIC.get(word.lower())) is not None:
            return specific
        if word in STATUSES and word not in ('OK', 'UNKNOWN'):
            return word  # type: ignore[return-value]
    if http_status is None or http_status < 400:
        http_status = as_http_status(code) or http_status
    if http_status is not None and http_status >= 300:
        return _by_http(http_status)
    return next((_GENERIC[word.lower()] for word in words if word.lower() in _GENERIC), 'UNKNOWN')


def as_http_status(code: str | int | None) -> int | None:
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        code = int(code)
    return code if isinstance(code, int) and 400 <= code <= 599 else None


def _by_http(http_status: int) -> Status:
    if http_status in _BY_HTTP:
        return _BY_HTTP[http_status]
    if http_status >= 500:
        return 'INTERNAL'
    return 'INVALID_ARGUMENT' if http_status >= 400 else 'FAILED_PRECONDITION'


def http_status_of(error: LamellaError) -> int:
    """The HTTP status a server answers with: the provider's own where it means the same (529 stays 529)."""
    given = error.details.get('http_status')
    if isinstance(given, int) and 400 <= given <= 599 and _by_http(given) == error.status:
        return given
    return _TO_HTTP[error.status] if error.status != 'OK' else 500
