"""Errors at the edge: what ADK's models raise, as Lamella's; and Lamella's, as users of the ADK expect them."""

from __future__ import annotations

from typing import Any

import msgspec
from google.genai.errors import APIError, ClientError, ServerError

from lamella.integrations.adk._codes import code_key, code_text, headers_of, without_an_answer
from lamella.types import ConfigError, LamellaError, UnknownNameError
from lamella.wire.errors import error_from_body, http_status_of, redacted
from lamella.wire.gemini import GeminiCodec

_CODEC = GeminiCodec()


def translated(error: Exception, model: str, now: float) -> LamellaError | None:
    """The same as Lamella's error, with the provider's Retry-After; `None` for what is no failure of a provider (a `TypeError`,
    say), which nobody may retry."""
    if isinstance(error, LamellaError):
        return error
    if isinstance(error, APIError):
        return _CODEC.decode_error(error.code or 500, headers_of(error), _body(error.details, error), now=now)
    if (below := without_an_answer(error)) is not None:
        return LamellaError(below, redacted(f'{model}: {type(error).__name__}: {error}'))
    status = getattr(error, 'status_code', None) or getattr(getattr(error, 'response', None), 'status_code', None)
    if not isinstance(status, int) or not 400 <= status <= 599:
        return None
    return error_from_body(status, headers_of(error), _body({'error': {'message': str(error)}}, error), now=now)


def _body(details: Any, error: Exception) -> bytes:
    try:
        return msgspec.json.encode(details)
    except (TypeError, ValueError, RecursionError):
        return msgspec.json.encode({'error': {'message': str(error)}})


def answered_error(code: object, message: str | None, model: str) -> LamellaError | None:
    """The failure that an answer with an `error_code` stands for; `None` for reasons to finish (`SAFETY`, `MAX_TOKENS` …)."""
    key = code_key(code)
    if not (key.isdigit() and 400 <= int(key) <= 599):
        return None
    said = {'error': {'message': message or f'{model} answered with the error {code_text(code)}'}}
    return error_from_body(int(key), {}, msgspec.json.encode(said))


def for_adk(error: LamellaError) -> Exception:
    """The error that a caller of an ADK model knows: google-genai's, with `code`, `status` and `message`. What was refused, by
    whom and after which attempts is its `__cause__`. Errors of the program's own settings stay what they are."""
    if isinstance(error, (ConfigError, UnknownNameError)):
        return error
    encoded = _CODEC.encode_error(error)
    kind = ClientError if encoded.status < 500 else ServerError
    made: Exception = kind(http_status_of(error), msgspec.json.decode(encoded.body))
    made.__cause__ = error
    return made
