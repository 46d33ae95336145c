"""Running the tools that a model asks for: together, bounded, answers in the order of the requests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.params import Approval, ToolHookParams
from lamella.core.tools import Tool, ToolContext
from lamella.engine.interrupts import Claimed, interrupted
from lamella.types import (
    Interrupt,
    LamellaError,
    ModelResponse,
    ToolError,
    ToolRequestPart,
    ToolResponse,
    ToolResponsePart,
    did_you_mean,
    ungrouped,
)

Ctx = GenerateMiddlewareContext
Answered = ToolResponsePart | ToolRequestPart  # an answer, or the request that waits for a decision
Job = tuple[ToolRequestPart, Approval | None, Claimed | None]


async def execute_tool(params: ToolHookParams, ctx: Ctx) -> ToolResponse:
    """The innermost ring of a tool call. Raises what the tool raises."""
    request = params.tool_request_part.tool_request
    resumed = None if params.approval is None else params.approval.metadata
    output = await params.tool.execute(request.input, ToolContext(ctx, request.ref, resumed))
    return ToolResponse(request.name, output, request.ref)


async def answer_requests(jobs: Sequence[Job], ctx: Ctx) -> list[Answered]:
    """Each request's answer, in order. When one fails for good the others are cancelled and awaited first."""
    if len(jobs) == 1:
        return [await _answer(*jobs[0], ctx)]
    slots = asyncio.Semaphore(ctx.run.max_parallel_tools)

    broken = False

    async def bounded(job: Job) -> Answered:
        nonlocal broken
        async with slots:
            if broken:  # the slot came free because another tool failed
                raise asyncio.CancelledError
            try:
                return await _answer(*job, ctx)
            except BaseException:
                broken = True
                raise

    return await _together([bounded(job) for job in jobs])


async def _together(coroutines: Sequence[Coroutine[Any, Any, Answered]]) -> list[Answered]:
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        failed = [task for task in tasks if task in done and (task.cancelled() or task.exception() is not None)]
        if failed:
            await failed[0]
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(part: ToolRequestPart, approval: Approval | None, claim: Claimed | None, ctx: Ctx) -> Answered:
    """One request's answer; that of a kept call is begun once, and how it ended is noted."""
    if claim is None:
        return await _outcome(part, approval, ctx)
    await claim.start()
    try:
        answer = await _outcome(part, approval, ctx)
    except BaseException as error:
        await claim.failed(error)
        raise
    if isinstance(answer, ToolResponsePart):
        await claim.done(answer.tool_response)
        return answer
    ctx.run.raised.remove(answer)
    return await claim.again(answer)


async def _outcome(part: ToolRequestPart, approval: Approval | None, ctx: Ctx) -> Answered:
    request = part.tool_request
    if ctx.sinks:
        ctx.emit('tool.start', tool=request.name, ref=request.ref, input=request.input)
    started = ctx.clock.now()
    try:
        response = await _run(part, approval, ctx)
    except Interrupt as interrupt:
        ctx.emit('tool.interrupt', tool=request.name, ref=request.ref, message=interrupt.message)
        waiting = interrupted(part, interrupt, f'{ctx.random.getrandbits(128):032x}')
        ctx.run.raise_interrupt(waiting)
        return waiting
    except ToolError as error:
        response = ToolResponse(request.name, str(error), request.ref, is_error=True)
    except BaseException as error:
        ctx.emit('tool.error', tool=request.name, ref=request.ref, error=error)
        raise
    if ctx.sinks:
        took = ctx.clock.now() - started
        ctx.emit('tool.end', tool=request.name, ref=request.ref, is_error=response.is_error, duration_s=took)
    return ToolResponsePart(response)


async def _run(part: ToolRequestPart, approval: Approval | None, ctx: Ctx) -> ToolResponse:
    run, request = ctx.run, part.tool_request
    tool: Tool | None = run.tools.get(request.name)
    if tool is None:
        raise ToolError(f'unknown tool {request.name!r}{did_you_mean(request.name, list(run.tools))}')
    if isinstance(request.input, str) and tool.input_schema.get('type') == 'object':
        raise ToolError(f'invalid input for {tool.name}: not a JSON object but the text {request.input[:200]!r}')
    if approval is None and part.metadata is not None:
        part = part.replace(metadata=_claimless(part.metadata))
    try:
        response = await run.call_tool(ToolHookParams(part, tool, approval), ctx)
    except BaseExceptionGroup as group:  # a layer's task group
        raise ungrouped(group) from None
    if type(response) is not ToolResponse:
        raise LamellaError(
            'FAILED_PRECONDITION',
            f'a layer around tool {tool.name!r} returned {type(response).__name__}: wrap_tool must return a ToolResponse',
        )
    if response.ref != request.ref or response.name != request.name:
        response = response.replace(ref=request.ref, name=request.name)
    return response


def _claimless(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Without what a message may claim and only a decision may say."""
    return {key: value for key, value in metadata.items() if key != 'toolApproved'}


def tool_table(tools: Sequence[Tool], origins: Sequence[str]) -> dict[str, Tool]:
    """Tools by name. Raises INVALID_ARGUMENT when two have the same name, naming where each comes from."""
    table: dict[str, Tool] = {}
    places: dict[str, str] = {}
    for tool, origin in zip(tools, origins, strict=True):
        if tool.name in table and table[tool.name] is not tool:
            raise LamellaError(
                'INVALID_ARGUMENT',
                f'two tools are named {tool.name!r}, from {places[tool.name]} and from {origin}: rename one of them',
            )
        table[tool.name], places[tool.name] = tool, origin
    return table


def sorted_answers(response: ModelResponse, answers: Sequence[Answered]) -> ModelResponse:
    """The turn's response with what was answered and what waits."""
    return response.replace(
        tool_responses=tuple([part for part in answers if type(part) is ToolResponsePart]),
        interrupts=tuple([part for part in answers if type(part) is ToolRequestPart]),
    )
