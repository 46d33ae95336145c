"""Where approvals are kept: every step of a decision is one comparison in the store, so that of two only one is made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from lamella.core.clock import Clock
from lamella.core.holds import Hold, enter
from lamella.core.packing import hashed, pack, unpack
from lamella.core.ports import Store
from lamella.engine.approval_settings import ApprovalSettings
from lamella.engine.approvals.records import (
    VERBS,
    AuditEntry,
    SavedRun,
    Stand,
    State,
    Step,
    not_found,
)
from lamella.types import Data, LamellaError, Rejected

_SHARDS = '0123456789abcdef'
_PROBE_S = 1.0
_ORPHAN_S = 3_600.0


class _Line(Data, frozen=True):
    """One line of the audit log as it is stored."""

    id: str
    what: str
    by: str
    at_s: float


class Desk:
    """The approvals of one app in one store.

    A run's facts are written once. How each of its calls stands is a value of its own, which ends by the store's time while it
    is undecided. Every step goes into the audit log first and is then made: a line that no record points to had no effect.
    """

    def __init__(self, store: Callable[[], Store], settings: ApprovalSettings, clock: Clock) -> None:
        self._store, self.settings, self.clock = store, settings, clock
        self._prefix = f'approvals:{hashed(settings.app)}'

    @property
    def store(self) -> Store:
        return self._store()

    def key(self, *parts: str) -> str:
        """A key of this app's approvals."""
        return ':'.join((self._prefix, *parts))

    # ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def has(self, id: str) -> bool:
        """Whether there is a run of that id."""
        return await self.store.get(self.key('run', id)) is not None

    async def create(self, saved: SavedRun) -> None:
        """Keep a run and open its calls. Raises ABORTED when its id is taken."""
        lasting = 2 * saved.expires_s + self.settings.kept_s
        value = pack(saved, 'the interrupted run')
        if await self.store.put_if_absent(self.key('run', saved.id), value, expire_s=lasting) is not None:
            raise LamellaError('ABORTED', f'{saved.id} is there already')
        await self._list(saved.id, lambda runs: {**runs, saved.id: saved.at_s})
        await self._forget_the_oldest(saved.id[4], lasting)
        for call in saved.calls:
            id = f'{saved.id}.{call.number}'
            position = await self.note(id, 'requested', '')
            stand = Stand('pending', (Step('requested', self.clock.time(), '', position),))
            await self.store.put_if_absent(self.key('call', id), _packed(stand), expire_s=saved.expires_s)

    async def run(self, id: str) -> SavedRun:
        """The facts of a run. Raises NOT_FOUND."""
        stored = await self.store.get(self.key('run', id))
        if stored is None:
            raise not_found(id)
        return unpack(stored.value, SavedRun, f'the run {id}')

    async def runs(self) -> tuple[SavedRun, ...]:
        """All runs that are not at their end, the oldest first."""
        shards = await asyncio.gather(*[self._listed(shard) for shard in _SHARDS])
        found = await asyncio.gather(*[self._open_run(id, at_s) for runs, _ in shards for id, at_s in runs.items()])
        return tuple(sorted((run for run in found if run is not None), key=lambda run: (run.at_s, run.id)))

    async def _open_run(self, id: str, at_s: float) -> SavedRun | None:
        stored = await self.store.get(self.key('run', id))
        if stored is None:
            if self.clock.time() - at_s > _ORPHAN_S:  # not one that is just being written
                await self._unlist(id)
            return None
        return unpack(stored.value, SavedRun, f'the run {id}')

    async def is_closed(self, id: str) -> bool:
        """Whether the run has gone on to its end."""
        return await self.store.get(self.key('end', id)) is not None

    async def close(self, id: str) -> None:
        """The run has gone on: it is listed no more, and not resumed again."""
        lasting = 2 * self.settings.expires_s + self.settings.kept_s
        await self.store.put(self.key('end', id), b'', expire_s=lasting)
        await self._unlist(id)

    async def _listed(self, shard: str) -> tuple[Mapping[str, float], int]:
        stored = await self.store.get(self.key('open', shard))
        return ({}, 0) if stored is None else (unpack(stored.value, dict[str, float], 'a list'), stored.version)

    async def _list(self, id: str, change: Callable[[Mapping[str, float]], Mapping[str, float]]) -> None:
        shard = id[4]  # the first digit behind run_
        while True:
            runs, version = await self._listed(shard)
            changed = change(runs)
            if changed == runs:
                return
            if await self.store.compare_and_put(self.key('open', shard), version, pack(changed, 'a list')) is not None:
                return

    async def _forget_the_oldest(self, shard: str, lasting: float) -> None:
        """One for each that is added, so that lists do not grow when nobody reads them."""
        runs, _ = await self._listed(shard)
        id = min(runs, key=lambda id: runs[id], default=None)
        if id is not None and self.clock.time() - runs[id] > lasting:
            await self._open_run(id, runs[id])

    async def _unlist(self, id: str) -> None:
        await self._list(id, lambda runs: {other: at_s for other, at_s in runs.items() if other != id})

    # ── calls ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def stand(self, id: str) -> Stand | None:
        """How a call stands; `None` when its time is over."""
        return (await self._stored(id))[0]

    async def _stored(self, id: str) -> tuple[Stand | None, int]:
        stored = await self.store.get(self.key('call', id))
        if stored is None:
            return None, 0
        return unpack(stored.value, Stand, f'the approval {id}'), stored.version

    async def move(
        self,
        id: str,
        what: str,
        by: str,
        allowed: Callable[[Stand], bool],
        change: Callable[[Stand], Stand],
    ) -> Stand:
        """One step, made once by whoever is first. Raises Rejected, and says how the call stands, when it is not `allowed`."""
        while True:
            stand, version = await self._stored(id)
            if stand is None:
                raise Rejected(f'the time for a decision on {id} is over', by='approvals', status='DEADLINE_EXCEEDED')
            if not allowed(stand):
                raise _too_late(id, stand)
            position = await self.note(id, what, by)
            step = Step(what, self.clock.time(), by, position)
            moved = change(stand).replace(steps=(*stand.steps, step))
            written = await self.store.compare_and_put(
                self.key('call', id), version, _packed(moved), expire_s=self._lasts_s(moved.state)
            )
            if written is not None:
                return moved

    def _lasts_s(self, state: State) -> float:
        if state in ('pending', 'decided'):
            return self.settings.expires_s
        return 2 * self.settings.expires_s + self.settings.kept_s  # longer than the run's facts, from now on

    async def is_running(self, id: str) -> bool:
        """Whether the process that began this call holds it still."""
        probe = await self.store.acquire(self.key('call', id), _PROBE_S)
        if probe is None:
            return True
        await self.store.release(probe)
        return False

    async def hold_call(self, id: str) -> Hold:
        """A hold on a call while its tool runs. Raises Rejected when somebody has it."""
        return await self._hold(self.key('call', id), f'the call {id} is running at this moment')

    async def hold_run(self, id: str) -> Hold:
        """A hold on a run while it is resumed. Raises Rejected when somebody has it."""
        return await self._hold(self.key('run', id), f'{id} is being resumed at this moment')

    async def _hold(self, key: str, busy: str) -> Hold:
        lease_s = self.settings.lease_s
        lease = await enter(self.store, key, self.clock, lease_s=lease_s, wait_s=2 * _PROBE_S)
        if lease is None:
            raise Rejected(f'{busy}, or its process died less than {lease_s:g} s ago', by='approvals', status='ABORTED')
        lost = LamellaError(
            'ABORTED', f'{key.rpartition(":")[2]}: the hold on it was lost: another process may go on with it'
        )
        return Hold(self.store, lease, self.clock, lease_s, lambda: lost)

    # ── the audit log ───────────────────────────────────────────────────────────────────────────────────────────────

    async def note(self, id: str, what: str, by: str) -> int:
        """Write a line. Its position."""
        line = _Line(id, what, by, self.clock.time())
        return await self.store.append(self.key('audit'), pack(line, 'a line of the audit log'))

    async def audit(self, after: int, limit: int) -> tuple[AuditEntry, ...]:
        """A page of the log, each line with whether it had an effect."""
        entries = await self.store.read(self.key('audit'), after=after, limit=limit)
        lines = [(entry.position, unpack(entry.value, _Line, 'the audit log')) for entry in entries]
        ids = list({line.id for _, line in lines})
        stands = dict(zip(ids, await asyncio.gather(*[self.stand(id) for id in ids]), strict=True))
        return tuple(_entry(position, line, stands[line.id]) for position, line in lines)


def _entry(position: int, line: _Line, stand: Stand | None) -> AuditEntry:
    counted = None if stand is None else any(step.log == position for step in stand.steps)
    return AuditEntry(position, line.id, line.what, line.by, line.at_s, counted)


def _packed(stand: Stand) -> bytes:
    return pack(stand, 'the decision')


def _too_late(id: str, stand: Stand) -> Rejected:
    decision = stand.decision
    facts: dict[str, Any] = {'id': id, 'state': stand.state}
    told = f'{id} is {stand.state}'
    if decision is not None:
        facts |= {'by': decision.by, 'decision': decision.kind, 'at_s': decision.at_s}
        told = f'{id} was already {VERBS[decision.kind]} by {decision.by}, and is {stand.state}: a decision counts once'
    return Rejected(told, by='approvals', status='FAILED_PRECONDITION', details=facts)


def desk_of(ai: Any) -> Desk:
    """The desk of an app, in its own store."""
    return Desk(lambda: ai.resolve_store(None), ai.approval_settings, ai.clock)
