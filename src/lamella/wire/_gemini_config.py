"""Settings and the wanted shape of the answer to Gemini's `generationConfig`, and back.

ai.google.dev/api/generate-content#GenerationConfig.
"""

from __future__ import annotations

from typing import Any

from lamella.types import JSON, GenerationConfig, OutputSpec
from lamella.wire._gemini_json import Malformed, Warn, at, fields, number_of, shown, without
from lamella.wire._gemini_models import effort_of, takes_penalties, thinking
from lamella.wire._gemini_schema import json_schema

JSON_TYPE = 'application/json'

_SETTINGS: tuple[tuple[str, str, type[Any]], ...] = (
    ('temperature', 'temperature', float),
    ('top_p', 'topP', float),
    ('top_k', 'topK', int),
    ('max_output_tokens', 'maxOutputTokens', int),
    ('seed', 'seed', int),
    ('presence_penalty', 'presencePenalty', float),
    ('frequency_penalty', 'frequencyPenalty', float),
)
_PENALTIES = frozenset(('presencePenalty', 'frequencyPenalty'))
_SCHEMAS = ('responseJsonSchema', '_responseJsonSchema', 'responseSchema')


def encode_settings(config: GenerationConfig, model: str, warn: Warn) -> JSON:
    body: JSON = {name: value for field, name, _ in _SETTINGS if (value := getattr(config, field)) is not None}
    if not takes_penalties(model):
        body = _without_penalties(body, model, warn)
    if config.stop_sequences:
        body['stopSequences'] = list(config.stop_sequences)
    if config.logprobs is not None:
        body |= (
            {'responseLogprobs': True, 'logprobs': config.logprobs} if config.logprobs else {'responseLogprobs': True}
        )
    if config.reasoning_effort is not None and (how := thinking(config.reasoning_effort, model, warn)):
        body['thinkingConfig'] = how
    if config.parallel_tool_calls is False:
        warn('parallel_tool_calls=False was left out: Gemini has no such setting')
    return body


def _without_penalties(body: JSON, model: str, warn: Warn) -> JSON:
    for name in _PENALTIES & body.keys():
        warn(f'{name} was left out: {model} refuses it')
    return without(body, *_PENALTIES)


def encode_output(output: OutputSpec) -> JSON:
    """Gemini holds the answer to a JSON Schema by itself (ai.google.dev/gemini-api/docs/structured-output)."""
    schema = {} if output.schema is None else {'responseJsonSchema': output.schema}
    return {'responseMimeType': JSON_TYPE, **schema}


def decode_config(value: Any) -> tuple[GenerationConfig, OutputSpec | None, JSON]:
    """The settings, the wanted shape, and the fields that Lamella has no name for. Raises Malformed."""
    if value is None:
        return GenerationConfig(), None, {}
    rest = fields(value)
    output, rest = _take_output(rest)
    logprobs, rest = _take_logprobs(rest)
    effort, rest = _take_effort(rest)
    settings = {field: _number(rest, name, kind) for field, name, kind in _SETTINGS}
    config = GenerationConfig(
        **settings, stop_sequences=_stops(rest.get('stopSequences')), logprobs=logprobs, reasoning_effort=effort
    )
    return config, output, without(rest, 'stopSequences', *[name for _, name, _ in _SETTINGS])


def _number(config: JSON, name: str, kind: type[Any]) -> Any:
    """Vertex AI has `topK` as 40.0."""
    value = config.get(name)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    return number_of(config, name, kind)


def _stops(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Malformed(f'is {shown(value)}: give a list of strings', 'stopSequences')
    return tuple(value)


def _take_output(config: JSON) -> tuple[OutputSpec | None, JSON]:
    """Other types of answer than JSON (`text/x.enum`) stay where they are."""
    if config.get('responseMimeType') != JSON_TYPE:
        return None, config
    schema = next((config[name] for name in _SCHEMAS if name in config), None)
    if schema is not None and not isinstance(schema, dict):
        raise Malformed(f'is {shown(schema)}: give an object', 'responseJsonSchema')
    if 'responseSchema' in config:
        schema = json_schema(schema)
    return OutputSpec('json', schema), without(config, 'responseMimeType', *_SCHEMAS)


def _take_logprobs(config: JSON) -> tuple[int | None, JSON]:
    if config.get('responseLogprobs') is not True:
        return None, config
    return number_of(config, 'logprobs', int) or 0, without(config, 'responseLogprobs', 'logprobs')


def _take_effort(config: JSON) -> tuple[str | None, JSON]:
    """A level becomes the effort that gives it; budgets and `includeThoughts` stay Gemini's own."""
    if 'thinkingConfig' not in config:
        return None, config
    how = at('thinkingConfig', fields, config['thinkingConfig'])
    effort = effort_of(how)
    if effort is None:
        return None, {**config, 'thinkingConfig': how}
    left = without(how, 'thinkingLevel')
    rest = without(config, 'thinkingConfig')
    return effort, {**rest, 'thinkingConfig': left} if left else rest
