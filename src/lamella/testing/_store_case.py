"""What the conformance tests of stores share: keys, time, and a check that `python -O` leaves in."""

from __future__ import annotations

import asyncio
from typing import ClassVar
from uuid import uuid4

from lamella.core.ports import Store


def check(condition: bool, what: object) -> None:
    """Raises AssertionError with what was found."""
    if not condition:
        raise AssertionError(what)


class StoreCase:
    """Needs a fixture `store`; keys are new in every test."""

    tick_s: ClassVar[float] = 0.15  # what expires in the tests lives so long

    async def pass_time(self, store: Store, seconds: float) -> None:
        """Let the store's time pass."""
        await asyncio.sleep(seconds)

    def key(self) -> str:
        return f'conformance:{uuid4().hex}'
