"""Options by provider as a setting of layers, and how a call's own are put over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator


def _provider_options(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"is {value!r}: give a dict of dicts, such as {{'openai': {{'store': False}}}}")
    for provider, options in value.items():
        if not isinstance(options, Mapping):
            raise ValueError(f'[{provider!r}] is {options!r}: give a dict of the options of {provider}')
    return merged({}, value)


ProviderOptions = Annotated[Mapping[str, Mapping[str, Any]], BeforeValidator(_provider_options)]


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings, `over` first, at every depth. Neither is changed."""
    result: dict[str, Any] = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(value, Mapping):
            result[key] = merged(old if isinstance(old, Mapping) else {}, value)
        else:
            result[key] = value
    return result
