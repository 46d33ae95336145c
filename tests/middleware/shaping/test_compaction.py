"""`Compaction`: what the model is sent of a long history, and that nothing that belongs together is parted."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import Lamella, LamellaError, Message
from lamella.middleware import Compaction, Retry
from lamella.testing import CollectingSink, ScriptedModel
from lamella.types import ConfigError, ToolRequest, ToolRequestPart, ToolResponse


def history(turns: int) -> list[Message]:
    return [message for n in range(turns) for message in (Message.user(f'q{n}'), Message.assistant(f'a{n}'))]


async def sent(
    layer: Any, messages: Sequence[Message], streamed: bool = False, **options: Any
) -> tuple[list[Message], CollectingSink]:
    model, sink = ScriptedModel(['hi'], repeat=True), CollectingSink()
    ai = Lamella(model=model, sinks=[sink])
    if streamed:
        response = await ai.generate_stream(messages=messages, use=[layer], **options).response
    else:
        response = await ai.generate(messages=messages, use=[layer], **options)
    assert list(response.messages[: len(messages)]) == list(messages)
    return list(model.requests[0].messages), sink


@pytest.mark.parametrize('streamed', [False, True])
async def test_the_latest_part_is_sent_and_the_conversation_stays_whole(streamed: bool) -> None:
    messages = [Message.system('s'), *history(20), Message.user('now')]
    found, sink = await sent(Compaction(max_messages=10, keep_last=4), messages, streamed)
    assert [message.text for message in found] == ['s', 'q18', 'a18', 'q19', 'a19', 'now']
    assert sink.named('compaction.shortened')[0].facts == {'left_out': 36, 'kept': 5, 'summarised': False}


async def test_a_short_history_is_sent_as_it_is() -> None:
    messages = [*history(5), Message.user('now')]
    found, sink = await sent(Compaction(max_messages=11, keep_last=2), messages)
    assert found == messages
    assert sink.named('compaction.shortened') == []


def tool_round(n: int) -> list[Message]:
    return [
        Message.assistant(ToolRequestPart(ToolRequest('look', {'n': n}, f'c{n}'))),
        Message.tool(ToolResponse('look', n, f'c{n}')),
    ]


async def test_a_tool_request_is_never_parted_from_its_answer() -> None:
    messages = [*history(6), Message.user('look'), *[m for n in range(8) for m in tool_round(n)]]
    found, _ = await sent(Compaction(max_messages=10, keep_last=4), messages)
    assert found[0].text == 'look'
    assert len(found) == 17


@st.composite
def conversations(draw: Any) -> list[Message]:
    messages: list[Message] = []
    for n, kind in enumerate(draw(st.lists(st.sampled_from('uatrp'), min_size=1, max_size=40))):
        if kind == 'u':
            messages.append(Message.user(f'u{n}'))
        elif kind == 'a':
            messages.append(Message.assistant(f'a{n}'))
        elif kind == 't':
            messages += tool_round(n)
        elif kind == 'r':  # two requests, answered one by one with something said in between
            first, second = (ToolRequestPart(ToolRequest('look', {}, f'd{n}-{i}')) for i in (1, 2))
            messages += [
                Message.assistant(first, second),
                Message.tool(ToolResponse('look', 1, f'd{n}-1')),
                Message.user('meanwhile'),
                Message.tool(ToolResponse('look', 2, f'd{n}-2')),
            ]
        else:
            messages.append(Message.system(f's{n}'))
    return [*messages, Message.user('now')]


@given(conversations(), st.integers(1, 12), st.integers(0, 12))
async def test_what_is_sent_is_whole_in_itself(messages: list[Message], keep: int, more: int) -> None:
    found, _ = await sent(Compaction(max_messages=keep + more, keep_last=keep), messages)
    others = [message for message in messages if message.role != 'system']
    kept = [message for message in found if message.role != 'system']
    assert [message for message in found if message.role == 'system'] == [m for m in messages if m.role == 'system']
    assert kept == others[len(others) - len(kept) :]
    assert len(kept) == len(others) or (len(kept) >= keep and kept[0].role == 'user')
    asked = {part.tool_request.ref for message in kept for part in message.tool_requests}
    answered = {part.tool_response.ref for message in kept for part in message.tool_responses}
    assert asked == answered


async def test_a_summary_of_what_is_left_out_stands_in_front_and_is_made_once() -> None:
    made = []

    async def summarise(messages: Sequence[Message], ctx: Any) -> str:
        made.append(len(messages))
        return f'{len(messages)} messages about bees'

    model = ScriptedModel([LamellaError('UNAVAILABLE', 'down'), 'done'])
    layer = Compaction(max_messages=6, keep_last=3, summarise=summarise)
    messages = [*history(10), Message.user('now')]
    await Lamella(model=model).generate(messages=messages, use=[Retry(initial_delay_ms=0), layer])
    assert model.requests[0].messages == model.requests[1].messages
    assert model.requests[0].messages[0].text == 'What was said before, in short:\n18 messages about bees'
    assert [message.text for message in model.requests[0].messages[1:]] == ['q9', 'a9', 'now']
    assert made == [18]


async def test_a_summary_that_fails_harms_nothing() -> None:
    def fails(messages: Sequence[Message], ctx: Any) -> str:
        raise LamellaError('UNAVAILABLE', 'down')

    found, sink = await sent(
        Compaction(max_messages=6, keep_last=3, summarise=fails), [*history(10), Message.user('now')]
    )
    assert [message.text for message in found] == ['q9', 'a9', 'now']
    assert sink.named('compaction.summary_failed')[0].facts['error'].status == 'UNAVAILABLE'


@pytest.mark.parametrize(
    ('options', 'problem'),
    [
        ({'max_messages': 3, 'keep_last': 5}, 'keep_last=5 is more than max_messages=3'),
        ({'keep_last': 0}, 'keep_last'),
        ({'summarise': 'x'}, 'summarise is a str'),
    ],
)
def test_wrong_settings_are_found_when_it_is_built(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Compaction(**options)
