"""The events of messages: texts, their citations, refusals."""

from __future__ import annotations

from lamella.types import JSON, DataPart, Source, TextDelta, TextPart
from lamella.wire._responses.events_items import DELTA, OpenMessage, OpenText, Place
from lamella.wire._responses.events_writer import EventWriter
from lamella.wire._responses.facts import annotation_of
from lamella.wire._responses.output_write import message_fields, refusal_of


class MessageEvents:
    """Blocks that follow each other and came in one message are one message; it is closed when something else begins."""

    def __init__(self, out: EventWriter) -> None:
        self._out = out
        self._message: OpenMessage | None = None
        self._texts: dict[int, OpenText] = {}
        out.closers.append(self.close)

    def add(self, part: TextDelta) -> bytes:
        text, out = self._texts.get(part.index), b''
        if text is None or text.done is not None:
            if text is not None and not part.text:
                return self._amend(text, part.metadata or {})
            out, text = self._open_text(part.index, message_fields(TextPart('', part.metadata), self._out.marks))
        if part.metadata:
            text.metadata = {**text.metadata, **part.metadata}
        if not part.text:
            return out
        text.pieces.append(part.text)
        return out + self._out.delta(DELTA, text.rest, part.text)

    def _amend(self, text: OpenText, metadata: JSON) -> bytes:
        """What is only known once the whole message is: in the item and the whole answer it still has its place."""
        text.metadata = {**text.metadata, **metadata}
        late = text.unsent(self._out.marks)
        text.unclaimed += late
        out = b''.join([self._annotate(text, annotation) for annotation in late])
        text.close(self._out.marks)
        if self._message is not None:
            self._message.note(text.part(), self._out.marks)
        return out

    def _open_text(self, index: int, fields: JSON) -> tuple[bytes, OpenText]:
        out, message = self._message_of(fields)
        text = self._texts[index] = message.text = OpenText(message.next_place())
        empty = {'type': 'output_text', 'text': '', 'annotations': [], 'logprobs': []}
        return out + self._out.event('response.content_part.added', **text.place.block, part=empty), text

    def _message_of(self, fields: JSON) -> tuple[bytes, OpenMessage]:
        """The message to which the next block belongs, its last text closed."""
        if self._message is not None and self._message.takes(fields):
            return self._close_text(self._message), self._message
        given = fields.get('id')
        id = given if isinstance(given, str) else self._out.namer.new('msg')
        item = {**self._out.namer.message({'id': id}), 'status': 'in_progress', 'content': []}
        out = self._out.begin(item)
        self._message = OpenMessage(Place(len(self._out.items) - 1, id), fields)
        return out, self._message

    def _close_text(self, message: OpenMessage) -> bytes:
        text, message.text = message.text, None
        if text is None:
            return b''
        text.unclaimed = text.unsent(self._out.marks)
        out = b''.join([self._annotate(text, annotation) for annotation in text.unclaimed])
        message.note(text.part(), self._out.marks)
        done = text.close(self._out.marks)
        message.blocks.append(done)
        where = text.place.block
        out += self._out.event('response.output_text.done', **where, text=done['text'], logprobs=[])
        return out + self._out.event('response.content_part.done', **where, part=done)

    def close(self) -> bytes:
        message = self._message
        if message is None:
            return b''
        out = self._close_text(message)
        self._message = None
        return out + self._out.end(message.place, message.close(self._out.namer))

    def _annotate(self, text: OpenText, annotation: JSON) -> bytes:
        text.annotations.append(annotation)
        index = len(text.annotations) - 1
        return self._out.event(
            'response.output_text.annotation.added', **text.place.block, annotation_index=index, annotation=annotation
        )

    def cite(self, part: Source) -> bytes:
        """Citations may come after their text is closed: then they are in the whole answer."""
        annotation, out = annotation_of(part, self._out.marks), b''
        text = self._texts.get(part.index) or (list(self._texts.values())[-1] if self._texts else None)
        if text is None:
            out, text = self._open_text(part.index, {})
        if text.claims(annotation):
            return b''
        return out + self._annotate(text, annotation)

    def add_block(self, part: DataPart) -> bytes:
        out, message = self._message_of(message_fields(part, self._out.marks))
        message.note(part, self._out.marks)
        where = message.next_place().block
        message.blocks.append(part.data)
        words = refusal_of(part)
        if words is None:
            added = self._out.event('response.content_part.added', **where, part=part.data)
            return out + added + self._out.event('response.content_part.done', **where, part=part.data)
        return b''.join(
            (
                out,
                self._out.event('response.content_part.added', **where, part={'type': 'refusal', 'refusal': ''}),
                self._out.event('response.refusal.delta', **where, delta=words),
                self._out.event('response.refusal.done', **where, refusal=words),
                self._out.event('response.content_part.done', **where, part=part.data),
            )
        )
