"""What a simulator knows while it runs: its script, its counts, its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from aiohttp import web

from lamella.core.clock import Clock
from lamella.simulator.answers import Reply, scripted
from lamella.simulator.brain import answer
from lamella.simulator.delivery import Stalls
from lamella.simulator.identity import Stamps
from lamella.simulator.records import ReceivedRequest, Records
from lamella.simulator.schedule import Moment
from lamella.simulator.script import Script
from lamella.types import ModelRequest

Listener = Callable[[ReceivedRequest], None]


class State:
    """`active` are the connections on which an answer is on its way; `on_done` are called with each record at its end."""

    def __init__(
        self, script: Script, *, seed: int, api_keys: Sequence[str] | None, clock: Clock, keep_requests: int
    ) -> None:
        self.script = script
        self.seed = seed
        self.api_keys = None if api_keys is None else frozenset(api_keys)
        self.clock = clock
        self.records = Records(keep_requests)
        self.stalls = Stalls(clock)
        self.active: set[web.RequestHandler] = set()
        self.on_done: list[Listener] = []
        self.restart()

    def restart(self) -> None:
        """Forgets what was: records, counts and the time since the start."""
        self.records.clear()
        self.stamps = Stamps(self.seed)
        self.counts: Counter[str] = Counter()
        self.started = self.clock.now()

    @property
    def elapsed_s(self) -> float:
        return self.clock.now() - self.started

    def moment(self, model: str) -> Moment:
        """The place of a new request of that model; counts it."""
        self.counts[model] += 1
        return Moment(model, self.counts[model], self.elapsed_s, self.seed)

    def reply(self, request: ModelRequest, moment: Moment) -> Reply:
        """What the script says, or else the rules. Raises LamellaError for a request that cannot be answered."""
        return scripted(self.script.answers, request, moment) or Reply(answer(request))
