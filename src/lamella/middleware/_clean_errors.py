"""Errors without private data: for those who hear of them, and for those who catch them."""

from __future__ import annotations

import copy
from typing import Any

from lamella.middleware._walk import Walk
from lamella.types import Interrupt, LamellaError, StopRun

_LONGEST_CHAIN = 16
_OF_FILES = ('filename', 'filename2', 'strerror')


def told(error: BaseException, walk: Walk) -> BaseException:
    """What listeners may hear of an error: the error itself when there is nothing in it to hide, and else one like it."""
    if isinstance(error, LamellaError):
        changes = _changes(error, walk)
        cause = None if error.__cause__ is None else told(error.__cause__, walk)
        if not changes and cause is error.__cause__ and error.__context__ is error.__cause__:
            return error
        twin = copy.copy(error)
        _set(twin, changes)
        twin.__cause__, twin.__suppress_context__ = cause, True
        return twin
    if not _shows(error, walk) and error.__cause__ is None and error.__context__ is None:
        return error
    return _stand_in(error, walk)


def cleaned(error: BaseException, walk: Walk) -> BaseException:
    """The same error with nothing in it to hide, nor in what it was raised from. One that cannot be changed (its text is
    computed elsewhere) is replaced by an INTERNAL that says as much as may be said."""
    clean = _cleaned(error, walk)
    seen, last = {id(clean)}, clean
    for _ in range(_LONGEST_CHAIN):
        inner = last.__cause__ if last.__cause__ is not None else last.__context__
        if inner is None or id(inner) in seen:
            return clean
        replaced = _cleaned(inner, walk)
        if last.__cause__ is not None:
            last.__cause__ = replaced if replaced is not inner else inner
            last.__context__ = None
        else:
            last.__context__ = replaced
        seen.add(id(inner))
        last = replaced
    last.__cause__ = last.__context__ = None
    return clean


def _cleaned(error: BaseException, walk: Walk) -> BaseException:
    if isinstance(error, LamellaError):
        _set(error, _changes(error, walk))
        return error
    if isinstance(error, Interrupt):
        error.message, error.metadata = walk(error.message), walk(error.metadata)
        error.args = walk(error.args)
        return error
    if isinstance(error, StopRun):
        error.message, error.response = walk(error.message), walk(error.response)
        error.args = walk(error.args)
        return error
    if not _shows(error, walk):
        return error
    for name in _OF_FILES:
        if isinstance(error, OSError) and isinstance(getattr(error, name, None), str):
            setattr(error, name, walk(getattr(error, name)))
    error.args = walk(error.args)
    if getattr(error, '__notes__', None):
        error.__notes__ = walk(error.__notes__)
    return _replacement(error, walk) if _shows(error, walk) else error


def _changes(error: LamellaError, walk: Walk) -> dict[str, Any]:
    fields = {'message': error.message, 'args': error.args, 'details': error.details, 'partial': error.partial}
    fields |= {'attempts': error.attempts, '__notes__': getattr(error, '__notes__', None)}
    return {name: changed for name, value in fields.items() if (changed := walk(value)) is not value}


def _set(error: LamellaError, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(error, name, value)


def _shows(error: BaseException, walk: Walk) -> bool:
    """Whether there is something to hide in what a reader of the error would see."""
    try:
        seen = (str(error), repr(error), error.args, getattr(error, '__notes__', None))
    except Exception:  # it cannot even be shown, so nobody knows
        return True
    return any(walk(one) is not one for one in seen)


def _text(error: BaseException, walk: Walk) -> str:
    try:
        return str(walk(str(error)))
    except Exception as problem:
        return f'(withheld: {type(problem).__name__})'


def _stand_in(error: BaseException, walk: Walk) -> BaseException:
    """An exception of the same name with the text that may be told."""
    kind = type(error)
    twin: BaseException = type(kind.__name__, (Exception,), {'__module__': kind.__module__})(_text(error, walk))
    return twin.with_traceback(error.__traceback__)


def _replacement(error: BaseException, walk: Walk) -> BaseException:
    if not isinstance(error, Exception):
        return error
    return LamellaError('INTERNAL', f'{type(error).__name__}: {_text(error, walk)}').with_traceback(error.__traceback__)
