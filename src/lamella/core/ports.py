"""The state ports: what layers that remember need of a store. Each verb is one atomic act of the domain.

Keys are text of any kind and length; values are bytes; amounts are whole numbers below 2**53 (money in millionths of a
dollar). `expire_s` and `ttl_s` are in seconds from now by the store's own time; `None` keeps for good. Every verb raises
`LamellaError('UNAVAILABLE', …)` when the store cannot be reached. A verb is done whole or not at all; when the connection broke
before the answer came, nobody knows which, and no store tries a verb that writes a second time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from lamella.types import Data

_ROUNDING = 1e-9  # whoever waits just as long as told must not find a hair too little


class Stored(Data, frozen=True):
    """A value and its version, which grows with every change of the key."""

    value: bytes
    version: int


class Listed(Data, frozen=True):
    """A value of a list, with its key."""

    key: str
    value: bytes
    version: int


class Addition(Data, frozen=True):
    """What `add` takes, for `add_all`."""

    key: str
    amount: int = 1
    ceiling: int | None = None
    expire_s: float | None = None
    window: int | None = None

    def judged(self, count: Count) -> Count:
        """The counter as it is, with `added` for whether this can be added, and `fits` for whether its ceiling allows it."""
        if self.window is not None and self.window != count.window:
            return count
        fits = self.ceiling is None or self.amount <= 0 or count.value + self.amount <= self.ceiling
        return count.replace(added=fits, fits=fits)


class Count(Data, frozen=True):
    """A counter after `add`. `added` is false when a ceiling was in the way, or when its window has ended: then `value` is
    what is there, unchanged.

    `expires_in_s` is the time until the window ends, `None` for a counter that does not. `window` names this window, and 0
    none: a counter that nobody added to. `fits` is false where this counter's own ceiling was in the way.
    """

    value: int
    added: bool
    expires_in_s: float | None = None
    window: int = 0
    fits: bool = True


class Bucket(Data, frozen=True):
    """A token bucket as `take` wants it: refilled with `rate` per second up to `burst`, and `amount` taken now."""

    key: str
    rate: float
    burst: float
    amount: float = 1.0

    def refilled(self, level: float, elapsed_s: float) -> float:
        """Its level some seconds later. A clock that went back takes nothing away."""
        return min(self.burst, level + max(0.0, elapsed_s) * self.rate)

    def wait_s(self, level: float) -> float:
        """How long until the amount is there; infinite when it never will be."""
        if self.amount <= level + _ROUNDING * self.burst:
            return 0.0
        if self.amount > self.burst or self.rate <= 0:
            return math.inf
        return (self.amount - level) / self.rate

    def full_in_s(self, level: float) -> float:
        """How long until it is full again, and as good as none."""
        if level >= self.burst:
            return 0.0
        return (self.burst - level) / self.rate if self.rate > 0 else math.inf


class Taken(Data, frozen=True):
    """Whether all buckets gave. If so, what was taken may be used after `wait_s` seconds, which is 0 unless the taker was
    willing to wait. If not, nothing was taken, and asking again makes sense after `wait_s` seconds.

    `wait_s` is infinite when an amount is larger than its bucket can ever hold.
    """

    granted: bool
    wait_s: float = 0.0


class Lease(Data, frozen=True):
    """A hold on a key. `token` grows with every acquisition of the key: whoever has an older one has lost it."""

    key: str
    token: int
    expires_in_s: float


class Entry(Data, frozen=True):
    """One entry of a log; positions start at 1 and have no gaps."""

    position: int
    value: bytes


class Values(Protocol):
    """Values by key. A key that was written with `listed='name'` stands in that list until it expires or is deleted; later
    writes need not say it again."""

    async def get(self, key: str) -> Stored | None: ...

    async def put(self, key: str, value: bytes, *, expire_s: float | None = None, listed: str | None = None) -> int:
        """Write, whatever was there. The new version."""

    async def put_if_absent(
        self, key: str, value: bytes, *, expire_s: float | None = None, listed: str | None = None
    ) -> Stored | None:
        """Write if there is nothing. `None` when it was written, else what is there."""

    async def compare_and_put(
        self, key: str, version: int, value: bytes, *, expire_s: float | None = None, listed: str | None = None
    ) -> int | None:
        """Write if the version is still this one (0: if there is nothing). The new version, or `None`."""

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        """Remove, if the version is still this one where it is given. Whether something was removed."""

    async def listed(self, name: str, *, after: int = 0, limit: int = 100) -> Sequence[Listed]:
        """At most `limit` values of that list, oldest change first, whose version is above `after`."""


class Counters(Protocol):
    """Counters with a window, and token buckets."""

    async def add(
        self,
        key: str,
        amount: int = 1,
        *,
        ceiling: int | None = None,
        expire_s: float | None = None,
        window: int | None = None,
    ) -> Count:
        """Add, unless the sum would be over `ceiling`. The first addition starts the window that ends after `expire_s`;
        later ones do not move it. A negative amount gives back; the value never falls below 0.

        With `window` (of an earlier Count), only while that window lasts: what was reserved in one window is never given
        back into the next.
        """

    async def add_all(self, additions: Sequence[Addition]) -> Sequence[Count]:
        """Add to all counters or to none, each key once. A window that has ended is passed over and hinders no other."""

    async def count(self, key: str) -> Count:
        """The counter as it is. `added` is false."""

    async def reset(self, key: str) -> int:
        """Forget the counter. Its last value; 0 when there was none."""

    async def take(self, buckets: Sequence[Bucket], *, max_wait_s: float = 0.0) -> Taken:
        """Take from all buckets or from none, each key once. A new bucket is full.

        What is not there yet, but will be within `max_wait_s`, is taken ahead of time: whoever asks later waits longer, so
        that takers are served in the order of their asking. Give back with `settle` what is not used after all.
        """

    async def settle(self, buckets: Sequence[Bucket]) -> None:
        """Correct what was taken before: a positive `amount` is taken in addition, even below zero; a negative one is
        given back, never above `burst`."""


class Leases(Protocol):
    """Holds on keys that end by themselves."""

    async def acquire(self, key: str, ttl_s: float, *, slots: int = 1) -> Lease | None:
        """Hold the key for `ttl_s` seconds, or `None` while `slots` others hold it."""

    async def renew(self, lease: Lease, ttl_s: float) -> Lease | None:
        """Hold it longer, from now. `None` when it was lost."""

    async def release(self, lease: Lease) -> bool:
        """Let go. False when it was already lost."""


class Log(Protocol):
    """Entries in order."""

    async def append(self, key: str, value: bytes, *, expire_s: float | None = None) -> int:
        """Add at the end. The entry's position. `expire_s` is for the whole log and starts anew with every entry."""

    async def read(self, key: str, *, after: int = 0, limit: int = 100) -> Sequence[Entry]:
        """At most `limit` entries behind position `after`."""


class Store(Values, Counters, Leases, Log, Protocol):
    """All ports in one place, as the adapters in `lamella.stores` provide them. Keys of different ports do not collide."""

    async def aclose(self) -> None:
        """Close connections. A closed store opens again when it is used."""


class NeverWaits:
    """Marks a store whose verbs wait for nothing, so that no cancellation can meet one that is half done."""

    __slots__ = ()


def each_once(steps: Sequence[Addition] | Sequence[Bucket]) -> None:
    """Raises ValueError when one step names a key twice, which no store could do all at once."""
    keys = {step.key for step in steps}
    if len(keys) != len(steps):
        raise ValueError(f'one step names a key twice: {sorted(step.key for step in steps)}')
