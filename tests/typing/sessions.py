"""What type checkers promise users about sessions and approvals. mypy reads this file; nothing runs it."""

from typing import assert_type

from lamella import ApprovalSettings, GenerateResponse, Lamella, Message, Session, ToolContext
from lamella.core.artifacts import Artifact, ArtifactInfo
from lamella.engine.approvals import ApprovalRecord, AuditEntry, TokenClaims
from lamella.middleware import ToolApproval

ai = Lamella(store='sqlite:///state.db', approvals=ApprovalSettings(app='bank', keep_context=('tenant',)))


async def sessions() -> None:
    session = ai.session('ann', on_busy='refuse')
    assert_type(session, Session)
    assert_type(await session.history(), tuple[Message, ...])
    assert_type(await session.artifacts.save('a.txt', b'x'), ArtifactInfo)
    assert_type(await session.artifacts.load('a.txt'), Artifact)
    assert_type(await ai.generate(prompt='hi', session=session), GenerateResponse)
    await ai.generate(prompt='hi', session='ann', durable=True)
    ai.session('ann', on_busy='queue')  # type: ignore[arg-type]
    await ai.generate(prompt='hi', session=7)  # type: ignore[arg-type]


async def tool(text: str, ctx: ToolContext) -> None:
    assert_type(ctx.session, Session | None)


async def approvals() -> None:
    assert_type(await ai.approvals.list(), tuple[ApprovalRecord, ...])
    assert_type(await ai.approvals.approve('run_x.1', by='ann'), ApprovalRecord)
    assert_type(await ai.approvals.resume('run_x.1'), GenerateResponse)
    assert_type(await ai.approvals.sign('run_x.1', 'deny', by='ann'), str)
    assert_type(ai.approvals.read('token'), TokenClaims)
    assert_type(await ai.approvals.audit(), tuple[AuditEntry, ...])
    await ai.approvals.approve('run_x.1')  # type: ignore[call-arg]
    await ai.approvals.sign('run_x.1', 'answer', by='ann')  # type: ignore[arg-type]
    await ai.approvals.list('nonsense')  # type: ignore[arg-type]


def policy(name: str, input: object, context: object) -> str:
    return 'ask'


ToolApproval(policy=policy, once_per_session='tool', durable=True)
ToolApproval(once_per_session='session')  # type: ignore[arg-type]
