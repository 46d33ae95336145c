"""Places for calls that run at once, in this process: whoever finds none waits in order, and every place comes back."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from lamella.middleware._limit_rules import Outcome, Rule

MAX_REMEMBERED = 1024
Waiter = asyncio.Future[None]


class Gate:
    """The places of one key. `mean_s` is how long a call keeps one, lately."""

    __slots__ = ('active', 'key', 'mean_s', 'rule', 'waiting')

    def __init__(self, key: str, rule: Rule) -> None:
        self.key, self.rule = key, rule
        self.active = 0
        self.mean_s: float | None = None
        self.waiting: OrderedDict[Waiter, None] = OrderedDict()

    @property
    def places(self) -> int:
        return int(self.rule.limit)

    @property
    def is_idle(self) -> bool:
        return not self.active and not self.waiting

    def expected_wait_s(self) -> float | None:
        """How long somebody at the end of the line is likely to wait, by Little's law; `None` when nothing was measured."""
        return None if self.mean_s is None else (len(self.waiting) + 1) * self.mean_s / max(1, self.places)


class Gates:
    """The gates of one layer. Safe for several threads and event loops.

    `keep` says that what a gate has learned outlives its calls; then the latest 1,024 are remembered.
    """

    def __init__(self, make_rule: Callable[[], Rule], *, keep: bool) -> None:
        self._make_rule, self._keep = make_rule, keep
        self._gates: OrderedDict[str, Gate] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._gates)

    def enter(self, key: str, max_queue: int) -> tuple[Gate, Waiter | None, bool]:
        """The key's gate, and whether the caller is in. If not: a place in its line to be awaited, or none when that is full."""
        with self._lock:
            gate = self._gate(key)
            if not gate.waiting and gate.active < gate.places:
                gate.active += 1
                return gate, None, True
            if len(gate.waiting) >= max_queue:
                return gate, None, False
            waiter: Waiter = asyncio.get_running_loop().create_future()
            gate.waiting[waiter] = None
            return gate, waiter, False

    def give_up(self, gate: Gate, waiter: Waiter) -> None:
        """Whoever waited leaves, also when it was let in at the same moment."""
        with self._lock:
            if waiter in gate.waiting:
                del gate.waiting[waiter]
                self._tidy(gate)
                return
        if waiter.done() and not waiter.cancelled():
            self.leave(gate)

    def leave(self, gate: Gate, outcome: Outcome | None = None) -> None:
        """A place comes back, with how its call ended."""
        with self._lock:
            gate.active -= 1
            if outcome is not None:
                gate.rule.heard(outcome)
                took_s = outcome.ended - outcome.started
                gate.mean_s = took_s if gate.mean_s is None else gate.mean_s + (took_s - gate.mean_s) / 10
            self._let_in(gate)
            self._tidy(gate)

    def _let_in(self, gate: Gate) -> None:
        while gate.waiting and gate.active < gate.places:
            waiter, _ = gate.waiting.popitem(last=False)
            if waiter.done():
                continue
            gate.active += 1
            if not self._wake(gate, waiter):
                gate.active -= 1

    def _wake(self, gate: Gate, waiter: Waiter) -> bool:
        loop = waiter.get_loop()
        if loop is _running_loop():
            waiter.set_result(None)
            return True
        try:
            loop.call_soon_threadsafe(self._woken, gate, waiter)
        except RuntimeError:  # its loop is closed
            return False
        return True

    def _woken(self, gate: Gate, waiter: Waiter) -> None:
        """In the waiter's own loop, where it may have left in the meantime."""
        if waiter.done():
            self.leave(gate)
        else:
            waiter.set_result(None)

    def _gate(self, key: str) -> Gate:
        gate = self._gates.get(key)
        if gate is None:
            if len(self._gates) >= MAX_REMEMBERED:
                self._forget_one()
            gate = self._gates[key] = Gate(key, self._make_rule())
        elif self._keep:
            self._gates.move_to_end(key)
        return gate

    def _forget_one(self) -> None:
        """The gate that nobody has used for longest, of those that nobody uses now."""
        for key, gate in self._gates.items():
            if gate.is_idle:
                del self._gates[key]
                return

    def _tidy(self, gate: Gate) -> None:
        if not self._keep and gate.is_idle:
            self._gates.pop(gate.key, None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
