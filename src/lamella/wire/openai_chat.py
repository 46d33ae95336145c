"""OpenAI's Chat Completions, which most other servers speak too, as a codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from lamella.types import LamellaError, ModelRequest, ModelResponse
from lamella.wire._openai_chat_answer import decode_response, encode_response
from lamella.wire._openai_chat_decode import decode_request, wants_usage
from lamella.wire._openai_chat_encode import encode_request
from lamella.wire._openai_chat_errors import encode_error
from lamella.wire._openai_chat_events import ChatStreamEncoder
from lamella.wire._openai_chat_options import ChatOptions
from lamella.wire._openai_chat_stream import ChatStreamDecoder
from lamella.wire._openai_json import Malformed
from lamella.wire.codec import Decoded, Encoded, EncodedError
from lamella.wire.errors import error_from_body


class OpenAIChatCodec:
    """Says and understands `POST /chat/completions` (platform.openai.com/docs/api-reference/chat).

    For servers that are compatible but not the same: `provider` is the key of `provider_options` and of the metadata that
    keeps their own fields; `max_tokens_field` is `max_tokens` for servers that do not know `max_completion_tokens`;
    `system_role` may be `developer`; `include_usage=False` leaves out `stream_options`, which some refuse; and
    `reasoning_field` names the field in which they want the reasoning of earlier turns back (`reasoning_content`,
    `reasoning`), which OpenAI never wants.

    `provider_options[provider]` is merged into the body: it adds fields, replaces them, removes them with `None`, and its
    `tools` are appended. Content that the protocol has no word for raises INVALID_ARGUMENT; a setting becomes a warning.

    Tool arguments that are no JSON stay a string, which is no valid input for any tool (the engine tells the model so);
    those that the token limit cut off are left out with a warning.
    """

    name = 'openai-chat'

    def __init__(
        self,
        provider: str = 'openai',
        *,
        max_tokens_field: Literal['max_completion_tokens', 'max_tokens'] = 'max_completion_tokens',
        system_role: Literal['system', 'developer'] = 'system',
        include_usage: bool = True,
        reasoning_field: str | None = None,
    ) -> None:
        self.provider = provider
        self._options = ChatOptions(provider, max_tokens_field, system_role, include_usage, reasoning_field)
        self._reasoning_field = reasoning_field or 'reasoning_content'

    def encode_request(self, request: ModelRequest, model: str, *, stream: bool = False) -> Encoded:
        return encode_request(request, model, stream, self._options)

    def decode_request(self, body: bytes, *, model: str | None = None, stream: bool = False) -> Decoded:
        try:
            return decode_request(body, self.provider, model, stream)
        except Malformed as error:
            raise LamellaError('INVALID_ARGUMENT', str(error)) from error

    def encode_response(self, response: ModelResponse, *, model: str, request: ModelRequest | None = None) -> bytes:
        return encode_response(response, model, self.provider, self._reasoning_field)

    def decode_response(self, body: bytes) -> ModelResponse:
        try:
            return decode_response(body, self.provider)
        except Malformed as error:
            raise LamellaError('INTERNAL', f'the provider sent a malformed answer: {error}') from error

    def stream_decoder(self) -> ChatStreamDecoder:
        return ChatStreamDecoder(self.provider)

    def stream_encoder(self, *, model: str, request: ModelRequest | None = None) -> ChatStreamEncoder:
        with_usage = wants_usage(request, self.provider)
        return ChatStreamEncoder(model, self.provider, self._reasoning_field, with_usage)

    def decode_error(
        self, status: int, headers: Mapping[str, str], body: bytes, *, now: float | None = None
    ) -> LamellaError:
        return error_from_body(status, headers, body, now=now)

    def encode_error(self, error: LamellaError) -> EncodedError:
        return encode_error(error)
