"""A lease that is kept as long as its holder works, without a task while nothing is to be done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lamella.core.clock import Clock, TimerHandle
from lamella.core.ports import Lease, Store
from lamella.middleware._state import unbroken
from lamella.types import LamellaError


class Hold:
    """Renews its lease each third of its time, and takes it again when it was lost and nobody else has it.

    `on_trouble` hears of a store that is away, and of a lease that somebody else has now (`None`).
    """

    __slots__ = ('_clock', '_handle', '_renewing', '_store', '_troubled', 'lease', 'ttl_s')

    def __init__(
        self, store: Store, clock: Clock, lease: Lease, ttl_s: float, on_trouble: Callable[[LamellaError | None], None]
    ) -> None:
        self._store, self._clock, self.lease, self.ttl_s = store, clock, lease, ttl_s
        self._troubled = on_trouble
        self._renewing: asyncio.Task[None] | None = None
        self._handle: TimerHandle = clock.call_later(ttl_s / 3, self._due)

    def _due(self) -> None:
        self._renewing = asyncio.ensure_future(self._renew())
        self._handle = self._clock.call_later(self.ttl_s / 3, self._due)

    async def _renew(self) -> None:
        try:
            kept = await self._store.renew(self.lease, self.ttl_s)
            kept = kept or await self._store.acquire(self.lease.key, self.ttl_s)
        except LamellaError as error:
            self._troubled(error)
            return
        if kept is None:
            self._troubled(None)
        else:
            self.lease = kept

    async def let_go(self) -> None:
        """Release it. A store that is away lets it run out."""
        self._handle.cancel()
        if self._renewing is not None:
            await asyncio.wait([self._renewing])
        try:
            await unbroken(self._store, self._store.release(self.lease))
        except LamellaError as error:
            self._troubled(error)
