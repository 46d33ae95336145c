"""From what a caller said to a run that can start: everything is checked here, before the first model call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.metering import Account
from lamella.core.models import to_config
from lamella.core.order import Mode, check_order
from lamella.core.prices import price_of
from lamella.core.session import Session
from lamella.core.stack import Stack
from lamella.core.timeouts import Timeouts
from lamella.core.tools import Tool
from lamella.engine.guards import NO_LIMITS, Guard, RunLimits, limits_of, unpriced
from lamella.engine.interrupts import check_decisions
from lamella.engine.ledger import Deciding
from lamella.engine.options import OPTIONS
from lamella.engine.output import output_shape
from lamella.engine.provider_options import provider_options_of
from lamella.engine.registry import Registry
from lamella.engine.run import Ledger, Run
from lamella.engine.sitting import Sitting
from lamella.engine.tools import tool_table
from lamella.types import (
    ConfigError,
    Message,
    ModelRequest,
    TextPart,
    ToolChoice,
    Usage,
    did_you_mean,
    to_messages,
    to_parts,
)

Ctx = GenerateMiddlewareContext
_CHOICES: tuple[Literal['auto', 'none', 'required'], ...] = ('auto', 'none', 'required')
_KEPT = 256
_NO_TOOLS: Mapping[str, Tool] = {}
_MODEL_HOOKS = frozenset(('transform_params', 'wrap_model', 'wrap_stream'))
_SIMPLE = frozenset(('model', 'prompt', 'messages', 'system', 'use', 'context'))


class Stacks:
    """The app's layers with each call's own, folded once for each list of instances. Keeps the latest 256.

    The order is checked once for each list of classes, as `check_order` says.
    """

    def __init__(self, app: Stack, mode: Mode = 'warn') -> None:
        self._app, self._mode = app, mode
        self._kept: dict[tuple[int, ...], tuple[Stack, tuple[Any, ...]]] = {}
        self._checked: set[tuple[type, ...]] = set()
        check_order(app.layers, mode, whole=False)

    def of(self, use: Any) -> Stack:
        if use is None:
            return self._app
        if isinstance(use, Stack):
            use = use.layers
        if not isinstance(use, (list, tuple)):
            return self._joined(use)
        if not use:
            return self._app
        key = tuple(map(id, use))
        kept = self._kept.get(key)
        return self._fold(key, tuple(use)) if kept is None else kept[0]

    def _fold(self, key: tuple[int, ...], use: tuple[Any, ...]) -> Stack:
        stack = self._joined(use)
        if len(self._kept) >= _KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = stack, use  # what is kept lives, so that its ids stay its own
        return stack

    def _joined(self, use: Any) -> Stack:
        stack = Stack((*self._app.layers, *Stack(use).layers))
        kinds = tuple(map(type, stack.layers))
        if kinds not in self._checked:
            check_order(stack.layers, self._mode)
            if len(self._checked) < _KEPT:
                self._checked.add(kinds)
        return stack


class App(Protocol):
    """What is needed of the app."""

    registry: Registry
    stack: Stack
    stacks: Stacks
    ledger: Ledger
    max_turns: int
    limits: RunLimits
    timeouts: Timeouts | None
    max_parallel_tools: int
    clock: Any
    random: Any
    sinks: Any

    def resolve_model(self, model: Any) -> Any: ...
    def resolve_embedding_model(self, model: Any) -> Any: ...
    def resolve_store(self, store: Any) -> Any: ...
    def resolve_prices(self, prices: Any) -> Any: ...
    def default(self) -> Any: ...
    def session(self, id: str) -> Session: ...


def prepare(app: App, options: Mapping[str, Any], *, streaming: bool) -> tuple[Run, Ctx]:
    """A run and its context. Raises ConfigError or UnknownNameError for anything that cannot work."""
    simple = options.keys() <= _SIMPLE
    if not simple:
        _refuse_unknown(options)
    get = options.get
    wanted, use, context = get('model'), get('use'), get('context')
    model = app.default() if wanted is None else app.registry.model(wanted)
    stack = app.stack if use is None else app.stacks.of(use)
    if context is not None and not isinstance(context, Mapping):
        raise ConfigError(f'context is a {type(context).__name__}: give a dict')
    ctx = GenerateMiddlewareContext(app, context, app.clock, app.random, None, streaming, app.sinks)
    tools = _tools(app, get('tools'), stack, ctx) if 'tools' in options or 'tools' in stack.hooks else _NO_TOOLS
    session = None if simple else _session(app, get('session'))
    request = ModelRequest(_messages(options) if session is None else _new_messages(options))
    run = ctx.run = Run(request, model, stack, tools, app.ledger, app.max_turns, app.max_parallel_tools)
    run.options = options
    if session is not None:
        run.keeper = Sitting(session, _system(get('system')))
    if tools or not simple or app.limits is not NO_LIMITS or app.timeouts is not None:
        _settle(app, run, ctx, options)
    return run, ctx


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    if unknown := options.keys() - OPTIONS:
        name = min(unknown)
        raise ConfigError(f'generate has no option {name!r}{did_you_mean(name, sorted(OPTIONS))}')


def prepare_request(
    app: App, request: Any, model: Any, use: Any, context: Mapping[str, Any] | None, *, streaming: bool
) -> tuple[Run, Ctx]:
    """A run of one request as it is: one model call through the layers, its tool requests handed back and not run."""
    if not isinstance(request, ModelRequest):
        raise ConfigError(f'request is a {type(request).__name__}: give a ModelRequest')
    stack = app.stack if use is None else app.stacks.of(use)
    ctx = GenerateMiddlewareContext(app, context, app.clock, app.random, None, streaming, app.sinks)
    wanted = app.default() if model is None else app.registry.model(model)
    run = ctx.run = Run(request, wanted, stack, _NO_TOOLS, app.ledger, 1, app.max_parallel_tools)
    run.runs_tools = False
    return run, ctx


def _settle(app: App, run: Run, ctx: Ctx, options: Mapping[str, Any]) -> None:
    """The rest of the options, which most calls do without."""
    get = options.get
    if get('max_turns') is not None:
        run.max_turns = positive('max_turns', get('max_turns'))
    run.shape = output_shape(get('output_schema'), get('output_format'))
    request = run.request = _settings(run.request, options, run, app.registry)
    timeouts = ctx.timeouts = app.timeouts if get('timeout_s') is None else timeouts_of(get('timeout_s'))
    if timeouts is not None and timeouts.total_s is not None:
        ctx.deadline = ctx.clock.now() + timeouts.total_s
    limits = limits_of(get('max_cost_usd'), get('max_tokens')).over(app.limits)
    if limits != NO_LIMITS or ctx.deadline is not None:
        _guard(app, run, limits)
    decisions = (*_listed(get('resume_restart'), 'resume_restart'), *_listed(get('resume_respond'), 'resume_respond'))
    if decisions:
        run.decisions = decisions
        if run.keeper is None:  # a session has its own messages to look at, once it is open
            run.pending = check_decisions(decisions, request.messages)
            run.keeper = Deciding() if app.ledger.keeps else None
    if get('durable') and not app.ledger.keeps:
        raise ConfigError("durable=True: the app has no store to keep the run in: Lamella(store='sqlite:///state.db')")


def _guard(app: App, run: Run, limits: RunLimits) -> None:
    """Whoever prices further in is believed. Where nobody can, a model without a price is refused before it is asked."""
    run.guard, prices = Guard(limits), None
    if limits.max_cost_usd is not None:
        alone = not run.stack.hooks & _MODEL_HOOKS and not run.model.layered
        try:
            prices = app.resolve_prices(None)
        except ConfigError:
            if alone:
                raise
        if alone and prices is not None and price_of(prices, run.model.name, Usage(1, 1)) is None:
            raise unpriced(limits.max_cost_usd, run.model.name)
    if limits != NO_LIMITS:
        run.account = Account(prices, (run.guard,))


def _settings(request: ModelRequest, options: Mapping[str, Any], run: Run, registry: Registry) -> ModelRequest:
    get, tools = options.get, run.tools
    return request.replace(
        config=to_config(get('config')),
        tools=tuple([tool.definition for tool in tools.values()]),
        tool_choice=_tool_choice(get('tool_choice'), tools),
        output=run.shape.spec if run.shape is not None else None,
        provider_options=provider_options_of(get('provider_options'), run.model, registry.plugins),
    )


def _messages(options: Mapping[str, Any]) -> tuple[Message, ...]:
    messages, first = _new_messages(options), _system(options.get('system'))
    if first is not None and messages[:1] != (first,):  # which those of an earlier answer already begin with
        messages = (first, *messages)
    if not messages:
        raise ConfigError('nothing to ask: give prompt= or messages=')
    return messages


def _new_messages(options: Mapping[str, Any]) -> tuple[Message, ...]:
    given, prompt = options.get('messages'), options.get('prompt')
    messages = to_messages(given) if given else ()
    if prompt is None:
        return messages
    parts = (TextPart(prompt),) if type(prompt) is str else to_parts(prompt, 'prompt')
    return (*messages, Message('user', parts))


def _system(given: Any) -> Message | None:
    if given is None:
        return None
    if not isinstance(given, str):
        raise ConfigError(f'system is a {type(given).__name__}: give a string')
    return Message.system(given)


def _session(app: App, given: Any) -> Session | None:
    if given is None:
        return None
    session = given if isinstance(given, Session) else app.session(given)
    if session.is_held:
        raise ConfigError(
            'session=ctx.session: this run holds the session itself, and another turn would wait for ever'
        )
    return session


def _tools(app: App, given: Any, stack: Stack, ctx: Ctx) -> dict[str, Tool]:
    if given is not None and (isinstance(given, (str, Tool)) or not isinstance(given, Sequence)):
        raise ConfigError(f'tools= takes a list of functions, Tools or names, not {type(given).__name__}')
    tools = [app.registry.tool(wanted) for wanted in given or ()]
    origins = ['tools='] * len(tools)
    for layer in stack.layers:
        if 'tools' in layer._hooks:
            added = [app.registry.tool(wanted) for wanted in layer.tools(ctx)]
            tools += added
            origins += [layer.name] * len(added)
    return tool_table(tools, origins) if tools else {}


def _tool_choice(given: Any, tools: Mapping[str, Tool]) -> ToolChoice | None:
    if given is None or isinstance(given, ToolChoice):
        return given
    for choice in _CHOICES:
        if given == choice:
            return ToolChoice(choice)
    if isinstance(given, str) and given in tools:
        return ToolChoice('tool', given)
    raise ConfigError(f'tool_choice={given!r}{did_you_mean(str(given), [*_CHOICES, *tools])}')


def timeouts_of(given: Any) -> Timeouts | None:
    """A number of seconds as the limit of a whole run. Raises ConfigError."""
    if given is None or isinstance(given, Timeouts):
        return given
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not given > 0:
        raise ConfigError(f'timeout_s={given!r}: give a number of seconds above 0, or Timeouts(…)')
    return Timeouts(total_s=given)


def positive(field: str, given: Any) -> int:
    """A whole number of at least 1. Raises ConfigError."""
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ConfigError(f'{field}={given!r}: give a whole number of at least 1')
    return given


def _listed(given: Any, field: str) -> Sequence[Any]:
    if given is None or (isinstance(given, Sequence) and not isinstance(given, str)):
        return given or ()
    raise ConfigError(f'{field} is {given!r}: give a list of decisions, such as [restart_tool(interrupt)]')
