"""`provider_options['google']`, and what Lamella cannot send."""

import json

import pytest

from lamella.types import (
    GenerationConfig,
    LamellaError,
    Message,
    OutputSpec,
    ToolChoice,
    ToolResponse,
)
from lamella.wire.gemini import GeminiCodec
from tests.wire.gemini_requests import MODEL, SCHEMA, WEATHER, asked, encoded


def test_options_of_google_are_merged_and_win() -> None:
    request = asked(
        tools=(WEATHER,),
        config=GenerationConfig(temperature=0.5, reasoning_effort='low'),
        provider_options={
            'google': {
                'safety_settings': [{'category': 'X', 'threshold': 'OFF'}],
                'thinking_config': {'include_thoughts': True},
                'generationConfig': {'temperature': 1.5, 'imageConfig': {'aspectRatio': '1:1'}},
                'tools': [{'google_search': {}}],
                'toolConfig': {'retrieval_config': {'languageCode': 'de'}},
                'labels': {'team_name': 'a'},
            }
        },
    )

    body = encoded(request)

    assert body['safetySettings'] == [{'category': 'X', 'threshold': 'OFF'}]
    assert body['generationConfig'] == {
        'temperature': 1.5,
        'thinkingConfig': {'thinkingLevel': 'LOW', 'includeThoughts': True},
        'imageConfig': {'aspectRatio': '1:1'},
    }
    assert body['tools'][1] == {'google_search': {}}
    assert body['toolConfig'] == {'retrievalConfig': {'languageCode': 'de'}}
    assert body['labels'] == {'team_name': 'a'}


def test_options_may_be_called_gemini_too_and_google_wins() -> None:
    options = {'gemini': {'labels': {'a': '1', 'b': '1'}}, 'google': {'labels': {'b': '2'}}, 'openai': {'x': 1}}

    body = encoded(asked(provider_options=options))

    assert body['labels'] == {'a': '1', 'b': '2'}
    assert 'x' not in body


def test_a_codec_can_know_further_keys() -> None:
    codec = GeminiCodec(also=('vertexai',))
    request = asked(provider_options={'vertexai': {'labels': {'a': '1'}}})

    assert json.loads(codec.encode_request(request, MODEL).body)['labels'] == {'a': '1'}
    assert 'labels' not in encoded(request)


def test_what_gemini_refuses_together_is_settled_for_the_callers_word() -> None:
    request = asked(
        config=GenerationConfig(reasoning_effort='high'),
        output=OutputSpec('json', SCHEMA),
        provider_options={'google': {'thinkingConfig': {'thinkingBudget': 0}, 'responseSchema': {'type': 'OBJECT'}}},
    )

    assert encoded(request)['generationConfig'] == {
        'thinkingConfig': {'thinkingBudget': 0},
        'responseMimeType': 'application/json',
        'responseSchema': {'type': 'OBJECT'},
    }


def test_none_takes_a_field_out() -> None:
    request = asked(
        tools=(WEATHER,),
        tool_choice=ToolChoice('required'),
        config=GenerationConfig(temperature=0.5),
        provider_options={'google': {'toolConfig': None, 'temperature': None}},
    )

    assert 'toolConfig' not in encoded(request)
    assert encoded(request)['generationConfig'] == {}


def test_options_that_are_no_dict_are_an_error() -> None:
    with pytest.raises(LamellaError, match=r"provider_options\['google'\] is 'x'"):
        encoded(asked(provider_options={'google': 'x'}))
    with pytest.raises(LamellaError, match=r"provider_options\['google'\]\['generationConfig'\] is 5"):
        encoded(asked(provider_options={'google': {'generationConfig': 5}}))


def test_a_value_that_is_no_json_is_an_error_that_names_the_place() -> None:
    with pytest.raises(LamellaError, match=r'messages\[1\]\.content\[0\]'):
        encoded(asked('hi', Message.tool(ToolResponse('f', object()))))
    with pytest.raises(LamellaError, match=r'messages\[0\]\.content\[0\].*lone surrogate'):
        encoded(asked('half a pair: \ud83d'))
