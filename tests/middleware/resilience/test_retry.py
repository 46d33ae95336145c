"""`Retry` around whole calls: which errors, how many times, how long it waits, and what it says."""

import asyncio
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import LamellaError, ModelResponse, Usage, wrap_language_model
from lamella.middleware import BaseMiddleware, Retry
from lamella.middleware._backoff import backoff, wait_before
from lamella.middleware.resilience.retry import RetryConfig
from lamella.testing import ScriptedModel
from lamella.types import STATUSES, TRANSIENT, ConfigError, Rejected, ToolRequest, UnknownNameError
from tests.middleware.kit import HeldClock, down, no_leaks, world

EXACT = Retry(no_jitter=True)


# ── which errors ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('status', TRANSIENT)
async def test_a_transient_failure_is_retried_until_the_model_answers(status: Any) -> None:
    app = world({'x/a': [down(status), down(status), 'hello']})
    response = await app.answer(EXACT)
    assert (response.text, app.asked, app.clock.slept) == ('hello', 'aaa', [1, 2])


@pytest.mark.parametrize('status', [status for status in STATUSES if status not in TRANSIENT])
async def test_any_other_status_is_raised_at_once(status: Any) -> None:
    app = world({'x/a': [down(status)]})
    error = await app.answer(EXACT)
    assert (error.status, app.asked, app.clock.slept, app.told) == (status, 'a', [], [])


@pytest.mark.parametrize('bug', [TypeError('bug'), ValueError('bug'), KeyError('bug'), RuntimeError('bug')])
async def test_a_programming_error_is_never_retried(bug: Exception) -> None:
    app = world({'x/a': [bug]})
    with pytest.raises(type(bug)):
        await app.ai.generate(prompt='hi', use=[Retry(statuses=STATUSES)])
    assert (app.asked, app.clock.slept) == ('a', [])


@pytest.mark.parametrize('mistake', [ConfigError('no key'), UnknownNameError('model', 'x', ['y'])])
async def test_a_mistake_in_the_settings_is_not_retried_even_when_its_status_is_listed(mistake: LamellaError) -> None:
    app = world({'x/a': [mistake]})
    assert await app.answer(Retry(statuses=STATUSES)) is mistake
    assert app.asked == 'a'


async def test_what_the_provider_calls_final_is_not_retried() -> None:
    used_up = LamellaError('RESOURCE_EXHAUSTED', 'insufficient_quota', details={'retryable': False})
    app = world({'x/a': [used_up]})
    assert await app.answer(EXACT) is used_up
    assert (app.asked, app.clock.slept) == ('a', [])
    assert app.sink.named('retry.gave_up')[0].facts['reason'] == 'final'


class Refuses(BaseMiddleware):
    """A layer that says no, with or without a word on when to come back."""

    def __init__(self, retry_after_s: float | None) -> None:
        self.retry_after_s, self.calls = retry_after_s, 0

    async def wrap_model(self, params, ctx, next_fn):
        self.calls += 1
        if self.calls < 3:
            raise Rejected('too much', by=self, retry_after_s=self.retry_after_s)
        return await next_fn(params, ctx)


async def test_a_layers_refusal_is_final() -> None:
    app, layer = world({'x/a': ['never asked']}), Refuses(None)
    error = await app.answer(EXACT, layer)
    assert isinstance(error, Rejected)
    assert (layer.calls, app.clock.slept) == (1, [])
    assert app.sink.named('retry.gave_up')[0].facts['reason'] == 'refused'


async def test_a_layers_refusal_that_says_when_to_come_back_is_retried_then() -> None:
    app, layer = world({'x/a': ['hello']}), Refuses(5)
    assert (await app.answer(EXACT, layer)).text == 'hello'
    assert app.clock.slept == [5, 5]


async def test_custom_statuses_take_the_place_of_the_others() -> None:
    layer = Retry(statuses=['NOT_FOUND'], max_retries=1)
    for status, asked in (('NOT_FOUND', 'aa'), ('UNAVAILABLE', 'a')):
        app = world({'x/a': [down(status)]}, repeat=True)
        assert (await app.answer(layer)).status == status
        assert app.asked == asked


async def test_no_statuses_means_no_retries() -> None:
    app = world({'x/a': [down()]})
    await app.answer(Retry(statuses=[]))
    assert app.asked == 'a'


# ── how many times, and what is said at the end ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('max_retries', [0, 1, 3])
async def test_after_the_last_retry_the_last_error_itself_is_raised_with_every_attempt(max_retries: int) -> None:
    errors = [LamellaError('UNAVAILABLE', f'failure {n}') for n in range(max_retries + 1)]
    app = world({'x/a': errors})
    error = await app.answer(Retry(max_retries=max_retries))
    assert error is errors[-1]
    assert [attempt.message for attempt in error.attempts] == [str(e.message) for e in errors]
    assert app.told == ['retry.wait'] * max_retries + ['retry.gave_up']


async def test_another_failure_after_a_retry_ends_it() -> None:
    app = world({'x/a': [down(), down('INVALID_ARGUMENT')]})
    error = await app.answer(EXACT)
    assert (error.status, app.asked, len(error.attempts)) == ('INVALID_ARGUMENT', 'aa', 2)
    assert app.sink.named('retry.gave_up')[0].facts['reason'] == 'status'


async def test_an_answer_without_a_failure_is_handed_on_as_it_is() -> None:
    answer = ModelResponse.text_of('hello', model='x/a', metadata={'own': 1})
    app = world({'x/a': [answer]})
    response = await app.answer(EXACT)
    assert (response.turns, app.told) == ((answer,), [])


async def test_an_answer_after_retries_says_how_many_and_how_long() -> None:
    app = world({'x/a': [down(), down(), ModelResponse.text_of('hello', metadata={'own': 1})]})
    assert (await app.answer(EXACT)).metadata == {'own': 1, 'retry': {'attempts': 3, 'waited_s': 3.0}}


async def test_each_attempt_is_numbered_and_asks_the_same() -> None:
    app = world({'x/a': [down(), down(), 'hello']})
    await app.answer(EXACT)
    assert [event.facts['attempt'] for event in app.sink.named('model.start')] == [1, 2, 3]
    first, *others = app.models['x/a'].requests
    assert others == [first, first]


async def test_the_waits_and_the_end_are_told_with_their_error() -> None:
    app = world({'x/a': [down(message='one'), down(message='two')]})
    error = await app.answer(Retry(max_retries=1, no_jitter=True))
    (wait,), (gave_up,) = app.sink.named('retry.wait'), app.sink.named('retry.gave_up')
    assert (wait.facts['attempt'], wait.facts['wait_s'], wait.facts['error'].message) == (1, 1.0, 'one')
    assert gave_up.facts == {'attempts': 2, 'reason': 'exhausted', 'error': error}


async def test_what_a_failed_attempt_cost_is_in_the_usage_where_the_error_tells() -> None:
    paid = ModelResponse.text_of('hal', usage=Usage(10, 3, 13))
    answer = ModelResponse.text_of('hello', usage=Usage(10, 5, 15))
    app = world({'x/a': [down(partial=paid), down(), answer]})
    assert (await app.answer(EXACT)).usage == Usage(20, 8, 28)


async def test_each_turn_of_a_run_has_its_own_retries() -> None:
    def look() -> str:
        return 'seen'

    app = world({'x/a': [down(), down(), ToolRequest('look'), down(), down(), 'done']})
    response = await app.answer(Retry(max_retries=2), tools=[look])
    assert (response.text, app.asked) == ('done', 'aaaaaa')


async def test_the_same_layer_twice_multiplies() -> None:
    app = world({'x/a': [down()]}, repeat=True)
    layer = Retry(max_retries=1)
    await app.answer(layer, layer)
    assert app.asked == 'aaaa'


async def test_it_works_fixed_on_a_model() -> None:
    model = ScriptedModel([down(), 'hello'], name='y/fixed')
    app = world({'x/a': ['never asked']})
    response = await app.ai.generate(model=wrap_language_model(model=model, middleware=EXACT), prompt='hi')
    assert (response.text, len(model.requests), app.clock.slept) == ('hello', 2, [1])


# ── how long it waits ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_providers_word_is_a_floor() -> None:
    app = world({'x/a': [down(retry_after_s=7), down(retry_after_s=0.5), 'hello']})
    await app.answer(EXACT)
    assert app.clock.slept == [7, 2]


@pytest.mark.parametrize('seed', range(10))
async def test_jitter_only_adds_to_the_providers_word(seed: int) -> None:
    app = world({'x/a': [down(retry_after_s=7), 'hello']}, random=Random(seed))
    await app.answer(Retry())
    (slept,) = app.clock.slept
    assert 7 <= slept <= 8


async def test_a_provider_that_asks_for_more_than_the_cap_is_not_asked_early_but_raised_at_once() -> None:
    app = world({'x/a': [down('RESOURCE_EXHAUSTED', retry_after_s=120)]})
    error = await app.answer(Retry(max_delay_ms=60_000))
    assert (error.retry_after_s, app.asked, app.clock.slept) == (120, 'a', [])
    assert app.sink.named('retry.gave_up')[0].facts['reason'] == 'retry_after'


async def test_a_provider_that_asks_for_exactly_the_cap_is_waited_for() -> None:
    app = world({'x/a': [down(retry_after_s=0.07), 'hello']})
    assert (await app.answer(Retry(max_delay_ms=70))).text == 'hello'
    assert app.clock.slept == [0.07]


@pytest.mark.parametrize('word', [float('inf'), float('nan'), -5.0, 0.0])
async def test_an_odd_word_of_a_provider_never_shortens_a_wait_or_waits_forever(word: float) -> None:
    app = world({'x/a': [down(retry_after_s=word), 'hello']})
    answer = await app.answer(EXACT)
    assert (answer.status, app.clock.slept) == ('UNAVAILABLE', []) if word == float('inf') else app.clock.slept == [1]


async def test_a_wait_that_would_pass_the_deadline_is_not_begun() -> None:
    app = world({'x/a': [down(), down(), down()]})
    error = await app.answer(EXACT, timeout_s=2.5)
    assert (error.status, error.message, app.asked, app.clock.slept) == ('UNAVAILABLE', 'down', 'aa', [1])
    assert app.sink.named('retry.gave_up')[0].facts['reason'] == 'deadline'


async def test_a_providers_word_beyond_the_deadline_is_raised_at_once() -> None:
    app = world({'x/a': [down(retry_after_s=30)]})
    error = await app.answer(EXACT, timeout_s=10)
    assert (error.message, app.asked, app.clock.slept) == ('down', 'a', [])


configs = st.builds(
    RetryConfig,
    max_retries=st.integers(0, 5000),
    initial_delay_ms=st.just(0.0) | st.floats(0, 1e9),
    max_delay_ms=st.floats(0, 1e9),
    backoff_factor=st.floats(1, 1e9),
    no_jitter=st.booleans(),
)


@given(configs, st.integers(0, 5000))
def test_the_backoff_grows_and_stays_under_the_cap(config: RetryConfig, retry: int) -> None:
    delay = backoff(config, retry)
    assert 0 <= delay <= config.max_delay_ms / 1000
    assert delay <= backoff(config, retry + 1)
    if not config.initial_delay_ms:
        assert delay == 0


@given(st.integers(0, 8), st.floats(1, 4), st.integers(1, 1000))
def test_below_the_cap_the_backoff_is_the_formula(retry: int, factor: float, initial: int) -> None:
    config = RetryConfig(initial_delay_ms=initial, backoff_factor=factor, max_delay_ms=1e12)
    assert backoff(config, retry) == pytest.approx(initial * factor**retry / 1000)


@given(configs, st.integers(0, 5000), st.floats(0, 1), st.integers())
def test_a_wait_is_never_under_the_floor_nor_over_the_cap(
    config: RetryConfig, retry: int, share: float, seed: int
) -> None:
    cap = config.max_delay_ms / 1000
    floor = cap * share
    wait = wait_before(config, retry, floor, Random(seed).uniform)
    assert floor <= wait <= cap
    if config.no_jitter:
        assert wait == max(floor, backoff(config, retry))
    else:
        assert wait <= floor + backoff(config, retry) or wait == pytest.approx(floor + backoff(config, retry))


def test_full_jitter_reaches_from_zero_to_the_whole_delay() -> None:
    config, random = RetryConfig(), Random(3)
    waits = [wait_before(config, 2, 0.0, random.uniform) for _ in range(2000)]
    assert min(waits) < 0.1
    assert max(waits) > 3.9
    assert sum(waits) / 2000 == pytest.approx(2, rel=0.1)


# ── cancellation and company ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_cancelled_wait_ends_everything() -> None:
    app = world({'x/a': [down(), 'never asked']}, clock=HeldClock())
    async with no_leaks():
        call = asyncio.create_task(app.ai.generate(prompt='hi', use=[EXACT]))
        await app.clock.somebody_sleeps()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    await app.clock.advance(100)
    assert app.asked == 'a'


async def test_the_deadline_of_the_run_ends_a_wait() -> None:
    """The wait is shorter than what is left when it begins; the first attempt after it is cut by the deadline."""
    clock = HeldClock()

    async def stuck(request: Any) -> str:
        await clock.sleep(100)
        return 'too late'

    app = world({'x/a': [down(), stuck]}, clock=clock)
    async with no_leaks():
        call = asyncio.create_task(app.answer(EXACT, timeout_s=5))
        await clock.somebody_sleeps()
        await clock.advance(1)
        await clock.somebody_sleeps()
        await clock.advance(4)
        error = await call
    assert (error.status, 'timeout_s=5' in error.message, app.asked) == ('DEADLINE_EXCEEDED', True, 'aa')


async def test_two_hundred_runs_share_one_instance() -> None:
    layer, calls = Retry(max_retries=2, no_jitter=True), dict[str, int]()

    def fails_by_prompt(request: Any) -> Any:
        prompt = request.messages[0].text
        calls[prompt] = calls.get(prompt, 0) + 1
        return f'answer {prompt}' if calls[prompt] > int(prompt) % 3 else LamellaError('UNAVAILABLE', 'down')

    app = world({'x/a': [fails_by_prompt]}, repeat=True)
    responses = await asyncio.gather(*[app.ai.generate(prompt=str(n), use=[layer]) for n in range(200)])
    assert [response.text for response in responses] == [f'answer {n}' for n in range(200)]
    assert [calls[str(n)] for n in range(200)] == [n % 3 + 1 for n in range(200)]
    retried = [response.metadata.get('retry', {'attempts': 1})['attempts'] for response in responses]
    assert retried == [n % 3 + 1 for n in range(200)]


# ── settings ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'max_retires': 1}, "Retry: unknown setting 'max_retires': did you mean 'max_retries'?"),
        ({'max_retries': -1}, 'max_retries: Input should be greater than or equal to 0 (given -1)'),
        ({'max_retries': True}, 'max_retries: Input should be a valid integer (given True)'),
        ({'max_retries': 2.5}, 'max_retries: Input should be a valid integer (given 2.5)'),
        ({'initial_delay_ms': -1}, 'initial_delay_ms: Input should be greater than or equal to 0 (given -1)'),
        ({'initial_delay_ms': '1s'}, "initial_delay_ms: Input should be a valid number (given '1s')"),
        ({'max_delay_ms': float('inf')}, 'max_delay_ms: Input should be a finite number (given inf)'),
        ({'backoff_factor': 0.5}, 'backoff_factor: Input should be greater than or equal to 1 (given 0.5)'),
        ({'no_jitter': 'yes'}, "no_jitter: Input should be a valid boolean (given 'yes')"),
        ({'statuses': ['UNAVALABLE']}, "unknown status 'UNAVALABLE': did you mean 'UNAVAILABLE'?"),
        ({'statuses': ['unavailable']}, "unknown status 'unavailable': did you mean 'UNAVAILABLE'?"),
        ({'statuses': 'UNAVAILABLE'}, "is the string 'UNAVAILABLE': write a list of statuses, such as ['UNAVAILABLE']"),
        ({'statuses': 429}, "is a int: write a list of statuses, such as ['UNAVAILABLE']"),
        ({'statuses': [429]}, 'unknown status 429'),
        ({'on_partial': 'resume'}, "on_partial: Input should be 'raise', 'restart' or 'continue' (given 'resume')"),
        ({'commit': 'last'}, "commit: Input should be 'first' or 'finish' (given 'last')"),
    ],
)
def test_settings_that_cannot_work_are_refused_when_built(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Retry(**options)
    assert problem in caught.value.message


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Retry(max_retries=-1, backoff_factor=0, statuses=['NOPE', 'GONE'], wait=3)
    for field in ('max_retries', 'backoff_factor', "'NOPE'", "'GONE'", "'wait'"):
        assert field in caught.value.message


def test_a_number_in_the_place_of_the_settings_is_refused_with_advice() -> None:
    with pytest.raises(ConfigError, match='config= is a int, give a RetryConfig'):
        Retry(3)  # type: ignore[arg-type]


def test_settings_may_be_an_object_and_never_change() -> None:
    layer = Retry(RetryConfig(max_retries=1, commit='finish'))
    assert (layer.config.max_retries, layer.commit) == (1, 'finish')
    with pytest.raises(ValueError, match='frozen'):
        layer.config.max_retries = 2


def test_a_misspelled_setting_in_an_object_is_refused_too() -> None:
    with pytest.raises(ValueError, match='max_retires'):
        RetryConfig(max_retires=1)
