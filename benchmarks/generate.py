"""Promise: a whole generate with an instant model costs at most 6 µs of ours, a tool round 25 µs."""

from __future__ import annotations

from benchmarks.measure import Result, per_call_now, show
from benchmarks.subjects import add, app, tool_floor, typed_floor


def run() -> list[Result]:
    ai = app()
    best = per_call_now(
        {
            'generate': lambda: ai.generate(model='bench/instant', prompt='hi'),
            'floor': typed_floor,
            'tool round': lambda: ai.generate(model='bench/tools', prompt='hi', tools=[add]),
            'tool floor': tool_floor,
        },
        count=3000,
    )
    whole, tools = best['generate'], best['tool round']
    return [
        Result('generate, instant model', whole, 'µs', best['floor'], '≤ 6 µs', whole <= 6),
        Result('tool round', tools, 'µs', best['tool floor'], '≤ 25 µs', tools <= 25),
    ]


if __name__ == '__main__':
    show(run())
