"""The same in machine instructions, counted by valgrind's callgrind where it is installed: they repeat where seconds do not.

Run with a subject and a count, this module is the program that is counted; two counts give the slope of one call.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable

from benchmarks.measure import Result, show
from benchmarks.subjects import PassModel, app, by_hand, instant, typed_floor
from lamella import ModelRequest
from lamella.core.params import ModelHookParams
from lamella.core.stack import fold_model

FEW, MANY = 20, 220


def run() -> list[Result]:
    if shutil.which('valgrind') is None:
        return []
    count = {name: _slope(name) for name in ('ours', 'by_hand', 'generate', 'floor')}
    ratio = count['ours'] / count['by_hand']
    return [
        Result('10 layers', count['ours'], 'instructions', count['by_hand'], '≤ 2 × by hand', ratio <= 2),
        Result('generate, instant model', count['generate'], 'instructions', count['floor']),
    ]


def _slope(subject: str) -> float:
    return (_counted(subject, MANY) - _counted(subject, FEW)) / (MANY - FEW)


def _counted(subject: str, calls: int) -> int:
    command = ['valgrind', '--tool=callgrind', '--callgrind-out-file=/dev/null', sys.executable, '-m', __spec__.name]
    environment = {**os.environ, 'PYTHONHASHSEED': '0'}
    done = subprocess.run([*command, subject, str(calls)], capture_output=True, text=True, env=environment, check=True)
    found = re.search(r'Collected : (\d+)', done.stderr)
    if found is None:
        raise RuntimeError(f'callgrind printed no count: {done.stderr[-400:]}')
    return int(found.group(1))


def _subject(name: str) -> Callable[[], Awaitable[object]]:
    ai = app()
    params = ModelHookParams(ModelRequest(), ai.resolve_model('bench/instant'))
    ours, theirs = fold_model([PassModel() for _ in range(10)], instant), by_hand(10)
    return {
        'ours': lambda: ours(params, None),
        'by_hand': lambda: theirs(params, None),
        'generate': lambda: ai.generate(model='bench/instant', prompt='hi'),
        'floor': typed_floor,
    }[name]


async def _repeat(work: Callable[[], Awaitable[object]], count: int) -> None:
    for _ in range(count):
        await work()


if __name__ == '__main__':
    if len(sys.argv) == 3:
        asyncio.run(_repeat(_subject(sys.argv[1]), int(sys.argv[2])))
    else:
        show(run())
