"""Recognises credentials by what vendors put in front of them, and private keys by their armour."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from lamella.middleware._bounded_regex import measured
from lamella.middleware._pii_find import Found, begins
from lamella.middleware._pii_view import QUOTE


class Key(NamedTuple):
    """A credential begins with one of the `prefixes`, and is one as soon as `least` follows. What comes then belongs to it as
    long as it is of `body`, however much that is."""

    prefixes: tuple[str, ...]
    least: str
    body: str


def _key(prefixes: str, least: int | str, body: str) -> Key:
    return Key(tuple(prefixes.split()), f'{body}{{{least}}}' if isinstance(least, int) else least, body)


_ANY, _DASHED, _HEX, _CAPITALS = '[A-Za-z0-9]', '[A-Za-z0-9_-]', '[0-9a-f-]', '[A-Z0-9]'

# From the vendors' own pages on their keys, and from GitHub's "Supported secret scanning patterns".
KEYS = (
    _key('sk-proj- sk-svcacct- sk-admin- sk-None- sk-ant- sk-or-', 12, _DASHED),  # OpenAI, Anthropic, OpenRouter
    _key('sk-', f'{_ANY}{{20}}', _DASHED),
    _key('AIza AQ.Ab', 30, _DASHED),  # Google
    _key('ya29. GOCSPX-', 16, _DASHED),
    _key('AKIA ASIA ABIA ACCA', 16, _CAPITALS),  # AWS
    _key('gho_ ghp_ ghr_ ghs_ ghu_ github_pat_', 20, '[A-Za-z0-9_]'),
    _key('glpat- gldt- glrt- glcbt- glptt- glft- glsoat-', 16, '[A-Za-z0-9_.-]'),  # GitLab
    _key('xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs- xapp-', 10, '[A-Za-z0-9_.-]'),  # Slack
    _key('hooks.slack.com/services/ hooks.slack.com/workflows/', 8, '[A-Za-z0-9/]'),
    _key('sk_live_ sk_test_ rk_live_ rk_test_ whsec_', 16, _ANY),  # Stripe
    _key(
        'hf_ gsk_ pplx- xai- r8_ fw_ nvapi- tvly- csk- jina_', f'{_ANY}{{20}}', _DASHED
    ),  # Hugging Face, Groq and others
    _key('npm_ lin_api_ ntn_ secret_', 30, _ANY),  # npm, Linear, Notion
    _key(
        'pypi-AgE hvb. hvs. hvr. ATATT3x sq0atp- sq0csp- sq0idp-', 16, '[A-Za-z0-9_=-]'
    ),  # PyPI, Vault, Atlassian, Square
    _key('SG.', f'{_DASHED}{{16,32}}\\.{_DASHED}{{16}}', _DASHED),  # SendGrid
    _key('SK key- dapi dop_v1_ doo_v1_ dor_v1_', '[0-9a-f]{32}', _HEX),  # Twilio, Mailgun, Databricks, DigitalOcean
    _key('shpat_ shpca_ shppa_ shpss_ PMAK-', '[0-9a-f]{20}', _HEX),  # Shopify, Postman
    _key('glsa_ glc_', 20, '[A-Za-z0-9_=+/-]'),  # Grafana
    _key('NRAK- AGE-SECRET-KEY-1', 20, _CAPITALS),  # New Relic, age
    # RFC 7519: two JSON objects in base64url, of which each begins with `{"`.
    _key('eyJ', f'{_DASHED}{{8,1024}}+\\.eyJ{_DASHED}{{8}}', '[A-Za-z0-9_.-]'),
)


FEW = 400


class KeyFinder:
    """Credentials with a prefix that tells what they are."""

    entities = ('api_key',)
    needs_sign = False

    def __init__(self) -> None:
        self._heads = [(prefix, _Head(prefix, key)) for key in KEYS for prefix in key.prefixes]
        self.longest = max(head.longest for _, head in self._heads)
        self._by_two: dict[str, list[tuple[str, _Head]]] = {}
        for prefix, head in self._heads:
            for length in (1, 2):
                self._by_two.setdefault(prefix[:length], []).append((prefix, head))

    def find(self, text: str, start: int, final: bool) -> tuple[list[Found], int]:
        hold = len(text) if final else self._hold(text, start)
        places = self._near(text, start, hold) if hold - start < FEW else self._far(text, start, hold)
        return [Found(at, end, 'api_key', head) for at, head in places if (end := head.match(text, at))], hold

    def _near(self, text: str, start: int, hold: int) -> Iterator[tuple[int, _Head]]:
        """Where prefixes stand in few characters, place by place."""
        for at in range(start, hold):
            heads = self._by_two.get(text[at : at + 2])
            if heads is not None and begins(text, at):
                yield from [(at, head) for prefix, head in heads if text.startswith(prefix, at)]

    def _far(self, text: str, start: int, hold: int) -> Iterator[tuple[int, _Head]]:
        """Where they stand in many, prefix by prefix."""
        for prefix, head in self._heads:
            at = text.find(prefix, start)
            while -1 < at < hold:
                if begins(text, at):
                    yield at, head
                at = text.find(prefix, at + 1)

    def _hold(self, text: str, start: int) -> int:
        """Where a key may begin that goes on behind the end of the text."""
        size = len(text)
        least = max(start, size - self.longest)
        at = size
        while at > least and (text[at - 1].isalnum() or text[at - 1] in '_-./='):
            at -= 1
        for first in range(at, size):
            heads = self._by_two.get(text[first : first + 2])
            if heads is not None and begins(text, first) and any(_is_begun(text, first, *head) for head in heads):
                return first
        return size


def _is_begun(text: str, at: int, prefix: str, head: _Head) -> bool:
    if len(text) - at < len(prefix):
        return prefix.startswith(text[at:])
    return text.startswith(prefix, at) and head.is_begun(text, at)


class _Head:
    """One prefix, with what follows it."""

    def __init__(self, prefix: str, key: Key) -> None:
        pattern = measured(re.escape(prefix) + key.least)
        self.longest, self._begun, self._regex = pattern.width, pattern.started, pattern.regex
        self._body = re.compile(f'{key.body}*')

    def match(self, text: str, at: int) -> int:
        """Where what makes it a key ends; 0 when it is none."""
        found = self._regex.match(text, at)
        return found.end() if found is not None else 0

    def is_begun(self, text: str, at: int) -> bool:
        return self._begun.match(text, at) is not None

    def end(self, text: str, at: int) -> int | None:
        rest = self._body.match(text, at)
        end = rest.end() if rest is not None else at
        return end if end < len(text) else None


_HEADER = r'-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----'
_FOOTER = re.compile(rf'-----END [A-Z0-9 ]{{0,40}}PRIVATE KEY(?: BLOCK)?-----|{QUOTE}')
LONGEST_FOOTER = 80


class PrivateKeyFinder:
    """RFC 7468 and its relatives (OpenSSH, PGP): from the line that begins a private key to the one that ends it, and to the end
    of the text when there is none."""

    entities = ('private_key',)
    needs_sign = False

    def __init__(self) -> None:
        header = measured(_HEADER)
        self.longest, self._header, self._begun = header.width, header.regex, header.started
        self._armour = _Armour()

    def find(self, text: str, start: int, final: bool) -> tuple[list[Found], int]:
        hold = len(text)
        if not final and (begun := self._begun.search(text, max(start, hold - self.longest))) is not None:
            hold = begun.start()
        headers = self._header.finditer(text, start) if '-----BEGIN ' in text else ()
        return [Found(*one.span(), 'private_key', self._armour) for one in headers if one.start() < hold], hold


class _Armour:
    """What stands between the two lines, and the last of them. The quote at the end of a JSON string ends it as well."""

    def end(self, text: str, at: int) -> int | None:
        footer = _FOOTER.search(text, max(0, at - LONGEST_FOOTER))
        while footer is not None and footer.end() <= at:
            footer = _FOOTER.search(text, footer.start() + 1)
        if footer is None:
            return None
        return footer.end() if footer[0] != QUOTE else footer.start()
