"""A decision that is being carried out: the tool is begun once, and how it ended is noted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.holds import Hold
from lamella.engine.approvals.desk import Desk
from lamella.engine.approvals.records import Stand
from lamella.types import LamellaError, ToolRequestPart, ToolResponse

Ctx = GenerateMiddlewareContext


class Claim:
    """One approved call of this run. `start` before its tool and one of the others after it; each is one step in the store.

    Between the two the call is held, so that others can tell whether it is running or whether its process has died. Nothing
    begins it a second time: only a person may decide so.
    """

    def __init__(self, desk: Desk, id: str, ctx: Ctx) -> None:
        self._desk, self.id, self._ctx = desk, id, ctx
        self._hold: Hold | None = None

    async def start(self) -> None:
        """Raises Rejected when it was begun before."""
        self._hold = await self._desk.hold_call(self.id)
        try:
            await self._move('decided', 'started', lambda stand: stand.replace(state='started'))
        except BaseException:
            await self.leave()
            raise

    async def done(self, response: ToolResponse) -> None:
        """The tool has answered."""
        await self._end('done', lambda stand: stand.replace(state='done', response=response))

    async def failed(self, error: BaseException) -> None:
        """The tool was left without an answer. A cancellation says nothing of what it has done: that stays unknown."""
        if isinstance(error, (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)):
            await self.leave()
            return
        why = type(error).__name__  # and no more: what an error says may be a secret
        with suppress(LamellaError):  # what the tool failed with is the news; without the note it is unknown
            await self._end('failed', lambda stand: stand.replace(state='failed', error=why))

    async def again(self, part: ToolRequestPart) -> ToolRequestPart:
        """A layer or the tool asks once more: the call waits anew, for a decision of its own."""
        note = {**(part.metadata or {}).get('interrupt', {}), 'id': self.id}
        await self._end('asked again', lambda stand: waiting_again(stand).replace(note=note))
        return part.replace(metadata={**(part.metadata or {}), 'interrupt': note})

    async def _end(self, what: str, change: Callable[[Stand], Stand]) -> None:
        try:
            await self._move('started', what, change)
        finally:
            await self.leave()

    async def settle(self, response: ToolResponse) -> None:
        """The decision is itself the answer: no tool is run."""
        await self._move('decided', 'done', lambda stand: stand.replace(state='done', response=response))

    async def _move(self, state: str, what: str, change: Callable[[Stand], Stand]) -> None:
        await self._desk.move(self.id, what, '', lambda stand: stand.state == state, change)
        self._ctx.emit('approval.' + what.replace(' ', '_'), id=self.id)

    async def leave(self) -> None:
        """Let go of the call, however it went."""
        hold, self._hold = self._hold, None
        if hold is not None:
            await hold.release()


def waiting_again(stand: Stand) -> Stand:
    """The same call, waiting for a new decision: what was decided before holds no more."""
    return stand.replace(state='pending', generation=stand.generation + 1, decision=None, response=None, error=None)
