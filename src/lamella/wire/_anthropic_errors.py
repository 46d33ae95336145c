"""Errors in the words of the Anthropic API (platform.claude.com/docs/en/api/errors)."""

from __future__ import annotations

import msgspec

from lamella.types import JSON, LamellaError, Status
from lamella.wire.codec import EncodedError
from lamella.wire.errors import http_status_of, retry_after_headers

_TYPES: dict[Status, str] = {
    'UNAUTHENTICATED': 'authentication_error',
    'PERMISSION_DENIED': 'permission_error',
    'NOT_FOUND': 'not_found_error',
    'RESOURCE_EXHAUSTED': 'rate_limit_error',
    'DEADLINE_EXCEEDED': 'timeout_error',
    'UNAVAILABLE': 'overloaded_error',
    'ABORTED': 'conflict_error',
    'ALREADY_EXISTS': 'conflict_error',
    'INVALID_ARGUMENT': 'invalid_request_error',
    'FAILED_PRECONDITION': 'invalid_request_error',
    'OUT_OF_RANGE': 'invalid_request_error',
}
_HTTP = {'authentication_error': 401, 'overloaded_error': 529}
_OWN = frozenset((*_TYPES.values(), 'billing_error', 'request_too_large', 'api_error'))


def error_body(error: LamellaError) -> JSON:
    """The provider's own type of error where it was one of this API."""
    told = error.details.get('type')
    kind = told if told in _OWN else _TYPES.get(error.status, 'api_error')
    body: JSON = {'type': 'error', 'error': {'type': kind, 'message': error.message}}
    request_id = error.details.get('request_id')
    return {**body, 'request_id': request_id} if isinstance(request_id, str) else body


def encoded_error(error: LamellaError) -> EncodedError:
    body = error_body(error)
    status = http_status_of(error)
    if 'http_status' not in error.details:
        status = _HTTP.get(body['error']['type'], status)
    headers = {'content-type': 'application/json', **retry_after_headers(error)}
    if 'request_id' in body:
        headers['request-id'] = body['request_id']
    return EncodedError(status, headers, msgspec.json.encode(body))
