"""The SQL of the SQLite store: its tables, and each verb as a function of an open transaction and the time.

Keys are bytes that begin with the namespace.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from lamella.core.ports import Addition, Bucket, Count, Entry, Listed, Stored, Taken

VERSION = 2
SCHEMA = (
    *(f'DROP TABLE IF EXISTS lamella_{name}' for name in ('values', 'counts', 'buckets', 'leases', 'logs', 'entries')),
    'CREATE TABLE lamella_values (key BLOB PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL, list BLOB, until REAL)',
    'CREATE TABLE lamella_counts (key BLOB PRIMARY KEY, value INTEGER NOT NULL, number INTEGER NOT NULL, until REAL)',
    'CREATE TABLE lamella_buckets (key BLOB PRIMARY KEY, level REAL NOT NULL, since REAL NOT NULL, until REAL)',
    'CREATE TABLE lamella_leases (key BLOB, token INTEGER, until REAL, PRIMARY KEY (key, token))',
    'CREATE TABLE lamella_logs (key BLOB PRIMARY KEY, last INTEGER NOT NULL, until REAL)',
    'CREATE TABLE lamella_entries (key BLOB, position INTEGER, value BLOB NOT NULL, PRIMARY KEY (key, position))',
    'CREATE TABLE IF NOT EXISTS lamella_sequence (name TEXT PRIMARY KEY, value INTEGER NOT NULL)',
    'CREATE INDEX lamella_values_list ON lamella_values (list, version) WHERE list IS NOT NULL',
    *(
        f'CREATE INDEX lamella_{name}_until ON lamella_{name} (until) WHERE until IS NOT NULL'
        for name in ('values', 'counts', 'buckets', 'leases', 'logs')
    ),
    f"REPLACE INTO lamella_sequence VALUES ('schema', {VERSION})",
)
_ALIVE = '(until IS NULL OR until > ?)'
_SWEPT = 200


class Written(NamedTuple):
    """What a verb writes, and the list it shall stand in."""

    key: bytes
    value: bytes
    expire_s: float | None
    name: bytes | None


def version(db: sqlite3.Connection) -> int:
    """Of the tables that are there, 0 for none. Not `PRAGMA user_version`, which belongs to whoever else uses the file."""
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'lamella_sequence'").fetchone() is None:
        return 0
    row = db.execute("SELECT value FROM lamella_sequence WHERE name = 'schema'").fetchone()
    return 0 if row is None else int(row[0])


def sweep(db: sqlite3.Connection, now: float) -> int:
    """Remove what has expired, a bounded number of rows a time. How many there were."""
    removed = 0
    for table in ('values', 'counts', 'buckets', 'leases'):
        removed += db.execute(
            f'DELETE FROM lamella_{table} WHERE rowid IN '
            f'(SELECT rowid FROM lamella_{table} WHERE until <= ? LIMIT {_SWEPT})',
            (now,),
        ).rowcount
    ended = db.execute(f'SELECT key FROM lamella_logs WHERE until <= ? LIMIT {_SWEPT}', (now,)).fetchall()
    removed += len(ended)
    for (key,) in ended:
        _end_log(db, key)
    return removed


def number(db: sqlite3.Connection) -> int:
    """Grows for ever, over all keys: versions and fencing tokens are never used twice, also after an expiry."""
    statement = """
        INSERT INTO lamella_sequence VALUES ('next', 1)
        ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value
    """
    return int(db.execute(statement).fetchone()[0])


def get(db: sqlite3.Connection, now: float, key: bytes) -> Stored | None:
    row = db.execute(f'SELECT value, version FROM lamella_values WHERE key = ? AND {_ALIVE}', (key, now)).fetchone()
    return None if row is None else Stored(bytes(row[0]), row[1])


def put(db: sqlite3.Connection, now: float, new: Written) -> int:
    name = new.name
    if name is None:
        row = db.execute(f'SELECT list FROM lamella_values WHERE key = ? AND {_ALIVE}', (new.key, now)).fetchone()
        name = None if row is None else row[0]
    version = number(db)
    row = (new.key, new.value, version, name, _until(now, new.expire_s))
    db.execute('REPLACE INTO lamella_values VALUES (?, ?, ?, ?, ?)', row)
    return version


def put_if_absent(db: sqlite3.Connection, now: float, new: Written) -> Stored | None:
    found = get(db, now, new.key)
    if found is None:
        put(db, now, new)
    return found


def compare_and_put(db: sqlite3.Connection, now: float, new: Written, version: int) -> int | None:
    found = get(db, now, new.key)
    return put(db, now, new) if (0 if found is None else found.version) == version else None


def delete(db: sqlite3.Connection, now: float, key: bytes, version: int | None) -> bool:
    found = get(db, now, key)
    if found is None or (version is not None and found.version != version):
        return False
    db.execute('DELETE FROM lamella_values WHERE key = ?', (key,))
    return True


def listed(db: sqlite3.Connection, now: float, name: bytes, after: int, limit: int, prefix: int) -> Sequence[Listed]:
    """`prefix` is how many bytes of a key are the namespace."""
    rows = db.execute(
        f'SELECT key, value, version FROM lamella_values WHERE list = ? AND version > ? AND {_ALIVE} '
        'ORDER BY version LIMIT ?',
        (name, after, now, max(0, limit)),
    )
    return [
        Listed(key[prefix:].decode('utf-8', 'surrogatepass'), bytes(value), version) for key, value, version in rows
    ]


def count(db: sqlite3.Connection, now: float, key: bytes) -> Count:
    statement = f'SELECT value, number, until FROM lamella_counts WHERE key = ? AND {_ALIVE}'
    row = db.execute(statement, (key, now)).fetchone()
    if row is None:
        return Count(0, added=False)
    value, window, until = row
    return Count(value, added=False, expires_in_s=None if until is None else until - now, window=window)


def add_all(
    db: sqlite3.Connection, now: float, keys: Sequence[bytes], additions: Sequence[Addition]
) -> Sequence[Count]:
    judged = [addition.judged(count(db, now, key)) for key, addition in zip(keys, additions, strict=True)]
    if not all(one.fits for one in judged):
        return [one.replace(added=False) for one in judged]
    return [
        _add(db, now, key, addition, one) if one.added else one
        for key, addition, one in zip(keys, additions, judged, strict=True)
    ]


def _add(db: sqlite3.Connection, now: float, key: bytes, addition: Addition, before: Count) -> Count:
    value = max(0, before.value + addition.amount)
    if before.window:
        db.execute('UPDATE lamella_counts SET value = ? WHERE key = ?', (value, key))
        return before.replace(value=value)
    if addition.amount <= 0:
        return before
    window = number(db)
    until = _until(now, addition.expire_s)
    db.execute('REPLACE INTO lamella_counts VALUES (?, ?, ?, ?)', (key, value, window, until))
    return before.replace(value=value, expires_in_s=None if until is None else addition.expire_s, window=window)


def reset(db: sqlite3.Connection, now: float, key: bytes) -> int:
    value = count(db, now, key).value
    db.execute('DELETE FROM lamella_counts WHERE key = ?', (key,))
    return value


def take(
    db: sqlite3.Connection, now: float, keys: Sequence[bytes], buckets: Sequence[Bucket], max_wait_s: float
) -> Taken:
    pairs = list(zip(keys, buckets, strict=True))
    levels = [_level(db, now, key, bucket) for key, bucket in pairs]
    wait = max((bucket.wait_s(level) for bucket, level in zip(buckets, levels, strict=True)), default=0.0)
    if wait > max_wait_s or wait == float('inf'):
        return Taken(granted=False, wait_s=wait)
    for (key, bucket), level in zip(pairs, levels, strict=True):
        _fill(db, now, key, bucket, level - bucket.amount)
    return Taken(granted=True, wait_s=wait)


def settle(db: sqlite3.Connection, now: float, keys: Sequence[bytes], buckets: Sequence[Bucket]) -> None:
    for key, bucket in zip(keys, buckets, strict=True):
        _fill(db, now, key, bucket, _level(db, now, key, bucket) - bucket.amount)


def _level(db: sqlite3.Connection, now: float, key: bytes, bucket: Bucket) -> float:
    row = db.execute('SELECT level, since FROM lamella_buckets WHERE key = ?', (key,)).fetchone()
    return bucket.burst if row is None else bucket.refilled(row[0], now - row[1])


def _fill(db: sqlite3.Connection, now: float, key: bytes, bucket: Bucket, level: float) -> None:
    """A full bucket is as good as none."""
    if level >= bucket.burst:
        db.execute('DELETE FROM lamella_buckets WHERE key = ?', (key,))
        return
    until = now + bucket.full_in_s(level)
    db.execute(
        'REPLACE INTO lamella_buckets VALUES (?, ?, ?, ?)', (key, level, now, None if until == float('inf') else until)
    )


def acquire(db: sqlite3.Connection, now: float, key: bytes, ttl_s: float, slots: int) -> int | None:
    db.execute('DELETE FROM lamella_leases WHERE key = ? AND until <= ?', (key, now))
    if db.execute('SELECT count(*) FROM lamella_leases WHERE key = ?', (key,)).fetchone()[0] >= slots:
        return None
    token = number(db)
    db.execute('INSERT INTO lamella_leases VALUES (?, ?, ?)', (key, token, now + ttl_s))
    return token


def renew(db: sqlite3.Connection, now: float, key: bytes, token: int, ttl_s: float) -> bool:
    statement = 'UPDATE lamella_leases SET until = ? WHERE key = ? AND token = ? AND until > ?'
    return db.execute(statement, (now + ttl_s, key, token, now)).rowcount > 0


def release(db: sqlite3.Connection, now: float, key: bytes, token: int) -> bool:
    statement = 'DELETE FROM lamella_leases WHERE key = ? AND token = ? AND until > ?'
    return db.execute(statement, (key, token, now)).rowcount > 0


def append(db: sqlite3.Connection, now: float, key: bytes, value: bytes, expire_s: float | None) -> int:
    row: Any = db.execute('SELECT last, until FROM lamella_logs WHERE key = ?', (key,)).fetchone()
    if row is not None and row[1] is not None and row[1] <= now:
        _end_log(db, key)
        row = None
    position = 1 if row is None else row[0] + 1
    db.execute('REPLACE INTO lamella_logs VALUES (?, ?, ?)', (key, position, _until(now, expire_s)))
    db.execute('INSERT INTO lamella_entries VALUES (?, ?, ?)', (key, position, value))
    return int(position)


def _end_log(db: sqlite3.Connection, key: bytes) -> None:
    db.execute('DELETE FROM lamella_entries WHERE key = ?', (key,))
    db.execute('DELETE FROM lamella_logs WHERE key = ?', (key,))


def read(db: sqlite3.Connection, now: float, key: bytes, after: int, limit: int) -> Sequence[Entry]:
    rows = db.execute(
        'SELECT position, value FROM lamella_entries WHERE key = ? AND position > ? '
        f'AND EXISTS (SELECT 1 FROM lamella_logs WHERE key = ? AND {_ALIVE}) ORDER BY position LIMIT ?',
        (key, after, key, now, max(0, limit)),
    )
    return [Entry(position, bytes(value)) for position, value in rows]


def _until(now: float, expire_s: float | None) -> float | None:
    return None if expire_s is None or expire_s == float('inf') else now + expire_s
