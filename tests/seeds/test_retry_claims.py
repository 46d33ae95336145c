"""What the first seed says of `Retry`."""

from random import Random
from typing import Any

import pytest

from lamella import LamellaError
from lamella.middleware import BaseMiddleware
from lamella.middleware import Retry as FlatRetry
from lamella.plugins.middleware import Retry
from lamella.types import STATUSES, TRANSIENT, Status, ToolRequest
from tests.seeds import samples
from tests.seeds.vendor import World, fails, world

RETRIED = ('UNAVAILABLE', 'DEADLINE_EXCEEDED', 'RESOURCE_EXHAUSTED', 'ABORTED', 'INTERNAL')


async def refused(app: World, *use: BaseMiddleware[Any]) -> LamellaError:
    with pytest.raises(LamellaError) as caught:
        await app.ai.generate(prompt='Summarize this document...', use=list(use))
    return caught.value


@pytest.mark.parametrize('status', RETRIED)
async def test_by_default_a_transient_failure_is_retried_up_to_three_times(status: Status) -> None:
    app = world({'m': [fails(status)]})
    error = await refused(app, Retry())
    assert (error.status, len(app.asked), len(error.attempts)) == (status, 4, 4)


@pytest.mark.parametrize('status', [status for status in STATUSES if status not in RETRIED])
async def test_by_default_no_other_status_is_retried(status: Status) -> None:
    app = world({'m': [fails(status)]})
    await refused(app, Retry())
    assert (app.asked, app.clock.slept) == (['m'], [])


def test_the_transient_statuses_are_the_ones_that_the_page_lists() -> None:
    assert sorted(TRANSIENT) == sorted(RETRIED)


@pytest.mark.parametrize('max_retries', [0, 1, 3, 5])
async def test_max_retries_counts_the_attempts_after_the_first(max_retries: int) -> None:
    app = world({'m': [fails('UNAVAILABLE')]})
    await refused(app, Retry(max_retries=max_retries))
    assert len(app.asked) == max_retries + 1


def test_the_settings_and_their_defaults_are_the_ones_of_the_table() -> None:
    shown = {
        'max_retries': 3,
        'initial_delay_ms': 1000,
        'max_delay_ms': 60000,
        'backoff_factor': 2.0,
        'no_jitter': False,
    }
    config = Retry().config
    assert {name: getattr(config, name) for name in shown} == shown
    assert sorted(config.statuses) == sorted(RETRIED)
    assert type(config).__name__ == 'RetryConfig'


async def test_without_jitter_the_waits_double_from_one_second_to_sixty() -> None:
    app = world({'m': [fails('UNAVAILABLE')]})
    await refused(app, Retry(max_retries=8, no_jitter=True))
    assert app.clock.slept == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_the_first_delay_the_factor_and_the_cap_are_settings() -> None:
    app = world({'m': [fails('UNAVAILABLE')]})
    await refused(
        app, Retry(max_retries=5, initial_delay_ms=500, max_delay_ms=5_000, backoff_factor=3.0, no_jitter=True)
    )
    assert app.clock.slept == [0.5, 1.5, 4.5, 5, 5]


async def test_by_default_the_waits_have_jitter_and_stay_under_the_exponential_ones() -> None:
    herd = []
    for seed in range(20):
        app = world({'m': [fails('UNAVAILABLE')]}, random=Random(seed))
        await refused(app, Retry(max_retries=8))
        assert all(0 <= wait <= cap for wait, cap in zip(app.clock.slept, [1, 2, 4, 8, 16, 32, 60, 60], strict=True))
        herd.append(tuple(app.clock.slept))
    assert len(set(herd)) == 20


async def test_the_same_chance_gives_the_same_waits() -> None:
    waits = []
    for _ in range(2):
        app = world({'m': [fails('UNAVAILABLE')]}, random=Random(1))
        await refused(app, Retry())
        waits.append(app.clock.slept)
    assert waits[0] == waits[1]


async def test_a_retry_that_succeeds_is_transparent_to_the_caller() -> None:
    plain = await world({'m': ['a summary']}).ai.generate(prompt='Summarize')
    app = world({'m': [fails('RESOURCE_EXHAUSTED'), fails('INTERNAL'), 'a summary']})
    retried = await app.ai.generate(prompt='Summarize', use=[Retry(max_retries=3)])
    seen = ('text', 'messages', 'output', 'usage', 'finish_reason', 'stop_reason', 'model', 'warnings')
    assert {name: getattr(retried, name) for name in seen} == {name: getattr(plain, name) for name in seen}
    assert len(app.asked) == 3


async def test_it_retries_the_model_call_and_not_the_flow_or_the_tools() -> None:
    ran: list[str] = []

    def look() -> str:
        """Look."""
        ran.append('tool')
        return 'seen'

    app = world({'m': [ToolRequest('look'), fails('UNAVAILABLE'), 'done']})

    @app.ai.flow()
    async def once(question: str) -> str:
        ran.append('flow')
        return (await app.ai.generate(prompt=question, tools=[look], use=[Retry()])).text

    assert await once('what is there?') == 'done'
    assert ran == ['flow', 'tool']
    assert len(app.asked) == 3


async def test_each_model_call_of_a_run_has_its_own_retries() -> None:
    def look() -> str:
        """Look."""
        return 'seen'

    down = [fails('UNAVAILABLE')] * 2
    app = world({'m': [*down, ToolRequest('look'), *down, 'done']})
    response = await app.ai.generate(prompt='what is there?', tools=[look], use=[Retry(max_retries=2)])
    assert (response.text, len(app.asked)) == ('done', 6)


async def test_every_attempt_sends_what_the_caller_sent() -> None:
    app = world({'m': [fails('UNAVAILABLE'), 'ok']})
    await app.ai.generate(prompt='the prompt', use=[Retry()])
    first, second = app.vendor.models['m'].requests
    assert first == second


async def test_custom_statuses_take_the_place_of_the_default_ones() -> None:
    names = await samples.run('retry settings', {})
    quota = world({'m': [fails('RESOURCE_EXHAUSTED')]})
    await refused(quota, names['quota_retry'])
    server = world({'m': [fails('UNAVAILABLE')]})
    await refused(server, names['quota_retry'])
    assert (len(quota.asked), len(server.asked)) == (4, 1)


async def test_the_printed_settings_do_what_their_comments_say() -> None:
    names = await samples.run('retry settings', {})
    batch, fast = names['batch_retry'].config, names['fast_retry'].config
    assert (batch.max_retries, batch.initial_delay_ms, batch.max_delay_ms) == (5, 500, 30_000)
    assert (batch.backoff_factor, batch.no_jitter) == (2.0, False)
    assert (fast.max_retries, fast.initial_delay_ms, fast.max_delay_ms) == (2, 200, 2_000)


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'max_retry': 3}, r"unknown setting 'max_retry': did you mean 'max_retries'"),
        ({'max_retries': -1}, 'max_retries'),
        ({'statuses': ['RESOURCE_EXHAUSTD']}, 'statuses'),
        ({'backoff_factor': 'fast'}, 'backoff_factor'),
    ],
)
def test_settings_that_cannot_work_are_refused_when_built(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(LamellaError, match=problem):
        Retry(**options)


def test_the_catalog_is_also_exported_flat() -> None:
    assert FlatRetry is Retry
