"""The one synchronous door: runs the async code on an event loop of its own, in one thread per app."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any, TypeVar

from typing_extensions import Unpack

from lamella.engine.embed import EmbedOptions
from lamella.engine.options import GenerateOptions
from lamella.types import EmbeddingResponse, GenerateResponse, LamellaError, StreamPart

T = TypeVar('T')
_END = object()


class SyncDoor:
    """`ai.sync`: for code that is not async. Works from any thread, also inside a running event loop (which it blocks)."""

    def __init__(self, ai: Any) -> None:
        self._ai = ai
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def generate(self, **options: Unpack[GenerateOptions]) -> GenerateResponse:
        """`ai.generate(…)`, waited for."""
        response: GenerateResponse = self.run(self._ai.generate(**options))
        return response

    def embed(self, texts: str | Iterable[str], **options: Unpack[EmbedOptions]) -> EmbeddingResponse:
        """`ai.embed(…)`, waited for."""
        response: EmbeddingResponse = self.run(self._ai.embed(texts, **options))
        return response

    def generate_stream(self, **options: Unpack[GenerateOptions]) -> Iterator[StreamPart]:
        """The parts of `ai.generate_stream(…)`, one by one. Closing the iterator cancels the call."""
        stream = self.run(self._opened(options))
        parts = aiter(stream)
        try:
            while (part := self.run(_next(parts))) is not _END:
                yield part
        finally:
            self.run(stream.aclose())

    async def _opened(self, options: GenerateOptions) -> Any:
        return self._ai.generate_stream(**options)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run any coroutine on the door's loop and wait for it. Ctrl-C cancels it.

        Raises FAILED_PRECONDITION in code that this loop runs itself, which would wait for itself for ever.
        """
        if self._thread is threading.current_thread():
            coroutine.close()
            raise LamellaError(
                'FAILED_PRECONDITION', 'ai.sync in async code that ai.sync runs: await ai.generate(…) there'
            )
        future = asyncio.run_coroutine_threadsafe(coroutine, self._started())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name='lamella-sync', daemon=True)
                self._thread.start()
            return self._loop

    def close(self) -> None:
        """Stop the loop's thread. The door opens again when it is used again."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """The thread of the door: until its loop is stopped, whose sockets are then closed."""
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(_cancel_the_rest())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _cancel_the_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


async def _next(parts: Any) -> Any:
    return await anext(parts, _END)
