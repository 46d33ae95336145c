"""Chance that can be had again: from a seed, which whoever replays a run needs."""

from __future__ import annotations

from hashlib import sha256
from random import Random
from typing import Any


class Chance(Random):
    """Chance from a seed, so that a replay has the same. Nobody who does not have the seed can foresee it: SHA-256 of the seed
    and a counter."""

    def __init__(self, seed: bytes) -> None:
        self._key, self._drawn = seed, 0
        super().__init__(0)

    def getrandbits(self, k: int, /) -> int:
        if k < 0:
            raise ValueError('number of bits must be non-negative')
        size, drawn = (k + 7) // 8, b''
        while len(drawn) < size:
            drawn += sha256(self._key + self._drawn.to_bytes(8, 'big')).digest()
            self._drawn += 1
        return int.from_bytes(drawn[:size], 'big') >> (size * 8 - k)

    def random(self) -> float:
        return self.getrandbits(53) * 2**-53

    def seed(self, *args: Any, **options: Any) -> None:
        """Its seed is its own."""
