"""A run's events as lines for a person: what each is about, what is said of it, and in which colour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import json

from lamella.core.events import Event
from lamella.middleware._mask import masked
from lamella.types import LamellaError, MediaPart, Message, TextPart, ToolResponsePart, Usage

Facts = Mapping[str, Any]
Line = tuple[str, str, str]
_LONGEST_WORD = 80


def line_of(event: Event, show_input: bool, max_chars: int) -> Line | None:
    """The line of an event, or `None` for one that another line tells. Events of layers unknown here are told too."""
    name, facts = event.name, event.facts
    if name == 'tool.start':
        return ('tool', f'{facts["tool"]} called with {shown(facts["input"], max_chars)}', '') if show_input else None
    if name in _SILENT:
        return None
    write = _KNOWN.get(name)
    return write(facts, max_chars) if write is not None else _other(name, facts)


def shown(value: Any, max_chars: int) -> str:
    """Text, or any other value as JSON: on one line, without credentials, cut at `max_chars`."""
    text = value if isinstance(value, str) else json.encode(value, enc_hook=repr).decode()
    text = one_line(masked(text))
    return text if len(text) <= max_chars else f'{text[: max_chars - 3]}...'


def one_line(text: str) -> str:
    """Without line breaks, and without what commands a terminal or turns text around."""
    return text if text.isprintable() else ''.join([c if c.isprintable() else ' ' for c in text])


def message_line(message: Message, max_chars: int) -> Line:
    """What a model is about to be given last."""
    return 'input', f'{message.role}: {shown(" ".join(map(_said, message.content)), max_chars)}', ''


def _said(part: Any) -> str:
    if isinstance(part, TextPart):
        return part.text
    if isinstance(part, ToolResponsePart):
        answer = part.tool_response
        return f'{answer.name} answered {json.encode(answer.output, enc_hook=repr).decode()}'
    return f'<{part.content_type or "media"}>' if isinstance(part, MediaPart) else f'<{type(part).__name__}>'


def _problem(error: object, max_chars: int) -> str:
    if isinstance(error, LamellaError):
        return f'{error.status}: {shown(error.message, max_chars)}'
    return f'{type(error).__name__}: {shown(str(error), max_chars)}'


def _seconds(value: float) -> str:
    return f'{value:.2f} s'


def _spent(usage: Usage | None) -> str:
    """`, 187+89 tokens, $0.001200`: what is known of it."""
    if usage is None:
        return ''
    known = ''
    if usage.input_tokens is not None or usage.output_tokens is not None:
        known = f', {_known(usage.input_tokens)}+{_known(usage.output_tokens)} tokens'
    elif usage.total_tokens is not None:
        known = f', {usage.total_tokens} tokens'
    return known if usage.cost_usd is None else f'{known}, ${usage.cost_usd:.6f}'


def _known(count: int | None) -> str:
    return '?' if count is None else str(count)


def _run_start(facts: Facts, max_chars: int) -> Line:
    return 'run', f'{facts["model"]} started{" (stream)" if facts["streaming"] else ""}', 'bold'


def _run_end(facts: Facts, max_chars: int) -> Line:
    turns = f'{facts["turns"]} turn{"" if facts["turns"] == 1 else "s"}'
    return 'run', f'{facts["stop_reason"]} after {turns}{_spent(facts["usage"])}', 'bold green'


def _run_error(facts: Facts, max_chars: int) -> Line:
    return 'run', f'failed: {_problem(facts["error"], max_chars)}', 'bold red'


def _model_end(facts: Facts, max_chars: int) -> Line:
    said = f'{facts["model"]} attempt {facts["attempt"]}: {facts["finish_reason"]} in {_seconds(facts["duration_s"])}'
    return 'model', said + _spent(facts['usage']), 'green'


def _model_error(facts: Facts, max_chars: int) -> Line:
    took = _seconds(facts['duration_s'])
    return 'model', f'{facts["model"]} failed in {took}: {_problem(facts["error"], max_chars)}', 'red'


def _embedding_end(facts: Facts, max_chars: int) -> Line:
    said = f'{facts["model"]} attempt {facts["attempt"]}: {_texts(facts)} in {_seconds(facts["duration_s"])}'
    return 'model', said + _spent(facts['usage']), 'green'


def _embed_end(facts: Facts, max_chars: int) -> Line:
    return 'embed', f'{facts["model"]}: {_texts(facts)}{_spent(facts["usage"])}', 'bold green'


def _embed_error(facts: Facts, max_chars: int) -> Line:
    return 'embed', f'failed: {_problem(facts["error"], max_chars)}', 'bold red'


def _texts(facts: Facts) -> str:
    return f'{facts["texts"]} text{"" if facts["texts"] == 1 else "s"}'


def _retry_wait(facts: Facts, max_chars: int) -> Line:
    wait = _seconds(facts['wait_s'])
    return 'retry', f'waits {wait} after attempt {facts["attempt"]}: {_status(facts["error"])}', 'yellow'


def _retry_gave_up(facts: Facts, max_chars: int) -> Line:
    attempts = f'{facts["attempts"]} attempt{"" if facts["attempts"] == 1 else "s"}'
    return 'retry', f'gave up after {attempts} ({facts["reason"]}): {_status(facts["error"])}', 'red'


def _fallback_switch(facts: Facts, max_chars: int) -> Line:
    return 'fallback', f'{facts["from_model"]} -> {facts["to_model"]}: {_status(facts["error"])}', 'yellow'


def _fallback_exhausted(facts: Facts, max_chars: int) -> Line:
    return 'fallback', f'all {facts["models"]} models failed: {_status(facts["error"])}', 'red'


def _tool_end(facts: Facts, max_chars: int) -> Line:
    how, colour = ('answered with an error', 'red') if facts['is_error'] else ('done', 'green')
    return 'tool', f'{facts["tool"]} {how} in {_seconds(facts["duration_s"])}', colour


def _tool_error(facts: Facts, max_chars: int) -> Line:
    return 'tool', f'{facts["tool"]} failed: {_problem(facts["error"], max_chars)}', 'red'


def _tool_interrupt(facts: Facts, max_chars: int) -> Line:
    return 'tool', f'{facts["tool"]} waits for a decision: {shown(facts["message"], max_chars)}', 'yellow'


def _status(error: object) -> str:
    return error.status if isinstance(error, LamellaError) else type(error).__name__


def _other(name: str, facts: Facts) -> Line:
    kind, _, rest = name.partition('.')
    return kind, ' '.join([rest, *(f'{key}={_fact(value)}' for key, value in facts.items())]), ''


def _fact(value: object) -> str:
    """Numbers and words; never a text, which could be content."""
    if value is None or isinstance(value, (bool, int, float)):
        return f'{value:.6g}' if isinstance(value, float) else str(value)
    if isinstance(value, BaseException):
        return _status(value)
    if not isinstance(value, str):
        return f'<{type(value).__name__}>'
    if len(value) > _LONGEST_WORD or any(c.isspace() for c in value):
        return f'<{len(value)} characters>'
    return shown(value, _LONGEST_WORD)


_SILENT = frozenset(
    (
        'embed.start',
        'embedding.start',
        'model.first_part',
        'model.start',
        'tool_approval.wanted',
        'turn.end',
        'turn.start',
    )
)
_KNOWN: dict[str, Callable[[Facts, int], Line]] = {
    'embed.end': _embed_end,
    'embed.error': _embed_error,
    'embedding.end': _embedding_end,
    'embedding.error': _model_error,
    'fallback.exhausted': _fallback_exhausted,
    'fallback.switch': _fallback_switch,
    'model.end': _model_end,
    'model.error': _model_error,
    'retry.gave_up': _retry_gave_up,
    'retry.wait': _retry_wait,
    'run.end': _run_end,
    'run.error': _run_error,
    'run.start': _run_start,
    'tool.end': _tool_end,
    'tool.error': _tool_error,
    'tool.interrupt': _tool_interrupt,
}
