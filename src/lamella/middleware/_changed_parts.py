"""The parts of one model call with their texts changed, piece by piece; and a whole answer in the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from lamella.middleware._pii_text import TextStream
from lamella.types import (
    JSON,
    Finished,
    ModelResponse,
    Part,
    Raw,
    ReasoningDelta,
    ReasoningPart,
    ResponseStarted,
    Restarted,
    Source,
    StreamPart,
    TextDelta,
    TextPart,
    ToolInputDelta,
    ToolRequested,
    ToolRequestPart,
    is_content,
)

Value = Callable[[Any], Any]


class Changes(NamedTuple):
    """What becomes of each kind of text: of a text, of reasoning and of a tool's input as it arrives, of a whole input, of
    everything else in the answer, of what stands aside of it (events of the provider), and of the metadata at its end."""

    text: Callable[[], TextStream]
    reasoning: Callable[[], TextStream]
    tool_input_text: Callable[[], TextStream]
    tool_input: Value
    other: Value
    aside: Value
    end: Callable[[JSON], JSON]


def changed_response(response: ModelResponse, changes: Changes) -> ModelResponse:
    """A whole answer, as the parts of it would be changed."""
    content = tuple([_changed_part(part, changes) for part in response.message.content])
    message = response.message.replace(content=content)
    response = response.replace(
        message=message,
        finish_message=changes.other(response.finish_message),
        sources=changes.other(response.sources),
        warnings=changes.other(response.warnings),
    )
    return response.replace(metadata=changes.end(response.metadata))


def _changed_part(part: Part, changes: Changes) -> Part:
    if isinstance(part, TextPart):
        return TextPart(changes.text().all(part.text), changes.other(part.metadata))
    if isinstance(part, ReasoningPart):
        if part.redacted:
            return part
        text = changes.reasoning().all(part.text)
        signature = part.signature if text == part.text else None
        return ReasoningPart(text, signature, False, changes.other(part.metadata))
    if isinstance(part, ToolRequestPart):
        request = part.tool_request
        return part.replace(
            tool_request=request.replace(input=changes.tool_input(request.input)), metadata=changes.other(part.metadata)
        )
    changed: Part = changes.other(part)
    return changed


class _Block:
    """One block of text, reasoning or tool input. `placed`: it has a place in the answer."""

    __slots__ = ('index', 'kind', 'metadata', 'placed', 'raw', 'said', 'signature', 'stream')

    def __init__(self, kind: type, index: int, stream: TextStream) -> None:
        self.kind, self.index, self.stream = kind, index, stream
        self.metadata: JSON | None = None
        self.signature: str | None = None
        self.placed = False
        self.raw, self.said = sha256(), sha256()  # of reasoning, whose signature is for the text as it was


class ChangedParts:
    """One model call's parts on their way. Each block has a stream of its own, so that blocks may come in turns.

    A block keeps its place: when other content comes while all of it is held back, an empty piece goes ahead. What a block
    holds back comes with the end of the answer. What was before a `Restarted` is forgotten.
    """

    __slots__ = ('_blocks', '_changes', '_current', '_shown')

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._clear()

    def _clear(self) -> None:
        self._blocks: dict[tuple[type, int], _Block] = {}
        self._current: _Block | None = None
        self._shown = False

    def take(self, part: StreamPart) -> Sequence[StreamPart]:
        """What may be passed on now that this part has come."""
        kind = type(part)
        if kind is TextDelta or kind is ReasoningDelta:
            ready = self._text(part)  # type: ignore[arg-type]
        elif kind is ToolInputDelta:
            ready = [*self._leave(), *self._tool_input(part)]  # type: ignore[arg-type]
        elif kind is ToolRequested:
            ready = [*self._leave(), *self._requested(part)]  # type: ignore[arg-type]
        elif kind is Finished:
            return (*self._closed(), self._end(part))  # type: ignore[arg-type]
        elif kind is ResponseStarted or kind is Restarted:
            self._clear()
            return (self._changes.aside(part),)
        elif kind is Raw and not is_content(part):
            return (self._changes.aside(part),)
        else:
            leaving = self._leave() if is_content(part) and kind is not Source else []
            ready = [*leaving, self._changes.other(part)]
        self._shown = self._shown or any(map(is_content, ready))
        return ready

    def cut(self) -> Sequence[StreamPart]:
        """What is held back of an answer that broke off after some of it was shown; of any other there is nothing to tell."""
        return self._closed() if self._shown else ()

    def _text(self, part: TextDelta | ReasoningDelta) -> list[StreamPart]:
        if isinstance(part, ReasoningDelta) and part.redacted:
            return [*self._leave(), part]
        block, ready = self._current, list[StreamPart]()
        if block is None or block.index != part.index or block.kind is not type(part):
            ready = self._leave()
            block = self._current = self._block(type(part), part.index)
        if part.metadata is not None:
            block.metadata = {**(block.metadata or {}), **self._changes.other(part.metadata)}
        text = block.stream.feed(part.text) if part.text else ''
        if isinstance(part, ReasoningDelta):
            block.raw.update(part.text.encode('utf-8', 'surrogatepass'))
            if part.signature is not None:
                block.signature = (block.signature or '') + part.signature
        if text or (block.metadata is not None and block.placed):
            ready.append(self._place(block, text))
        return ready

    def _block(self, kind: type, index: int) -> _Block:
        block = self._blocks.get((kind, index))
        if block is None:
            new = self._changes.text if kind is TextDelta else self._changes.reasoning
            new = self._changes.tool_input_text if kind is ToolInputDelta else new
            block = self._blocks[kind, index] = _Block(kind, index, new())
        return block

    def _place(self, block: _Block, text: str) -> StreamPart:
        metadata, block.metadata, block.placed = block.metadata, None, True
        if block.kind is TextDelta:
            return TextDelta(text, block.index, metadata)
        block.said.update(text.encode('utf-8', 'surrogatepass'))
        return ReasoningDelta(text, block.index, metadata=metadata)

    def _leave(self) -> list[StreamPart]:
        """Another block begins: this one gets its place first, and its metadata."""
        block, self._current = self._current, None
        return [self._place(block, '')] if block is not None and not block.placed else []

    def _tool_input(self, part: ToolInputDelta) -> list[StreamPart]:
        text = self._block(ToolInputDelta, part.index).stream.feed(part.delta)
        return [part.replace(delta=text)] if text or part.name is not None or part.ref is not None else []

    def _requested(self, part: ToolRequested) -> list[StreamPart]:
        block = self._blocks.pop((ToolInputDelta, part.index), None)
        rest = block.stream.close() if block is not None else ''
        request = part.tool_request
        whole = part.replace(
            tool_request=request.replace(input=self._changes.tool_input(request.input)),
            metadata=self._changes.other(part.metadata),
        )
        return [ToolInputDelta(rest, part.index), whole] if rest else [whole]

    def _closed(self) -> list[StreamPart]:
        ready: list[StreamPart] = []
        for block in self._blocks.values():
            text = block.stream.close()
            if block.kind is ToolInputDelta:
                ready += [ToolInputDelta(text, block.index)] if text else []
                continue
            if text or block.metadata is not None or not block.placed:
                ready.append(self._place(block, text))
            if block.signature is not None and block.raw.digest() == block.said.digest():
                ready.append(ReasoningDelta('', block.index, block.signature))
        self._blocks, self._current = {}, None
        return ready

    def _end(self, end: Finished) -> Finished:
        other = self._changes.other
        end = end.replace(finish_message=other(end.finish_message), warnings=other(end.warnings))
        return end.replace(metadata=self._changes.end(end.metadata or {}) or None)
