"""How many calls may run at once: a number that stays, or one that follows what the provider can take.

Little's law (Little, "A Proof for the Queuing Formula: L = λW", 1961) says why there is a right number: with a provider that does
λ calls a second and takes W seconds when it is idle, λW calls keep it busy, and more of them only wait there.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol

from lamella.types import Data

How = Literal['answered', 'overloaded', 'unknown']


class Outcome(Data, frozen=True):
    """How a call ended: when it began, how long its answer took (in a unit that is the same for all), how many ran with it."""

    how: How
    started: float
    ended: float
    latency: float | None = None
    kind: str = ''
    active: int = 1


class Rule(Protocol):
    """A limit that hears how calls end."""

    limit: float

    def heard(self, outcome: Outcome) -> None: ...


class Fixed:
    """Stays what it is."""

    __slots__ = ('limit',)

    def __init__(self, limit: int) -> None:
        self.limit = float(limit)

    def heard(self, outcome: Outcome) -> None:
        """Nothing to learn."""


class AIMD:
    """Adds one place for each round of answers that filled the places, and takes a part of them away when the provider is
    overloaded: additive increase, multiplicative decrease (Chiu and Jain, "Analysis of the Increase and Decrease Algorithms",
    1989; TCP's rule since). Of calls that were under way together one failure counts, as in TCP.
    """

    __slots__ = ('_decreased_at', '_factor', '_highest', '_lowest', 'limit')

    def __init__(self, start: int, lowest: int, highest: int, factor: float) -> None:
        self.limit = float(start)
        self._lowest, self._highest, self._factor = lowest, highest, factor
        self._decreased_at = -math.inf

    def heard(self, outcome: Outcome) -> None:
        if outcome.how == 'overloaded':
            if outcome.started >= self._decreased_at:
                self._decreased_at = outcome.ended
                self.limit = max(float(self._lowest), self.limit * self._factor)
        elif outcome.how == 'answered' and 2 * outcome.active >= self.limit:
            self.limit = min(float(self._highest), self.limit + 1 / self.limit)


class Gradient:
    """Follows the answer times too: while they are near what they are when few calls run, the limit grows by its square root,
    and as they rise above `tolerance` times that it shrinks in proportion (the gradient of Netflix's concurrency-limits,
    github.com/Netflix/concurrency-limits; the idea of TCP Vegas, Brakmo and Peterson, 1995). Overload counts as in `AIMD`.

    What an answer takes when few calls run is a mean, for answers of models scatter too much for a minimum. It is measured
    at the beginning, whenever half of the places are free, and when the limit has come down to its lowest, so that a provider
    that has become slower for good is not taken for one that is busy.
    """

    __slots__ = ('_aimd', '_highest', '_lowest', '_means', '_tolerance')

    def __init__(self, start: int, lowest: int, highest: int, factor: float, tolerance: float) -> None:
        self._aimd = AIMD(start, lowest, highest, factor)
        self._lowest, self._highest, self._tolerance = lowest, highest, tolerance
        self._means: dict[str, tuple[_Mean, _Mean]] = {}

    @property
    def limit(self) -> float:
        return self._aimd.limit

    @limit.setter
    def limit(self, value: float) -> None:
        self._aimd.limit = min(float(self._highest), max(float(self._lowest), value))

    def heard(self, outcome: Outcome) -> None:
        if outcome.how == 'overloaded':
            self._aimd.heard(outcome)
            return
        if outcome.how == 'unknown' or outcome.latency is None or outcome.latency <= 0:
            return
        lately, idle = self._means.setdefault(outcome.kind, (_Mean(10), _Mean(50)))
        lately.add(outcome.latency)
        half_free = 2 * outcome.active <= self.limit
        if half_free or idle.count < 10 or lately.value < idle.value:
            idle.add(outcome.latency)
        elif self.limit < max(self._lowest, 4) + 1:  # at 4 the square root makes up for a gradient of a half
            idle.value = lately.value
        if half_free:
            return  # the places were not needed, which says nothing about how many are too many
        gradient = max(0.5, min(1.0, self._tolerance * idle.value / lately.value))
        wanted = self.limit * gradient + math.sqrt(self.limit)
        self.limit += (wanted - self.limit) / (2 * self.limit)  # half of the way in a round of answers


class _Mean:
    """A running mean over about `window` values; the first ones count evenly."""

    __slots__ = ('_window', 'count', 'value')

    def __init__(self, window: int) -> None:
        self.value, self.count, self._window = 0.0, 0, window

    def add(self, value: float) -> None:
        self.count = min(self.count + 1, self._window)
        self.value += (value - self.value) / self.count
