"""Errors inside answers and streams of the Responses API (platform.openai.com/docs/api-reference/responses-streaming/error)."""

from __future__ import annotations

from typing import Any

from lamella.types import JSON, LamellaError, ModelResponse, Status
from lamella.wire._openai_chat_errors import error_body
from lamella.wire._openai_json import dict_or_empty, parse, text_or_none
from lamella.wire.errors import error_from_event

# `Response.error.code` (github.com/openai/openai-python, types/responses/response_error.py)
_CODES: dict[str, Status] = {
    'server_error': 'INTERNAL',
    'rate_limit_exceeded': 'RESOURCE_EXHAUSTED',
    'vector_store_timeout': 'DEADLINE_EXCEEDED',
    'data_residency_mismatch': 'FAILED_PRECONDITION',
    'bio_policy': 'INVALID_ARGUMENT',
    'cyber_policy': 'INVALID_ARGUMENT',
    'invalid_prompt': 'INVALID_ARGUMENT',
    'image_file_not_found': 'NOT_FOUND',
    'previous_response_not_found': 'NOT_FOUND',
    **dict.fromkeys(
        (
            'invalid_image', 'invalid_image_format', 'invalid_base64_image', 'invalid_image_url', 'image_too_large',
            'image_too_small', 'image_parse_error', 'image_content_policy_violation', 'invalid_image_mode',
            'image_file_too_large', 'unsupported_image_media_type', 'empty_image_file', 'failed_to_download_image',
        ),
        'INVALID_ARGUMENT',
    ),
}  # fmt: skip


def error_of(data: JSON, partial: ModelResponse | None) -> LamellaError:
    """The error of an `error` event, whose fields may stand at the root or under `error`, or of a failed answer."""
    inner = data.get('error')
    fields = inner if isinstance(inner, dict) else {key: data[key] for key in data if key not in ('type', 'error')}
    error = error_from_event({'error': fields}, partial=partial)
    if error.status == 'UNKNOWN':
        error.status = _CODES.get(str(error.details.get('code')), 'UNKNOWN')
    return error


def error_event(error: LamellaError) -> JSON:
    """The fields of an `error` event. It has no `type` for the kind of error, so `code` says it."""
    fields: Any = dict_or_empty(dict_or_empty(parse(error_body(error))).get('error'))
    return {
        'type': 'error',
        'code': fields.get('code') or text_or_none(fields.get('type')),
        'message': fields.get('message'),
        'param': fields.get('param'),
    }
