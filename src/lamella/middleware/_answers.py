"""Answers as they are kept: under a key that says everything they depend on, and in a form that nobody mistakes for another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from lamella.core.calls import with_ref
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware
from lamella.core.model import Model
from lamella.types import (
    JSON,
    Data,
    EmbeddingRequest,
    EmbeddingResponse,
    ModelRequest,
    ModelResponse,
    ToolRequestPart,
    Usage,
)

VERSION = 1  # of the form and of the key: another version's answers are no answers
FREE = Usage(0, 0, 0, cost_usd=0.0)
_FENCED = re.compile(r'^\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*$', re.DOTALL)
_UNREADABLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)


class Kept(Data, frozen=True):
    """One answer, or the mark that there is none to share. `at` is the wall clock's time when it was written."""

    version: int
    key: str
    at: float
    answer: ModelResponse | None = None
    embedding: EmbeddingResponse | None = None

    @property
    def is_private(self) -> bool:
        """Whether it only says that the answers to this request are not shared."""
        return self.answer is None and self.embedding is None


_decode = msgspec.msgpack.Decoder(Kept).decode
_encode = msgspec.msgpack.Encoder().encode


def encoded(kept: Kept) -> bytes | None:
    """`None` for an answer with something in it that cannot be written."""
    try:
        return _encode(kept)
    except _UNREADABLE:
        return None


def decoded(value: bytes, key: str) -> Kept | None:
    """`None` for what is no answer to this request: damaged, of another version, or of another key."""
    try:
        kept = _decode(value)
    except _UNREADABLE:
        return None
    return kept if kept.version == VERSION and kept.key == key else None


def key_of_request(request: ModelRequest, model: Model, about: Sequence[Any]) -> str | None:
    """SHA-256 over all that the answer depends on: what is sent, by which model, and `about`. The order of the keys of an object
    does not matter. `None` when something in it is no JSON value."""
    request = model.filled(request)
    sent = (request.messages, request.tools, request.tool_choice, request.config, request.output)
    return _digest(['model', _identity(model), sent, request.provider_options, about])


def key_of_texts(request: EmbeddingRequest, model: Any, about: Sequence[Any]) -> str | None:
    """The same for texts that are embedded."""
    sent = (request.texts, request.dimensions, request.provider_options)
    return _digest(['embedding', _identity(model), sent, about])


def _identity(model: Any) -> str:
    """A model with layers of its own is another model, whatever its name is."""
    return f'{model.name} {model!r}' if model.layered else str(model.name)


def _digest(all_of_it: list[Any]) -> str | None:
    try:
        said = msgspec.json.encode([VERSION, *all_of_it], order='deterministic')
    except _UNREADABLE:
        return None
    return sha256(said).hexdigest()


def is_json(text: str) -> bool:
    """Whether the text is JSON, perhaps in a code fence."""
    found = _FENCED.match(text)
    try:
        msgspec.json.decode(found.group(1) if found else text)
    except _UNREADABLE:
        return False
    return True


def without_notes(metadata: Mapping[str, Any]) -> JSON:
    """What the provider said, without what layers noted of the call in which it was said."""
    if not metadata:
        return {}
    names = set(_layer_names(BaseMiddleware))
    return {key: value for key, value in metadata.items() if key not in names}


def _layer_names(kind: type[BaseMiddleware[Any]]) -> Iterator[str]:
    for layer in kind.__subclasses__():
        yield layer.name
        yield from _layer_names(layer)


def with_new_refs(answer: ModelResponse, ctx: GenerateMiddlewareContext) -> ModelResponse:
    """The answer with new ids for its tool requests: an id stands for one call."""
    content = [
        part.replace(tool_request=with_ref(part.tool_request, ctx)) if isinstance(part, ToolRequestPart) else part
        for part in answer.message.content
    ]
    return answer.replace(message=answer.message.replace(content=tuple(content)))
