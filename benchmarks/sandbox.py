"""No promise, but a figure to report: what it costs to run a tool in a process of its own, without walls and behind each kind.

The floor is a bare `python -I -S -c pass` started from asyncio. Each figure is the whole of a run with one tool call, on an
instant model; some 25 µs of it are the run itself.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from benchmarks.measure import Result, per_call_now, show
from benchmarks.sandboxed import add
from benchmarks.subjects import app
from lamella.middleware import Sandbox
from lamella.middleware._sandbox_plan import BACKENDS, WALLS
from lamella.middleware._sandbox_walls import found

FLOOR = 'an interpreter that does nothing'


async def _nothing() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, '-I', '-S', '-c', 'pass', stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    await process.communicate()


def _round(sandbox: Sandbox) -> Any:
    ai = app()

    async def call() -> None:
        response = await ai.generate(model='bench/tools', prompt='hi', tools=[add], use=[sandbox])
        assert response.turns[0].tool_responses[0].tool_response.output == 3

    return call


def run() -> list[Result]:
    sandboxes = {'limits alone': Sandbox(walls=[])}
    for backend in BACKENDS:
        if found(WALLS, (backend,)).problem is None:
            sandboxes[f'all walls by {backend}'] = Sandbox(backend=backend)
    works = {FLOOR: _nothing, **{name: _round(sandbox) for name, sandbox in sandboxes.items()}}
    best = per_call_now(works, count=20, rounds=5)
    floor = best[FLOOR] / 1000
    return [Result(f'sandboxed call, {name}', best[name] / 1000, 'ms', floor) for name in sandboxes]


if __name__ == '__main__':
    show(run())
