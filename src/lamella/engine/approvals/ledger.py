"""The ledger of an app with a store: one truth for all processes, of calls that are kept and of those that are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.packing import hashed, pack, unpack
from lamella.core.params import digest_of
from lamella.engine.approvals.claims import Claim
from lamella.engine.approvals.desk import desk_of
from lamella.engine.approvals.records import VERBS, Decision, SavedRun, Stand, parse_id
from lamella.engine.approvals.saving import saved_run
from lamella.engine.interrupts import Claimed, ToolRestart, answered
from lamella.engine.interrupts import Decision as Decided
from lamella.engine.ledger import is_durable, used
from lamella.engine.run import Run
from lamella.types import Data, LamellaError, Rejected, ToolRequestPart

Ctx = GenerateMiddlewareContext
CALLER = "the call's own arguments"


class _Grants(Data, frozen=True):
    """Of one request and input in one session: how many decisions may still be acted on, and the kept calls."""

    plain: int = 0
    kept: tuple[str, ...] = ()


class StoreLedger:
    """Interrupted calls that are durable are kept, with their run; of others it is noted how many decisions they are worth.

    A call that nobody here has ever interrupted is granted one decision, once for all processes.
    """

    keeps = True

    def __init__(self, ai: Any) -> None:
        self._desk = desk_of(ai)

    async def note(self, run: Run, ctx: Ctx) -> None:
        raised, scope = run.take_raised(), _scope(ctx)
        if not raised:
            await self._show(run, scope)
            return
        if not self._is_kept(run, ctx, raised):
            for part in raised:
                request = part.tool_request
                await self._change(scope, request.ref or '', digest_of(request), lambda g: g.replace(plain=g.plain + 1))
            await self._show(run, scope)
            return
        await self._keep(saved_run(await self._new_id(ctx), run, ctx, raised, self._desk.settings), scope, ctx)
        await self._show(run, scope)

    async def _show(self, run: Run, scope: str) -> None:
        """Each call that is kept is shown with its id."""
        shown = []
        for part in run.turns[-1].interrupts:
            grants = await self._grants(scope, part.tool_request.ref or '', digest_of(part.tool_request))
            shown.append(_with_id(part, await self._waiting(grants)))
        run.show_interrupts(shown)

    async def _waiting(self, grants: _Grants) -> str | None:
        for id in reversed(grants.kept):
            stand = await self._desk.stand(id)
            if stand is not None and stand.state in ('pending', 'decided'):
                return id
        return None

    async def end(self, run: Run) -> None:
        """Runs whose calls were all carried out, and which have gone on since, are listed no more."""
        ids = {parse_id(claim.id)[0] for claim in (run.claims or {}).values()}
        if run.resumption is not None:
            ids.add(run.resumption.id)
        for id in ids:
            await self._desk.close(id)

    def _is_kept(self, run: Run, ctx: Ctx, raised: tuple[ToolRequestPart, ...]) -> bool:
        if run.options.get('durable') is False:
            return False
        return self._desk.settings.always or ctx.session is not None or is_durable(run, raised)

    async def _new_id(self, ctx: Ctx) -> str:
        while True:
            id = f'run_{ctx.random.getrandbits(128):032x}'
            if not await self._desk.has(id):
                return id

    async def _keep(self, saved: SavedRun, scope: str, ctx: Ctx) -> None:
        """The grants come first: after a crash in between, a decision on these calls is worth nothing, and not two."""
        for call in saved.calls:
            await self._change(scope, call.request.ref or '', call.digest, _adding(f'{saved.id}.{call.number}'))
        await self._desk.create(saved)
        for call in saved.calls:
            facts = {'tool': call.request.name, 'ref': call.request.ref}
            ctx.emit('approval.requested', id=f'{saved.id}.{call.number}', **facts)

    async def take(self, run: Run, ctx: Ctx) -> Mapping[str, Claimed]:
        if run.resumption is not None:
            return await run.resumption.take(ctx)
        scope = _scope(ctx)
        found = [(decision, await self._kept_id(scope, decision)) for decision in run.decisions]
        plain = [decision for decision, id in found if id is None]
        taken: list[Decided] = []
        try:
            for decision in plain:
                await self._take_plain(scope, decision)
                taken.append(decision)
            return {decision.ref: await self._decide(id, decision, ctx) for decision, id in found if id is not None}
        except BaseException:
            for decision in taken:
                await self._change(scope, decision.ref, decision.digest, lambda g: g.replace(plain=g.plain + 1))
            raise

    async def _kept_id(self, scope: str, decision: Decided) -> str | None:
        """The kept call that a decision is about, if any: by its id, or by its request and input. Raises Rejected."""
        if await self._names(scope, decision):
            await self._check_open(decision.decision, decision)
            return decision.decision
        grants = await self._grants(scope, decision.ref, decision.digest)
        return await self._waiting(grants)

    async def _names(self, scope: str, decision: Decided) -> bool:
        try:
            run_id, number = parse_id(decision.decision)
            saved = await self._desk.run(run_id)
            call = saved.call(number or 0)
        except LamellaError as error:
            if error.status == 'NOT_FOUND':
                return False
            raise
        if saved.session_key != scope:
            raise _of_another('session', decision)
        if (call.request.ref, call.digest) != (decision.ref, decision.digest):
            raise _of_another('input', decision)
        return True

    async def _check_open(self, id: str, decision: Decided) -> None:
        stand = await self._desk.stand(id)
        if stand is not None and stand.state not in ('pending', 'decided'):
            raise used(decision.name, decision.ref)

    async def _decide(self, id: str, decision: Decided, ctx: Ctx) -> Claim:
        """Make the decision of this call's arguments count, unless somebody was first."""
        now = self._desk.clock.time()
        if isinstance(decision, ToolRestart):
            made = Decision('approve', CALLER, now, decision.edited)
        else:
            made = Decision('deny' if decision.is_error else 'answer', CALLER, now, output=decision.output)

        def change(stand: Stand) -> Stand:
            return stand.replace(state='decided', decision=made)

        await self._desk.move(id, VERBS[made.kind], CALLER, _is_pending, change)
        claim = Claim(self._desk, id, ctx)
        if not isinstance(decision, ToolRestart):
            await claim.settle(answered(decision))
        return claim

    async def _take_plain(self, scope: str, decision: Decided) -> None:
        key = self._key(scope, decision.ref, decision.digest)
        if await self._desk.store.put_if_absent(key, pack(_Grants(), 'a grant'), expire_s=self._lasts_s) is None:
            return  # nobody here has interrupted it: the first decision counts

        def take(grants: _Grants) -> _Grants:
            if grants.plain < 1:
                raise used(decision.name, decision.ref)
            return grants.replace(plain=grants.plain - 1)

        await self._change(scope, decision.ref, decision.digest, take)

    async def _grants(self, scope: str, ref: str, digest: str) -> _Grants:
        stored = await self._desk.store.get(self._key(scope, ref, digest))
        return _Grants() if stored is None else unpack(stored.value, _Grants, 'a grant')

    async def _change(self, scope: str, ref: str, digest: str, change: Callable[[_Grants], _Grants]) -> None:
        key = self._key(scope, ref, digest)
        while True:
            stored = await self._desk.store.get(key)
            grants = _Grants() if stored is None else unpack(stored.value, _Grants, 'a grant')
            value = pack(change(grants), 'a grant')
            version = 0 if stored is None else stored.version
            if await self._desk.store.compare_and_put(key, version, value, expire_s=self._lasts_s) is not None:
                return

    def _key(self, scope: str, ref: str, digest: str) -> str:
        return self._desk.key('grant', hashed(scope, ref, digest))

    @property
    def _lasts_s(self) -> float:
        return 2 * self._desk.settings.expires_s + self._desk.settings.kept_s


def _scope(ctx: Ctx) -> str:
    return '' if ctx.session is None else ctx.session.key


def _adding(id: str) -> Callable[[_Grants], _Grants]:
    return lambda grants: grants.replace(kept=(*grants.kept[-15:], id))


def _with_id(part: ToolRequestPart, id: str | None) -> ToolRequestPart:
    if id is None:
        return part
    metadata = part.metadata or {}
    return part.replace(metadata={**metadata, 'interrupt': {**metadata.get('interrupt', {}), 'id': id}})


def _is_pending(stand: Stand) -> bool:
    return stand.state == 'pending'


def _of_another(what: str, decision: Decided) -> Rejected:
    return Rejected(
        f'the decision on {decision.name!r} (id {decision.ref}) was made for another {what}',
        by='interrupts',
        status='PERMISSION_DENIED',
    )
