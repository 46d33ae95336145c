"""`lamella replay`: what a recording holds, and whether an app still does the same."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lamella import Lamella
from lamella.cli.commands import lamella
from lamella.middleware import Recorder, Recording, Retry
from lamella.testing import FakeClock, ScriptedModel
from lamella.types import LamellaError, ToolRequest

APP = """
from lamella import Lamella
from lamella.middleware import DefaultInstructions, Retry
from lamella.testing import ScriptedModel
from lamella.types import LamellaError

def never(request):
    raise AssertionError('asked')

model = ScriptedModel([never], repeat=True)
app = Lamella(model=model, use=[Retry(no_jitter=True)])
other = Lamella(model=model, use=[Retry(no_jitter=True), DefaultInstructions(text='Be brief.')])
lost = Lamella(model=ScriptedModel([never], name='x/y'))
"""


def look(city: str) -> str:
    """Look out of the window."""
    return f'sun in {city}'


def replay(*arguments: str) -> Result:
    result = CliRunner().invoke(lamella, ['replay', *arguments])
    assert 'Traceback' not in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs: one with a tool and a retry, one that failed, and one as a stream."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    name = f'app_{tmp_path.name.replace("-", "_")}'
    (tmp_path / f'{name}.py').write_text(APP)
    script = [
        LamellaError('UNAVAILABLE', 'down'),
        ToolRequest('look', {'city': 'Rome'}, 'c1'),
        'sunny',
        LamellaError('INVALID_ARGUMENT', 'no good'),
        'streamed',
    ]
    asyncio.run(recorded(Lamella(model=ScriptedModel(script), clock=FakeClock())))
    return tmp_path / f'{name}.py'


async def recorded(ai: Lamella) -> None:
    use = [Retry(no_jitter=True), Recorder('runs.jsonl')]
    await ai.generate(prompt='weather?', tools=[look], use=use)
    with pytest.raises(LamellaError):
        await ai.generate(prompt='x', use=use)
    await ai.generate_stream(prompt='y', use=use).response


@pytest.mark.usefixtures('file')
def test_the_runs_are_shown_with_their_calls() -> None:
    result = replay('show', 'runs.jsonl')
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert [line.split()[3] for line in lines if not line.startswith(' ')] == ['final', 'failed', 'final']
    assert 'call 1 (turn 1, model scripted/model)' in lines[1]
    assert 'UNAVAILABLE: down' in lines[1]
    assert 'look({"city": "Rome"})' in lines[2]
    assert 'call 3 (turn 1, tool look)' in lines[3]
    assert '{"city": "Rome"} -> "sun in Rome"' in lines[3]
    assert '"sunny"' in lines[4]
    assert lines[5].startswith('  waited 1 s')
    assert 'user: weather?' in replay('show', 'runs.jsonl', '--content').output


@pytest.mark.usefixtures('file')
def test_the_runs_are_shown_as_objects() -> None:
    shown = [json.loads(line) for line in replay('show', 'runs.jsonl', '--json').output.splitlines()]
    assert [run['status'] for run in shown] == ['final', 'failed', 'final']
    assert [call['outcome'] for call in shown[0]['calls']] == ['error', 'answer', 'output', 'answer']


def test_an_app_that_does_the_same_is_equal(file: Path) -> None:
    result = replay('run', 'runs.jsonl', f'{file.stem}:app')
    assert result.output.count('  equal') == 3
    assert result.exit_code == 0


def test_an_app_that_does_something_else_departs(file: Path) -> None:
    result = replay('run', 'runs.jsonl', f'{file.stem}:other', '--json')
    told = [json.loads(line) for line in result.output.splitlines()]
    assert [run['equal'] for run in told] == [False, False, False]
    assert 'messages[0].role was "user" and is "system"' in told[0]['departure']
    assert result.exit_code == 1


def test_one_run_is_chosen_by_a_piece_of_its_id(file: Path) -> None:
    run = Recording.read('runs.jsonl').runs[0]
    result = replay('run', 'runs.jsonl', f'{file.stem}:app', '--run', run.id[-6:])
    assert result.output.split() == [run.id, 'equal']
    assert replay('show', 'runs.jsonl', '--run', 'nope').exit_code == 2


def test_what_cannot_be_found_out_is_exit_code_2(file: Path) -> None:
    assert replay('run', 'no.jsonl', f'{file.stem}:app').exit_code == 2
    assert replay('run', 'runs.jsonl', f'{file.stem}:nothing').exit_code == 2
    lost = replay('run', 'runs.jsonl', f'{file.stem}:lost')
    assert (lost.exit_code, "unknown model 'scripted/model'" in lost.output) == (2, True)
    Path('broken.jsonl').write_text('hello\n')
    broken = replay('show', 'broken.jsonl')
    assert (broken.exit_code, 'broken.jsonl:1: no JSON' in broken.output) == (2, True)


@pytest.mark.usefixtures('file')
def test_a_file_that_breaks_off_is_shown_up_to_there() -> None:
    text = Path('runs.jsonl').read_bytes()
    Path('cut.jsonl').write_bytes(text[: text.index(b'"type":"output"') + 30])
    result = replay('show', 'cut.jsonl')
    assert result.exit_code == 0
    assert 'broken off' in result.output
    assert '(under way when the recording ended)' in result.output
    assert 'the file breaks off in the middle of a line' in result.output
