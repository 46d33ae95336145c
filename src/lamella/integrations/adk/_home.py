"""The app behind a `LamellaLlm`: a Lamella that knows the ADK's models by their names too."""

from __future__ import annotations

from typing import Any

from google.adk.models.base_llm import BaseLlm

from lamella.core.model import Model
from lamella.engine.app import Lamella
from lamella.integrations.adk._registry import is_known, llm_of, serves
from lamella.integrations.adk.model import AdkModel
from lamella.types import UnknownNameError

_PREFIXES = ('adk/', 'googleai/')


class Home(Lamella):
    """Names are those of its plugins first, then those of the ADK's registry (`gemini-2.5-pro`, also as `adk/gemini-2.5-pro`).

    A name that the wrapped model can be asked for goes to it, with its address and credentials.
    """

    own: BaseLlm

    def resolve_model(self, model: Any) -> Model:
        if isinstance(model, BaseLlm):
            return AdkModel(model)
        try:
            return super().resolve_model(model)
        except UnknownNameError as unknown:
            found = self._of_the_adk(model)
            if found is None:
                raise unknown
            self.registry.models[model] = found
            return found

    def _of_the_adk(self, name: str) -> Model | None:
        short = next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), None)
        if short is None and name.partition('/')[0] in self.registry.plugins:
            return None
        wanted = short or name
        if serves(self.own, wanted) and (short is not None or '/' not in name or is_known(name)):
            return AdkModel(self.own, wanted)
        return AdkModel(llm_of(wanted)) if is_known(wanted) else None
