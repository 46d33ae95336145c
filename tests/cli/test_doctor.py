"""`lamella doctor`: what it tells of a file and of an app, and its exit codes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lamella.cli.commands import lamella
from lamella.simulator import Simulator

GOOD = """
model = 'fast'
store = 'sqlite:///state.db'
[plugins.openai]
api_key = 'key-of-a-test'
base_url = '${URL:-http://127.0.0.1:9/v1}'
[models.fast]
model = 'openai/gpt-5-mini'
chain = 'fixed'
[chains]
default = ['retry', { use = 'fallback', models = ['openai/gpt-5'] }]
fixed = [{ use = 'default_instructions', text = 'Be brief.' }]
other = [{ use = 'simulate_streaming' }]
"""
APP = """
from lamella import Lamella
from lamella.middleware import BaseMiddleware, Order
from lamella.testing import ScriptedModel

class Free(BaseMiddleware):
    pass

class Counter(BaseMiddleware):
    order = Order(better_outside={'free': 'each of its attempts is counted'})

class Guard(BaseMiddleware):
    order = Order(requires={'vault': 'it reads from it'})

ai = Lamella(model=ScriptedModel(['ok'], repeat=True), use=[Free(), Counter()])
guarded = Lamella(model=ScriptedModel(['ok']), use=[Guard()])
number = 3

def make():
    return ai
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def doctor(*arguments: str) -> Result:
    result = CliRunner().invoke(lamella, ['doctor', *arguments])
    assert 'Traceback' not in result.output
    return result


def test_a_good_file_is_drawn_and_the_code_is_0(folder: Path) -> None:
    (folder / 'lamella.toml').write_text(GOOD)
    result = doctor()
    assert result.exit_code == 0, result.output
    onion = result.output.partition('every call\n')[2]
    layers = [line.strip().partition('(')[0] for line in onion.splitlines()[:3]]
    assert layers == ['Retry', 'Fallback', 'DefaultInstructions']
    assert 'chain other' in result.output
    assert "SQLiteStore('state.db'" in result.output
    assert result.output.endswith('0 wrong, 0 doubtful\n')
    assert 'key-of-a-test' not in result.output


def test_online_reaches_for_everything(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / 'lamella.toml').write_text(GOOD)
    with Simulator().in_thread() as sim:
        monkeypatch.setenv('URL', f'{sim.base_url}/v1')
        result = doctor('--online')
        assert result.exit_code == 0, result.output
        assert len(sim.requests) == 1
        assert 'max_completion_tokens' in json.dumps(sim.requests[0].body, default=str)
    assert "store SQLiteStore('state.db'" in result.output
    assert '0 of 2 out of reach' in result.output


def test_online_says_what_is_out_of_reach(folder: Path) -> None:
    (folder / 'lamella.toml').write_text(GOOD.replace("['retry', {", '[{'))
    result = doctor('--online')
    assert result.exit_code == 1
    assert 'UNAVAILABLE' in result.output
    assert '1 of 2 out of reach' in result.output


def test_a_wrong_file_is_one_page_and_the_code_is_2(folder: Path) -> None:
    (folder / 'lamella.toml').write_text("stor = 1\n[chains]\ndefault = ['retri']")
    result = doctor()
    assert result.exit_code == 2
    assert 'lamella.toml: 2 problems' in result.output
    assert "did you mean 'retry'" in result.output


@pytest.mark.parametrize(
    ('target', 'problem'),
    [
        ((), 'no lamella.toml and no spine.toml here'),
        (('no.toml',), 'cannot be read'),
        (('nothing',), 'write module:name'),
        (('nomodule:ai',), "no module 'nomodule' here"),
        (('program:nothing',), "program has no 'nothing'"),
        (('program:number',), 'name a Lamella'),
        (('broken:ai',), 'importing broken failed: ZeroDivisionError'),
        (('needy:ai',), 'needs no_such_package, which is not installed'),
    ],
)
def test_a_target_that_is_none_says_why_and_the_code_is_2(folder: Path, target: tuple[str, ...], problem: str) -> None:
    (folder / 'program.py').write_text(APP)
    (folder / 'broken.py').write_text('1 / 0')
    (folder / 'needy.py').write_text('import no_such_package')
    result = doctor(*target)
    assert (result.exit_code, problem in result.output) == (2, True), result.output


@pytest.mark.parametrize('target', ['program:ai', 'program:make'])
def test_an_app_of_a_module_is_looked_at_and_doubtful_orders_are_explained(folder: Path, target: str) -> None:
    (folder / 'program.py').write_text(APP)
    result = doctor(target)
    assert result.exit_code == 0
    assert 'Counter (layer 2 of 2) should rather stand outside of Free (layer 1 of 2)' in result.output
    assert 'each of its attempts is counted' in result.output
    assert doctor(target, '--strict').exit_code == 1


def test_what_is_missing_makes_the_code_1(folder: Path) -> None:
    (folder / 'program.py').write_text(APP)
    result = doctor('program:guarded')
    assert result.exit_code == 1
    assert 'Guard (layer 1 of 1) needs vault in the same stack' in result.output


def test_a_fallback_to_an_unknown_model_is_found_before_an_outage(folder: Path) -> None:
    (folder / 'lamella.toml').write_text(GOOD.replace("models = ['openai/gpt-5']", "models = ['opneai/gpt-5']"))
    result = doctor()
    assert result.exit_code == 1
    assert "unknown model 'opneai/gpt-5': did you mean 'openai/gpt-5'" in result.output


def test_json_is_one_object(folder: Path) -> None:
    (folder / 'program.py').write_text(APP)
    told = json.loads(doctor('program:ai', '--json', '--online').output)
    assert (told['errors'], len(told['warnings'])) == ([], 1)
    assert [probe.get('error') for probe in told['probes']] == [None, None]


def test_a_spine_file_says_what_it_became(folder: Path) -> None:
    (folder / 'spine.toml').write_text('[spine]\ndefault_model = "openai:m"\n[spine.middleware]\nchain = ["Retry"]')
    result = doctor()
    assert result.exit_code == 0
    assert "chain entry 'Retry' → layer 'retry'" in result.output
