"""`StreamChecker`: every rule can be broken, names the part, and holds for the catalog and the doubles."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import Lamella, Message, ModelResponse, Stack, TextPart, Usage
from lamella.middleware import BaseMiddleware
from lamella.plugins.anthropic import Anthropic
from lamella.plugins.google_genai import GoogleAI
from lamella.plugins.openai import OpenAI
from lamella.simulator import Simulator
from lamella.testing import FakeClock, ScriptedModel, StreamChecker, check_parts, check_response, checked
from lamella.testing.stream_checker import RULES
from lamella.types import (
    ConfigError,
    File,
    Finished,
    LamellaError,
    MediaPart,
    Raw,
    ReasoningDelta,
    ResponseStarted,
    Restarted,
    Source,
    TextDelta,
    ToolInputDelta,
    ToolRequest,
    ToolRequested,
    ToolRequestPart,
    ToolResponded,
    ToolResponse,
    ToolResponsePart,
    unfold,
)
from tests.engine.kit import folds_to, no_leaks
from tests.middleware.kit import cut, world
from tests.middleware.samples import LAYERS, sample
from tests.middleware.test_modes import fresh, scripts, stacks

START, END = ResponseStarted('m'), Finished()
LOOK = ToolRequest('look', {'at': 'x'}, 'r-1')
ANSWER = ToolResponse('look', 'seen', 'r-1')

BROKEN = {
    'known-part': ([START, 'text', END], 2),
    'valid-types': ([START, TextDelta(3), END], 2),
    'started-first': ([TextDelta('x'), END], 1),
    'one-start': ([START, TextDelta('x'), START, END], 3),
    'start-after-restart': ([START, TextDelta('x'), Restarted(), TextDelta('y')], 4),
    'finished-last': ([START, END, TextDelta('x')], 3),
    'finished-missing': ([START, TextDelta('x')], 2),
    'finish-reason': ([START, Finished('end_turn')], 2),
    'redacted-empty': ([START, ReasoningDelta('x', redacted=True), END], 2),
    'tool-input-open': ([START, ToolInputDelta('{'), ToolRequested(LOOK), ToolInputDelta('}')], 4),
    'tool-input-equal': ([START, ToolInputDelta('{}', 0, 'find'), ToolRequested(LOOK)], 3),
    'tool-request-missing': ([START, ToolInputDelta('{}', 0, 'look'), Finished('tool_calls')], 3),
    'no-tool-response': ([START, ToolResponded(ANSWER), END], 2),
}
ALSO_BROKEN = [
    ('started-first', [Raw('ping'), START, END], 1),
    ('started-first', [Restarted(), START, END], 1),
    ('started-first', [END], 1),
    ('one-start', [START, Raw('kept', 0, True), START], 3),
    ('start-after-restart', [START, Restarted(), END], 3),
    ('finished-last', [START, END, END], 3),
    ('finished-last', [START, END, Restarted()], 3),
    ('finished-missing', [], 0),
    ('finished-missing', [START, TextDelta('x'), Restarted(), START], 4),
    ('tool-input-equal', [START, ToolInputDelta('{}', 0, None, 'r-2'), ToolRequested(LOOK)], 3),
    (
        'tool-input-equal',
        [START, ToolInputDelta('{}', 0, 'look', 'r-1'), ToolRequested(LOOK.replace(ref=None))],
        3,
    ),
    ('tool-input-equal', [START, ToolInputDelta('{', 0, 'look'), ToolInputDelta('}', 0, 'find')], 3),
    ('tool-request-missing', [START, ToolInputDelta('{}'), ToolRequested(LOOK, 1), Finished('stop')], 4),
    ('valid-types', [START, TextDelta('x', '0')], 2),
    ('valid-types', [START, TextDelta('x', 0, {1: 2})], 2),
    ('valid-types', [START, ToolRequested({'name': 'look'})], 2),
    ('valid-types', [START, ToolRequested(ToolRequest(7))], 2),
    ('valid-types', [START, Finished('stop', {'input_tokens': 1})], 2),
    ('valid-types', [START, Finished('stop', Usage('3'))], 2),
    ('valid-types', [START, Finished('stop', warnings=['x'])], 2),
]
SOUND = [
    [START, END],
    [START, Raw('ping'), START, TextDelta('x'), END],
    [START, TextDelta('x'), Restarted(), START, TextDelta('y'), END],
    [START, TextDelta('x'), Restarted(), Restarted(), START, END],
    [START, TextDelta('a'), TextDelta('b', 1), TextDelta('c'), ReasoningDelta('', 0, 'sig'), END],
    [START, ReasoningDelta(redacted=True, metadata={'x': {'data': '…'}}), END],
    [START, ToolInputDelta('{', 0, 'look', 'r-1'), ToolInputDelta('}'), ToolRequested(LOOK), Finished('tool_calls')],
    [START, ToolRequested(LOOK), ToolRequested(LOOK.replace(ref='r-2')), Finished('tool_calls')],
    [
        START,
        ToolInputDelta('{}', 0, 'a'),
        ToolRequested(ToolRequest('a', {}, 'r-1')),
        ToolInputDelta('{}', 0, 'b'),
        ToolRequested(ToolRequest('b', {}, 'r-2')),
        Finished('tool_calls'),
    ],
    [START, ToolInputDelta('{"a', 0, 'look'), Finished('length')],
    [START, ToolInputDelta('{"a', 0, 'look'), Restarted(), START, TextDelta('no'), END],
    [START, File(MediaPart(data=b'x')), Source('http://x', metadata={'a': object()}), END],
    [START, Finished('stop', Usage(1, cost_usd=1), warnings=('w',), metadata={'f': float('nan')})],
]


def position(text: str) -> int:
    return int(text.split('part ')[1].split(',')[0])


@pytest.mark.parametrize(
    ('rule', 'parts', 'at'),
    [*((rule, parts, at) for rule, (parts, at) in BROKEN.items()), *ALSO_BROKEN],
)
def test_a_broken_rule_is_named_with_its_part_and_position(rule: str, parts: list[Any], at: int) -> None:
    with pytest.raises(AssertionError) as caught:
        check_parts(parts, 'mine')
    text = str(caught.value)
    assert text.startswith('mine: ')
    assert f'breaks the rule {rule!r}: {RULES[rule]}' in text
    assert position(text) == at
    assert not parts or f'{parts[at - 1]!r:.200}' in text


@pytest.mark.parametrize('parts', SOUND)
def test_sound_streams_pass(parts: list[Any]) -> None:
    check_parts(parts)


@pytest.mark.parametrize(
    ('rule', 'answer'),
    [
        ('whole-answer', 'text'),
        ('valid-types', ModelResponse(message=Message('assistant', (TextPart(4),)))),
        ('valid-types', ModelResponse(finish_reason='end_turn')),
        ('valid-types', ModelResponse(usage={'input_tokens': 1})),
        ('answer-role', ModelResponse(message=Message.user('hi'))),
        ('no-tool-response', ModelResponse(message=Message('assistant', (ToolResponsePart(ANSWER),)))),
        ('no-tool-response', ModelResponse(tool_responses=(ToolResponsePart(ANSWER),))),
        ('no-tool-response', ModelResponse(interrupts=(ToolRequestPart(LOOK),))),
    ],
)
def test_a_whole_answer_is_held_to_the_rules_too(rule: str, answer: Any) -> None:
    with pytest.raises(AssertionError, match=f"check_response: .* breaks the rule '{rule}'"):
        check_response(answer)


def test_every_rule_is_broken_by_a_test() -> None:
    assert set(RULES) == {*BROKEN, 'whole-answer', 'answer-role'}


class Says(BaseMiddleware):
    """Answers with parts of its own, and notes when it was closed."""

    def __init__(self, *parts: Any) -> None:
        self.parts, self.closed = parts, 0

    async def wrap_stream(self, params, ctx, next_fn):
        try:
            for part in self.parts:
                yield part
        finally:
            self.closed += 1


@pytest.mark.breaks_stream_rules
async def test_in_a_stack_it_says_whose_answer_was_wrong() -> None:
    layer = Says(START, TextDelta('x'))
    with pytest.raises(AssertionError, match=r"StreamChecker\(around Says\): part 2, .*'finished-missing'"):
        await world({'x/a': []}).read(checked(layer))
    assert layer.closed == 1


@pytest.mark.breaks_stream_rules
async def test_a_whole_call_is_checked_in_a_stack() -> None:
    class Forgets(BaseMiddleware):
        async def wrap_model(self, params, ctx, next_fn):
            await next_fn(params, ctx)

    with pytest.raises(AssertionError, match=r"around Forgets\): None breaks the rule 'whole-answer'"):
        await world({'x/a': ['hi']}).answer(checked(Forgets()))


async def test_a_stream_that_fails_or_is_left_is_no_broken_rule() -> None:
    app = world({'x/a': [cut('Hel'), [TextDelta('a'), TextDelta('b')]]})
    async with no_leaks():
        _, error = await app.read(StreamChecker())
        assert error.message == 'cut'
        stream = app.ai.generate_stream(prompt='hi', use=[StreamChecker()])
        parts = aiter(stream)
        assert [type(await anext(parts)) for _ in range(2)] == [ResponseStarted, TextDelta]
        await stream.aclose()
    assert app.models['x/a'].closed == 1


async def test_the_very_same_parts_and_answers_pass_through() -> None:
    parts = [START, TextDelta('x', 2, {'a': object()}), Raw('ping'), Finished('stop', Usage(1))]
    layer = Says(*parts)
    ai = Lamella(model=ScriptedModel([]))
    seen = [part async for part in ai.generate_stream(prompt='hi', use=[StreamChecker(), layer])]
    assert [seen[n] is parts[n] for n in range(3)] == [True, True, True]


async def test_concurrent_streams_share_one_checker() -> None:
    checker = StreamChecker()
    ai = Lamella(model=ScriptedModel(['a', [ToolInputDelta('{', 0), Finished('length')]], repeat=True), use=[checker])
    streams = [ai.generate_stream(prompt='hi').response for _ in range(50)]
    assert len(await asyncio.gather(*streams)) == 50


async def test_a_cancelled_reader_passes_through() -> None:
    entered = asyncio.Event()

    async def waits(request: Any) -> str:
        entered.set()
        await asyncio.Event().wait()
        return 'never'

    app = world({'x/a': [waits]})
    async with no_leaks():
        reader = asyncio.create_task(app.read(checked()))
        await entered.wait()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader


def test_checkers_stand_before_between_and_after() -> None:
    one, two = Says(), Says()
    stack = checked(one, Stack([two]))
    assert stack.layers[1::2] == (one, two)
    assert [type(layer) for layer in stack.layers[::2]] == [StreamChecker] * 3
    assert [layer.config.where for layer in stack.layers[::2]] == ['around Says', 'around Says', 'around the model']


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'wher'.* 'where'"):
        StreamChecker(wher='x')


# ── the catalog and the doubles ─────────────────────────────────────────────────────────────────────────────────────


def look(at: str = '') -> str:
    return 'seen'


SCRIPT = [
    cut(START, 'Hel'),
    [START, TextDelta('Hel'), TextDelta('lo', 0, {'a': 1}), ReasoningDelta('hm', 1, 'sig'), Raw('kept', 2, True), END],
    ['<think>', 'a', '</think>```json\n', '{}', '\n```'],
    [
        ToolInputDelta('{"at":', 0, 'look', 'r-1'),
        ToolInputDelta('"x"}', 0),
        ToolRequested(LOOK),
        Finished('tool_calls'),
    ],
    ModelResponse.text_of('whole', usage=Usage(1, 2, 3)),
    [LOOK, ToolRequest('look', {})],
    [Raw('ping'), Source('http://x'), File(MediaPart(url='http://y')), Finished('length')],
    'text',
]
SCRIPT[2] = [TextDelta(piece) for piece in SCRIPT[2]]


@pytest.mark.parametrize('name', sorted(LAYERS))
async def test_every_layer_of_the_catalog_keeps_the_rules(name: str) -> None:
    for first in range(len(SCRIPT)):
        script = [*SCRIPT[first:], *SCRIPT[:first], *SCRIPT]
        apps = [world({'v/a': script, 'v/b': SCRIPT[3:]}, repeat=True, clock=FakeClock()) for _ in range(2)]
        whole = await apps[0].answer(checked(sample(name)), tools=[look], max_turns=3)
        _, error = await apps[1].read(checked(sample(name)), tools=[look], max_turns=3)
        assert type(whole) is type(error) if error else not isinstance(whole, LamellaError)


@settings(max_examples=100, deadline=None)
@given(scripts, scripts, stacks)
def test_stacks_keep_the_rules_whatever_fails(a: list[Any], b: list[Any], use: list[BaseMiddleware[Any]]) -> None:
    async def run() -> None:
        apps = [world({'v/a': a, 'v/b': b}, repeat=True) for _ in range(2)]
        await apps[0].answer(checked(*fresh(use)), tools=[look], max_turns=3)
        await apps[1].read(checked(*fresh(use)), tools=[look], max_turns=3)

    asyncio.run(run())


@pytest.fixture(scope='module')
def simulator() -> Iterator[str]:
    with Simulator().in_thread() as running:
        yield running.base_url


@pytest.mark.parametrize(
    ('plugin', 'model', 'path'),
    [
        (OpenAI, 'openai/gpt-5', '/v1'),
        (partial(OpenAI, api='responses'), 'openai/gpt-5', '/v1'),
        (Anthropic, 'anthropic/claude-x', ''),
        (GoogleAI, 'googleai/gemini-2.5-pro', ''),
    ],
)
async def test_every_provider_keeps_the_rules(plugin: Any, model: str, path: str, simulator: str) -> None:
    ai = Lamella(plugins=[plugin(api_key='k', base_url=simulator + path)], model=model, use=[checked()])
    calls: list[dict[str, Any]] = [{}, {'tools': [look]}, {'tools': [look], 'tool_choice': 'required', 'max_turns': 2}]
    try:
        for options in calls:
            whole = await ai.generate(prompt='look at the sky', **options)
            stream = ai.generate_stream(prompt='look at the sky', **options)
            assert (await stream.response).stop_reason == whole.stop_reason
    finally:
        await ai.aclose()


texts = st.text(max_size=4)
refs = st.none() | st.sampled_from(['r-1', 'r-2'])
scripted = st.one_of(
    texts,
    st.builds(ModelResponse.text_of, texts, usage=st.none() | st.builds(Usage, st.integers(0, 9))),
    st.lists(st.builds(ToolRequest, st.just('look'), st.just({}), refs), min_size=1, max_size=3),
    st.lists(
        st.one_of(
            st.builds(TextDelta, texts, st.integers(0, 2)),
            st.builds(ReasoningDelta, texts, st.integers(0, 2), st.none() | texts),
            st.builds(Raw, texts, keep=st.booleans()),
            st.builds(Source, texts),
        ),
        min_size=1,
        max_size=5,
    ),
)


@settings(max_examples=100)
@given(scripted)
def test_a_scripted_model_keeps_the_rules_whatever_it_is_given(answer: Any) -> None:
    async def run() -> None:
        ai = Lamella(model=ScriptedModel([answer], repeat=True), use=[checked()])
        whole = await ai.generate(prompt='hi', tools=[look], max_turns=1)
        parts = [part async for part in ai.generate_stream(prompt='hi', tools=[look], max_turns=1)]
        if not whole.tool_requests:
            folds_to(parts, whole)

    asyncio.run(run())


def test_what_unfolds_from_an_answer_keeps_the_rules() -> None:
    content = (TextPart('a', {'m': 1}), TextPart(''), MediaPart(url='http://x'), ToolRequestPart(LOOK, {'s': 1}))
    check_parts(unfold(ModelResponse(message=Message('assistant', content), finish_reason='tool_calls')))


def test_every_rule_stands_on_its_page() -> None:
    page = (Path(__file__).parents[2] / 'docs' / 'stream_rules.md').read_text(encoding='utf-8')
    assert [rule for rule, says in RULES.items() if f'| `{rule}` | {says} |' not in page] == []
