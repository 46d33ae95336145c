"""What worker processes do to a store that they share (see tests/workers.py)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from typing import Any, TypeVar

from lamella.core.ports import Addition, Bucket, Store
from lamella.stores import open_store
from lamella.types import LamellaError
from tests.workers import say

T = TypeVar('T')


async def every_verb(url: str, worker: int, times: int) -> dict[str, Any]:
    """`times` calls of each family of verbs, on the same keys as all the others. What this worker got."""
    store = open_store(url)
    try:
        return {
            'put': await put_if_absent(store, worker, times),
            'compared': await compare_and_put(store, times),
            'added': await add(store, times),
            'both': await add_all(store, times),
            'taken': await take(store, times),
            'held': await hold(store, times // 4),
            'positions': [await store.append('log', f'{worker}:{n}'.encode()) for n in range(times)],
            'listed': [await store.put(f'listed:{worker}:{n}', b'x', listed='list') for n in range(times)],
        }
    finally:
        await store.aclose()


async def put_if_absent(store: Store, worker: int, times: int) -> int:
    found = [await store.put_if_absent(f'first:{n}', str(worker).encode()) for n in range(times)]
    return found.count(None)


async def compare_and_put(store: Store, times: int) -> int:
    """One more in a number that everybody counts up: how often this worker had its way."""
    won = 0
    for _ in range(times):
        found = await store.get('number')
        number, version = (int(found.value), found.version) if found else (0, 0)
        won += await store.compare_and_put('number', version, str(number + 1).encode()) is not None
    return won


async def add(store: Store, times: int) -> int:
    return sum([(await store.add('calls', ceiling=1000, expire_s=3600)).added for _ in range(times)])


async def add_all(store: Store, times: int) -> int:
    """The second ceiling is met first; what is over is given back now and then."""
    both = [Addition('requests', 1, 10_000, 3600), Addition('tokens', 10, 5_000, 3600)]
    added = 0
    for n in range(times):
        counts = await store.add_all(both)
        added += counts[0].added
        if counts[0].added and n % 10 == 0:
            await store.add_all(
                [one.replace(amount=-one.amount, window=count.window) for one, count in zip(both, counts, strict=True)]
            )
            added -= 1
    return added


async def take(store: Store, times: int) -> int:
    buckets = [Bucket('bucket:calls', 1e-6, 500), Bucket('bucket:tokens', 1e-6, 100_000, 100)]
    taken = 0
    for n in range(times):
        granted = (await store.take(buckets)).granted
        taken += granted
        if granted and n % 10 == 0:
            await store.settle([bucket.replace(amount=-bucket.amount) for bucket in buckets])
            taken -= 1
    return taken


async def hold(store: Store, times: int) -> list[int]:
    """A get and a put, with a lease around them. The tokens, in order."""
    tokens = []
    while len(tokens) < times:
        lease = await store.acquire('lease', 600)
        if lease is None:
            await asyncio.sleep(0.005)
            continue
        found = await store.get('guarded')
        await store.put('guarded', str(int(found.value) + 1 if found else 1).encode())
        tokens.append(lease.token)
        await store.release(lease)
    return tokens


async def through_an_outage(url: str, worker: int, wanted: int) -> dict[str, Any]:
    """Goes on until `wanted` of each were acknowledged, whatever happens to the server. What was, and what nobody knows of."""
    store = open_store(url)
    acknowledged: dict[str, list[str]] = {'log': [], 'value': [], 'count': []}
    unknown: dict[str, list[str]] = {'log': [], 'value': [], 'count': []}
    errors: Counter[str] = Counter()

    async def attempt(kind: str, name: str, verb: Awaitable[T]) -> None:
        try:
            await verb
            acknowledged[kind].append(name)
        except LamellaError as error:
            errors[f'{error.status}: {error.message}'] += 1
            unknown[kind].append(name)
            await asyncio.sleep(0.02)

    number = 0
    while min(map(len, acknowledged.values())) < wanted:
        number += 1
        name = f'{worker}:{number}'
        await asyncio.gather(
            attempt('log', name, store.append('log', name.encode())),
            attempt('value', name, store.put_if_absent(f'value:{name}', name.encode())),
            attempt('count', name, store.add('count', 1)),
        )
        if number % 40 == 0:
            say(number)
    await store.aclose()
    return {'acknowledged': acknowledged, 'unknown': unknown, 'errors': errors}


async def hold_for_ever(url: str, ttl_s: float) -> None:
    store = open_store(url)
    lease = await store.acquire('lease', ttl_s)
    say(None if lease is None else lease.token)
    await asyncio.Event().wait()


async def see_time(url: str, name: str) -> dict[str, Any]:
    """What one process begins and the other finds, each by its own clock."""
    store = open_store(url)
    try:
        lease = await store.acquire('lease', 60)
        await store.put(name, b'x', expire_s=60)
        count = await store.add('count', 1, expire_s=60)
        taken = await store.take([Bucket('bucket', rate=1 / 60, burst=1)])
        return {'held': lease is not None, 'value': count.value, 'left': count.expires_in_s, 'taken': taken.granted}
    finally:
        await store.aclose()


async def append_for_ever(url: str) -> None:
    store = open_store(url)
    while True:
        say(await store.append('log', b'x'))
        await store.add('count', 1)
