"""`ai.approvals`: who decides on interrupted calls, from any process, and how their runs go on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.events import Event
from lamella.core.session import Session
from lamella.core.tools import to_json
from lamella.engine.approvals.claims import waiting_again
from lamella.engine.approvals.desk import desk_of
from lamella.engine.approvals.ledger import StoreLedger
from lamella.engine.approvals.records import (
    VERBS,
    ApprovalRecord,
    ApprovalState,
    AuditEntry,
    Decision,
    DecisionKind,
    SavedCall,
    SavedRun,
    Stand,
    not_found,
    parse_id,
    record_of,
)
from lamella.engine.approvals.resumption import Resuming, Resumption
from lamella.engine.approvals.saving import check_same, options_of
from lamella.engine.approvals.tokens import TokenClaims, read, sign
from lamella.engine.output import OutputShape
from lamella.engine.prepare import prepare
from lamella.engine.run import Run
from lamella.engine.sitting import Sitting
from lamella.types import ConfigError, GenerateResponse, Message, Rejected

Ctx = GenerateMiddlewareContext
_SAME_INPUT = object()
_WAITING: tuple[ApprovalState, ...] = ('pending', 'failed', 'unknown')


class Approvals:
    """Interrupted calls that are kept until somebody decides, and the runs that wait for them.

    Ids are those in `response.interrupts[…].metadata['interrupt']['id']` and in `list()`. Of two who decide at once one is
    first, and the other gets a Rejected that says who was. `by` is recorded as it is given: make sure that it is who asks.
    """

    def __init__(self, ai: Any) -> None:
        self._ai, self._desk = ai, desk_of(ai)

    async def list(
        self, state: ApprovalState | Literal['waiting', 'all'] = 'waiting', *, session: Session | str | None = None
    ) -> tuple[ApprovalRecord, ...]:
        """The calls of all runs that have not gone on, the oldest first.

        `waiting` are those that wait for somebody: pending, failed and unknown ones. `session` asks for one session's alone.
        """
        wanted = session.id if isinstance(session, Session) else session
        runs = [run for run in await self._desk.runs() if wanted is None or (run.session and run.session.id == wanted)]
        found = await asyncio.gather(*[self._record(run, call) for run in runs for call in run.calls])
        states = {'waiting': _WAITING, 'all': None}.get(state, (state,))
        return tuple(record for record in found if states is None or record.state in states)

    async def get(self, id: str) -> ApprovalRecord:
        """One call. Raises NOT_FOUND."""
        run, call = await self._call(id)
        return await self._record(run, call)

    async def approve(self, id: str, *, by: str, input: Any = _SAME_INPUT) -> ApprovalRecord:
        """The call shall run, with its own input or with `input` in its place; `resume` carries it out."""
        edited = () if input is _SAME_INPUT else (to_json(input, id),)
        return await self._decide(id, 'approve', by, edited=edited)

    async def deny(self, id: str, reason: str = 'denied by the user', *, by: str) -> ApprovalRecord:
        """The call shall not run; the model is told the reason."""
        return await self._decide(id, 'deny', by, output=reason)

    async def answer(self, id: str, output: Any, *, by: str) -> ApprovalRecord:
        """`output`, a JSON value or a pydantic model, is the call's answer, and the tool is not run.

        Also for a call that failed, and for one that may have run or not.
        """
        return await self._decide(id, 'answer', by, output=to_json(output, id))

    async def restart(self, id: str, *, by: str, input: Any = _SAME_INPUT) -> ApprovalRecord:
        """Consent to a second run of a call that failed, or that may have run or not."""
        edited = () if input is _SAME_INPUT else (to_json(input, id),)
        await self._refuse_running(id)
        made = Decision('approve', _name(by), self._desk.clock.time(), edited)

        def change(stand: Stand) -> Stand:
            return waiting_again(stand).replace(state='decided', decision=made)

        await self._move(id, 'restarted', by, _is_broken, change)
        return await self.get(id)

    async def resume(self, id: str, **options: Any) -> GenerateResponse:
        """Go on with a run, by its own id or that of one of its calls: `generate(resume=id, …)`.

        `use=` must bring the layers that the run had beside the app's own, `tools=` those tools that are not registered.
        """
        response: GenerateResponse = await self._ai.generate(resume=id, **options)
        return response

    async def sign(
        self, id: str, decision: Literal['approve', 'deny'], *, by: str, expires_s: float | None = None
    ) -> str:
        """A token with which `by` may make this decision, once: for a link or an e-mail. Raises ConfigError without a key."""
        run, call = await self._call(id)
        stand = await self._desk.stand(id)
        if stand is None or stand.state != 'pending':
            raise Rejected(f'{id} does not wait for a decision', by='approvals', status='FAILED_PRECONDITION')
        settings, now = self._desk.settings, self._desk.clock.time()
        if decision not in ('approve', 'deny'):
            raise ConfigError(f"decision={decision!r}: a token is for 'approve' or 'deny'")
        claims = TokenClaims(
            id=id,
            decision=decision,
            by=_name(by),
            digest=call.digest,
            session=run.session_key,
            generation=stand.generation,
            app=settings.app,
            signed_s=now,
            expires_at_s=now + (settings.token_expires_s if expires_s is None else expires_s),
        )
        return sign(claims, settings)

    def read(self, token: str) -> TokenClaims:
        """What a token says, without using it: for the page that asks "are you sure?". Raises Rejected for a forged one."""
        try:
            return read(token, self._desk.settings, self._desk.clock.time())
        except Rejected as refusal:
            self._emit('approval.refused', error=refusal)
            raise

    async def redeem(self, token: str) -> ApprovalRecord:
        """Make the decision that a token is for. Raises Rejected for one that is forged, used, expired, or for another call."""
        claims = self.read(token)
        run, call = await self._call(claims.id)
        if (call.digest, run.session_key) != (claims.digest, claims.session):
            raise self._refused('this token is for another call')
        reason = 'denied by the user' if claims.decision == 'deny' else None
        return await self._decide(claims.id, claims.decision, claims.by, output=reason, generation=claims.generation)

    async def audit(self, after: int = 0, limit: int = 100) -> tuple[AuditEntry, ...]:
        """A page of the audit log, behind position `after`: who did what, when, and whether it had an effect."""
        return await self._desk.audit(after, limit)

    # ── for the engine ──────────────────────────────────────────────────────────────────────────────────────────────

    async def prepared(self, options: Mapping[str, Any], *, streaming: bool) -> tuple[Run, Ctx]:
        """A kept run, ready to go on. Raises NOT_FOUND, and ConfigError when what it had is not here."""
        saved = await self._desk.run(parse_id(options['resume'])[0])
        run, ctx = prepare(self._ai, options_of(saved, options, self._ai), streaming=streaming)
        check_same(saved, run)
        if run.shape is None and saved.output is not None:
            run.shape = OutputShape(saved.output, None)
            run.request = run.request.replace(output=saved.output)
        run.resumption = resumption = Resumption(self._desk, saved)
        if saved.session is None:
            run.keeper = Resuming(self._desk, resumption)
        else:
            system = None if saved.system is None else Message.system(saved.system)
            run.keeper = Sitting(run.options['session'], system, resumption)
        return run, ctx

    # ── within ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _decide(
        self,
        id: str,
        kind: DecisionKind,
        by: str,
        *,
        edited: tuple[Any, ...] = (),
        output: Any = None,
        generation: int | None = None,
    ) -> ApprovalRecord:
        if kind == 'answer':
            await self._refuse_running(id)
        made = Decision(kind, _name(by), self._desk.clock.time(), edited, output)

        def allowed(stand: Stand) -> bool:
            if generation is not None and stand.generation != generation:
                raise self._refused('this token is for an earlier question about this call')
            return stand.state == 'pending' or (kind == 'answer' and _is_broken(stand))

        def change(stand: Stand) -> Stand:
            again = stand if stand.state == 'pending' else waiting_again(stand)
            return again.replace(state='decided', decision=made)

        await self._move(id, VERBS[kind], by, allowed, change)
        return await self.get(id)

    async def _move(self, id: str, what: str, by: str, allowed: Any, change: Any) -> None:
        await self._call(id)
        try:
            await self._desk.move(id, what, by, allowed, change)
        except Rejected as refusal:
            self._emit('approval.refused', id=id, by=by, error=refusal)
            raise
        self._emit('approval.decided', id=id, by=by, decision=what)

    async def _refuse_running(self, id: str) -> None:
        stand = await self._desk.stand(id)
        if stand is not None and stand.state == 'started' and await self._desk.is_running(id):
            raise Rejected(f'{id} is running at this moment', by='approvals', status='FAILED_PRECONDITION')

    async def _call(self, id: str) -> tuple[SavedRun, SavedCall]:
        run_id, number = parse_id(id)
        if number is None:
            raise not_found(id)
        run = await self._desk.run(run_id)
        return run, run.call(number)

    async def _record(self, run: SavedRun, call: SavedCall) -> ApprovalRecord:
        id = f'{run.id}.{call.number}'
        stand = await self._desk.stand(id)
        is_running = stand is not None and stand.state == 'started' and await self._desk.is_running(id)
        return record_of(run, call, stand, is_running=is_running)

    def _refused(self, message: str) -> Rejected:
        refusal = Rejected(message, by='approvals', status='PERMISSION_DENIED')
        self._emit('approval.refused', error=refusal)
        return refusal

    def _emit(self, name: str, **facts: Any) -> None:
        for sink in self._ai.sinks:
            with suppress(Exception):  # an observer never harms
                sink(Event(name, self._desk.clock.now(), '', facts))


def _is_broken(stand: Stand) -> bool:
    return stand.state in ('started', 'failed')


def _name(by: object) -> str:
    """Who decides: a text that says so. Raises ConfigError."""
    if not isinstance(by, str) or not by.strip() or len(by) > 320 or not by.isprintable():
        raise ConfigError(f'by={str(by)[:80]!r}: say who decides, in 1 to 320 printable characters')
    return by


__all__ = ['Approvals', 'StoreLedger']
