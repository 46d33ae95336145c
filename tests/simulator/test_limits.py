"""Rate-limit headers, as Lamella's own parser and a vendor's client read them."""

from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from lamella.simulator import Fault, Simulator
from lamella.simulator.limits import INPUT_TOKENS, OUTPUT_TOKENS, REQUESTS, duration, moment
from lamella.wire.errors import retry_after_s
from tests.simulator.chat import PROMPT, Answered, body, send

CLAUDE = {'model': 'c', 'max_tokens': 50, 'messages': [{'role': 'user', 'content': PROMPT}]}
GPT = {'model': 'r', 'input': PROMPT}
GEMINI = {'contents': [{'role': 'user', 'parts': [{'text': PROMPT}]}]}
GEMINI_PATH = '/v1beta/models/g:generateContent'


def limits(answered: Answered, prefix: str) -> dict[str, str]:
    return {
        name.removeprefix(prefix): value for name, value in answered.headers.items() if name.startswith(f'{prefix}')
    }


def without_resets(found: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in found.items() if 'reset' not in name}


@pytest.mark.parametrize(
    ('path', 'asked', 'names'),
    [
        ('/v1/chat/completions', body(), ('prompt_tokens', 'completion_tokens')),
        ('/v1/responses', GPT, ('input_tokens', 'output_tokens')),
    ],
)
@pytest.mark.parametrize('stream', [False, True])
async def test_openai_tells_what_is_left(path: str, asked: Any, names: tuple[str, str], stream: bool) -> None:
    async with Simulator() as sim:
        usage = (await send(sim, asked, path)).json['usage']
        answered = await send(sim, {**asked, 'stream': stream}, path)
    assert without_resets(limits(answered, 'x-ratelimit-')) == {
        'limit-requests': str(REQUESTS),
        'remaining-requests': str(REQUESTS - 1),
        'limit-tokens': str(INPUT_TOKENS),
        'remaining-tokens': str(INPUT_TOKENS - sum(usage[name] for name in names)),
    }
    assert answered.headers['x-ratelimit-reset-requests'] == '6ms'


@pytest.mark.parametrize('stream', [False, True])
async def test_anthropic_tells_what_is_left(stream: bool) -> None:
    async with Simulator() as sim:
        answered = await send(sim, {**CLAUDE, 'stream': stream}, '/v1/messages')
    found = limits(answered, 'anthropic-ratelimit-')
    resets = {name: found.pop(name) for name in list(found) if name.endswith('-reset')}
    assert found == {
        'requests-limit': str(REQUESTS),
        'requests-remaining': str(REQUESTS - 1),
        'tokens-limit': str(INPUT_TOKENS + OUTPUT_TOKENS),
        'tokens-remaining': str(INPUT_TOKENS + OUTPUT_TOKENS),
        'input-tokens-limit': str(INPUT_TOKENS),
        'input-tokens-remaining': str(INPUT_TOKENS),
        'output-tokens-limit': str(OUTPUT_TOKENS),
        'output-tokens-remaining': str(OUTPUT_TOKENS),
    }
    assert resets.keys() == {'requests-reset', 'tokens-reset', 'input-tokens-reset', 'output-tokens-reset'}


async def test_tokens_left_are_rounded_to_thousands_as_anthropic_does() -> None:
    long = {**CLAUDE, 'messages': [{'role': 'user', 'content': 'honey ' * 2600}]}
    async with Simulator() as sim:
        answered = await send(sim, long, '/v1/messages')
    assert answered.headers['anthropic-ratelimit-input-tokens-remaining'] == str(INPUT_TOKENS - 3000)


async def test_gemini_has_no_such_headers() -> None:
    async with Simulator() as sim:
        answered = await send(sim, GEMINI, GEMINI_PATH)
    assert not [name for name in answered.headers if 'ratelimit' in name]


@pytest.mark.parametrize(('seconds', 'said', 'reset'), [(3, '3', '3s'), (0.05, '1', '50ms'), (400, '400', '6m40s')])
@pytest.mark.parametrize('path', ['/v1/chat/completions', '/v1/responses'])
async def test_a_429_of_openai_has_nothing_left_until_retry_after(
    path: str, seconds: float, said: str, reset: str
) -> None:
    async with Simulator(faults=[Fault('status', status=429, retry_after_s=seconds)]) as sim:
        refused = await send(sim, body() if 'chat' in path else GPT, path)
    found = limits(refused, 'x-ratelimit-')
    assert refused.status == 429
    assert refused.headers['Retry-After'] == said
    assert (found['remaining-requests'], found['remaining-tokens']) == ('0', '0')
    assert (found['reset-requests'], found['reset-tokens']) == (reset, reset)
    assert retry_after_s({f'x-ratelimit-{name}': value for name, value in found.items()}, http_status=429) == seconds


async def test_a_429_of_anthropic_has_nothing_left_until_retry_after() -> None:
    async with Simulator(faults=[Fault('status', status=429, retry_after_s=30)]) as sim:
        refused = await send(sim, CLAUDE, '/v1/messages')
    found = limits(refused, 'anthropic-ratelimit-')
    assert refused.headers['Retry-After'] == '30'
    assert {value for name, value in found.items() if name.endswith('-remaining')} == {'0'}
    date = parsedate_to_datetime(refused.headers['Date']).timestamp()
    resets = {f'anthropic-ratelimit-{name}': value for name, value in found.items()}
    said = retry_after_s(resets, now=date, http_status=429)
    # The Date header is written a moment after the reset, maybe in the next second.
    assert said in (30, 29)


async def test_a_429_of_gemini_says_when_in_its_body() -> None:
    async with Simulator(faults=[Fault('status', status=429, retry_after_s=7)]) as sim:
        refused = await send(sim, GEMINI, GEMINI_PATH)
    info = {'@type': 'type.googleapis.com/google.rpc.RetryInfo', 'retryDelay': '7s'}
    assert refused.json['error']['details'] == [info]
    assert retry_after_s({}, error=refused.json['error'], http_status=429) == 7


async def test_other_errors_leave_the_limits_alone() -> None:
    async with Simulator(faults=[Fault('status', status=503, retry_after_s=7)]) as sim:
        refused = await send(sim, body())
    assert refused.headers['x-ratelimit-remaining-requests'] == str(REQUESTS - 1)


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [(0, '0s'), (0.006, '6ms'), (1, '1s'), (1.5, '1.5s'), (60, '1m0s'), (3600, '1h0m0s'), (3725.25, '1h2m5.25s')],
)
def test_durations_are_written_as_go_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_moments_are_whole_seconds_of_utc() -> None:
    assert moment(1_767_225_600.9, 1.2) == '2026-01-01T00:00:02Z'
