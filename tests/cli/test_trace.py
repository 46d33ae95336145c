"""`lamella trace`: lists, trees, and runs as they end."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lamella import Lamella
from lamella.cli.commands import lamella
from lamella.engine.traces import TraceReader, TraceStore
from lamella.middleware import CostTracking, Retry
from lamella.testing import ScriptedModel
from lamella.types import Finished, LamellaError, TextDelta, ToolRequest, Usage

PROGRAM = "import sys; sys.argv = ['lamella', *sys.argv[1:]]; from lamella.cli.main import main; main()"


def look(city: str) -> str:
    return f'sun in {city}'


@pytest.fixture
async def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    store = TraceStore('traces.db', capture_content=True)
    script = [
        LamellaError('UNAVAILABLE', 'down'),
        [ToolRequest('look', {'city': 'Rome'}, 'c1'), Finished('tool_calls', Usage(1, 2, 3))],
        [TextDelta('sunny'), Finished('stop', Usage(10, 5, 15))],
        LamellaError('INVALID_ARGUMENT', 'no good'),
    ]
    layers = [CostTracking(input_per_mtok=1, output_per_mtok=2), Retry(initial_delay_ms=0)]
    ai = Lamella(model=ScriptedModel(script), sinks=[store], use=layers)
    await ai.generate(prompt='weather?', tools=[look])
    with pytest.raises(LamellaError):
        await ai.generate(prompt='x')
    store.close()
    return tmp_path / 'traces.db'


def trace(*arguments: str) -> Result:
    result = CliRunner().invoke(lamella, ['trace', *arguments])
    assert 'Traceback' not in result.output
    return result


@pytest.mark.usefixtures('file')
async def test_runs_are_listed_the_latest_first() -> None:
    shown = trace('list').output.splitlines()
    assert len(shown) == 2
    assert 'failed' in shown[0]
    assert 'INVALID_ARGUMENT: no good' in shown[0]
    assert '2 turns' in shown[1]
    assert '11+7 tokens' in shown[1]
    assert '$0.000025' in shown[1]
    assert [
        json.loads(line)['status'] for line in trace('list', '--json', '--status', 'final').output.splitlines()
    ] == ['final']
    assert len(trace('list', '--limit', '1').output.splitlines()) == 1


async def test_a_run_is_shown_as_a_tree(file: Path) -> None:
    with TraceReader(file) as reader:
        run = reader.runs(status='final')[0].id
    shown = trace('show', run[-8:]).output
    lines = [line.strip('│├└─ ') for line in shown.splitlines()[1:]]
    assert [' '.join(line.split()[:2]) for line in lines if not line.startswith(('cost', 'prices'))] == [
        'turn 0',
        'model scripted/model',
        'retry.wait attempt=1',
        'model scripted/model',
        'tool look',
        'turn 1',
        'model scripted/model',
    ]
    assert 'UNAVAILABLE: down' in shown
    assert 'weather?' not in shown
    content = trace('show', run, '--content').output
    assert 'weather?' in content
    assert 'Rome' in content
    tree = json.loads(trace('show', run, '--json').output)['tree']
    assert [span['name'] for span in tree['inside']] == ['0', '1']


async def test_what_models_wrote_cannot_command_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = TraceStore('traces.db', capture_content=True)
    hostile = '\x1b]0;owned\x07\x1b[2Jdone\u202e'
    script = [[ToolRequest('look', {'city': hostile}, hostile)], hostile, LamellaError('INVALID_ARGUMENT', hostile)]
    ai = Lamella(model=ScriptedModel(script, name=f'v/{hostile}'), sinks=[store])
    await ai.generate(prompt=hostile, tools=[look])
    with pytest.raises(LamellaError):
        await ai.generate(prompt=hostile)
    store.close()
    with TraceReader('traces.db') as reader:
        ids = [run.id for run in reader.runs()]
    for told in [trace('list'), *(trace('show', run, '--content') for run in ids)]:
        assert 'done' in told.output
        assert not {'\x1b', '\x07', '\u202e'} & set(told.output)


@pytest.mark.usefixtures('file')
async def test_what_is_not_there_is_said_and_the_code_is_2() -> None:
    missing = trace('show', 'run_nobody')
    assert (missing.exit_code, "unknown run 'run_nobody'" in missing.output) == (2, True)
    nowhere = trace('list', '--file', 'no.db')
    assert (nowhere.exit_code, 'no trace file no.db' in nowhere.output) == (2, True)


async def test_runs_are_followed_as_they_end(file: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, '-u', '-c', PROGRAM, 'trace', 'follow', '--count', '2', '--json'],
        stdout=subprocess.PIPE,
        text=True,
    )
    store = TraceStore(file)
    ai = Lamella(model=ScriptedModel(['x'], repeat=True), sinks=[store])
    for _ in range(1_000):
        await ai.generate(prompt='x')
        assert store.flush()
        if running.poll() is not None:
            break
        await asyncio.sleep(0.05)  # another process looks twice a second
    running.kill()
    told = running.communicate()[0].splitlines()
    store.close()
    assert running.returncode == 0
    assert [json.loads(line)['status'] for line in told] == ['final', 'final']


@pytest.mark.usefixtures('file')
@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'utf-8'])
async def test_a_terminal_without_these_letters_gets_plain_ones(encoding: str) -> None:
    environment = {**os.environ, 'PYTHONIOENCODING': encoding, 'NO_COLOR': '1', 'COLUMNS': '20'}
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM, 'trace', 'show'], capture_output=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode(encoding)
    assert ('└─ ' in shown) == (encoding == 'utf-8')
    assert ('`- ' in shown) == (encoding != 'utf-8')
    assert '\x1b[' not in shown
