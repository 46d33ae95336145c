"""The real clock."""

import asyncio
import time

from lamella.core.clock import SYSTEM_CLOCK


async def test_the_clock_of_the_system_moves_forward_and_knows_the_date() -> None:
    before = SYSTEM_CLOCK.now()
    await SYSTEM_CLOCK.sleep(0)
    assert SYSTEM_CLOCK.now() >= before
    assert abs(SYSTEM_CLOCK.time() - time.time()) < 60


async def test_a_callback_comes_later_unless_it_is_called_off() -> None:
    called = asyncio.Event()
    late = SYSTEM_CLOCK.call_later(0.001, lambda: late_calls.append(1))
    late_calls: list[int] = []
    late.cancel()
    SYSTEM_CLOCK.call_later(0.002, called.set)
    await called.wait()
    assert late_calls == []
