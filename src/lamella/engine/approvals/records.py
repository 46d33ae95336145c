"""What is kept of an interrupted run and of each decision on it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from lamella.core.session import OnBusy
from lamella.types import (
    Data,
    GenerationConfig,
    LamellaError,
    Message,
    OutputSpec,
    ToolChoice,
    ToolRequest,
    ToolResponse,
)

State = Literal['pending', 'decided', 'started', 'done', 'failed']
ApprovalState = Literal['pending', 'decided', 'started', 'done', 'failed', 'expired', 'unknown']
DecisionKind = Literal['approve', 'deny', 'answer']
VERBS: Mapping[DecisionKind, str] = {'approve': 'approved', 'deny': 'denied', 'answer': 'answered'}
_ID = re.compile(r'(run_[0-9a-f]{32})(?:\.([1-9][0-9]{0,5}))?')


class SavedSession(Data, frozen=True):
    """The session of an interrupted run, with its settings. `own_store` says that it lives in the app's store."""

    id: str
    key: str
    own_store: bool
    on_busy: OnBusy
    wait_s: float
    lease_s: float
    ttl_s: float | None


class SavedModel(Data, frozen=True):
    """The model of an interrupted run, by name, with the settings that a `ModelRef` gave it."""

    name: str
    config: GenerationConfig | None = None
    provider_options: Mapping[str, Mapping[str, Any]] = {}


class SavedCall(Data, frozen=True):
    """A tool call that waits. `note` is what whoever decides is shown."""

    number: int
    request: ToolRequest
    digest: str
    note: Mapping[str, Any] = {}


class SavedRun(Data, frozen=True):
    """An interrupted run with everything that is needed to go on. Never changes.

    `messages` are empty for a run in a session, which has them. `tools` are the names of the call's own tools, `layers` those
    of all layers around it. `at_s` is in seconds since 1970.
    """

    id: str
    at_s: float
    expires_s: float
    calls: tuple[SavedCall, ...]
    model: SavedModel
    messages: tuple[Message, ...] = ()
    system: str | None = None
    session: SavedSession | None = None
    config: GenerationConfig = GenerationConfig()
    tools: tuple[str, ...] = ()
    tool_choice: ToolChoice | None = None
    output: OutputSpec | None = None
    provider_options: Mapping[str, Mapping[str, Any]] = {}
    layers: tuple[str, ...] = ()
    context: Mapping[str, Any] = {}
    max_turns: int | None = None
    max_cost_usd: float | None = None
    max_tokens: int | None = None

    @property
    def session_key(self) -> str:
        """The session's key, empty for none: decisions hold in that session alone."""
        return '' if self.session is None else self.session.key

    def call(self, number: int) -> SavedCall:
        """The call of that number. Raises NOT_FOUND."""
        for call in self.calls:
            if call.number == number:
                return call
        raise not_found(f'{self.id}.{number}')


class Decision(Data, frozen=True):
    """What somebody decided. `edited` holds the input that replaces the model's, if any; `output` what is answered in the
    tool's place, or the reason of a denial."""

    kind: DecisionKind
    by: str
    at_s: float
    edited: tuple[Any, ...] = ()
    output: Any = None


class Step(Data, frozen=True):
    """One thing that happened to a call: what, when (seconds since 1970), by whom, and its position in the audit log."""

    what: str
    at_s: float
    by: str = ''
    log: int = 0


class Stand(Data, frozen=True):
    """How a call stands: changed by comparison alone. `generation` counts how often a decision was asked for."""

    state: State
    steps: tuple[Step, ...]
    generation: int = 1
    decision: Decision | None = None
    response: ToolResponse | None = None
    error: str | None = None
    note: Mapping[str, Any] | None = None


class ApprovalRecord(Data, frozen=True):
    """One tool call that waits or waited for a decision, as `ai.approvals` shows it.

    `state`: `pending`; `decided`, and not begun; `started`, in this moment; `done`, with the `response` that the model gets;
    `failed`, with the `error`; `expired`, never run; `unknown`: begun by a process that died, so that it may have run, or not.
    Times are seconds since 1970. `digest` is that of the tool's name and input as the model asked for it.
    """

    id: str
    run_id: str
    session: str | None
    tool: str
    input: Any
    ref: str
    digest: str
    message: str
    note: Mapping[str, Any]
    requested_s: float
    expires_at_s: float
    state: ApprovalState
    generation: int = 1
    decision: Decision | None = None
    response: ToolResponse | None = None
    error: str | None = None
    steps: tuple[Step, ...] = ()


class AuditEntry(Data, frozen=True):
    """One line of the audit log. `is_effective` is false for what was tried and came too late, `None` when the record is gone."""

    position: int
    id: str
    what: str
    by: str
    at_s: float
    is_effective: bool | None = None


def parse_id(id: object) -> tuple[str, int | None]:
    """The run's id, and the number of the call where there is one. Raises NOT_FOUND for anything else."""
    found = _ID.fullmatch(id) if isinstance(id, str) and len(id) < 64 else None
    if found is None:
        raise not_found(id)
    return found[1], None if found[2] is None else int(found[2])


def not_found(id: object) -> LamellaError:
    """No such approval."""
    return LamellaError('NOT_FOUND', f'no approval {str(id)[:64]!r}: it never was, or its time is long over')


def record_of(saved: SavedRun, call: SavedCall, stand: Stand | None, *, is_running: bool) -> ApprovalRecord:
    """A call as it is shown."""
    state: ApprovalState = 'expired' if stand is None else stand.state
    if state == 'started' and not is_running:
        state = 'unknown'
    note = call.note if stand is None or stand.note is None else stand.note
    asked_s = saved.at_s if stand is None else _asked_s(stand, saved.at_s)
    facts: dict[str, Any] = {}
    if stand is not None:
        facts = {name: getattr(stand, name) for name in ('generation', 'decision', 'response', 'error', 'steps')}
    return ApprovalRecord(
        id=f'{saved.id}.{call.number}',
        run_id=saved.id,
        session=saved.session.id if saved.session is not None else None,
        tool=call.request.name,
        input=call.request.input,
        ref=call.request.ref or '',
        digest=call.digest,
        message=str(note.get('message', '')),
        note=note,
        requested_s=saved.at_s,
        expires_at_s=asked_s + saved.expires_s,
        state=state,
        **facts,
    )


def _asked_s(stand: Stand, otherwise: float) -> float:
    """When the decision was asked for last, or made: its time runs from there."""
    return stand.steps[-1].at_s if stand.state in ('pending', 'decided') and stand.steps else otherwise
