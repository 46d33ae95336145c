"""From an interrupted run to what is kept of it, and from that to a call that goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lamella.core.context import GenerateMiddlewareContext
from lamella.core.models import ModelRef, to_config
from lamella.core.params import digest_of
from lamella.core.session import Session
from lamella.engine.approval_settings import ApprovalSettings
from lamella.engine.approvals.records import SavedCall, SavedModel, SavedRun, SavedSession
from lamella.engine.guards import limits_of
from lamella.engine.run import Run
from lamella.types import ConfigError, ToolRequestPart

Ctx = GenerateMiddlewareContext
# What may be said of a run that is resumed; the rest is as it was.
RESUME_OPTIONS = frozenset(
    (
        'resume', 'model', 'tools', 'use', 'context', 'session', 'output_schema', 'output_format', 'config',
        'provider_options', 'max_turns', 'max_cost_usd', 'max_tokens', 'timeout_s', 'durable',
    )
)  # fmt: skip


def saved_run(id: str, run: Run, ctx: Ctx, raised: Sequence[ToolRequestPart], settings: ApprovalSettings) -> SavedRun:
    """What is kept of a run that waits for decisions on these calls."""
    options, app, session = run.options, ctx.ai, ctx.session
    limits = limits_of(options.get('max_cost_usd'), options.get('max_tokens'))
    request = run.request
    return SavedRun(
        id=id,
        at_s=ctx.clock.time(),
        expires_s=settings.expires_s,
        calls=tuple(_call(number, part) for number, part in enumerate(raised, 1)),
        model=_model(run, ctx),
        messages=() if session is not None else run.messages,
        system=options.get('system') if session is not None else None,
        session=None if session is None else _session(session, app),
        config=request.config,
        tools=tuple(app.registry.tool(tool).name for tool in options.get('tools') or ()),  # type: ignore[attr-defined]
        tool_choice=request.tool_choice,
        output=request.output,
        provider_options=request.provider_options,
        layers=tuple(layer.name for layer in run.stack.layers),
        context={name: ctx.context[name] for name in settings.keep_context if name in ctx.context},
        max_turns=options.get('max_turns'),
        max_cost_usd=limits.max_cost_usd,
        max_tokens=limits.max_tokens,
    )


def _call(number: int, part: ToolRequestPart) -> SavedCall:
    note = {key: value for key, value in (part.metadata or {}).get('interrupt', {}).items() if key != 'id'}
    return SavedCall(number, part.tool_request, digest_of(part.tool_request), note)


def _model(run: Run, ctx: Ctx) -> SavedModel:
    """The name that the caller or the app used, which may be an alias; else the model's own."""
    wanted = run.options.get('model') or ctx.ai.default_model  # type: ignore[attr-defined]
    if isinstance(wanted, ModelRef):
        return SavedModel(wanted.name, to_config(wanted.config), wanted.provider_options)
    return SavedModel(wanted if isinstance(wanted, str) else run.model.name)


def _session(session: Session, app: Any) -> SavedSession:
    own = session.store is app.resolve_store(None)
    ttl_s = session.record.ttl_s
    return SavedSession(session.id, session.key, own, session.on_busy, session.wait_s, session.lease_s, ttl_s)


def options_of(saved: SavedRun, given: Mapping[str, Any], app: Any) -> dict[str, Any]:
    """The options with which a kept run goes on: as it was, with what is given in its place. Raises ConfigError."""
    if unknown := given.keys() - RESUME_OPTIONS:
        raise ConfigError(f'{min(unknown)}= has no place beside resume=: the run goes on as it was')
    options = {
        'config': saved.config,
        'tool_choice': saved.tool_choice,
        'provider_options': saved.provider_options,
        'max_turns': saved.max_turns,
        'max_cost_usd': saved.max_cost_usd,
        'max_tokens': saved.max_tokens,
        **{name: value for name, value in given.items() if value is not None and name != 'resume'},
    }
    options['model'] = given.get('model') or _same_model(saved.model, app)
    options['context'] = {**saved.context, **(given.get('context') or {})}
    options['tools'] = [*(given.get('tools') or ()), *_registered(saved, given, app)]
    if saved.session is None:
        options['messages'] = saved.messages
    else:
        options['session'] = _same_session(saved.session, given.get('session'), app)
        options['system'] = saved.system
    return options


def _same_model(saved: SavedModel, app: Any) -> Any:
    if app.default_model is not None and app.default().name == saved.name and saved.config is None:
        return None
    if saved.config is not None or saved.provider_options:
        return ModelRef(saved.name, saved.config or to_config(None), saved.provider_options)
    return saved.name


def _registered(saved: SavedRun, given: Mapping[str, Any], app: Any) -> list[str]:
    """The names of the run's own tools that are not given, as far as the app knows them; `check_same` finds what is missing."""
    names = {app.registry.tool(tool).name for tool in given.get('tools') or ()}
    return [name for name in saved.tools if name not in names and name in app.registry.tools]


def _same_session(saved: SavedSession, given: Any, app: Any) -> Session:
    session: Session
    if given is not None:
        session = given if isinstance(given, Session) else app.session(given)
        if session.key != saved.key:
            raise ConfigError('session= is another session than that of the run which is resumed')
        return session
    if not saved.own_store:
        raise ConfigError("the session of this run is not in the app's own store: give session=ai.session(id, store=…)")
    session = app.session(
        saved.id, on_busy=saved.on_busy, wait_s=saved.wait_s, lease_s=saved.lease_s, ttl_s=saved.ttl_s
    )
    return session


def check_same(saved: SavedRun, run: Run) -> None:
    """A run does not go on without the layers and tools it had: they may be what guards it. Raises ConfigError."""
    left = [layer.name for layer in run.stack.layers]
    missing = []
    for name in saved.layers:
        if name in left:
            left.remove(name)
        else:
            missing.append(name)
    if missing:
        raise ConfigError(f'the run had layers that are not here: {", ".join(missing)}. Give them with use=[…]')
    wanted = {*saved.tools, *(call.request.name for call in saved.calls)}
    if gone := sorted(wanted - run.tools.keys()):
        raise ConfigError(
            f'the run had tools that are not here: {", ".join(gone)}. Give them with tools=[…], or register them'
        )
