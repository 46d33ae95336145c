"""The innermost ring: one call of one model, with its answer checked."""

from random import Random
from typing import Any

import pytest

from lamella import Lamella, LamellaError
from lamella.core.calls import call_model, stream_model
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.models import ModelRef
from lamella.core.params import Continuing, Escort, ModelHookParams
from lamella.middleware import BaseMiddleware, Retry, wrap_language_model
from lamella.testing import CollectingSink, FakeClock, ScriptedModel
from lamella.types import (
    Finished,
    ModelRequest,
    ModelResponse,
    Raw,
    Rejected,
    ResponseStarted,
    TextDelta,
    ToolRequest,
    ToolRequested,
    Usage,
)


def ctx(**options: Any) -> GenerateMiddlewareContext:
    return GenerateMiddlewareContext(Lamella(), random=Random(1), clock=FakeClock(start=5), **options)


def params(*answer: Any, **options: Any) -> ModelHookParams:
    return ModelHookParams(ModelRequest(), ScriptedModel(list(answer)), **options)


async def parts(*answer: Any, context: Any = None, **options: Any) -> list[Any]:
    return [part async for part in stream_model(params(*answer, **options), context or ctx())]


async def test_a_stream_has_one_start_and_one_end_whatever_the_model_gives() -> None:
    assert await parts([TextDelta('a')]) == [
        ResponseStarted('scripted/model'), TextDelta('a'), Finished('stop', model='scripted/model'),
    ]  # fmt: skip
    given = [ResponseStarted('v/m', 'id'), TextDelta('a'), Finished('stop', model='v/n')]
    assert await parts(given) == [*given[:2], Finished('stop', model='v/n', id='id')]
    assert await parts([ResponseStarted(None, 'id'), Finished('stop')]) == [
        ResponseStarted(None, 'id'), Finished('stop', model='scripted/model', id='id'),
    ]  # fmt: skip


async def test_what_the_start_notes_comes_with_the_end() -> None:
    got = await parts([ResponseStarted('m', metadata={'a': 1, 'b': 1}), Finished('stop', metadata={'b': 2})])
    assert got == [ResponseStarted('m'), Finished('stop', metadata={'a': 1, 'b': 2}, model='m')]


async def test_parts_after_the_end_are_not_read() -> None:
    got = await parts([Finished('stop'), TextDelta('late'), Finished('stop')])
    assert [type(part) for part in got] == [ResponseStarted, Finished]


async def test_an_attempt_that_fails_at_once_leaves_no_trace() -> None:
    stream = stream_model(params([ResponseStarted('m'), LamellaError('UNAVAILABLE', 'x')]), ctx())
    with pytest.raises(LamellaError):
        await anext(stream)


async def test_a_call_after_the_first_text_is_refused_unless_it_goes_on() -> None:
    context = ctx()
    context.committed = True
    with pytest.raises(LamellaError, match=r'continues=Continuing\(\)') as caught:
        await parts('x', context=context)
    assert caught.value.status == 'FAILED_PRECONDITION'
    assert [type(part) for part in await parts('x', context=context, continues=Continuing())] == [
        ResponseStarted,
        TextDelta,
        Finished,
    ]


async def test_the_refusal_of_a_second_call_has_the_status_of_what_went_wrong_first() -> None:
    context = ctx()
    error = LamellaError('RESOURCE_EXHAUSTED', 'over quota', retry_after_s=3)
    with pytest.raises(LamellaError):
        await parts([TextDelta('x'), error], context=context)
    context.committed = True
    with pytest.raises(LamellaError, match='over quota') as caught:
        await parts('x', context=context)
    assert caught.value.status == 'RESOURCE_EXHAUSTED'
    assert caught.value.__cause__ is error


async def test_requests_without_an_id_get_one_in_both_doors_and_others_keep_theirs() -> None:
    requests = [ToolRequest('a', {}), ToolRequest('b', {}, 'mine')]
    response = await call_model(params(requests), ctx())
    streamed = [part.tool_request for part in await parts(requests) if type(part) is ToolRequested]
    assert [part.tool_request for part in response.tool_requests] == streamed
    assert streamed[1].ref == 'mine'
    assert len(streamed[0].ref) == len('call_') + 16


async def test_events_of_a_call_tell_its_course() -> None:
    for streaming in (False, True):
        sink = CollectingSink()
        context = ctx(sinks=(sink,))
        answer = [Raw('ping'), TextDelta('x'), Finished('stop', Usage(1, 2, 3))]
        if streaming:
            await parts(answer, context=context)
            assert sink.names == ['model.start', 'model.first_part', 'model.end']
        else:
            await call_model(params(answer, attempt=2), context)
            assert sink.names == ['model.start', 'model.end']
            asked = {'model': 'scripted/model', 'attempt': 2, 'call': 1, 'request': ModelRequest()}
            assert sink.events[0].facts == asked
        assert sink.events[-1].facts['usage'] == Usage(1, 2, 3)
        assert sink.events[-1].facts['duration_s'] == 0


@pytest.mark.parametrize('streaming', [False, True])
async def test_a_bug_in_a_model_passes_and_is_no_attempt(streaming) -> None:
    context = ctx()
    call = (
        parts(ZeroDivisionError(), context=context) if streaming else call_model(params(ZeroDivisionError()), context)
    )
    with pytest.raises(ZeroDivisionError):
        await call
    assert context.attempts == []


async def test_a_response_with_an_unknown_model_is_named_after_the_one_asked() -> None:
    assert (await call_model(params(ModelResponse.text_of('x')), ctx())).model == 'scripted/model'


class Goes(Escort):
    """Notes what it is asked and told."""

    def __init__(self, log: list[Any], listens: bool = False, refuses: bool = False) -> None:
        self.log, self.refuses = log, refuses
        self.listens = listens  # type: ignore[misc]

    async def before(self, params: ModelHookParams, ctx: GenerateMiddlewareContext) -> None:
        self.log.append(('before', params.attempt, ctx.sent))
        if self.refuses:
            raise Rejected('not now', by='goes')

    def heard(self, part: Any) -> None:
        self.log.append(type(part))


@pytest.mark.parametrize('streaming', [False, True])
async def test_an_escort_is_asked_before_each_request_wherever_it_was_sent_from(streaming) -> None:
    class Sends(BaseMiddleware[Any]):
        async def transform_params(self, params: Any, ctx: Any) -> Any:
            return params.escorted(Goes(log))

    for use, asked in (([Sends(), Retry()], [1, 2]), ([Retry(), Sends()], [1, 2])):
        log: list[Any] = []
        model = ScriptedModel([LamellaError('UNAVAILABLE', 'down'), 'x'])
        ai = Lamella(model=model, clock=FakeClock())
        if streaming:
            assert [piece async for piece in ai.generate_stream(prompt='hi', use=use).text_stream] == ['x']
        else:
            assert (await ai.generate(prompt='hi', use=use)).text == 'x'
        assert log == [('before', attempt, attempt - 1) for attempt in asked]


@pytest.mark.parametrize('streaming', [False, True])
async def test_an_escort_that_refuses_lets_nothing_be_sent(streaming) -> None:
    context, log = ctx(sinks=(sink := CollectingSink(),)), list[Any]()
    asked = params('x').escorted(Goes(log, refuses=True))
    with pytest.raises(Rejected, match='not now'):
        await (anext(stream_model(asked, context)) if streaming else call_model(asked, context))
    assert (context.sent, sink.names, asked.model.requests, context.attempts) == (0, [], [], [])  # type: ignore[attr-defined]


async def test_an_escort_that_listens_hears_the_model_s_own_parts_also_in_a_whole_call() -> None:
    answer = [ResponseStarted('m'), TextDelta('a'), Finished('stop', Usage(1, 2, 3))]
    told = [('before', 1, 0), ResponseStarted, TextDelta, Finished]
    whole, streamed = list[Any](), list[Any]()
    response = await call_model(params(answer).escorted(Goes(whole, listens=True)).escorted(Goes([])), ctx())
    assert response == await call_model(params(answer), ctx())
    assert [part async for part in stream_model(params(answer).escorted(Goes(streamed, listens=True)), ctx())]
    assert whole == streamed == told


async def test_what_had_arrived_of_a_whole_call_that_is_listened_to_is_in_its_error() -> None:
    asked = params([TextDelta('Half'), LamellaError('UNAVAILABLE', 'cut')]).escorted(Goes([], listens=True))
    with pytest.raises(LamellaError) as caught:
        await call_model(asked, ctx())
    assert caught.value.partial is not None
    assert caught.value.partial.text == 'Half'


@pytest.mark.parametrize('streaming', [False, True])
async def test_escorts_go_along_into_a_model_with_layers_inside(streaming) -> None:
    class Sends(BaseMiddleware[Any]):
        async def transform_params(self, params: Any, ctx: Any) -> Any:
            return params.escorted(Goes(log))

    log: list[Any] = []
    raw = ScriptedModel([LamellaError('UNAVAILABLE', 'down')] * 3 + ['x'], name='x/a')
    inside = wrap_language_model(model=raw, middleware=[Retry(max_retries=1)])
    ai = Lamella(clock=FakeClock())
    ai.registry.add_model('own/a', inside)
    ref = ModelRef('own/a', config={'temperature': 0.5})
    use = [Sends(), Retry(max_retries=1)]
    if streaming:
        pieces = ai.generate_stream(model=ref, prompt='hi', use=use).text_stream
        assert [piece async for piece in pieces] == ['x']
    else:
        assert (await ai.generate(model=ref, prompt='hi', use=use)).text == 'x'
    # the second attempt outside is the second one inside too, so that nobody takes it for the first
    assert log == [('before', 1, 0), ('before', 2, 1), ('before', 2, 2), ('before', 3, 3)]


@pytest.mark.parametrize('streaming', [False, True])
async def test_an_escort_hears_a_model_with_layers_inside(streaming) -> None:
    answer = [ResponseStarted('m'), TextDelta('a'), Finished('stop')]
    model = wrap_language_model(model=ScriptedModel([answer]), middleware=[Retry(commit='finish')])
    log: list[Any] = []
    asked = ModelHookParams(ModelRequest(), model).escorted(Goes(log, listens=True))
    if streaming:
        assert [part async for part in stream_model(asked, ctx())]
    else:
        assert (await call_model(asked, ctx())).text == 'a'
    assert log == [('before', 1, 0), ResponseStarted, TextDelta, Finished]
