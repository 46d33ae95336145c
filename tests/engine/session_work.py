"""What other processes do in the tests of sessions."""

import asyncio
from typing import Any

from lamella import Lamella, LamellaError, ModelResponse
from lamella.testing import ScriptedModel
from lamella.types import ToolRequest
from tests.workers import say


def app(url: str, answer: Any = None) -> Lamella:
    async def echo(request: Any, ctx: Any) -> ModelResponse:
        await asyncio.sleep(0.002)
        return ModelResponse.text_of(f're {request.messages[-1].text}')

    return Lamella(model=answer or echo, store=url)


async def take_turns(url: str, id: str, name: str, times: int, processes: int) -> list[int]:
    """Some turns, one after the other, when all processes are there; how long the history was that each found."""
    ai, found = app(url), []
    begun = ai.session(f'{id} begun')
    await begun.state.update('n', lambda n: n + 1, 0)
    while await begun.state.get('n') < processes:  # noqa: ASYNC110 - it is other processes that are waited for
        await asyncio.sleep(0.002)
    for n in range(times):
        response = await ai.generate(prompt=f'{name} {n}', session=ai.session(id, wait_s=120))
        found.append(len(response.messages) - 2)
    await ai.aclose()
    return found


async def count(url: str, id: str, times: int) -> int:
    """Changes of one value of the state, from outside of any turn."""
    ai = app(url)
    for _ in range(times):
        await ai.session(id).state.update('n', lambda n: n + 1, 0)
    await ai.aclose()
    return times


async def die_in_a_turn(url: str, id: str) -> None:
    """A turn with two tools, the second of which never ends; the test kills the process."""

    async def first(text: str) -> str:
        return text

    async def second(ctx: Any) -> str:
        await ctx.session.state.put('second', 'begun')
        say('inside')
        await asyncio.Event().wait()
        return 'never'

    ai = app(url, ScriptedModel([ToolRequest('first', {'text': 'x'}), ToolRequest('second', {}), 'never']))
    await ai.generate(prompt='go', tools=[first, second], session=ai.session(id, lease_s=1))


async def stand_still_in_a_turn(url: str, id: str) -> Any:
    """A turn whose process is stopped for longer than its lease, and then goes on as if nothing had happened."""

    async def slow(request: Any, ctx: Any) -> ModelResponse:
        say('inside')
        until = ctx.clock.now() + 0.3
        while (
            ctx.clock.now() < until
        ):  # the stop falls into this; no timer of the loop may tell the process of it first
            pass
        return ModelResponse.text_of('late')

    ai = app(url, slow)
    session = ai.session(id, lease_s=1)
    try:
        response = await ai.generate(prompt='slow', session=session)
    except LamellaError as error:
        return [error.status, error.message]
    return response.text
