"""One run inside a session: it takes the session, starts from its history, and adds what really happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.holds import Hold
from lamella.core.packing import pack
from lamella.core.pending import Pending, pending_of
from lamella.core.session import Session
from lamella.engine.interrupts import check_decisions
from lamella.engine.run import Run
from lamella.types import ConfigError, GenerateResponse, Message, Rejected, ToolRequestPart

Ctx = GenerateMiddlewareContext


class Resumed(Protocol):
    """A kept run that goes on in its session."""

    async def decide(self, run: Run, messages: Sequence[Message]) -> None:
        """Give the run the decisions that were made on it."""


class Sitting:
    """The engine's own. `begin`, then `keep` after every turn that did something, `end` with the response, and `leave`.

    A turn with tools is kept as soon as they have answered: they have run, whatever comes of the run. The last answer is kept
    when the run's layers have let it pass. A question that got no answer is not kept.
    """

    def __init__(self, session: Session, system: Message | None, resumption: Resumed | None = None) -> None:
        self._resumption = resumption
        self._session, self._system = session, () if system is None else (system,)
        self._hold: Hold | None = None
        self._history: tuple[Message, ...] = ()
        self._kept: tuple[Message, ...] = ()
        self._new: tuple[Message, ...] = ()
        self._floor: int | None = None  # of a resumed run: how much of the history certainly stays

    @property
    def hold(self) -> Hold:
        """The hold on the session, to run under."""
        if self._hold is None:
            raise RuntimeError('the sitting has not begun')
        return self._hold

    async def begin(self, run: Run, ctx: Ctx) -> None:
        """Take the session and put its history in front of the run's messages.

        Raises Rejected when it is busy, or when its last turn waits for decisions that this call does not bring.
        """
        self._new = run.request.messages
        pack(self._new, 'a message for the session')  # found out before anything is asked
        self._hold = await self._session.hold()
        token = self._hold.lease.token
        session = ctx.session = self._session.held(token)
        head, self._history = await session.record.take_over(token)
        if head.has_artifacts:
            await session.artifacts.take_over()
        self._kept = self._history
        messages = (*self._system, *self._history)
        if self._resumption is not None:
            await self._resumption.decide(run, messages)
        run.pending = self._pending(run, messages)
        run.request = run.request.replace(messages=(*messages, *self._new))
        ctx.emit('session.begin', session=session.id, messages=len(self._history))

    def _pending(self, run: Run, messages: tuple[Message, ...]) -> Pending | None:
        if not run.decisions:
            if (waiting := pending_of(messages)) is not None:
                raise self._waits(waiting)
            if not self._new and (not self._history or self._history[-1].role != 'tool'):
                raise ConfigError('nothing to ask: give prompt= or messages=')
            return None
        pending = check_decisions(run.decisions, messages)
        undecided = {part.tool_request.ref for part in pending.open} - {one.ref for one in run.decisions}
        if self._new and undecided:
            raise self._waits(pending)
        self._floor = len(pending.head) - 1 - len(self._system)
        return pending.replace(behind=self._new)

    def _waits(self, pending: Pending) -> Rejected:
        names = ', '.join(f'{part.tool_request.name} (id {part.tool_request.ref})' for part in pending.open)
        return Rejected(
            f'session {self._session.id[:80]!r} waits for a decision on {names}: decide with resume_restart=, resume_respond= '
            'or ai.approvals, and deny what is not wanted any more',
            by='session',
            status='FAILED_PRECONDITION',
        )

    async def keep(self, run: Run, ctx: Ctx) -> None:
        """Add what the run has done so far."""
        await self._write(self._told(run.messages, run), run, ctx)

    async def end(self, response: GenerateResponse, run: Run, ctx: Ctx) -> None:
        """Add the rest, as the caller gets it, and let go of the session."""
        told = self._told(run.messages, run)
        if told and told[-1].role == 'assistant' and told[-1] is run.messages[-1]:
            told = told[:-1]  # what the layers around the run made of the answer is what the caller gets
        is_told = bool(told) and told[-1].role == 'tool' and told[-2] == response.message  # with its tools' answers
        if response.message.content and not is_told:
            told = (*told, response.message)
        if response.stop_reason != 'interrupted':
            told = _answered(told)
        await self._write(told, run, ctx)
        if run.is_over:
            await run.ledger.end(run)
        await self.leave()

    def _told(self, messages: tuple[Message, ...], run: Run) -> tuple[Message, ...]:
        """The history with what these messages add to it.

        A layer around the run may change the new messages one by one (to redact them): that is what is kept. What it adds
        or leaves out is for the model of this run alone.
        """
        front = len(self._system)
        if self._floor is not None:
            told = messages[front:]
            return told if _common(told, self._history) >= self._floor else self._kept
        begun = run.request.messages
        before = front + len(self._history)
        new = begun[before:] if len(begun) == before + len(self._new) else self._new
        return (*self._history, *new, *messages[len(begun) :])

    async def _write(self, told: tuple[Message, ...], run: Run, ctx: Ctx) -> None:
        end = len(told)
        while end and told[end - 1].role in ('user', 'system'):
            end -= 1
        kept = _common(told[:end], self._kept)
        if end == kept:
            return
        session = self._session
        fence = self.hold.lease.token
        await session.record.append(kept, told[kept:end], fence=fence, at_s=ctx.clock.time(), run=ctx.run_id)
        self._kept = told[:end]
        ctx.emit('session.kept', session=session.id, messages=end)

    async def leave(self) -> None:
        """Let go of the session."""
        hold, self._hold = self._hold, None
        if hold is not None:
            await hold.release()


def _answered(told: tuple[Message, ...]) -> tuple[Message, ...]:
    """Without requests that were never carried out (a cut-off answer, a stopped run): nobody will answer them."""
    if not told or told[-1].role != 'assistant' or not told[-1].tool_requests:
        return told
    left = tuple(part for part in told[-1].content if type(part) is not ToolRequestPart)
    return (*told[:-1], told[-1].replace(content=left)) if left else told[:-1]


def _common(one: Sequence[Message], other: Sequence[Message]) -> int:
    """How many messages both begin with."""
    at, end = 0, min(len(one), len(other))
    while at < end and (one[at] is other[at] or one[at] == other[at]):
        at += 1
    return at
