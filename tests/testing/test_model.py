"""The scripted model: says what the test wrote, and remembers what it was asked."""

from random import Random
from typing import Any

import pytest

from lamella import Lamella
from lamella.core.context import GenerateMiddlewareContext
from lamella.testing import ScriptedModel
from lamella.types import (
    Finished,
    LamellaError,
    Message,
    ModelRequest,
    ModelResponse,
    ResponseStarted,
    TextDelta,
    ToolRequest,
    ToolRequested,
)

CTX = GenerateMiddlewareContext(Lamella(), random=Random(1))
REQUEST = ModelRequest((Message.user('hi'),))


async def whole(answer: Any) -> ModelResponse:
    return await ScriptedModel([answer]).generate(REQUEST, CTX)


async def parts(answer: Any) -> list[Any]:
    return [part async for part in ScriptedModel([answer]).stream(REQUEST, CTX)]


async def later(request: Any) -> str:
    return 'later'


@pytest.mark.parametrize(
    ('answer', 'text', 'finish'),
    [
        ('hi', 'hi', 'stop'),
        (ModelResponse.text_of('hi', finish_reason='length'), 'hi', 'length'),
        ([TextDelta('h'), TextDelta('i')], 'hi', 'stop'),
        ([TextDelta('hi'), Finished('blocked')], 'hi', 'blocked'),
        ([TextDelta('hi'), ToolRequest('t')], 'hi', 'tool_calls'),
        (ToolRequest('t'), '', 'tool_calls'),
        ([ToolRequest('t'), ToolRequest('u')], '', 'tool_calls'),
        (lambda request: request.messages[0].text, 'hi', 'stop'),
        (later, 'later', 'stop'),
        ('', '', 'stop'),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_every_form_of_answer_is_the_same_in_both_doors(answer, text, finish) -> None:
    response = await whole(answer)
    assert (response.text, response.finish_reason) == (text, finish)
    streamed = await parts(answer)
    assert ''.join(part.text for part in streamed if type(part) is TextDelta) == text
    assert type(streamed[-1]) is Finished


async def test_an_exception_is_raised_at_its_place() -> None:
    for error in (LamellaError('UNAVAILABLE', 'down'), ValueError('bug')):
        with pytest.raises(type(error)):
            await whole(error)
        model = ScriptedModel([[TextDelta('a'), error]])
        stream = model.stream(REQUEST, CTX)
        assert await anext(stream) == TextDelta('a')
        with pytest.raises(type(error)):
            await anext(stream)
        assert model.closed == 0


async def test_answers_come_in_turn_and_requests_are_kept() -> None:
    model = ScriptedModel(['a', 'b'])
    texts = [(await model.generate(REQUEST, CTX)).text for _ in range(2)]
    assert texts == ['a', 'b']
    assert model.requests == [REQUEST, REQUEST]
    with pytest.raises(AssertionError, match='call 3, but the script has 2 answers'):
        await model.generate(REQUEST, CTX)


async def test_a_repeating_script_starts_over() -> None:
    model = ScriptedModel(['a', 'b'], repeat=True)
    assert [(await model.generate(REQUEST, CTX)).text for _ in range(5)] == ['a', 'b', 'a', 'b', 'a']
    with pytest.raises(AssertionError):
        await ScriptedModel([], repeat=True).generate(REQUEST, CTX)


async def test_what_was_pulled_and_what_was_left_is_counted() -> None:
    model = ScriptedModel([[TextDelta(str(n)) for n in range(9)]], repeat=True)
    stream = model.stream(REQUEST, CTX)
    await anext(stream)
    await anext(stream)
    await stream.aclose()
    assert (model.pulled, model.closed) == (2, 1)
    async for _ in model.stream(REQUEST, CTX):
        pass
    assert (model.pulled, model.closed) == (10, 1)


@pytest.mark.parametrize('wrong', [5, None, ['x', TextDelta('y')], [5]], ids=repr)
async def test_what_is_no_answer_is_a_type_error(wrong) -> None:
    with pytest.raises(TypeError, match='scripted'):
        await whole(wrong)


async def test_tool_requests_among_parts_are_numbered_by_their_place() -> None:
    got = await parts([ResponseStarted(), ToolRequest('a'), ToolRequest('b')])
    assert [part.index for part in got if type(part) is ToolRequested] == [1, 2]
