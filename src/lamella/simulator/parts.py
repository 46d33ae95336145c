"""An answer as the parts of a stream: text and thoughts word by word, a tool's input piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from lamella.simulator.tokens import count_text, pieces
from lamella.types import (
    Finished,
    ModelResponse,
    ReasoningDelta,
    ReasoningPart,
    ResponseStarted,
    StreamPart,
    TextDelta,
    TextPart,
    ToolInputDelta,
    ToolRequested,
    ToolRequestPart,
)


def start_of(response: ModelResponse) -> ResponseStarted:
    return ResponseStarted(response.model, response.id, response.metadata or None)


def content_of(response: ModelResponse, told: tuple[str, ...] | None) -> Iterator[StreamPart]:
    """`told` are the pieces in which a script wants its text; otherwise it goes word by word."""
    for at, part in enumerate(response.message.content):
        if isinstance(part, TextPart):
            yield from _text(part, at, told or pieces(part.text))
        elif isinstance(part, ReasoningPart):
            yield from _thought(part, at)
        elif isinstance(part, ToolRequestPart):
            yield from _call(part, at)


def _text(part: TextPart, at: int, told: Sequence[str]) -> Iterator[StreamPart]:
    """What is attached to the text goes with its first piece."""
    for number, piece in enumerate(told):
        yield TextDelta(piece, at, None if number else part.metadata)


def _thought(part: ReasoningPart, at: int) -> Iterator[StreamPart]:
    """The signature comes last, in a piece of its own; a thought whose words are not told is that piece alone."""
    told = pieces(part.text)
    for number, piece in enumerate(told):
        yield ReasoningDelta(piece, at, metadata=None if number else part.metadata)
    if part.signature is not None or not told:
        yield ReasoningDelta('', at, part.signature, metadata=None if told else part.metadata)


def _call(part: ToolRequestPart, at: int) -> Iterator[StreamPart]:
    request = part.tool_request
    for piece in pieces(msgspec.json.encode(request.input).decode()):
        yield ToolInputDelta(piece, at, request.name, request.ref)
    yield ToolRequested(request, at, part.metadata)


def end_of(response: ModelResponse) -> Finished:
    return Finished(response.finish_reason, response.usage, response.model, response.id)


def tokens_of(part: StreamPart) -> int:
    if isinstance(part, (TextDelta, ReasoningDelta)):
        return count_text(part.text)
    return count_text(part.delta) if isinstance(part, ToolInputDelta) else 0
