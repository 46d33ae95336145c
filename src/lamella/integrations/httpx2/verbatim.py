"""A stream passed on as it came, for as long as the layers hand on its parts unchanged."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from lamella.core.middleware import BaseMiddleware
from lamella.middleware import Fallback, Retry
from lamella.types import Finished, LamellaError, ResponseStarted, StreamPart, ToolRequested, ToolRequestPart
from lamella.wire.codec import StreamEncoder
from lamella.wire.sse import Event, SSEDecoder, encode_event


class Tape:
    """What one attempt said: its events, each with the parts it became, until these have come through the layers.

    Holds only what is on its way: layers that keep parts back hold as much themselves.
    """

    __slots__ = ('_events', '_stopped', '_taken', 'closed', 'is_between')

    def __init__(self) -> None:
        self._events: deque[tuple[Event | None, Sequence[StreamPart]]] = deque()
        self._taken = 0  # parts of the first event that have come
        self._stopped = False
        self.is_between = True  # no event has come in part
        self.closed: set[Place] = set()  # what the events that were taken have ended

    def add(self, event: Event | None, parts: Sequence[StreamPart]) -> None:
        """`event` is `None` for parts that no event stands for, and for an event that is not to be passed on."""
        if not self._stopped:
            self._events.append((event, parts))

    def take(self, part: StreamPart) -> bytes | None:
        """The events that are complete with this part, nothing while one is not, and `None` for a part that is not the next
        that came: from then on the tape is at its end.
        """
        silent = next((n for n, (_, parts) in enumerate(self._events) if parts), None)
        if silent is None or not _is_same(self._events[silent][1][self._taken], part):
            self._stopped = True
            self._events.clear()
            return None
        self._taken += 1
        self.is_between = self._taken == len(self._events[silent][1])
        if not self.is_between:
            return b''
        self._taken = 0
        return b''.join([self._said(self._events.popleft()[0]) for _ in range(silent + 1)])

    def _said(self, event: Event | None) -> bytes:
        if event is None:
            return b''
        if (place := _ended(event)) is not None:
            self.closed.add(place)
        return _bytes_of(event)

    def rest(self) -> bytes:
        """The events after the last part, such as `[DONE]`."""
        return b''.join([_bytes_of(event) for event, parts in self._events if not parts and event is not None])


Place = tuple[str, Any, Any, Any]


def _ended(event: Event) -> Place | None:
    """Which block or item of an answer this event ends, in the protocols that have such events."""
    if event.event != 'content_block_stop' and not event.event.endswith('.done'):
        return None
    try:
        data = msgspec.json.decode(event.data, type=dict[str, Any])
    except msgspec.DecodeError:
        return None
    inner = data.get('content_index', data.get('summary_index'))
    return event.event, data.get('index'), data.get('output_index'), inner


def _bytes_of(event: Event) -> bytes:
    name = None if event.event == 'message' else event.event
    return encode_event(event.data, name, id=event.id, retry=event.retry)


def _is_same(came: StreamPart, part: Any) -> bool:
    """Whether the part says what came. Start and end are made anew on their way, and may carry more notes."""
    if came is part:
        return True
    if type(came) is ToolRequested:
        return type(part) is ToolRequested and without_new_ref(part, came) == came
    if type(came) is ResponseStarted:
        return type(part) is ResponseStarted and part.id == came.id and (came.model is None or part.model == came.model)
    if type(came) is not Finished or type(part) is not Finished:
        return False
    notes = part.metadata or {}
    return (
        (part.finish_reason, part.usage, part.finish_message) == (came.finish_reason, came.usage, came.finish_message)
    ) and all(notes.get(key) == value for key, value in (came.metadata or {}).items())


_Asked = TypeVar('_Asked', ToolRequested, ToolRequestPart)


def without_new_ref(part: _Asked, came: _Asked) -> _Asked:
    """The tool request without the id that the engine gave it, where the vendor gave none and would not know it."""
    if came.tool_request.ref is not None:
        return part
    return part.replace(tool_request=part.tool_request.replace(ref=None))


def hands_on_parts(layer: BaseMiddleware[Any]) -> bool:
    """Whether this layer gives the parts of a stream on as they are, as far as is known.

    A layer that has only the other hooks cannot change what its reader has seen without saying so (`Restarted`).
    """
    if 'wrap_stream' not in layer._hooks:
        return True
    return isinstance(layer, Fallback) or (isinstance(layer, Retry) and layer.config.on_partial != 'continue')


class Speaker:
    """The parts of a stream as bytes: those of the tape, or those of the encoder from the first part on that a layer changed.

    The encoder hears every part, so that it knows where the stream is when it takes over.
    """

    __slots__ = ('_closed', '_encoder', '_tape', '_unsaid')

    def __init__(self, encoder: StreamEncoder, tape: Tape | None) -> None:
        self._encoder, self._tape = encoder, tape
        self._closed: set[Place] = set()
        self._unsaid = b''  # of an event whose other parts are still to come

    def say(self, part: StreamPart) -> bytes:
        self._unsaid += self._encoder.feed(part)
        said = None if self._tape is None else self._tape.take(part)
        if said is None:
            self._take_over()
            said = self._open(self._unsaid)
        if self._tape is None or self._tape.is_between:
            self._unsaid = b''
        return said

    def _take_over(self) -> None:
        if self._tape is not None:
            self._closed = self._tape.closed
            self._tape = None

    def _open(self, spoken: bytes) -> bytes:
        """Without what would end a second time: the encoder did not hear that the vendor had ended it."""
        if not self._closed:
            return spoken
        events = SSEDecoder().feed(spoken)
        return b''.join([_bytes_of(event) for event in events if _ended(event) not in self._closed])

    @property
    def is_verbatim(self) -> bool:
        return self._tape is not None

    def finish(self) -> bytes:
        return self._open(self._encoder.finish()) if self._tape is None else self._tape.rest()

    def error(self, error: LamellaError) -> bytes:
        return self._encoder.error(error)
