"""One at a time, across processes: a line that is served in order, and a hold that is renewed while it is in use."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from lamella.core.clock import Clock, TimerHandle
from lamella.core.packing import pack, unpack
from lamella.core.ports import Lease, Store
from lamella.types import LamellaError

PLACE_S = 10.0  # how long a place in the line lasts when its process is gone
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.1


async def enter(store: Store, key: str, clock: Clock, *, lease_s: float, wait_s: float) -> Lease | None:
    """A lease on the key, in the order of arrival; `None` when it is not free within `wait_s` seconds.

    Whoever waits has a place in a list in the store, and keeps it alive; the places of dead processes are taken out by
    those behind them.
    """
    line = _Line(store, key, clock)
    if not await line.places():
        lease = await store.acquire(key, lease_s)
        if lease is not None or wait_s <= 0:
            return lease
    return None if wait_s <= 0 else await _wait(store, key, clock, line, lease_s, wait_s)


async def _wait(store: Store, key: str, clock: Clock, line: _Line, lease_s: float, wait_s: float) -> Lease | None:
    until, pause = clock.now() + wait_s, _FIRST_PAUSE_S
    try:
        await line.join()
        while True:
            await clock.sleep(max(0.0, min(pause, until - clock.now())))
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)
            if await line.is_first() and (lease := await store.acquire(key, lease_s)) is not None:
                return lease
            if clock.now() >= until:
                return None
    finally:
        await line.leave()


class _Line:
    """Who waits for a key, in order: a value that is changed by comparison, and a lease for each place."""

    def __init__(self, store: Store, key: str, clock: Clock) -> None:
        self._store, self._key, self._clock, self._me = store, key, clock, secrets.token_hex(8)
        self._place: Lease | None = None
        self._kept_at = 0.0

    async def places(self) -> tuple[str, ...]:
        return (await self._read())[0]

    async def _read(self) -> tuple[tuple[str, ...], int]:
        stored = await self._store.get(f'{self._key}:line')
        if stored is None:
            return (), 0
        return unpack(stored.value, tuple[str, ...], 'a waiting line'), stored.version

    async def _change(self, change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> None:
        while True:
            places, version = await self._read()
            changed = change(places)
            if changed == places:
                return
            if not changed:
                if await self._store.delete(f'{self._key}:line', version=version):
                    return
            elif await self._store.compare_and_put(f'{self._key}:line', version, pack(changed, 'a line')) is not None:
                return

    async def join(self) -> None:
        if self._place is None:
            self._kept_at = self._clock.now()
            self._place = await self._store.acquire(self._lease_of(self._me), PLACE_S)
        await self._change(lambda places: places if self._me in places else (*places, self._me))

    async def is_first(self) -> bool:
        """Whether it is this one's turn to try. Takes out a dead one in front, and joins again when taken out itself."""
        if self._place is not None and self._clock.now() - self._kept_at > PLACE_S / 3:
            self._kept_at = self._clock.now()
            self._place = await self._store.renew(self._place, PLACE_S)
        places = await self.places()
        if self._place is None or self._me not in places:
            await self.join()
            return False
        if places[0] == self._me:
            return True
        probe = await self._store.acquire(self._lease_of(places[0]), 1.0)
        if probe is not None:
            await self._change(lambda now: tuple(place for place in now if place != places[0]))
            await self._store.release(probe)
        return False

    async def leave(self) -> None:
        with suppress(LamellaError):  # when the store is away, the place ends by itself
            await self._change(lambda places: tuple(place for place in places if place != self._me))
            if self._place is not None:
                await self._store.release(self._place)

    def _lease_of(self, place: str) -> str:
        return f'{self._key}:place:{place}'


class Hold:
    """A lease that is renewed as long as it is held. `async with hold:` cancels the block and raises `error()` when the lease
    is lost; it may be entered again and again, by one task at a time. A cancellation from outside always passes."""

    def __init__(
        self, store: Store, lease: Lease, clock: Clock, lease_s: float, error: Callable[[], LamellaError]
    ) -> None:
        self.lease, self.is_lost = lease, False
        self._store, self._clock, self._lease_s, self._error = store, clock, lease_s, error
        self._held_until = clock.now() + lease_s
        self._inside: asyncio.Task[object] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._timer: TimerHandle | None = None
        self._later(lease_s / 3)

    def _later(self, seconds: float) -> None:
        self._timer = self._clock.call_later(seconds, self._due)

    def _due(self) -> None:
        self._renewing = asyncio.get_running_loop().create_task(self._renew())

    async def _renew(self) -> None:
        asked = self._clock.now()
        try:
            renewed = await self._store.renew(self.lease, self._lease_s)
        except LamellaError:
            if self._clock.now() < self._held_until:
                self._later(self._lease_s / 10)
                return
            renewed = None
        if renewed is None:
            self._lose()
            return
        self._held_until = asked + self._lease_s
        self._later(self._lease_s / 3)

    def _lose(self) -> None:
        self.is_lost = True
        if self._inside is not None:
            self._inside.cancel()

    async def __aenter__(self) -> Hold:
        if self.is_lost:
            raise self._error()
        self._inside = asyncio.current_task()
        self._cancelling = self._inside.cancelling() if self._inside is not None else 0
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        inside, self._inside = self._inside, None
        if not self.is_lost or inside is None:
            return
        if inside.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._error() from error

    async def release(self) -> None:
        """Let go. A store that is away lets go by itself when the lease runs out."""
        if self._timer is not None:
            self._timer.cancel()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        with suppress(LamellaError):
            await self._store.release(self.lease)
