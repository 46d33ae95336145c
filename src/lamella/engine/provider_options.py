"""The options of one provider in a call: a dict by provider, whose names are read and not guessed."""

from __future__ import annotations

from collections.abc import Container, Mapping
from difflib import get_close_matches
from typing import Any, Protocol

from lamella.types import ConfigError


class Reader(Protocol):
    """What is needed of a model."""

    @property
    def name(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def option_keys(self) -> tuple[str, ...]: ...


def provider_options_of(given: Any, model: Reader, providers: Container[str]) -> Mapping[str, Mapping[str, Any]]:
    """The options by provider. Raises ConfigError when they are no dict of dicts, and for a provider's name that is nearly one
    that the model reads, and no other provider's of the app: nobody would read it, and nobody would say so."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(f'provider_options is a {type(given).__name__}: give a dict')
    for provider, values in given.items():
        if not isinstance(values, Mapping):
            raise ConfigError(f"provider_options[{provider!r}] is {values!r}: give a dict of that provider's options")
        if provider not in (*model.option_keys, model.provider) and provider not in providers:
            near = get_close_matches(str(provider).lower(), model.option_keys, n=1, cutoff=0.8)
            if near:
                raise ConfigError(
                    f'provider_options[{provider!r}] is read by nobody, {model.name} reads {near[0]!r}: did you mean that?'
                )
    return given
