"""However an answer of the ADK is cut into pieces: what layers and readers get is the whole, once."""

from itertools import groupby, pairwise
from typing import Any

from google.adk.models.llm_response import LlmResponse
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from lamella.core.outside import outside_context
from lamella.integrations.adk._pieces import Pieces
from lamella.types import ReasoningDelta, StreamPart, TextDelta, fold
from tests.adk.kit import piece

Said = tuple[str, str]  # what kind of part, and its text
texts = st.text('abc ', min_size=1, max_size=6)
whole_parts = st.lists(
    st.tuples(st.sampled_from(['text', 'thought', 'signed', 'call', 'image']), texts), min_size=1, max_size=8
)


def part_of(kind: str, text: str) -> types.Part:
    match kind:
        case 'call':
            return types.Part(function_call=types.FunctionCall(name='look', args={'at': text}))
        case 'image':
            return types.Part(inline_data=types.Blob(mime_type='image/png', data=text.encode()))
        case 'signed':
            return types.Part(text=text, thought_signature=text.encode())
    return types.Part(text=text, thought=True if kind == 'thought' else None)


def whole_of(parts: list[types.Part]) -> LlmResponse:
    content = types.Content(role='model', parts=parts)
    return LlmResponse(content=content, partial=False, finish_reason=types.FinishReason.STOP)


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[Said], list[LlmResponse]]:
    """An answer, and a stream of it: any cuts, any part of the end not shown, calls and images shown or not."""
    said = draw(whole_parts)
    pieces: list[LlmResponse] = []
    for kind, text in said:
        if kind in ('call', 'image'):
            if draw(st.booleans()):
                pieces.append(
                    LlmResponse(content=types.Content(role='model', parts=[part_of(kind, text)]), partial=True)
                )
            continue
        cuts = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=3)))
        bounds = [0, *[cut for cut in cuts if cut < len(text)], len(text)]
        pieces += [piece(text[a:b], thought=True if kind == 'thought' else None) for a, b in pairwise(bounds)]
    shown = draw(st.sampled_from([0, len(pieces)]))
    return said, [*pieces[:shown], whole_of([part_of(kind, text) for kind, text in said])]


def parts_of(answers: list[LlmResponse]) -> list[StreamPart]:
    pieces = Pieces(outside_context())
    parts = [part for answer in answers for part in pieces.take(answer)]
    ended = pieces.end()
    assert ended is not None
    return [*parts, ended]


def joined(said: list[Said], *kinds: str) -> str:
    return ''.join(text for kind, text in said if kind in kinds)


@given(streams())
def test_text_and_thoughts_come_once_and_whole(case: tuple[list[Said], list[LlmResponse]]) -> None:
    said, answers = case
    parts = parts_of(answers)
    response = fold(parts)
    assert response.text == joined(said, 'text', 'signed')
    assert response.reasoning == joined(said, 'thought')
    assert ''.join(part.text for part in parts if isinstance(part, TextDelta)) == response.text
    assert ''.join(part.text for part in parts if isinstance(part, ReasoningDelta)) == response.reasoning


@given(streams())
def test_calls_and_images_come_once_and_in_order(case: tuple[list[Said], list[LlmResponse]]) -> None:
    said, answers = case
    response = fold(parts_of(answers))
    assert [part.tool_request.input['at'] for part in response.tool_requests] == [
        t for kind, t in said if kind == 'call'
    ]
    media: list[Any] = [part.data for part in response.message.content if getattr(part, 'data', None)]
    assert media == [text.encode() for kind, text in said if kind == 'image']


@given(whole_parts)
def test_what_is_not_shown_in_pieces_comes_in_its_order(said: list[Said]) -> None:
    response = fold(parts_of([whole_of([part_of(kind, text) for kind, text in said])]))
    kinds = [type(part).__name__ for part in response.message.content]
    names = {
        'text': 'TextPart',
        'signed': 'TextPart',
        'thought': 'ReasoningPart',
        'call': 'ToolRequestPart',
        'image': 'MediaPart',
    }
    assert [kind for kind, _ in groupby(kinds)] == [kind for kind, _ in groupby(names[kind] for kind, _ in said)]
