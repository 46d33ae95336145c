"""The events of thoughts and of tool calls."""

from __future__ import annotations

from lamella.types import JSON, ReasoningDelta, ToolInputDelta, ToolRequested, ToolRequestPart
from lamella.wire._responses.events_items import OpenCall, OpenReasoning, Place
from lamella.wire._responses.events_writer import EventWriter


class ThoughtEvents:
    """What the model thinks, as the summary of a reasoning item; it is closed when something else begins."""

    def __init__(self, out: EventWriter) -> None:
        self._out = out
        self._thought: OpenReasoning | None = None
        self._seen: set[int] = set()
        out.closers.append(self.close)

    def add(self, part: ReasoningDelta) -> bytes:
        out, thought = b'', self._thought
        if thought is None or thought.index != part.index:
            if not part.text and (part.index in self._seen or not self._out.marks.is_marked(part.metadata)):
                return b''
            out, thought = self._open(part)
        if part.metadata:
            thought.metadata = {**thought.metadata, **part.metadata}
        if part.signature is not None:
            thought.signature = (thought.signature or '') + part.signature
        if not part.text:
            return out
        where = {**thought.place.item, 'summary_index': 0}
        if not thought.pieces:
            empty = {'type': 'summary_text', 'text': ''}
            out += self._out.event('response.reasoning_summary_part.added', **where, part=empty)
        thought.pieces.append(part.text)
        return out + self._out.event('response.reasoning_summary_text.delta', **where, delta=part.text)

    def _open(self, part: ReasoningDelta) -> tuple[bytes, OpenReasoning]:
        given = self._out.marks.own_of(part.metadata).get('id')
        id = given if isinstance(given, str) else self._out.namer.new('rs')
        out = self._out.begin({'id': id, 'type': 'reasoning', 'summary': []})
        self._seen.add(part.index)
        self._thought = OpenReasoning(Place(len(self._out.items) - 1, id), part.index)
        return out, self._thought

    def close(self) -> bytes:
        thought, self._thought = self._thought, None
        if thought is None:
            return b''
        item, out = thought.close(self._out.marks), b''
        if thought.pieces:
            where, text = {**thought.place.item, 'summary_index': 0}, ''.join(thought.pieces)
            out = self._out.event('response.reasoning_summary_text.done', **where, text=text)
            out += self._out.event(
                'response.reasoning_summary_part.done', **where, part={'type': 'summary_text', 'text': text}
            )
        return out + self._out.end(thought.place, item)


class CallEvents:
    """Tool calls, which stay open until their request is whole."""

    def __init__(self, out: EventWriter) -> None:
        self._out = out
        self._calls: dict[int, OpenCall] = {}

    def add_input(self, part: ToolInputDelta) -> bytes:
        """Sent as it comes once the name is known; without a name the whole request follows anyway."""
        out, call = b'', self._calls.get(part.index)
        if call is None:
            if part.name is None:
                return b''
            out, call = self._open(part.index, part.name, part.ref, 'function_call')
        call.pieces.append(part.delta)
        return out + self._out.event('response.function_call_arguments.delta', **call.place.item, delta=part.delta)

    def _open(self, index: int, name: str, ref: str | None, kind: str) -> tuple[bytes, OpenCall]:
        place = Place(len(self._out.items), self._out.namer.new('fc'))
        call = self._calls[index] = OpenCall(place, name, ref or self._out.namer.new('call'), ref)
        return self._out.begin(call.begin(kind)), call

    def add(self, part: ToolRequested) -> bytes:
        request = part.tool_request
        whole = ToolRequestPart(request, part.metadata)
        out, call = b'', self._calls.get(part.index)
        if call is None or (call.ref and request.ref and call.ref != request.ref):
            custom = self._out.marks.shared_of(part.metadata).get('type') == 'custom'
            kind = 'custom_tool_call' if custom else 'function_call'
            out, call = self._open(part.index, request.name, request.ref, kind)
        del self._calls[part.index]
        item = call.close(whole, self._out.namer, self._out.marks)
        return out + self._rest(call, item) + self._out.end(call.place, item)

    def _rest(self, call: OpenCall, item: JSON) -> bytes:
        field = 'arguments' if 'arguments' in item else 'input'
        prefix = 'response.function_call_arguments' if field == 'arguments' else 'response.custom_tool_call_input'
        out, where = b'', call.place.item
        if not call.pieces and item[field]:
            out = self._out.event(f'{prefix}.delta', **where, delta=item[field])
        more = {'name': item['name']} if field == 'arguments' else {}
        return out + self._out.event(f'{prefix}.done', **where, **more, **{field: item[field]})

    def cut(self) -> bytes:
        """Ends the calls whose request never became whole."""
        return b''.join([self._out.end(call.place, call.cut()) for call in self._calls.values()])
