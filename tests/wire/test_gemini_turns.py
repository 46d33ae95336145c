"""Function calling over several turns: each thought signature goes back on the part that it came with."""

import json
from typing import Any

import pytest

from lamella.types import Message, ModelRequest, ToolDefinition, ToolResponse, fold
from lamella.wire.gemini import GeminiCodec
from lamella.wire.sse import SSEDecoder, encode_event

CODEC = GeminiCodec()
TOOLS = (ToolDefinition('look', 'Looks.', {'type': 'object', 'properties': {'at': {'type': 'string'}}}),)


def call(at: str, id: str | None = None, signature: str | None = None) -> dict[str, Any]:
    body = {'name': 'look', 'args': {'at': at}}
    part: dict[str, Any] = {'functionCall': body if id is None else {'id': id, **body}}
    return part if signature is None else {**part, 'thoughtSignature': signature}


# What the model says in four turns: two calls at once of which the first is signed, a call after signed text, a call whose
# signature comes behind it, and the answer with the signature on its last, empty part
# (ai.google.dev/gemini-api/docs/thought-signatures).
TURNS = [
    [{'text': 'Two places.', 'thought': True}, call('a', 'c1', 'QTE='), call('b', 'c2')],
    [{'text': 'One more. ', 'thoughtSignature': 'QjE='}, call('c', 'c3', 'QjI=')],
    [call('d'), {'text': '', 'thoughtSignature': 'QzE='}],
    [{'text': 'There it '}, {'text': 'is.'}, {'text': '', 'thoughtSignature': 'RDE='}],
]
SENT = [*TURNS[:3], [{'text': 'There it is.'}, {'text': '', 'thoughtSignature': 'RDE='}]]


def answered(parts: list[dict[str, Any]], how: str) -> Message:
    """The model's message, from a whole answer, from one that a gateway said again, or from a stream of one part a chunk."""
    done = {'finishReason': 'STOP', 'index': 0}
    body = json.dumps({'candidates': [{'content': {'role': 'model', 'parts': parts}, **done}]}).encode()
    if how == 'whole':
        return CODEC.decode_response(body).message
    if how == 'gateway':
        return CODEC.decode_response(CODEC.encode_response(CODEC.decode_response(body), model='m')).message
    chunks = [{'candidates': [{'content': {'role': 'model', 'parts': [part]}}]} for part in parts]
    stream = b''.join([encode_event(json.dumps(item)) for item in [*chunks, {'candidates': [done]}]])
    decoder = CODEC.stream_decoder()
    read = [part for event in SSEDecoder().feed(stream) for part in decoder.feed(event)]
    return fold([*read, *decoder.finish()]).message


@pytest.mark.parametrize('how', ['whole', 'streamed', 'gateway'])
@pytest.mark.parametrize('model', ['gemini-2.5-pro', 'gemini-3-pro'])
def test_four_turns_return_each_signature_on_its_part(how: str, model: str) -> None:
    messages = [Message.user('Where is the cat?')]
    for turn, parts in enumerate(TURNS):
        body = json.loads(CODEC.encode_request(ModelRequest(tuple(messages), tools=TOOLS), model).body)
        assert [content['parts'] for content in body['contents'] if content['role'] == 'model'] == SENT[:turn]
        message = answered(parts, how)
        messages.append(message)
        messages += _answers(message)

    final = CODEC.encode_request(ModelRequest((*messages, Message.user('Thanks!')), tools=TOOLS), model)

    contents = json.loads(final.body)['contents']
    assert [content['role'] for content in contents] == [
        'user',
        'model',
        'user',
        'model',
        'user',
        'model',
        'user',
        'model',
        'user',
    ]
    assert [content['parts'] for content in contents if content['role'] == 'model'] == SENT
    assert contents[2]['parts'] == [
        {'functionResponse': {'id': 'c1', 'name': 'look', 'response': {'output': 'nothing at a'}}},
        {'functionResponse': {'id': 'c2', 'name': 'look', 'response': {'output': 'nothing at b'}}},
    ]
    assert contents[6]['parts'] == [{'functionResponse': {'name': 'look', 'response': {'output': 'nothing at d'}}}]
    assert final.warnings == ()


def _answers(message: Message) -> list[Message]:
    """One message each, as the engine may give them."""
    requests = [part.tool_request for part in message.tool_requests]
    return [Message.tool(ToolResponse(asked.name, f'nothing at {asked.input["at"]}', asked.ref)) for asked in requests]
