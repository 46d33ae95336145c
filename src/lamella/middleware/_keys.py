"""What layers with a `key=` share: whose limit a call counts against, as a short name that no hostile value can imitate."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Annotated, Any

from pydantic import BeforeValidator

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.params import EmbedHookParams, ModelHookParams
from lamella.types import LamellaError, did_you_mean

Ctx = GenerateMiddlewareContext
KINDS = ('tenant', 'model')
MAX_SHOWN = 60
_PLAIN = re.compile(r'[A-Za-z0-9_./@+-]{1,64}')


def _key(given: Any) -> Any:
    if given is None or given in KINDS:
        return given
    if callable(given) and not isinstance(given, type):
        if inspect.iscoroutinefunction(given):
            raise ValueError('is an async function: give a plain one of (params, ctx) that returns a text')
        return given
    hint = did_you_mean(given, KINDS) if isinstance(given, str) else ''
    raise ValueError(f"is {given!r}{hint}: give 'tenant', 'model', or a function of (params, ctx) that returns a text")


# `None` (one key for all calls), 'tenant', 'model', or a function of (params, ctx) that returns a text.
KeySetting = Annotated[Any, BeforeValidator(_key)]
Key = str | Callable[[Any, Ctx], str | None] | None  # of the params of a model call, or of an embedding call


def key_of(setting: Any, params: ModelHookParams | EmbedHookParams, ctx: Ctx) -> str:
    """The call's key. Calls without a tenant, and those for which the function says `None`, share the key ''.

    Raises FAILED_PRECONDITION when the function returns something else.
    """
    if setting is None:
        return ''
    if setting == 'model':
        return params.model.name
    found = ctx.context.get('tenant') if setting == 'tenant' else setting(params, ctx)
    if found is None or isinstance(found, str):
        return found or ''
    if setting == 'tenant':
        return str(found)
    raise LamellaError('FAILED_PRECONDITION', f'key= returned {type(found).__name__}: return a text, or None')


def part(text: str) -> str:
    """The text as one part of a store's key: itself when it is short and plain, else its SHA-256. No two look alike."""
    if _PLAIN.fullmatch(text):
        return text
    return f':{sha256(text.encode("utf-8", "surrogatepass")).hexdigest()}' if text else ''


def shown(key: str) -> str:
    """The key for a message or an event: cut, and on one line."""
    return repr(key if len(key) <= MAX_SHOWN else key[:MAX_SHOWN] + '…')
