"""The one table of paths: which protocol, and what to do. A further protocol is a few more lines here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from lamella.simulator.embeddings import GEMINI_BATCH, GEMINI_CONTENT, VERTEX_PREDICT, embed
from lamella.simulator.embeddings import OPENAI as OPENAI_EMBEDDINGS
from lamella.simulator.exchange import Exchange, generate
from lamella.simulator.listings import count_tokens, list_models, one_model
from lamella.simulator.protocols import ANTHROPIC, GEMINI, OPENAI_CHAT, OPENAI_RESPONSES, Protocol
from lamella.types import LamellaError, did_you_mean

Act = Callable[[Exchange, bytes], Awaitable[web.StreamResponse]]

whole_or_stream: Act = partial(generate, stream=False)
always_stream: Act = partial(generate, stream=True)


@dataclass(frozen=True)
class Route:
    """`path` is aiohttp's pattern. OpenAI's paths are served with and without `/v1`, as its clients' base URLs have it."""

    method: str
    path: str
    protocol: Protocol
    act: Act


# Vertex AI speaks Gemini under the resource of a publisher, with a project or, in express mode, without
# (docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference).
_VERTEX = tuple(
    f'/{version}{resource}/publishers/{{publisher}}'
    for version in ('v1beta1', 'v1')
    for resource in ('', '/projects/{project}/locations/{location}')
)
_OF_GOOGLE = ('/v1beta', '/v1/projects/', '/v1/publishers/')

ROUTES = (
    *(
        route
        for prefix in ('/v1', '')
        for route in (
            Route('POST', f'{prefix}/chat/completions', OPENAI_CHAT, whole_or_stream),
            Route('POST', f'{prefix}/responses', OPENAI_RESPONSES, whole_or_stream),
            Route('POST', f'{prefix}/embeddings', OPENAI_CHAT, partial(embed, codec=OPENAI_EMBEDDINGS)),
            Route('GET', f'{prefix}/models', OPENAI_CHAT, list_models),
            Route('GET', f'{prefix}/models/{{model:.+}}', OPENAI_CHAT, one_model),
        )
    ),
    Route('POST', '/v1/messages', ANTHROPIC, whole_or_stream),
    Route('POST', '/v1/messages/count_tokens', ANTHROPIC, count_tokens),
    *(
        route
        for prefix in ('/v1beta', '/v1', *_VERTEX)
        for route in (
            Route('POST', f'{prefix}/models/{{model:[^:]+}}:generateContent', GEMINI, whole_or_stream),
            Route('POST', f'{prefix}/models/{{model:[^:]+}}:streamGenerateContent', GEMINI, always_stream),
            Route('POST', f'{prefix}/models/{{model:[^:]+}}:countTokens', GEMINI, count_tokens),
            Route(
                'POST',
                f'{prefix}/models/{{model:[^:]+}}:batchEmbedContents',
                GEMINI,
                partial(embed, codec=GEMINI_BATCH),
            ),
            Route(
                'POST', f'{prefix}/models/{{model:[^:]+}}:embedContent', GEMINI, partial(embed, codec=GEMINI_CONTENT)
            ),
            Route('POST', f'{prefix}/models/{{model:[^:]+}}:predict', GEMINI, partial(embed, codec=VERTEX_PREDICT)),
        )
    ),
    Route('GET', '/v1beta/models', GEMINI, list_models),
    Route('GET', '/v1beta/models/{model:[^:]+}', GEMINI, one_model),
)


def protocol_of(request: web.Request, route: Route | None) -> Protocol:
    """The vendors share the paths of models: headers that only their own clients send tell them apart."""
    if route is not None and route.protocol is not OPENAI_CHAT:
        return route.protocol
    if 'anthropic-version' in request.headers or request.path.startswith('/v1/messages'):
        return ANTHROPIC
    if request.path.startswith(_OF_GOOGLE) or request.headers.keys() & {'x-goog-api-key', 'x-goog-api-client'}:
        return GEMINI
    return OPENAI_CHAT


async def unknown_path(exchange: Exchange, body: bytes) -> web.StreamResponse:
    """Raises NOT_FOUND with the paths there are."""
    asked = f'{exchange.request.method} {exchange.request.path}'
    known = [f'{route.method} {route.path}' for route in ROUTES]
    raise LamellaError(
        'NOT_FOUND',
        f'the simulator does not serve {asked}{did_you_mean(asked, known)}',
        details={'code': 'unknown_url'},
    )
