"""Promise: however a process is killed, an approved tool has run at most once, and the record says whether it did.

Also what a session costs, and that the cost of a turn does not grow with its history. The crashes take some minutes.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Result, show
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
    """A turn in a session against one without, in SQLite; and an append behind 10 and behind 2,000 messages."""
    ai = Lamella(model=ScriptedModel(['hello'], repeat=True), store=f'sqlite:///{folder}/sessions.db')
    best = {'plain': float('inf'), 'session': float('inf')}
    for round_ in range(5):
        session = ai.session(str(round_))
        for name, options in (('plain', {}), ('session', {'session': session})):
            started = time.perf_counter()
            for _ in range(20):
                await ai.generate(prompt='hi', **options)
            best[name] = min(best[name], (time.perf_counter() - started) / 20 * 1e6)
    await ai.aclose()
    short, long = await _append(folder, 10), await _append(folder, 2_000)
    return [
        Result('a turn in a session (SQLite)', best['session'], 'µs', best['plain']),
        Result('an append behind 2,000 messages, against 10', long, 'µs', short, '≤ 1.5 ×', long <= 1.5 * short),
    ]


async def _append(folder: Path, messages: int) -> float:
    store = SQLiteStore(folder / f'append-{messages}.db')
    record = SessionRecord('s', store, None)
    await record.take_over(1)
    for at in range(0, messages, 2):
        await record.append(at, [Message.user('a question'), Message.assistant('an answer')], fence=1, at_s=0, run='')
    best = float('inf')
    for n in range(9):
        started = time.perf_counter()
        for m in range(10):
            await record.append(messages + n * 10 + m, [Message.user('x')], fence=1, at_s=0, run='')
        best = min(best, (time.perf_counter() - started) / 10 * 1e6)
    await store.aclose()
    return best


if __name__ == '__main__':
    show(run())
