"""Promise: `from lamella import Lamella` takes at most 1.5 times `import pydantic`, and 30 MB of memory."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.measure import Result, show

_WITH_BYTECODE = {key: value for key, value in os.environ.items() if key != 'PYTHONDONTWRITEBYTECODE'}
_PROGRAM = """
import time
started = time.perf_counter()
import {module}
took = (time.perf_counter() - started) * 1000
pages = int(open('/proc/self/statm').read().split()[1]) if __import__('os').path.exists('/proc/self/statm') else 0
print(took, pages * 4096 / 2**20)
"""


def run() -> list[Result]:
    best = {
        name: [float('inf'), float('inf')] for name in ('lamella, lamella.engine.app', 'pydantic, pydantic.main', 'sys')
    }
    for _ in range(7):
        for name, figures in best.items():
            took, memory = _imported(name)  # the first round writes the compiled files
            figures[0], figures[1] = min(figures[0], took), min(figures[1], memory)
    ours, floor, empty = best['lamella, lamella.engine.app'], best['pydantic, pydantic.main'], best['sys']
    ratio = ours[0] / floor[0]
    return [
        Result('from lamella import Lamella', ours[0], 'ms', floor[0], '≤ 1.5 × pydantic', ratio <= 1.5),
        Result('memory of a process with it', ours[1], 'MB', empty[1], '≤ 30 MB', ours[1] <= 30),
    ]


def _imported(module: str) -> tuple[float, float]:
    command = [sys.executable, '-c', _PROGRAM.format(module=module)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=_WITH_BYTECODE).stdout.split()
    return float(printed[0]), float(printed[1])


if __name__ == '__main__':
    show(run())
