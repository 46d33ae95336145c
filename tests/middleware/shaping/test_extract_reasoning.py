"""`ExtractReasoning`: text between tags becomes reasoning, in whole answers and however a stream is cut."""

import asyncio
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lamella import Lamella, wrap_language_model
from lamella.middleware import ExtractReasoning, GenerateMiddlewareContext, Retry
from lamella.testing import ScriptedModel, checked
from lamella.types import (
    ConfigError,
    Finished,
    LamellaError,
    Raw,
    ReasoningDelta,
    ReasoningPart,
    ResponseStarted,
    Restarted,
    TextDelta,
    TextPart,
    fold,
)
from tests.middleware.kit import cut, kinds, no_leaks, world
from tests.middleware.shaping.pieces import answers, broken_off, one, said_after_each, texts_of, through

THINK = ExtractReasoning(tag_name='think')
STARTS = ExtractReasoning(tag_name='think', start_with_reasoning=True)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('<think>why</think>answer', [('reasoning', 'why'), ('text', 'answer')]),
        ('answer<think>why</think>', [('text', 'answer'), ('reasoning', 'why')]),
        ('a<think>x</think>b<think>y</think>c', [('text', 'a\nb\nc'), ('reasoning', 'x\ny')]),
        ('<think>x</think><think>y</think>c', [('reasoning', 'x\ny'), ('text', 'c')]),
        ('plain', [('text', 'plain')]),
        ('', [('text', '')]),
        ('<think></think>answer', [('text', 'answer')]),
        ('a<think></think>b', [('text', 'a\nb')]),
        ('<think></think>', [('text', '')]),
        ('<think></think><think>y</think>', [('reasoning', 'y')]),
        ('<think>never closed', [('reasoning', 'never closed')]),
        ('<think>half</thi', [('reasoning', 'half</thi')]),
        ('half<thi', [('text', 'half<thi')]),
        ('<', [('text', '<')]),
        ('<think>', [('text', '')]),
        ('a</think>b', [('text', 'a</think>b')]),
        ('<think>a<think>b</think>c</think>d', [('reasoning', 'a<think>b'), ('text', 'c</think>d')]),
        ('<<think>a<</think>b', [('text', '<\nb'), ('reasoning', 'a<')]),
        ('<Think>a</Think>', [('text', '<Think>a</Think>')]),
        ('<think >a</think >', [('text', '<think >a</think >')]),
        ('<think>\n a \n</think>\n\nb', [('reasoning', '\n a \n'), ('text', '\n\nb')]),
        ('<think>ü🎈</think>日本', [('reasoning', 'ü🎈'), ('text', '日本')]),
    ],
)
async def test_what_a_text_becomes(text: str, expected: Any) -> None:
    assert await one(THINK, text) == expected


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('why</think>answer', [('reasoning', 'why'), ('text', 'answer')]),
        ('<think>why</think>answer', [('reasoning', 'why'), ('text', 'answer')]),
        ('<thin', [('reasoning', '<thin')]),
        ('<thinner</think>x', [('reasoning', '<thinner'), ('text', 'x')]),
        ('</think>answer', [('text', 'answer')]),
        ('a</think>b<think>c</think>d', [('reasoning', 'a\nc'), ('text', 'b\nd')]),
        ('no tag at all', [('reasoning', 'no tag at all')]),
        ('', [('text', '')]),
    ],
)
async def test_an_answer_that_starts_with_reasoning(text: str, expected: Any) -> None:
    assert await one(STARTS, text) == expected


async def test_only_the_first_text_of_an_answer_starts_with_reasoning() -> None:
    answer = await through(
        STARTS, [ResponseStarted(), TextDelta('why</think>one', 0), Raw('k', 1, True), TextDelta('two', 2), Finished()]
    )
    assert texts_of(answer) == [('reasoning', 'why'), ('text', 'one'), ('other', ''), ('text', 'two')]


async def test_the_separator_is_the_callers() -> None:
    layer = ExtractReasoning(tag_name='t', separator=' | ')
    assert await one(layer, 'a<t>x</t>b<t>y</t>') == [('text', 'a | b'), ('reasoning', 'x | y')]
    assert await one(ExtractReasoning(tag_name='t', separator=''), 'a<t>x</t>b') == [('text', 'ab'), ('reasoning', 'x')]


async def test_delimiters_may_be_given_as_they_are() -> None:
    layer = ExtractReasoning(tag_name=('<|channel>thought\n', '<channel|>'))
    assert await one(layer, '<|channel>thought\nwhy<channel|>answer') == [('reasoning', 'why'), ('text', 'answer')]
    assert await one(ExtractReasoning(tag_name=('|', '|')), 'a|b|c') == [('text', 'a\nc'), ('reasoning', 'b')]


# ── however a stream is cut ─────────────────────────────────────────────────────────────────────────────────────────

LIKE_TAGS = [
    '<think>',
    '</think>',
    '<thi',
    'nk>',
    '</',
    '<',
    '>',
    '<<',
    'think',
    '<t',
    '\n',
    'ü',
    '🎈',
    'x ',
    '<br>',
    '',
]
adversarial = st.lists(st.sampled_from(LIKE_TAGS), max_size=8).map(''.join)
layers = st.builds(
    lambda tag, separator, starts: ExtractReasoning(tag_name=tag, separator=separator, start_with_reasoning=starts),
    st.sampled_from(['think', 't', ('<', '<'), ('<t', 'nk>'), ('<<think', 'x ')]),
    st.sampled_from(['\n', '', '<think>']),
    st.booleans(),
)


@settings(max_examples=250, deadline=None)
@given(answers(adversarial), layers)
@example([ResponseStarted(), TextDelta('<'), Raw('kept', 1, True), TextDelta('b', 2), Finished()], THINK)
@example([ResponseStarted(), TextDelta('<think>a</think>', 0, {'s': 1}), TextDelta('b', 1), Finished()], THINK)
def test_whole_answers_and_streams_cut_anywhere_agree(parts: list[Any], layer: ExtractReasoning) -> None:
    asyncio.run(through(layer, parts))


@settings(max_examples=150, deadline=None)
@given(answers(st.sampled_from(['', '<', '<t', 'a<', '<b>', 'x', '</think>'])))
@example([ResponseStarted(), TextDelta('<', 0, {'s': 1}), TextDelta('b', 1), TextDelta('', 2), Finished()])
def test_an_answer_without_the_tag_stays_as_it_is(parts: list[Any]) -> None:
    """Block by block and in order, also where all of a block is held back when the next one begins."""
    assert asyncio.run(through(THINK, parts)).message.content == fold(parts).message.content


def oracle(text: str, opening: str, closing: str, separator: str) -> dict[str, str]:
    """Text and reasoning of one block by splitting the whole text, a way that the layer cannot go."""
    texts, thoughts = [], []
    while True:
        before, tag, rest = text.partition(opening)
        texts.append(before)
        if not tag:
            break
        thought, tag, text = rest.partition(closing)
        thoughts.append(thought)
        if not tag:
            break
    return {'text': separator.join(filter(None, texts)), 'reasoning': separator.join(filter(None, thoughts))}


@settings(max_examples=250, deadline=None)
@given(adversarial, st.sampled_from(['\n', '', '--']))
def test_nothing_but_tags_is_lost_and_nothing_but_separators_added(text: str, separator: str) -> None:
    found = asyncio.run(one(ExtractReasoning(tag_name='think', separator=separator), text))
    wanted = oracle(text, '<think>', '</think>', separator)
    assert dict(found).get('text', '') == wanted['text']
    assert dict(found).get('reasoning', '') == wanted['reasoning']
    assert len(found) == len(dict(found))


@settings(max_examples=200, deadline=None)
@given(adversarial)
def test_no_more_is_held_back_than_may_be_a_tag(text: str) -> None:
    """After each letter all is said but the longest end that the tag looked for begins with."""
    said = asyncio.run(said_after_each(ExtractReasoning(tag_name='think', separator=''), text))
    for length, so_far in enumerate(said, 1):
        seen, inside = text[:length], False
        plain = ''
        while (tag := '</think>' if inside else '<think>') in seen:
            before, _, seen = seen.partition(tag)
            plain, inside = plain + before, not inside
        held = max(n for n in range(len(tag)) if seen.endswith(tag[:n]))
        assert so_far == plain + seen[: len(seen) - held]


@settings(max_examples=250, deadline=None)
@given(st.lists(st.sampled_from(LIKE_TAGS), max_size=8), st.sampled_from(['\n', '', '--']), st.booleans())
def test_a_stream_that_breaks_off_anywhere_has_lost_nothing_that_was_begun(
    pieces: list[str], separator: str, starts: bool
) -> None:
    """Once something was shown, all that had come is in the error: what may have been half a tag too, as it came."""
    layer = ExtractReasoning(tag_name='think', separator=separator, start_with_reasoning=starts)
    text, reasoning = asyncio.run(broken_off(layer, pieces))
    whole = ''.join(pieces)
    if starts and not (whole.startswith('<think>') or '<think>'.startswith(whole)):
        whole = '<think>' + whole
    wanted = oracle(whole, '<think>', '</think>', separator)
    if text or reasoning:
        assert {'text': text, 'reasoning': reasoning} == wanted
    else:  # nothing was shown: nothing but tags and what may be one had come
        held = wanted['text'] + wanted['reasoning']
        assert '<think>'.startswith(held) or '</think>'.startswith(held)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(LIKE_TAGS)), max_size=10))
def test_blocks_whose_pieces_come_in_turns_keep_their_own_text(pieces: list[tuple[int, str]]) -> None:
    """Only places may differ from the whole answer's: reasoning stands where it first came, and an empty piece of text where
    nothing of its block was sure yet when another block began."""

    def said(answer: Any) -> list[tuple[str, str]]:
        return sorted(part for part in texts_of(answer) if part[1])

    async def run() -> None:
        parts = [ResponseStarted(), *(TextDelta(text, index) for index, text in pieces), Finished()]
        whole = await Lamella(model=ScriptedModel([parts]), use=[checked(THINK)]).generate(prompt='hi')
        stream = Lamella(model=ScriptedModel([parts]), use=[checked(THINK)]).generate_stream(prompt='hi')
        assert said(await stream.response) == said(whole)

    asyncio.run(run())


# ── what stands beside the text ─────────────────────────────────────────────────────────────────────────────────────


async def test_metadata_stays_with_the_text() -> None:
    parts = [
        ResponseStarted(),
        TextDelta('<thi', 0, {'signature': 's'}),
        TextDelta('nk>a</think>b'),
        TextDelta('', 0, {'citations': ['c']}),
        Finished(),
    ]
    answer = await through(THINK, parts)
    assert answer.message.content == (ReasoningPart('a'), TextPart('b', {'signature': 's', 'citations': ['c']}))


async def test_metadata_of_a_text_that_is_all_reasoning_is_kept() -> None:
    answer = await through(THINK, [ResponseStarted(), TextDelta('<think>a', 0, {'signature': 's'}), Finished()])
    assert answer.message.content == (ReasoningPart('a'), TextPart('', {'signature': 's'}))


async def test_the_models_own_reasoning_is_not_mixed_with_the_extracted() -> None:
    parts = [TextDelta('<think>a</think>b'), ReasoningDelta('own', 0, 'sig'), ReasoningDelta('more', 0), Finished()]
    answer = await through(THINK, [ResponseStarted(), *parts])
    assert answer.message.content == (ReasoningPart('a'), TextPart('b'), ReasoningPart('ownmore', 'sig'))


async def test_two_of_them_take_two_tags() -> None:
    app = world({'x/a': ['<plan>p</plan><think>t</think>answer']})
    parts, _ = await app.read(checked(ExtractReasoning(tag_name='plan'), THINK))
    assert [(part.text, part.index) for part in parts if type(part) is ReasoningDelta] == [('p', 0), ('t', 1)]
    assert [part.text for part in parts if type(part) is TextDelta] == ['\nanswer']


# ── in a run ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_after_a_restart_the_text_begins_anew() -> None:
    app = world({'x/a': [cut('a<think>b</th'), 'c']})
    parts, error = await app.read(checked(THINK, Retry(on_partial='restart', no_jitter=True)))
    after = parts[kinds(parts).index('Restarted') :]
    assert (error, [part.text for part in after if type(part) is TextDelta]) == (None, ['c'])
    assert ReasoningDelta not in map(type, after)


async def test_a_stream_that_breaks_off_has_all_its_text_in_the_error() -> None:
    _, error = await world({'x/a': [cut('a<thi')]}).read(checked(THINK))
    assert (error.message, error.partial.text) == ('cut', 'a<thi')
    _, error = await world({'x/a': [cut('<think>b</thi')]}).read(checked(THINK))
    assert (error.message, error.partial.reasoning) == ('cut', 'b</thi')


async def test_a_stream_that_breaks_off_before_anything_was_shown_can_be_asked_again_unseen() -> None:
    parts, error = await world({'x/a': [cut('<thi'), 'answer']}).read(checked(Retry(), THINK))
    assert (kinds(parts), error) == (['ResponseStarted', 'TextDelta', 'Finished'], None)


async def test_a_tag_that_is_never_closed_is_told() -> None:
    for text, told in (('<think>a', 1), ('<think>', 1), ('<think>a</think>', 0), ('a', 0), ('', 0)):
        app = world({'x/a': [text, text]})
        await app.answer(THINK)
        await app.read(THINK)
        events = app.sink.named('extract_reasoning.unclosed')
        assert [event.facts for event in events] == [{'tag': '<think>', 'finish_reason': 'stop'}] * 2 * told


async def test_it_works_fixed_on_a_model() -> None:
    model = wrap_language_model(model=ScriptedModel(['<think>a</think>b'], repeat=True), middleware=THINK)
    answer = await Lamella().generate(model=model, prompt='hi')
    assert (answer.reasoning, answer.text) == ('a', 'b')


async def test_concurrent_calls_share_one_instance() -> None:
    def answer(request: Any) -> list[Any]:
        number = request.messages[0].text
        return [TextDelta(f'<think>why {number}</th'), TextDelta(f'ink>because {number}')]

    ai = Lamella(model=ScriptedModel([answer], repeat=True), use=[checked(THINK)])
    streams = [ai.generate_stream(prompt=str(n)).response for n in range(100)]
    found = await asyncio.gather(*streams, *[ai.generate(prompt=str(n)) for n in range(100)])
    assert [(a.reasoning, a.text) for a in found] == [(f'why {n}', f'because {n}') for n in range(100)] * 2


async def test_a_reader_who_leaves_closes_the_providers_stream() -> None:
    app = world({'x/a': [[TextDelta('a'), TextDelta('b')]]})
    async with no_leaks():
        stream = app.ai.generate_stream(prompt='hi', use=[THINK])
        parts = aiter(stream)
        assert [type(await anext(parts)) for _ in range(2)] == [ResponseStarted, TextDelta]
        await stream.aclose()
    assert app.models['x/a'].closed == 1


async def test_a_cancellation_passes() -> None:
    entered = asyncio.Event()

    async def waits(request: Any) -> str:
        entered.set()
        await asyncio.Event().wait()
        return 'never'

    app = world({'x/a': [waits, waits]})
    async with no_leaks():
        for call in (app.read, app.answer):
            entered.clear()
            task = asyncio.create_task(call(THINK))
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({}, 'tag_name: Field required'),
        ({'tag_name': '<think>'}, "tag_name: .*is '<think>': give the name of the tag without .* such as 'think'"),
        ({'tag_name': ''}, "tag_name: .*is '': give the name of the tag"),
        ({'tag_name': 'two words'}, "tag_name: .*is 'two words'"),
        ({'tag_name': 7}, "tag_name: .*is 7: give a name such as 'think'"),
        ({'tag_name': ('<a>', '')}, r"tag_name: .*is \('<a>', ''\)"),
        ({'tag_name': 'think', 'separator': 3}, 'separator: Input should be a valid string'),
        ({'tag_name': 'think', 'start_with_reasoning': 'yes'}, 'start_with_reasoning: Input should be a valid boolean'),
        ({'tagName': 'think'}, r"unknown setting 'tagName'.*'tag_name'"),
    ],
)
def test_wrong_settings_are_refused_when_it_is_built(options: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        ExtractReasoning(**options)


async def test_what_comes_after_a_second_start_is_a_new_answer() -> None:
    parts = [ResponseStarted(), TextDelta('<think>'), Restarted(), ResponseStarted(), TextDelta('a'), Finished()]

    async def model(params: Any, ctx: Any) -> Any:
        for part in parts:
            yield part

    seen = [part async for part in STARTS.wrap_stream(None, GenerateMiddlewareContext(None), model)]
    assert [part.text for part in seen if type(part) is ReasoningDelta] == ['a']


async def test_an_error_passes_as_it_is() -> None:
    error = await world({'x/a': [cut(status='INVALID_ARGUMENT', message='no')]}).answer(THINK)
    assert isinstance(error, LamellaError)
    assert (error.status, error.message) == ('INVALID_ARGUMENT', 'no')
