"""Several Python processes at once, for tests of what processes share.

A worker's work is a function `module:name` (async or not) that takes keyword arguments and returns something JSON knows:

    # tests/stores/work.py
    async def add(url, key, times): ...

    # in a test
    added = run_workers('tests.stores.work:add', [{'url': url, 'key': 'k', 'times': 200}] * 8)

`run_workers` starts all of them, lets them go at the same moment, and returns their results in order. For more control:

    with Workers('tests.stores.work:hold', [{'url': url}] * 2, clock_off_s={1: 3600}) as workers:
        workers.go()
        assert workers.heard(0) == 'held'       # the work called `say('held')`
        workers.kill(0)                         # SIGKILL
        results = workers.results()             # None for whoever was killed

`clock_off_s` sets a worker's wall clock wrong by so many seconds, before anything is imported. A worker that fails makes
`heard` and `results` fail with its traceback. Everything blocks: use `asyncio.to_thread` where the loop must go on.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import queue
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 180


class Workers:
    """One process per entry of `arguments`, ready when the block begins and gone when it ends."""

    def __init__(
        self, target: str, arguments: Sequence[Mapping[str, Any]], *, clock_off_s: Mapping[int, float] | None = None
    ) -> None:
        off = clock_off_s or {}
        self._workers = [_Worker(target, given, off.get(number, 0.0)) for number, given in enumerate(arguments)]

    def __enter__(self) -> Workers:
        try:
            for worker in self._workers:
                worker.wait_for('ready')
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.kill()

    def go(self) -> None:
        """All begin now."""
        for worker in self._workers:
            worker.send('go')

    def heard(self, number: int) -> Any:
        """The next thing that worker says (see `say`)."""
        return self._workers[number].wait_for('said')

    def kill(self, number: int) -> None:
        """SIGKILL."""
        self._workers[number].kill()

    def results(self) -> list[Any]:
        """What each returned, in order; `None` for whoever was killed."""
        return [None if worker.is_killed else worker.wait_for('result') for worker in self._workers]


def run_workers(
    target: str, arguments: Sequence[Mapping[str, Any]], *, clock_off_s: Mapping[int, float] | None = None
) -> list[Any]:
    """All at once, to the end. Their results, in order."""
    with Workers(target, arguments, clock_off_s=clock_off_s) as workers:
        workers.go()
        return workers.results()


def say(value: Any) -> None:
    """In a worker: tell the test something, which it reads with `heard`."""
    _tell('said', value)


class _Worker:
    def __init__(self, target: str, arguments: Mapping[str, Any], clock_off_s: float) -> None:
        self.is_killed = False
        self._target = target
        self._process = subprocess.Popen(
            [sys.executable, '-P', __file__, str(clock_off_s)],
            cwd=ROOT,
            env=os.environ | {'PYTHONPATH': os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send(json.dumps([target, dict(arguments)]))

    def _read(self) -> None:
        with self._process.stdout or nullcontext(()) as lines:
            for line in lines:
                self._lines.put(json.loads(line))
        self._lines.put({'what': 'gone'})

    def send(self, line: str) -> None:
        stdin = self._process.stdin
        if stdin is not None:
            with suppress(BrokenPipeError):  # it has ended; `wait_for` says why
                stdin.write(f'{line}\n')
                stdin.flush()

    def wait_for(self, what: str) -> Any:
        """The next line of that kind; a result that is waited for passes over what was said before."""
        while True:
            try:
                line = self._lines.get(timeout=PATIENCE_S)
            except queue.Empty:
                raise AssertionError(f'{self._target} is silent for {PATIENCE_S} s, waiting for {what!r}') from None
            if line['what'] == what:
                return line.get('value')
            if line['what'] != 'said' or what == 'ready':
                raise AssertionError(f'{self._target} ended before {what!r}: {line.get("value", "no reason given")}')

    def kill(self) -> None:
        self.is_killed = self.is_killed or self._process.poll() is None
        self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()


def _tell(what: str, value: Any = None) -> None:
    # The real standard output is the line to the test; what the work prints goes to standard error.
    os.write(int(os.environ['LAMELLA_WORKER_LINE']), (json.dumps({'what': what, 'value': value}) + '\n').encode())


def _turn_the_clock(seconds: float) -> None:
    right = time.time
    time.time = lambda: right() + seconds


def main(clock_off_s: float) -> None:
    line = os.dup(1)
    os.environ['LAMELLA_WORKER_LINE'] = str(line)
    os.dup2(2, 1)
    if clock_off_s:
        _turn_the_clock(clock_off_s)
    try:
        target, arguments = json.loads(sys.stdin.readline())
        module, _, name = target.partition(':')
        work = getattr(importlib.import_module(module), name)
        _tell('ready')
        if sys.stdin.readline().strip() != 'go':
            return
        result = asyncio.run(work(**arguments)) if inspect.iscoroutinefunction(work) else work(**arguments)
        _tell('result', result)
    except BaseException:
        _tell('failed', traceback.format_exc())
        raise


if __name__ == '__main__':
    main(float(sys.argv[1]))
