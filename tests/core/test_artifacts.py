"""Artifacts: versions that never change, under any name."""

import asyncio
from typing import Any

import pytest

from lamella.core.artifacts import MAX_ARTIFACT_BYTES, Artifacts
from lamella.core.session_record import SessionRecord
from lamella.stores.memory import MemoryStore
from lamella.testing import FakeClock
from lamella.types import ConfigError, LamellaError, UnknownNameError


def artifacts(store: Any = None, fence: int | None = None) -> Artifacts:
    return Artifacts(
        SessionRecord('s', MemoryStore() if store is None else store, None), FakeClock(wall=1_800_000_000.0), fence
    )


async def test_each_save_is_a_new_version_and_old_ones_stay() -> None:
    here = artifacts()
    first = await here.save('a.txt', 'one')
    second = await here.save('a.txt', b'\x00two', 'application/x-two')
    assert (first.version, first.content_type, first.size, first.created_s) == (
        1,
        'text/plain; charset=utf-8',
        3,
        1_800_000_000.0,
    )
    assert (second.version, second.content_type, second.size) == (2, 'application/x-two', 4)
    assert (await here.load('a.txt')).data == b'\x00two'
    assert (await here.load('a.txt', 1)).text == 'one'
    assert (await here.load('a.txt', 1)).info == first
    assert await here.versions('a.txt') == (first, second)
    assert await here.list() == (second,)


async def test_bytes_without_a_type_are_just_bytes() -> None:
    assert (await artifacts().save('x', b'1')).content_type == 'application/octet-stream'


async def test_names_are_listed_in_order_and_may_be_anything() -> None:
    here = artifacts()
    for name in ('b', 'a', '../b', 'a\n', 'ü', 'a:b', ' '):
        await here.save(name, name)
    assert [info.name for info in await here.list()] == sorted(('b', 'a', '../b', 'a\n', 'ü', 'a:b', ' '))
    for name in ('b', 'a', '../b', 'a\n'):
        assert (await here.load(name)).text == name


async def test_an_unknown_name_or_version_is_an_error_with_the_nearest_names() -> None:
    here = artifacts()
    await here.save('report.md', 'x')
    with pytest.raises(UnknownNameError, match=r"did you mean 'report\.md'"):
        await here.load('reprot.md')
    with pytest.raises(LamellaError, match=r"artifact 'report\.md' has no version 2"):
        await here.load('report.md', 2)
    assert await here.versions('nothing') == ()


async def test_many_at_once_lose_nothing() -> None:
    store = MemoryStore()
    await asyncio.gather(*[artifacts(store).save('a', str(n)) for n in range(20)], artifacts(store).save('b', 'x'))
    here = artifacts(store)
    assert [info.version for info in await here.versions('a')] == list(range(1, 21))
    found = {(await here.load('a', n)).text for n in range(1, 21)}
    assert found == {str(n) for n in range(20)}
    assert len(await here.list()) == 2


async def test_what_is_deleted_is_gone_with_its_content() -> None:
    store = MemoryStore()
    here = artifacts(store)
    await here.save('a', '1')
    await here.save('a', '2')
    before = len(store)
    assert await here.delete('a')
    assert not await here.delete('a')
    assert len(store) == before - 2
    with pytest.raises(UnknownNameError):
        await here.load('a')


@pytest.mark.parametrize('name', ['', 7, None, 'x' * 1_025])
async def test_a_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match='the name of an artifact is a text of 1 to 1,024 characters'):
        await artifacts().save(name, 'x')


async def test_content_that_is_none_or_too_much_is_refused() -> None:
    with pytest.raises(ConfigError, match="artifact 'a' is a dict: give bytes or text"):
        await artifacts().save('a', {})  # type: ignore[arg-type]
    with pytest.raises(LamellaError, match='has 16,777,217 bytes, more than 16,777,216') as caught:
        await artifacts().save('a', bytes(MAX_ARTIFACT_BYTES + 1))
    assert caught.value.status == 'OUT_OF_RANGE'


async def test_a_content_that_is_gone_is_an_error() -> None:
    class Forgets(MemoryStore):
        async def get(self, key: str) -> Any:
            return None if ':artifact:' in key else await super().get(key)

    here = artifacts(Forgets())
    await here.save('a', 'x')
    with pytest.raises(LamellaError, match='has no version'):
        await here.load('a')
