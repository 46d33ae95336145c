"""Requests of generateContent, as a server understands what others send."""

from typing import Any

import pytest

from lamella.types import (
    GenerationConfig,
    LamellaError,
    MediaPart,
    Message,
    OutputSpec,
    ReasoningPart,
    TextPart,
    ToolChoice,
    ToolRequestPart,
    ToolResponse,
    ToolResponsePart,
)
from tests.wire.gemini_requests import CODEC, MODEL, SCHEMA, decoded, encoded, refused

# Every documented field, in the form that Lamella sends: reading and sending it again gives the same body.
FULL: dict[str, Any] = {
    'contents': [
        {
            'role': 'user',
            'parts': [
                {'text': 'What is this?'},
                {'inlineData': {'mimeType': 'image/png', 'data': 'iVBORw=='}},
                {
                    'fileData': {'mimeType': 'video/mp4', 'fileUri': 'https://example.com/v1beta/files/abc'},
                    'videoMetadata': {'startOffset': '1s', 'fps': 2},
                },
                {'text': 'from a file', 'partMetadata': {'source_file': 'a.txt'}},
            ],
        },
        {
            'role': 'model',
            'parts': [
                {'text': 'A cat, perhaps.', 'thought': True},
                {'text': 'signed thought', 'thought': True, 'thoughtSignature': 'QUFB'},
                {'text': 'Let me look.', 'thoughtSignature': 'QkJC'},
                {'functionCall': {'id': 'c1', 'name': 'look', 'args': {'snake_key': None}}, 'thoughtSignature': 'Q0ND'},
                {'functionCall': {'name': 'look', 'args': {}}},
                {'executableCode': {'language': 'PYTHON', 'code': 'print(1)'}},
                {'codeExecutionResult': {'outcome': 'OUTCOME_OK', 'output': '1\n'}},
                {'toolCall': {'id': 's1', 'toolType': 'GOOGLE_SEARCH_WEB', 'args': {'q': 'x'}}},
            ],
        },
        {
            'role': 'user',
            'parts': [
                {'functionResponse': {'id': 'c1', 'name': 'look', 'response': {'output': 'a cat'}}},
                {'functionResponse': {'name': 'look', 'response': {'error': 'too dark'}}},
                {
                    'functionResponse': {
                        'name': 'look',
                        'response': {'found': 1, 'where': 'here'},
                        'willContinue': True,
                        'scheduling': 'SILENT',
                        'parts': [{'inlineData': {'mimeType': 'image/png', 'data': 'iVBORw=='}}],
                    }
                },
            ],
        },
    ],
    'systemInstruction': {'parts': [{'text': 'Be brief.'}, {'text': 'Be kind.'}]},
    'tools': [
        {
            'functionDeclarations': [
                {
                    'name': 'look',
                    'description': 'Looks.',
                    'parametersJsonSchema': SCHEMA,
                    'responseJsonSchema': {'type': 'string'},
                    'behavior': 'BLOCKING',
                },
                {'name': 'nothing'},
            ]
        },
        {'googleSearch': {'timeRangeFilter': {'startTime': '2026-01-01T00:00:00Z'}}},
        {'codeExecution': {}},
    ],
    'toolConfig': {
        'functionCallingConfig': {'mode': 'ANY', 'allowedFunctionNames': ['look', 'nothing']},
        'retrievalConfig': {'languageCode': 'de'},
    },
    'generationConfig': {
        'temperature': 0.5,
        'topP': 0.9,
        'topK': 40,
        'maxOutputTokens': 100,
        'stopSequences': ['END', '\n\n'],
        'seed': 7,
        'presencePenalty': 0.1,
        'frequencyPenalty': -0.1,
        'responseLogprobs': True,
        'logprobs': 3,
        'responseMimeType': 'application/json',
        'responseJsonSchema': SCHEMA,
        'thinkingConfig': {'thinkingLevel': 'LOW', 'includeThoughts': True},
        'responseModalities': ['TEXT'],
        'somethingNew': {'a': 1},
    },
    'safetySettings': [{'category': 'HARM_CATEGORY_HARASSMENT', 'threshold': 'BLOCK_NONE'}],
    'cachedContent': 'cachedContents/x',
    'labels': {'team_name': 'a'},
    'serviceTier': 'flex',
}


def test_every_documented_field_survives_reading_and_sending() -> None:
    assert encoded(decoded(FULL)) == FULL


def test_reading_what_was_sent_gives_the_same_request() -> None:
    request = decoded(FULL)

    assert decoded(encoded(request)) == request


def test_the_documented_request_is_read_into_the_right_fields() -> None:
    request = decoded(FULL)

    assert [message.role for message in request.messages] == ['system', 'user', 'assistant', 'tool']
    assert request.messages[0].content == (TextPart('Be brief.'), TextPart('Be kind.'))
    assert request.messages[1].content[1] == MediaPart(data=b'\x89PNG', content_type='image/png')
    assert request.config == GenerationConfig(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        max_output_tokens=100,
        stop_sequences=('END', '\n\n'),
        seed=7,
        presence_penalty=0.1,
        frequency_penalty=-0.1,
        reasoning_effort='low',
        logprobs=3,
    )
    assert request.output == OutputSpec('json', SCHEMA)
    assert request.tools[0].input_schema == SCHEMA
    assert request.tool_choice == ToolChoice('required')
    assert request.provider_options['google']['cachedContent'] == 'cachedContents/x'


def test_signatures_are_on_the_parts_they_came_with() -> None:
    thought, signed, text, call, other, *_ = decoded(FULL).messages[2].content

    assert thought == ReasoningPart('A cat, perhaps.')
    assert signed == ReasoningPart('signed thought', 'QUFB', metadata={'gemini': {'thoughtSignature': 'QUFB'}})
    assert text == TextPart('Let me look.', {'gemini': {'thoughtSignature': 'QkJC'}})
    assert call.metadata == {'gemini': {'thoughtSignature': 'Q0ND', 'functionCall': {'id': 'c1'}}}
    assert other.metadata is None


def test_answers_of_functions_are_read_as_output_or_error() -> None:
    answers = [part.tool_response for part in decoded(FULL).messages[3].tool_responses]

    assert answers[0] == ToolResponse('look', 'a cat', 'c1')
    assert answers[1] == ToolResponse('look', 'too dark', is_error=True)
    assert answers[2] == ToolResponse('look', {'found': 1, 'where': 'here'})


def test_snake_case_is_read_like_camel_case() -> None:
    """The API takes both, and the vendor's own curl samples mix them."""
    request = decoded(
        {
            'system_instruction': {'parts': [{'text': 'Be brief.'}]},
            'contents': [
                {
                    'parts': [
                        {'inline_data': {'mime_type': 'image/png', 'data': 'iVBORw=='}},
                        {'text': 'hi', 'thought_signature': 'QUFB'},
                    ]
                }
            ],
            'tools': [{'function_declarations': [{'name': 'f', 'parameters_json_schema': {'type': 'object'}}]}],
            'tool_config': {'function_calling_config': {'mode': 'ANY', 'allowed_function_names': ['f']}},
            'generation_config': {'max_output_tokens': 5, 'thinking_config': {'thinking_budget': 0}},
        }
    )

    assert request.messages[0] == Message.system('Be brief.')
    assert request.messages[1].content == (
        MediaPart(data=b'\x89PNG', content_type='image/png'),
        TextPart('hi', {'gemini': {'thoughtSignature': 'QUFB'}}),
    )
    assert request.tool_choice == ToolChoice('tool', 'f')
    assert request.config.max_output_tokens == 5
    assert request.provider_options['google']['generationConfig'] == {'thinkingConfig': {'thinkingBudget': 0}}


def test_keys_of_free_form_objects_are_never_respelled() -> None:
    call = decoded(FULL).messages[2].content[3]

    assert isinstance(call, ToolRequestPart)
    assert call.tool_request.input == {'snake_key': None}


def test_an_older_schema_is_read_as_json_schema() -> None:
    older = {
        'type': 'OBJECT',
        'properties': {
            'city': {'type': 'STRING', 'nullable': True, 'enum': ['a', 'b'], 'maxLength': '9'},
            'days': {'type': 'ARRAY', 'items': {'type': 'INTEGER'}, 'min_items': 1},
            'either': {'any_of': [{'type': 'STRING'}, {'type': 'NUMBER'}], 'nullable': True},
        },
        'required': ['city'],
        'propertyOrdering': ['days', 'city'],
    }

    request = decoded({'contents': [], 'tools': [{'functionDeclarations': [{'name': 'f', 'parameters': older}]}]})

    assert request.tools[0].input_schema == {
        'type': 'object',
        'properties': {
            'city': {'type': ['string', 'null'], 'enum': ['a', 'b', None], 'maxLength': 9},
            'days': {'type': 'array', 'items': {'type': 'integer'}, 'minItems': 1},
            'either': {'anyOf': [{'anyOf': [{'type': 'string'}, {'type': 'number'}]}, {'type': 'null'}]},
        },
        'required': ['city'],
        'propertyOrdering': ['days', 'city'],
    }


def test_an_older_response_schema_is_read_as_json_schema() -> None:
    config = {'responseMimeType': 'application/json', 'responseSchema': {'type': 'OBJECT'}}

    assert decoded({'contents': [], 'generationConfig': config}).output == OutputSpec('json', {'type': 'object'})


def test_other_types_of_answer_stay_options_of_google() -> None:
    config = {'responseMimeType': 'text/x.enum', 'responseSchema': {'type': 'STRING', 'enum': ['a']}}
    body = {'contents': [], 'generationConfig': config}

    assert decoded(body).output is None
    assert encoded(decoded(body)) == body


@pytest.mark.parametrize(
    ('calling', 'choice'),
    [
        ({'mode': 'AUTO'}, ToolChoice('auto')),
        ({'mode': 'NONE'}, ToolChoice('none')),
        ({'mode': 'ANY'}, ToolChoice('required')),
        ({'mode': 'ANY', 'allowedFunctionNames': ['get_weather']}, ToolChoice('tool', 'get_weather')),
        ({'mode': 'VALIDATED', 'allowedFunctionNames': ['get_weather']}, None),
    ],
)
def test_each_mode_of_function_calling_survives(calling: dict[str, Any], choice: ToolChoice | None) -> None:
    tools = [{'functionDeclarations': [{'name': 'get_weather'}]}]
    body = {'contents': [], 'tools': tools, 'toolConfig': {'functionCallingConfig': calling}}

    assert decoded(body).tool_choice == choice
    assert encoded(decoded(body)) == body


def test_the_model_of_a_path_is_a_bare_name() -> None:
    for path in ('models/gemini-x', 'gemini-x', 'publishers/google/models/gemini-x'):
        assert CODEC.decode_request(b'{"contents":[]}', model=path, stream=True).model == 'gemini-x'


def test_a_model_in_the_body_counts_where_the_path_has_none() -> None:
    assert CODEC.decode_request(b'{"contents":[],"model":"models/gemini-x"}').model == 'gemini-x'


@pytest.mark.parametrize(
    ('body', 'says'),
    [
        (b'{', 'is no JSON'),
        ([], 'give an object'),
        ({'contents': {}}, 'contents is {}: give a list'),
        ({'contents': [1]}, 'contents[0] is 1: give an object'),
        ({'contents': [{'role': 'system', 'parts': []}]}, "contents[0].role is 'system': use 'user' or 'model'"),
        ({'contents': [{'parts': [{'text': 5}]}]}, 'contents[0].parts[0].text is 5: give a string'),
        (
            {'contents': [{'parts': [{'inlineData': {'data': '*'}}]}]},
            'contents[0].parts[0].inlineData.data is no base64',
        ),
        ({'contents': [{'parts': [{'fileData': {}}]}]}, 'contents[0].parts[0].fileData.fileUri is missing'),
        ({'contents': [{'parts': [{'functionCall': {}}]}]}, 'contents[0].parts[0].functionCall.name is missing'),
        (
            {'contents': [{'parts': [{'functionCall': {'name': 'f', 'args': []}}]}]},
            'functionCall.args is []: give an object',
        ),
        ({'contents': [{'parts': [{'functionResponse': {'name': ''}}]}]}, "functionResponse.name is ''"),
        ({'tools': [{'functionDeclarations': [{}]}]}, 'tools[0].functionDeclarations[0].name is missing'),
        ({'generationConfig': {'topK': 1.5}}, 'generationConfig.topK is 1.5: give a whole number'),
        ({'generationConfig': {'temperature': True}}, 'generationConfig.temperature is True: give a number'),
        ({'generationConfig': {'stopSequences': 'END'}}, "generationConfig.stopSequences is 'END': give a list"),
        (
            {'tools': [{'functionDeclarations': [{'name': 'f', 'parametersJsonSchema': 1}]}]},
            'parametersJsonSchema is 1',
        ),
        (
            {'generationConfig': {'responseMimeType': 'application/json', 'responseJsonSchema': 1}},
            'generationConfig.responseJsonSchema is 1: give an object',
        ),
        ({'toolConfig': {'functionCallingConfig': 1}}, 'toolConfig.functionCallingConfig is 1: give an object'),
    ],
)
def test_a_bad_request_is_an_error_that_names_field_value_and_fix(body: Any, says: str) -> None:
    assert says in refused(body)


def test_a_request_without_a_model_says_so() -> None:
    with pytest.raises(LamellaError, match='model is missing'):
        CODEC.decode_request(b'{"contents":[]}')


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    schema = b'{"items":' * 3000 + b'1' + b'}' * 3000
    body = b'{"contents":[],"tools":[{"functionDeclarations":[{"name":"f","parameters":' + schema + b'}]}]}'

    assert 'nested too deeply' in refused(body)


@pytest.mark.parametrize('depth', [150, 300, 600, 900])
def test_nesting_of_any_depth_is_read_or_refused(depth: int) -> None:
    schema = b'{"items":' * depth + b'1' + b'}' * depth
    body = b'{"contents":[],"tools":[{"functionDeclarations":[{"name":"f","parameters":' + schema + b'}]}]}'
    try:
        request = CODEC.decode_request(body, model=MODEL).request
    except LamellaError:
        assert 'nested too deeply' in refused(body)
        return
    assert request.tools[0].name == 'f'


def test_numbers_may_be_strings_and_whole_floats() -> None:
    config = decoded({'contents': [], 'generationConfig': {'topK': 40.0, 'maxOutputTokens': '12'}}).config

    assert (config.top_k, config.max_output_tokens) == (40, 12)


def test_answers_among_user_parts_become_messages_of_their_own() -> None:
    answer = {'functionResponse': {'name': 'f', 'response': {'output': 1}}}
    messages = decoded({'contents': [{'role': 'user', 'parts': [answer, answer, {'text': 'go on'}]}]}).messages

    assert [message.role for message in messages] == ['tool', 'user']
    assert len(messages[0].content) == 2
    assert all(isinstance(part, ToolResponsePart) for part in messages[0].content)


def test_a_request_is_not_changed_by_sending_it() -> None:
    request = decoded(FULL)
    before = repr(request)
    encoded(request, 'gemini-3-pro')
    encoded(request, 'gemini-2.0-flash')

    assert repr(request) == before
