"""Promise: time is linear in turns and in layers, up to 1,000 turns × 30 layers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.measure import Result, show
from benchmarks.subjects import ANSWER, CALL, PassModel, add, app
from lamella import Lamella, ModelRequest, ModelResponse


def run() -> list[Result]:
    ai = app()
    few = min(asyncio.run(_seconds(ai, 100, 30)) for _ in range(3)) / 100
    many = min(asyncio.run(_seconds(ai, 1000, 30)) for _ in range(3)) / 1000
    bare = min(asyncio.run(_seconds(ai, 1000, 0)) for _ in range(3)) / 1000
    return [
        Result('a turn of 1,000, 30 layers', many * 1e6, 'µs', few * 1e6, '≤ 1.5 × a turn of 100', many <= 1.5 * few),
        Result('a turn of 1,000, no layers', bare * 1e6, 'µs'),
    ]


async def _seconds(ai: Lamella, turns: int, depth: int) -> float:
    taken = 0

    async def busy(request: ModelRequest, ctx: Any) -> ModelResponse:
        nonlocal taken
        taken += 1
        return ANSWER if taken >= turns else CALL

    layers = [PassModel() for _ in range(depth)]
    started = time.perf_counter()
    response = await ai.generate(model=busy, prompt='hi', tools=[add], use=layers, max_turns=turns)
    assert len(response.turns) == turns, len(response.turns)
    return time.perf_counter() - started


if __name__ == '__main__':
    show(run())
