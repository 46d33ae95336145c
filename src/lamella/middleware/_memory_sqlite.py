"""`SQLiteMemory`: memories in a SQLite file, found by full-text search (FTS5, bm25) and by vectors."""

from __future__ import annotations

import json
import math
import os
import re
import sqlite3
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import sha256
from operator import mul
from os import PathLike, fspath
from threading import Lock
from typing import Any, TypeVar
from weakref import finalize

from lamella.core.memory import Match
from lamella.middleware._threads import Stop, in_thread
from lamella.types import JSON, ConfigError, LamellaError, Vector

T = TypeVar('T')
BUSY_S, MAX_IDLE = 5.0, 4
MAX_TERMS = 32
CANDIDATES = 100
RANK = 60  # of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)
_WORD = re.compile(r'\w+')
_SCHEMA = """
CREATE TABLE IF NOT EXISTS memories (
    id INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL, text TEXT NOT NULL, metadata TEXT NOT NULL,
    vector BLOB, vector_model TEXT
);
CREATE INDEX IF NOT EXISTS memories_scope ON memories (scope, id);
CREATE VIRTUAL TABLE IF NOT EXISTS memories_text USING fts5(
    text, scope, content='memories', content_rowid='id', tokenize='unicode61 remove_diacritics 2'
);
CREATE TRIGGER IF NOT EXISTS memories_added AFTER INSERT ON memories BEGIN
    INSERT INTO memories_text (rowid, text, scope) VALUES (new.id, new.text, new.scope);
END;
CREATE TRIGGER IF NOT EXISTS memories_gone AFTER DELETE ON memories BEGIN
    INSERT INTO memories_text (memories_text, rowid, text, scope) VALUES ('delete', old.id, old.text, old.scope);
END;
"""


class SQLiteMemory:
    """Memories in a file, or in this process alone when `path` is left out. Several processes may share a file.

    Words are found as they are written (without case and accents), by bm25; a language that writes no spaces between words
    needs vectors. Vectors are compared in plain Python: at most the `max_vectors` latest of a scope (2,000 vectors of 1,536
    numbers are about 0.2 s in a thread). With both, the two rankings are joined by reciprocal rank fusion. How rare a word is
    is counted over all scopes: that moves the order of what is found, and never what.

    Bounded: at most `max_per_scope` texts of a scope and `max_items` in all, the oldest go first; a text is cut at `max_chars`.
    Raises ConfigError when this SQLite has no FTS5, and UNAVAILABLE when the file cannot be read or written.
    """

    def __init__(
        self,
        path: str | PathLike[str] | None = None,
        *,
        max_per_scope: int = 10_000,
        max_items: int = 1_000_000,
        max_vectors: int = 2_000,
        max_chars: int = 20_000,
    ) -> None:
        limits = {
            'max_per_scope': max_per_scope,
            'max_items': max_items,
            'max_vectors': max_vectors,
            'max_chars': max_chars,
        }
        wrong = [
            f'{name}={value!r}: give a whole number of at least 1'
            for name, value in limits.items()
            if not _counts(value)
        ]
        if path is not None and (not fspath(path) or '\0' in str(path)):
            wrong.append(f'path={path!r}: give the path of a file')
        if wrong:
            raise ConfigError('SQLiteMemory: ' + '; '.join(wrong))
        _check_fts5()
        self.path = None if path is None else str(path)
        self._max_per_scope, self._max_items = max_per_scope, max_items
        self._max_vectors, self._max_chars = max_vectors, max_chars
        self._lock = Lock()
        self._idle: list[sqlite3.Connection] = []
        self._process = os.getpid(), _identity(self.path or '')
        finalize(self, _close, self._idle)
        self._own = None if self.path is not None else _opened(':memory:')

    def __repr__(self) -> str:
        return f'SQLiteMemory({self.path!r})'

    async def search(
        self, query: str, k: int, scope: str, *, vector: Vector | None = None, vector_model: str | None = None
    ) -> Sequence[Match]:
        """At most `k` texts of this scope, the best first."""
        return await self._done(lambda db, stop: self._search(db, stop, query, k, scope, vector, vector_model))

    async def add(
        self,
        texts: Sequence[str],
        scope: str,
        metadata: JSON | None = None,
        *,
        vectors: Sequence[Vector] | None = None,
        vector_model: str | None = None,
    ) -> None:
        """Keep these texts: all, or none."""
        kept = [_storable(text)[: self._max_chars] for text in texts]
        packed = [None] * len(kept) if vectors is None else [_packed(vector) for vector in vectors]
        about = json.dumps(metadata or {})
        rows = [
            (_scope(scope), text, about, blob, vector_model if blob is not None else None)
            for text, blob in zip(kept, packed, strict=True)
        ]
        await self._done(lambda db, stop: self._add(db, rows, _scope(scope)))

    async def delete(self, scope: str) -> int:
        """Forget all of this scope; how many texts that were."""
        return await self._done(lambda db, stop: _delete(db, _scope(scope)))

    async def _done(self, work: Callable[[sqlite3.Connection, Stop], T]) -> T:
        """In a thread, and to its end: a cancellation waits for what has begun."""

        def run(stop: Stop) -> T:
            try:
                with self._connection() as db:
                    return work(db, stop)
            except sqlite3.Error as error:
                raise LamellaError('UNAVAILABLE', f'the memory {self.path or "of this process"}: {error}') from error

        return await in_thread(run)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that nobody else uses meanwhile. A few stay open: closing the last one would write the whole log back."""
        if self._own is not None:
            with self._lock:
                yield self._own
            return
        db = self._taken() or _opened(self.path or '')
        try:
            yield db
        except BaseException:
            db.close()
            raise
        if not self._given_back(db):
            db.close()

    def _taken(self) -> sqlite3.Connection | None:
        """An open connection, unless this process was forked off or the file was removed meanwhile."""
        with self._lock:
            if self._process != (os.getpid(), _identity(self.path or '')):
                self._idle.clear()
                self._process = os.getpid(), _identity(self.path or '')
            return self._idle.pop() if self._idle else None

    def _given_back(self, db: sqlite3.Connection) -> bool:
        with self._lock:
            if len(self._idle) >= MAX_IDLE or self._process[0] != os.getpid():
                return False
            if self._process[1] is None:  # the file was made just now
                self._process = self._process[0], _identity(self.path or '')
            self._idle.append(db)
            return True

    def close(self) -> None:
        """Close what is open and not in use. The next call opens it again."""
        with self._lock:
            idle, self._idle[:] = list(self._idle), []
            for db in idle:
                db.close()

    def _add(self, db: sqlite3.Connection, rows: Sequence[Any], scope: str) -> None:
        with _transaction(db):
            db.executemany(
                'INSERT INTO memories (scope, text, metadata, vector, vector_model) VALUES (?, ?, ?, ?, ?)', rows
            )
            oldest = 'SELECT id FROM memories WHERE scope = ? ORDER BY id DESC LIMIT 1 OFFSET ?'
            db.execute(
                f'DELETE FROM memories WHERE scope = ? AND id <= ({oldest})', (scope, scope, self._max_per_scope)
            )
            self._shrink(db)

    def _shrink(self, db: sqlite3.Connection) -> None:
        """Counting them all takes long; as many as there are numbers between the first and the last there are at most."""
        (most,) = db.execute('SELECT (SELECT max(id) FROM memories) - (SELECT min(id) FROM memories) + 1').fetchone()
        if most <= self._max_items:
            return
        (count,) = db.execute('SELECT count(*) FROM memories').fetchone()
        if count > self._max_items:
            oldest = 'SELECT id FROM memories ORDER BY id LIMIT ?'
            db.execute(f'DELETE FROM memories WHERE id IN ({oldest})', (count - self._max_items,))

    def _search(
        self,
        db: sqlite3.Connection,
        stop: Stop,
        query: str,
        k: int,
        scope: str,
        vector: Vector | None,
        vector_model: str | None,
    ) -> list[Match]:
        scope = _scope(scope)
        rankings = [_by_words(db, query, scope, max(k, CANDIDATES))]
        if vector is not None:
            rankings.append(self._by_vectors(db, stop, vector, scope, vector_model, max(k, CANDIDATES)))
        scores: dict[int, float] = {}
        for ranking in rankings:
            for place, id in enumerate(ranking):
                scores[id] = scores.get(id, 0.0) + 1 / (RANK + place)
        best = sorted(scores, key=lambda id: (-scores[id], -id))[:k]
        found = []
        for id in best:
            row = db.execute('SELECT text, metadata FROM memories WHERE id = ? AND scope = ?', (id, scope)).fetchone()
            if row is not None:
                found.append(Match(row[0], scores[id], json.loads(row[1])))
        return found

    def _by_vectors(
        self, db: sqlite3.Connection, stop: Stop, vector: Vector, scope: str, model: str | None, most: int
    ) -> list[int]:
        """By cosine: kept vectors have length 1, so that it is the product. Opposite and unrelated ones are no matches."""
        asked = array('f', _unit(vector))
        rows = db.execute(
            'SELECT id, vector FROM memories WHERE scope = ? AND vector IS NOT NULL AND vector_model IS ? AND length(vector) = ? '
            'ORDER BY id DESC LIMIT ?',
            (scope, model, 4 * len(asked), self._max_vectors),
        )
        scored = []
        for id, blob in rows:
            stop.check()
            kept = array('f')
            kept.frombytes(blob)
            scored.append((sum(map(mul, asked, kept)), id))
        scored.sort(reverse=True)
        return [id for score, id in scored[:most] if score > 0]


def _by_words(db: sqlite3.Connection, query: str, scope: str, most: int) -> list[int]:
    """The query's words, each in quotes: nothing in it is a word of the search language."""
    words = list(dict.fromkeys(_WORD.findall(_storable(query).lower())))[:MAX_TERMS]
    if not words:
        return []
    wanted = ' OR '.join(f'"{word}"' for word in words)
    rows = db.execute(
        'SELECT memories.id FROM memories_text JOIN memories ON memories.id = memories_text.rowid '
        'WHERE memories_text MATCH ? AND memories.scope = ? ORDER BY bm25(memories_text, 1.0, 0.0), memories.id DESC LIMIT ?',
        (f'scope : "{scope}" AND text : ({wanted})', scope, most),
    )
    return [id for (id,) in rows]


def _delete(db: sqlite3.Connection, scope: str) -> int:
    with _transaction(db):
        return db.execute('DELETE FROM memories WHERE scope = ?', (scope,)).rowcount


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute('BEGIN IMMEDIATE')
    try:
        yield
    except BaseException:
        db.execute('ROLLBACK')
        raise
    db.execute('COMMIT')


def _opened(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        db.execute('PRAGMA synchronous = NORMAL')
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'memories_gone'").fetchone():
            db.execute('PRAGMA journal_mode = WAL')
            db.executescript('BEGIN IMMEDIATE;' + _SCHEMA + 'COMMIT;')
    except BaseException:
        db.close()
        raise
    return db


def _close(idle: list[sqlite3.Connection]) -> None:
    while idle:
        idle.pop().close()


def _identity(path: str) -> tuple[int, int] | None:
    """Which file has this name now."""
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return None
    return facts.st_dev, facts.st_ino


def _check_fts5() -> None:
    with closing(sqlite3.connect(':memory:')) as db:
        try:
            db.execute('CREATE VIRTUAL TABLE there USING fts5(text)')
        except sqlite3.OperationalError as error:
            raise ConfigError(
                f'SQLiteMemory: the SQLite of this Python ({sqlite3.sqlite_version}) has no FTS5: use a Python with one, or give '
                'memory= an object of your own with search, add and delete'
            ) from error


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _scope(scope: str) -> str:
    """The scope as one word: nothing in it is a word of the search language, and no two look alike."""
    return 's' + sha256(scope.encode('utf-8', 'surrogatepass')).hexdigest()


def _storable(text: str) -> str:
    """Text that UTF-8 can hold."""
    return text.encode('utf-8', 'backslashreplace').decode().replace('\0', '\ufffd')


def _unit(vector: Vector) -> list[float]:
    length = math.sqrt(sum(map(mul, vector, vector)))
    return [number / length for number in vector] if length else list(vector)


def _packed(vector: Vector) -> bytes:
    return array('f', _unit(vector)).tobytes()
