"""Finding answers and keeping them: who is given one, who waits for one, and who asks."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Awaitable
from typing import Any, TypeVar

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.ports import Lease, Store
from lamella.middleware._answers import VERSION, Kept, decoded, encoded
from lamella.middleware._flights import Flight, Flights, Outcome
from lamella.middleware._state import OnStoreError, ask_store, unbroken
from lamella.types import Data, LamellaError

T = TypeVar('T')
Ctx = GenerateMiddlewareContext
FIRST_LOOK_S, LONGEST_LOOK_S = 0.02, 0.5
FAILURES = 2


class Terms(Data, frozen=True):
    """The settings by which answers are kept."""

    ttl_s: float
    stale_s: float | None
    max_size: int | None
    wait_s: float
    lease_s: float
    on_store_error: OnStoreError


class Hit(Data, frozen=True):
    """An answer that is there: `stale` when a new one is wanted, `shared` when another call of this process got it just now."""

    kept: Kept
    stale: bool = False
    shared: bool = False
    waited_s: float = 0.0


_ASKING = set[tuple[str, int, str]]()
"""What runs ask models for: run, store and key. A cache further in, with the same store, must not wait for its own call."""


class Ask:
    """What a call holds that has to ask: the flight that others wait for, the lease, and an old answer, if there is one."""

    __slots__ = ('_flight', '_flights', '_mark', 'key', 'lease', 'old')

    def __init__(self, key: str, flights: Flights, flight: Flight | None = None) -> None:
        self.key, self._flights, self._flight = key, flights, flight
        self.lease: Lease | None = None
        self.old: Kept | None = None
        self._mark: tuple[str, int, str] | None = None

    def begin(self, mark: tuple[str, int, str]) -> None:
        if self._flight is not None:
            self._mark = mark
            _ASKING.add(mark)

    def end(self, outcome: Outcome, kept: Kept | None = None, error: LamellaError | None = None) -> None:
        """Let those go on who wait for this call. The first word counts."""
        if self._mark is not None:
            _ASKING.discard(self._mark)
        if self._flight is not None:
            self._flights.end(self.key, self._flight, outcome, kept, error)


class Answers:
    """The answers of one layer in one app, and its calls under way. Used by all event loops of the app."""

    def __init__(self, layer: Any, store: Store, terms: Terms) -> None:
        self.store, self.terms, self.flights = store, terms, Flights()
        self._layer = layer
        self._used: OrderedDict[str, None] = OrderedDict()  # what this process has written, the latest used last

    def __len__(self) -> int:
        return len(self._used)

    async def find(self, key: str, ctx: Ctx) -> Hit | Ask:
        """The answer, if it is there or another call gets it; else what is needed to ask. Raises what others failed with."""
        if self._mark(key, ctx) in _ASKING:
            return self._alone(key, ctx)
        started, failures = ctx.clock.now(), 0
        kept = await self._get(key, ctx)
        while kept is None:
            flight = self.flights.of(key)
            if flight is None:
                return await self._lead(key, started, ctx)
            outcome = await flight.over(ctx.clock, max(0.0, self.terms.wait_s - (ctx.clock.now() - started)))
            if outcome == 'answered':
                return Hit(flight.answer, shared=True, waited_s=ctx.clock.now() - started)
            if outcome in ('private', None):
                return self._alone(key, ctx)
            failures += outcome == 'failed'
            if failures == FAILURES and flight.error is not None:
                raise copy.copy(flight.error) from flight.error
        return await self._found(key, kept, ctx)

    def _mark(self, key: str, ctx: Ctx) -> tuple[str, int, str]:
        return ctx.run_id, id(self.store), key

    async def _found(self, key: str, kept: Kept, ctx: Ctx) -> Hit | Ask:
        """What is to be made of something that is there: whether it is an answer, and not too old."""
        if kept.is_private:
            return self._alone(key, ctx)
        if key in self._used:
            self._used.move_to_end(key)
        if self.terms.stale_s is None or await self._is_fresh(key, ctx):
            return Hit(kept)
        if self.flights.of(key) is not None:
            return Hit(kept, stale=True)
        return await self._renew(key, kept, ctx)

    async def _renew(self, key: str, kept: Kept, ctx: Ctx) -> Hit | Ask:
        """Be the one who asks anew, unless somebody is at it."""
        ask = Ask(key, self.flights, self.flights.begin(key))
        try:
            lease = await self._lease(key, ctx)
            if isinstance(lease, Lease):
                ask.lease = lease
                if not await self._is_fresh(key, ctx):
                    ask.old = kept
                    return self._miss(ask, ctx)
                kept = await self._get(key, ctx) or kept
                await self._let_go(ask)
            ask.end('answered', kept)
            return Hit(kept, stale=lease is None)
        except BaseException:
            ask.end('left')
            await self._let_go(ask)
            raise

    async def _lead(self, key: str, started: float, ctx: Ctx) -> Hit | Ask:
        """Be the one of this process who asks, or who waits for another process to have asked."""
        ask, look_s = Ask(key, self.flights, self.flights.begin(key)), FIRST_LOOK_S
        try:
            while True:
                lease = await self._lease(key, ctx)
                if lease is AWAY:
                    return self._miss(ask, ctx)
                ask.lease = lease
                kept = await self._get(key, ctx)
                if kept is not None:
                    await self._let_go(ask)
                    ask.end('private' if kept.is_private else 'answered', kept)
                    return self._alone(key, ctx) if kept.is_private else Hit(kept, waited_s=ctx.clock.now() - started)
                if lease is not None:
                    return self._miss(ask, ctx)
                if ctx.clock.now() - started >= self.terms.wait_s:
                    ask.end('private')
                    return self._alone(key, ctx)
                await ctx.clock.sleep(look_s * ctx.random.uniform(0.5, 1.0))
                look_s = min(LONGEST_LOOK_S, 2 * look_s)
        except BaseException:
            ask.end('left')
            await self._let_go(ask)
            raise

    def _miss(self, ask: Ask, ctx: Ctx) -> Ask:
        ask.begin(self._mark(ask.key, ctx))
        ctx.emit('cache.miss', key=ask.key)
        return ask

    def _alone(self, key: str, ctx: Ctx) -> Ask:
        return self._miss(Ask(key, self.flights), ctx)

    async def keep(self, ask: Ask, kept: Kept, ctx: Ctx) -> bool:
        """Write the answer down and give it to those who wait. Whether it is written."""
        value, stale_s = encoded(kept), self.terms.stale_s
        if value is None:
            await self.keep_private(ask, 'unwritable', ctx)
            return False
        written = await self._ask(self.store.put(ask.key, value, expire_s=self.terms.ttl_s + (stale_s or 0.0)), ctx)
        if stale_s is not None and written is not AWAY:
            await self._ask(self.store.put(_fresh(ask.key), b'', expire_s=self.terms.ttl_s), ctx)
        ask.end('answered', kept)
        if written is AWAY:
            return False
        ctx.emit('cache.stored', key=ask.key, bytes=len(value))
        self._used[ask.key] = None
        self._used.move_to_end(ask.key)
        while self.terms.max_size is not None and len(self._used) > self.terms.max_size:
            oldest, _ = self._used.popitem(last=False)
            await self._ask(self.store.delete(oldest), ctx)
        return True

    async def keep_private(self, ask: Ask, reason: str, ctx: Ctx) -> None:
        """Let everybody with this request ask by himself for a while: its answers are not to be kept."""
        ctx.emit('cache.skipped', key=ask.key, reason=reason)
        ask.end('private')
        if ask.lease is not None and ask.old is None:
            mark = encoded(Kept(VERSION, ask.key, ctx.clock.time()))
            await self._ask(self.store.put(ask.key, mark or b'', expire_s=self.terms.lease_s), ctx)

    async def _get(self, key: str, ctx: Ctx) -> Kept | None:
        stored = await self._ask(self.store.get(key), ctx)
        if stored is None or stored is AWAY:
            return None
        kept = decoded(stored.value, key)
        if kept is None:
            ctx.emit('cache.unreadable', key=key)
        return kept

    async def _is_fresh(self, key: str, ctx: Ctx) -> bool:
        """By the store's own clock: the mark expires with the answer's time. With the store away nothing is known to be old."""
        return await self._ask(self.store.get(_fresh(key)), ctx) is not None

    async def _lease(self, key: str, ctx: Ctx) -> Any:
        """The lease, `None` while another process asks, or `AWAY`."""

        async def undo(lease: Lease | None) -> None:
            if lease is not None:
                await self.store.release(lease)

        return await self._ask(unbroken(self.store, self.store.acquire(key, self.terms.lease_s), undo), ctx)

    async def _let_go(self, ask: Ask) -> None:
        lease, ask.lease = ask.lease, None
        if lease is not None:
            try:
                await self.store.release(lease)
            except LamellaError:
                return  # it ends by itself

    async def _ask(self, verb: Awaitable[Any], ctx: Ctx) -> Any:
        return await ask_store(self._layer, ctx, verb, self.terms.on_store_error, AWAY)


AWAY: Any = object()


def _fresh(key: str) -> str:
    return f'{key}:fresh'
