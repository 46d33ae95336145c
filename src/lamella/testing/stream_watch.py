"""Holds every answer of every layer to the rules of stream parts, without a place in the stacks that are tested."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

from lamella.core import stack as folding
from lamella.core.calls import close
from lamella.core.model import Model
from lamella.testing.stream_checker import StreamRules, check_response

_watches: list[list[str]] = []  # where what is found is told; the innermost comes last
_labels: list[str] = []  # whose stream is being made


@contextmanager
def watched_streams(models: Iterable[type[Model]] = ()) -> Iterator[list[str]]:
    """While the block lasts, what comes out of each layer of each stack is held to the rules of `StreamChecker`, and so are
    the answers of these classes of models. What breaks a rule is told in the list, a sentence each; nothing else changes.

    A stack that was used before the block is not watched.
    """
    found: list[str] = []
    with ExitStack() as undone:
        _watches.append(found)
        undone.callback(_watches.pop)
        if len(_watches) == 1:
            for name, patched in _PATCHES.items():
                _replace(folding, name, patched, undone)
        for kind in models:
            for name, patched in (('generate', _generating), ('stream', _streaming)):
                if name in vars(kind):
                    _replace(kind, name, patched, undone)
        yield found


def _replace(owner: Any, name: str, patched: Callable[[Any], Any], undone: ExitStack) -> None:
    original = vars(owner)[name]
    undone.callback(setattr, owner, name, original)
    setattr(owner, name, patched(original))


def _opening(original: Callable[..., Any]) -> Callable[..., Any]:
    """Every stream that a stack opens passes here; below the place where it is remembered, so that it is closed with it."""

    def opening(stream: Callable[..., Any]) -> Any:
        who = _labels[-1] if _labels else 'a layer'
        return original(lambda params, ctx: _streamed(stream(params, ctx), who))

    return opening


def _link(original: Callable[..., Any]) -> Callable[..., Any]:
    def link(layers: Any, inner: Any) -> Any:
        _labels.append(repr(layers))
        try:
            return original(layers, inner)
        finally:
            _labels.pop()

    return link


def _model_link(original: Callable[..., Any]) -> Callable[..., Any]:
    def link(layer: Any, inner: Any) -> Any:
        call = original(layer, inner)
        return call if call is inner else lambda params, ctx: _answered(call(params, ctx), repr(layer))

    return link


_PATCHES = {'_opening': _opening, '_stream_link': _link, '_bridged': _link, '_model_link': _model_link}


def _generating(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def generate(self: Model, *args: Any, **keywords: Any) -> Any:
        return await _answered(original(self, *args, **keywords), repr(self))

    return generate


def _streaming(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def stream(self: Model, *args: Any, **keywords: Any) -> AsyncGenerator[Any, None]:
        return _streamed(original(self, *args, **keywords), repr(self))

    @wraps(original)
    async def generator(self: Model, *args: Any, **keywords: Any) -> AsyncGenerator[Any, None]:
        parts = stream(self, *args, **keywords)
        try:
            async for part in parts:
                yield part
        finally:
            await parts.aclose()

    return generator if inspect.isasyncgenfunction(original) else stream  # whoever asks what it is gets the same answer


async def _answered(call: Coroutine[Any, Any, Any], who: str) -> Any:
    response = await call
    _tell(check_response, response, who)
    return response


async def _streamed(parts: Any, who: str) -> AsyncGenerator[Any, None]:
    rules, kept = StreamRules(who), True
    try:
        async for part in parts:
            kept = kept and _tell(rules.see, part)
            yield part
        if kept:
            _tell(rules.end)
    finally:
        await close(parts)


def _tell(check: Callable[..., None], *what: Any) -> bool:
    """Whether the rules were kept; a stream that broke one is not looked at any further."""
    try:
        check(*what)
    except AssertionError as error:
        if _watches:
            _watches[-1].append(str(error))
        return False
    return True
