"""`PIIRedaction`: megabytes a second through the recognisers, what a stream's piece costs, and precision and recall.

The floor is one plain regular expression for e-mail and digits, searched through the same text: it finds less, checks nothing,
and cannot work in a stream. Precision and recall are counted on a labelled sample that is made anew
(`tests/middleware/pii_sample.py`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from benchmarks.measure import Result, show
from lamella.middleware._pii import ENTITIES, Recognisers, Sweep
from tests.middleware.pii_sample import sample, score

SIZE = 400_000
PIECE = 5  # characters, about what a model sends at once
ROUNDS = 3
_FLOOR = re.compile(r'[\w.+-]+@[\w-]+\.[\w.-]+|\d(?:[ -]?\d){8,18}')
PROSE = (
    'The committee met on Monday, and 42 people came; minutes (see page 3) were taken as before. Nobody objected to it, '
    'although the price had gone up by 4.5% since 2019: "We knew", said one of them, "that version 2.1 would be late". '
)


def run() -> list[Result]:
    everything = Recognisers(ENTITIES, {}, ('US',))
    prose = (PROSE * (SIZE // len(PROSE) + 1))[:SIZE]
    mixed = '\n'.join(one.text for one in sample(each=12))
    mixed = (mixed * (SIZE // len(mixed) + 1))[:SIZE]
    results = [
        _speed('PII, prose', lambda: everything.pieces(prose), lambda: _FLOOR.findall(prose), len(prose)),
        _speed(
            'PII, half of the text hidden', lambda: everything.pieces(mixed), lambda: _FLOOR.findall(mixed), len(mixed)
        ),
    ]
    for entity in ENTITIES:
        alone = Recognisers([entity], {}, ('US',))
        results.append(_speed(f'PII, prose, {entity} alone', lambda alone=alone: alone.pieces(prose), None, len(prose)))  # type: ignore[misc]
    return [*results, *_stream(everything, prose), *_quality()]


def _speed(name: str, work: Callable[[], object], floor: Callable[[], object] | None, size: int) -> Result:
    """Megabytes (of ASCII text) a second; the ratio is to the floor's speed."""
    fast = None if floor is None else size / 1e6 / _seconds(floor)
    return Result(name, size / 1e6 / _seconds(work), 'MB/s', fast)


def _seconds(work: Callable[[], object]) -> float:
    best = float('inf')
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


def _stream(recognisers: Recognisers, text: str) -> list[Result]:
    text = text[: SIZE // 8]

    def read() -> None:
        sweep = Sweep(recognisers)
        for at in range(0, len(text), PIECE):
            sweep.feed(text[at : at + PIECE])
        sweep.feed('', final=True)

    return [
        Result(f'PII, each piece of {PIECE} characters in a stream', _seconds(read) / (len(text) / PIECE) * 1e6, 'µs')
    ]


def _quality() -> list[Result]:
    scores = score(sample())
    total = scores['all']
    parts = [
        Result(
            f'PII, {entity}: recall {got.recall:.3f}, without the hard ones {got.easy_recall:.3f}; precision',
            got.precision,
            '',
        )
        for entity, got in scores.items()
        if entity != 'all'
    ]
    return [
        Result('PII, precision on the sample', total.precision, '', None, '≥ 0.985', total.precision >= 0.985),
        Result('PII, recall on the sample', total.recall, '', None, '≥ 0.96', total.recall >= 0.96),
        Result('PII, recall without the hard ones', total.easy_recall, '', None, '≥ 0.98', total.easy_recall >= 0.98),
        *parts,
    ]


if __name__ == '__main__':
    show(run())
