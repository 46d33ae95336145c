"""A sink that keeps every run in one SQLite file, bounded in size, without holding up a call."""

from __future__ import annotations

import atexit
import os
import queue
import sqlite3
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec

from lamella.core.clock import SYSTEM_CLOCK, Clock
from lamella.core.events import Event
from lamella.core.spans import Kind, SpanTree
from lamella.engine.traces.schema import TABLES, VERSION
from lamella.middleware import _gen_ai as names
from lamella.types import ConfigError, Usage

MAX_QUEUED = 20_000
MAX_OPEN = 10_000
LAST_WAIT_S = 2.0
_PRUNED_AT_ONCE = 50
_ATTEMPTS = 5
_BEGINS = ('run.start', 'embed.start')
Row = tuple[str, tuple[Any, ...]]


class TraceStore:
    """Give it to `Lamella(sinks=[TraceStore('traces.db')])`; `lamella trace` reads the file.

    A thread of its own writes. When the disk is too slow for it, whole events are dropped and counted in `dropped`; when the
    file cannot be written, `failed` has the error, and no call notices. The oldest runs are removed beyond `max_runs` and
    `max_mb`. What models and tools say is kept only with `capture_content`, cut at `max_chars`, and never with what looks like a
    credential. Several processes may write to one file. `flush` waits until all is written, `close` ends the thread.
    Raises ConfigError for settings that cannot work.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = 'traces.db',
        *,
        max_runs: int = 10_000,
        max_mb: float = 256.0,
        capture_content: bool = False,
        max_chars: int = 8_000,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        given: dict[str, Any] = {'max_runs': max_runs, 'max_mb': max_mb, 'max_chars': max_chars}
        for field, value in given.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ConfigError(f'TraceStore: {field}={value!r}: give a number above 0')
        self.path = os.fspath(path)
        self.dropped = 0
        self.failed: Exception | None = None
        self._max_runs, self._max_bytes = max_runs, int(max_mb * 1_000_000)
        self._capture = max_chars if capture_content else 0
        self._clock = clock
        self._trees: dict[str, SpanTree[int]] = {}
        self._queue: queue.Queue[list[Row] | threading.Event | None] = queue.Queue(MAX_QUEUED)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f'TraceStore({self.path!r})'

    def __call__(self, event: Event) -> None:
        tree = self._trees.get(event.run_id)
        if tree is None:
            if len(self._trees) >= MAX_OPEN:
                self.dropped += 1
                return
            tree = self._trees[event.run_id] = SpanTree(_Writer(self, event.run_id))
        tree(event)
        if tree.is_over:
            self._trees.pop(event.run_id, None)

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until everything told so far is in the file. False when it took longer; blocks the calling thread."""
        if self._thread is None:
            return True
        done = threading.Event()
        try:
            self._queue.put(done, timeout=timeout_s)
        except queue.Full:
            return False
        return done.wait(timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what is left and end the thread. The store can be used again afterwards."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with suppress(queue.Full):
                self._queue.put(None, timeout=timeout_s)
            thread.join(timeout_s)

    def give(self, rows: list[Row]) -> None:
        """For the spans of a run: write these."""
        if self._thread is None:
            self._start()
        try:
            self._queue.put_nowait(rows)
        except queue.Full:
            self.dropped += 1

    def wall_s(self, at_s: float) -> float:
        """The wall clock's reading when the run's clock read this."""
        return at_s + self._clock.time() - self._clock.now()

    @property
    def capture(self) -> int:
        return self._capture

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name='lamella-traces', daemon=True)
                self._thread.start()
                atexit.register(self.flush, LAST_WAIT_S)

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        ended = False
        while not ended:
            batch, waiting, ended = self._batch()
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    connection = opened(self.path) if connection is None else connection
                    self._write(connection, batch)
                    break
                except (sqlite3.Error, OSError, ConfigError) as error:  # no call must notice
                    if connection is not None:
                        connection.close()
                        connection = None
                    if attempt == _ATTEMPTS or not _is_busy(error):
                        self.failed = error
                        self.dropped += len(batch)
                        break
            for done in waiting:
                done.set()
        if connection is not None:
            connection.close()

    def _write(self, connection: sqlite3.Connection, batch: list[Row]) -> None:
        with connection:
            for sql, values in batch:
                connection.execute(sql, values)
        if batch:
            self._prune(connection)

    def _batch(self) -> tuple[list[Row], list[threading.Event], bool]:
        """All that waits, at least one thing."""
        rows: list[Row] = []
        waiting: list[threading.Event] = []
        item = self._queue.get()
        while True:
            if item is None:
                return rows, waiting, True
            if isinstance(item, threading.Event):
                waiting.append(item)
            else:
                rows += item
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return rows, waiting, False

    def _prune(self, connection: sqlite3.Connection) -> None:
        """The oldest runs go, a few at a time, until both limits hold."""
        while True:
            (count,) = connection.execute('SELECT COUNT(*) FROM runs').fetchone()
            (pages,) = connection.execute('PRAGMA page_count').fetchone()
            (free,) = connection.execute('PRAGMA freelist_count').fetchone()
            (size,) = connection.execute('PRAGMA page_size').fetchone()
            over = count - self._max_runs
            if (pages - free) * size > self._max_bytes:
                over = max(over, 1, min(_PRUNED_AT_ONCE, count // 10))
            if over <= 0 or count <= 1:
                return
            with connection:
                gone = [
                    row[0] for row in connection.execute('SELECT number FROM runs ORDER BY number LIMIT ?', (over,))
                ]
                for table, column in (('notes', 'run'), ('spans', 'run'), ('runs', 'number')):
                    connection.executemany(f'DELETE FROM {table} WHERE {column} = ?', [(number,) for number in gone])
            connection.execute('PRAGMA incremental_vacuum').fetchall()


def _is_busy(error: Exception) -> bool:
    """Whether another process is in the way: SQLite waits for it in most places, and in some it does not."""
    return isinstance(error, sqlite3.OperationalError) and 'locked' in str(error)


def opened(path: str, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection to a trace file, made when there is none. Raises ConfigError for a file of another kind or version."""
    if read_only:
        connection = sqlite3.connect(f'file:{path}?mode=ro', uri=True, timeout=5, check_same_thread=False)
    else:
        connection = sqlite3.connect(path, timeout=5, check_same_thread=False)
    try:
        (version,) = connection.execute('PRAGMA user_version').fetchone()
        if version not in (0, VERSION):
            raise ConfigError(f'{path} is a trace file of version {version}, and this is {VERSION}: use another file')
        if version == 0 and not read_only:
            _prepare(connection, path)
        if not read_only:
            connection.execute('PRAGMA journal_mode = WAL').fetchone()
            connection.execute('PRAGMA synchronous = NORMAL')
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: str) -> None:
    """Make the tables, all or none, also when several processes begin at once. Raises ConfigError for somebody else's file."""
    connection.execute('PRAGMA auto_vacuum = INCREMENTAL')
    connection.execute('BEGIN IMMEDIATE')
    try:
        (version,) = connection.execute('PRAGMA user_version').fetchone()
        (others,) = connection.execute('SELECT COUNT(*) FROM sqlite_master').fetchone()
        if version == 0 and others:
            raise ConfigError(f'{path} is a database of something else: use another file')
        for statement in TABLES if version == 0 else ():
            connection.execute(statement)
        connection.execute(f'PRAGMA user_version = {VERSION}')
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


_RUN = 'INSERT INTO runs (id, name, began, status) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING'
_RUN_END = """UPDATE runs SET ended = ?, status = ?, turns = ?, input_tokens = ?, output_tokens = ?, cost_usd = ?, error = ?
    WHERE id = ?"""
_OF = '(SELECT number FROM runs WHERE id = ?)'
_SPAN = (
    f'INSERT INTO spans (run, id, parent, kind, name, began, facts) SELECT {_OF}, ?, ?, ?, ?, ?, ? WHERE {_OF} NOT NULL'
)
_SPAN_END = f'UPDATE spans SET ended = ?, error = ?, facts = json_patch(facts, ?) WHERE run = {_OF} AND id = ?'
_NOTE = f'INSERT INTO notes (run, id, span, at, name, facts) SELECT {_OF}, ?, ?, ?, ?, ? WHERE {_OF} NOT NULL'


class _Writer:
    """The spans of one run as rows. A span is its number within the run, the run itself 0."""

    def __init__(self, store: TraceStore, run_id: str) -> None:
        self._store, self._run = store, run_id
        self._spans = self._notes = 0
        self._kinds: dict[int, Kind] = {}

    def begin(self, kind: Kind, name: str, parent: int | None, at_s: float, facts: Mapping[str, Any]) -> int:
        at, rows, number = self._store.wall_s(at_s), list[Row](), self._spans
        self._spans += 1
        self._kinds[number] = kind
        if parent is None:
            rows.append((_RUN, (self._run, name, at, 'running')))
        told = _json(names.beginning(kind, facts, self._store.capture))
        rows.append((_SPAN, (self._run, number, parent, kind, name, at, told, self._run)))
        self._store.give(rows)
        return number

    def note(self, span: int, name: str, at_s: float, facts: Mapping[str, Any]) -> None:
        self._notes += 1
        told = _json(names.noted(facts))
        row = (self._run, self._notes, span, self._store.wall_s(at_s), name, told, self._run)
        self._store.give([(_NOTE, row)])

    def end(self, span: int, at_s: float, facts: Mapping[str, Any], error: BaseException | None) -> None:
        at, kind = self._store.wall_s(at_s), self._kinds.pop(span)
        said = None if error is None else names.cut(names.shown(str(error) or type(error).__name__, 500), 500)
        told = _json(names.ending(kind, facts, self._store.capture))
        rows: list[Row] = [(_SPAN_END, (at, said, told, self._run, span))]
        if span == 0:
            usage = facts.get('usage')
            usage = usage if isinstance(usage, Usage) else Usage()
            status = 'failed' if error is not None else str(facts.get('stop_reason') or 'final')
            counts = (facts.get('turns'), usage.input_tokens, usage.output_tokens, usage.cost_usd)
            rows.append((_RUN_END, (at, status, *counts, said, self._run)))
        self._store.give(rows)


def _json(found: Mapping[str, Any]) -> str:
    return msgspec.json.encode(found, enc_hook=repr).decode()
