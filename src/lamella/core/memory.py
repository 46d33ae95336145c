"""The memory port: texts that are kept under a scope, and found again by what they are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from lamella.types import JSON, Data, Vector


class Match(Data, frozen=True):
    """A text that was found. A higher `score` fits better; scores of two searches cannot be compared."""

    text: str
    score: float = 0.0
    metadata: Mapping[str, Any] = {}


@runtime_checkable
class Memory(Protocol):
    """Keeps texts. All methods may be called at the same time, and raise `LamellaError('UNAVAILABLE', …)` when it is away.

    A `scope` is an opaque text, and what is kept under one is never found under another. `vector` and `vectors` (one for each
    text) are given when whoever asks has an embedding model; `vector_model` names it.
    """

    async def search(
        self, query: str, k: int, scope: str, *, vector: Vector | None = None, vector_model: str | None = None
    ) -> Sequence[Match]:
        """At most `k` texts of this scope, the best first. `query` is any text, and no language of its own."""

    async def add(
        self,
        texts: Sequence[str],
        scope: str,
        metadata: JSON | None = None,
        *,
        vectors: Sequence[Vector] | None = None,
        vector_model: str | None = None,
    ) -> None:
        """Keep these texts: all, or none."""

    async def delete(self, scope: str) -> int:
        """Forget all of this scope; how many texts that were."""
