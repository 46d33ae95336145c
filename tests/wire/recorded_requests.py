"""Requests as the vendors' documentation shows them, with many features in one body and every value but once.

platform.openai.com/docs/api-reference/chat/create and /responses/create, platform.claude.com/docs/en/api/messages,
ai.google.dev/api/generate-content.
"""

from __future__ import annotations

from typing import Any

PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB'
PDF = 'JVBERi0xLjQKJcOkw7zDtsOf'
WAV = 'UklGRiQAAABXQVZFZm10IBAAAAAB'
SCHEMA = {
    'type': 'object',
    'properties': {'city': {'type': 'string', 'description': 'City and state'}},
    'required': ['city'],
}
ANSWER = {
    'type': 'object',
    'properties': {'mood': {'type': 'string'}},
    'required': ['mood'],
    'additionalProperties': False,
}

CHAT: dict[str, Any] = {
    'model': 'gpt-x',
    'messages': [
        {'role': 'developer', 'content': 'You are a helpful assistant.'},
        {
            'role': 'user',
            'name': 'alice',
            'content': [
                {'type': 'text', 'text': 'What is in this image?'},
                {'type': 'image_url', 'image_url': {'url': f'data:image/png;base64,{PNG}', 'detail': 'high'}},
                {'type': 'image_url', 'image_url': {'url': 'https://example.com/boardwalk.jpg'}},
                {
                    'type': 'file',
                    'file': {'filename': 'draconomicon.pdf', 'file_data': f'data:application/pdf;base64,{PDF}'},
                },
                {'type': 'input_audio', 'input_audio': {'data': WAV, 'format': 'wav'}},
            ],
        },
        {
            'role': 'assistant',
            'content': 'Let me look that up.',
            'tool_calls': [
                {
                    'id': 'call_a',
                    'type': 'function',
                    'function': {'name': 'get_weather', 'arguments': '{"city":"Boston"}'},
                },
                {
                    'id': 'call_b',
                    'type': 'function',
                    'function': {'name': 'get_time', 'arguments': '{"zone":"Boston/US"}'},
                },
            ],
        },
        {'role': 'tool', 'tool_call_id': 'call_a', 'content': '{"celsius":22}'},
        {'role': 'tool', 'tool_call_id': 'call_b', 'content': 'half past nine'},
        {'role': 'user', 'content': 'And tomorrow?'},
    ],
    'tools': [
        {
            'type': 'function',
            'function': {'name': 'get_weather', 'description': 'Get the weather', 'parameters': SCHEMA, 'strict': True},
        }
    ],
    'tool_choice': 'auto',
    'parallel_tool_calls': False,
    'response_format': {
        'type': 'json_schema',
        'json_schema': {'name': 'mood_of_day', 'strict': True, 'schema': ANSWER},
    },
    'temperature': 0.25,
    'top_p': 0.75,
    'max_completion_tokens': 3001,
    'seed': 4711,
    'presence_penalty': 0.125,
    'frequency_penalty': 0.375,
    'stop': ['THE END', 'FINIS'],
    'logprobs': True,
    'top_logprobs': 7,
    'logit_bias': {'50256': -100},
    'n': 1,
    'user': 'user-1234',
    'safety_identifier': 'hashed-user',
    'metadata': {'purpose': 'testing'},
    'service_tier': 'flex',
    'store': True,
    'prediction': {'type': 'content', 'content': 'foreseen words'},
}

RESPONSES: dict[str, Any] = {
    'model': 'gpt-x',
    'instructions': 'You are a helpful assistant.',
    'input': [
        {
            'type': 'message',
            'role': 'user',
            'content': [
                {'type': 'input_text', 'text': 'What is in this image?'},
                {'type': 'input_image', 'image_url': f'data:image/png;base64,{PNG}', 'detail': 'high'},
                {
                    'type': 'input_file',
                    'filename': 'draconomicon.pdf',
                    'file_data': f'data:application/pdf;base64,{PDF}',
                },
                {'type': 'input_file', 'file_id': 'file-abc123'},
            ],
        },
        {
            'type': 'reasoning',
            'id': 'rs_1',
            'summary': [{'type': 'summary_text', 'text': 'I shall look.'}],
            'encrypted_content': 'gAAAAABsealed',
        },
        {
            'type': 'function_call',
            'id': 'fc_1',
            'call_id': 'call_a',
            'name': 'get_weather',
            'arguments': '{"city":"Boston"}',
        },
        {'type': 'function_call_output', 'call_id': 'call_a', 'output': '{"celsius":22}'},
        {
            'type': 'web_search_call',
            'id': 'ws_1',
            'status': 'completed',
            'action': {'type': 'search', 'query': 'tides'},
        },
        {
            'type': 'message',
            'id': 'msg_1',
            'role': 'assistant',
            'status': 'completed',
            'content': [{'type': 'output_text', 'text': 'It is warm.', 'annotations': []}],
        },
        {'type': 'message', 'role': 'user', 'content': 'And tomorrow?'},
    ],
    'tools': [
        {
            'type': 'function',
            'name': 'get_weather',
            'description': 'Get the weather',
            'parameters': SCHEMA,
            'strict': True,
        },
        {'type': 'web_search', 'search_context_size': 'medium'},
    ],
    'tool_choice': 'required',
    'parallel_tool_calls': False,
    'text': {
        'format': {'type': 'json_schema', 'name': 'mood_of_day', 'strict': True, 'schema': ANSWER},
        'verbosity': 'low',
    },
    'reasoning': {'effort': 'medium', 'summary': 'auto'},
    'include': ['web_search_call.action.sources'],
    'temperature': 0.25,
    'top_p': 0.75,
    'max_output_tokens': 3001,
    'max_tool_calls': 3,
    'truncation': 'disabled',
    'store': True,
    'metadata': {'purpose': 'testing'},
    'service_tier': 'flex',
    'safety_identifier': 'hashed-user',
}

ANTHROPIC: dict[str, Any] = {
    'model': 'claude-x',
    'max_tokens': 3001,
    'system': [
        {'type': 'text', 'text': 'You are a helpful assistant.', 'cache_control': {'type': 'ephemeral', 'ttl': '1h'}}
    ],
    'messages': [
        {
            'role': 'user',
            'content': [
                {'type': 'text', 'text': 'What is in this image?'},
                {'type': 'image', 'source': {'type': 'base64', 'media_type': 'image/png', 'data': PNG}},
                {'type': 'image', 'source': {'type': 'url', 'url': 'https://example.com/boardwalk.jpg'}},
                {
                    'type': 'document',
                    'title': 'Dragons',
                    'source': {'type': 'base64', 'media_type': 'application/pdf', 'data': PDF},
                    'citations': {'enabled': True},
                },
                {'type': 'document', 'source': {'type': 'url', 'url': 'https://example.com/long.pdf'}},
            ],
        },
        {
            'role': 'assistant',
            'content': [
                {'type': 'thinking', 'thinking': 'I shall look.', 'signature': 'EuYBsigned'},
                {'type': 'redacted_thinking', 'data': 'EmwKhidden'},
                {'type': 'text', 'text': 'Let me look that up.'},
                {'type': 'tool_use', 'id': 'toolu_a', 'name': 'get_weather', 'input': {'city': 'Boston'}},
                {'type': 'server_tool_use', 'id': 'srvtoolu_1', 'name': 'web_search', 'input': {'query': 'tides'}},
            ],
        },
        {
            'role': 'user',
            'content': [
                {
                    'type': 'tool_result',
                    'tool_use_id': 'toolu_a',
                    'is_error': True,
                    'content': [
                        {'type': 'text', 'text': 'no station nearby'},
                        {
                            'type': 'image',
                            'source': {'type': 'base64', 'media_type': 'image/png', 'data': 'iVBORw0KGgpyYWRhcg=='},
                        },
                    ],
                },
                {'type': 'text', 'text': 'And tomorrow?', 'cache_control': {'type': 'ephemeral'}},
            ],
        },
    ],
    'tools': [
        {
            'name': 'get_weather',
            'description': 'Get the weather',
            'input_schema': SCHEMA,
            'cache_control': {'type': 'ephemeral'},
        },
        {'type': 'web_search_20250305', 'name': 'web_search', 'max_uses': 5},
    ],
    'tool_choice': {'type': 'any', 'disable_parallel_tool_use': True},
    'thinking': {'type': 'enabled', 'budget_tokens': 2048},
    'output_config': {'format': {'type': 'json_schema', 'schema': ANSWER}},
    'temperature': 1,
    'top_k': 41,
    'stop_sequences': ['THE END'],
    'metadata': {'user_id': 'user-1234'},
    'service_tier': 'standard_only',
}

GEMINI: dict[str, Any] = {
    'systemInstruction': {'parts': [{'text': 'You are a helpful assistant.'}]},
    'contents': [
        {
            'role': 'user',
            'parts': [
                {'text': 'What is in this image?'},
                {'inlineData': {'mimeType': 'image/png', 'data': PNG}},
                {'inlineData': {'mimeType': 'audio/ogg', 'data': 'T2dnUwACAAAAAAAAAAA='}},
                {
                    'fileData': {'mimeType': 'video/mp4', 'fileUri': 'https://example.com/v1beta/files/clip'},
                    'videoMetadata': {'fps': 2},
                },
                {'fileData': {'mimeType': 'application/pdf', 'fileUri': 'https://example.com/long.pdf'}},
            ],
        },
        {
            'role': 'model',
            'parts': [
                {'text': 'I shall look.', 'thought': True},
                {'text': 'Let me look that up.', 'thoughtSignature': 'QkJCsigned'},
                {'functionCall': {'name': 'get_weather', 'args': {'city': 'Boston'}}, 'thoughtSignature': 'Q0NDsigned'},
                {'executableCode': {'language': 'PYTHON', 'code': 'print(6 * 7)'}},
                {'codeExecutionResult': {'outcome': 'OUTCOME_OK', 'output': 'forty-two'}},
            ],
        },
        {
            'role': 'user',
            'parts': [
                {'functionResponse': {'name': 'get_weather', 'response': {'error': 'no station nearby'}}},
                {'functionResponse': {'name': 'get_tides', 'response': {'output': 'ebb'}}},
                {'text': 'And tomorrow?'},
            ],
        },
    ],
    'tools': [
        {
            'functionDeclarations': [
                {
                    'name': 'get_weather',
                    'description': 'Get the weather',
                    'parametersJsonSchema': SCHEMA,
                    'responseJsonSchema': {'type': 'number', 'description': 'degrees'},
                }
            ]
        },
        {'googleSearch': {}},
    ],
    'toolConfig': {'functionCallingConfig': {'mode': 'ANY', 'allowedFunctionNames': ['get_weather']}},
    'safetySettings': [{'category': 'HARM_CATEGORY_HARASSMENT', 'threshold': 'BLOCK_ONLY_HIGH'}],
    'generationConfig': {
        'temperature': 0.25,
        'topP': 0.75,
        'topK': 41,
        'maxOutputTokens': 3001,
        'seed': 4711,
        'stopSequences': ['THE END'],
        'presencePenalty': 0.125,
        'frequencyPenalty': 0.375,
        'responseLogprobs': True,
        'logprobs': 7,
        'responseMimeType': 'application/json',
        'responseJsonSchema': ANSWER,
        'candidateCount': 1,
        'thinkingConfig': {'thinkingBudget': 1024, 'includeThoughts': True},
    },
    'cachedContent': 'cachedContents/abc',
}

RECORDED = {'openai-chat': CHAT, 'openai-responses': RESPONSES, 'anthropic': ANTHROPIC, 'gemini': GEMINI}
