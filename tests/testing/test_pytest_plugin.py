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
WATCHED = """
import asyncio
import pytest
from lamella import Lamella
from lamella.middleware import BaseMiddleware
from lamella.testing import ScriptedModel
from lamella.types import LamellaError, TextDelta

class Late(BaseMiddleware):
    async def wrap_stream(self, params, ctx, next_fn):
        async for part in next_fn(params, ctx):
            yield part
        yield TextDelta('late')

async def read():
    ai = Lamella(model=ScriptedModel(['x']), use=[Late()])
    with pytest.raises(LamellaError):
        await ai.generate_stream(prompt='hi').response

@pytest.fixture(autouse=True)
def watched(lamella_stream_watch):
    pass

def test_breaks_a_rule():
    asyncio.run(read())

@pytest.mark.breaks_stream_rules
def test_breaks_a_rule_on_purpose():
    asyncio.run(read())

def test_keeps_the_rules():
    asyncio.run(Lamella(model=ScriptedModel(['x'])).generate(prompt='hi'))
"""


PLUGIN = 'lamella.testing.pytest_plugin'


def loading() -> list[str]:
    """An installed lamella brings the plugin with it; a bare checkout has to name it."""
    installed = any(entry.value == PLUGIN for entry in metadata.entry_points(group='pytest11'))
    return [] if installed else ['-p', PLUGIN]


def ran(directory: Path, test: str) -> str:
    """What a run of this test file prints."""
    (directory / 'test_user.py').write_text(test, encoding='utf-8')
    command = [sys.executable, '-m', 'pytest', '-q', '--strict-markers', *loading(), '-p', 'no:cacheprovider']
    env = {**os.environ, 'PYTHONPATH': str(Path(lamella.__file__).parents[1])}
    done = subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, check=False, timeout=120)
    return done.stdout + done.stderr


def passes(directory: Path, test: str) -> None:
    said = ran(directory, test)
    assert '1 passed' in said, said


def test_the_fixture_serves_with_the_options_of_the_user(tmp_path: Path) -> None:
    passes(tmp_path, USED)


def test_nothing_is_imported_until_the_fixture_is_used(tmp_path: Path) -> None:
    passes(tmp_path, UNUSED)


def test_without_aiohttp_the_fixture_names_the_command_that_installs_it(tmp_path: Path) -> None:
    passes(tmp_path, MISSING)


def test_a_watch_fails_the_tests_in_which_a_layer_breaks_a_rule(tmp_path: Path) -> None:
    said = ran(tmp_path, WATCHED)
    assert '3 passed, 1 error' in said, said
    assert 'ERROR test_user.py::test_breaks_a_rule - Failed' in said
    assert "Late(): part 4, TextDelta(text='late', index=0, metadata=None), breaks the rule 'finished-last'" in said
