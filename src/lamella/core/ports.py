"""The state ports: what layers that remember need of a store. Each verb is one atomic act of the domain.

Keys are text; values are bytes; amounts are whole numbers (money in millionths of a dollar). `expire_s` is in seconds from
now by the store's own time; `None` keeps for good. Every verb raises `LamellaError('UNAVAILABLE', …)` when the store cannot
be reached and leaves either everything done or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lamella.types import Data


class Stored(Data, frozen=True):
    """A value and its version, which grows with every change of the key."""

    value: bytes
    version: int


class Count(Data, frozen=True):
    """A counter after `add`. `added` is false when the ceiling was in the way: then `value` is unchanged.

    `expires_in_s` is the time until the window ends, `None` for a counter that does not.
    """

    value: int
    added: bool
    expires_in_s: float | None = None


class Bucket(Data, frozen=True):
    """A token bucket as `take` wants it: refilled with `rate` per second up to `burst`, and `amount` taken now."""

    key: str
    rate: float
    burst: float
    amount: float = 1.0


class Taken(Data, frozen=True):
    """Whether all buckets gave. If not, nothing was taken, and asking again makes sense after `wait_s` seconds.

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
    """Values by key."""

    async def get(self, key: str) -> Stored | None: ...

    async def put(self, key: str, value: bytes, *, expire_s: float | None = None) -> int:
        """Write, whatever was there. The new version."""

    async def put_if_absent(self, key: str, value: bytes, *, expire_s: float | None = None) -> Stored | None:
        """Write if there is nothing. `None` when it was written, else what is there."""

    async def compare_and_put(
        self, key: str, version: int, value: bytes, *, expire_s: float | None = None
    ) -> int | None:
        """Write if the version is still this one (0: if there is nothing). The new version, or `None`."""

    async def delete(self, key: str, *, version: int | None = None) -> bool:
        """Remove, if the version is still this one where it is given. Whether something was removed."""


class Counters(Protocol):
    """Counters with a window, and token buckets."""

    async def add(
        self, key: str, amount: int = 1, *, ceiling: int | None = None, expire_s: float | None = None
    ) -> Count:
        """Add, unless the sum would be over `ceiling`. The first addition starts the window that ends after `expire_s`;
        later ones do not move it. A negative amount gives back; the value never falls below 0."""

    async def take(self, buckets: Sequence[Bucket]) -> Taken:
        """Take from all buckets or from none. A new bucket is full."""

    async def settle(self, buckets: Sequence[Bucket]) -> None:
        """Correct what was taken before: a positive `amount` is taken in addition, even below zero; a negative one is
        given back, never above `burst`."""


class Leases(Protocol):
    """Holds on keys that end by themselves."""

    async def acquire(self, key: str, ttl_s: float) -> Lease | None:
        """Hold the key for `ttl_s` seconds, or `None` while somebody holds it."""

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
