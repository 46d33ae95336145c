"""A run's facts as attributes by OpenTelemetry's conventions for generative AI, and Lamella's own beside them.

Names as of the conventions 1.41 (opentelemetry.io/docs/specs/semconv/gen-ai/); all of them are "in development" there, so
that the names stand here once, as text, and no package of them is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from lamella.core.spans import Kind
from lamella.middleware._mask import masked
from lamella.types import (
    JSON,
    LamellaError,
    MediaPart,
    Message,
    ModelRequest,
    ModelResponse,
    ReasoningPart,
    TextPart,
    ToolRequestPart,
    ToolResponsePart,
    Usage,
)

CONVENTIONS = '1.41.0'
SCHEMA_URL = f'https://opentelemetry.io/schemas/{CONVENTIONS}'
DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
OPERATIONS: Mapping[Kind, str] = {
    'run': 'invoke_agent',
    'model': 'chat',
    'tool': 'execute_tool',
    'embedding': 'embeddings',
}
_PROVIDERS = {'googleai': 'gcp.gemini', 'vertexai': 'gcp.vertex_ai', 'azure': 'azure.ai.openai'}
_SETTINGS = (
    ('temperature', 'gen_ai.request.temperature'),
    ('top_p', 'gen_ai.request.top_p'),
    ('top_k', 'gen_ai.request.top_k'),
    ('max_output_tokens', 'gen_ai.request.max_tokens'),
    ('seed', 'gen_ai.request.seed'),
    ('presence_penalty', 'gen_ai.request.presence_penalty'),
    ('frequency_penalty', 'gen_ai.request.frequency_penalty'),
)
_TOKENS = (
    ('input_tokens', 'gen_ai.usage.input_tokens'),
    ('output_tokens', 'gen_ai.usage.output_tokens'),
    ('cached_tokens', 'gen_ai.usage.cache_read.input_tokens'),
    ('cache_write_tokens', 'gen_ai.usage.cache_creation.input_tokens'),
    ('reasoning_tokens', 'gen_ai.usage.reasoning.output_tokens'),
    ('cost_usd', 'lamella.cost_usd'),
)

Attributes = dict[str, Any]


def provider_of(model: str) -> str:
    """The conventions' name of a provider, from `provider/model`."""
    provider = model.partition('/')[0]
    return _PROVIDERS.get(provider, provider)


def short_name(model: str) -> str:
    return model.partition('/')[2] or model


def span_name(kind: Kind, name: str) -> str:
    if kind in ('model', 'embedding'):
        return f'{OPERATIONS[kind]} {short_name(name)}'
    return f'execute_tool {name}' if kind == 'tool' else f'{kind} {name}'.rstrip()


def beginning(kind: Kind, facts: Mapping[str, Any], capture: int) -> Attributes:
    """What is known when a span begins. `capture` is how many characters of each content are kept, 0 for none."""
    found: Attributes = {}
    if kind in OPERATIONS:
        found['gen_ai.operation.name'] = OPERATIONS[kind]
    if kind in ('model', 'embedding'):
        found['gen_ai.provider.name'] = provider_of(facts['model'])
        found['gen_ai.request.model'] = short_name(facts['model'])
        found['lamella.attempt'], found['lamella.call'] = facts.get('attempt', 1), facts.get('call', 0)
        request = facts.get('request')
        if isinstance(request, ModelRequest):
            found.update(_of_request(request, capture))
    elif kind == 'tool':
        found['gen_ai.tool.name'], found['gen_ai.tool.type'] = facts['tool'], 'function'
        if facts.get('ref') is not None:
            found['gen_ai.tool.call.id'] = facts['ref']
        if capture:
            found['gen_ai.tool.call.arguments'] = shown(facts.get('input'), capture)
    elif kind == 'turn':
        found['lamella.turn'] = facts['turn']
    elif 'model' in facts:
        found['gen_ai.request.model'] = facts['model']
        found['gen_ai.request.stream'] = bool(facts.get('streaming', False))
    return found


def _of_request(request: ModelRequest, capture: int) -> Attributes:
    config = request.config
    found = {name: value for field, name in _SETTINGS if (value := getattr(config, field)) is not None}
    if config.stop_sequences:
        found['gen_ai.request.stop_sequences'] = list(config.stop_sequences)
    if request.output is not None:
        found['gen_ai.output.type'] = request.output.format
    if capture:
        system = [message for message in request.messages if message.role == 'system']
        others = [message for message in request.messages if message.role != 'system']
        found['gen_ai.input.messages'] = shown([_message(message) for message in others], capture)
        if system:
            parts = [part for message in system for part in _message(message)['parts']]
            found['gen_ai.system_instructions'] = shown(parts, capture)
    return found


def ending(kind: Kind, facts: Mapping[str, Any], capture: int) -> Attributes:
    """What is known when a span ends."""
    found = dict(_of_usage(facts.get('usage')))
    if kind == 'model':
        if (reason := facts.get('finish_reason')) is not None:
            found['gen_ai.response.finish_reasons'] = [reason]
        if facts.get('answered_by'):
            found['gen_ai.response.model'] = short_name(facts['answered_by'])
        if facts.get('id'):
            found['gen_ai.response.id'] = facts['id']
        if 'why' in facts:
            found['lamella.left'] = facts['why']
    elif kind == 'tool' and 'is_error' in facts:
        found['lamella.tool.is_error'] = facts['is_error']
    elif kind == 'run':
        for name in ('stop_reason', 'turns'):
            if facts.get(name) is not None:
                found[f'lamella.{name}'] = facts[name]
        if facts.get('model'):
            found['gen_ai.response.model'] = facts['model']
    response = facts.get('response')
    if capture and kind == 'turn' and isinstance(response, ModelResponse):
        said = {**_message(response.message), 'finish_reason': response.finish_reason}
        found['gen_ai.output.messages'] = shown([said], capture)
    if (error := facts.get('error')) is not None:
        found['error.type'] = error_type(error)
    return found


def _of_usage(usage: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(usage, Usage):
        yield from [(name, value) for field, name in _TOKENS if (value := getattr(usage, field)) is not None]


def error_type(error: BaseException) -> str:
    """The status of an error of ours, the class of any other."""
    return error.status if isinstance(error, LamellaError) else type(error).__name__


def noted(facts: Mapping[str, Any], limit: int = 200) -> Attributes:
    """The facts of a layer's decision: numbers and flags as they are, texts without credentials, errors by their type."""
    found: Attributes = {}
    for name, value in facts.items():
        if isinstance(value, (bool, int, float)):
            found[f'lamella.{name}'] = value
        elif isinstance(value, str):
            found[f'lamella.{name}'] = cut(masked(value), limit)
        elif isinstance(value, BaseException):
            found['error.type'] = error_type(value)
    return found


def shown(value: Any, limit: int) -> str:
    """As JSON, without what looks like a credential, cut."""
    try:
        text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=repr).decode()
    except (TypeError, ValueError, msgspec.MsgspecError):
        text = repr(value)
    return cut(masked(cut(text, limit)), limit)


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f'{text[: limit - 1]}…'


def _message(message: Message) -> JSON:
    """A message in the form of the conventions: role and parts."""
    return {'role': message.role, 'parts': _parts(message.content)}


def _parts(content: Sequence[Any]) -> list[JSON]:
    return [_part(part) for part in content]


def _part(part: Any) -> JSON:
    match part:
        case TextPart():
            return {'type': 'text', 'content': part.text}
        case ReasoningPart():
            return {'type': 'reasoning', 'content': part.text}
        case ToolRequestPart():
            request = part.tool_request
            return {'type': 'tool_call', 'id': request.ref, 'name': request.name, 'arguments': request.input}
        case ToolResponsePart():
            return {'type': 'tool_call_response', 'id': part.tool_response.ref, 'result': part.tool_response.output}
        case MediaPart():
            return {'type': 'blob' if part.url is None else 'uri', 'mime_type': part.content_type}
    return {'type': type(part).__name__}
