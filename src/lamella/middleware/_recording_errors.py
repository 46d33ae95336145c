"""What a call failed with, as it is written, and raised again as it was."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any

from lamella import types
from lamella.middleware._mask import without_credentials
from lamella.middleware._recording_codec import Unreadable, plain, value_of
from lamella.types import JSON, STATUSES, Attempt, Interrupt, LamellaError, ModelResponse, StopRun

_KINDS = {name: kind for name, kind in vars(types).items() if isinstance(kind, type) and issubclass(kind, LamellaError)}
_FIELDS = ('message', 'status', 'details', 'retry_after_s', 'attempts', 'partial')


def plain_error(error: BaseException) -> JSON:
    """Its type, and all that it says."""
    if isinstance(error, LamellaError):
        own = {key: value for key, value in vars(error).items() if key not in _FIELDS and not key.startswith('_')}
        kind = next(
            (base.__name__ for base in type(error).__mro__ if _KINDS.get(base.__name__) is base), 'LamellaError'
        )
        facts = {name: value for name in _FIELDS if (value := getattr(error, name)) not in (None, (), {})}
        return {
            'class': kind,
            **{name: plain(value) for name, value in facts.items()},
            **({'own': plain(own)} if own else {}),
        }
    if isinstance(error, Interrupt):
        return {'class': 'Interrupt', 'message': plain(error.message), 'metadata': plain(error.metadata)}
    if isinstance(error, StopRun):
        return {
            'class': 'StopRun',
            'reason': error.reason,
            'message': plain(error.message),
            'response': plain(error.response),
        }
    args = (
        [plain(arg) for arg in error.args] if all(type(arg) in (str, int, float, bool) for arg in error.args) else None
    )
    return {
        'class': type(error).__name__,
        'message': without_credentials(str(error)),
        **({} if args is None else {'args': args}),
    }


def error_of(written: Any) -> BaseException:
    """The exception to raise: the same LamellaError, or built-in exception; of anything else a RuntimeError that names it.

    Raises Unreadable.
    """
    if not isinstance(written, dict) or not isinstance(name := written.get('class'), str):
        raise Unreadable('an error without a class')
    message = _text(written.get('message', ''))
    if name in _KINDS:
        return _lamella_error(_KINDS[name], message, written)
    if name == 'Interrupt':
        return Interrupt(message, _mapping(value_of(written.get('metadata', {}))))
    if name == 'StopRun':
        response = value_of(written.get('response'))
        return StopRun(_text(written.get('reason')), message, response=response)  # type: ignore[arg-type]
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, (Warning, UnicodeError)):
        args = value_of(written.get('args', [message]))
        try:
            return kind(*args)
        except TypeError:
            return RuntimeError(f'{name}: {message}')
    return RuntimeError(f'{name}: {message}')


def _lamella_error(kind: type[LamellaError], message: str, written: Mapping[str, Any]) -> LamellaError:
    status = written.get('status', 'UNKNOWN')
    if status not in STATUSES:
        raise Unreadable(f'{status!r} is no status')
    partial = value_of(written.get('partial'))
    wait = written.get('retry_after_s')
    attempts = value_of(written.get('attempts', []))
    if partial is not None and not isinstance(partial, ModelResponse):
        raise Unreadable('an error whose partial is no answer')
    if wait is not None and (isinstance(wait, bool) or not isinstance(wait, (int, float))):
        raise Unreadable(f'retry_after_s is {wait!r}')
    if not isinstance(attempts, list) or not all(isinstance(attempt, Attempt) for attempt in attempts):
        raise Unreadable('an error whose attempts are none')
    error = kind.__new__(kind, message)
    error.args = (message,)
    error.__dict__.update(_mapping(value_of(written.get('own', {}))))
    error.__dict__.update(
        status=status,
        message=message,
        details=_mapping(value_of(written.get('details', {}))),
        retry_after_s=wait,
        attempts=tuple(attempts),
        partial=partial,
    )
    return error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Unreadable(f'{value!r} where a text belongs')
    return value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unreadable(f'a {type(value).__name__} where an object belongs')
    return value
