"""The fixtures, in a pytest run of a user."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import lamella

USED = """
import json, urllib.request
import pytest

@pytest.fixture
def lamella_simulator_options():
    return {'api_keys': ['right']}

def test_synchronous(lamella_simulator):
    body = json.dumps({'model': 'm', 'messages': [{'role': 'user', 'content': 'hi'}]}).encode()
    url = f'{lamella_simulator.base_url}/v1/chat/completions'
    request = urllib.request.Request(url, body, {'authorization': 'Bearer right'})
    with urllib.request.urlopen(request, timeout=30) as response:
        assert response.headers['x-simulator'] == 'lamella'
    assert lamella_simulator.requests[0].model == 'm'
"""
UNUSED = """
import sys

def test_nothing():
    assert 'aiohttp' not in sys.modules
"""
MISSING = """
import sys
import pytest

def test_missing(request, monkeypatch):
    monkeypatch.setitem(sys.modules, 'aiohttp', None)
    for name in [name for name in sys.modules if name.startswith('lamella.simulator')]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lamella\\[sim\\]'"):
        request.getfixturevalue('lamella_simulator')
"""


PLUGIN = 'lamella.testing.pytest_plugin'


def loading() -> list[str]:
    """An installed lamella brings the plugin with it; a bare checkout has to name it."""
    installed = any(entry.value == PLUGIN for entry in metadata.entry_points(group='pytest11'))
    return [] if installed else ['-p', PLUGIN]


def passes(directory: Path, test: str) -> None:
    (directory / 'test_user.py').write_text(test, encoding='utf-8')
    command = [sys.executable, '-m', 'pytest', '-q', *loading(), '-p', 'no:cacheprovider']
    env = {**os.environ, 'PYTHONPATH': str(Path(lamella.__file__).parents[1])}
    done = subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert '1 passed' in done.stdout, done.stdout + done.stderr


def test_the_fixture_serves_with_the_options_of_the_user(tmp_path: Path) -> None:
    passes(tmp_path, USED)


def test_nothing_is_imported_until_the_fixture_is_used(tmp_path: Path) -> None:
    passes(tmp_path, UNUSED)


def test_without_aiohttp_the_fixture_names_the_command_that_installs_it(tmp_path: Path) -> None:
    passes(tmp_path, MISSING)
