"""Errors as servers of OpenAI's protocols send them (developers.openai.com/api/docs/guides/error-codes)."""

from __future__ import annotations

from lamella.types import LamellaError
from lamella.wire._openai_json import text_or_none, write
from lamella.wire.codec import EncodedError
from lamella.wire.errors import http_status_of, redacted, retry_after_headers

_TYPES = {
    'INVALID_ARGUMENT': ('invalid_request_error', None),
    'UNAUTHENTICATED': ('invalid_request_error', 'invalid_api_key'),
    'PERMISSION_DENIED': ('permission_error', None),
    'NOT_FOUND': ('invalid_request_error', 'model_not_found'),
    'RESOURCE_EXHAUSTED': ('rate_limit_error', 'rate_limit_exceeded'),
    'DEADLINE_EXCEEDED': ('timeout_error', None),
    'ABORTED': ('conflict_error', None),
    'INTERNAL': ('server_error', None),
    'UNAVAILABLE': ('service_unavailable_error', None),
}


def error_body(error: LamellaError) -> bytes:
    """`{"error": {message, type, param, code}}`: the provider's own words where it gave some.

    Statuses that OpenAI has no word for keep their name as `code`, so that this library reads them back as they were.
    """
    type, code = _TYPES.get(error.status, ('api_error', error.status))
    details = error.details
    given = details.get('code')
    message = redacted(error.message)
    body = {
        'message': message,
        'type': text_or_none(details.get('type')) or type,
        'param': text_or_none(details.get('param')),
        'code': given if isinstance(given, (str, int)) else None if text_or_none(details.get('type')) else code,
    }
    try:
        return write({'error': body})
    except LamellaError:  # a message with lone surrogates
        return write({'error': {**body, 'message': message.encode('ascii', 'replace').decode()}})


def encode_error(error: LamellaError) -> EncodedError:
    headers = {'content-type': 'application/json', **retry_after_headers(error)}
    if (request_id := text_or_none(error.details.get('request_id'))) and request_id.isprintable():
        headers['x-request-id'] = request_id
    return EncodedError(http_status_of(error), headers, error_body(error))
