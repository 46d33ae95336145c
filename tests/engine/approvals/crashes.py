"""The approval flow, killed with SIGKILL at every boundary of a store verb and around the tool, and taken up by another process.

    python -m tests.engine.approvals.crashes sqlite:///x.db [--mode session] [--double 100] [--every 3]

This process imports everything once and forks for each crash, so that hundreds of them take seconds. It prints one line of JSON:
how many crash points were tried, and which of them broke a promise:

- an approved tool has run at most once, and a call that was not approved never;
- the record says whether it did: `pending` and `decided` mean not at all, `done` once; only `unknown` leaves it open;
- an unknown call is not run again by itself, and the run goes on when a person has answered for it;
- nothing is stuck: whatever is there can be decided and goes on, and the session takes its next turn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lamella import ApprovalSettings, Lamella, restart_tool
from lamella.core.stores import open_store
from lamella.middleware import ToolApproval
from lamella.testing import ScriptedModel
from lamella.types import LamellaError, Rejected, ToolRequest

MODES = ('plain', 'session', 'stream', 'arguments')
VERBS = frozenset(
    ('get', 'put', 'put_if_absent', 'compare_and_put', 'delete', 'add', 'take', 'settle', 'acquire', 'renew', 'release',
     'append', 'read')
)  # fmt: skip
AT_ONCE = 12
LEASE_S = 1.0
ASKED = {'prompt': 'Pay the invoice.', 'durable': True}


class Ticks:
    """Counts the boundaries, and dies at one of them."""

    def __init__(self, at: int) -> None:
        self.at, self.passed = at, 0

    def tick(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


class Breaking:
    """A store that dies before or after one of its verbs."""

    def __init__(self, store: Any, ticks: Ticks) -> None:
        self._store, self._ticks = store, ticks

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        if name not in VERBS:
            return verb

        async def broken(*args: Any, **options: Any) -> Any:
            self._ticks.tick()
            result = await verb(*args, **options)
            self._ticks.tick()
            return result

        return broken


class Case:
    """One run of the flow: its place in the store, and the file in which its tool leaves a mark."""

    def __init__(self, url: str, mode: str, name: str, folder: Path) -> None:
        self.url, self.mode, self.name = url, mode, name
        self.marks, self.found = folder / f'{name}.marks', folder / f'{name}.found'

    def app(self, script: list[Any], ticks: Ticks) -> Lamella:
        settings = ApprovalSettings(app=self.name, lease_s=LEASE_S)
        store: Any = Breaking(open_store(self.url), ticks)
        ai = Lamella(model=ScriptedModel(script), store=store, approvals=settings, use=[ToolApproval()])

        @ai.tool()
        async def pay(amount: int) -> str:
            """Pay an invoice."""
            ticks.tick()
            with self.marks.open('a') as file:
                file.write('x')
                file.flush()
                os.fsync(file.fileno())
            ticks.tick()
            await asyncio.sleep(0)
            ticks.tick()
            return 'paid'

        return ai

    @property
    def paid(self) -> int:
        return len(self.marks.read_text()) if self.marks.exists() else 0

    def session(self, ai: Lamella) -> Any:
        return ai.session(self.name, lease_s=LEASE_S, wait_s=30) if self.mode == 'session' else None


async def call(ai: Lamella, mode: str, **options: Any) -> Any:
    if mode != 'stream':
        return await ai.generate(**options)
    stream = ai.generate_stream(**options)
    async for _ in stream:
        pass
    return await stream.response


async def flow(case: Case, ticks: Ticks) -> None:
    """Ask, approve, go on: as three processes would, each with an app of its own."""
    asked = case.app([ToolRequest('pay', {'amount': 5}, 'call-1')], ticks)
    response = await call(asked, case.mode, **ASKED, tools=['pay'], session=case.session(asked))
    (interrupt,) = response.interrupts
    id = interrupt.metadata['interrupt']['id']
    resumed = case.app(['Paid.'], ticks)
    if case.mode == 'arguments':
        yes = restart_tool(interrupt, metadata={'toolApproved': True})
        response = await call(resumed, case.mode, messages=response.messages, tools=['pay'], resume_restart=[yes])
    else:
        await case.app([], ticks).approvals.approve(id, by='ann')
        response = await call(resumed, case.mode, resume=id)
    if response.text != 'Paid.':
        raise AssertionError(f'the flow itself is broken: {response}')


async def recover(case: Case, ticks: Ticks, *, is_first: bool = True) -> list[str]:
    """Another process takes up what it finds. What was promised and does not hold."""
    broken: list[str] = []
    ai = case.app(['Paid.'] * 8, ticks)
    records = await ai.approvals.list('all')
    if len(records) > 1:
        broken.append(f'{len(records)} records of one call')
    if not records and case.paid and case.mode != 'arguments' and is_first and not await _has_ended(case, ai):
        broken.append('it has run, and no record says so')
    for record in records:
        broken += await _take_up(case, ai, record.id, is_first)
    if case.paid > 1:
        broken.append(f'it has run {case.paid} times')
    if case.mode == 'session':
        broken += await _next_turn(case, ai)
    await ai.aclose()
    return broken


async def _has_ended(case: Case, ai: Lamella) -> bool:
    """Whether the run was closed: its record is then found by its id alone, in the audit log."""
    lines = await ai.approvals.audit()
    return bool(lines) and (await ai.approvals.get(lines[0].id)).state == 'done'


async def _take_up(case: Case, ai: Lamella, id: str, is_first: bool) -> list[str]:
    record, before, broken = await ai.approvals.get(id), case.paid, list[str]()
    for _ in range(100):
        if record.state != 'started':
            break
        await asyncio.sleep(0.05)  # its process is dead, and its lease is not
        record = await ai.approvals.get(id)
    may = {'pending': (0,), 'decided': (0,), 'expired': (0,), 'done': (1,), 'unknown': (0, 1)}.get(record.state)
    answered = record.decision is not None and record.decision.kind == 'answer'
    if may is None or (before not in may and not answered):
        broken.append(f'the record says {record.state}, and it has run {before} times')
    if record.state == 'pending':
        await ai.approvals.approve(id, by='bob')
    if record.state == 'unknown':
        try:
            await call(ai, case.mode, resume=id)
            broken.append('an unknown call went on by itself')
        except Rejected:
            pass
        if case.paid != before:
            broken.append('an unknown call was run again')
        await ai.approvals.answer(id, 'paid, says the bank', by='bob')
    try:
        response = await _resumed(case, ai, id)
    except Rejected as refusal:
        if not _may_refuse(case, record.state, refusal):
            broken.append(f'stuck as {record.state}: {refusal}')
    else:
        if response.text != 'Paid.':
            broken.append(f'went on to {response.text!r} ({response.stop_reason})')
        if record.state in ('pending', 'decided') and not answered and case.paid != 1:
            broken.append(f'approved, gone on, and run {case.paid} times')
    if record.state in ('unknown', 'done') and case.paid != before:
        broken.append(f'it was {record.state}, and was run again')
    return broken


async def _resumed(case: Case, ai: Lamella, id: str) -> Any:
    """The process that was resuming it is dead, and the lease that it had on the run may not be yet."""
    for _ in range(100):
        try:
            return await call(ai, case.mode, resume=id)
        except Rejected as refusal:
            if 'is being resumed at this moment' not in refusal.message:
                raise
        await asyncio.sleep(0.05)
    return await call(ai, case.mode, resume=id)


def _may_refuse(case: Case, state: str, refusal: Rejected) -> bool:
    """A run that has gone on is not resumed. In a session it may never have got into the history: then nothing has run."""
    if state == 'done':
        return 'gone on' in refusal.message
    return case.mode == 'session' and 'not where its session stands' in refusal.message and case.paid == 0


async def _next_turn(case: Case, ai: Lamella) -> list[str]:
    """The session takes a turn, and its history makes sense."""
    session = case.session(ai)
    response = await ai.generate(prompt='And?', session=session)
    roles = [message.role for message in response.messages]
    done, turn = ['user', 'assistant', 'tool', 'assistant'], ['user', 'assistant']
    rest = roles[4:] if roles[:4] == done else roles
    return [] if rest and rest == turn * (len(rest) // 2) else [f'the history is {roles}']


# ── processes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def forked(work: Callable[[], Coroutine[Any, Any, Any]]) -> int:
    """Run it in a process of its own; its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        asyncio.run(work())
        os._exit(0)
    except BaseException as error:
        print(f'{type(error).__name__}: {error}', file=sys.stderr, flush=True)
        os._exit(1)


def ended(pid: int) -> int:
    """Its exit code; -9 for one that was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def all_of(works: list[Callable[[], Coroutine[Any, Any, Any]]]) -> list[int]:
    """All of them, some at once; their exit codes."""
    running: dict[int, int] = {}
    codes = [0] * len(works)
    for index, work in enumerate(works):
        if len(running) >= AT_ONCE:
            _reap(running, codes)
        running[forked(work)] = index
    while running:
        _reap(running, codes)
    return codes


def _reap(running: dict[int, int], codes: list[int]) -> None:
    pid, status = os.wait()
    codes[running.pop(pid)] = os.waitstatus_to_exitcode(status)


async def _counted(case: Case) -> None:
    ticks = Ticks(-1)
    await flow(case, ticks)
    case.found.write_text(str(ticks.passed))


async def _recovered(case: Case) -> None:
    try:
        broken = await recover(case, Ticks(-1))
    except LamellaError as error:
        broken = [f'the next process failed: {error}']
    case.found.write_text(json.dumps(broken))


def crash(url: str, mode: str, folder: Path, double: int = 0, every: int = 1) -> dict[str, Any]:
    """Every crash point of one mode (or every second …), and `double` pairs of crashes: in the flow and in its recovery."""
    started = time.perf_counter()
    unique = f'{mode}-{os.getpid()}-{random.getrandbits(32):x}'
    whole = Case(url, mode, f'{unique}-whole', folder)
    if ended(forked(lambda: _counted(whole))) or whole.paid != 1:
        raise SystemExit(f'{mode}: the flow fails without any crash')
    points = int(whole.found.read_text())
    cases = [(Case(url, mode, f'{unique}-{at}', folder), at, 0) for at in range(1, points + 1, every)]
    draw = random.Random(7)
    for number in range(double):
        case = Case(url, mode, f'{unique}-double-{number}', folder)
        cases.append((case, draw.randint(1, points), draw.randint(1, points)))
    killed = all_of([lambda case=case, at=at: flow(case, Ticks(at)) for case, at, _ in cases])
    twice = [(case, second) for case, _, second in cases if second]
    all_of([lambda case=case, at=at: recover(case, Ticks(at), is_first=False) for case, at in twice])
    all_of([lambda case=case: _recovered(case) for case, _, _ in cases])
    broken: dict[str, list[str]] = {}
    for (case, at, second), code in zip(cases, killed, strict=True):
        found = json.loads(case.found.read_text()) if case.found.exists() else ['the recovery did not end']
        if code != -signal.SIGKILL:
            found.append(f'was not killed: {code}')
        if found:
            broken[f'{at}+{second}' if second else str(at)] = found
    return {
        'store': url.partition(':')[0],
        'mode': mode,
        'points': len(range(1, points + 1, every)),
        'double': double,
        'broken': broken,
        'took_s': round(time.perf_counter() - started, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('url')
    parser.add_argument('--mode', choices=MODES, action='append')
    parser.add_argument('--double', type=int, default=0)
    parser.add_argument('--every', type=int, default=1)
    given = parser.parse_args()
    open_store(given.url)  # loads the driver once, before any fork; it connects when it is first used
    with TemporaryDirectory() as folder:
        for mode in given.mode or MODES:
            print(json.dumps(crash(given.url, mode, Path(folder), given.double, given.every)), flush=True)


if __name__ == '__main__':
    main()
