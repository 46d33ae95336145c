"""A circuit in a store: closed, open, half-open, for all processes alike. Every step is a single verb, and time is the store's.

What is known of a circuit is one value: nothing at all as long as all is well, `failing` after a failure, `open`, and `closed`
again afterwards. A state is changed only from the version that was read, and what belongs to a state (the streak of failures,
the cool-down, the probes) is kept under that version's number: so a late word about an earlier state changes nothing, and
whoever dies in the middle of a change leaves the earlier state.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from lamella.core.ports import Lease, Store
from lamella.middleware._state import unbroken
from lamella.types import Data

DAY_S = 86_400.0
_ROUNDS = 8
_FAILED = 2**24  # calls and failures of a window in one counter, so that both are of the same window
_WHILE_PROBING_S = 1.0


class Rules(Protocol):
    """The settings of a circuit."""

    @property
    def threshold(self) -> int | None: ...
    @property
    def failure_rate(self) -> float | None: ...
    @property
    def window_s(self) -> float: ...
    @property
    def min_calls(self) -> int: ...
    @property
    def cooldown_s(self) -> float: ...
    @property
    def probes(self) -> int: ...
    @property
    def probe_lease_s(self) -> float: ...


class State(Data, frozen=True):
    """`id` names what belongs to the state, `epoch` the last recovery: what was asked before it says nothing of now."""

    kind: Literal['closed', 'failing', 'open'] = 'closed'
    id: str = '0'
    epoch: str = '0'
    why: str = ''


class Entry(Data, frozen=True):
    """One call at the circuit. Refused where `wait_s` is set: ask again then. A probe holds a lease."""

    state: State
    version: int = 0
    probe: Lease | None = None
    wait_s: float | None = None


class Circuit:
    """One circuit by its key. All methods raise UNAVAILABLE when the store is away."""

    __slots__ = ('_key', '_rules', '_store')

    def __init__(self, store: Store, key: str, rules: Rules) -> None:
        self._store, self._key, self._rules = store, key, rules

    async def _read(self) -> tuple[State, int]:
        stored = await self._store.get(self._key)
        return (_QUIET, 0) if stored is None else (_decode(stored.value), stored.version)

    async def enter(self) -> Entry:
        """Let a call in, as one of many or as a probe, or refuse it."""
        for _ in range(_ROUNDS):
            entry = await self._ask()
            if entry.probe is None or await self._is_still(entry):
                return entry
            await self.leave(entry)  # another probe has decided meanwhile
        return Entry(_QUIET, wait_s=_WHILE_PROBING_S)

    async def _is_still(self, entry: Entry) -> bool:
        try:
            return (await self._read())[1] == entry.version
        except BaseException:
            await self.leave(entry)
            raise

    async def _ask(self) -> Entry:
        state, version = await self._read()
        if state.kind != 'open':
            return Entry(state, version)
        cooling = await self._store.count(f'{self._key}:open:{state.id}')
        if cooling.value:
            return Entry(state, version, wait_s=cooling.expires_in_s or 0.0)
        probe = await self._probe(state)
        return Entry(state, version, probe, None if probe else min(_WHILE_PROBING_S, self._rules.cooldown_s))

    async def _probe(self, state: State) -> Lease | None:
        key, rules = f'{self._key}:probe:{state.id}', self._rules
        taking = self._store.acquire(key, rules.probe_lease_s, slots=rules.probes)
        return await unbroken(self._store, taking, self._let_go)

    async def _let_go(self, probe: Lease | None) -> None:
        if probe is not None:
            await self._store.release(probe)

    async def leave(self, entry: Entry) -> None:
        """A call ended that says nothing of the model."""
        if entry.probe is not None:
            await unbroken(self._store, self._store.release(entry.probe))

    async def succeed(self, entry: Entry) -> bool:
        """A call was answered. Whether that closed the circuit."""
        if entry.probe is not None:
            closed = await self._passed(entry)
            await self.leave(entry)
            return closed
        state, version = await self._read()
        if state.epoch == entry.state.epoch and state.kind != 'open':
            if self._rules.failure_rate is not None:
                await self._store.add(f'{self._key}:window', 1, expire_s=self._rules.window_s)
            if state.kind == 'failing':
                await self._write(version, State(epoch=state.epoch))
        return False

    async def _passed(self, entry: Entry) -> bool:
        if self._rules.probes > 1:
            passed = await self._store.add(f'{self._key}:passed:{entry.state.id}', expire_s=DAY_S)
            if passed.value < self._rules.probes:
                return False
        await self._store.reset(f'{self._key}:window')
        return await self._write(entry.version, State(epoch=str(entry.version))) is not None

    async def fail(self, entry: Entry) -> str | None:
        """A call failed. Why that opened the circuit, or `None`."""
        if entry.probe is not None:
            opened = await self._open(entry.version, entry.state, entry.state.why)
            await self.leave(entry)
            return 'a probe failed' if opened else None
        for _ in range(_ROUNDS):
            state, version = await self._read()
            if state.epoch != entry.state.epoch or state.kind == 'open':
                return None  # old news
            if state.kind == 'failing' or self._rules.threshold is None:
                why = await self._enough(state)
                return why if why is not None and await self._open(version, state, why) else None
            await self._write(version, State('failing', str(version), state.epoch))
        return None

    async def _enough(self, state: State) -> str | None:
        """Counts a failure. Why it is the last straw, or `None`."""
        rules, why = self._rules, None
        if rules.threshold is not None:
            streak = await self._store.add(f'{self._key}:streak:{state.id}', expire_s=DAY_S)
            if streak.value >= rules.threshold:
                why = f'{streak.value} failures in a row'
        if rules.failure_rate is not None:
            window = await self._store.add(f'{self._key}:window', 1 + _FAILED, expire_s=rules.window_s)
            failed, calls = divmod(window.value, _FAILED)
            if why is None and calls >= rules.min_calls and failed >= rules.failure_rate * calls:
                why = f'{failed} of {calls} calls failed'
        return why

    async def _open(self, version: int, state: State, why: str) -> bool:
        """Open from that version, for the length of a cool-down, which is counted before anybody can see the circuit open."""
        opened = State('open', str(version), state.epoch, why)
        await self._store.add(f'{self._key}:open:{opened.id}', ceiling=1, expire_s=self._rules.cooldown_s)
        return await self._write(version, opened, self._rules.cooldown_s) is not None

    async def _write(self, version: int, state: State, longer_s: float = 0.0) -> int | None:
        # Kept a little longer than the streak that it names: numbers of versions that are gone are not met again.
        expire_s = DAY_S + 60.0 + longer_s
        return await self._store.compare_and_put(self._key, version, msgspec.json.encode(state), expire_s=expire_s)


_QUIET = State()
_decode = msgspec.json.Decoder(State).decode
