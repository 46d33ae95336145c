"""`LamellaPlugin`: layers around the tools of all agents of an app, and what happens in a run as events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.adk.plugins.base_plugin import BasePlugin

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.events import Sink
from lamella.core.middleware import BaseMiddleware
from lamella.core.params import ToolHookParams
from lamella.core.ports import Store
from lamella.core.stack import Stack
from lamella.core.tools import ToolContext
from lamella.engine.app import Lamella
from lamella.integrations.adk.plugins._confirmation import ask, decision
from lamella.integrations.adk.plugins._tools import Run, ToolCall, install
from lamella.types import (
    ConfigError,
    Interrupt,
    LamellaError,
    ToolError,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
    ungrouped,
)

Ctx = GenerateMiddlewareContext
Values = Mapping[str, Any] | Callable[[Any], Mapping[str, Any]]
MAX_RUNS = 4096


class LamellaPlugin(BasePlugin):
    """`App(plugins=[LamellaPlugin(use=[ToolApproval(), ToolTimeout(timeout_s=5)])])`: layers around every tool call.

    `use` are layers with `wrap_tool`, the outermost first; those around models belong to `LamellaLlm`. They stand right around
    the tool, inside of the callbacks of all plugins and agents, whatever their order.

    A layer that interrupts a call (`ToolApproval`) asks through the ADK's confirmation: the run ends with a call of
    `adk_request_confirmation`, and goes on when the user answers it. An approval is for that call and its exact input. A
    `ToolError` and a refused call are told to the model as `{'error': …}`; every other error is raised, as a tool's own.

    `context` are values that layers read, or a function of the ADK's invocation context that gives them; `app`, `user`,
    `session`, `invocation` and `agent` are always there. `sinks` receive `run.start`, `run.end`, `run.error`, `agent.start`,
    `agent.end`, `tool.start`, `tool.end`, `tool.interrupt`, `tool.error` and the layers' own events. Tools of live connections
    that stream are run by the ADK without the layers. Raises ConfigError for a layer that would never act.
    """

    def __init__(
        self,
        use: Sequence[BaseMiddleware[Any] | Stack] = (),
        *,
        name: str = 'lamella_plugin',
        sinks: Sequence[Sink] = (),
        context: Values | None = None,
        store: Store | str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name)
        self._ai = Lamella(use=use, sinks=list(sinks), store=store, **options)
        stack = self._ai.stack
        if idle := [repr(layer) for layer in stack.layers if layer._hooks and 'wrap_tool' not in layer._hooks]:
            raise ConfigError(
                f'use: {", ".join(idle)} would never act around a tool: give it to LamellaLlm(…, use=[…]), which is around '
                'models'
            )
        self._call = stack.around('wrap_tool', _innermost)
        self._context: Values = {} if context is None else context
        self._runs: dict[str, Ctx] = {}

    async def before_run_callback(self, *, invocation_context: Any) -> None:
        ctx = self._ctx(invocation_context)
        ctx.emit('run.start', model=None, streaming=_streams(invocation_context), **_of(invocation_context))

    async def after_run_callback(self, *, invocation_context: Any) -> None:
        ctx = self._runs.pop(invocation_context.invocation_id, None)
        if ctx is not None:
            ctx.emit('run.end', **_of(invocation_context))

    async def on_run_error_callback(self, *, invocation_context: Any, error: Exception) -> None:
        ctx = self._runs.pop(invocation_context.invocation_id, None)
        if ctx is not None:
            ctx.emit('run.error', error=error, **_of(invocation_context))

    async def before_agent_callback(self, *, agent: Any, callback_context: Any) -> None:
        self._ctx(callback_context.get_invocation_context()).emit('agent.start', agent=agent.name)

    async def after_agent_callback(self, *, agent: Any, callback_context: Any) -> None:
        self._ctx(callback_context.get_invocation_context()).emit('agent.end', agent=agent.name)

    async def before_tool_callback(
        self, *, tool: Any, tool_args: dict[str, Any], tool_context: Any
    ) -> dict[str, Any] | None:
        """Answers nothing itself, so that all other plugins are asked."""
        install(tool, LamellaPlugin)
        return None

    async def close(self) -> None:
        await self._ai.aclose()

    async def around_tool(self, run: Run, tool: Any, args: dict[str, Any], tool_context: Any) -> Any:
        """One execution of a tool in the layers: what the tool gave, as it is where no layer changed it."""
        ctx = self._ctx(tool_context.get_invocation_context())
        request = ToolRequest(tool.name, args, tool_context.function_call_id)
        decided = decision(tool_context, request)
        if isinstance(decided, str):
            return {'error': decided}
        call = ToolCall(tool, run, tool_context)
        params = ToolHookParams(ToolRequestPart(request), call, decided)
        started = ctx.clock.now()
        ctx.emit('tool.start', tool=request.name, ref=request.ref, input=args)
        try:
            response = await self._in_layers(params, ctx)
        except Interrupt as interrupt:
            ctx.emit('tool.interrupt', tool=request.name, ref=request.ref, message=interrupt.message)
            return ask(tool_context, request, interrupt)
        except ToolError as error:
            response = ToolResponse(request.name, str(error), request.ref, is_error=True)
        except BaseException as error:
            ctx.emit('tool.error', tool=request.name, ref=request.ref, error=error)
            raise
        took = ctx.clock.now() - started
        ctx.emit('tool.end', tool=request.name, ref=request.ref, is_error=response.is_error, duration_s=took)
        return call.said(response)

    async def _in_layers(self, params: ToolHookParams, ctx: Ctx) -> ToolResponse:
        try:
            response = await self._call(params, ctx)
        except BaseExceptionGroup as group:  # a layer's task group
            raise ungrouped(group) from None
        if not isinstance(response, ToolResponse):
            raise LamellaError(
                'FAILED_PRECONDITION',
                f'a layer around tool {params.tool.name!r} returned {type(response).__name__}: wrap_tool must return a '
                'ToolResponse',
            )
        return response

    def _ctx(self, invocation_context: Any) -> Ctx:
        """One for each invocation, of which layers may keep a state in it."""
        key = invocation_context.invocation_id
        known = self._runs.get(key)
        if known is None:
            given = self._context
            values = given(invocation_context) if callable(given) else given
            ai = self._ai
            known = Ctx(ai, {**_of(invocation_context), **values}, ai.clock, ai.random, None, False, ai.sinks)
            self._runs[key] = known
            while len(self._runs) > MAX_RUNS:
                self._runs.pop(next(iter(self._runs)), None)
        return known


async def _innermost(params: ToolHookParams, ctx: Ctx) -> ToolResponse:
    request, tool = params.tool_request, params.tool
    if isinstance(tool, ToolCall):
        return await tool.answer(request)
    return ToolResponse(request.name, await tool.execute(request.input, ToolContext(ctx, request.ref)), request.ref)


def _of(invocation_context: Any) -> dict[str, Any]:
    session = invocation_context.session
    return {
        'app': session.app_name,
        'user': session.user_id,
        'session': session.id,
        'invocation': invocation_context.invocation_id,
        'agent': getattr(invocation_context.agent, 'name', None),
    }


def _streams(invocation_context: Any) -> bool:
    mode = getattr(invocation_context.run_config, 'streaming_mode', None)
    return getattr(mode, 'value', None) == 'sse'
