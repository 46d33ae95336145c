"""What worker processes do in the tests of limits and idempotency (see tests/workers.py)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from lamella import Lamella, ModelResponse, Usage
from lamella.core.ports import Store
from lamella.middleware import BaseMiddleware, Idempotency, RateLimit
from lamella.testing import CollectingSink, ScriptedModel
from lamella.types import Rejected, ToolRequest
from tests.workers import say

AT_ONCE = 10


async def each(count: int, work: Callable[[int], Awaitable[None]]) -> None:
    """The work for each number, ten at a time."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with slots:
            await work(number)

    await asyncio.gather(*[one(number) for number in range(count)])


async def limited(ai: Lamella, calls: int, options: dict[str, Any], tokens: int = 0) -> dict[str, Any]:
    """So many calls through a rate limit: how many were answered, and when the first and the last one was."""
    answered, layer, began = 0, RateLimit(**options), time.monotonic()

    async def model(request: Any, ctx: Any) -> ModelResponse:
        return ModelResponse.text_of('ok', usage=Usage(total_tokens=tokens))

    async def one(number: int) -> None:
        nonlocal answered
        try:
            await ai.generate(model=model, prompt='hi', use=[layer])
            answered += 1
        except Rejected:
            pass

    await each(calls, one)
    return {'answered': answered, 'began': began, 'ended': time.monotonic()}


class Acts:
    """The tool `act`, which does something in the world: a line in a file, whoever does it."""

    def __init__(self, store: Store | str, path: str, sink: CollectingSink | None = None) -> None:
        self._store, self._path, self._sink = store, path, sink

    def done(self) -> list[str]:
        return Path(self._path).read_text().splitlines() if Path(self._path).exists() else []

    async def act(self, key: str) -> str:
        """Do it."""
        self._note(key)
        await asyncio.sleep(0.002)
        return f'{key} by {os.getpid()}'

    def _note(self, key: str) -> None:
        with open(self._path, 'ab', buffering=0) as file:
            file.write(f'{key}\n'.encode())

    async def ask(self, key: str, *use: Any) -> Any:
        """A run whose model asks for the act of that key. The tool's output."""
        model = ScriptedModel([ToolRequest('act', {'key': key}, 'r'), 'done'])
        ai = Lamella(model=model, store=self._store, sinks=[self._sink] if self._sink is not None else [])
        response = await ai.generate(prompt='go', tools=[self.act], use=use)
        return response.turns[0].tool_responses[0].tool_response.output


async def acted(store: Store, path: str, keys: int) -> dict[str, Any]:
    """Each key's act: the results by key."""
    acts, layer, results = Acts(store, path), Idempotency(tools=['act'], wait_s=120, lease_s=60), dict[str, Any]()

    async def one(number: int) -> None:
        results[f'k{number}'] = await acts.ask(f'k{number}', layer)

    await each(keys, one)
    return results


async def together(
    url: str, path: str, limits: list[tuple[int, dict[str, Any]]], tokens: int, acts: int
) -> dict[str, Any]:
    """All of it, on one store: so many calls through each of the limits, one after the other, and the acts."""
    async with Lamella(store=url) as ai:
        counts = [await limited(ai, calls, options, tokens) for calls, options in limits]
        return {'limits': counts, 'acts': await acted(ai.resolve_store(None), path, acts)}


async def through_an_outage(url: str, path: str, rounds: int, limit: dict[str, Any]) -> dict[str, Any]:
    """In each round a call through a limit that refuses and one that allows, and an act that is tried again while the store
    is away: how each ended, and what was told."""
    sink = CollectingSink()
    ended: dict[str, list[str]] = {'refusing': [], 'allowing': [], 'acts': []}
    layers = {
        'refusing': RateLimit(**limit),
        'allowing': RateLimit(**limit, scope='allowing', on_store_error='allow'),
    }
    once = Idempotency(tools=['act'], lease_s=5)
    async with Lamella(model=ScriptedModel(['ok'], repeat=True), store=url, sinks=[sink]) as ai:
        acts = Acts(ai.resolve_store(None), path, sink)
        for number in range(rounds):
            while (act := await _act_once(acts, f'k{number}', once)) == 'UNAVAILABLE':
                await _call_each(ai, layers, ended)
                await asyncio.sleep(0.02)
            ended['acts'].append(act)
            await _call_each(ai, layers, ended)
            if number == rounds // 5:
                say('under way')
    told = sorted({(event.facts['by'], event.facts['action']) for event in sink.named('store.away')})
    return {**ended, 'told': told}


async def _call_each(ai: Lamella, layers: dict[str, RateLimit], ended: dict[str, list[str]]) -> None:
    for name, layer in layers.items():
        try:
            await ai.generate(prompt='hi', use=[layer])
            ended[name].append('OK')
        except Rejected as error:
            ended[name].append(error.status)


async def _act_once(acts: Acts, key: str, once: Idempotency) -> str:
    try:
        await acts.ask(key, once)
        return 'done'
    except Rejected as error:
        return str(error.details.get('reason', error.status))


class StopsAt(BaseMiddleware):
    """Tells the test that the call has come to a point, and waits there to be killed."""

    def __init__(self, point: str) -> None:
        self.point = point

    async def wrap_tool(self, params: Any, ctx: Any, next_fn: Any) -> Any:
        await self.stop('before')
        response = await next_fn(params, ctx)
        await self.stop('after')
        return response

    async def stop(self, here: str) -> None:
        if here == self.point:
            say(here)
            await asyncio.Event().wait()


class Dying(Acts):
    """Acts that come to an end in the middle."""

    def __init__(self, store: Store, path: str, stop: StopsAt) -> None:
        super().__init__(store, path)
        self._stop = stop

    async def act(self, key: str) -> str:
        await self._stop.stop('begun')
        await super().act(key)
        await self._stop.stop('during')
        return key


async def dies_at(url: str, path: str, points: list[str], lease_s: float) -> None:
    """One act for each point, of the key that is named like it, and never further than to it."""
    await asyncio.gather(*[_stuck_at(url, path, point, lease_s) for point in points])


async def _stuck_at(url: str, path: str, point: str, lease_s: float) -> None:
    async with Lamella(store=url) as ai:
        store, stop = ai.resolve_store(None), StopsAt(point)
        release, acquire = store.release, store.acquire

        async def released(lease: Any) -> bool:
            await stop.stop('recorded')
            return await release(lease)

        async def acquired(key: str, ttl_s: float) -> Any:
            lease = await acquire(key, ttl_s)
            await stop.stop('leased')
            return lease

        store.release, store.acquire = released, acquired  # type: ignore[method-assign, assignment]
        await Dying(store, path, stop).ask(point, Idempotency(tools=['act'], lease_s=lease_s), stop)
