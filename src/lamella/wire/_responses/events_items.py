"""Items that a server is sending piece by piece: what was said of them, and what they are in the end."""

from __future__ import annotations

from lamella.types import JSON, Part, ReasoningPart, TextPart, ToolRequestPart
from lamella.wire._openai_chat_calls import read_arguments
from lamella.wire._openai_json import write
from lamella.wire._responses.answer import Namer, answer_block, answer_reasoning, call_to_item
from lamella.wire._responses.marks import Marks
from lamella.wire._responses.output_write import annotations_of, message_fields


class Place:
    """Where events happen: an item, and a block of it."""

    __slots__ = ('content_index', 'id', 'output_index')

    def __init__(self, output_index: int, id: str, content_index: int = 0) -> None:
        self.output_index = output_index
        self.id = id
        self.content_index = content_index

    @property
    def item(self) -> JSON:
        return {'item_id': self.id, 'output_index': self.output_index}

    @property
    def block(self) -> JSON:
        return {**self.item, 'content_index': self.content_index}


DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":'


class OpenText:
    """A text block. `annotations` are those that were sent; `done` is the block once it is closed.

    `unclaimed` are those that came with the text: the same citation may follow on its own.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.pieces: list[str] = []
        self.metadata: JSON = {}
        self.annotations: list[JSON] = []
        self.unclaimed: list[JSON] = []
        where = write(place.block, lambda: place.block)
        self.rest = b',%s,"delta":' % where[1:-1]
        self.done: JSON | None = None

    def part(self) -> TextPart:
        return TextPart(''.join(self.pieces), self.metadata or None)

    def unsent(self, marks: Marks) -> list[JSON]:
        """Annotations that came with the text and not on their own."""
        return _without(annotations_of(self.part(), marks), self.annotations)

    def close(self, marks: Marks) -> JSON:
        given = annotations_of(self.part(), marks)
        self.annotations = [*given, *_without(self.annotations, given)]
        self.done = {} if self.done is None else self.done  # items hold on to it
        self.done.update({**answer_block(self.part(), marks), 'annotations': self.annotations})
        return self.done

    def claims(self, annotation: JSON) -> bool:
        """Whether this citation came with the text already. Each one counts once."""
        if annotation not in self.unclaimed:
            return False
        self.unclaimed.remove(annotation)
        return True


def _without(values: list[JSON], others: list[JSON]) -> list[JSON]:
    """The values that are left when each of the others takes one away."""
    rest, left = list(others), []
    for value in values:
        if value in rest:
            rest.remove(value)
        else:
            left.append(value)
    return left


class OpenMessage:
    """The message to which blocks are being added. `fields` are its own, as far as they are known."""

    def __init__(self, place: Place, fields: JSON) -> None:
        self.place = place
        self.fields = fields
        self.blocks: list[JSON] = []
        self.text: OpenText | None = None

    def next_place(self) -> Place:
        return Place(self.place.output_index, self.place.id, len(self.blocks))

    def takes(self, fields: JSON) -> bool:
        """Whether a block with these fields came in this message."""
        if 'id' in fields or 'id' in self.fields:
            return fields.get('id') == self.fields.get('id')
        return fields == self.fields

    def note(self, part: Part, marks: Marks) -> None:
        self.fields = {**self.fields, **message_fields(part, marks)}

    def close(self, namer: Namer) -> JSON:
        return {**namer.message({**self.fields, 'id': self.place.id}), 'content': self.blocks}


class OpenReasoning:
    """Thoughts that are being sent."""

    def __init__(self, place: Place, index: int) -> None:
        self.place = place
        self.index = index
        self.pieces: list[str] = []
        self.signature: str | None = None
        self.metadata: JSON = {}

    def close(self, marks: Marks) -> JSON:
        part = ReasoningPart(''.join(self.pieces), self.signature, metadata=self.metadata or None)
        item = answer_reasoning(part, marks) or {'type': 'reasoning', 'summary': []}
        return {**item, 'id': self.place.id}


class OpenCall:
    """A tool call whose input is being sent."""

    def __init__(self, place: Place, name: str, call_id: str, ref: str | None) -> None:
        self.place = place
        self.name = name
        self.call_id = call_id
        self.ref = ref
        self.pieces: list[str] = []

    def begin(self, kind: str) -> JSON:
        field = 'input' if kind == 'custom_tool_call' else 'arguments'
        head = {'id': self.place.id, 'type': kind, 'status': 'in_progress'}
        return {**head, 'call_id': self.call_id, 'name': self.name, field: ''}

    def close(self, part: ToolRequestPart, namer: Namer, marks: Marks) -> JSON:
        """The item, with the input as it was sent if that is what it says."""
        item = {**call_to_item(part, namer, marks), 'call_id': part.tool_request.ref or self.call_id}
        item['id'] = marks.own_of(part.metadata).get('id', self.place.id)
        sent = ''.join(self.pieces)
        if sent and 'arguments' in item and read_arguments(sent)[0] == part.tool_request.input:
            item['arguments'] = sent
        return item

    def cut(self) -> JSON:
        return {**self.begin('function_call'), 'status': 'incomplete', 'arguments': ''.join(self.pieces)}
