"""`Timeout`: three limits, both modes, and the reader's own time is never cut."""

import asyncio
from typing import Any

import pytest

from lamella import LamellaError, ModelResponse
from lamella.middleware import Fallback, Retry, Timeout
from lamella.types import ConfigError, Finished, Restarted, TextDelta, ToolRequest, ToolRequested
from tests.engine.kit import folds_to, no_leaks, same_answer
from tests.virtual import Timed, in_virtual_time, timed_app, tried

modes = pytest.mark.parametrize('streaming', [False, True], ids=['whole', 'streamed'])
LIMITS = [
    # limits, what the model does, which limit it meets and when
    ({'total_s': 5.0}, (6, 'late'), 'total_s', 5),
    ({'total_s': 5.0}, (3, 'a', 3, 'b'), 'total_s', 5),
    ({'total_s': 5.0}, (2, 'a', 2, 'b'), None, 4),
    ({'first_content_s': 2.0}, (3, 'late'), 'first_content_s', 2),
    ({'first_content_s': 2.0}, (1, 'a', 60, 'b'), None, 61),
    ({'idle_s': 2.0}, (3, 'late'), 'idle_s', 2),
    ({'idle_s': 2.0}, (1, 'a', 1, 'b', 3, 'c'), 'idle_s', 4),
    ({'idle_s': 2.0}, (1, 'a', 1.9, 'b', 1.9, 'c', 1.9), None, 6.7),
    ({'first_content_s': 9.0, 'idle_s': 2.0}, (8, 'a', 1, 'b', 3), 'idle_s', 11),
    ({'first_content_s': 9.0, 'idle_s': 2.0, 'total_s': 10.0}, (8, 'a', 1, 'b', 3), 'total_s', 10),
    ({'first_content_s': 2.0}, (1, ToolRequested(ToolRequest('x', {}, 'r')), 5, Finished()), None, 6),
]


@modes
@pytest.mark.parametrize(('limits', 'script', 'limit', 'at'), LIMITS)
@in_virtual_time
async def test_each_limit_holds_in_both_modes(
    limits: dict[str, float], script: Any, limit: str | None, at: float, streaming: bool
) -> None:
    model = Timed(script)
    ai, sink = timed_app(model)
    async with no_leaks():
        answer = await tried(ai, streaming, [Timeout(**limits)], max_turns=1, tools=[])
    assert (model.ends, model.calls[0][2]) == (['left' if limit else 'done'], pytest.approx(at))
    if limit is None:
        assert isinstance(answer, ModelResponse)
        assert sink.named('timeout.cut') == []
        return
    seconds = limits[limit]
    assert isinstance(answer, LamellaError)
    assert answer.status == 'DEADLINE_EXCEEDED'
    assert f'within {limit}={seconds:g} (limit of timeout)' in answer.message
    assert answer.details == {'by': 'timeout', 'limit': limit, 'limit_s': seconds}
    assert [(attempt.model, attempt.duration_s) for attempt in answer.attempts] == [('x/a', pytest.approx(at))]
    (cut,) = sink.named('timeout.cut')
    assert cut.facts == {
        'model': 'x/a',
        'status': 'DEADLINE_EXCEEDED',
        'duration_s': pytest.approx(at),
        'error': answer,
        'limit': limit,
        'limit_s': seconds,
    }
    assert sink.named('model.error') == []  # the call itself was left


@in_virtual_time
async def test_the_answer_within_the_limits_is_the_same_as_without_them() -> None:
    use = [Timeout(total_s=60, first_content_s=60, idle_s=60)]
    script = (1, 'one ', 1, ToolRequested(ToolRequest('look', {}, 'r-1'), 1), Finished('tool_calls', metadata={'m': 1}))
    answers = []
    for layers in ([], use):
        ai, _ = timed_app(Timed(script, ('done',)))
        whole = await ai.generate(prompt='hi', use=layers, tools=[look])
        ai, _ = timed_app(Timed(script, ('done',)))
        stream = ai.generate_stream(prompt='hi', use=layers, tools=[look])
        parts = [part async for part in stream]
        same_answer(await stream.response, whole)
        folds_to(parts, whole)
        answers.append(whole)
    same_answer(*answers)


def look() -> str:
    return 'seen'


@in_virtual_time
async def test_the_readers_own_time_is_neither_counted_nor_cut() -> None:
    ai, _ = timed_app(Timed((1, 'a', 1, 'b', 1, 'c')))
    seen = []
    use = [Timeout(total_s=4, first_content_s=2, idle_s=2)]
    async for part in ai.generate_stream(prompt='hi', use=use):
        await asyncio.sleep(100)
        seen.append(part)
    assert type(seen[-1]) is Finished
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


@in_virtual_time
async def test_a_wait_is_cut_also_after_the_reader_was_slow() -> None:
    ai, _ = timed_app(Timed((1, 'a', 9, 'b')))
    loop, seen = asyncio.get_running_loop(), []

    async def read() -> None:
        async for part in ai.generate_stream(prompt='hi', use=[Timeout(idle_s=2)]):
            seen.append(part)
            await asyncio.sleep(100 if type(part) is TextDelta else 0)

    with pytest.raises(LamellaError, match='nothing more within idle_s=2'):
        await read()
    assert loop.time() == pytest.approx(103)


@modes
@in_virtual_time
async def test_the_inner_and_the_outer_of_two_are_told_apart_by_their_limits(streaming: bool) -> None:
    for use in ([Timeout(total_s=5), Timeout(total_s=9)], [Timeout(total_s=9), Timeout(total_s=5)]):
        ai, sink = timed_app(Timed((60, 'late')))
        error = await tried(ai, streaming, use)
        assert 'total_s=5' in error.message
        assert len(sink.named('timeout.cut')) == 1


@modes
@in_virtual_time
async def test_two_that_listen_both_hear(streaming: bool) -> None:
    model = Timed((1, 'a', 1, 'b', 5, 'c'))
    ai, _ = timed_app(model)
    error = await tried(ai, streaming, [Timeout(idle_s=3), Timeout(first_content_s=2)])
    assert ('idle_s=3' in error.message, model.calls[0][2]) == (True, 5)


@modes
@in_virtual_time
async def test_inside_of_a_retry_each_attempt_has_its_limits(streaming: bool) -> None:
    model = Timed((60,), (60,), ('quick',))
    ai, _ = timed_app(model)
    answer = await tried(ai, streaming, [Retry(no_jitter=True), Timeout(first_content_s=4)])
    assert (answer.text, model.begins) == ('quick', [0, 5, 11])
    assert answer.metadata['retry'] == {'attempts': 3, 'waited_s': 3.0}


@modes
@in_virtual_time
async def test_outside_of_a_retry_all_attempts_share_them(streaming: bool) -> None:
    model = Timed((1, LamellaError('UNAVAILABLE', 'down')))
    ai, _ = timed_app(model)
    error = await tried(ai, streaming, [Timeout(total_s=7.5), Retry(no_jitter=True, max_retries=9)])
    assert 'total_s=7.5' in error.message
    assert model.begins == [0, 2, 5]
    assert asyncio.get_running_loop().time() == 7.5
    for attempt, status in zip(error.attempts, ['UNAVAILABLE'] * 3 + ['DEADLINE_EXCEEDED'], strict=True):
        assert attempt.status == status


@modes
@in_virtual_time
async def test_a_fallback_moves_on(streaming: bool) -> None:
    slow, quick = Timed((60, 'late')), Timed(('quick',), name='x/b')
    ai, _ = timed_app(slow, quick)
    answer = await tried(ai, streaming, [Fallback(models=['x/b']), Timeout(idle_s=4)])
    assert (answer.text, slow.ends, asyncio.get_running_loop().time()) == ('quick', ['left'], 4)


@in_virtual_time
async def test_after_the_first_text_a_cut_is_an_error_with_what_had_arrived_or_a_restart() -> None:
    script = ('one ', 60, 'two')
    ai, _ = timed_app(Timed(script))
    error = await tried(ai, True, [Retry(), Timeout(idle_s=4)])
    assert error.partial.text == 'one '
    ai, _ = timed_app(Timed(script, ('three',)))
    stream = ai.generate_stream(prompt='hi', use=[Retry(on_partial='restart'), Timeout(idle_s=4)])
    assert Restarted in [type(part) async for part in stream]
    assert (await stream.response).text == 'three'


@modes
@in_virtual_time
async def test_cancellation_passes(streaming: bool) -> None:
    model = Timed((60, 'late'))
    ai, sink = timed_app(model)
    async with no_leaks():
        task = asyncio.create_task(tried(ai, streaming, [Timeout(total_s=50, idle_s=50)]))
        await asyncio.sleep(10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (model.ends, sink.named('timeout.cut')) == (['left'], [])


@in_virtual_time
async def test_a_reader_who_leaves_closes_everything() -> None:
    model = Timed(('a', 60, 'b'))
    ai, _ = timed_app(model)
    async with no_leaks(), ai.generate_stream(prompt='hi', use=[Timeout(idle_s=50)]) as stream:
        async for _ in stream:
            break
    assert model.ends == ['left']
    assert asyncio.get_running_loop().time() == 0


@in_virtual_time
async def test_a_hundred_at_once_each_have_their_own_limits() -> None:
    ai, _ = timed_app(Timed(lambda n: (n / 10, 'x')))
    layer = Timeout(total_s=5.05)
    answers = await asyncio.gather(*[tried(ai, n % 2 == 0, [layer]) for n in range(100)])
    assert [isinstance(answer, LamellaError) for answer in answers].count(True) == 49


@modes
@in_virtual_time
async def test_a_layer_between_that_holds_everything_back_does_not_hide_that_the_model_is_alive(
    streaming: bool,
) -> None:
    ai, _ = timed_app(Timed((1, 'a', 1, 'b', 1, 'c')))
    answer = await tried(ai, streaming, [Timeout(first_content_s=2, idle_s=2), Retry(commit='finish')])
    assert answer.text == 'abc'
    ai, _ = timed_app(Timed((1, 'a', 1, 'b', 3, 'c')))
    error = await tried(ai, streaming, [Timeout(idle_s=2), Retry(commit='finish', max_retries=0)])
    assert 'idle_s=2' in error.message


def test_wrong_settings_are_said_all_at_once() -> None:
    with pytest.raises(ConfigError, match='limits nothing: give total_s, first_content_s or idle_s'):
        Timeout()
    with pytest.raises(ConfigError, match=r'total_s.*idle_s') as caught:
        Timeout(total_s=0, idle_s=-1)
    assert 'greater than' in caught.value.message
    with pytest.raises(ConfigError, match="did you mean 'idle_s'"):
        Timeout(idle=3)  # type: ignore[call-arg]
