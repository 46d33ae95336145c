"""Tokens that stand for personal data in one run, and that only this run can turn back."""

from __future__ import annotations

import re
from base64 import b32encode
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from hmac import digest

import msgspec

from lamella.middleware._bounded_regex import Bounded, measured
from lamella.middleware._pii_text import Masker

_TAG = 8  # characters of base 32: one guess in 2^40


def token_pattern(entities: Sequence[str]) -> Bounded:
    """What a token looks like: `<EMAIL_1_k7f3q9xz>`, or the same without its brackets, which models like to leave out."""
    labels = '|'.join(sorted([re.escape(entity.upper()) for entity in entities], key=len, reverse=True))
    core = rf'(?:{labels})_[0-9]{{1,6}}_[a-z2-7]{{{_TAG}}}'
    return measured(rf'<{core}>|{core}')


class Vault:
    """The values of one run and their tokens. The same value has the same token; a token holds a part that is made with the
    run's secret, so that neither a model nor another run can make one up."""

    __slots__ = ('_counts', '_masker', '_pattern', '_secret', '_tokens', '_values')

    def __init__(self, masker: Masker, pattern: Bounded, secret: bytes) -> None:
        self._masker, self._pattern, self._secret = masker, pattern, secret
        self._tokens: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f'Vault({len(self)} values)'

    def tokenised(self, text: str, found: Counter[str] | None = None) -> str:
        """The text with tokens in place of personal data."""
        return ''.join(
            [
                piece.text
                if not piece.entity or piece.text.casefold() in self._masker.allow
                else self._token(piece.entity, piece.text, found)
                for piece in self._masker.recognisers.pieces(text)
            ]
        )

    def _token(self, entity: str, value: str, found: Counter[str] | None) -> str:
        if found is not None:
            found[entity] += 1
        token = self._tokens.get((entity, value))
        if token is None:
            self._counts[entity] += 1
            core = f'{entity.upper()}_{self._counts[entity]}'
            tag = b32encode(digest(self._secret, core.encode(), sha256)).decode().lower()[:_TAG]
            self._values[f'{core}_{tag}'] = value
            token = self._tokens[entity, value] = f'<{core}_{tag}>'
        return token

    def restored(self, text: str, json: bool = False) -> str:
        """The text with the values in place of this run's tokens; any other token stays as it is."""
        if not self._values:
            return text
        return self._pattern.regex.sub(lambda token: self._value(token[0], json), text)

    def _value(self, token: str, json: bool) -> str:
        value = self._values.get(token.strip('<>'))
        if value is None:
            return token
        return msgspec.json.encode(value).decode()[1:-1] if json else value

    def held_from(self, text: str) -> int:
        """Where a token may begin that goes on behind the end of the text."""
        if not self._values:
            return len(text)
        begun = self._pattern.started.search(text, max(0, len(text) - self._pattern.width))
        return begun.start() if begun is not None else len(text)


class RestoringStream:
    """A text whose tokens are turned back as it arrives."""

    __slots__ = ('_held', '_json', '_vault')

    def __init__(self, vault: Vault, json: bool) -> None:
        self._vault, self._json, self._held = vault, json, ''

    def feed(self, text: str) -> str:
        text = self._held + text
        hold = self._vault.held_from(text)
        self._held = text[hold:]
        return self._vault.restored(text[:hold], self._json)

    def close(self) -> str:
        rest, self._held = self._held, ''
        return self._vault.restored(rest, self._json)

    def all(self, text: str) -> str:
        return self.feed(text) + self.close()
