"""Embedding calls of a client through the layers: what is sent and what comes back differs by the changes of layers alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.embedding import EmbeddingModel
from lamella.core.model import Model
from lamella.core.plugin import Plugin
from lamella.integrations.httpx2.endpoint import (
    OF_THE_BODY,
    OF_THE_CONNECTION,
    OF_THE_ORIGINAL,
    EndpointModel,
    Send,
    translated,
    without,
)
from lamella.integrations.httpx2.routes import OPTION_KEYS, named_like
from lamella.types import EmbeddingRequest, EmbeddingResponse, LamellaError
from lamella.wire.codec import EmbeddingCodec
from lamella.wire.gemini_embeddings import GeminiBatchCodec, GeminiContentCodec, VertexPredictCodec
from lamella.wire.openai_embeddings import OpenAIEmbeddingCodec

Ctx = GenerateMiddlewareContext
_OPENAI = re.compile(r'(?:/deployments/(?P<model>[^/]+))?/embeddings$')
_GOOGLE = re.compile(
    r'/(?P<model>(?:publishers/[^/:]+/models|endpoints|models|tunedModels)/[^/:]+)'
    r':(?P<verb>batchEmbedContents|embedContent|predict)$'
)


@dataclass(frozen=True, slots=True)
class TextRoute:
    """One embedding call: the vendor as a provider's name, its protocol, and where the path has the model.

    `is_certain` is false for a path that serves other purposes too: only the body tells.
    """

    provider: str
    codec: EmbeddingCodec
    model: str | None = None
    named: tuple[int, int] | None = None
    is_certain: bool = True


def text_route_of(method: str, path: str) -> TextRoute | None:
    """The embedding call that a request to this path is, or `None`."""
    if method != 'POST':
        return None
    if found := _OPENAI.search(path):
        named = found.span('model') if found['model'] else None
        return TextRoute('openai', OpenAIEmbeddingCodec(), found['model'], named)
    if (found := _GOOGLE.search(path)) is None:
        return None
    vertex = not found['model'].startswith(('models/', 'tunedModels/'))
    codecs: Mapping[str, EmbeddingCodec] = {
        'batchEmbedContents': GeminiBatchCodec(),
        'embedContent': GeminiContentCodec(config=vertex),
        'predict': VertexPredictCodec(),
    }
    model = found['model'].removeprefix('publishers/google/').removeprefix('models/')
    provider, verb = 'vertexai' if vertex else 'googleai', found['verb']
    return TextRoute(provider, codecs[verb], model, found.span('model'), verb != 'predict')


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """What the endpoint said to one call: the response, or the error, that it became."""

    means: EmbeddingResponse | LamellaError
    status: int
    headers: httpx2.Headers
    body: bytes


@dataclass(slots=True, repr=False)
class TextCall:
    """One embedding call of the client. Holds credentials, so it is not shown."""

    http: httpx2.Request
    body: bytes
    route: TextRoute
    model: str
    request: EmbeddingRequest
    send: Send
    answers: list[TextAnswer] = field(default_factory=list)

    @property
    def codec(self) -> EmbeddingCodec:
        return self.route.codec

    def to_send(self, request: EmbeddingRequest, model: str, outgoing: Mapping[str, str]) -> httpx2.Request:
        """The request as it goes out: the client's own where no layer changed it."""
        url, dropped = self.http.url, {*OF_THE_BODY, *OF_THE_CONNECTION} - {'content-type'}
        body = self.body
        if request != self.request or model != self.model:
            body, dropped = self.codec.encode_request(request, model).body, dropped | OF_THE_ORIGINAL
        if model != self.model and self.route.named is not None:
            start, end = self.route.named
            url = url.copy_with(path=url.path[:start] + named_like(url.path[start:end], model) + url.path[end:])
        headers = without(self.http.headers, dropped)
        headers += [(k.encode(), v.encode()) for k, v in outgoing.items() if k not in self.http.headers]
        return httpx2.Request('POST', url, headers=headers, content=body, extensions=self.http.extensions)

    def said(self, response: EmbeddingResponse) -> TextAnswer | None:
        """The endpoint's own answer, where the layers left its vectors as they are."""
        for answer in reversed(self.answers):
            if isinstance(answer.means, EmbeddingResponse) and answer.means.vectors == response.vectors:
                return answer
        return None


class EndpointEmbeddingModel(EmbeddingModel):
    """The client's endpoint under the name of any of its embedding models. The client has made its own batches."""

    def __init__(self, provider: str, model: str) -> None:
        self.name, self._model = f'{provider}/{model}', model

    def __repr__(self) -> str:
        return f'EndpointEmbeddingModel({self.name!r})'

    @property
    def option_keys(self) -> tuple[str, ...]:
        return OPTION_KEYS[self.provider]

    async def embed(self, request: EmbeddingRequest, ctx: Ctx) -> EmbeddingResponse:
        call: Any = getattr(ctx.context, 'call', None)
        if not isinstance(call, TextCall) or call.route.provider != self.provider:
            raise LamellaError(
                'NOT_FOUND',
                f'{self.name}: the client speaks to another vendor; give LamellaTransport(plugins=[…]) the plugin of '
                f'{self.provider!r}',
            )
        try:
            http = await call.send(call.to_send(request, self._model, ctx.outgoing))
            try:
                body = await http.aread()
            finally:
                await http.aclose()
        except httpx2.TransportError as error:
            raise translated(self.name, error) from error
        if http.status_code >= 300:
            refused = call.codec.decode_error(http.status_code, dict(http.headers), body, now=ctx.clock.time())
            call.answers.append(TextAnswer(refused, http.status_code, http.headers, body))
            raise refused
        response = call.codec.decode_response(body)
        call.answers.append(TextAnswer(response, http.status_code, http.headers, body))
        return response.replace(model=self.name if response.model is None else f'{self.provider}/{response.model}')


class Vendor(Plugin):
    """Names of the client's own vendor, so that `Fallback(models=['openai/…'])` stays on the client's endpoint."""

    def __init__(self, name: str) -> None:
        self.name = name

    def model(self, name: str) -> Model:
        return EndpointModel(self.name, name)

    def embedding_model(self, name: str) -> EmbeddingModel:
        return EndpointEmbeddingModel(self.name, name)
