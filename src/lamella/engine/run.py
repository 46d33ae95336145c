"""One run: turn after turn until the model is done, as a loop and not as a recursion."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Protocol

from lamella.core.bridge import answer_of
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.holds import Hold
from lamella.core.metering import Account
from lamella.core.model import Model
from lamella.core.params import GenerateHookParams, ModelHookParams, RunHookParams, ToolHookParams
from lamella.core.pending import Pending
from lamella.core.stack import Stack
from lamella.core.tools import Tool
from lamella.engine.guards import Guard
from lamella.engine.interrupts import Decision, Ledger, ToolRestart, answered, restarted
from lamella.engine.output import OutputShape
from lamella.engine.tools import Answered, answer_requests, execute_tool
from lamella.types import (
    Folder,
    GenerateResponse,
    LamellaError,
    Message,
    ModelRequest,
    ModelResponse,
    StopReason,
    StopRun,
    ToolRequestPart,
    ToolResponse,
    ToolResponsePart,
    Usage,
    add_usage,
    ungrouped,
)

Ctx = GenerateMiddlewareContext


class Keeper(Protocol):
    """What keeps a run: its session."""

    @property
    def hold(self) -> Hold: ...

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
        'decisions',
        'guard',
        'keeper',
        'last_told',
        'ledger',
        'max_parallel_tools',
        'max_turns',
        'messages',
        'model',
        'pending',
        'request',
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
        self.request, self.model, self.stack, self.tools = request, model, stack, tools
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

    def close_turn(self, response: ModelResponse, ctx: Ctx) -> StopReason | None:
        """Note a turn. The reason to stop after it, or `None` to go on. Raises StopRun when a limit of the run is reached."""
        self.turns.append(response)
        if response.interrupts:
            self.messages = (*self.messages, *_said(response))
            return 'interrupted'
        if not response.tool_responses:
            self.messages = (*self.messages, response.message)
            return 'max_tokens' if response.finish_reason == 'length' else 'final'
        self.messages = (*self.messages, *_said(response))
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


def _said(response: ModelResponse) -> tuple[Message, ...]:
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


async def run_whole(params: RunHookParams, ctx: Ctx) -> GenerateResponse:
    """The loop of turns: the innermost ring of `wrap_run`."""
    run: Run = ctx.run
    begin(run, params)
    turn = run.stack.around('wrap_generate', take_turn)
    try:
        if run.pending is not None and (await resume(run, ctx)).interrupts:
            return run.finish('interrupted')
        while True:
            if ctx.sinks:
                ctx.emit('turn.start', turn=len(run.turns))
            response = answer_of(await turn(run.next_params(), ctx), 'wrap_generate')
            if ctx.sinks:
                ctx.emit('turn.end', turn=len(run.turns), response=response)
            stop = run.close_turn(response, ctx)
            if run.keeper is not None and (response.tool_responses or response.interrupts):
                await run.keeper.keep(run, ctx)
            if stop is not None:
                return run.finish(stop)
    except (StopRun, BaseExceptionGroup) as raised:
        return run.stopped(stop_of(raised))


def stop_of(raised: BaseException) -> StopRun:
    """The end that was asked for, also out of a layer's task group. Raises what is none."""
    found = ungrouped(raised)
    if isinstance(found, StopRun):
        return found
    raise found


def begin(run: Run, params: RunHookParams) -> None:
    """Start from what the layers around the run handed on, which may differ from what the caller gave."""
    run.turns = []
    run.request, run.model, run.max_turns = params.request, params.model, params.max_turns
    run.messages = params.request.messages


async def take_turn(params: GenerateHookParams, ctx: Ctx) -> ModelResponse:
    """One model call and its tools: the innermost ring of `wrap_generate`."""
    run = ctx.run
    asked = ModelHookParams(params.request, params.model, account=run.account)
    response = answer_of(await run.stack.model(asked, ctx))
    for part in response.message.content:
        if type(part) is ToolRequestPart:
            return await with_tools(response, ctx)
    return response


async def with_tools(response: ModelResponse, ctx: Ctx) -> ModelResponse:
    """The turn's response with the tools' answers. A truncated or blocked answer runs no tools."""
    if response.finish_reason in ('length', 'blocked') or not ctx.run.runs_tools:
        return response
    requests = response.message.tool_requests
    try:
        answers = await answer_requests([(part, None) for part in requests], ctx)
    except StopRun:
        ctx.run.turns.append(
            response
        )  # it was paid for; the conversation goes without it, since its requests have no answers
        raise
    return sorted_answers(response, answers)


def sorted_answers(response: ModelResponse, answers: Sequence[Answered]) -> ModelResponse:
    return response.replace(
        tool_responses=tuple([part for part in answers if type(part) is ToolResponsePart]),
        interrupts=tuple([part for part in answers if type(part) is ToolRequestPart]),
    )


async def resume(run: Run, ctx: Ctx) -> ModelResponse:
    """Carry out the decisions on an interrupted turn. Its response has all answers there are, old and new, in order.

    What was answered before stays as it is; what nobody decided on stays pending.
    """
    pending, run.pending = run.pending, None
    if pending is None:
        raise LamellaError('INTERNAL', 'there is nothing to resume')
    run.ledger.use(run.decisions)
    by_ref = {decision.ref: decision for decision in run.decisions}
    known: dict[Any, Answered] = {**pending.answers}
    jobs = []
    for part in pending.open:
        decision = by_ref.get(part.tool_request.ref or '')
        if isinstance(decision, ToolRestart):
            jobs.append(restarted(decision, part))
        elif decision is not None:
            known[decision.ref] = ToolResponsePart(answered(decision))
        else:
            known[part.tool_request.ref] = _still_open(part, ctx)
    for answer in await answer_requests(jobs, ctx) if jobs else ():
        known[_ref(answer)] = answer
    resumed = ModelResponse(message=pending.head[-1], finish_reason='tool_calls')
    resumed = sorted_answers(resumed, [known[part.tool_request.ref] for part in pending.requests])
    run.messages = (*pending.head[:-1], *_said(resumed), *pending.behind)
    run.request = run.request.replace(messages=run.messages)
    if resumed.interrupts:
        run.turns.append(resumed)
    if run.keeper is not None:
        await run.keeper.keep(run, ctx)
    return resumed


def _still_open(part: ToolRequestPart, ctx: Ctx) -> ToolRequestPart:
    note = {'message': 'still waiting for a decision', 'id': f'{ctx.random.getrandbits(128):032x}'}
    return part.replace(metadata={**(part.metadata or {}), 'interrupt': note})


def _ref(answer: Answered) -> str | None:
    return answer.tool_response.ref if isinstance(answer, ToolResponsePart) else answer.tool_request.ref


def new_answers(resumed: ModelResponse, before: Pending) -> list[ToolResponse]:
    """The answers that a resumption added."""
    return [part.tool_response for part in resumed.tool_responses if part.tool_response.ref not in before.answers]
