"""The head and the log of a session: what counts, what does not, and what it costs."""

from typing import Any

import pytest

from lamella.core.session_record import MAX_STATE_BYTES, SessionRecord
from lamella.stores.memory import MemoryStore
from lamella.stores.sqlite import SQLiteStore
from lamella.testing import FakeClock
from lamella.types import LamellaError, Message


class Counting(MemoryStore):
    """Counts verbs, and entries that were read."""

    def __init__(self) -> None:
        super().__init__()
        self.verbs = self.entries = 0

    async def get(self, key: str) -> Any:
        self.verbs += 1
        return await super().get(key)

    async def read(self, key: str, **options: Any) -> Any:
        self.verbs += 1
        page = await super().read(key, **options)
        self.entries += len(page)
        return page


async def turn(record: SessionRecord, n: int, fence: int) -> None:
    history = await record.history()
    await record.append(len(history), [Message.user(f'q{n}'), Message.assistant(f'a{n}')], fence=fence, at_s=0, run='')


async def begun(store: Any, ttl_s: float | None = None) -> SessionRecord:
    record = SessionRecord('s', store, ttl_s)
    await record.take_over(1)
    return record


async def test_the_history_is_what_was_appended_in_order() -> None:
    store = MemoryStore()
    record = await begun(store)
    for n in range(450):
        await turn(record, n, 1)
    for reader in (record, SessionRecord('s', store, None)):
        assert [m.text for m in await reader.history()] == [t for n in range(450) for t in (f'q{n}', f'a{n}')]


async def test_an_entry_may_replace_the_end_of_the_history() -> None:
    store = MemoryStore()
    record = await begun(store)
    await record.append(0, [Message.user('a'), Message.assistant('b')], fence=1, at_s=0, run='')
    await record.append(1, [Message.assistant('c'), Message.user('d')], fence=1, at_s=0, run='')
    for reader in (record, SessionRecord('s', store, None)):
        assert [m.text for m in await reader.history()] == ['a', 'c', 'd']
    assert (await record.head()).count == 3


async def test_an_entry_that_no_head_leads_to_does_not_count() -> None:
    store = MemoryStore()
    record = await begun(store)
    await turn(record, 0, 1)
    log = f'{record.key}:log:{(await record.head()).log}'
    orphan = (await store.read(log))[0].value
    await store.append(log, orphan)  # a turn that died before it moved the head
    await store.append(log, b'not even an entry')
    await turn(record, 1, 1)
    await store.append(log, orphan)
    for reader in (record, SessionRecord('s', store, None)):
        assert [m.text for m in await reader.history()] == ['q0', 'a0', 'q1', 'a1']


async def test_a_reader_who_knows_the_beginning_reads_only_what_is_new() -> None:
    store = Counting()
    record = await begun(store)
    for n in range(300):
        await turn(record, n, 1)
    assert store.entries == 0  # it wrote them itself
    reader = SessionRecord('s', store, None)
    await reader.history()
    assert store.entries == 300
    await turn(record, 300, 1)
    assert len(await reader.history()) == 602
    assert store.entries == 301


async def test_the_cost_of_a_turn_does_not_grow_with_the_history() -> None:
    store = Counting()
    record = await begun(store)
    costs = []
    for n in range(200):
        before = store.verbs
        await turn(record, n, 1)
        costs.append(store.verbs - before)
    assert len(set(costs[1:])) == 1
    head = await store.get(f'{record.key}:head')
    assert head is not None
    assert len(head.value) < 200


async def test_a_known_history_is_forgotten_when_the_session_was_deleted_and_begun_anew() -> None:
    store = MemoryStore()
    record, other = await begun(store), SessionRecord('s', store, None)
    await turn(record, 0, 1)
    assert len(await other.history()) == 2
    await record.erase(1)
    assert await other.history() == ()
    await record.take_over(2)
    await turn(record, 1, 2)
    assert [m.text for m in await other.history()] == ['q1', 'a1']


async def test_a_deleted_log_is_not_kept() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    record = await begun(store)
    await turn(record, 0, 1)
    await record.erase(1)
    await clock.advance(1)
    assert len(store) == 0


async def test_a_session_ends_after_its_time_and_begins_anew() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    record = await begun(store, ttl_s=100)
    for n in range(3):
        await turn(record, n, 1)
        await clock.advance(90)
    assert len(await record.history()) == 6
    await clock.advance(20)
    assert await SessionRecord('s', store, 100).history() == ()
    await record.take_over(2)
    await turn(record, 9, 2)
    assert [m.text for m in await SessionRecord('s', store, 100).history()] == ['q9', 'a9']


async def test_a_log_that_ended_before_its_head_is_an_empty_history() -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    record = await begun(store, ttl_s=100)
    await turn(record, 0, 1)
    await turn(record, 1, 1)
    await clock.advance(60)
    await record.change(lambda head: head.replace(state={'k': 1}), None)  # which keeps the head and not the log
    await clock.advance(60)
    fresh = SessionRecord('s', store, 100)
    assert await fresh.history() == ()
    late = SessionRecord('s', store, 100)
    await late.append(0, [Message.user('x')], fence=1, at_s=0, run='')
    assert [m.text for m in await SessionRecord('s', store, 100).history()] == ['x']
    await clock.advance(60)
    await fresh.change(lambda head: head.replace(state={'k': 2}), None)
    await clock.advance(60)
    taken = SessionRecord('s', store, 100)
    _, history = await taken.take_over(2)
    await turn(taken, 7, 2)
    assert history == ()
    assert [m.text for m in await SessionRecord('s', store, 100).history()] == ['q7', 'a7']
    assert (await taken.head()).state == {'k': 2}


async def test_only_the_newest_fence_writes() -> None:
    record = await begun(MemoryStore())
    await record.take_over(2)
    with pytest.raises(LamellaError, match='lost its hold'):
        await turn(record, 0, 1)
    with pytest.raises(LamellaError, match='lost its hold'):
        await record.take_over(1)
    await turn(record, 0, 2)


async def test_a_fence_that_moves_between_append_and_head_leaves_nothing() -> None:
    class Overtaken(MemoryStore):
        async def append(self, key: str, value: bytes, **options: Any) -> int:
            position = await super().append(key, value, **options)
            if not self.done:
                self.done = True
                await SessionRecord('s', self, None).take_over(2)
            return position

        done = False

    store = Overtaken()
    record = await begun(store)
    with pytest.raises(LamellaError, match='lost its hold'):
        await turn(record, 0, 1)
    assert await SessionRecord('s', store, None).history() == ()
    winner = SessionRecord('s', store, None)
    await turn(winner, 1, 2)
    assert [m.text for m in await winner.history()] == ['q1', 'a1']


async def test_a_state_that_is_too_large_is_refused_and_changes_nothing() -> None:
    record = await begun(MemoryStore())
    with pytest.raises(LamellaError, match=r'keep what is large in session\.artifacts') as caught:
        await record.change(lambda head: head.replace(state={'k': 'x' * MAX_STATE_BYTES}), None)
    assert caught.value.status == 'OUT_OF_RANGE'
    assert (await record.head()).state == {}


async def test_odd_ids_are_sessions_of_their_own(tmp_path) -> None:
    store = SQLiteStore(tmp_path / 's.db')
    odd = [
        'a',
        'A',
        'a ',
        'a:head',
        'session:a',
        'a\n',
        "'; DROP TABLE x; --",
        'ü',
        'u\u0308',
        '\ud800',
        'a' * 9_999,
        '../a',
    ]
    for id in odd:
        await (record := SessionRecord(id, store, None)).take_over(1)
        await record.append(0, [Message.user(id)], fence=1, at_s=0, run='')
    for id in odd:
        record = SessionRecord(id, store, None)
        assert [m.text for m in await record.history()] == [id]
        assert (await record.head()).id == id
        assert record.key.isascii()
        assert len(record.key) == 72
    await store.aclose()


async def test_a_head_that_is_something_else_is_an_error_that_says_so() -> None:
    store = MemoryStore()
    record = await begun(store)
    await store.put(f'{record.key}:head', b'x')
    with pytest.raises(LamellaError, match="the session 's' in the store cannot be read"):
        await record.history()
