"""What the simulator received, and what became of it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Generator, Mapping
from concurrent.futures import Future
from typing import Any

from lamella.types import JSON, EmbeddingRequest, ModelRequest

_SECRET_HEADERS = ('authorization', 'x-api-key', 'x-goog-api-key', 'api-key', 'cookie', 'proxy-authorization')
_MASK = '***'


class Signal:
    """Something that happens once. `await signal` on any event loop, `signal.wait(timeout)` in any thread, true afterwards."""

    __slots__ = ('_future',)

    def __init__(self) -> None:
        self._future: Future[None] = Future()

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def wait(self, timeout: float | None = None) -> None:
        """Blocks the thread. Raises TimeoutError."""
        self._future.result(timeout)

    def __bool__(self) -> bool:
        return self._future.done()

    def __await__(self) -> Generator[Any, None, None]:
        return asyncio.shield(asyncio.wrap_future(self._future)).__await__()

    def __repr__(self) -> str:
        return str(bool(self))


class ReceivedRequest:
    """One request. `headers` (names in lower case) and `path` hold credentials as they came; `repr` masks them.

    `body` is the decoded JSON, or the text when it is none; `request` is the same as Lamella's own type, and `embedding` where
    texts are to be embedded; `number` counts
    the model's requests from 1. `status` is the HTTP status that was answered (`None` for none), `faults` the kinds that
    acted, `parts_sent` the stream's parts that the connection has taken so far.

    Signals, to be awaited or asked for their truth: `stalled` (a stall has begun), `blocked` (the client has not read what
    was sent), `disconnected` (it left before the end), `done` (nothing more will be sent).
    """

    def __init__(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        self.method = method
        self.path = path
        self.headers = dict(headers)
        self.body: Any = None
        self.protocol: str | None = None
        self.model: str | None = None
        self.number: int | None = None
        self.stream = False
        self.request: ModelRequest | None = None
        self.embedding: EmbeddingRequest | None = None
        self.faults: tuple[str, ...] = ()
        self.status: int | None = None
        self.parts_sent = 0
        self.stalled = Signal()
        self.blocked = Signal()
        self.disconnected = Signal()
        self.done = Signal()

    def shown(self) -> JSON:
        """The record as JSON data, credentials masked."""
        return {
            'method': self.method,
            'path': self.path.partition('?')[0] + ('?' + _MASK if '?' in self.path else ''),
            'headers': {name: _MASK if name in _SECRET_HEADERS else value for name, value in self.headers.items()},
            'body': self.body,
            'protocol': self.protocol,
            'model': self.model,
            'number': self.number,
            'stream': self.stream,
            'faults': list(self.faults),
            'status': self.status,
            'parts_sent': self.parts_sent,
            'stalled': bool(self.stalled),
            'blocked': bool(self.blocked),
            'disconnected': bool(self.disconnected),
            'done': bool(self.done),
        }

    def __repr__(self) -> str:
        shown = self.shown()
        return (
            f'ReceivedRequest({", ".join(f"{name}={value!r}" for name, value in shown.items() if value is not None)})'
        )


class Records:
    """The last `keep` requests, and how many there were. Asked from any thread."""

    def __init__(self, keep: int) -> None:
        self.kept: deque[ReceivedRequest] = deque(maxlen=keep)
        self.total = 0
        self._expected: dict[int, Signal] = {}
        self._lock = threading.Lock()

    def add(self, record: ReceivedRequest) -> None:
        with self._lock:
            self.kept.append(record)
            self.total += 1
            if (arrived := self._expected.pop(self.total, None)) is not None:
                arrived.set()

    def clear(self) -> None:
        with self._lock:
            self.kept.clear()
            self.total = 0

    def arrived(self, count: int) -> Signal:
        """Set once `count` requests have arrived."""
        with self._lock:
            if self.total < count:
                return self._expected.setdefault(count, Signal())
        over = Signal()
        over.set()
        return over
