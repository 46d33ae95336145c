"""`SimulateStreaming`: a whole answer told as a stream, by a model that is never asked for one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lamella import Lamella, Message, ModelResponse, Usage, wrap_language_model
from lamella.core.model import Model
from lamella.middleware import Fallback, Retry, SimulateStreaming
from lamella.testing import CollectingSink, FakeClock, ScriptedModel, checked
from lamella.types import (
    ConfigError,
    DataPart,
    LamellaError,
    MediaPart,
    ReasoningPart,
    Source,
    TextPart,
    ToolRequest,
    ToolRequestPart,
    fold,
)
from tests.middleware.kit import both, kinds, no_leaks

RICH = ModelResponse(
    message=Message(
        'assistant',
        (
            ReasoningPart('why', 'sig'),
            TextPart('because', {'citations': [1]}),
            TextPart(''),
            MediaPart(url='http://x', content_type='image/png'),
            DataPart({'a': 1}, {'b': 2}),
        ),
    ),
    usage=Usage(1, 2, 3),
    model='m-1',
    id='id-1',
    sources=(Source('http://y'),),
    metadata={'n': 1},
    warnings=('w',),
)


class WholeOnly(Model):
    """Answers, and refuses to stream."""

    def __init__(self, *answers: Any, name: str = 'w/whole') -> None:
        self.name, self.answers, self.calls, self.closed = name, answers, 0, False

    async def generate(self, request: Any, ctx: Any) -> ModelResponse:
        answer = self.answers[self.calls % len(self.answers)]
        self.calls += 1
        if callable(answer):
            answer = await answer()
        if isinstance(answer, Exception):
            raise answer
        return ModelResponse.text_of(answer) if isinstance(answer, str) else answer

    def stream(self, request: Any, ctx: Any) -> AsyncIterator[Any]:
        raise AssertionError('this model was asked for a stream')

    async def aclose(self) -> None:
        self.closed = True


LAYER = SimulateStreaming()


def app(*answers: Any, **options: Any) -> Lamella:
    return Lamella(model=WholeOnly(*answers), clock=FakeClock(), **options)


async def test_a_whole_answer_is_told_as_a_stream() -> None:
    parts = [part async for part in app('hello').generate_stream(prompt='hi', use=[checked(LAYER)])]
    assert kinds(parts) == ['ResponseStarted', 'TextDelta', 'Finished']
    assert fold(parts).text == 'hello'


async def test_without_it_the_model_is_asked_for_a_stream() -> None:
    with pytest.raises(AssertionError, match='asked for a stream'):
        await app('hello').generate_stream(prompt='hi').response


async def test_everything_of_the_answer_is_in_the_stream() -> None:
    answer = await both(lambda: app(RICH), prompt='hi', use=[checked(LAYER)])
    assert (answer.message, answer.sources, answer.usage, answer.metadata) == (
        RICH.message,
        RICH.sources,
        RICH.usage,
        RICH.metadata,
    )


async def test_whole_and_streamed_runs_with_tools_agree() -> None:
    asks = ModelResponse(
        message=Message('assistant', (ToolRequestPart(ToolRequest('look', {}, 'r-1')),)), finish_reason='tool_calls'
    )

    def look() -> str:
        return 'seen'

    answer = await both(lambda: app(asks, 'done'), prompt='hi', tools=[look], use=[checked(LAYER)])
    assert (answer.text, len(answer.turns)) == ('done', 2)


async def test_a_whole_call_is_not_touched() -> None:
    model = ScriptedModel(['hi'])
    assert (await Lamella(model=model).generate(prompt='hi', use=[LAYER])).text == 'hi'


async def test_it_stands_on_either_side_of_layers_that_ask_again() -> None:
    for use in ([LAYER, Retry()], [Retry(), LAYER]):
        ai = app(LamellaError('UNAVAILABLE', 'busy'), 'hello')
        stream = ai.generate_stream(prompt='hi', use=[checked(*use)])
        assert (await stream.response).metadata['retry']['attempts'] == 2


async def test_inside_of_a_fallback_it_holds_for_every_model() -> None:
    second = WholeOnly('second', name='w/second')
    ai = app(LamellaError('UNAVAILABLE', 'busy'))
    stream = ai.generate_stream(prompt='hi', use=[checked(Fallback(models=[second]), LAYER)])
    answer = await stream.response
    assert (answer.text, answer.model, answer.metadata['fallback']['original_model']) == (
        'second',
        'w/second',
        'w/whole',
    )


async def test_the_events_are_those_of_one_call() -> None:
    for model in (WholeOnly('hi'), wrap_language_model(model=WholeOnly('hi'), middleware=LAYER)):
        sink = CollectingSink()
        ai = Lamella(model=model, clock=FakeClock(), sinks=[sink])
        await ai.generate_stream(prompt='hi', use=[LAYER]).response
        names = [name for name in sink.names if name.startswith('model.')]
        assert (names.count('model.start'), names.count('model.end')) == (1, 1)


async def test_it_works_fixed_on_a_model() -> None:
    inner = WholeOnly('hi')
    model = wrap_language_model(model=inner, middleware=LAYER)
    assert [text async for text in Lamella().generate_stream(model=model, prompt='hi').text_stream] == ['hi']
    await model.aclose()
    assert inner.closed


async def test_an_answer_that_is_none_is_the_same_error_as_in_a_whole_call() -> None:
    with pytest.raises(LamellaError, match='w/whole answered with dict: a model returns a ModelResponse') as streamed:
        await app({'text': 'x'}).generate_stream(prompt='hi', use=[LAYER]).response
    with pytest.raises(LamellaError) as whole:
        await app({'text': 'x'}).generate(prompt='hi', use=[LAYER])
    assert str(streamed.value) == str(whole.value)


async def test_concurrent_streams_share_one_instance() -> None:
    ai = Lamella(model=ScriptedModel([lambda request: request.messages[0].text], repeat=True), use=[LAYER])
    answers = await asyncio.gather(*[ai.generate_stream(prompt=str(n)).response for n in range(100)])
    assert [answer.text for answer in answers] == [str(n) for n in range(100)]


async def test_a_cancellation_reaches_the_model() -> None:
    entered, left = asyncio.Event(), asyncio.Event()

    async def waits() -> str:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        return 'never'

    async with no_leaks():
        stream = app(waits).generate_stream(prompt='hi', use=[LAYER])
        task = asyncio.create_task(anext(aiter(stream)))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await stream.aclose()
    assert left.is_set()


def test_it_takes_no_settings() -> None:
    with pytest.raises(ConfigError, match=r"SimulateStreaming takes no settings, but was given 'pieces'"):
        SimulateStreaming(pieces=3)
