"""A model behind a wire protocol: one codec, one transport, and an address with credentials for each call."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.model import Model, ModelInfo
from lamella.plugins._http import LOOPBACK, Answer, Transport
from lamella.plugins._options import checked
from lamella.types import (
    ConfigError,
    Data,
    Finished,
    LamellaError,
    ModelRequest,
    ModelResponse,
    ResponseStarted,
    StreamPart,
    unfold,
)
from lamella.wire import crossing
from lamella.wire.codec import Codec, Encoded, StreamDecoder
from lamella.wire.sse import SSEDecoder

Ctx = GenerateMiddlewareContext
_CREDENTIAL = re.compile('auth|key|token|secret|credential|cookie|password', re.IGNORECASE)
_SHORTEST_KEY = 6
_LONGEST_REFUSAL = 256 * 1024


class Target(Data, frozen=True):
    """Where a call goes. Made anew for each call, since tokens expire. The headers hold the credential."""

    url: str
    headers: Mapping[str, str]

    def __repr__(self) -> str:
        return f'Target({self.url!r})'


Aim = Callable[[str, bool], Awaitable[Target]]


class WireModel(Model):
    """Speaks one protocol to one provider. `aim(model, stream)` gives the address and headers of a call.

    `options` are the provider's own that a request may have; `None` where somebody else has checked them. What the protocol
    cannot say stands in the response's `warnings`, and is told at once as the event `model.warnings(model, warnings)`.
    """

    events: type[SSEDecoder] = SSEDecoder

    def __init__(
        self,
        name: str,
        codec: Codec,
        transport: Transport,
        aim: Aim,
        info: ModelInfo,
        options: type[BaseModel] | None = None,
    ) -> None:
        self.name, self.info = name, info
        self._short = name.partition('/')[2]
        self._codec, self._transport, self._aim = codec, transport, aim
        self._options = options

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.name!r})'

    async def generate(self, request: ModelRequest, ctx: Ctx) -> ModelResponse:
        outgoing, encoded = ctx.outgoing, self._encoded(request, ctx, stream=False)
        target = _with_headers(await self._aim(self._short, False), outgoing)
        async with self._transport.post(target.url, target.headers, encoded.body) as answer:
            if answer.status >= 300:
                raise await refusal(answer, target, self.name, self._codec, ctx)
            return await self._whole(answer, encoded)

    async def stream(self, request: ModelRequest, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        outgoing, encoded = ctx.outgoing, self._encoded(request, ctx, stream=True)
        target = _with_headers(await self._aim(self._short, True), outgoing)
        events, decoder = self.events(), self._codec.stream_decoder()
        last: Finished | None = None
        async with self._transport.post(target.url, target.headers, encoded.body) as answer:
            if answer.status >= 300:
                raise await refusal(answer, target, self.name, self._codec, ctx)
            if content_type(answer) in ('application/json', 'text/html'):  # a server that does not stream, or no API
                for part in unfold(await self._whole(answer, encoded)):
                    yield part
                return
            pieces = answer.pieces()
            piece: bytes | None = b''
            while piece is not None and last is None:
                piece = await anext(pieces, None)
                for part in _parts(events, decoder, piece):
                    if type(part) is Finished:
                        last = part  # given when the connection is free for the next call
                        break
                    yield part.replace(model=self._answered_by(part.model)) if type(part) is ResponseStarted else part
            await answer.drain()
        if last is not None:
            warnings = (*encoded.warnings, *last.warnings)
            yield last.replace(model=self._answered_by(last.model), warnings=warnings)

    def _encoded(self, request: ModelRequest, ctx: Ctx, *, stream: bool) -> Encoded:
        if self._options is not None:
            request = checked(request, self.option_keys, self._options)
        encoded = crossing.encode_request(self._codec, request, self._short, stream=stream)
        if encoded.warnings:
            ctx.emit('model.warnings', model=self.name, warnings=encoded.warnings)
        return encoded

    async def _whole(self, answer: Answer, encoded: Encoded) -> ModelResponse:
        refuse_page(answer, self.name)
        response = self._codec.decode_response(await answer.read())
        warnings = (*encoded.warnings, *response.warnings)
        return response.replace(model=self._answered_by(response.model), warnings=warnings)

    def _answered_by(self, model: str | None) -> str:
        """The provider's own, more exact word for the model, under the provider's name as everywhere else."""
        return self.name if model is None else f'{self.provider}/{model}'


class _Errors(Protocol):
    """What is needed of a codec to read an error."""

    def decode_error(
        self, status: int, headers: Mapping[str, str], body: bytes, *, now: float | None = None
    ) -> LamellaError: ...


def _with_headers(target: Target, outgoing: Mapping[str, str]) -> Target:
    """Headers of whoever traces; those of the plugin stay as they are."""
    return target.replace(headers={**outgoing, **target.headers}) if outgoing else target


async def refusal(answer: Answer, target: Target, name: str, codec: _Errors, ctx: Ctx) -> LamellaError:
    """What the provider said when it said no."""
    if answer.status < 400:
        return LamellaError('FAILED_PRECONDITION', f'{name}: redirected (HTTP {answer.status}); check base_url')
    body = _without_credentials(await _what_there_is(answer), target.headers)
    return codec.decode_error(answer.status, answer.headers, body, now=ctx.clock.time())


def refuse_page(answer: Answer, name: str) -> None:
    """Raises FAILED_PRECONDITION for an answer that is a web page."""
    if content_type(answer) == 'text/html':
        raise LamellaError('FAILED_PRECONDITION', f'{name}: the server answered with a web page; check base_url')


def content_type(answer: Answer) -> str:
    return answer.headers.get('content-type', '').partition(';')[0].strip().lower()


async def _what_there_is(answer: Answer) -> bytes:
    """The body of an error, or its beginning: the status counts, even when the rest is huge or never comes."""
    body = b''
    try:
        async for piece in answer.pieces():
            body += piece
            if len(body) > _LONGEST_REFUSAL:
                break
    except LamellaError:
        return body
    return body


def _without_credentials(body: bytes, headers: Mapping[str, str]) -> bytes:
    """Providers repeat the key that they refuse, and not every key looks like one."""
    for name, value in headers.items():
        secret = value.rpartition(' ')[2].encode()
        if _CREDENTIAL.search(name) and len(secret) >= _SHORTEST_KEY:
            body = body.replace(secret, b'[redacted]')
    return body


def _parts(events: SSEDecoder, decoder: StreamDecoder, piece: bytes | None) -> Iterator[StreamPart]:
    """The parts that this piece of the body completes; `None` is the body's end."""
    for event in events.finish() if piece is None else events.feed(piece):
        yield from decoder.feed(event)
    if piece is None:
        yield from decoder.finish()


def credential(given: str | None, variables: tuple[str, ...], plugin: str, base_url: str) -> str | None:
    """The key that was given or is in the environment. Read when a model is first used.

    Raises UNAUTHENTICATED naming the variables and the argument; a server on this machine needs no key.
    """
    found = given or next((value for name in variables if (value := os.environ.get(name, '').strip())), None)
    if found:
        return found
    if (urlsplit(base_url).hostname or '') in LOOPBACK:
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


def checked_pairs(given: Any, field: str) -> dict[str, str]:
    """Headers or query parameters: texts by name. Raises ConfigError."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(item, str) for pair in given.items() for item in pair):
        shape = f'a dict with {sorted(given, key=str)}' if isinstance(given, Mapping) else f'a {type(given).__name__}'
        raise ConfigError(f"{field}= is {shape}: give a dict of texts, such as {{'x-name': 'value'}}")
    return dict(given)


def joined(url: str, query: Mapping[str, Any]) -> str:
    """The address with query parameters."""
    parts = urlsplit(url)
    pairs = [f'{key}={value}' for key, value in query.items()]
    text = '&'.join([*filter(None, [parts.query]), *pairs])
    return parts._replace(query=text).geturl()
