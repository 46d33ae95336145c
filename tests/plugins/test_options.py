"""`provider_options`: typed for every vendor, unknown keys refused, and as complete as the vendors' own clients."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from anthropic.types import message_create_params as messages_params
from anthropic.types.beta import message_create_params as beta_params
from google.genai import types as google_types
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params as responses_params
from pydantic import BaseModel

from lamella import Message, ModelRequest
from lamella.plugins._google_options import GoogleOptions
from lamella.plugins._openai_options import OpenAIChatOptions, OpenAIResponsesOptions
from lamella.plugins._options import checked
from lamella.plugins.anthropic import AnthropicOptions
from lamella.plugins.google_genai import GoogleAI
from lamella.plugins.openai import OpenAI
from lamella.types import ConfigError
from lamella.wire import crossing
from lamella.wire.gemini import GeminiCodec
from lamella.wire.openai_chat import OpenAIChatCodec

CLASSES = (OpenAIChatOptions, OpenAIResponsesOptions, GoogleOptions, AnthropicOptions)
# What every request has anyway, and what the clients keep to themselves.
GIVEN = {'messages', 'model', 'input', 'stream'}
CLIENTS_OWN = {'automatic_function_calling', 'http_options', 'should_return_http_response'}
HEADERS = {'user_profile_id', 'workspace_id'}


def asked(**options: Any) -> ModelRequest:
    return ModelRequest((Message.user('hi'),), provider_options=options)


@pytest.mark.parametrize(
    ('wanted', 'theirs'),
    [
        (OpenAIChatOptions, chat_params.CompletionCreateParamsBase.__annotations__),
        (OpenAIResponsesOptions, responses_params.ResponseCreateParamsBase.__annotations__),
        (GoogleOptions, google_types.GenerateContentConfig.model_fields),
        (GoogleOptions, google_types.GenerationConfig.model_fields),
        (AnthropicOptions, messages_params.MessageCreateParamsBase.__annotations__),
        (AnthropicOptions, beta_params.MessageCreateParamsBase.__annotations__),
    ],
    ids=['chat', 'responses', 'google', 'google-generation', 'anthropic', 'anthropic-beta'],
)
def test_every_option_of_the_vendors_own_client_is_known(wanted: type[BaseModel], theirs: Mapping[str, Any]) -> None:
    assert set(theirs) - set(wanted.model_fields) - GIVEN - CLIENTS_OWN - HEADERS == set()


@pytest.mark.parametrize(
    ('wanted', 'options', 'problem'),
    [
        (OpenAIChatOptions, {'service_teer': 'flex'}, "unknown setting 'service_teer': did you mean 'service_tier'"),
        (OpenAIChatOptions, {'n': 'three'}, r"n: .*integer.*given 'three'"),
        (OpenAIResponsesOptions, {'truncation': 'maybe'}, "truncation: .*'auto' or 'disabled'"),
        (GoogleOptions, {'safetySetings': []}, "did you mean 'safetySettings'"),
        (GoogleOptions, {'thinking_config': 3}, r'thinking_config: .*dict.*given 3'),
        (AnthropicOptions, {'thinkin': {}}, "did you mean 'thinking'"),
    ],
)
def test_a_wrong_option_is_named_with_its_value(wanted: type[BaseModel], options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        checked(asked(vendor=options), ('vendor',), wanted)


@pytest.mark.parametrize('wanted', CLASSES)
def test_what_is_not_listed_goes_into_extra_body(wanted: type[BaseModel]) -> None:
    with pytest.raises(ConfigError, match='go into extra_body'):
        checked(asked(vendor={'guided_json': {}}), ('vendor',), wanted)
    request = checked(asked(vendor={'extra_body': {'guided_json': {}}, 'temperature': None}), ('vendor',), wanted)
    assert request.provider_options == {'vendor': {'guided_json': {}, 'temperature': None}}


@pytest.mark.parametrize('wanted', CLASSES)
def test_options_that_are_no_dict_are_refused(wanted: type[BaseModel]) -> None:
    with pytest.raises(ConfigError, match=r"provider_options\['vendor'\] is 'x': give a dict"):
        checked(asked(vendor='x'), ('vendor',), wanted)


def test_another_vendors_options_are_neither_read_nor_changed() -> None:
    request = asked(other={'whatever': 1}, vendor={'user': 'u'})
    assert checked(request, ('vendor',), OpenAIChatOptions).provider_options['other'] == {'whatever': 1}


def test_google_takes_both_spellings_and_values_stay_as_they_were_given() -> None:
    both = {'cachedContent': 'c', 'safety_settings': [{'a': 1}], 'modelConfig': {}, 'topK': 3}
    assert checked(asked(google=both), ('google',), GoogleOptions).provider_options['google'] == both


def test_a_request_from_the_wire_keeps_fields_that_nobody_knows() -> None:
    body = json.dumps({'model': 'm', 'messages': [{'role': 'user', 'content': 'hi'}], 'hologram': True}).encode()
    codec = OpenAIChatCodec()
    request = crossing.received(codec.decode_request(body), codec)
    assert checked(request, ('openai',), OpenAIChatOptions) is request
    assert request.provider_options['openai'] == {'hologram': True}
    gemini = GeminiCodec()
    body = json.dumps({'contents': [{'parts': [{'text': 'hi'}]}], 'hologram': True}).encode()
    request = crossing.received(gemini.decode_request(body, model='m'), gemini)
    assert checked(request, ('google',), GoogleOptions) is request


@pytest.mark.parametrize('plugin', [OpenAI, GoogleAI])
@pytest.mark.parametrize(
    ('field', 'value', 'problem'),
    [
        ('headers', 'x: y', 'headers= is a str'),
        ('headers', {'x-count': 3}, r"headers= is a dict with \['x-count'\]: give a dict of texts"),
        ('query', ['a'], 'query= is a list'),
        ('query', {'a': None}, 'give a dict of texts'),
    ],
)
def test_headers_and_query_are_checked_when_the_plugin_is_built(
    plugin: Any, field: str, value: Any, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        plugin(**{field: value})
