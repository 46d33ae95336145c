"""Vectors without a model: texts that share words lie near each other, and the same text always gets the same vector."""

from __future__ import annotations

import math
import re
from array import array
from functools import lru_cache
from hashlib import blake2b

from lamella.types import Vector

_WORD = re.compile(r'\w+')
_PLACES = 8


def word_vector(text: str, dimensions: int = 64) -> Vector:
    """A vector of length 1, in numbers that 32 bits hold exactly. Each word, in any case, stands at eight places of it."""
    vector = [0.0] * dimensions
    for word in _WORD.findall(text.casefold()) or [text]:
        for place, sign in _places(word):
            vector[place % dimensions] += sign
    length = math.sqrt(math.fsum(number * number for number in vector))
    if not length:  # words that cancel each other out
        vector[0] = length = 1.0
    return tuple(array('f', [number / length for number in vector]))


@lru_cache(maxsize=4096)
def _places(word: str) -> tuple[tuple[int, float], ...]:
    digest = blake2b(word.encode('utf-8', 'surrogatepass'), digest_size=_PLACES * 4).digest()
    numbers = [int.from_bytes(digest[at : at + 4]) for at in range(0, len(digest), 4)]
    return tuple([(number >> 1, 1.0 if number & 1 else -1.0) for number in numbers])
