"""Answers of Chat Completions in the documented shapes, whole and as the chunks that say the same.

platform.openai.com/docs/api-reference/chat/object and /chat-streaming; compatible servers where named.
"""

import json
from typing import Any

from lamella.wire.sse import Event

HEAD = {
    'id': 'chatcmpl-1',
    'created': 1741569952,
    'model': 'gpt-x-2026-01-01',
    'service_tier': 'default',
    'system_fingerprint': 'fp_1',
}
USAGE = {
    'prompt_tokens': 19,
    'completion_tokens': 10,
    'total_tokens': 29,
    'prompt_tokens_details': {'cached_tokens': 5, 'audio_tokens': 0},
    'completion_tokens_details': {
        'reasoning_tokens': 3,
        'audio_tokens': 0,
        'accepted_prediction_tokens': 2,
        'rejected_prediction_tokens': 0,
    },
}
CITATION = {
    'type': 'url_citation',
    'url_citation': {'url': 'https://h/a', 'title': 'A', 'start_index': 0, 'end_index': 5},
}
TOKENS = [{'token': t, 'logprob': -0.1, 'bytes': None, 'top_logprobs': []} for t in ('Hel', 'lo')]
WAV = 'UklGRi4uLi5XQVZF'


def call(index: int, id: str, name: str, arguments: str) -> dict[str, Any]:
    return {'id': id, 'type': 'function', 'function': {'name': name, 'arguments': arguments}}


def first(index: int, id: str, name: str, arguments: str = '') -> dict[str, Any]:
    return {'tool_calls': [{'index': index, **call(index, id, name, arguments)}]}


def more(index: int, arguments: str) -> dict[str, Any]:
    return {'tool_calls': [{'index': index, 'function': {'arguments': arguments}}]}


# name: (message, finish reason, other fields of the choice, the deltas that say the same)
ANSWERS: dict[str, tuple[dict[str, Any], str, dict[str, Any], list[dict[str, Any]]]] = {
    'text': (
        {'content': 'Hello', 'refusal': None, 'annotations': []},
        'stop',
        {},
        [{'role': 'assistant', 'content': '', 'refusal': None}, {'content': 'Hel'}, {'content': 'lo'}, {}],
    ),
    'cut by the token limit': ({'content': 'Hel'}, 'length', {}, [{'content': 'H'}, {'content': 'el'}]),
    'parallel tool calls': (
        {
            'content': None,
            'tool_calls': [call(0, 'c1', 'a', '{"x": 1}'), call(1, 'c2', 'b', '{}'), call(2, 'c3', 'a', '')],
        },
        'tool_calls',
        {},
        [
            {'role': 'assistant', 'content': None},
            first(0, 'c1', 'a'),
            more(0, '{"x"'),
            more(0, ': 1}'),
            first(1, 'c2', 'b', '{'),
            more(1, '}'),
            first(2, 'c3', 'a'),
        ],
    ),
    'text and a tool call': (
        {'content': 'Looking.', 'tool_calls': [call(0, 'c1', 'a', '[1, 2]')]},
        'tool_calls',
        {},
        [{'content': 'Looking.'}, first(0, 'c1', 'a', '[1, 2]')],
    ),
    'arguments that are no JSON': (
        {'content': None, 'tool_calls': [call(0, 'c1', 'a', '{"x": oops}')]},
        'tool_calls',
        {},
        [first(0, 'c1', 'a', '{"x": '), more(0, 'oops}')],
    ),
    'a tool call cut by the token limit': (
        {
            'content': 'So',
            'tool_calls': [call(0, 'c1', 'a', '{}1'), call(1, 'c2', 'b', '{"x": "y'), call(2, 'c3', 'c', '')],
        },
        'length',
        {},
        [{'content': 'So'}, first(0, 'c1', 'a', '{}1'), first(1, 'c2', 'b', '{"x": "y'), first(2, 'c3', 'c')],
    ),
    'a refusal': (
        {'content': None, 'refusal': "I can't help with that."},
        'stop',
        {},
        [{'content': None, 'refusal': ''}, {'refusal': "I can't "}, {'refusal': 'help with that.'}],
    ),
    'blocked by the content filter': ({'content': ''}, 'content_filter', {}, [{'content': ''}]),
    'citations': (
        {'content': 'Hello', 'annotations': [CITATION]},
        'stop',
        {},
        [{'content': 'Hello'}, {'annotations': [CITATION]}],
    ),
    'log probabilities': (
        {'content': 'Hello'},
        'stop',
        {'logprobs': {'content': TOKENS, 'refusal': None}},
        [
            {'content': 'Hel', '_choice': {'logprobs': {'content': TOKENS[:1], 'refusal': None}}},
            {'content': 'lo', '_choice': {'logprobs': {'content': TOKENS[1:], 'refusal': None}}},
        ],
    ),
    'reasoning_content (DeepSeek)': (
        {'reasoning_content': 'Hm, well', 'content': 'Yes'},
        'stop',
        {},
        [{'reasoning_content': 'Hm, '}, {'content': None, 'reasoning_content': 'well'}, {'content': 'Yes'}],
    ),
    'reasoning with details (OpenRouter)': (
        {
            'reasoning': 'Hm, well',
            'reasoning_details': [{'type': 'reasoning.text', 'text': 'Hm, well', 'signature': 's', 'index': 0}],
            'content': 'Yes',
        },
        'stop',
        {'native_finish_reason': 'end_turn'},
        [
            {'reasoning': 'Hm, ', 'reasoning_details': [{'type': 'reasoning.text', 'text': 'Hm, ', 'index': 0}]},
            {'reasoning': 'well', 'reasoning_details': [{'type': 'reasoning.text', 'text': 'well', 'index': 0}]},
            {'reasoning_details': [{'type': 'reasoning.text', 'signature': 's', 'index': 0}]},
            {'content': 'Yes', '_choice': {'native_finish_reason': 'end_turn'}},
        ],
    ),
    'content in blocks (Mistral)': (
        {
            'content': [
                {'type': 'thinking', 'thinking': [{'type': 'text', 'text': 'Hm'}]},
                {'type': 'text', 'text': 'Yes'},
                {'type': 'reference', 'reference_ids': [1]},
            ]
        },
        'stop',
        {},
        [
            {'content': [{'type': 'thinking', 'thinking': [{'type': 'text', 'text': 'H'}]}]},
            {'content': [{'type': 'thinking', 'thinking': [{'type': 'text', 'text': 'm'}]}]},
            {'content': 'Yes'},
            {'content': [{'type': 'reference', 'reference_ids': [1]}]},
        ],
    ),
    'images (OpenRouter)': (
        {'content': 'Here', 'images': [{'type': 'image_url', 'image_url': {'url': 'data:image/png;base64,iVBORw=='}}]},
        'stop',
        {},
        [
            {'content': 'Here'},
            {'images': [{'type': 'image_url', 'image_url': {'url': 'data:image/png;base64,iVBORw=='}}]},
        ],
    ),
    'sound': (
        {'content': None, 'audio': {'id': 'audio_1', 'expires_at': 9, 'data': WAV, 'transcript': 'Hello'}},
        'stop',
        {},
        [
            {'audio': {'id': 'audio_1', 'transcript': 'Hel'}},
            {'audio': {'transcript': 'lo', 'data': WAV[:8]}},
            {'audio': {'data': WAV[8:]}},
            {'audio': {'expires_at': 9}},
        ],
    ),
    'a custom tool': (
        {'content': None, 'tool_calls': [{'id': 'c1', 'type': 'custom', 'custom': {'name': 'sh', 'input': 'ls -l'}}]},
        'tool_calls',
        {},
        [
            {'tool_calls': [{'index': 0, 'id': 'c1', 'type': 'custom', 'custom': {'name': 'sh', 'input': ''}}]},
            {'tool_calls': [{'index': 0, 'custom': {'input': 'ls '}}]},
            {'tool_calls': [{'index': 0, 'custom': {'input': '-l'}}]},
        ],
    ),
    'the older function_call': (
        {'content': None, 'function_call': {'name': 'a', 'arguments': '{"x":1}'}},
        'function_call',
        {},
        [{'function_call': {'name': 'a', 'arguments': '{"x"'}}, {'function_call': {'arguments': ':1}'}}],
    ),
    'stop with a forced call': (
        {'content': None, 'tool_calls': [call(0, 'c1', 'a', '{}')]},
        'stop',
        {},
        [first(0, 'c1', 'a', '{}')],
    ),
    'fields nobody knows': (
        {'content': 'Hi', 'mood': 'good', 'notes': [1, 2]},
        'insufficient_system_resource',
        {'stop_reason': 7},
        [{'content': 'Hi', 'mood': 'go'}, {'mood': 'od', 'notes': [1]}, {'notes': [2], '_choice': {'stop_reason': 7}}],
    ),
}


def whole(name: str) -> dict[str, Any]:
    message, finish, choice, _ = ANSWERS[name]
    choices = [
        {'index': 0, 'message': {'role': 'assistant', **message}, 'logprobs': None, 'finish_reason': finish, **choice}
    ]
    return {**HEAD, 'object': 'chat.completion', 'choices': choices, 'usage': USAGE}


def chunks(name: str) -> list[dict[str, Any]]:
    _, finish, _, deltas = ANSWERS[name]
    head = {**HEAD, 'object': 'chat.completion.chunk'}
    found = []
    for delta in deltas:
        delta = dict(delta)
        choice = delta.pop('_choice', {})
        choices = [{'index': 0, 'delta': delta, 'logprobs': None, 'finish_reason': None, **choice}]
        found.append({**head, 'choices': choices, 'usage': None, 'obfuscation': 'xyz'})
    last = {'index': 0, 'delta': {}, 'logprobs': None, 'finish_reason': finish}
    return [*found, {**head, 'choices': [last], 'usage': None}, {**head, 'choices': [], 'usage': USAGE}]


def events(name: str) -> list[Event]:
    return [*[Event(data=json.dumps(chunk)) for chunk in chunks(name)], Event(data='[DONE]')]
