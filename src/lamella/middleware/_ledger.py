"""Amounts that are set aside before a call and settled after it, in counters that processes share.

One counter for each amount holds what is used and what is set aside, so that one addition with a ceiling decides. That a process
that dies may not keep what it had set aside, the same step notes it in a second counter: of all that was set aside in this slice
of the window (`hold_s` seconds of the store's time). A reservation is settled against its slice while it is younger than
`hold_s`, and leaves the slice alone later. So what is left in a slice two slices after its end is nobody's any more, and whoever
comes by gives it back, once, since `reset` is one step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lamella.core.ports import Addition, Count, Store
from lamella.types import Data, LamellaError

FOR_GOOD_S = 100 * 365 * 86_400.0  # a window that never ends, and still tells the store's time
_REMEMBERED = 4096
_OPEN_SLICES = 3


class Reservation(Data, frozen=True):
    """What was set aside: `amounts`, in the windows that the store named, at `at` on the clock of the call."""

    key: str
    amounts: tuple[int, ...]
    windows: tuple[int, ...]
    slice: str
    at: float


class Full(Data, frozen=True):
    """Nothing was set aside, for want of the amount number `which`, of which `left` would fit. The window ends in `ends_in_s`."""

    which: int
    left: int
    ends_in_s: float | None


class _Window:
    """One window as this process knows it, on the clock of the calls."""

    __slots__ = ('began', 'ends', 'numbers', 'reclaimed', 'slice')

    def __init__(self, numbers: tuple[int, ...], began: float, ends: float) -> None:
        self.numbers, self.began, self.ends = numbers, began, ends
        self.slice = self.reclaimed = -1  # the latest one that was noted, and up to which all are given back


class Ledger:
    """The reservations of one layer in one store: a whole number for each of `names`, in windows of `window_s` seconds, `None`
    for one that never ends. `hold_s` is what a call takes at most; one that takes longer is settled all the same."""

    def __init__(self, store: Store, names: Sequence[str], window_s: float | None, hold_s: float) -> None:
        self.store = store
        self._names, self._hold_s = names, hold_s
        self._window_s = FOR_GOOD_S if window_s is None else window_s
        self._windows: dict[str, _Window] = {}
        self._reclaimed: list[tuple[str, tuple[int, ...]]] = []
        self._debts: dict[tuple[str, tuple[int, ...]], tuple[int, ...]] = {}

    async def reserve(
        self, key: str, amounts: Sequence[int], ceilings: Sequence[int | None], now: float
    ) -> Reservation | Full:
        """Set all amounts aside, or none when one of them would go over its ceiling."""
        await self._pay_debts()
        # An amount of nothing always fits; it counts as one until it is settled, so that all windows begin together.
        ceilings = [ceiling if amount else None for amount, ceiling in zip(amounts, ceilings, strict=True)]
        wanted = tuple([amount or 1 for amount in amounts])
        taken = await self._reserve(key, wanted, ceilings, now)
        if isinstance(taken, Full) and await self._reclaim(key, now):
            taken = await self._reserve(key, wanted, ceilings, now)
        return taken

    async def _reserve(
        self, key: str, amounts: tuple[int, ...], ceilings: Sequence[int | None], now: float
    ) -> Reservation | Full:
        known = self._known(key, now)
        noted = None if known is None else self._slice(key, known, now)
        additions = [
            Addition(f'{key}:{name}', amount, ceiling, self._window_s)
            for name, amount, ceiling in zip(self._names, amounts, ceilings, strict=True)
        ]
        if known is not None and noted is not None:
            additions += self._held(noted, amounts, known.ends - now)
        counts = (await self.store.add_all(additions))[: len(self._names)]
        window = self._seen(key, counts, now)
        for which, count in enumerate(counts):
            if not count.fits:
                return Full(which, max(0, (ceilings[which] or 0) - count.value), self._ends_in_s(count))
        where = self._slice(key, window, now)
        if where != noted:  # the first one of this process in this window
            moved = self._held(where, amounts, window.ends - now)
            if noted is not None:
                moved += self._held(noted, [-amount for amount in amounts])
            await self.store.add_all(moved)
        await self._note(key, window, where, now)
        return Reservation(key, amounts, window.numbers, where, now)

    async def settle(self, reservation: Reservation, used: Sequence[int], now: float) -> Sequence[Count]:
        """Put what was used in the place of what was set aside, in that window, if it is not over. The counters after it.

        When this raises, a later step makes up for it.
        """
        late = now - reservation.at >= self._hold_s
        try:
            return await self._settle(reservation, used, late)
        except BaseException:
            self.owe(reservation.key, used, reservation.windows)
            raise

    async def _settle(self, reservation: Reservation, used: Sequence[int], late: bool) -> Sequence[Count]:
        key, amounts = reservation.key, reservation.amounts
        changes = used if late else [mine - held for mine, held in zip(used, amounts, strict=True)]
        additions = self._changes(key, changes, reservation.windows)
        if not late:
            additions += self._held(reservation.slice, [-amount for amount in amounts])
        return (await self.store.add_all(additions))[: len(self._names)]

    def owe(self, key: str, used: Sequence[int], windows: tuple[int, ...] = ()) -> None:
        """Remember what was used and the store was not told; `windows` when it was set aside before."""
        if not any(used):
            return
        before = self._debts.pop((key, windows), (0,) * len(self._names))
        if len(self._debts) >= _REMEMBERED:
            del self._debts[next(iter(self._debts))]
        self._debts[key, windows] = tuple([one + more for one, more in zip(before, used, strict=True)])

    async def _pay_debts(self) -> None:
        while self._debts:
            (key, windows), used = self._debts.popitem()
            try:
                await self.store.add_all(self._changes(key, used, windows))
            except BaseException:
                self.owe(key, used, windows)
                raise

    def _changes(self, key: str, amounts: Sequence[int], windows: tuple[int, ...]) -> list[Addition]:
        return [
            Addition(f'{key}:{name}', amount, None, self._window_s, windows[n] if windows else None)
            for n, (name, amount) in enumerate(zip(self._names, amounts, strict=True))
        ]

    def _held(self, where: str, amounts: Sequence[int], window_s: float = 0.0) -> list[Addition]:
        expire_s = max(0.0, window_s) + self._hold_s
        return [
            Addition(f'{where}:{name}', amount, None, expire_s)
            for name, amount in zip(self._names, amounts, strict=True)
        ]

    async def _note(self, key: str, window: _Window, where: str, now: float) -> None:
        """Let others find this slice, and give back what is left in old ones: once for each slice and process."""
        number = self._number(window, now)
        if number <= window.slice:
            return
        window.slice = number
        expire_s = max(0.0, window.ends - now) + self._hold_s
        try:
            await self.store.put_if_absent(where, b'%d' % number, expire_s=expire_s, listed=_list(key, window))
            await self._reclaim(key, now)
        except LamellaError:  # the next reservation tries again
            window.slice = -1

    async def _reclaim(self, key: str, now: float) -> bool:
        """Give back what dead processes had set aside. Whether there was something."""
        window = self._known(key, now)
        if window is None or self._number(window, now) <= window.reclaimed:
            return False
        before, window.reclaimed = window.reclaimed, self._number(window, now)
        found = False
        try:
            for old in await self.store.listed(_list(key, window)):
                if int(old.value) <= window.reclaimed - _OPEN_SLICES:
                    found = await self._empty(key, window, old.key) or found
        except LamellaError:
            window.reclaimed = before
            raise
        return found

    async def _empty(self, key: str, window: _Window, old: str) -> bool:
        left = tuple([await self.store.reset(f'{old}:{name}') for name in self._names])
        if any(left):
            self._reclaimed.append((key, left))
            await self.store.add_all(self._changes(key, [-amount for amount in left], window.numbers))
        await self.store.delete(old)
        return any(left)

    def take_reclaimed(self, key: str) -> Sequence[tuple[int, ...]]:
        """What was given back for this key since this was last asked."""
        if not self._reclaimed:
            return ()
        mine = [amounts for name, amounts in self._reclaimed if name == key]
        self._reclaimed = [(name, amounts) for name, amounts in self._reclaimed if name != key]
        return mine

    def _known(self, key: str, now: float) -> _Window | None:
        window = self._windows.get(key)
        return window if window is not None and now < window.ends else None

    def _seen(self, key: str, counts: Sequence[Count], now: float) -> _Window:
        """The window that these counters are in. They began in one step, so they end together."""
        numbers = tuple([count.window for count in counts])
        known = self._windows.pop(key, None)
        if known is None or known.numbers != numbers:
            left_s = counts[0].expires_in_s or 0.0
            known = _Window(numbers, now + left_s - self._window_s, now + left_s)
        if len(self._windows) >= _REMEMBERED:
            self._windows.pop(next(iter(self._windows)), None)
        self._windows[key] = known
        return known

    def _number(self, window: _Window, now: float) -> int:
        return max(0, math.floor((now - window.began) / self._hold_s))

    def _slice(self, key: str, window: _Window, now: float) -> str:
        return f'{key}:{window.numbers[0]}:{self._number(window, now)}'

    def _ends_in_s(self, count: Count) -> float | None:
        return None if self._window_s == FOR_GOOD_S else count.expires_in_s


def _list(key: str, window: _Window) -> str:
    return f'{key}:{window.numbers[0]}'
