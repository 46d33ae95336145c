"""Whatever is asked in whatever order, every store answers as the memory store does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamella.core.ports import Addition, Bucket, Count, Lease, Store, Stored
from lamella.stores import open_store
from lamella.stores.memory import MemoryStore
from lamella.testing import FakeClock

KEYS = st.sampled_from(['a', 'b', 'c'])
AMOUNTS = st.integers(-5, 9)
CEILINGS = st.none() | st.integers(0, 20)
LISTS = st.none() | st.sampled_from(['l', 'm'])
WINDOWS = st.sampled_from(['none', 'none', 'current', 'other'])
ADDITIONS = st.lists(st.tuples(KEYS, AMOUNTS, CEILINGS, WINDOWS), max_size=3, unique_by=lambda one: one[0])
BUCKETS = st.lists(st.tuples(KEYS, st.integers(0, 6)), max_size=3, unique_by=lambda one: one[0])
STEPS = st.one_of(
    st.tuples(st.just('get'), KEYS),
    st.tuples(st.just('put'), KEYS, st.binary(max_size=3), LISTS),
    st.tuples(st.just('put_if_absent'), KEYS, st.binary(max_size=3), LISTS),
    st.tuples(st.just('compare_and_put'), KEYS, st.booleans(), st.binary(max_size=3), LISTS),
    st.tuples(st.just('delete'), KEYS, st.sampled_from(['any', 'current', 'other'])),
    st.tuples(st.just('listed'), st.sampled_from(['l', 'm']), st.integers(0, 4)),
    st.tuples(st.just('add_all'), ADDITIONS),
    st.tuples(st.just('count'), KEYS),
    st.tuples(st.just('reset'), KEYS),
    st.tuples(st.just('take'), BUCKETS),
    st.tuples(st.just('settle'), BUCKETS),
    st.tuples(st.just('acquire'), KEYS, st.integers(0, 2)),
    st.tuples(st.just('renew'), KEYS),
    st.tuples(st.just('release'), KEYS),
    st.tuples(st.just('append'), KEYS, st.binary(max_size=3)),
    st.tuples(st.just('read'), KEYS, st.integers(0, 3), st.integers(0, 3)),
)


class Asker:
    """Asks one store, and tells the answers without what differs between stores: versions, tokens and times."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.leases: dict[str, Lease] = {}

    async def ask(self, step: tuple[Any, ...]) -> Any:
        answer: Any = await getattr(self, step[0])(*step[1:])
        return answer

    async def version(self, key: str) -> int:
        found = await self.store.get(key)
        return found.version if found else 0

    async def get(self, key: str) -> Any:
        return plain(await self.store.get(key))

    async def put(self, key: str, value: bytes, name: str | None) -> Any:
        before = await self.version(key)
        return await self.store.put(key, value, listed=name) > before

    async def put_if_absent(self, key: str, value: bytes, name: str | None) -> Any:
        return plain(await self.store.put_if_absent(key, value, listed=name))

    async def compare_and_put(self, key: str, is_current: bool, value: bytes, name: str | None) -> Any:
        version = await self.version(key) + (not is_current)
        written = await self.store.compare_and_put(key, version, value, listed=name)
        return written is None or written > version

    async def delete(self, key: str, which: str) -> bool:
        version = None if which == 'any' else await self.version(key) + (which == 'other')
        return await self.store.delete(key, version=version)

    async def listed(self, name: str, limit: int) -> Any:
        return [(one.key, one.value) for one in await self.store.listed(name, limit=limit)]

    async def add_all(self, asked: list[tuple[str, int, int | None, str]]) -> Any:
        additions = []
        for key, amount, ceiling, which in asked:
            window = (await self.store.count(key)).window
            wanted = {'none': None, 'current': window, 'other': window + 1}[which]
            additions.append(Addition(key, amount, ceiling, None, wanted))
        return [plain(count) for count in await self.store.add_all(additions)]

    async def count(self, key: str) -> Any:
        return plain(await self.store.count(key))

    async def reset(self, key: str) -> int:
        return await self.store.reset(key)

    async def take(self, asked: list[tuple[str, int]]) -> Any:
        return await self.store.take([Bucket(key, 0, 10, amount) for key, amount in asked])

    async def settle(self, asked: list[tuple[str, int]]) -> None:
        await self.store.settle([Bucket(key, 0, 10, amount - 3) for key, amount in asked])

    async def acquire(self, key: str, slots: int) -> bool:
        lease = await self.store.acquire(key, 3600, slots=slots)
        is_newer = lease is not None and lease.token > (self.leases[key].token if key in self.leases else 0)
        if lease is not None:
            self.leases[key] = lease
        return is_newer

    async def renew(self, key: str) -> bool:
        return key in self.leases and await self.store.renew(self.leases[key], 3600) is not None

    async def release(self, key: str) -> bool:
        return key in self.leases and await self.store.release(self.leases[key])

    async def append(self, key: str, value: bytes) -> int:
        return await self.store.append(key, value)

    async def read(self, key: str, after: int, limit: int) -> Any:
        return list(await self.store.read(key, after=after, limit=limit))


def plain(answer: Stored | Count | None) -> Any:
    if isinstance(answer, Count):
        return answer.value, answer.added, answer.fits, answer.window > 0, answer.expires_in_s
    return None if answer is None else answer.value


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=25))
def test_every_store_answers_as_memory_does(
    runner: asyncio.Runner, shared_store_url: str, steps: list[tuple[Any, ...]]
) -> None:
    async def compared() -> None:
        store = open_store(shared_store_url.partition('?')[0], namespace=f'same-{uuid4().hex}')
        one, other = Asker(MemoryStore(clock=FakeClock())), Asker(store)
        try:
            for step in steps:
                assert await other.ask(step) == await one.ask(step), step
        finally:
            await store.aclose()

    runner.run(compared())
