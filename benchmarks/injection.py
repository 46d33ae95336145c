"""`PromptInjectionScreen`: recall and precision on its samples (`tests/middleware/injection_sample.py`), and megabytes a second.

The floor of the speed is one plain search for "ignore … instructions" in the same text.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from benchmarks.measure import Result, show
from benchmarks.pii import PROSE
from lamella.middleware._injection import judge
from tests.middleware.injection_sample import ATTACKS, HARMLESS, UNSEEN_ATTACKS, UNSEEN_HARMLESS, made, rates

SIZE = 400_000
_FLOOR = re.compile(r'(?i)ignore.{0,40}instructions')


def run() -> list[Result]:
    samples = {
        'texts the rules were corrected on': (ATTACKS, HARMLESS),
        'the same in carriers and disguises': made(1000),
        'texts the rules had not met': (UNSEEN_ATTACKS, UNSEEN_HARMLESS),
    }
    results: list[Result] = []
    for name, (attacks, harmless) in samples.items():
        recall, precision, wrong = rates(lambda text: judge(text).score, attacks, harmless)
        results += [
            Result(f'injection, {name} ({len(attacks)} attacks): recall', recall, ''),
            Result(f'injection, {name} ({len(harmless)} harmless): precision', precision, ''),
            Result(f'injection, {name}: share of the harmless that is found', wrong, ''),
        ]
    text = (PROSE * (SIZE // len(PROSE) + 1))[:SIZE]
    floor = SIZE / 1e6 / _seconds(lambda: _FLOOR.search(text))
    return [*results, Result('injection, prose', SIZE / 1e6 / _seconds(lambda: judge(text)), 'MB/s', floor)]


def _seconds(work: Callable[[], object]) -> float:
    best = float('inf')
    for _ in range(3):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


if __name__ == '__main__':
    show(run())
