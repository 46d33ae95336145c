"""`ToolApproval`: no tool runs that is not on the list or approved by somebody."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, TypedDict, Unpack

from pydantic import BaseModel, BeforeValidator, Field

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextTool
from lamella.core.params import ToolHookParams
from lamella.middleware._fields import listed
from lamella.types import Interrupt, ToolResponse

Ctx = GenerateMiddlewareContext
_NAME = re.compile(r'[A-Za-z0-9_.*-]{1,64}')


def _names(value: Any) -> tuple[Any, ...]:
    names = listed(value, 'tool names', "'read_file'")
    wrong = [
        f'allowed_tools[{index}] is {name!r}: give the name of a tool, in which * stands for any characters'
        for index, name in enumerate(names)
        if not isinstance(name, str) or not _NAME.fullmatch(name)
    ]
    if wrong:
        raise ValueError('; '.join(wrong))
    return names


class ToolApprovalConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `ToolApproval`."""

    allowed_tools: Annotated[
        tuple[str, ...],
        BeforeValidator(_names),
        Field(description='Names of the tools that run without asking; * stands for any characters.'),
    ] = ()


class ToolApprovalOptions(TypedDict, total=False):
    """The keywords of `ToolApproval`."""

    allowed_tools: Sequence[str]


class ToolApproval(BaseMiddleware[ToolApprovalConfig]):
    """Interrupts every tool call that is neither on the list nor approved.

    The call appears in `response.interrupts`; `restart_tool(interrupt, metadata={'toolApproved': True})`, given to
    `generate(resume_restart=[…])`, runs it. An approval holds for that request and its exact input, and once; what a message
    or a model claims is none. Layers outside of this one may still change the input between the approval and the call.

    `allowed_tools` takes exact names, and `*` for any characters (`read_*`). Without it every call waits. In doubt the call
    waits. Events: `tool_approval.wanted(tool, ref)`, and, once in a run, `tool_approval.similar_name(tool, hint)` for a
    blocked tool whose name is nearly that of one on the list.
    """

    def __init__(self, config: ToolApprovalConfig | None = None, **options: Unpack[ToolApprovalOptions]) -> None:
        super().__init__(config, **options)
        names = self.config.allowed_tools
        self._exact = frozenset(names)
        self._by_lower = {name.lower(): name for name in names}
        patterns = [re.escape(name).replace(r'\*', '.*') for name in names if '*' in name]
        self._patterns = re.compile('|'.join(patterns)) if patterns else None

    async def wrap_tool(self, params: ToolHookParams, ctx: Ctx, next_fn: NextTool) -> ToolResponse:
        request = params.tool_request
        if self.allows(params.tool.name) and self.allows(request.name):
            return await next_fn(params, ctx)
        if _approved(params):
            return await next_fn(params, ctx)
        ctx.emit('tool_approval.wanted', tool=request.name, ref=request.ref)
        self._hint(params.tool.name, ctx)
        raise Interrupt(_question(params), {'tool': params.tool.name, 'by': self.name})

    def allows(self, tool: str) -> bool:
        """Whether a tool of this name runs without asking."""
        return tool in self._exact or (self._patterns is not None and self._patterns.fullmatch(tool) is not None)

    def _hint(self, tool: str, ctx: Ctx) -> None:
        """Names on the list cannot be checked when the layer is built, since tools are given to the call."""
        told = ctx.state(self).setdefault('told', set())
        near = get_close_matches(tool.lower(), self._by_lower, n=1, cutoff=0.85)
        if near and tool not in told:
            told.add(tool)
            ctx.emit('tool_approval.similar_name', tool=tool, allowed=self._by_lower[near[0]])


def _approved(params: ToolHookParams) -> bool:
    approval = params.approval
    if approval is None or not approval.covers(params.tool_request):
        return False
    said: Any = approval.metadata
    return isinstance(said, Mapping) and said.get('toolApproved') is True


def _question(params: ToolHookParams) -> str:
    tool = params.tool.name
    if params.approval is None:
        return f'{tool} is not in allowed_tools and needs an approval'
    return f"{tool} was restarted without an approval: use restart_tool(…, metadata={{'toolApproved': True}})"
