"""What the memory store holds: rows by table and key, when they end, and the lists that they stand in."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from threading import Lock
from typing import Any

from lamella.core.clock import Clock

FOREVER = math.inf


class Row:
    """What is kept for one key, until when, and when that is looked at next."""

    __slots__ = ('content', 'due', 'listed', 'until')

    def __init__(self, content: Any) -> None:
        self.content = content
        self.listed: str | None = None
        self.until = self.due = FOREVER


class Rows:
    """What has expired is removed as the rows are used, oldest first, so that nothing piles up."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._tables: dict[str, dict[str, Row]] = {name: {} for name in ('value', 'count', 'bucket', 'lease', 'log')}
        self._lists: dict[str, dict[str, None]] = {}  # in the order of the last change
        self._expiries: list[tuple[float, str, str]] = []
        self._version = 0

    def __len__(self) -> int:
        """How many keys are held, of all ports."""
        with self._lock:
            self._now()
            return sum(map(len, self._tables.values()))

    def _now(self) -> float:
        """The time, after what has expired by then is gone. The lock is held."""
        now = self._clock.now()
        if self._expiries and self._expiries[0][0] <= now:
            self._sweep(now)
        return now

    def _sweep(self, now: float) -> None:
        while self._expiries and self._expiries[0][0] <= now:
            due, table, key = heapq.heappop(self._expiries)
            row = self._tables[table].get(key)
            if row is None or row.due != due:
                continue
            if row.until <= now:
                self._forget(table, key)
            elif row.until != FOREVER:
                self._note(table, key, row)
            else:
                row.due = FOREVER

    def _row(self, table: str, key: str, make: Callable[[], Any]) -> Row:
        rows = self._tables[table]
        if key not in rows:
            rows[key] = Row(make())
        return rows[key]

    def _expire(self, table: str, key: str, row: Row, until: float) -> None:
        """A row has one entry among the expiries, however often it is put off."""
        row.until = until
        if until < row.due:
            self._note(table, key, row)

    def _note(self, table: str, key: str, row: Row) -> None:
        row.due = row.until
        heapq.heappush(self._expiries, (row.due, table, key))
        if len(self._expiries) > 64 + 2 * sum(map(len, self._tables.values())):
            self._expiries = [
                (row.due, table, key)
                for table, rows in self._tables.items()
                for key, row in rows.items()
                if row.due != FOREVER
            ]
            heapq.heapify(self._expiries)

    def _forget(self, table: str, key: str) -> Any:
        """The row's content, which is no longer there; `None` when it was not."""
        row = self._tables[table].pop(key, None)
        if row is not None and row.listed is not None:
            self._unlist(row.listed, key)
        return None if row is None else row.content

    def _unlist(self, name: str, key: str) -> None:
        keys = self._lists[name]
        del keys[key]
        if not keys:
            del self._lists[name]

    def _number(self) -> int:
        self._version += 1
        return self._version
