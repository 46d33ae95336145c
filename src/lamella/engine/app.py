"""The app: models, tools and layers by name, and the calls made with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import cached_property
from importlib import import_module
from os import PathLike
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from typing_extensions import Unpack

from lamella.core.clock import SYSTEM_CLOCK, Clock
from lamella.core.context import SYSTEM_RANDOM
from lamella.core.events import Sink
from lamella.core.middleware import BaseMiddleware
from lamella.core.model import Model
from lamella.core.models import ModelRef
from lamella.core.order import MODES, Mode
from lamella.core.plugin import Plugin
from lamella.core.ports import Store
from lamella.core.prices import Prices, PriceShelf
from lamella.core.session import OnBusy, Session
from lamella.core.shelf import StoreShelf
from lamella.core.stack import Stack
from lamella.core.stores import check_store
from lamella.core.timeouts import Cutoff, Timeouts
from lamella.engine.approval_settings import ApprovalSettings, settings_of
from lamella.engine.embed import AnyEmbeddingModel, Embedding
from lamella.engine.guards import limits_of
from lamella.engine.ledger import MemoryLedger
from lamella.engine.options import GenerateOptions
from lamella.engine.prepare import Stacks, positive, prepare, prepare_request, timeouts_of
from lamella.engine.registration import Registration
from lamella.engine.registry import Registry
from lamella.engine.run import Ledger
from lamella.engine.running import resumed_run, streamed_run, too_long, whole_run
from lamella.engine.stream import GenerateStream
from lamella.engine.sync import SyncDoor
from lamella.types import ConfigError, GenerateResponse, ModelRequest, UnknownNameError

if TYPE_CHECKING:  # loaded when first used
    from lamella.engine.approvals.door import Approvals

R = TypeVar('R')


class Lamella(Registration, Embedding):
    """An app. `model` is asked when a call names none, `embedding_model` where texts are embedded; `use` are layers around every
    call, outside the call's own.

    `store` is where layers remember what outlives a call, when they name no store of their own: a store or a URL, memory when
    left out; interrupted runs that are durable wait there, as `approvals` says. `prices` are dollars for a million tokens,
    `{'openai/gpt-5': {'input_per_mtok': 1.25, 'output_per_mtok': 10}}`, or an object that knows them; what is left out comes
    from the genai-prices package. `max_turns`, `max_cost_usd`, `max_tokens` and `timeout_s` hold for every run that does not
    set its own. `sinks` are functions that receive every event. `max_parallel_tools` bounds the tools of one turn that run at
    once. Layers whose order cannot work are refused; of a doubtful order `check_order` says whether to warn, to raise (`error`)
    or to `ignore` it. `clock` and `random` are for tests. Raises ConfigError for settings that cannot work.
    """

    def __init__(
        self,
        *,
        plugins: Sequence[Plugin] = (),
        model: str | Model | ModelRef | Callable[..., Any] | None = None,
        embedding_model: AnyEmbeddingModel | None = None,
        use: Iterable[BaseMiddleware[Any] | Stack] = (),
        store: Store | str | None = None,
        approvals: ApprovalSettings | None = None,
        prices: Mapping[str, Any] | Prices | None = None,
        sinks: Sequence[Sink] = (),
        max_turns: int = 50,
        max_cost_usd: float | None = None,
        max_tokens: int | None = None,
        timeout_s: float | Timeouts | None = None,
        max_parallel_tools: int = 8,
        check_order: Mode = 'warn',
        clock: Clock = SYSTEM_CLOCK,
        random: Random = SYSTEM_RANDOM,
    ) -> None:
        self.max_turns = positive('max_turns', max_turns)
        self.limits = limits_of(max_cost_usd, max_tokens)
        self.timeouts = timeouts_of(timeout_s)
        self.max_parallel_tools = positive('max_parallel_tools', max_parallel_tools)
        self.registry = Registry(plugins)
        self.default_model = model
        self.default_embedding_model = embedding_model
        self._default: Model | None = None
        self.stack = Stack(use)
        self.sinks = _listeners(sinks)
        self.clock, self.random = clock, random
        self.shelf = StoreShelf(store, clock)
        self.prices = PriceShelf(prices)
        self.approval_settings = settings_of(approvals, store)
        self.ledger: Ledger = MemoryLedger() if store is None else _approvals().StoreLedger(self)
        if check_order not in MODES:
            raise ConfigError(f'check_order={check_order!r}: use one of {", ".join(map(repr, MODES))}')
        self.stacks = Stacks(self.stack, check_order)
        self.chains: Mapping[str, Stack] = {}
        self.sync = SyncDoor(self)

    @classmethod
    def from_config(
        cls, path: str | PathLike[str], *, environment: Mapping[str, str] | None = None, **options: Any
    ) -> Lamella:
        """The app that a `lamella.toml` (or a `spine.toml`) describes: see docs/config.md.

        `environment` is what `${NAME}` means in it, `os.environ` when left out; `options` are further keywords of
        `Lamella` and win; `sinks` are added. Raises ConfigError with every problem of the file: line, column, the nearest
        right name, and an example.
        """
        loaded = import_module('lamella.engine.config.load').load(path, environment)
        given = loaded.options()
        sinks = [*given.get('sinks', ()), *options.pop('sinks', ())]
        app = cls(**{**given, **options, 'sinks': sinks})
        app.chains = loaded.chains
        for name, model in loaded.models.items():
            app.model_alias(name, model)
        return app

    def chain(self, name: str) -> Stack:
        """A chain of the file that this app was made from, for `use=[…]`. Raises UnknownNameError."""
        if name not in self.chains:
            raise UnknownNameError('chain', name, sorted(self.chains))
        return self.chains[name]

    async def generate(self, **options: Unpack[GenerateOptions]) -> GenerateResponse:
        """Ask, run the tools that are asked for, and ask again until the model is done.

        Raises ConfigError for wrong options, OutputError for an answer that does not fit `output_schema`, and LamellaError
        with a status, the attempts and what had arrived when the call fails.
        """
        if options.get('resume') is not None:
            run, ctx = await self.approvals.prepared(options, streaming=False)
        else:
            run, ctx = prepare(self, options, streaming=False)
        if ctx.deadline is None:
            return await whole_run(run, ctx)
        async with Cutoff(ctx.clock, ctx.deadline - ctx.clock.now(), lambda: too_long(ctx)):
            return await whole_run(run, ctx)

    def generate_stream(self, **options: Unpack[GenerateOptions]) -> GenerateStream:
        """The same as a stream. Wrong options raise here; failures raise from the loop that reads."""
        if options.get('resume') is not None:
            return GenerateStream(
                lambda stream: resumed_run(lambda: self.approvals.prepared(options, streaming=True), stream)
            )
        run, ctx = prepare(self, options, streaming=True)
        return GenerateStream(lambda stream: streamed_run(run, ctx, stream))

    async def call_model(
        self,
        request: ModelRequest,
        *,
        model: str | Model | ModelRef | Callable[..., Any] | None = None,
        use: Sequence[BaseMiddleware[Any] | Stack] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> GenerateResponse:
        """One model call through the layers, for a request that is already made: tool requests are returned and not run."""
        return await whole_run(*prepare_request(self, request, model, use, context, streaming=False))

    def call_model_stream(
        self,
        request: ModelRequest,
        *,
        model: str | Model | ModelRef | Callable[..., Any] | None = None,
        use: Sequence[BaseMiddleware[Any] | Stack] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> GenerateStream:
        """`call_model` as a stream."""
        run, ctx = prepare_request(self, request, model, use, context, streaming=True)
        return GenerateStream(lambda stream: streamed_run(run, ctx, stream))

    def default(self) -> Model:
        """The model that is asked when a call names none. Raises ConfigError when the app has none either."""
        if self._default is None:
            if self.default_model is None:
                raise ConfigError("no model: give model='provider/name' to generate, or to Lamella(…) as the default")
            self._default = self.registry.model(self.default_model)
        return self._default

    def resolve_model(self, model: Any) -> Model:
        """The model of that name, function, reference or object. Raises UnknownNameError with the nearest names."""
        return self.registry.model(model)

    def resolve_store(self, store: Store | str | None) -> Store:
        """The store of that URL, opened once for this app; the app's own for `None`. Raises ConfigError."""
        return self.shelf.get(store)

    def resolve_prices(self, prices: Mapping[str, Any] | Prices | None) -> Prices:
        """Who answers for these prices; the app's own for `None`. Raises ConfigError when there are none at all."""
        return self.prices.get(prices)

    def session(
        self,
        id: str,
        store: Store | str | None = None,
        *,
        on_busy: OnBusy = 'wait',
        wait_s: float = 30.0,
        lease_s: float = 30.0,
        ttl_s: float | None = None,
    ) -> Session:
        """The session of that id, in `store` (a store or a URL) or the app's own. See `Session` for the settings."""
        check_store(store)
        return Session(
            id,
            self.resolve_store(store),
            clock=self.clock,
            on_busy=on_busy,
            wait_s=wait_s,
            lease_s=lease_s,
            ttl_s=ttl_s,
        )

    @cached_property
    def approvals(self) -> Approvals:
        """Interrupted calls that are kept until somebody decides: docs/approvals.md."""
        door: Approvals = _approvals().Approvals(self)
        return door

    def run_main(self, main: Coroutine[Any, Any, R]) -> R:
        """Run a program's main coroutine to its end, close the app, and return its result or raise its exception."""

        async def run() -> R:
            try:
                return await main
            finally:
                await self.aclose()

        return asyncio.run(run())

    async def aclose(self) -> None:
        """Close the connections of plugins and stores. The app can be used again afterwards."""
        self.sync.close()
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.shelf.aclose)
            for plugin in self.registry.plugins.values():
                closing.push_async_callback(plugin.aclose)

    async def __aenter__(self) -> Lamella:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()


def _approvals() -> Any:
    """What only apps need that keep interrupted runs; loading it takes as long as a quarter of the rest."""
    return import_module('lamella.engine.approvals.door')


def _listeners(sinks: Any) -> tuple[Sink, ...]:
    if not isinstance(sinks, (list, tuple)) or not all(callable(sink) for sink in sinks):
        raise ConfigError(f'sinks= takes a list of functions of one event, not {sinks!r}')
    return tuple(sinks)
