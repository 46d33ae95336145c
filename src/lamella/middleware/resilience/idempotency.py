"""`Idempotency`: a tool that does something in the world does it once for each key."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict, Unpack

from pydantic import BaseModel, BeforeValidator, Field

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextTool
from lamella.core.order import Order
from lamella.core.params import ToolHookParams
from lamella.core.ports import Store
from lamella.middleware._acts import Act, broken_act, check_recordable, digest, finished_act
from lamella.middleware._claims import Claim, Claims
from lamella.middleware._fields import Count, Duration
from lamella.middleware._holds import Hold
from lamella.middleware._keys import part
from lamella.middleware._state import OnStoreError, StoreSetting, ask_store, unbroken
from lamella.middleware._tool_names import ToolNames, ToolSet
from lamella.types import Interrupt, LamellaError, Rejected, Status, ToolResponse

Ctx = GenerateMiddlewareContext
Scope = Literal['run', 'session', 'tenant', 'global']
OnUnknown = Literal['refuse', 'rerun', 'ask']
OnFailed = Literal['rerun', 'refuse']
ActKey = Callable[[ToolHookParams, Ctx], str | None]


def _some(names: Any) -> Any:
    if not names:
        raise ValueError("is empty: name the tools that must not run twice, such as ['send_mail']")
    return names


def _key(given: Any) -> Any:
    if given is None or (callable(given) and not isinstance(given, type) and not inspect.iscoroutinefunction(given)):
        return given
    raise ValueError(f'is {given!r}: give a plain function of (params, ctx) that returns a text')


class IdempotencyConfig(BaseModel, frozen=True, extra='forbid', arbitrary_types_allowed=True):
    """The settings of `Idempotency`."""

    tools: Annotated[
        ToolNames, BeforeValidator(_some), Field(description='The tools that run once, * for any characters.')
    ]
    key: Annotated[
        Any,
        BeforeValidator(_key),
        Field(
            description='What makes two calls of a tool the same: a function of (params, ctx); the whole input when None.'
        ),
    ] = None
    scope: Annotated[
        Scope, Field(description='Where a key is the same: in one run, one session, one tenant, or everywhere.')
    ] = 'session'
    lease_s: Annotated[
        Duration, Field(gt=0, description='After how long without a sign a running call counts as lost.')
    ] = 30.0
    wait_s: Annotated[Duration, Field(description='How long a second call waits for the first one; 0 refuses.')] = 30.0
    ttl_s: Annotated[Duration | None, Field(gt=0, description='How long a result is remembered; None for ever.')] = (
        86_400.0
    )
    on_unknown: Annotated[
        OnUnknown,
        Field(
            description='A call that may or may not have run: refuse it, run it again, or ask somebody (an interrupt).'
        ),
    ] = 'refuse'
    on_failed: Annotated[OnFailed, Field(description='A call that failed before: run it again, or refuse it.')] = (
        'rerun'
    )
    max_result_bytes: Annotated[Count, Field(description='Longer results are not kept.')] = 1_000_000
    store: Annotated[
        StoreSetting, Field(description="Where it is remembered: a store or a URL; the app's own when None.")
    ] = None
    on_store_error: Annotated[
        OnStoreError, Field(description='When the store is away: refuse the call, or run it unprotected.')
    ] = 'refuse'


class IdempotencyOptions(TypedDict, total=False):
    """The keywords of `Idempotency`."""

    tools: Sequence[str]
    key: ActKey | None
    scope: Scope
    lease_s: float
    wait_s: float
    ttl_s: float | None
    on_unknown: OnUnknown
    on_failed: OnFailed
    max_result_bytes: int
    store: Store | str | None
    on_store_error: OnStoreError


class Idempotency(BaseMiddleware[IdempotencyConfig]):
    """Runs each of `tools` once for a key: the tool, its input (or what `key` returns) and the `scope`. A second call, in
    any process that shares the store, waits for the first one's result and is answered with it.

    Before a tool runs, the store says so, and a lease shows that its process lives. When that ends without a result the
    outcome is unknown, and the call is refused: a lost lease is no second execution, unless `on_unknown` says so. A tool that
    failed may run again (`on_failed`); one that was interrupted has not run. A tool that does not know its own outcome says so
    with `ToolError(…, details={'outcome': 'unknown'})`.

    `context['idempotency_key']` names the caller's act (an order, a job) and stands in the place of the run and the session.
    Tenants (`context['tenant']`) never share a key, unless the scope is `global`.

    Events, each with `tool`, `ref` and `key`: `idempotency.replayed`, `idempotency.waiting`, `idempotency.refused(reason)`,
    `idempotency.rerun(reason)`, `idempotency.unrecorded(reason)`, `idempotency.lease_lost`; and `store.away`. A repeated answer
    has `metadata['idempotency'] = {'replayed', 'run', 'at'}` on its `ToolResponse`.
    """

    order = Order(
        better_inside={
            'tool_approval': 'a recorded result would be given without asking',
            'tool_timeout': 'a tool that was cut off would count as failed, and run again while it may still be running',
            'tool_output_truncation': 'only a part of the result would be kept',
        }
    )

    def __init__(self, config: IdempotencyConfig | None = None, **options: Unpack[IdempotencyOptions]) -> None:
        super().__init__(config, **options)
        self._tools = ToolSet(self.config.tools)

    async def wrap_tool(self, params: ToolHookParams, ctx: Ctx, next_fn: NextTool) -> ToolResponse:
        if params.tool.name not in self._tools:
            return await next_fn(params, ctx)
        check_recordable(params.tool)
        c = self.config
        store = ctx.ai.resolve_store(c.store)
        claims = Claims(store, self._key_of(params, ctx), ctx.clock, ctx.run_id, c.lease_s, c.ttl_s)
        claimed = await ask_store(self, ctx, self._claim(claims, params, ctx), c.on_store_error, None)
        if claimed is None:
            return await next_fn(params, ctx)
        if isinstance(claimed, Act):
            return self._answer(claimed, claims.key, params, ctx)
        return await self._run(claimed, claims, params, ctx, next_fn)

    def _key_of(self, params: ToolHookParams, ctx: Ctx) -> str:
        """Raises ConfigError for an input that cannot be compared, FAILED_PRECONDITION for a key that is no text."""
        own = self.config.key(params, ctx) if self.config.key is not None else None
        if own is not None and not isinstance(own, str):
            raise LamellaError('FAILED_PRECONDITION', f'key= returned {type(own).__name__}: return a text, or None')
        what = ['input', params.tool_request.input] if own is None else ['key', own]
        return f'idempotency:{part(params.tool.name)}:{digest(_place(self.config.scope, ctx), what)}'

    async def _claim(self, claims: Claims, params: ToolHookParams, ctx: Ctx) -> Claim | Act:
        """The right to run, or what is known of the act. Raises what the store raises."""
        facts = _facts(claims.key, params)
        lease = await claims.lease(self.config.wait_s, lambda: ctx.emit('idempotency.waiting', **facts))
        if isinstance(lease, Act):
            return lease
        claimed = None
        try:
            claimed = await claims.claim(lease, lambda act: self._runs_again(act, params, ctx, facts))
            return claimed
        finally:
            if not isinstance(claimed, Claim):
                verb = unbroken(claims.store, claims.store.release(lease))
                await ask_store(self, ctx, verb, 'allow', False)

    def _runs_again(self, act: Act, params: ToolHookParams, ctx: Ctx, facts: dict[str, Any]) -> bool:
        c = self.config
        again = c.on_failed == 'rerun' if act.state == 'failed' else act.state == 'unknown' and _is_consented(c, params)
        if again:
            ctx.emit('idempotency.rerun', **facts, reason=act.state)
        return again

    async def _run(
        self, claim: Claim, claims: Claims, params: ToolHookParams, ctx: Ctx, next_fn: NextTool
    ) -> ToolResponse:
        def on_trouble(error: LamellaError | None) -> None:
            if error is None:
                ctx.emit('idempotency.lease_lost', **_facts(claims.key, params))
            else:
                ctx.emit('store.away', by=self.name, action='allow', error=error)

        async def record(act: Act, data: bytes) -> None:
            if why := await claims.record(claim, act, data, on_trouble) or (act.why if act.state == 'done' else ''):
                ctx.emit('idempotency.unrecorded', **_facts(claims.key, params), reason=why)

        hold = Hold(claims.store, ctx.clock, claim.lease, self.config.lease_s, on_trouble)
        try:
            response = await next_fn(params, ctx)
        except Interrupt:  # it has not run
            await ask_store(self, ctx, unbroken(claims.store, claims.undo(claim)), 'allow', None)
            raise
        except BaseException as error:
            act = broken_act(error, ctx.clock.time(), ctx.run_id)
            await record(act, act.encoded())
            raise
        else:
            await record(*finished_act(response, ctx.clock.time(), ctx.run_id, self.config.max_result_bytes))
        finally:
            await hold.let_go()
        return response

    def _answer(self, act: Act, key: str, params: ToolHookParams, ctx: Ctx) -> ToolResponse:
        """The recorded result. Raises Rejected where there is none, or an Interrupt that asks."""
        request = params.tool_request
        if act.state == 'done' and not act.why:
            ctx.emit('idempotency.replayed', **_facts(key, params))
            note = {'idempotency': {'replayed': True, 'run': act.by, 'at': act.at}}
            return ToolResponse(request.name, act.output, request.ref, metadata=note)
        message = self._sentence(act, params.tool.name, ctx.clock.time())
        if act.state == 'unknown' and self.config.on_unknown == 'ask':
            raise Interrupt(message, {'tool': params.tool.name, 'by': self.name, 'key': key})
        reason = 'unkept' if act.state == 'done' else act.state
        ctx.emit('idempotency.refused', **_facts(key, params), reason=reason)
        status: Status = 'ABORTED' if reason == 'running' else 'FAILED_PRECONDITION'
        raise Rejected(message, by=self, status=status, details={'key': key, 'reason': reason})

    def _sentence(self, act: Act, tool: str, now: float) -> str:
        ago = f'{max(0.0, now - act.at):.0f} s ago'
        if act.state == 'running':
            return f'{tool} is running with the same key already, without a result after wait_s={self.config.wait_s:g}'
        if act.state == 'done':
            return f'{tool} has run with this key {ago}, but {act.why}: it is not run again'
        if act.state == 'failed':
            return f"{tool} has failed with this key {ago} ({act.why}): on_failed='refuse' does not run it again"
        again = "on_unknown='rerun' would run it again"
        if self.config.on_unknown == 'ask':
            again = "restart_tool(…, metadata={'runAgain': True}) runs it again, respond_to_tool(…) gives its result"
        return f'{tool} was called with this key {ago} and may or may not have run: {act.why}. Find out first; {again}'


def _facts(key: str, params: ToolHookParams) -> dict[str, Any]:
    return {'tool': params.tool.name, 'ref': params.tool_request.ref, 'key': key}


def _place(scope: Scope, ctx: Ctx) -> list[Any]:
    """Where a key is the same. The caller's own name for the act stands in the place of the run or the session."""
    named, tenant, session = (_text(ctx.context.get(name)) for name in ('idempotency_key', 'tenant', 'session'))
    if scope == 'global':
        return ['global', named]
    if named is not None:
        return ['named', tenant, named]
    if scope == 'run':
        return ['run', tenant, ctx.run_id]
    return ['session', tenant, session] if scope == 'session' and session is not None else ['tenant', tenant]


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _is_consented(config: IdempotencyConfig, params: ToolHookParams) -> bool:
    """Whether the user wants it run again though it may have run: by the settings, or by restarting this very call."""
    approval = params.approval
    if config.on_unknown != 'ask' or approval is None or not approval.covers(params.tool_request):
        return config.on_unknown == 'rerun'
    said: Any = approval.metadata
    return isinstance(said, Mapping) and said.get('runAgain') is True
