"""The plugin port: a provider of models or of layers, given to `Lamella(plugins=[…])`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lamella.core.embedding import EmbeddingModel
from lamella.core.model import Model


class Plugin:
    """Base of all plugins. `name` is the provider's part of a model name (`openai` in `openai/gpt-5`)."""

    name: str

    def model(self, name: str) -> Model | None:
        """The model of that name (without the provider), or `None` when this plugin has no models or not this one.

        Called without network and without credentials: both are only needed when the model is first used.
        """
        return None

    def embedding_model(self, name: str) -> EmbeddingModel | None:
        """The embedding model of that name, or `None` when this plugin has none or not this one. Called as `model` is."""
        return None

    def known_models(self) -> Sequence[str]:
        """Names to offer when somebody misspells one. May be empty."""
        return ()

    def middleware(self) -> Mapping[str, type[Any]]:
        """Layers that this plugin registers, by registry name."""
        return {}

    async def aclose(self) -> None:
        """Close connections. Called when the app is closed."""
