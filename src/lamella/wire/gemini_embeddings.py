"""Google's embeddings: batchEmbedContents of the Gemini API, embedContent of both doors, and predict of Vertex AI.

Facts are from ai.google.dev/api/embeddings and
docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from lamella.types import JSON, ConfigError, EmbeddingRequest, EmbeddingResponse, LamellaError, Usage, Vector
from lamella.wire._gemini_json import (
    Malformed,
    at,
    camel,
    dict_of,
    each,
    fields,
    marked,
    merged,
    number_of,
    parsed,
    text_of,
    without,
    write,
)
from lamella.wire._gemini_status import decode_status, encode_status
from lamella.wire._vectors import vector_of
from lamella.wire.codec import DecodedTexts, Encoded, EncodedError
from lamella.wire.errors import http_status_of, retry_after_headers

_TRUNCATED = 'a text was longer than the model reads, and was cut off'
_SIZE = 'outputDimensionality'


class _GoogleEmbeddings(ABC):
    """What the three methods share: options by the names that `GeminiCodec` takes, and errors."""

    name = 'gemini-embeddings'
    provider = 'google'

    def __init__(self, *, also: tuple[str, ...] = ()) -> None:
        self._keys = ('gemini', 'google', *also)

    def encode_request(self, request: EmbeddingRequest, model: str) -> Encoded:
        settings = {} if request.dimensions is None else {_SIZE: request.dimensions}
        settings = {key: value for key, value in merged(settings, self._options(request)).items() if value is not None}
        texts = request.texts
        body = self._body(texts, settings, model if '/' in model else f'models/{model}')
        return Encoded(write(body, lambda: {f'text {index}': text for index, text in enumerate(texts)}))

    def decode_request(self, body: bytes, *, model: str | None = None) -> DecodedTexts:
        try:
            texts, settings = self._asked(fields(parsed(body)))
            dimensions = number_of(settings, _SIZE, int)
            if dimensions is not None and dimensions < 1:
                raise Malformed(f'is {dimensions}: give a number of at least 1', _SIZE)
        except Malformed as error:
            raise LamellaError('INVALID_ARGUMENT', f'the request cannot be read: {str(error).strip()}') from error
        options = without(settings, _SIZE)
        return DecodedTexts(
            model or '', EmbeddingRequest(texts, dimensions, {self.provider: options} if options else {})
        )

    def encode_response(self, response: EmbeddingResponse, *, model: str, request: EmbeddingRequest) -> bytes:
        return write(self._answer(response))

    def decode_response(self, body: bytes) -> EmbeddingResponse:
        try:
            return self._answered(fields(parsed(body)))
        except Malformed as error:
            raise LamellaError('INTERNAL', f'the provider sent a malformed answer: {str(error).strip()}') from error

    def decode_error(
        self, status: int, headers: Mapping[str, str], body: bytes, *, now: float | None = None
    ) -> LamellaError:
        return decode_status(status, headers, body, now)

    def encode_error(self, error: LamellaError) -> EncodedError:
        headers = {'content-type': 'application/json; charset=UTF-8', **retry_after_headers(error)}
        return EncodedError(http_status_of(error), headers, write(encode_status(error)))

    def _options(self, request: EmbeddingRequest) -> JSON:
        options: JSON = {}
        for key in self._keys:
            given: Any = request.provider_options.get(key) or {}
            if not isinstance(given, Mapping):
                raise ConfigError(f'provider_options[{key!r}] is {given!r}: give a dict of options')
            options |= {camel(name): value for name, value in given.items()}
        return options

    @abstractmethod
    def _body(self, texts: Sequence[str], settings: JSON, model: str) -> JSON: ...
    @abstractmethod
    def _asked(self, body: JSON) -> tuple[tuple[str, ...], JSON]: ...
    @abstractmethod
    def _answer(self, response: EmbeddingResponse) -> JSON: ...
    @abstractmethod
    def _answered(self, body: JSON) -> EmbeddingResponse: ...


class GeminiBatchCodec(_GoogleEmbeddings):
    """`batchEmbedContents`, of which one call takes 100 texts. The settings stand in each of its requests."""

    def _body(self, texts: Sequence[str], settings: JSON, model: str) -> JSON:
        return {'requests': [{'model': model, 'content': _content(text), **settings} for text in texts]}

    def _asked(self, body: JSON) -> tuple[tuple[str, ...], JSON]:
        asked = each('requests', _one, body.get('requests'))
        if not asked:
            raise Malformed('is missing: give a list of requests', 'requests')
        settings = [settings for _, settings in asked]
        if any(other != settings[0] for other in settings):
            raise Malformed('differ in their settings: give all the same', 'requests')
        return tuple([text for text, _ in asked]), settings[0]

    def _answer(self, response: EmbeddingResponse) -> JSON:
        return {'embeddings': [{'values': list(vector)} for vector in response.vectors], **_told(response.usage)}

    def _answered(self, body: JSON) -> EmbeddingResponse:
        return EmbeddingResponse(
            vectors=tuple(each('embeddings', _values, body.get('embeddings'))),
            usage=_usage(body),
            metadata=marked(without(body, 'embeddings', 'usageMetadata')) or {},
        )


class GeminiContentCodec(_GoogleEmbeddings):
    """`embedContent`, which takes one text; `config` puts the settings into `embedContentConfig`, as Vertex AI wants them."""

    def __init__(self, *, also: tuple[str, ...] = (), config: bool = False) -> None:
        super().__init__(also=also)
        self._config = config

    def _body(self, texts: Sequence[str], settings: JSON, model: str) -> JSON:
        if len(texts) != 1:
            raise LamellaError('INVALID_ARGUMENT', f'embedContent takes one text, not {len(texts)}')
        if self._config:
            settings = {'embedContentConfig': settings} if settings else {}
        return {'content': _content(texts[0]), **settings}

    def _asked(self, body: JSON) -> tuple[tuple[str, ...], JSON]:
        text, settings = _one(body)
        return (text,), settings

    def _answer(self, response: EmbeddingResponse) -> JSON:
        return {'embedding': {'values': list(response.vector)}, **_told(response.usage)}

    def _answered(self, body: JSON) -> EmbeddingResponse:
        return EmbeddingResponse(
            vectors=(at('embedding', _values, body.get('embedding')),),
            usage=_usage(body),
            metadata=marked(without(body, 'embedding', 'usageMetadata', 'truncated')) or {},
            warnings=(_TRUNCATED,) if body.get('truncated') else (),
        )


class VertexPredictCodec(_GoogleEmbeddings):
    """`predict`, for Vertex AI's models of text alone. Task type and title stand at each text, the rest in `parameters`."""

    def _body(self, texts: Sequence[str], settings: JSON, model: str) -> JSON:
        named = {'taskType': 'task_type', 'title': 'title', 'mimeType': 'mimeType'}
        of_each = {named[key]: value for key, value in settings.items() if key in named}
        of_all = {key: value for key, value in settings.items() if key not in named}
        body: JSON = {'instances': [{'content': text, **of_each} for text in texts]}
        return {**body, 'parameters': of_all} if of_all else body

    def _asked(self, body: JSON) -> tuple[tuple[str, ...], JSON]:
        instances = each('instances', fields, body.get('instances'))
        if not instances:
            raise Malformed('is missing: give a list of instances', 'instances')
        texts = [at(f'instances[{index}]', _plain, instance) for index, instance in enumerate(instances)]
        return tuple(texts), {**without(instances[0], 'content'), **fields(dict_of(body, 'parameters'))}

    def _answer(self, response: EmbeddingResponse) -> JSON:
        """The usage is told text by text: what is known of all is shared out."""
        paid = (response.usage or Usage()).input_tokens or 0
        share, rest = divmod(paid, len(response.vectors) or 1)
        statistics = [
            {'token_count': share + (index < rest), 'truncated': False} for index in range(len(response.vectors))
        ]
        told = zip(response.vectors, statistics, strict=True)
        return {'predictions': [{'embeddings': {'values': list(vector), 'statistics': one}} for vector, one in told]}

    def _answered(self, body: JSON) -> EmbeddingResponse:
        found = each('predictions', _prediction, body.get('predictions'))
        counts = [count for _, count, _ in found if count is not None]
        return EmbeddingResponse(
            vectors=tuple([vector for vector, _, _ in found]),
            usage=Usage(input_tokens=sum(counts), total_tokens=sum(counts)) if counts else None,
            metadata=marked(without(body, 'predictions')) or {},
            warnings=(_TRUNCATED,) if any(cut for _, _, cut in found) else (),
        )


def _content(text: str) -> JSON:
    return {'parts': [{'text': text}]}


def _one(value: Any) -> tuple[str, JSON]:
    """The text and the settings of one embedContent, wherever these stand."""
    asked = fields(value)
    text = at('content', _text, asked.get('content'))
    return text, {
        **without(asked, 'content', 'model', 'embedContentConfig'),
        **fields(dict_of(asked, 'embedContentConfig')),
    }


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    parts = each('parts', lambda part: text_of(fields(part), 'text'), fields(value).get('parts'))
    if not parts:
        raise Malformed('is missing: give a list of parts', 'parts')
    return ' '.join(parts)


def _plain(instance: JSON) -> str:
    return text_of(instance, 'content')


def _values(value: Any) -> Vector:
    found = fields(value).get('values')
    if not isinstance(found, list):
        raise Malformed('is missing: an embedding has a list of numbers', 'values')
    try:
        return vector_of(found)
    except ValueError as error:
        raise Malformed(str(error), 'values') from None


def _prediction(value: Any) -> tuple[Vector, int | None, bool]:
    embeddings = dict_of(fields(value), 'embeddings')
    statistics = fields(dict_of(embeddings, 'statistics'))
    count = number_of(statistics, 'tokenCount', float)
    vector = at('embeddings', _values, embeddings)
    return vector, None if count is None else int(count), statistics.get('truncated') is True


def _usage(body: JSON) -> Usage | None:
    told = fields(dict_of(body, 'usageMetadata'))
    paid = number_of(told, 'promptTokenCount', int)
    if paid is None:
        return None
    total = number_of(told, 'totalTokenCount', int)
    return Usage(input_tokens=paid, total_tokens=paid if total is None else total)


def _told(usage: Usage | None) -> JSON:
    paid = usage.input_tokens if usage is not None else None
    return {} if paid is None else {'usageMetadata': {'promptTokenCount': paid}}
