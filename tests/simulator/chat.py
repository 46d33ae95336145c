"""Requests over real sockets, the way clients send them."""

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from lamella.simulator import Simulator

PATH = '/v1/chat/completions'
PROMPT = 'Bees make honey. It keeps for years. Rain fell on Monday.'


def body(prompt: str = PROMPT, model: str = 'm', **fields: Any) -> dict[str, Any]:
    return {'model': model, 'messages': [{'role': 'user', 'content': prompt}], **fields}


@dataclass(frozen=True)
class Answered:
    """A whole HTTP answer."""

    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def text(self) -> str:
        return self.json['choices'][0]['message']['content']

    @property
    def events(self) -> list[str]:
        """The data of each server-sent event."""
        blocks = self.raw.decode().split('\n\n')
        lines = [line for block in blocks for line in block.split('\n') if line.startswith('data:')]
        return [line.removeprefix('data:').strip() for line in lines]

    @property
    def streamed(self) -> str:
        chunks = [json.loads(event) for event in self.events if event != '[DONE]']
        return ''.join(c['delta'].get('content') or '' for chunk in chunks for c in chunk['choices'])


@asynccontextmanager
async def client(sim: Simulator, **options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(sim.base_url, **options) as session:
        yield session


async def send(
    sim: Simulator, data: Any = None, path: str = PATH, method: str = 'POST', headers: dict[str, str] | None = None
) -> Answered:
    """One request on a connection of its own. `data` is bytes, or a value to be sent as JSON."""
    raw = data if isinstance(data, bytes) or data is None else json.dumps(data).encode()
    async with (
        client(sim) as session,
        session.request(method, path, data=None if raw is None else io.BytesIO(raw), headers=headers) as response,
    ):
        return Answered(response.status, dict(response.headers), await response.read())


async def ask(sim: Simulator, prompt: str = PROMPT, model: str = 'm', **fields: Any) -> Answered:
    return await send(sim, body(prompt, model, **fields))


async def raw_connection(sim: Simulator, receive_buffer: int | None = None) -> socket.socket:
    """A bare connection, for clients that behave badly."""
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setblocking(False)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    host, port = sim.base_url.removeprefix('http://').split(':')
    try:
        await loop.sock_connect(connection, (host, int(port)))
    except OSError:
        connection.close()
        raise
    return connection


async def raw_send(connection: socket.socket, data: dict[str, Any], path: str = PATH) -> None:
    content = json.dumps(data).encode()
    head = (
        f'POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n'
    )
    await asyncio.get_running_loop().sock_sendall(connection, head.encode() + content)


async def raw_read_all(connection: socket.socket) -> bytes:
    """Until the other side closes."""
    received = b''
    while block := await asyncio.get_running_loop().sock_recv(connection, 65536):
        received += block
    return received
