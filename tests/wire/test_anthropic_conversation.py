"""A conversation of four turns with thinking and tools, in which every signature goes back where it came from."""

import json

from lamella.types import GenerationConfig, Message, ModelRequest, ModelResponse, ToolDefinition, ToolResponse, fold
from lamella.wire.anthropic import AnthropicCodec
from tests.wire.anthropic_events import JSON, REDACTED, USAGE, body_of, events_of, parts_of

CODEC = AnthropicCodec()
MODEL = 'claude-sonnet-4-5'


def thinking(n: int) -> JSON:
    return {'type': 'thinking', 'thinking': f'thought {n}', 'signature': f'signature-{n}=='}


def tool(n: int) -> JSON:
    return {'type': 'tool_use', 'id': f'toolu_{n}', 'name': 'look', 'input': {'page': n}}


TURNS: list[list[JSON]] = [
    [thinking(1), {'type': 'text', 'text': 'First page.'}, tool(1)],
    [thinking(2), REDACTED, tool(2), tool(22)],
    [{'type': 'thinking', 'thinking': '', 'signature': 'hidden=='}, tool(3)],
    [thinking(4), {'type': 'text', 'text': 'Done.'}],
]


def answer_of(content: list[JSON]) -> JSON:
    reason = 'tool_use' if content[-1]['type'] == 'tool_use' else 'end_turn'
    return {
        'id': 'msg_1',
        'type': 'message',
        'role': 'assistant',
        'model': MODEL,
        'content': content,
        'stop_reason': reason,
        'stop_sequence': None,
        'usage': USAGE,
    }


def received(answer: JSON, *, stream: bool) -> ModelResponse:
    if stream:
        return fold(parts_of(body_of(events_of(answer, 3))))
    return CODEC.decode_response(json.dumps(answer).encode())


def converse(*, stream: bool) -> list[JSON]:
    """The bodies that a client sends in four turns, running the tool in between."""
    request = ModelRequest(
        messages=(Message.user('Read.'),),
        config=GenerationConfig(reasoning_effort='high'),
        tools=(ToolDefinition('look', 'Looks.', {'type': 'object'}),),
    )
    bodies = []
    for content in TURNS:
        encoded = CODEC.encode_request(request, MODEL, stream=stream)
        assert encoded.warnings == ()
        bodies.append(json.loads(encoded.body))
        response = received(answer_of(content), stream=stream)
        results = [
            ToolResponse('look', f'page {part.tool_request.input["page"]}', part.tool_request.ref)
            for part in response.tool_requests
        ]
        request = request.replace(
            messages=(*request.messages, response.message, *([Message.tool(*results)] if results else []))
        )
    return bodies


def check(bodies: list[JSON]) -> None:
    for n, body in enumerate(bodies):
        assert body['thinking'] == {'type': 'enabled', 'budget_tokens': 16_384}
        assistant = [turn['content'] for turn in body['messages'] if turn['role'] == 'assistant']
        assert assistant == TURNS[:n]
    results = [block for turn in bodies[3]['messages'] if turn['role'] == 'user' for block in turn['content']]
    assert [block['tool_use_id'] for block in results if isinstance(block, dict)] == [
        'toolu_1',
        'toolu_2',
        'toolu_22',
        'toolu_3',
    ]


def test_signatures_go_back_over_four_whole_turns() -> None:
    check(converse(stream=False))


def test_signatures_go_back_over_four_streamed_turns() -> None:
    check(converse(stream=True))


def test_a_conversation_survives_a_server() -> None:
    """What a gateway understands of the last turn, it says again to the letter."""
    last = converse(stream=False)[-1]
    decoded = CODEC.decode_request(json.dumps(last).encode())
    assert json.loads(CODEC.encode_request(decoded.request, decoded.model).body) == last
