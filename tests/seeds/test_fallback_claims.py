"""What the first seed says of `Fallback`, and of `Retry` and `Fallback` together."""

from collections.abc import Sequence
from typing import Any

import pytest

from lamella import Lamella, LamellaError
from lamella.middleware import BaseMiddleware
from lamella.plugins.middleware import Fallback, Retry
from lamella.types import STATUSES, Status
from tests.seeds import samples
from tests.seeds.vendor import World, fails, world

TRIGGERS = (
    'UNAVAILABLE',
    'DEADLINE_EXCEEDED',
    'RESOURCE_EXHAUSTED',
    'ABORTED',
    'INTERNAL',
    'NOT_FOUND',
    'UNIMPLEMENTED',
)


async def ask(app: World, *use: BaseMiddleware[Any]) -> str:
    return (await app.ai.generate(prompt='Write a product description...', use=list(use))).text


@pytest.mark.parametrize('status', TRIGGERS)
async def test_by_default_these_statuses_trigger_a_fallback(status: Status) -> None:
    app = world({'first': [fails(status)], 'second': ['from the second']})
    assert await ask(app, Fallback(models=['googleai/second'])) == 'from the second'
    assert app.asked == ['first', 'second']


@pytest.mark.parametrize('status', [status for status in STATUSES if status not in TRIGGERS])
async def test_by_default_no_other_status_triggers_a_fallback(status: Status) -> None:
    app = world({'first': [fails(status)], 'second': ['from the second']})
    with pytest.raises(LamellaError) as caught:
        await ask(app, Fallback(models=['googleai/second']))
    assert (caught.value.status, app.asked) == (status, ['first'])


async def test_the_printed_models_are_tried_in_order_and_the_default_model_may_come_again() -> None:
    app = world({'gemini-2.0-flash': [fails('UNAVAILABLE'), 'at last'], 'gemini-flash-latest': [fails('UNAVAILABLE')]})
    names = await samples.run('fallback', {'ai': app.ai})
    assert names['response'].text == 'at last'
    assert app.asked == ['gemini-2.0-flash', 'gemini-flash-latest', 'gemini-2.0-flash']


async def test_when_all_models_fail_the_last_error_is_raised() -> None:
    app = world({'a': [fails('UNAVAILABLE', 'one')], 'b': [fails('ABORTED', 'two')], 'c': [fails('INTERNAL', 'three')]})
    with pytest.raises(LamellaError, match='INTERNAL: three') as caught:
        await ask(app, Fallback(models=['googleai/b', 'googleai/c']))
    assert [(attempt.model, attempt.status) for attempt in caught.value.attempts] == [
        ('googleai/a', 'UNAVAILABLE'),
        ('googleai/b', 'ABORTED'),
        ('googleai/c', 'INTERNAL'),
    ]


async def test_a_failure_that_does_not_qualify_ends_the_chain() -> None:
    app = world({'a': [fails('UNAVAILABLE')], 'b': [fails('INVALID_ARGUMENT')], 'c': ['never asked']})
    with pytest.raises(LamellaError, match='INVALID_ARGUMENT'):
        await ask(app, Fallback(models=['googleai/b', 'googleai/c']))
    assert app.asked == ['a', 'b']


async def test_no_fallback_is_asked_when_the_first_model_answers() -> None:
    app = world({'a': ['fine'], 'b': ['never asked']})
    assert await ask(app, Fallback(models=['googleai/b'])) == 'fine'
    assert app.asked == ['a']


async def test_callers_need_not_know_which_model_answered_and_can() -> None:
    app = world({'a': [fails('UNAVAILABLE')], 'b': ['from b']})
    response = await app.ai.generate(prompt='hi', use=[Fallback(models=['googleai/b'])])
    assert (response.text, response.finish_reason, response.stop_reason) == ('from b', 'stop', 'final')
    assert response.model == 'googleai/b'
    assert response.metadata['fallback']['original_model'] == 'googleai/a'
    assert response.metadata['fallback']['fallback_model'] == 'googleai/b'


async def test_custom_statuses_take_the_place_of_the_default_ones() -> None:
    quota = (await samples.run('fallback statuses', {'Fallback': Fallback}))['quota_fallback']
    for status, asked in (('RESOURCE_EXHAUSTED', 2), ('UNAVAILABLE', 2), ('INTERNAL', 1), ('NOT_FOUND', 1)):
        app = world({'a': [fails(status)], 'gemini-flash-latest': [fails('DATA_LOSS')]})
        with pytest.raises(LamellaError):
            await ask(app, quota)
        assert len(app.asked) == asked, status


async def test_a_placeholder_in_the_list_of_models_is_refused() -> None:
    with pytest.raises(LamellaError, match='models'):
        Fallback(models=[...])


# P is the first model, F its fallback. A script is what each answers in turn: `x` a failure, `.` an answer; the last repeats.
PATTERNS = [
    # (P, F, [Retry, Fallback], [Fallback, Retry])
    ('.', '.', 'P', 'P'),
    ('x.', '.', 'PF', 'PP'),
    ('x', '.', 'PF', 'PPPF'),
    ('x', 'x.', 'PFPF', 'PPPFF'),
    ('xx.', 'x.', 'PFPF', 'PPP'),
    ('xx.', 'x', 'PFPFP', 'PPP'),
    ('x', 'xx.', 'PFPFPF', 'PPPFFF'),
    ('x', 'x', 'PFPFPF', 'PPPFFF'),
]


def script(pattern: str) -> Sequence[Any]:
    answers = [fails('UNAVAILABLE') if mark == 'x' else 'answered' for mark in pattern]
    return answers if len(answers) == 1 else [*answers, *answers[-1:] * 9]


async def sequence(patterns: tuple[str, str], use: list[BaseMiddleware[Any]], streamed: bool) -> tuple[str, str | None]:
    app = world({'P': script(patterns[0]), 'F': script(patterns[1])})
    try:
        text: str | None = await spoken(app.ai, use, streamed)
    except LamellaError:
        text = None
    return ''.join(app.asked), text


async def spoken(ai: Lamella, use: list[BaseMiddleware[Any]], streamed: bool) -> str:
    if not streamed:
        return (await ai.generate(prompt='hi', use=use)).text
    return ''.join([piece async for piece in ai.generate_stream(prompt='hi', use=use).text_stream])


@pytest.mark.parametrize('streamed', [False, True], ids=['whole', 'streamed'])
@pytest.mark.parametrize(('p', 'f', 'retry_outside', 'retry_inside'), PATTERNS)
async def test_retry_inside_fallback_retries_each_model_and_outside_the_whole_chain(
    p: str, f: str, retry_outside: str, retry_inside: str, streamed: bool
) -> None:
    retry, fallback = Retry(max_retries=2), Fallback(models=['googleai/F'])
    answered = 'answered' if '.' in p or '.' in f else None
    assert await sequence((p, f), [retry, fallback], streamed) == (retry_outside, answered)
    assert await sequence((p, f), [fallback, retry], streamed) == (retry_inside, answered)


async def test_fallback_inside_retry_switches_models_at_once() -> None:
    app = world({'P': [fails('RESOURCE_EXHAUSTED')], 'F': ['hi']})
    await ask(app, Retry(), Fallback(models=['googleai/F']))
    assert (app.asked, app.clock.slept) == (['P', 'F'], [])


PRODUCTION = {
    'gemini-2.5-pro': [fails('RESOURCE_EXHAUSTED')],
    'gemini-flash-latest': [fails('RESOURCE_EXHAUSTED')],
    'gemini-2.0-flash': [fails('RESOURCE_EXHAUSTED')],
}


async def test_the_production_stack_goes_through_its_models_at_once_and_then_retries_them_all() -> None:
    """The comments in the sample read as if each model were retried; the page's own section on composing decides."""
    app = world(PRODUCTION)
    with pytest.raises(LamellaError):
        await ask(app, *production_layers())
    assert app.asked == ['gemini-2.5-pro', 'gemini-flash-latest', 'gemini-2.0-flash'] * 4
    assert len(app.clock.slept) == 3


async def test_who_wants_each_model_retried_three_times_puts_retry_inside() -> None:
    app = world(PRODUCTION)
    retry, fallback = production_layers()
    with pytest.raises(LamellaError):
        await ask(app, fallback, retry)
    assert app.asked == ['gemini-2.5-pro'] * 4 + ['gemini-flash-latest'] * 4 + ['gemini-2.0-flash'] * 4


def production_layers() -> list[BaseMiddleware[Any]]:
    return [
        Retry(max_retries=3, initial_delay_ms=1000, max_delay_ms=30_000),
        Fallback(
            models=['googleai/gemini-flash-latest', 'googleai/gemini-2.0-flash'],
            statuses=['RESOURCE_EXHAUSTED', 'UNAVAILABLE', 'DEADLINE_EXCEEDED'],
        ),
    ]
