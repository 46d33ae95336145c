"""`Cache`: give an identical request the answer that is already there, and ask once when many ask the same at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, TypedDict, Unpack
from weakref import WeakKeyDictionary

from pydantic import BaseModel, BeforeValidator, Field

from lamella.core.calls import close
from lamella.core.context import GenerateMiddlewareContext, Resolver
from lamella.core.middleware import BaseMiddleware, NextEmbed, NextModel, NextStream
from lamella.core.order import Order
from lamella.core.params import EmbedHookParams, ModelHookParams
from lamella.core.ports import Store
from lamella.middleware._answers import (
    FREE,
    VERSION,
    Kept,
    is_json,
    key_of_request,
    key_of_texts,
    with_new_refs,
    without_notes,
)
from lamella.middleware._cached import Answers, Ask, Hit, Terms
from lamella.middleware._fields import Duration, Switch, listed
from lamella.middleware._flights import Heartbeat
from lamella.middleware._state import OnStoreError, StoreSetting
from lamella.types import (
    JSON,
    EmbeddingResponse,
    Finished,
    Folder,
    LamellaError,
    ModelResponse,
    StreamPart,
    Usage,
    unfold,
)

Ctx = GenerateMiddlewareContext
When = Callable[[ModelHookParams, Ctx], bool]
SAVED = ('input_tokens', 'output_tokens', 'total_tokens', 'cost_usd')


def _names(value: Any) -> tuple[str, ...]:
    names = listed(value, 'keys of context', "'user'")
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise ValueError(f'{wrong[0]!r} is no key of context')
    return names


def _predicate(value: Any) -> Any:
    if value is not None and not callable(value):
        raise ValueError(f'is {value!r}: give a function of (params, ctx) that returns True or False')
    return value


class CacheConfig(BaseModel, frozen=True, extra='forbid', arbitrary_types_allowed=True):
    """The settings of `Cache`."""

    ttl_s: Annotated[Duration, Field(gt=0, description='For how many seconds an answer is given again.')] = 300
    max_size: Annotated[
        int | None,
        Field(
            strict=True, ge=1, description='How many answers this process keeps, the latest used; None for any number.'
        ),
    ] = 1000
    stale_s: Annotated[
        Duration | None,
        Field(description='For how many seconds more it is given while one caller asks anew; None for not at all.'),
    ] = None
    vary: Annotated[
        tuple[str, ...],
        BeforeValidator(_names),
        Field(description="Keys of context, beside 'tenant', that answers depend on: they are part of the key."),
    ] = ()
    scope: Annotated[
        str, Field(description='Caches of one scope share their answers; a name of its own keeps one apart.')
    ] = ''
    tool_requests: Annotated[Switch, Field(description='Keep answers that ask for tools, too.')] = False
    max_temperature: Annotated[
        Duration | None,
        Field(description='Requests above it, and those that name none, are not kept; None for any temperature.'),
    ] = None
    when: Annotated[
        Any,
        BeforeValidator(_predicate),
        Field(description='Whether a call may use the cache: a function of (params, ctx).'),
    ] = None
    wait_s: Annotated[
        Duration,
        Field(description='How long a call waits for another one with the same request; then it asks by itself.'),
    ] = 60
    lease_s: Annotated[
        Duration, Field(gt=0, description='For how long other processes wait for one that has died while it asked.')
    ] = 15
    store: Annotated[
        StoreSetting, Field(description="Where answers are kept: a store or a URL; the app's own when None.")
    ] = None
    on_store_error: Annotated[
        OnStoreError, Field(description='When the store is away: allow the call to ask by itself, or refuse it.')
    ] = 'allow'


class CacheOptions(TypedDict, total=False):
    """The keywords of `Cache`."""

    ttl_s: float
    max_size: int | None
    stale_s: float | None
    vary: Sequence[str]
    scope: str
    tool_requests: bool
    max_temperature: float | None
    when: When | None
    wait_s: float
    lease_s: float
    store: Store | str | None
    on_store_error: OnStoreError


class Cache(BaseMiddleware[CacheConfig]):
    """Gives an identical request the answer of the first one, for `ttl_s` seconds.

    Identical is what would be sent to the same model with the same settings for the same tenant (`context['tenant']`, and what
    `vary` names), whatever the order of keys. Kept are whole answers that ended by themselves: no errors, nothing that was cut
    off, blocked, left or answered by a fallback, no empty answers, no text where JSON was asked for, and no tool requests unless
    `tool_requests` is set. What cannot be read, or is of another version, is not there.

    Of identical calls at once, over all processes that share the store, one asks and the others get its answer when it is
    complete. When it fails or is cancelled another one asks; when two have failed the others fail too. Nobody waits longer than
    `wait_s`. With `stale_s` nobody waits for an answer that has grown old: the first caller asks anew, the others get the old
    one, and so does the first when that fails.

    A stream is kept when it has ended, and given again as a stream. An answer from the cache costs nothing, and its usage is
    zero. `max_size` bounds what this process keeps in the store; `ttl_s` what others left there.

    Events: `cache.hit(key, age_s, stale, shared, waited_s)`, `cache.miss(key)`, `cache.stored(key, bytes)`,
    `cache.skipped(key, reason)`, `cache.unreadable(key)`, `cache.stale(key, error)`, `store.away`. `metadata['cache']` has `hit`,
    and for a hit `age_s`, `saved` (the tokens and dollars that it would have cost), `stale`, `shared` and `waited_s` where
    they apply; for others `stored`.
    """

    order = Order(
        better_inside={
            'memory_recall': 'what is recalled for one user would be given to another',
            'pii_redaction': 'what shall be hidden would be kept in the store',
        },
        better_outside={
            'retry': 'each attempt would ask it, and between two attempts others who ask the same would ask the model too'
        },
    )

    def __init__(self, config: CacheConfig | None = None, **options: Unpack[CacheOptions]) -> None:
        super().__init__(config, **options)
        c = self.config
        self._terms = Terms(c.ttl_s, c.stale_s, c.max_size, c.wait_s, c.lease_s, c.on_store_error)
        self._answers: WeakKeyDictionary[Resolver, Answers] = WeakKeyDictionary()

    async def wrap_model(self, params: ModelHookParams, ctx: Ctx, next_fn: NextModel) -> ModelResponse:
        key = self._key(params, ctx)
        if key is None:
            return await next_fn(params, ctx)
        answers = self._of(ctx)
        found = await answers.find(key, ctx)
        if isinstance(found, Hit):
            return self._again(found, ctx)
        try:
            async with Heartbeat(answers.store, found.lease, self.config.lease_s, ctx.clock) as beat:
                try:
                    response = await next_fn(params, ctx)
                except LamellaError as error:
                    return self._again(self._instead(found, error, beat, ctx), ctx)
                note = await self._keep(answers, found, response, params, ctx)
        finally:
            found.end('left')
        return response.replace(metadata={**response.metadata, **note})

    async def wrap_stream(self, params: ModelHookParams, ctx: Ctx, next_fn: NextStream) -> AsyncIterator[StreamPart]:
        key = self._key(params, ctx)
        found = None if key is None else await self._of(ctx).find(key, ctx)
        if isinstance(found, Hit):
            for part in unfold(self._again(found, ctx)):
                yield part
            return
        parts = next_fn(params, ctx)
        if found is None:
            try:
                async for part in parts:
                    yield part
            finally:
                await close(parts)
            return
        answers, folder, begun, old = self._of(ctx), Folder(), False, None
        add = folder.add
        try:
            async with Heartbeat(answers.store, found.lease, self.config.lease_s, ctx.clock) as beat:
                try:
                    async for part in parts:
                        add(part)
                        if (
                            type(part) is Finished
                        ):  # the answer is kept before its end is passed on, however slowly that is read
                            note = await self._keep(answers, found, folder.response(), params, ctx)
                            part = part.replace(metadata={**(part.metadata or {}), **note})
                        begun = True
                        yield part
                except LamellaError as error:
                    if begun:
                        found.end('failed', error=error)
                        raise
                    old = self._instead(found, error, beat, ctx)
                finally:
                    await close(parts)
        finally:
            found.end('left')
        if old is not None:
            for part in unfold(self._again(old, ctx)):
                yield part

    async def wrap_embed(self, params: EmbedHookParams, ctx: Ctx, next_fn: NextEmbed) -> EmbeddingResponse:
        key = key_of_texts(params.request, params.model, self._about(ctx))
        if key is None:
            return await next_fn(params, ctx)
        answers = self._of(ctx)
        found = await answers.find(f'cache:{key}', ctx)
        if isinstance(found, Hit):
            return self._embedded(found, ctx)
        try:
            async with Heartbeat(answers.store, found.lease, self.config.lease_s, ctx.clock) as beat:
                try:
                    response = await next_fn(params, ctx)
                except LamellaError as error:
                    return self._embedded(self._instead(found, error, beat, ctx), ctx)
                told = response.replace(metadata=without_notes(response.metadata))
                kept = Kept(VERSION, found.key, ctx.clock.time(), embedding=told)
                stored = await answers.keep(found, kept, ctx)
        finally:
            found.end('left')
        return response.replace(metadata={**response.metadata, self.name: {'hit': False, 'stored': stored}})

    def _of(self, ctx: Ctx) -> Answers:
        answers = self._answers.get(ctx.ai)
        if answers is None:
            answers = Answers(self, ctx.ai.resolve_store(self.config.store), self._terms)
            self._answers[ctx.ai] = answers
        return answers

    def _key(self, params: ModelHookParams, ctx: Ctx) -> str | None:
        """`None` for a call that is none of the cache's business."""
        if params.continues or (self.config.when is not None and not self.config.when(params, ctx)):
            return None
        if self.config.max_temperature is not None:
            temperature = params.model.filled(params.request).config.temperature
            if temperature is None or temperature > self.config.max_temperature:
                return None
        key = key_of_request(params.request, params.model, self._about(ctx))
        if key is None:
            ctx.emit('cache.skipped', key=None, reason='request')
            return None
        return f'cache:{key}'

    def _about(self, ctx: Ctx) -> list[Any]:
        """What the answer depends on beside the request."""
        return [
            self.config.scope,
            ctx.context.get('tenant'),
            [(name, ctx.context.get(name)) for name in self.config.vary],
        ]

    async def _keep(
        self, answers: Answers, ask: Ask, response: ModelResponse, params: ModelHookParams, ctx: Ctx
    ) -> JSON:
        reason = self._why_not(response, params)
        if reason is not None:
            await answers.keep_private(ask, reason, ctx)
            return {self.name: {'hit': False, 'stored': False}}
        told = response.replace(metadata=without_notes(response.metadata))
        stored = await answers.keep(ask, Kept(VERSION, ask.key, ctx.clock.time(), told), ctx)
        return {self.name: {'hit': False, 'stored': stored}}

    def _why_not(self, response: ModelResponse, params: ModelHookParams) -> str | None:
        """Why this answer is not for others, or `None`."""
        asks = bool(response.tool_requests)
        if asks and not self.config.tool_requests:
            return 'tool_requests'
        if response.finish_reason != 'stop' and not (asks and response.finish_reason == 'tool_calls'):
            return response.finish_reason
        if not response.message.content:
            return 'empty'
        if isinstance(noted := response.metadata.get('fallback'), dict) and noted.get('fallback_triggered'):
            return 'fallback'
        output = params.request.output
        if output is not None and output.format == 'json' and not asks and not is_json(response.text):
            return 'not_json'
        return None

    def _instead(self, ask: Ask, error: LamellaError, beat: Heartbeat, ctx: Ctx) -> Hit:
        """The old answer, where there is one, since a new one is not to be had. Raises the error where there is none."""
        if ask.old is None:
            ask.end('failed', error=error)
            raise error
        beat.keep = True  # so that for a while the others get the old one too, and nobody asks
        ask.end('answered', ask.old)
        ctx.emit('cache.stale', key=ask.key, error=error)
        return Hit(ask.old, stale=True)

    def _again(self, hit: Hit, ctx: Ctx) -> ModelResponse:
        answer = hit.kept.answer or ModelResponse()
        if answer.tool_requests:
            answer = with_new_refs(answer, ctx)
        note = self._note(hit, answer.usage, ctx)
        return answer.replace(usage=FREE, metadata={**answer.metadata, self.name: note})

    def _embedded(self, hit: Hit, ctx: Ctx) -> EmbeddingResponse:
        answer = hit.kept.embedding or EmbeddingResponse()
        note = self._note(hit, answer.usage, ctx)
        return answer.replace(usage=FREE, metadata={**answer.metadata, self.name: note})

    def _note(self, hit: Hit, usage: Usage | None, ctx: Ctx) -> JSON:
        age_s = max(0.0, ctx.clock.time() - hit.kept.at)
        facts = {'age_s': age_s, 'stale': hit.stale, 'shared': hit.shared, 'waited_s': hit.waited_s}
        ctx.emit('cache.hit', key=hit.kept.key, **facts)
        saved = {} if usage is None else {name: n for name in SAVED if (n := getattr(usage, name)) is not None}
        return {'hit': True, 'saved': saved, 'age_s': age_s, **{name: fact for name, fact in facts.items() if fact}}
