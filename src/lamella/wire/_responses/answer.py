"""A whole answer of the Responses API to a response, and back (platform.openai.com/docs/api-reference/responses/object)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lamella.types import (
    JSON,
    DataPart,
    MediaPart,
    Message,
    ModelRequest,
    ModelResponse,
    Part,
    ReasoningPart,
    TextPart,
    ToolRequestPart,
)
from lamella.wire._openai_chat_facts import hash_of
from lamella.wire._openai_json import dict_or_empty, list_or_empty, need, parse, text_or_none, write
from lamella.wire._openai_media import content_type_of
from lamella.wire._responses.encode import settings, with_own
from lamella.wire._responses.facts import (
    Facts,
    annotation_of,
    check_failed,
    logprobs_of,
    refused,
    response_id,
    sources_of,
    status_to_wire,
    usage_to_wire,
    whole_content,
)
from lamella.wire._responses.input_write import INSTRUCTIONS
from lamella.wire._responses.marks import Marks
from lamella.wire._responses.output_read import OutputReader
from lamella.wire._responses.output_write import (
    IMAGE,
    block_of,
    call_item,
    grouped,
    image_item,
    is_block,
    is_item,
    message_fields,
    reasoning_item,
)
from lamella.wire._responses.own import from_chat

_DEFAULTS: JSON = {
    'error': None,
    'instructions': None,
    'max_output_tokens': None,
    'parallel_tool_calls': True,
    'previous_response_id': None,
    'reasoning': {'effort': None, 'summary': None},
    'store': True,
    'temperature': None,
    'text': {'format': {'type': 'text'}},
    'tool_choice': 'auto',
    'tools': [],
    'top_p': None,
    'truncation': 'disabled',
    'metadata': {},
}
_NOT_REPEATED = frozenset(('include', 'stream_options', 'input', 'model', 'context_management'))


def decode_response(body: bytes, marks: Marks) -> ModelResponse:
    """Raises Malformed for what is no answer, and LamellaError for an answer that failed."""
    data = need(parse(body), dict, 'the answer')
    if data.get('error') and 'output' not in data:
        check_failed({'error': dict_or_empty(data['error'])}, None)
    items = need(data.get('output'), list, 'the answer: output')
    reader = OutputReader(marks)
    places = [f'the answer: output[{i}]' for i in range(len(items))]
    pairs = zip(items, places, strict=True)
    parts = [part for item, where in pairs for part in reader.read(need(item, dict, where), where)]
    logprobs = [token for item in items for token in logprobs_of(item)]
    response = _response(data, parts, logprobs, marks)
    check_failed(data, response)
    return response


def _response(data: JSON, parts: list[Part], logprobs: list[Any], marks: Marks) -> ModelResponse:
    facts = Facts(data, parts, logprobs, marks)
    content, cut = whole_content(parts, facts.was_cut, marks)
    return ModelResponse(
        message=Message('assistant', tuple(content)),
        finish_reason=facts.finish_reason(),
        finish_message=facts.finish_message(),
        usage=facts.usage(),
        model=text_or_none(data.get('model')),
        id=text_or_none(data.get('id')),
        sources=tuple([source for i, part in enumerate(content) for source in sources_of(part, i, marks)]),
        metadata=facts.metadata(),
        warnings=(*facts.warnings(), *cut),
    )


# ── to the wire ─────────────────────────────────────────────────────────────────────────────────────────────────────


def encode_response(response: ModelResponse, model: str, request: ModelRequest | None, marks: Marks) -> bytes:
    id = response.id or response_id(write(response.message, lambda: {'message': response.message}))
    items = output_items(response, id, marks)
    body = root_of(id, model, repeated(request, marks), marks.own_of(response.metadata))
    body.update(status_to_wire(response.finish_reason, refused(items), marks.own_of(response.metadata)))
    body['output'] = items
    if response.usage is not None:
        body['usage'] = usage_to_wire(response.usage, dict_or_empty(marks.own_of(response.metadata).get('usage')))
    return write(body, lambda: body)


def root_of(id: str, model: str, repeats: JSON, own: JSON) -> JSON:
    """An answer without its items and its end. What the provider said itself comes last."""
    head = {'id': id, 'object': 'response', 'created_at': 0, **_DEFAULTS, **repeats}
    rest = {key: value for key, value in own.items() if key not in ('usage', 'status', 'incomplete_details')}
    return {**head, 'usage': None, **rest, 'model': model, 'output': []}


def repeated(request: ModelRequest | None, marks: Marks) -> JSON:
    """The fields of the request that every answer repeats."""
    if request is None:
        return {}
    own = from_chat(request.provider_options.get(marks.shared, {}), [])
    body = with_own(settings(request, marks, own, []), own, False)
    first = request.messages[0] if request.messages else None
    if first is not None and marks.own_of(first.metadata).get(INSTRUCTIONS):
        body['instructions'] = first.text
    return {key: value for key, value in body.items() if key not in _NOT_REPEATED}


def output_items(response: ModelResponse, id: str, marks: Marks) -> list[JSON]:
    """The items. What the protocol has none for (blocks of other vendors, sounds) is left out."""
    parts = list(response.message.content)
    cited = _cited(response, marks)
    namer = Namer(id)
    items: list[JSON] = []
    for run in grouped(parts, marks):
        if is_block(run[0], marks):
            items.append(message_item(run, cited, namer, marks))
        elif (item := output_item(run[0], namer, marks)) is not None:
            items.append(item)
    if extra := cited.get(None):
        items.append(
            {
                **namer.message({}),
                'content': [{'type': 'output_text', 'text': '', 'annotations': extra, 'logprobs': []}],
            }
        )
    add_logprobs(items, response.metadata.get('logprobs'))
    return items


def _cited(response: ModelResponse, marks: Marks) -> dict[int | None, list[JSON]]:
    """The annotations that no text part has yet, by the `id()` of the part they go to; `None` when there is no text."""
    texts = {i: part for i, part in enumerate(response.message.content) if type(part) is TextPart}
    known = [source for i, part in texts.items() for source in sources_of(part, i, marks)]
    waiting = [marks.own_of(source.metadata) for source in known]
    cited: dict[int | None, list[JSON]] = {}
    for source in response.sources:
        annotation = annotation_of(source, marks)
        if annotation in waiting:
            waiting.remove(annotation)
            continue
        part = texts.get(source.index) or (list(texts.values())[-1] if texts else None)
        cited.setdefault(None if part is None else id(part), []).append(annotation)
    return cited


def message_item(run: Sequence[Part], cited: dict[int | None, list[JSON]], namer: Namer, marks: Marks) -> JSON:
    blocks = []
    for part in run:
        block = answer_block(part, marks)
        if more := cited.get(id(part)):
            block['annotations'] = [*block['annotations'], *more]
        blocks.append(block)
    return {**namer.message(message_fields(run[0], marks)), 'content': blocks}


def answer_block(part: Part, marks: Marks) -> JSON:
    block = block_of(part, marks)
    return {**block, 'logprobs': []} if type(part) is TextPart else block


def output_item(part: Part, namer: Namer, marks: Marks) -> JSON | None:
    """The item of a part that is no content of a message; `None` for what has none."""
    if isinstance(part, ReasoningPart):
        thought = answer_reasoning(part, marks)
        return None if thought is None else namer.named('rs', thought)
    if isinstance(part, ToolRequestPart):
        return call_to_item(part, namer, marks)
    if isinstance(part, MediaPart):
        image = _image(part, marks)
        return None if image is None else namer.named('ig', image)
    return dict(part.data) if isinstance(part, DataPart) and is_item(part, marks) else None


def answer_reasoning(part: ReasoningPart, marks: Marks) -> JSON | None:
    """Shown whoever thought it; another vendor's proof would be taken for OpenAI's, and stays here."""
    if marks.is_marked(part.metadata):
        return reasoning_item(part, marks)
    return reasoning_item(ReasoningPart(part.text), marks) if part.text else None


def call_to_item(part: ToolRequestPart, namer: Namer, marks: Marks) -> JSON:
    item = call_item(part, part.tool_request.ref or namer.new('call'), marks)
    if item['type'] == 'function_call':
        return {'status': 'completed', **namer.named('fc', item)}
    return namer.named('ctc', item)


def _image(part: MediaPart, marks: Marks) -> JSON | None:
    if (item := image_item(part, marks)) is not None or part.data is None:
        return item
    kind = content_type_of(part) or ''
    made = MediaPart(data=part.data, metadata={marks.own: {'type': IMAGE, 'status': 'completed'}})
    return image_item(made, marks) if kind.startswith('image/') else None


def add_logprobs(items: list[JSON], logprobs: Any) -> None:
    """To the first text: they are not told apart by text in Lamella. Replaces the item in the list."""
    for i, item in enumerate(items if logprobs else ()):
        blocks = list_or_empty(item.get('content')) if item['type'] == 'message' else []
        for j, block in enumerate(blocks):
            if dict_or_empty(block).get('type') == 'output_text':
                items[i] = {**item, 'content': [*blocks[:j], {**block, 'logprobs': logprobs}, *blocks[j + 1 :]]}
                return


class Namer:
    """Ids for items that have none, the same for the same answer."""

    def __init__(self, response_id: str) -> None:
        self._base = hash_of(response_id.encode('utf-8', 'replace'))
        self._count = 0

    def new(self, prefix: str) -> str:
        self._count += 1
        return f'{prefix}_{self._base}{self._count}'

    def named(self, prefix: str, item: JSON) -> JSON:
        return item if 'id' in item else {'id': self.new(prefix), **item}

    def message(self, fields: JSON) -> JSON:
        id = fields.get('id') or self.new('msg')
        return {'id': id, 'type': 'message', 'role': 'assistant', 'status': 'completed', **fields}
