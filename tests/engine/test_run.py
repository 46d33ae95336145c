"""The run: turn after turn, as a loop; what it counts, where it stops, and what it leaves behind."""

import asyncio
import gc
import tracemalloc
from typing import Any

import pytest

from lamella import Interrupt, Lamella, LamellaError, StopRun, ToolError
from lamella.middleware import BaseMiddleware
from lamella.testing import FakeClock, ScriptedModel
from lamella.types import (
    Finished,
    Message,
    ModelResponse,
    Rejected,
    TextDelta,
    TextPart,
    ToolRequest,
    ToolRequested,
    ToolRequestPart,
    Usage,
)
from tests.engine.kit import app, both, no_leaks, read, scripted
from tests.engine.strategies import (
    Both,
    GenerateOnly,
    ModelOnly,
    NaiveRetry,
    Noted,
    RunOnly,
    StreamOnly,
    ToolOnly,
    Transforms,
    echo,
)


def ask(text: str = 'x', ref: str = 'r') -> ToolRequest:
    return ToolRequest('echo', {'text': text}, ref)


# ── turns ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_run_asks_until_the_model_is_done() -> None:
    response = await both(lambda: app(ask('a'), ask('b'), 'done'), prompt='hi', tools=[echo])
    assert (response.text, response.stop_reason, response.finish_reason) == ('done', 'final', 'stop')
    assert len(response.turns) == 3
    assert [message.role for message in response.messages] == [
        'user', 'assistant', 'tool', 'assistant', 'tool', 'assistant',
    ]  # fmt: skip
    assert response.messages[-1] == response.message


@pytest.mark.parametrize('limit', [1, 2, 5])
async def test_max_turns_bounds_the_model_calls(limit) -> None:
    models = []

    def build() -> Lamella:
        ai = app(ask(), repeat=True)
        models.append(scripted(ai))
        return ai

    response = await both(build, prompt='hi', tools=[echo], max_turns=limit)
    assert response.stop_reason == 'max_turns'
    assert [len(model.requests) for model in models] == [limit, limit]
    assert response.messages[-1].role == 'tool'


async def test_the_app_has_its_own_bound_on_turns() -> None:
    ai = app(ask(), repeat=True, max_turns=3)
    assert len((await ai.generate(prompt='hi', tools=[echo])).turns) == 3
    assert len((await ai.generate(prompt='hi', tools=[echo], max_turns=4)).turns) == 4


@pytest.mark.parametrize('streaming', [False, True])
@pytest.mark.slow
async def test_a_thousand_turns_through_thirty_layers(streaming) -> None:
    kinds = [ModelOnly, StreamOnly, Both, Transforms, GenerateOnly, ToolOnly, NaiveRetry, RunOnly, Noted, ModelOnly]
    requests = [[TextDelta('so '), ToolRequested(ask(ref=f'r{n}'))] for n in range(999)]
    ai = app(*requests, 'done', max_turns=1_000)
    options = {'prompt': 'hi', 'tools': [echo], 'use': [kind() for kind in kinds * 3]}
    async with no_leaks():
        if streaming:
            stream = ai.generate_stream(**options)
            parts = [part async for part in stream]
            assert sum(type(part) is Finished for part in parts) == 1_000
            response = await stream.response
        else:
            response = await ai.generate(**options)
    assert (response.text, len(response.turns)) == ('done', 1_000)


async def test_a_turn_is_numbered_from_zero_for_its_layers() -> None:
    seen = []

    class Counts(BaseMiddleware):
        async def wrap_generate(self, params, ctx, next_fn):
            seen.append((params.iteration, len(params.request.messages)))
            return await next_fn(params, ctx)

    await both(lambda: app(ask(), ask(), 'done'), prompt='hi', tools=[echo], use=[Counts()])
    assert seen == [(0, 1), (1, 3), (2, 5)] * 2


async def test_a_layer_around_the_run_may_change_what_it_starts_with() -> None:
    class Instructs(BaseMiddleware):
        async def wrap_run(self, params, ctx, next_fn):
            messages = (Message.system('be brief'), *params.messages)
            request = params.request.replace(messages=messages)
            return await next_fn(params.replace(request=request, max_turns=2), ctx)

    response = await both(lambda: app(ask(), repeat=True), prompt='hi', tools=[echo], use=[Instructs()])
    assert response.messages[0] == Message.system('be brief')
    assert len(response.turns) == 2


async def test_a_layer_may_ask_another_model() -> None:
    other = ScriptedModel(['other'], name='other/one', repeat=True)

    class Redirects(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            return await next_fn(params.replace(model=other), ctx)

    response = await both(lambda: app('never'), prompt='hi', use=[Redirects()])
    assert (response.text, response.model) == ('other', 'other/one')


async def test_a_layer_finds_models_by_name() -> None:
    class Redirects(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            return await next_fn(params.replace(model=ctx.ai.resolve_model('other/one')), ctx)

    def build() -> Lamella:
        ai = app('never')
        ai.registry.add_model('other/one', ScriptedModel(['other'], name='other/one'))
        return ai

    assert (await both(build, prompt='hi', use=[Redirects()])).text == 'other'


# ── what is counted ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_usage_is_summed_and_unknown_stays_unknown() -> None:
    def build() -> Lamella:
        return app(
            [ask(), Finished('tool_calls', Usage(1, None, 3))],
            [ask(), Finished('tool_calls')],
            [TextDelta('x'), Finished('stop', Usage(10, None, 30, cached_tokens=4))],
        )

    response = await both(build, prompt='hi', tools=[echo])
    assert response.usage == Usage(11, None, 33, cached_tokens=4)
    assert (await both(lambda: app('x'), prompt='hi')).usage is None


async def test_metadata_and_warnings_of_all_turns_are_kept() -> None:
    def build() -> Lamella:
        return app(
            [ask(), Finished('tool_calls', metadata={'a': 1, 'b': 1}, warnings=('w1',))],
            [TextDelta('x'), Finished('stop', metadata={'b': 2}, warnings=('w1', 'w2'))],
        )

    response = await both(build, prompt='hi', tools=[echo])
    assert response.metadata == {'a': 1, 'b': 2}
    assert response.warnings == ('w1', 'w2')


async def test_attempts_are_on_the_error_whatever_layers_they_passed() -> None:
    down = [LamellaError('UNAVAILABLE', f'down {n}') for n in range(4)]
    ai = app(*down)
    with pytest.raises(LamellaError, match='down 3') as caught:
        await ai.generate(prompt='hi', use=[ModelOnly(), NaiveRetry(), Both()])
    assert [attempt.message for attempt in caught.value.attempts] == ['down 0', 'down 1', 'down 2', 'down 3']
    assert {attempt.model for attempt in caught.value.attempts} == {'scripted/model'}


@pytest.mark.parametrize('finish', ['stop', 'length', 'blocked', 'other', 'unknown'])
async def test_the_models_word_on_how_it_ended_is_kept(finish) -> None:
    def build() -> Lamella:
        return app([TextDelta('x'), Finished(finish, finish_message='because')])

    response = await both(build, prompt='hi')
    assert (response.finish_reason, response.finish_message) == (finish, 'because')
    assert response.stop_reason == ('max_tokens' if finish == 'length' else 'final')


# ── models and layers that misbehave ────────────────────────────────────────────────────────────────────────────────

NONSENSE: list[Any] = [None, 'text', 5, {'text': 'x'}, [TextDelta('x')], ModelResponse, Message.assistant('x'), b'x']


@pytest.mark.parametrize('answer', NONSENSE, ids=repr)
async def test_a_model_that_answers_with_nonsense_is_one_clear_error(answer) -> None:
    async def model(request: Any, ctx: Any) -> Any:
        return answer

    ai = Lamella(model=model)
    for door in (ai.generate, lambda **o: read(ai, **o)):
        with pytest.raises(LamellaError, match=rf'model answered with {type(answer).__name__}') as caught:
            await door(prompt='hi')
        assert caught.value.status == 'FAILED_PRECONDITION'


@pytest.mark.parametrize('part', NONSENSE, ids=repr)
async def test_a_model_that_yields_nonsense_is_one_clear_error(part) -> None:
    async def model(request: Any, ctx: Any) -> Any:
        yield TextDelta('x')
        yield part

    ai = Lamella(model=model)
    async with no_leaks():
        for door in (ai.generate, lambda **o: read(ai, **o)):
            with pytest.raises(LamellaError, match=rf'model answered with {type(part).__name__}') as caught:
                await door(prompt='hi')
            assert caught.value.status == 'FAILED_PRECONDITION'


async def test_a_model_function_may_give_the_response_of_another_run() -> None:
    inner = app('deep', repeat=True)

    async def outer(request: Any, ctx: Any) -> Any:
        return await inner.generate(messages=request.messages)

    response = await both(lambda: Lamella(model=outer), prompt='hi')
    assert response.text == 'deep'


@pytest.mark.breaks_stream_rules
@pytest.mark.parametrize('hook', ['wrap_model', 'wrap_generate', 'wrap_run'])
@pytest.mark.parametrize('answer', [None, 'text', {'text': 'x'}], ids=repr)
async def test_a_layer_that_returns_nonsense_is_one_clear_error(hook, answer) -> None:
    async def hooked(self, params, ctx, next_fn):
        await next_fn(params, ctx)
        return answer

    layer = type('Forgets', (BaseMiddleware,), {hook: hooked})()
    for door in (app('x').generate, lambda **o: read(app('x'), **o)):
        with pytest.raises(LamellaError, match=f'returned {type(answer).__name__}') as caught:
            await door(prompt='hi', use=[layer])
        assert caught.value.status == 'FAILED_PRECONDITION'
        assert hook in str(caught.value)


@pytest.mark.breaks_stream_rules
async def test_a_layer_that_yields_nonsense_is_one_clear_error() -> None:
    class Yields(BaseMiddleware):
        async def wrap_stream(self, params, ctx, next_fn):
            async for part in next_fn(params, ctx):
                yield part
            yield 'and more'

    for door in (app('x').generate, lambda **o: read(app('x'), **o)):
        with pytest.raises(LamellaError, match='str') as caught:
            await door(prompt='hi', use=[Yields()])
        assert caught.value.status == 'FAILED_PRECONDITION'


async def test_transform_params_that_returns_nothing_is_one_clear_error() -> None:
    class Forgets(BaseMiddleware):
        async def transform_params(self, params, ctx):
            params.replace(attempt=2)

    for door in (app('x').generate, lambda **o: read(app('x'), **o)):
        with pytest.raises(LamellaError, match='transform_params') as caught:
            await door(prompt='hi', use=[Forgets()])
        assert caught.value.status == 'FAILED_PRECONDITION'


async def test_a_bug_in_a_layer_passes_as_it_is() -> None:
    class Breaks(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            raise ZeroDivisionError('mine')

    for door in (app('x').generate, lambda **o: read(app('x'), **o)):
        with pytest.raises(ZeroDivisionError, match='mine'):
            await door(prompt='hi', use=[ModelOnly(), Breaks(), StreamOnly()])


async def test_a_refusal_says_who_refused() -> None:
    class Budget(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            raise Rejected('over budget', by=self)

    with pytest.raises(Rejected, match=r'over budget \(refused by budget\)') as caught:
        await app('x').generate(prompt='hi', use=[Budget()])
    assert (caught.value.by, caught.value.status) == ('budget', 'RESOURCE_EXHAUSTED')


@pytest.mark.parametrize('hook', ['wrap_run', 'wrap_generate', 'wrap_model'])
async def test_except_exception_in_a_layer_swallows_neither_stop_nor_cancellation(hook) -> None:
    async def swallows(self, params, ctx, next_fn):
        try:
            return await next_fn(params, ctx)
        except Exception:
            return ModelResponse.text_of('swallowed')

    layer = type('Swallows', (BaseMiddleware,), {hook: swallows})()

    class Stops(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            raise StopRun('loop')

    assert (await app('x').generate(prompt='hi', use=[layer, Stops()])).stop_reason == 'loop'
    started = asyncio.Event()

    async def endless(request: Any, ctx: Any) -> Any:
        started.set()
        await asyncio.Event().wait()

    for door in (Lamella(model=endless).generate, lambda **o: read(Lamella(model=endless), **o)):
        started.clear()
        async with no_leaks():
            task = asyncio.create_task(door(prompt='hi', use=[layer]))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


@pytest.mark.parametrize(
    ('status', 'error'), [('UNAVAILABLE', ConnectionResetError()), ('DEADLINE_EXCEEDED', TimeoutError())]
)
async def test_connection_failures_of_a_model_function_are_translated_with_their_cause(status, error) -> None:
    async def whole(request: Any, ctx: Any) -> Any:
        raise error

    async def parts(request: Any, ctx: Any) -> Any:
        yield TextDelta('x')
        raise error

    for model in (whole, parts):
        for door in (Lamella(model=model).generate, lambda m=model, **o: read(Lamella(model=m), **o)):
            with pytest.raises(LamellaError) as caught:
                await door(prompt='hi')
            assert caught.value.status == status
            assert caught.value.__cause__ is error


async def test_a_stream_without_an_end_is_unavailable() -> None:
    class Cut(ScriptedModel):
        async def stream(self, request, ctx):
            yield TextDelta('half')

    with pytest.raises(LamellaError, match='ended before the answer was finished') as caught:
        await read(Lamella(model=Cut()), prompt='hi')
    assert caught.value.status == 'UNAVAILABLE'
    assert caught.value.partial.text == 'half'


# ── many at once, and nothing left ──────────────────────────────────────────────────────────────────────────────────


class Counting(BaseMiddleware):
    """Keeps what belongs to a run in the run's own state, and everything else nowhere."""

    async def wrap_run(self, params, ctx, next_fn):
        ctx.state(self)['tenant'] = ctx.context['tenant']
        response = await next_fn(params, ctx)
        assert ctx.state(self) == {'tenant': ctx.context['tenant'], 'calls': 3, 'tools': 2}
        return response.replace(metadata={'tenant': ctx.state(self)['tenant']})

    async def wrap_model(self, params, ctx, next_fn):
        state = ctx.state(self)
        assert state['tenant'] == ctx.context['tenant']
        await asyncio.sleep(0)
        state['calls'] = state.get('calls', 0) + 1
        return await next_fn(params, ctx)

    async def wrap_tool(self, params, ctx, next_fn):
        state = ctx.state(self)
        state['tools'] = state.get('tools', 0) + 1
        await asyncio.sleep(0)
        return await next_fn(params, ctx)


@pytest.mark.parametrize('streaming', [False, True])
async def test_two_hundred_runs_at_once_share_a_stack_of_stateful_layers(streaming) -> None:
    async def model(request: Any, ctx: Any) -> Any:
        turn = sum(message.role == 'assistant' for message in request.messages)
        await asyncio.sleep(0)
        yield TextDelta(f'{ctx.context["tenant"]}.{turn}')
        if turn < 2:
            yield ToolRequested(ToolRequest('echo', {'text': ctx.context['tenant']}, f'r{turn}'))

    counting = [Counting(), StreamOnly(), Counting(), Both()]
    ai = Lamella(model=model, clock=FakeClock())

    async def one(tenant: str) -> Any:
        options = {'prompt': 'hi', 'tools': [echo], 'use': counting, 'context': {'tenant': tenant}}
        if not streaming:
            return await ai.generate(**options)
        stream = ai.generate_stream(**options)
        async for _ in stream:
            await asyncio.sleep(0)
        return await stream.response

    async with no_leaks():
        responses = await asyncio.gather(*[one(f't{n}') for n in range(200)])
    for n, response in enumerate(responses):
        assert response.metadata == {'tenant': f't{n}'}
        assert [turn.text for turn in response.turns] == [f't{n}.{turn}' for turn in range(3)]
        assert response.turns[0].tool_responses[0].tool_response.output == f't{n}t{n}'


async def test_ten_thousand_calls_leave_nothing_behind() -> None:
    async def model(request: Any, ctx: Any) -> Any:
        return ModelResponse.text_of('ok')

    ai = Lamella(model=model, use=[ModelOnly(), GenerateOnly(), RunOnly()])
    shared = [Counted()]

    async def many(count: int) -> None:
        for n in range(count):
            use = [ModelOnly()] if n % 2 else shared
            if n % 5:
                await ai.generate(prompt='hi', use=use)
            else:
                async for _ in ai.generate_stream(prompt='hi', use=use):
                    pass

    tracemalloc.start()
    try:
        await many(1_500)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        await many(10_000)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 100_000, f'{grown} bytes'


async def test_calls_fold_a_stack_no_further_once_every_kind_was_made() -> None:
    layers = [GenerateOnly(), RunOnly(), StreamOnly(), ModelOnly(), ToolOnly()]
    ai = app(ask(), 'x', repeat=True, use=layers)

    async def each_kind() -> int:
        await ai.generate(prompt='x', tools=[echo])
        await read(ai, prompt='x', tools=[echo])
        return len(ai.stack._folded)

    assert await each_kind() == await each_kind() == await each_kind()


class Counted(BaseMiddleware):
    """Uses its state."""

    async def wrap_model(self, params, ctx, next_fn):
        ctx.state(self)['n'] = 1
        return await next_fn(params, ctx)


async def test_a_finished_run_is_freed_without_the_garbage_collector() -> None:
    class Big(str):
        alive = 0

        def __new__(cls, text):
            cls.alive += 1
            return super().__new__(cls, text)

        def __del__(self):
            type(self).alive -= 1

    async def model(request: Any, ctx: Any) -> Any:
        return ModelResponse.text_of('ok')

    ai = Lamella(model=model)
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await ai.generate(prompt='hi', context={'big': Big('x')}, use=[ModelOnly()])
            stream = ai.generate_stream(prompt='hi', context={'big': Big('x')}, use=[StreamOnly()])
            await stream.response
            del stream
        assert Big.alive <= 1
    finally:
        gc.enable()


class Grouped(BaseMiddleware):
    """Does its work in a task group, at every hook."""

    async def run(self, params, ctx, next_fn):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(next_fn(params, ctx))
        return task.result()

    wrap_run = wrap_generate = wrap_model = wrap_tool = run


async def test_a_stop_an_interrupt_and_an_error_come_out_of_a_layer_s_task_group() -> None:
    def stops():
        raise StopRun('loop', 'enough')

    def asks():
        raise Interrupt('sure?')

    def fails():
        raise ToolError('no such row')

    def breaks():
        raise LamellaError('UNAVAILABLE', 'the database is away')

    def calls(name):
        return ToolRequest(name, {}, 'r-1')

    tools = [stops, asks, fails, breaks]
    stopped = await both(lambda: app(calls('stops')), prompt='hi', tools=tools, use=[Grouped()])
    assert (stopped.stop_reason, stopped.stop_message) == ('loop', 'enough')
    waiting = await both(lambda: app(calls('asks')), prompt='hi', tools=tools, use=[Grouped(), Grouped()])
    assert [part.tool_request.name for part in waiting.interrupts] == ['asks']
    told = await both(lambda: app(calls('fails'), 'I see'), prompt='hi', tools=tools, use=[Grouped()])
    assert told.turns[0].tool_responses[0].tool_response.output == 'no such row'
    for door in (app(calls('breaks')).generate, lambda **options: read(app(calls('breaks')), **options)):
        with pytest.raises(LamellaError, match='the database is away'):
            await door(prompt='hi', tools=tools, use=[Grouped()])
    for door in (app(LamellaError('ABORTED', 'x')).generate, lambda **o: read(app(LamellaError('ABORTED', 'x')), **o)):
        with pytest.raises(LamellaError, match='ABORTED: x') as caught:
            await door(prompt='hi', use=[Grouped()])
        assert len(caught.value.attempts) == 1


async def test_a_run_that_is_stopped_by_a_tool_has_the_usage_of_the_answer_that_asked_for_it() -> None:
    def stops():
        raise StopRun('loop', 'enough')

    asks = ModelResponse(
        message=Message('assistant', (TextPart('again'), ToolRequestPart(ToolRequest('stops', {}, 'r-1')))),
        finish_reason='tool_calls',
        usage=Usage(1, 2, 3),
    )
    response = await both(lambda: app(asks), prompt='hi', tools=[stops])
    assert (response.stop_reason, response.usage, response.text) == ('loop', Usage(1, 2, 3), 'again')
    assert [message.role for message in response.messages] == ['user']
