"""Where OpenAI's own fields travel in metadata: what both of its protocols can say, and what only the Responses API can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella.types import JSON, Data
from lamella.wire._openai_json import extras_of


class Marks(Data, frozen=True):
    """The keys of metadata.

    `shared` is the provider's name: fields under it have the shape of Chat Completions, so that either protocol can send
    them. `own` is the provider's name with `-responses`: ids, statuses and whatever else Chat Completions would refuse.
    """

    shared: str
    own: str

    @classmethod
    def of(cls, provider: str) -> Marks:
        return cls(provider, f'{provider}-responses')

    def metadata(self, own: JSON, shared: JSON | None = None) -> JSON | None:
        """Metadata that carries these fields, if there are any."""
        found: JSON = {self.shared: shared} if shared else {}
        return {**found, self.own: own} if own else found or None

    def own_of(self, metadata: Mapping[str, Any] | None) -> JSON:
        return extras_of(metadata, self.own)

    def shared_of(self, metadata: Mapping[str, Any] | None) -> JSON:
        return extras_of(metadata, self.shared)

    def is_own(self, metadata: Mapping[str, Any] | None) -> bool:
        """Whether the Responses API made this part, or the caller wrote it for no one in particular."""
        return not metadata or self.own in metadata

    def is_marked(self, metadata: Mapping[str, Any] | None) -> bool:
        """Whether the Responses API made this part for certain."""
        return bool(metadata) and self.own in (metadata or {})
