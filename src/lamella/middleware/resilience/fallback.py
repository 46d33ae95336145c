"""`Fallback`: ask other models when the first one fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, Generic, Literal, TypedDict, Unpack
from weakref import WeakKeyDictionary

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, model_validator

from lamella.core.calls import close, may_go_on
from lamella.core.context import GenerateMiddlewareContext, Resolver
from lamella.core.embedding import EmbeddingModel
from lamella.core.middleware import AnyAnswer, AnyParams, BaseMiddleware, Next, NextEmbed, NextModel, NextStream
from lamella.core.model import Model
from lamella.core.models import ModelRef, to_config
from lamella.core.params import EmbedHookParams, ModelHookParams
from lamella.middleware._fields import Duration, Statuses, listed
from lamella.middleware._relay import Relay, paid_for, with_debts, with_notes
from lamella.types import (
    JSON,
    TRANSIENT,
    ConfigError,
    EmbeddingResponse,
    LamellaError,
    ModelResponse,
    Rejected,
    ResponseStarted,
    Status,
    StreamPart,
    TextDelta,
    UnknownNameError,
    Usage,
    add_usage,
)

Ctx = GenerateMiddlewareContext
AnyModel = str | Model | ModelRef | Callable[..., Any]
MAX_COOLING = 1024


def _models(value: Any, info: ValidationInfo) -> tuple[Any, ...]:
    models = listed(value, 'models', "'openai/gpt-5'")
    problems = [problem for index, model in enumerate(models) if (problem := _problem(model, f'models[{index}]'))]
    if not models and not info.data.get('embedding_models'):
        problems = ['is empty: name at least one model to fall back to']
    if problems:
        raise ValueError('; '.join(problems))
    return models


def _problem(model: Any, where: str) -> str | None:
    if isinstance(model, ModelRef):
        return _ref_problem(model, where)
    if isinstance(model, Model) or (isinstance(model, str) and model.strip()):
        return None
    if callable(model) and not isinstance(model, type):
        return None
    return f"{where} is {model!r}: give a name such as 'openai/gpt-5', a ModelRef, a Model or a function"


def _embedding_models(value: Any) -> tuple[Any, ...]:
    models = listed(value, 'embedding models', "'azure/text-embedding-3-small'")
    for index, model in enumerate(models):
        named = isinstance(model, EmbeddingModel) or (isinstance(model, str) and model.strip())
        if not named and (not callable(model) or isinstance(model, type)):
            wanted = "a name such as 'azure/text-embedding-3-small', an EmbeddingModel or a function"
            raise ValueError(f'[{index}] is {model!r}: give {wanted}')
    return models


def _ref_problem(ref: ModelRef, where: str) -> str | None:
    try:
        to_config(ref.config, f'{where}.config')
    except ConfigError as error:
        return error.message
    return None


class FallbackConfig(BaseModel, frozen=True, extra='forbid', arbitrary_types_allowed=True):
    """The settings of `Fallback`. `models` may be left out where there are `embedding_models`."""

    embedding_models: Annotated[
        tuple[Any, ...],
        BeforeValidator(_embedding_models),
        Field(description='The same where texts are embedded; these must give the same vectors as the first model.'),
    ] = ()
    models: Annotated[
        tuple[Any, ...],
        BeforeValidator(_models),
        Field(description='What to ask after the first model, in order: names, ModelRefs, models or functions.'),
    ]
    statuses: Annotated[Statuses, Field(description='The statuses that lead to the next model.')] = (
        *TRANSIENT,
        'NOT_FOUND',
        'UNIMPLEMENTED',
    )
    cooldown_s: Annotated[
        Duration | None,
        Field(description='For how many seconds a model that failed is asked last; None for not at all.'),
    ] = None
    on_partial: Annotated[
        Literal['raise', 'restart'],
        Field(
            description='A stream that fails after its first content: raise, or restart visibly with the next model.'
        ),
    ] = 'raise'
    commit: Annotated[
        Literal['first', 'finish'],
        Field(description="'finish' holds a stream back until its end, so that no failed model is ever seen."),
    ] = 'first'

    @model_validator(mode='before')
    @classmethod
    def _of_one_kind(cls, given: Any) -> Any:
        only_embedding = isinstance(given, dict) and 'models' not in given and given.get('embedding_models')
        return {**given, 'models': ()} if only_embedding else given


class FallbackOptions(TypedDict, total=False):
    """The keywords of `Fallback`."""

    models: Sequence[AnyModel]
    embedding_models: Sequence[str | EmbeddingModel | Callable[..., Any]]
    statuses: Sequence[Status]
    cooldown_s: float | None
    on_partial: Literal['raise', 'restart']
    commit: Literal['first', 'finish']


class Fallback(BaseMiddleware[FallbackConfig]):
    """Asks the next of `models` when a model fails with one of `statuses`; raises the last error when all have failed.

    Each model goes through the layers inside of this one, and sees no options of the other providers in the list. All names
    are looked up before the first call of an app, so that a misspelled one is found when nothing is on fire. With
    `cooldown_s` a model that failed is moved to the end of the line for that long: it is asked when every other one has
    failed too. A refusal by a layer (`Rejected`) moves on to the next model, but cools nothing down.

    A stream that fails before its first content moves on unseen. After it `on_partial` decides: `raise`, or `restart` (a
    `Restarted` part, then the next model's answer). With `commit='finish'` the reader has seen nothing yet, so that `raise`
    moves on too. A call that continues another answer's text stays with the model it was given.

    Where texts are embedded the next of `embedding_models` is asked, and none when there are none: vectors of different models
    cannot be compared, so that only the same model at another provider can stand in for the first.

    Events: `fallback.switch(from_model, to_model, error)`, `fallback.cooling(model, status, remaining_s)`,
    `fallback.exhausted(models, error)`. When a fallback answered, `metadata['fallback']` has `fallback_triggered`,
    `original_model`, `fallback_model`, `fallback_attempt` and `error_code` (the status that the original model failed with).
    """

    def __init__(self, config: FallbackConfig | None = None, **options: Unpack[FallbackOptions]) -> None:
        super().__init__(config, **options)
        self.commit = self.config.commit
        self._resolved: WeakKeyDictionary[Resolver, tuple[Model, ...]] = WeakKeyDictionary()
        self._embedders: WeakKeyDictionary[Resolver, tuple[EmbeddingModel, ...]] = WeakKeyDictionary()
        self._cooling = _Cooling()

    async def wrap_model(self, params: ModelHookParams, ctx: Ctx, next_fn: NextModel) -> ModelResponse:
        return await self._along(self._line(params, ctx), ctx, next_fn)

    async def wrap_embed(self, params: EmbedHookParams, ctx: Ctx, next_fn: NextEmbed) -> EmbeddingResponse:
        models = self._embedders.get(ctx.ai)
        if models is None:
            wanted = self.config.embedding_models
            models = self._embedders[ctx.ai] = tuple([ctx.ai.resolve_embedding_model(model) for model in wanted])
        return await self._along(self._line_of(params, (params.model, *models), ctx), ctx, next_fn)

    async def _along(self, line: _Line[AnyParams], ctx: Ctx, next_fn: Next[AnyParams, AnyAnswer]) -> AnyAnswer:
        """The answer of the first model of the line that gives one."""
        paid: Usage | None = None
        while True:
            try:
                response = await next_fn(line.asked, ctx)
            except LamellaError as error:
                if not self._switches(line, error, ctx):
                    with_debts(error, paid)
                    raise
                paid = add_usage(paid, paid_for(error))
                continue
            self._cooling.warm(line.model.name)
            return with_notes(response, line.note(), paid)

    async def wrap_stream(self, params: ModelHookParams, ctx: Ctx, next_fn: NextStream) -> AsyncIterator[StreamPart]:
        line, relay = self._line(params, ctx), Relay('restart' if self.commit == 'finish' else self.config.on_partial)
        while True:
            relay.notes = line.note()
            parts = next_fn(line.asked, ctx)
            try:
                async for part in parts:
                    if relay.open and type(part) is TextDelta:
                        yield part
                        continue
                    for ready in relay.take(_signed(part, line.model.name)):
                        yield ready
                for ready in relay.rest():
                    yield ready
                self._cooling.warm(line.model.name)
                return
            except LamellaError as error:
                stuck = relay.stuck or (ctx.committed and not relay.shown and not may_go_on(params, ctx))
                if not self._switches(line, error, ctx, stuck):
                    relay.give_up(error)
                    raise
                reason = f'fallback after {error.status}'
                relay.failed(error)
            finally:
                await close(parts)
            for ready in relay.turn(reason, line.model.name):
                yield ready

    def _line(self, params: ModelHookParams, ctx: Ctx) -> _Line[ModelHookParams]:
        models = self._resolved.get(ctx.ai)
        if models is None:
            models = self._resolved[ctx.ai] = tuple([ctx.ai.resolve_model(model) for model in self.config.models])
        if params.continues is not None:
            return _Line(params, (), ())
        return self._line_of(params, (params.model, *models), ctx)

    def _line_of(self, params: AnyParams, models: Sequence[Any], ctx: Ctx) -> _Line[AnyParams]:
        if not self._cooling.until:
            return _Line(params, models, range(len(models)))
        now = ctx.clock.now()
        cold = [self._cooling.of(model.name, now) for model in models]
        for name, found in {model.name: found for model, found in zip(models, cold, strict=True)}.items():
            if found is not None:
                ctx.emit('fallback.cooling', model=name, status=found[1], remaining_s=found[0] - now)
        order = sorted(range(len(models)), key=lambda index: cold[index] is not None)
        return _Line(params, models, order, cold[0][1] if cold[0] is not None and order[0] else '')

    def _switches(self, line: _Line[Any], error: LamellaError, ctx: Ctx, stuck: bool = False) -> bool:
        """Whether the next model is to be asked; then it is the line's."""
        if error.status not in self.config.statuses or isinstance(error, (ConfigError, UnknownNameError)):
            return False
        failed = line.model
        if self.config.cooldown_s and not isinstance(error, Rejected):
            self._cooling.cool(failed.name, ctx.clock.now(), self.config.cooldown_s, error.status)
        if stuck:
            return False
        if not line.move(error.status):
            ctx.emit('fallback.exhausted', models=line.at + 1, error=error)
            return False
        ctx.emit('fallback.switch', from_model=failed.name, to_model=line.model.name, error=error)
        return True


ModelFallback = Fallback


class _Line(Generic[AnyParams]):
    """One call's way through its models: `models` are all there are, `order` says which comes when, 0 being the original."""

    __slots__ = ('_code', '_models', '_order', '_params', 'asked', 'at')

    _params: AnyParams
    asked: AnyParams

    def __init__(self, params: AnyParams, models: Sequence[Any], order: Sequence[int], code: str = '') -> None:
        self._params, self._models, self._order, self._code = params, models, order, code
        self.at = 0
        self.asked = self._params_of(order[0]) if order else params

    @property
    def model(self) -> Model | EmbeddingModel:
        model: Model | EmbeddingModel = self.asked.model
        return model

    def move(self, code: str) -> bool:
        """Go on to the next model, after this status. False at the end of the line."""
        self._code = self._code or code
        if self.at + 1 >= len(self._order):
            return False
        self.at += 1
        self.asked = self._params_of(self._order[self.at])
        return True

    def _params_of(self, index: int) -> AnyParams:
        params: AnyParams = self._params
        if index == 0:
            return params
        model = self._models[index]
        return params.replace(model=model, request=without_others(params.request, model, self._models))

    def note(self) -> JSON:
        """What a fallback's answer says of itself; nothing when it was the original model after all."""
        if not self._order or self._order[self.at] == 0:
            return {}
        return {
            'fallback': {
                'fallback_triggered': True,
                'original_model': self._params.model.name,
                'fallback_model': self.model.name,
                'fallback_attempt': len([index for index in self._order[: self.at + 1] if index]),
                'error_code': self._code,
            }
        }


class _Cooling:
    """Models that failed lately, by name: until when (on the clock of the calls), and with which status."""

    __slots__ = ('until',)

    def __init__(self) -> None:
        self.until: dict[str, tuple[float, str]] = {}

    def of(self, name: str, now: float) -> tuple[float, str] | None:
        found = self.until.get(name)
        return found if found is not None and found[0] > now else None

    def cool(self, name: str, now: float, seconds: float, status: str) -> None:
        self.until.pop(name, None)
        if len(self.until) >= MAX_COOLING:
            self.until = {key: value for key, value in list(self.until.items())[1:] if value[0] > now}
        self.until[name] = (now + seconds, status)

    def warm(self, name: str) -> None:
        if self.until:
            self.until.pop(name, None)


def _signed(part: StreamPart, model: str) -> StreamPart:
    """A start names its model, so that a layer outside can tell whose text it is."""
    return part.replace(model=model) if type(part) is ResponseStarted and part.model is None else part


def without_others(request: Any, model: Any, models: Sequence[Any]) -> Any:
    """The request without the options that only other providers' models among these read."""
    if not request.provider_options:
        return request
    others = [other.option_keys for other in models if other.provider != model.provider]
    foreign = {key for keys in others for key in keys} - set(model.option_keys)
    options = {key: value for key, value in request.provider_options.items() if key not in foreign}
    return request if len(options) == len(request.provider_options) else request.replace(provider_options=options)
