"""`ExtractJson`: the code fence that a model puts around its JSON is taken away."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypedDict, Unpack

from pydantic import BaseModel, BeforeValidator, Field

from lamella.core.calls import close
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextStream
from lamella.core.order import Order
from lamella.core.params import ModelHookParams
from lamella.middleware._text_blocks import Pieces, TextBlocks
from lamella.types import Finished, LamellaError, StreamPart, TextDelta

Ctx = GenerateMiddlewareContext
Transform = Callable[[str], str]

MAX_SPACE = 64  # whitespace before a fence, or after the last one, that is looked through
_OPENING = re.compile(rf'\s{{0,{MAX_SPACE}}}```(?:json(?!\w)|(?![^\W\d_]|`))\s*', re.IGNORECASE)
_MAY_OPEN = re.compile(rf'\s{{0,{MAX_SPACE}}}(?:`{{0,2}}|```(?:j|js|jso|json)?)', re.IGNORECASE)
_CLOSING = re.compile(rf'\s{{0,{MAX_SPACE}}}```\s{{0,{MAX_SPACE}}}\Z')


def _transform(value: Any) -> Any:
    if value is not None and not callable(value):
        raise ValueError(f'is {value!r}: give a function of the text that returns the new text, or None')
    if inspect.iscoroutinefunction(value):
        raise ValueError(f'{value.__name__} is async: give a plain function of the text')
    return value


class ExtractJsonConfig(BaseModel, frozen=True, extra='forbid', arbitrary_types_allowed=True):
    """The settings of `ExtractJson`."""

    transform: Annotated[
        Callable[[str], str] | None,
        BeforeValidator(_transform),
        Field(description='Called with the whole text of each block, in place of taking fences away; None for these.'),
    ] = None


class ExtractJsonOptions(TypedDict, total=False):
    """The keywords of `ExtractJson`."""

    transform: Transform | None


class ExtractJson(BaseMiddleware[ExtractJsonConfig]):
    """Takes the code fence away from around a text, as `extractJsonMiddleware` of the Vercel AI SDK does
    (ai-sdk.dev/docs/ai-sdk-core/middleware).

    A text block that begins with three backticks, with or without the word `json`, loses that fence, and the one at its very
    end, with the whitespace on their inner and outer sides. Any other text, also the code of another language, stays to the
    letter. With `transform` that function decides instead, and a stream's text waits for its end: only then is it whole.

    In a stream only what may be part of a fence is held back. A block that lost its first fence and has no last one is not
    whole: event `extract_json.unclosed(finish_reason)`. Raises INTERNAL when `transform` returns something else than text.
    """

    order = Order(better_outside={'extract_reasoning': 'reasoning in tags would be taken for a part of the JSON'})

    def __init__(self, config: ExtractJsonConfig | None = None, **options: Unpack[ExtractJsonOptions]) -> None:
        super().__init__(config, **options)

    async def wrap_stream(self, params: ModelHookParams, ctx: Ctx, next_fn: NextStream) -> AsyncIterator[StreamPart]:
        blocks, parts = TextBlocks(self._rewriter), next_fn(params, ctx)
        plain = fenced = -1  # see TextBlocks.quiet: most pieces end with no letter of a closing fence
        try:
            async for part in parts:
                if type(part) is TextDelta and (
                    part.index == plain or (part.index == fenced and not _may_end(part.text))
                ):
                    yield part
                    continue
                sure = blocks.take(part)
                fenced, _, _ = blocks.quiet
                plain = fenced if blocks.settled else -1
                if type(part) is Finished and blocks.unclosed:
                    ctx.emit('extract_json.unclosed', finish_reason=part.finish_reason)
                for ready in sure:
                    yield ready
        except LamellaError:
            for ready in blocks.cut():
                yield ready
            raise
        finally:
            await close(parts)

    def _rewriter(self, first: bool) -> _Unfenced | _Transformed:
        transform = self.config.transform
        return _Unfenced() if transform is None else _Transformed(transform)


class _Unfenced:
    """The text of one block without its fence."""

    __slots__ = ('_fenced', '_held', '_open', 'unclosed')

    def __init__(self) -> None:
        self._held = ''
        self._fenced: bool | None = None  # None while that is not known
        self._open = False  # inside of a fence, and nothing of its content has come yet
        self.unclosed = False

    @property
    def quiet(self) -> bool | None:
        return False if self._fenced is not None and not self._held and not self._open else None

    @property
    def settled(self) -> bool:
        return self._fenced is False

    def feed(self, text: str) -> Pieces:
        if self._fenced is None:
            text = self._decided(self._held + text)
        elif self._fenced:
            text = self._held + text
        if not self._fenced:
            return [(text, False)] if text else ()
        if self._open:
            text = text.lstrip()
            self._open = not text
        sure = _sure(text)
        self._held = text[sure:]
        return [(text[:sure], False)] if sure else ()

    def _decided(self, text: str) -> str:
        """What is left of the text once it is known whether a fence is at its beginning; nothing until then."""
        if _MAY_OPEN.fullmatch(text):
            self._held = text
            return ''
        opening = _OPENING.match(text)
        self._held, self._fenced = '', opening is not None
        self._open = self._fenced
        return text[opening.end() :] if opening is not None else text

    def close(self) -> Pieces:
        held = self._held
        if self._fenced is None and (opening := _OPENING.fullmatch(held)):
            held, self._fenced = held[opening.end() :], True
        if self._fenced:
            closing = _CLOSING.search(held)
            held, self.unclosed = held[: closing.start()] if closing else held, closing is None
        return self._rest(held)

    def cut(self) -> Pieces:
        return self._rest(self._held)

    def _rest(self, text: str) -> Pieces:
        self._held = ''
        return [(text, False)] if text else ()


def _may_end(text: str) -> bool:
    """Whether the end of this text may be part of the closing fence."""
    last = text[-1:]
    return last == '`' or last.isspace()


def _sure(text: str) -> int:
    """Up to where this text cannot be part of the closing fence, with the whitespace before and after it."""
    if not _may_end(text):
        return len(text)
    bare = text.rstrip()
    space = len(text) - len(bare)
    if bare.endswith('```') and space <= MAX_SPACE:
        return _before(bare, 3)
    if space:
        return len(text) - min(space, MAX_SPACE)
    return _before(bare, 2 if bare.endswith('``') else 1)


def _before(text: str, backticks: int) -> int:
    """Where the whitespace before these backticks at the end of the text begins."""
    at = len(text) - backticks
    return max(len(text[:at].rstrip()), at - MAX_SPACE)


class _Transformed:
    """The text of one block, changed by a function once it is whole."""

    __slots__ = ('_held', '_transform', 'unclosed')

    quiet = None
    settled = False

    def __init__(self, transform: Transform) -> None:
        self._transform, self._held, self.unclosed = transform, list[str](), False

    def feed(self, text: str) -> Pieces:
        self._held.append(text)
        return ()

    def close(self) -> Pieces:
        if not self._held:
            return ()
        text = self._transform(''.join(self._held))
        if not isinstance(text, str):
            raise LamellaError(
                'INTERNAL', f'ExtractJson: transform returned a {type(text).__name__}: it must return the new text'
            )
        return [(text, False)] if text else ()

    def cut(self) -> Pieces:
        text = ''.join(self._held)
        return [(text, False)] if text else ()
