"""Judges texts that come from outside: how likely one wants to be obeyed by a model, and by what one can tell."""

from __future__ import annotations

import binascii
import codecs
import html
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from unicodedata import normalize
from urllib.parse import unquote

from lamella.middleware._hidden_text import hidden_kinds, selector_text, tag_text, visible
from lamella.middleware._injection_rules import ROLES, WORDS, Rule

MAX_ENCODED = 64  # pieces that are decoded
_LONGEST_ENCODED = 16_384
_MARKUP = re.compile(
    r'<!--|-->|</?(?:b|i|u|em|strong|span|font|div|p|br|wbr|a|small|code|mark)(?:\s[^<>]{0,200})?/?>|[*`~]{1,3}|(?<!\w)_{1,3}(?=\w)|(?<=\w)_{1,3}(?!\w)'
)
_SPACE = re.compile(r'[^\S\n]+')
_SPACED = re.compile(r'(?<!\w)(?:\w[ .\-_*·|]){3,}\w(?!\w)')
_BETWEEN = re.compile(r'[ .\-_*·|]')
_LEET = re.compile(r'(?<=[a-z])[013457@$](?=[a-z])|(?<![\w.])[013457@$](?=[a-z]{1,3}[a-z013457@$]{2})')
_LEET_LETTERS = str.maketrans('013457@$', 'oieastas')
# Letters of other scripts that look like Latin ones (Unicode "confusables.txt", the common part).
_ALIKE = str.maketrans('аеорсухікјѕԁһӏъοαενρτυικ', 'aeopcyxikjsdhlboaevptuik')
_LATIN, _OTHER = re.compile('[a-z]'), re.compile('[\u0370-\u03ff\u0400-\u04ff]')

_BASE64 = re.compile(r'(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{24,}={0,2}')
_HEX = re.compile(r'(?<![0-9A-Za-z])(?:0x)?(?:[0-9a-fA-F]{2}[ :]?){16,}(?![0-9A-Za-z])')
_PERCENT = re.compile(r'(?:%[0-9A-Fa-f]{2}|[A-Za-z0-9.,\'-]){12,}')

_IMAGE = re.compile(
    r'!\[[^\]\n]{0,200}\]\(\s{0,3}<?(https?://[^)\s]{4,400})|<img\b[^>]{0,300}\bsrc\s?=\s?["\']?(https?://[^"\'\s]{4,400})'
)
_LINK = re.compile(r'(?<!!)\[[^\]\n]{1,200}\]\(\s{0,3}<?(https?://[^)\s>]{4,400})')
_PLACE = re.compile(
    r'[{\[<(]{1,2}[a-z0-9_ -]{2,40}[}\]>)]{1,2}|%7b[a-z_%0-9]{2,40}%7d|\$[a-z_]{3,30}\b|[?&][a-z_]{1,20}=(?:$|&)',
    re.IGNORECASE,
)
_LONG_VALUE = re.compile(r'[?&][A-Za-z_]{1,20}=[A-Za-z0-9+/_%=-]{48,}')


class Verdict(NamedTuple):
    """`score` from 0 to 1, and the `reasons`, the strongest first."""

    score: float
    reasons: tuple[str, ...] = ()


def judge(text: str) -> Verdict:
    """How likely a text is an attack: each kind of sign counts once, and signs of several kinds add up."""
    signs = _signs(text, depth=0)
    return _verdict(signs)


def _verdict(signs: Mapping[str, float]) -> Verdict:
    innocent = 1.0
    for weight in signs.values():
        innocent *= 1 - weight
    return Verdict(round(1 - innocent, 3), tuple(sorted(signs, key=lambda reason: (-signs[reason], reason))))


def _signs(text: str, depth: int) -> dict[str, float]:
    signs = hidden_kinds(text)
    shown = visible(text)
    lower = _lower(shown)
    plain = _plain(lower)
    _apply(ROLES, lower, signs)
    _apply(WORDS, plain, signs)
    for other in _disguises(lower, plain):
        found: dict[str, float] = {}
        _apply(WORDS, other, found)
        if new := {reason: weight for reason, weight in found.items() if reason not in signs}:
            signs |= new
            signs['disguised'] = 0.4
    _links(shown, signs)
    if depth < 2:
        for inner in _encoded(text, shown):
            if (score := _verdict(_signs(inner, depth + 1)).score) >= 0.5:
                signs['encoded_instructions'] = max(signs.get('encoded_instructions', 0.0), min(0.9, score))
    return signs


def _lower(shown: str) -> str:
    """In small letters, and one form for each character."""
    return shown.lower() if shown.isascii() else normalize('NFKC', shown).casefold()


def _plain(lower: str) -> str:
    """Without markup, with single spaces."""
    return _SPACE.sub(' ', _MARKUP.sub('', lower).replace('’', "'"))


def _apply(rules: tuple[Rule, ...], text: str, signs: dict[str, float]) -> None:
    for rule in rules:
        may = rule.weight > signs.get(rule.reason, 0.0) and any(needle in text for needle in rule.needles)
        if may and rule.pattern.search(text):
            signs[rule.reason] = rule.weight


def _disguises(lower: str, plain: str) -> Iterator[str]:
    """What the text says when letters are read for what they look like."""
    if '&#' in plain:
        yield _plain(_lower(html.unescape(plain)))
    if '\n' in plain:
        yield plain.replace('\n', ' ')  # a sentence that was broken into lines
    if _LATIN.search(plain) and _OTHER.search(plain):
        yield plain.translate(_ALIKE)
    if _LEET.search(plain):
        yield _LEET.sub(lambda found: found[0].translate(_LEET_LETTERS), plain)
    if _SPACED.search(lower):
        words = re.sub(
            r'(?<=\w)[ ]{2,}(?=\w)| / ', '\n', lower
        )  # letters with one space, words with several between them
        yield _SPACED.sub(lambda found: _BETWEEN.sub('', found[0]), words).replace('\n', ' ')
    if 'vtaber' in plain or 'vafgehpgvba' in plain:
        yield codecs.decode(plain, 'rot13')
    if 'erongi' in plain or 'snoitcurtsni' in plain:
        yield plain[::-1]


def _links(shown: str, signs: dict[str, float]) -> None:
    """Addresses that carry something away as soon as they are shown."""
    if 'http' not in shown:
        return
    for image in _IMAGE.finditer(shown):
        url = image[1] or image[2]
        if _PLACE.search(url):
            signs['exfiltration_link'] = 0.7
        elif _LONG_VALUE.search(url):
            signs['exfiltration_link'] = max(0.55, signs.get('exfiltration_link', 0.0))
    for link in _LINK.finditer(shown):
        if _PLACE.search(link[1]):
            signs['exfiltration_link'] = max(0.45, signs.get('exfiltration_link', 0.0))


def _encoded(text: str, shown: str) -> Iterator[str]:
    """What is written in other letters than those that are seen."""
    if not text.isascii():
        yield from filter(None, (tag_text(text), selector_text(text)))
    left = MAX_ENCODED
    for pattern, decode in _CODES:
        for found in pattern.finditer(shown):
            if not left:
                return
            inner = decode(found[0][:_LONGEST_ENCODED])
            if inner is not None and len(inner) > 11:
                left -= 1
                yield inner


def _from_base64(text: str) -> str | None:
    text = text.rstrip('=').replace('-', '+').replace('_', '/')
    return _readable(b64decode(text + '=' * (-len(text) % 4))) if len(text) % 4 != 1 else None


def _from_hex(text: str) -> str | None:
    digits = re.sub(r'0x|[ :]', '', text)
    return _readable(binascii.unhexlify(digits[: len(digits) // 2 * 2]))


def _from_percent(text: str) -> str | None:
    return unquote(text) if text.count('%') > 3 else None


def _readable(data: bytes) -> str | None:
    """The text that these bytes are, or `None` when they are none."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    shown = sum(char.isprintable() or char.isspace() for char in text)
    return text if shown >= 0.95 * len(text) else None


_CODES = ((_BASE64, _from_base64), (_HEX, _from_hex), (_PERCENT, _from_percent))
