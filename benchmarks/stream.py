"""Promise: a streamed part costs at most 0.8 µs through the engine, + 0.15 µs for a layer that looks at parts, + 0 for one
that does not. Memory stays constant."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Result, per_call_now, show
from benchmarks.subjects import PIECES, PassModel, PassStream, PassTransform, app, thousand
from lamella import Lamella
from lamella.types import Finished, ResponseStarted, TextDelta

PARTS = len(PIECES) + 2


def run() -> list[Result]:
    ai = app()
    best = per_call_now(
        {
            'floor': _floor,
            'engine': _reading(ai, []),
            'seeing': _reading(ai, [PassStream() for _ in range(10)]),
            'blind': _reading(ai, [PassTransform() for _ in range(10)]),
            'bridged': _reading(ai, [PassModel()]),
            'bridged 11': _reading(ai, [PassModel() for _ in range(11)]),
        },
        count=3,
    )
    part = {name: value / PARTS for name, value in best.items()}
    seeing, blind = (part['seeing'] - part['engine']) / 10, (part['blind'] - part['engine']) / 10
    bridge, more = part['bridged'] - part['engine'], (part['bridged 11'] - part['bridged']) / 10
    hop = part['floor']
    return [
        Result('stream, each part', part['engine'], 'µs', hop, '≤ 0.8 µs', part['engine'] <= 0.8),
        Result('+ a layer that looks at parts', seeing, 'µs', hop, '≤ 0.15 µs', seeing <= 0.15),
        Result('+ a layer that sees requests alone', blind, 'µs', hop, '0 (± 0.01 µs)', blind <= 0.01),
        Result('+ the first wrap_model-only layer', bridge, 'µs', hop),
        Result('+ each further wrap_model-only layer', more, 'µs', hop),
        *asyncio.run(_memory(ai)),
    ]


async def _floor() -> int:
    """The parts of the model itself, read by nobody else."""
    seen = 0
    async for _ in thousand(None, None):  # type: ignore[arg-type]
        seen += 1
    return seen


def _reading(ai: Lamella, use: list[Any]) -> Callable[[], Any]:
    async def read() -> int:
        seen = 0
        async for _ in ai.generate_stream(model='bench/stream', prompt='hi', use=use):
            seen += 1
        assert seen == PARTS, seen
        return seen

    return read


async def _memory(ai: Lamella) -> list[Result]:
    """Growth between the 10,000th and the 100,000th part of one stream whose text nobody keeps, and over 2,000 calls."""

    async def endless(request: Any, ctx: Any) -> Any:
        yield ResponseStarted('bench/endless')
        for number in range(100_000):
            yield TextDelta('', number % 2)
        yield Finished()

    taken: list[int] = []
    tracemalloc.start()
    seen = 0
    async for part in ai.generate_stream(model=endless, prompt='hi'):
        seen += 1
        if seen in (10_000, 99_000):
            taken.append(tracemalloc.get_traced_memory()[0])
        del part
    tracemalloc.stop()
    calls = await _growth_over_calls(ai)
    grown = (taken[1] - taken[0]) / 89_000
    return [
        Result('memory, each part beside its text', grown, 'bytes', None, '≤ 16 (a list slot)', grown <= 16),
        Result('memory, each finished call', calls, 'bytes', None, '≤ 8', calls <= 8),
    ]


async def _growth_over_calls(ai: Lamella) -> float:
    tracemalloc.start()
    for _ in range(500):  # fills what is bounded
        await ai.generate(model='bench/instant', prompt='hi', use=[PassModel()])
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(2000):
        await ai.generate(model='bench/instant', prompt='hi', use=[PassModel()])
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return grown / 2000


if __name__ == '__main__':
    show(run())
