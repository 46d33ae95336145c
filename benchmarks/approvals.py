"""Promise: however a process is killed, an approved tool has run at most once, and the record says whether it did.

Also what a session costs, and that the cost of a turn does not grow with its history. The crashes take some minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Result, per_call, show
from lamella import Lamella
from lamella.core.session_record import SessionRecord
from lamella.stores.sqlite import SQLiteStore
from lamella.testing import ScriptedModel
from lamella.types import Message
from tests.servers import PostgresServer, RedisServer, running

ROOT = Path(__file__).resolve().parent.parent
PAIRS = 100


def run() -> list[Result]:
    with TemporaryDirectory() as folder:
        results = crashes(f'sqlite:///{folder}/state.db', PAIRS)
        results += asyncio.run(sessions(Path(folder)))
    for kind in (RedisServer, PostgresServer):
        with running(kind, durable=True) as server:
            results += crashes(server.url, 0)
    return results


def crashes(url: str, pairs: int) -> list[Result]:
    """Every mode of the flow, killed at every point, and at `pairs` pairs of points: in the flow and in the recovery."""
    command = [sys.executable, '-m', 'tests.engine.approvals.crashes', url, '--double', str(pairs)]
    env = os.environ | {'PYTHONPATH': os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    lines = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
    results = []
    for found in map(json.loads, lines.splitlines()):
        tried = found['points'] + found['double']
        name = f'approvals, {found["store"]}, {found["mode"]}: of {tried} crashes, broke a promise'
        results.append(Result(name, len(found['broken']), '', None, '0', not found['broken']))
    return results


async def sessions(folder: Path) -> list[Result]:
    """A turn in a session against one without, and an append behind 2,000 messages against one behind 10; in SQLite."""
    ai = Lamella(model=ScriptedModel(['hello'], repeat=True), store=f'sqlite:///{folder}/sessions.db')
    store = SQLiteStore(folder / 'append.db')
    turns, short, long = count(), await _record(store, 10), await _record(store, 2_000)

    async def add(record: SessionRecord, kept: int) -> None:
        """In the place of the one before, so that the history stays as long as it is."""
        await record.append(kept, [Message.user('a question')], fence=1, at_s=0, run='')

    best = await per_call(
        {
            'without': lambda: ai.generate(prompt='hi'),
            'in one': lambda: ai.generate(prompt='hi', session=f'{next(turns)}'),
            'short': lambda: add(short, 10),
            'long': lambda: add(long, 2_000),
        },
        count=20,
    )
    await ai.aclose()
    await store.aclose()
    is_flat = best['long'] <= 1.5 * best['short']
    return [
        Result('a turn in a session (SQLite)', best['in one'], 'µs', best['without']),
        Result('an append behind 2,000 messages, against 10', best['long'], 'µs', best['short'], '≤ 1.5 ×', is_flat),
    ]


async def _record(store: SQLiteStore, messages: int) -> SessionRecord:
    record = SessionRecord(str(messages), store, None)
    await record.take_over(1)
    for at in range(0, messages, 2):
        await record.append(at, [Message.user('a question'), Message.assistant('an answer')], fence=1, at_s=0, run='')
    return record


if __name__ == '__main__':
    show(run())
