"""The Anthropic protocol as its documentation shows it: answers, and the events that stream them."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from lamella.types import StreamPart
from lamella.wire.anthropic import AnthropicCodec
from lamella.wire.sse import SSEDecoder

JSON = dict[str, Any]

USAGE = {
    'input_tokens': 40,
    'cache_creation_input_tokens': 5,
    'cache_read_input_tokens': 100,
    'cache_creation': {'ephemeral_5m_input_tokens': 5, 'ephemeral_1h_input_tokens': 0},
    'output_tokens': 60,
    'output_tokens_details': {'thinking_tokens': 12},
    'service_tier': 'standard',
}
CITATION = {
    'type': 'char_location',
    'cited_text': 'The grass is green. ',
    'document_index': 0,
    'document_title': 'My document',
    'start_char_index': 0,
    'end_char_index': 20,
}
WEB_CITATION = {
    'type': 'web_search_result_location',
    'url': 'https://en.wikipedia.org/wiki/Claude_Shannon',
    'title': 'Claude Shannon',
    'encrypted_index': 'Eo8BCioIAhgBIiQyYjQ0',
    'cited_text': 'Claude Elwood Shannon (April 30, 1916 ...',
}
TEXT = {'type': 'text', 'text': "Hello! I'm Claude – 你好 👋"}
CITED = {'type': 'text', 'text': 'the grass is green', 'citations': [CITATION, WEB_CITATION]}
THINKING = {
    'type': 'thinking',
    'thinking': 'Let me think.\n17 × 6 = 102',
    'signature': 'EqQBCgIYAhIM1gbcDa9GJwZA2b3h==',
}
HIDDEN = {'type': 'thinking', 'thinking': '', 'signature': 'EuQBCkYIARgC'}
REDACTED = {'type': 'redacted_thinking', 'data': 'EmwKAhgBEgy3va3pzix/LafPsn4aDFIT2Xlxh0L5L8rLVyIwxtE3rAFBa8cr3qpP'}
WEATHER = {'type': 'tool_use', 'id': 'toolu_01A', 'name': 'get_weather', 'input': {'city': 'Zürich', 'days': [1, 2]}}
TIME = {'type': 'tool_use', 'id': 'toolu_01B', 'name': 'get_time', 'input': {}, 'caller': {'type': 'direct'}}
SEARCH = {
    'type': 'server_tool_use',
    'id': 'srvtoolu_01',
    'name': 'web_search',
    'input': {'query': 'claude shannon birth date'},
}
FOUND = {
    'type': 'web_search_tool_result',
    'tool_use_id': 'srvtoolu_01',
    'content': [
        {'type': 'web_search_result', 'url': 'https://example.org', 'title': 'x', 'encrypted_content': 'EqgfCioI'}
    ],
}
UNHEARD_OF = {'type': 'hologram', 'frames': [1, None, {'a': 'b'}], 'depth': 3}

ANSWERS: dict[str, JSON] = {
    'text': {'content': [TEXT], 'stop_reason': 'end_turn'},
    'nothing': {'content': [], 'stop_reason': 'end_turn'},
    'empty text': {'content': [{'type': 'text', 'text': ''}], 'stop_reason': 'end_turn'},
    'citations': {'content': [TEXT, CITED, {'type': 'text', 'text': '.'}], 'stop_reason': 'end_turn'},
    'thinking': {'content': [THINKING, REDACTED, HIDDEN, TEXT], 'stop_reason': 'end_turn'},
    'tools': {'content': [THINKING, TEXT, WEATHER, TIME], 'stop_reason': 'tool_use'},
    'server tools': {'content': [SEARCH, FOUND, CITED], 'stop_reason': 'pause_turn', 'container': {'id': 'c_1'}},
    'unknown block': {
        'content': [UNHEARD_OF, TEXT],
        'stop_reason': 'end_turn',
        'context_management': {'applied_edits': []},
    },
    'stop sequence': {'content': [TEXT], 'stop_reason': 'stop_sequence', 'stop_sequence': 'END'},
    'limit': {'content': [TEXT], 'stop_reason': 'max_tokens'},
    'context window': {'content': [TEXT], 'stop_reason': 'model_context_window_exceeded'},
    'refusal': {
        'content': [TEXT],
        'stop_reason': 'refusal',
        'stop_details': {'type': 'refusal', 'category': 'cyber', 'explanation': 'This was refused.'},
    },
    'unknown reason': {'content': [TEXT], 'stop_reason': 'sunset'},
}


def message(name: str) -> JSON:
    return {
        'id': 'msg_013Zva2CMHLNnXjNJJKqJ2EF',
        'type': 'message',
        'role': 'assistant',
        'model': 'claude-opus-4-6',
        'stop_sequence': None,
        'usage': USAGE,
        **ANSWERS[name],
    }


def events_of(answer: JSON, size: int = 4) -> Iterator[JSON]:
    """The events of a message, with texts in pieces of `size` characters."""
    start = {**answer, 'content': [], 'stop_reason': None, 'stop_sequence': None}
    start = {k: v for k, v in start.items() if k not in ('stop_details', 'container', 'context_management')}
    yield {'type': 'message_start', 'message': {**start, 'usage': {**answer['usage'], 'output_tokens': 1}}}
    yield {'type': 'ping'}
    for index, block in enumerate(answer['content']):
        empty, deltas = in_pieces(block, size)
        yield {'type': 'content_block_start', 'index': index, 'content_block': empty}
        for delta in deltas:
            yield {'type': 'content_block_delta', 'index': index, 'delta': delta}
        yield {'type': 'content_block_stop', 'index': index}
    delta = {k: answer.get(k) for k in ('stop_reason', 'stop_sequence', 'stop_details', 'container')}
    more = {k: answer[k] for k in ('context_management',) if k in answer}
    yield {
        'type': 'message_delta',
        'delta': delta,
        'usage': {'output_tokens': answer['usage']['output_tokens']},
        **more,
    }
    yield {'type': 'message_stop'}


def in_pieces(block: JSON, size: int) -> tuple[JSON, list[JSON]]:
    match block:
        case {'type': 'text', 'text': text, **rest}:
            cited = [{'type': 'citations_delta', 'citation': c} for c in rest.pop('citations', [])]
            texts = [{'type': 'text_delta', 'text': piece} for piece in cut(text, size)]
            return {'type': 'text', 'text': '', **rest}, [*cited, *texts]
        case {'type': 'thinking', 'thinking': text, 'signature': signature}:
            thoughts = [{'type': 'thinking_delta', 'thinking': piece} for piece in cut(text, size)]
            signed = {'type': 'signature_delta', 'signature': signature}
            return {'type': 'thinking', 'thinking': '', 'signature': ''}, [*thoughts, signed]
        case {'type': 'tool_use' | 'server_tool_use', 'input': value}:
            written = [{'type': 'input_json_delta', 'partial_json': p} for p in ('', *cut(json.dumps(value), size))]
            return {**block, 'input': {}}, written if value else written[:1]
    return block, []


def cut(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def body_of(events: Iterable[JSON]) -> bytes:
    return b''.join(f'event: {e["type"]}\ndata: {json.dumps(e)}\n\n'.encode() for e in events)


def parts_of(*chunks: bytes) -> list[StreamPart]:
    """The parts of a streamed answer that arrives in these pieces."""
    splitter, decoder = SSEDecoder(), AnthropicCodec().stream_decoder()
    parts: list[StreamPart] = []
    for chunk in chunks:
        for event in splitter.feed(chunk):
            parts += decoder.feed(event)
    for event in splitter.finish():
        parts += decoder.feed(event)
    return [*parts, *decoder.finish()]
