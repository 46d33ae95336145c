"""Google's models: the Gemini API with a key, and Vertex AI with Google Cloud credentials or a key."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import partial
from http.client import HTTPException
from types import SimpleNamespace
from typing import Any
from urllib import error as url_error
from urllib import request as url_request
from urllib.parse import quote, quote_plus, urlsplit

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.embedding import EmbeddingInfo, EmbeddingModel
from lamella.core.model import Model, ModelInfo
from lamella.core.plugin import Plugin
from lamella.plugins._google_options import GoogleEmbeddingOptions, GoogleOptions
from lamella.plugins._http import AiohttpTransport, HttpSettings, Transport, load
from lamella.plugins._wire_embedding import WireEmbeddingModel
from lamella.plugins._wire_model import Target, WireModel, checked_pairs, checked_url, credential, joined
from lamella.types import ConfigError, LamellaError, ModelRequest, ModelResponse, StreamPart, fold, unfold
from lamella.wire.codec import Codec, EmbeddingCodec
from lamella.wire.errors import redacted
from lamella.wire.gemini import GeminiCodec, GeminiSSEDecoder, Hops
from lamella.wire.gemini_embeddings import GeminiBatchCodec, GeminiContentCodec, VertexPredictCodec

Ctx = GenerateMiddlewareContext
GEMINI_URL = 'https://generativelanguage.googleapis.com'
KEY_VARIABLES = ('GEMINI_API_KEY', 'GOOGLE_API_KEY')
SCOPES = ('https://www.googleapis.com/auth/cloud-platform',)

_HTTP = HttpSettings()
_NATIVE = ModelInfo(structured_output='native')
_HAS_VERSION = re.compile(r'/v\d+\w*$')
_LOCATION = re.compile(r'[a-z0-9-]+')
_MULTI_REGIONS = ('us', 'eu')
_TOKEN_TIMEOUT_S = 30.0
_KNOWN = (
    'gemini-2.5-flash',
    'gemini-2.5-flash-lite',
    'gemini-2.5-pro',
    'gemini-3.1-pro-preview',
    'gemini-3.8-flash',
    'gemini-4-argon',
    'gemini-flash-latest',
    'gemini-pro-latest',
)


class GeminiModel(WireModel):
    """One model of Google's, through either door. Goes on by itself where an answer takes more than one request."""

    events = GeminiSSEDecoder

    @property
    def option_keys(self) -> tuple[str, ...]:
        return (self.provider, 'google', 'gemini')

    async def generate(self, request: ModelRequest, ctx: Ctx) -> ModelResponse:
        hops, parts = Hops(), list[StreamPart]()
        while True:
            response = await super().generate(request, ctx)
            parts += hops.take_all(unfold(response))
            if hops.token is None:
                return fold(parts) if hops.count else response
            request = self._onward(hops, request, ctx)

    async def stream(self, request: ModelRequest, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        hops = Hops()
        while True:
            async with aclosing(super().stream(request, ctx)) as parts:
                async for part in parts:
                    if (taken := hops.take(part)) is not None:
                        yield taken
            if hops.token is None:
                return
            request = self._onward(hops, request, ctx)

    def _onward(self, hops: Hops, request: ModelRequest, ctx: Ctx) -> ModelRequest:
        ctx.emit('model.continued', model=self.name, requests=hops.count + 1)
        return hops.onward(request)


class _Google(Plugin):
    """What both doors share: addresses, headers, and the models behind them."""

    def __init__(
        self,
        name: str,
        base_url: str | None,
        headers: Mapping[str, str] | None,
        query: Mapping[str, str] | None,
        codec: Codec | None,
        transport: Transport,
    ) -> None:
        self.name = name
        self._base_url = None if base_url is None else checked_url(base_url)
        self._headers = checked_pairs(headers, 'headers')
        self._query = {key: quote_plus(value) for key, value in checked_pairs(query, 'query').items()}
        self._codec = codec or GeminiCodec(also=(name,))
        self._transport = transport

    def __repr__(self) -> str:
        return f'{type(self).__name__}(name={self.name!r}, base_url={self._base_url!r})'

    def model(self, name: str) -> Model:
        return GeminiModel(f'{self.name}/{name}', self._codec, self._transport, self._aim, _NATIVE, GoogleOptions)

    def embedding_model(self, name: str) -> EmbeddingModel:
        method, codec, info = self._embedding_method(name)
        keys = (self.name, 'google', 'gemini')
        aim = partial(self._aim_at_texts, method)
        return WireEmbeddingModel(
            f'{self.name}/{name}', codec, self._transport, aim, info, GoogleEmbeddingOptions, keys
        )

    def _embedding_method(self, model: str) -> tuple[str, EmbeddingCodec, EmbeddingInfo]:
        return 'batchEmbedContents', GeminiBatchCodec(also=(self.name,)), EmbeddingInfo(max_batch=100)

    async def _aim_at_texts(self, method: str, model: str) -> Target:
        target = await self._aim(model, False)
        return target.replace(url=target.url.replace(':generateContent', f':{method}', 1))

    def known_models(self) -> tuple[str, ...]:
        return _KNOWN

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _aim(self, model: str, stream: bool) -> Target:
        raise NotImplementedError

    def _url_from(self, variable: str, default: str) -> str:
        given = os.environ.get(variable)
        return self._base_url or (checked_url(given, variable) if given else default)

    def _target(self, url: str, credentials: Mapping[str, str], *, stream: bool) -> Target:
        """The method's address and all headers. A header of the caller's wins, whatever its case."""
        verb = ':streamGenerateContent' if stream else ':generateContent'
        query = {**self._query, 'alt': 'sse'} if stream else self._query
        own = {key.lower() for key in self._headers}
        ours = {'content-type': 'application/json', 'accept': 'text/event-stream' if stream else '*/*', **credentials}
        headers = {**{key: value for key, value in ours.items() if key not in own}, **self._headers}
        return Target(joined(url + verb, query), headers)


class GoogleAI(_Google):
    """Models named `googleai/…` of the Gemini API, such as `googleai/gemini-2.5-pro` (ai.google.dev/gemini-api).

    The key is `api_key`, or GEMINI_API_KEY, or GOOGLE_API_KEY, read when a model is first used; a server on this machine needs
    none. The address is `base_url`, or GOOGLE_GEMINI_BASE_URL; the version (`/v1beta`) is added where it has none. `headers` and
    `query` are added to every call; `http` holds timeouts, proxy and TLS. Options of one call that only Google has are
    `provider_options['google']`, checked: see `GoogleOptions`.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        name: str = 'googleai',
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        http: HttpSettings = _HTTP,
        codec: Codec | None = None,
        transport: Transport | None = None,
    ) -> None:
        super().__init__(name, base_url, headers, query, codec, transport or AiohttpTransport(http))
        self._api_key = api_key

    async def _aim(self, model: str, stream: bool) -> Target:
        base_url = self._url_from('GOOGLE_GEMINI_BASE_URL', GEMINI_URL)
        key = (
            None if _has_credentials(self._headers) else credential(self._api_key, KEY_VARIABLES, 'GoogleAI', base_url)
        )
        url = f'{_versioned(base_url, "v1beta")}/{model_path(model)}'
        return self._target(url, {'x-goog-api-key': key} if key else {}, stream=stream)


class VertexAI(_Google):
    """Models named `vertexai/…` of Vertex AI (docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference).

    `project` and `location` are these arguments, or GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION, or the project of the
    credentials and `global`. `credentials` is an object of google-auth; left out, they are Google's application default
    credentials, found when a model is first used. `api_key` uses a key instead of them (express mode, which needs no project).
    The address is `base_url`, or GOOGLE_VERTEX_BASE_URL, or that of the location; a server on this machine needs neither
    project nor credentials. Needs `pip install 'lamella[vertex]'` unless a key is given.
    """

    def __init__(
        self,
        project: str | None = None,
        location: str | None = None,
        credentials: Any = None,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        name: str = 'vertexai',
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        http: HttpSettings = _HTTP,
        codec: Codec | None = None,
        transport: Transport | None = None,
    ) -> None:
        if api_key is not None and credentials is not None:
            raise ConfigError('VertexAI has both api_key= and credentials=: give one of them')
        if location is not None:
            _checked_location(location, 'location')
        super().__init__(name, base_url, headers, query, codec, transport or AiohttpTransport(http))
        self._project, self._location, self._api_key = project, location, api_key
        self._tokens = Tokens(credentials)
        self._credentials_given = credentials is not None

    async def _aim(self, model: str, stream: bool) -> Target:
        location = self._location or os.environ.get('GOOGLE_CLOUD_LOCATION') or 'global'
        _checked_location(location, 'GOOGLE_CLOUD_LOCATION')
        base_url = self._url_from('GOOGLE_VERTEX_BASE_URL', vertex_url(location))
        headers = await self._authorized(base_url)
        path = vertex_path(model, self._project_of(base_url), location)
        return self._target(f'{_versioned(base_url, "v1beta1")}/{path}', headers, stream=stream)

    def _embedding_method(self, model: str) -> tuple[str, EmbeddingCodec, EmbeddingInfo]:
        """Gemini's own embedding models take one text at a time here; the others 250, of 20,000 tokens together
        (docs.cloud.google.com/vertex-ai/generative-ai/docs/embeddings/get-text-embeddings)."""
        if 'gemini' in model.rpartition('/')[2]:
            return 'embedContent', GeminiContentCodec(also=(self.name,), config=True), EmbeddingInfo(max_batch=1)
        return 'predict', VertexPredictCodec(also=(self.name,)), EmbeddingInfo(max_batch=250, max_batch_bytes=20_000)

    async def _authorized(self, base_url: str) -> Mapping[str, str]:
        if self._api_key is not None:
            return {'x-goog-api-key': self._api_key}
        if _has_credentials(self._headers) or (_is_local(base_url) and not self._credentials_given):
            return {}
        return await self._tokens.headers()

    def _project_of(self, base_url: str) -> str | None:
        """`None` where a call needs none: in express mode, and on this machine."""
        project = self._project or (
            None if self._api_key else os.environ.get('GOOGLE_CLOUD_PROJECT') or self._tokens.project
        )
        if project is None and self._api_key is None and not _is_local(base_url):
            raise LamellaError(
                'INVALID_ARGUMENT',
                'no project for VertexAI: set GOOGLE_CLOUD_PROJECT, or give VertexAI(project=…); the credentials name none',
            )
        return project


def model_path(model: str) -> str:
    """`gemini-x` is `models/gemini-x`; names with a collection (`tunedModels/…`) stay. Raises INVALID_ARGUMENT for `..`."""
    steps = model.split('/')
    if not model or '' in steps or '.' in steps or '..' in steps:
        raise LamellaError('INVALID_ARGUMENT', f"the model's name is {model!r}: give a name such as 'gemini-2.5-pro'")
    return quote(model if len(steps) > 1 else f'models/{model}', safe='/@')


def vertex_path(model: str, project: str | None, location: str) -> str:
    """The resource of a model: Google's own, another publisher's, or one's own endpoint."""
    path = model_path(model)
    if path.startswith('projects/'):
        return path
    if not path.startswith(('publishers/', 'endpoints/')):
        path = f'publishers/google/{path}'
    return path if project is None else f'projects/{quote(project, safe=":")}/locations/{location}/{path}'


def vertex_url(location: str) -> str:
    """docs.cloud.google.com/vertex-ai/generative-ai/docs/learn/locations."""
    if location == 'global':
        return 'https://aiplatform.googleapis.com'
    if location in _MULTI_REGIONS:
        return f'https://aiplatform.{location}.rep.googleapis.com'
    return f'https://{location}-aiplatform.googleapis.com'


def _checked_location(location: str, field: str) -> None:
    """It becomes part of the host's name, to which credentials go."""
    if not _LOCATION.fullmatch(location):
        raise ConfigError(f"{field}={location!r}: give a location such as 'global' or 'europe-west4'")


def _versioned(base_url: str, version: str) -> str:
    return base_url if _HAS_VERSION.search(urlsplit(base_url).path) else f'{base_url}/{version}'


def _is_local(base_url: str) -> bool:
    return (urlsplit(base_url).hostname or '') in ('127.0.0.1', 'localhost', '::1')


def _has_credentials(headers: Mapping[str, str]) -> bool:
    return any(key.lower() in ('authorization', 'x-goog-api-key') for key in headers)


class Tokens:
    """Access tokens of Google credentials, fetched in a thread when the last is about to expire: once for all who wait.

    `project` is the one that the default credentials belong to, known after the first token.
    """

    def __init__(self, credentials: Any = None) -> None:
        self.project: str | None = None
        self._given = credentials
        self._credentials: Any = None
        self._lock = threading.Lock()  # not asyncio's: one plugin may serve several event loops

    def __repr__(self) -> str:
        return 'Tokens()'

    async def headers(self) -> Mapping[str, str]:
        """Raises ConfigError without google-auth, UNAUTHENTICATED without credentials or when they are refused."""
        credentials = self._credentials
        if credentials is None or not credentials.valid:
            credentials = await asyncio.to_thread(self._fresh)
        headers = {'authorization': f'Bearer {credentials.token}'}
        quota = getattr(credentials, 'quota_project_id', None)
        return {**headers, 'x-goog-user-project': quota} if quota else headers

    def _fresh(self) -> Any:
        auth, errors = load('google.auth', 'vertex'), load('google.auth.exceptions', 'vertex')
        with self._lock:
            try:
                if self._credentials is None:
                    self._credentials = self._found(auth)
                if not self._credentials.valid:
                    self._credentials.refresh(_token_request)
            except errors.GoogleAuthError as error:
                raise _refused(error, transient=isinstance(error, errors.TransportError)) from error
            return self._credentials

    def _found(self, auth: Any) -> Any:
        if self._given is None:
            found, self.project = auth.default(scopes=SCOPES)
            return found
        scoped = load('google.auth.credentials', 'vertex').with_scopes_if_required
        return scoped(self._given, SCOPES)


def _refused(error: Any, *, transient: bool) -> LamellaError:
    if transient or error.retryable:
        return LamellaError('UNAVAILABLE', f'no access token from Google: {redacted(str(error))}')
    return LamellaError(
        'UNAUTHENTICATED',
        f'no access token from Google: {redacted(str(error))}; run `gcloud auth application-default login`, set '
        'GOOGLE_APPLICATION_CREDENTIALS, or give VertexAI(credentials=…) or VertexAI(api_key=…)',
    )


def _token_request(
    url: str,
    method: str = 'GET',
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float | None = None,
    **unused: Any,
) -> Any:
    """The `google.auth.transport.Request` of google-auth, which leaves HTTP to its caller; it runs in a thread."""
    request = url_request.Request(checked_url(url, 'token_uri'), body, dict(headers or {}), method=method)
    try:
        with url_request.urlopen(request, timeout=timeout or _TOKEN_TIMEOUT_S) as answer:
            return SimpleNamespace(status=answer.status, headers=dict(answer.headers), data=answer.read())
    except url_error.HTTPError as answer:
        return SimpleNamespace(status=answer.code, headers=dict(answer.headers), data=answer.read())
    except (OSError, HTTPException) as error:
        raise load('google.auth.exceptions', 'vertex').TransportError(error) from error
