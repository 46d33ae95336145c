"""`LoopGuard`: the same call too often, and short cycles, end the run; ordinary work does not."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import Message, ModelResponse, TextPart, ToolError, Usage
from lamella.middleware import BaseMiddleware, LoopGuard
from lamella.middleware.resilience.loop_guard import cycle_of
from lamella.testing import CollectingSink
from lamella.types import ConfigError, ToolRequest, ToolRequestPart
from tests.engine.kit import app, both, no_leaks


def search(query: Any = '', page: int = 1) -> str:
    return 'nothing found'


def read(path: str = '') -> str:
    return 'empty'


def write(path: str = '') -> str:
    return 'ok'


TOOLS = [search, read, write]


def ask(*calls: Any) -> ModelResponse:
    """One answer that asks for tools: names, or requests."""
    requests = [call if isinstance(call, ToolRequest) else ToolRequest(call, {}) for call in calls]
    parts = tuple(ToolRequestPart(request.replace(ref=f'r-{n}')) for n, request in enumerate(requests))
    return ModelResponse(
        message=Message('assistant', (TextPart('hm'), *parts)), finish_reason='tool_calls', usage=Usage(1, 1, 2)
    )


async def run(answers: list[Any], *use: Any, **options: Any) -> Any:
    return await both(lambda: app(*answers), prompt='hi', tools=TOOLS, use=list(use), **options)


def pattern(letters: str) -> list[Any]:
    """`s`, `r` and `w`, each a turn with one call and no input."""
    return [ask({'s': 'search', 'r': 'read', 'w': 'write'}[letter]) for letter in letters]


@pytest.mark.parametrize(
    ('letters', 'stops_at', 'cycle'),
    [
        ('ssss', 4, ['search']),
        ('srwsrws', None, []),
        ('srsrsrs', 7, ['read', 'search']),
        ('srwsrwsrws', 10, ['read', 'write', 'search']),
        ('sssrrrwww', None, []),
        ('ssrrsrr', 7, ['read']),
        ('srrsrrsrr', 6, ['read']),
    ],
)
async def test_what_is_a_loop_and_what_is_none(letters: str, stops_at: int | None, cycle: list[str]) -> None:
    response = await run([*pattern(letters), 'done'], LoopGuard())
    if stops_at is None:
        assert (response.stop_reason, response.text) == ('final', 'done')
        return
    assert (response.stop_reason, len(response.turns)) == ('loop', stops_at)
    assert f'{cycle[-1]} ' in response.stop_message
    assert response.usage == Usage(stops_at, stops_at, 2 * stops_at)  # the answer that asked too often was paid for


async def test_the_reason_names_the_tools_and_the_limits() -> None:
    response = await run(pattern('ssss'), LoopGuard())
    assert response.stop_message == (
        'search was called with the same input 4 times (max_repeats=3 of the last 12 calls are allowed)'
    )
    response = await run(pattern('srsrsrs'), LoopGuard())
    assert response.stop_message == (
        'read, search were called in turn with the same inputs, search 4 times '
        '(max_repeats=3 of the last 12 calls are allowed)'
    )


async def test_the_call_that_is_too_many_is_not_made_and_its_turn_is_in_the_answer_but_not_in_the_conversation() -> (
    None
):
    made = []

    def search() -> str:
        made.append(1)
        return 'nothing'

    response = await app(*pattern('sss')).generate(
        prompt='hi', tools=[search], use=[LoopGuard(window=3, max_repeats=2)]
    )
    assert (made, response.text, len(response.turns)) == ([1, 1], 'hm', 3)
    assert [message.role for message in response.messages] == ['user', *['assistant', 'tool'] * 2]


@pytest.mark.parametrize(
    ('one', 'two', 'alike'),
    [
        ({'query': 'a', 'page': 1}, {'page': 1, 'query': 'a'}, True),
        ({'query': {'x': [1, {'b': 1, 'a': 2}]}}, {'query': {'x': [1, {'a': 2, 'b': 1}]}}, True),
        ({'query': 'a'}, {'query': 'b'}, False),
        ({'query': [1, 2]}, {'query': [2, 1]}, False),
        ({'query': 'a'}, {'query': 'a', 'page': 2}, False),
        ({'query': '1'}, {'query': 1}, False),
    ],
)
async def test_inputs_are_the_same_when_their_json_is(one: Any, two: Any, alike: bool) -> None:
    answers = [ask(ToolRequest('search', one)), ask(ToolRequest('search', two)), 'done']
    response = await run(answers, LoopGuard(window=2, max_repeats=1))
    assert response.stop_reason == ('loop' if alike else 'final')


async def test_the_same_call_of_another_tool_is_another_call() -> None:
    response = await run([*pattern('srw'), 'done'], LoopGuard(window=3, max_repeats=1))
    assert response.stop_reason == 'final'


async def test_what_is_behind_the_window_is_forgotten() -> None:
    others = [ask(ToolRequest('search', {'query': str(n)})) for n in range(4)]
    answers = [*pattern('r'), *others, *pattern('r'), 'done']
    assert (await run(answers, LoopGuard(window=5, max_repeats=1))).stop_reason == 'final'
    assert (await run(answers, LoopGuard(window=6, max_repeats=1))).stop_reason == 'loop'


async def test_calls_of_one_turn_count_in_their_order() -> None:
    response = await run([ask('search', 'read', 'search'), 'done'], LoopGuard(window=3, max_repeats=1))
    assert (response.stop_reason, response.stop_message[:6]) == ('loop', 'search')
    async with no_leaks():
        response = await run([ask(*['search'] * 50)], LoopGuard(window=9, max_repeats=3))
    assert response.stop_reason == 'loop'


async def test_the_model_is_told_first_when_that_is_wanted() -> None:
    guard = LoopGuard(window=3, max_repeats=1, warnings=1)
    response = await run([*pattern('ss'), 'I see'], guard)
    assert (response.stop_reason, response.text) == ('final', 'I see')
    told = response.turns[1].tool_responses[0].tool_response
    assert (told.is_error, told.ref) == (True, 'r-0')
    assert told.output == (
        'search was called with the same input 2 times (max_repeats=1 of the last 3 calls are allowed). It was not made '
        'again: use what you have, try another way, or answer without it'
    )
    response = await run(pattern('sss'), guard)
    assert (response.stop_reason, len(response.turns)) == ('loop', 3)
    response = await run([*pattern('ssrr'), 'x'], LoopGuard(window=3, max_repeats=1, warnings=1))
    assert (response.stop_reason, len(response.turns)) == ('loop', 4)


async def test_tools_that_are_meant_to_be_called_again_are_left_out() -> None:
    answers = [*pattern('srsrsrsrs'), 'done']
    assert (await run(answers, LoopGuard(ignore=['search', 're*']))).stop_reason == 'final'
    assert (await run(answers, LoopGuard(ignore=['search']))).stop_message.startswith('read was')


async def test_each_run_begins_anew_also_at_the_same_time() -> None:
    guard = LoopGuard(window=4, max_repeats=3)
    apps = [app(*pattern('sss'), 'done') for _ in range(20)]
    responses = await asyncio.gather(*[ai.generate(prompt='hi', tools=TOOLS, use=[guard]) for ai in apps])
    assert {response.stop_reason for response in responses} == {'final'}


async def test_a_call_that_a_layer_outside_tries_again_counts_once() -> None:
    class Again(BaseMiddleware[Any]):
        async def wrap_tool(self, params: Any, ctx: Any, next_fn: Any) -> Any:
            for attempt in range(1, 9):
                try:
                    return await next_fn(params.replace(attempt=attempt), ctx)
                except ToolError:
                    continue

    tries = []

    def search() -> str:
        tries.append(1)
        if len(tries) % 4:
            raise ToolError('busy')
        return 'found'

    response = await app(*pattern('sss'), 'done').generate(prompt='hi', tools=[search], use=[Again(), LoopGuard()])
    assert (response.stop_reason, len(tries)) == ('final', 12)


async def test_an_input_that_is_no_json_is_compared_as_it_is_written() -> None:
    class Odd:
        def __repr__(self) -> str:
            return 'odd'

    async def odd(request: Any, ctx: Any) -> ModelResponse:
        return ask(ToolRequest('search', {'query': Odd()}))

    ai = app('x')
    response = await ai.generate(model=odd, prompt='hi', tools=TOOLS, use=[LoopGuard(window=2, max_repeats=1)])
    assert (response.stop_reason, len(response.turns)) == ('loop', 2)


async def test_events_tell_of_it() -> None:
    sink = CollectingSink()
    ai = app(*pattern('srsrsrsr'), sinks=[sink])
    await ai.generate(prompt='hi', tools=TOOLS, use=[LoopGuard(warnings=1)])
    facts = {'tool': 'search', 'times': 4, 'cycle': ['read', 'search']}
    assert sink.named('loop_guard.warned')[0].facts == facts
    assert sink.named('loop_guard.stopped')[0].facts == {'tool': 'read', 'times': 4, 'cycle': ['search', 'read']}


@given(st.lists(st.sampled_from('abc'), max_size=14), st.integers(1, 3), st.integers(2, 12))
def test_a_loop_is_what_counting_says(calls: list[str], max_repeats: int, window: int) -> None:
    if window <= max_repeats:
        return
    wanted = next(
        (n for n in range(len(calls)) if calls[max(0, n + 1 - window) : n + 1].count(calls[n]) > max_repeats), None
    )
    tools = {'a': 'search', 'b': 'read', 'c': 'write'}
    answers = [*[ask(tools[call]) for call in calls], 'done']
    guard = LoopGuard(window=window, max_repeats=max_repeats)
    response = asyncio.run(app(*answers).generate(prompt='hi', tools=TOOLS, use=[guard]))
    assert len(response.turns) - 1 == (len(calls) if wanted is None else wanted)
    assert (response.stop_reason == 'loop') == (wanted is not None)


@given(st.text('abcd', min_size=1, max_size=4), st.integers(3, 5), st.text('xyz', max_size=3))
def test_a_cycle_is_seen_for_what_it_is(unit: str, times: int, before: str) -> None:
    if len(set(unit)) != len(unit):
        return
    calls = list(before + unit * (times - 1) + unit)
    assert cycle_of(calls, times) == len(unit)
    assert cycle_of(['a', 'a', 'b', 'a', 'c', 'a'], 4) == 1


def test_wrong_settings_are_said_all_at_once() -> None:
    with pytest.raises(ConfigError, match='window=3 is no more than max_repeats=3, so that nothing is ever a loop'):
        LoopGuard(window=3, max_repeats=3)
    with pytest.raises(ConfigError) as caught:
        LoopGuard(window=1, max_repeats=0, warnings=-1, ignore='search')
    for field in ('window', 'max_repeats', 'warnings', 'ignore'):
        assert field in caught.value.message
