"""The client's own endpoint as a model: what is sent differs from what the client meant by the changes of layers alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import msgspec

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.model import Model, ModelInfo
from lamella.integrations.httpx2.routes import OPTION_KEYS, Route, path_for
from lamella.integrations.httpx2.verbatim import Tape
from lamella.types import (
    Finished,
    LamellaError,
    ModelRequest,
    ModelResponse,
    ResponseStarted,
    Status,
    StreamPart,
    unfold,
)
from lamella.wire.codec import Codec, Decoded, Encoded
from lamella.wire.sse import Event

Ctx = GenerateMiddlewareContext
_DRAIN_S = 0.5
Send = Callable[[httpx2.Request], Awaitable[httpx2.Response]]
OF_THE_BODY = frozenset(('content-encoding', 'content-length', 'content-type', 'transfer-encoding'))
OF_THE_CONNECTION = frozenset(('connection', 'keep-alive', 'host', 'upgrade'))
OF_THE_ORIGINAL = frozenset(('idempotency-key',))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the endpoint said to one call: the response, or the error, that it became."""

    means: ModelResponse | LamellaError
    status: int
    headers: httpx2.Headers
    body: bytes


@dataclass(slots=True, repr=False)
class Call:
    """One call of the client: where and how it wanted to call, and what came of it. Holds credentials, so it is not shown.

    `answers` are those of the endpoint, in turn; `tape` and `headers` belong to the stream that began last.
    """

    http: httpx2.Request
    body: bytes
    route: Route
    decoded: Decoded
    request: ModelRequest
    send: Send
    answers: list[Answer] = field(default_factory=list)
    tape: Tape | None = None
    headers: httpx2.Headers = field(default_factory=httpx2.Headers)

    @property
    def codec(self) -> Codec:
        return self.route.codec

    def encoded(self, request: ModelRequest, model: str, stream: bool) -> Encoded:
        """The client's own body where the request is as it was, whatever the codec would make of it."""
        if request is not self.request or model != self.decoded.model:
            return self.codec.encode_request(request, model, stream=stream)
        return Encoded(_with_usage(self.body) if stream and self.route.adds_usage else self.body)

    def to_send(self, body: bytes, model: str, outgoing: Mapping[str, str]) -> httpx2.Request:
        """The request as it goes out: the client's address, headers and time limits."""
        url, dropped = self.http.url, {*OF_THE_BODY, *OF_THE_CONNECTION} - {'content-type'}
        if model != self.decoded.model:
            url = url.copy_with(path=path_for(url.path, model))
        if body != self.body:
            dropped |= OF_THE_ORIGINAL
        headers = without(self.http.headers, dropped)
        headers += [(k.encode(), v.encode()) for k, v in outgoing.items() if k not in self.http.headers]
        return httpx2.Request('POST', url, headers=headers, content=body, extensions=self.http.extensions)

    def refused(self, status: int, headers: httpx2.Headers, body: bytes, now: float) -> LamellaError:
        error = self.codec.decode_error(status, dict(headers), body, now=now)
        self.answers.append(Answer(error, status, headers, body))
        return error


def _with_usage(body: bytes) -> bytes:
    data = msgspec.json.decode(body)
    options = data.get('stream_options')
    given = options if isinstance(options, dict) else {}
    return msgspec.json.encode({**data, 'stream_options': {**given, 'include_usage': True}})


def passed_on(headers: httpx2.Headers) -> list[tuple[bytes, bytes]]:
    """The headers of an answer that still hold when its body was read: request ids, rate limits, cookies."""
    return without(headers, (OF_THE_CONNECTION | OF_THE_BODY) - {'content-type'})


def without(headers: httpx2.Headers, dropped: Collection[str]) -> list[tuple[bytes, bytes]]:
    """As bytes: not every header is ASCII."""
    return [(name, value) for name, value in headers.raw if name.decode('latin-1').lower() not in dropped]


class Context(dict[str, Any]):
    """The caller's values, with the call beside them: layers that print or record a context do not meet it."""

    call: Any

    @classmethod
    def of(cls, values: Mapping[str, Any], call: object) -> Context:
        context = cls(values)
        context.call = call
        return context


class EndpointModel(Model):
    """The client's endpoint under the name of any of its models."""

    info = ModelInfo(structured_output='native')

    def __init__(self, provider: str, model: str) -> None:
        self.name, self._model = f'{provider}/{model}', model

    def __repr__(self) -> str:
        return f'EndpointModel({self.name!r})'

    @property
    def option_keys(self) -> tuple[str, ...]:
        return OPTION_KEYS[self.provider]

    async def generate(self, request: ModelRequest, ctx: Ctx) -> ModelResponse:
        call = self._call(ctx)
        http, encoded = await self._sent(call, request, ctx, stream=False)
        body = await self._read(http)
        response = call.codec.decode_response(body)
        response = response.replace(model=self._answered_by(response.model))
        call.answers.append(Answer(response, http.status_code, http.headers, body))
        return response.replace(warnings=(*encoded.warnings, *response.warnings)) if encoded.warnings else response

    async def stream(self, request: ModelRequest, ctx: Ctx) -> AsyncGenerator[StreamPart, None]:
        call = self._call(ctx)
        http, encoded = await self._sent(call, request, ctx, stream=True)
        call.headers, call.tape = http.headers, None
        last: Finished | None = None
        try:
            if _is_whole(http):  # a server that does not stream
                parts = self._unfolded(call, http)
            else:
                call.tape = Tape()
                parts = self._parts(call, http, call.tape)
            async with aclosing(parts):
                async for part in parts:
                    if type(part) is Finished:
                        last = part
                        break
                    yield part
                with suppress(
                    TimeoutError, LamellaError
                ):  # what follows the end, so that the connection can be used again
                    async with asyncio.timeout(_DRAIN_S):
                        await anext(parts, None)
        finally:
            await http.aclose()
        if last is not None:
            yield last.replace(warnings=(*encoded.warnings, *last.warnings)) if encoded.warnings else last

    async def _unfolded(self, call: Call, http: httpx2.Response) -> AsyncGenerator[StreamPart, None]:
        for part in unfold(call.codec.decode_response(await self._read(http))):
            yield self._named(part)

    def _answered_by(self, model: str | None) -> str:
        """The vendor's own, more exact word for the model, under the vendor's name as everywhere else."""
        return self.name if model is None else f'{self.provider}/{model}'

    def _call(self, ctx: Ctx) -> Call:
        call = ctx.context.call if isinstance(ctx.context, Context) else None
        if not isinstance(call, Call) or call.route.provider != self.provider:
            raise LamellaError(
                'NOT_FOUND',
                f'{self.name}: the client speaks to another vendor; give LamellaTransport(plugins=[…]) the plugin of '
                f'{self.provider!r}',
            )
        return call

    async def _sent(
        self, call: Call, request: ModelRequest, ctx: Ctx, *, stream: bool
    ) -> tuple[httpx2.Response, Encoded]:
        outgoing, encoded = ctx.outgoing, call.encoded(request, self._model, stream)
        if encoded.warnings:
            ctx.emit('model.warnings', model=self.name, warnings=encoded.warnings)
        try:
            http = await call.send(call.to_send(encoded.body, self._model, outgoing))
        except httpx2.TransportError as error:
            raise translated(self.name, error) from error
        if http.status_code < 300:
            return http, encoded
        raise call.refused(http.status_code, http.headers, await self._read(http), ctx.clock.time())

    async def _read(self, http: httpx2.Response) -> bytes:
        try:
            return await http.aread()
        except httpx2.TransportError as error:
            raise translated(self.name, error) from error
        finally:
            await http.aclose()

    async def _parts(self, call: Call, http: httpx2.Response, tape: Tape) -> AsyncGenerator[StreamPart, None]:
        events, decoder = call.route.events, call.codec.stream_decoder()

        def read(found: Sequence[Event]) -> Sequence[StreamPart]:
            parts: list[StreamPart] = []
            for event in found:
                made = [self._named(part) for part in decoder.feed(event)]
                tape.add(None if call.route.hides(event) else event, made)
                parts += made
            return parts

        try:
            async for chunk in http.aiter_bytes():
                for part in read(events.feed(chunk)):
                    yield part
        except httpx2.TransportError as error:
            raise translated(self.name, error) from error
        for part in read(events.finish()):
            yield part
        ending = [self._named(part) for part in decoder.finish()]
        tape.add(None, ending)
        for part in ending:
            yield part

    def _named(self, part: StreamPart) -> StreamPart:
        if type(part) is ResponseStarted or type(part) is Finished:
            return part.replace(model=self._answered_by(part.model))
        return part


def _is_whole(http: httpx2.Response) -> bool:
    return str(http.headers.get('content-type', '')).partition(';')[0].strip().lower() == 'application/json'


def translated(name: str, error: httpx2.TransportError) -> LamellaError:
    """A failed connection as an error that can be retried."""
    status: Status = 'DEADLINE_EXCEEDED' if isinstance(error, httpx2.TimeoutException) else 'UNAVAILABLE'
    return LamellaError(status, f'{name}: {type(error).__name__}: {error}')
