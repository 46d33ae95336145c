"""The stores of one app: its own, and those that layers name by URL, each opened once."""

from __future__ import annotations

from lamella.core.clock import Clock
from lamella.core.ports import Store
from lamella.core.stores import check_store, open_store


class StoreShelf:
    """Opens each URL once, when it is first asked for, and closes what it opened.

    `given` is the app's own store: a store, a URL, or `None` for memory. Raises ConfigError when it is neither.
    """

    def __init__(self, given: Store | str | None, clock: Clock) -> None:
        check_store(given)
        self._given, self._clock = given, clock
        self._opened: dict[str, Store] = {}

    def get(self, wanted: Store | str | None) -> Store:
        """The store of that URL, the store itself, or the app's own for `None`."""
        if wanted is None:
            wanted = 'memory://' if self._given is None else self._given
        if not isinstance(wanted, str):
            return wanted
        if wanted not in self._opened:
            self._opened[wanted] = open_store(wanted, clock=self._clock)
        return self._opened[wanted]

    async def aclose(self) -> None:
        """Close what was opened here; a store that was given belongs to whoever made it."""
        for store in self._opened.values():
            await store.aclose()
