"""Traces on this machine: whole trees in one bounded file, and no call that waits for the disk."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from lamella import Lamella, ModelRequest, ModelResponse
from lamella.engine.traces import SpanRow, TraceReader, TraceStore
from lamella.engine.traces import store as store_module
from lamella.middleware import Retry
from lamella.testing import FakeClock
from lamella.types import ConfigError, Finished, LamellaError, TextDelta, ToolRequest, UnknownNameError, Usage
from tests.middleware.kit import down, world

SECRET = 'sk-proj-abcdefgh12345678'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / 'traces.db'


@pytest.fixture
def store(file: Path) -> Iterator[TraceStore]:
    made = TraceStore(file)
    yield made
    made.close()


def answer(text: str = 'hi') -> list[Any]:
    return [TextDelta(text), Finished('stop', Usage(10, 5, 15, cost_usd=0.5))]


def names(span: SpanRow) -> list[Any]:
    return [f'{span.kind} {span.name}', *[names(one) for one in span.inside]]


async def look(key: str) -> str:
    return 'seen'


@pytest.mark.parametrize('streamed', [False, True])
async def test_a_run_is_kept_as_a_tree(store: TraceStore, file: Path, streamed: bool) -> None:
    turn = [ToolRequest('look', {'key': SECRET}, 'c1'), Finished('tool_calls', Usage(1, 1, 2))]
    app = world({'v/a': [down(), turn, answer()]})
    app.ai.sinks = (store,)
    call = app.ai.generate_stream if streamed else app.ai.generate
    made = call(prompt=f'my {SECRET}', tools=[look], use=[Retry(initial_delay_ms=0)])
    await (made.response if streamed else made)  # type: ignore[union-attr]
    assert store.flush()
    with TraceReader(file) as reader:
        (run,) = reader.runs()
        tree = reader.tree(run)
    assert (run.name, run.status, run.turns, run.input_tokens, run.cost_usd) == ('v/a', 'final', 2, 11, 0.5)
    assert run.ended is not None
    assert names(tree) == [
        'run v/a',
        ['turn 0', ['model v/a'], ['model v/a'], ['tool look']],
        ['turn 1', ['model v/a']],
    ]
    failed = tree.inside[0].inside[0]
    assert (failed.error, failed.facts['error.type']) == ('UNAVAILABLE: down', 'UNAVAILABLE')
    assert [note.name for note in tree.inside[0].notes] == ['retry.wait']
    assert SECRET.encode() not in file.read_bytes()
    assert b'my sk' not in file.read_bytes()


def sole(app: Any, store: TraceStore) -> Lamella:
    app.ai.sinks = (store,)
    ai: Lamella = app.ai
    return ai


async def test_content_is_kept_only_when_asked_and_without_credentials(file: Path) -> None:
    store = TraceStore(file, capture_content=True)
    await sole(world({'v/a': [answer('the answer')]}), store).generate(prompt=f'the question {SECRET}')
    store.close()
    with TraceReader(file) as reader:
        tree = reader.tree(reader.run('last'))
    assert 'the question ***' in tree.inside[0].inside[0].facts['gen_ai.input.messages']
    assert 'the answer' in tree.inside[0].facts['gen_ai.output.messages']


async def test_times_are_those_of_the_wall_clock(file: Path) -> None:
    clock = FakeClock(wall=1_900_000_000.0)
    store = TraceStore(file, clock=clock)
    await sole(world({'v/a': [down(), answer()]}, clock=clock), store).generate(
        prompt='x', use=[Retry(initial_delay_ms=2000, no_jitter=True)]
    )
    store.close()
    with TraceReader(file) as reader:
        run = reader.run('last')
    assert (run.began, run.ended) == (1_900_000_000.0, 1_900_000_002.0)


async def test_a_run_that_fails_or_is_left_ends_in_the_file_too(store: TraceStore, file: Path) -> None:
    ai = sole(world({'v/a': [down(), [TextDelta('a'), TextDelta('b')]]}), store)
    with pytest.raises(LamellaError):
        await ai.generate(prompt='x')
    async with ai.generate_stream(prompt='x') as stream:
        async for part in stream:
            if type(part) is TextDelta:
                break
    assert store.flush()
    with TraceReader(file) as reader:
        left, failed = reader.runs()
        assert (left.status, failed.status) == ('failed', 'failed')
        assert failed.error == 'UNAVAILABLE: down'
        assert all(span.ended for span in reader.tree(left).inside)
    assert store._trees == {}


async def test_the_oldest_runs_go_when_there_are_too_many(file: Path) -> None:
    store = TraceStore(file, max_runs=5)
    ai = sole(world({'v/a': [answer()]}, repeat=True), store)
    for _ in range(30):
        await ai.generate(prompt='x')
    assert store.flush()
    with TraceReader(file) as reader:
        assert [run.number for run in reader.runs()] == [30, 29, 28, 27, 26]
    connection = sqlite3.connect(file)
    assert connection.execute('SELECT COUNT(DISTINCT run) FROM spans').fetchone() == (5,)
    connection.close()
    store.close()


async def test_the_file_stays_within_its_size(file: Path) -> None:
    store = TraceStore(file, max_mb=0.3, capture_content=True)
    ai = sole(world({'v/a': [answer('y' * 5_000)]}, repeat=True), store)
    for _ in range(15):
        for _ in range(20):
            await ai.generate(prompt='x' * 5_000)
        assert store.flush()
    store.close()
    assert file.stat().st_size < 700_000
    with TraceReader(file) as reader:
        assert reader.runs(limit=1)[0].number == 300


async def test_a_file_that_cannot_be_written_harms_no_call(tmp_path: Path) -> None:
    store = TraceStore(tmp_path / 'missing' / 'x.db')
    ai = sole(world({'v/a': [answer()]}, repeat=True), store)
    for _ in range(3):
        assert (await ai.generate(prompt='x')).text == 'hi'
    assert store.flush()
    assert isinstance(store.failed, sqlite3.Error)
    assert store.dropped > 0
    store.close()


async def test_what_the_disk_cannot_keep_up_with_is_dropped_and_counted(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, 'MAX_QUEUED', 4)
    store = TraceStore(file)
    blocker = sqlite3.connect(file)
    blocker.execute('BEGIN EXCLUSIVE')
    ai = sole(world({'v/a': [answer()]}, repeat=True), store)
    for _ in range(20):
        assert (await ai.generate(prompt='x')).text == 'hi'
    assert store.dropped > 0
    blocker.rollback()
    blocker.close()
    store.close()


async def test_several_stores_may_write_to_one_file(file: Path) -> None:
    stores = [TraceStore(file) for _ in range(3)]
    apps = [sole(world({'v/a': [answer()]}, repeat=True, random=Random(n)), store) for n, store in enumerate(stores)]
    await asyncio.gather(*[ai.generate(prompt='x') for ai in apps for _ in range(20)])
    for store in stores:
        store.close()
        assert (store.dropped, store.failed) == (0, None)
    with TraceReader(file) as reader:
        assert len(reader.runs(limit=100)) == 60


async def test_a_run_under_way_can_be_read(store: TraceStore, file: Path) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(request: ModelRequest, ctx: Any) -> ModelResponse:
        asked.set()
        await go.wait()
        return ModelResponse.text_of('x')

    task = asyncio.create_task(Lamella(model=slow, sinks=[store]).generate(prompt='x'))
    await asked.wait()
    assert store.flush()
    with TraceReader(file) as reader:
        (run,) = reader.runs(status='running')
        assert names(reader.tree(run)) == ['run slow', ['turn 0', ['model slow']]]
        go.set()
        await task
        assert store.flush()
        assert [row.status for row in reader.runs()] == ['final']


async def test_runs_are_found_by_a_piece_of_their_id_and_in_order(store: TraceStore, file: Path) -> None:
    ai = sole(world({'v/a': [answer()]}, repeat=True), store)
    for _ in range(3):
        await ai.generate(prompt='x')
    assert store.flush()
    with TraceReader(file) as reader:
        third, second, first = reader.runs()
        assert reader.run(second.id[-6:]) == second
        assert reader.run('last') == third
        assert list(reader.runs(after=first.number)) == [second, third]
        with pytest.raises(UnknownNameError, match='unknown run'):
            reader.run('nope')
        with pytest.raises(UnknownNameError, match='run_'):
            reader.run('run_')


def test_what_is_no_trace_file_says_so(file: Path) -> None:
    with pytest.raises(ConfigError, match='no trace file'):
        TraceReader(file)
    file.write_text('hello, this is no database at all, is it?' * 50)
    with pytest.raises(ConfigError, match='is no trace file'):
        TraceReader(file)


async def test_a_database_of_something_else_is_left_alone(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute('CREATE TABLE mine (x)')
    connection.commit()
    store = TraceStore(file)
    await sole(world({'v/a': [answer()]}), store).generate(prompt='x')
    assert store.flush()
    assert 'is a database of something else' in str(store.failed)
    assert [row[0] for row in connection.execute('SELECT name FROM sqlite_master')] == ['mine']
    connection.close()
    store.close()


@pytest.mark.parametrize('options', [{'max_runs': 0}, {'max_mb': -1}, {'max_chars': 'x'}])
def test_wrong_settings_are_refused(file: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        TraceStore(file, **options)
