"""Characters that people do not see and models read: found, counted by kind, and taken out."""

from __future__ import annotations

import re

# Unicode "Tags" spell ASCII invisibly; after a black flag they are the flags of England, Scotland and Wales (UTS #51).
_FLAG = re.compile('\U0001f3f4[\U000e0020-\U000e007e]{3,6}\U000e007f')
_TAGS = re.compile('[\U000e0000-\U000e007f]+')
# Embeddings, overrides and isolates turn text around (UAX #9); "Trojan Source" (Boucher and Anderson, 2021).
_TURNS = re.compile('[\u202a-\u202e\u2066-\u2069]')
_OVERRIDES = re.compile('[\u202d\u202e]')
_UNSEEN = re.compile('[\u200b-\u200f\u2060-\u2064\ufeff\u180e\u00ad]')
_UNSEEN_RUN = re.compile('[\u200b-\u200d\u2060-\u2064\ufeff\u180e]{4,}')
# Selectors of a variant spell bytes when many follow each other (Butler, "Smuggling arbitrary data through an emoji", 2025).
_SELECTORS = re.compile('[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}')
FEW = 24


def tag_text(text: str) -> str:
    """What invisible tags spell."""
    spelled = ''.join(_TAGS.findall(_FLAG.sub('', text)))
    return ''.join([chr(ord(char) - 0xE0000) for char in spelled if 0xE0020 <= ord(char) <= 0xE007E])


def selector_text(text: str) -> str:
    """What selectors of a variant spell, as bytes."""
    codes = [ord(char) for run in _SELECTORS.findall(text) for char in run]
    data = bytes([code - 0xFE00 if code < 0xFF00 else code - 0xE0100 + 16 for code in codes])
    return data.decode('utf-8', 'ignore')


def hidden_kinds(text: str) -> dict[str, float]:
    """What is hidden in a text, each kind with how sure one is that it is no accident."""
    if text.isascii():
        return {}
    kinds: dict[str, float] = {}
    if len(tag_text(text)) > 2:
        kinds['hidden_tags'] = 0.9
    if _SELECTORS.search(text):
        kinds['hidden_selectors'] = 0.8
    if _OVERRIDES.search(text):
        kinds['turned_text'] = 0.5
    if any(len(set(run)) > 1 or len(run) > FEW for run in _UNSEEN_RUN.findall(text)):
        kinds['hidden_zero_width'] = 0.7
    return kinds


def seen(text: str) -> str:
    """The text without what nobody sees. Flags and joined emoji stay, as far as they are few."""
    if text.isascii():
        return text
    text = _TAGS.sub(lambda tags: tags[0] if _in_flag(text, tags) else '', text)
    text = _SELECTORS.sub('', text)
    text = _TURNS.sub('', text)
    return _UNSEEN_RUN.sub('', text)


def _in_flag(text: str, tags: re.Match[str]) -> bool:
    return _FLAG.match(text, max(0, tags.start() - 1)) is not None


def visible(text: str) -> str:
    """For matching: without any invisible character at all."""
    return text if text.isascii() else _UNSEEN.sub('', seen(text))
