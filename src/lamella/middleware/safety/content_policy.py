"""`ContentPolicy`: texts that may not go in, and texts that may not come out."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Annotated, Any, Literal, NoReturn, TypedDict, Unpack

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from lamella.core.calls import close
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextModel, NextStream, NextTool
from lamella.core.order import Order
from lamella.core.params import ModelHookParams, ToolHookParams
from lamella.middleware._banned import LONGEST, Banned, Hit, phrase_of
from lamella.middleware._bounded_regex import bounded
from lamella.middleware._fields import Switch, listed
from lamella.middleware._gate import Gate
from lamella.middleware._texts import texts_of
from lamella.types import (
    Finished,
    Message,
    ModelRequest,
    ModelResponse,
    StopRun,
    StreamPart,
    ToolResponse,
    Usage,
    did_you_mean,
    unfold,
)

Ctx = GenerateMiddlewareContext
Where = Literal['input', 'output', 'tool_output']
WHERE: tuple[Where, ...] = ('input', 'output', 'tool_output')
_ROLES: dict[str, Where] = {'user': 'input', 'tool': 'tool_output'}
Said = bool | str | None
Validate = Callable[..., Said | Awaitable[Said]]


def _banned(value: Any) -> tuple[Any, ...]:
    items = listed(value, 'phrases', "'rival product'")
    problems = [
        problem
        for index, item in enumerate(items)
        if (problem := _problem(item)) and (problem := f'[{index}] {problem}')
    ]
    if problems:
        raise ValueError('; '.join(problems))
    return items


def _problem(item: Any) -> str | None:
    """Why this can be no item of the list."""
    if isinstance(item, re.Pattern):
        try:
            bounded(item)
        except ValueError as error:
            return f'the pattern {item.pattern!r} {error}'
        return None
    if not isinstance(item, str):
        return f'is a {type(item).__name__}: give a phrase, or a compiled pattern'
    if not phrase_of(item):
        return f'is {item!r}: a phrase has at least one character that is seen'
    return f'is longer than {LONGEST} characters' if len(phrase_of(item)) > LONGEST else None


def _validate(value: Any) -> Any:
    if value is None:
        return value
    if not callable(value):
        raise ValueError(f'is a {type(value).__name__}: give a function of a text, sync or async')
    try:
        inspect.signature(value).bind('text')
    except TypeError:
        try:
            inspect.signature(value).bind('text', 'input')
        except TypeError as error:
            raise ValueError(f'must take a text, or a text and where it stands: {error}') from error
    except ValueError:  # a built-in without a signature
        pass
    return value


def _where(value: Any) -> tuple[Any, ...]:
    places = listed(value, 'places', "'output'")
    if wrong := [f'unknown place {place!r}{did_you_mean(str(place), WHERE)}' for place in places if place not in WHERE]:
        raise ValueError('; '.join(wrong))
    return places


with warnings.catch_warnings():
    warnings.simplefilter('ignore', UserWarning)  # `validate` is also an old, deprecated method of pydantic's

    class ContentPolicyConfig(BaseModel, frozen=True, extra='forbid', arbitrary_types_allowed=True):
        """The settings of `ContentPolicy`."""

        banned: Annotated[
            tuple[str | re.Pattern[str], ...],
            BeforeValidator(_banned),
            Field(description='Phrases, and compiled patterns with a longest match, that no text may have.'),
        ] = ()
        validate: Annotated[
            Validate | None,
            BeforeValidator(_validate),
            Field(
                description='A function of a text, sync or async: None or True when it is valid, False or the reason when not.'
            ),
        ] = None  # type: ignore[assignment]
        check: Annotated[
            Literal['whole', 'sentence'],
            Field(description='What validate is given of an answer: the whole text at its end, or each sentence.'),
        ] = 'whole'
        apply_to: Annotated[
            tuple[Where, ...],
            BeforeValidator(_where),
            Field(description='Where: what users say, what models answer, what tools answer.'),
        ] = ('input', 'output')
        whole_words: Annotated[
            Switch, Field(description='Find a phrase only where it is no part of a longer word.')
        ] = True
        reply: Annotated[
            str, Field(strict=True, min_length=1, description='The answer in place of the one that is withheld.')
        ] = 'This was withheld by a content policy.'

        @model_validator(mode='after')
        def _has_something(self) -> ContentPolicyConfig:
            if not self.banned and self.validate is None:
                raise ValueError("nothing to look for: give banned=['…'], or validate=, or both")
            return self


class ContentPolicyOptions(TypedDict, total=False):
    """The keywords of `ContentPolicy`."""

    banned: Sequence[str | re.Pattern[str]]
    validate: Validate | None
    check: Literal['whole', 'sentence']
    apply_to: Sequence[Where]
    whole_words: bool
    reply: str


class ContentPolicy(BaseMiddleware[ContentPolicyConfig]):
    """Ends a run whose user, or whose model, says something that may not be said: `stop_reason='guardrail'`, `finish_reason=
    'blocked'`, and `reply` as the answer. Blocked input reaches no model, blocked output no reader.

    `banned` phrases are found whatever their case, however they are spaced, in every Unicode form, and with invisible
    characters in between. Looked at are users' messages, and an answer's text, reasoning, tool input and sources. In a
    stream only what may become a phrase is held back, and with it what comes behind; a tool's input waits until it is whole.

    `validate` is asked about each user's message, and about the answer: with `check='whole'` a stream waits for its end,
    since only then the whole text is known; with `'sentence'` each sentence goes on as soon as it is valid. Whole answers
    are asked about in the same way. It fails closed: a function that raises, or returns anything else, withholds the text.

    Event: `content_policy.blocked(where, rule, reason)`; the answer has the same in `metadata['content_policy']`.
    """

    order = Order(better_outside={'cache': 'it would not look at answers from the cache'})

    def __init__(self, config: ContentPolicyConfig | None = None, **options: Unpack[ContentPolicyOptions]) -> None:
        super().__init__(config, **options)
        given = self.config
        self._banned = Banned(given.banned, given.whole_words)
        self._validate: Validate | None = given.validate
        self._places = frozenset(given.apply_to)
        self._takes_where = self._validate is not None and not _takes_one(self._validate)

    async def wrap_model(self, params: ModelHookParams, ctx: Ctx, next_fn: NextModel) -> ModelResponse:
        await self._check_input(params.request, ctx)
        response = await next_fn(params, ctx)
        if 'output' in self._places:
            gate = self._gate()
            for part in unfold(response):
                await self._check_output(gate, part, ctx, response.usage, response.model)
        return response

    async def wrap_stream(self, params: ModelHookParams, ctx: Ctx, next_fn: NextStream) -> AsyncIterator[StreamPart]:
        await self._check_input(params.request, ctx)
        parts, gate = next_fn(params, ctx), self._gate()
        try:
            async for part in parts:
                if 'output' not in self._places:
                    yield part
                    continue
                ended = isinstance(part, Finished)
                usage, model = (part.usage, part.model) if ended else (None, params.model.name)  # type: ignore[union-attr]
                await self._check_output(gate, part, ctx, usage, model)
                for ready in gate.ready():
                    yield ready
        finally:
            await close(parts)

    async def wrap_tool(self, params: ToolHookParams, ctx: Ctx, next_fn: NextTool) -> ToolResponse:
        response = await next_fn(params, ctx)
        if 'tool_output' in self._places:
            await self._check('\n'.join(texts_of(response.output)), 'tool_output', ctx)
        return response

    def _gate(self) -> Gate:
        return Gate(self._banned, None if self._validate is None else self.config.check)

    async def _check_input(self, request: ModelRequest, ctx: Ctx) -> None:
        """Each message once in a run."""
        seen: dict[int, Message] = ctx.state(self).setdefault('seen', {})
        for message in request.messages:
            where = _ROLES.get(message.role)
            if where is not None and where in self._places and id(message) not in seen:
                text = message.text if where == 'input' else '\n'.join(texts_of(message.content))
                await self._check(text, where, ctx)
                seen[id(message)] = message

    async def _check(self, text: str, where: Where, ctx: Ctx) -> None:
        hit, _ = self._banned.find(text, 0, True)
        if hit is not None:
            self._block(where, 'banned', _found(hit), ctx)
        if text.strip() and (reason := await self._invalid(text, where)) is not None:
            self._block(where, 'validate', reason, ctx)

    async def _check_output(
        self, gate: Gate, part: StreamPart, ctx: Ctx, usage: Usage | None, model: str | None
    ) -> None:
        hit = gate.put(part)
        if hit is not None:
            self._block('output', 'banned', _found(hit), ctx, usage, model)
        for text in gate.unasked():
            if (reason := await self._invalid(text, 'output')) is not None:
                self._block('output', 'validate', reason, ctx, usage, model)

    async def _invalid(self, text: str, where: Where) -> str | None:
        """Why the text is not valid, or `None`."""
        if self._validate is None:
            return None
        try:
            said: Any = self._validate(text, where) if self._takes_where else self._validate(text)
            if inspect.isawaitable(said):
                said = await said
        except Exception as error:
            return f'validate failed with {type(error).__name__}'
        if said is None or said is True or said == '':
            return None
        if said is False:
            return 'not valid'
        return said if isinstance(said, str) else f'validate returned a {type(said).__name__}'

    def _block(
        self, where: Where, rule: str, reason: str, ctx: Ctx, usage: Usage | None = None, model: str | None = None
    ) -> NoReturn:
        note = {'where': where, 'rule': rule, 'reason': reason}
        ctx.emit(f'{self.name}.blocked', **note)
        response = ModelResponse.text_of(
            self.config.reply, finish_reason='blocked', usage=usage, model=model, metadata={self.name: note}
        )
        said = where.replace('_', ' ')
        raise StopRun('guardrail', f'the {said} was withheld by {self.name} ({rule}: {reason})', response=response)


def _found(hit: Hit) -> str:
    return f'banned[{hit.item}]' if hit.item >= 0 else 'too many invisible characters to know'


def _takes_one(function: Validate) -> bool:
    try:
        inspect.signature(function).bind('text')
    except TypeError:
        return False
    except ValueError:
        return True
    return True
