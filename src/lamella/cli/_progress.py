"""A line that moves while a batch runs, on standard error: a bar in a terminal, nothing elsewhere, and a summary at the end."""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any

from lamella.cli._batch_run import Tally
from lamella.cli._echo import echo

EVERY_S = 0.1


class Progress:
    """`with Progress(…) as shown: shown.update(tally)`. In a terminal with rich: a bar with rate, cost and errors."""

    def __init__(self, *, quiet: bool, total: int | None) -> None:
        self._quiet, self._total = quiet, total
        self._bar: Any = None
        self._task: Any = None
        self._since = time.monotonic()
        self._next = 0.0

    def __enter__(self) -> Progress:
        if not self._quiet and sys.stderr.isatty():
            self._bar = _bar()
            if self._bar is not None:
                self._bar.start()
                self._task = self._bar.add_task('', total=self._total, told='')
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, tally: Tally) -> None:
        now = time.monotonic()
        if self._bar is None or now < self._next:
            return
        self._next = now + EVERY_S
        self._bar.update(self._task, completed=tally.done, told=self._told(tally))

    def done(self, tally: Tally) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=tally.done, told=self._told(tally))
            self._bar.stop()
        if not self._quiet:
            echo(self.summary(tally), err=True)

    def summary(self, tally: Tally) -> str:
        """`1,200 answered, 3 failed, 40 from before, in 12.3 s (97.8/s), $0.012345`."""
        before = f', {tally.skipped:,} from before' if tally.skipped else ''
        took = time.monotonic() - self._since
        cost = '' if tally.cost_usd is None else f', ${tally.cost_usd:.6f}'
        return f'{tally.answered:,} answered, {tally.failed:,} failed{before}, in {took:.1f} s ({self._rate(tally):.1f}/s){cost}'

    def _told(self, tally: Tally) -> str:
        cost = '' if tally.cost_usd is None else f'  ${tally.cost_usd:.4f}'
        return f'{self._rate(tally):.1f}/s  {tally.failed} failed{cost}'

    def _rate(self, tally: Tally) -> float:
        return (tally.answered + tally.failed) / max(time.monotonic() - self._since, 1e-9)


def _bar() -> Any:
    try:
        progress, console = importlib.import_module('rich.progress'), importlib.import_module('rich.console')
    except ImportError:
        return None
    return progress.Progress(
        progress.BarColumn(None),
        progress.MofNCompleteColumn(),
        progress.TextColumn('{task.fields[told]}'),
        progress.TimeRemainingColumn(),
        console=console.Console(stderr=True),
    )
