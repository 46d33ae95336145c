"""Tool calls of a streamed answer of Chat Completions, put together from their pieces."""

from __future__ import annotations

from typing import Any

from lamella.types import JSON, LamellaError, StreamPart, ToolInputDelta, ToolRequestPart
from lamella.wire._openai_chat_calls import custom_request, tool_request
from lamella.wire._openai_json import Malformed, dict_or_empty, shown, text_or_none, without, write

_CALL = frozenset(('id', 'type', 'function', 'custom', 'index'))


class _Call:
    __slots__ = ('arguments', 'custom', 'id', 'index', 'name', 'rest')

    def __init__(self, index: int) -> None:
        self.index = index
        self.id: str | None = None
        self.name: str | None = None
        self.arguments: list[str] = []
        self.custom = False
        self.rest: JSON = {}


class CallPieces:
    """Collects the calls of one answer, also where servers number them badly.

    Seen in the wild: no `index` at all, every call with index 0 and an id of its own, the name repeated in each piece, the
    arguments as an object, an id that is empty after the first piece.
    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    def add(self, delta: JSON, parts: list[StreamPart]) -> None:
        if 'tool_calls' not in delta and 'function_call' not in delta:
            return
        pieces = delta.get('tool_calls')
        if pieces is not None and type(pieces) is not list:
            raise Malformed('delta.tool_calls', f'is {shown(pieces)}: give a list')
        older = delta.get('function_call')
        for piece in pieces or ([{'index': 0, 'function': older}] if isinstance(older, dict) else ()):
            if type(piece) is not dict:
                raise Malformed('delta.tool_calls[0]', f'is {shown(piece)}: give an object')
            self._piece(piece, parts)

    def _piece(self, piece: JSON, parts: list[StreamPart]) -> None:
        id = text_or_none(piece.get('id'))
        call = self._call_of(piece.get('index'), id)
        call.id = call.id or id
        call.custom = call.custom or 'custom' in piece
        call.rest.update(without(piece, _CALL))
        inner = dict_or_empty(piece.get('custom') or piece.get('function'))
        call.name = call.name or text_or_none(inner.get('name'))
        text = inner.get('input' if call.custom else 'arguments')
        if isinstance(text, dict):
            text = write(text).decode()
        if isinstance(text, str) and text:
            call.arguments.append(text)
            if not call.custom:  # whose input is no JSON
                parts.append(ToolInputDelta(text, call.index, call.name, call.id))

    def _call_of(self, index: Any, id: str | None) -> _Call:
        if not isinstance(index, int):
            known = next((call for call in self._calls if id is not None and call.id == id), None)
            if known is None and id is None and self._calls:
                known = self._calls[-1]
            return known or self._new(len(self._calls))
        call = self._by_index.get(index)
        if call is None or (id is not None and call.id is not None and call.id != id):
            return self._new(index)
        return call

    def _new(self, index: int) -> _Call:
        call = self._by_index[index] = _Call(len(self._calls))
        self._calls.append(call)
        return call

    def requests(self) -> list[ToolRequestPart]:
        return [self._request(call) for call in self._calls]

    def _request(self, call: _Call) -> ToolRequestPart:
        if not call.name:
            raise LamellaError('INTERNAL', f'the provider sent a tool call without a name (id {call.id!r})')
        text = ''.join(call.arguments)
        if call.custom:
            return custom_request(call.name, text, call.id, self._mark)
        return tool_request(call.name, text, call.id, self._mark, call.rest)
