"""Claude, and every server that is compatible with the Anthropic Messages API."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from pydantic import BaseModel

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.model import Model, ModelInfo
from lamella.core.plugin import Plugin
from lamella.plugins._http import AiohttpTransport, HttpSettings, Transport
from lamella.plugins._options import checked
from lamella.plugins._wire_model import Target, WireModel, checked_pairs, checked_url, credential
from lamella.types import ConfigError, Message, ModelRequest, ModelResponse, StreamPart
from lamella.wire.anthropic import DEFAULT_VERSION, AnthropicCodec

Ctx = GenerateMiddlewareContext
_KEY = 'anthropic'
_URL = 'https://api.anthropic.com'
_WISH = 'Answer with one JSON value and nothing else: no prose, no code fence.'
_OBJECT = dict[str, Any]
_HTTP = HttpSettings()


class AnthropicOptions(BaseModel):
    """`provider_options['anthropic']`: the fields of the request that Lamella has no own setting for, by the API's names
    (platform.claude.com/docs/en/api/messages/create), merged into the body as they are given. `None` takes a field out.

    `tools` are the vendor's own (web search, code execution …), beside the request's. `betas` go into the header
    `anthropic-beta`. `extra_body` holds fields that are newer than this list.
    """

    betas: list[str] | None = None
    billing_policy: _OBJECT | None = None
    cache_control: _OBJECT | None = None
    compaction: _OBJECT | None = None
    container: str | _OBJECT | None = None
    context_management: _OBJECT | None = None
    diagnostics: _OBJECT | None = None
    extra_body: _OBJECT | None = None
    fallback_credit_token: Any = None
    fallbacks: Any = None
    inference_geo: str | None = None
    max_tokens: int | None = None
    mcp_servers: list[_OBJECT] | None = None
    metadata: _OBJECT | None = None
    output_config: _OBJECT | None = None
    service_tier: Literal['auto', 'standard_only'] | None = None
    speed: Literal['standard', 'fast'] | None = None
    stop_sequences: list[str] | None = None
    system: str | list[_OBJECT] | None = None
    temperature: float | None = None
    thinking: _OBJECT | None = None
    thread: _OBJECT | None = None
    tool_choice: _OBJECT | None = None
    tools: list[_OBJECT] | None = None
    top_k: int | None = None
    top_p: float | None = None


class Anthropic(Plugin):
    """Models named `anthropic/…`, or `name/…` for a second, compatible provider.

    The key is `api_key` or ANTHROPIC_API_KEY (sent as `x-api-key`), or else `auth_token` or ANTHROPIC_AUTH_TOKEN (sent as
    bearer), read when a model is first used; the address is `base_url` or ANTHROPIC_BASE_URL. `version` is the
    `anthropic-version`: from 2026-10-21 on no model takes temperature, top_p and top_k, which is why the default is the one
    before. `beta` are the vendor's names of beta features for every call; those of one call are
    `provider_options['anthropic']['betas']` (`AnthropicOptions` lists all options). `headers` are added to every call, `http`
    holds timeouts, proxy and TLS.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        auth_token: str | None = None,
        name: str = _KEY,
        version: str = DEFAULT_VERSION,
        beta: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        http: HttpSettings = _HTTP,
        transport: Transport | None = None,
    ) -> None:
        if api_key is not None and auth_token is not None:
            raise ConfigError('Anthropic: give api_key= or auth_token=, not both')
        if isinstance(beta, str):
            raise ConfigError(f'Anthropic: beta={beta!r} is one string, give a list: beta=[{beta!r}]')
        self.name, self._api_key, self._auth_token = name, api_key, auth_token
        self._base_url = None if base_url is None else checked_url(base_url)
        self._version, self._beta, self._headers = version, tuple(beta), checked_pairs(headers, 'headers')
        self._codec = AnthropicCodec(version)
        self._transport = transport or AiohttpTransport(http)

    def __repr__(self) -> str:
        return f'Anthropic(name={self.name!r}, base_url={self._base_url!r}, version={self._version!r})'

    def model(self, name: str) -> Model:
        return AnthropicModel(partial(self._wired, name))

    def _wired(self, name: str, betas: tuple[str, ...] = ()) -> WireModel:
        native = self._codec.has_structured_output(name)
        info = ModelInfo(structured_output='native' if native else 'instructions')
        return WireModel(f'{self.name}/{name}', self._codec, self._transport, partial(self._aim, betas), info)

    async def _aim(self, betas: tuple[str, ...], model: str, stream: bool) -> Target:
        base_url = self._base_url or checked_url(os.environ.get('ANTHROPIC_BASE_URL') or _URL, 'ANTHROPIC_BASE_URL')
        headers = {
            'Content-Type': 'application/json',
            'Accept': 'text/event-stream' if stream else 'application/json',
            'anthropic-version': self._version,
        }
        if features := tuple(dict.fromkeys((*self._beta, *betas))):
            headers['anthropic-beta'] = ','.join(features)
        if not {'x-api-key', 'authorization'} & {key.lower() for key in self._headers}:
            headers.update(self._credential(base_url))
        return Target(f'{base_url.removesuffix("/v1")}/v1/messages', {**headers, **self._headers})

    def _credential(self, base_url: str) -> dict[str, str]:
        has_key = self._api_key or (not self._auth_token and os.environ.get('ANTHROPIC_API_KEY'))
        token = None if has_key else self._auth_token or os.environ.get('ANTHROPIC_AUTH_TOKEN')
        if token:
            return {'Authorization': f'Bearer {token}'}
        key = credential(self._api_key, ('ANTHROPIC_API_KEY', 'ANTHROPIC_AUTH_TOKEN'), 'Anthropic', base_url)
        return {'x-api-key': key} if key else {}

    async def aclose(self) -> None:
        await self._transport.aclose()


class AnthropicModel(Model):
    """One model of Anthropic. `wire(betas)` makes the model as it is spoken to.

    Raises ConfigError for options that the API does not have.
    """

    def __init__(self, wire: Callable[..., WireModel]) -> None:
        self._wire, self._plain = wire, wire()
        self.name, self.info = self._plain.name, self._plain.info

    def __repr__(self) -> str:
        return f'AnthropicModel({self.name!r})'

    async def generate(self, request: ModelRequest, ctx: Ctx) -> ModelResponse:
        model, request = self._prepared(request)
        return await model.generate(request, ctx)

    def stream(self, request: ModelRequest, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        model, request = self._prepared(request)
        return model.stream(request, ctx)

    def _prepared(self, request: ModelRequest) -> tuple[WireModel, ModelRequest]:
        request = checked(self._asked_in_words(request), (_KEY,), AnthropicOptions)
        body = request.provider_options.get(_KEY)
        if not body or 'betas' not in body:
            return self._plain, request
        rest = {name: value for name, value in body.items() if name != 'betas'}
        request = request.replace(provider_options={**request.provider_options, _KEY: rest})
        return self._wire(tuple(body['betas'])) if body['betas'] else self._plain, request

    def _asked_in_words(self, request: ModelRequest) -> ModelRequest:
        """The API holds answers to a schema, but not to JSON in general; older models hold them to nothing."""
        output = request.output
        if output is None or output.format != 'json':
            return request
        if self.info.structured_output == 'instructions':
            return request.replace(output=None)
        if output.schema is None:
            return request.replace(output=None, messages=(*request.messages, Message.system(_WISH)))
        return request
