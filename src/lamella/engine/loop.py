"""Turn after turn until the model is done, as a loop and not as a recursion."""

from __future__ import annotations

from collections.abc import Sequence

from lamella.core.bridge import answer_of
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.params import GenerateHookParams, ModelHookParams, RunHookParams
from lamella.core.tools import Tool
from lamella.engine.resuming import keep, resume
from lamella.engine.run import Run
from lamella.engine.tools import answer_requests, sorted_answers, tool_table
from lamella.types import GenerateResponse, ModelResponse, StopRun, ToolRequestPart, ungrouped

Ctx = GenerateMiddlewareContext


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
            if response.interrupts or (run.keeper is not None and response.tool_responses):
                await keep(run, ctx)
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
    if params.tools:
        _add_tools(run, params.tools)


def _add_tools(run: Run, added: Sequence[Tool]) -> None:
    """Beside the run's own. Raises INVALID_ARGUMENT when a name is taken."""
    own = run.own_tools.values()
    run.tools = tool_table([*own, *added], ['the call or a layer'] * len(own) + ["a layer's wrap_run"] * len(added))
    told = {tool.name for tool in run.request.tools}
    more = [tool.definition for tool in added if tool.name not in told]
    run.request = run.request.replace(tools=(*run.request.tools, *more))


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
        answers = await answer_requests([(part, None, None) for part in requests], ctx)
    except StopRun:
        ctx.run.turns.append(
            response
        )  # it was paid for; the conversation goes without it, since its requests have no answers
        raise
    return sorted_answers(response, answers)
