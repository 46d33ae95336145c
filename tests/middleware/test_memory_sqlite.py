"""`SQLiteMemory`: what is found, by whom, how much is kept, and what no query can do."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.middleware import SQLiteMemory
from lamella.middleware import _memory_sqlite as module
from lamella.testing.vectors import word_vector
from lamella.types import ConfigError, LamellaError


async def texts(memory: SQLiteMemory, query: str, scope: str = 'a', k: int = 5, **more: Any) -> list[str]:
    return [match.text for match in await memory.search(query, k, scope, **more)]


async def test_the_best_match_comes_first_and_no_more_than_wanted() -> None:
    memory = SQLiteMemory()
    await memory.add(['the cat sat', 'a dog ran', 'cat and dog and mouse', 'nothing of it'], 'a', {'at': 1})
    assert (await texts(memory, 'cat mouse'))[0] == 'cat and dog and mouse'
    assert sorted(await texts(memory, 'Cát?')) == ['cat and dog and mouse', 'the cat sat']
    assert len(await texts(memory, 'cat dog', k=1)) == 1
    (match, *_) = await memory.search('mouse', 5, 'a')
    assert match.metadata == {'at': 1}
    assert await texts(memory, 'horse') == []
    assert await texts(memory, '') == []


QUERIES = [
    '"',
    '""" OR scope : "b"',
    'text NEAR secret',
    'NEAR(secret text, 5)',
    'secret*',
    '*',
    'scope : b',
    '{scope text} : secret',
    '- secret',
    'secret AND (',
    '^secret',
    "'; DROP TABLE memories; --",
    'a' * 100_000,
    ' '.join(f'w{n}' for n in range(50_000)),
    '\0secret\0',
    '\ud800',
    'NOT secret OR text',
]


@pytest.mark.parametrize('query', QUERIES, ids=range(len(QUERIES)))
async def test_no_query_is_an_error_or_reaches_another_scope(query: str) -> None:
    memory = SQLiteMemory()
    await memory.add(['mine is text'], 'a')
    await memory.add(['secret text of another'], 'b')
    assert set(await texts(memory, query)) <= {'mine is text'}
    assert set(await texts(memory, query, vector=word_vector('secret'), vector_model='m')) <= {'mine is text'}
    assert await texts(memory, 'secret', 'b') == ['secret text of another']


@given(st.text(max_size=60))
def test_any_text_can_be_asked_for(query: str) -> None:
    async def run() -> None:
        memory = SQLiteMemory()
        await memory.add([query], query)
        await memory.add(['other'], query + 'x')
        assert set(await texts(memory, query + ' other', query)) <= {query.replace('\0', '\ufffd')}

    asyncio.run(run())


SCOPES = [
    'a',
    'A',
    'a ',
    '',
    "a' OR 1=1 --",
    'a"',
    'a%',
    'a\0',
    '*',
    'x' * 10_000,
    'x' * 10_001,
    '\ud800',
    'tenant:a',
    's' + '0' * 64,
]


async def test_hostile_scopes_are_each_their_own() -> None:
    memory = SQLiteMemory()
    for number, scope in enumerate(SCOPES):
        await memory.add([f'word number{number}'], scope)
    for number, scope in enumerate(SCOPES):
        assert await texts(memory, 'word', scope) == [f'word number{number}']
    assert await memory.delete(SCOPES[4]) == 1
    assert await texts(memory, 'word', SCOPES[4]) == []
    assert await texts(memory, 'word', SCOPES[5]) == ['word number5']


async def test_the_oldest_go_first() -> None:
    memory = SQLiteMemory(max_per_scope=3, max_items=5, max_chars=10)
    for number in range(6):
        await memory.add([f'word {number}'], 'a')
    assert sorted(await texts(memory, 'word')) == ['word 3', 'word 4', 'word 5']
    await memory.add(['word 6', 'word 7', 'word 8'], 'b')
    assert sorted(await texts(memory, 'word')) == ['word 4', 'word 5']
    await memory.add(['word ' + 'x' * 100], 'c')
    assert await texts(memory, 'word', 'c') == ['word xxxxx']
    await memory.add([f'word {n}' for n in range(20)], 'd')
    assert len(await texts(memory, 'word', 'd', k=100)) == 3


async def test_vectors_find_what_has_no_word_in_common() -> None:
    memory = SQLiteMemory()
    vectors = [(1.0, 0.0, 0.0), (0.0, 2.0, 0.0), (-1.0, 0.0, 0.0)]
    await memory.add(['feline', 'canine', 'opposite'], 'a', vectors=vectors, vector_model='m')
    found = await texts(memory, 'cat', vector=(0.9, 0.1, 0.0), vector_model='m')
    assert found == ['feline', 'canine']
    assert await texts(memory, 'cat', vector=(0.9, 0.1), vector_model='m') == []
    assert await texts(memory, 'cat', vector=(0.9, 0.1, 0.0), vector_model='another') == []
    assert await texts(memory, 'canine', vector=(0.9, 0.1, 0.0), vector_model='m') == ['canine', 'feline']
    assert await texts(memory, 'cat', 'b', vector=(0.9, 0.1, 0.0), vector_model='m') == []


async def test_only_the_latest_vectors_are_compared() -> None:
    memory = SQLiteMemory(max_vectors=2)
    for number in range(4):
        await memory.add([f't{number}'], 'a', vectors=[(1.0, 0.0)], vector_model='m')
    assert sorted(await texts(memory, '?', vector=(1.0, 0.0), vector_model='m')) == ['t2', 't3']


async def test_a_file_is_found_again_and_others_see_it(tmp_path: Path) -> None:
    path = tmp_path / 'memory.db'
    await SQLiteMemory(path).add(['kept'], 'a')
    assert await texts(SQLiteMemory(path), 'kept') == ['kept']
    with sqlite3.connect(path) as db:
        assert db.execute('PRAGMA journal_mode').fetchone() == ('wal',)
    db.close()


WRITER = """
import asyncio, sys
from lamella.middleware import SQLiteMemory
async def main():
    memory = SQLiteMemory(sys.argv[1])
    for n in range(40):
        await memory.add([f'word {sys.argv[2]} {n}'], 'a')
asyncio.run(main())
"""


async def test_several_processes_write_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / 'memory.db'
    writers = [subprocess.Popen([sys.executable, '-c', WRITER, str(path), str(n)]) for n in range(3)]
    assert [await asyncio.to_thread(writer.wait) for writer in writers] == [0, 0, 0]
    assert len(await texts(SQLiteMemory(path), 'word', k=1000)) == 120


async def test_many_calls_at_once_in_one_process(tmp_path: Path) -> None:
    for memory in (SQLiteMemory(), SQLiteMemory(tmp_path / 'm.db')):
        await asyncio.gather(*(memory.add([f'word {n}'], f's{n % 3}') for n in range(60)))
        assert [len(await texts(memory, 'word', f's{n}', k=99)) for n in range(3)] == [20, 20, 20]


async def test_a_cancelled_addition_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    memory = SQLiteMemory(tmp_path / 'm.db')
    for number in range(20):
        task = asyncio.create_task(memory.add([f'word {number} one', f'word {number} two'], 'a'))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    found = await texts(memory, 'word', k=1000)
    assert len(found) % 2 == 0


async def test_a_file_that_is_no_database_is_away(tmp_path: Path) -> None:
    path = tmp_path / 'm.db'
    path.write_text('this is no database' * 100)
    with pytest.raises(LamellaError) as caught:
        await SQLiteMemory(path).search('x', 1, 'a')
    assert caught.value.status == 'UNAVAILABLE'
    with pytest.raises(LamellaError):
        await SQLiteMemory(tmp_path / 'no' / 'm.db').add(['x'], 'a')


def test_without_fts5_it_says_so_when_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(sqlite3.Connection):
        def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
            if 'fts5' in sql:
                raise sqlite3.OperationalError('no such module: fts5')
            return super().execute(sql, *rest)

    real = sqlite3.connect
    monkeypatch.setattr(module.sqlite3, 'connect', lambda *args, **options: real(*args, factory=Old, **options))
    with pytest.raises(ConfigError, match='has no FTS5'):
        SQLiteMemory()


def test_every_wrong_limit_is_in_one_error() -> None:
    with pytest.raises(ConfigError) as caught:
        SQLiteMemory(max_per_scope=0, max_chars=True, path='')
    for word in ('max_per_scope=0', 'max_chars=True', "path=''"):
        assert word in caught.value.message


async def test_a_file_that_was_removed_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / 'm.db'
    memory = SQLiteMemory(path)
    await memory.add(['old word'], 'a')
    for file in tmp_path.iterdir():
        file.unlink()
    await memory.add(['new word'], 'a')
    assert await texts(memory, 'word') == ['new word']
    assert await texts(SQLiteMemory(path), 'word') == ['new word']
    memory.close()
    assert await texts(memory, 'word') == ['new word']
