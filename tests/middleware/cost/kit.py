"""What the tests of money share: priced answers, a store that goes away, and the work of processes."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from lamella import Lamella, LamellaError, ModelResponse, Usage
from lamella.core.stores import open_store
from lamella.middleware import BaseMiddleware, Cache, TenantBudget
from lamella.stores.memory import MemoryStore
from lamella.types import Rejected

# A dollar for each token that is read, two for each that is written.
PRICES = {'v/*': {'input_per_mtok': 1_000_000, 'output_per_mtok': 2_000_000}}
USED = Usage(1, 1, 2)


def answer(usage: Usage | None = USED, text: str = 'ok', **fields: Any) -> ModelResponse:
    return ModelResponse.text_of(text, usage=usage, **fields)


def failed(usage: Usage | None = USED, status: Any = 'UNAVAILABLE') -> Any:
    return lambda request: LamellaError(status, 'down', partial=ModelResponse(usage=usage))


class Away(MemoryStore):
    """A store whose server can be down."""

    is_away = False

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith('_') or not asyncio.iscoroutinefunction(found) or not self.is_away:
            return found

        async def away(*args: Any, **options: Any) -> Any:
            raise LamellaError('UNAVAILABLE', 'connection refused')

        return away


class Slow:
    """A store behind a network: every verb is done at once, and its answer takes a while."""

    def __init__(self, inner: MemoryStore) -> None:
        self._inner = inner
        self.reply = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._inner, name)

        async def later(*args: Any, **options: Any) -> Any:
            result = await verb(*args, **options)
            await self.reply.wait()
            return result

        return later if asyncio.iscoroutinefunction(verb) else verb


async def spend(
    url: str, layer: dict[str, Any], calls: int, seed: int, most: int, at_once: int = 25, tenant: str = 'acme'
) -> dict[str, Any]:
    """In a process of its own: so many calls of one tenant, `at_once` at a time, each of up to `most` output tokens. What was
    let through and what that used."""
    random, used, let_through, refused = Random(seed), 0, 0, 0

    async def model(request: Any, ctx: Any) -> ModelResponse:
        nonlocal used, let_through
        await asyncio.sleep(random.random() / 200)
        said = random.randint(0, most)
        used += said
        let_through += 1
        return answer(Usage(0, said, said))

    ai = Lamella(model=model, store=url, prices={'*': {'input_per_mtok': 0, 'output_per_mtok': 1_000_000}})
    budget, slots = TenantBudget(**layer), asyncio.Semaphore(at_once)

    async def one() -> None:
        nonlocal refused
        async with slots:
            try:
                await ai.generate(
                    prompt='hi', use=[budget], context={'tenant': tenant}, config={'max_output_tokens': most}
                )
            except Rejected:
                refused += 1

    await asyncio.gather(*[one() for _ in range(calls)])
    await ai.aclose()
    return {'used': used, 'let_through': let_through, 'refused': refused}


async def ask_the_same(url: str, layer: dict[str, Any], calls: int, prompts: int, at_once: int = 25) -> dict[str, int]:
    """In a process of its own: so many calls over a few prompts. Each call that reaches the model is counted in the store."""
    store, outcomes = open_store(url), {'hit': 0, 'asked': 0, 'failed': 0}

    async def model(request: Any, ctx: Any) -> ModelResponse:
        await store.add(f'asked:{request.messages[0].text}')
        await asyncio.sleep(0.02)
        return answer(text=request.messages[0].text)

    ai, cache, slots = Lamella(model=model, store=url), Cache(**layer), asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with slots:
            prompt = f'prompt {number % prompts}'
            response = await ai.generate(prompt=prompt, use=[cache], context={'tenant': 'acme'})
            outcomes['hit' if response.metadata['cache']['hit'] else 'asked'] += 1
            outcomes['failed'] += response.text != prompt

    await asyncio.gather(*[one(number) for number in range(calls)])
    await ai.aclose()
    await store.aclose()
    return outcomes


class Holding(BaseMiddleware):
    """Keeps a call open until it is let go, inside of what stands before it."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = asyncio.Event()
        self.go = asyncio.Event()

    async def wrap_model(self, params, ctx, next_fn):
        self.inside.set()
        await self.go.wait()
        return await next_fn(params, ctx)
