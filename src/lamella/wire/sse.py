"""Server-sent events by the WHATWG rules: bytes in any pieces to events, and back."""

from __future__ import annotations

from lamella.types import Data, LamellaError

BOM = b'\xef\xbb\xbf'
MAX_EVENT_BYTES = 32 * 1024 * 1024


class Event(Data, frozen=True):
    """One dispatched event (html.spec.whatwg.org, "Interpreting an event stream").

    `id` is the last event id of the stream so far, which later events inherit; `retry` the reconnection time in
    milliseconds when a `retry` field came since the event before.
    """

    event: str = 'message'
    data: str = ''
    id: str | None = None
    retry: int | None = None


class SSEDecoder:
    """Splits a body of type `text/event-stream` into events, in time linear in its size.

    However the bytes are cut, the events are the same. Bytes that are no UTF-8 become U+FFFD, as the standard says: a torn
    character in one delta is no reason to lose the answer. One event may have `max_event_bytes` (a few bytes more or less);
    a larger one raises OUT_OF_RANGE, and the decoder is spent.
    """

    __slots__ = ('_after_cr', '_begun', '_id', '_max', '_pending', '_retry')

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._pending = bytearray()  # what follows the last blank line, line ends made LF
        self._begun = False
        self._after_cr = False
        self._id: str | None = None
        self._retry: int | None = None

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that this piece completes. An event is complete at its blank line."""
        if not self._begun:
            chunk = self._without_bom(chunk)
        if self._after_cr or b'\r' in chunk:
            chunk = self._with_lf(chunk)
        if not chunk:
            return []
        pending = self._pending
        if b'\n\n' not in chunk and not (chunk[0] == 10 and pending[-1:] == b'\n'):
            pending += chunk
            self._check(len(pending))
            return []
        blocks = pending + chunk if pending else chunk
        end = blocks.rfind(b'\n\n')
        self._pending = bytearray(blocks[end + 2 :])
        self._check(len(self._pending))
        if end > self._max:
            self._check(max(map(len, blocks[:end].split(b'\n\n'))))
        return self._events(blocks[:end].decode('utf-8', 'replace'))

    def finish(self) -> list[Event]:
        """Called at the end of the body: the event whose lines all ended, though no blank line followed.

        The standard drops it. Some compatible servers forget the last blank line, so a block of whole lines counts here; a
        line without its end is dropped, because it cannot be told from one that was cut short.
        """
        whole = self._pending[: self._pending.rfind(b'\n') + 1]
        self._pending = bytearray()
        return self._events(whole.decode('utf-8', 'replace'))

    def _without_bom(self, chunk: bytes) -> bytes:
        head = bytes(self._pending) + chunk
        self._pending = bytearray()
        if len(head) < len(BOM) and BOM.startswith(head):
            self._pending += head
            return b''
        self._begun = True
        return head.removeprefix(BOM)

    def _with_lf(self, chunk: bytes) -> bytes:
        """CRLF and CR to LF. A CR at the end of a piece ends its line at once; the LF that may follow is skipped."""
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b'\n')
            self._after_cr = False
        if chunk.endswith(b'\r'):
            self._after_cr = True
        return chunk.replace(b'\r\n', b'\n').replace(b'\r', b'\n')

    def _check(self, size: int) -> None:
        if size > self._max:
            raise LamellaError(
                'OUT_OF_RANGE',
                f'a server-sent event of more than {self._max} bytes: raise max_event_bytes, or ask for smaller answers',
            )

    def _events(self, text: str) -> list[Event]:
        events: list[Event] = []
        for block in text.split('\n\n'):
            if block.startswith('data: ') and '\n' not in block:
                events.append(Event('message', block[6:], self._id, self._retry))
                self._retry = None
            elif block:
                self._block(block, events)
        return events

    def _block(self, block: str, events: list[Event]) -> None:
        event = ''
        data: list[str] = []
        for line in block.split('\n'):
            field, _, value = line.partition(':')
            value = value.removeprefix(' ')
            if field == 'data':
                data.append(value)
            elif field == 'event':
                event = value
            elif field == 'id' and '\0' not in value:
                self._id = value
            elif field == 'retry' and value.isascii() and value.isdigit() and len(value) < 16:
                self._retry = int(value)
        if data:
            events.append(Event(event or 'message', '\n'.join(data), self._id, self._retry))
            self._retry = None


def encode_event(
    data: str | bytes, event: str | None = None, *, id: str | None = None, retry: int | None = None
) -> bytes:
    """The bytes of one event. `data` may be UTF-8 bytes (a JSON body) or text; each of its lines becomes a `data` line.

    Raises LamellaError INVALID_ARGUMENT for an event name or id with a line end, and for text with lone surrogates.
    """
    body = data if isinstance(data, bytes) else _utf8('data', data)
    lines = [b'%s: %s\n' % (name.encode(), _one_line(name, value)) for name, value in _fields(event, id, retry)]
    if b'\n' not in body and b'\r' not in body:
        return b''.join((*lines, b'data: ', body, b'\n\n'))
    body = body.replace(b'\r\n', b'\n').replace(b'\r', b'\n')
    return b''.join((*lines, *[b'data: %s\n' % line for line in body.split(b'\n')], b'\n'))


def encode_comment(text: str = '') -> bytes:
    """A comment, which readers skip: servers send one now and then to keep a connection open."""
    return b': %s\n\n' % _one_line('comment', text)


def _fields(event: str | None, id: str | None, retry: int | None) -> list[tuple[str, str]]:
    given = (('event', event), ('id', id), ('retry', None if retry is None else str(retry)))
    return [(name, value) for name, value in given if value is not None]


def _one_line(name: str, value: str) -> bytes:
    if '\n' in value or '\r' in value or '\0' in value:
        raise LamellaError(
            'INVALID_ARGUMENT', f'the {name} of a server-sent event is one line without NUL, not {value!r}'
        )
    return _utf8(name, value)


def _utf8(name: str, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise LamellaError(
            'INVALID_ARGUMENT',
            f'the {name} of a server-sent event has a lone surrogate at {error.start}: remove it',
        ) from error
