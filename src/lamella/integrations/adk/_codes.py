"""Error codes, which come as numbers, numeric strings and canonical names: 429, `'429'` and `RESOURCE_EXHAUSTED` are one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import Any, get_args

from lamella.types import ConfigError, LamellaError, Status
from lamella.wire.errors import http_status_of

_NUMBER = re.compile(r'[1-9]\d{2,3}(?![\w.])')
# google.rpc.Code's own numbers (github.com/googleapis/googleapis, google/rpc/code.proto).
_STATUSES: tuple[Status, ...] = get_args(Status)
_NAMES: dict[str, int] = {status: http_status_of(LamellaError(status, '')) for status in _STATUSES if status != 'OK'}
_TIMEOUTS = frozenset(('TimeoutError', 'TimeoutException', 'APITimeoutError'))
_CONNECTIONS = frozenset(('TransportError', 'ClientConnectionError', 'ClientPayloadError', 'APIConnectionError'))
_HTTP_PACKAGES = frozenset(('aiohttp', 'anthropic', 'httpx', 'httpx2', 'litellm', 'openai', 'requests'))


def code_text(code: object) -> str:
    """A code as it is shown: an enumeration's value, and anything else as a string."""
    return str(code.value if isinstance(code, Enum) else code).strip()


def code_key(code: object) -> str:
    """What a code is compared by: its number where it has one."""
    text = code_text(code)
    if number := _NUMBER.match(text):
        return number[0]
    name = re.split(r'[.\s:]', text.upper())[-1] if text.upper().startswith('STATUSCODE.') else text.upper()
    return str(_NAMES.get(name, name))


def code_keys(codes: Iterable[object]) -> frozenset[str]:
    """The codes of a setting, to compare with. Raises ConfigError, with every problem."""
    if isinstance(codes, (str, int)) or not isinstance(codes, Iterable):
        raise ConfigError(f'error_status is {codes!r}: give a list, such as [429, 504]')
    given = list(codes)
    problems = [
        f"error_status[{index}] is {code!r}: give a number such as 429 or a name such as 'RESOURCE_EXHAUSTED'"
        for index, code in enumerate(given)
        if isinstance(code, bool) or not isinstance(code, (int, str)) or not code_text(code)
    ]
    if problems:
        raise ConfigError('; '.join(problems))
    return frozenset(map(code_key, given))


def error_code(error: BaseException) -> str | None:
    """The code of a raised error, whoever raised it: google-genai, LiteLLM, OpenAI, Anthropic, httpx, gRPC, Lamella."""
    if isinstance(error, LamellaError):
        return str(http_status_of(error))
    for given in (getattr(error, 'code', None), getattr(error, 'status_code', None)):
        if callable(given):
            continue  # gRPC's `code()` is looked at below
        if isinstance(given, (int, str, Enum)) and not isinstance(given, bool) and code_text(given):
            return code_text(given)
    status = getattr(getattr(error, 'response', None), 'status_code', None)
    if isinstance(status, int):
        return str(status)
    if callable(called := getattr(error, 'code', None)) and (name := getattr(called(), 'name', None)):
        return str(name)
    failed = without_an_answer(error)
    return None if failed is None else str(_NAMES[failed])


def without_an_answer(error: BaseException) -> Status | None:
    """The status of a failure below HTTP: nobody answered, or not in time. `None` for anything else."""
    kinds = [kind for kind in type(error).__mro__ if kind.__module__.partition('.')[0] in _HTTP_PACKAGES]
    if isinstance(error, TimeoutError) or any(kind.__name__ in _TIMEOUTS for kind in kinds):
        return 'DEADLINE_EXCEEDED'
    if isinstance(error, ConnectionError) or any(kind.__name__ in _CONNECTIONS for kind in kinds):
        return 'UNAVAILABLE'
    return None


def headers_of(error: Any) -> dict[str, str]:
    """The headers of the answer that an error stands for, in lower case."""
    headers = getattr(getattr(error, 'response', None), 'headers', None)
    items = getattr(headers, 'items', None)
    return {str(key).lower(): str(value) for key, value in items()} if callable(items) else {}
