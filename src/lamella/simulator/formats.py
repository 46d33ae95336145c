"""The string formats of JSON Schema that the simulator can make and check (json-schema.org, draft 2020-12, section 7.3)."""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
import uuid
from collections.abc import Callable

_EMAIL = re.compile(r'[\w.+-]+@[\w-]+(?:\.[\w-]+)+', re.ASCII)
_URI = re.compile(r'[a-zA-Z][a-zA-Z0-9+.-]*:[^\s<>"{}|\\^`]+')
_HOST = re.compile(
    r'(?=.{1,253}$)[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*'
)
_DURATION = re.compile(r'P(?=.)(?:\d+Y)?(?:\d+M)?(?:\d+W)?(?:\d+D)?(?:T(?=.)(?:\d+H)?(?:\d+M)?(?:\d+S)?)?')
_DATE = re.compile(r'\d{4}-\d\d-\d\d')
_TIME = re.compile(r'\d\d:\d\d:\d\d(?:\.\d+)?(?:[zZ]|[+-]\d\d:\d\d)')


def _parses(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _is_date(text: str) -> bool:
    return _DATE.fullmatch(text) is not None and _parses(dt.date.fromisoformat, text)


def _is_time(text: str) -> bool:
    return _TIME.fullmatch(text) is not None and _parses(dt.time.fromisoformat, text)


def _is_date_time(text: str) -> bool:
    return _is_date(text[:10]) and text[10:11] in ('T', 't') and _is_time(text[11:])


def _is_uuid(text: str) -> bool:
    return len(text) == 36 and _parses(uuid.UUID, text)


_CHECKS: dict[str, Callable[[str], bool]] = {
    'date': _is_date,
    'time': _is_time,
    'date-time': _is_date_time,
    'duration': lambda text: _DURATION.fullmatch(text) is not None,
    'email': lambda text: _EMAIL.fullmatch(text) is not None,
    'hostname': lambda text: _HOST.fullmatch(text) is not None,
    'ipv4': lambda text: _parses(ipaddress.IPv4Address, text),
    'ipv6': lambda text: _parses(ipaddress.IPv6Address, text),
    'uri': lambda text: _URI.fullmatch(text) is not None,
    'uuid': _is_uuid,
}


def has_format(text: str, name: str) -> bool:
    """Formats that are not in the table are no constraint."""
    check = _CHECKS.get(name)
    return check is None or check(text)


def example_of(name: str, index: int = 0) -> str | None:
    """A made-up value of that format, another one for each `index`; addresses are the ones reserved for examples
    (RFC 2606, RFC 5737, RFC 3849)."""
    if name not in _CHECKS:
        return None
    day = dt.date(2026, 1, 1) + dt.timedelta(days=index)
    number = f'-{index}' if index else ''
    return {
        'date': day.isoformat(),
        'time': f'{index % 24:02}:00:00Z',
        'date-time': f'{day.isoformat()}T00:00:00Z',
        'duration': f'P{index + 1}D',
        'email': f'someone{number}@example.com',
        'hostname': f'host{number}.example.com',
        'ipv4': f'192.0.2.{index % 255 + 1}',
        'ipv6': f'2001:db8::{index % 65535 + 1:x}',
        'uri': f'https://example.com/{index or ""}',
        'uuid': f'00000000-0000-4000-8000-{index:012d}',
    }[name]
