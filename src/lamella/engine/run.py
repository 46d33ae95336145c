"""What one run knows and gathers, turn by turn."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.metering import Account
from lamella.core.model import Model
from lamella.core.params import GenerateHookParams, RunHookParams, ToolHookParams
from lamella.core.pending import Pending
from lamella.core.stack import Stack
from lamella.core.tools import Tool
from lamella.engine.guards import Guard
from lamella.engine.interrupts import Claimed, Decision
from lamella.engine.output import OutputShape
from lamella.engine.tools import execute_tool
from lamella.types import (
    Folder,
    GenerateResponse,
    Message,
    ModelRequest,
    ModelResponse,
    StopReason,
    StopRun,
    ToolRequestPart,
    ToolResponse,
    Usage,
    add_usage,
)

Ctx = GenerateMiddlewareContext
_NO_OPTIONS: Mapping[str, Any] = {}


class Ledger(Protocol):
    """Which interrupted calls may still be decided on, so that no decision is acted on twice.

    `keeps` says whether calls can be kept until they are decided: there is a store.
    """

    keeps: bool

    async def note(self, run: Run, ctx: Ctx) -> None:
        """The calls that were interrupted in the turn that has just ended wait for decisions from now on."""

    async def take(self, run: Run, ctx: Ctx) -> Mapping[str, Claimed]:
        """Take the right to act on all decisions of the run, or on none: Rejected for one that was used before.

        By the requests' ids, the claims of those calls that are kept.
        """

    async def end(self, run: Run) -> None:
        """The run whose decisions were carried out has gone on to an end."""


class Resumption(Protocol):
    """A kept run that goes on."""

    @property
    def id(self) -> str: ...

    async def take(self, ctx: Ctx) -> Mapping[str, Claimed]:
        """The decisions that were made on it are carried out now."""


class Keeper(Protocol):
    """What keeps a run: its session, or the records of what was decided."""

    @property
    def hold(self) -> AbstractAsyncContextManager[Any]:
        """What the run is under; left when somebody else has taken over."""

    async def begin(self, run: Run, ctx: Ctx) -> None:
        """Before anything else."""

    async def keep(self, run: Run, ctx: Ctx) -> None:
        """What the run has done so far."""

    async def end(self, response: GenerateResponse, run: Run, ctx: Ctx) -> None:
        """How it ended."""

    async def leave(self) -> None:
        """However it ended."""


class Run:
    """What one run knows and gathers. Lives in `ctx.run`, which only the engine reads."""

    __slots__ = (
        'account',
        'claims',
        'decisions',
        'guard',
        'is_over',
        'keeper',
        'last_told',
        'ledger',
        'max_parallel_tools',
        'max_turns',
        'messages',
        'model',
        'options',
        'own_tools',
        'pending',
        'raised',
        'request',
        'resumption',
        'runs_tools',
        'seen',
        'shape',
        'shown',
        'stack',
        'told',
        'tools',
        'turns',
    )

    def __init__(
        self,
        request: ModelRequest,
        model: Model,
        stack: Stack,
        tools: Mapping[str, Tool],
        ledger: Ledger,
        max_turns: int,
        max_parallel_tools: int,
    ) -> None:
        self.request, self.model, self.stack = request, model, stack
        self.own_tools = self.tools = tools
        self.ledger = ledger
        self.max_turns, self.max_parallel_tools = max_turns, max_parallel_tools
        self.guard: Guard | None = None
        self.account: Account | None = None
        self.shape: OutputShape | None = None
        self.pending: Pending | None = None
        self.decisions: Sequence[Decision] = ()
        self.messages = request.messages
        self.turns: list[ModelResponse] = []
        self.runs_tools = True
        self.keeper: Keeper | None = None
        self.options = _NO_OPTIONS
        self.raised: list[ToolRequestPart] | None = None
        self.claims: Mapping[str, Claimed] | None = None
        self.resumption: Resumption | None = None
        self.is_over = False
        self.shown = False
        self.seen: Folder | None = None
        self.told: Usage | None = None
        self.last_told: Usage | None = None

    @property
    def params(self) -> RunHookParams:
        """The run as the layers around it are given it."""
        return RunHookParams(self.request, self.model, self.max_turns)

    def call_tool(self, params: ToolHookParams, ctx: Ctx) -> Coroutine[Any, Any, ToolResponse]:
        """One tool call through the layers."""
        return self.stack.around('wrap_tool', execute_tool)(params, ctx)

    def raise_interrupt(self, part: ToolRequestPart) -> None:
        """A call waits for a decision."""
        self.raised = self.raised or []
        self.raised.append(part)

    def take_raised(self) -> tuple[ToolRequestPart, ...]:
        """The calls that were interrupted since this was asked last, as far as the turn's response shows them."""
        raised, self.raised = self.raised or [], None
        shown = self.turns[-1].interrupts
        return tuple(part for part in raised if part in shown)

    def show_interrupts(self, interrupts: Sequence[ToolRequestPart]) -> None:
        """What the caller gets as the calls that wait."""
        self.turns[-1] = self.turns[-1].replace(interrupts=tuple(interrupts))

    def close_turn(self, response: ModelResponse, ctx: Ctx) -> StopReason | None:
        """Note a turn. The reason to stop after it, or `None` to go on. Raises StopRun when a limit of the run is reached."""
        self.turns.append(response)
        if response.interrupts:
            self.messages = (*self.messages, *said(response))
            return 'interrupted'
        if not response.tool_responses:
            self.messages = (*self.messages, response.message)
            return 'max_tokens' if response.finish_reason == 'length' else 'final'
        self.messages = (*self.messages, *said(response))
        if len(self.turns) >= self.max_turns:
            return 'max_turns'
        if self.guard is not None:
            self.guard.check(len(self.turns), ctx)
        return None

    def next_params(self) -> GenerateHookParams:
        """The next turn's parameters."""
        request = self.request if not self.turns else self.request.replace(messages=self.messages)
        return GenerateHookParams(request, self.model, len(self.turns))

    def finish(self, stop_reason: StopReason, message: str | None = None) -> GenerateResponse:
        """The run's response. Raises OutputError when the final answer does not fit the asked-for shape."""
        turns = self.turns
        last = turns[-1] if turns else ModelResponse()
        output = None
        if self.shape is not None and stop_reason in ('final', 'max_tokens'):
            output = self.shape.read(last)
        many = len(turns) > 1
        return GenerateResponse(
            message=last.message,
            finish_reason=last.finish_reason,
            finish_message=last.finish_message,
            usage=_total(turns) if many else last.usage,
            model=last.model,
            id=last.id,
            sources=last.sources,
            metadata=_merged(turns) if many else last.metadata,
            warnings=_warnings(turns) if many else last.warnings,
            tool_responses=last.tool_responses,
            interrupts=last.interrupts,
            output=output,
            stop_reason=stop_reason,
            stop_message=message,
            messages=self.messages,
            turns=tuple(turns),
        )

    def stopped(self, stop: StopRun) -> GenerateResponse:
        """The response of a run that was ended by a `StopRun`."""
        if isinstance(stop.response, GenerateResponse):
            return stop.response.replace(stop_reason=stop.reason, stop_message=stop.message)
        if stop.response is not None:
            self.turns.append(stop.response)
            self.messages = (*self.messages, stop.response.message)
        return self.finish(stop.reason, stop.message)


def said(response: ModelResponse) -> tuple[Message, ...]:
    """The assistant's message, and the tools' where there are answers."""
    if not response.tool_responses:
        return (response.message,)
    return response.message, Message('tool', response.tool_responses)


def _total(turns: Sequence[ModelResponse]) -> Usage | None:
    total: Usage | None = None
    for turn in turns:
        total = add_usage(total, turn.usage)
    return total


def _merged(turns: Sequence[ModelResponse]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for turn in turns:
        merged.update(turn.metadata)
    return merged


def _warnings(turns: Sequence[ModelResponse]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(warning for turn in turns for warning in turn.warnings))
