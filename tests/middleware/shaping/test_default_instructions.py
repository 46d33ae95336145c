"""`DefaultInstructions`: a system message where there is none, and never twice."""

import asyncio
from typing import Any

import pytest

from lamella import Lamella, Message, wrap_language_model
from lamella.middleware import BaseMiddleware, DefaultInstructions, Fallback, Retry
from lamella.testing import ScriptedModel, checked
from lamella.types import ConfigError, LamellaError, ToolRequest
from tests.middleware.kit import both, down, no_leaks, world

BRIEF = Message.system('Be brief.')
MISSING = DefaultInstructions(text='Be brief.')
PREPEND = DefaultInstructions(text='Be brief.', mode='prepend')


def look() -> str:
    return 'seen'


async def asked(*use: Any, **options: Any) -> tuple[Message, ...]:
    """The messages that the model got, which must be the same whole and streamed."""
    app = world({'x/a': ['hi', 'hi']})
    assert (await app.answer(checked(*use), **options)).text == 'hi'
    assert (await app.read(checked(*use), **options))[1] is None
    whole, streamed = app.models['x/a'].requests
    assert whole == streamed
    return whole.messages


@pytest.mark.parametrize('layer', [MISSING, PREPEND])
async def test_a_request_without_a_system_message_gets_one_in_front(layer: DefaultInstructions) -> None:
    assert await asked(layer) == (BRIEF, Message.user('hi'))


async def test_a_request_with_a_system_message_stays_as_it_is() -> None:
    assert await asked(MISSING, system='Mine.') == (Message.system('Mine.'), Message.user('hi'))


async def test_prepended_they_come_before_the_calls_own() -> None:
    assert await asked(PREPEND, system='Mine.') == (BRIEF, Message.system('Mine.'), Message.user('hi'))


@pytest.mark.parametrize('layer', [MISSING, PREPEND])
async def test_the_same_instructions_are_never_given_twice(layer: DefaultInstructions) -> None:
    assert await asked(layer, layer) == (BRIEF, Message.user('hi'))
    assert await asked(layer, DefaultInstructions(text='Be brief.', mode='prepend')) == (BRIEF, Message.user('hi'))
    assert await asked(layer, system='Be brief.') == (BRIEF, Message.user('hi'))


async def test_different_ones_add_up_when_prepended_the_inner_first() -> None:
    other = DefaultInstructions(text='Be kind.', mode='prepend')
    assert await asked(PREPEND, other) == (Message.system('Be kind.'), BRIEF, Message.user('hi'))


@pytest.mark.parametrize('outside', [True, False])
@pytest.mark.parametrize('layer', [MISSING, PREPEND])
async def test_every_attempt_of_every_model_gets_them_once(layer: DefaultInstructions, outside: bool) -> None:
    again = [Fallback(models=['y/b']), Retry(max_retries=2)]
    for call in ('answer', 'read'):
        app = world({'x/a': [down(), down(), down()], 'y/b': [down(), 'hi']})
        await getattr(app, call)(*([layer, *again] if outside else [*again, layer]))
        asked = [request.messages for model in app.models.values() for request in model.requests]
        assert asked == [(BRIEF, Message.user('hi'))] * 5


async def test_a_layer_that_calls_twice_does_not_get_them_twice() -> None:
    class Twice(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            try:
                return await next_fn(params, ctx)
            except LamellaError:
                return await next_fn(params, ctx)

    app = world({'x/a': [down(), 'hi']})
    await app.answer(Twice(), PREPEND)
    assert [len(request.messages) for request in app.models['x/a'].requests] == [2, 2]


async def test_they_are_there_on_every_turn_and_not_in_the_conversation() -> None:
    def app() -> Lamella:
        return world({'x/a': [ToolRequest('look', {}, 'r-1'), 'done']}).ai

    answer = await both(app, prompt='hi', tools=[look], use=[checked(PREPEND)])
    assert [message.role for message in answer.messages] == ['user', 'assistant', 'tool', 'assistant']
    one = world({'x/a': [ToolRequest('look', {}, 'r-1'), 'done']})
    await one.answer(PREPEND, tools=[look])
    assert [[m.role for m in request.messages].count('system') for request in one.models['x/a'].requests] == [1, 1]


async def test_it_works_fixed_on_a_model_and_for_concurrent_calls() -> None:
    inner = ScriptedModel(['hi'], repeat=True)
    model = wrap_language_model(model=inner, middleware=MISSING)
    await asyncio.gather(*[Lamella().generate(model=model, prompt=str(n)) for n in range(50)])
    assert sorted(int(request.messages[1].text) for request in inner.requests) == [*range(50)]
    assert {request.messages[0].text for request in inner.requests} == {'Be brief.'}


async def test_a_cancellation_passes() -> None:
    entered = asyncio.Event()

    async def waits(request: Any) -> str:
        entered.set()
        await asyncio.Event().wait()
        return 'never'

    app = world({'x/a': [waits]})
    async with no_leaks():
        task = asyncio.create_task(app.read(MISSING))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({}, 'text: Field required'),
        ({'text': ' \n'}, r"text: .*is empty: write the instructions \(given ' "),
        ({'text': 7}, r'text: Input should be a valid string \(given 7\)'),
        ({'text': 'x', 'mode': 'append'}, r"mode: Input should be 'missing' or 'prepend' \(given 'append'\)"),
        ({'txt': 'x'}, r"unknown setting 'txt'.*'text'"),
    ],
)
def test_wrong_settings_are_refused_when_it_is_built(options: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        DefaultInstructions(**options)
