"""What other processes do in the tests of approvals."""

from typing import Any

from lamella import ApprovalSettings, Lamella, restart_tool
from lamella.core.stores import open_store
from lamella.middleware import ToolApproval
from lamella.testing import ScriptedModel
from lamella.types import Rejected, ToolRequest, to_messages


def app(url: str, *script: Any) -> Lamella:
    """The same app in every process; what its tool has done is counted in the store."""
    store = open_store(url)
    ai = Lamella(model=ScriptedModel(list(script)), store=store, approvals=ApprovalSettings(), use=[ToolApproval()])

    @ai.tool()
    async def pay(amount: int) -> str:
        """Pay somebody."""
        await store.add('paid', amount)
        return 'paid'

    return ai


async def ask(url: str) -> str:
    """A run that waits; the id of its call."""
    ai = app(url, ToolRequest('pay', {'amount': 1}, 'r1'))
    response = await ai.generate(prompt='pay', tools=['pay'], durable=True)
    await ai.resolve_store(None).aclose()
    return str(response.interrupts[0].metadata['interrupt']['id'])


async def paid(url: str) -> int:
    store = open_store(url)
    found = (await store.add('paid', 0)).value
    await store.aclose()
    return found


async def decide(url: str, id: str, by: str, yes: bool) -> list[Any]:
    """One who decides: whether it was the first, and who is said to have decided."""
    ai = app(url)
    try:
        record = await (ai.approvals.approve(id, by=by) if yes else ai.approvals.deny(id, by=by))
        return [True, record.decision.by if record.decision else None]
    except Rejected as refusal:
        return [False, refusal.details['by']]
    finally:
        await ai.resolve_store(None).aclose()


async def go_on(url: str, id: str) -> str:
    """One who goes on with the run: its answer, or why not."""
    ai = app(url, 'done')
    try:
        return (await ai.approvals.resume(id)).text
    except Rejected as refusal:
        return refusal.status
    finally:
        await ai.resolve_store(None).aclose()


async def go_on_with_arguments(url: str, messages: list[Any]) -> str:
    """One who brings the decision in the call's own arguments."""
    ai = app(url, 'done')
    part = to_messages(messages)[-1].tool_requests[0]
    yes = restart_tool(part, metadata={'toolApproved': True})
    try:
        return (await ai.generate(messages=messages, tools=['pay'], resume_restart=[yes])).text
    except Rejected as refusal:
        return refusal.status
    finally:
        await ai.resolve_store(None).aclose()
