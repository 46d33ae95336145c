"""The text of an answer, block by block, through something that changes it; everything else of the answer stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from lamella.types import (
    JSON,
    Finished,
    ReasoningDelta,
    ResponseStarted,
    Restarted,
    Source,
    StreamPart,
    TextDelta,
    is_content,
)

Pieces = Sequence[tuple[str, bool]]  # text, and whether it is reasoning; no piece is empty


class Rewriter(Protocol):
    """Changes the text of one block. How the text is cut into pieces must make no difference."""

    @property
    def unclosed(self) -> bool:
        """Whether the text ended inside of something that it never closed. Asked after `close`."""

    @property
    def settled(self) -> bool:
        """Whether all text to come stays as it is, whatever is in it."""

    @property
    def quiet(self) -> bool | None:
        """What text becomes that none of the rewriter's marks is in, once nothing is held back and nothing is to be put
        before it: `False` for text, `True` for reasoning. `None` while that is not so."""

    def feed(self, text: str) -> Pieces:
        """What is sure once this text has come. Never asked with an empty text."""

    def close(self) -> Pieces:
        """The rest, at the end of the block."""

    def cut(self) -> Pieces:
        """What is held back, as it came, when the answer broke off."""


class _Block:
    """One text block. `placed`: its text has a place in the answer; `reasoning`: the number of what was taken out of it."""

    __slots__ = ('index', 'metadata', 'placed', 'reasoning', 'rewriter')

    def __init__(self, index: int, rewriter: Rewriter) -> None:
        self.index, self.rewriter = index, rewriter
        self.metadata: JSON | None = None
        self.placed = False
        self.reasoning: int | None = None


class TextBlocks:
    """One model call's text blocks, each through a rewriter of its own; `new(True)` makes the first block's.

    A block keeps its place: when other content comes while all of its text is held back, an empty piece of text goes ahead.
    Metadata goes with the next text of its block, or alone when there is none. What was before a `Restarted` is forgotten.
    """

    __slots__ = ('_blocks', '_current', '_native', '_new', '_shown', '_used')

    def __init__(self, new: Callable[[bool], Rewriter]) -> None:
        self._new = new
        self._clear()

    def _clear(self) -> None:
        self._blocks: dict[int, _Block] = {}
        self._current: _Block | None = None
        self._native: dict[int, int] = {}
        self._used: set[int] = set()
        self._shown = False

    @property
    def unclosed(self) -> int:
        """How many blocks ended inside of something that was never closed."""
        return sum(block.rewriter.unclosed for block in self._blocks.values())

    @property
    def settled(self) -> bool:
        """Whether all further text of the block that came last stays as it is."""
        return self._current is not None and self._current.rewriter.settled

    @property
    def quiet(self) -> tuple[int, int, int]:
        """The fast way for the pieces to come, without asking for each: the block whose text may be passed on as it is, the
        one whose text is reasoning, and that reasoning's number; -1 for none. It holds until something is taken."""
        block = self._current
        aside = None if block is None else block.rewriter.quiet
        if block is None or aside is None:
            return -1, -1, -1
        if not aside:
            return block.index, -1, -1
        return (-1, block.index, block.reasoning) if block.reasoning is not None else (-1, -1, -1)

    def take(self, part: StreamPart) -> Sequence[StreamPart]:
        """What may be passed on now that this part has come."""
        kind = type(part)
        if isinstance(part, TextDelta):
            block = self._current
            if (
                self._shown
                and block is not None
                and block.placed
                and block.index == part.index
                and part.metadata is None
            ):
                return self._said(block, block.rewriter.feed(part.text)) if part.text else ()
            ready = self._text(part)
        elif kind is Finished:
            return (*self._closed(), part)
        elif kind is Restarted or kind is ResponseStarted:
            self._clear()
            return (part,)
        elif kind is Source or not is_content(part):
            ready = [part]
        else:
            ready = [*self._leave(), self._native_reasoning(part) if kind is ReasoningDelta else part]  # type: ignore[arg-type]
        if not self._shown:
            self._shown = any(map(is_content, ready))
        return ready

    def cut(self) -> Sequence[StreamPart]:
        """What is held back of an answer that broke off after some of it was shown; of any other there is nothing to tell."""
        if not self._shown:
            return ()
        return [part for block in self._blocks.values() for part in self._said(block, block.rewriter.cut())]

    def _text(self, part: TextDelta) -> list[StreamPart]:
        block, ready = self._current, list[StreamPart]()
        if block is None or block.index != part.index:
            ready = self._leave()
            block = self._current = self._blocks.get(part.index) or self._begin(part.index)
        if part.metadata is not None:
            block.metadata = {**(block.metadata or {}), **part.metadata}
        if part.text:
            ready += self._said(block, block.rewriter.feed(part.text))
        if block.metadata is not None and block.placed:
            ready.append(self._place(block))
        return ready

    def _begin(self, index: int) -> _Block:
        block = self._blocks[index] = _Block(index, self._new(not self._blocks))
        return block

    def _said(self, block: _Block, pieces: Pieces) -> list[StreamPart]:
        return [self._reasoning(block, text) if aside else self._place(block, text) for text, aside in pieces]

    def _place(self, block: _Block, text: str = '') -> TextDelta:
        metadata, block.metadata, block.placed = block.metadata, None, True
        return TextDelta(text, block.index, metadata)

    def _reasoning(self, block: _Block, text: str) -> ReasoningDelta:
        if block.reasoning is None:
            block.reasoning = self._free(block.index)
        return ReasoningDelta(text, block.reasoning)

    def _native_reasoning(self, part: ReasoningDelta) -> ReasoningDelta:
        """The model's own reasoning keeps its number, unless reasoning out of a text has taken it."""
        if part.index not in self._native:
            self._native[part.index] = self._free(part.index)
        index = self._native[part.index]
        return part if index == part.index else part.replace(index=index)

    def _free(self, index: int) -> int:
        while index in self._used:
            index += 1
        self._used.add(index)
        return index

    def _leave(self) -> list[StreamPart]:
        """Another block begins: this one gets its place first, and its metadata."""
        block, self._current = self._current, None
        return self._settled(block) if block is not None else []

    def _settled(self, block: _Block) -> list[StreamPart]:
        if block.metadata is None and (block.placed or block.reasoning is not None):
            return []
        return [self._place(block)]

    def _closed(self) -> list[StreamPart]:
        ready: list[StreamPart] = []
        for block in self._blocks.values():
            ready += self._said(block, block.rewriter.close())
            ready += self._settled(block)
        return ready
