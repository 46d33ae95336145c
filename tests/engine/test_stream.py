"""Streams: pulled and not pushed, left cleanly, and the same answer as generate."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given, settings

from lamella import Lamella, LamellaError, StopRun, wrap_language_model
from lamella.middleware import BaseMiddleware, Continuing
from lamella.testing import FakeClock, ScriptedModel
from lamella.types import (
    ConfigError,
    Finished,
    ModelResponse,
    Raw,
    ReasoningDelta,
    ResponseStarted,
    Restarted,
    Source,
    TextDelta,
    TextPart,
    ToolRequest,
    ToolRequested,
    ToolResponded,
    Usage,
    fold,
)
from tests.engine.kit import app, both, folds_to, no_leaks, read, same_answer, scripted, shown
from tests.engine.strategies import (
    TOOLS,
    Both,
    GenerateOnly,
    HeldModel,
    HeldRetry,
    HeldRunRetry,
    HeldStream,
    HeldStreamRetry,
    HeldTurnRetry,
    Louder,
    ModelOnly,
    NaiveRetry,
    Prefixed,
    RunOnly,
    RunTwice,
    StreamOnly,
    StreamRetry,
    Transforms,
    TransformsAndWraps,
    TurnTwice,
    echo,
    fresh,
    scripts,
    stacks,
)

LAYERS = [ModelOnly, StreamOnly, Both, Transforms, TransformsAndWraps, GenerateOnly, RunOnly, HeldModel, HeldStream]


async def outcome(call: Any) -> Any:
    try:
        return await call
    except Exception as error:
        return error


@pytest.mark.breaks_stream_rules  # its models say anything
@settings(max_examples=300)
@given(script=scripts, layers=stacks)
async def test_generate_equals_the_fold_of_the_stream(script, layers) -> None:
    options = {'prompt': 'hi', 'tools': TOOLS, 'use': layers, 'max_turns': 4}
    whole = await outcome(app(*fresh(script), repeat=True).generate(**options))
    stream = app(*fresh(script), repeat=True).generate_stream(**options)
    parts: list[Any] = []
    failure = None
    try:
        async for part in stream:
            parts.append(part)
    except Exception as error:
        failure = error
    if isinstance(whole, Exception):
        assert type(failure) is type(whole), (whole, failure)
        assert str(failure) == str(whole)
        if isinstance(whole, LamellaError):
            assert [a.status for a in failure.attempts] == [a.status for a in whole.attempts]
        return
    assert failure is None, failure
    same_answer(await stream.response, whole)
    folds_to(parts, whole)


@pytest.mark.parametrize('held', [HeldRetry, HeldStreamRetry])
async def test_what_is_held_back_does_not_use_up_the_leave_to_go_on(held) -> None:
    script = [[TextDelta('lost'), LamellaError('UNAVAILABLE', 'down')], [TextDelta('kept'), Finished('stop')]]
    stream = app(*script).generate_stream(prompt='hi', use=[Prefixed(), held()])
    assert [part.text async for part in stream if isinstance(part, TextDelta)] == ['Well, ', 'kept']


# ── pulled, not pushed ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('kind', [k for k in LAYERS if k.commit == 'first'], ids=lambda k: k.__name__)
async def test_a_slow_reader_keeps_the_provider_a_few_parts_ahead_at_most(kind) -> None:
    ai = app([TextDelta(f'{n} ') for n in range(500)])
    seen, ahead = 0, 0
    async for part in ai.generate_stream(prompt='hi', use=[kind() for _ in range(5)]):
        seen += 1
        await asyncio.sleep(0)
        if type(part) is TextDelta:
            ahead = max(ahead, scripted(ai).pulled - seen)
    assert seen == 502
    assert ahead <= 2


async def test_nothing_is_asked_before_the_reader_reads() -> None:
    ai = app('hi')
    async with no_leaks():
        stream = ai.generate_stream(prompt='hi', use=[ModelOnly()])
        await asyncio.sleep(0)
        assert scripted(ai).requests == []
        await stream.aclose()
    assert scripted(ai).requests == []


async def test_parts_reach_the_reader_one_by_one_through_a_layer_that_knows_whole_calls_only() -> None:
    gate = asyncio.Event()

    async def slow(request, ctx):
        yield TextDelta('first')
        await gate.wait()
        yield TextDelta(' second')

    stream = Lamella(model=slow).generate_stream(prompt='hi', use=[ModelOnly(), GenerateOnly(), RunOnly()])
    parts = aiter(stream)
    assert type(await anext(parts)) is ResponseStarted
    assert await anext(parts) == TextDelta('first')
    gate.set()
    assert shown([part async for part in parts]) == ' second'


# ── leaving ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Tracks(BaseMiddleware):
    """Writes down when each hook is entered and left."""

    def __init__(self, label, log):
        super().__init__()
        self.label, self.log = label, log

    async def wrap_stream(self, params, ctx, next_fn):
        self.log.append(f'+{self.label}')
        try:
            async for part in next_fn(params, ctx):
                yield part
        finally:
            self.log.append(f'-{self.label}')


class TracksWhole(Tracks):
    """The same around whole calls."""

    wrap_stream = BaseMiddleware.wrap_stream

    async def wrap_model(self, params, ctx, next_fn):
        self.log.append(f'+{self.label}')
        try:
            return await next_fn(params, ctx)
        finally:
            self.log.append(f'-{self.label}')


class TracksTurn(BaseMiddleware):
    """The same around turns and runs."""

    def __init__(self, log):
        super().__init__()
        self.log = log

    async def wrap_generate(self, params, ctx, next_fn):
        try:
            return await next_fn(params, ctx)
        finally:
            await asyncio.sleep(0)
            self.log.append('-turn')

    async def wrap_run(self, params, ctx, next_fn):
        try:
            return await next_fn(params, ctx)
        finally:
            await asyncio.sleep(0)
            self.log.append('-run')


def tracked(log: list[str]) -> tuple[Lamella, list[Any]]:
    async def model(request, ctx):
        log.append('+model')
        try:
            for n in range(100):
                await asyncio.sleep(0)
                yield TextDelta(f'{n} ')
        finally:
            await asyncio.sleep(0)
            log.append('-model')

    use = [
        TracksTurn(log),
        Tracks('a', log),
        TracksWhole('b', log),
        TracksWhole('c', log),
        Tracks('d', log),
        Transforms(),
    ]
    return Lamella(model=model), use


LEFT = {'-a', '-b', '-c', '-d', '-model', '-turn', '-run'}


async def third(parts: Any) -> None:
    for _ in range(3):
        await anext(parts)


async def leave_by_aclose(ai: Lamella, use: list[Any]) -> None:
    stream = ai.generate_stream(prompt='hi', use=use)
    await third(aiter(stream))
    await stream.aclose()


async def leave_by_async_with(ai: Lamella, use: list[Any]) -> None:
    async with ai.generate_stream(prompt='hi', use=use) as stream:
        async for part in stream:
            if type(part) is TextDelta:
                break


async def leave_by_exception(ai: Lamella, use: list[Any]) -> None:
    async def reads() -> None:
        async with ai.generate_stream(prompt='hi', use=use) as stream:
            async for part in stream:
                if type(part) is TextDelta:
                    raise KeyError('mine')

    with pytest.raises(KeyError):
        await reads()


async def leave_by_cancellation(ai: Lamella, use: list[Any]) -> None:
    begun = asyncio.Event()

    async def reads() -> None:
        async with ai.generate_stream(prompt='hi', use=use) as stream:
            async for part in stream:
                if type(part) is TextDelta:
                    begun.set()

    task = asyncio.create_task(reads())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_by_cancellation_of_the_loop_itself(ai: Lamella, use: list[Any]) -> None:
    begun = asyncio.Event()

    async def reads() -> None:
        async for part in ai.generate_stream(prompt='hi', use=use):
            if type(part) is TextDelta:
                begun.set()

    task = asyncio.create_task(reads())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_by_text_stream(ai: Lamella, use: list[Any]) -> None:
    stream = ai.generate_stream(prompt='hi', use=use)
    async with aclosing(stream.text_stream) as texts:
        async for _ in texts:
            break


LEAVING = [
    leave_by_aclose, leave_by_async_with, leave_by_exception, leave_by_cancellation,
    leave_by_cancellation_of_the_loop_itself, leave_by_text_stream,
]  # fmt: skip


@pytest.mark.parametrize('leave', LEAVING, ids=lambda f: f.__name__)
async def test_leaving_closes_every_layer_and_the_model_before_it_returns(leave) -> None:
    log: list[str] = []
    ai, use = tracked(log)
    async with no_leaks():
        await leave(ai, use)
        assert set(log) >= LEFT
        assert len(log) == len(set(log)), log


async def test_everything_is_closed_from_the_inside_out() -> None:
    log: list[str] = []
    ai, use = tracked(log)
    await leave_by_aclose(ai, use)
    assert [entry for entry in log if entry in LEFT] == ['-model', '-d', '-c', '-b', '-a', '-turn', '-run']


async def test_a_plain_break_closes_everything_as_soon_as_the_loop_turns() -> None:
    log: list[str] = []
    ai, use = tracked(log)
    async with no_leaks():
        async for part in ai.generate_stream(prompt='hi', use=use):
            if type(part) is TextDelta:
                break
        for _ in range(50):
            await asyncio.sleep(0)
        assert set(log) >= LEFT


async def test_leaving_while_a_tool_runs_cancels_the_tool() -> None:
    log = []
    running = asyncio.Event()

    async def endless() -> str:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            log.append('cancelled')
        return ''

    ai = app(ToolRequest('endless', {}, 'r'))

    async def reads() -> None:
        async for _ in ai.generate_stream(prompt='hi', tools=[endless], use=[ModelOnly(), GenerateOnly(), RunOnly()]):
            pass

    async with no_leaks():
        task = asyncio.create_task(reads())
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log == ['cancelled']


async def test_a_layer_may_clean_up_with_awaits_when_the_reader_leaves() -> None:
    log = []

    class Cleans(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            try:
                return await next_fn(params, ctx)
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                log.append('cleaned')
                raise

    async with no_leaks(), app('a b').generate_stream(prompt='hi', use=[Cleans(), Cleans()]) as stream:
        await third(aiter(stream))
        await stream.aclose()
    assert log == []  # the third part is the end: nothing was open
    async with no_leaks(), app([TextDelta('a'), TextDelta('b')]).generate_stream(prompt='hi', use=[Cleans()]) as stream:
        await third(aiter(stream))
    assert log == ['cleaned']


async def test_a_layer_that_swallows_the_cancellation_of_a_reader_who_left_does_not_hang() -> None:
    class Stubborn(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            while True:
                try:
                    return await next_fn(params, ctx)
                except BaseException:
                    return ModelResponse.text_of('anyway')

    async with (
        no_leaks(),
        app([TextDelta('a'), TextDelta('b')]).generate_stream(prompt='hi', use=[Stubborn()]) as stream,
    ):
        await third(aiter(stream))


async def test_a_layer_that_leaves_its_inner_iterator_open_leaks_nothing() -> None:
    log: list[str] = []

    class TakesOne(BaseMiddleware):
        async def wrap_stream(self, params, ctx, next_fn):
            inner = next_fn(params, ctx)
            yield await anext(inner)
            yield await anext(inner)
            yield Finished('stop')

    ai, use = tracked(log)
    async with no_leaks():
        parts = await read(ai, prompt='hi', use=[TakesOne(), *use])
        assert set(log) >= LEFT
    assert shown(parts) == '0 '


@pytest.mark.breaks_stream_rules
async def test_a_layer_that_keeps_the_iterator_and_never_reads_it_leaks_nothing() -> None:
    class Ignores(BaseMiddleware):
        async def wrap_stream(self, params, ctx, next_fn):
            next_fn(params, ctx)
            yield TextDelta('mine')
            yield Finished()

    async with no_leaks():
        assert shown(await read(app('x'), prompt='hi', use=[Ignores(), ModelOnly()])) == 'mine'
        assert (await app('x').generate(prompt='hi', use=[Ignores(), ModelOnly()])).text == 'mine'


async def test_a_coroutine_that_a_layer_never_awaits_is_pythons_own_warning() -> None:
    class Forgets(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            next_fn(params, ctx)
            return ModelResponse.text_of('mine')

    with pytest.warns(RuntimeWarning, match='never awaited'):
        await app('x').generate(prompt='hi', use=[Forgets()])


# ── tasks inside layers ─────────────────────────────────────────────────────────────────────────────────────────────


class WaitsFor(BaseMiddleware):
    """Gives the call ten seconds."""

    async def wrap_model(self, params, ctx, next_fn):
        return await asyncio.wait_for(next_fn(params, ctx), 10)


class InGroup(BaseMiddleware):
    """Calls from a task group."""

    async def wrap_model(self, params, ctx, next_fn):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(next_fn(params, ctx))
        return task.result()


class Hedges(BaseMiddleware):
    """Two calls, the first wins, the other is cancelled."""

    async def wrap_model(self, params, ctx, next_fn):
        tasks = [asyncio.create_task(next_fn(params, ctx)) for _ in range(2)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize('kind', [WaitsFor, InGroup, Hedges], ids=lambda k: k.__name__)
@pytest.mark.parametrize(
    'inner', [[], [ModelOnly()], [StreamOnly()], [HeldModel()]], ids=['bare', 'model', 'stream', 'held']
)
async def test_layers_that_call_from_tasks_work_in_streams(kind, inner) -> None:
    async with no_leaks():
        response = await both(lambda: app('hello', repeat=True), prompt='hi', use=[kind(), *inner])
        assert response.text == 'hello'


@pytest.mark.parametrize('kind', [WaitsFor, InGroup, Hedges], ids=lambda k: k.__name__)
async def test_leaving_cancels_the_calls_that_run_in_tasks(kind) -> None:
    closed = []
    started = asyncio.Event()

    async def endless(request, ctx):
        try:
            yield TextDelta('a')
            started.set()
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def reads() -> None:
        async for _ in Lamella(model=endless).generate_stream(prompt='hi', use=[kind()]):
            pass

    async with no_leaks():
        task = asyncio.create_task(reads())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert closed


# ── what the reader is told ─────────────────────────────────────────────────────────────────────────────────────────

DOWN = LamellaError('UNAVAILABLE', 'down')


def failing_once(*first: Any) -> Lamella:
    return app([*first, LamellaError('UNAVAILABLE', 'down')], 'whole answer')


async def test_a_retry_before_the_first_text_is_not_seen() -> None:
    parts = await read(failing_once(ResponseStarted('scripted/model')), prompt='hi', use=[NaiveRetry()])
    assert [type(part) for part in parts] == [ResponseStarted, TextDelta, Finished]


@pytest.mark.parametrize(
    'first', [TextDelta('who'), ReasoningDelta('hm'), Source('http://x'), Raw(1, keep=True)], ids=repr
)
async def test_a_retry_around_whole_calls_after_the_first_content_is_a_visible_restart(first) -> None:
    parts = await read(failing_once(first), prompt='hi', use=[NaiveRetry()])
    assert [type(part) for part in parts] == [
        ResponseStarted, type(first), Restarted, ResponseStarted, TextDelta, Finished,
    ]  # fmt: skip
    assert fold(parts).text == shown(parts) == 'whole answer'


async def test_a_retry_after_an_event_that_is_no_content_is_not_seen() -> None:
    parts = await read(failing_once(Raw('ping')), prompt='hi', use=[NaiveRetry()])
    assert [type(part) for part in parts] == [ResponseStarted, Raw, ResponseStarted, TextDelta, Finished]


async def test_a_retry_in_wrap_stream_after_the_first_text_ends_in_the_first_error() -> None:
    ai = failing_once(TextDelta('who'))
    with pytest.raises(LamellaError, match='after text had reached the reader') as caught:
        await read(ai, prompt='hi', use=[RetryOnce()])
    assert caught.value.status == 'UNAVAILABLE'
    assert 'down' in str(caught.value)
    assert caught.value.partial.text == 'who'
    assert len(scripted(ai).requests) == 1


class RetryOnce(BaseMiddleware):
    """Tries twice, part by part."""

    async def wrap_stream(self, params, ctx, next_fn):
        try:
            async for part in next_fn(params, ctx):
                yield part
        except LamellaError:
            async for part in next_fn(params.replace(attempt=2), ctx):
                yield part


class RetriesVisibly(BaseMiddleware):
    """Tries twice and says so."""

    async def wrap_stream(self, params, ctx, next_fn):
        try:
            async for part in next_fn(params, ctx):
                yield part
        except LamellaError:
            yield Restarted('second try')
            async for part in next_fn(params, ctx):
                yield part


async def test_a_layer_may_restart_visibly() -> None:
    parts = await read(failing_once(TextDelta('who')), prompt='hi', use=[RetriesVisibly()])
    assert Restarted('second try') in parts
    assert shown(parts) == 'whole answer'


@pytest.mark.parametrize('kind', [HeldStreamRetry, HeldTurnRetry, HeldRunRetry], ids=lambda k: k.__name__)
async def test_a_retry_that_holds_the_stream_back_shows_only_the_answer_that_counts(kind) -> None:
    parts = await read(failing_once(TextDelta('who')), prompt='hi', use=[kind()])
    assert Restarted not in map(type, parts)
    assert shown(parts) == 'whole answer'


@pytest.mark.breaks_stream_rules
@pytest.mark.parametrize('inner', [RetryOnce, NaiveRetry], ids=lambda k: k.__name__)
async def test_an_outer_layer_that_holds_the_stream_back_covers_the_retries_within(inner) -> None:
    parts = await read(failing_once(TextDelta('who')), prompt='hi', use=[HeldModel(), inner()])
    assert shown(parts) == 'whole answer'
    assert Restarted not in map(type, parts)


async def test_a_held_turn_shows_all_turns_of_the_run_in_the_end() -> None:
    def build() -> Lamella:
        return app([TextDelta('one'), ToolRequest('echo', {'text': 'x'}, 'r')], [TextDelta('two')])

    response = await both(build, prompt='hi', tools=[echo], use=[HeldTurnRetry()])
    assert [turn.text for turn in response.turns] == ['one', 'two']


async def test_a_turn_taken_twice_after_text_is_refused_in_a_stream() -> None:
    with pytest.raises(LamellaError, match='after text had reached the reader'):
        await read(app('one', 'two'), prompt='hi', use=[TurnTwice()])


async def test_a_run_done_twice_after_text_is_refused_in_a_stream() -> None:
    with pytest.raises(LamellaError, match='after text had reached the reader'):
        await read(app('one', 'two'), prompt='hi', use=[RunTwice()])


@pytest.mark.breaks_stream_rules
async def test_a_second_start_without_a_restart_is_refused() -> None:
    class Starts(BaseMiddleware):
        async def wrap_stream(self, params, ctx, next_fn):
            async for part in next_fn(params, ctx):
                if type(part) is Finished:
                    yield ResponseStarted('other')
                yield part

    with pytest.raises(LamellaError, match='started the answer over'):
        await read(app([TextDelta('one')]), prompt='hi', use=[Starts()])


@pytest.mark.breaks_stream_rules
@pytest.mark.parametrize('behind', [TextDelta('late'), Finished(), ResponseStarted('other')], ids=repr)
async def test_nothing_comes_behind_the_end_that_a_layer_has_told(behind) -> None:
    class TalksOn(BaseMiddleware):
        async def wrap_stream(self, params, ctx, next_fn):
            async for part in next_fn(params, ctx):
                yield part
            yield behind

    for door in (app('x').generate, lambda **o: read(app('x'), **o)):
        with pytest.raises(LamellaError, match='after Finished'):
            await door(prompt='hi', use=[TalksOn()])


@pytest.mark.breaks_stream_rules
async def test_a_layer_that_forgets_to_hand_on_the_stream_is_one_clear_error() -> None:
    class Silent(BaseMiddleware):
        async def wrap_stream(self, params, ctx, next_fn):
            for part in ():
                yield part

    for door in (app('x').generate, lambda **o: read(app('x'), **o)):
        with pytest.raises(LamellaError, match='no Finished at its end'):
            await door(prompt='hi', use=[Silent()])


class GoesOn(BaseMiddleware):
    """Goes on from the text of an answer that broke off."""

    async def wrap_stream(self, params, ctx, next_fn):
        try:
            async for part in next_fn(params, ctx):
                yield part
        except LamellaError:
            async for part in next_fn(params.replace(continues=Continuing()), ctx):
                if type(part) is not ResponseStarted:
                    yield part


class Twice(BaseMiddleware):
    """Asks again when a call fails, with what it was given."""

    async def wrap_stream(self, params, ctx, next_fn):
        try:
            async for part in next_fn(params, ctx):
                yield part
        except LamellaError:
            async for part in next_fn(params, ctx):
                yield part


def breaks(text=None):
    return [*([TextDelta(text)] if text else []), LamellaError('UNAVAILABLE', 'down')]


async def test_going_on_from_a_partial_text_is_allowed_when_it_is_said() -> None:
    ai = app(breaks('Hel'), [TextDelta('lo')])
    parts = await read(ai, prompt='hi', use=[GoesOn()])
    assert shown(parts) == fold(parts).text == 'Hello'


async def test_the_leave_to_go_on_is_for_one_answer_and_not_for_all_that_layers_inside_try() -> None:
    ai, seen = app(breaks('Hel'), breaks('lo'), [TextDelta('lo, once more')]), []

    async def read_on():
        async for part in ai.generate_stream(prompt='hi', use=[GoesOn(), Twice()]):
            seen.append(part)

    with pytest.raises(LamellaError, match='after text had reached the reader') as caught:
        await read_on()
    assert (caught.value.status, len(scripted(ai).requests), shown(seen)) == ('UNAVAILABLE', 2, 'Hello')


async def test_a_leave_of_which_nothing_came_is_still_there() -> None:
    ai = app(breaks('Hel'), breaks(), [TextDelta('lo')])
    assert shown(await read(ai, prompt='hi', use=[GoesOn(), Twice()])) == 'Hello'


@pytest.mark.breaks_stream_rules
async def test_a_leave_that_is_none_is_said_clearly() -> None:
    class Old(BaseMiddleware):
        async def wrap_stream(self, params, ctx, next_fn):
            yield TextDelta('x')
            async for part in next_fn(params.replace(continues=True), ctx):
                yield part

    with pytest.raises(LamellaError, match=r'continues=True: give Continuing\(\)'):
        await read(app('x'), prompt='hi', use=[Old()])


async def test_committed_tells_a_layer_whether_the_reader_has_seen_content() -> None:
    told = []

    class Asks(BaseMiddleware):
        async def wrap_stream(self, params, ctx, next_fn):
            async for part in next_fn(params, ctx):
                told.append((type(part), ctx.committed))
                yield part

    ai = app([ResponseStarted(), TextDelta('a'), TextDelta('b'), ToolRequest('echo', {'text': 'x'}, 'r')], 'done')
    await read(ai, prompt='hi', tools=[echo], use=[Asks()])
    assert told == [
        (ResponseStarted, False), (TextDelta, False), (TextDelta, True), (ToolRequested, True), (Finished, True),
        (ResponseStarted, False), (TextDelta, False), (Finished, True),
    ]  # fmt: skip


async def test_under_a_layer_that_holds_back_nothing_is_committed() -> None:
    told = []

    class Asks(BaseMiddleware):
        async def wrap_stream(self, params, ctx, next_fn):
            async for part in next_fn(params, ctx):
                told.append(ctx.committed)
                yield part

    for outer in (HeldModel(), HeldStream(), HeldTurnRetry(), HeldRunRetry()):
        await read(app([TextDelta('a'), TextDelta('b')]), prompt='hi', use=[outer, Asks()])
    assert set(told) == {False}


async def test_a_layer_that_changes_the_text_of_the_whole_answer_makes_the_reader_start_over() -> None:
    parts = await read(app('quiet'), prompt='hi', use=[Louder()])
    assert [type(part) for part in parts] == [
        ResponseStarted,
        TextDelta,
        Restarted,
        ResponseStarted,
        TextDelta,
        Finished,
    ]
    assert shown(parts) == 'QUIET!'


async def test_text_stream_gives_the_text_and_refuses_a_restart_that_it_cannot_say() -> None:
    stream = app([ReasoningDelta('hm'), TextDelta('a'), TextDelta('b')]).generate_stream(prompt='hi')
    assert [text async for text in stream.text_stream] == ['a', 'b']
    assert (await stream.response).text == 'ab'
    async with no_leaks():
        with pytest.raises(LamellaError, match='started over'):
            async for _ in app('quiet').generate_stream(prompt='hi', use=[Louder()]).text_stream:
                pass


# ── several turns ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_stream_of_a_run_has_one_end_for_each_turn_and_the_reason_on_the_last() -> None:
    ai = app([TextDelta('let me see'), ToolRequest('echo', {'text': 'x'}, 'r')], [TextDelta('xx it is')])
    parts = await read(ai, prompt='hi', tools=[echo])
    assert [type(part) for part in parts] == [
        ResponseStarted, TextDelta, ToolRequested, ToolResponded, Finished, ResponseStarted, TextDelta, Finished,
    ]  # fmt: skip
    assert [part.stop_reason for part in parts if type(part) is Finished] == [None, 'final']


async def test_usage_over_turns_adds_up_in_both_doors_and_in_the_fold() -> None:
    def build() -> Lamella:
        ask = [ToolRequest('echo', {'text': 'x'}, 'r'), Finished('tool_calls', Usage(1, 2, 3, cost_usd=0.1))]
        return app(ask, ask, [TextDelta('done'), Finished('stop', Usage(10, 20, 30, cost_usd=0.2))])

    response = await both(build, prompt='hi', tools=[echo])
    assert response.usage == Usage(12, 24, 36, cost_usd=0.1 + 0.1 + 0.2)
    assert [turn.usage.total_tokens for turn in response.turns] == [3, 3, 30]


async def test_a_layer_around_the_run_that_adds_to_the_usage_is_believed_by_the_fold_too() -> None:
    class Priced(BaseMiddleware):
        async def wrap_run(self, params, ctx, next_fn):
            response = await next_fn(params, ctx)
            return response.replace(usage=response.usage.replace(total_tokens=100, cost_usd=1.5))

    def build() -> Lamella:
        ask = [ToolRequest('echo', {'text': 'x'}, 'r'), Finished('tool_calls', Usage(1, 2, 3))]
        return app(ask, [TextDelta('done'), Finished('stop', Usage(10, 20, 30))])

    response = await both(build, prompt='hi', tools=[echo], use=[Priced()])
    assert response.usage == Usage(11, 22, 100, cost_usd=1.5)


# ── StopRun ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def stopping(hook: str, answer: bool, after: bool) -> BaseMiddleware:
    """A layer that stops the run in one hook, before or after what is inside, with or without an answer."""

    async def stops(self, params, ctx, next_fn):
        if after:
            await next_fn(params, ctx)
        raise StopRun('max_cost', 'enough', response=ModelResponse.text_of('stopped') if answer else None)

    async def stops_stream(self, params, ctx, next_fn):
        if after:
            async for part in next_fn(params, ctx):
                yield part
        raise StopRun('max_cost', 'enough', response=ModelResponse.text_of('stopped') if answer else None)
        yield

    async def stops_params(self, params, ctx):
        raise StopRun('max_cost', 'enough', response=ModelResponse.text_of('stopped') if answer else None)

    hooks = {'wrap_stream': stops_stream, 'transform_params': stops_params}
    return type('Stops', (BaseMiddleware,), {hook: hooks.get(hook, stops)})()


HOOKS = ['wrap_run', 'wrap_generate', 'transform_params', 'wrap_model', 'wrap_stream', 'wrap_tool']


@pytest.mark.parametrize('hook', HOOKS)
@pytest.mark.parametrize('after', [False, True])
async def test_stop_run_with_an_answer_ends_the_run_with_it_in_both_doors(hook, after) -> None:
    def build() -> Lamella:
        return app([TextDelta('first'), ToolRequest('echo', {'text': 'x'}, 'r')], 'last')

    async with no_leaks():
        response = await both(
            build, prompt='hi', tools=[echo], use=[StreamOnly(), stopping(hook, True, after), ModelOnly()]
        )
    assert (response.stop_reason, response.stop_message, response.text) == ('max_cost', 'enough', 'stopped')
    assert response.messages[-1].text == 'stopped'


@pytest.mark.parametrize('hook', HOOKS)
@pytest.mark.parametrize('after', [False, True])
async def test_stop_run_without_an_answer_has_the_same_response_in_both_doors(hook, after) -> None:
    def build() -> Lamella:
        return app([TextDelta('first'), ToolRequest('echo', {'text': 'x'}, 'r')], 'last')

    use = [stopping(hook, False, after)]
    whole = await build().generate(prompt='hi', tools=[echo], use=use)
    stream = build().generate_stream(prompt='hi', tools=[echo], use=use)
    parts = [part async for part in stream]
    same_answer(await stream.response, whole)
    assert (whole.stop_reason, whole.stop_message) == ('max_cost', 'enough')
    assert parts[-1].stop_reason == 'max_cost'
    assert fold(parts).usage == whole.usage


async def test_stop_run_with_the_answer_that_the_reader_has_is_no_restart() -> None:
    class Stops(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            raise StopRun('max_cost', response=await next_fn(params, ctx))

    stream = app([TextDelta('a'), TextDelta('b')]).generate_stream(prompt='hi', use=[Stops()])
    assert [text async for text in stream.text_stream] == ['a', 'b']
    assert (await stream.response).stop_reason == 'max_cost'


async def test_stop_run_around_the_run_with_its_own_response_counts_nothing_twice() -> None:
    class Stops(BaseMiddleware):
        async def wrap_run(self, params, ctx, next_fn):
            raise StopRun('guardrail', 'looked', response=await next_fn(params, ctx))

    def build() -> Lamella:
        return app([TextDelta('a'), Finished('stop', Usage(1, 1, 2))])

    response = await both(build, prompt='hi', use=[Stops()])
    assert response.usage == Usage(1, 1, 2)
    assert [message.text for message in response.messages] == ['hi', 'a']
    assert (response.stop_reason, response.stop_message) == ('guardrail', 'looked')


# ── the stream object ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_response_reads_what_is_left() -> None:
    stream = app('hello').generate_stream(prompt='hi')
    assert (await stream.response).text == 'hello'
    assert (await stream.response).text == 'hello'


async def test_a_stream_is_read_once() -> None:
    stream = app('hello').generate_stream(prompt='hi')
    async for _ in stream:
        pass
    with pytest.raises(ConfigError, match='read once'):
        aiter(stream)


async def test_another_task_may_wait_for_the_response() -> None:
    stream = app([TextDelta(str(n)) for n in range(5)]).generate_stream(prompt='hi')
    parts = aiter(stream)
    await anext(parts)
    waiting = asyncio.create_task(stream.response)
    async for _ in parts:
        await asyncio.sleep(0)
    assert (await waiting).text == '01234'


async def test_the_response_of_a_stream_that_was_left_is_an_error_and_no_wait() -> None:
    async with app([TextDelta('a'), TextDelta('b')]).generate_stream(prompt='hi') as stream:
        async for part in stream:
            if type(part) is TextDelta:
                break
    with pytest.raises(LamellaError, match='left before its end') as caught:
        await stream.response
    assert caught.value.status == 'CANCELLED'


async def test_a_failure_raises_from_the_loop_and_from_the_response() -> None:
    stream = app([TextDelta('a'), LamellaError('UNAVAILABLE', 'down')]).generate_stream(prompt='hi')
    with pytest.raises(LamellaError) as caught:
        async for _ in stream:
            pass
    assert caught.value.partial.text == 'a'
    assert [attempt.status for attempt in caught.value.attempts] == ['UNAVAILABLE']
    with pytest.raises(LamellaError) as again:
        await stream.response
    assert again.value is caught.value


async def test_closing_an_unread_or_finished_stream_is_harmless() -> None:
    async with no_leaks():
        stream = app('x').generate_stream(prompt='hi')
        await stream.aclose()
        await stream.aclose()
        stream = app('x').generate_stream(prompt='hi')
        await stream.response
        await stream.aclose()


async def test_wrong_options_raise_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match='prompt'):
        app('x').generate_stream(promt='hi')  # type: ignore[call-arg]


async def test_a_model_with_fixed_layers_streams_through_them() -> None:
    model = wrap_language_model(
        model=ScriptedModel([[TextDelta('a'), TextDelta('b')]], repeat=True), middleware=[ModelOnly()]
    )
    async with no_leaks():
        response = await both(lambda: Lamella(model=model, clock=FakeClock()), prompt='hi', use=[StreamOnly()])
    assert response.text == 'ab'


async def test_a_retry_outside_and_a_retry_fixed_on_the_model_never_join_two_texts() -> None:
    script = [[TextDelta('one'), DOWN], [TextDelta('two'), DOWN], 'three']
    model = wrap_language_model(model=ScriptedModel(script), middleware=[StreamRetry()])
    parts = await read(Lamella(model=model, clock=FakeClock()), prompt='hi', use=[NaiveRetry()])
    assert shown(parts) == fold(parts).text == 'three'


async def test_text_parts_of_one_message_stay_several() -> None:
    response = await both(lambda: app([TextDelta('a', 0), TextDelta('b', 1), TextDelta('c', 0)]), prompt='hi')
    assert response.message.content == (TextPart('ac'), TextPart('b'))
