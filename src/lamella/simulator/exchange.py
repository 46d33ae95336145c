"""One request and its answer: authentication, decoding, the plan of what goes wrong, the reply and its delivery."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from lamella.simulator.answers import Reply
from lamella.simulator.delivery import Delivery, Piece
from lamella.simulator.faults import Fault
from lamella.simulator.identity import signed
from lamella.simulator.limits import Spent
from lamella.simulator.parts import content_of, end_of, start_of, tokens_of
from lamella.simulator.protocols import Protocol
from lamella.simulator.records import ReceivedRequest
from lamella.simulator.schedule import Moment, Plan, plan_for
from lamella.simulator.seals import sealed
from lamella.simulator.state import State
from lamella.simulator.thinking import Thought
from lamella.simulator.thoughts import after, thought_of
from lamella.types import LamellaError, ModelRequest, Usage
from lamella.wire.codec import StreamEncoder
from lamella.wire.errors import classify

MAX_BODY = 64 * 2**20
BASE_HEADERS = {'x-simulator': 'lamella', 'server': 'lamella-simulator'}
TOO_MANY = 429
_JSON = 'application/json'


class Exchange:
    """One request on its way through. `path` holds the values that the URL has (Gemini's model)."""

    def __init__(self, state: State, request: web.Request, protocol: Protocol, record: ReceivedRequest) -> None:
        self.state = state
        self.request = request
        self.protocol = protocol
        self.record = record
        self.plan = Plan()
        self.stamp = ''
        self.spent = Spent()
        record.protocol = protocol.name

    async def run(self, act: Callable[[Exchange, bytes], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        """Reads the body, checks the key and acts. A LamellaError becomes the vendor's error body."""
        try:
            body = await read_body(self.request)
            self.record.body = readable(body)
            self.stamp = self.state.stamps.stamp(self.request.path, body)
            self.check_key()
            return await act(self, body)
        except LamellaError as error:
            return await self.refuse(error)

    def check_key(self) -> None:
        """Raises UNAUTHENTICATED for a key that is none of the known ones."""
        known = self.state.api_keys
        if known is not None and credential(self.request) not in known:
            raise LamellaError(
                'UNAUTHENTICATED', 'Incorrect API key provided: this simulator was given other api_keys.'
            )

    def deliver(self) -> Delivery:
        return Delivery(self.request, self.record, self.plan, self.state.stalls)

    @property
    def headers(self) -> dict[str, str]:
        limits = self.protocol.limits(self.spent, self.state.clock.time())
        return {**BASE_HEADERS, self.protocol.request_id_header: f'req_{self.stamp}', **limits}

    def spend(self, usage: Usage | None) -> None:
        if usage is not None:
            self.spent = Spent(usage.input_tokens or 0, usage.output_tokens or 0)

    async def json(self, body: bytes, tokens: int = 0) -> web.StreamResponse:
        return await self.deliver().whole(200, {**self.headers, 'content-type': _JSON}, body, tokens)

    async def refuse(self, error: LamellaError) -> web.StreamResponse:
        encoded = self.protocol.codec.encode_error(error)
        if encoded.status == TOO_MANY:
            self.spent = Spent(wait_s=error.retry_after_s or 0.0)
        headers = {'content-type': _JSON, **encoded.headers, **self.headers}
        return await self.deliver().whole(encoded.status, headers, encoded.body)


async def generate(exchange: Exchange, body: bytes, *, stream: bool) -> web.StreamResponse:
    """An answer of a model, whole or as a stream. `stream` is what the URL says of it."""
    record, codec = exchange.record, exchange.protocol.codec
    decoded = codec.decode_request(body, model=exchange.request.match_info.get('model'), stream=stream)
    exchange.protocol.check(decoded.request)
    moment = exchange.state.moment(decoded.model)
    exchange.plan = plan_for(exchange.state.script.faults, moment)
    record.model, record.number, record.stream = decoded.model, moment.number, decoded.stream
    record.request, record.faults = decoded.request, kinds_of(exchange.plan)
    if (fault := exchange.plan.fault) is not None and fault.kind == 'status':
        raise failure(fault)
    reply = replied(exchange, decoded.request, moment)
    response = signed(reply.response, exchange.protocol, exchange.stamp, decoded.model)
    reply = reply.replace(response=response)
    exchange.spend(response.usage)
    if decoded.stream:
        return await streamed(exchange, reply, decoded.request)
    tokens = response.usage.output_tokens if response.usage is not None else None
    return await exchange.json(
        codec.encode_response(response, model=decoded.model, request=decoded.request), tokens or 0
    )


def replied(exchange: Exchange, request: ModelRequest, moment: Moment) -> Reply:
    """The answer, after a thought where one is asked for. Raises LamellaError for what earlier thoughts have lost."""
    thinking, seed = exchange.protocol.thinking, exchange.state.seed
    asked = thinking.asked(request)
    if asked is None:
        return exchange.state.reply(request, moment)
    thinking.check(request, moment.model, seed)
    reply = exchange.state.reply(request, moment)
    words = thought_of(request, reply)
    reply = after(words, request, reply)
    thought = Thought(words, sealed(seed, moment.model, words), exchange.stamp)
    message = reply.response.message
    content = thinking.placed(thought, asked, message.content)
    return reply.replace(response=reply.response.replace(message=message.replace(content=content)))


async def streamed(exchange: Exchange, reply: Reply, request: ModelRequest) -> web.StreamResponse:
    response = reply.response
    encoder = exchange.protocol.codec.stream_encoder(model=response.model or '', request=request)
    start = encoder.feed(start_of(response))
    pieces = [piece for piece in encoded_pieces(encoder, reply) if piece.data]
    end = (encoder.feed(end_of(response)), encoder.finish())
    return await exchange.deliver().stream(exchange.headers, start, pieces, end)


def encoded_pieces(encoder: StreamEncoder, reply: Reply) -> list[Piece]:
    return [Piece(encoder.feed(part), tokens_of(part)) for part in content_of(reply.response, reply.pieces)]


def kinds_of(plan: Plan) -> tuple[str, ...]:
    return (*((plan.fault.kind,) if plan.fault is not None else ()), *(('slow',) if plan.per_token_s else ()))


def failure(fault: Fault) -> LamellaError:
    """The error of a `status` fault, to be said in the vendor's words."""
    http_status = fault.status or 500
    message = fault.message or f'The simulator was told to answer with HTTP {http_status}.'
    details = {'http_status': http_status}
    return LamellaError(classify(http_status), message, details=details, retry_after_s=fault.retry_after_s)


async def read_body(request: web.Request) -> bytes:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        details = {'http_status': 413}
        raise LamellaError(
            'INVALID_ARGUMENT', f'the body is over {MAX_BODY} bytes: send less', details=details
        ) from error


def readable(body: bytes) -> Any:
    """The body as JSON data, or as text, or nothing when it is empty."""
    if not body:
        return None
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode('utf-8', 'replace')


def credential(request: web.Request) -> str | None:
    """The key, wherever the vendors put it: a bearer token, `x-api-key`, `x-goog-api-key`, `api-key` or `?key=`."""
    headers: Mapping[str, str] = request.headers
    scheme, _, token = headers.get('authorization', '').partition(' ')
    if scheme.lower() == 'bearer' and token:
        return token.strip()
    named = [headers.get(name) for name in ('x-api-key', 'x-goog-api-key', 'api-key')]
    return next((key for key in named if key), request.query.get('key'))
