"""A whole answer of the Anthropic Messages API, and the facts at the end of one, whole or streamed."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

from lamella.types import (
    JSON,
    Finished,
    FinishReason,
    Message,
    ModelResponse,
    Part,
    ReasoningPart,
    ToolRequestPart,
    Usage,
    finished_of,
)
from lamella.wire._anthropic_blocks import BlockWriter, part_of, sources_of
from lamella.wire._anthropic_json import Malformed, extras_of, maybe, metadata_of, need, rest_of

# platform.claude.com/docs/en/build-with-claude/handling-stop-reasons
_REASONS: dict[str, FinishReason] = {
    'end_turn': 'stop',
    'stop_sequence': 'stop',
    'max_tokens': 'length',
    'model_context_window_exceeded': 'length',
    'tool_use': 'tool_calls',
    'refusal': 'blocked',
    'pause_turn': 'other',
}
_WORDS = {'stop': 'end_turn', 'length': 'max_tokens', 'tool_calls': 'tool_use', 'blocked': 'refusal'}
# After these the last block may have been left in the middle.
CUT_OFF = frozenset(('max_tokens', 'model_context_window_exceeded', 'refusal'))

_KNOWN = ('id', 'type', 'role', 'model', 'content', 'stop_reason', 'stop_sequence', 'usage')
_COUNTS = ('input_tokens', 'output_tokens', 'cache_read_input_tokens', 'cache_creation_input_tokens')
_DELTA = ('stop_sequence', 'stop_details', 'container')


def whole_answer(message: JSON) -> ModelResponse:
    """Raises Malformed."""
    blocks = need(message, 'content', list, 'message')
    cut = message.get('stop_reason') in CUT_OFF and bool(blocks) and is_tool_use(blocks[-1])
    parts = [part_of(block, f'content[{i}]') for i, block in enumerate(blocks)]
    dropped = parts.pop() if cut else None
    end = closing(message, dropped.tool_request.name if isinstance(dropped, ToolRequestPart) else None)
    return ModelResponse(
        message=Message('assistant', tuple([part for part in parts if part is not None])),
        finish_reason=end.finish_reason,  # type: ignore[arg-type]
        finish_message=end.finish_message,
        usage=end.usage,
        model=maybe(message, 'model', str, 'message'),
        id=maybe(message, 'id', str, 'message'),
        sources=tuple([s for i, block in enumerate(blocks) for s in sources_of(block, i)]),
        metadata=end.metadata or {},
        warnings=end.warnings,
    )


def is_tool_use(block: Any) -> bool:
    return isinstance(block, dict) and block.get('type') == 'tool_use'


def closing(message: JSON, dropped: str | None) -> Finished:
    """How the answer ended. `dropped` names a tool whose input was cut off: half an input is no request."""
    reason = maybe(message, 'stop_reason', str, 'message')
    finish: FinishReason = 'unknown' if reason is None else _REASONS.get(reason, 'other')
    extras = {name: value for name, value in rest_of(message, *_KNOWN).items() if value is not None}
    if message.get('stop_sequence') is not None:
        extras['stop_sequence'] = message['stop_sequence']
    if reason is not None and _WORDS.get(finish) != reason:
        extras['stop_reason'] = reason
    counts = maybe(message, 'usage', dict, 'message') or {}
    if more := {name: value for name, value in rest_of(counts, *_COUNTS).items() if _says_more(name, value)}:
        extras['usage'] = more
    return Finished(
        finish_reason=finish,
        usage=usage_of(counts) if counts else None,
        finish_message=_finish_message(message),
        warnings=(f'{reason} cut off the request of tool {dropped!r}: left out',) if dropped else (),
        metadata=metadata_of(extras),
    )


def _finish_message(message: JSON) -> str | None:
    details = message.get('stop_details')
    said = details.get('explanation') if isinstance(details, dict) else None
    return said if isinstance(said, str) and said else None


def usage_of(counts: JSON) -> Usage:
    """`input_tokens` of the API leaves out what was read from and written to the cache; ours has all three
    (platform.claude.com/docs/en/api/messages, "usage")."""
    fresh, written, read, out = [
        maybe(counts, name, int, 'usage')
        for name in ('input_tokens', 'cache_creation_input_tokens', 'cache_read_input_tokens', 'output_tokens')
    ]
    entered = None if fresh is None else fresh + (written or 0) + (read or 0)
    details = counts.get('output_tokens_details')
    return Usage(
        input_tokens=entered,
        output_tokens=out,
        total_tokens=None if entered is None or out is None else entered + out,
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=maybe(details, 'thinking_tokens', int, 'usage') if isinstance(details, dict) else None,
    )


def _says_more(name: str, value: Any) -> bool:
    if name == 'output_tokens_details' and isinstance(value, dict):
        return value.keys() != {'thinking_tokens'}
    return value is not None


# ── answers as a server sends them ──────────────────────────────────────────────────────────────────────────────────


def answer_body(response: ModelResponse, model: str) -> JSON:
    """The body of an answer. Blocks of other vendors and thinking of theirs are left out."""
    end = ending(finished_of(response))
    content = _blocks(response.message.content)
    id = response.id or f'msg_{blake2b(msgspec.json.encode(content), digest_size=12).hexdigest()}'
    return {
        **start_body(response.model or model, id),
        'content': content,
        **end['delta'],
        **rest_of(end, 'delta'),
    }


def start_body(model: str, id: str) -> JSON:
    """The beginning of an answer: an empty message."""
    return {
        'id': id,
        'type': 'message',
        'role': 'assistant',
        'model': model,
        'content': [],
        'stop_reason': None,
        'stop_sequence': None,
        'usage': {'input_tokens': 0, 'output_tokens': 0},
    }


class AnswerWriter(BlockWriter):
    """Blocks of an answer: thinking of other vendors is shown too, with the empty signature of nobody."""

    def thinking(self, part: ReasoningPart, where: str) -> JSON | None:
        if part.redacted:
            return super().thinking(part, where)
        return {'type': 'thinking', 'thinking': part.text, 'signature': part.signature or ''}


def _blocks(parts: tuple[Part, ...]) -> list[JSON]:
    writer = AnswerWriter([])
    blocks = [writer.block(part, f'content[{i}]') for i, part in enumerate(parts)]
    return [block for block in blocks if block is not None]


def ending(end: Finished) -> JSON:
    """What closes an answer: a `message_delta` event without its type, and fields of a whole answer."""
    extras = extras_of(end.metadata)
    reason = extras.pop('stop_reason', None) or _WORDS.get(end.finish_reason, 'end_turn')
    counts = extras.pop('usage', None)
    delta = {'stop_reason': reason, 'stop_sequence': None}
    if end.finish_reason == 'blocked' and end.finish_message:
        delta['stop_details'] = {'type': 'refusal', 'category': None, 'explanation': end.finish_message}
    delta.update({name: extras.pop(name) for name in _DELTA if name in extras})
    return {'delta': delta, 'usage': {**_counts(end.usage), **(counts if isinstance(counts, dict) else {})}, **extras}


def _counts(usage: Usage | None) -> JSON:
    """The API always counts input and output; what is not known is zero on this wire."""
    usage = usage or Usage()
    read, written = usage.cached_tokens, usage.cache_write_tokens
    counts: JSON = {
        'input_tokens': max(0, (usage.input_tokens or 0) - (read or 0) - (written or 0)),
        'output_tokens': usage.output_tokens or 0,
    }
    if written is not None:
        counts['cache_creation_input_tokens'] = written
    if read is not None:
        counts['cache_read_input_tokens'] = read
    if usage.reasoning_tokens is not None:
        counts['output_tokens_details'] = {'thinking_tokens': usage.reasoning_tokens}
    return counts


def message_of(data: Any) -> JSON:
    """Raises Malformed for anything but a message."""
    if not isinstance(data, dict) or data.get('type', 'message') != 'message':
        raise Malformed(f'the answer is no message: {str(data)[:200]}')
    return data
