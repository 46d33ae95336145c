"""The commands, and that none pays for another."""

import subprocess
import sys
from importlib import metadata

import click
import pytest
from click.testing import CliRunner

import lamella as package
from lamella.cli.commands import COMMANDS, Lazy, installed_version, lamella, load


def test_help_lists_every_command_with_its_line() -> None:
    shown = ' '.join(CliRunner().invoke(lamella, ['--help']).output.split())
    for name, lazy in COMMANDS.items():
        assert name in shown
        assert lazy.help in shown


@pytest.mark.parametrize('name', sorted(COMMANDS))
def test_every_command_loads_and_its_help_begins_as_the_table_says(name: str) -> None:
    command = load(name, COMMANDS[name])
    assert isinstance(command, click.Command)
    assert CliRunner().invoke(lamella, [name, '--help']).exit_code == 0


def test_version_prints_the_version() -> None:
    assert CliRunner().invoke(lamella, ['version']).output.strip() == installed_version()


def test_the_version_is_the_installed_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, 'version', lambda name: f'{name} 9')
    assert installed_version() == 'lamella 9'


def test_an_unknown_command_is_an_error_that_names_it() -> None:
    result = CliRunner().invoke(lamella, ['simm'])
    assert result.exit_code == 2
    assert 'simm' in result.output


def test_a_missing_package_is_told_with_the_command_that_installs_it() -> None:
    with pytest.raises(click.ClickException, match=r"`lamella x` needs no_such_package: pip install 'lamella\[sim\]'"):
        load('x', Lazy('no_such_package.part:x', '', 'sim'))


def test_a_missing_module_of_our_own_is_no_missing_package() -> None:
    with pytest.raises(ModuleNotFoundError, match=r'lamella\.nothing'):
        load('x', Lazy('lamella.nothing:x', '', 'sim'))


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=False, timeout=60)


def test_help_and_version_load_neither_a_server_nor_the_engine() -> None:
    program = (
        "import sys, lamella.cli.commands as m; m.lamella(['{}'], standalone_mode=False); "
        "print({{'aiohttp', 'pydantic', 'lamella.engine', 'lamella.types'}} & set(sys.modules))"
    )
    for command in ('--help', 'version'):
        assert run(program.format(command)).stdout.splitlines()[-1] == 'set()'


def test_every_public_name_is_loaded_from_where_it_lives_when_it_is_first_used() -> None:
    program = (
        'import lamella; print([name for name in lamella.__all__ if getattr(lamella, name) is None], '
        'set(lamella.__all__) <= set(dir(lamella)))'
    )
    done = run(program)
    assert (done.stdout, done.stderr) == ('[] True\n', '')
    assert set(package._PLACES) == set(package.__all__)
    assert run('import lamella; print(lamella.types.Message is lamella.Message)').stdout == 'True\n'
    assert "has no attribute 'Lamela'" in run('import lamella; lamella.Lamela').stderr
