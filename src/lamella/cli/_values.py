"""Values on their way in and out of a command: JSON, files, standard input, and errors as a person reads them."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, TypeAdapter

from lamella.cli._echo import Problem
from lamella.cli._target import Unusable
from lamella.engine.app import Lamella
from lamella.types import ConfigError, LamellaError

T = TypeVar('T')


class Failed(Problem):
    """What was asked for was tried and failed. Exit code 1."""

    exit_code = 1


def text_of(given: str, what: str) -> str:
    """`-` is standard input, `@path` a file, anything else itself. Raises Unusable."""
    if given == '-':
        return sys.stdin.read()
    if not given.startswith('@'):
        return given
    try:
        return Path(given[1:]).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f'{what}: {given[1:]} cannot be read: {error}') from error


def value_of(given: str | None, what: str) -> Any:
    """The text as JSON, or as a string where it is none."""
    if given is None:
        return None
    text = text_of(given, what)
    try:
        return json.loads(text)
    except ValueError:
        return text.removesuffix('\n')


def user_name() -> str | None:
    """The login name of whoever runs this, where there is one."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return None


def plain(value: Any) -> Any:
    """A value as JSON data."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode='json')
    try:
        return msgspec.to_builtins(value)
    except TypeError:
        return TypeAdapter(type(value)).dump_python(value, mode='json')


def shown(value: Any, *, as_json: bool) -> str:
    """Strings as they are unless JSON is wanted; everything else as JSON."""
    if isinstance(value, str) and not as_json:
        return value
    return json.dumps(plain(value), ensure_ascii=False, indent=None if as_json else 2)


def finished(app: Lamella, main: Coroutine[Any, Any, T]) -> T:
    """Run a program's coroutine to its end, with the app closed; failures as a person reads them.

    Raises Unusable for wrong input, Failed for what was tried and failed.
    """
    try:
        return app.run_main(main)
    except ConfigError as error:
        raise Unusable(error.message) from error
    except LamellaError as error:
        raise Failed(problem(error)) from error


def problem(error: LamellaError) -> str:
    """One line: the status, what was said, and how often it was tried."""
    attempts = f' (after {len(error.attempts)} attempts)' if len(error.attempts) > 1 else ''
    return f'{error}{attempts}'
