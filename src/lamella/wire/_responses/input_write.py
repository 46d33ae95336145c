"""Messages of Lamella to input items (platform.openai.com/docs/api-reference/responses/create, "input")."""

from __future__ import annotations

from lamella.types import (
    JSON,
    DataPart,
    LamellaError,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolRequestPart,
    ToolResponsePart,
)
from lamella.wire._openai_json import write
from lamella.wire._responses.content_write import ContentWriter, parts_of_output
from lamella.wire._responses.marks import Marks
from lamella.wire._responses.output_read import AFTER
from lamella.wire._responses.output_write import (
    annotations_of,
    block_of,
    call_item,
    grouped,
    image_item,
    is_block,
    message_fields,
    reasoning_item,
    text_extras,
)

INSTRUCTIONS = 'instructions'
ANSWERS = ('function_call_output', 'custom_tool_call_output')
CALLERS = frozenset(
    (
        'computer_call_output', 'local_shell_call_output', 'shell_call_output', 'apply_patch_call_output',
        'mcp_approval_response', 'additional_tools', 'compaction_trigger',
    )
)  # fmt: skip


class InputWriter:
    """Writes the messages of one request. `warnings` collects what the protocol cannot say.

    The API keeps reasoning and what came of it together: it refuses a reasoning item that nothing follows, and an item
    whose reasoning is missing, which it knows by the item's id ("provided without its required …"). So reasoning at the
    end of a turn is left out, and so are the ids of items whose reasoning a layer took away. Without `stored`, it finds no
    reasoning by its id alone ("Items are not persisted when `store` is set to false"): what has no `encrypted_content`
    is left out.
    """

    def __init__(self, marks: Marks, system_role: str, stored: bool, warnings: list[str]) -> None:
        self._marks = marks
        self._system_role = system_role
        self._stored = stored
        self._warnings = warnings
        self._content = ContentWriter(marks, warnings)
        self._unanswered: list[tuple[str, str, bool]] = []  # name, id and custom of tool calls
        self._reasoning: set[str] = set()  # ids of the reasoning items that are sent
        self._places: list[str] = []
        self.items: list[JSON] = []

    def add(self, index: int, message: Message) -> None:
        where = f'messages[{index}]'
        if (text := plain_text(message)) is not None:
            role = self._system_role if message.role == 'system' else message.role
            self.items.append({'type': 'message', 'role': role, 'content': text})
        elif message.role == 'assistant':
            self._assistant(message, index)
        elif message.role == 'system':
            self._message(self._role_of(message), message.content, message, where)
        else:
            self._user_or_tool(message, where)
        self._places += [where] * (len(self.items) - len(self._places))

    def _role_of(self, message: Message) -> str:
        role = self._marks.shared_of(message.metadata).get('role')
        return role if isinstance(role, str) else self._system_role

    def _message(self, role: str, parts: tuple[Part, ...], message: Message, where: str) -> None:
        own = {key: value for key, value in self._marks.own_of(message.metadata).items() if key != INSTRUCTIONS}
        content = self._content.content(parts, where)
        self.items.append({'type': 'message', 'role': role, 'content': content, **own})

    def _user_or_tool(self, message: Message, where: str) -> None:
        answers = [part for part in message.content if type(part) is ToolResponsePart]
        rest = [part for part in message.content if type(part) is not ToolResponsePart]
        if message.role == 'tool' and not message.content:
            raise LamellaError(
                'INVALID_ARGUMENT', f'{where} of role tool has no ToolResponsePart: add one, or leave it out'
            )
        for answer in answers:
            self._answer(answer, where)
        if rest or not answers:
            self._user(rest, message, where)

    def _user(self, parts: list[Part], message: Message, where: str) -> None:
        """Items among the content (an approval, the output of a computer call) go between messages."""
        run: list[Part] = []
        for part in parts:
            if type(part) is DataPart and not self._is_block(part):
                if (item := self._content.data(part, where)) is not None:
                    self._user_message(run, message, where)
                    self.items.append(item)
                    run = []
            elif type(part) is not ReasoningPart:
                run.append(part)
        self._user_message(run, message, where)
        if not parts:
            self._message('user', (), message, where)

    def _user_message(self, run: list[Part], message: Message, where: str) -> None:
        if run:
            self._message('user', tuple(run), message, where)

    def _is_block(self, part: DataPart) -> bool:
        if not self._marks.is_own(part.metadata):
            return False
        kind = part.data.get('type') if isinstance(part.data, dict) else None
        return is_block(part, self._marks) or (isinstance(kind, str) and kind.startswith('input_'))

    # ── tools ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _answer(self, part: ToolResponsePart, where: str) -> None:
        answer = part.tool_response
        own = self._marks.own_of(part.metadata)
        call_id, custom = self._answered(answer.name, answer.ref, where)
        kind = 'custom_tool_call_output' if custom else 'function_call_output'
        self.items.append({'type': kind, 'call_id': call_id, 'output': self._output(part, where), **own})

    def _output(self, part: ToolResponsePart, where: str) -> str | list[JSON]:
        answer = part.tool_response
        output = {'error': answer.output} if answer.is_error else answer.output
        if isinstance(output, str):
            return output
        if (parts := parts_of_output(output)) is None:
            return write(output, lambda: {where: output}).decode()
        blocks = [self._content.block(item, f'{where}.output[{i}]') for i, item in enumerate(parts)]
        return [block for block in blocks if block is not None]

    def _answered(self, name: str, ref: str | None, where: str) -> tuple[str, bool]:
        waiting = self._unanswered
        found = next((call for call in waiting if (call[1] == ref if ref else call[0] == name)), None)
        if found is not None:
            waiting.remove(found)
            return found[1], found[2]
        if ref:
            return ref, False
        raise LamellaError(
            'INVALID_ARGUMENT',
            f'{where}: the answer of tool {name!r} has no ref, and no earlier request of that tool waits: set ref=',
        )

    def _call(self, part: ToolRequestPart, new_id: str) -> JSON:
        item = call_item(part, part.tool_request.ref or new_id, self._marks)
        self._unanswered.append((part.tool_request.name, item['call_id'], item['type'] == 'custom_tool_call'))
        return self._without_lost_id(item, part)

    # ── the model's own items ───────────────────────────────────────────────────────────────────────────────────────

    def _assistant(self, message: Message, index: int) -> None:
        where = f'messages[{index}]'
        calls = 0
        for run in grouped([part for part in message.content if self._can_say(part, where)], self._marks):
            first = run[0]
            if is_block(first, self._marks):
                self.items.append(self._assistant_message(run))
            elif type(first) is ReasoningPart:
                self._add_reasoning(first, where)
            elif type(first) is ToolRequestPart:
                self.items.append(self._call(first, f'call_{index}_{calls}'))
                calls += 1
            elif type(first) is DataPart:
                self.items.append(first.data)
            elif (image := image_item(first, self._marks)) is not None:  # type: ignore[arg-type]
                self.items.append(image)

    def _can_say(self, part: Part, where: str) -> bool:
        if type(part) is TextPart or type(part) is ToolRequestPart or is_refusal_of(part, self._marks):
            return True
        if type(part) is ReasoningPart:
            return self._can_say_reasoning(part, where)
        if type(part) is DataPart:
            return self._content.data(part, where) is not None
        if type(part) is ToolResponsePart:
            raise LamellaError(
                'INVALID_ARGUMENT', f'{where} is of role assistant and has a ToolResponsePart: use Message.tool(…)'
            )
        if image_item(part, self._marks) is not None:  # type: ignore[arg-type]
            return True
        self._warnings.append(f'{where}: the Responses API takes back only images that it made: left out')
        return False

    def _can_say_reasoning(self, part: ReasoningPart, where: str) -> bool:
        if not self._marks.is_marked(part.metadata):
            self._warnings.append(f'{where}: reasoning that is not of the Responses API: left out')
            return False
        if not self._stored and part.signature is None:
            self._warnings.append(
                f'{where}: reasoning without encrypted_content cannot be sent back with store=False: left out '
                "(ask for it with include=['reasoning.encrypted_content'])"
            )
            return False
        return True

    def _add_reasoning(self, part: ReasoningPart, where: str) -> None:
        item = reasoning_item(part, self._marks)
        if isinstance(id := item.get('id'), str):
            self._reasoning.add(id)
        self.items.append(item)

    def _assistant_message(self, run: list[Part]) -> JSON:
        fields = message_fields(run[0], self._marks)
        item: JSON = {'type': 'message', 'role': 'assistant', **self._without_lost_id(fields, run[0])}
        plain = 'id' not in item and len(run) == 1 and self._is_plain(run[0])
        blocks = [block_of(part, self._marks) for part in run]
        return {**item, 'content': blocks[0]['text'] if plain else blocks}

    def _is_plain(self, part: Part) -> bool:
        if type(part) is not TextPart:
            return False
        return not (text_extras(part, self._marks) or annotations_of(part, self._marks))

    def _without_lost_id(self, item: JSON, part: Part) -> JSON:
        after = self._marks.own_of(part.metadata).get(AFTER)
        if after is None or after in self._reasoning:
            return item
        return {key: value for key, value in item.items() if key not in ('id', 'status')}

    def finished(self) -> list[JSON]:
        """The items, without reasoning that leads to nothing."""
        kept: list[JSON] = []
        followed = False
        for item, where in zip(reversed(self.items), reversed(self._places), strict=True):
            if item.get('type') == 'reasoning' and not followed:
                self._warnings.append(f'{where}: reasoning that nothing follows is refused by the API: left out')
                continue
            followed = item.get('type') == 'reasoning' or is_output(item)
            kept.append(item)
        return kept[::-1]


def plain_text(message: Message) -> str | None:
    """The text of a message that is one text and nothing else, as most are."""
    content = message.content
    if message.metadata or len(content) != 1 or message.role == 'tool':
        return None
    part = content[0]
    return part.text if type(part) is TextPart and not part.metadata else None


def is_refusal_of(part: Part, marks: Marks) -> bool:
    """A refusal of either protocol of this provider."""
    return is_block(part, marks) and (not part.metadata or marks.shared in part.metadata)


def is_output(item: JSON) -> bool:
    """Whether the model put this item out."""
    if item.get('type') == 'message':
        return item.get('role') == 'assistant'
    return item.get('type') not in CALLERS and item.get('type') not in ANSWERS
