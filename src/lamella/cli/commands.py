"""The commands, each loaded when it is called: the start of one does not pay for the others."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass

import click


@dataclass(frozen=True)
class Lazy:
    """A command's place (`module:name`), its line in the help, and the extra that has what it needs."""

    place: str
    help: str
    extra: str


COMMANDS = {
    'approvals': Lazy(
        'lamella.cli.approvals:approvals', 'Look at the calls that wait for an approval, and decide on them.', 'cli'
    ),
    'batch': Lazy(
        'lamella.cli.batch:batch', 'Answer a file of prompts, line by line; goes on where it was stopped.', 'cli'
    ),
    'chat': Lazy('lamella.cli.chat:chat', 'Talk with an app: streaming, with tools and approvals.', 'cli'),
    'doctor': Lazy(
        'lamella.cli.doctor:doctor', 'Check a configuration or an app: names, settings, the order of layers.', 'cli'
    ),
    'new': Lazy('lamella.cli.new:new', 'Begin a package with a layer of your own.', 'cli'),
    'replay': Lazy(
        'lamella.cli.replay:replay', 'Look at recordings of runs, and run them again without network.', 'cli'
    ),
    'run': Lazy('lamella.cli.run:run', 'Run a flow with an input.', 'cli'),
    'sim': Lazy('lamella.cli.sim:sim', 'Run the simulator: a local provider with faults on a schedule.', 'sim'),
    'trace': Lazy('lamella.cli.trace:trace', 'Look at the runs that a trace file keeps.', 'cli'),
    'version': Lazy('lamella.cli.commands:version', 'Print the version.', 'cli'),
}


class Commands(click.Group):
    """A group whose help and choice of commands come from the table, without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = COMMANDS.get(cmd_name)
        return None if lazy is None else load(cmd_name, lazy)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section('Commands'):
            formatter.write_dl([(name, COMMANDS[name].help) for name in self.list_commands(ctx)])


def load(name: str, lazy: Lazy) -> click.Command:
    """Raises ClickException when an optional package is missing, with the command that installs it."""
    module, _, attribute = lazy.place.partition(':')
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if (error.name or '').partition('.')[0] == 'lamella':
            raise
        needed = f"`lamella {name}` needs {error.name}: pip install 'lamella[{lazy.extra}]'"
        raise click.ClickException(needed) from error
    if not isinstance(found, click.Command):
        raise TypeError(f'{lazy.place} is {found!r}: a command must be a click command')
    return found


@click.group(cls=Commands, context_settings={'help_option_names': ['-h', '--help']})
def lamella() -> None:
    """Thin layers around every model call and every tool call."""
    if os.environ.get('NO_COLOR') or os.environ.get('TERM') == 'dumb':
        click.get_current_context().color = False


@click.command()
def version() -> None:
    """Print the version."""
    click.echo(installed_version())


def installed_version() -> str:
    metadata = importlib.import_module('importlib.metadata')  # a tenth of the start, and only two commands need it
    try:
        found: str = metadata.version('lamella')
    except metadata.PackageNotFoundError:
        return 'unknown (not installed as a package)'
    return found
