"""Reading a trace file: its runs, and each as a tree."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from lamella.engine.traces.store import opened
from lamella.types import ConfigError, Data, UnknownNameError


class RunRow(Data, frozen=True):
    """One run. `status` is `running`, `failed`, or the run's stop reason; times are seconds since 1970."""

    number: int
    id: str
    name: str
    began: float
    ended: float | None
    status: str
    turns: int | None
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    error: str | None


_COLUMNS = ', '.join(RunRow.__struct_fields__)


class NoteRow(Data, frozen=True):
    """Something that happened within a span."""

    at: float
    name: str
    facts: dict[str, Any]


class SpanRow(Data, frozen=True):
    """One span of a run, with what happened in it and the spans inside of it."""

    id: int
    kind: str
    name: str
    began: float
    ended: float | None
    error: str | None
    facts: dict[str, Any]
    notes: tuple[NoteRow, ...] = ()
    inside: tuple[SpanRow, ...] = ()


class TraceReader:
    """A trace file, read only, also while others write to it. Raises ConfigError when there is none."""

    def __init__(self, path: str | os.PathLike[str] = 'traces.db') -> None:
        self.path = os.fspath(path)
        if not os.path.isfile(self.path):
            raise ConfigError(
                f'there is no trace file {self.path}: runs are kept with Lamella(sinks=[TraceStore({self.path!r})])'
            )
        try:
            self._connection = opened(self.path, read_only=True)
        except sqlite3.Error as error:
            raise ConfigError(f'{self.path} is no trace file: {error}') from error

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> TraceReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def runs(self, *, limit: int = 20, after: int | None = None, status: str | None = None) -> Sequence[RunRow]:
        """The latest runs, the latest first; with `after`, those behind that number, the oldest first."""
        where, values = ['number > ?'], [after or 0, *([status] if status else [])]
        where += ['status = ?'] if status else []
        order = 'DESC' if after is None else 'ASC'
        sql = f'SELECT {_COLUMNS} FROM runs WHERE {" AND ".join(where)} ORDER BY number {order} LIMIT ?'
        return [RunRow(*row) for row in self._rows(sql, (*values, limit))]

    def run(self, wanted: str) -> RunRow:
        """By its id, the beginning or the end of it, or `last`. Raises UnknownNameError when it is none, or several."""
        if wanted == 'last':
            found = list(self.runs(limit=1))
        else:
            sql = f'SELECT {_COLUMNS} FROM runs WHERE instr(id, ?) > 0 ORDER BY number DESC LIMIT 9'
            found = [RunRow(*row) for row in self._rows(sql, (wanted,))]
            found = [row for row in found if row.id == wanted] or found
        if len(found) != 1:
            raise UnknownNameError('run', wanted, [row.id for row in found] or [row.id for row in self.runs(limit=5)])
        return found[0]

    def tree(self, run: RunRow) -> SpanRow:
        """The run's own span, with everything in it. Raises UnknownNameError when it was removed meanwhile."""
        notes: dict[int, list[NoteRow]] = {}
        for span, at, name, facts in self._rows(
            'SELECT span, at, name, facts FROM notes WHERE run = ? ORDER BY id', (run.number,)
        ):
            notes.setdefault(span, []).append(NoteRow(at, name, msgspec.json.decode(facts)))
        inside: dict[int | None, list[Any]] = {}
        for row in self._rows(
            'SELECT parent, id, kind, name, began, ended, error, facts FROM spans WHERE run = ? ORDER BY id',
            (run.number,),
        ):
            inside.setdefault(row[0], []).append(row[1:])
        if None not in inside:
            raise UnknownNameError('run', run.id, [])
        return _built(inside[None][0], inside, notes)

    def _rows(self, sql: str, values: Sequence[Any]) -> Iterator[Any]:
        try:
            yield from self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise ConfigError(f'{self.path} cannot be read: {error}') from error


def _built(row: Sequence[Any], inside: dict[int | None, list[Any]], notes: dict[int, list[NoteRow]]) -> SpanRow:
    id, kind, name, began, ended, error, facts = row
    children = tuple(_built(child, inside, notes) for child in inside.get(id, ()))
    told = msgspec.json.decode(facts)
    return SpanRow(id, kind, name, began, ended, error, told, tuple(notes.get(id, ())), children)
