"""The Anthropic Messages API in all directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lamella.types import JSON, LamellaError, ModelRequest, ModelResponse
from lamella.wire._anthropic_answer import answer_body, message_of, whole_answer
from lamella.wire._anthropic_decode import decoded_request
from lamella.wire._anthropic_encode import request_body
from lamella.wire._anthropic_errors import encoded_error
from lamella.wire._anthropic_events import AnthropicStreamEncoder
from lamella.wire._anthropic_json import KEY, Malformed, write
from lamella.wire._anthropic_models import traits
from lamella.wire._anthropic_stream import AnthropicStreamDecoder
from lamella.wire.codec import Decoded, Encoded, EncodedError
from lamella.wire.errors import error_from_body, error_from_event

__all__ = ['DEFAULT_VERSION', 'AnthropicCodec']

DEFAULT_VERSION = '2023-06-01'


class AnthropicCodec:
    """`POST /v1/messages` (platform.claude.com/docs/en/api/messages), both as client and as server.

    `version` is the `anthropic-version` that goes with the bodies. The default still takes temperature, top_p and top_k,
    which later ones (2026-10-21) refuse for every model; models that refuse them anyway do not get them either.

    The API insists on `max_tokens`. A request without `max_output_tokens` gets 16,000 (4,096 for models before Claude 3.7):
    within the limit of every model served today, room for thinking, and below the some 21,000 tokens from which the vendor
    asks for streaming because one answer may take ten minutes. With a budget of thinking it is at least 8,000 more.

    What parts have no field for lives in `metadata={'anthropic': {…}}` on parts, messages and tools, and is merged into the
    block (`cache_control`, `citations` …). Options of the request are `provider_options['anthropic']`: merged into the body,
    `tools` added to the tools, and `None` takes a key out. System messages become the body's `system`, wherever they stand;
    one with `metadata={'anthropic': {'role': 'system'}}` keeps its place, which newer models allow.
    """

    name = 'anthropic'
    provider = KEY

    def __init__(self, version: str = DEFAULT_VERSION) -> None:
        self.version = version

    def has_structured_output(self, model: str) -> bool:
        """Whether the API holds this model's answers to a schema."""
        return traits(model).structured_output

    def encode_request(self, request: ModelRequest, model: str, *, stream: bool = False) -> Encoded:
        """Raises LamellaError INVALID_ARGUMENT for media that the API does not take, and for values that JSON cannot hold."""
        warnings: list[str] = []
        body = request_body(request, model, self.version, warnings)
        return Encoded(write({**body, 'stream': True} if stream else body, 'body'), tuple(warnings))

    def decode_request(self, body: bytes, *, model: str | None = None, stream: bool = False) -> Decoded:
        """Raises LamellaError INVALID_ARGUMENT that names the place of what is wrong."""
        try:
            data = _object(body)
            return decoded_request(data if model is None else {'model': model, **data})
        except (ValueError, RecursionError) as error:
            raise LamellaError('INVALID_ARGUMENT', str(error)) from error

    def encode_response(self, response: ModelResponse, *, model: str, request: ModelRequest | None = None) -> bytes:
        """Unknown counts of tokens are zero on this wire, which always counts."""
        return write(answer_body(response, model), 'body')

    def decode_response(self, body: bytes) -> ModelResponse:
        """A tool request whose input the limit of tokens cut off is left out, and `warnings` say so.

        Raises LamellaError INTERNAL for anything but a message, and the error itself for an error in a 200.
        """
        try:
            data = _object(body)
            if data.get('type') == 'error':
                raise error_from_event(data)
            return whole_answer(message_of(data))
        except (ValueError, RecursionError) as error:
            raise LamellaError('INTERNAL', f'the provider sent no answer of the Anthropic protocol: {error}') from error

    def stream_decoder(self) -> AnthropicStreamDecoder:
        return AnthropicStreamDecoder()

    def stream_encoder(self, *, model: str, request: ModelRequest | None = None) -> AnthropicStreamEncoder:
        return AnthropicStreamEncoder(model)

    def decode_error(
        self, status: int, headers: Mapping[str, str], body: bytes, *, now: float | None = None
    ) -> LamellaError:
        return error_from_body(status, headers, body, now=now)

    def encode_error(self, error: LamellaError) -> EncodedError:
        return encoded_error(error)


def _object(body: bytes) -> JSON:
    data: Any = msgspec.json.decode(body)
    if not isinstance(data, dict):
        raise Malformed(f'the body is {str(data)[:60]!r}, not a JSON object')
    return data
