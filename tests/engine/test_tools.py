"""Tools in a run: together, bounded, in order; what goes back to the model and what ends the run."""

import asyncio
import threading
from typing import Any

import pytest
from pydantic import BaseModel

from lamella import Interrupt, Lamella, LamellaError, StopRun, Tool, ToolContext, ToolError
from lamella.middleware import BaseMiddleware
from lamella.types import ConfigError, Finished, MediaPart, TextDelta, ToolRequest, ToolRequested, ToolResponse
from tests.engine.kit import CollectingSink, app, both, no_leaks, read, scripted
from tests.engine.strategies import ToolOnly


def asks(*requests: ToolRequest) -> list[ToolRequest]:
    return list(requests)


def call(name: str, ref: str = 'r1', **arguments: Any) -> ToolRequest:
    return ToolRequest(name, arguments, ref)


async def answers(*tools: Any, requests: list[ToolRequest], **options: Any) -> list[ToolResponse]:
    """The tools' answers of one turn, by way of both doors."""
    async with no_leaks():
        response = await both(lambda: app(requests, 'done'), prompt='hi', tools=list(tools), **options)
    assert response.text == 'done'
    return [part.tool_response for part in response.turns[0].tool_responses]


async def test_the_answer_goes_back_to_the_model_with_the_ref_of_its_request() -> None:
    async def double(number: int) -> int:
        return number * 2

    ai = app(asks(call('double', number=21)), 'done')
    response = await ai.generate(prompt='hi', tools=[double])
    assert response.messages[-2].tool_responses[0].tool_response == ToolResponse('double', 42, 'r1')
    assert scripted(ai).requests[1].messages == response.messages[:-1]
    assert [message.role for message in response.messages] == ['user', 'assistant', 'tool', 'assistant']


async def test_answers_stand_in_the_order_of_the_requests_whoever_is_done_first() -> None:
    first_may_end = asyncio.Event()

    async def slow() -> str:
        await first_may_end.wait()
        return 'slow'

    async def quick() -> str:
        first_may_end.set()
        return 'quick'

    got = await answers(slow, quick, requests=asks(call('slow'), call('quick', 'r2')))
    assert [answer.output for answer in got] == ['slow', 'quick']


async def test_at_most_max_parallel_tools_run_at_once() -> None:
    running, most = 0, 0

    async def busy() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1

    ai = app([call('busy', f'r{n}') for n in range(20)], 'done', max_parallel_tools=3)
    await ai.generate(prompt='hi', tools=[busy])
    assert most == 3


async def test_a_sync_tool_runs_in_a_thread_and_leaves_the_loop_free() -> None:
    threads = set()
    free = threading.Event()

    def blocking() -> str:
        threads.add(threading.get_ident())
        assert free.wait(10)
        return 'done'

    async def frees() -> str:
        free.set()
        return 'free'

    got = await answers(blocking, frees, requests=asks(call('blocking'), call('frees', 'r2')))
    assert [answer.output for answer in got] == ['done', 'free']
    assert threading.get_ident() not in threads


@pytest.mark.parametrize(
    'how', ['tool error', 'bad input', 'extra input', 'missing input', 'text for an object', 'null']
)
async def test_what_the_model_can_correct_goes_back_to_it_as_an_error(how) -> None:
    async def pay(amount: int) -> str:
        raise ToolError('the bank is closed')

    given: Any = {
        'tool error': {'amount': 1}, 'bad input': {'amount': 'much'}, 'extra input': {'amount': 1, 'to': 'me'},
        'missing input': {}, 'text for an object': '{"amount": ', 'null': None,
    }[how]  # fmt: skip
    wanted = {
        'tool error': 'the bank is closed', 'bad input': 'amount', 'extra input': 'to', 'missing input': 'amount',
        'text for an object': 'not a JSON object', 'null': 'amount',
    }[how]  # fmt: skip
    (got,) = await answers(pay, requests=asks(ToolRequest('pay', given, 'r1')))
    assert got.is_error
    assert wanted in got.output
    assert (got.name, got.ref) == ('pay', 'r1')


async def test_an_unknown_tool_is_answered_with_the_nearest_name() -> None:
    async def get_weather(city: str) -> str:
        return 'sun'

    (got,) = await answers(get_weather, requests=asks(call('get_wether', city='Rome')))
    assert got.is_error
    assert got.output == "unknown tool 'get_wether': did you mean 'get_weather'?"


async def test_a_tool_asked_for_in_a_run_without_tools_is_answered_and_not_run() -> None:
    (got,) = await answers(requests=asks(call('anything')))
    assert got.is_error
    assert 'unknown tool' in got.output


@pytest.mark.parametrize(
    'error', [ValueError('bug'), LamellaError('INTERNAL', 'broken'), ConfigError('wrong')], ids=repr
)
async def test_any_other_exception_of_a_tool_ends_the_run_as_it_is(error) -> None:
    async def breaks() -> None:
        raise error

    ai = app(asks(call('breaks')), 'never')
    with pytest.raises(type(error)) as caught:
        await ai.generate(prompt='hi', tools=[breaks])
    assert caught.value is error
    assert len(scripted(ai).requests) == 1


@pytest.mark.parametrize('streaming', [False, True])
async def test_when_a_tool_fails_for_good_its_siblings_are_cancelled_and_awaited(streaming) -> None:
    log, running = [], []
    both_run = asyncio.Event()

    async def sibling() -> None:
        running.append(1)
        if len(running) == 2:
            both_run.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            log.append('cleaned up')

    async def fails() -> None:
        await both_run.wait()
        raise ValueError('bug')

    ai = app(asks(call('sibling'), call('fails', 'r2'), call('sibling', 'r3')), 'never')
    options = {'prompt': 'hi', 'tools': [sibling, fails]}
    async with no_leaks():
        with pytest.raises(ValueError, match='bug'):
            await (read(ai, **options) if streaming else ai.generate(**options))
        assert log == ['cleaned up', 'cleaned up']


async def test_tools_that_wait_for_a_slot_never_start_after_a_failure() -> None:
    started = []

    async def fails(number: int) -> None:
        started.append(number)
        raise ValueError('bug')

    ai = app([call('fails', f'r{n}', number=n) for n in range(5)], 'never', max_parallel_tools=1)
    async with no_leaks():
        with pytest.raises(ValueError, match='bug'):
            await ai.generate(prompt='hi', tools=[fails])
    assert started == [0]


async def test_two_tools_that_fail_at_once_give_the_first_ones_error_and_no_warning() -> None:
    async def fails(text: str) -> None:
        raise ValueError(text)

    ai = app(asks(call('fails', text='one'), call('fails', 'r2', text='two')))
    async with no_leaks():
        with pytest.raises(ValueError, match='one'):
            await ai.generate(prompt='hi', tools=[fails])


async def test_a_tool_error_of_one_leaves_the_siblings_alone() -> None:
    async def fails() -> None:
        raise ToolError('no')

    async def works() -> str:
        for _ in range(5):
            await asyncio.sleep(0)
        return 'yes'

    got = await answers(fails, works, requests=asks(call('fails'), call('works', 'r2')))
    assert [(answer.output, answer.is_error) for answer in got] == [('no', True), ('yes', False)]


async def test_cancelling_the_call_cancels_the_tools_and_waits_for_them() -> None:
    log = []
    running = asyncio.Event()

    async def endless(n: int) -> None:
        if n == 2:
            running.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            log.append(n)

    ai = app([call('endless', f'r{n}', n=n) for n in range(3)])
    async with no_leaks():
        task = asyncio.create_task(ai.generate(prompt='hi', tools=[endless]))
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(log) == [0, 1, 2]


class Swallows(BaseMiddleware):
    """What many write: catches everything."""

    async def wrap_tool(self, params, ctx, next_fn):
        try:
            return await next_fn(params, ctx)
        except Exception as error:
            return ToolResponse('swallowed', f'swallowed {type(error).__name__}', 'other ref')


async def test_except_exception_in_a_layer_swallows_no_interrupt() -> None:
    async def waits() -> None:
        raise Interrupt('may I?')

    response = await both(lambda: app(asks(call('waits'))), prompt='hi', tools=[waits], use=[Swallows(), Swallows()])
    assert response.stop_reason == 'interrupted'


async def test_except_exception_in_a_layer_swallows_no_stop() -> None:
    async def stops() -> None:
        raise StopRun('guardrail')

    options = {'prompt': 'hi', 'tools': [stops], 'use': [Swallows()]}
    assert (await app(asks(call('stops'))).generate(**options)).stop_reason == 'guardrail'
    assert (await read(app(asks(call('stops'))), **options))[-1].stop_reason == 'guardrail'


async def test_except_exception_in_a_layer_swallows_no_cancellation() -> None:
    running = asyncio.Event()

    async def endless() -> None:
        running.set()
        await asyncio.Event().wait()

    async with no_leaks():
        task = asyncio.create_task(app(asks(call('endless'))).generate(prompt='hi', tools=[endless], use=[Swallows()]))
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_layer_may_turn_a_failure_into_an_answer_which_keeps_the_requests_name_and_ref() -> None:
    async def breaks() -> None:
        raise ValueError('bug')

    got = await answers(breaks, requests=asks(call('breaks')), use=[Swallows()])
    assert got == [ToolResponse('breaks', 'swallowed ValueError', 'r1')]


async def test_a_layer_that_returns_no_tool_response_is_one_clear_error() -> None:
    class Forgets(BaseMiddleware):
        async def wrap_tool(self, params, ctx, next_fn):
            await next_fn(params, ctx)

    with pytest.raises(LamellaError, match="layer around tool 'works' returned NoneType"):
        await app(asks(call('works'))).generate(prompt='hi', tools=[Tool('works', run=lambda _: 1)], use=[Forgets()])


async def test_layers_around_tools_stand_in_order_and_see_each_call() -> None:
    log = []

    class Notes(BaseMiddleware):
        def __init__(self, label):
            super().__init__()
            self.label = label

        async def wrap_tool(self, params, ctx, next_fn):
            log.append(f'{self.label}>{params.tool_request.ref}')
            response = await next_fn(params, ctx)
            log.append(f'{self.label}<{params.tool_request.ref}')
            return response

    async def works() -> str:
        return 'ok'

    ai = app(asks(call('works')), asks(call('works', 'r2')), 'done')
    await ai.generate(prompt='hi', tools=[works], use=[Notes('a'), Notes('b')])
    assert log == ['a>r1', 'b>r1', 'b<r1', 'a<r1', 'a>r2', 'b>r2', 'b<r2', 'a<r2']


async def test_a_layer_may_change_the_input_of_a_tool() -> None:
    class Doubles(BaseMiddleware):
        async def wrap_tool(self, params, ctx, next_fn):
            request = params.tool_request.replace(input={'number': params.tool_request.input['number'] * 2})
            part = params.tool_request_part.replace(tool_request=request)
            return await next_fn(params.replace(tool_request_part=part), ctx)

    async def same(number: int) -> int:
        return number

    (got,) = await answers(same, requests=asks(call('same', number=4)), use=[Doubles()])
    assert got.output == 8


async def test_a_tool_is_given_its_context() -> None:
    seen = []

    async def looks(city: str, ctx: ToolContext) -> str:
        seen.append((city, ctx.context['tenant'], ctx.ref, ctx.resumed))
        return 'ok'

    await answers(looks, requests=asks(call('looks', city='Rome')), context={'tenant': 'acme'})
    assert seen == [('Rome', 'acme', 'r1', None)] * 2


class Trip(BaseModel):
    city: str
    days: int = 3


@pytest.mark.parametrize(
    ('output', 'wanted'),
    [
        (Trip(city='Rome'), {'city': 'Rome', 'days': 3}),
        ([Trip(city='x', days=1)], [{'city': 'x', 'days': 1}]),
        ({'a': (1, 2)}, {'a': [1, 2]}),
        (None, None),
        ('', ''),
        (float('inf'), float('inf')),
    ],
    ids=repr,
)
async def test_what_a_tool_returns_becomes_a_json_value(output, wanted) -> None:
    async def gives() -> Any:
        return output

    (got,) = await answers(gives, requests=asks(call('gives')))
    assert got.output == wanted


async def test_a_picture_stays_a_picture() -> None:
    async def draws() -> MediaPart:
        return MediaPart(data=b'png', content_type='image/png')

    (got,) = await answers(draws, requests=asks(call('draws')))
    assert got.output == MediaPart(data=b'png', content_type='image/png')


async def test_what_is_no_json_ends_the_run_and_names_the_tool() -> None:
    async def gives() -> Any:
        return object()

    with pytest.raises(ConfigError, match="tool 'gives' returned a object"):
        await app(asks(call('gives'))).generate(prompt='hi', tools=[gives])


async def test_requests_without_an_id_are_given_one_each() -> None:
    async def works() -> str:
        return 'ok'

    def build() -> Lamella:
        return app([ToolRequest('works', {}), ToolRequest('works', {})], 'done')

    response = await both(build, prompt='hi', tools=[works])
    refs = [part.tool_request.ref for part in response.turns[0].tool_requests]
    assert len(set(refs)) == 2
    assert all(ref.startswith('call_') for ref in refs)
    assert [part.tool_response.ref for part in response.turns[0].tool_responses] == refs


@pytest.mark.parametrize('finish', ['length', 'blocked'])
async def test_an_answer_that_was_cut_off_or_blocked_runs_no_tools(finish) -> None:
    ran = []

    async def works() -> None:
        ran.append(1)

    def build() -> Lamella:
        return app([TextDelta('so'), ToolRequested(call('works')), Finished(finish)])

    response = await both(build, prompt='hi', tools=[works])
    assert ran == []
    assert response.stop_reason == ('max_tokens' if finish == 'length' else 'final')


async def test_two_tools_of_one_name_are_refused_with_both_origins() -> None:
    class Brings(BaseMiddleware):
        def tools(self, ctx):
            return [Tool('echo', run=lambda value: value)]

    async def echo(text: str) -> str:
        return text

    with pytest.raises(LamellaError, match="two tools are named 'echo', from tools= and from brings"):
        await app('x').generate(prompt='hi', tools=[echo], use=[Brings()])


async def test_a_layer_brings_tools_that_see_the_context() -> None:
    class Brings(BaseMiddleware):
        def tools(self, ctx):
            async def who() -> str:
                return ctx.context['user']

            return [who]

    (got,) = await answers(requests=asks(call('who')), use=[Brings()], context={'user': 'ann'})
    assert got.output == 'ann'


async def test_the_events_of_tools_tell_names_and_facts() -> None:
    async def works() -> str:
        return 'ok'

    async def fails() -> None:
        raise ToolError('no')

    sink = CollectingSink()
    ai = app(asks(call('works')), asks(call('fails', 'r2')), 'done', sinks=[sink])
    await ai.generate(prompt='hi', tools=[works, fails])
    facts = [event.facts for event in sink.events if event.name.startswith('tool.')]
    assert [name for name in sink.names if name.startswith('tool.')] == ['tool.start', 'tool.end'] * 2
    assert [fact['tool'] for fact in facts] == ['works', 'works', 'fails', 'fails']
    assert [fact['is_error'] for fact in facts if 'is_error' in fact] == [False, True]


async def test_tools_are_layered_by_looking_on_without_any_change() -> None:
    async def works() -> str:
        return 'ok'

    plain = await answers(works, requests=asks(call('works')))
    assert await answers(works, requests=asks(call('works')), use=[ToolOnly(), ToolOnly()]) == plain
