"""`Hedge`: the first good answer wins, the other request is stopped and waited for, and two answers are never mixed."""

import asyncio
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import virtual
from lamella import LamellaError, ModelResponse, StopRun, Usage
from lamella.middleware import BaseMiddleware, Hedge, Retry, RetryBudget, Timeout
from lamella.middleware._race import MAX_MODELS, Latencies, Recent, Share
from lamella.types import ConfigError, Finished, Rejected, ResponseStarted, Restarted, TextDelta
from tests.engine.kit import folds_to, no_leaks, same_answer
from tests.virtual import Timed, in_virtual_time, timed_app, tried

modes = pytest.mark.parametrize('streaming', [False, True], ids=['whole', 'streamed'])
DOWN = LamellaError('UNAVAILABLE', 'down')
DENIED = LamellaError('PERMISSION_DENIED', 'no')


def now() -> float:
    return asyncio.get_running_loop().time()


class Which(BaseMiddleware[Any]):
    """Does something to one of the two requests."""

    def __init__(self, which: int) -> None:
        self.which = which


ENDS = [
    # the first request, the second, delay 2: the text or the error, when, how each ended
    ((1, 'one'), (1, 'two'), 'one', 1, ['done']),
    ((9, 'one'), (1, 'two'), 'two', 3, ['left', 'done']),
    ((4, 'one'), (9, 'two'), 'one', 4, ['done', 'left']),
    ((1, DOWN), (1, 'two'), 'down', 1, ['failed']),
    ((4, DOWN), (9, 'two'), 'two', 11, ['failed', 'done']),
    ((9, 'one'), (1, DOWN), 'one', 9, ['done', 'failed']),
    ((4, DOWN), (3, DENIED), 'down', 5, ['failed', 'failed']),
    ((6, DENIED), (1, DOWN), 'no', 6, ['failed', 'failed']),
    ((4, 'one'), (2, 'two'), 'one', 4, None),
]


@modes
@pytest.mark.parametrize(('first', 'second', 'result', 'at', 'ends'), ENDS)
@in_virtual_time
async def test_how_a_race_ends(
    first: Any, second: Any, result: str, at: float, ends: list[str] | None, streaming: bool
) -> None:
    model = Timed(first, second)
    ai, sink = timed_app(model)
    async with no_leaks():
        answer = await tried(ai, streaming, [Hedge(delay_s=2, max_ratio=1)])
    assert (answer.message if isinstance(answer, LamellaError) else answer.text) == result
    assert now() == at
    if ends is None:  # both at the same moment: the first one wins, whatever became of the other
        return
    assert (model.ends, model.begins) == (ends, [0, 2][: len(ends)])
    sent = [event.facts for event in sink.named('hedge.sent')]
    assert sent == [{'model': 'x/a', 'delay_s': 2}][: len(ends) - 1]
    if isinstance(answer, LamellaError):
        return
    if len(ends) == 1:
        assert 'hedge' not in answer.metadata
        return
    winner = 1 + (result == 'two')
    loser = {'left': 'stopped', 'failed': 'failed'}[ends[2 - winner]]
    assert answer.metadata['hedge'] == {'winner': winner, 'delay_s': 2, 'loser': loser}
    assert [event.facts for event in sink.named('hedge.won')] == [{'model': 'x/a', 'winner': winner, 'took_s': at}]


@in_virtual_time
async def test_the_first_content_wins_and_the_rest_of_it_follows_alone() -> None:
    slow_start, slow_end = Timed((9, 'late')), (1, 'quick ', 20, 'and ', 20, 'long')
    model = Timed(*slow_start.scripts, slow_end)
    ai, _ = timed_app(model)
    stream = ai.generate_stream(prompt='hi', use=[Hedge(delay_s=2)])
    async with no_leaks():
        parts = [part async for part in stream]
    assert [type(part) for part in parts] == [ResponseStarted, TextDelta, TextDelta, TextDelta, Finished]
    response = await stream.response
    folds_to(parts, response)
    assert (response.text, response.usage, response.metadata['hedge']['winner']) == (
        'quick and long', Usage(1, 2, 3), 2,
    )  # fmt: skip
    assert (model.ends, model.calls[0][2]) == (['left', 'done'], 3)


@in_virtual_time
async def test_whole_and_streamed_answers_say_the_same() -> None:
    def app() -> Any:
        return timed_app(Timed((9, 'one'), (1, 'two')))[0]

    use = [Hedge(delay_s=2)]
    same_answer(await tried(app(), True, [Hedge(delay_s=2)]), await tried(app(), False, use))


@modes
@in_virtual_time
async def test_a_winner_that_breaks_after_its_first_text_is_an_error_with_what_had_arrived(streaming: bool) -> None:
    model = Timed((9, 'one'), (1, 'half ', 1, DOWN))
    ai, _ = timed_app(model)
    answer = await tried(ai, streaming, [Hedge(delay_s=2)])
    if streaming:
        assert (answer.message, answer.partial.text, model.ends) == ('down', 'half ', ['left', 'failed'])
    else:
        assert (answer.text, model.ends) == ('one', ['done', 'failed'])


@modes
@in_virtual_time
async def test_what_the_loser_used_is_counted_when_it_is_known(streaming: bool) -> None:
    def spent(text: str) -> Any:
        return LamellaError('UNAVAILABLE', 'cut', partial=ModelResponse.text_of(text, usage=Usage(10, 20, 30)))

    class Fails(Which):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            if params.attempt == self.which:
                await ctx.clock.sleep(1 if self.which == 2 else 3)
                raise spent('x')
            return await next_fn(params, ctx)

    for which in (1, 2):
        ai, _ = timed_app(Timed((5, 'fine')))
        answer = await tried(ai, streaming, [Hedge(delay_s=2, max_ratio=1), Fails(which)])
        assert (answer.text, answer.usage) == ('fine', Usage(11, 22, 33))
        assert answer.metadata['hedge']['loser'] == 'failed'


@in_virtual_time
async def test_a_loser_that_answers_at_the_same_moment_is_paid_for() -> None:
    ai, _ = timed_app(Timed((4, 'one'), (2, 'two')))
    answer = await tried(ai, False, [Hedge(delay_s=2)])
    assert (answer.text, answer.usage, answer.metadata['hedge']['loser']) == ('one', Usage(2, 4, 6), 'answered')


@modes
@in_virtual_time
async def test_the_delay_is_what_most_recent_calls_took(streaming: bool) -> None:
    chance = Random(3)
    model = Timed(lambda n: (chance.uniform(1, 2) if n < 40 else 60, 'x'))
    ai, sink = timed_app(model)
    layer = Hedge(percentile=90, min_samples=40, samples=40)
    for _ in range(40):
        await tried(ai, streaming, [layer])
    assert sink.named('hedge.sent') == []
    model.scripts = ((60, 'x'), (1, 'y'))
    model.calls.clear()
    answer = await tried(ai, streaming, [layer])
    assert answer.text == 'y'
    (sent,) = sink.named('hedge.sent')
    assert 1.8 < sent.facts['delay_s'] < 2


@in_virtual_time
async def test_until_enough_is_known_the_delay_is_the_given_one_or_none() -> None:
    for delay_s, sent in ((5.0, 1), (None, 0)):
        ai, sink = timed_app(Timed((60, 'one'), (1, 'two')))
        await tried(ai, False, [Hedge(percentile=90, delay_s=delay_s)])
        assert len(sink.named('hedge.sent')) == sent


@in_virtual_time
async def test_first_contents_and_whole_answers_are_measured_apart_and_so_are_models() -> None:
    a, b = Timed((1, 'x', 9, 'y')), Timed((5, 'x', 5, 'y'), name='x/b')
    ai, _ = timed_app(a, b)
    layer = Hedge(percentile=50, min_samples=1, max_ratio=0.01)
    for model in ('x/a', 'x/b'):
        for streaming in (True, False):
            await tried(ai, streaming, [layer], model=model)
    found = {name: layer._latencies.of(name).at(50) for name in ('first x/a', 'whole x/a', 'first x/b', 'whole x/b')}
    assert found == {'first x/a': 1, 'whole x/a': 10, 'first x/b': 5, 'whole x/b': 10}


@in_virtual_time
async def test_a_first_request_that_was_stopped_counts_as_taking_at_least_as_long() -> None:
    """Else the fast second ones would draw the delay down, and more and more would be sent."""
    model = Timed(lambda n: (60, 'slow') if n % 2 == 0 else (1, 'quick'))
    ai, _ = timed_app(model)
    layer = Hedge(delay_s=5, percentile=50, min_samples=9, max_ratio=1)
    for _ in range(9):
        await tried(ai, False, [layer])
    assert layer._latencies.of('whole x/a').at(50) == 6


@modes
@in_virtual_time
async def test_no_more_than_a_share_of_the_calls_is_sent_twice(streaming: bool) -> None:
    model = Timed((9, 'x'))
    ai, sink = timed_app(model)
    layer = Hedge(delay_s=1, max_ratio=0.1)
    answers = await asyncio.gather(*[tried(ai, streaming, [layer]) for _ in range(100)])
    assert all(answer.text == 'x' for answer in answers)
    assert len(model.calls) == 100 + 10  # the one to begin with is within what is saved up
    assert len(sink.named('hedge.held_back')) == 90
    for _ in range(9):
        await tried(ai, streaming, [layer])
    assert len(sink.named('hedge.sent')) == 10


UNSAFE: list[dict[str, Any]] = [
    {'openai': {'store': True}},
    {'openai': {'background': True}},
    {'openai': {'conversation': 'conv_1'}},
    {'openai': {'tools': [{'type': 'code_interpreter'}]}},
    {'anthropic': {'mcp_servers': [{'url': 'https://x'}]}},
    {'anthropic': {'container': 'c'}},
]


@modes
@pytest.mark.parametrize('options', UNSAFE, ids=lambda o: str(next(iter(next(iter(o.values()))))))
@in_virtual_time
async def test_what_makes_a_provider_act_is_sent_once_unless_one_says_it_is_safe(
    options: dict[str, Any], streaming: bool
) -> None:
    for safe, times in ((None, 1), (lambda request: bool(request.messages), 2), (lambda request: False, 1)):
        model = Timed((9, 'x'))
        ai, _ = timed_app(model)
        await tried(ai, streaming, [Hedge(delay_s=1, safe=safe)], provider_options=options)
        assert len(model.calls) == times
    model = Timed((9, 'x'))
    ai, _ = timed_app(model)
    await tried(ai, streaming, [Hedge(delay_s=1)], provider_options={'openai': {'store': False, 'user': 'u'}})
    assert len(model.calls) == 2


@in_virtual_time
async def test_what_continues_a_text_is_sent_once() -> None:
    model = Timed(('Half ', DOWN), (9, 'and half'))
    ai, sink = timed_app(model)
    answer = await tried(ai, True, [Retry(on_partial='continue', no_jitter=True), Hedge(delay_s=2)])
    assert (answer.text, sink.named('hedge.sent')) == ('Half and half', [])


@modes
@in_virtual_time
async def test_a_delay_behind_the_deadline_is_not_waited_for(streaming: bool) -> None:
    ai, sink = timed_app(Timed((9, 'x')))
    error = await tried(ai, streaming, [Hedge(delay_s=5)], timeout_s=4)
    assert (error.status, sink.named('hedge.sent')) == ('DEADLINE_EXCEEDED', [])


@modes
@pytest.mark.parametrize('after', [1, 5])
@in_virtual_time
async def test_cancellation_stops_both_and_waits_for_them(after: float, streaming: bool) -> None:
    model = Timed((60, 'one'))
    ai, _ = timed_app(model)
    async with no_leaks():
        task = asyncio.create_task(tried(ai, streaming, [Hedge(delay_s=3)]))
        await asyncio.sleep(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert model.ends == ['left'] * (1 if after < 3 else 2)


@pytest.mark.parametrize('streaming', [False])
@in_virtual_time
async def test_a_loser_that_is_slow_to_stop_is_waited_for_also_when_the_call_is_cancelled_meanwhile(
    streaming: bool,
) -> None:
    ended = []

    class Lingers(BaseMiddleware[Any]):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            try:
                return await next_fn(params, ctx)
            finally:
                await asyncio.sleep(10 if params.attempt == 1 else 0)
                ended.append(params.attempt)

    ai, _ = timed_app(Timed((60, 'one'), (1, 'two')))
    async with no_leaks():
        task = asyncio.create_task(tried(ai, streaming, [Hedge(delay_s=3), Lingers()]))
        await asyncio.sleep(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (ended, now()) == ([2, 1], 14)


@modes
@pytest.mark.parametrize('read', [0, 1, 2])
@in_virtual_time
async def test_a_reader_who_leaves_closes_both(read: int, streaming: bool) -> None:
    model = Timed((9, 'one'), (1, 'two', 5, 'three'))
    ai, _ = timed_app(model)
    async with no_leaks(), ai.generate_stream(prompt='hi', use=[Hedge(delay_s=2)]) as stream:
        parts = aiter(stream)
        for _ in range(read):
            await anext(parts)
    assert model.ends == (['left', 'left'] if read else [])


@modes
@in_virtual_time
async def test_a_bug_or_a_stop_in_either_ends_the_call_at_once(streaming: bool) -> None:
    class Breaks(Which):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            if params.attempt == self.which:
                await asyncio.sleep(self.which)
                raise raised
            return await next_fn(params, ctx)

    for which in (1, 2):
        raised: BaseException = ZeroDivisionError()
        model = Timed((60, 'x'))
        ai, _ = timed_app(model)
        async with no_leaks():
            with pytest.raises(ZeroDivisionError):
                await tried(ai, streaming, [Hedge(delay_s=0.5), Breaks(which)])
        raised = StopRun('guardrail', 'enough')
        async with no_leaks():
            answer = await tried(ai, streaming, [Hedge(delay_s=0.5), Breaks(which)])
        assert answer.stop_reason == 'guardrail'
        assert 'done' not in model.ends


@modes
@in_virtual_time
async def test_a_second_request_that_a_layer_inside_refuses_leaves_the_race_to_the_first(streaming: bool) -> None:
    class Refuses(BaseMiddleware[Any]):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            if params.attempt > 1:
                raise Rejected('not twice', by=self)
            return await next_fn(params, ctx)

    ai, _ = timed_app(Timed((9, 'one')))
    answer = await tried(ai, streaming, [Hedge(delay_s=2), Refuses()])
    assert (answer.text, answer.metadata['hedge']['winner']) == ('one', 1)


@modes
@in_virtual_time
async def test_a_retry_budget_counts_second_requests_inside_and_outside(streaming: bool) -> None:
    budget = RetryBudget(burst=1, min_per_s=0, ratio=0.01)
    for use in ([budget, Hedge(delay_s=2, max_ratio=1)], [Hedge(delay_s=2, max_ratio=1), budget]):
        model = Timed((9, 'one'))
        ai, sink = timed_app(model)
        for _ in range(3):
            assert (await tried(ai, streaming, use)).text == 'one'
        assert (len(model.calls), len(sink.named('retry_budget.spent'))) == (4, 1)


@modes
@in_virtual_time
async def test_a_retry_inside_runs_in_both_and_one_outside_begins_the_race_anew(streaming: bool) -> None:
    retry, hedge = Retry(no_jitter=True, max_retries=1), Hedge(delay_s=2, max_ratio=1)
    model = Timed((1.5, DOWN), (1, DOWN), (9, 'one'), (1, 'two'))
    ai, _ = timed_app(model)
    answer = await tried(ai, streaming, [hedge, retry])
    assert (answer.text, model.begins) == ('two', [0, 2, 2.5, 4])
    model = Timed((3, DOWN), (0.5, DOWN), (9, 'one'), (1, 'two'))
    ai, _ = timed_app(model)
    answer = await tried(ai, streaming, [retry, Hedge(delay_s=2, max_ratio=1)])
    assert answer.text == 'two'
    assert (answer.metadata['retry']['attempts'], answer.metadata['hedge']['winner']) == (2, 2)


@modes
@in_virtual_time
async def test_layers_that_know_nothing_of_streams_may_stand_on_both_sides(streaming: bool) -> None:
    class Limit(BaseMiddleware[Any]):
        async def wrap_model(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            async with asyncio.timeout(30):
                return await next_fn(params, ctx)

    model = Timed((9, 'one'), (1, 'two ', 5, 'words'))
    ai, _ = timed_app(model)
    async with no_leaks():
        answer = await tried(ai, streaming, [Limit(), Hedge(delay_s=4), Limit()])
    assert (answer.text, now()) == (('two words', 10) if streaming else ('one', 9))


@modes
@in_virtual_time
async def test_timeouts_inside_are_each_request_s_own(streaming: bool) -> None:
    model = Timed((60, 'one'), (3, 'two'))
    ai, _ = timed_app(model)
    use = [Hedge(delay_s=2), Timeout(first_content_s=4)]
    answer = await tried(ai, streaming, use)
    assert (answer.text, answer.metadata['hedge']['loser'], now()) == ('two', 'failed', 5)


@in_virtual_time
async def test_an_inner_restart_before_anything_was_seen_is_not_told() -> None:
    model = Timed((9, 'one'), ('void', DOWN), ('two',))
    ai, _ = timed_app(model)
    use = [Hedge(delay_s=2), Retry(on_partial='restart', no_jitter=True)]
    parts = [part async for part in ai.generate_stream(prompt='hi', use=use)]
    assert [part.text for part in parts if type(part) is TextDelta] == ['void', 'two']
    assert Restarted in map(type, parts)  # the winner's first text had been seen


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 9), st.booleans()), min_size=2, max_size=30), st.floats(0.01, 5), st.booleans())
def test_whatever_fails_the_answer_is_one_of_the_two_and_nothing_is_left(
    scripts: list[tuple[float, bool]], delay_s: float, streaming: bool
) -> None:
    async def run() -> None:
        model = Timed(
            *[(wait, f'{n} ', 0.5, f'{n}') if good else (wait, DOWN) for n, (wait, good) in enumerate(scripts)]
        )
        ai, _ = timed_app(model)
        layer = Hedge(delay_s=delay_s, max_ratio=1)
        async with no_leaks():
            answers = await asyncio.gather(*[tried(ai, streaming, [layer]) for _ in range(8)])
        for answer in answers:
            if isinstance(answer, LamellaError):
                assert answer.message == 'down'
            else:
                one, _, two = answer.text.partition(' ')
                assert one == two  # never a piece of each
        assert 8 <= len(model.calls) <= 16

    virtual.run(run())


def test_a_share_is_a_bound() -> None:
    share, sent = Share(0.1), 0
    for calls in range(1, 200):
        share.called()
        sent += share.take()
        assert sent <= 1 + 0.1 * calls
    assert sent >= 19


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.integers(1, 20), st.floats(0.1, 99.9))
def test_a_percentile_is_that_of_the_last_durations(values: list[float], size: int, percentile: float) -> None:
    recent = Recent(size)
    for value in values:
        recent.add(value)
    last = sorted(values[-size:])
    assert len(recent) == len(last)
    assert recent.at(percentile) == last[min(len(last) - 1, int(len(last) * percentile / 100))]


def test_latencies_of_a_thousand_models_do_not_pile_up() -> None:
    latencies = Latencies(10)
    for n in range(1000):
        latencies.of(f'x/{n}').add(n)
        latencies.of('x/kept').add(1)
    assert len(latencies) == MAX_MODELS
    assert len(latencies.of('x/kept')) == 10


def test_wrong_settings_are_said_all_at_once() -> None:
    with pytest.raises(ConfigError, match='never sends a second request: give delay_s, percentile or both'):
        Hedge()
    with pytest.raises(ConfigError, match='min_samples=20 is more than samples=5'):
        Hedge(percentile=90, samples=5)
    with pytest.raises(ConfigError) as caught:
        Hedge(delay_s=0, percentile=100, max_ratio=0, safe='yes')  # type: ignore[arg-type]
    for field in ('delay_s', 'percentile', 'max_ratio', 'safe'):
        assert field in caught.value.message
