"""One thing for each event loop, closed when the loop ends, when asked, or when it is forgotten."""

from __future__ import annotations

import asyncio
import gc

from lamella.core.loops import PerLoop


class Thing:
    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.is_closed = False

    async def close(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        self.is_closed = True


def test_each_loop_has_its_own_and_closes_it_when_it_ends() -> None:
    things: PerLoop[Thing] = PerLoop(Thing, Thing.close)

    async def twice() -> Thing:
        first, second = await asyncio.gather(things.get(), things.get())
        assert first is second
        return first

    first, second = asyncio.run(twice()), asyncio.run(twice())
    assert first is not second
    assert first.is_closed
    assert second.is_closed


async def test_closing_is_for_this_loop_and_the_next_use_opens_again() -> None:
    things: PerLoop[Thing] = PerLoop(Thing, Thing.close)
    await things.aclose()
    first = await things.get()
    other = await asyncio.to_thread(asyncio.run, things.get())
    assert other is not first
    assert other.is_closed
    assert not first.is_closed
    await things.aclose()
    await things.aclose()
    assert first.is_closed
    second = await things.get()
    assert second is not first
    assert not second.is_closed
    await things.aclose()


async def test_what_is_forgotten_is_closed() -> None:
    things: PerLoop[Thing] = PerLoop(Thing, Thing.close)
    thing = await things.get()
    del things
    gc.collect()
    for _ in range(10):
        await asyncio.sleep(0)
    assert thing.is_closed


def test_a_loop_that_ended_without_a_word_is_forgotten() -> None:
    things: PerLoop[Thing] = PerLoop(Thing, Thing.close)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(things.get())
    loop.close()
    asyncio.run(things.get())
    assert things._kept == {}
