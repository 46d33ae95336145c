"""Vectors by rule: from the words of a text and nothing else, so that texts that share words lie near each other.

The vendors' limits hold here too, so that a client that sends too much is refused as it would be by them.
"""

from __future__ import annotations

from aiohttp import web

from lamella.simulator.exchange import Exchange, failure, kinds_of
from lamella.simulator.schedule import plan_for
from lamella.simulator.tokens import count_text
from lamella.testing.vectors import word_vector
from lamella.types import EmbeddingRequest, EmbeddingResponse, LamellaError, Usage
from lamella.wire.codec import EmbeddingCodec
from lamella.wire.gemini_embeddings import GeminiBatchCodec, GeminiContentCodec, VertexPredictCodec
from lamella.wire.openai_embeddings import OpenAIEmbeddingCodec

OPENAI = OpenAIEmbeddingCodec()
GEMINI_BATCH = GeminiBatchCodec()
GEMINI_CONTENT = GeminiContentCodec()
VERTEX_PREDICT = VertexPredictCodec()

# platform.openai.com/docs/api-reference/embeddings/create, ai.google.dev/api/embeddings,
# docs.cloud.google.com/vertex-ai/generative-ai/docs/embeddings/get-text-embeddings: texts, and tokens of all of them.
_LIMITS = {OPENAI: (2048, 300_000), GEMINI_BATCH: (100, None), GEMINI_CONTENT: (1, None), VERTEX_PREDICT: (250, 20_000)}
_SIZES = {
    'gemini-embedding-001': 3072,
    'gemini-embedding-2': 3072,
    'text-embedding-004': 768,
    'text-embedding-005': 768,
    'text-embedding-3-large': 3072,
    'text-embedding-3-small': 1536,
    'text-embedding-ada-002': 1536,
}
USUAL_SIZE = 768
MAX_SIZE = 4096


async def embed(exchange: Exchange, body: bytes, *, codec: EmbeddingCodec) -> web.StreamResponse:
    """A vector for each text."""
    record = exchange.record
    decoded = codec.decode_request(body, model=exchange.request.match_info.get('model'))
    moment = exchange.state.moment(decoded.model)
    exchange.plan = plan_for(exchange.state.script.faults, moment)
    record.model, record.number = decoded.model, moment.number
    record.embedding, record.faults = decoded.request, kinds_of(exchange.plan)
    if (fault := exchange.plan.fault) is not None and fault.kind == 'status':
        raise failure(fault)
    response = answer(decoded.request, decoded.model, _LIMITS[codec])
    exchange.spend(response.usage)
    return await exchange.json(codec.encode_response(response, model=decoded.model, request=decoded.request))


def answer(request: EmbeddingRequest, model: str, limits: tuple[int, int | None]) -> EmbeddingResponse:
    """The answer by rule. Raises INVALID_ARGUMENT for what the vendors refuse."""
    most, most_tokens = limits
    tokens = sum(map(count_text, request.texts))
    size = request.dimensions or _SIZES.get(model.rpartition('/')[2], USUAL_SIZE)
    if not request.texts or '' in request.texts:
        raise LamellaError('INVALID_ARGUMENT', 'a text to embed is empty')
    if len(request.texts) > most:
        raise LamellaError('INVALID_ARGUMENT', f'{len(request.texts)} texts are more than one call takes: {most}')
    if most_tokens is not None and tokens > most_tokens:
        raise LamellaError('INVALID_ARGUMENT', f'{tokens} tokens are more than one call takes: {most_tokens}')
    if size > MAX_SIZE:
        raise LamellaError('INVALID_ARGUMENT', f'{size} dimensions are more than {MAX_SIZE}')
    return EmbeddingResponse(
        vectors=tuple([word_vector(text, size) for text in request.texts]),
        usage=Usage(input_tokens=tokens, total_tokens=tokens),
        model=model,
    )
