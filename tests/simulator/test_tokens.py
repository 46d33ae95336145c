"""The stated rule, counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.simulator.tokens import MEDIA, MESSAGE_FRAME, count_request, count_text, pieces, truncated, usage_of
from lamella.types import (
    MediaPart,
    Message,
    ModelRequest,
    OutputSpec,
    TextPart,
    ToolDefinition,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
)


@pytest.mark.parametrize(
    ('text', 'tokens'),
    [
        ('', 0),
        ('   ', 0),
        ('cat', 1),
        ('simple', 1),
        ('simpler', 2),
        ('the cat', 2),
        ('a, b!', 4),
        ('1234', 2),
        ('3.14', 3),
        ('漢字です', 4),
        ('a\nb', 3),
        ('🙂🙂', 2),
        ('snake_case', 3),
    ],
)
def test_each_class_of_words_has_its_price(text: str, tokens: int) -> None:
    assert count_text(text) == tokens


@given(st.text())
def test_the_pieces_of_a_text_are_the_text(text: str) -> None:
    assert ''.join(pieces(text)) == text


@given(st.text())
def test_the_pieces_cost_what_the_text_costs(text: str) -> None:
    assert sum(map(count_text, pieces(text))) == count_text(text)


@given(st.text(), st.integers(0, 20))
def test_a_truncated_text_begins_the_text_and_keeps_the_limit(text: str, limit: int) -> None:
    cut = truncated(text, limit)
    assert text.startswith(cut)
    assert count_text(cut) <= limit


def test_everything_that_would_be_read_is_counted() -> None:
    request = ModelRequest((Message.user('the cat'),))
    assert count_request(request) == MESSAGE_FRAME + 2
    longer = (
        request.replace(tools=(ToolDefinition('cat', 'a cat', {'type': 'object'}),)),
        request.replace(output=OutputSpec('json', {'type': 'object'})),
        request.replace(messages=(Message.system('be nice'), *request.messages)),
        request.replace(messages=(*request.messages, Message.assistant(ToolRequestPart(ToolRequest('cat', {'n': 1}))))),
        request.replace(messages=(*request.messages, Message.tool(ToolResponse('cat', 'meow')))),
    )
    assert all(count_request(other) > count_request(request) for other in longer)
    seen = request.replace(messages=(Message.user(MediaPart(url='https://example.com/cat.png')),))
    assert count_request(seen) == MESSAGE_FRAME + MEDIA


def test_usage_adds_up() -> None:
    usage = usage_of(ModelRequest((Message.user('the cat'),)), Message('assistant', (TextPart('a cat sat'),)))
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (5, 3, 8)
