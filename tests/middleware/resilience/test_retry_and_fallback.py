"""`Retry` and `Fallback` together: the exact sequence of models for each pattern of failures, in both orders and both modes."""

from typing import Any

import pytest

from lamella.middleware import Fallback, Retry
from tests.middleware.kit import both, cut, down, shown, world

# What each model answers in turn: `x` a failure, `.` an answer; the last mark repeats. Two retries, one fallback.
PATTERNS = [
    # (a, b, [Retry, Fallback], [Fallback, Retry])
    ('.', '.', 'a', 'a'),
    ('x.', '.', 'ab', 'aa'),
    ('xx.', '.', 'ab', 'aaa'),
    ('xxx.', '.', 'ab', 'aaab'),
    ('x', 'x.', 'abab', 'aaabb'),
    ('x', 'xx.', 'ababab', 'aaabbb'),
    ('x', 'xxx.', 'ababab', 'aaabbb'),
    ('xx.', 'x', 'ababa', 'aaa'),
    ('xx.', 'xx.', 'ababa', 'aaa'),
    ('x', 'x', 'ababab', 'aaabbb'),
]
WAITS = {'a': [], 'ab': [], 'abab': [1], 'ababa': [1, 2], 'ababab': [1, 2]}
WAITS_INSIDE = {'a': [], 'aa': [1], 'aaa': [1, 2], 'aaab': [1, 2], 'aaabb': [1, 2, 1], 'aaabbb': [1, 2, 1, 2]}


def script(pattern: str, name: str) -> list[Any]:
    answers = [down(message=f'{name} is down') if mark == 'x' else f'from {name}' for mark in pattern]
    return [*answers, *answers[-1:] * 9]


def app(a: str, b: str) -> Any:
    return world({'v/a': script(a, 'a'), 'v/b': script(b, 'b')})


@pytest.mark.parametrize('streamed', [False, True], ids=['whole', 'streamed'])
@pytest.mark.parametrize(('a', 'b', 'outside', 'inside'), PATTERNS)
async def test_the_sequence_of_models(a: str, b: str, outside: str, inside: str, streamed: bool) -> None:
    retry, fallback = Retry(max_retries=2, no_jitter=True), Fallback(models=['v/b'])
    orders = (([retry, fallback], outside, WAITS), ([fallback, retry], inside, WAITS_INSIDE))
    for use, sequence, waits in orders:
        tried = app(a, b)
        await (tried.read(*use) if streamed else tried.answer(*use))
        assert (tried.asked, tried.clock.slept) == (sequence, waits[sequence])


@pytest.mark.parametrize(('a', 'b', 'outside', 'inside'), [p for p in PATTERNS if '.' in p[0] or '.' in p[1]])
async def test_whole_and_streamed_calls_agree_in_both_orders(a: str, b: str, outside: str, inside: str) -> None:
    retry, fallback = Retry(max_retries=2), Fallback(models=['v/b'])
    for use, sequence in (([retry, fallback], outside), ([fallback, retry], inside)):
        if app_fails(a, b, sequence):
            continue
        response = await both(lambda: app(a, b).ai, prompt='hi', use=use)
        assert response.text == f'from {sequence[-1]}'


def app_fails(a: str, b: str, sequence: str) -> bool:
    left = {'a': script(a, 'a'), 'b': script(b, 'b')}
    return callable([left[name].pop(0) for name in sequence][-1])


async def test_the_notes_of_both_are_in_the_answer() -> None:
    retry, fallback = Retry(max_retries=2, no_jitter=True), Fallback(models=['v/b'])
    response = await app('x', 'x.').answer(retry, fallback)
    assert response.metadata['retry'] == {'attempts': 2, 'waited_s': 1.0}
    assert response.metadata['fallback']['fallback_attempt'] == 1
    response = await app('x', 'x.').answer(fallback, retry)
    assert response.metadata['retry'] == {'attempts': 2, 'waited_s': 1.0}
    assert response.metadata['fallback']['fallback_model'] == 'v/b'


async def test_a_word_of_one_provider_does_not_hold_up_the_other() -> None:
    tried = world({'v/a': [down(retry_after_s=120)], 'v/b': ['hello']})
    response = await tried.answer(Fallback(models=['v/b']), Retry())
    assert (response.text, tried.asked, tried.clock.slept) == ('hello', 'ab', [])


async def test_a_retry_of_the_whole_chain_waits_for_the_word_of_its_last_model() -> None:
    tried = world({'v/a': [down(retry_after_s=30), 'hello'], 'v/b': [down(retry_after_s=7)]})
    await tried.answer(Retry(no_jitter=True), Fallback(models=['v/b']))
    assert (tried.asked, tried.clock.slept) == ('aba', [7])


async def test_with_a_cool_down_a_retried_chain_goes_on_with_all_of_its_models() -> None:
    tried = world({'v/a': [down(), down()], 'v/b': [down(), 'hello']})
    response = await tried.answer(Retry(no_jitter=True), Fallback(models=['v/b'], cooldown_s=300))
    assert (response.text, tried.asked) == ('hello', 'abab')


@pytest.mark.parametrize('retry_outside', [True, False])
async def test_both_restart_visibly(retry_outside: bool) -> None:
    retry = Retry(max_retries=1, no_jitter=True, on_partial='restart')
    fallback = Fallback(models=['v/b'], on_partial='restart')
    tried = world({'v/a': [cut('one'), cut('two')], 'v/b': [cut('three'), 'four']})
    parts, error = await tried.read(*([retry, fallback] if retry_outside else [fallback, retry]))
    assert (shown(parts), error, tried.asked) == ('four', None, 'abab' if retry_outside else 'aabb')


async def test_an_inner_restart_opens_the_way_for_an_outer_layer_that_only_moves_on_unseen() -> None:
    retry, fallback = Retry(max_retries=1, no_jitter=True, on_partial='restart'), Fallback(models=['v/b'])
    tried = world({'v/a': [cut('one'), down()], 'v/b': ['two']})
    parts, error = await tried.read(fallback, retry)
    assert (shown(parts), error, tried.asked) == ('two', None, 'aab')


async def test_all_attempts_of_both_are_in_the_error() -> None:
    error = await app('x', 'x').answer(Fallback(models=['v/b']), Retry(max_retries=1))
    assert [attempt.message for attempt in error.attempts] == ['a is down', 'a is down', 'b is down', 'b is down']
