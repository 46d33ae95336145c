"""Answers cut into pieces in every way, for layers that change text."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from hypothesis import strategies as st

from lamella import Lamella
from lamella.core.context import GenerateMiddlewareContext
from lamella.middleware import BaseMiddleware
from lamella.testing import ScriptedModel, checked
from lamella.types import (
    File,
    Finished,
    LamellaError,
    MediaPart,
    ModelResponse,
    Raw,
    ReasoningDelta,
    ReasoningPart,
    ResponseStarted,
    Source,
    StreamPart,
    TextDelta,
    TextPart,
    ToolInputDelta,
    ToolRequest,
    ToolRequested,
    fold,
)
from tests.engine.kit import folds_to, same_answer

METADATA = st.none() | st.dictionaries(st.sampled_from(['citations', 'signature']), st.integers(0, 9), max_size=2)
BETWEEN = st.lists(st.sampled_from([Raw('ping'), Source('http://x', metadata={'n': 1})]), max_size=1)
REQUEST = ToolRequest('look', {'a': 1}, 'r-1')


@st.composite
def cuts(draw: Any, text: str) -> list[str]:
    """The text in pieces, of which some are empty."""
    at = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]


@st.composite
def others(draw: Any, index: int) -> list[StreamPart]:
    """Something of the answer that is not text."""
    reasoning = [ReasoningDelta('own ', index), ReasoningDelta('thought', index, 'sig', metadata={'own': 1})]
    asks = [ToolInputDelta('{"a":', index, 'look', 'r-1'), ToolRequested(REQUEST, index)]
    return draw(
        st.sampled_from([reasoning, asks, [File(MediaPart(url='http://f'), index)], [Raw('kept', index, True)]])
    )


@st.composite
def answers(draw: Any, texts: st.SearchStrategy[str]) -> list[StreamPart]:
    """Text blocks in pieces, other blocks between them, pings and sources anywhere."""
    parts: list[StreamPart] = [ResponseStarted('m-1', 'id-1')]
    for index in range(draw(st.integers(1, 4))):
        if draw(st.integers(0, 2)) == 0:
            parts += draw(others(index))
            continue
        for piece in draw(cuts(draw(texts))):
            parts += [TextDelta(piece, index, draw(METADATA)), *draw(BETWEEN)]
    return [*parts, Finished('stop', metadata={'end': 1})]


def joined(parts: Sequence[StreamPart]) -> list[StreamPart]:
    """The same answer with each text block as one piece, as `unfold` would tell it, pings left out."""
    texts: dict[int, TextDelta] = {}
    for part in parts:
        if type(part) is TextDelta:
            old = texts.get(part.index, TextDelta('', part.index))
            both = {**(old.metadata or {}), **(part.metadata or {})}
            told = old.metadata is not None or part.metadata is not None
            texts[part.index] = TextDelta(old.text + part.text, part.index, both if told else None)
    whole: list[StreamPart] = []
    for part in parts:
        if type(part) is not TextDelta:
            whole.append(part)
        elif part.index in texts:
            whole.append(texts.pop(part.index))
    return whole


async def through(layer: BaseMiddleware[Any], parts: Sequence[StreamPart]) -> ModelResponse:
    """The answer after this layer: whole, in these pieces, and with each block in one piece, which must all agree."""

    def app(script: Sequence[StreamPart]) -> Lamella:
        return Lamella(model=ScriptedModel([list(script)]), use=[checked(layer)])

    whole = await app(parts).generate(prompt='hi', max_turns=1, tools=[look])
    for script in (parts, joined(parts)):
        stream = app(script).generate_stream(prompt='hi', max_turns=1, tools=[look])
        seen = [part async for part in stream]
        same_answer(await stream.response, whole)
        folds_to(seen, whole)
    return whole


def look(a: int) -> str:
    return 'seen'


async def said_after_each(layer: BaseMiddleware[Any], pieces: Sequence[str]) -> list[str]:
    """What a reader of one text block has, of text and reasoning together, when each next piece is asked for."""
    said, after = '', list[str]()

    async def model(params: Any, ctx: Any) -> AsyncIterator[StreamPart]:
        yield ResponseStarted()
        for piece in pieces:
            yield TextDelta(piece)
            after.append(said)
        yield Finished()

    async for part in layer.wrap_stream(None, GenerateMiddlewareContext(None), model):
        if type(part) in (TextDelta, ReasoningDelta):
            said += part.text
    return after


async def broken_off(layer: BaseMiddleware[Any], pieces: Sequence[str]) -> tuple[str, str]:
    """Text and reasoning that the error of a stream holds which fails after these pieces of one block."""
    script = [ResponseStarted(), *map(TextDelta, pieces), LamellaError('UNAVAILABLE', 'cut')]
    stream = Lamella(model=ScriptedModel([script]), use=[checked(layer)]).generate_stream(prompt='hi')
    seen: list[StreamPart] = []
    failure = None
    try:
        async for part in stream:
            seen.append(part)
    except LamellaError as error:
        failure = error
    said = fold(seen)
    assert failure is not None
    assert (failure.partial or ModelResponse()).message.content == said.message.content
    return said.text, said.reasoning


def texts_of(response: ModelResponse) -> list[tuple[str, str]]:
    """The kind and text of each part of the answer."""
    names = {TextPart: 'text', ReasoningPart: 'reasoning'}
    return [(names.get(type(part), 'other'), getattr(part, 'text', '')) for part in response.message.content]


async def one(layer: BaseMiddleware[Any], text: str, **fields: Any) -> list[tuple[str, str]]:
    """What one text becomes, told in one piece, letter by letter, and whole."""
    found = await through(layer, [ResponseStarted(), TextDelta(text), Finished(**fields)])
    letters = await through(layer, [ResponseStarted(), *map(TextDelta, text or ['']), Finished(**fields)])
    assert texts_of(found) == texts_of(letters)
    assert fold([TextDelta(text)]).text == text
    return texts_of(found)
