"""Items of a streamed answer that are still arriving: what was handed out of them, and what is left at their end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lamella.types import (
    JSON,
    DataPart,
    File,
    MediaPart,
    Part,
    Raw,
    ReasoningDelta,
    ReasoningPart,
    StreamPart,
    TextDelta,
    TextPart,
    ToolRequested,
    ToolRequestPart,
)
from lamella.wire._openai_json import text_or_none
from lamella.wire._responses.facts import source_of
from lamella.wire._responses.marks import Marks
from lamella.wire._responses.output_read import BETWEEN, ITEM, TEXTS, OutputReader
from lamella.wire._responses.output_write import annotations_of

_WRITTEN = {'function_call': 'arguments', 'custom_tool_call': 'input'}


class TextBlock:
    """A text that is arriving. `annotations` counts those that came on their own."""

    __slots__ = ('_first', '_pieces', 'annotations', 'index')

    def __init__(self, index: int, first: JSON | None) -> None:
        self.index = index
        self.annotations = 0
        self._first = first
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        return ''.join(self._pieces)

    @property
    def has_begun(self) -> bool:
        """Whether anything was handed out of it."""
        return bool(self._pieces)

    def more(self, text: str) -> TextDelta:
        """The first piece names the message, so that whoever passes the stream on can do so too."""
        self._pieces.append(text)
        first, self._first = self._first, None
        return TextDelta(text, self.index, first)

    def rest(self, whole: str) -> list[StreamPart]:
        """What is missing of the whole text."""
        missing = missing_of(self.text, whole)
        return [self.more(missing)] if missing else []

    def last(self, part: TextPart) -> list[StreamPart]:
        missing = missing_of(self.text, part.text)
        if not missing and self._pieces and part.metadata is None:
            return []
        self._pieces.append(missing)
        return [TextDelta(missing, self.index, part.metadata)]


class StreamItem:
    """One item of the answer. Its blocks are numbered in the order in which they begin."""

    __slots__ = (
        '_done', '_handed', '_index', '_marks', '_new_index', '_refusals', '_thoughts', 'arguments', 'blocks', 'data',
        'output_index', 'settled',
    )  # fmt: skip

    def __init__(self, output_index: int, data: JSON, new_index: Callable[[], int], marks: Marks) -> None:
        self.output_index = output_index
        self.data = data
        self.arguments: list[str] = []
        self.settled = False
        self._index: int | None = None
        self._new_index = new_index
        self._marks = marks
        self.blocks: dict[int, TextBlock] = {}
        self._refusals: dict[int, list[str]] = {}
        self._done: dict[int, JSON] = {}
        self._handed: set[int] = set()
        self._thoughts: list[tuple[tuple[str, int], str]] = []

    @property
    def index(self) -> int:
        if self._index is None:
            self._index = self._new_index()
        return self._index

    def block(self, content_index: int) -> TextBlock:
        block = self.blocks.get(content_index)
        if block is None:
            id = text_or_none(self.data.get('id'))
            first = {self._marks.own: {ITEM: {'id': id}}} if id else None
            index = self._new_index() if self.blocks else self.index
            block = self.blocks[content_index] = TextBlock(index, first)
        return block

    def announce(self, content_index: int, reader: OutputReader, parts: list[StreamPart]) -> None:
        """A block of a message begins. The one before it has its place in the answer, also if nothing was handed out yet."""
        before = content_index - 1
        if (done := self._done.get(before)) is not None and before not in self._handed:
            self._handed.add(before)
            item = {**self.data, 'status': 'completed', 'content': [done]}  # what goes on was not cut here
            (part,) = reader.read(item, 'item')
            parts += self._whole_block(before, part)
        elif (text := self.blocks.get(before)) is not None and not text.has_begun:
            parts.append(text.more(''))
        self.block(content_index)

    def block_done(self, content_index: int, block: JSON) -> None:
        """A block that is no text is whole."""
        if block.get('type') not in TEXTS:
            self._done[content_index] = block

    def _whole_block(self, content_index: int, part: Part) -> Iterator[StreamPart]:
        if type(part) is DataPart:
            yield Raw(part.data, self.block(content_index).index, True, part.metadata)

    def refuse(self, content_index: int, text: Any) -> None:
        if isinstance(text, str):
            self._refusals.setdefault(content_index, []).append(text)

    def think(self, place: tuple[str, int], text: str) -> ReasoningDelta:
        """Paragraphs of the summary, and the thoughts themselves, are set apart by a blank line."""
        apart = bool(self._thoughts) and self._thoughts[-1][0] != place
        id = None if self._thoughts else text_or_none(self.data.get('id'))
        self._thoughts.append((place, BETWEEN + text if apart else text))
        first = {self._marks.own: {'id': id}} if id else None
        return ReasoningDelta(self._thoughts[-1][1], self.index, metadata=first)

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def whole(self, data: JSON) -> JSON:
        """The item as it was said to be done, with what only came in pieces. One that never was is not `in_progress`."""
        begun = {key: value for key, value in self.data.items() if (key, value) != ('status', 'in_progress')}
        said = {} if data is self.data else data
        whole = {**begun, **{key: value for key, value in said.items() if value is not None or begun.get(key) is None}}
        kind = whole.get('type')
        if (field := _WRITTEN.get(kind) if isinstance(kind, str) else None) and not whole.get(field) and self.arguments:
            whole[field] = ''.join(self.arguments)
        if kind == 'message' and not whole.get('content'):
            whole['content'] = [self._block_of(i) for i in sorted({*self.blocks, *self._refusals})]
        if kind == 'reasoning' and not (whole.get('summary') or whole.get('content')):
            whole.update(self._thought_of())
        return whole

    def _block_of(self, content_index: int) -> JSON:
        if content_index in self._refusals:
            return {'type': 'refusal', 'refusal': ''.join(self._refusals[content_index])}
        return {'type': 'output_text', 'text': self.blocks[content_index].text, 'annotations': []}

    def _thought_of(self) -> JSON:
        texts: dict[tuple[str, int], str] = {}
        for place, text in self._thoughts:
            texts[place] = texts.get(place, '') + (text if place in texts else text.removeprefix(BETWEEN))
        return {
            field: [{'type': type, 'text': text} for (where, _), text in texts.items() if where == field]
            for field, type in (('summary', 'summary_text'), ('content', 'reasoning_text'))
        }

    def closing(self, parts: Sequence[Part]) -> Iterator[StreamPart]:
        """What is left to hand out of the parts that the whole item is."""
        for i, part in enumerate(parts):
            if type(part) is TextPart:
                yield from self._last_text(self.block(i), part)
            elif type(part) is ReasoningPart:
                thought = ''.join([text for _, text in self._thoughts])
                missing = missing_of(thought, part.text)
                yield ReasoningDelta(missing, self.index, part.signature, part.redacted, part.metadata)
            elif type(part) is ToolRequestPart:
                yield ToolRequested(part.tool_request, self.index, part.metadata)
            elif type(part) is MediaPart:
                yield File(part, self.index)
            elif self.data.get('type') != 'message' and type(part) is DataPart:
                yield Raw(part.data, self.index, True, part.metadata)
            elif i not in self._handed:
                yield from self._whole_block(i, part)

    def _last_text(self, block: TextBlock, part: TextPart) -> Iterator[StreamPart]:
        yield from block.last(part)
        for annotation in annotations_of(part, self._marks)[block.annotations :]:
            if (source := source_of(annotation, block.index, self._marks)) is not None:
                yield source


def missing_of(before: str, whole: str) -> str:
    """The end of a text whose beginning is there; nothing when the beginning is another."""
    return whole[len(before) :] if whole.startswith(before) else ''
