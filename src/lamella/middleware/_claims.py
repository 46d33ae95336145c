"""The right to do one act: taken in a store before it, given up or turned into a record of its outcome after it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lamella.core.clock import Clock
from lamella.core.ports import Lease, Store, Stored
from lamella.middleware._acts import Act
from lamella.middleware._state import unbroken
from lamella.types import Data, LamellaError

FIRST_LOOK_S, LONGEST_LOOK_S = 0.02, 0.5
RECORDING_WAITS_S = (0.1, 0.5, 2.0)


class Claim(Data, frozen=True):
    """The right to run: a lease, the version of the record that says so, and what was there before it."""

    lease: Lease
    version: int
    before: Stored | None = None


class Claims:
    """One act in one store. Every method raises what the store raises, but for `record`.

    What is done or has failed is remembered for `ttl_s`. What runs, and what nobody knows the outcome of, is never forgotten by
    itself: that would be a second execution.
    """

    __slots__ = ('_clock', '_lease_s', '_run_id', '_ttl_s', 'key', 'store')

    def __init__(self, store: Store, key: str, clock: Clock, run_id: str, lease_s: float, ttl_s: float | None) -> None:
        self.store, self.key = store, key
        self._clock, self._run_id, self._lease_s, self._ttl_s = clock, run_id, lease_s, ttl_s

    async def lease(self, wait_s: float, on_wait: Callable[[], None]) -> Lease | Act:
        """The lease on the key. While another call has it: that one's result, or after `wait_s` that it is still running."""
        until, look_s = self._clock.now() + wait_s, FIRST_LOOK_S
        while True:
            lease = await unbroken(self.store, self.store.acquire(self.key, self._lease_s), self._undo_lease)
            if lease is not None:
                return lease
            found = await self.store.get(self.key)
            if found is not None and (act := Act.decoded(found.value)).state == 'done':
                return act
            left_s = until - self._clock.now()
            if left_s <= 0:
                return Act('running', self._clock.time(), '')
            if look_s == FIRST_LOOK_S:
                on_wait()
            await self._clock.sleep(min(look_s, left_s))
            look_s = min(2 * look_s, LONGEST_LOOK_S)

    async def _undo_lease(self, lease: Lease | None) -> None:
        if lease is not None:
            await self.store.release(lease)

    async def claim(self, lease: Lease, runs_again: Callable[[Act], bool]) -> Claim | Act:
        """The right to run, or what is known of the act when `runs_again` does not want it done once more.

        With the lease nobody else can be running it: a record that says so was left behind by a call that is gone.
        """
        running = Act('running', self._clock.time(), self._run_id).encoded()
        before: Stored | None = None
        while True:
            verb = self.store.compare_and_put(self.key, 0 if before is None else before.version, running)
            version = await unbroken(self.store, verb, partial(self._undo_write, lease, before))
            if version is not None:
                return Claim(lease, version, before)
            before = await self.store.get(self.key)
            if before is None:
                continue  # its time ran out just now
            act = Act.decoded(before.value)
            if act.state == 'running':
                act = act.replace(state='unknown', why='its process ended, or lost the store, before it could say')
            if not runs_again(act):
                return act

    async def _undo_write(self, lease: Lease, before: Stored | None, version: int | None) -> None:
        if version is not None:
            await self.undo(Claim(lease, version, before))

    async def undo(self, claim: Claim) -> None:
        """As if the call had never been."""
        if claim.before is None:
            await self.store.delete(self.key, version=claim.version)
            return
        before = claim.before.value
        expire_s = self._expire_s(Act.decoded(before))
        await self.store.compare_and_put(self.key, claim.version, before, expire_s=expire_s)

    async def record(self, claim: Claim, act: Act, data: bytes, on_away: Callable[[LamellaError], None]) -> str:
        """Write how it ended, or why that could not be written: then it stays `running`, and is unknown when the lease has
        run out."""
        why = ''
        for wait_s in (0.0, *RECORDING_WAITS_S):
            if wait_s:
                await self._clock.sleep(wait_s)
            try:
                verb = self.store.compare_and_put(self.key, claim.version, data, expire_s=self._expire_s(act))
                if await unbroken(self.store, verb) is not None:
                    return ''
                found = await self.store.get(self.key)
                is_there = found is not None and found.value == data  # by a try whose answer was lost
                return '' if is_there else 'another call has taken over'
            except LamellaError as error:
                on_away(error)
                why = f'its store is away: {error.message}'
        return why

    def _expire_s(self, act: Act) -> float | None:
        return self._ttl_s if act.state in ('done', 'failed') else None
