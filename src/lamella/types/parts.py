"""The parts that a message is made of."""

from __future__ import annotations

from typing import Any

from lamella.types.base import JSON, Data


class ToolRequest(Data, frozen=True):
    """A model asks for a tool. `input` is the decoded JSON value; `ref` the id that pairs it with its response."""

    name: str
    input: Any = None
    ref: str | None = None


class ToolResponse(Data, frozen=True):
    """What a tool answered. `output` is a JSON value; `is_error` tells the model that the tool failed. `metadata` is what layers
    noted of the call; it is never sent to a model."""

    name: str
    output: Any = None
    ref: str | None = None
    is_error: bool = False
    metadata: JSON | None = None


class TextPart(Data, frozen=True, tag_field='type', tag='text'):
    """Text. `metadata` holds what a provider attached (citations, signatures), under the provider's name."""

    text: str
    metadata: JSON | None = None


class ReasoningPart(Data, frozen=True, tag_field='type', tag='reasoning'):
    """The model's thinking. `signature` is the provider's opaque proof, sent back unchanged; `redacted` means that
    `text` is empty and only the opaque data in `metadata` may be returned to the provider."""

    text: str = ''
    signature: str | None = None
    redacted: bool = False
    metadata: JSON | None = None


class MediaPart(Data, frozen=True, tag_field='type', tag='media'):
    """An image, a sound or a file: by `url`, or as `data` (bytes). `content_type` is a MIME type such as `image/png`."""

    url: str | None = None
    data: bytes | None = None
    content_type: str | None = None
    name: str | None = None
    metadata: JSON | None = None

    def __post_init__(self) -> None:
        if (self.url is None) == (self.data is None):
            raise ValueError('MediaPart needs exactly one of url= and data=')


class ToolRequestPart(Data, frozen=True, tag_field='type', tag='tool_request'):
    """A tool request inside a message. Its `metadata` is information only: it never approves anything."""

    tool_request: ToolRequest
    metadata: JSON | None = None


class ToolResponsePart(Data, frozen=True, tag_field='type', tag='tool_response'):
    """A tool's answer inside a message of role `tool`."""

    tool_response: ToolResponse
    metadata: JSON | None = None


class DataPart(Data, frozen=True, tag_field='type', tag='data'):
    """Anything else, as a JSON value: provider blocks that Lamella keeps but does not interpret."""

    data: Any
    metadata: JSON | None = None


Part = TextPart | ReasoningPart | MediaPart | ToolRequestPart | ToolResponsePart | DataPart
PART_TYPES = (TextPart, ReasoningPart, MediaPart, ToolRequestPart, ToolResponsePart, DataPart)
