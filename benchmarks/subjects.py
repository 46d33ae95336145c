"""What is measured, and the hand-written floors it is measured against."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from lamella import GenerateResponse, Lamella, Message, ModelRequest, ModelResponse, TextPart, Usage
from lamella.middleware import BaseMiddleware
from lamella.types import Finished, ResponseStarted, StreamPart, TextDelta, ToolRequest, ToolRequestPart, ToolResponse

USAGE = Usage(10, 5, 15)
ANSWER = ModelResponse.text_of('hello', usage=USAGE, model='bench/instant')
PIECES = [TextDelta('piece ')] * 1000
CALL = ModelResponse(
    message=Message('assistant', (ToolRequestPart(ToolRequest('add', {'a': 1, 'b': 2}, 'call_1')),)),
    finish_reason='tool_calls',
    usage=USAGE,
    model='bench/tools',
)


class PassModel(BaseMiddleware[Any]):
    """A layer around whole calls that changes nothing."""

    async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> ModelResponse:
        return await next_fn(params, ctx)


class PassStream(BaseMiddleware[Any]):
    """A layer that looks at every part and changes nothing."""

    async def wrap_stream(self, params: Any, ctx: Any, next_fn: Any) -> AsyncGenerator[StreamPart, None]:
        async for part in next_fn(params, ctx):
            yield part


class PassTransform(BaseMiddleware[Any]):
    """A layer that sees requests alone."""

    async def transform_params(self, params: Any, ctx: Any) -> Any:
        return params


class PassTool(BaseMiddleware[Any]):
    """A layer around tool calls that changes nothing."""

    async def wrap_tool(self, params: Any, ctx: Any, next_fn: Any) -> ToolResponse:
        return await next_fn(params, ctx)


async def instant(request: ModelRequest, ctx: Any) -> ModelResponse:
    return ANSWER


async def thousand(request: ModelRequest, ctx: Any) -> AsyncGenerator[StreamPart, None]:
    yield ResponseStarted('bench/stream')
    for piece in PIECES:
        yield piece
    yield Finished(usage=USAGE, model='bench/stream')


async def one_tool(request: ModelRequest, ctx: Any) -> ModelResponse:
    return ANSWER if request.messages[-1].role == 'tool' else CALL


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def app() -> Lamella:
    ai = Lamella()
    ai.model('bench/instant')(instant)
    ai.model('bench/stream')(thousand)
    ai.model('bench/tools')(one_tool)
    ai.tool()(add)
    return ai


async def typed_floor() -> GenerateResponse:
    """What a whole generate would cost with nothing but its typed data."""
    request = ModelRequest((Message('user', (TextPart('hi'),)),))
    response = await instant(request, None)
    return GenerateResponse(
        message=response.message,
        usage=response.usage,
        model=response.model,
        messages=(*request.messages, response.message),
        turns=(response,),
    )


async def tool_floor() -> GenerateResponse:
    """A tool round with nothing but its typed data and the calls themselves."""
    request = ModelRequest((Message('user', (TextPart('hi'),)),))
    response = await one_tool(request, None)
    asked = response.message.tool_requests[0].tool_request
    answer = ToolResponse(asked.name, await add(**asked.input), asked.ref)
    request = request.replace(messages=(*request.messages, response.message, Message.tool(answer)))
    last = await one_tool(request, None)
    return GenerateResponse(
        message=last.message, usage=USAGE + USAGE, turns=(response, last), messages=request.messages
    )


def by_hand(depth: int) -> Callable[[Any, Any], Awaitable[ModelResponse]]:
    """Nested coroutines as one would write them by hand: each layer an object that knows the next."""

    class Layer:
        def __init__(self, inner: Callable[[Any, Any], Awaitable[ModelResponse]]) -> None:
            self.inner = inner

        async def call(self, params: Any, ctx: Any) -> ModelResponse:
            return await self.inner(params, ctx)

    call: Callable[[Any, Any], Awaitable[ModelResponse]] = instant
    for _ in range(depth):
        call = Layer(call).call
    return call
