"""Errors as google.rpc.Status in JSON, and back (cloud.google.com/apis/design/errors)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lamella.types import JSON, LamellaError
from lamella.wire._gemini_json import MARK
from lamella.wire.errors import error_from_body, http_status_of, redacted

_TYPE = 'type.googleapis.com/google.rpc.'


def decode_status(http_status: int, headers: Mapping[str, str], body: bytes, now: float | None) -> LamellaError:
    error = error_from_body(http_status, headers, body, now=now)
    try:
        return with_details(error, msgspec.json.decode(redacted(body.decode('utf-8', 'replace'))))
    except (msgspec.DecodeError, RecursionError):
        return error


def with_details(error: LamellaError, value: Any) -> LamellaError:
    """The error with Google's own details. A quota of the day is not retryable, whatever RetryInfo says beside it."""
    details = _details(value)
    if details:
        error.details[MARK] = details
    if any('PerDay' in str(violation.get('quotaId')) for violation in _violations(details)):
        error.details['retryable'] = False
    return error


def _details(value: Any) -> list[JSON]:
    outer = value[0] if isinstance(value, list) and value else value
    inner = outer.get('error') if isinstance(outer, dict) else None
    details = inner.get('details') if isinstance(inner, dict) else None
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _violations(details: list[JSON]) -> list[JSON]:
    lists = [detail.get('violations') for detail in details]
    return [item for found in lists if isinstance(found, list) for item in found if isinstance(item, dict)]


def encode_status(error: LamellaError) -> JSON:
    body: JSON = {'code': http_status_of(error), 'message': error.message, 'status': error.status}
    details = _told(error)
    return {'error': {**body, 'details': details} if details else body}


def _told(error: LamellaError) -> list[JSON]:
    kept = error.details.get(MARK)
    details = list(kept) if isinstance(kept, list) else []
    kinds = {detail.get('@type') for detail in details if isinstance(detail, dict)}
    reason = error.details.get('code')
    if isinstance(reason, str) and f'{_TYPE}ErrorInfo' not in kinds:
        details.append({'@type': f'{_TYPE}ErrorInfo', 'reason': reason, 'domain': 'lamella'})
    if error.retry_after_s is not None and f'{_TYPE}RetryInfo' not in kinds:
        details.append({'@type': f'{_TYPE}RetryInfo', 'retryDelay': f'{error.retry_after_s:g}s'})
    return details
