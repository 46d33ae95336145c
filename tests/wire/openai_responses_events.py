"""Answers of the Responses API in the documented shapes, and their streams as the vendor sends them.

Shapes: platform.openai.com/docs/api-reference/responses/object and /responses-streaming.
"""

import json
from collections.abc import Iterator
from typing import Any

from lamella.types import ModelResponse, StreamPart, fold
from lamella.wire.openai_responses import OpenAIResponsesCodec
from lamella.wire.sse import SSEDecoder

JSON = dict[str, Any]
CODEC = OpenAIResponsesCodec()
USAGE = {
    'input_tokens': 36,
    'input_tokens_details': {'cached_tokens': 12, 'cache_write_tokens': 3},
    'output_tokens': 87,
    'output_tokens_details': {'reasoning_tokens': 50},
    'total_tokens': 123,
}
CITATION = {'type': 'url_citation', 'start_index': 0, 'end_index': 5, 'url': 'https://a.example/x', 'title': 'A page'}
FILE_CITATION = {'type': 'file_citation', 'file_id': 'file_1', 'filename': 'deep.pdf', 'index': 3}
LOGPROB = {'token': 'Hi', 'bytes': [72, 105], 'logprob': -0.1, 'top_logprobs': []}


def text(words: str, *annotations: JSON, **more: Any) -> JSON:
    return {'type': 'output_text', 'text': words, 'annotations': list(annotations), 'logprobs': [], **more}


def message(*content: JSON, id: str = 'msg_1', **more: Any) -> JSON:
    return {'type': 'message', 'id': id, 'status': 'completed', 'role': 'assistant', 'content': list(content), **more}


def reasoning(*summary: str, id: str = 'rs_1', **more: Any) -> JSON:
    texts = [{'type': 'summary_text', 'text': words} for words in summary]
    return {'type': 'reasoning', 'id': id, 'summary': texts, **more}


def call(name: str, arguments: str, id: str = 'fc_1', call_id: str = 'call_1', **more: Any) -> JSON:
    head = {'type': 'function_call', 'id': id, 'status': 'completed', 'call_id': call_id}
    return {**head, 'name': name, 'arguments': arguments, **more}


def answer(*output: JSON, **more: Any) -> JSON:
    return {
        'id': 'resp_1',
        'object': 'response',
        'created_at': 1741476777,
        'status': 'completed',
        'error': None,
        'incomplete_details': None,
        'instructions': None,
        'max_output_tokens': None,
        'model': 'gpt-x-2026-01-01',
        'output': list(output),
        'parallel_tool_calls': True,
        'previous_response_id': None,
        'reasoning': {'effort': 'low', 'summary': 'auto'},
        'store': True,
        'temperature': 1.0,
        'text': {'format': {'type': 'text'}},
        'tool_choice': 'auto',
        'tools': [],
        'top_p': 1.0,
        'truncation': 'disabled',
        'usage': USAGE,
        'metadata': {},
        **more,
    }


INCOMPLETE = {'status': 'incomplete', 'incomplete_details': {'reason': 'max_output_tokens'}}
SEARCH = {'type': 'web_search_call', 'id': 'ws_1', 'status': 'completed', 'action': {'type': 'search', 'query': 'x'}}
ANSWERS: dict[str, JSON] = {
    'text': answer(message(text('In a peaceful grove – a unicorn 🦄 named Lumina.'))),
    'nothing': answer(),
    'two texts': answer(message(text('One.'), text('Two.'))),
    'two messages': answer(
        message(text('I look.'), phase='commentary'), message(text('Found.'), id='msg_2', phase='final_answer')
    ),
    'citations': answer(SEARCH, message(text('A page says so.', CITATION), text('So does a file.', FILE_CITATION))),
    'logprobs': answer(message(text('Hi', logprobs=[LOGPROB]))),
    'refusal': answer(message({'type': 'refusal', 'refusal': 'I will not.'})),
    'half a refusal': answer(message(text('Well,'), {'type': 'refusal', 'refusal': 'no.'})),
    'a block of news': answer(message({'type': 'output_news', 'headline': 'Big'}, text('See above.'))),
    'tools': answer(
        reasoning('First.', 'Second.', encrypted_content='gAAAA=='),
        message(text('I call two.')),
        call('weather', '{"city":"Zürich"}'),
        call('time', '{}', id='fc_2', call_id='call_2', namespace='clocks'),
    ),
    'silent reasoning': answer(reasoning(), call('time', '{}')),
    'raw reasoning': answer(
        {**reasoning(), 'content': [{'type': 'reasoning_text', 'text': 'Hm.'}], 'status': 'completed'},
        message(text('Done.')),
    ),
    'custom tool': answer(
        {
            'type': 'custom_tool_call',
            'id': 'ctc_1',
            'status': 'completed',
            'call_id': 'call_1',
            'name': 'sql',
            'input': 'SELECT 1',
        }
    ),
    'image': answer(
        {'type': 'image_generation_call', 'id': 'ig_1', 'status': 'completed', 'result': 'iVBORw0KGgo='},
        message(text('A picture.')),
    ),
    'unknown': answer({'type': 'crystal_ball_call', 'id': 'cb_1', 'mist': [1, {'deep': None}]}, message(text('Yes.'))),
    'invalid json': answer(call('weather', '{"city": Zü'), call('time', '{}', id='fc_2', call_id='call_2')),
    'length': answer(message(text('In a pea'), status='incomplete'), **INCOMPLETE),
    'cut call': answer(
        message(text('So:')), call('time', '{}'), call('weather', '{"ci', 'fc_2', 'call_2', status='incomplete'), **INCOMPLETE
    ),
    'filtered': answer(
        message(text('The')), status='incomplete', incomplete_details={'reason': 'content_filter'}
    ),
    'new fields': answer(
        message(text('Hi', tone='warm'), mood='good'),
        call('time', '{}', caller={'type': 'direct'}),
        service_tier='flex',
        incomplete_details={'reason': 'boredom', 'level': 3},
        usage={**USAGE, 'carbon': 1, 'output_tokens_details': {'reasoning_tokens': 50, 'dreams': 2}},
        status='incomplete',
    ),
}  # fmt: skip


def body(name: str) -> bytes:
    return json.dumps(ANSWERS[name]).encode()


def whole(name: str) -> ModelResponse:
    return CODEC.decode_response(body(name))


def pieces(words: str, size: int) -> list[str]:
    return [words[i : i + size] for i in range(0, len(words), size)]


def events_of(data: JSON, size: int = 4) -> list[JSON]:
    """The vendor's events for an answer, with texts in pieces of `size` characters."""
    begun = {**data, 'status': 'in_progress', 'output': [], 'usage': None, 'incomplete_details': None}
    events = [{'type': 'response.created', 'response': begun}, {'type': 'response.in_progress', 'response': begun}]
    for index, item in enumerate(data['output']):
        events += _item_events(item, index, size)
    end = 'response.incomplete' if data['status'] == 'incomplete' else 'response.completed'
    events.append({'type': end, 'response': data})
    return [{**event, 'sequence_number': number} for number, event in enumerate(events)]


def _item_events(item: JSON, index: int, size: int) -> Iterator[JSON]:
    where = {'item_id': item.get('id'), 'output_index': index}
    begun = {key: value for key, value in item.items() if key not in ('encrypted_content', 'result')}
    empty = {'message': {'content': []}, 'reasoning': {'summary': []}, 'function_call': {'arguments': ''}}
    begun |= {'status': 'in_progress', **empty.get(item['type'], {})}
    yield {'type': 'response.output_item.added', 'output_index': index, 'item': begun}
    if item['type'] == 'message':
        for i, block in enumerate(item['content']):
            yield from _block_events(block, {**where, 'content_index': i}, size)
    elif item['type'] == 'reasoning':
        yield from _reasoning_events(item, where, size)
    elif item['type'] == 'function_call':
        for piece in pieces(item['arguments'], size):
            yield {'type': 'response.function_call_arguments.delta', **where, 'delta': piece}
        yield {'type': 'response.function_call_arguments.done', **where, 'arguments': item['arguments']}
    elif item['type'] == 'web_search_call':
        yield {'type': 'response.web_search_call.searching', **where}
    elif item['type'] == 'custom_tool_call':
        for piece in pieces(item['input'], size):
            yield {'type': 'response.custom_tool_call_input.delta', **where, 'delta': piece}
        yield {'type': 'response.custom_tool_call_input.done', **where, 'input': item['input']}
    yield {'type': 'response.output_item.done', 'output_index': index, 'item': item}


def _block_events(block: JSON, where: JSON, size: int) -> Iterator[JSON]:
    if block['type'] not in ('refusal', 'output_text'):
        yield {'type': 'response.content_part.added', **where, 'part': block}
        yield {'type': 'response.content_part.done', **where, 'part': block}
        return
    kind = 'refusal' if block['type'] == 'refusal' else 'output_text'
    words = block['refusal'] if kind == 'refusal' else block['text']
    field = 'refusal' if kind == 'refusal' else 'text'
    yield {'type': 'response.content_part.added', **where, 'part': {**block, field: ''}}
    for piece in pieces(words, size):
        yield {'type': f'response.{kind}.delta', **where, 'delta': piece, 'obfuscation': 'x7'}
    for i, annotation in enumerate(block.get('annotations', ())):
        where_in = {**where, 'annotation_index': i, 'annotation': annotation}
        yield {'type': 'response.output_text.annotation.added', **where_in}
    yield {'type': f'response.{kind}.done', **where, field: words}
    yield {'type': 'response.content_part.done', **where, 'part': block}


def _reasoning_events(item: JSON, where: JSON, size: int) -> Iterator[JSON]:
    for i, block in enumerate(item['summary']):
        at = {**where, 'summary_index': i}
        yield {'type': 'response.reasoning_summary_part.added', **at, 'part': {**block, 'text': ''}}
        for piece in pieces(block['text'], size):
            yield {'type': 'response.reasoning_summary_text.delta', **at, 'delta': piece}
        yield {'type': 'response.reasoning_summary_text.done', **at, 'text': block['text']}
        yield {'type': 'response.reasoning_summary_part.done', **at, 'part': block}
    for i, block in enumerate(item.get('content', ())):
        for piece in pieces(block['text'], size):
            yield {'type': 'response.reasoning_text.delta', **where, 'content_index': i, 'delta': piece}
        yield {'type': 'response.reasoning_text.done', **where, 'content_index': i, 'text': block['text']}


def sse(events: list[JSON]) -> bytes:
    return b''.join(
        [f'event: {event["type"]}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n'.encode() for event in events]
    )


def parts_of(*chunks: bytes) -> list[StreamPart]:
    """What the decoder makes of these bytes."""
    events, decoder = SSEDecoder(), CODEC.stream_decoder()
    parts = [part for chunk in chunks for event in events.feed(chunk) for part in decoder.feed(event)]
    parts += [part for event in events.finish() for part in decoder.feed(event)]
    return [*parts, *decoder.finish()]


def sent_events(parts: list[StreamPart], **options: Any) -> bytes:
    """The body that the encoder makes of these parts."""
    encoder = CODEC.stream_encoder(model='gpt-x-2026-01-01', **options)
    return b''.join([encoder.feed(part) for part in parts]) + encoder.finish()


def folded(*chunks: bytes) -> ModelResponse:
    return fold(parts_of(*chunks))
