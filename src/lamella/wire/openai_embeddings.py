"""OpenAI's embeddings, which most compatible servers have too, as a codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella.types import (
    JSON,
    ConfigError,
    EmbeddingRequest,
    EmbeddingResponse,
    LamellaError,
    Usage,
    Vector,
)
from lamella.wire._openai_chat_errors import encode_error
from lamella.wire._openai_json import (
    Malformed,
    count,
    dict_or_empty,
    extras_of,
    marked,
    merged,
    need,
    parse,
    text_or_none,
    without,
    write,
)
from lamella.wire._vectors import base64_of, vector_of
from lamella.wire.codec import DecodedTexts, Encoded, EncodedError
from lamella.wire.errors import error_from_body

_ASKED = frozenset(('input', 'model', 'dimensions'))
_ANSWERED = frozenset(('object', 'data', 'model', 'usage'))


class OpenAIEmbeddingCodec:
    """Says and understands `POST /embeddings` (platform.openai.com/docs/api-reference/embeddings/create).

    Vectors are asked for in base64, as OpenAI's own clients do: a quarter of the bytes of JSON numbers. What comes back may be
    either; a server that refuses base64 is asked with `{'encoding_format': 'float'}` among its options. `provider` is the key of
    `provider_options`, which are merged into the body (`None` takes a field out), and of the metadata that keeps a server's
    own fields.
    """

    name = 'openai-embeddings'

    def __init__(self, provider: str = 'openai') -> None:
        self.provider = provider

    def encode_request(self, request: EmbeddingRequest, model: str) -> Encoded:
        options: Any = request.provider_options.get(self.provider) or {}
        if not isinstance(options, Mapping):
            raise ConfigError(f'provider_options[{self.provider!r}] is {options!r}: give a dict of options')
        body: JSON = {'model': model, 'input': list(request.texts), 'encoding_format': 'base64'}
        if request.dimensions is not None:
            body['dimensions'] = request.dimensions
        asked = {key: value for key, value in merged(body, options).items() if value is not None}
        return Encoded(write(asked, lambda: {f'text {at}': text for at, text in enumerate(request.texts)}))

    def decode_request(self, body: bytes, *, model: str | None = None) -> DecodedTexts:
        try:
            asked = need(parse(body), dict, 'the body')
            texts = _texts(asked.get('input'))
            options = without(asked, _ASKED)
            request = EmbeddingRequest(
                texts, _dimensions(asked.get('dimensions')), {self.provider: options} if options else {}
            )
            return DecodedTexts(model or need(asked.get('model'), str, 'model'), request)
        except Malformed as error:
            raise LamellaError('INVALID_ARGUMENT', str(error)) from error

    def encode_response(self, response: EmbeddingResponse, *, model: str, request: EmbeddingRequest) -> bytes:
        in_base64 = dict_or_empty(request.provider_options.get(self.provider)).get('encoding_format') == 'base64'
        shown: Any = base64_of if in_base64 else list
        data = [
            {'object': 'embedding', 'index': index, 'embedding': shown(vector)}
            for index, vector in enumerate(response.vectors)
        ]
        usage = response.usage or Usage()
        paid = {'prompt_tokens': usage.input_tokens or 0, 'total_tokens': usage.total_tokens or usage.input_tokens or 0}
        extras = extras_of(response.metadata, self.provider)
        return write({'object': 'list', 'data': data, 'model': model, 'usage': paid, **extras})

    def decode_response(self, body: bytes) -> EmbeddingResponse:
        try:
            answer = need(parse(body), dict, 'the body')
            items = need(answer.get('data'), list, 'data')
            vectors = [_numbered(item, at) for at, item in enumerate(items)]
            vectors.sort(key=lambda numbered: numbered[0])
            if [index for index, _ in vectors] != list(range(len(vectors))):
                raise Malformed('data', 'does not number its vectors from 0 on')
        except Malformed as error:
            raise LamellaError('INTERNAL', f'the provider sent a malformed answer: {error}') from error
        usage = dict_or_empty(answer.get('usage'))
        total = count(usage.get('total_tokens'))
        return EmbeddingResponse(
            vectors=tuple([vector for _, vector in vectors]),
            usage=Usage(input_tokens=count(usage.get('prompt_tokens')), total_tokens=total) if usage else None,
            model=text_or_none(answer.get('model')),
            metadata=marked(self.provider, without(answer, _ANSWERED)) or {},
        )

    def decode_error(
        self, status: int, headers: Mapping[str, str], body: bytes, *, now: float | None = None
    ) -> LamellaError:
        return error_from_body(status, headers, body, now=now)

    def encode_error(self, error: LamellaError) -> EncodedError:
        return encode_error(error)


def _texts(given: Any) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,)
    for at, text in enumerate(need(given, list, 'input')):
        if not isinstance(text, str):
            raise Malformed(f'input[{at}]', f'is {type(text).__name__}: give texts, not tokens')
    return tuple(given)


def _dimensions(given: Any) -> int | None:
    found = count(given)
    if given is not None and not found:
        raise Malformed('dimensions', f'is {given!r}: give a whole number of at least 1')
    return found


def _numbered(item: Any, at: int) -> tuple[int, Vector]:
    found = need(item, dict, f'data[{at}]')
    try:
        vector = vector_of(found.get('embedding'))
    except ValueError as error:
        raise Malformed(f'data[{at}].embedding', str(error)) from error
    index = count(found.get('index'))
    return (at if index is None else index), vector
