"""`PIIRedaction`: no personal data and no credentials reach the model, the reader, the tools' answers or the logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict, Unpack

from pydantic import BaseModel, Field, model_validator

from lamella.core.calls import close
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import BaseMiddleware, NextEmbed, NextModel, NextStream, NextTool
from lamella.core.order import Order
from lamella.core.params import EmbedHookParams, ModelHookParams, ToolHookParams
from lamella.core.tools import Tool
from lamella.middleware._changed_parts import ChangedParts, changed_response
from lamella.middleware._pii import ENTITIES, Recognisers
from lamella.middleware._pii_phones import phonenumbers_is_missing
from lamella.middleware._pii_settings import Entities, Pattern, Patterns, Places, Regions, Restorable, Restored, Texts
from lamella.middleware._pii_text import Masker
from lamella.middleware._pii_tokens import Vault, token_pattern
from lamella.middleware._redacting import PLACES, Place, Redacting, is_json, refusal
from lamella.types import (
    JSON,
    ControlFlow,
    EmbeddingResponse,
    LamellaError,
    ModelResponse,
    StreamPart,
    ToolResponse,
)

Ctx = GenerateMiddlewareContext


class PIIRedactionConfig(BaseModel, frozen=True, extra='forbid', arbitrary_types_allowed=True):
    """The settings of `PIIRedaction`."""

    entities: Annotated[
        Entities,
        Field(description='What is looked for: all that there is by default.'),
    ] = ENTITIES
    mode: Annotated[
        Literal['mask', 'tokenize'],
        Field(
            description='mask: [EMAIL], for good; tokenize: <EMAIL_1_…> for the model, the original again for the reader.'
        ),
    ] = 'mask'
    patterns: Annotated[
        Patterns,
        Field(description='Entities of your own: a name, and a regular expression with a longest match.'),
    ] = {}
    apply_to: Annotated[
        Places,
        Field(description='Where: what the model is given, its answers, the input and output of tools, and events.'),
    ] = PLACES
    restore: Annotated[
        Restored,
        Field(description='With tokenize: where the originals come back.'),
    ] = ('output', 'tool_input')
    phone_regions: Annotated[
        Regions,
        Field(description='Countries (ISO 3166) whose telephone numbers are found as they are dialled there.'),
    ] = ('US',)
    allow: Annotated[
        Texts,
        Field(description='Texts that are never hidden, such as the address of your support.'),
    ] = ()

    @model_validator(mode='after')
    def _has_phonenumbers(self) -> PIIRedactionConfig:
        if 'phone' in self.entities and phonenumbers_is_missing():
            others = ', '.join(repr(entity) for entity in self.entities if entity != 'phone') or "'email'"
            raise ValueError(
                "entities: telephone numbers need a package: pip install 'lamella[pii]', or leave 'phone' out: "
                f'entities=[{others}]'
            )
        return self


class PIIRedactionOptions(TypedDict, total=False):
    """The keywords of `PIIRedaction`."""

    entities: Sequence[str]
    mode: Literal['mask', 'tokenize']
    patterns: Mapping[str, Pattern]
    apply_to: Sequence[Place]
    restore: Sequence[Restorable]
    phone_regions: Sequence[str]
    allow: Sequence[str]


class PIIRedaction(BaseMiddleware[PIIRedactionConfig]):
    """Hides personal data and credentials from the model, and everywhere else where a run shows something.

    With `mask` each becomes its kind (`[EMAIL]`), for good. With `tokenize` the model is given tokens (`<EMAIL_1_k7f3q9xz>`),
    and where the answer or a tool's input names one, the original comes back: only of this run, and only a token that this
    run has made. What the model brings by itself is masked in both modes.

    It is a border: the model and the layers inside of this one see masks or tokens, tools work with the originals next to the
    tool itself, and layers outside see the caller's own words and the answers as the caller gets them. Events are masked for
    every listener, wherever it stands. In a stream only what may become a match is held back (`longest`), and nothing depends
    on how the text is cut. Guards fail closed: what cannot be looked through raises Rejected.

    Event: `pii_redaction.found(where, entities)`, with counts. An answer has `metadata['pii_redaction']` with the counts of
    `input` and `output`.
    """

    order = Order(
        better_outside={
            'recorder': 'it would record what callers said before it was hidden',
            'replayer': 'it would look for what callers said before it was hidden',
            'cache': 'it would keep what callers said before it was hidden',
        },
        better_inside={
            'memory_recall': 'what is recalled would reach the model as it is',
            'idempotency': 'calls that differ only in what is hidden would count as one, or with tokens none as done',
        },
    )

    def __init__(self, config: PIIRedactionConfig | None = None, **options: Unpack[PIIRedactionOptions]) -> None:
        super().__init__(config, **options)
        given = self.config
        recognisers = Recognisers(given.entities, given.patterns, given.phone_regions)
        self.longest: Mapping[str, int] = recognisers.longest
        self._masker = Masker(recognisers, frozenset(given.allow))
        self._tokens = token_pattern(recognisers.entities)
        self._places, self._restore = frozenset(given.apply_to), frozenset(given.restore)

    def tools(self, ctx: Ctx) -> Sequence[Tool]:
        self._of(ctx)  # before the first event
        return ()

    async def wrap_model(self, params: ModelHookParams, ctx: Ctx, next_fn: NextModel) -> ModelResponse:
        run, found, notes = self._of(ctx), Counter[str](), dict[str, Any]()
        asked, failure = self._asked(params, run, notes, ctx), None
        response = ModelResponse()
        try:
            response = await next_fn(asked, ctx)
        except (Exception, ControlFlow) as error:
            failure = self._clean(error, run, ctx)
        if failure is not None:
            raise failure  # here, where nothing reminds of the error that it may stand for
        try:
            response = changed_response(response, run.changes(found, notes, is_json(params)))
        except Exception as error:
            raise refusal(error, self) from None
        self._tell(ctx, 'output', found)
        return response

    async def wrap_stream(self, params: ModelHookParams, ctx: Ctx, next_fn: NextStream) -> AsyncIterator[StreamPart]:
        run, found, notes = self._of(ctx), Counter[str](), dict[str, Any]()
        parts = next_fn(self._asked(params, run, notes, ctx), ctx)
        changed = ChangedParts(run.changes(found, notes, is_json(params)))
        failure: BaseException | None = None
        rest: Sequence[StreamPart] = ()
        try:
            async for part in parts:
                try:
                    sure = changed.take(part)
                except Exception as error:
                    failure = refusal(error, self)
                    break
                for ready in sure:
                    yield ready
        except (Exception, ControlFlow) as error:
            failure = self._clean(error, run, ctx)
            rest = changed.cut() if isinstance(error, LamellaError) else ()
        finally:
            await close(parts)
        for ready in rest:
            yield ready
        if failure is not None:
            raise failure
        self._tell(ctx, 'output', found)

    async def wrap_tool(self, params: ToolHookParams, ctx: Ctx, next_fn: NextTool) -> ToolResponse:
        run, found = self._of(ctx), Counter[str]()
        try:
            inside, tool = run.tool(params, found)
        except Exception as error:
            raise refusal(error, self) from None
        response, failure = ToolResponse(''), None
        try:
            response = await next_fn(inside, ctx)
        except (Exception, ControlFlow) as error:
            failure = run.failure(error)
        if failure is not None:
            raise failure
        try:
            output = run.output(response.output, tool.gave, found)
        except Exception as error:
            raise refusal(error, self) from None
        self._tell(ctx, 'tool_output', found)
        return response if output is response.output else response.replace(output=output)

    async def wrap_embed(self, params: EmbedHookParams, ctx: Ctx, next_fn: NextEmbed) -> EmbeddingResponse:
        """Texts that become vectors are masked in both modes: no token means the same in two runs."""
        run, found = self._of(ctx), Counter[str]()
        if 'input' not in run.places:
            return await next_fn(params, ctx)
        try:
            texts = tuple([self._masker.masked(text, found) for text in params.request.texts])
        except Exception as error:
            raise refusal(error, self) from None
        self._tell(ctx, 'input', found)
        return await next_fn(params.replace(request=params.request.replace(texts=texts)), ctx)

    def _of(self, ctx: Ctx) -> Redacting:
        """What is known of this run; at first its listeners are given a censor."""
        mine = ctx.state(self)
        if 'run' not in mine:
            tokens = self.config.mode == 'tokenize'
            vault = Vault(self._masker, self._tokens, ctx.secret(32)) if tokens else None
            run = mine['run'] = Redacting(self.name, self._masker, self._places, self._restore, vault)
            if 'events' in self._places:
                ctx.censor(run.tell)
        known: Redacting = mine['run']
        return known

    def _asked(self, params: ModelHookParams, run: Redacting, notes: JSON, ctx: Ctx) -> ModelHookParams:
        try:
            request, found = run.request(params.request)
        except Exception as error:
            raise refusal(error, self) from None
        if not found:
            return params
        notes['input'] = dict(found)
        self._tell(ctx, 'input', found)
        return params.replace(request=request)

    def _tell(self, ctx: Ctx, where: Place, found: Counter[str]) -> None:
        if found:
            ctx.emit('pii_redaction.found', where=where, entities=dict(found))

    def _clean(self, error: BaseException, run: Redacting, ctx: Ctx) -> BaseException:
        try:
            ctx.attempts[:] = run.mask(ctx.attempts)
        except Exception as problem:
            ctx.attempts.clear()
            return refusal(problem, self)
        return run.clean(error)
