"""Requests of generateContent, as Lamella sends them."""

import base64
from typing import Any

import pytest

from lamella.types import (
    DataPart,
    GenerationConfig,
    LamellaError,
    MediaPart,
    Message,
    OutputSpec,
    ReasoningPart,
    TextPart,
    ToolChoice,
    ToolDefinition,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
)
from tests.wire.gemini_requests import SCHEMA, WEATHER, asked, decoded, encoded, warnings


def test_tool_messages_in_a_row_become_one_content() -> None:
    """Gemini counts: as many answers in the next content as there were calls."""
    calls = Message.assistant(*[ToolRequestPart(ToolRequest('f', {'i': i}, f'c{i}')) for i in range(3)])
    answers = [Message.tool(ToolResponse('f', i, f'c{i}')) for i in range(3)]

    contents = encoded(asked('hi', calls, *answers, 'and?'), 'gemini-2.5-flash')['contents']

    assert [content['role'] for content in contents] == ['user', 'model', 'user', 'user']
    assert [part['functionResponse']['response'] for part in contents[2]['parts']] == [{'output': i} for i in range(3)]


def test_only_ids_that_gemini_gave_are_sent_back() -> None:
    """Vertex AI answers 400 to ids that it does not know, and Gemini pairs by name and order without them."""
    given = decoded(
        {'contents': [{'role': 'model', 'parts': [{'functionCall': {'id': 'c1', 'name': 'f', 'args': {}}}]}]}
    ).messages[0]
    assigned = Message.assistant(ToolRequestPart(ToolRequest('f', {}, 'ours')))
    answers = Message.tool(ToolResponse('f', 1, 'c1')), Message.tool(ToolResponse('f', 2, 'ours'))

    contents = encoded(asked(given, answers[0], assigned, answers[1]), 'gemini-2.5-pro')['contents']

    assert [content['parts'][0] for content in contents] == [
        {'functionCall': {'id': 'c1', 'name': 'f', 'args': {}}},
        {'functionResponse': {'id': 'c1', 'name': 'f', 'response': {'output': 1}}},
        {'functionCall': {'name': 'f', 'args': {}}},
        {'functionResponse': {'name': 'f', 'response': {'output': 2}}},
    ]


@pytest.mark.parametrize(
    ('output', 'response'),
    [
        ('text', {'output': 'text'}),
        (None, {'output': None}),
        ([1], {'output': [1]}),
        ({'a': 1}, {'a': 1}),
        ({'output': 1}, {'output': {'output': 1}}),
        ({'error': 1}, {'output': {'error': 1}}),
        ({'error': 1, 'b': 2}, {'output': {'error': 1, 'b': 2}}),
    ],
)
def test_output_of_any_type_arrives_as_it_was(output: Any, response: dict[str, Any]) -> None:
    body = encoded(asked(Message.tool(ToolResponse('f', output))))

    assert body['contents'][0]['parts'][0]['functionResponse']['response'] == response
    assert decoded(body).messages[0].tool_responses[0].tool_response == ToolResponse('f', output)


def test_an_answer_without_a_name_gets_that_of_its_call() -> None:
    """Chat Completions does not repeat the name, so a gateway does not have it."""
    call = Message.assistant(ToolRequestPart(ToolRequest('get_weather', {}, 'c1')))

    contents = encoded(asked(call, Message.tool(ToolResponse('', 'sun', 'c1'))))['contents']

    assert contents[1]['parts'][0]['functionResponse']['name'] == 'get_weather'


def test_media_in_an_answer_goes_beside_the_output_from_gemini_3_on() -> None:
    picture = MediaPart(data=b'\x89PNG', content_type='image/png')
    request = asked(Message.tool(ToolResponse('f', ['a cat', picture])))
    inline = {'inlineData': {'mimeType': 'image/png', 'data': 'iVBORw=='}}

    newer = encoded(request, 'gemini-3-pro')['contents'][0]['parts']
    older = encoded(request, 'gemini-2.5-pro')['contents'][0]['parts']

    assert newer == [{'functionResponse': {'name': 'f', 'response': {'output': 'a cat'}, 'parts': [inline]}}]
    assert older == [{'functionResponse': {'name': 'f', 'response': {'output': 'a cat'}}}, inline]


def test_media_that_went_through_json_is_media_still() -> None:
    stored = {'type': 'media', 'data': base64.b64encode(b'\x89PNG').decode(), 'content_type': 'image/png'}

    parts = encoded(asked(Message.tool(ToolResponse('f', stored))))['contents'][0]['parts']

    assert parts[0]['functionResponse']['parts'] == [{'inlineData': {'mimeType': 'image/png', 'data': 'iVBORw=='}}]


@pytest.mark.parametrize(
    ('media', 'part'),
    [
        (
            MediaPart(url='data:image/png;base64,iVBORw=='),
            {'inlineData': {'mimeType': 'image/png', 'data': 'iVBORw=='}},
        ),
        (MediaPart(url='data:,a%20b'), {'inlineData': {'mimeType': 'text/plain', 'data': 'YSBi'}}),
        (
            MediaPart(url='gs://bucket/a.mp3', content_type='audio/mp3'),
            {'fileData': {'mimeType': 'audio/mp3', 'fileUri': 'gs://bucket/a.mp3'}},
        ),
        (MediaPart(url='https://x/files/1'), {'fileData': {'fileUri': 'https://x/files/1'}}),
        (
            MediaPart(
                data=b'RIFF', content_type='audio/wav', metadata={'gemini': {'mediaResolution': {'level': 'LOW'}}}
            ),
            {'inlineData': {'mimeType': 'audio/wav', 'data': 'UklGRg=='}, 'mediaResolution': {'level': 'LOW'}},
        ),
    ],
)
def test_media_is_sent_inline_or_by_reference(media: MediaPart, part: dict[str, Any]) -> None:
    assert encoded(asked(Message.user(media)))['contents'][0]['parts'] == [part]


def test_inline_media_without_a_type_is_an_error_that_names_the_place() -> None:
    with pytest.raises(LamellaError, match=r'messages\[1\]\.content\[0\]\.content_type is None: .*image/png'):
        encoded(asked('hi', Message.user(MediaPart(data=b'x'))))


@pytest.mark.parametrize('url', ['data:image/png;base64,###', 'data:image/png'])
def test_a_broken_data_url_is_an_error_that_names_the_place(url: str) -> None:
    with pytest.raises(LamellaError, match=r'messages\[0\]\.content\[0\]\.url'):
        encoded(asked(Message.user(MediaPart(url=url))))


def test_a_system_message_late_in_the_conversation_is_moved_with_a_warning() -> None:
    request = asked(Message.system('a'), 'hi', Message.system('b'))

    assert encoded(request)['systemInstruction'] == {'parts': [{'text': 'a'}, {'text': 'b'}]}
    assert len(encoded(request)['contents']) == 1
    assert 'systemInstruction' in warnings(request)[0]


def test_empty_text_of_a_model_is_left_out() -> None:
    """Gemini answers `{"text": ""}` and refuses to read it again."""
    request = asked(
        'hi', Message.assistant(''), Message.assistant(TextPart('', {'gemini': {'thoughtSignature': 'QQ=='}}))
    )

    assert encoded(request)['contents'][1:] == [
        {'role': 'model', 'parts': [{'text': '', 'thoughtSignature': 'QQ=='}]},
    ]


def test_parts_of_other_providers_are_left_out_with_one_warning_each_kind() -> None:
    foreign = Message.assistant(
        ReasoningPart('hm', 'sig-of-somebody'),
        ReasoningPart('hm', metadata={'anthropic': {}}),
        ReasoningPart(redacted=True, metadata={'anthropic': {'data': 'x'}}),
        DataPart({'type': 'server_tool_use'}, {'anthropic': {}}),
        DataPart({'executableCode': {}}),
        'hello',
    )

    assert encoded(asked(foreign))['contents'] == [{'role': 'model', 'parts': [{'text': 'hello'}]}]
    assert len(warnings(asked(foreign))) == 2


def test_input_that_is_no_object_is_wrapped_with_a_warning() -> None:
    request = asked(Message.assistant(ToolRequestPart(ToolRequest('f', ['a']))))

    assert encoded(request, 'gemini-2.5-pro')['contents'][0]['parts'][0]['functionCall']['args'] == {'input': ['a']}
    assert "'f' is no object" in warnings(request, 'gemini-2.5-pro')[0]


def test_output_that_only_looks_like_media_is_sent_as_it_is() -> None:
    output = {'type': 'media', 'url': 5}

    parts = encoded(asked(Message.tool(ToolResponse('f', output))))['contents'][0]['parts']

    assert parts == [{'functionResponse': {'name': 'f', 'response': output}}]


def test_metadata_of_layers_is_never_sent() -> None:
    part = ToolRequestPart(ToolRequest('f', {}, 'c'), {'toolApproved': True, 'openai': {'x': 1}})

    body = encoded(asked(Message.assistant(part)), 'gemini-2.5-pro')

    assert body['contents'][0]['parts'] == [{'functionCall': {'name': 'f', 'args': {}}}]


def test_calls_of_another_model_are_marked_for_gemini_3() -> None:
    """Gemini 3 answers 400 to a call without a signature, and documents this value for calls that it did not make."""
    calls = Message.assistant(*[ToolRequestPart(ToolRequest('f', {}, f'c{i}')) for i in range(2)])

    first, second = encoded(asked(calls), 'gemini-3-pro')['contents'][0]['parts']

    assert first['thoughtSignature'] == 'skip_thought_signature_validator'
    assert 'thoughtSignature' not in second
    assert "'f' has no thought signature" in warnings(asked(calls), 'gemini-3-pro')[0]
    assert warnings(asked(calls), 'gemini-2.5-pro') == ()


def test_calls_with_a_signature_anywhere_in_their_content_are_left_alone() -> None:
    calls = Message.assistant(
        ToolRequestPart(ToolRequest('f', {})),
        TextPart('', {'gemini': {'thoughtSignature': 'QQ=='}}),
    )

    assert 'thoughtSignature' not in encoded(asked(calls), 'gemini-3-pro')['contents'][0]['parts'][0]


@pytest.mark.parametrize(
    ('model', 'effort', 'config'),
    [
        ('gemini-2.5-flash', 'none', {'thinkingBudget': 0}),
        ('gemini-2.5-flash', 'minimal', {'thinkingBudget': 1024}),
        ('gemini-2.5-flash', 'low', {'thinkingBudget': 1024}),
        ('gemini-2.5-flash', 'medium', {'thinkingBudget': 8192}),
        ('models/gemini-2.5-pro', 'HIGH', {'thinkingBudget': 24576}),
        ('gemini-2.5-pro', 'none', {'thinkingBudget': 128}),
        ('gemini-3-flash', 'minimal', {'thinkingLevel': 'MINIMAL'}),
        ('gemini-3.1-pro-preview', 'minimal', {'thinkingLevel': 'LOW'}),
        ('publishers/google/models/gemini-3-pro', 'medium', {'thinkingLevel': 'MEDIUM'}),
        ('gemini-3-flash', 'none', {'thinkingLevel': 'MINIMAL'}),
        ('gemini-3.6-flash', 'minimal', {'thinkingLevel': 'MINIMAL'}),
        ('gemini-3.8-flash', 'minimal', {'thinkingLevel': 'LOW'}),
        ('gemini-4-argon', 'none', {'thinkingLevel': 'LOW'}),
        ('gemini-4-argon', 'xhigh', {'thinkingLevel': 'HIGH'}),
        ('gemini-2.5-flash', 'max', {'thinkingBudget': 24576}),
        ('gemini-flash-latest', 'minimal', {'thinkingLevel': 'LOW'}),
        ('gemini-flash-latest', 'high', {'thinkingLevel': 'HIGH'}),
        ('gemini-2.0-flash', 'high', None),
        ('gemini-3-flash', 'enormous', None),
        ('my-tuned-model', 'high', None),
    ],
)
def test_reasoning_effort_is_said_as_the_model_takes_it(model: str, effort: str, config: dict[str, Any] | None) -> None:
    body = encoded(asked(config=GenerationConfig(reasoning_effort=effort)), model)

    assert body.get('generationConfig', {}).get('thinkingConfig') == config


@pytest.mark.parametrize(
    ('model', 'effort'),
    [
        ('gemini-2.5-pro', 'none'),
        ('gemini-4-argon', 'max'),
        ('gemini-2.0-flash', 'low'),
        ('x', 'low'),
        ('gemini-3-pro', '?'),
    ],
)
def test_an_effort_that_cannot_be_had_is_a_warning(model: str, effort: str) -> None:
    (warning,) = warnings(asked(config=GenerationConfig(reasoning_effort=effort)), model)

    assert f'reasoning_effort={effort!r}' in warning


def test_settings_without_a_word_are_warnings() -> None:
    (warning,) = warnings(asked(config=GenerationConfig(parallel_tool_calls=False)))

    assert 'parallel_tool_calls=False' in warning
    assert warnings(asked(config=GenerationConfig(parallel_tool_calls=True))) == ()


def test_penalties_are_left_out_where_the_api_refuses_them() -> None:
    request = asked(config=GenerationConfig(presence_penalty=0.5, frequency_penalty=0.0, temperature=0.5))

    assert encoded(request, 'gemini-4-argon')['generationConfig'] == {'temperature': 0.5}
    assert sorted(warnings(request, 'gemini-4-argon')) == [
        'frequencyPenalty was left out: gemini-4-argon refuses it',
        'presencePenalty was left out: gemini-4-argon refuses it',
    ]
    assert warnings(request, 'gemini-3-pro') == ()


def test_zero_is_sent_as_zero() -> None:
    body = encoded(asked(config=GenerationConfig(temperature=0.0, top_p=0.0, seed=0, max_output_tokens=0)))

    assert body['generationConfig'] == {'temperature': 0.0, 'topP': 0.0, 'seed': 0, 'maxOutputTokens': 0}


def test_chosen_tokens_alone_are_logprobs_zero() -> None:
    assert encoded(asked(config=GenerationConfig(logprobs=0)))['generationConfig'] == {'responseLogprobs': True}


def test_any_json_is_asked_for_by_type_alone() -> None:
    assert encoded(asked(output=OutputSpec('json')))['generationConfig'] == {'responseMimeType': 'application/json'}
    assert 'generationConfig' not in encoded(asked(output=OutputSpec('text')))


def test_a_schema_beside_tools_is_said_in_words_before_gemini_3() -> None:
    """Before Gemini 3 the API answers 400 to both at once."""
    request = asked(Message.system('Be brief.'), 'hi', tools=(WEATHER,), output=OutputSpec('json', SCHEMA))

    older, newer = encoded(request, 'gemini-2.5-pro'), encoded(request, 'gemini-3-pro')

    assert 'generationConfig' not in older
    assert older['systemInstruction']['parts'][0] == {'text': 'Be brief.'}
    assert '"required":["n"]' in older['systemInstruction']['parts'][1]['text']
    assert 'cannot be held to a schema' in warnings(request, 'gemini-2.5-pro')[0]
    assert newer['generationConfig']['responseJsonSchema'] == SCHEMA
    assert warnings(request, 'gemini-3-pro') == ()


def test_tools_that_may_not_be_called_give_way_to_a_schema() -> None:
    request = asked(tools=(WEATHER,), tool_choice=ToolChoice('none'), output=OutputSpec('json', SCHEMA))

    body = encoded(request, 'gemini-2.5-pro')

    assert 'tools' not in body
    assert body['generationConfig']['responseJsonSchema'] == SCHEMA


def test_a_choice_among_no_tools_is_left_out() -> None:
    assert 'toolConfig' not in encoded(asked(tool_choice=ToolChoice('auto')))
    assert "tool_choice='required'" in warnings(asked(tool_choice=ToolChoice('required')))[0]


def test_a_function_without_parameters_has_no_schema() -> None:
    empty = ToolDefinition('now', '', {'type': 'object', 'properties': {}, 'title': 'now_input'})
    free = ToolDefinition('any', '', {'type': 'object', 'additionalProperties': {'type': 'string'}})

    first, second = encoded(asked(tools=(empty, free)))['tools'][0]['functionDeclarations']

    assert first == {'name': 'now'}
    assert second['parametersJsonSchema'] == free.input_schema
