"""Parts as the items that a model puts out, for the input of a request and for the output of an answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lamella.types import JSON, DataPart, MediaPart, Part, ReasoningPart, TextPart, ToolRequestPart
from lamella.wire._openai_chat_calls import INVALID_JSON
from lamella.wire._openai_json import arguments_of, dict_or_empty, list_or_empty
from lamella.wire._openai_media import to_base64
from lamella.wire._responses.marks import Marks
from lamella.wire._responses.output_read import AFTER, ITEM, plain_summary, reasoning_text

_NOT_OF_TEXT = (AFTER, ITEM, 'annotations')
IMAGE = 'image_generation_call'


def refusal_of(part: Part) -> str | None:
    """The words of a part that is a refusal."""
    data = part.data if isinstance(part, DataPart) else None
    if not isinstance(data, dict) or data.get('type') != 'refusal':
        return None
    words = data.get('refusal')
    return words if isinstance(words, str) else None


def is_refusal(part: Part) -> bool:
    return refusal_of(part) is not None


def is_block(part: Part, marks: Marks) -> bool:
    """Whether a part belongs into a message's content; everything else is an item of its own."""
    if type(part) is TextPart:
        return True
    return type(part) is DataPart and (is_refusal(part) or ITEM in marks.own_of(part.metadata))


def is_item(part: DataPart, marks: Marks) -> bool:
    """Whether data is something of the Responses API. Without metadata it is the caller's own."""
    data = part.data
    return isinstance(data, dict) and isinstance(data.get('type'), str) and marks.is_own(part.metadata)


def message_fields(part: Part, marks: Marks) -> JSON:
    """The fields of the message that a block came in."""
    return dict_or_empty(marks.own_of(part.metadata).get(ITEM))


def grouped(parts: Iterable[Part], marks: Marks) -> Iterator[list[Part]]:
    """Blocks that follow each other and came in one message; everything else alone."""
    run: list[Part] = []
    for part in parts:
        if run and is_block(part, marks) and message_fields(part, marks) == message_fields(run[0], marks):
            run.append(part)
            continue
        if run:
            yield run
        run = [part] if is_block(part, marks) else []
        if not run:
            yield [part]
    if run:
        yield run


def text_extras(part: TextPart, marks: Marks) -> JSON:
    """Fields of a text block that Lamella has no name for."""
    return {key: value for key, value in marks.own_of(part.metadata).items() if key not in _NOT_OF_TEXT}


def annotations_of(part: Part, marks: Marks) -> list[JSON]:
    return list_or_empty(marks.own_of(part.metadata).get('annotations'))


def block_of(part: Part, marks: Marks) -> JSON:
    """A block of an assistant's message."""
    if type(part) is TextPart:
        text = {'type': 'output_text', 'text': part.text, 'annotations': annotations_of(part, marks)}
        return {**text, **text_extras(part, marks)}
    return dict(part.data) if type(part) is DataPart else {}


def reasoning_item(part: ReasoningPart, marks: Marks) -> JSON:
    """The item as it came; if a layer changed the text, the text is its summary. `summary` is required, also when empty."""
    own = dict(marks.own_of(part.metadata))
    summary, content = list_or_empty(own.pop('summary', None)), own.pop('content', None)
    if reasoning_text(summary, list_or_empty(content)) != part.text:
        summary, content = plain_summary(part.text), None
    item: JSON = {'type': 'reasoning', **own, 'summary': summary}
    if content is not None:
        item['content'] = content
    if part.signature is not None:
        item['encrypted_content'] = part.signature
    return item


def call_item(part: ToolRequestPart, call_id: str, marks: Marks) -> JSON:
    request, shared = part.tool_request, marks.shared_of(part.metadata)
    rest = {key: value for key, value in marks.own_of(part.metadata).items() if key != AFTER}
    head: JSON = {'call_id': call_id, 'name': request.name}
    is_text = isinstance(request.input, str)
    if shared.get('type') == 'custom':
        text = request.input if is_text else arguments_of(request.input)
        return {'type': 'custom_tool_call', **head, 'input': text, **rest}
    raw = INVALID_JSON in shared and is_text
    arguments = request.input if raw else arguments_of(request.input)
    return {'type': 'function_call', **head, 'arguments': arguments, **rest}


def image_item(part: MediaPart, marks: Marks) -> JSON | None:
    """The item that the model made, if it made this image."""
    own = marks.own_of(part.metadata)
    if own.get('type') != IMAGE or part.data is None:
        return None
    return {**own, 'result': to_base64(part.data)}
