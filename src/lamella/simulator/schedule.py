"""Which faults and scripted answers a request gets: pure functions of the seed, the model, its request number and the time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fnmatch import fnmatchcase

from lamella.simulator.faults import Fault
from lamella.types import Data


class Moment(Data, frozen=True):
    """One request's place: it is the `number`th (from 1) of its model, `elapsed_s` after the start."""

    model: str
    number: int
    elapsed_s: float = 0.0
    seed: int = 0


class Plan(Data, frozen=True):
    """What will go wrong with one request."""

    fault: Fault | None = None
    per_token_s: float = 0.0


def plan_for(faults: Sequence[Fault], moment: Moment) -> Plan:
    """The first fault that applies, and the latency of the first `slow` one."""
    chosen = [fault for at, fault in enumerate(faults) if fault.kind != 'refuse' and applies(fault, at, moment)]
    slow = [fault.per_token_s for fault in chosen if fault.kind == 'slow']
    others = [fault for fault in chosen if fault.kind != 'slow']
    return Plan(others[0] if others else None, (slow[0] or 0.0) if slow else 0.0)


def applies(fault: Fault, at: int, moment: Moment) -> bool:
    """`at` is the fault's place in the list: two faults of one probability are drawn apart."""
    if not in_turn(fault.model, fault.after, fault.every, fault.times, moment):
        return False
    if fault.from_s is not None and moment.elapsed_s < fault.from_s:
        return False
    if fault.until_s is not None and moment.elapsed_s >= fault.until_s:
        return False
    return fault.probability is None or _drawn(at, moment) < fault.probability


def in_turn(model: str, after: int, every: int | None, times: int | None, moment: Moment) -> bool:
    """After the first `after` requests, every `every`th, and of these the first `times`."""
    place = moment.number - after
    if place < 1 or not fits_model(model, moment.model) or place % (every or 1):
        return False
    return times is None or place // (every or 1) <= times


def fits_model(pattern: str, model: str) -> bool:
    return fnmatchcase(model.lower(), pattern.lower())


def _drawn(at: int, moment: Moment) -> float:
    """A number of its own for each request, so that the order in which requests are served changes nothing."""
    return random.Random(f'{moment.seed}/{at}/{moment.model}/{moment.number}').random()


def closes_after(faults: Sequence[Fault], moment: Moment) -> Fault | None:
    """The `refuse` fault that closes the port once this request is answered."""
    for fault in faults:
        if fault.kind == 'refuse' and fault.after == moment.number and fits_model(fault.model, moment.model):
            return fault
    return None


def closes_by_time(faults: Sequence[Fault]) -> list[Fault]:
    """The `refuse` faults that a clock drives."""
    return [fault for fault in faults if fault.kind == 'refuse' and not fault.after]
