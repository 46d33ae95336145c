"""`ToolTimeout`: no tool takes longer than it may."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypedDict, Unpack

from pydantic import BaseModel, Field

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextTool
from lamella.core.params import ToolHookParams
from lamella.core.timeouts import Cutoff
from lamella.middleware._fields import Duration
from lamella.middleware._tool_names import ToolNamesOrAll, ToolSet
from lamella.types import LamellaError, ToolError, ToolResponse

Ctx = GenerateMiddlewareContext
OnTimeout = Literal['tell', 'raise']


class ToolTimeoutConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `ToolTimeout`."""

    timeout_s: Annotated[Duration, Field(gt=0, description='The longest a call of a tool may take, in seconds.')]
    tools: Annotated[
        ToolNamesOrAll, Field(description='The tools that are timed, * for any characters; None for all.')
    ] = None
    on_timeout: Annotated[
        OnTimeout, Field(description='Tell the model, and go on; or raise DEADLINE_EXCEEDED, which ends the run.')
    ] = 'tell'


class ToolTimeoutOptions(TypedDict, total=False):
    """The keywords of `ToolTimeout`."""

    timeout_s: float
    tools: Sequence[str] | None
    on_timeout: OnTimeout


class ToolTimeout(BaseMiddleware[ToolTimeoutConfig]):
    """Ends a tool call that takes longer than `timeout_s`. The model reads that it did and the run goes on, or, with
    `on_timeout='raise'`, the run ends with DEADLINE_EXCEEDED, which a `ToolRetry` around this layer may retry.

    An async tool is cancelled, and waited for until it has cleaned up. A sync tool runs in a thread, which nobody can stop: it
    is left to itself, its result is dropped, and what it does it still does; `Sandbox` ends such a tool for good. Either way
    the outcome is unknown, and the error says so: its `details` are `by`, `limit`, `limit_s` and `outcome`.

    The time is that of everything inside of this layer, waits of a `ToolRetry` there included. Use it twice for two limits.
    Event: `tool_timeout.cut(tool, ref, limit_s, in_thread)`.
    """

    def __init__(self, config: ToolTimeoutConfig | None = None, **options: Unpack[ToolTimeoutOptions]) -> None:
        super().__init__(config, **options)
        self._tools = ToolSet(self.config.tools)

    async def wrap_tool(self, params: ToolHookParams, ctx: Ctx, next_fn: NextTool) -> ToolResponse:
        if params.tool.name not in self._tools:
            return await next_fn(params, ctx)
        async with Cutoff(ctx.clock, self.config.timeout_s, lambda: self._cut(params, ctx)):
            return await next_fn(params, ctx)

    def _cut(self, params: ToolHookParams, ctx: Ctx) -> LamellaError:
        tool, limit_s = params.tool, self.config.timeout_s
        ctx.emit(
            'tool_timeout.cut',
            tool=tool.name,
            ref=params.tool_request.ref,
            limit_s=limit_s,
            in_thread=not tool.is_async,
        )
        message = (
            f'{tool.name} took longer than timeout_s={limit_s:g} ({self.name}); whether it did its work is not known'
        )
        details = {'by': self.name, 'limit': 'timeout_s', 'limit_s': limit_s, 'outcome': 'unknown'}
        if self.config.on_timeout == 'raise':
            return LamellaError('DEADLINE_EXCEEDED', message, details=details)
        return ToolError(message, details=details)
