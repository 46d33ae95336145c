"""The SQLite store keeps the ports' promises, over processes and over restarts."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from lamella.stores.sqlite import SQLiteStore
from lamella.testing import FakeClock
from lamella.testing.stores import SharedStoreConformance
from lamella.types import ConfigError, LamellaError


class TestSQLiteStore(SharedStoreConformance):
    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    async def store(self, clock: FakeClock, tmp_path: Path):
        self._clock = clock
        store = SQLiteStore(tmp_path / 'state.db', clock=clock)
        yield store
        await store.aclose()

    @pytest.fixture
    async def other(self, clock: FakeClock, tmp_path: Path):
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


async def test_what_only_reads_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / 'state.db', timeout_s=0.01)
    await store.put('k', b'x')
    other = sqlite3.connect(tmp_path / 'state.db', isolation_level=None)
    other.execute('BEGIN IMMEDIATE')
    assert (await store.get('k')).value == b'x'
    assert (await store.count('k')).value == 0
    with pytest.raises(LamellaError, match='locked') as caught:
        await store.put('k', b'y')
    assert caught.value.status == 'UNAVAILABLE'
    other.execute('ROLLBACK')
    other.close()
    assert await store.put('k', b'y') > 0
    await store.aclose()


async def test_a_file_may_belong_to_somebody_else_too(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / 'app.db', isolation_level=None)
    other.execute('PRAGMA user_version = 7')
    other.execute('CREATE TABLE theirs (x)')
    store = SQLiteStore(tmp_path / 'app.db')
    assert (await store.add('k')).value == 1
    await store.aclose()
    assert other.execute('PRAGMA user_version').fetchone() == (7,)
    other.execute('INSERT INTO theirs VALUES (1)')
    other.close()


async def test_a_file_shrinks_again_when_much_has_expired(tmp_path: Path) -> None:
    clock = FakeClock()
    path = tmp_path / 'state.db'
    store = SQLiteStore(path, clock=clock)
    for number in range(300):
        await store.put(f'k{number}', b'x' * 10_000, expire_s=1)
    await clock.advance(2)
    assert await store.sweep() == 300
    for _ in range(64 * 8):
        await store.add('k')
    await store.aclose()
    assert path.stat().st_size < 1_500_000  # of more than 3,000,000


@pytest.mark.parametrize(('synchronous', 'level'), [('normal', 1), ('full', 2)])
async def test_how_much_is_written_through_is_chosen(tmp_path: Path, synchronous, level: int) -> None:
    store = SQLiteStore(tmp_path / 'state.db', synchronous=synchronous)
    assert await store._read(lambda db, now: db.execute('PRAGMA synchronous').fetchone()[0]) == level
    await store.aclose()


async def test_a_number_that_does_not_fit_is_no_outage(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / 'state.db')
    with pytest.raises(LamellaError) as caught:
        await store.add('k', 2**70)
    assert caught.value.status == 'INVALID_ARGUMENT'
    assert (await store.add('k')).value == 1
    await store.aclose()


async def test_a_full_disk_is_said(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / 'state.db')
    await store.put('k', b'x')
    await store._read(lambda db, now: db.execute('PRAGMA max_page_count = 30'))
    with pytest.raises(LamellaError, match='no room left') as caught:
        await store.put('large', b'x' * 1_000_000)
    assert caught.value.status == 'RESOURCE_EXHAUSTED'
    assert (await store.get('k')).value == b'x'
    await store.aclose()


_FORK = """
import asyncio, os, sys
from lamella.stores.sqlite import SQLiteStore

store = SQLiteStore(sys.argv[1])
asyncio.run(store.add('k'))
child = os.fork()
if not child:
    asyncio.run(store.add('k'))
    asyncio.run(store.aclose())
    os._exit(0)
os.waitpid(child, 0)
print(asyncio.run(store.add('k')).value)
asyncio.run(store.aclose())
"""


def test_a_forked_process_opens_the_file_anew(tmp_path: Path) -> None:
    program = [sys.executable, '-W', 'ignore', '-c', _FORK, str(tmp_path / 'state.db')]
    assert subprocess.run(program, capture_output=True, check=True, text=True, timeout=60).stdout.strip() == '3'
