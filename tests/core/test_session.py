"""A session outside of runs: state, what waits, deleting."""

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel

from lamella.core.session import Session
from lamella.stores.memory import MemoryStore
from lamella.testing import FakeClock
from lamella.types import ConfigError, LamellaError, Message, Rejected, ToolRequest, ToolRequestPart, ToolResponse


def session(store: Any = None, **settings: Any) -> Session:
    return Session('s', MemoryStore() if store is None else store, clock=FakeClock(), **settings)


async def said(here: Session, *messages: Message) -> None:
    hold = await here.hold()
    _, history = await here.record.take_over(hold.lease.token)
    await here.record.append(len(history), messages, fence=hold.lease.token, at_s=0, run='')
    await hold.release()


async def test_state_is_written_read_changed_and_removed() -> None:
    here = session()
    assert await here.state.get('a') is None
    assert await here.state.get('a', 7) == 7
    await here.state.put('a', {'b': [1, None]})
    await here.state.put('n', None)
    assert await here.state.get('n', 7) is None
    assert await here.state.update('a', lambda old: {**old, 'c': 2}) == {'b': [1, None], 'c': 2}
    assert await here.state.all() == {'a': {'b': [1, None], 'c': 2}, 'n': None}
    await here.state.delete('a')
    await here.state.delete('never')
    assert await here.state.all() == {'n': None}


async def test_many_updates_at_once_are_all_counted() -> None:
    store = MemoryStore()
    await asyncio.gather(*[session(store).state.update('n', lambda old: old + 1, 0) for _ in range(25)])
    assert await session(store).state.get('n') == 25


async def test_models_are_kept_as_json() -> None:
    class Cart(BaseModel):
        items: list[str]

    here = session()
    await here.state.put('cart', Cart(items=['tea']))
    assert await here.state.get('cart') == {'items': ['tea']}


async def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match="state 'k' is a object, which is not JSON"):
        await session().state.put('k', object())
    with pytest.raises(ConfigError, match='a name in the state is a text'):
        await session().state.put('', 1)
    with pytest.raises(ConfigError, match='a name in the state is a text'):
        await session().state.update(7, lambda old: 1)  # type: ignore[arg-type]


async def test_a_change_that_fails_changes_nothing() -> None:
    here = session()
    await here.state.put('n', 1)
    with pytest.raises(TypeError):
        await here.state.update('n', lambda old: old + 'x')
    assert await here.state.get('n') == 1


async def test_what_waits_is_told() -> None:
    here = session()
    assert await here.waiting() == ()
    open_part, done = ToolRequestPart(ToolRequest('a', {}, '1')), ToolRequestPart(ToolRequest('b', {}, '2'))
    await said(here, Message.user('x'), Message.assistant(open_part, done), Message.tool(ToolResponse('b', 1, '2')))
    assert await here.waiting() == (open_part,)


async def test_a_deleted_session_is_empty_and_can_begin_again() -> None:
    store = MemoryStore()
    here = session(store)
    await said(here, Message.user('x'))
    await here.state.put('k', 1)
    await here.artifacts.save('a', 'x')
    await here.delete()
    assert (await here.history(), await here.state.all(), await here.artifacts.list()) == ((), {}, ())
    await said(here, Message.user('y'))
    assert [message.text for message in await here.history()] == ['y']


async def test_a_session_is_not_deleted_under_a_turn() -> None:
    store = MemoryStore()
    here = session(store, on_busy='refuse')
    hold = await here.hold()
    with pytest.raises(Rejected, match='busy'):
        await here.delete()
    await hold.release()
    await here.delete()


async def test_nobody_ever_deletes_what_was_never_there() -> None:
    store = MemoryStore()
    await session(store).delete()
    assert await session(store).history() == ()
    assert len(store) == 0


async def test_notes_lie_apart_from_the_state_and_go_with_the_session() -> None:
    here = session()
    await here.state.put('k', 1)
    await here.notes.put('k', 2)
    assert (await here.state.get('k'), await here.notes.get('k')) == (1, 2)
    await here.notes.put('large', 'x' * 250_000)
    await here.state.put('large', 'x' * 250_000)  # each has room of its own
    with pytest.raises(LamellaError, match="the notes of session 's' would be"):
        await here.notes.put('more', 'x' * 20_000)
    await here.delete()
    assert await here.notes.all() == {}
