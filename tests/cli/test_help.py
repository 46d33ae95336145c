"""What `--help` shows is what docs/cli.md describes: commands, arguments, options and their defaults, both ways."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from lamella.cli.commands import COMMANDS, load

PAGE = (Path(__file__).parents[2] / 'docs' / 'cli.md').read_text(encoding='utf-8')
ROW = re.compile(r'^\| (.+?) \| (.*?) ?\| (.+) \|$')
CODE = re.compile(r'`([^`]+)`')


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and subcommand by its full name."""
    waiting = [(name, load(name, lazy)) for name, lazy in COMMANDS.items()]
    while waiting:
        name, command = waiting.pop()
        yield name, command
        if isinstance(command, click.Group):
            waiting += [(f'{name} {below}', each) for below, each in command.commands.items()]


def helped() -> dict[str, dict[str, tuple[str, ...]]]:
    """By command: each parameter's first spelling, with all of them."""
    return {name: {shown[0]: shown for shown in map(spellings, command.params)} for name, command in commands()}


def spellings(parameter: click.Parameter) -> tuple[str, ...]:
    return (
        tuple(parameter.opts)
        if isinstance(parameter, click.Option)
        else (parameter.metavar or (parameter.name or '').upper(),)
    )


def described() -> dict[str, dict[str, tuple[tuple[str, ...], str]]]:
    """By command: each row of its table on the page, the spellings with the default."""
    found: dict[str, dict[str, tuple[tuple[str, ...], str]]] = {}
    rows = None
    for line in PAGE.splitlines():
        if head := re.match(r'\| `lamella ([a-z ]+)` \| default \|', line):
            assert head[1] not in found, f'two tables for lamella {head[1]}'
            rows = found[head[1]] = {}
        elif rows is not None and (row := ROW.match(line)) and row[1].startswith('`'):
            names = tuple(CODE.findall(row[1]))
            rows[names[0]] = names, row[2]
        elif not line.startswith('|'):
            rows = None
    return found


def test_every_command_is_in_the_first_table_and_nothing_else() -> None:
    listed = re.findall(r'^\| `lamella ([a-z]+)', PAGE.split('\n## ')[0], re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


def test_every_subcommand_is_named_in_the_first_table() -> None:
    first = PAGE.split('\n## ')[0]
    for name, command in commands():
        if isinstance(command, click.Group):
            line = next(line for line in first.splitlines() if line.startswith(f'| `lamella {name}'))
            assert [below for below in command.commands if not re.search(rf'\b{below}\b', line)] == []


def test_every_parameter_is_described_and_none_that_is_not_there() -> None:
    told = {name: {first: names for first, (names, _) in rows.items()} for name, rows in described().items()}
    assert told == {name: parameters for name, parameters in helped().items() if parameters}


@pytest.mark.parametrize(('name', 'command'), sorted(commands(), key=lambda each: each[0]))
def test_defaults_are_those_of_the_help(name: str, command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.show_default:
            assert described()[name][parameter.opts[0]][1] == str(parameter.default)


@pytest.mark.parametrize(('name', 'command'), sorted(commands(), key=lambda each: each[0]))
def test_the_help_of_every_command_says_what_each_of_its_parameters_is(name: str, command: click.Command) -> None:
    shown = command.get_help(click.Context(command, info_name=f'lamella {name}'))
    for parameter in command.params:
        assert all(spelling in shown for spelling in spellings(parameter))
        assert not isinstance(parameter, click.Option) or parameter.help
