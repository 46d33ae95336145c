"""Models by way of LiteLLM (docs.litellm.ai), which knows a hundred providers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Literal

import msgspec

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.embedding import EmbeddingInfo, EmbeddingModel
from lamella.core.model import Model, ModelInfo
from lamella.core.plugin import Plugin
from lamella.plugins._http import load
from lamella.types import (
    ConfigError,
    EmbeddingRequest,
    EmbeddingResponse,
    Finished,
    LamellaError,
    ModelRequest,
    ModelResponse,
    StreamPart,
)
from lamella.wire.errors import classify, redacted, retry_after_s
from lamella.wire.openai_chat import OpenAIChatCodec
from lamella.wire.openai_embeddings import OpenAIEmbeddingCodec
from lamella.wire.sse import Event

_OURS = frozenset(
    ('model', 'messages', 'stream', 'num_retries', 'max_retries', 'fallbacks', 'context_window_fallback_dict')
)
_FOREIGN = ('litellm', 'openai', 'httpx', 'httpx2', 'httpcore', 'aiohttp')
_BATCH = EmbeddingInfo(max_batch=96, max_batch_bytes=300_000)  # what most of its providers take
_WHY = 'requests set these themselves, and retries and fallbacks are the layers Retry and Fallback'
_MAX_MESSAGE = 2000
# One call is one attempt. Without the last, LiteLLM asks for the package mcp whenever tools are given, and may run tools itself.
_ALONE = {'num_retries': 0, 'max_retries': 0, '_skip_mcp_handler': True}


class _Zero(int):
    """No retries, where LiteLLM takes a plain 0 for "not said" and retries twice."""

    def __bool__(self) -> bool:
        return True


_ALONE_EMBEDDING = {'num_retries': 0, 'max_retries': _Zero(0)}


class LiteLLM(Plugin):
    """`litellm/<provider>/<model>`: everything after the first slash is LiteLLM's own name of the model.

    Keys and base URLs are LiteLLM's own (`OPENAI_API_KEY`, `AZURE_API_BASE` …) unless given here; `timeout_s` is handed on as
    its timeout, and `options` are any further arguments of `litellm.acompletion` for every call (`api_version`,
    `drop_params=True` …). Those of one call are `provider_options['litellm']`. LiteLLM's own retries and fallbacks are off:
    `Retry` and `Fallback` do that, and see every attempt. `embeddings` says how many texts one call may embed.

    LiteLLM takes seconds to import, so that happens when a model is first used, in a thread. It then would download its
    table of prices, which `LITELLM_LOCAL_MODEL_COST_MAP` prevents unless you set it to `False` yourself.
    """

    name = 'litellm'

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout_s: float | None = None,
        structured_output: Literal['native', 'instructions'] = 'instructions',
        options: Mapping[str, Any] | None = None,
        embeddings: EmbeddingInfo = _BATCH,
    ) -> None:
        given = {'api_key': api_key, 'base_url': base_url, 'timeout': timeout_s}
        self._options = {**(options or {}), **{name: value for name, value in given.items() if value is not None}}
        if refused := sorted(self._options.keys() & _OURS):
            raise ConfigError(f'LiteLLM(options=…) has {", ".join(refused)}: {_WHY}')
        self._info = ModelInfo(structured_output=structured_output)
        self._embeddings = embeddings

    def __repr__(self) -> str:
        return 'LiteLLM()'

    def model(self, name: str) -> Model:
        return LiteLLMModel(name, self._options, self._info)

    def embedding_model(self, name: str) -> EmbeddingModel:
        return LiteLLMEmbeddingModel(name, self._options, self._embeddings)


class LiteLLMModel(Model):
    """One model of LiteLLM. Its answers and errors go through the shapes of OpenAI's Chat Completions."""

    def __init__(self, name: str, options: Mapping[str, Any], info: ModelInfo) -> None:
        self.name = f'litellm/{name}'
        self.info = info
        self._model = name
        self._options = options
        self._codec = OpenAIChatCodec('litellm', max_tokens_field='max_tokens')
        self._litellm: Any = None

    def __repr__(self) -> str:
        return f'LiteLLMModel({self.name!r})'

    async def generate(self, request: ModelRequest, ctx: GenerateMiddlewareContext) -> ModelResponse:
        answer, warnings = await self._ask(request, ctx, stream=False)
        response = self._codec.decode_response(answer.model_dump_json().encode())
        return response.replace(warnings=(*warnings, *response.warnings)) if warnings else response

    async def stream(self, request: ModelRequest, ctx: GenerateMiddlewareContext) -> AsyncGenerator[StreamPart, None]:
        chunks, warnings = await self._ask(request, ctx, stream=True)
        decoder = self._codec.stream_decoder()
        try:
            async with aclosing(_translated(chunks, self.name, ctx)) as items:
                async for chunk in items:
                    for part in decoder.feed(Event(data=chunk.model_dump_json())):
                        yield part
            for part in decoder.finish():
                yield part.replace(warnings=(*warnings, *part.warnings)) if type(part) is Finished else part
        finally:
            await chunks.aclose()

    async def _ask(
        self, request: ModelRequest, ctx: GenerateMiddlewareContext, *, stream: bool
    ) -> tuple[Any, tuple[str, ...]]:
        if self.info.structured_output == 'instructions':
            request = request.replace(output=None)  # asked for in words already
        encoded = self._codec.encode_request(request, self._model, stream=stream)
        arguments = _arguments(encoded.body, ('model', 'messages', 'stream'))
        if self._litellm is None:
            self._litellm = await _load()
        try:
            answer = await self._litellm.acompletion(**{**self._options, **arguments, **_ALONE})
        except Exception as error:
            if not _is_foreign(error):
                raise
            raise _error(error, self.name, ctx) from error
        return answer, encoded.warnings


class LiteLLMEmbeddingModel(EmbeddingModel):
    """One embedding model of LiteLLM. Vectors are asked for as numbers, which all of its providers have. The address has another
    name here than where answers are asked for."""

    def __init__(self, name: str, options: Mapping[str, Any], info: EmbeddingInfo) -> None:
        self.name, self.info = f'litellm/{name}', info
        self._model = name
        self._options = {'api_base' if key == 'base_url' else key: value for key, value in options.items()}
        self._codec = OpenAIEmbeddingCodec('litellm')
        self._litellm: Any = None

    def __repr__(self) -> str:
        return f'LiteLLMEmbeddingModel({self.name!r})'

    async def embed(self, request: EmbeddingRequest, ctx: GenerateMiddlewareContext) -> EmbeddingResponse:
        arguments = _arguments(self._codec.encode_request(request, self._model).body, ('model', 'input'))
        if 'encoding_format' not in (request.provider_options.get('litellm') or {}):
            del arguments['encoding_format']
        if self._litellm is None:
            self._litellm = await _load()
        try:
            answer = await self._litellm.aembedding(**{**self._options, **arguments, **_ALONE_EMBEDDING})
        except Exception as error:
            if not _is_foreign(error):
                raise
            raise _error(error, self.name, ctx) from error
        return self._codec.decode_response(answer.model_dump_json().encode()).replace(model=self.name)


def _arguments(body: bytes, ours: tuple[str, ...]) -> dict[str, Any]:
    """The arguments of LiteLLM's functions. Raises INVALID_ARGUMENT for options that are not the caller's."""
    arguments: dict[str, Any] = msgspec.json.decode(body)
    if refused := sorted((arguments.keys() & _OURS) - set(ours)):
        raise LamellaError('INVALID_ARGUMENT', f"provider_options['litellm'] has {', '.join(refused)}: {_WHY}")
    return arguments


async def _load() -> Any:
    """The module, imported in a thread. Raises ConfigError when it is not installed."""
    os.environ.setdefault('LITELLM_LOCAL_MODEL_COST_MAP', 'True')
    module = await asyncio.to_thread(load, 'litellm', 'litellm')
    vars(module)['suppress_debug_info'] = True  # it prints an advertisement with every error
    return module


async def _translated(
    chunks: AsyncIterator[Any], model: str, ctx: GenerateMiddlewareContext
) -> AsyncGenerator[Any, None]:
    try:
        async for chunk in chunks:
            yield chunk
    except Exception as error:
        if not _is_foreign(error):
            raise
        raise _error(error, model, ctx) from error


def _is_foreign(error: Exception) -> bool:
    """Whether the error comes from LiteLLM or what it stands on; a mistake in our own code does not."""
    by_module = type(error).__module__.partition('.')[0] in _FOREIGN
    return by_module or isinstance(getattr(error, 'status_code', None), int) or isinstance(error, ImportError)


def _error(error: Exception, model: str, ctx: GenerateMiddlewareContext) -> LamellaError:
    """LiteLLM's exception by its status code (docs.litellm.ai/docs/exception_mapping)."""
    said, _, _ = str(getattr(error, 'message', '') or error).partition('\nTraceback (most recent call last)')
    message = redacted(said)[:_MAX_MESSAGE]
    http_status, headers = _http_status(error, message), _headers(error)
    if (http_status or 500) >= 500 and _lacks_a_package(error):
        return LamellaError('FAILED_PRECONDITION', f'{model}: LiteLLM needs a package that is not installed: {message}')
    words = {'type': _word(error, 'type'), 'code': _word(error, 'code')}
    facts = {
        'http_status': http_status,
        'provider': _word(error, 'llm_provider'),
        'type': type(error).__name__,
        'request_id': headers.get('x-request-id') or headers.get('request-id'),
    }
    return LamellaError(
        'UNAVAILABLE' if http_status is None else classify(http_status, **words),
        f'{model}: {message}',
        details={name: fact for name, fact in facts.items() if fact},
        retry_after_s=retry_after_s(headers, now=ctx.clock.time(), http_status=http_status),
    )


def _http_status(error: Exception, message: str) -> int | None:
    """`None` when nobody answered, which LiteLLM calls a 500, as it does a missing key."""
    if 'Missing credentials' in message or 'api_key client option must be set' in message:
        return 401
    status = getattr(error, 'status_code', None)
    return status if isinstance(status, int) and type(error).__name__ != 'APIConnectionError' else None


def _lacks_a_package(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ImportError):
        error = error.__cause__ or error.__context__
    return error is not None


def _headers(error: Exception) -> dict[str, str]:
    """Those of the provider's answer: on the side in newer versions, in the response in older ones."""
    on_the_side = getattr(error, 'litellm_response_headers', None)
    return dict(on_the_side or getattr(getattr(error, 'response', None), 'headers', None) or {})


def _word(error: Exception, name: str) -> str | None:
    value = getattr(error, name, None)
    return value if isinstance(value, str) else None
