"""Interrupted tool calls: how they are shown, decided, and resumed. A decision names one call and its exact input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from lamella.core.params import Approval, digest_of
from lamella.core.pending import Pending, pending_of
from lamella.core.tools import to_json
from lamella.types import (
    ConfigError,
    Data,
    Interrupt,
    Message,
    Rejected,
    ToolRequestPart,
    ToolResponse,
)

_SAME_INPUT = object()


class ToolRestart(Data, frozen=True):
    """Run this interrupted call, with its own input or with `edited` in its place. Made by `restart_tool`."""

    ref: str
    name: str
    digest: str
    decision: str
    metadata: Mapping[str, Any] = {}
    edited: tuple[Any, ...] = ()
    traceparent: str = ''


class ToolAnswer(Data, frozen=True):
    """Answer for this interrupted call without running it. Made by `respond_to_tool` and `deny_tool`."""

    ref: str
    name: str
    digest: str
    decision: str
    output: Any = None
    is_error: bool = False
    traceparent: str = ''


Decision = ToolRestart | ToolAnswer


def restart_tool(
    interrupt: ToolRequestPart, *, metadata: Mapping[str, Any] | None = None, input: Any = _SAME_INPUT
) -> ToolRestart:
    """Decide that an interrupted call runs. Give it to `generate(resume_restart=[…])`.

    `metadata` reaches the layers and the tool: `{'toolApproved': True}` is what `ToolApproval` wants to see. `input` replaces
    the model's input. The decision holds for this request and this input alone, and once.
    """
    ref, name, digest, decision = _identity(interrupt, 'restart_tool')
    edited = () if input is _SAME_INPUT else (input,)
    return ToolRestart(ref, name, digest, decision, dict(metadata or {}), edited, _traceparent(interrupt))


def respond_to_tool(interrupt: ToolRequestPart, output: Any) -> ToolAnswer:
    """Answer in the tool's place. Give it to `generate(resume_respond=[…])`. `output` is a JSON value or a pydantic model."""
    ref, name, digest, decision = _identity(interrupt, 'respond_to_tool')
    return ToolAnswer(ref, name, digest, decision, to_json(output, name), traceparent=_traceparent(interrupt))


def deny_tool(interrupt: ToolRequestPart, reason: str = 'denied by the user') -> ToolAnswer:
    """Tell the model no: it gets `reason` as the call's error. Give it to `generate(resume_respond=[…])`."""
    ref, name, digest, decision = _identity(interrupt, 'deny_tool')
    return ToolAnswer(ref, name, digest, decision, reason, is_error=True, traceparent=_traceparent(interrupt))


def _identity(interrupt: ToolRequestPart, who: str) -> tuple[str, str, str, str]:
    if not isinstance(interrupt, ToolRequestPart):
        raise ConfigError(f'{who} takes an item of response.interrupts, not {type(interrupt).__name__}')
    request = interrupt.tool_request
    if request.ref is None:
        raise ConfigError(f'{who}: the request for {request.name!r} has no id; take it from response.interrupts')
    noted = (interrupt.metadata or {}).get('interrupt')
    decision = noted.get('id', '') if isinstance(noted, Mapping) else ''
    return request.ref, request.name, digest_of(request), str(decision)


def _traceparent(interrupt: ToolRequestPart) -> str:
    """The trace of the run that was interrupted, where somebody traced it: for whoever traces the one that goes on."""
    noted = (interrupt.metadata or {}).get('interrupt')
    return str(noted.get('traceparent', '')) if isinstance(noted, Mapping) else ''


def interrupted(part: ToolRequestPart, interrupt: Interrupt, nonce: str) -> ToolRequestPart:
    """The pending call as `response.interrupts` shows it."""
    note = {**interrupt.metadata, 'message': interrupt.message, 'id': nonce}
    return part.replace(metadata={**(part.metadata or {}), 'interrupt': note})


class Claimed(Protocol):
    """A decision on a kept call, while it is carried out."""

    @property
    def id(self) -> str: ...

    async def start(self) -> None:
        """Before the tool. Raises Rejected when it was begun before."""

    async def done(self, response: ToolResponse) -> None:
        """The tool has answered."""

    async def failed(self, error: BaseException) -> None:
        """The tool has not."""

    async def again(self, part: ToolRequestPart) -> ToolRequestPart:
        """The call waits once more."""


def check_decisions(decisions: Sequence[Decision], messages: Sequence[Message]) -> Pending:
    """The pending calls that these decisions are about.

    Raises ConfigError when there is nothing to decide, Rejected for a decision on another input.
    """
    pending = pending_of(messages)
    requests = pending.requests if pending is not None else ()
    by_ref = {part.tool_request.ref: part for part in requests}
    if len(by_ref) < len(requests):
        raise Rejected(
            'two tool requests at the end of messages= have the same id, so that no decision can tell them apart',
            by='interrupts',
            status='FAILED_PRECONDITION',
        )
    seen: set[str] = set()
    for decision in decisions:
        if not isinstance(decision, (ToolRestart, ToolAnswer)):
            raise ConfigError(
                f'resume_restart and resume_respond take decisions made by restart_tool, respond_to_tool or deny_tool, '
                f'not {type(decision).__name__}'
            )
        if decision.ref in seen:
            raise ConfigError(f'two decisions on the same tool request {decision.ref!r} ({decision.name})')
        seen.add(decision.ref)
        _check_open(decision, by_ref.get(decision.ref), pending)
    if pending is None:
        raise ConfigError('nothing to resume: no tool request at the end of messages= waits for an answer')
    return pending


def _check_open(decision: Decision, part: ToolRequestPart | None, pending: Pending | None) -> None:
    if part is None or pending is None or decision.ref in pending.answers:
        raise Rejected(
            f'no tool request with id {decision.ref!r} ({decision.name}) waits for a decision at the end of messages=',
            by='interrupts',
            status='FAILED_PRECONDITION',
        )
    if digest_of(part.tool_request) != decision.digest:
        raise Rejected(
            f'the decision on {decision.name!r} (id {decision.ref}) was made for another input',
            by='interrupts',
            status='PERMISSION_DENIED',
        )


def restarted(decision: ToolRestart, part: ToolRequestPart) -> tuple[ToolRequestPart, Approval]:
    """The call as it runs, and the approval that goes with it: bound to the input that really runs."""
    request = part.tool_request.replace(input=decision.edited[0]) if decision.edited else part.tool_request
    approval = Approval(decision.ref, digest_of(request), decision.metadata)
    return ToolRequestPart(request, dict(decision.metadata) or None), approval


def answered(decision: ToolAnswer) -> ToolResponse:
    """The answer that a decision gives in the tool's place."""
    return ToolResponse(decision.name, decision.output, decision.ref, decision.is_error)
