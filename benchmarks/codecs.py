"""The codecs: a request of ten messages and one server-sent delta, read and written, against `json` and the vendors' own models.

The floor of each figure is the standard library's `json` on the same bytes. Beside it stands what the vendor's client has
for them: its types of messages, checked by pydantic, to read a request (of Gemini's, the contents alone); the transformation
of its parameters to write one; its models, built as the client builds them, to read or write a delta. Then the latency that
a call through Lamella has over the bare HTTP client, and that a `LamellaTransport` adds to the vendor's client; the server is
another process.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import httpx2
import openai
from anthropic._models import construct_type as construct_anthropic
from anthropic._utils._json import openapi_dumps as dump_anthropic
from anthropic._utils._prepare import prepare_request_data
from anthropic.types import MessageParam, RawContentBlockDeltaEvent
from google.genai import types as genai
from openai._models import construct_type as construct_openai
from openai._utils import maybe_transform
from openai._utils._json import openapi_dumps as dump_openai
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses import ResponseInputItemParam, ResponseTextDeltaEvent
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from benchmarks.measure import Result, show
from lamella import Lamella, Message, ModelRequest
from lamella.integrations.httpx2 import LamellaTransport
from lamella.middleware import Fallback, Retry
from lamella.plugins.openai import OpenAI
from lamella.types import (
    GenerationConfig,
    ResponseStarted,
    StreamPart,
    TextDelta,
    ToolDefinition,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
)
from lamella.wire.anthropic import AnthropicCodec
from lamella.wire.codec import Codec
from lamella.wire.gemini import GeminiCodec
from lamella.wire.openai_chat import OpenAIChatCodec
from lamella.wire.openai_responses import OpenAIResponsesCodec
from lamella.wire.sse import SSEDecoder

ROUNDS = 7
DELTAS = 2000
CALLS = 300
TEXT = 'The bees of the northern hills make a dark honey that keeps for years, and nobody knows quite why. ' * 3
SCHEMA = {'type': 'object', 'properties': {'city': {'type': 'string'}}, 'required': ['city']}
Work = Callable[[], object]


def ten_messages() -> ModelRequest:
    """A system message, three rounds of question, tool, result and answer in part, and a last question: ten in all."""
    call, answer = ToolRequest('get_weather', {'city': 'Oslo'}, 'call_1'), {'celsius': 7, 'sky': TEXT[:60]}
    messages = [
        Message.system(TEXT),
        Message.user(TEXT),
        Message.assistant(TEXT),
        Message.user(TEXT),
        Message.assistant('Let me look.', ToolRequestPart(call)),
        Message.tool(ToolResponse('get_weather', answer, 'call_1')),
        Message.assistant(TEXT),
        Message.user(TEXT),
        Message.assistant(TEXT),
        Message.user(TEXT),
    ]
    return ModelRequest(
        tuple(messages),
        GenerationConfig(temperature=0.5, max_output_tokens=500),
        (ToolDefinition('get_weather', 'The weather of a city.', SCHEMA),),
    )


# ── what the vendors' clients do with the same bytes ────────────────────────────────────────────────────────────────


def read_gemini(body: dict[str, Any]) -> object:
    return [genai.Content.model_validate(content) for content in body['contents']]


def write_gemini(body: Any) -> object:
    return json.dumps([content.model_dump(by_alias=True, exclude_none=True, mode='json') for content in body]).encode()


_CHAT: Any = TypeAdapter(list[ChatCompletionMessageParam])
_RESPONSES: Any = TypeAdapter(list[ResponseInputItemParam])
_MESSAGES: Any = TypeAdapter(list[MessageParam])
READERS: dict[str, Callable[[Any], object]] = {
    'openai-chat': lambda body: _CHAT.validate_python(body['messages']),
    'openai-responses': lambda body: _RESPONSES.validate_python(body['input']),
    'anthropic': lambda body: _MESSAGES.validate_python(body['messages']),
    'gemini': read_gemini,
}
WRITERS: dict[str, Callable[[Any], object]] = {
    'openai-chat': lambda body: dump_openai(maybe_transform(body, CompletionCreateParamsNonStreaming)),
    'openai-responses': lambda body: dump_openai(maybe_transform(body, ResponseCreateParamsNonStreaming)),
    'anthropic': lambda body: dump_anthropic(prepare_request_data(body, location='body')),
    'gemini': write_gemini,
}
DELTA_READERS: dict[str, Callable[[Any], Any]] = {
    'openai-chat': lambda data: construct_openai(type_=ChatCompletionChunk, value=data),
    'openai-responses': lambda data: construct_openai(type_=ResponseTextDeltaEvent, value=data),
    'anthropic': lambda data: construct_anthropic(type_=RawContentBlockDeltaEvent, value=data),
    'gemini': genai.GenerateContentResponse.model_validate,
}
CODECS: list[tuple[Codec, str]] = [
    (OpenAIChatCodec(), 'gpt-x'),
    (OpenAIResponsesCodec(), 'gpt-x'),
    (AnthropicCodec(), 'claude-sonnet-4-5'),
    (GeminiCodec(), 'gemini-3-flash'),
]


def best_of(works: dict[str, Work], count: int) -> dict[str, float]:
    """Microseconds per call of each work, the best of several rounds, taken in turn."""
    best = dict.fromkeys(works, float('inf'))
    for _ in range(ROUNDS):
        for name, work in works.items():
            work()
            started = time.perf_counter()
            for _ in range(count):
                work()
            best[name] = min(best[name], (time.perf_counter() - started) / count * 1e6)
    return best


def figures(name: str, taken: dict[str, float]) -> list[Result]:
    """What Lamella takes and what the vendor's models take, each over the floor of `json`."""
    floor = taken['json']
    return [
        Result(f'{name}, Lamella', taken['lamella'], 'µs', floor),
        Result(f'{name}, the vendor', taken['sdk'], 'µs', floor),
    ]


def request_figures(codec: Codec, model: str) -> list[Result]:
    request = ten_messages()
    body = codec.encode_request(request, model).body
    data = json.loads(body)
    read, write = READERS[codec.name], WRITERS[codec.name]
    given: Any = read(data) if codec.name == 'gemini' else data
    decoding = best_of(
        {
            'json': lambda: json.loads(body),
            'lamella': lambda: codec.decode_request(body, model=model),
            'sdk': lambda: read(json.loads(body)),
        },
        200,
    )
    encoding = best_of(
        {
            'json': lambda: json.dumps(data).encode(),
            'lamella': lambda: codec.encode_request(request, model),
            'sdk': lambda: write(given),
        },
        200,
    )
    return [
        *figures(f'{codec.name}: read 10 messages', decoding),
        *figures(f'{codec.name}: write 10 messages', encoding),
    ]


def delta_figures(codec: Codec, model: str) -> list[Result]:
    encoder = codec.stream_encoder(model=model)
    opening = [encoder.feed(part) for part in (ResponseStarted(model, 'id-1'), TextDelta('Once'))]
    event = encoder.feed(TextDelta(' hello'))
    text = event.decode().partition('data: ')[2].strip()
    data = json.loads(text)
    model_of = DELTA_READERS[codec.name]

    def lamella_reads() -> None:
        events, decoder = SSEDecoder(), codec.stream_decoder()
        for first in opening:
            _fed(events, decoder, first)
        for _ in range(DELTAS):
            _fed(events, decoder, event)

    def json_reads() -> None:
        for _ in range(DELTAS):
            json.loads(event.decode().partition('data: ')[2])

    def sdk_reads() -> None:
        for _ in range(DELTAS):
            model_of(json.loads(event.decode().partition('data: ')[2]))

    def lamella_writes() -> None:
        writer, part = codec.stream_encoder(model=model), TextDelta(' hello')
        writer.feed(ResponseStarted(model, 'id-1'))
        for _ in range(DELTAS):
            writer.feed(part)

    def json_writes() -> None:
        for _ in range(DELTAS):
            b'data: ' + json.dumps(data).encode() + b'\n\n'

    def sdk_writes() -> None:
        for _ in range(DELTAS):
            b'data: ' + model_of(data).model_dump_json(exclude_none=True).encode() + b'\n\n'

    reading = best_of({'json': json_reads, 'lamella': lamella_reads, 'sdk': sdk_reads}, 1)
    writing = best_of({'json': json_writes, 'lamella': lamella_writes, 'sdk': sdk_writes}, 1)
    return [
        *figures(f'{codec.name}: read a delta', {name: value / DELTAS for name, value in reading.items()}),
        *figures(f'{codec.name}: write a delta', {name: value / DELTAS for name, value in writing.items()}),
    ]


def _fed(events: SSEDecoder, decoder: Any, data: bytes) -> list[StreamPart]:
    return [part for event in events.feed(data) for part in decoder.feed(event)]


# ── latency ─────────────────────────────────────────────────────────────────────────────────────────────────────────

ANSWER = OpenAIChatCodec().encode_response(
    OpenAIChatCodec().decode_response(
        json.dumps(
            {
                'id': 'c',
                'model': 'm',
                'choices': [{'index': 0, 'message': {'role': 'assistant', 'content': TEXT}, 'finish_reason': 'stop'}],
                'usage': {'prompt_tokens': 9, 'completion_tokens': 9, 'total_tokens': 18},
            }
        ).encode()
    ),
    model='m',
)
CHAT: Any = [{'role': 'user', 'content': TEXT}]


class Canned(asyncio.Protocol):
    """Gives every request the same answer."""

    def connection_made(self, transport: Any) -> None:
        self.transport, self.received = transport, b''

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b'\r\n\r\n')
        length = next((line[15:] for line in head.lower().split(b'\r\n') if line.startswith(b'content-length:')), b'0')
        if not end or len(body) < int(length):
            return
        self.received = b''
        start = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n' % len(ANSWER)
        self.transport.write(start + ANSWER)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Canned, '127.0.0.1', 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def callers(url: str, stack: AsyncExitStack) -> dict[str, Callable[[], Awaitable[object]]]:
    """One call each: bare clients, Lamella over one of them, and the vendor's client with and without layers."""
    body = OpenAIChatCodec().encode_request(ModelRequest((Message.user(TEXT),)), 'm').body
    session = await stack.enter_async_context(aiohttp.ClientSession())
    ai = await stack.enter_async_context(Lamella(plugins=[OpenAI('k', f'{url}/v1')], model='openai/m'))
    layers = [Retry(), Fallback(models=['openai/n'])]
    plain = await stack.enter_async_context(httpx2.AsyncClient())
    layered = await stack.enter_async_context(httpx2.AsyncClient(transport=LamellaTransport(use=layers)))
    clients = [openai.AsyncOpenAI(api_key='k', base_url=f'{url}/v1', http_client=http) for http in (plain, layered)]

    async def bare() -> object:
        async with session.post(f'{url}/v1/chat/completions', data=body) as answer:
            return await answer.read()

    return {
        'aiohttp': bare,
        'lamella': lambda: ai.generate(prompt=TEXT),
        'lamella with layers': lambda: ai.generate(prompt=TEXT, use=layers),
        'sdk': lambda: clients[0].chat.completions.create(model='m', messages=CHAT),
        'sdk with layers': lambda: clients[1].chat.completions.create(model='m', messages=CHAT),
    }


async def latencies(port: int) -> dict[str, float]:
    """Microseconds of a call, the median of some hundred, taken in turn."""
    taken: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        calls = await callers(f'http://127.0.0.1:{port}', stack)
        for _ in range(CALLS):
            for name, call in calls.items():
                started = time.perf_counter()
                await call()
                taken.setdefault(name, []).append((time.perf_counter() - started) * 1e6)
    return {name: statistics.median(times) for name, times in taken.items()}


def latency_figures() -> list[Result]:
    command = [sys.executable, '-m', 'benchmarks.codecs', '--serve']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            taken = asyncio.run(latencies(int(server.stdout.readline())))
        finally:
            server.terminate()
    bare, sdk = taken['aiohttp'], taken['sdk']
    return [
        Result('a call over HTTP, bare aiohttp', bare, 'µs'),
        Result('a call over HTTP, ai.generate with the OpenAI plugin', taken['lamella'], 'µs', bare),
        Result('added by Lamella', taken['lamella'] - bare, 'µs'),
        Result('a call over HTTP, ai.generate with Retry and Fallback', taken['lamella with layers'], 'µs', bare),
        Result('a call over HTTP, the openai client', sdk, 'µs', bare),
        Result('a call over HTTP, the openai client through LamellaTransport', taken['sdk with layers'], 'µs', sdk),
        Result('added by LamellaTransport with Retry and Fallback', taken['sdk with layers'] - sdk, 'µs'),
    ]


def run() -> list[Result]:
    results = [figure for codec, model in CODECS for figure in request_figures(codec, model)]
    results += [figure for codec, model in CODECS for figure in delta_figures(codec, model)]
    return results + latency_figures()


if __name__ == '__main__':
    if '--serve' in sys.argv:
        asyncio.run(serve())
    else:
        show(run())
