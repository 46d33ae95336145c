"""`ExtractJson`: fences around JSON go, in whole answers and however a stream is cut."""

import asyncio
import json
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from lamella import Lamella, wrap_language_model
from lamella.middleware import ExtractJson, Retry
from lamella.middleware.shaping.extract_json import MAX_SPACE
from lamella.testing import ScriptedModel, checked
from lamella.types import (
    ConfigError,
    Finished,
    LamellaError,
    ResponseStarted,
    TextDelta,
    TextPart,
    ToolRequested,
    ToolRequestPart,
    fold,
)
from tests.middleware.kit import cut, kinds, no_leaks, world
from tests.middleware.shaping.pieces import REQUEST, answers, broken_off, one, said_after_each, texts_of, through

PLAIN = ExtractJson()
FAR = ' ' * (MAX_SPACE + 1)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ('```\n{"a": 1}\n```', '{"a": 1}'),
        ('```JSON\r\n{"a": 1}\r\n```\n', '{"a": 1}'),
        ('\n ```json\n\n {"a": 1} \n\n``` \n', '{"a": 1}'),
        ('```json{"a": 1}```', '{"a": 1}'),
        ('```{"a": 1}```', '{"a": 1}'),
        ('```json\n{"a": "```"}\n```', '{"a": "```"}'),
        ('```json\n{"a": "`" }', '{"a": "`" }'),
        ('```json\n[1, 2] \n', '[1, 2] \n'),
        ('```json\n```', ''),
        ('```json', ''),
        ('```json\n1\n``', '1\n``'),
        ('{"a": 1}', '{"a": 1}'),
        (' {"a": 1}\n', ' {"a": 1}\n'),
        ('{"a": 1}\n```', '{"a": 1}\n```'),
        ('Here:\n```json\n{}\n```', 'Here:\n```json\n{}\n```'),
        ('```python\nprint()\n```', '```python\nprint()\n```'),
        ('```jsonl\n{}\n```', '```jsonl\n{}\n```'),
        ('```json5', '```json5'),
        ('```js', '```js'),
        ('````json\n{}\n````', '````json\n{}\n````'),
        ('``', '``'),
        ('  ', '  '),
        ('', ''),
        ('```json\n{}\n``` done', '{}\n``` done'),
        (FAR + '```json\n{}\n```', FAR + '```json\n{}\n```'),
        ('```json\n{}```' + FAR, '{}```' + FAR),
        ('```json\n{}' + FAR + '```', '{} '),
    ],
)
async def test_what_a_text_becomes(text: str, expected: str) -> None:
    assert await one(PLAIN, text) == [('text', expected)]


LIKE_FENCES = [
    '```',
    '`',
    '``',
    'json',
    'j',
    'JS',
    'on',
    '\n',
    ' ',
    '\r\n',
    '{"a":',
    '1}',
    '"ü"',
    '🎈',
    ' ' * 40,
    '',
    'x',
    '\u2003',
]
adversarial = st.one_of(
    st.lists(st.sampled_from(LIKE_FENCES), max_size=8).map(''.join),
    st.lists(st.sampled_from(LIKE_FENCES), max_size=6).map(lambda inside: f'```json\n{"".join(inside)}\n```'),
)
transforms = st.sampled_from([None, str.upper, str.strip, lambda text: '', lambda text: text + text])


@settings(max_examples=250, deadline=None)
@given(answers(adversarial), st.builds(lambda change: ExtractJson(transform=change), transforms))
def test_whole_answers_and_streams_cut_anywhere_agree(parts: list[Any], layer: ExtractJson) -> None:
    asyncio.run(through(layer, parts))


@settings(max_examples=150, deadline=None)
@given(answers(st.sampled_from(['', '`', '``', 'a```', ' ', '```js', '{}', '{} \n'])))
def test_an_answer_without_a_fence_stays_as_it_is(parts: list[Any]) -> None:
    """Block by block and in order, also where all of a block is held back when the next one begins."""
    assert asyncio.run(through(PLAIN, parts)).message.content == fold(parts).message.content


def oracle(text: str) -> str:
    """The text without its fences, by looking at the whole of it."""
    near = text[: MAX_SPACE + 1].lstrip()
    body = text.lstrip()[3:]
    if not text.lstrip().startswith('```') or not near or body.startswith('`'):
        return text
    word = re.match(r'[^\W\d_]*', body)[0]
    if word and (word.lower() != 'json' or re.match(r'[\w]', body[4:])):
        return text
    body = body[len(word) :].lstrip()
    bare = body.rstrip()
    if not bare.endswith('```') or len(body) - len(bare) > MAX_SPACE:
        return body
    inside = bare[:-3]
    return inside.rstrip() + inside[len(inside.rstrip()) :][:-MAX_SPACE]


@settings(max_examples=400, deadline=None)
@given(adversarial)
def test_nothing_but_a_fence_is_lost(text: str) -> None:
    assert asyncio.run(one(PLAIN, text)) == [('text', oracle(text))]


async def test_a_block_that_is_gone_on_with_is_still_at_the_beginning_of_its_fence() -> None:
    parts = [TextDelta('```json'), TextDelta('x', 1), TextDelta('\n{}'), TextDelta('\n```'), Finished()]
    stream = Lamella(model=ScriptedModel([parts]), use=[checked(PLAIN)]).generate_stream(prompt='hi')
    assert texts_of(await stream.response) == [('text', '{}'), ('text', 'x')]


@settings(max_examples=200, deadline=None)
@given(adversarial)
@example('```json\n1\n```' + ' ' * (MAX_SPACE + 9))
@example('```json\n1' + ' ' * (MAX_SPACE + 9) + '```')
def test_no_more_is_held_back_than_may_be_a_fence(text: str) -> None:
    """After each letter all is said but what may open a fence, or the whitespace and backticks that may close one."""
    said = asyncio.run(said_after_each(PLAIN, text))
    for length, so_far in enumerate(said, 1):
        seen = text[:length]
        fence = re.match(r'\s*```(json(?!\w)|(?![^\W\d_]|`))\s*', seen, re.IGNORECASE)
        if len(seen) - len(seen.lstrip()) > MAX_SPACE:
            fence = None
        elif re.fullmatch(r'\s*(`{0,2}|```(j|js|jso|json)?)', seen, re.IGNORECASE):
            assert so_far == ''
            continue
        if fence is None:
            assert so_far == seen
            continue
        body = seen[fence.end() :]
        assert body.startswith(so_far)
        assert re.fullmatch(rf'\s{{0,{MAX_SPACE}}}(`{{0,2}}|```\s{{0,{MAX_SPACE}}})', body[len(so_far) :])


@settings(max_examples=250, deadline=None)
@given(st.lists(st.sampled_from(LIKE_FENCES), max_size=8), transforms)
def test_a_stream_that_breaks_off_anywhere_has_lost_nothing_that_was_begun(pieces: list[str], change: Any) -> None:
    """Once something was shown, all that had come is in the error: what may have been a closing fence too, as it came."""
    text, _ = asyncio.run(broken_off(ExtractJson(transform=change), pieces))
    whole = ''.join(pieces)
    if change is not None:
        assert text == ''  # nothing is shown before the whole is there
        return
    opening = re.match(r'\s*```(?:json(?!\w)|(?![^\W\d_]|`))\s*', whole, re.IGNORECASE)
    far = len(whole) - len(whole.lstrip()) > MAX_SPACE
    rest = whole[opening.end() :] if opening is not None and not far else whole
    assert text in (rest, '')
    if text == '':  # nothing was shown: only what may be a fence had come
        assert re.fullmatch(r'\s*`*\s*`*(?:j|js|jso|json)?\s*`*\s*', rest, re.IGNORECASE)


async def test_of_much_whitespace_before_a_fence_only_what_may_go_is_held_back() -> None:
    pieces = ['```json\n1', ' ' * (MAX_SPACE + 9) + '```', ' x']
    assert await said_after_each(PLAIN, pieces) == ['1', '1' + ' ' * 9, '1' + ' ' * (MAX_SPACE + 9) + '``` x']


async def test_other_parts_and_metadata_stay_as_they_are() -> None:
    parts = [
        ResponseStarted(),
        TextDelta('```json\n', 0, {'signature': 's'}),
        TextDelta('{}\n``', 0),
        TextDelta('`', 0, {'citations': 1}),
        ToolRequested(REQUEST, 1),
        TextDelta('```', 2),
        TextDelta('x', 2),
        Finished(),
    ]
    answer = await through(PLAIN, parts)
    assert answer.message.content == (
        TextPart('{}', {'signature': 's', 'citations': 1}),
        ToolRequestPart(REQUEST),
        TextPart('```x'),
    )


async def test_a_block_that_is_held_back_keeps_its_place() -> None:
    layer = ExtractJson(transform=str.upper)
    answer = await through(
        layer, [ResponseStarted(), TextDelta('a'), TextDelta('b', 1), ToolRequested(REQUEST, 2), Finished()]
    )
    assert [kind for kind, _ in texts_of(answer)] == ['text', 'text', 'other']
    assert answer.text == 'AB'


# ── transform ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_transform_gets_the_whole_text_of_each_block() -> None:
    seen: list[str] = []

    def found(text: str) -> str:
        seen.append(text)
        return json.dumps(json.loads(re.search(r'\{.*\}', text)[0]))

    layer = ExtractJson(transform=found)
    assert await one(layer, 'Sure! {"a":1} Anything else?') == [('text', '{"a": 1}')]
    assert set(seen) == {'Sure! {"a":1} Anything else?'}


async def test_a_transform_that_fails_is_an_error_of_its_own() -> None:
    def fails(text: str) -> str:
        raise ValueError('no JSON')

    app = world({'x/a': ['a', 'a']})
    for call in (app.answer, app.read):
        with pytest.raises(ValueError, match='no JSON'):
            await call(ExtractJson(transform=fails))


async def test_a_transform_must_return_text() -> None:
    app = world({'x/a': ['{}', '{}']})
    layer = ExtractJson(transform=json.loads)
    whole, (_, streamed) = await app.answer(layer), await app.read(layer)
    for error in (whole, streamed):
        assert (error.status, 'transform returned a dict' in error.message) == ('INTERNAL', True)


async def test_a_transform_is_not_asked_about_nothing() -> None:
    def never(text: str) -> str:
        raise AssertionError(text)

    assert await one(ExtractJson(transform=never), '') == [('text', '')]


# ── in a run ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Point(BaseModel):
    x: int


async def test_a_fenced_answer_fits_its_schema() -> None:
    app = world({'x/a': ['```json\n{"x": 3}\n```']}, repeat=True)
    whole = await app.ai.generate(prompt='hi', output_schema=Point, use=[checked(PLAIN)])
    streamed = await app.ai.generate_stream(prompt='hi', output_schema=Point, use=[checked(PLAIN)]).response
    assert whole.output == streamed.output == Point(x=3)


async def test_a_fence_that_is_never_closed_is_told() -> None:
    for text, told in (('```json\n{"a"', 1), ('```json', 1), ('```json\n1\n```', 0), ('```js', 0), ('a', 0), ('', 0)):
        app = world({'x/a': [text, text]})
        await app.answer(PLAIN)
        await app.read(PLAIN)
        events = app.sink.named('extract_json.unclosed')
        assert [event.facts for event in events] == [{'finish_reason': 'stop'}] * 2 * told


async def test_a_stream_that_breaks_off_has_all_its_text_in_the_error() -> None:
    _, error = await world({'x/a': [cut('```json\n{"a"  ``')]}).read(checked(PLAIN))
    assert (error.message, error.partial.text) == ('cut', '{"a"  ``')
    _, error = await world({'x/a': [cut('a', ToolRequested(REQUEST, 1))]}).read(
        checked(ExtractJson(transform=str.upper))
    )
    assert (error.message, error.partial.text) == ('cut', 'a')


async def test_a_stream_that_breaks_off_before_anything_was_shown_can_be_asked_again_unseen() -> None:
    parts, error = await world({'x/a': [cut('```js'), '{}']}).read(checked(Retry(), PLAIN))
    assert (kinds(parts), error) == (['ResponseStarted', 'TextDelta', 'Finished'], None)


async def test_after_a_restart_the_text_begins_anew() -> None:
    app = world({'x/a': [cut('```json\n{"a"'), '```json\n{}\n```']})
    parts, error = await app.read(checked(PLAIN, Retry(on_partial='restart', no_jitter=True)))
    after = parts[kinds(parts).index('Restarted') :]
    assert (error, [part.text for part in after if type(part) is TextDelta]) == (None, ['{}'])


async def test_it_works_fixed_on_a_model() -> None:
    model = wrap_language_model(model=ScriptedModel(['```json\n{}\n```']), middleware=PLAIN)
    assert (await Lamella().generate(model=model, prompt='hi')).text == '{}'


async def test_concurrent_calls_share_one_instance() -> None:
    def answer(request: Any) -> list[Any]:
        return [TextDelta('```js'), TextDelta(f'on\n{{"n": {request.messages[0].text}}}\n`'), TextDelta('``')]

    ai = Lamella(model=ScriptedModel([answer], repeat=True), use=[checked(PLAIN)])
    streams = [ai.generate_stream(prompt=str(n)).response for n in range(100)]
    found = await asyncio.gather(*streams, *[ai.generate(prompt=str(n)) for n in range(100)])
    assert [json.loads(answer.text)['n'] for answer in found] == [*range(100)] * 2


async def test_a_reader_who_leaves_closes_the_providers_stream() -> None:
    app = world({'x/a': [[TextDelta('a'), TextDelta('b')]]})
    async with no_leaks():
        stream = app.ai.generate_stream(prompt='hi', use=[PLAIN])
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
            task = asyncio.create_task(call(PLAIN))
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def later(text: str) -> str:
    return text


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'transform': 'strip'}, "transform: .*is 'strip': give a function of the text"),
        ({'transform': later}, 'transform: .*later is async: give a plain function'),
        ({'transfrom': str.strip}, r"unknown setting 'transfrom'.*'transform'"),
    ],
)
def test_wrong_settings_are_refused_when_it_is_built(options: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        ExtractJson(**options)


async def test_an_error_passes_as_it_is() -> None:
    error = await world({'x/a': [cut(status='INVALID_ARGUMENT', message='no')]}).answer(PLAIN)
    assert isinstance(error, LamellaError)
    assert (error.status, error.message) == ('INVALID_ARGUMENT', 'no')
