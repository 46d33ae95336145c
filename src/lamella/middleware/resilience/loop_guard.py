"""`LoopGuard`: an agent that makes the same tool call over and over is told so, and stopped."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Annotated, NamedTuple, TypedDict, Unpack

from pydantic import BaseModel, Field, model_validator

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextTool
from lamella.core.params import ToolHookParams, digest_of
from lamella.middleware._fields import Count
from lamella.middleware._tool_names import ToolNames, ToolSet
from lamella.types import ConfigError, StopRun, ToolRequest, ToolResponse

Ctx = GenerateMiddlewareContext


class LoopGuardConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `LoopGuard`."""

    window: Annotated[Count, Field(ge=2, description='How many of the last tool calls of a run are looked at.')] = 12
    max_repeats: Annotated[
        Count, Field(ge=1, description='How often the same tool may be called with the same input among them.')
    ] = 3
    warnings: Annotated[
        Count, Field(description="How often a loop is told to the model, as the call's error, before the run is ended.")
    ] = 0
    ignore: Annotated[
        ToolNames, Field(description='Tools that may be called again and again, * for any characters.')
    ] = ()

    @model_validator(mode='after')
    def _can_see_a_loop(self) -> LoopGuardConfig:
        if self.window <= self.max_repeats:
            raise ValueError(
                f'window={self.window} is no more than max_repeats={self.max_repeats}, so that nothing is ever a loop'
            )
        return self


class LoopGuardOptions(TypedDict, total=False):
    """The keywords of `LoopGuard`."""

    window: int
    max_repeats: int
    warnings: int
    ignore: Sequence[str]


class LoopGuard(BaseMiddleware[LoopGuardConfig]):
    """Ends a run with the stop reason `loop` when a tool is called with the same input more than `max_repeats` times within
    the last `window` tool calls; the call that is too many is not made.

    That finds one call repeated, and short cycles too (search, read, search, read …): a cycle of n calls, when `window` is
    above n × max_repeats. The same input is the same JSON value, whatever the order of its keys. With `warnings` the model is
    told first, as an error of the call, and may find another way.

    Counted is what is asked in one run, in the order of asking; a call that a layer outside tries again counts once.
    Events: `loop_guard.warned(tool, times, cycle)`, `loop_guard.stopped(tool, times, cycle)`, where `cycle` names the tools of a
    cycle, or the one.
    """

    def __init__(self, config: LoopGuardConfig | None = None, **options: Unpack[LoopGuardOptions]) -> None:
        super().__init__(config, **options)
        self._ignored = ToolSet(self.config.ignore)

    async def wrap_tool(self, params: ToolHookParams, ctx: Ctx, next_fn: NextTool) -> ToolResponse:
        if params.tool.name in self._ignored:
            return await next_fn(params, ctx)
        state, call = ctx.state(self), _call_of(params.tool_request)
        calls: deque[_Call] = state.setdefault('calls', deque(maxlen=self.config.window))
        if params.attempt == 1:
            calls.append(call)
        times = [other.digest for other in calls].count(call.digest)
        if times <= self.config.max_repeats:
            return await next_fn(params, ctx)
        cycle = cycle_of([other.digest for other in calls], times)
        names = [other.tool for other in calls][-cycle:]
        said = self._sentence(names, times)
        state['warned'] = warned = state.get('warned', 0) + 1
        if warned > self.config.warnings:
            ctx.emit('loop_guard.stopped', tool=params.tool.name, times=times, cycle=names)
            raise StopRun('loop', said)
        ctx.emit('loop_guard.warned', tool=params.tool.name, times=times, cycle=names)
        advice = f'{said}. It was not made again: use what you have, try another way, or answer without it'
        return ToolResponse(params.tool_request.name, advice, params.tool_request.ref, is_error=True)

    def _sentence(self, names: Sequence[str], times: int) -> str:
        allowed = f'max_repeats={self.config.max_repeats} of the last {self.config.window} calls are allowed'
        if len(names) == 1:
            return f'{names[0]} was called with the same input {times} times ({allowed})'
        return f'{", ".join(names)} were called in turn with the same inputs, {names[-1]} {times} times ({allowed})'


class _Call(NamedTuple):
    digest: str
    tool: str


def _call_of(request: ToolRequest) -> _Call:
    try:
        digest = digest_of(request)
    except ConfigError:  # no JSON value: then only the very same text of it is the same
        digest = repr((request.name, request.input))
    return _Call(digest, request.name)


def cycle_of(calls: Sequence[str], times: int) -> int:
    """How many calls there are from one to the next of the same kind, at the end; 1 when they are no cycle.

    A cycle is what the last `times - 1` rounds have in common; one round alone is none.
    """
    back = list(reversed(calls))
    if times < 3 or back[0] not in back[1:]:
        return 1
    length = back.index(back[0], 1)
    rounds = back[: length * (times - 1)]
    return length if rounds == back[:length] * (times - 1) else 1
