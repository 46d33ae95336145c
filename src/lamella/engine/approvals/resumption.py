"""A kept run that goes on: what was decided is looked up, and carried out once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.holds import Hold
from lamella.core.params import digest_of
from lamella.core.pending import Pending, pending_of
from lamella.engine.approvals.claims import Claim
from lamella.engine.approvals.desk import Desk
from lamella.engine.approvals.records import Decision, SavedCall, SavedRun
from lamella.engine.interrupts import Claimed, ToolAnswer, ToolRestart, answered, check_decisions
from lamella.engine.interrupts import Decision as Decided
from lamella.engine.run import Run
from lamella.types import GenerateResponse, Message, Rejected

Ctx = GenerateMiddlewareContext
TOO_LATE = 'Nobody decided on this call in time, and it was not run.'


class Resumption:
    """The decisions on one kept run, as they stand in the store when the run is held and nobody else can act on them."""

    def __init__(self, desk: Desk, saved: SavedRun) -> None:
        self.id, self._desk, self._saved = saved.id, desk, saved
        self._decided: dict[str, tuple[str, Decided]] = {}

    async def decide(self, run: Run, messages: Sequence[Message]) -> None:
        """Give the run its decisions. Raises Rejected when it has gone on already, when nothing is decided, and when a call
        was begun and nobody knows what became of it."""
        if await self._desk.is_closed(self.id):
            raise self._refused('has gone on already')
        calls = self._open(pending_of(messages))
        if not calls and not self._is_answered(messages):
            await self._desk.close(self.id)
            raise self._refused('is not where its session stands: that has gone on, or never came so far')
        decisions: list[Decided] = []
        for call in calls:
            decision = await self._decision(call)
            if decision is not None:
                decisions.append(decision)
        if calls and not decisions:
            raise self._refused('waits: nothing is decided yet')
        run.decisions, run.is_over = decisions, not calls

    def _open(self, pending: Pending | None) -> list[SavedCall]:
        open_calls = {} if pending is None else {part.tool_request.ref: part.tool_request for part in pending.open}
        return [
            call
            for call in self._saved.calls
            if call.request.ref in open_calls and digest_of(open_calls[call.request.ref]) == call.digest
        ]

    def _is_answered(self, messages: Sequence[Message]) -> bool:
        """Whether the conversation ends with the answers to these calls, and the model has not heard of them yet."""
        if not messages or messages[-1].role != 'tool':
            return False
        refs = {part.tool_response.ref for part in messages[-1].tool_responses}
        return all(call.request.ref in refs for call in self._saved.calls)

    async def _decision(self, call: SavedCall) -> Decided | None:
        id = f'{self.id}.{call.number}'
        ref, name = call.request.ref or '', call.request.name
        stand = await self._desk.stand(id)
        if stand is None:
            return ToolAnswer(ref, name, call.digest, '', TOO_LATE, is_error=True)
        if stand.state == 'pending':
            return None
        if stand.state == 'done' and stand.response is not None:
            return ToolAnswer(ref, name, call.digest, '', stand.response.output, stand.response.is_error)
        if stand.state == 'decided' and stand.decision is not None:
            made = decision_of(stand.decision, id, call)
            self._decided[ref] = id, made
            return made
        if stand.state == 'started' and await self._desk.is_running(id):
            raise self._refused(f'cannot go on while {id} ({name}) is running', 'ABORTED')
        what = 'failed' if stand.state == 'failed' else 'was begun by a process that died, and may have run or not'
        raise self._refused(
            f'cannot go on: {id} ({name}) {what}. Nothing runs it again by itself: answer for it '
            '(ai.approvals.answer), or consent to a second run (ai.approvals.restart)'
        )

    async def take(self, ctx: Ctx) -> Mapping[str, Claimed]:
        claims: dict[str, Claimed] = {}
        for ref, (id, decision) in self._decided.items():
            claim = claims[ref] = Claim(self._desk, id, ctx)
            if isinstance(decision, ToolAnswer):
                await claim.settle(answered(decision))
        return claims

    def _refused(self, why: str, status: Any = 'FAILED_PRECONDITION') -> Rejected:
        return Rejected(f'{self.id} {why}', by='approvals', status=status)


def decision_of(decision: Decision, id: str, call: SavedCall) -> Decided:
    """A decision in the store as one that a call carries out."""
    ref, name = call.request.ref or '', call.request.name
    if decision.kind == 'approve':
        metadata = {'toolApproved': True, 'approvedBy': decision.by, 'approval': id}
        return ToolRestart(ref, name, call.digest, id, metadata, decision.edited)
    return ToolAnswer(ref, name, call.digest, id, decision.output, is_error=decision.kind == 'deny')


class Resuming:
    """The keeper of a kept run without a session: it is resumed by one at a time."""

    def __init__(self, desk: Desk, resumption: Resumption) -> None:
        self._desk, self._resumption = desk, resumption
        self._hold: Hold | None = None

    @property
    def hold(self) -> AbstractAsyncContextManager[Any]:
        if self._hold is None:
            raise RuntimeError('the resumption has not begun')
        return self._hold

    async def begin(self, run: Run, ctx: Ctx) -> None:
        self._hold = await self._desk.hold_run(self._resumption.id)
        await self._resumption.decide(run, run.request.messages)
        run.pending = check_decisions(run.decisions, run.request.messages)

    async def keep(self, run: Run, ctx: Ctx) -> None:
        """The calls are kept one by one, and nothing else is."""

    async def end(self, response: GenerateResponse, run: Run, ctx: Ctx) -> None:
        if run.is_over:
            await run.ledger.end(run)
        await self.leave()

    async def leave(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            await hold.release()
