"""`ToolApproval`: no tool runs that is not on the list or approved by somebody."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from difflib import get_close_matches
from inspect import isawaitable
from typing import Annotated, Any, Literal, TypedDict, Unpack

from pydantic import BaseModel, BeforeValidator, Field

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextTool
from lamella.core.order import Order
from lamella.core.params import ToolHookParams, digest_of
from lamella.middleware._fields import Switch, listed
from lamella.middleware._state import ask_store
from lamella.types import Interrupt, ToolResponse

Ctx = GenerateMiddlewareContext
Verdict = str | tuple[str, str]  # allow, ask or deny; with a reason
Policy = Callable[[str, Any, Mapping[str, Any]], Verdict | Awaitable[Verdict]]
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


def _policy(value: Any) -> Any:
    if value is not None and not callable(value):
        raise ValueError(f'is a {type(value).__name__}: give a function of (name, input, context)')
    return value


class ToolApprovalConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `ToolApproval`."""

    allowed_tools: Annotated[
        tuple[str, ...],
        BeforeValidator(_names),
        Field(description='Names of the tools that run without asking; * stands for any characters.'),
    ] = ()
    policy: Annotated[
        Any,
        BeforeValidator(_policy),
        Field(description='A function of (name, input, context) that says allow, ask or deny, for all other tools.'),
    ] = None
    once_per_session: Literal[False, True, 'tool', 'input'] = Field(
        default=False,
        description='Ask once in a session: for the same tool and input (True or "input"), or for the same tool ("tool").',
    )
    durable: Switch = Field(
        default=False, description="Keep calls that wait in the app's store, to be decided and resumed by any process."
    )


class ToolApprovalOptions(TypedDict, total=False):
    """The keywords of `ToolApproval`."""

    allowed_tools: Sequence[str]
    policy: Policy | None
    once_per_session: Literal[False, True, 'tool', 'input']
    durable: bool


class ToolApproval(BaseMiddleware[ToolApprovalConfig]):
    """Interrupts every tool call that is neither allowed nor approved.

    The call appears in `response.interrupts`; `restart_tool(interrupt, metadata={'toolApproved': True})`, given to
    `generate(resume_restart=[…])`, runs it, or a decision in `ai.approvals`. An approval holds for that request and its exact
    input, and once; what a message or a model claims is none. Layers outside of this one may still change the input between
    the approval and the call.

    `allowed_tools` takes exact names, and `*` for any characters (`read_*`): these run without asking. For all others,
    `policy(name, input, context)`, sync or async, says `allow`, `ask` or `deny`, or `('deny', reason)`; the reason of a denial
    is told to the model. It is not asked again about a call that was approved. A policy that fails, or says anything else,
    means `ask`; without one every call waits.

    Events: `tool_approval.wanted(tool, ref)`, `tool_approval.denied(tool, ref, reason)`, `tool_approval.remembered(tool, ref,
    by)`, `tool_approval.policy_failed(tool, ref, error)`, and, once in a run, `tool_approval.similar_name(tool, allowed)` for a
    blocked tool whose name is nearly that of one on the list.
    """

    order = Order(
        better_outside={'pii_redaction': 'a person would be asked about masks, and not about what will be done'}
    )

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
            await self._remember(params, ctx)
            return await next_fn(params, ctx)
        verdict, reason = await self._verdict(params, ctx)
        if verdict == 'allow' or (verdict == 'ask' and await self._is_remembered(params, ctx)):
            return await next_fn(params, ctx)
        if verdict == 'deny':
            ctx.emit('tool_approval.denied', tool=request.name, ref=request.ref, reason=reason)
            return ToolResponse(request.name, reason or f'{request.name} is not allowed', request.ref, is_error=True)
        ctx.emit('tool_approval.wanted', tool=request.name, ref=request.ref)
        self._hint(params.tool.name, ctx)
        note = {'tool': params.tool.name, 'by': self.name}
        raise Interrupt(reason or self._question(params), {**note, 'durable': True} if self.config.durable else note)

    async def _verdict(self, params: ToolHookParams, ctx: Ctx) -> tuple[str, str]:
        """What the policy says, and why; to ask, when there is none or when it fails."""
        if self.config.policy is None:
            return 'ask', ''
        try:
            said = self.config.policy(params.tool.name, params.tool_request.input, ctx.context)
            return _checked(await said if isawaitable(said) else said)
        except Exception as error:  # a policy that fails allows nothing
            request = params.tool_request
            ctx.emit('tool_approval.policy_failed', tool=request.name, ref=request.ref, error=error)
            return 'ask', f'{params.tool.name} needs an approval: its policy failed'

    async def _remember(self, params: ToolHookParams, ctx: Ctx) -> None:
        if not self.config.once_per_session or ctx.session is None or params.approval is None:
            return
        by = params.approval.metadata.get('approvedBy')
        note = ctx.session.notes.put(self._memory(params), by if isinstance(by, str) else '')
        await ask_store(self, ctx, note, 'allow', None)  # when it is not noted, the next call asks again

    async def _is_remembered(self, params: ToolHookParams, ctx: Ctx) -> bool:
        if not self.config.once_per_session or ctx.session is None:
            return False
        by = await ask_store(self, ctx, ctx.session.notes.get(self._memory(params)), 'allow', None)
        if by is not None:
            ctx.emit('tool_approval.remembered', tool=params.tool.name, ref=params.tool_request.ref, by=by)
        return by is not None

    def _memory(self, params: ToolHookParams) -> str:
        if self.config.once_per_session == 'tool':
            return f'{self.name}:tool:{params.tool.name}'
        return f'{self.name}:input:{params.tool.name}:{digest_of(params.tool_request)}'

    def allows(self, tool: str) -> bool:
        """Whether a tool of this name runs without asking."""
        return tool in self._exact or (self._patterns is not None and self._patterns.fullmatch(tool) is not None)

    def _question(self, params: ToolHookParams) -> str:
        tool = params.tool.name
        if params.approval is not None:
            return f"{tool} was restarted without an approval: use restart_tool(…, metadata={{'toolApproved': True}})"
        return f'{tool} {"is not in allowed_tools and " if self.config.policy is None else ""}needs an approval'

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


def _checked(said: Any) -> tuple[str, str]:
    verdict, reason = said if isinstance(said, tuple) and len(said) == 2 else (said, '')
    if verdict not in ('allow', 'ask', 'deny') or not isinstance(reason, str):
        raise ValueError(f"the policy said {said!r}: 'allow', 'ask' or 'deny', or a pair of one of these and a reason")
    return verdict, reason
