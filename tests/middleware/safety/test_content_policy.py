"""`ContentPolicy`: blocked input reaches no model, blocked output no reader."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import Lamella, Usage
from lamella.middleware import ContentPolicy, Fallback, Retry
from lamella.testing import CollectingSink, ScriptedModel, checked
from lamella.types import (
    ConfigError,
    Finished,
    Message,
    ModelResponse,
    Raw,
    ReasoningDelta,
    ResponseStarted,
    Restarted,
    Source,
    StreamPart,
    TextDelta,
    TextPart,
    ToolInputDelta,
    ToolRequest,
    ToolRequested,
)
from tests.middleware.kit import both, cut, folds_to, no_leaks, same_answer, shown
from tests.middleware.shaping.pieces import cuts, joined, look

POLICY = ContentPolicy(banned=['secret plan', 'Acme'])
REPLY = 'This was withheld by a content policy.'


def app(*answers: Any, **options: Any) -> Lamella:
    return Lamella(model=ScriptedModel(list(answers)), **options)


async def test_blocked_input_reaches_no_model() -> None:
    model, sink = ScriptedModel([]), CollectingSink()

    def build() -> Lamella:
        return Lamella(model=model, sinks=[sink], use=[POLICY])

    response = await both(build, prompt='Tell me of the SECRET  plan.')
    assert model.requests == []
    assert (response.text, response.finish_reason, response.stop_reason) == (REPLY, 'blocked', 'guardrail')
    assert response.stop_message == 'the input was withheld by content_policy (banned: banned[0])'
    note = {'where': 'input', 'rule': 'banned', 'reason': 'banned[0]'}
    assert response.metadata['content_policy'] == note
    assert [event.facts for event in sink.named('content_policy.blocked')] == [note] * 2
    assert response.messages[-1] == Message.assistant(REPLY)


async def test_what_is_asked_is_what_users_say() -> None:
    messages = [Message.assistant('Acme'), Message.user(TextPart('Ac'), TextPart('me'))]
    response = await app('ok').generate(system='Never speak of Acme.', prompt='hi', use=[POLICY])
    assert response.text == 'ok'
    assert (await app('ok').generate(messages=messages, use=[POLICY])).stop_reason == 'guardrail'


async def test_blocked_output_reaches_no_reader() -> None:
    answer = ModelResponse.text_of('Our secret plan is old.', usage=Usage(3, 4, 7), model='m-1')
    response = await app(answer).generate(prompt='hi', use=[POLICY])
    assert (response.text, response.finish_reason, response.stop_reason) == (REPLY, 'blocked', 'guardrail')
    assert response.usage == Usage(3, 4, 7)
    assert 'secret' not in repr(response.messages)


async def test_a_stream_takes_back_what_it_showed_before() -> None:
    pieces = [TextDelta('Well, our sec'), TextDelta('ret pl'), TextDelta('an is old.')]
    stream = app(pieces).generate_stream(prompt='hi', use=[POLICY])
    parts = [part async for part in stream]
    assert [part.text for part in parts if type(part) is TextDelta] == ['Well, our ', REPLY]
    assert [type(part) for part in parts].count(Restarted) == 1
    assert shown(parts) == REPLY
    folds_to(parts, await stream.response)


async def test_a_stream_that_showed_nothing_takes_nothing_back() -> None:
    stream = app([TextDelta('Ac'), TextDelta('me'), TextDelta(' rules')]).generate_stream(prompt='hi', use=[POLICY])
    assert ''.join([piece async for piece in stream.text_stream]) == REPLY


@pytest.mark.parametrize(
    'parts',
    [
        [ReasoningDelta('about ac'), ReasoningDelta('me')],
        [TextDelta('ac', 0), TextDelta('me', 1)],
        [
            ToolInputDelta('{"a": "Ac', 0, 'look', 'r'),
            ToolInputDelta('me"}', 0),
            ToolRequested(ToolRequest('look', {'a': 'Acme'}, 'r')),
        ],
        [ToolRequested(ToolRequest('look', {'a': [{'Acme': 1}]}, 'r'))],
        [TextDelta('ok'), Source('http://x', title='Acme')],
        [TextDelta('ok'), Raw({'a': 'Acme'}, 1, True)],
        [TextDelta('ok'), Finished('stop', finish_message='Acme')],
        [ToolInputDelta('{"a": "\\u0041cme"', 0, 'look', 'r'), Finished('length')],
    ],
    ids=lambda parts: type(parts[-1]).__name__,
)
async def test_it_looks_at_all_that_is_said(parts: list[Any]) -> None:
    stream = app(parts).generate_stream(prompt='hi', use=[POLICY], tools=[look])
    seen = [part async for part in stream]
    response = await stream.response
    assert (response.text, response.stop_reason) == (REPLY, 'guardrail')
    assert 'cme' not in repr([part for part in seen if type(part) is not Restarted])


async def test_no_tool_runs_of_an_answer_that_is_blocked() -> None:
    ran: list[str] = []

    def act(a: str) -> str:
        ran.append(a)
        return 'done'

    response = await both(
        lambda: app(ToolRequest('act', {'a': 'buy Acme'}, 'r')), prompt='x', use=[POLICY], tools=[act]
    )
    assert (ran, response.stop_reason) == ([], 'guardrail')


async def test_what_tools_answer_is_asked_about_when_that_is_wanted() -> None:
    def read(a: str) -> dict[str, str]:
        return {'text': f'{a} by Acme'}

    def build() -> Lamella:
        return app(ToolRequest('read', {'a': 'x'}, 'r'), 'ok')

    assert (await both(build, prompt='x', use=[POLICY], tools=[read])).text == 'ok'
    strict = ContentPolicy(banned=['acme'], apply_to=['tool_output'])
    response = await both(build, prompt='x', use=[strict], tools=[read])
    assert (response.stop_reason, response.text) == ('guardrail', REPLY)


def no_numbers(text: str) -> str | None:
    return 'numbers' if any(c.isdigit() for c in text) else None


async def slow_no_numbers(text: str) -> bool:
    await asyncio.sleep(0)
    return not any(c.isdigit() for c in text)


@pytest.mark.parametrize(('validate', 'reason'), [(no_numbers, 'numbers'), (slow_no_numbers, 'not valid')])
async def test_a_function_of_ones_own(validate: Any, reason: str) -> None:
    policy = ContentPolicy(validate=validate)
    assert (await both(lambda: app('no'), prompt='hi', use=[policy])).text == 'no'
    response = await both(lambda: app('1 yes'), prompt='hi', use=[policy])
    assert response.metadata['content_policy'] == {'where': 'output', 'rule': 'validate', 'reason': reason}
    response = await both(lambda: app('no'), prompt='hi 1', use=[policy])
    assert response.metadata['content_policy']['where'] == 'input'


async def test_it_may_ask_where_the_text_stands() -> None:
    seen: list[tuple[str, str]] = []
    policy = ContentPolicy(validate=lambda text, where: seen.append((text, where)))
    await app('two').generate(prompt='one', use=[policy])
    assert seen == [('one', 'input'), ('two', 'output')]


@pytest.mark.parametrize(
    ('validate', 'reason'),
    [
        (lambda text: 1 / 0, 'validate failed with ZeroDivisionError'),
        (lambda text: 3, 'validate returned a int'),
        (lambda text: ['x'], 'validate returned a list'),
    ],
)
async def test_it_fails_closed(validate: Any, reason: str) -> None:
    response = await both(lambda: app('never'), prompt='hi', use=[ContentPolicy(validate=validate)])
    assert (response.text, response.metadata['content_policy']['reason']) == (REPLY, reason)


async def test_a_stream_waits_for_its_end_where_the_whole_text_is_asked_about() -> None:
    asked: list[str] = []
    policy = ContentPolicy(validate=lambda text, where: asked.append(text) if where == 'output' else None)
    assert await said_after_each(policy, ['One. ', 'Two. ']) == ['', '']
    assert asked == ['One. Two. ']


async def test_a_stream_goes_on_by_sentence_where_that_is_wanted() -> None:
    asked: list[str] = []
    policy = ContentPolicy(
        check='sentence', validate=lambda text, where: asked.append(text) if where == 'output' else None
    )
    pieces = ['One. T', 'wo! Thr', 'ee 1.5', ' ends.\nFour']
    assert await said_after_each(policy, pieces) == ['One. ', 'One. Two! ', 'One. Two! ', 'One. Two! Three 1.5 ends.\n']
    assert asked == ['One. ', 'Two! ', 'Three 1.5 ends.\n', 'Four']
    stream = app([TextDelta('Fine. '), TextDelta('Bad 1. '), TextDelta('More.')]).generate_stream(
        prompt='hi', use=[ContentPolicy(check='sentence', validate=no_numbers)]
    )
    parts = [part async for part in stream]
    assert [part.text for part in parts if type(part) is TextDelta] == ['Fine. ', REPLY]


async def said_after_each(layer: ContentPolicy, pieces: Sequence[str]) -> list[str]:
    """What a reader has when each next piece is asked for."""
    said, after = '', list[str]()

    async def model(request: Any, ctx: Any) -> Any:
        yield ResponseStarted('m')
        for piece in pieces:
            yield TextDelta(piece)
            after.append(said)

    async for piece in Lamella(model=model).generate_stream(prompt='x', use=[layer]).text_stream:
        said += piece
    return after


async def test_what_cannot_become_a_phrase_passes_at_once() -> None:
    assert await said_after_each(POLICY, ['Hello ', 'se', 'cond', ' sec', 'ret pla', 'ce']) == [
        'Hello ', 'Hello ', 'Hello second', 'Hello second ', 'Hello second ', 'Hello second secret place'
    ]  # fmt: skip


words = st.lists(
    st.sampled_from(
        [
            'secret ',
            'plan',
            ' plan',
            'pl',
            'an',
            'Ac',
            'me',
            'ACME',
            '. ',
            'fine',
            ' 1',
            '\n',
            '。',
            'Acm',
            'e\u0301',
            'x',
        ]
    ),
    max_size=5,
).map(''.join)


@st.composite
def blocks(draw: Any, index: int) -> list[StreamPart]:
    text, kind = draw(words), draw(st.sampled_from(['text', 'text', 'reasoning', 'tool', 'source']))
    if kind == 'text':
        return [TextDelta(piece, index, draw(st.sampled_from([None, None, {'n': 1}]))) for piece in draw(cuts(text))]
    if kind == 'reasoning':
        return [ReasoningDelta(piece, index, draw(st.sampled_from([None, 's']))) for piece in draw(cuts(text))]
    if kind == 'tool':
        asked = ToolRequest('look', {'a': text}, f'r-{index}')
        return [
            ToolInputDelta('{"a":', index, 'look', f'r-{index}'),
            ToolInputDelta('1}', index),
            ToolRequested(asked, index),
        ]
    return [Source('http://x', text), Raw('ping')]


@st.composite
def answers(draw: Any) -> list[StreamPart]:
    parts = [part for index in range(draw(st.integers(1, 4))) for part in draw(blocks(index))]
    return [ResponseStarted('m-1', 'id-1'), *parts, Finished('stop', metadata={'end': 1})]


POLICIES = st.sampled_from(
    [
        POLICY,
        ContentPolicy(banned=['acme', 'plan'], whole_words=False, validate=no_numbers),
        ContentPolicy(validate=no_numbers, check='sentence'),
        ContentPolicy(banned=[re.compile(r'ac\w{1,3}')]),
    ]
)


@settings(max_examples=150, deadline=None)
@given(answers(), POLICIES)
def test_whole_answers_and_streams_agree_however_they_are_cut(parts: list[StreamPart], policy: ContentPolicy) -> None:
    async def run() -> None:
        whole = await app(parts).generate(prompt='hi', max_turns=1, use=[checked(policy)], tools=[look])
        for script in (parts, joined(parts)):
            stream = app(script).generate_stream(prompt='hi', max_turns=1, use=[checked(policy)], tools=[look])
            seen = [part async for part in stream]
            response = await stream.response
            assert response.stop_reason == whole.stop_reason
            if whole.stop_reason != 'guardrail':
                same_answer(response, whole)
            folds_to(seen, response)
            assert response.message == whole.message

    asyncio.run(run())


@settings(max_examples=100, deadline=None)
@given(st.data(), words)
def test_no_banned_phrase_is_ever_on_the_screen(data: st.DataObject, before: str) -> None:
    async def run() -> None:
        text = f'{before} the Secret Plan of acme {before}'
        stream = app([TextDelta(piece) for piece in data.draw(cuts(text))]).generate_stream(prompt='hi', use=[POLICY])
        screen = ''
        async for part in stream:
            screen = '' if type(part) is Restarted else screen + getattr(part, 'text', '')
            assert not re.search(r'secret\s+plan\b|\bacme\b(?!\u0301)', screen.lower())
        assert screen == REPLY

    asyncio.run(run())


async def test_it_is_no_failure_that_others_try_again() -> None:
    model = ScriptedModel(['Acme'])
    ai = Lamella(model=model, use=[Fallback(models=['x/other']), Retry(), POLICY])
    ai.registry.add_model('x/other', ScriptedModel([]))
    response = await ai.generate(prompt='hi')
    assert (response.stop_reason, len(model.requests)) == ('guardrail', 1)


async def test_a_restart_inside_begins_the_text_anew() -> None:
    model = ScriptedModel([cut('Well, Ac'), [TextDelta('me')]])
    retry = Retry(no_jitter=True, initial_delay_ms=0, on_partial='restart')
    stream = Lamella(model=model).generate_stream(prompt='x', use=[checked(POLICY), retry])
    parts = [part async for part in stream]
    assert shown(parts) == 'me'
    folds_to(parts, await stream.response)


async def test_a_message_is_asked_about_once_in_a_run() -> None:
    asked: list[str] = []
    policy = ContentPolicy(validate=lambda text, where: asked.append(text) if where == 'input' else None)
    await app(ToolRequest('look', {'a': 1}, 'r'), 'ok').generate(prompt='hi', use=[policy], tools=[look])
    assert asked == ['hi']


async def test_leaving_and_cancelling_close_the_call() -> None:
    async with no_leaks():
        model = ScriptedModel([[TextDelta('one '), TextDelta('two '), TextDelta('three')]])
        stream = Lamella(model=model).generate_stream(prompt='x', use=[POLICY])
        async for _ in stream:
            break
        await stream.aclose()
        assert model.closed == 1
        blocked = ScriptedModel([[TextDelta('one '), TextDelta('Acme '), TextDelta('three')]])
        await Lamella(model=blocked).generate_stream(prompt='x', use=[POLICY]).response
        assert blocked.closed == 1
        waiting = asyncio.Event()

        async def hangs(text: str) -> None:
            waiting.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(app('x').generate(prompt='hi', use=[ContentPolicy(validate=hangs)]))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_calls_at_the_same_time() -> None:
    ai = Lamella(use=[POLICY])
    texts = ['Acme' if n % 3 == 0 else f'fine {n}' for n in range(21)]
    responses = await asyncio.gather(*[ai.generate(prompt='hi', model=ScriptedModel([text])) for text in texts])
    assert [response.text for response in responses] == [REPLY if text == 'Acme' else text for text in texts]


async def test_ones_own_reply_and_places() -> None:
    policy = ContentPolicy(banned=['Acme'], apply_to=['output'], reply='No.')
    assert (await both(lambda: app('Acme'), prompt='Acme', use=[policy])).text == 'No.'
    assert (await both(lambda: app('ok'), prompt='Acme', use=[policy])).text == 'ok'
    policy = ContentPolicy(banned=['Acme'], apply_to=['input'])
    assert (await both(lambda: app('Acme'), prompt='ok', use=[policy])).text == 'Acme'


@pytest.mark.parametrize(
    ('options', 'why'),
    [
        ({}, "nothing to look for: give banned=['…'], or validate=, or both"),
        ({'banned': 'Acme'}, "is the string 'Acme': write a list of phrases"),
        ({'banned': ['ok', 3]}, '[1] is a int'),
        ({'banned': [' \u200b ']}, 'has at least one character that is seen'),
        ({'banned': ['x' * 300]}, 'longer than 256 characters'),
        ({'banned': [re.compile('a+')]}, "the pattern 'a+' has no longest match"),
        ({'banned': [re.compile('(a{1,9}){1,9}b')]}, 'may try'),
        ({'validate': 'x'}, 'is a str: give a function of a text'),
        ({'validate': lambda: None}, 'must take a text, or a text and where it stands'),
        ({'banned': ['x'], 'apply_to': ['outputs']}, "unknown place 'outputs': did you mean 'output'"),
        ({'banned': ['x'], 'check': 'word'}, "'whole' or 'sentence'"),
        ({'banned': ['x'], 'reply': ''}, 'reply'),
    ],
)
def test_wrong_settings_are_told_when_it_is_built(options: Any, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ContentPolicy(**options)
    assert why in str(caught.value)
