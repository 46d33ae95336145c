"""The provider's own options as Chat Completions spells them, in the words of the Responses API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella.types import JSON

_CHAT_ONLY = frozenset(
    ('n', 'logit_bias', 'modalities', 'audio', 'prediction', 'web_search_options', 'functions', 'function_call')
)
_NESTED = ('custom', 'function', 'grammar', 'allowed_tools')


def from_chat(own: Mapping[str, Any], warnings: list[str]) -> JSON:
    """Both protocols read the same `provider_options`, and a request may have come in by the other one."""
    options = dict(own)
    for name in sorted(_CHAT_ONLY & options.keys()):
        if options.pop(name) is not None:
            warnings.append(f'{name} is an option of Chat Completions that the Responses API does not have: left out')
    if (verbosity := options.pop('verbosity', None)) is not None:
        text = options.get('text')
        options['text'] = {'verbosity': verbosity, **(text if isinstance(text, Mapping) else {})}
    for name in ('tools', 'tool_choice'):
        if name in options:
            options[name] = flat(options[name])
    return options


def flat(value: Any) -> Any:
    """`{'type': 'custom', 'custom': {…}}` is `{'type': 'custom', …}` here."""
    if isinstance(value, (list, tuple)):
        return [flat(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    kind = value.get('type')
    inner = value.get(kind) if isinstance(kind, str) and kind in _NESTED else None
    if not isinstance(inner, Mapping):
        return value
    rest = {key: item for key, item in {**value, **inner}.items() if key != kind}
    return {key: flat(item) if key in ('tools', 'format') else item for key, item in rest.items()}
