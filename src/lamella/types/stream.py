"""The parts of a stream: what arrives, piece by piece, while a model answers.

`index` numbers the block of the answer that a piece belongs to: pieces with one index and one kind form one part.
"""

from __future__ import annotations

from typing import Any

from lamella.types.base import JSON, Data
from lamella.types.parts import MediaPart, ToolRequest, ToolResponse
from lamella.types.usage import Usage


class ResponseStarted(Data, frozen=True, tag_field='type', tag='response_started'):
    """A model call began to answer. Always the first part of a call.

    `metadata` that a model gives here reaches readers with the `Finished`, since layers may still change it.
    """

    model: str | None = None
    id: str | None = None
    metadata: JSON | None = None


class TextDelta(Data, frozen=True, tag_field='type', tag='text_delta'):
    """A piece of text. `metadata` is merged into the text part's."""

    text: str
    index: int = 0
    metadata: JSON | None = None


class ReasoningDelta(Data, frozen=True, tag_field='type', tag='reasoning_delta'):
    """A piece of thinking. A signature may arrive in a piece of its own, with an empty text."""

    text: str = ''
    index: int = 0
    signature: str | None = None
    redacted: bool = False
    metadata: JSON | None = None


class ToolInputDelta(Data, frozen=True, tag_field='type', tag='tool_input_delta'):
    """A piece of a tool's JSON input, as text. For display: the whole request follows as `ToolRequested`."""

    delta: str
    index: int = 0
    name: str | None = None
    ref: str | None = None


class ToolRequested(Data, frozen=True, tag_field='type', tag='tool_requested'):
    """A complete tool request."""

    tool_request: ToolRequest
    index: int = 0
    metadata: JSON | None = None


class ToolResponded(Data, frozen=True, tag_field='type', tag='tool_responded'):
    """A tool answered. Only in the stream of a whole run."""

    tool_response: ToolResponse
    metadata: JSON | None = None


class Source(Data, frozen=True, tag_field='type', tag='source'):
    """Where the answer draws from. `text` is the cited passage; `metadata` the provider's own block."""

    url: str | None = None
    title: str | None = None
    text: str | None = None
    index: int = 0
    metadata: JSON | None = None


class File(Data, frozen=True, tag_field='type', tag='file'):
    """A file, image or sound that the model produced."""

    media: MediaPart
    index: int = 0


class Restarted(Data, frozen=True, tag_field='type', tag='restarted'):
    """What arrived since the last `ResponseStarted` is void: a new attempt follows. Readers clear what they showed."""

    reason: str = ''
    model: str | None = None


class Finished(Data, frozen=True, tag_field='type', tag='finished'):
    """The end of a model call or a turn, with the facts that `ModelResponse` carries beside its message.

    `stop_reason` is set on the last one of a run.
    """

    finish_reason: str = 'stop'
    usage: Usage | None = None
    model: str | None = None
    id: str | None = None
    finish_message: str | None = None
    metadata: JSON | None = None
    warnings: tuple[str, ...] = ()
    stop_reason: str | None = None


class Raw(Data, frozen=True, tag_field='type', tag='raw'):
    """A provider's event that no other part stands for, as a JSON value.

    With `keep` it is a block of the answer that must go back to the provider: it becomes a `DataPart` of the message.
    """

    data: Any
    index: int = 0
    keep: bool = False
    metadata: JSON | None = None


StreamPart = (
    ResponseStarted
    | TextDelta
    | ReasoningDelta
    | ToolInputDelta
    | ToolRequested
    | ToolResponded
    | Source
    | File
    | Restarted
    | Finished
    | Raw
)
STREAM_PARTS = frozenset(
    (
        ResponseStarted,
        TextDelta,
        ReasoningDelta,
        ToolInputDelta,
        ToolRequested,
        ToolResponded,
        Source,
        File,
        Restarted,
        Finished,
        Raw,
    )
)
CONTENT_PARTS = frozenset((TextDelta, ReasoningDelta, ToolInputDelta, ToolRequested, Source, File))


def is_content(part: StreamPart) -> bool:
    """Whether a reader of this part has seen something of the answer. Kept raw blocks are part of it."""
    return type(part) in CONTENT_PARTS or (type(part) is Raw and part.keep)
