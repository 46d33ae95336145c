"""The events of a streamed answer as parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from lamella.types import (
    JSON,
    Finished,
    LamellaError,
    ModelResponse,
    Raw,
    ReasoningDelta,
    ResponseStarted,
    StreamPart,
    TextDelta,
    ToolInputDelta,
    ToolRequested,
    fold,
)
from lamella.wire._anthropic_answer import CUT_OFF, closing, usage_of
from lamella.wire._anthropic_blocks import data_part, source_of, text_extras, tool_extras, tool_request_of
from lamella.wire._anthropic_json import KEY, Malformed, maybe, metadata_of, need, rest_of
from lamella.wire.errors import error_from_event, redacted
from lamella.wire.sse import Event


class _Delta(msgspec.Struct):
    type: str = ''
    text: str = ''
    thinking: str = ''
    signature: str = ''
    partial_json: str = ''


class _Head(msgspec.Struct):
    """What most events are about; the rest is read when needed."""

    type: str
    index: int = 0
    delta: _Delta | None = None


_HEAD = msgspec.json.Decoder(_Head)


class _Block:
    """A block that is still arriving."""

    __slots__ = ('data', 'kind', 'pieces')

    def __init__(self, data: JSON, kind: str) -> None:
        self.data = data
        self.kind = kind
        self.pieces: list[str] = []


class AnthropicStreamDecoder:
    """Parts from the events of `POST /v1/messages` with `stream` (platform.claude.com/docs/en/build-with-claude/streaming).

    A tool request is handed out when something shows that its input is whole: the next block, or a stop reason that is no
    cut. `finish` raises UNAVAILABLE when no stop reason came.
    """

    __slots__ = ('_done', '_held', '_message', '_open', '_parts', '_usage')

    def __init__(self) -> None:
        self._message: JSON = {}
        self._usage: JSON = {}
        self._open: dict[int, _Block] = {}
        self._held: list[ToolRequested] = []
        self._parts: list[StreamPart] = []
        self._done = False

    def feed(self, event: Event) -> Sequence[StreamPart]:
        if self._done:
            return ()
        try:
            parts = self._parts_of(event.data)
        except (Malformed, msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise self._malformed(error, event.data) from error
        self._parts += parts
        return parts

    def finish(self) -> Sequence[StreamPart]:
        if self._done:
            return ()
        if self._message.get('stop_reason') is not None:
            try:
                return self._stop()
            except Malformed as error:
                raise self._malformed(error, 'the end') from error
        raise LamellaError(
            'UNAVAILABLE',
            f'the answer was cut off after {len(self._parts)} parts: no stop_reason came',
            partial=self._partial(),
        )

    def _malformed(self, error: Exception, data: str) -> LamellaError:
        message = (
            f'the provider sent an event that is not of the Anthropic protocol: {error} (in {redacted(data[:200])!r})'
        )
        return LamellaError('INTERNAL', message, partial=self._partial())

    def _partial(self) -> ModelResponse | None:
        if not self._parts:
            return None
        counts = {name: value for name, value in self._usage.items() if type(value) is int}
        return fold(self._parts).replace(usage=usage_of(counts) if counts else None)

    def _parts_of(self, data: str) -> Sequence[StreamPart]:
        head = _HEAD.decode(data)
        if not self._parts and head.type not in _FIRST:
            return self._too_early(head.type)
        delta = head.delta
        if delta is not None and head.type == 'content_block_delta' and (handler := _DELTAS.get(delta.type)):
            return handler(self, head.index, delta)
        whole = msgspec.json.decode(data)
        if (event_handler := _EVENTS.get(head.type)) is None:
            return [Raw(whole, head.index)]
        return event_handler(self, head.index, whole)

    def _too_early(self, kind: str) -> Sequence[StreamPart]:
        if kind in _EVENTS:
            raise Malformed(f'{kind} before message_start')
        return ()

    # ── pieces of blocks ────────────────────────────────────────────────────────────────────────────────────────────

    def _text(self, index: int, delta: _Delta) -> Sequence[StreamPart]:
        if index not in self._open:
            self._open[index] = _Block({'type': 'text', 'text': ''}, 'text')
        return [TextDelta(delta.text, index)] if delta.text else ()

    def _thinking(self, index: int, delta: _Delta) -> Sequence[StreamPart]:
        if index not in self._open:
            self._open[index] = _Block({'type': 'thinking', 'thinking': ''}, 'thinking')
        return [ReasoningDelta(delta.thinking, index)] if delta.thinking else ()

    def _signature(self, index: int, delta: _Delta) -> Sequence[StreamPart]:
        return [ReasoningDelta('', index, delta.signature)] if delta.signature else ()

    def _tool_input(self, index: int, delta: _Delta) -> Sequence[StreamPart]:
        block = self._block(index)
        if not delta.partial_json:
            return ()
        block.pieces.append(delta.partial_json)
        if block.kind != 'tool_use':
            return ()
        return [ToolInputDelta(delta.partial_json, index, block.data.get('name'), block.data.get('id'))]

    def _block(self, index: int) -> _Block:
        if index not in self._open:
            raise Malformed(f'a delta for content block {index}, which has not begun')
        return self._open[index]

    def _other_delta(self, index: int, event: JSON) -> Sequence[StreamPart]:
        """Citations, and whatever else a block may be made of: strings grow, anything else is replaced."""
        delta, block = need(event, 'delta', dict, 'content_block_delta'), self._block(index)
        if delta.get('type') == 'citations_delta':
            citation = delta.get('citation')
            block.data['citations'] = [*(block.data.get('citations') or ()), citation]
            return [source_of(citation, index)]
        for name, value in rest_of(delta, 'type').items():
            old = block.data.get(name)
            block.data[name] = old + value if isinstance(old, str) and isinstance(value, str) else value
        return ()

    # ── events ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, index: int, event: JSON) -> Sequence[StreamPart]:
        if self._parts:
            raise Malformed('a second message_start')
        message = need(event, 'message', dict, 'message_start')
        self._message = rest_of(message, 'content', 'usage')
        self._count(maybe(message, 'usage', dict, 'message') or {})
        return [ResponseStarted(maybe(message, 'model', str, 'message'), maybe(message, 'id', str, 'message'))]

    def _block_start(self, index: int, event: JSON) -> Sequence[StreamPart]:
        data = need(event, 'content_block', dict, 'content_block_start')
        kind = need(data, 'type', str, 'content_block')
        parts = self._release(whole=True)
        self._open[index] = _Block(data, kind)
        if kind == 'text' and (text := maybe(data, 'text', str, 'content_block')):
            parts.append(TextDelta(text, index))
        elif kind == 'thinking':
            words = maybe(data, 'thinking', str, 'content_block') or ''
            signature = maybe(data, 'signature', str, 'content_block') or None
            if words or signature:
                parts.append(ReasoningDelta(words, index, signature))
        elif kind == 'tool_use':
            tool_request_of(data, 'content_block')
        return parts

    def _block_stop(self, index: int, event: JSON) -> Sequence[StreamPart]:
        block = self._open.pop(index, None)
        return () if block is None else self._closed(block, index)

    def _closed(self, block: _Block, index: int) -> Sequence[StreamPart]:
        data, kind = block.data, block.kind
        if kind == 'tool_use':
            request = tool_request_of({**data, 'input': _input(block)}, 'content_block')
            self._held.append(ToolRequested(request, index, metadata_of(tool_extras(data))))
            return ()
        if kind == 'text':
            extras = text_extras(data)
            return [TextDelta('', index, metadata_of(extras))] if extras else ()
        if kind == 'thinking':
            extras = rest_of(data, 'type', 'thinking', 'signature')
            return [ReasoningDelta('', index, metadata=metadata_of(extras))] if extras else ()
        if kind == 'redacted_thinking':
            need(data, 'data', str, 'content_block')
            return [ReasoningDelta('', index, None, True, {KEY: rest_of(data, 'type')})]
        kept = data_part({**data, 'input': _input(block)} if block.pieces else data)
        return [Raw(kept.data, index, True, kept.metadata)]

    def _message_delta(self, index: int, event: JSON) -> Sequence[StreamPart]:
        delta = maybe(event, 'delta', dict, 'message_delta') or {}
        changes = {**rest_of(event, 'type', 'delta', 'usage'), **delta}
        self._message.update({name: value for name, value in changes.items() if value is not None})
        self._count(maybe(event, 'usage', dict, 'message_delta') or {})
        return ()

    def _message_stop(self, index: int, event: JSON) -> Sequence[StreamPart]:
        return self._stop()

    def _ping(self, index: int, event: JSON) -> Sequence[StreamPart]:
        return ()

    def _error(self, index: int, event: JSON) -> Sequence[StreamPart]:
        raise error_from_event(event, partial=self._partial())

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _stop(self) -> list[StreamPart]:
        parts: list[StreamPart] = []
        for index, block in self._open.items():
            parts += self._closed(block, index)
        self._open = {}
        cut = self._message.get('stop_reason') in CUT_OFF
        dropped = self._held[-1].tool_request.name if cut and self._held else None
        parts += self._release(whole=not cut)
        self._done = True
        return [*parts, self._finished(dropped)]

    def _finished(self, dropped: str | None) -> Finished:
        return closing({**self._message, 'usage': self._usage}, dropped)

    def _release(self, *, whole: bool) -> list[StreamPart]:
        """The tool requests that wait; without the last one when the answer was cut."""
        held, self._held = self._held, []
        return [*held] if whole else [*held[:-1]]

    def _count(self, usage: JSON) -> None:
        """Counts are running totals; those that are left out stand."""
        self._usage.update({name: value for name, value in usage.items() if value is not None})


def _input(block: _Block) -> Any:
    """The input, parsed once. What is no JSON stays text, which no tool's schema takes for its input."""
    text = ''.join(block.pieces)
    if not text:
        return block.data.get('input')
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


_FIRST = frozenset(('message_start', 'ping', 'error'))
_DELTAS: dict[str, Callable[[AnthropicStreamDecoder, int, _Delta], Sequence[StreamPart]]] = {
    'text_delta': AnthropicStreamDecoder._text,
    'thinking_delta': AnthropicStreamDecoder._thinking,
    'signature_delta': AnthropicStreamDecoder._signature,
    'input_json_delta': AnthropicStreamDecoder._tool_input,
}
_EVENTS: dict[str, Callable[[AnthropicStreamDecoder, int, JSON], Sequence[StreamPart]]] = {
    'message_start': AnthropicStreamDecoder._start,
    'content_block_start': AnthropicStreamDecoder._block_start,
    'content_block_delta': AnthropicStreamDecoder._other_delta,
    'content_block_stop': AnthropicStreamDecoder._block_stop,
    'message_delta': AnthropicStreamDecoder._message_delta,
    'message_stop': AnthropicStreamDecoder._message_stop,
    'ping': AnthropicStreamDecoder._ping,
    'error': AnthropicStreamDecoder._error,
}
