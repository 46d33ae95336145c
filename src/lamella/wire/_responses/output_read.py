"""Items that a model puts out, as parts (platform.openai.com/docs/api-reference/responses/object, `output`)."""

from __future__ import annotations

from typing import Any

from lamella.types import JSON, DataPart, MediaPart, Part, ReasoningPart, TextPart, ToolRequest, ToolRequestPart
from lamella.wire._openai_chat_calls import INVALID_JSON, read_arguments
from lamella.wire._openai_json import dict_or_empty, list_or_empty, need, text_or_none, without
from lamella.wire._openai_media import from_base64, sniff
from lamella.wire._responses.marks import Marks

AFTER = 'after'
ITEM = 'item'
BETWEEN = '\n\n'
TEXTS = ('output_text', 'input_text', 'text')

_MESSAGE = frozenset(('type', 'role', 'content'))
_TEXT = frozenset(('type', 'text', 'annotations', 'logprobs'))
_REASONING = frozenset(('type', 'summary', 'content', 'encrypted_content'))
_CALL = frozenset(('type', 'call_id', 'name', 'arguments', 'input'))
_IMAGE = frozenset(('result',))


class OutputReader:
    """Reads the items of one answer in order.

    A text part carries the fields of its message under `item`. What follows a reasoning item remembers its id under
    `after`: the API refuses the one without the other (see `InputWriter`).
    """

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._after: JSON = {}

    def read(self, item: JSON, where: str) -> list[Part]:
        """The parts of one item, none for an empty message. Raises Malformed."""
        kind = item.get('type')
        if kind == 'message':
            return self._message(item, where)
        if kind == 'reasoning':
            return [self._reasoning(item)]
        if kind == 'function_call':
            return [self._call(item, where)]
        if kind == 'custom_tool_call':
            return [self._custom(item, where)]
        if kind == 'image_generation_call':
            return [self._image(item)]
        need(kind, str, f'{where}.type')
        return [DataPart(item, {self._marks.own: {}})]

    def forget(self) -> None:
        """What follows is no longer of the same answer."""
        self._after = {}

    def _message(self, item: JSON, where: str) -> list[Part]:
        meta = without(item, _MESSAGE)
        content = item.get('content')
        if isinstance(content, str):
            return [self._text({'text': content}, meta, where)]
        blocks = need(content or [], list, f'{where}.content')
        return [
            self._block(need(block, dict, f'{where}.content[{i}]'), meta, f'{where}.content[{i}]')
            for i, block in enumerate(blocks)
        ]

    def _block(self, block: JSON, meta: JSON, where: str) -> Part:
        kind = block.get('type')
        if kind in TEXTS:
            return self._text(block, meta, where)
        own = {self._marks.own: {**self._following(meta), ITEM: meta}}
        if kind == 'refusal' and isinstance(block.get('refusal'), str):
            return DataPart({'type': 'refusal', 'refusal': block['refusal']}, {self._marks.shared: {}, **own})
        need(kind, str, f'{where}.type')
        return DataPart(block, own)

    def _text(self, block: JSON, meta: JSON, where: str) -> TextPart:
        own: JSON = {**self._following(meta), ITEM: meta} if meta else {}
        if annotations := list_or_empty(block.get('annotations')):
            own['annotations'] = annotations
        own.update(without(block, _TEXT))
        return TextPart(need(block.get('text'), str, f'{where}.text'), self._marks.metadata(own))

    def _following(self, meta: JSON) -> JSON:
        return self._after if 'id' in meta else {}

    def _reasoning(self, item: JSON) -> ReasoningPart:
        own = without(item, _REASONING)
        summary, content = list_or_empty(item.get('summary')), list_or_empty(item.get('content'))
        text = reasoning_text(summary, content)
        if content or summary != plain_summary(text):
            own.update({'summary': summary, **({'content': content} if content else {})})
        id = text_or_none(item.get('id'))
        self._after = {} if id is None else {AFTER: id}
        signature = text_or_none(item.get('encrypted_content'))
        return ReasoningPart(text, signature, not text, {self._marks.own: own})

    def _call(self, item: JSON, where: str) -> ToolRequestPart:
        """Arguments that are no JSON stay the text they are, as in Chat Completions; the metadata says so."""
        arguments = item.get('arguments')
        value, valid = (
            (arguments, True)
            if isinstance(arguments, dict)
            else read_arguments(need(arguments or '', str, f'{where}.arguments'))
        )
        value = {} if value is None else value
        return self._request(item, value, None if valid else {INVALID_JSON: True}, where)

    def _custom(self, item: JSON, where: str) -> ToolRequestPart:
        text = need(item.get('input') or '', str, f'{where}.input')
        return self._request(item, text, {'type': 'custom'}, where)

    def _request(self, item: JSON, value: Any, shared: JSON | None, where: str) -> ToolRequestPart:
        name = need(item.get('name'), str, f'{where}.name')
        rest = without(item, _CALL)
        own = {**self._following(rest), **rest}
        return ToolRequestPart(
            ToolRequest(name, value, text_or_none(item.get('call_id'))), self._marks.metadata(own, shared)
        )

    def _image(self, item: JSON) -> Part:
        """An image that the model made (platform.openai.com/docs/guides/tools-image-generation)."""
        own = self._marks.own
        data = from_base64(text_or_none(item.get('result')) or '')
        if not data:
            return DataPart(item, {own: {}})
        format = text_or_none(item.get('output_format'))
        return MediaPart(
            data=data,
            content_type=sniff(data) or f'image/{format or "png"}',
            metadata={own: without(item, _IMAGE)},
        )


def reasoning_text(summary: list[Any], content: list[Any]) -> str:
    """What a reasoning item says: the thoughts themselves, then their summary."""
    return BETWEEN.join(
        [text for block in (*content, *summary) if (text := text_or_none(dict_or_empty(block).get('text')))]
    )


def plain_summary(text: str) -> list[JSON]:
    return [{'type': 'summary_text', 'text': text}] if text else []


def may_be_cut(part: ToolRequestPart, marks: Marks) -> bool:
    """Whether this request could be the half that a token limit left: half an input is no input."""
    status = marks.own_of(part.metadata).get('status')
    if status == 'incomplete' or INVALID_JSON in marks.shared_of(part.metadata):
        return True
    return status != 'completed' and not part.tool_request.input


def cut_warning(part: Part) -> str:
    name = part.tool_request.name if type(part) is ToolRequestPart else None
    return f'the token limit cut off the request of tool {name!r}: left out'
