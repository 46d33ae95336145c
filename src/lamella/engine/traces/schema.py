"""The tables of a trace file. Times are seconds since 1970."""

from __future__ import annotations

VERSION = 1
TABLES = (
    """CREATE TABLE runs (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, began REAL NOT NULL, ended REAL,
        status TEXT NOT NULL, turns INTEGER, input_tokens INTEGER, output_tokens INTEGER, cost_usd REAL, error TEXT
    )""",
    """CREATE TABLE spans (
        run INTEGER NOT NULL, id INTEGER NOT NULL, parent INTEGER, kind TEXT NOT NULL, name TEXT NOT NULL, began REAL NOT NULL,
        ended REAL, error TEXT, facts TEXT NOT NULL, PRIMARY KEY (run, id)
    ) WITHOUT ROWID""",
    """CREATE TABLE notes (
        run INTEGER NOT NULL, id INTEGER NOT NULL, span INTEGER NOT NULL, at REAL NOT NULL, name TEXT NOT NULL,
        facts TEXT NOT NULL, PRIMARY KEY (run, id)
    ) WITHOUT ROWID""",
)
