"""The settings of a request in Anthropic's words: sampling, thinking, tools, output, and what cannot be said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamella.types import JSON, Message, ModelRequest, ReasoningPart, ToolChoice, ToolDefinition
from lamella.wire._anthropic_json import KEY, extras_of
from lamella.wire._anthropic_models import Traits, traits
from lamella.wire._anthropic_schema import closed, has_open_objects

# The API version since which no model takes temperature, top_p and top_k (platform.claude.com/docs/en/api/versioning).
NO_SAMPLING_SINCE = '2026-10-21'

# Tokens of thinking for models that want a number; 1,024 is the least that the API takes.
BUDGETS = {'minimal': 1_024, 'low': 2_048, 'medium': 8_192}
HIGH_BUDGET = 16_384
LEAST_BUDGET = 1_024
ROOM_FOR_THE_ANSWER = 8_000

_NO_WORD = ('seed', 'presence_penalty', 'frequency_penalty', 'logprobs')
_HEADERS = ('betas',)


def settings(request: ModelRequest, model: str, version: str, warnings: list[str]) -> JSON:
    """Everything of the body but model, system, messages, stream, and the caller's own options."""
    known, options = traits(model), request.provider_options.get(KEY, {})
    limit = options.get('max_tokens', request.config.max_output_tokens)
    body: JSON = {}
    if (thinking := _thinking(request, model, known, limit, warnings)) is not None and 'thinking' not in options:
        body['thinking'] = thinking
    thinks = options.get('thinking', thinking)
    body.update(_sampling(request, model, known, version, _is_on(thinks), warnings))
    if request.config.stop_sequences:
        body['stop_sequences'] = list(request.config.stop_sequences)
    if output_config := _output_config(request, model, known, warnings):
        body['output_config'] = output_config
    body.update(_tools(request))
    for name in _NO_WORD:
        if (value := getattr(request.config, name)) is not None:
            warnings.append(f'config.{name}={value!r} is not sent: the Anthropic Messages API has no such setting')
    body['max_tokens'] = _default_max_tokens(thinks, known) if limit is None else limit
    return body


def merged(body: JSON, options: Mapping[str, Any]) -> JSON:
    """The caller's own options over the body: `tools` are added, objects merged, `None` takes a key out of the body.

    `betas` is a header and not part of the body.
    """
    for name, value in options.items():
        if name in _HEADERS:
            continue
        if value is None:
            body.pop(name, None)
        elif name == 'tools':
            body[name] = [*body.get(name, ()), *value]
        elif isinstance(value, Mapping) and isinstance(body.get(name), dict):
            body[name] = {**body[name], **value}
        else:
            body[name] = value
    return body


def _is_on(thinking: Any) -> bool:
    return isinstance(thinking, Mapping) and thinking.get('type') in ('enabled', 'adaptive')


def _default_max_tokens(thinking: Any, known: Traits) -> int:
    budget = thinking.get('budget_tokens') if isinstance(thinking, Mapping) else None
    return max(known.max_tokens, budget + ROOM_FOR_THE_ANSWER) if isinstance(budget, int) else known.max_tokens


def _thinking(request: ModelRequest, model: str, known: Traits, limit: int | None, warnings: list[str]) -> JSON | None:
    effort = request.config.reasoning_effort
    if effort is None:
        return None
    if effort == 'none':
        return _no_thinking(model, known, warnings)
    if known.thinking == 'none':
        warnings.append(f'config.reasoning_effort={effort!r} is not sent: {model} cannot think')
        return None
    if known.thinking != 'budget':
        return None if _is_forced(request.tool_choice) else {'type': 'adaptive'}
    if reason := _why_not(request, limit):
        warnings.append(f'config.reasoning_effort={effort!r} is not sent: {model} cannot think {reason}')
        return None
    budget = BUDGETS.get(effort, HIGH_BUDGET)
    return {'type': 'enabled', 'budget_tokens': budget if limit is None else max(LEAST_BUDGET, min(budget, limit // 2))}


def _no_thinking(model: str, known: Traits, warnings: list[str]) -> JSON | None:
    if known.thinking == 'always':
        warnings.append(f"config.reasoning_effort='none' is sent as 'low': {model} always thinks")
    return {'type': 'disabled'} if known.thinking == 'default' else None


def _why_not(request: ModelRequest, limit: int | None) -> str:
    """Where a budget of thinking is refused (platform.claude.com/docs/en/build-with-claude/extended-thinking)."""
    if _is_forced(request.tool_choice):
        return 'with a tool_choice that forces a tool'
    if limit is not None and limit <= LEAST_BUDGET:
        return f'within max_output_tokens={limit}: ask for more than {LEAST_BUDGET}'
    if _turn_began_without_thinking(request.messages):
        return 'in the middle of a turn that began without thinking'
    return ''


def _turn_began_without_thinking(messages: tuple[Message, ...]) -> bool:
    if not messages or messages[-1].role != 'tool':
        return False
    first: Message | None = None
    for message in reversed(messages):
        if message.role not in ('assistant', 'tool'):
            break
        first = message if message.role == 'assistant' else first
    return first is not None and not any(type(part) is ReasoningPart for part in first.content[:1])


def _is_forced(choice: ToolChoice | None) -> bool:
    return choice is not None and choice.mode in ('required', 'tool')


def _sampling(
    request: ModelRequest, model: str, known: Traits, version: str, thinks: bool, warnings: list[str]
) -> JSON:
    names = ('temperature', 'top_p', 'top_k')
    given = {name: value for name in names if (value := getattr(request.config, name)) is not None}
    if not given:
        return {}
    refused: dict[str, str] = {}
    if version >= NO_SAMPLING_SINCE:
        refused = dict.fromkeys(given, f'the API of version {version} has no such setting')
    elif not known.sampling:
        refused = dict.fromkeys(given, f'{model} refuses it')
    elif thinks:
        refused = dict.fromkeys(
            [n for n in given if n != 'top_p' and given[n] != 1], f'{model} refuses it while it thinks'
        )
    if {'temperature', 'top_p'} <= given.keys() - refused.keys() and not known.top_p_with_temperature:
        refused['top_p'] = f'{model} takes temperature or top_p, not both'
    warnings.extend(f'config.{name}={given[name]!r} is not sent: {reason}' for name, reason in refused.items())
    return {name: value for name, value in given.items() if name not in refused}


def _output_config(request: ModelRequest, model: str, known: Traits, warnings: list[str]) -> JSON:
    config: JSON = {}
    effort = request.config.reasoning_effort
    if effort is not None and known.effort and (effort != 'none' or known.thinking == 'always'):
        config['effort'] = 'low' if effort in ('minimal', 'none') else effort
    if (form := _format(request, model, known, warnings)) is not None:
        config['format'] = form
    return config


def _format(request: ModelRequest, model: str, known: Traits, warnings: list[str]) -> JSON | None:
    output = request.output
    if output is None or output.format != 'json':
        return None
    if output.schema is None:
        warnings.append("output.format='json' is not sent: the Anthropic Messages API holds answers to a schema only")
        return None
    if not known.structured_output:
        warnings.append(f'output.schema is not sent: {model} has no structured output')
        return None
    if output.strict is False:
        return {'type': 'json_schema', 'schema': output.schema}
    if has_open_objects(output.schema):
        warnings.append(
            'output.schema has objects with additionalProperties: Anthropic closes them to the named properties'
        )
    return {'type': 'json_schema', 'schema': closed(output.schema)}


def _tools(request: ModelRequest) -> JSON:
    choice, parallel = request.tool_choice, request.config.parallel_tool_calls
    body: JSON = {}
    if request.tools:
        body['tools'] = [_tool(tool) for tool in request.tools]
    said = _choice(choice or ToolChoice())
    if parallel is False and said['type'] != 'none':
        said['disable_parallel_tool_use'] = True
    wanted = choice is not None or len(said) > 1
    if wanted and (request.tools or _is_forced(choice) or request.provider_options.get(KEY, {}).get('tools')):
        body['tool_choice'] = said
    return body


def _choice(choice: ToolChoice) -> JSON:
    if choice.mode == 'tool':
        return {'type': 'tool', 'name': choice.name}
    return {'type': {'auto': 'auto', 'none': 'none', 'required': 'any'}[choice.mode]}


def _tool(tool: ToolDefinition) -> JSON:
    body: JSON = {'name': tool.name}
    if tool.description:
        body['description'] = tool.description
    schema = tool.input_schema
    body['input_schema'] = schema if 'type' in schema else {'type': 'object', **schema}
    return {**extras_of(tool.metadata), **body}
