"""Recognises addresses of the net: e-mail, IPv4 and IPv6."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from lamella.middleware._pii_find import Found, begins, ends, is_wordy, named

LOCAL = 64  # RFC 5321, 4.5.3.1.1
DOMAIN = 253  # RFC 1035, 2.3.4
_DOMAIN = re.compile(
    r'(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,20}(?:xn--[a-z0-9-]{2,59}|[a-z]{2,63}|[^\W\d_a-z]{2,63})', re.IGNORECASE
)
_LABELS = re.compile(r'[\w.-]*')
_PICTURE = re.compile(r'\d+x\.(?:png|jpe?g|gif|webp|svg|avif)\Z', re.IGNORECASE)  # logo@2x.png

_V4 = re.compile(r'[0-9]{1,3}(?:\.[0-9]{1,3}){3}')
_V4_TAIL = re.compile(r'[0-9]{1,3}(?:\.[0-9]{0,3}){0,3}\.?\Z')
V4 = 16
_V6 = re.compile(r'[0-9A-Fa-f:.]{2,46}+')
V6 = 46
_V6_BEFORE = re.compile(r'[0-9A-Fa-f]{0,4}\Z')
_V6_TAIL = re.compile(r'(?:[0-9A-Fa-f]{1,4}|:[0-9A-Fa-f:.]*|[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:.]*)\Z')
# What stands before four numbers that are a version and no address.
_VERSION = re.compile(
    r'(?:\bv|\bver\.?|version|release|build|firmware|revision|\brev\.?'
    r'|(?:chrome|chromium|firefox|safari|edge?|opr|electron|version|webkit|node)/)[ :=]{0,2}\Z',
    re.IGNORECASE,
)


def _is_local(char: str) -> bool:
    return is_wordy(char) or char in ".%+-'"


class EmailFinder:
    """Local parts of letters, digits and `._%+-'` in front of a domain name with a top level (RFC 5321, and RFC 6531 for other
    scripts). Quoted local parts are not found."""

    entities = ('email',)
    needs_sign = True
    longest = LOCAL + 1 + DOMAIN

    def find(self, text: str, start: int, final: bool) -> tuple[list[Found], int]:
        found, at = list[Found](), text.find('@', start)
        while at >= 0:
            first = _local_start(text, at)
            domain = _LABELS.match(text, at + 1, at + 1 + DOMAIN)
            end = domain.end() if domain is not None else at + 1
            if first < at and first >= start:
                if not final and end == len(text) and end - at <= DOMAIN:
                    return found, first
                found += _address(text, first, at, end)
            at = text.find('@', at + 1)
        return found, len(text) if final else _local_start(text, len(text))


def _address(text: str, first: int, at: int, end: int) -> Iterator[Found]:
    domain = _DOMAIN.match(text, at + 1, end)
    if domain is not None and not _PICTURE.match(domain[0]):
        yield Found(first, domain.end(), 'email')


def _local_start(text: str, at: int) -> int:
    """Where a local part that ends here begins: after at most 64 characters, with a letter or a digit."""
    first, least = at, max(0, at - LOCAL)
    while first > least and _is_local(text[first - 1]):
        first -= 1
    while first < at and not is_wordy(text[first]):
        first += 1
    return first


class IPFinder:
    """Valid addresses alone. Versions with four numbers, and the addresses of this machine, are none."""

    entities = ('ip',)
    needs_sign = True
    longest = V6

    def find(self, text: str, start: int, final: bool) -> tuple[list[Found], int]:
        hold = len(text) if final else min(_v4_hold(text, start), _v6_hold(text, start))
        return [one for one in (*_v4(text, start), *_v6(text, start)) if one.start < hold], hold


def _v4(text: str, start: int) -> Iterator[Found]:
    for written in _V4.finditer(text, start):
        at, end = written.span()
        if not begins(text, at) or text[at - 1 : at] == '.' or not ends(text, end):
            continue
        if text[end : end + 1] == '.' and text[end + 1 : end + 2].isdigit():
            continue
        if _is_v4(written[0]) and not named(_VERSION, text, at):
            yield Found(at, end, 'ip')


def _is_v4(written: str) -> bool:
    try:
        address = IPv4Address(written)
    except AddressValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def _v4_hold(text: str, start: int) -> int:
    """The first place of a group of digits at the end of the text that may become an address."""
    first = max(start, len(text) - V4, len(text.rstrip('0123456789.')))
    for at in range(first, len(text)):
        begun = text[at].isdigit() and begins(text, at) and text[at - 1 : at] != '.'
        if begun and _V4_TAIL.match(text, at):
            return at
    return len(text)


def _v6(text: str, start: int) -> Iterator[Found]:
    colon, done = text.find(':', start), start
    while colon >= 0:
        before = _V6_BEFORE.search(text, max(done, colon - 4), colon)
        at = before.start() if before is not None else colon
        written = _V6.match(text, at)
        end = written.end() if written is not None else colon + 1
        if at >= start and begins(text, at) and text[at - 1 : at] not in ('.', ':'):
            yield from _v6_at(text, at, end)
        done = end
        colon = text.find(':', end)


def _v6_at(text: str, at: int, end: int) -> Iterator[Found]:
    while end > at and text[end - 1] == '.':
        end -= 1
    if end - at > 2 and text[end - 1] == ':' and text[end - 2] != ':':
        end -= 1
    if ends(text, end) and _is_v6(text[at:end]):
        yield Found(at, end, 'ip')


def _is_v6(written: str) -> bool:
    """A valid address that is no slice of a program, such as `[::2]` or `[10::20]`, and no name with two colons in it."""
    groups = [len(group) for group in written.split(':') if group]
    if written.count(':') < 2 or sum(groups) < 4 or (len(groups) < 3 and max(groups) < 3):
        return False
    if not any(c.isdigit() for c in written):
        return False
    try:
        address = IPv6Address(written)
    except AddressValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def _v6_hold(text: str, start: int) -> int:
    first = max(start, len(text) - V6, len(text.rstrip('0123456789abcdefABCDEF:.')))
    for at in range(first, len(text)):
        if begins(text, at) and text[at - 1 : at] not in ('.', ':') and _V6_TAIL.match(text, at):
            return at
    return len(text)
