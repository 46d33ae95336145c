"""Going on with an interrupted turn: what was decided is carried out, what is done stays done."""

from __future__ import annotations

from typing import Any

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.pending import Pending
from lamella.engine.interrupts import ToolRestart, answered, restarted
from lamella.engine.run import Run, said
from lamella.engine.tools import Answered, Job, answer_requests, sorted_answers
from lamella.types import LamellaError, ModelResponse, ToolRequestPart, ToolResponse, ToolResponsePart

Ctx = GenerateMiddlewareContext


async def resume(run: Run, ctx: Ctx) -> ModelResponse:
    """Carry out the decisions on an interrupted turn. Its response has all answers there are, old and new, in order.

    What was answered before stays as it is; what nobody decided on stays pending.
    """
    pending, run.pending = run.pending, None
    if pending is None:
        raise LamellaError('INTERNAL', 'there is nothing to resume')
    claims = run.claims = await run.ledger.take(run, ctx)
    by_ref = {decision.ref: decision for decision in run.decisions}
    known: dict[Any, Answered] = {**pending.answers}
    jobs: list[Job] = []
    for part in pending.open:
        decision = by_ref.get(part.tool_request.ref or '')
        if isinstance(decision, ToolRestart):
            jobs.append((*restarted(decision, part), claims.get(decision.ref)))
        elif decision is not None:
            known[decision.ref] = ToolResponsePart(answered(decision))
        else:
            known[part.tool_request.ref] = _still_open(part, ctx)
    for answer in await answer_requests(jobs, ctx) if jobs else ():
        known[_ref(answer)] = answer
    resumed = ModelResponse(message=pending.head[-1], finish_reason='tool_calls')
    resumed = sorted_answers(resumed, [known[part.tool_request.ref] for part in pending.requests])
    run.messages = (*pending.head[:-1], *said(resumed), *pending.behind)
    run.request = run.request.replace(messages=run.messages)
    run.is_over = not resumed.interrupts
    if resumed.interrupts:
        run.turns.append(resumed)
    await keep(run, ctx)
    return resumed if run.is_over else run.turns[-1]


async def keep(run: Run, ctx: Ctx) -> None:
    """Keep what the turn that has just ended has done: first the calls that wait, then the conversation."""
    if run.turns and run.turns[-1].interrupts:
        await run.ledger.note(run, ctx)
    if run.keeper is not None:
        await run.keeper.keep(run, ctx)


def _still_open(part: ToolRequestPart, ctx: Ctx) -> ToolRequestPart:
    note = {'message': 'still waiting for a decision', 'id': f'{ctx.random.getrandbits(128):032x}'}
    return part.replace(metadata={**(part.metadata or {}), 'interrupt': note})


def _ref(answer: Answered) -> str | None:
    return answer.tool_response.ref if isinstance(answer, ToolResponsePart) else answer.tool_request.ref


def new_answers(resumed: ModelResponse, before: Pending) -> list[ToolResponse]:
    """The answers that a resumption added."""
    return [part.tool_response for part in resumed.tool_responses if part.tool_response.ref not in before.answers]
