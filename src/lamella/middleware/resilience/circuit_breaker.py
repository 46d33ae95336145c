"""`CircuitBreaker`: a model that keeps failing is left alone for a while, by all processes at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Annotated, Any, TypedDict, TypeVar, Unpack

from pydantic import BaseModel, Field, model_validator

from lamella.core.calls import close
from lamella.core.context import GenerateMiddlewareContext
from lamella.core.middleware import AnyAnswer, AnyParams, BaseMiddleware, Next, NextStream
from lamella.core.order import Order
from lamella.core.params import EmbedHookParams, Escort, ModelHookParams
from lamella.core.ports import Store
from lamella.middleware._circuit import Circuit, Entry, State
from lamella.middleware._fields import Count, Duration, Statuses
from lamella.middleware._keys import Key, KeySetting, key_of, part, shown
from lamella.middleware._relay import with_notes
from lamella.middleware._state import OnStoreError, StoreSetting, ask_store
from lamella.types import (
    JSON,
    ConfigError,
    Finished,
    LamellaError,
    Rejected,
    Status,
    StreamPart,
    UnknownNameError,
)

T = TypeVar('T')
Ctx = GenerateMiddlewareContext


class CircuitBreakerConfig(BaseModel, frozen=True, extra='forbid', arbitrary_types_allowed=True):
    """The settings of `CircuitBreaker`."""

    threshold: Annotated[
        Annotated[Count, Field(ge=1)] | None,
        Field(description='So many failures in a row open the circuit; None for any number.'),
    ] = 5
    cooldown_s: Annotated[
        Duration, Field(gt=0, description='For how many seconds it stays open before a probe may go.')
    ] = 30.0
    failure_rate: Annotated[
        Annotated[Duration, Field(gt=0, le=1)] | None,
        Field(description='This share of the calls of a window, failed, opens the circuit; None for any share.'),
    ] = None
    window_s: Annotated[Duration, Field(gt=0, description='The seconds of a window of failure_rate.')] = 60.0
    min_calls: Annotated[
        Count, Field(ge=1, description='Fewer calls in a window say nothing about its failure_rate.')
    ] = 20
    probes: Annotated[
        Count, Field(ge=1, description='After a cool-down so many calls at once try; when so many succeed, it closes.')
    ] = 1
    probe_lease_s: Annotated[
        Duration, Field(gt=0, description='A probe that takes longer is given up for lost, and another one may go.')
    ] = 60.0
    statuses: Annotated[Statuses, Field(description='The statuses that count as failures of the model.')] = (
        'UNAVAILABLE',
        'DEADLINE_EXCEEDED',
        'RESOURCE_EXHAUSTED',
        'INTERNAL',
    )
    key: Annotated[
        KeySetting,
        Field(
            description="What has a circuit of its own: 'model', 'tenant', or what a function of (params, ctx) returns."
        ),
    ] = 'model'
    scope: Annotated[
        str,
        Field(description='Layers with the same settings and scope share circuits; a name of its own keeps one apart.'),
    ] = ''
    store: Annotated[
        StoreSetting, Field(description='Where the circuits are kept: a store or a URL; the app’s own when None.')
    ] = None
    on_store_error: Annotated[
        OnStoreError, Field(description='When the store is away: allow the call as if all was well, or refuse it.')
    ] = 'allow'

    @model_validator(mode='after')
    def _opens(self) -> CircuitBreakerConfig:
        if self.threshold is None and self.failure_rate is None:
            raise ValueError('never opens: give threshold, failure_rate or both')
        return self


class CircuitBreakerOptions(TypedDict, total=False):
    """The keywords of `CircuitBreaker`."""

    threshold: int | None
    cooldown_s: float
    failure_rate: float | None
    window_s: float
    min_calls: int
    probes: int
    probe_lease_s: float
    statuses: Sequence[Status]
    key: Key
    scope: str
    store: Store | str | None
    on_store_error: OnStoreError


class CircuitBreaker(BaseMiddleware[CircuitBreakerConfig]):
    """Refuses calls to a model that keeps failing, at once and without sending them, until a probe has succeeded.

    `threshold` failures in a row open a model's circuit, or `failure_rate` of at least `min_calls` calls of a window. For
    `cooldown_s` seconds every call is then `Rejected` (UNAVAILABLE, with `retry_after_s` until the next probe), which `Fallback`
    takes for a reason to move on at once. After that at most `probes` calls at once are let through, over all processes: a
    failed one opens the circuit anew, `probes` good ones close it. A probe whose process died is given up after
    `probe_lease_s`.

    A failure is an error with one of `statuses`, also in the middle of a stream; a success is an answer that came to its end.
    Refusals of other layers, cancellations, readers who leave and other errors are neither. What was asked before a recovery
    does not count after it.

    Of two with the same settings and key in one stack the outer one decides.
    Events: `circuit_breaker.opened(model, key, why, cooldown_s)`, `circuit_breaker.half_open(model, key)`,
    `circuit_breaker.closed(model, key)`, `circuit_breaker.refused(model, key, why, retry_after_s)`, `store.away`. The answer to a
    probe has `metadata['circuit_breaker'] = {'probe': True, 'closed': bool}`.
    """

    order = Order(
        better_inside={
            'retry': 'it would only see what is left after all attempts, and open late',
            'fallback': 'the answers of other models would count for the first one',
            'cache': 'answers that ask no model would count',
        },
        better_outside={'timeout': 'a call that is cut off further out counts as cancelled and not as a failure'},
    )

    def __init__(self, config: CircuitBreakerConfig | None = None, **options: Unpack[CircuitBreakerOptions]) -> None:
        super().__init__(config, **options)
        c = self.config
        rules = (c.threshold, c.cooldown_s, c.failure_rate, c.window_s, c.min_calls, c.probes, c.probe_lease_s)
        kind = c.key if isinstance(c.key, str) else 'one' if c.key is None else 'own'
        self._prefix = f'circuit_breaker:{part(c.scope)}:{part("-".join(map(str, (*rules, *c.statuses))))}:{kind}:'

    async def wrap_model(self, params: AnyParams, ctx: Ctx, next_fn: Next[AnyParams, AnyAnswer]) -> AnyAnswer:
        guard = await self._enter(params, ctx)
        if guard is None:
            return await next_fn(params, ctx)
        try:
            response = await next_fn(params.escorted(guard.mark), ctx)
        except BaseException as error:
            await guard.failed(error)
            raise
        return with_notes(response, await guard.succeeded(), None)

    wrap_embed = wrap_model

    async def wrap_stream(self, params: ModelHookParams, ctx: Ctx, next_fn: NextStream) -> AsyncIterator[StreamPart]:
        guard = await self._enter(params, ctx)
        parts = next_fn(params if guard is None else params.escorted(guard.mark), ctx)
        try:
            async for part in parts:
                if type(part) is Finished and guard is not None:
                    notes = await guard.succeeded()
                    part = part.replace(metadata={**(part.metadata or {}), **notes}) if notes else part
                yield part
        except BaseException as error:
            if guard is not None:
                await guard.failed(error)
            raise
        finally:
            if guard is not None:
                await guard.left()
            await close(parts)

    async def _enter(self, params: ModelHookParams | EmbedHookParams, ctx: Ctx) -> _Guard | None:
        """The call's place at its circuit; `None` when another such layer outside guards it. Raises Rejected."""
        key = key_of(self.config.key, params, ctx)
        mark = _Mark(self._prefix + part(key))
        if mark in params.escorts:
            return None
        circuit = Circuit(ctx.ai.resolve_store(self.config.store), mark.key, self.config)
        guard = _Guard(self, circuit, mark, params.model.name, key, ctx)
        guard.entry = await ask_store(self, ctx, circuit.enter(), self.config.on_store_error, None)
        if guard.entry is not None and guard.entry.wait_s is not None:
            raise guard.refusal(guard.entry.state, guard.entry.wait_s)
        if guard.entry is not None and guard.entry.probe is not None:
            guard.tell('half_open')
        return guard

    def counts(self, error: BaseException) -> bool:
        """Whether it is a failure of the model."""
        if not isinstance(error, LamellaError) or isinstance(error, (Rejected, ConfigError, UnknownNameError)):
            return False
        return error.status in self.config.statuses


class _Mark(Escort):
    """Goes along to say that a call is guarded already."""

    __slots__ = ('key',)

    def __init__(self, key: str) -> None:
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Mark) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


class _Guard:
    """One call's way past its circuit. A verdict is given once; without an entry (the store was away) there is none."""

    __slots__ = ('_circuit', '_ctx', '_key', '_layer', '_model', 'entry', 'mark')

    def __init__(self, layer: CircuitBreaker, circuit: Circuit, mark: _Mark, model: str, key: str, ctx: Ctx) -> None:
        self._layer, self._circuit, self._ctx = layer, circuit, ctx
        self._model, self._key, self.mark = model, key, mark
        self.entry: Entry | None = None

    def tell(self, what: str, **facts: Any) -> None:
        self._ctx.emit(f'circuit_breaker.{what}', model=self._model, key=self._key, **facts)

    def refusal(self, state: State, wait_s: float) -> Rejected:
        self.tell('refused', why=state.why, retry_after_s=wait_s)
        key = '' if self._key == self._model else f' (key {shown(self._key)})'
        said = f'{self._model}{key} is left alone: {state.why}. The next try may go in {wait_s:.3g} s'
        return Rejected(said, by=self._layer, status='UNAVAILABLE', retry_after_s=wait_s)

    async def _ask(self, verdict: Coroutine[Any, Any, T], otherwise: T) -> T:
        """Tell the store. An answer that is there is not thrown away because the store is not."""
        return await ask_store(self._layer, self._ctx, verdict, 'allow', otherwise)

    async def succeeded(self) -> JSON:
        entry, self.entry = self.entry, None
        if entry is None:
            return {}
        closed = await self._ask(self._circuit.succeed(entry), False)
        if closed:
            self.tell('closed')
        return {'circuit_breaker': {'probe': True, 'closed': closed}} if entry.probe is not None else {}

    async def left(self) -> None:
        """It ended without a verdict, unless there was one."""
        entry, self.entry = self.entry, None
        if entry is not None:
            await self._ask(self._circuit.leave(entry), None)

    async def failed(self, error: BaseException) -> None:
        if self.entry is None or not self._layer.counts(error):
            await self.left()
            return
        entry, self.entry = self.entry, None
        why = await self._ask(self._circuit.fail(entry), None)
        if why is not None:
            self.tell('opened', why=why, cooldown_s=self._layer.config.cooldown_s)
