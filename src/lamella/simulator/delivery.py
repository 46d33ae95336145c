"""Sends one answer over one connection: part by part, as fast as the reader reads, with the fault that was planned."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence

from aiohttp import web

from lamella.core.clock import Clock
from lamella.simulator.faults import Fault
from lamella.simulator.records import ReceivedRequest
from lamella.simulator.schedule import Plan
from lamella.types import Data

_EVENT_JSON = re.compile(rb'data: ?(\{[^\n]*)')
_LINGER_NOT = struct.pack('ii', 1, 0)


class Piece(Data, frozen=True):
    """Bytes that go out together, and how many tokens they stand for."""

    data: bytes
    tokens: int = 0


class Stalls:
    """The stalls that are going on, to be ended together."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._waiting: set[asyncio.Event] = set()

    async def stall(self, for_s: float | None) -> None:
        """Until the time is over, or until `release`."""
        over = asyncio.Event()
        self._waiting.add(over)
        timer = None if for_s is None else self.clock.call_later(for_s, over.set)
        try:
            await over.wait()
        finally:
            self._waiting.discard(over)
            if timer is not None:
                timer.cancel()

    def release(self) -> None:
        for over in self._waiting:
            over.set()


class Delivery:
    """One answer on its way. `closed` says that a fault closed the connection, and not the client."""

    def __init__(self, request: web.Request, record: ReceivedRequest, plan: Plan, stalls: Stalls) -> None:
        self.request = request
        self.record = record
        self.plan = plan
        self.stalls = stalls
        self.closed = False
        if request.transport is not None:
            request.transport.set_write_buffer_limits(high=0)

    async def whole(self, status: int, headers: Mapping[str, str], body: bytes, tokens: int = 0) -> web.StreamResponse:
        """A body with its length. A fault in the middle acts after half of it."""
        response = web.StreamResponse(status=status, headers=headers)
        broken = self._fault('malformed') is not None
        body = body[: len(body) // 2] if broken else body
        response.content_length = len(body)
        if await self._strikes_first(response):
            return response
        await self._pace(tokens)
        await self._begin(response)
        half = len(body) // 2
        for at, piece in enumerate((body[:half], body[half:])):
            if at == 1 and not broken and await self._strikes():
                return response
            await self._write(response, piece)
        await response.write_eof()
        return response

    async def stream(
        self, headers: Mapping[str, str], start: bytes, pieces: Sequence[Piece], end: Iterable[bytes]
    ) -> web.StreamResponse:
        """Server-sent events: `start` and `end` are no parts of the answer and are not counted."""
        response = web.StreamResponse(headers={**headers, 'content-type': 'text/event-stream; charset=utf-8'})
        response.headers['cache-control'] = 'no-cache'
        if await self._strikes_first(response):
            return response
        await self._begin(response)
        await self._write(response, start)
        last = Piece(b''.join(end))
        strike_at = min(self._position(), len(pieces))
        for at, piece in enumerate((*pieces, last)):
            if at == strike_at and await self._strikes():
                return response
            await self._pace(piece.tokens)
            broken = at == strike_at and self._fault('malformed') is not None
            await self._write(response, broken_event(piece.data) if broken else piece.data)
            self.record.parts_sent += piece is not last
        await response.write_eof()
        return response

    async def _begin(self, response: web.StreamResponse) -> None:
        self.record.status = response.status
        await response.prepare(self.request)

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        """Returns when the connection has taken it all."""
        if not data:
            return
        asyncio.get_running_loop().call_soon(self._note_blocked)
        await response.write(data)
        await self.request.writer.drain()

    def _note_blocked(self) -> None:
        transport = self.request.transport
        if transport is not None and transport.get_write_buffer_size():
            self.record.blocked.set()

    async def _pace(self, tokens: int) -> None:
        if self.plan.per_token_s and tokens:
            await self.stalls.clock.sleep(self.plan.per_token_s * tokens)

    def _fault(self, *kinds: str) -> Fault | None:
        fault = self.plan.fault
        return fault if fault is not None and fault.kind in kinds else None

    def _position(self) -> int:
        fault = self.plan.fault
        return 1 if fault is None or fault.after_parts is None else fault.after_parts

    async def _strikes_first(self, response: web.StreamResponse) -> bool:
        """What acts before the first byte. True when nothing more is to be sent."""
        if fault := self._fault('stall_first'):
            await self._stall(fault)
        reset = self._fault('reset')
        if reset is None or reset.after_parts is not None:
            return False
        self._reset()
        return True

    async def _strikes(self) -> bool:
        """What acts in the middle. True when nothing more is to be sent."""
        if fault := self._fault('stall_middle'):
            await self._stall(fault)
        if self._fault('cut'):
            self._cut()
        if self._fault('reset'):
            self._reset()
        return self.closed

    async def _stall(self, fault: Fault) -> None:
        self.record.stalled.set()
        await self.stalls.stall(fault.for_s)

    def _cut(self) -> None:
        """Closes the connection in order (FIN), though neither the length nor the last chunk was reached."""
        self.closed = True
        if self.request.transport is not None:
            self.request.transport.close()

    def _reset(self) -> None:
        """Closes without lingering, which sends RST."""
        self.closed = True
        transport = self.request.transport
        if transport is None:
            return
        transport.get_extra_info('socket').setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        transport.abort()


def broken_event(data: bytes) -> bytes:
    """The same events, the first JSON object of which breaks off in its middle."""
    found = _EVENT_JSON.search(data)
    if found is None:
        return b'data: {"broken": \n\n' + data
    middle = (found.start(1) + found.end(1)) // 2
    return data[:middle] + data[found.end(1) :]
