"""Content blocks of the Anthropic Messages API, from parts and to parts.

Fields that no part has live in the part's `metadata['anthropic']` (`cache_control`, `citations`, a document's `title` …) and are
merged into the block. A block that no part stands for is a `DataPart` with the whole block as its data.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from lamella.types import (
    JSON,
    DataPart,
    MediaPart,
    Part,
    ReasoningPart,
    Source,
    TextPart,
    ToolRequest,
    ToolRequestPart,
    ToolResponse,
    ToolResponsePart,
)
from lamella.wire._anthropic_json import (
    KEY,
    Malformed,
    extras_of,
    is_foreign,
    maybe,
    metadata_of,
    need,
    rest_of,
    short,
    write,
)
from lamella.wire._anthropic_media import media_block, media_part

_NOT_IN_IDS = re.compile(r'[^a-zA-Z0-9_-]')

# ── parts to blocks ─────────────────────────────────────────────────────────────────────────────────────────────────


class BlockWriter:
    """Blocks for the parts of one conversation. `warnings` collects what had to be left out.

    The API pairs requests and results by id, of letters, digits, `_` and `-`; ids of other vendors are made to fit, and
    requests without one are numbered by tool.
    """

    def __init__(self, warnings: list[str]) -> None:
        self.warnings = warnings
        self._numbers: dict[tuple[type, str], int] = {}

    def block(self, part: Part, where: str) -> JSON | None:
        """The block, or `None` for what cannot be sent. Raises LamellaError for media that the API does not take."""
        core = self._core(part, where)
        if core is None:
            return None
        return {**core, **{name: value for name, value in extras_of(part.metadata).items() if name not in core}}

    def _core(self, part: Part, where: str) -> JSON | None:
        if isinstance(part, TextPart):
            return {'type': 'text', 'text': part.text}
        if isinstance(part, ToolRequestPart):
            return self._tool_use(part.tool_request)
        if isinstance(part, ToolResponsePart):
            return self._tool_result(part.tool_response, where)
        if isinstance(part, ReasoningPart):
            return self.thinking(part, where)
        if isinstance(part, MediaPart):
            return media_block(part, where)
        return self._data(part, where)

    def thinking(self, part: ReasoningPart, where: str) -> JSON | None:
        if is_foreign(part.metadata) or not (part.signature or part.redacted):
            self.warnings.append(f'{where}: thinking without a signature of Anthropic is not sent')
            return None
        if not part.redacted:
            return {'type': 'thinking', 'thinking': part.text, 'signature': part.signature}
        if not isinstance(extras_of(part.metadata).get('data'), str):
            self.warnings.append(f"{where}: redacted thinking without metadata['anthropic']['data'] is not sent")
            return None
        return {'type': 'redacted_thinking'}

    def _tool_use(self, request: ToolRequest) -> JSON:
        return {
            'type': 'tool_use',
            'id': self._id(ToolRequest, request.name, request.ref),
            'name': request.name,
            'input': _tool_input(request.input),
        }

    def _tool_result(self, response: ToolResponse, where: str) -> JSON:
        result: JSON = {
            'type': 'tool_result',
            'tool_use_id': self._id(ToolResponse, response.name, response.ref),
            'content': self._result_content(response.output, f'{where}.output'),
        }
        return {**result, 'is_error': True} if response.is_error else result

    def _result_content(self, output: Any, where: str) -> str | list[JSON]:
        if isinstance(output, str):
            return output
        parts = _result_parts(output)
        if parts is None:
            return write(output, where).decode()
        return [block for i, part in enumerate(parts) if (block := self.block(part, f'{where}[{i}]')) is not None]

    def _data(self, part: DataPart, where: str) -> JSON | None:
        if is_foreign(part.metadata) or not isinstance(part.data, dict) or not isinstance(part.data.get('type'), str):
            self.warnings.append(f'{where}: data that is no block of Anthropic is not sent')
            return None
        return dict(part.data)

    def _id(self, kind: type, name: str, ref: str | None) -> str:
        if ref:
            return _NOT_IN_IDS.sub('_', ref)
        number = self._numbers.get((kind, name), 0)
        self._numbers[kind, name] = number + 1
        return f'{_NOT_IN_IDS.sub("_", name)}_{number}'


def _tool_input(value: Any) -> JSON:
    """The API takes objects only. Input that was no JSON goes back in the wrapping that the vendor proposes
    (platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming)."""
    if isinstance(value, dict):
        return value
    if value is None:
        return {}
    return {'INVALID_JSON': value} if isinstance(value, str) else {'input': value}


def _result_parts(output: Any) -> list[Part] | None:
    """The parts that a tool answered with, also when they went through JSON; `None` for any other value."""
    items = output if isinstance(output, (list, tuple)) else [output]
    parts = [_result_part(item) for item in items]
    found = [part for part in parts if part is not None]
    return found if len(found) == len(parts) and any(map(_is_part, items)) else None


def _is_part(item: Any) -> bool:
    return isinstance(item, (TextPart, MediaPart, DataPart)) or (isinstance(item, dict) and item.get('type') == 'media')


def _result_part(item: Any) -> Part | None:
    if isinstance(item, (TextPart, MediaPart, DataPart)):
        return item
    if not isinstance(item, dict) or item.get('type') not in ('text', 'media'):
        return None
    try:
        part = msgspec.convert(item, MediaPart | TextPart)
    except msgspec.ValidationError:
        return None
    return part if item['type'] == 'media' or set(item) <= {'type', 'text', 'metadata'} else None


# ── blocks to parts ─────────────────────────────────────────────────────────────────────────────────────────────────


def part_of(block: Any, where: str) -> Part | None:
    """The part that a block stands for, `None` for one that says nothing. Raises Malformed."""
    if not isinstance(block, dict):
        raise Malformed(f'{where} is {short(block)}, not a content block')
    kind = need(block, 'type', str, where)
    if kind == 'text':
        return _text_part(block, where)
    if kind == 'thinking':
        return _thinking_part(block, where)
    if kind == 'redacted_thinking':
        need(block, 'data', str, where)
        return ReasoningPart('', None, True, {KEY: rest_of(block, 'type')})
    if kind == 'tool_use':
        return ToolRequestPart(tool_request_of(block, where), metadata_of(tool_extras(block)))
    if kind in ('image', 'document'):
        return media_part(block) or data_part(block)
    return data_part(block)


def text_extras(block: JSON) -> JSON:
    """What a text block has beside its text; empty citations are none."""
    return {k: v for k, v in rest_of(block, 'type', 'text').items() if k != 'citations' or v}


def tool_extras(block: JSON) -> JSON:
    return rest_of(block, 'type', 'id', 'name', 'input')


def tool_request_of(block: JSON, where: str) -> ToolRequest:
    return ToolRequest(need(block, 'name', str, where), block.get('input'), maybe(block, 'id', str, where))


def data_part(block: JSON) -> DataPart:
    return DataPart(block, {KEY: {}})


def _text_part(block: JSON, where: str) -> Part | None:
    text, extras = need(block, 'text', str, where), text_extras(block)
    return TextPart(text, metadata_of(extras)) if text or extras else None


def _thinking_part(block: JSON, where: str) -> Part | None:
    text, signature = need(block, 'thinking', str, where), maybe(block, 'signature', str, where)
    extras = rest_of(block, 'type', 'thinking', 'signature')
    if not (text or signature or extras):
        return None
    return ReasoningPart(text, signature or None, False, metadata_of(extras))


def sources_of(block: JSON, index: int) -> list[Source]:
    citations = block.get('citations')
    return [source_of(citation, index) for citation in citations] if isinstance(citations, list) else []


def source_of(citation: Any, index: int) -> Source:
    """A citation (platform.claude.com/docs/en/build-with-claude/citations, /web-search-tool, /search-results)."""
    if not isinstance(citation, dict):
        return Source(index=index, metadata={KEY: {'citation': citation}})
    words = [citation.get(name) for name in ('url', 'title', 'document_title', 'cited_text', 'source')]
    url, title, document, text, source = [word if isinstance(word, str) and word else None for word in words]
    return Source(url or source, title or document, text, index, {KEY: citation})
