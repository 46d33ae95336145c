"""`ExtractReasoning`: text between tags, such as `<think>…</think>`, becomes reasoning."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict, Unpack

from pydantic import BaseModel, BeforeValidator, Field

from lamella.core.calls import close
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextStream
from lamella.core.params import ModelHookParams
from lamella.middleware._fields import Switch
from lamella.middleware._text_blocks import Pieces, TextBlocks
from lamella.types import Finished, LamellaError, ReasoningDelta, StreamPart, TextDelta

Ctx = GenerateMiddlewareContext
_PLAIN_NAME = re.compile(r'[^\s<>/]+')


def _tag_name(value: Any) -> Any:
    if isinstance(value, str):
        if _PLAIN_NAME.fullmatch(value):
            return value
        bare = value.strip('<>/ \t\r\n') or 'think'
        raise ValueError(f'is {value!r}: give the name of the tag without brackets and spaces, such as {bare!r}')
    if isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(tag, str) and tag for tag in value):
        return tuple(value)
    raise ValueError(f"is {value!r}: give a name such as 'think', or the opening and the closing tag as two strings")


class ExtractReasoningConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `ExtractReasoning`."""

    tag_name: Annotated[
        str | tuple[str, str],
        BeforeValidator(_tag_name),
        Field(description="The tag's name without brackets; or both delimiters, the opening and the closing one."),
    ]
    separator: Annotated[
        str, Field(strict=True, description='Put between two pieces of text, or of reasoning, that a tag had parted.')
    ] = '\n'
    start_with_reasoning: Annotated[
        Switch, Field(description='The answer begins inside of the tag: the model leaves out the opening one.')
    ] = False


class ExtractReasoningOptions(TypedDict, total=False):
    """The keywords of `ExtractReasoning`."""

    tag_name: str | tuple[str, str]
    separator: str
    start_with_reasoning: bool


class ExtractReasoning(BaseMiddleware[ExtractReasoningConfig]):
    """Takes what a model writes between tags out of its text and makes it reasoning, as `extractReasoningMiddleware` of the
    Vercel AI SDK does (ai-sdk.dev/docs/reference/ai-sdk-core/extract-reasoning-middleware).

    A text block becomes one reasoning part and one text part, each joined with `separator` where a tag had parted it; empty
    pieces count for nothing. Tags are matched to the letter and do not nest: the first closing tag closes. What is never
    closed is reasoning to its end; a closing tag without an opening one is text. With `start_with_reasoning` the first text
    block begins as reasoning, whether its opening tag is there or not.

    In a stream only what may be the beginning of a tag is held back. Event: `extract_reasoning.unclosed(tag, finish_reason)`.
    """

    def __init__(
        self, config: ExtractReasoningConfig | None = None, **options: Unpack[ExtractReasoningOptions]
    ) -> None:
        super().__init__(config, **options)
        tag = self.config.tag_name
        self._tags = (f'<{tag}>', f'</{tag}>') if isinstance(tag, str) else tag

    async def wrap_stream(self, params: ModelHookParams, ctx: Ctx, next_fn: NextStream) -> AsyncIterator[StreamPart]:
        blocks, parts = TextBlocks(self._splitter), next_fn(params, ctx)
        opening, closing = self._tags[0][0], self._tags[1][0]
        plain = inside = thought = -1  # see TextBlocks.quiet: most pieces hold no tag's first letter
        try:
            async for part in parts:
                if type(part) is TextDelta:
                    if part.index == plain and opening not in part.text:
                        yield part
                        continue
                    if part.index == inside and closing not in part.text and part.metadata is None and part.text:
                        yield ReasoningDelta(part.text, thought)
                        continue
                sure = blocks.take(part)
                plain, inside, thought = blocks.quiet
                if type(part) is Finished and blocks.unclosed:
                    ctx.emit('extract_reasoning.unclosed', tag=self._tags[0], finish_reason=part.finish_reason)
                for ready in sure:
                    yield ready
        except LamellaError:
            for ready in blocks.cut():
                yield ready
            raise
        finally:
            await close(parts)

    def _splitter(self, first: bool) -> _Splitter:
        return _Splitter(*self._tags, self.config.separator, first and self.config.start_with_reasoning)


class _Splitter:
    """Parts the text of one block into text and reasoning."""

    __slots__ = ('_at_start', '_closing', '_held', '_inside', '_opening', '_parted', '_said', '_separator')

    settled = False

    def __init__(self, opening: str, closing: str, separator: str, inside: bool) -> None:
        self._opening, self._closing, self._separator = opening, closing, separator
        self._inside = self._at_start = inside
        self._held = ''
        self._parted = False
        self._said = [False, False]

    @property
    def unclosed(self) -> bool:
        return self._inside and (self._parted or self._said[True])

    @property
    def quiet(self) -> bool | None:
        if self._parted or self._held or not self._said[self._inside]:
            return None
        return self._inside

    def feed(self, text: str) -> Pieces:
        text, pieces = self._held + text, list[tuple[str, bool]]()
        at = self._skip_opening(text) if self._at_start else 0
        if at < 0:
            self._held = text
            return pieces
        while (found := text.find(tag := self._closing if self._inside else self._opening, at)) >= 0:
            self._say(text[at:found], pieces)
            at = found + len(tag)
            self._inside, self._parted = not self._inside, True
        sure = _sure(text, at, tag)
        self._say(text[at:sure], pieces)
        self._held = text[sure:]
        return pieces

    def close(self) -> Pieces:
        pieces: list[tuple[str, bool]] = []
        self._say(self._held, pieces)
        self._held = ''
        return pieces

    cut = close

    def _skip_opening(self, text: str) -> int:
        """Where the text goes on after an opening tag that was not needed; -1 while that is not known."""
        if len(text) < len(self._opening) and self._opening.startswith(text):
            return -1
        self._at_start = False
        return len(self._opening) if text.startswith(self._opening) else 0

    def _say(self, text: str, pieces: list[tuple[str, bool]]) -> None:
        if not text:
            return
        if self._parted and self._said[self._inside]:
            text = self._separator + text
        self._parted, self._said[self._inside] = False, True
        pieces.append((text, self._inside))


def _sure(text: str, start: int, tag: str) -> int:
    """Up to where this text, looked at from `start`, cannot be the beginning of the tag."""
    at = text.find(tag[0], max(start, len(text) - len(tag) + 1))
    while at >= 0 and not tag.startswith(text[at:]):
        at = text.find(tag[0], at + 1)
    return at if at >= 0 else len(text)
