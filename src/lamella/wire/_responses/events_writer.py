"""Numbered events and the items they are about, for one streamed answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lamella.types import JSON, ModelRequest
from lamella.wire._openai_json import write
from lamella.wire._responses.answer import Namer, repeated, root_of
from lamella.wire._responses.events_items import Place
from lamella.wire._responses.facts import response_id
from lamella.wire._responses.marks import Marks
from lamella.wire.sse import encode_event


class EventWriter:
    """Writes events, numbers them, and keeps the items as they are in the end (`items`, by `output_index`).

    `closers` end what is open (a message, a thought) before the next item begins.
    """

    def __init__(self, model: str, request: ModelRequest | None, marks: Marks) -> None:
        self.items: list[JSON] = []
        self.namer = Namer('')
        self.marks = marks
        self.closers: list[Callable[[], bytes]] = []
        self._model = model
        self._request = request
        self._repeats: JSON = {}
        self._own: JSON = {}
        self._id: str | None = None
        self._sequence = 0

    def event(self, kind: str, **fields: Any) -> bytes:
        event = {'type': kind, 'sequence_number': self._sequence, **fields}
        self._sequence += 1
        return encode_event(write(event, lambda: fields), kind)

    def delta(self, head: bytes, rest: bytes, text: str) -> bytes:
        """An event that differs from the one before in its number and its text: most are such."""
        said = write(text, lambda: {'delta': text})
        event = b'%s%d%s%s,"logprobs":[]}\n\n' % (head, self._sequence, rest, said)
        self._sequence += 1
        return event

    def start(self, id: str | None, own: JSON | None = None) -> bytes:
        """The events that open the answer; nothing when it is open. `own` are fields that the provider said at once."""
        if self._id is not None:
            return b''
        self._own = own or {}
        self._id = id or response_id(self._model.encode('utf-8', 'replace'))
        self.namer = Namer(self._id)
        self._repeats = repeated(self._request, self.marks)
        begun = {**self.root({}), 'status': 'in_progress', 'incomplete_details': None}
        return self.event('response.created', response=begun) + self.event('response.in_progress', response=begun)

    def root(self, own: JSON) -> JSON:
        return root_of(self._id or '', self._model, self._repeats, {**self._own, **own})

    def begin(self, item: JSON) -> bytes:
        """Announces an item at the next `output_index`."""
        closed = self.close()
        self.items.append(item)
        return closed + self.event('response.output_item.added', output_index=len(self.items) - 1, item=item)

    def close(self) -> bytes:
        return b''.join([closer() for closer in self.closers])

    def end(self, place: Place, item: JSON) -> bytes:
        """The item as it is in the end."""
        self.items[place.output_index] = item
        return self.event('response.output_item.done', output_index=place.output_index, item=item)

    def whole(self, item: JSON | None) -> bytes:
        """An item that does not come in pieces."""
        if item is None:
            return b''
        added = self.begin(item)
        return added + self.end(Place(len(self.items) - 1, ''), item)
