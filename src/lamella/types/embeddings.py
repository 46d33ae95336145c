"""What is asked of an embedding model, and what it answers: texts in, vectors out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella.types.base import JSON, Data
from lamella.types.usage import Usage

Vector = tuple[float, ...]


class EmbeddingRequest(Data, frozen=True):
    """One request to one embedding model. `dimensions` is the wanted length of the vectors, `None` for the model's own.

    `provider_options` maps a provider's name to its own options; a provider sees only its own. `metadata` travels with the
    request through the layers and is never sent.
    """

    texts: tuple[str, ...] = ()
    dimensions: int | None = None
    provider_options: Mapping[str, Mapping[str, Any]] = {}
    metadata: Mapping[str, Any] = {}


class EmbeddingResponse(Data, frozen=True, kw_only=True):
    """One vector for each text, in the order of the texts.

    `model` names the model that answered. `metadata` is what layers and the provider noted, `warnings` what could not be
    said in the provider's protocol.
    """

    vectors: tuple[Vector, ...] = ()
    usage: Usage | None = None
    model: str | None = None
    metadata: JSON = {}
    warnings: tuple[str, ...] = ()

    @property
    def vector(self) -> Vector:
        """The vector of the first text: what one text was asked for. Raises IndexError when there was none."""
        return self.vectors[0]
