"""How things are measured here: best of several rounds, subject and floor in turn, so that noise hits both alike."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

ROUNDS = 9
AsyncWork = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Result:
    """One measured figure. `ratio` is value / floor; `promise` says what the design promises, `kept` whether it holds."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    promise: str = ''
    kept: bool | None = None

    @property
    def ratio(self) -> float | None:
        return None if not self.floor else self.value / self.floor

    def as_json(self) -> str:
        ratio = None if self.ratio is None else round(self.ratio, 3)
        return json.dumps({**asdict(self), 'value': round(self.value, 4), 'ratio': ratio})


async def per_call(works: dict[str, AsyncWork], count: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Microseconds per call of each work, the best of several rounds, taken in turn."""
    best = dict.fromkeys(works, float('inf'))
    for _ in range(rounds):
        for name, work in works.items():
            await work()
            started = time.perf_counter()
            for _ in range(count):
                await work()
            best[name] = min(best[name], (time.perf_counter() - started) / count * 1e6)
    return best


def per_call_now(works: dict[str, AsyncWork], count: int, rounds: int = ROUNDS) -> dict[str, float]:
    """The same on an event loop of its own."""
    return asyncio.run(per_call(works, count, rounds))


def show(results: list[Result]) -> None:
    """One JSON object a line."""
    for result in results:
        print(result.as_json())
