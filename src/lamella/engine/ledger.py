"""Which interrupted calls may still be decided on, so that no decision is acted on twice: of one process, without a store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.params import digest_of
from lamella.engine.interrupts import Claimed
from lamella.engine.run import Run
from lamella.types import ConfigError, GenerateResponse, Rejected, ToolRequest, ToolRequestPart

Ctx = GenerateMiddlewareContext
REMEMBERED = 65_536


class MemoryLedger:
    """Of this process, the latest 65,536.

    An interrupt that is raised here grants one decision on that request and input, and a decision takes it. What messages
    or decisions claim of themselves plays no part. A call that was interrupted elsewhere is granted one decision here.
    """

    keeps = False

    def __init__(self) -> None:
        self._granted: OrderedDict[tuple[str, str], int] = OrderedDict()

    async def note(self, run: Run, ctx: Ctx) -> None:
        raised = run.take_raised()
        if is_durable(run, raised):
            raise ConfigError(
                'this call is to be kept until it is decided (durable=True), and the app has no store: '
                "Lamella(store='sqlite:///state.db')"
            )
        for part in raised:
            key = _key(part.tool_request)
            self._set(key, self._granted.get(key, 0) + 1)

    async def take(self, run: Run, ctx: Ctx) -> Mapping[str, Claimed]:
        keys = [(decision.ref, decision.digest) for decision in run.decisions]
        for key, decision in zip(keys, run.decisions, strict=True):
            if self._granted.get(key, 1) < 1:
                raise used(decision.name, decision.ref)
        for key in keys:
            self._set(key, self._granted.get(key, 1) - 1)
        return {}

    async def end(self, run: Run) -> None:
        """Nothing is kept here."""

    def _set(self, key: tuple[str, str], grants: int) -> None:
        self._granted[key] = grants
        self._granted.move_to_end(key)
        if len(self._granted) > REMEMBERED:
            self._granted.popitem(last=False)


def _key(request: ToolRequest) -> tuple[str, str]:
    return request.ref or '', digest_of(request)


def is_durable(run: Run, raised: tuple[ToolRequestPart, ...]) -> bool:
    """Whether the caller, or a layer or tool that interrupts, wants the calls kept until they are decided."""
    wanted = run.options.get('durable')
    if wanted is not None:
        return bool(wanted)
    return any((part.metadata or {}).get('interrupt', {}).get('durable') is True for part in raised)


def used(name: str, ref: str) -> Rejected:
    """A decision that was acted on before."""
    return Rejected(
        f'the decision on {name!r} (id {ref}) was already used: a decision counts once',
        by='interrupts',
        status='PERMISSION_DENIED',
    )


class Deciding:
    """The keeper of a run whose decisions came with the call: kept calls among them are noted as gone on."""

    @property
    def hold(self) -> AbstractAsyncContextManager[Any]:
        return nullcontext()

    async def begin(self, run: Run, ctx: Ctx) -> None:
        """Nothing to do: the caller has brought everything."""

    async def keep(self, run: Run, ctx: Ctx) -> None:
        """The caller has the conversation."""

    async def end(self, response: GenerateResponse, run: Run, ctx: Ctx) -> None:
        if run.is_over:
            await run.ledger.end(run)

    async def leave(self) -> None:
        """Nothing is held."""
