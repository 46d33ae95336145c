"""`Compaction`: a long history made short before the model sees it; the conversation itself stays whole."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TypedDict, Unpack

from pydantic import BaseModel, Field, model_validator

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware
from lamella.core.params import ModelHookParams
from lamella.types import LamellaError, Message

Ctx = GenerateMiddlewareContext
Summariser = Callable[[Sequence[Message], Ctx], str | Awaitable[str]]
Whole = Annotated[int, Field(strict=True, ge=1)]


class CompactionConfig(BaseModel, frozen=True, extra='forbid'):
    """The settings of `Compaction`."""

    max_messages: Annotated[
        Whole, Field(description='A history of more messages, system messages aside, is made short.')
    ] = 50
    keep_last: Annotated[Whole, Field(description='How many of the latest messages stay at least.')] = 20
    summarise: Annotated[
        Any,
        Field(description='A function of (messages, ctx), sync or async, that tells in words what is left out.'),
    ] = None

    @model_validator(mode='after')
    def _makes_it_shorter(self) -> CompactionConfig:
        if self.keep_last > self.max_messages:
            raise ValueError(f'keep_last={self.keep_last} is more than max_messages={self.max_messages}: keep fewer')
        if self.summarise is not None and not callable(self.summarise):
            raise ValueError(f'summarise is a {type(self.summarise).__name__}: give a function of (messages, ctx)')
        return self


class CompactionOptions(TypedDict, total=False):
    """The keywords of `Compaction`."""

    max_messages: int
    keep_last: int
    summarise: Summariser | None


class Compaction(BaseMiddleware[CompactionConfig]):
    """Sends the model the system messages and the latest part of a history of more than `max_messages` messages.

    The part that stays begins with a user's message and never splits a tool request from its answer: it has at least
    `keep_last` messages, and more where they belong together. Only what the model is sent changes: `response.messages` and
    sessions keep everything.

    `summarise(messages, ctx)` may say in words what is left out; its text goes in front as a user's message. It is asked once for
    the same messages in a run. When it fails, the run goes on without a summary, and the event says so.

    Events: `compaction.shortened(left_out, kept, summarised)`, `compaction.summary_failed(error)`.
    """

    def __init__(self, config: CompactionConfig | None = None, **options: Unpack[CompactionOptions]) -> None:
        super().__init__(config, **options)

    async def transform_params(self, params: ModelHookParams, ctx: Ctx) -> ModelHookParams:
        system = [message for message in params.request.messages if message.role == 'system']
        others = [message for message in params.request.messages if message.role != 'system']
        if len(others) <= self.config.max_messages:
            return params
        start = _start(others, len(others) - self.config.keep_last)
        if start == 0:
            return params
        summary = await self._summary(others[:start], ctx)
        ctx.emit('compaction.shortened', left_out=start, kept=len(others) - start, summarised=bool(summary))
        said = (Message.user(f'What was said before, in short:\n{summary}'),) if summary else ()
        kept = (*system, *said, *others[start:])
        return params.replace(request=params.request.replace(messages=kept))

    async def _summary(self, messages: Sequence[Message], ctx: Ctx) -> str:
        if self.config.summarise is None:
            return ''
        known: dict[str, Any] = ctx.state(self)
        if known.get('of') == tuple(messages):
            summary: str = known['summary']
            return summary
        try:
            found = self.config.summarise(tuple(messages), ctx)
            text = await found if inspect.isawaitable(found) else found
        except (LamellaError, ValueError, TypeError, LookupError, OSError) as error:
            ctx.emit('compaction.summary_failed', error=error)
            return ''
        known['of'], known['summary'] = tuple(messages), str(text)
        return str(text)


def _start(messages: Sequence[Message], latest: int) -> int:
    """Where the part that is kept begins: at a user's message, at or before `latest`, that no tool request reaches across."""
    for start in range(min(latest, len(messages) - 1), 0, -1):
        if messages[start].role == 'user' and not messages[start].tool_responses and not _asked_before(messages, start):
            return start
    return 0


def _asked_before(messages: Sequence[Message], start: int) -> bool:
    """Whether a tool request from before is answered later."""
    asked = {part.tool_request.ref for message in messages[:start] for part in message.tool_requests}
    return any(part.tool_response.ref in asked for message in messages[start:] for part in message.tool_responses)
