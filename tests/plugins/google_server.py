"""A small server that answers as Google does, over real HTTP."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.model import Model
from lamella.types import Message, ModelRequest, StreamPart

ASKED = ModelRequest((Message.user('hi'),))


def chunk(text: str = '', reason: str | None = None, **fields: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {'content': {'parts': [{'text': text}], 'role': 'model'}, 'index': 0, **fields}
    if reason is not None:
        candidate['finishReason'] = reason
    usage = {'promptTokenCount': 2, 'candidatesTokenCount': len(text), 'totalTokenCount': 2 + len(text)}
    return {'candidates': [candidate], 'usageMetadata': usage, 'modelVersion': 'gemini-x', 'responseId': 'r1'}


def sse(*chunks: Any) -> bytes:
    return b''.join([b'data: ' + json.dumps(item).encode() + b'\r\n\r\n' for item in chunks])


def error(code: int, status: str, message: str, *details: Any) -> bytes:
    return json.dumps(
        {'error': {'code': code, 'message': message, 'status': status, 'details': list(details)}}, indent=2
    ).encode()


Reply = tuple[int, bytes] | bytes | dict[str, Any]


class Google:
    """Gives the replies in turn (the last one for ever): a chunk, a body of events, or a status and a body."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.requests: list[web.Request] = []
        self.bodies: list[Any] = []
        self.url = ''

    @property
    def path(self) -> str:
        return self.requests[-1].path_qs

    @property
    def headers(self) -> Any:
        return self.requests[-1].headers

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        self.bodies.append(json.loads(await request.read()))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, tuple):
            return web.Response(status=reply[0], body=reply[1], content_type='application/json')
        if isinstance(reply, bytes):
            return web.Response(body=reply, content_type='text/event-stream')
        return web.json_response(reply)


@asynccontextmanager
async def google(*replies: Reply) -> AsyncIterator[Google]:
    ours = Google(*replies)
    app = web.Application()
    app.router.add_post('/{tail:.*}', ours.handle)
    async with TestServer(app) as server:
        ours.url = str(server.make_url('')).rstrip('/')
        yield ours


class Nobody:
    """These models ask nothing of the app."""

    def resolve_model(self, model: Any) -> Model:
        raise AssertionError(model)


def context(*sinks: Callable[[Any], None]) -> GenerateMiddlewareContext:
    return GenerateMiddlewareContext(Nobody(), sinks=sinks)


async def drain(model: Model, request: ModelRequest = ASKED) -> list[StreamPart]:
    return [part async for part in model.stream(request, context())]
