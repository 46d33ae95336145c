"""`PIIRedaction` in streams: the same however the text is cut, blocks in turns, and nothing shown that is hidden later."""

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella import Lamella
from lamella.middleware import PIIRedaction, Retry
from lamella.testing import ScriptedModel, checked
from lamella.types import (
    File,
    Finished,
    MediaPart,
    Raw,
    ReasoningDelta,
    ResponseStarted,
    Restarted,
    Source,
    StreamPart,
    TextDelta,
    ToolInputDelta,
    ToolRequest,
    ToolRequested,
    fold,
)
from tests.middleware.kit import cut, folds_to, no_leaks, same_answer, shown, world
from tests.middleware.shaping.pieces import cuts, joined, look
from tests.middleware.test_pii import FOUND, GLUE, LEFT

ANNA = 'anna@example.com'
KEY = '-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----'
LAYER = PIIRedaction(patterns={'employee': r'\bE\d{6}\b'}, phone_regions=['US', 'GB', 'DE'])
TOKEN = re.compile(r'<[A-Z_]+_\d+_[a-z2-7]{8}>')
texts = st.lists(
    st.sampled_from([ANNA, 'E123456', '4111 1111 1111 1111', 'DE89370400440532013000', KEY, *GLUE, *LEFT[:12], ' hi ']),
    max_size=5,
).map(''.join)


@st.composite
def blocks(draw: Any, index: int) -> list[StreamPart]:
    """One block in pieces: text, reasoning or a tool request, or something else of an answer."""
    text = draw(texts)
    kind = draw(st.sampled_from(['text', 'text', 'reasoning', 'tool', 'other']))
    if kind == 'text':
        return [TextDelta(piece, index) for piece in draw(cuts(text))]
    if kind == 'reasoning':
        signed = [ReasoningDelta('', index, 'signed')] if draw(st.booleans()) else []
        return [*(ReasoningDelta(piece, index) for piece in draw(cuts(text))), *signed]
    if kind == 'tool':
        asked = ToolRequest('look', {'a': text}, f'r-{index}')
        said = [ToolInputDelta(piece, index, 'look', f'r-{index}') for piece in draw(cuts(json.dumps(asked.input)))]
        return [*said, ToolRequested(asked, index)]
    return [
        draw(
            st.sampled_from(
                [
                    Source(f'http://x/{ANNA}', text=ANNA),
                    File(MediaPart(url=f'http://f/{ANNA}'), index),
                    Raw({'a': ANNA}, index, True),
                    Raw(ANNA),
                ]
            )
        )
    ]


@st.composite
def answers(draw: Any) -> list[StreamPart]:
    """Blocks one after the other, or in turns: the pieces of each stay in order."""
    lanes = [draw(blocks(index)) for index in range(draw(st.integers(1, 4)))]
    parts: list[StreamPart] = []
    if draw(st.booleans()):
        parts = [part for lane in lanes for part in lane]
    else:
        while any(lanes):
            parts.append(draw(st.sampled_from([lane for lane in lanes if lane])).pop(0))
    return [ResponseStarted('m-1', 'id-1'), *parts, Finished('stop', metadata={'who': ANNA})]


@settings(max_examples=120, deadline=None)
@given(answers())
def test_whole_answers_and_streams_agree_however_they_are_cut(parts: list[StreamPart]) -> None:
    async def run() -> None:
        def app(script: Sequence[StreamPart]) -> Lamella:
            return Lamella(model=ScriptedModel([list(script)]), use=[checked(LAYER)])

        whole = await app(parts).generate(prompt='hi', max_turns=1, tools=[look])
        for script in (parts, joined(parts)):
            stream = app(script).generate_stream(prompt='hi', max_turns=1, tools=[look])
            seen = [part async for part in stream]
            same_answer(await stream.response, whole)
            folds_to(seen, whole)
            assert ANNA not in repr(seen)
        expected = [LAYER._masker.masked(part.text) for part in fold(parts).message.content if hasattr(part, 'text')]
        assert [part.text for part in whole.message.content if hasattr(part, 'text')] == expected

    asyncio.run(run())


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([value for values in FOUND.values() for value in values]))
def test_every_entity_is_hidden_however_the_answer_is_cut(data: st.DataObject, value: str) -> None:
    async def run() -> None:
        pieces = data.draw(cuts(f'It is {value}, he said.'))
        stream = Lamella(model=ScriptedModel([[TextDelta(piece) for piece in pieces]])).generate_stream(
            prompt='x', use=[LAYER]
        )
        seen = ''.join([piece async for piece in stream.text_stream])
        assert seen == LAYER._masker.masked(f'It is {value}, he said.')
        assert value.removeprefix('TFN ') not in seen

    asyncio.run(run())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tokens_come_back_however_the_answer_is_cut(data: st.DataObject) -> None:
    async def run() -> None:
        def answer(request: Any) -> list[StreamPart]:
            one, two = TOKEN.findall(request.messages[-1].text)
            text = f'{one} met {two}, and wrote to {one}; bob@example.org too'
            asked = {'to': one, 'text': f'"{two}"\n'}
            written = json.dumps(asked)
            return [
                *(TextDelta(piece) for piece in data.draw(cuts(text))),
                *(ToolInputDelta(piece, 1, 'look', 'r') for piece in data.draw(cuts(written))),
                ToolRequested(ToolRequest('look', asked, 'r'), 1),
                Finished('tool_calls'),
            ]

        layer = PIIRedaction(mode='tokenize', patterns={'quote': r'<"\w{1,9}">'})
        stream = Lamella(model=ScriptedModel([answer])).generate_stream(
            prompt=f'{ANNA} and <"bob">', use=[checked(layer)], tools=[look], max_turns=1
        )
        parts = [part async for part in stream]
        assert shown(parts) == f'{ANNA} met <"bob">, and wrote to {ANNA}; [EMAIL] too'
        said = ''.join([part.delta for part in parts if type(part) is ToolInputDelta])
        (requested,) = [part.tool_request.input for part in parts if type(part) is ToolRequested]
        assert json.loads(said) == requested == {'to': ANNA, 'text': '"<"bob">"\n'}
        folds_to(parts, await stream.response)

    asyncio.run(run())


async def said_after_each(layer: PIIRedaction, pieces: Sequence[str]) -> list[str]:
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


async def test_what_cannot_become_a_match_passes_at_once() -> None:
    cards = PIIRedaction(entities=['card'])
    assert await said_after_each(cards, ['Hello', ' wor', 'ld 41', '11', ' a']) == [
        'Hello',
        'Hello wor',
        'Hello world ',
        'Hello world ',
        'Hello world 4111 a',
    ]


async def test_each_block_keeps_its_place_and_its_metadata() -> None:
    parts = [
        TextDelta('anna@', 0, {'n': 1}),
        ReasoningDelta('by bob@example', 1, metadata={'who': ANNA}),
        TextDelta('example.com', 0, {'m': 2}),
        ReasoningDelta('.org', 1, 'signed'),
        TextDelta('last', 2),
    ]
    stream = Lamella(model=ScriptedModel([parts])).generate_stream(prompt='x', use=[checked(LAYER)])
    seen = [part async for part in stream]
    content = fold(seen).message.content
    assert [(type(part).__name__, part.text, part.metadata) for part in content] == [  # type: ignore[union-attr]
        ('TextPart', '[EMAIL]', {'n': 1, 'm': 2}),
        ('ReasoningPart', 'by [EMAIL]', {'who': '[EMAIL]'}),
        ('TextPart', 'last', None),
    ]
    assert content[1].signature is None  # type: ignore[union-attr]  # it was for another text


async def test_a_signature_stays_with_reasoning_that_stays() -> None:
    parts = [
        ReasoningDelta('plain thou', 0),
        ReasoningDelta('ght', 0),
        ReasoningDelta('', 0, 'sig'),
        ReasoningDelta('', 0, 'ned'),
        TextDelta('ok', 1),
    ]
    stream = Lamella(model=ScriptedModel([parts])).generate_stream(prompt='x', use=[checked(LAYER)])
    async for _ in stream:
        pass
    reasoning = (await stream.response).message.content[0]
    assert (reasoning.text, reasoning.signature) == ('plain thought', 'signed')  # type: ignore[union-attr]


async def test_an_answer_that_breaks_off_shows_what_was_held_back_masked() -> None:
    app = world({'x/a': [cut('Hello there, anna@example', message=f'{ANNA} is away')]})
    seen, error = await app.read(LAYER)
    assert error is not None
    assert error.message == '[EMAIL] is away'
    assert shown(seen) == 'Hello there, anna@example'
    assert error.partial is not None
    assert error.partial.text == 'Hello there, anna@example'


async def test_an_answer_that_breaks_off_unseen_may_be_asked_for_again() -> None:
    model = ScriptedModel([cut('anna@example.c'), [TextDelta('fine')]])
    retry = Retry(no_jitter=True, initial_delay_ms=0)
    stream = Lamella(model=model).generate_stream(prompt='x', use=[retry, LAYER])
    assert ''.join([piece async for piece in stream.text_stream]) == 'fine'


async def test_a_restart_inside_begins_the_text_anew() -> None:
    model = ScriptedModel([cut('Well, write to anna@exam'), [TextDelta('ple.com is away')]])
    retry = Retry(no_jitter=True, initial_delay_ms=0, on_partial='restart')
    stream = Lamella(model=model).generate_stream(prompt='x', use=[checked(LAYER), retry])
    parts = [part async for part in stream]
    assert [type(part) for part in parts].count(Restarted) == 1
    assert shown(parts) == 'ple.com is away'
    folds_to(parts, await stream.response)


async def test_leaving_and_cancelling_close_the_call() -> None:
    async with no_leaks():
        model = ScriptedModel([[TextDelta('one '), TextDelta('two '), TextDelta('three')]])
        stream = Lamella(model=model).generate_stream(prompt='x', use=[LAYER])
        async for _ in stream:
            break
        await stream.aclose()
        assert model.closed == 1
        hanging = asyncio.Event()

        async def hangs(request: Any, ctx: Any) -> Any:
            yield ResponseStarted('m')
            yield TextDelta('Hello anna@')
            hanging.set()
            await asyncio.Event().wait()

        async def read() -> None:
            async for _ in Lamella(model=hangs).generate_stream(prompt='x', use=[LAYER]):
                pass

        task = asyncio.create_task(read())
        await hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_streams_at_the_same_time_do_not_mix() -> None:
    def parts(n: int) -> list[StreamPart]:
        return [TextDelta(piece) for piece in (f'{n} an', 'na@', f'x{n}.', 'com!')]

    async def read(n: int) -> str:
        stream = ai.generate_stream(prompt=str(n), model=ScriptedModel([parts(n)]))
        return ''.join([piece async for piece in stream.text_stream])

    ai = Lamella(use=[LAYER])
    assert await asyncio.gather(*map(read, range(20))) == [f'{n} [EMAIL]!' for n in range(20)]


async def test_a_long_private_key_in_an_answer_takes_no_memory() -> None:
    async def model(request: Any, ctx: Any) -> Any:
        yield ResponseStarted('m')
        yield TextDelta('-----BEGIN RSA PRIVATE')
        yield TextDelta(' KEY-----')
        for _ in range(2000):
            yield TextDelta('MIIEpAIBAAKCAQEA' * 16)
        yield TextDelta('-----END RSA PRIV')
        yield TextDelta('ATE KEY----- and more')

    parts = [part async for part in Lamella(model=model).generate_stream(prompt='x', use=[LAYER])]
    assert shown(parts) == '[PRIVATE_KEY] and more'
    assert len(parts) < 8


async def test_a_refusal_in_the_middle_shows_nothing_more() -> None:
    deep: Any = 'x'
    for _ in range(100):
        deep = [deep]
    app = world({'x/a': [[TextDelta('Hello anna@exam'), ToolRequested(ToolRequest('look', deep, 'r'), 1)]]})
    seen, error = await app.read(LAYER, tools=[look])
    assert 'nested' in str(error)
    assert shown(seen) == 'Hello '
