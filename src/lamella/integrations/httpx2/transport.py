"""The transport: takes a client's requests, runs the layers around model calls, and answers in the client's protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import httpx2

from lamella.core.events import Sink
from lamella.core.middleware import BaseMiddleware
from lamella.core.plugin import Plugin
from lamella.core.stack import Stack
from lamella.engine.app import Lamella
from lamella.engine.stream import GenerateStream
from lamella.integrations.httpx2.embedding import EndpointEmbeddingModel, TextCall, TextRoute, Vendor, text_route_of
from lamella.integrations.httpx2.endpoint import Answer, Call, Context, EndpointModel, passed_on
from lamella.integrations.httpx2.routes import OPTION_KEYS, is_model_call, route_of
from lamella.integrations.httpx2.verbatim import Speaker, hands_on_parts, without_new_ref
from lamella.types import (
    ConfigError,
    GenerateResponse,
    LamellaError,
    ModelResponse,
    ResponseStarted,
    Restarted,
    StreamPart,
    ToolRequestPart,
)
from lamella.wire import crossing
from lamella.wire.codec import Codec, EmbeddingCodec

WARNINGS = 'x-lamella-warnings'
_LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)
_SSE = 'text/event-stream; charset=utf-8'
_JSON = 'application/json'
_NONE = httpx2.Headers()
_OF_TOOLS = frozenset(('tools', 'wrap_tool'))


class LamellaTransport(httpx2.AsyncBaseTransport, httpx2.BaseTransport):
    """Give it to `httpx2.AsyncClient(transport=…)` or `httpx2.Client(transport=…)`, and that to a vendor's client.

    `use` are the layers of every call; one that is only about tools is refused, since the client runs these. A model call is a
    POST to `…/chat/completions`, `…/responses`, `…/v1/messages`, `…:generateContent` or `…:streamGenerateContent`; everything
    else passes untouched. Turn the client's own retries off.

    `openai/…`, `anthropic/…`, `googleai/…` and `vertexai/…` are other models at the client's own endpoint, when it is that
    vendor's. `plugins` reach other vendors, each with its own credentials: what the client sent (key, headers, options) goes
    to its own endpoint alone, and what the other vendor's protocol cannot say is named in the header `x-lamella-warnings`.

    `inner` does the sending; left out, a client with the proxies of the environment, one for each event loop. `context` are
    the values that layers see, `sinks` receive every event. `include_usage` asks for the usage of streamed chats where the
    client does not, for layers that count it, without showing it to the client; `False` for servers that refuse it.
    """

    def __init__(
        self,
        *,
        use: Sequence[BaseMiddleware[Any] | Stack] = (),
        plugins: Sequence[Plugin] = (),
        inner: httpx2.AsyncBaseTransport | None = None,
        context: Mapping[str, Any] | None = None,
        sinks: Sequence[Sink] = (),
        include_usage: bool = True,
    ) -> None:
        if inner is not None and not isinstance(inner, httpx2.AsyncBaseTransport):
            raise ConfigError(f'inner is a {type(inner).__name__}: give an httpx2.AsyncBaseTransport')
        named = {plugin.name for plugin in plugins}
        self._ai = Lamella(
            plugins=[*plugins, *[Vendor(name) for name in OPTION_KEYS if name not in named]], use=use, sinks=sinks
        )
        if idle := [repr(layer) for layer in self._ai.stack.layers if layer._hooks and layer._hooks <= _OF_TOOLS]:
            raise ConfigError(f'use: {", ".join(idle)} would never act: the client runs its tools itself')
        self._passes_blocks = all(map(hands_on_parts, self._ai.stack.layers))
        self._plugins, self._inner, self._context = tuple(plugins), inner, dict(context or {})
        self._include_usage = include_usage
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx2.AsyncClient] = WeakKeyDictionary()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        texts = text_route_of(request.method, request.url.path)
        if texts is not None and 'wrap_embed' in self._ai.stack.hooks:
            return await self._embedded(request, texts)
        if not is_model_call(request.method, request.url.path):
            return _untouched(await self._send(request))
        body = await request.aread()
        route = route_of(request.url.path, request.headers, body, include_usage=self._include_usage)
        if route is None:
            return _untouched(await self._send(request))
        try:
            decoded = route.codec.decode_request(body, model=route.model, stream=route.stream)
            if route.stream and request.url.params.get('alt') != 'sse':
                raise LamellaError('INVALID_ARGUMENT', 'LamellaTransport streams server-sent events only: add ?alt=sse')
        except LamellaError as error:
            return _encoded_error(route.codec, error)
        call = Call(request, body, route, decoded, crossing.received(decoded, route.codec), self._send)
        return await (self._streamed(call) if decoded.stream else self._whole(call))

    async def _embedded(self, request: httpx2.Request, route: TextRoute) -> httpx2.Response:
        body = await request.aread()
        try:
            decoded = route.codec.decode_request(body, model=route.model)
        except LamellaError as error:
            return _encoded_error(route.codec, error) if route.is_certain else _untouched(await self._send(request))
        asked = decoded.request
        if not asked.texts:  # the vendor's affair: no layer has anything to look at
            return _untouched(await self._send(request))
        call = TextCall(request, body, route, decoded.model, asked, self._send)
        try:
            response = await self._ai.embed(
                asked.texts,
                model=EndpointEmbeddingModel(route.provider, decoded.model),
                dimensions=asked.dimensions,
                provider_options=asked.provider_options,
                context=Context.of(self._context, call),
            )
        except LamellaError as error:
            return _failed(call, error)
        if (answer := call.said(response)) is not None:
            content_type = answer.headers.get('content-type', _JSON)
            headers = _headers(answer.headers, content_type, response.warnings)
            return httpx2.Response(answer.status, headers=headers, content=answer.body)
        content = route.codec.encode_response(response, model=_bare(response.model or decoded.model), request=asked)
        return httpx2.Response(200, headers=_headers(_NONE, _JSON, response.warnings), content=content)

    async def _whole(self, call: Call) -> httpx2.Response:
        model = EndpointModel(call.route.provider, call.decoded.model)
        context = Context.of(self._context, call)
        try:
            response = await self._ai.call_model(call.request, model=model, context=context)
        except LamellaError as error:
            return _failed(call, error)
        return _answered(call, response)

    async def _streamed(self, call: Call) -> httpx2.Response:
        """Reads up to the first content before answering, so that a failure before it has its proper status."""
        model = EndpointModel(call.route.provider, call.decoded.model)
        context = Context.of(self._context, call)
        stream = self._ai.call_model_stream(call.request, model=model, context=context)
        parts = aiter(stream)
        try:
            opening = await _opening(parts)
            model_name = next((part.model for part in opening if isinstance(part, ResponseStarted)), None)
            encoder = call.codec.stream_encoder(model=_short(model_name, call), request=call.request)
            speaker = Speaker(encoder, call.tape if self._passes_blocks or not call.route.has_blocks else None)
            said = b''.join([speaker.say(part) for part in opening])
        except LamellaError as error:
            await stream.aclose()
            return _failed(call, error)
        except BaseException:
            await stream.aclose()
            raise
        headers = _headers(call.headers if speaker.is_verbatim else _NONE, _SSE)
        return httpx2.Response(200, headers=headers, stream=_Body(stream, _encoded(said, parts, speaker)))

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = httpx2.AsyncClient(transport=self._inner, limits=_LIMITS)
        return await client.send(request, stream=True, auth=None)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        response = self._ai.sync.run(self.handle_async_request(request))
        if not isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = _SyncBody(response.stream, self._ai.sync.run)
        return response

    async def aclose(self) -> None:
        """Closes the connections of this event loop, and those of the plugins."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()
        elif self._inner is not None:
            await self._inner.aclose()
        for plugin in self._plugins:
            await plugin.aclose()

    def close(self) -> None:
        self._ai.sync.run(self.aclose())
        self._ai.sync.close()


def _untouched(response: httpx2.Response) -> httpx2.Response:
    """As the network gave it: the client decodes it, and reads it as it likes."""
    return httpx2.Response(
        response.status_code, headers=response.headers, stream=response.stream, extensions=response.extensions
    )


async def _opening(parts: AsyncIterator[StreamPart]) -> list[StreamPart]:
    """The parts up to the first with content; an attempt that was taken back before it leaves no trace."""
    opening: list[StreamPart] = []
    async for part in parts:
        opening = [*opening, part] if not isinstance(part, Restarted) else []
        if not isinstance(part, (ResponseStarted, Restarted)):
            break
    return opening


def _headers(own: httpx2.Headers, content_type: str, warnings: Sequence[str] = ()) -> list[tuple[bytes, bytes]]:
    """`own` are the vendor's. Warnings go as JSON, since header values have no other letters than those of ASCII."""
    kept = [(name, value) for name, value in passed_on(own) if name.lower() != b'content-type']
    warned = [(WARNINGS.encode(), json.dumps(list(warnings)).encode())] if warnings else []
    return [*kept, (b'content-type', content_type.encode()), *warned]


def _answered(call: Call, response: GenerateResponse) -> httpx2.Response:
    said: ModelResponse = response.turns[-1] if response.turns else response
    came = [answer for answer in call.answers if isinstance(answer.means, ModelResponse)]
    for answer in came[::-1]:
        if _says_the_same(said, answer, call):
            headers = _headers(answer.headers, answer.headers.get('content-type', _JSON), said.warnings)
            return httpx2.Response(answer.status, headers=headers, content=answer.body)
    headers = _headers(came[-1].headers if came else _NONE, _JSON, said.warnings)
    return httpx2.Response(200, headers=headers, content=_encode(said, call))


def _says_the_same(said: ModelResponse, answer: Answer, call: Call) -> bool:
    """Whether the layers left the answer as it is, as far as this protocol can tell."""
    came = answer.means
    if not isinstance(came, ModelResponse):
        return False
    return said is came or _encode(_without_new_refs(said, came), call) == _encode(came, call)


def _without_new_refs(said: ModelResponse, came: ModelResponse) -> ModelResponse:
    ours, theirs = said.message.content, came.message.content
    if len(ours) != len(theirs):
        return said
    content = [
        without_new_ref(part, before)
        if isinstance(part, ToolRequestPart) and isinstance(before, ToolRequestPart)
        else part
        for part, before in zip(ours, theirs, strict=True)
    ]
    return said.replace(message=said.message.replace(content=tuple(content)))


def _encode(response: ModelResponse, call: Call) -> bytes:
    return call.codec.encode_response(response, model=_short(response.model, call), request=call.request)


def _short(model: str | None, call: Call) -> str:
    """The model that answered as its vendor calls it, without the provider's name in front."""
    return call.decoded.model if model is None else _bare(model)


def _bare(model: str) -> str:
    return model.partition('/')[2] or model


def _failed(call: Call | TextCall, error: LamellaError) -> httpx2.Response:
    """What the client's own endpoint said, or the same in its words; a failed connection stays one."""
    if isinstance(error.__cause__, httpx2.TransportError):
        raise error.__cause__
    for answer in call.answers:
        if answer.means is error:
            return httpx2.Response(answer.status, headers=passed_on(answer.headers), content=answer.body)
    return _encoded_error(call.codec, error)


def _encoded_error(codec: Codec | EmbeddingCodec, error: LamellaError) -> httpx2.Response:
    encoded = codec.encode_error(error)
    return httpx2.Response(encoded.status, headers={'content-type': _JSON, **encoded.headers}, content=encoded.body)


async def _encoded(said: bytes, parts: AsyncIterator[StreamPart], speaker: Speaker) -> AsyncGenerator[bytes, None]:
    try:
        if said:
            yield said
        async for part in parts:
            if isinstance(part, Restarted):
                raise LamellaError('ABORTED', f'the answer was started over after text was sent: {part.reason}')
            if data := speaker.say(part):
                yield data
        if data := speaker.finish():
            yield data
    except LamellaError as error:
        if isinstance(error.__cause__, httpx2.TransportError):
            raise error.__cause__ from None
        yield speaker.error(error)


class _Body(httpx2.AsyncByteStream):
    """An answer's bytes as they are made; closing it cancels the call."""

    def __init__(self, stream: GenerateStream, chunks: AsyncGenerator[bytes, None]) -> None:
        self._stream, self._chunks = stream, chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._chunks:
            yield chunk

    async def aclose(self) -> None:
        await self._chunks.aclose()
        await self._stream.aclose()


class _SyncBody(httpx2.SyncByteStream):
    """The same for a client that is not async."""

    def __init__(self, body: Any, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._body, self._run = body, run

    def __iter__(self) -> Iterator[bytes]:
        chunks = aiter(self._body)
        while (chunk := self._run(_next(chunks))) is not None:
            yield chunk

    def close(self) -> None:
        self._run(self._body.aclose())


async def _next(chunks: AsyncIterator[bytes]) -> bytes | None:
    return await anext(chunks, None)
