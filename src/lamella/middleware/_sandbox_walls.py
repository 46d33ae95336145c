"""Which walls can be put up on this machine, found out by putting them up once."""

from __future__ import annotations

import os
import tempfile

from lamella.middleware import _sandbox_bubblewrap as bubblewrap
from lamella.middleware._sandbox_plan import (
    Backend,
    Limits,
    Room,
    Wall,
    environment_of,
    machine_problem,
    plan_of,
)
from lamella.middleware._sandbox_run import run_now
from lamella.middleware._sandbox_task import LOOK
from lamella.types import Data

_LIMITS = Limits(10, 1 << 30, 16, 1 << 20)


class Found(Data, frozen=True):
    """What builds the walls, or why nothing can. `None` for both: no wall is asked for, and none is built."""

    backend: Backend | None = None
    problem: str | None = None


_GOOD: set[tuple[tuple[Wall, ...], Backend, int]] = set()  # what has worked here; what has not is tried again


def found(walls: tuple[Wall, ...], wanted: tuple[Backend, ...]) -> Found:
    """The first of `wanted` that can put up all these walls. Blocks while it is tried."""
    if (problem := machine_problem(walls)) is not None:
        return Found(problem=problem)
    if (known := known_to_work(walls, wanted)) is not None:
        return known
    problems = []
    for backend in wanted:
        problem = _tried(walls, backend)
        if problem is None:
            _GOOD.add((walls, backend, os.geteuid()))
            return Found(backend)
        problems.append(f'{backend}: {problem}')
    return Found(problem='; '.join(problems))


def known_to_work(walls: tuple[Wall, ...], wanted: tuple[Backend, ...]) -> Found | None:
    """The answer, where nothing has to be tried for it."""
    if not walls:
        return Found()
    return next((Found(backend) for backend in wanted if (walls, backend, os.geteuid()) in _GOOD), None)


def _tried(walls: tuple[Wall, ...], backend: Backend) -> str | None:
    if backend == 'bubblewrap' and bubblewrap.program() is None:
        return 'not installed'
    room = Room(walls, _LIMITS)
    home = tempfile.gettempdir()
    ended = run_now(plan_of(room, backend, None, home), LOOK, environment_of(room, home))
    return None if ended.how == 'done' else ended.why or ended.how
