"""What the tests of approvals share: servers of one app around one store, a bank that pays, and people who decide."""

from random import Random
from typing import Any

from lamella import ApprovalSettings, GenerateResponse, Lamella
from lamella.middleware import ToolApproval
from lamella.stores.memory import MemoryStore
from lamella.testing import CollectingSink, FakeClock, ScriptedModel
from lamella.types import ToolRequest

KEYS = {'k1': 'a secret of thirty-two bytes or more'}
ONE = ToolRequest('pay', {'amount': 1}, 'r1')
TWO = ToolRequest('pay', {'amount': 2}, 'r2')


class Bank:
    """A tool with a memory."""

    def __init__(self) -> None:
        self.paid: list[Any] = []
        self.error: BaseException | None = None

    async def pay(self, amount: int) -> str:
        """Pay somebody."""
        self.paid.append(amount)
        if self.error is not None:
            raise self.error
        return f'paid {amount}'


class Server:
    """One process of the app: its model says the script, its bank is its own, its store is shared."""

    def __init__(
        self,
        *script: Any,
        store: Any = None,
        clock: Any = None,
        settings: Any = None,
        streaming: bool = False,
        seed: int = 7,
    ) -> None:
        self.clock = clock or FakeClock()
        self.store = MemoryStore(clock=self.clock) if store is None else store
        self.sink, self.bank = CollectingSink(), Bank()
        self.ai = Lamella(
            model=ScriptedModel(list(script), name='bank/model'),
            store=self.store,
            clock=self.clock,
            random=Random(seed),
            sinks=[self.sink],
            approvals=settings or ApprovalSettings(keys=KEYS),
        )
        self.streaming = streaming
        self.options: dict[str, Any] = {'tools': [self.bank.pay], 'use': [ToolApproval()]}

    def other(self, *script: Any, seed: int = 8, **changes: Any) -> 'Server':
        """Another process of the same app."""
        settings = changes.pop('settings', self.ai.approval_settings)
        return Server(
            *script, store=self.store, clock=self.clock, settings=settings, streaming=self.streaming, seed=seed
        )

    async def ask(self, **options: Any) -> GenerateResponse:
        options = {**self.options, **options}
        if not self.streaming:
            return await self.ai.generate(**options)
        stream = self.ai.generate_stream(**options)
        self.parts = [part async for part in stream]
        return await stream.response

    async def interrupted(self, **options: Any) -> str:
        """One run that waits; the id of its first call."""
        response = await self.ask(**{'prompt': 'pay', 'durable': True, **options})
        assert response.stop_reason == 'interrupted'
        return str(response.interrupts[0].metadata['interrupt']['id'])

    async def resume(self, id: str, **options: Any) -> GenerateResponse:
        return await self.ask(resume=id, **options)
