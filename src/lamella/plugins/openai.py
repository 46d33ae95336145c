"""OpenAI and every server that is compatible with it, over Chat Completions or the Responses API."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote_plus

from pydantic import BaseModel

from lamella.core.embedding import EmbeddingInfo, EmbeddingModel
from lamella.core.model import Model, ModelInfo
from lamella.core.plugin import Plugin
from lamella.plugins._http import AiohttpTransport, HttpSettings, Transport
from lamella.plugins._openai_options import OpenAIChatOptions, OpenAIEmbeddingOptions, OpenAIResponsesOptions
from lamella.plugins._wire_embedding import WireEmbeddingModel
from lamella.plugins._wire_model import Target, WireModel, checked_pairs, checked_url, credential, joined
from lamella.types import ConfigError
from lamella.wire.codec import Codec
from lamella.wire.openai_chat import OpenAIChatCodec
from lamella.wire.openai_embeddings import OpenAIEmbeddingCodec
from lamella.wire.openai_responses import OpenAIResponsesCodec

Api = Literal['chat', 'responses']
_PATHS: dict[str, str] = {'chat': '/chat/completions', 'responses': '/responses'}
_NO_WORD = re.compile(r'\W')
_OPTIONS: dict[str, type[BaseModel]] = {'chat': OpenAIChatOptions, 'responses': OpenAIResponsesOptions}
_NATIVE = ModelInfo(structured_output='native')
# platform.openai.com/docs/api-reference/embeddings/create: 2048 texts, and 300,000 tokens of all of them.
_BATCH = EmbeddingInfo(max_batch=2048, max_batch_bytes=300_000)


class OpenAI(Plugin):
    """Models named `openai/…`, or `name/…` for a second, compatible provider (`OpenAI(name='groq', base_url=…)`).

    The key is `api_key`, or OPENAI_API_KEY, read when a model is first used; the address is `base_url`, or OPENAI_BASE_URL.
    A provider with a name and an address of its own has its own variable too (GROQ_API_KEY): no key goes to another vendor.
    Azure: `base_url='https://….openai.azure.com/openai/v1'`, `headers={'api-key': …}`, `query={'api-version': …}`. `headers`
    and `query` are added to every call. `http` holds timeouts, proxy and TLS. `codec` is for servers with ways of their own.
    Options of one call that only this provider has are `provider_options[name]`, checked: see `OpenAIChatOptions` and
    `OpenAIResponsesOptions`. `embeddings` says how many texts one call may embed, where that is less than OpenAI takes.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        name: str = 'openai',
        api: Api = 'chat',
        organization: str | None = None,
        project: str | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        http: HttpSettings | None = None,
        codec: Codec | None = None,
        embeddings: EmbeddingInfo = _BATCH,
        transport: Transport | None = None,
    ) -> None:
        if api not in _PATHS:
            raise ConfigError(f"api={api!r}: use 'chat' or 'responses'")
        self.name, self._api_key, self._api = name, api_key, api
        self._base_url = None if base_url is None else checked_url(base_url)
        named = {'OpenAI-Organization': organization, 'OpenAI-Project': project}
        self._headers = {**{key: value for key, value in named.items() if value}, **checked_pairs(headers, 'headers')}
        self._query = {key: quote_plus(value) for key, value in checked_pairs(query, 'query').items()}
        self._codec = codec or (OpenAIChatCodec(name) if api == 'chat' else OpenAIResponsesCodec(name))
        self._embeddings = embeddings
        self._transport = transport or AiohttpTransport(http or HttpSettings())

    def __repr__(self) -> str:
        return f'OpenAI(name={self.name!r}, api={self._api!r}, base_url={self._base_url!r})'

    def model(self, name: str) -> Model:
        options = _OPTIONS[self._api]
        return WireModel(f'{self.name}/{name}', self._codec, self._transport, self._aim, _NATIVE, options)

    def embedding_model(self, name: str) -> EmbeddingModel:
        codec, keys = OpenAIEmbeddingCodec(self.name), (self.name,)
        full, info = f'{self.name}/{name}', self._embeddings
        return WireEmbeddingModel(full, codec, self._transport, self._aim_at_texts, info, OpenAIEmbeddingOptions, keys)

    async def _aim(self, model: str, stream: bool) -> Target:
        return self._target(_PATHS[self._api], 'text/event-stream' if stream else 'application/json')

    async def _aim_at_texts(self, model: str) -> Target:
        return self._target('/embeddings', 'application/json')

    def _target(self, path: str, accept: str) -> Target:
        base_url = self._base_url or checked_url(
            os.environ.get('OPENAI_BASE_URL') or 'https://api.openai.com/v1', 'OPENAI_BASE_URL'
        )
        headers = {'Content-Type': 'application/json', 'Accept': accept}
        if not {'api-key', 'authorization'} & {key.lower() for key in self._headers}:
            key = credential(self._api_key, (self._variable(),), 'OpenAI', base_url)
            headers |= {'Authorization': f'Bearer {key}'} if key else {}
        return Target(joined(base_url + path, self._query), {**headers, **self._headers})

    def _variable(self) -> str:
        if self.name == 'openai' or self._base_url is None:
            return 'OPENAI_API_KEY'
        return f'{_NO_WORD.sub("_", self.name).upper()}_API_KEY'

    async def aclose(self) -> None:
        await self._transport.aclose()
