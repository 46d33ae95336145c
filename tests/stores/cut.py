"""A wire between a client and a server that can be cut after a request went through and before its answer comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Wire:
    def __init__(self, host: str, port: int) -> None:
        self._to = (host, port)
        self.port = 0
        self.cut_at: bytes | None = None
        self.cuts = 0
        self._ends: set[asyncio.StreamWriter] = set()

    def cut_answers_to(self, request: bytes) -> None:
        """The next request with these bytes in it reaches the server; its answer is lost, and so is the connection."""
        self.cut_at = request

    async def joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._to)
        self._ends |= {writer, back}
        answers = asyncio.create_task(self._carry(there, writer))
        try:
            while data := await reader.read(65536):
                is_cut = self.cut_at is not None and self.cut_at in data
                if is_cut:
                    self.cut_at = None
                    self.cuts += 1
                    await stopped(answers)
                back.write(data)
                await back.drain()
                if is_cut:
                    await there.read(1)  # it has been done
                    return
        except ConnectionError:
            return
        finally:
            await stopped(answers)
            for end in (writer, back):
                self._ends.discard(end)
                end.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    def close(self) -> None:
        for end in self._ends:
            end.close()


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def wire_to(host: str, port: int) -> AsyncIterator[Wire]:
    wire = Wire(host, port)
    async with await asyncio.start_server(wire.joined, '127.0.0.1', 0) as server:
        wire.port = server.sockets[0].getsockname()[1]
        yield wire
        server.close()
        wire.close()
