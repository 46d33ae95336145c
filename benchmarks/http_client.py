"""Which HTTP client the plugins stand on: requests and streamed parts per second through one client, 30 at once.

The server is another process that answers from memory (a bare asyncio protocol), so that the client is what is measured.
The floor is the same bare protocol as a client: no pool, no limits, no TLS, no errors. `lamella` is aiohttp behind the
plugins' transport, with its timeouts, proxies and error translation.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import httpx2

from benchmarks.measure import Result, show
from lamella.plugins._http import AiohttpTransport, HttpSettings

CONCURRENT = 30
SECONDS = 1.5
ROUNDS = 3
PARTS = 200
REQUEST = json.dumps({'model': 'm', 'messages': [{'role': 'user', 'content': 'word ' * 150}]}).encode()
ANSWER = json.dumps({'id': 'c', 'choices': [{'message': {'role': 'assistant', 'content': 'word ' * 200}}]}).encode()
PART = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":" hello"},"finish_reason":null}]}\n\n'
CHUNK = b'%x\r\n%b\r\n' % (len(PART), PART)
HEADERS = {'content-type': 'application/json', 'authorization': 'Bearer none'}

Call = Callable[[str], Awaitable[int]]


class Canned(asyncio.Protocol):
    """Answers `/json` with one body and `/sse` with PARTS chunks, each in a write of its own."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.received = b''

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b'\r\n\r\n')
        if not end or len(body) < len(REQUEST):
            return
        self.received = b''
        if head.startswith(b'POST /sse'):
            start = b'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n'
            self.transport.write(start)
            self.part(PARTS)
        else:
            start = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n' % len(ANSWER)
            self.transport.write(start + ANSWER)

    def part(self, left: int) -> None:
        if not left:
            self.transport.write(b'0\r\n\r\n')
            return
        self.transport.write(CHUNK)
        asyncio.get_running_loop().call_soon(self.part, left - 1)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Canned, '127.0.0.1', 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Bare(asyncio.Protocol):
    """The floor: one connection that writes canned requests and looks for the end of the answer."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.done: asyncio.Future[int] | None = None
        self.end = b''

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, path: bytes) -> asyncio.Future[int]:
        self.done = asyncio.get_running_loop().create_future()
        self.end = b'0\r\n\r\n' if path == b'/sse' else ANSWER[-20:]
        self.transport.write(
            b'POST %b HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n' % (path, len(REQUEST)) + REQUEST
        )
        return self.done

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.received.endswith(self.end) and self.done is not None:
            self.done.set_result(self.received.count(b'data: '))
            self.received.clear()


async def floor(port: int, stack: AsyncExitStack) -> Call:
    idle: list[Bare] = []

    async def call(path: str) -> int:
        protocol = idle.pop() if idle else None
        if protocol is None:
            _, protocol = await asyncio.get_running_loop().create_connection(Bare, '127.0.0.1', port)
            stack.callback(protocol.transport.close)
        parts = await protocol.ask(path.encode())
        idle.append(protocol)
        return parts

    return call


async def raw_aiohttp(port: int, stack: AsyncExitStack) -> Call:
    session = await stack.enter_async_context(aiohttp.ClientSession())

    async def call(path: str) -> int:
        async with session.post(f'http://127.0.0.1:{port}{path}', data=REQUEST, headers=HEADERS) as answer:
            if path == '/json':
                await answer.read()
                return 0
            return sum([piece.count(b'data: ') async for piece in answer.content.iter_any()])

    return call


async def with_httpx2(port: int, stack: AsyncExitStack) -> Call:
    limits = httpx2.Limits(max_connections=100, max_keepalive_connections=100)
    client = await stack.enter_async_context(httpx2.AsyncClient(limits=limits))

    async def call(path: str) -> int:
        url = f'http://127.0.0.1:{port}{path}'
        if path == '/json':
            await client.post(url, content=REQUEST, headers=HEADERS)
            return 0
        async with client.stream('POST', url, content=REQUEST, headers=HEADERS) as answer:
            return sum([piece.count(b'data: ') async for piece in answer.aiter_raw()])

    return call


async def with_lamella(port: int, stack: AsyncExitStack) -> Call:
    transport = AiohttpTransport(HttpSettings())
    stack.push_async_callback(transport.aclose)

    async def call(path: str) -> int:
        async with transport.post(f'http://127.0.0.1:{port}{path}', HEADERS, REQUEST) as answer:
            if path == '/json':
                await answer.read()
                return 0
            return sum([piece.count(b'data: ') async for piece in answer.pieces()])

    return call


CLIENTS = {'floor': floor, 'lamella': with_lamella, 'aiohttp': raw_aiohttp, 'httpx2': with_httpx2}


async def rate(call: Call, path: str) -> float:
    """Answers per second, or parts per second of a stream."""
    stop, done = time.perf_counter() + SECONDS, 0

    async def worker() -> None:
        nonlocal done
        while time.perf_counter() < stop:
            parts = await call(path)
            done += parts or 1

    started = time.perf_counter()
    await asyncio.gather(*[worker() for _ in range(CONCURRENT)])
    return done / (time.perf_counter() - started)


async def measured(port: int) -> dict[tuple[str, str], float]:
    best: dict[tuple[str, str], float] = {}
    for _ in range(ROUNDS):
        for name, make in CLIENTS.items():
            async with AsyncExitStack() as stack:
                call = await make(port, stack)
                for path in ('/json', '/sse'):
                    best[name, path] = max(best.get((name, path), 0), await rate(call, path))
    return best


def run() -> list[Result]:
    command = [sys.executable, '-m', 'benchmarks.http_client', '--serve']
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            best = asyncio.run(measured(int(server.stdout.readline())))
        finally:
            server.terminate()
    units = {'/json': 'requests/s', '/sse': 'parts/s'}
    return [
        Result(f'http.{path[1:]}.{name}', value, units[path], None if name == 'floor' else best['floor', path])
        for path in units
        for (name, of), value in best.items()
        if of == path
    ]


if __name__ == '__main__':
    if '--serve' in sys.argv:
        asyncio.run(serve())
    else:
        show(run())
