"""Models of the ADK by name, as its own registry knows them."""

from __future__ import annotations

from google.adk.models.base_llm import BaseLlm
from google.adk.models.registry import LLMRegistry

from lamella.types import ConfigError


def llm_of(model: str | BaseLlm) -> BaseLlm:
    """The model itself, or a new one of that name. Raises ConfigError for a name that the ADK does not know."""
    if isinstance(model, BaseLlm):
        return model
    try:
        made: BaseLlm = LLMRegistry.new_llm(model)
    except ValueError as error:
        raise ConfigError(f'the ADK knows no model {model!r}: {error}') from error
    return made


def serves(llm: BaseLlm, name: str) -> bool:
    """Whether this model, with its address and credentials, can be asked for the model of that name: the registry has the same
    kind for it, or knows neither."""
    kind = _kind(name)
    return type(llm) is kind if kind is not None else _kind(llm.model) is None


def is_known(name: str) -> bool:
    """Whether the registry has a kind of model for this name."""
    return _kind(name) is not None


def _kind(name: str) -> type[BaseLlm] | None:
    try:
        kind: type[BaseLlm] = LLMRegistry.resolve(name)
    except (ImportError, ValueError):
        return None
    return kind
