"""Tests in virtual time: `asyncio.sleep`, `asyncio.timeout` and `ctx.clock` agree, and nobody waits."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from random import Random
from typing import Any

from benchmarks import virtual
from lamella import Lamella
from lamella.core.model import Model
from lamella.core.models import FunctionModel
from lamella.stores.memory import MemoryStore
from lamella.testing import CollectingSink
from lamella.types import STREAM_PARTS, Finished, LamellaError, ModelRequest, ResponseStarted, TextDelta, Usage

Clock = virtual.LoopClock


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test, run to its end on a loop of its own whose time is virtual."""

    @wraps(test)
    def run(**given: Any) -> None:
        virtual.run(test(**given))

    return run


class Timed:
    """A model whose calls follow scripts: numbers are seconds to wait, texts are pieces, exceptions are raised, parts are given.

    The last script is for all further calls. `calls` has for each call when it began, how it ended and when: `done`, `failed`
    or `left`.
    """

    def __init__(self, *scripts: Sequence[Any] | Callable[[int], Sequence[Any]], name: str = 'x/a') -> None:
        self.scripts, self.name = scripts, name
        self.calls: list[list[Any]] = []
        self.requests: list[ModelRequest] = []

    @property
    def model(self) -> Model:
        return FunctionModel(self._stream, self.name)

    @property
    def ends(self) -> list[str]:
        return [call[1] for call in self.calls]

    @property
    def begins(self) -> list[float]:
        return [call[0] for call in self.calls]

    async def _stream(self, request: ModelRequest, ctx: Any) -> Any:
        now = asyncio.get_running_loop().time
        call: list[Any] = [now(), 'left', 0.0]
        script = self.scripts[min(len(self.calls), len(self.scripts) - 1)]
        steps = script(len(self.calls)) if callable(script) else script
        self.calls.append(call)
        self.requests.append(request)
        try:
            yield ResponseStarted(self.name)
            for step in steps:
                if isinstance(step, (int, float)):
                    await asyncio.sleep(step)
                elif isinstance(step, str):
                    yield TextDelta(step)
                elif isinstance(step, BaseException):
                    call[1] = 'failed'
                    raise type(step)(*step.args) if not isinstance(step, LamellaError) else again(step)
                else:
                    assert type(step) in STREAM_PARTS
                    call[1] = 'done' if type(step) is Finished else 'left'
                    yield step
            call[1] = 'done'
            if not steps or type(steps[-1]) is not Finished:
                yield Finished('stop', Usage(1, 2, 3))
        finally:
            call[2] = now()


def again(error: LamellaError) -> LamellaError:
    """The same failure as a new object."""
    return LamellaError(error.status, error.message, retry_after_s=error.retry_after_s, details=error.details)


def timed_app(*models: Timed, seed: int = 7, **options: Any) -> tuple[Lamella, CollectingSink]:
    """An app in virtual time; the first model is its default."""
    sink, clock = CollectingSink(), Clock()
    store = options.pop('store', None)
    store = MemoryStore(clock=clock) if store is None else store
    ai = Lamella(model=models[0].model, sinks=[sink], clock=clock, random=Random(seed), store=store, **options)
    for timed in models:
        ai.registry.add_model(timed.name, timed.model)
    return ai, sink


async def tried(ai: Lamella, streaming: bool, use: Sequence[Any], **options: Any) -> Any:
    """One call; its response or its error, whichever door it took."""
    try:
        if not streaming:
            return await ai.generate(prompt='hi', use=list(use), **options)
        stream = ai.generate_stream(prompt='hi', use=list(use), **options)
        async for _ in stream:
            pass
        return await stream.response
    except LamellaError as error:
        return error


__all__ = ['Clock', 'Timed', 'again', 'in_virtual_time', 'timed_app', 'tried']
