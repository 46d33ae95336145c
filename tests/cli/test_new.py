"""`lamella new layer`: what is written passes its own tests, and overwrites nothing."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from lamella.cli.commands import lamella
from lamella.cli.new import project

SRC = Path(__file__).resolve().parents[2] / 'src'


@pytest.mark.parametrize(
    ('name', 'short', 'kind'),
    [
        ('polite', 'polite', 'Polite'),
        ('PoliteAnswers', 'polite_answers', 'PoliteAnswers'),
        ('polite-answers', 'polite_answers', 'PoliteAnswers'),
        ('PIIGuard', 'pii_guard', 'PIIGuard'),
    ],
)
def test_the_names_follow_from_the_layers(tmp_path: Path, name: str, short: str, kind: str) -> None:
    result = CliRunner().invoke(lamella, ['new', 'layer', name, '--folder', str(tmp_path / 'x')])
    assert result.exit_code == 0, result.output
    declared = tomllib.loads((tmp_path / 'x' / 'pyproject.toml').read_text())
    assert declared['project']['entry-points']['lamella.middleware'] == {short: f'lamella_{short}:{kind}'}


def test_the_package_passes_its_own_tests_lint_and_types(tmp_path: Path) -> None:
    folder = tmp_path / 'made'
    assert CliRunner().invoke(lamella, ['new', 'layer', 'PoliteAnswers', '--folder', str(folder)]).exit_code == 0
    installed(folder)
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(folder / 'src'), str(SRC)])}

    def run(*command: str) -> None:
        done = subprocess.run(
            [sys.executable, '-m', *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run('pytest', '-q', '-p', 'no:cacheprovider')
    run('ruff', 'check', '--isolated', '--line-length', '120', '.')
    run('mypy', '--strict', 'src')


def installed(folder: Path) -> None:
    """What pip would write about the package, so that its entry point is found."""
    declared = tomllib.loads((folder / 'pyproject.toml').read_text())['project']
    info = folder / 'src' / f'{declared["name"].replace("-", "_")}-{declared["version"]}.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {declared["name"]}\nVersion: {declared["version"]}\n')
    points = declared['entry-points']['lamella.middleware'].items()
    (info / 'entry_points.txt').write_text(
        '[lamella.middleware]\n' + ''.join(f'{key} = {value}\n' for key, value in points)
    )


def test_nothing_that_exists_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / 'mine.txt').write_text('mine')
    result = CliRunner().invoke(lamella, ['new', 'layer', 'polite', '--folder', str(tmp_path)])
    assert result.exit_code == 2
    assert 'exists and is not empty' in result.output
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


@pytest.mark.parametrize('name', ['', '1x', 'a b', '../x', 'a__b', 'é', 'x' + '\n'])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(lamella, ['new', 'layer', name])
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_no_mark_is_left_over() -> None:
    assert [
        path for path, text in project('polite', 'Polite').items() if '@' in path + text.replace('@pytest', '')
    ] == []
