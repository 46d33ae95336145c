"""The events of a streamed answer to parts (platform.openai.com/docs/api-reference/responses-streaming)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from lamella.types import (
    JSON,
    Finished,
    Folder,
    LamellaError,
    ModelResponse,
    Part,
    Raw,
    ResponseStarted,
    Status,
    StreamPart,
    TextDelta,
    ToolInputDelta,
    ToolRequestPart,
)
from lamella.wire._openai_json import Malformed, dict_or_empty, list_or_empty, need, parse, shown, text_or_none
from lamella.wire._responses.errors import error_of
from lamella.wire._responses.facts import Facts, check_failed, logprobs_of, source_of
from lamella.wire._responses.marks import Marks
from lamella.wire._responses.output_read import OutputReader, cut_warning, may_be_cut
from lamella.wire._responses.output_write import is_refusal
from lamella.wire._responses.stream_items import StreamItem
from lamella.wire.sse import Event

_TEXT = 'response.output_text.delta'


class _Delta(msgspec.Struct):
    type: str
    delta: str
    output_index: int = 0
    content_index: int = 0


_DELTA = msgspec.json.Decoder(_Delta)


class ResponsesStreamDecoder:
    """One streamed answer. Raises LamellaError with `partial`, what had arrived, for an error inside the stream.

    Items are told apart by `output_index`: some servers give an item a new id in every event. An item is whole at
    `response.output_item.done`; what was not streamed of it follows then, or at the end of the answer at the latest. A
    tool request that may be cut waits for the next item, which shows that it was not.
    """

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._folder = Folder()
        self._reader = OutputReader(marks)
        self._items: list[StreamItem] = []  # in the order of the answer
        self._latest: dict[int, StreamItem] = {}  # the last one of each output_index
        self._held: StreamPart | None = None
        self._telling: list[Part] = []  # what the finish reason depends on
        self._logprobs: list[Any] = []
        self._blocks = 0
        self._started = self._given = self._ended = False

    def feed(self, event: Event) -> Sequence[StreamPart]:
        data = event.data
        if event.event == _TEXT and (quick := self._quick(data)) is not None:
            return [quick]
        if self._ended or not data or data.isspace() or data.startswith('[DONE]'):
            return ()
        try:
            parts = self._parts_of(parse(data), event.event)
        except Malformed as error:
            raise self._failure('INTERNAL', f'the provider sent a malformed event: {error}') from error
        for part in parts:
            self._folder.add(part)
        self._given = self._given or bool(parts)
        return parts

    def _quick(self, data: str) -> TextDelta | None:
        """The next piece of a text that has begun, which most events are; `None` for anything that needs a closer look."""
        if self._ended or self._held is not None:
            return None
        try:
            event = _DELTA.decode(data)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return None
        item = self._latest.get(event.output_index)
        if item is None or item.settled or event.type != _TEXT or not event.delta:
            return None
        block = item.blocks.get(event.content_index)
        if block is None:
            return None
        part = block.more(event.delta)
        self._folder.add(part)
        return part

    def finish(self) -> Sequence[StreamPart]:
        if self._ended:
            return ()
        raise self._failure('UNAVAILABLE', 'the stream ended before the answer was complete: the connection was cut')

    def _failure(self, status: Status, message: str) -> LamellaError:
        self._ended = True
        return LamellaError(status, message, partial=self._partial())

    def _partial(self) -> ModelResponse | None:
        return self._folder.response() if self._given else None

    def _parts_of(self, event: Any, name: str) -> list[StreamPart]:
        if type(event) is not dict:
            raise Malformed('the event', f'is {shown(event)}: an object was expected')
        kind = event.get('type')
        if type(kind) is not str:
            kind = name
        if kind == 'error' or ('type' not in event and event.get('error')):
            self._ended = True
            raise error_of(event, self._partial())
        parts: list[StreamPart] = []
        if not self._started:
            self._start(event, parts)
        handler, held = _EVENTS.get(kind), self._held
        if handler is not None:
            handler(self, event, parts)
            if held is not None and self._held is held and parts:  # the answer goes on: it was not cut here
                self._held = None
                parts.insert(0, held)
        elif kind not in _SILENT:
            item = self._latest.get(_number(event, 'output_index'))
            parts.append(Raw(event, item.index if item else 0))
        return parts

    def _start(self, event: JSON, parts: list[StreamPart]) -> None:
        self._started = True
        root = dict_or_empty(event.get('response'))
        parts.append(ResponseStarted(text_or_none(root.get('model')), text_or_none(root.get('id'))))

    def _new_index(self) -> int:
        self._blocks += 1
        return self._blocks - 1

    # ── pieces ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _text(self, event: JSON, parts: list[StreamPart]) -> None:
        text = event.get('delta')
        if type(text) is not str:
            raise Malformed('delta', f'is {shown(text)}: give a string')
        block = self._item(event, 'message', parts).block(_number(event, 'content_index'))
        if text:
            parts.append(block.more(text))

    def _text_done(self, event: JSON, parts: list[StreamPart]) -> None:
        item = self._item(event, 'message', parts)
        text = text_or_none(event.get('text'))
        if text is not None:
            parts += item.block(_number(event, 'content_index')).rest(text)

    def _annotation(self, event: JSON, parts: list[StreamPart]) -> None:
        """Also of a text that is whole already."""
        item = self._latest.get(_number(event, 'output_index')) or self._item(event, 'message', parts)
        block = item.block(_number(event, 'content_index'))
        block.annotations += 1
        if not block.has_begun and not item.settled:
            parts.append(block.more(''))
        if (source := source_of(event.get('annotation'), block.index, self._marks)) is not None:
            parts.append(source)

    def _block_added(self, event: JSON, parts: list[StreamPart]) -> None:
        item = self._latest.get(_number(event, 'output_index'))
        if item is not None and item.data.get('type') == 'message':
            item.announce(_number(event, 'content_index'), self._reader, parts)

    def _block_done(self, event: JSON, parts: list[StreamPart]) -> None:
        item = self._latest.get(_number(event, 'output_index'))
        if item is not None and item.data.get('type') == 'message':
            item.block_done(_number(event, 'content_index'), dict_or_empty(event.get('part')))

    def _refusal(self, event: JSON, parts: list[StreamPart]) -> None:
        """A refusal is a block that goes back as it is: it is handed out whole, with its message."""
        self._item(event, 'message', parts).refuse(_number(event, 'content_index'), event.get('delta'))

    def _summary(self, event: JSON, parts: list[StreamPart]) -> None:
        self._thought(event, ('summary', _number(event, 'summary_index')), parts)

    def _thinking(self, event: JSON, parts: list[StreamPart]) -> None:
        self._thought(event, ('content', _number(event, 'content_index')), parts)

    def _thought(self, event: JSON, place: tuple[str, int], parts: list[StreamPart]) -> None:
        item = self._item(event, 'reasoning', parts)
        if text := text_or_none(event.get('delta')):
            parts.append(item.think(place, text))

    def _custom_input(self, event: JSON, parts: list[StreamPart]) -> None:
        """Free text, which is no `ToolInputDelta`: those are JSON."""
        item = self._item(event, 'custom_tool_call', parts)
        if text := text_or_none(event.get('delta')):
            item.arguments.append(text)

    def _arguments(self, event: JSON, parts: list[StreamPart]) -> None:
        item = self._item(event, 'function_call', parts)
        if text := text_or_none(event.get('delta')):
            item.arguments.append(text)
            name, ref = item.data.get('name'), item.data.get('call_id')
            parts.append(ToolInputDelta(text, item.index, text_or_none(name), text_or_none(ref)))

    # ── items ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _item(self, event: JSON, kind: str, parts: list[StreamPart]) -> StreamItem:
        """The item of this event, also when it was never announced."""
        item = self._latest.get(_number(event, 'output_index'))
        return item if item is not None and not item.settled else self._begin(event, {'type': kind}, parts)

    def _begin(self, event: JSON, data: JSON, parts: list[StreamPart]) -> StreamItem:
        item = StreamItem(_number(event, 'output_index'), data, self._new_index, self._marks)
        self._items.append(item)
        self._latest[item.output_index] = item
        return item

    def _added(self, event: JSON, parts: list[StreamPart]) -> None:
        data = need(event.get('item'), dict, 'item')
        self._begin(event, {**data, 'type': need(data.get('type'), str, 'item.type')}, parts)

    def _done(self, event: JSON, parts: list[StreamPart]) -> None:
        data = need(event.get('item'), dict, 'item')
        item = self._latest.get(_number(event, 'output_index'))
        if item is None or item.settled:
            item = self._begin(event, data, parts)
        self._settle(item, data, parts)

    def _settle(self, item: StreamItem, data: JSON, parts: list[StreamPart]) -> None:
        item.settled = True
        data = item.whole(data)
        self._logprobs += logprobs_of(data)
        content = self._reader.read(data, 'item')
        if content:
            self._release(parts)
        self._telling += [part for part in content if type(part) is ToolRequestPart or is_refusal(part)]
        closing = list(item.closing(content))
        if closing and type(last := content[-1]) is ToolRequestPart and may_be_cut(last, self._marks):
            self._held = closing.pop()
        parts += closing

    def _release(self, parts: list[StreamPart]) -> None:
        if self._held is not None:
            parts.append(self._held)
            self._held = None

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _end(self, event: JSON, parts: list[StreamPart]) -> None:
        root = dict(need(event.get('response'), dict, 'response'))
        root['status'] = root.get('status') or _ENDS[event['type']]
        output = list_or_empty(root.get('output'))
        self._settle_all(output, parts)
        self._ended = True
        check_failed(root, self._partial())
        logprobs = self._logprobs or [token for item in output for token in logprobs_of(item)]
        facts = Facts(root, self._telling, logprobs, self._marks)
        warnings = facts.warnings()
        if facts.was_cut and self._held is not None:
            warnings = (*warnings, cut_warning(self._telling.pop()))
            self._held = None
        else:
            self._release(parts)
        parts.append(self._finished(root, facts, warnings))

    def _settle_all(self, output: list[Any], parts: list[StreamPart]) -> None:
        """What was never said to be done is taken from the whole answer, where the server sent it."""
        known = self._places()
        for i, data in enumerate(output):
            data = need(data, dict, f'output[{i}]')
            item = known.pop(i, None) or self._begin({'output_index': i}, data, parts)
            if not item.settled:
                self._settle(item, data if data.get('type') == item.data.get('type') else item.data, parts)
        for item in known.values():
            if not item.settled:
                self._settle(item, item.data, parts)

    def _places(self) -> dict[int, StreamItem]:
        """The items by their place in the answer; by their order where a server numbers them badly."""
        places = {item.output_index: item for item in self._items}
        return places if len(places) == len(self._items) else dict(enumerate(self._items))

    def _finished(self, root: JSON, facts: Facts, warnings: tuple[str, ...]) -> Finished:
        return Finished(
            finish_reason=facts.finish_reason(),
            usage=facts.usage(),
            model=text_or_none(root.get('model')),
            id=text_or_none(root.get('id')),
            finish_message=facts.finish_message(),
            metadata=facts.metadata() or None,
            warnings=warnings,
        )


def _number(event: JSON, name: str) -> int:
    value = event.get(name)
    return value if type(value) is int else 0


_ENDS = {
    'response.completed': 'completed',
    'response.incomplete': 'incomplete',
    'response.failed': 'failed',
    'response.cancelled': 'cancelled',
}
_EVENTS: dict[str, Callable[[ResponsesStreamDecoder, JSON, list[StreamPart]], None]] = {
    'response.output_item.added': ResponsesStreamDecoder._added,
    'response.output_item.done': ResponsesStreamDecoder._done,
    'response.content_part.added': ResponsesStreamDecoder._block_added,
    'response.content_part.done': ResponsesStreamDecoder._block_done,
    _TEXT: ResponsesStreamDecoder._text,
    'response.output_text.done': ResponsesStreamDecoder._text_done,
    'response.output_text.annotation.added': ResponsesStreamDecoder._annotation,
    'response.refusal.delta': ResponsesStreamDecoder._refusal,
    'response.function_call_arguments.delta': ResponsesStreamDecoder._arguments,
    'response.custom_tool_call_input.delta': ResponsesStreamDecoder._custom_input,
    'response.reasoning_summary_text.delta': ResponsesStreamDecoder._summary,
    'response.reasoning_text.delta': ResponsesStreamDecoder._thinking,
    **dict.fromkeys(_ENDS, ResponsesStreamDecoder._end),
}
# They say nothing that other events do not say too.
_SILENT = frozenset(
    (
        'response.created', 'response.in_progress', 'response.queued',
        'response.refusal.done', 'response.function_call_arguments.done',
        'response.custom_tool_call_input.done', 'response.reasoning_summary_part.added',
        'response.reasoning_summary_part.done', 'response.reasoning_summary_text.done', 'response.reasoning_text.done',
    )
)  # fmt: skip
