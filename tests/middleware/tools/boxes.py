"""What the sandbox's tests share: a sandbox that can be found on the host, and the sandboxes that this machine has."""

import asyncio
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lamella.middleware import Sandbox
from lamella.middleware._sandbox_linux import may_become_others
from lamella.middleware._sandbox_plan import WALLS
from lamella.middleware._sandbox_walls import found

PRIVATE = ('namespaces', 'bubblewrap')  # with a root of its own
WALLED = (*PRIVATE, 'landlock')
KINDS = (*WALLED, 'limits')


class Box:
    """Builds sandboxes whose processes carry a mark in their environment, by which the host finds them."""

    def __init__(self, kind: str) -> None:
        self.kind, self.mark = kind, f'mark-{uuid.uuid4().hex}'

    def __call__(self, **options: Any) -> Sandbox:
        kind = {'walls': []} if self.kind == 'limits' else {'backend': self.kind}
        environment = {'MARK': self.mark, **options.pop('environment', {})}
        return Sandbox(**{**kind, 'environment': environment, **options})

    def alive(self) -> list[int]:
        """The processes of these sandboxes on the host."""
        wanted, pids = f'MARK={self.mark}'.encode(), []
        for place in Path('/proc').iterdir():
            try:
                if place.name.isdigit() and wanted in (place / 'environ').read_bytes():
                    pids.append(int(place.name))
            except OSError:
                continue
        return pids

    async def populated(self, count: int, *calls: asyncio.Task[Any]) -> None:
        """Wait until there are so many processes (the supervisors among them), or one of the calls has ended."""
        while len(self.alive()) < count and not any(task.done() for task in calls):  # noqa: ASYNC110 - they ring no bell
            await asyncio.sleep(0.005)

    async def deserted(self) -> None:
        """Wait until there is none."""
        while self.alive():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def built(kind: str) -> Iterator[Box]:
    """A box of this kind where the machine has it; fails when something of it is alive afterwards."""
    if not Path('/proc/self/environ').exists():
        pytest.skip('the host is watched by /proc')
    if kind != 'limits' and (problem := found(WALLS, (kind,)).problem):
        pytest.skip(problem)
    box = Box(kind)
    yield box
    assert box.alive() == []


def becomes_somebody_else() -> bool:
    """Whether the tools run as a user of their own, as they do when the tests run as root."""
    return sys.platform == 'linux' and may_become_others(with_mounts=False)
