"""Requests that ask for thinking, and conversations that go on, as each vendor's protocol has them."""

import copy
import json
from typing import Any

QUESTION = 'What is the weather in Paris?'
SCHEMA = {'type': 'object', 'properties': {'city': {'type': 'string'}}, 'required': ['city']}
ENCRYPTED = 'reasoning.encrypted_content'

MESSAGES = '/v1/messages'
RESPONSES = '/v1/responses'
GEMINI = '/v1beta/models/gemini-3-x:generateContent'
OLDER_GEMINI = '/v1beta/models/gemini-2.5-x:generateContent'


def claude(kind: str = 'adaptive', **fields: Any) -> dict[str, Any]:
    return {
        'model': 'claude-x',
        'max_tokens': 2000,
        'thinking': {'type': kind},
        'messages': [{'role': 'user', 'content': QUESTION}],
        'tools': [{'name': 'get_weather', 'input_schema': SCHEMA}],
        **fields,
    }


def claude_goes_on(asked: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    results = [
        {'type': 'tool_result', 'tool_use_id': block['id'], 'content': 'sunny'}
        for block in answer['content']
        if block['type'] == 'tool_use'
    ]
    said = {'role': 'assistant', 'content': copy.deepcopy(answer['content'])}
    return {**asked, 'messages': [*asked['messages'], said, {'role': 'user', 'content': results}]}


def gpt(**fields: Any) -> dict[str, Any]:
    return {
        'model': 'gpt-x',
        'reasoning': {'effort': 'low', 'summary': 'auto'},
        'include': [ENCRYPTED],
        'input': [{'role': 'user', 'content': QUESTION}],
        'tools': [{'type': 'function', 'name': 'get_weather', 'parameters': SCHEMA, 'strict': False}],
        **fields,
    }


def gpt_goes_on(asked: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    results = [
        {'type': 'function_call_output', 'call_id': item['call_id'], 'output': 'sunny'}
        for item in answer['output']
        if item['type'] == 'function_call'
    ]
    return {**asked, 'input': [*asked['input'], *copy.deepcopy(answer['output']), *results]}


def gemini(prompt: str = QUESTION, how: Any = None, **fields: Any) -> dict[str, Any]:
    return {
        'contents': [{'role': 'user', 'parts': [{'text': prompt}]}],
        'generationConfig': {'thinkingConfig': how or {'includeThoughts': True}},
        'tools': [{'functionDeclarations': [{'name': 'get_weather', 'parametersJsonSchema': SCHEMA}]}],
        **fields,
    }


def gemini_parts(answer: dict[str, Any]) -> list[Any]:
    parts: list[Any] = answer['candidates'][0]['content']['parts']
    return parts


def gemini_goes_on(asked: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    results = [
        {'functionResponse': {'id': part['functionCall']['id'], 'name': 'get_weather', 'response': {'output': 'sunny'}}}
        for part in gemini_parts(answer)
        if 'functionCall' in part
    ]
    said = {'role': 'model', 'parts': copy.deepcopy(gemini_parts(answer))}
    return {**asked, 'contents': [*asked['contents'], said, {'role': 'user', 'parts': results}]}


def altered(seal: str) -> str:
    """Another signature of the same form."""
    return ('B' if seal[0] == 'A' else 'A') + seal[1:]


def chunks(events: list[str]) -> list[Any]:
    return [json.loads(event) for event in events if event != '[DONE]']
