"""The SQLite store keeps the ports' promises, over processes and over restarts."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamella.stores.sqlite import SQLiteStore
from lamella.testing import FakeClock
from lamella.testing.stores import StoreConformance
from lamella.types import ConfigError, LamellaError


class TestSQLiteStore(StoreConformance):
    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    async def store(self, clock: FakeClock, tmp_path: Path):
        self._clock = clock
        store = SQLiteStore(tmp_path / 'state.db', clock=clock)
        yield store
        await store.aclose()

    async def pass_time(self, store, seconds: float) -> None:
        await self._clock.advance(seconds)


async def test_what_is_stored_outlives_the_process(tmp_path: Path) -> None:
    first = SQLiteStore(tmp_path / 'state.db')
    await first.put('k', b'x')
    await first.aclose()
    second = SQLiteStore(tmp_path / 'state.db')
    assert (await second.get('k')).value == b'x'
    await second.aclose()


async def test_a_file_that_is_no_database_is_refused_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / 'notes.txt'
    path.write_text('this is prose and no database, and it is long enough to look like something ' * 20)
    store = SQLiteStore(path)
    with pytest.raises(ConfigError, match=r'notes\.txt is no database'):
        await store.get('k')
    await store.aclose()


async def test_a_folder_that_does_not_exist_is_unavailable(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / 'missing' / 'state.db')
    with pytest.raises(LamellaError, match='unable to open') as caught:
        await store.get('k')
    assert caught.value.status == 'UNAVAILABLE'
    await store.aclose()


async def test_expired_rows_are_removed_as_the_store_is_used(tmp_path: Path) -> None:
    clock = FakeClock()
    store = SQLiteStore(tmp_path / 'state.db', clock=clock)
    for number in range(1000):
        await store.put(f'k{number}', b'x', expire_s=1)
    await clock.advance(2)
    for _ in range(64 * 6):
        await store.add('k')
    count = await store._read(lambda db, now: db.execute('SELECT count(*) FROM lamella_values').fetchone()[0])
    assert count == 0
    await store.aclose()
