"""`lamella chat`: a conversation with an app in the terminal, or through a pipe."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from lamella.cli._chat_run import Conversation, Verdict
from lamella.cli._chat_view import JsonView, TextView, View, note_of
from lamella.cli._echo import echo
from lamella.cli._screen import problem_of, whole
from lamella.cli._target import Unusable, app_of
from lamella.cli._values import user_name
from lamella.engine.app import Lamella
from lamella.middleware._lines import one_line
from lamella.types import LamellaError, ToolRequestPart

COMMANDS = """\
/model NAME  ask another model from now on
/reset       forget the conversation, in the session too
/help        this
/quit        leave; Ctrl-D too
Ctrl-C stops an answer. A message that begins with / is written //…"""
NOBODY = 'nobody was there to approve it'
_QUESTION = 'run it? y(es), n(o) [reason], e(dit) [JSON], a(nswer) [JSON or text]: '


@click.command()
@click.argument('target', required=False)
@click.option('--model', help="The model that is asked; the app's own when left out.")
@click.option('--system', help='The system message.')
@click.option('--session', help="A session in the app's store, to go on with; in memory when left out.")
@click.option('--json', 'as_json', is_flag=True, help='One JSON object a line for every event.')
def chat(target: str | None, model: str | None, system: str | None, session: str | None, as_json: bool) -> None:
    """Talk with an app: TARGET is a lamella.toml or module:app, the file of this folder when left out.

    All registered tools are offered. A call that needs an approval is asked about in the terminal. With standard input from a
    pipe each line is a message, nothing is asked, and a call that needs an approval is denied.

    Exit codes: 0 done, 1 something failed or was denied (pipes only), 2 wrong usage, 130 stopped.
    """
    app, _ = app_of(target)
    try:
        app.default() if model is None else app.resolve_model(model)
        if session is not None:
            app.session(session)
    except LamellaError as error:
        raise Unusable(error.message) from error
    if hasattr(sys.stdin, 'reconfigure'):
        sys.stdin.reconfigure(errors='replace')
    view: View = JsonView() if as_json else TextView()
    is_person = sys.stdin.isatty()
    judge = _Person() if is_person else _Nobody()
    with _running(app) as runner:
        talk = Conversation(
            app, runner, view, judge, model=model, system=system, session=session, by=user_name() or 'chat'
        )
        if is_person:
            with suppress(EOFError):
                _terminal(talk)
            echo(err=True)
            return
        try:
            answered = [talk.ask(text) for text in _lines()]
        except KeyboardInterrupt:
            raise SystemExit(130) from None
    if not all(answered) or judge.denied:
        raise SystemExit(1)


@contextmanager
def _running(app: Lamella) -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        try:
            yield runner
        finally:
            runner.run(app.aclose())


def _lines() -> Iterator[str]:
    """Messages from a pipe: a line each, empty ones left out."""
    for line in sys.stdin:
        if text := line.strip():
            yield text


def _terminal(talk: Conversation) -> None:
    """Until Ctrl-D or /quit."""
    with suppress(ImportError):
        __import__('readline')  # arrows and history in `input`
    echo('Ctrl-D ends, Ctrl-C stops an answer, /help', err=True)
    while True:
        try:
            text = read('> ').strip()
            if text == '/quit':
                return
            if text.startswith('/') and not text.startswith('//'):
                _command(talk, text)
            elif text:
                talk.ask(text[1:] if text.startswith('//') else text)
        except KeyboardInterrupt:
            echo(err=True)


def _command(talk: Conversation, text: str) -> None:
    name, _, rest = text.partition(' ')
    try:
        if name == '/model' and rest.strip():
            talk.use_model(rest.strip())
            echo(f'from now on: {one_line(rest.strip())}', err=True)
        elif name == '/reset':
            talk.reset()
            echo('forgotten', err=True)
        elif name == '/help':
            echo(COMMANDS, err=True)
        else:
            echo(f'{one_line(name)} is no command that can be carried out; /help', err=True)
    except LamellaError as error:
        echo(problem_of(error), err=True)


def read(prompt: str) -> str:
    """A line from the terminal. The prompt goes to standard error when standard output is elsewhere."""
    if sys.stdout.isatty():
        return input(prompt)
    echo(prompt, nl=False, err=True)
    return input()


class _Nobody:
    """Answers for the person who is not there: no."""

    denied = False

    def __call__(self, call: ToolRequestPart) -> Verdict:
        self.denied = True
        name = one_line(call.tool_request.name)
        echo(f'{name} needs an approval and was denied: {NOBODY}', err=True)
        return Verdict('deny', NOBODY)


class _Person:
    """Asks whoever sits at the terminal. Ctrl-C is a no; Ctrl-D leaves, with nothing decided."""

    denied = False

    def __call__(self, call: ToolRequestPart) -> Verdict:
        request, note = call.tool_request, note_of(call)
        echo(click.style(f'{one_line(request.name)} wants to run', bold=True), err=True)
        if message := one_line(str(note.get('message') or '')):
            echo(f'  {message}', err=True)
        echo('\n'.join(f'  {line}' for line in whole(request.input).splitlines()), err=True)
        while True:
            try:
                verdict = _verdict(read(_QUESTION).strip())
            except KeyboardInterrupt:
                echo(err=True)
                return Verdict('deny', 'denied by the user')
            if verdict is not None:
                return verdict


def _verdict(said: str) -> Verdict | None:
    """What was typed, or `None` for nothing that can be understood. Whatever is unclear approves nothing."""
    word, _, rest = said.partition(' ')
    rest = rest.strip()
    match word.lower():
        case 'y' | 'yes' if not rest:
            return Verdict('approve')
        case 'n' | 'no':
            return Verdict('deny', rest or 'denied by the user')
        case 'e' | 'edit':
            text = rest or read('input as JSON: ')
            try:
                return Verdict('approve', edited=(json.loads(text),))
            except ValueError as error:
                echo(f'that is no JSON: {error}', err=True)
        case 'a' | 'answer':
            text = rest or read('the answer, as JSON or text: ')
            return Verdict('answer', _json_or_text(text))
    return None


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
