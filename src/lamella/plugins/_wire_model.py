"""A model behind a wire protocol: one codec, one transport, and an address with credentials for each call."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.model import Model, ModelInfo
from lamella.plugins._http import Answer, Transport
from lamella.types import ConfigError, Data, Finished, LamellaError, ModelRequest, ModelResponse, StreamPart
from lamella.wire import crossing
from lamella.wire.codec import Codec, StreamDecoder
from lamella.wire.sse import SSEDecoder

Ctx = GenerateMiddlewareContext
_CREDENTIALS = ('authorization', 'api-key', 'x-api-key', 'x-goog-api-key')
_SHORTEST_KEY = 6
_LOOPBACK = ('127.0.0.1', 'localhost', '::1')


class Target(Data, frozen=True):
    """Where a call goes. Made anew for each call, since tokens expire. The headers hold the credential."""

    url: str
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f'Target({self.url!r})'


Aim = Callable[[str, bool], Awaitable[Target]]


class WireModel(Model):
    """Speaks one protocol to one provider. `aim(model, stream)` gives the address and headers of a call."""

    events: type[SSEDecoder] = SSEDecoder

    def __init__(self, name: str, codec: Codec, transport: Transport, aim: Aim, info: ModelInfo) -> None:
        self.name, self.info = name, info
        self._short = name.partition('/')[2]
        self._codec, self._transport, self._aim = codec, transport, aim

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.name!r})'

    async def generate(self, request: ModelRequest, ctx: Ctx) -> ModelResponse:
        encoded = crossing.encode_request(self._codec, request, self._short, stream=False)
        target = await self._aim(self._short, False)
        async with self._transport.post(target.url, target.headers, encoded.body) as answer:
            body = await answer.read()
            self._refuse(answer, body, target, ctx)
        response = self._codec.decode_response(body)
        return response.replace(warnings=(*encoded.warnings, *response.warnings)) if encoded.warnings else response

    async def stream(self, request: ModelRequest, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        encoded = crossing.encode_request(self._codec, request, self._short, stream=True)
        target = await self._aim(self._short, True)
        last: Finished | None = None
        async with self._transport.post(target.url, target.headers, encoded.body) as answer:
            if answer.status >= 300:
                self._refuse(answer, await answer.read(), target, ctx)
            try:
                async for part in _parts(answer, self._codec.stream_decoder(), self.events()):
                    if type(part) is Finished:
                        last = part  # given when the body is at its end, so that the connection can be used again
                    else:
                        yield part
            except LamellaError:
                if last is None:
                    raise
        if last is not None:
            yield last.replace(warnings=(*encoded.warnings, *last.warnings)) if encoded.warnings else last

    def _refuse(self, answer: Answer, body: bytes, target: Target, ctx: Ctx) -> None:
        """Raise what the provider said, when it said no."""
        if answer.status < 300:
            return
        if answer.status < 400:
            raise LamellaError('FAILED_PRECONDITION', f'{self.name}: redirected (HTTP {answer.status}); check base_url')
        body = _without_credentials(body, target.headers)
        raise self._codec.decode_error(answer.status, answer.headers, body, now=ctx.clock.time())


def _without_credentials(body: bytes, headers: Mapping[str, str]) -> bytes:
    """Providers repeat the key that they refuse, and not every key looks like one."""
    for name, value in headers.items():
        secret = value.rpartition(' ')[2].encode()
        if name.lower() in _CREDENTIALS and len(secret) >= _SHORTEST_KEY:
            body = body.replace(secret, b'[redacted]')
    return body


async def _parts(answer: Answer, decoder: StreamDecoder, events: SSEDecoder) -> AsyncGenerator[StreamPart, None]:
    """The parts of a body of server-sent events."""
    async for piece in answer.pieces():
        for event in events.feed(piece):
            for part in decoder.feed(event):
                yield part
    for event in events.finish():
        for part in decoder.feed(event):
            yield part
    for part in decoder.finish():
        yield part


def credential(given: str | None, variables: tuple[str, ...], plugin: str, base_url: str) -> str | None:
    """The key that was given or is in the environment. Read when a model is first used.

    Raises UNAUTHENTICATED naming the variables and the argument; a server on this machine needs no key.
    """
    found = given or next((value for name in variables if (value := os.environ.get(name))), None)
    if found:
        return found
    if (urlsplit(base_url).hostname or '') in _LOOPBACK:
        return None
    raise LamellaError(
        'UNAUTHENTICATED', f'no API key for {plugin}: set {" or ".join(variables)}, or give {plugin}(api_key=…)'
    )


def checked_url(base_url: Any, field: str = 'base_url') -> str:
    """An http(s) address without a slash at its end. Raises ConfigError."""
    parts = urlsplit(base_url) if isinstance(base_url, str) else None
    if parts is None or parts.scheme not in ('http', 'https') or not parts.hostname:
        raise ConfigError(f'{field}={base_url!r}: give an address such as https://api.example.com/v1')
    return str(base_url).rstrip('/')


def joined(url: str, query: Mapping[str, Any]) -> str:
    """The address with query parameters."""
    parts = urlsplit(url)
    pairs = [f'{key}={value}' for key, value in query.items()]
    text = '&'.join([*filter(None, [parts.query]), *pairs])
    return parts._replace(query=text).geturl()
