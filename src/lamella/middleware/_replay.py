"""One run that is answered from a recording, and where it departs from it."""

from __future__ import annotations

from threading import Lock
from typing import Any, Literal

from lamella.core.chance import Chance
from lamella.core.context import SYSTEM_RANDOM, GenerateMiddlewareContext
from lamella.core.model import Model
from lamella.core.params import ToolHookParams
from lamella.middleware._recording import RecordedCall, RecordedRun, Recording
from lamella.middleware._recording_codec import digest, first_difference
from lamella.middleware._recording_time import SkippingClock
from lamella.middleware._tape import asked_of, sent_of
from lamella.types import JSON, LamellaError, ModelRequest

Ctx = GenerateMiddlewareContext
Kind = Literal['run', 'request', 'ended', 'broken_off', 'unused']


class Runs:
    """The runs of a recording that nobody has replayed yet."""

    def __init__(self, recording: Recording, only: str | None) -> None:
        self.path = recording.path
        self._left = [run for run in recording.runs if only is None or run.id == only]
        self._lock = Lock()

    def claim(self, request: Any, model: str) -> RecordedRun | None:
        """The first with this very request, or else the first that no tool of another run made."""
        wanted = digest([model, request])
        with self._lock:
            same = next((run for run in self._left if run.digest == wanted), None)
            found = same or next((run for run in self._left if run.parent is None), None)
            if found is not None:
                self._left.remove(found)
            return found


class Replay:
    """One run. `departure` is the first error that says where it left its recording."""

    def __init__(self, runs: Runs, strict: bool, ctx: Ctx) -> None:
        self._runs, self._strict, self._ctx = runs, strict, ctx
        self._run: RecordedRun | None = None
        self._begun = False
        self._left: list[RecordedCall] = []
        self._met = set[int]()  # calls whose counterpart was another one
        self._asked, self.turn = 0, 0
        self.departure: LamellaError | None = None
        ctx.run_id  # noqa: B018 - drawn where the recorder drew it

    def begin(self, request: ModelRequest, model: str) -> None:
        """Find the recorded run. Raises for one that is not there."""
        if self._begun:
            return
        self._begun, ctx = True, self._ctx
        self._run = run = self._runs.claim(sent_of(ctx, request), model)
        self._clock = SkippingClock(ctx.clock, ctx.clock.time() if run is None else run.began)
        self._started = self._clock.now()
        if run is None:
            self._depart('run', f'{self._runs.path} has no run left that could answer this one (model {model})')
            return
        self._left = list(run.calls)
        ctx.clock = self._clock
        if run.seed is not None and (ctx.random is SYSTEM_RANDOM or isinstance(ctx.random, Chance)):
            ctx.random = Chance(run.seed)
        ctx.emit('replayer.began', recorded=run.id, calls=len(run.calls))

    async def until(self, at_s: float) -> None:
        wait_s = self._started + at_s - self._clock.now()
        if wait_s > 0:
            await self._clock.sleep(wait_s)

    def find(self, request: ModelRequest, model: Model) -> RecordedCall | None:
        """The call to answer a model's call from; `None` to ask the model. Raises for a departure when strict."""
        self.begin(request, model.name)
        return self._found('model', model.name, sent_of(self._ctx, request), None)

    def find_tool(self, params: ToolHookParams) -> RecordedCall | None:
        """The same for a call of a tool."""
        request, resumed = params.tool_request, None if params.approval is None else params.approval.metadata
        asked = {'input': asked_of(self._ctx, request.input), 'resumed': asked_of(self._ctx, resumed)}
        return self._found('tool', params.tool.name, asked, request.ref)

    def _found(self, what: str, name: str, asked: Any, ref: str | None) -> RecordedCall | None:
        self._asked += 1
        if self._run is None:
            return None
        wanted = digest([name, asked])
        equal = [call for call in self._left if call.what == what and call.digest == wanted]
        call = next((call for call in equal if call.ref == ref), equal[0] if equal else None)
        if call is None:
            self._differs(what, name, asked)
            return None
        self._left.remove(call)
        if call.outcome is None and not call.parts:
            self._depart('broken_off', self._broken_off(call), call)
            return None
        if self._ctx.sinks:
            self._ctx.emit('replayer.answered', call=call.number, turn=call.turn, what=what, name=name)
        return call

    def _differs(self, what: str, name: str, asked: Any) -> None:
        here = f'call {self._asked} (turn {self.turn}, {what} {name})'
        others = [call for call in self._left if call.what == what and call.number not in self._met]
        if not others:
            end = '' if self._whole.end is not None else ', which breaks off here: its run did not end'
            self._depart('ended', f'{here} is not in the recording{end}', None, what=what, name=name)
            return
        other = next((call for call in others if call.name == name), others[0])
        self._met.add(other.number)
        found = first_difference({what: other.name, **other.request}, {what: name, **asked})
        field, was, now = found if found is not None else ('the whole', 'another', 'this')
        said = f'{here} departs from the recorded {other.place}: {field} was {was} and is {now}'
        self._depart('request', said, other, field=field, recorded=was, now=now)

    @property
    def _whole(self) -> RecordedRun:
        if self._run is None:
            raise LamellaError('INTERNAL', 'a replay without a run')
        return self._run

    def broken_off(self, call: RecordedCall) -> LamellaError:
        """The error for a call that was left in the recording, or that it does not have whole."""
        return self._departed('broken_off', self._broken_off(call), call)

    def _broken_off(self, call: RecordedCall) -> str:
        why = 'was left by its caller' if call.outcome == 'left' else 'was under way when the recording ended'
        return f'the recorded {call.place} {why}: there is no more of its answer'

    def finish(self) -> None:
        """The run is at its end: whether all was asked for. Raises the departure when strict."""
        unused = [call for call in self._left if call.number not in self._met and call.outcome != 'left']
        if unused and self.departure is None:
            places = ', '.join(call.place for call in unused[:5]) + (' …' if len(unused) > 5 else '')
            self._depart('unused', f'the run ended, and the recording has {len(unused)} more: {places}', unused[0])

    def _depart(self, kind: Kind, said: str, call: RecordedCall | None = None, **facts: Any) -> None:
        error = self._departed(kind, said, call, **facts)
        if self._strict:
            raise error

    def _departed(self, kind: Kind, said: str, call: RecordedCall | None, **facts: Any) -> LamellaError:
        line = None if call is None else call.line
        where = '' if line is None else f' ({self._runs.path}, line {line})'
        run = '' if self._run is None else f'run {self._run.id}: '
        number = self._asked if call is None else call.number
        told: JSON = {
            'kind': kind,
            'call': number,
            'turn': self.turn if call is None else call.turn,
            'line': line,
            **facts,
        }
        error = LamellaError(
            'FAILED_PRECONDITION', f'not as it was recorded: {run}{said}{where}', details={'replayer': told}
        )
        self.departure = self.departure or error
        self._ctx.emit('replayer.departed', **told, message=error.message)
        return error
