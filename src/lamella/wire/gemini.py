"""Gemini's generateContent and streamGenerateContent (v1beta, `alt=sse`), of the Gemini API and of Vertex AI.

Facts are from ai.google.dev/api/generate-content, ai.google.dev/api/caching and github.com/googleapis/googleapis
(google/ai/generativelanguage/v1beta).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella.types import JSON, ConfigError, LamellaError, ModelRequest, ModelResponse
from lamella.wire._gemini_answer import AnswerDecoder, decode_answer, malformed
from lamella.wire._gemini_encode import AnswerEncoder, encode_answer
from lamella.wire._gemini_events import GeminiSSEDecoder
from lamella.wire._gemini_hops import Hops
from lamella.wire._gemini_json import Malformed, merged, parsed, write
from lamella.wire._gemini_request import decode_request, encode_request
from lamella.wire._gemini_status import decode_status, encode_status
from lamella.wire.codec import Decoded, Encoded, EncodedError, StreamDecoder, StreamEncoder
from lamella.wire.errors import http_status_of, retry_after_headers

__all__ = ['GeminiCodec', 'GeminiSSEDecoder', 'Hops']


class GeminiCodec:
    """The model's name and whether to stream stand in the URL, so they are given where a request is decoded.

    `provider_options['google']` (the name that Google's own and the AI SDK's options have; `gemini` is taken too) is merged
    into the body and wins, in camelCase or snake_case. Fields of `generationConfig` may stand at its top:
    `{'google': {'thinking_config': {'include_thoughts': True}, 'safety_settings': [...], 'tools': [{'google_search': {}}]}}`.
    Tools are added to the request's own; `None` takes a field out of the body. `also` names further keys, later ones winning
    over earlier.

    Gemini's own fields travel as `metadata['gemini']`: on parts (`thoughtSignature` …), on messages, and on the response
    (`safetyRatings`, `groundingMetadata`, `citationMetadata`, `promptFeedback` …, `response` for unknown fields at the top).
    `metadata['logprobs']` is a list of tokens.
    """

    name = 'gemini'
    provider = 'google'

    def __init__(self, *, also: tuple[str, ...] = ()) -> None:
        self._keys = ('gemini', 'google', *also)

    def encode_request(self, request: ModelRequest, model: str, *, stream: bool = False) -> Encoded:
        warnings: list[str] = []
        try:
            body = encode_request(request, model, self._options(request), warnings.append)
        except Malformed as error:
            raise LamellaError('INVALID_ARGUMENT', f'Gemini cannot be sent this: {error}') from error
        return Encoded(write(body, lambda: _places(request)), tuple(dict.fromkeys(warnings)))

    def decode_request(self, body: bytes, *, model: str | None = None, stream: bool = False) -> Decoded:
        try:
            return decode_request(parsed(body), model, stream, self.provider)
        except Malformed as error:
            raise LamellaError('INVALID_ARGUMENT', f'the request cannot be read: {str(error).strip()}') from error
        except RecursionError as error:
            raise LamellaError('INVALID_ARGUMENT', 'the request is nested too deeply to be read') from error

    def encode_response(self, response: ModelResponse, *, model: str, request: ModelRequest | None = None) -> bytes:
        return write(encode_answer(response, model))

    def decode_response(self, body: bytes) -> ModelResponse:
        try:
            return decode_answer(parsed(body))
        except (Malformed, RecursionError) as error:
            raise malformed(error) from error

    def stream_decoder(self) -> StreamDecoder:
        return AnswerDecoder()

    def stream_encoder(self, *, model: str, request: ModelRequest | None = None) -> StreamEncoder:
        return AnswerEncoder(model)

    def decode_error(
        self, status: int, headers: Mapping[str, str], body: bytes, *, now: float | None = None
    ) -> LamellaError:
        """`details['gemini']` keeps Google's own details (which quota, which field), credentials taken out."""
        return decode_status(status, headers, body, now)

    def encode_error(self, error: LamellaError) -> EncodedError:
        headers = {'content-type': 'application/json; charset=UTF-8', **retry_after_headers(error)}
        return EncodedError(http_status_of(error), headers, write(encode_status(error)))

    def _options(self, request: ModelRequest) -> JSON:
        options: JSON = {}
        for key in self._keys:
            given: Any = request.provider_options.get(key) or {}
            if not isinstance(given, Mapping):
                raise ConfigError(f'provider_options[{key!r}] is {given!r}: give a dict of options')
            options = merged(options, given)
        return options


def _places(request: ModelRequest) -> Mapping[str, Any]:
    """The parts of a request by name, to find the one that is no JSON."""
    places: dict[str, Any] = {
        f'messages[{i}].content[{j}]': part
        for i, message in enumerate(request.messages)
        for j, part in enumerate(message.content)
    }
    return {**places, 'tools': request.tools, 'output': request.output, 'provider_options': request.provider_options}
