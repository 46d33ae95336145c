"""A conversation: messages that are asked, calls that wait for a decision, and what is remembered of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from lamella.cli._chat_view import View, note_of
from lamella.core.params import digest_of
from lamella.engine.app import Lamella
from lamella.engine.approvals.records import ApprovalRecord
from lamella.engine.interrupts import deny_tool, respond_to_tool, restart_tool
from lamella.engine.ledger import MemoryLedger
from lamella.types import Data, GenerateResponse, LamellaError, Message, ToolRequestPart


class Verdict(Data, frozen=True):
    """What somebody decided on a waiting call: `approve` (with `edited` input, if any), `deny` (`value` is the reason), or
    `answer` (`value` is the answer)."""

    kind: str
    value: Any = None
    edited: tuple[Any, ...] = ()


Judge = Callable[[ToolRequestPart], Verdict]


class Conversation:
    """A chat with an app, in memory or in a session. A message that fails or is stopped is forgotten.

    `judge` is asked about every call that waits. It runs outside of the event loop, in the thread that waits for a person.
    """

    def __init__(
        self,
        app: Lamella,
        runner: asyncio.Runner,
        view: View,
        judge: Judge,
        *,
        model: str | None,
        system: str | None,
        session: str | None,
        by: str,
    ) -> None:
        self._app, self._runner, self._view, self._judge, self._by = app, runner, view, judge, by
        self._model, self._system, self._session = model, system, session
        self._messages: tuple[Message, ...] = ()
        self._asked = 0

    def ask(self, text: str) -> bool:
        """One message with all that follows from it. Whether it was answered.

        Raises EOFError when the judge leaves, and KeyboardInterrupt when it was stopped.
        """
        self._asked += 1
        self._view.begin(self._asked)
        try:
            if self._session is not None:
                self._settle_waiting()
            self._finish(self._run(self._new(text)))
        except KeyboardInterrupt:
            self._view.stopped()
            raise
        except EOFError:
            raise
        except Exception as error:  # whatever it is, the conversation goes on
            self._view.failed(error)
            return False
        return True

    def reset(self) -> None:
        """Forget everything, in the session too."""
        self._messages = ()
        if self._session is not None:
            self._runner.run(self._app.session(self._session).delete())

    def use_model(self, name: str) -> None:
        """From now on. Raises UnknownNameError."""
        self._app.resolve_model(name)
        self._model = name

    def _new(self, text: str) -> dict[str, Any]:
        options: dict[str, Any] = {'prompt': text}
        if self._session is None:
            options['messages'] = self._messages
        if self._system is not None and not self._messages:  # it stays in front of the messages
            options['system'] = self._system
        return options

    def _settle_waiting(self) -> None:
        """Calls of an earlier turn that still wait: nothing can be asked before they are decided."""
        waiting = self._runner.run(self._app.session(self._session or '').waiting())
        if waiting:
            self._finish(self._run(self._decided(waiting, ())))

    def _finish(self, response: GenerateResponse) -> None:
        while response.interrupts:
            response = self._run(self._decided(response.interrupts, response.messages))
        if self._session is None:
            self._messages = response.messages

    def _run(self, options: dict[str, Any]) -> GenerateResponse:
        return self._runner.run(self._streamed(options))

    async def _streamed(self, options: dict[str, Any]) -> GenerateResponse:
        if 'resume' not in options:
            tools = sorted(self._app.registry.tools)
            options |= {'tools': tools} if tools else {}
            options |= {'session': self._session} if self._session is not None else {}
            options |= {'model': self._model} if self._model is not None else {}
        async with self._app.generate_stream(**options) as stream:
            async for part in stream:
                self._view.part(part)
            response = await stream.response
        self._view.end(response)
        return response

    def _decided(self, calls: Sequence[ToolRequestPart], messages: tuple[Message, ...]) -> dict[str, Any]:
        """The options with which a run goes on, when everybody has been asked about its calls."""
        kept = self._runner.run(self._kept(calls))
        if kept:
            for record, call in kept:
                self._decide_kept(record, call)
            return {'resume': kept[0][0].run_id}
        restarts, answers = [], []
        for call in calls:
            self._view.waits(call)
            verdict = self._judge(call)
            if verdict.kind == 'approve':
                edited = {'input': verdict.edited[0]} if verdict.edited else {}
                approved = {'toolApproved': True, 'approvedBy': self._by}
                restarts.append(restart_tool(call, metadata=approved, **edited))
            elif verdict.kind == 'deny':
                answers.append(deny_tool(call, verdict.value))
            else:
                answers.append(respond_to_tool(call, verdict.value))
        going_on = {'resume_restart': restarts, 'resume_respond': answers}
        if self._session is None:
            return {**going_on, 'messages': messages}
        return going_on if self._system is None else {**going_on, 'system': self._system}

    async def _kept(self, calls: Sequence[ToolRequestPart]) -> list[tuple[ApprovalRecord, ToolRequestPart]]:
        """The records of calls that are kept in the app's store, where others may decide on them too."""
        if isinstance(self._app.ledger, MemoryLedger):
            return []
        records = {(record.ref, record.digest): record for record in await self._records(calls)}
        found = []
        for call in calls:
            record = records.get((call.tool_request.ref or '', digest_of(call.tool_request)))
            if record is None:
                return []
            note = {**record.note, 'message': record.message, 'id': record.id}
            found.append((record, call.replace(metadata={'interrupt': note})))
        return found

    async def _records(self, calls: Sequence[ToolRequestPart]) -> Sequence[ApprovalRecord]:
        """What may be the records of these calls. A session's history does not say their ids."""
        approvals = self._app.approvals
        if self._session is not None:
            return await approvals.list('all', session=self._session)
        ids = [str(note_of(call).get('id')) for call in calls]
        return [await approvals.get(id) for id in ids if id.startswith('run_')]

    def _decide_kept(self, record: ApprovalRecord, call: ToolRequestPart) -> None:
        if record.state != 'pending':
            return  # somebody was first, or it is too late: the run says so
        self._view.waits(call)
        verdict, approvals, by = self._judge(call), self._app.approvals, self._by
        try:
            if verdict.kind == 'approve':
                edited = {'input': verdict.edited[0]} if verdict.edited else {}
                self._runner.run(approvals.approve(record.id, by=by, **edited))
            elif verdict.kind == 'deny':
                self._runner.run(approvals.deny(record.id, verdict.value, by=by))
            else:
                self._runner.run(approvals.answer(record.id, verdict.value, by=by))
        except LamellaError as error:
            if error.status not in ('FAILED_PRECONDITION', 'DEADLINE_EXCEEDED'):
                raise
            self._view.failed(error)  # decided elsewhere meanwhile: that counts, and the run goes on
