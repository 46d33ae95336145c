"""What tells of a thought when it comes back, without a memory: its signature, and the ids of the calls that it led to.

A seal holds the model and the thought beside their keyed digest (BLAKE2b). It proves that nothing was altered; it hides
nothing, since the simulator has nothing to hide.
"""

from __future__ import annotations

import base64
import binascii
import re
from hashlib import blake2b
from hmac import compare_digest

import msgspec

_DIGEST = 16
_THOUGHT_OF = re.compile(r'[a-z]+_([0-9a-f]{24})t\d{2,}')
_OTHER_ALPHABET = str.maketrans('-_', '+/')


def sealed(seed: int, model: str, thought: str) -> str:
    """Base64, as the vendors' signatures are."""
    told = msgspec.json.encode([model, thought])
    return base64.b64encode(_digest(seed, told) + told).decode()


def opened(seed: int, seal: str) -> str | None:
    """The thought, or `None` when this is no seal of that seed. Clients that decode base64 may send the other alphabet."""
    try:
        raw = base64.b64decode(seal.translate(_OTHER_ALPHABET), validate=True)
    except (binascii.Error, ValueError):
        return None
    digest, told = raw[:_DIGEST], raw[_DIGEST:]
    if not compare_digest(digest, _digest(seed, told)):
        return None
    return str(msgspec.json.decode(told, type=tuple[str, str])[1])


def _digest(seed: int, told: bytes) -> bytes:
    return blake2b(told, digest_size=_DIGEST, key=blake2b(str(seed).encode()).digest()).digest()


def call_id(prefix: str, stamp: str, at: int, *, thought: bool) -> str:
    """The id of a call at that place of an answer. A `t` says that a thought went before it."""
    return f'{prefix}{stamp}{"t" if thought else ""}{at:02}'


def thought_stamp(id: str | None) -> str | None:
    """The stamp of the answer, when the id is of a call that the simulator thought of."""
    found = _THOUGHT_OF.fullmatch(id or '')
    return None if found is None else found[1]
