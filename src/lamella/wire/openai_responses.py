"""OpenAI's Responses API as a codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from lamella.types import LamellaError, ModelRequest, ModelResponse
from lamella.wire._openai_chat_errors import encode_error
from lamella.wire._openai_json import Malformed
from lamella.wire._responses.answer import decode_response, encode_response
from lamella.wire._responses.decode import decode_request
from lamella.wire._responses.encode import encode_request
from lamella.wire._responses.events import ResponsesStreamEncoder
from lamella.wire._responses.marks import Marks
from lamella.wire._responses.stream import ResponsesStreamDecoder
from lamella.wire.codec import Decoded, Encoded, EncodedError
from lamella.wire.errors import error_from_body


class OpenAIResponsesCodec:
    """Says and understands `POST /responses` (platform.openai.com/docs/api-reference/responses).

    `provider_options[provider]` is merged into the body: it adds fields (`store`, `previous_response_id`, `truncation` …),
    replaces them, removes them with `None`; its `reasoning` and `text` are merged with ours, its `tools` (the built-in
    ones) and `include` are appended. A setting that the protocol has no word for becomes a warning.

    A first system message that is only text goes as `instructions`, others as input items of `system_role`. Items keep
    their ids, reasoning its `encrypted_content` (as the part's `signature`), and both go back with the conversation. What
    only this protocol knows of a part is in its metadata under the provider's name with `-responses`.
    """

    name = 'openai-responses'

    def __init__(self, provider: str = 'openai', *, system_role: Literal['system', 'developer'] = 'system') -> None:
        self.provider = provider
        self._marks = Marks.of(provider)
        self._system_role = system_role

    def encode_request(self, request: ModelRequest, model: str, *, stream: bool = False) -> Encoded:
        return encode_request(request, model, stream, self._marks, self._system_role)

    def decode_request(self, body: bytes, *, model: str | None = None, stream: bool = False) -> Decoded:
        try:
            return decode_request(body, self._marks, model, stream)
        except Malformed as error:
            raise LamellaError('INVALID_ARGUMENT', str(error)) from error

    def encode_response(self, response: ModelResponse, *, model: str, request: ModelRequest | None = None) -> bytes:
        return encode_response(response, model, request, self._marks)

    def decode_response(self, body: bytes) -> ModelResponse:
        try:
            return decode_response(body, self._marks)
        except Malformed as error:
            raise LamellaError('INTERNAL', f'the provider sent a malformed answer: {error}') from error

    def stream_decoder(self) -> ResponsesStreamDecoder:
        return ResponsesStreamDecoder(self._marks)

    def stream_encoder(self, *, model: str, request: ModelRequest | None = None) -> ResponsesStreamEncoder:
        return ResponsesStreamEncoder(model, request, self._marks)

    def decode_error(
        self, status: int, headers: Mapping[str, str], body: bytes, *, now: float | None = None
    ) -> LamellaError:
        return error_from_body(status, headers, body, now=now)

    def encode_error(self, error: LamellaError) -> EncodedError:
        return encode_error(error)
