"""The types of google-genai that the ADK speaks in, as the JSON of Gemini's protocol, and back."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types
from pydantic import BaseModel, TypeAdapter

from lamella.types import JSON

T = TypeVar('T', bound=BaseModel)
# Fields of a config that stand beside `generationConfig` in a body.
_AT_THE_TOP = frozenset(('cachedContent', 'safetySettings', 'serviceTier', 'modelArmorConfig'))
# What belongs to this process and not to the request: clients, callables, labels for the bill.
_OF_THE_PROCESS = {
    'automatic_function_calling',
    'http_options',
    'labels',
    'response_json_schema',
    'response_schema',
    'should_return_http_response',
    'system_instruction',
    'tool_config',
    'tools',
}
# Fields of an answer that have a place in Gemini's own.
_OF_THE_CANDIDATE = ('grounding_metadata', 'citation_metadata', 'avg_logprobs', 'logprobs_result')
_NAMED = frozenset(
    (*_OF_THE_CANDIDATE, 'content', 'finish_reason', 'usage_metadata', 'model_version', 'partial', 'turn_complete')
)


def dumped(value: BaseModel) -> JSON:
    found: JSON = value.model_dump(mode='json', by_alias=True, exclude_none=True)
    return found


def loaded(kind: type[T], value: Any) -> T:
    """From JSON and not from a dict, in which base64 would be taken for the bytes themselves."""
    return kind.model_validate_json(msgspec.json.encode(value))


def request_body(request: LlmRequest) -> JSON:
    """The body of `generateContent` that this request stands for, without what cannot be written down."""
    given: Any = request.config
    config = types.GenerateContentConfig() if given is None else given
    settings = config.model_dump(mode='json', by_alias=True, exclude_none=True, exclude=_OF_THE_PROCESS)
    top = {name: settings.pop(name) for name in _AT_THE_TOP & settings.keys()}
    settings |= _schema(config)
    said = {
        'systemInstruction': _instruction(config.system_instruction),
        'tools': [dumped(tool) for tool in config.tools or () if isinstance(tool, types.Tool)],
        'toolConfig': dumped(config.tool_config) if config.tool_config else None,
        'generationConfig': settings,
        **top,
    }
    contents = [dumped(content) for content in request.contents]
    return {'contents': contents, **{name: value for name, value in said.items() if value}}


def _schema(config: Any) -> JSON:
    if config.response_json_schema is not None:
        return {'responseJsonSchema': config.response_json_schema}
    schema = config.response_schema
    if schema is None:
        return {}
    if isinstance(schema, types.Schema):
        return {'responseSchema': dumped(schema)}
    if isinstance(schema, dict):
        return {'responseSchema': schema}
    return {'responseJsonSchema': TypeAdapter(schema).json_schema()}


def _instruction(given: Any) -> JSON | None:
    if not given:
        return None
    if isinstance(given, types.Content):
        return dumped(given)
    listed = given if isinstance(given, list) else [given]
    return {'parts': [{'text': part} if isinstance(part, str) else dumped(part) for part in listed]}


def answer_body(answer: LlmResponse) -> JSON:
    """The body of an answer of `generateContent`. One that does not say why it ended has ended well."""
    candidate: JSON = {'finishReason': 'STOP' if answer.finish_reason is None else answer.finish_reason.value}
    if answer.content is not None:
        candidate['content'] = dumped(answer.content)
    for name in _OF_THE_CANDIDATE:
        value = getattr(answer, name)
        if value is not None:
            candidate[_camel(name)] = dumped(value) if isinstance(value, BaseModel) else value
    body: JSON = {'candidates': [candidate]}
    if answer.usage_metadata is not None:
        body['usageMetadata'] = dumped(answer.usage_metadata)
    if answer.model_version:
        body['modelVersion'] = answer.model_version
    return body


def own_fields(answer: LlmResponse) -> JSON:
    """What only the ADK says of an answer: its metadata, ids and error code, as JSON."""
    said = answer.model_dump(mode='json', exclude_none=True, exclude=set(_NAMED))
    return {name: value for name, value in said.items() if value != {}}


def _camel(name: str) -> str:
    first, *others = name.split('_')
    return first + ''.join(map(str.capitalize, others))
