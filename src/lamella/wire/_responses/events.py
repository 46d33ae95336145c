"""Parts to the events of a streamed answer: what a server sends (platform.openai.com/docs/api-reference/responses-streaming)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lamella.types import (
    DataPart,
    File,
    Finished,
    LamellaError,
    ModelRequest,
    Raw,
    ReasoningDelta,
    ResponseStarted,
    Restarted,
    Source,
    StreamPart,
    TextDelta,
    ToolInputDelta,
    ToolRequested,
    Usage,
    add_usage,
)
from lamella.wire._openai_json import dict_or_empty
from lamella.wire._responses.answer import add_logprobs, output_item
from lamella.wire._responses.errors import error_event
from lamella.wire._responses.events_calls import CallEvents, ThoughtEvents
from lamella.wire._responses.events_text import MessageEvents
from lamella.wire._responses.events_writer import EventWriter
from lamella.wire._responses.facts import refused, status_to_wire, usage_to_wire
from lamella.wire._responses.marks import Marks
from lamella.wire._responses.output_write import is_block


class ResponsesStreamEncoder:
    """One streamed answer, event by event, each with its `sequence_number`.

    `finish` sends the whole answer, as `response.completed` or `response.incomplete`; nothing without a `Finished` part.
    A `Restarted` after content raises ABORTED: the protocol cannot take back what was sent.
    """

    def __init__(self, model: str, request: ModelRequest | None, marks: Marks) -> None:
        self._marks = marks
        self._out = out = EventWriter(model, request, marks)
        self._messages = MessageEvents(out)
        self._calls = CallEvents(out)
        self._finished: Finished | None = None
        self._usage: Usage | None = None
        self._writers: dict[type, Callable[[Any], bytes]] = {
            TextDelta: self._messages.add,
            ReasoningDelta: ThoughtEvents(out).add,
            ToolInputDelta: self._calls.add_input,
            ToolRequested: self._calls.add,
            Source: self._messages.cite,
            File: self._file,
            Raw: self._raw,
        }

    def feed(self, part: StreamPart) -> bytes:
        writer = self._writers.get(type(part))
        if writer is None:
            return self._control(part)
        return self._out.start(None) + writer(part)

    def _control(self, part: StreamPart) -> bytes:
        if isinstance(part, ResponseStarted):
            return self._out.start(part.id, self._marks.own_of(part.metadata))
        if isinstance(part, Restarted) and self._out.items:
            raise LamellaError(
                'ABORTED', 'the answer started over, and the Responses API cannot take back what was sent'
            )
        if isinstance(part, Finished):
            self._finished = part
            self._usage = add_usage(self._usage, part.usage)
        return b''

    def _file(self, part: File) -> bytes:
        return self._out.whole(output_item(part.media, self._out.namer, self._marks))

    def _raw(self, part: Raw) -> bytes:
        data = DataPart(part.data, part.metadata)
        if not part.keep:
            return b''
        if is_block(data, self._marks):
            return self._messages.add_block(data)
        return self._out.whole(output_item(data, self._out.namer, self._marks))

    def finish(self) -> bytes:
        finished, out = self._finished, self._out
        if finished is None:
            return b''
        ends = [out.start(finished.id), out.close(), self._calls.cut()]
        own = self._marks.own_of(finished.metadata)
        add_logprobs(out.items, (finished.metadata or {}).get('logprobs'))
        whole = out.root(own)
        whole.update(status_to_wire(finished.finish_reason, refused(out.items), own))
        whole['output'] = out.items
        if self._usage is not None:
            whole['usage'] = usage_to_wire(self._usage, dict_or_empty(own.get('usage')))
        kind = 'response.incomplete' if whole['status'] == 'incomplete' else 'response.completed'
        return b''.join((*ends, out.event(kind, response=whole)))

    def error(self, error: LamellaError) -> bytes:
        fields = error_event(error)
        return self._out.event(fields.pop('type'), **fields)
