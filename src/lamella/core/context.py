"""What every hook of one run shares: the caller's values, time, chance, and who listens."""

from __future__ import annotations

import os
import random as random_module
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from types import AsyncGeneratorType, MappingProxyType
from typing import Any, Protocol

from lamella.core.clock import SYSTEM_CLOCK, Clock
from lamella.core.embedding import EmbeddingModel
from lamella.core.events import Event, Sink
from lamella.core.model import Model
from lamella.core.ports import Store
from lamella.core.prices import Prices
from lamella.core.session import Session
from lamella.core.timeouts import Timeouts
from lamella.types import Attempt, LamellaError, StreamPart

_NOTHING: Mapping[str, Any] = MappingProxyType({})
SYSTEM_RANDOM: Random = random_module._inst  # the module's own generator


# Takes what nobody may hear out of a value, and gives the rest.
Censor = Callable[[Any], Any]


class Resolver(Protocol):
    """What layers need of the app: models, embedding models and stores by name, and prices."""

    def resolve_model(self, model: Any) -> Model:
        """The model of that name, function or object. Raises UnknownNameError with the nearest names."""

    def resolve_embedding_model(self, model: Any) -> EmbeddingModel:
        """The embedding model of that name, function or object. Raises UnknownNameError with the nearest names."""

    def resolve_store(self, store: Store | str | None) -> Store:
        """The store of that URL, opened once for the whole app; the app's own for `None`. Raises ConfigError."""

    def resolve_prices(self, prices: Mapping[str, Any] | Prices | None) -> Prices:
        """Who answers for these prices; the app's own for `None`. Raises ConfigError when nobody can."""


class GenerateMiddlewareContext:
    """One per run; handed to every hook, model and tool.

    `context` holds the caller's per-call values (tenant, user, trace id). `deadline` is a reading of `clock.now()` or
    `None`. `is_streaming` says whether somebody reads parts as they arrive; `committed`, whether content of the current
    model call has already reached that reader, so that nothing may silently start over; `restarts`, how often that reader was
    told that what came is void. `sent` counts the requests of this run that were handed to a model: a layer whose call failed
    while it stood still knows that nothing was sent. `outgoing` are headers for the model call that is just beginning, set by
    who traces when it hears of `model.start`.
    `session` is the session that this run holds, or `None`.
    """

    __slots__ = (
        '_censors',
        '_last_error',
        '_opened',
        '_run_id',
        '_states',
        'ai',
        'attempts',
        'clock',
        'committed',
        'context',
        'deadline',
        'is_streaming',
        'outgoing',
        'random',
        'restarts',
        'run',
        'sent',
        'session',
        'sinks',
        'timeouts',
    )

    def __init__(
        self,
        ai: Resolver,
        context: Mapping[str, Any] | None = None,
        clock: Clock = SYSTEM_CLOCK,
        random: Random = SYSTEM_RANDOM,
        deadline: float | None = None,
        is_streaming: bool = False,
        sinks: tuple[Sink, ...] = (),
        timeouts: Timeouts | None = None,
    ) -> None:
        self.ai = ai
        self.context = context if context is not None else _NOTHING
        self.clock = clock
        self.random = random
        self.deadline = deadline
        self.is_streaming = is_streaming
        self.sinks = sinks
        self.timeouts = timeouts
        self.committed = False
        self.sent = 0
        self.restarts = 0
        self.outgoing: Mapping[str, str] = _NOTHING
        self.run: Any = None  # the engine's own state of this run
        self.session: Session | None = None
        self.attempts: list[Attempt] = []
        self._censors: tuple[Censor, ...] = ()
        self._last_error: LamellaError | None = None
        self._opened: list[AsyncGenerator[StreamPart, None]] = []
        self._states: dict[int, tuple[object, dict[str, Any]]] | None = None
        self._run_id = ''

    @property
    def run_id(self) -> str:
        """A random id of this run, made when first asked for."""
        if not self._run_id:
            self._run_id = f'run_{self.random.getrandbits(64):016x}'
        return self._run_id

    @property
    def store(self) -> Store:
        """The app's store: what a layer remembers in when its `store=` is left out."""
        return self.ai.resolve_store(None)

    def secret(self, size: int) -> bytes:
        """Random bytes that nobody can foresee: the system's, unless the app was given a chance of its own (for tests)."""
        return os.urandom(size) if self.random is SYSTEM_RANDOM else self.random.randbytes(size)

    def emit(self, name: str, /, **facts: Any) -> None:
        """Tell the listeners; a listener that fails is left out of it. Nobody listening costs one `if`."""
        if self.sinks:
            if self._censors:
                facts = {key: self.tellable(fact) for key, fact in facts.items()}
            self._tell(Event(name, self.clock.now(), self.run_id, facts))

    def _tell(self, event: Event) -> None:
        for sink in self.sinks:
            try:
                sink(event)
            except Exception:  # an observer never harms the call
                self.sinks = tuple(s for s in self.sinks if s is not sink)

    def censor(self, censor: Censor) -> None:
        """From now on every fact of this run's events goes through this function before anybody hears of it."""
        if censor not in self._censors:
            self._censors = (*self._censors, censor)

    def tellable(self, value: Any) -> Any:
        """What an observer may tell of a value that is no fact of an event, such as a message it prints: what the run's
        censors leave of it. When one of them fails nothing is left."""
        try:
            for censor in self._censors:
                value = censor(value)
        except Exception as error:
            return f'(withheld: {type(error).__name__} in what takes out private data)'
        return value

    @contextmanager
    def listening(self, sink: Sink) -> Iterator[None]:
        """Send this run's events to `sink` too, for the length of the block."""
        self.sinks = (*self.sinks, sink)
        try:
            yield
        finally:
            before = max((n for n, other in enumerate(self.sinks) if other is sink), default=len(self.sinks))
            self.sinks = self.sinks[:before] + self.sinks[before + 1 :]

    def record_failure(
        self, model: str, error: LamellaError, started: float, event: str = 'model.error', **facts: Any
    ) -> None:
        """Note a failed model call once, however many layers of models it passes through, and tell it as this event."""
        if error is self._last_error:
            return
        self._last_error = error
        duration = self.clock.now() - started
        self.attempts.append(Attempt(model, error.status, duration, error.message))
        self.emit(event, model=model, status=error.status, duration_s=duration, error=error, **facts)

    def opened(self, parts: AsyncGenerator[StreamPart, None]) -> AsyncGenerator[StreamPart, None]:
        """Remember a part stream, so that `close_streams` can close what a layer left open."""
        self._opened.append(parts)
        return parts

    async def close_streams(self) -> None:
        """Close the streams of this call that are still open, innermost first."""
        opened, self._opened = self._opened, []
        for parts in reversed(opened):
            if isinstance(parts, AsyncGeneratorType) and parts.ag_frame is not None and not parts.ag_running:
                await parts.aclose()

    def state(self, owner: object) -> dict[str, Any]:
        """A dictionary that belongs to this layer and this run, empty at first."""
        if self._states is None:
            self._states = {}
        return self._states.setdefault(id(owner), (owner, {}))[1]  # the owner is kept, so that its id stays its own

    def remaining_s(self) -> float | None:
        """Seconds until the deadline (negative when past), or `None` without one."""
        return None if self.deadline is None else self.deadline - self.clock.now()
