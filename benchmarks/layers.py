"""Promise: 10 pass-through layers cost at most 1.3 times hand-written nested coroutines; each adds 0.2 µs to a generate."""

from __future__ import annotations

from benchmarks.measure import Result, per_call_now, show
from benchmarks.subjects import PassModel, app, by_hand, instant
from lamella import ModelRequest
from lamella.core.params import ModelHookParams
from lamella.core.stack import fold_model


def run() -> list[Result]:
    ai = app()
    params = ModelHookParams(ModelRequest(), ai.resolve_model('bench/instant'))
    layers, many = [PassModel() for _ in range(10)], [PassModel() for _ in range(30)]
    ours, theirs = fold_model(layers, instant), by_hand(10)
    best = per_call_now(
        {
            'ours': lambda: ours(params, None),
            'by hand': lambda: theirs(params, None),
            'generate': lambda: ai.generate(model='bench/instant', prompt='hi'),
            'generate in 10': lambda: ai.generate(model='bench/instant', prompt='hi', use=layers),
            'generate in 30': lambda: ai.generate(model='bench/instant', prompt='hi', use=many),
        },
        count=5000,
    )
    each = (best['generate in 30'] - best['generate in 10']) / 20
    floor = (best['by hand']) / 10
    ratio = best['ours'] / best['by hand']
    return [
        Result('10 layers', best['ours'], 'µs', best['by hand'], '≤ 1.3 × by hand', ratio <= 1.3),
        Result('each layer of a generate', each, 'µs', floor, '≤ 0.2 µs', each <= 0.2),
    ]


if __name__ == '__main__':
    show(run())
