"""Which interrupted calls may still be decided on, so that no decision is acted on twice: of one process, without a store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Protocol

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.params import digest_of
from lamella.engine.run import Run
from lamella.types import ConfigError, Rejected, ToolRequest, ToolRequestPart, ToolResponse

Ctx = GenerateMiddlewareContext
REMEMBERED = 65_536


class Claimed(Protocol):
    """A decision on a kept call, while it is carried out."""

    async def start(self) -> None:
        """Before the tool. Raises Rejected when it was begun before."""

    async def done(self, response: ToolResponse) -> None:
        """The tool has answered."""

    async def failed(self, error: BaseException) -> None:
        """The tool has not."""

    async def again(self, part: ToolRequestPart) -> ToolRequestPart:
        """The call waits once more."""


class Ledger(Protocol):
    """What the engine asks of a ledger."""

    async def note(self, run: Run, ctx: Ctx) -> None:
        """The calls that were interrupted in the turn that has just ended wait for decisions from now on."""

    async def take(self, run: Run, ctx: Ctx) -> Mapping[str, Claimed]:
        """Take the right to act on all decisions of the run, or on none: Rejected for one that was used before.

        By the requests' ids, the claims of those calls that are kept.
        """


class MemoryLedger:
    """Of this process, the latest 65,536.

    An interrupt that is raised here grants one decision on that request and input, and a decision takes it. What messages
    or decisions claim of themselves plays no part. A call that was interrupted elsewhere is granted one decision here.
    """

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
