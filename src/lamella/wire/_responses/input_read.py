"""Input items to messages of Lamella (platform.openai.com/docs/api-reference/responses/create, "input")."""

from __future__ import annotations

from typing import Any

from lamella.types import JSON, DataPart, Message, Part, TextPart, ToolRequestPart, ToolResponse, ToolResponsePart
from lamella.types.messages import Role
from lamella.wire._openai_json import Malformed, parse, shown, text_or_none, without
from lamella.wire._responses.content_read import read_content
from lamella.wire._responses.input_write import ANSWERS, CALLERS, INSTRUCTIONS
from lamella.wire._responses.marks import Marks
from lamella.wire._responses.output_read import ITEM, OutputReader

_MESSAGE = frozenset(('type', 'role', 'content'))
_ANSWER = frozenset(('type', 'call_id', 'output'))


class InputReader:
    """Reads items in order. Items of the model in a row are one message, and so are the answers of its tools."""

    def __init__(self, marks: Marks) -> None:
        self.messages: list[Message] = []
        self._marks = marks
        self._output = OutputReader(marks)
        self._names: dict[str, str] = {}

    def instructions(self, text: str) -> None:
        self.messages.append(Message('system', (TextPart(text),), {self._marks.own: {INSTRUCTIONS: True}}))

    def read(self, item: JSON, where: str) -> None:
        """Raises Malformed."""
        kind, role = item.get('type'), item.get('role')
        if role == 'user' and kind in (None, 'message') and _is_plain_text(item):
            self._add('user', [TextPart(item['content'])], {})
            return
        if kind is None and role is None and isinstance(item.get('id'), str):
            kind = 'item_reference'
            item = {'type': kind, **item}
        if kind == 'message' or kind is None:
            self._message({**item, 'type': 'message'}, role, where)
        elif kind in ANSWERS:
            self._answer(item, where)
        elif isinstance(kind, str) and kind in CALLERS:
            self._add('user', [DataPart(item, {self._marks.own: {}})], {})
        else:
            self._assistant(item, where)

    def _add(self, role: Role, content: list[Part], metadata: JSON) -> None:
        self._output.forget()
        self.messages.append(Message(role, tuple(content), metadata))

    def _message(self, item: JSON, role: Any, where: str) -> None:
        if role == 'assistant':
            self._assistant(item, where)
            return
        if role not in ('user', 'system', 'developer'):
            raise Malformed(f'{where}.role', f'is {shown(role)}: use user, system, developer or assistant')
        content = read_content(item.get('content'), f'{where}.content', self._marks)
        own = without(item, _MESSAGE)
        if role != 'user' and not self.messages:
            own[INSTRUCTIONS] = False
        shared = {'role': role} if role == 'developer' else None
        self._add('user' if role == 'user' else 'system', content, self._marks.metadata(own, shared) or {})

    def _assistant(self, item: JSON, where: str) -> None:
        last = self.messages[-1] if self.messages else None
        if last is None or last.role != 'assistant' or self._is_another(item, last):
            self._output.forget()
            last = Message('assistant')
            self.messages.append(last)
        parts = self._output.read(item, where)
        self._names.update(
            {part.tool_request.ref or '': part.tool_request.name for part in parts if type(part) is ToolRequestPart}
        )
        self.messages[-1] = last.replace(content=(*last.content, *parts))

    def _is_another(self, item: JSON, last: Message) -> bool:
        """Messages without an id have nothing that keeps them apart but the message they are in."""
        if item.get('type') != 'message' or 'id' in item or not last.content:
            return False
        before = last.content[-1]
        return type(before) is TextPart and 'id' not in self._marks.own_of(before.metadata).get(ITEM, {})

    def _answer(self, item: JSON, where: str) -> None:
        ref = text_or_none(item.get('call_id'))
        if ref is None:
            raise Malformed(f'{where}.call_id', 'is missing: name the tool call that this answers')
        name = text_or_none(item.get('name')) or self._names.get(ref, '')
        output, is_error = self._value(item.get('output'), f'{where}.output')
        rest = without(item, _ANSWER)
        part = ToolResponsePart(ToolResponse(name, output, ref, is_error), self._marks.metadata(rest))
        last = self.messages[-1] if self.messages else None
        if last is not None and last.role == 'tool':
            self.messages[-1] = last.replace(content=(*last.content, part))
        else:
            self._add('tool', [part], {})

    def _value(self, output: Any, where: str) -> tuple[Any, bool]:
        """A string, or the list of its parts; and whether it is the error of a tool (see `InputWriter`)."""
        if not isinstance(output, str):
            parts = read_content(output or [], where, self._marks)
            return (parts[0].text if _is_plain(parts) else parts), False  # type: ignore[union-attr]
        if not output.startswith('{"error":'):
            return output, False
        try:
            value = parse(output)
        except Malformed:
            return output, False
        return (value['error'], True) if value.keys() == {'error'} else (output, False)


def _is_plain(parts: list[Part]) -> bool:
    return len(parts) == 1 and type(parts[0]) is TextPart and parts[0].metadata is None


def _is_plain_text(item: JSON) -> bool:
    """Whether a message is a string and nothing else, as most of the user's are."""
    return type(item.get('content')) is str and item.keys() <= _MESSAGE
