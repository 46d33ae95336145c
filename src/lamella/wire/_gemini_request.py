"""A `ModelRequest` to the body of `generateContent`, and back (ai.google.dev/api/generate-content#method)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from lamella.types import JSON, ModelRequest, OutputSpec
from lamella.wire._gemini_config import decode_config, encode_output, encode_settings
from lamella.wire._gemini_contents import decode_contents, decode_system, encode_contents
from lamella.wire._gemini_json import Malformed, Warn, at, camel, fields, merged, shown, text_of, without
from lamella.wire._gemini_models import UNKNOWN, generation
from lamella.wire._gemini_tools import decode_choice, decode_tools, encode_choice, encode_tools
from lamella.wire.codec import Decoded

# Options with these names belong into `generationConfig`, wherever the caller put them.
_CONFIG_OPTIONS = frozenset(
    (
        'audioTimestamp',
        'audioTranscriptionConfig',
        'candidateCount',
        'enableAffectiveDialog',
        'enableEnhancedCivicAnswers',
        'frequencyPenalty',
        'imageConfig',
        'logprobs',
        'maxOutputTokens',
        'mediaResolution',
        'modelConfig',
        'presencePenalty',
        'responseFormat',
        'responseJsonSchema',
        'responseLogprobs',
        'responseMimeType',
        'responseModalities',
        'responseSchema',
        'routingConfig',
        'seed',
        'speechConfig',
        'stopSequences',
        'temperature',
        'thinkingConfig',
        'topK',
        'topP',
        'translationConfig',
    )
)
# Gemini refuses both of a pair: what the caller wrote by hand stays.
_RIVALS = (
    ('thinkingConfig', 'thinkingBudget', 'thinkingLevel'),
    ('thinkingConfig', 'thinkingLevel', 'thinkingBudget'),
    ('', 'responseSchema', 'responseJsonSchema'),
    ('', 'responseFormat', 'responseJsonSchema'),
    ('', 'responseFormat', 'responseMimeType'),
)
_KNOWN = ('contents', 'systemInstruction', 'tools', 'toolConfig', 'generationConfig', 'model')


# To the wire


def encode_request(request: ModelRequest, model: str, options: Mapping[str, Any], warn: Warn) -> JSON:
    """The body. `options` are merged into it and win. Raises Malformed for what cannot be sent."""
    tools, output = request.tools, request.output
    if output is not None and output.format == 'text':
        output = None
    if tools and output is not None and UNKNOWN < generation(model) < (3, 0):
        # "Function calling with a response mime type: 'application/json' is unsupported" (googleapis/python-genai#867).
        if request.tool_choice is not None and request.tool_choice.mode == 'none':
            tools = ()
        else:
            return _in_words(request, output, model, options, warn)
    system, contents = encode_contents(request.messages, model, warn)
    config = encode_settings(request.config, model, warn)
    said = {
        'systemInstruction': {'parts': system} if system else None,
        'tools': encode_tools(tools),
        'toolConfig': encode_choice(request.tool_choice, tools, warn),
        'generationConfig': config if output is None else {**config, **encode_output(output)},
    }
    return _with_options({'contents': contents, **{name: value for name, value in said.items() if value}}, options)


def _in_words(request: ModelRequest, output: OutputSpec, model: str, options: Mapping[str, Any], warn: Warn) -> JSON:
    warn(f'{model} cannot be held to a schema while it may call tools: the schema was put into the system instruction')
    body = encode_request(request.replace(output=None), model, options, warn)
    given = body.get('systemInstruction', {}).get('parts', [])
    return {**body, 'systemInstruction': {'parts': [*given, {'text': _instruction(output)}]}}


def _instruction(output: OutputSpec) -> str:
    if output.schema is None:
        return 'Answer with JSON only: no other text around it, no code fence.'
    schema = msgspec.json.encode(output.schema).decode()
    return f'Answer with JSON only (no other text around it, no code fence) that fits this JSON Schema: {schema}'


def _with_options(body: JSON, options: Mapping[str, Any]) -> JSON:
    config: JSON = {}
    for key, value in _camel(options).items():
        if key == 'generationConfig':
            config = merged(config, _config(value))
        elif key in _CONFIG_OPTIONS:
            config = merged(config, _config({key: value}))
        elif key == 'tools' and isinstance(value, (list, tuple)):
            body = {**body, 'tools': [*body.get('tools', ()), *value]}
        else:
            body = merged(body, {key: _camel(value) if key == 'toolConfig' else value})
    if config:
        body = {**body, 'generationConfig': _set(_settled(body.get('generationConfig', {}), config))}
    return _set(body)


def _set(body: JSON) -> JSON:
    """Without the fields that an option took out."""
    return {name: value for name, value in body.items() if value is not None}


def _config(value: Any) -> JSON:
    if not isinstance(value, Mapping):
        raise Malformed(f'is {shown(value)}: give a dict', "provider_options['google']['generationConfig']")
    config = _camel(value)
    return {**config, 'thinkingConfig': _camel(config['thinkingConfig'])} if 'thinkingConfig' in config else config


def _camel(value: Any) -> Any:
    return {camel(key): item for key, item in value.items()} if isinstance(value, Mapping) else value


def _settled(ours: JSON, theirs: JSON) -> JSON:
    for inside, given, rival in _RIVALS:
        if given not in (theirs.get(inside) or {} if inside else theirs):
            continue
        ours = {**ours, inside: without(ours.get(inside, {}), rival)} if inside else without(ours, rival)
    return merged(ours, theirs)


# From the wire


def decode_request(value: Any, model: str | None, stream: bool, provider: str) -> Decoded:
    """What no field of Lamella stands for is kept in `provider_options[provider]`. Raises Malformed."""
    body = fields(value)
    functions, tools = decode_tools(body.get('tools'))
    config, output, config_rest = at('generationConfig', decode_config, body.get('generationConfig'))
    choice, choice_rest = at('toolConfig', decode_choice, body.get('toolConfig'))
    system = at('systemInstruction', decode_system, body.get('systemInstruction'))
    rest = {'tools': tools, 'generationConfig': config_rest, 'toolConfig': choice_rest}
    options = without(body, *_KNOWN) | _nonempty(rest.items())
    request = ModelRequest(
        messages=(*system, *decode_contents(body.get('contents'))),
        config=config,
        tools=functions,
        tool_choice=choice,
        output=output,
        provider_options={provider: options} if options else {},
    )
    return Decoded(_model(model or text_of(body, 'model')), request, stream)


def _nonempty(items: Iterable[tuple[str, Any]]) -> JSON:
    return {name: value for name, value in items if value}


def _model(name: str) -> str:
    return name.removeprefix('publishers/google/').removeprefix('models/')
