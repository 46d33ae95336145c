"""`lamella approvals`: the calls that wait for somebody, and the decisions on them, from any process."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import click
import msgspec

from lamella.cli._chat_view import note_of
from lamella.cli._echo import echo
from lamella.cli._screen import clean, concealed, moment, problem_of, spent, whole, width
from lamella.cli._target import Unusable, app_of
from lamella.cli._values import Failed, user_name, value_of
from lamella.engine.app import Lamella
from lamella.engine.approvals import ApprovalRecord
from lamella.engine.approvals.records import VERBS
from lamella.engine.ledger import MemoryLedger
from lamella.middleware._lines import one_line, shown
from lamella.types import ConfigError, GenerateResponse, LamellaError

T = TypeVar('T')
STATES = ('waiting', 'pending', 'decided', 'started', 'done', 'failed', 'expired', 'unknown', 'all')
_COLOURS = {'pending': 'yellow', 'failed': 'red', 'unknown': 'red', 'expired': 'red', 'done': 'green'}

_json = click.option('--json', 'as_json', is_flag=True, help='One JSON object a line.')
_by = click.option('--by', help='Who decides, as it is recorded; your login name when left out.')
_resume = click.option('--resume', 'go_on', is_flag=True, help='Go on with the run at once, and print its answer.')
_app = click.make_pass_decorator(Lamella)


class Approvals(click.Group):
    """A group with a word that may stand in front of its command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] in self.commands:
            args = ['', *args]
        elif len(args) == 1 and not args[0].startswith('-'):
            raise click.UsageError(
                f'{args[0]!r} is no command, and names no app for one: see lamella approvals --help', ctx
            )
        return super().parse_args(ctx, args)


@click.group(cls=Approvals)
@click.argument('target', required=False)
@click.pass_context
def approvals(ctx: click.Context, target: str | None) -> None:
    """Look at the calls that wait for an approval, and decide on them.

    TARGET is a lamella.toml or module:app, the file of this folder when left out; its store is where the calls wait.

    Exit codes: 0 done, 1 too late (decided by somebody else, or expired) or failed, 2 wrong usage or no such call.
    """
    app, _ = app_of(target)
    if isinstance(app.ledger, MemoryLedger):
        raise Unusable("this app has no store, so that no call waits in it: Lamella(store='sqlite:///state.db')")
    ctx.obj = app


@approvals.command('list')
@click.option('--state', default='waiting', show_default=True, type=click.Choice(STATES), help='Only those.')
@click.option('--session', help='Only those of this session.')
@_json
@_app
def list_(app: Lamella, state: Any, session: str | None, as_json: bool) -> None:
    """The calls of all runs that have not gone on, the oldest first."""
    for record in _done(app, app.approvals.list(state, session=session)):
        echo(_object(record) if as_json else _line(record))


@approvals.command()
@click.argument('id')
@_json
@_app
def show(app: Lamella, id: str, as_json: bool) -> None:
    """One call: its whole input, how it stands, and who did what."""
    _tell(_done(app, app.approvals.get(id)), as_json)


@approvals.command()
@click.argument('id')
@_by
@_resume
@_json
@_app
def approve(app: Lamella, id: str, by: str | None, go_on: bool, as_json: bool) -> None:
    """The call shall run as it is."""
    _decide(app, id, lambda: app.approvals.approve(id, by=_who(by)), go_on, as_json)


@approvals.command()
@click.argument('id')
@click.option('--input', 'given', required=True, help='The input as JSON; @file reads a file, - standard input.')
@_by
@_resume
@_json
@_app
def edit(app: Lamella, id: str, given: str, by: str | None, go_on: bool, as_json: bool) -> None:
    """The call shall run, with another input."""
    value = value_of(given, '--input')
    if isinstance(value, str):
        raise Unusable('--input is no JSON: give the whole input, such as \'{"amount": 5}\'')
    _decide(app, id, lambda: app.approvals.approve(id, by=_who(by), input=value), go_on, as_json)


@approvals.command()
@click.argument('id')
@click.option('--reason', required=True, help='Why; the model is told.')
@_by
@_resume
@_json
@_app
def deny(app: Lamella, id: str, reason: str, by: str | None, go_on: bool, as_json: bool) -> None:
    """The call shall not run."""
    _decide(app, id, lambda: app.approvals.deny(id, reason, by=_who(by)), go_on, as_json)


@approvals.command()
@click.argument('id')
@_json
@_app
def resume(app: Lamella, id: str, as_json: bool) -> None:
    """Go on with a run whose calls are decided, and print its answer. ID is the run's, or that of one of its calls."""
    _answer(_done(app, app.approvals.resume(id)), as_json)


def _decide(
    app: Lamella, id: str, decision: Callable[[], Coroutine[Any, Any, ApprovalRecord]], go_on: bool, as_json: bool
) -> None:
    """Make a decision, and go on where that is wanted. What was decided stays so, whatever becomes of the run."""

    async def work() -> tuple[ApprovalRecord, GenerateResponse | LamellaError | None]:
        record = await _first(app, id, decision)
        if not go_on:
            return record, None
        try:
            return record, await app.approvals.resume(id)
        except LamellaError as error:
            return record, error

    record, outcome = _done(app, work())
    if as_json:
        echo(_object(record))
    else:
        echo(f'{record.id} is {_verdict(record)}', err=go_on)
    if isinstance(outcome, LamellaError):
        raise Failed(f'the decision is made, but the run did not go on: {problem_of(outcome)}')
    if outcome is not None:
        _answer(outcome, as_json)


async def _first(app: Lamella, id: str, decision: Callable[[], Coroutine[Any, Any, ApprovalRecord]]) -> ApprovalRecord:
    """The decision, or who made one before and when."""
    try:
        return await decision()
    except LamellaError as error:
        if error.status not in ('FAILED_PRECONDITION', 'DEADLINE_EXCEEDED'):
            raise
        record = await app.approvals.get(id)
        if record.state == 'expired':
            raise Failed(f'{id} expired at {moment(record.expires_at_s)}: it has not run, and never will') from error
        if record.decision is None:
            raise
        raise Failed(f'{id} was already {_verdict(record)}: a decision counts once') from error


def _done(app: Lamella, main: Coroutine[Any, Any, T]) -> T:
    try:
        return app.run_main(main)
    except ConfigError as error:
        raise Unusable(problem_of(error)) from error
    except LamellaError as error:
        raise (Unusable if error.status == 'NOT_FOUND' else Failed)(problem_of(error)) from error


def _who(by: str | None) -> str:
    who = user_name() if by is None else by
    if who is None:
        raise Unusable('nobody is logged in here: say with --by who decides')
    return who


def _verdict(record: ApprovalRecord) -> str:
    """`approved by ann at 2026-11-27 10:00:00`."""
    made = record.decision
    if made is None:
        return record.state
    edited = ' with another input' if made.edited else ''
    return f'{VERBS[made.kind]}{edited} by {one_line(made.by)} at {moment(made.at_s)}'


def _object(record: ApprovalRecord) -> str:
    return json.dumps(concealed(msgspec.to_builtins(record)))


def _line(record: ApprovalRecord) -> str:
    """`run_….1  pending  2026-11-27 10:00:00  pay {"amount": 5}`."""
    state = click.style(f'{record.state:<8}', fg=_COLOURS.get(record.state))
    head = f'{moment(record.requested_s)}  {one_line(record.tool)}'
    room = max(20, width() - len(record.id) - len(head) - 13)
    return f'{record.id}  {state}  {head} {shown(record.input, room)}'


def _tell(record: ApprovalRecord, as_json: bool) -> None:
    if as_json:
        echo(_object(record))
        return
    for name, value in _facts(record):
        lines = value.splitlines() or ['']
        echo(f'{click.style(f"{name:<10}", dim=True)}{lines[0]}')
        for line in lines[1:]:
            echo(f'{"":<10}{line}')


def _facts(record: ApprovalRecord) -> Iterator[tuple[str, str]]:
    yield 'id', record.id
    yield 'state', record.state
    yield 'tool', one_line(record.tool)
    yield 'input', whole(record.input)
    yield 'question', one_line(record.message)
    if record.session is not None:
        yield 'session', one_line(record.session)
    yield 'requested', moment(record.requested_s)
    if record.state in ('pending', 'decided', 'expired'):
        yield ('expired' if record.state == 'expired' else 'expires'), moment(record.expires_at_s)
    if record.decision is not None:
        yield 'decision', _verdict(record)
        if record.decision.edited:
            yield 'runs with', whole(record.decision.edited[0])
    if record.response is not None:
        yield 'answer', whole(record.response.output)
    if record.error is not None:
        yield 'error', one_line(record.error)
    steps = [f'{moment(step.at_s)} {step.what}{f" by {one_line(step.by)}" if step.by else ""}' for step in record.steps]
    yield 'steps', '\n'.join(steps)


def _answer(response: GenerateResponse, as_json: bool) -> None:
    if as_json:
        usage = None if response.usage is None else msgspec.to_builtins(response.usage)
        echo(json.dumps({'stop_reason': response.stop_reason, 'text': response.text, 'usage': usage}))
        return
    if response.text:
        echo(clean(response.text))
    for call in response.interrupts:
        echo(
            f'{one_line(call.tool_request.name)} waits for a decision: {one_line(str(note_of(call).get("id")))}',
            err=True,
        )
    if told := spent(response.usage):
        echo(told, err=True)
