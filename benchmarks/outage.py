"""An outage, in virtual time: what each stack of layers makes of it. `python -m benchmarks.outage` prints a table.

Fifty clients call a provider, each about every two seconds, whether or not its earlier calls are done. It is well for a minute,
fails for 30 s, flaps for 30 s (3 s down, 3 s up), and is well again. While it is down it refuses two of three requests at once
and never answers the third. With more than `CAPACITY` requests on their way it refuses the rest, so that a storm keeps it down.
A second provider is well all the time, and a little slower. One call in a hundred takes ten times as long as the others.

Every stack meets the same: same seed, same times. Counted are the calls that began in a phase: how many were answered, how long
their callers waited for the answer or the error, and how many requests were sent in that time for each.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from benchmarks import virtual
from benchmarks.measure import Result
from lamella import Lamella, LamellaError, ModelResponse
from lamella.middleware import CircuitBreaker, Fallback, Hedge, Retry, RetryBudget, Timeout
from lamella.stores.memory import MemoryStore

CLIENTS, PAUSE_S, CAPACITY = 50, 2.0, 150
WELL, FAILS, FLAPS, RECOVERS, END = 10.0, 60.0, 90.0, 120.0, 180.0
PHASES = {'well': (WELL, FAILS), 'fails': (FAILS, FLAPS), 'flaps': (FLAPS, RECOVERS), 'recovers': (RECOVERS, END)}
OUTAGE = ('fails', 'flaps')
HANGS_S = 60.0
MAIN, SPARE = 'main/model', 'spare/model'

Stack = Callable[[], list[Any]]
STACKS: dict[str, Stack] = {
    'none': list,
    'Timeout': lambda: [_timeout()],
    'Retry, Timeout': lambda: [Retry(), _timeout()],
    'RetryBudget, Retry, Timeout': lambda: [RetryBudget(), Retry(), _timeout()],
    'Retry, CircuitBreaker, Timeout': lambda: [Retry(), _breaker(), _timeout()],
    'Fallback, Timeout': lambda: [_fallback(), _timeout()],
    'Fallback, CircuitBreaker, Timeout': lambda: [_fallback(), _breaker(), _timeout()],
    'RetryBudget, Retry, Fallback, CircuitBreaker, Timeout': lambda: [
        *(RetryBudget(), Retry()),
        *(_fallback(), _breaker(), _timeout()),
    ],
    'RetryBudget, Retry, Fallback, CircuitBreaker, Hedge, Timeout': lambda: [
        *(RetryBudget(), Retry()),
        *(_fallback(), _breaker(), Hedge(percentile=95), _timeout()),
    ],
}


def _timeout() -> Timeout:
    return Timeout(total_s=20, first_content_s=8)


def _breaker() -> CircuitBreaker:
    return CircuitBreaker(threshold=5, cooldown_s=5)


def _fallback() -> Fallback:
    return Fallback(models=[SPARE])


class Provider:
    """Answers after a while, as the phase of the outage has it. `sent` are the times of the requests it got."""

    def __init__(self, name: str, seed: int, median_s: float, suffers: bool) -> None:
        self.name, self._chance = name, Random(f'{name}{seed}')
        self._median_s, self._suffers = median_s, suffers
        self.sent: list[float] = []
        self._now = 0

    def is_down(self, now: float) -> bool:
        if not self._suffers or not FAILS <= now < RECOVERS:
            return False
        return now < FLAPS or int((now - FLAPS) // 3) % 2 == 0

    async def __call__(self, request: Any, ctx: Any) -> Any:
        now, draw, usual = asyncio.get_running_loop().time(), self._chance.random(), self._chance.gauss(0, 0.35)
        self.sent.append(now)
        if self._now >= CAPACITY:
            raise LamellaError('UNAVAILABLE', 'overloaded')
        self._now += 1
        try:
            if self.is_down(now):
                await asyncio.sleep(HANGS_S if draw < 1 / 3 else 0.1)
                raise LamellaError('UNAVAILABLE', 'down')
            await asyncio.sleep(self._median_s * math.exp(usual) * (10 if draw < 0.01 else 1))
        finally:
            self._now -= 1
        return ModelResponse.text_of('fine', model=self.name)


@dataclass
class Outcome:
    """What a stack made of the outage: for each call when it began, how long it took, and whether it was answered."""

    stack: str
    calls: list[tuple[float, float, bool]] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    sent_to_main: list[float] = field(default_factory=list)

    def answered(self, phase: str) -> float:
        good = [good for began, _, good in self.calls if _within(began, phase)]
        return sum(good) / len(good)

    def waited_s(self, percentile: float, *phases: str) -> float:
        waits = sorted(took for began, took, _ in self.calls if any(_within(began, phase) for phase in phases))
        return waits[min(len(waits) - 1, int(len(waits) * percentile / 100))]

    def sent_per_call(self, *phases: str, main: bool = False) -> float:
        sent = self.sent_to_main if main else self.sent
        asked = len([1 for began, _, _ in self.calls if any(_within(began, phase) for phase in phases)])
        return len([1 for at in sent if any(_within(at, phase) for phase in phases)]) / asked


def _within(at: float, phase: str) -> bool:
    start, end = PHASES[phase]
    return start <= at < end


def suffer(name: str, stack: Stack, seed: int = 1) -> Outcome:
    """One stack through the whole outage."""

    async def run() -> Outcome:
        clock, outcome = virtual.LoopClock(), Outcome(name)
        main, spare = Provider(MAIN, seed, 1.0, True), Provider(SPARE, seed, 1.5, False)
        ai = Lamella(clock=clock, store=MemoryStore(clock=clock), random=Random(seed), model=MAIN, check_order='ignore')
        for provider in (main, spare):
            ai.model(provider.name)(provider)
        use = stack()
        await asyncio.gather(*[_client(ai, use, outcome, Random(seed * 1000 + n)) for n in range(CLIENTS)])
        outcome.sent, outcome.sent_to_main = main.sent + spare.sent, main.sent
        return outcome

    return virtual.run(run())


async def _client(ai: Lamella, use: Sequence[Any], outcome: Outcome, chance: Random) -> None:
    now = asyncio.get_running_loop().time

    async def call() -> None:
        began = now()
        try:
            await ai.generate(prompt='hi', use=use)
        except LamellaError:
            outcome.calls.append((began, now() - began, False))
        else:
            outcome.calls.append((began, now() - began, True))

    async with asyncio.TaskGroup() as calls:
        while True:
            await asyncio.sleep(chance.expovariate(1 / PAUSE_S))
            if now() >= END:
                return
            calls.create_task(call())


def outcomes() -> list[Outcome]:
    return [suffer(name, stack) for name, stack in STACKS.items()]


def table(found: Sequence[Outcome]) -> str:
    """The figures as Markdown."""
    lines = [
        '| layers, outermost first | answered: fails | flaps | recovers | waits: half | 99 % | 99 % when well | sent '
        '| to the one that fails |',
        '|---|---:|---:|---:|---:|---:|---:|---:|---:|',
    ]
    for one in found:
        answered = ' | '.join(f'{one.answered(phase):.1%}' for phase in (*OUTAGE, 'recovers'))
        waits = [one.waited_s(50, *OUTAGE), one.waited_s(99, *OUTAGE), one.waited_s(99, 'well')]
        sent = f'{one.sent_per_call(*OUTAGE):.2f} | {one.sent_per_call(*OUTAGE, main=True):.2f}'
        lines.append(f'| {one.stack} | {answered} | {" | ".join(f"{wait:.1f} s" for wait in waits)} | {sent} |')
    return '\n'.join(lines)


def run() -> list[Result]:
    """The same for the list of all benchmarks: the share answered, and the requests sent, from the failure to the recovery."""
    results = []
    for one in outcomes():
        calls = [good for began, _, good in one.calls if FAILS <= began < RECOVERS]
        results.append(Result(f'outage: {one.stack}, answered', 100 * sum(calls) / len(calls), '%'))
        results.append(Result(f'outage: {one.stack}, sent for each call', one.sent_per_call(*OUTAGE), ''))
    return results


if __name__ == '__main__':
    print(table(outcomes()))
