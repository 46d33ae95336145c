"""The app: what is registered and found by name, how programs are run, and what listeners are told."""

import asyncio
from typing import Any

import pytest

from lamella import Lamella, LamellaError, ModelRef, Tool, wrap_language_model
from lamella.core.plugin import Plugin
from lamella.middleware import BaseMiddleware
from lamella.testing import CollectingSink, FakeClock, ScriptedModel
from lamella.types import (
    ConfigError,
    Finished,
    Message,
    ModelRequest,
    ModelResponse,
    TextDelta,
    ToolRequest,
    UnknownNameError,
    Usage,
)
from tests.engine.kit import app, no_leaks, read, scripted
from tests.engine.strategies import ModelOnly, NaiveRetry, echo

# ── registration ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_registered_tool_stays_a_function_and_is_found_by_name_and_by_itself() -> None:
    ai = app(ToolRequest('shout', {'text': 'x'}, 'r'), 'done', repeat=True)

    @ai.tool()
    def shout(text: str) -> str:
        """Say it loud."""
        return text.upper()

    assert shout('a') == 'A'
    for wanted in (shout, 'shout'):
        response = await ai.generate(prompt='hi', tools=[wanted])
        assert response.turns[0].tool_responses[0].tool_response.output == 'X'
    assert scripted(ai).requests[0].tools[0].description == 'Say it loud.'


async def test_a_tool_may_have_another_name_and_description() -> None:
    ai = app('x')

    @ai.tool('louder', description='make it loud')
    def shout(text: str) -> str:
        return text.upper()

    await ai.generate(prompt='hi', tools=['louder', shout])
    (definition,) = scripted(ai).requests[0].tools
    assert (definition.name, definition.description) == ('louder', 'make it loud')


async def test_a_registered_model_is_asked_by_name() -> None:
    ai = Lamella(model='mine/parrot')

    @ai.model('mine/parrot')
    async def parrot(request: Any, ctx: Any) -> ModelResponse:
        return ModelResponse.text_of(request.messages[-1].text)

    @ai.model('mine/streams')
    async def streams(request: Any, ctx: Any) -> Any:
        yield TextDelta('a')
        yield TextDelta('b')

    assert (await ai.generate(prompt='hello')).text == 'hello'
    response = await ai.generate(prompt='hello', model='mine/streams')
    assert (response.text, response.model, response.finish_reason) == ('ab', 'mine/streams', 'stop')


async def test_a_function_a_model_and_a_reference_serve_as_models() -> None:
    async def parrot(request: Any, ctx: Any) -> ModelResponse:
        return ModelResponse.text_of('parrot')

    ai = Lamella()
    ai.registry.add_model('a/b', ScriptedModel(['named'], name='a/b', repeat=True))
    for model, wanted in [
        (parrot, 'parrot'), (ScriptedModel(['given']), 'given'), ('a/b', 'named'), (ModelRef('a/b'), 'named'),
        (wrap_language_model(model='a/b', middleware=ModelOnly()), 'named'),
        (wrap_language_model(model=parrot, middleware=[ModelOnly()], model_id='m', provider_id='p'), 'parrot'),
    ]:  # fmt: skip
        response = await ai.generate(prompt='x', model=model)
        assert response.text == wanted


class Acme(Plugin):
    """A provider with one model."""

    name = 'acme'

    def __init__(self) -> None:
        self.closed = 0
        self.asked: list[str] = []

    def model(self, name: str) -> ScriptedModel | None:
        self.asked.append(name)
        return ScriptedModel([f'I am {name}'], name=f'acme/{name}', repeat=True) if name.endswith('one') else None

    def known_models(self) -> list[str]:
        return ['one', 'deep/one']

    def middleware(self) -> dict[str, Any]:
        return {'model_only': ModelOnly}

    async def aclose(self) -> None:
        self.closed += 1


async def test_a_plugins_model_is_split_at_the_first_slash_and_made_once() -> None:
    plugin = Acme()
    ai = Lamella(plugins=[plugin], model='acme/one')
    for _ in range(3):
        assert (await ai.generate(prompt='x')).text == 'I am one'
    assert (await ai.generate(prompt='x', model='acme/deep/one')).text == 'I am deep/one'
    assert plugin.asked == ['one', 'deep/one']
    with pytest.raises(UnknownNameError, match="did you mean 'acme/one'"):
        await ai.generate(prompt='x', model='acme/onne')
    with pytest.raises(UnknownNameError, match='acme/one'):
        await ai.generate(prompt='x', model='amce/one')


def test_wrong_plugins_are_refused() -> None:
    with pytest.raises(ConfigError, match='two plugins are named'):
        Lamella(plugins=[Acme(), Acme()])
    for wrong in (Acme, 'acme', None):
        with pytest.raises(ConfigError, match='plugins='):
            Lamella(plugins=[wrong])


def test_registered_layers_have_one_token_names() -> None:
    ai = Lamella(plugins=[Acme()])

    @ai.middleware()
    class RateGuard(BaseMiddleware):
        """Guards."""

    @ai.middleware(name='other_guard')
    class Second(BaseMiddleware):
        """Guards too."""

    assert ai.registry.layer('rate_guard') is RateGuard
    assert ai.registry.layer('other_guard') is Second
    assert Second.name == 'other_guard'
    assert ai.registry.layer('model_only') is ModelOnly
    with pytest.raises(UnknownNameError, match="did you mean 'rate_guard'"):
        ai.registry.layer('rate_gaurd')
    for wrong in ('a/b', 'a:b', 'a b', 'a\tb', '', ' '):
        with pytest.raises(ConfigError, match='single token'):
            ai.middleware(name=wrong)(Second)
    assert Second.name == 'other_guard'
    with pytest.raises(ConfigError, match='subclass of BaseMiddleware'):
        ai.middleware(name='x')(dict)  # type: ignore[type-var]


@pytest.mark.parametrize('decorator', ['tool', 'flow', 'model', 'middleware'])
def test_a_decorator_without_brackets_says_how(decorator) -> None:
    async def function(x: Any, ctx: Any) -> Any:
        return x

    with pytest.raises(ConfigError, match=f'@ai.{decorator}'):
        getattr(Lamella(), decorator)(function)


def test_a_model_is_an_async_function_of_two_and_registered_once() -> None:
    ai = Lamella()
    with pytest.raises(ConfigError, match='async def'):
        ai.model('a/b')(lambda request, ctx: None)

    async def alone(request: Any) -> Any:
        return None

    with pytest.raises(ConfigError, match=r'\(request, ctx\)'):
        ai.model('a/b')(alone)

    async def good(request: Any, ctx: Any) -> Any:
        return None

    ai.model('a/b')(good)
    with pytest.raises(ConfigError, match='already registered'):
        ai.model('a/b')(good)


# ── programs ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_run_main_returns_the_result_and_closes_the_plugins() -> None:
    plugin = Acme()
    ai = Lamella(plugins=[plugin], model='acme/one')

    async def main() -> str:
        return (await ai.generate(prompt='x')).text

    assert ai.run_main(main()) == 'I am one'
    assert plugin.closed == 1
    assert ai.run_main(main()) == 'I am one'


@pytest.mark.parametrize(
    'error', [ValueError('mine'), LamellaError('ABORTED', 'x'), SystemExit(3), KeyboardInterrupt()], ids=repr
)
def test_run_main_lets_every_exception_out_and_closes_the_plugins(error) -> None:
    plugin = Acme()

    async def main() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        Lamella(plugins=[plugin]).run_main(main())
    assert caught.value is error
    assert plugin.closed == 1


async def test_the_app_closes_at_the_end_of_async_with_and_can_be_used_again() -> None:
    plugin = Acme()
    async with Lamella(plugins=[plugin], model='acme/one') as ai:
        await ai.generate(prompt='x')
    assert plugin.closed == 1
    assert (await ai.generate(prompt='x')).text == 'I am one'


async def test_one_plugin_that_fails_to_close_does_not_keep_the_others_open() -> None:
    class Broken(Acme):
        name = 'broken'

        async def aclose(self) -> None:
            raise OSError('stuck')

    good = Acme()
    with pytest.raises(OSError, match='stuck'):
        await Lamella(plugins=[Broken(), good]).aclose()
    assert good.closed == 1


# ── one raw request ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_finished_request_is_one_model_call_that_runs_no_tools() -> None:
    request = ModelRequest((Message.user('hi'),))
    for streaming in (False, True):
        ai = app(ToolRequest('echo', {'text': 'x'}, 'r'), 'never')
        if streaming:
            stream = ai.call_model_stream(request, use=[ModelOnly()])
            async for _ in stream:
                pass
            response = await stream.response
        else:
            response = await ai.call_model(request, use=[ModelOnly()])
        assert [part.tool_request.name for part in response.tool_requests] == ['echo']
        assert scripted(ai).requests == [request]
    with pytest.raises(ConfigError, match='request is a str'):
        await app('x').call_model('hi')  # type: ignore[arg-type]


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('streaming', [False, True])
async def test_events_tell_the_course_of_a_run_in_order(streaming) -> None:
    sink = CollectingSink()
    clock = FakeClock(start=50)
    ask = [ToolRequest('echo', {'text': 'x'}, 'r'), Finished('tool_calls', Usage(1, 2, 3))]
    ai = app(ask, LamellaError('UNAVAILABLE', 'down'), 'done', sinks=[sink], clock=clock)
    options = {'prompt': 'hi', 'tools': [echo], 'use': [NaiveRetry()]}
    await (read(ai, **options) if streaming else ai.generate(**options))
    assert [name for name in sink.names if name != 'model.first_part'] == [
        'run.start', 'turn.start', 'model.start', 'model.end', 'tool.start', 'tool.end', 'turn.end',
        'turn.start', 'model.start', 'model.error', 'model.start', 'model.end', 'turn.end', 'run.end',
    ]  # fmt: skip
    assert sink.names.count('model.first_part') == (2 if streaming else 0)
    assert {event.run_id for event in sink.events} == {sink.events[0].run_id}
    assert sink.events[0].run_id.startswith('run_')
    assert {event.at_s for event in sink.events} == {50}
    assert sink.named('run.start')[0].facts == {'model': 'scripted/model', 'streaming': streaming}
    assert sink.named('model.end')[0].facts['usage'] == Usage(1, 2, 3)
    assert sink.named('model.error')[0].facts['status'] == 'UNAVAILABLE'
    assert sink.named('run.end')[0].facts['stop_reason'] == 'final'
    assert sink.named('run.end')[0].facts['turns'] == 2
    numbered = [event for event in sink.events if 'call' in event.facts and event.name != 'model.first_part']
    assert [event.facts['call'] for event in numbered] == [1, 1, 2, 2, 3, 3]
    assert [event.facts['turn'] for event in sink.events if 'turn' in event.facts] == [0, 0, 1, 1]
    assert sink.named('turn.end')[1].facts['response'].text == sink.named('run.end')[0].facts['response'].text == 'done'


@pytest.mark.parametrize('streaming', [False, True])
async def test_a_failed_run_is_told_with_its_error(streaming) -> None:
    sink = CollectingSink()
    error = LamellaError('UNAVAILABLE', 'down')
    ai = app(error, sinks=[sink])
    with pytest.raises(LamellaError):
        await (read(ai, prompt='x') if streaming else ai.generate(prompt='x'))
    assert sink.names[-1] == 'run.error'
    assert sink.events[-1].facts['error'] is error


@pytest.mark.parametrize('streaming', [False, True])
async def test_a_failing_listener_harms_nobody_and_is_left_out(streaming) -> None:
    calls = []

    def breaks(event: Any) -> None:
        calls.append(event.name)
        raise RuntimeError('my disk is full')

    sink = CollectingSink()
    ai = app('x', sinks=[breaks, sink])
    await (read(ai, prompt='x') if streaming else ai.generate(prompt='x'))
    assert calls == ['run.start']
    assert sink.names[0] == 'run.start'
    assert sink.names[-1] == 'run.end'


async def test_with_nobody_listening_there_is_no_run_id_and_no_chance_is_drawn() -> None:
    class NoChance:
        def getrandbits(self, bits: int) -> int:
            raise AssertionError('nobody asked for a random number')

    ai = Lamella(model=ScriptedModel(['x']), random=NoChance(), use=[ModelOnly()])  # type: ignore[arg-type]
    await ai.generate(prompt='x')


async def test_a_layer_may_listen_to_its_own_run_only() -> None:
    heard = []

    class Listens(BaseMiddleware):
        async def wrap_run(self, params, ctx, next_fn):
            with ctx.listening(lambda event: heard.append((ctx.context['n'], event.name))):
                await asyncio.sleep(0)
                return await next_fn(params, ctx)

    ai = app('x', repeat=True)
    layer = Listens()
    await asyncio.gather(*[ai.generate(prompt='x', use=[layer], context={'n': n}) for n in range(5)])
    assert sorted(heard) == sorted(
        (n, name) for n in range(5) for name in ('turn.start', 'model.start', 'model.end', 'turn.end')
    )


async def test_layers_emit_events_of_their_own() -> None:
    class Emits(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            ctx.emit('mine.happened', wait_s=3)
            return await next_fn(params, ctx)

    sink = CollectingSink()
    await app('x', sinks=[sink]).generate(prompt='x', use=[Emits()])
    assert sink.named('mine.happened')[0].facts == {'wait_s': 3}


async def test_a_stream_that_is_left_tells_its_end_too() -> None:
    sink = CollectingSink()
    async with no_leaks(), app([TextDelta('a'), TextDelta('b')], sinks=[sink]).generate_stream(prompt='x') as stream:
        async for part in stream:
            if type(part) is TextDelta:
                break
    assert sink.names[0] == 'run.start'
    assert sink.names[-2:] == ['model.left', 'run.error']
    assert sink.events[-2].facts['why'] == 'left'
    assert isinstance(sink.events[-1].facts['error'], BaseException)


async def test_a_call_that_is_cancelled_tells_its_end_too() -> None:
    asked = asyncio.Event()

    async def never(request: ModelRequest, ctx: Any) -> ModelResponse:
        asked.set()
        return await asyncio.Future()

    for door in ('generate', 'generate_stream'):
        sink = CollectingSink()
        ai = Lamella(model=never, sinks=[sink])
        asked.clear()
        task = asyncio.create_task(read(ai, prompt='x') if door == 'generate_stream' else ai.generate(prompt='x'))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sink.names[-2:] == ['model.left', 'run.error']
        assert sink.events[-2].facts['why'] == 'cancelled'


async def test_a_bound_method_and_a_tool_object_are_tools() -> None:
    class Shop:
        def price(self, item: str) -> int:
            return len(item)

    ai = app(ToolRequest('price', {'item': 'abc'}, 'r'), 'done')
    response = await ai.generate(prompt='x', tools=[Shop().price, Tool('t', run=lambda v: v)])
    assert response.turns[0].tool_responses[0].tool_response.output == 3


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'plugins': Plugin()}, 'plugins= takes a list'),
        ({'plugins': None}, 'plugins= takes a list'),
        ({'plugins': 'openai'}, 'plugins= takes a list'),
        ({'sinks': print}, 'sinks= takes a list'),
        ({'sinks': ['a']}, 'sinks= takes a list'),
    ],
)
def test_a_forgotten_list_is_one_clear_error(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Lamella(**options)


@pytest.mark.parametrize('streamed', [False, True])
async def test_a_timeout_of_the_app_holds_for_every_call_that_sets_none(streamed: bool) -> None:
    asked = asyncio.Event()

    async def never(request: ModelRequest, ctx: Any) -> ModelResponse:
        asked.set()
        return await asyncio.Future()

    clock = FakeClock(auto=False)
    ai = Lamella(model=never, timeout_s=5, clock=clock)
    call = ai.generate_stream(prompt='hi').response if streamed else ai.generate(prompt='hi')
    task = asyncio.create_task(call)
    await asked.wait()
    await clock.advance(6)
    with pytest.raises(LamellaError, match='not done within timeout_s=5'):
        await task
    with pytest.raises(ConfigError, match='timeout_s=0'):
        Lamella(timeout_s=0)
