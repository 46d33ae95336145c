"""What every wire protocol can do: say a request or an answer, and understand one, whole and as server-sent events.

One codec serves the provider plugins, the simulator, the gateway and the in-process transport. Codecs do no I/O, know no
HTTP client, and never touch credentials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lamella.types import (
    Data,
    EmbeddingRequest,
    EmbeddingResponse,
    LamellaError,
    ModelRequest,
    ModelResponse,
    StreamPart,
)
from lamella.wire.sse import Event


class Encoded(Data, frozen=True):
    """A JSON body, and what the protocol could not say (one sentence each; shown in `ModelResponse.warnings`)."""

    body: bytes
    warnings: tuple[str, ...] = ()


class Decoded(Data, frozen=True):
    """A request as a server receives it: the model's name, whether the answer is to be streamed, and the request."""

    model: str
    request: ModelRequest
    stream: bool = False


class EncodedError(Data, frozen=True):
    """An error as a server sends it: HTTP status, headers (Retry-After and the like) and JSON body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class StreamDecoder(Protocol):
    """Turns the events of one answer into parts. Raises `LamellaError` for an error event or malformed data."""

    def feed(self, event: Event) -> Sequence[StreamPart]:
        """The parts that this event completes."""

    def finish(self) -> Sequence[StreamPart]:
        """Called at the end of the body. Raises UNAVAILABLE, with what had arrived, when the stream was cut short."""


class StreamEncoder(Protocol):
    """Turns the parts of one answer into bytes of a body of type `text/event-stream`."""

    def feed(self, part: StreamPart) -> bytes: ...
    def finish(self) -> bytes:
        """The closing bytes, such as `data: [DONE]`."""

    def error(self, error: LamellaError) -> bytes:
        """The protocol's error event, for a failure after the body has begun."""


class Codec(Protocol):
    """One wire protocol. `name` is `openai-chat`, `openai-responses`, `anthropic` or `gemini`; `provider` is the key of
    `ModelRequest.provider_options` whose entries are merged into the body."""

    name: str
    provider: str

    def encode_request(self, request: ModelRequest, model: str, *, stream: bool = False) -> Encoded: ...
    def decode_request(self, body: bytes, *, model: str | None = None, stream: bool = False) -> Decoded:
        """`model` and `stream` are given where the protocol has them in the path and not in the body (Gemini)."""

    def encode_response(self, response: ModelResponse, *, model: str, request: ModelRequest | None = None) -> bytes: ...
    def decode_response(self, body: bytes) -> ModelResponse: ...

    def stream_decoder(self) -> StreamDecoder: ...
    def stream_encoder(self, *, model: str, request: ModelRequest | None = None) -> StreamEncoder: ...

    def decode_error(
        self, status: int, headers: Mapping[str, str], body: bytes, *, now: float | None = None
    ) -> LamellaError:
        """`now` is the wall clock that dates in Retry-After are compared with; without it the `Date` header is."""

    def encode_error(self, error: LamellaError) -> EncodedError: ...


class DecodedTexts(Data, frozen=True):
    """An embedding request as a server receives it: the model's name, and the request."""

    model: str
    request: EmbeddingRequest


class EmbeddingCodec(Protocol):
    """One protocol for embeddings: whole requests and whole answers. `provider` is the key of
    `EmbeddingRequest.provider_options` whose entries are merged into the body."""

    name: str
    provider: str

    def encode_request(self, request: EmbeddingRequest, model: str) -> Encoded: ...
    def decode_request(self, body: bytes, *, model: str | None = None) -> DecodedTexts:
        """`model` is given where the protocol has it in the path and not in the body (Gemini)."""

    def encode_response(self, response: EmbeddingResponse, *, model: str, request: EmbeddingRequest) -> bytes: ...
    def decode_response(self, body: bytes) -> EmbeddingResponse: ...

    def decode_error(
        self, status: int, headers: Mapping[str, str], body: bytes, *, now: float | None = None
    ) -> LamellaError:
        """As a `Codec` does."""

    def encode_error(self, error: LamellaError) -> EncodedError: ...


JSONObject = dict[str, Any]
