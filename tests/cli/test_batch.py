"""`lamella batch`: a result for every line and none twice, whatever stops it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lamella.cli import _batch_file
from lamella.cli._batch_file import Results, lines_of
from lamella.cli.commands import lamella
from lamella.simulator import Fault, Simulator
from lamella.types import ConfigError

CONFIG = """
model = 'openai/m'
[plugins.openai]
api_key = 'k'
base_url = '{url}/v1'
[prices.'openai/*']
input_per_mtok = 1
output_per_mtok = 2
[chains]
default = ['cost_tracking', { use = 'retry', max_retries = 5, initial_delay_ms = 1 }]
named = [{ use = 'default_instructions', text = 'of the chain' }]
"""
PROGRAM = "import sys; sys.argv = ['lamella', *sys.argv[1:]]; from lamella.cli.main import main; main()"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(folder: Path, sim: Simulator) -> None:
    (folder / 'lamella.toml').write_text(CONFIG.replace('{url}', sim.base_url))


def prompts(folder: Path, *lines: Any) -> None:
    (folder / 'p.jsonl').write_text(
        ''.join(f'{line if isinstance(line, str) else json.dumps(line)}\n' for line in lines)
    )


def batch(*arguments: str, input: str | None = None) -> Result:
    result = CliRunner().invoke(lamella, ['batch', *arguments], input=input)
    assert 'Traceback' not in result.output
    return result


def told(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_line_has_its_result_also_when_it_fails(folder: Path) -> None:
    with Simulator(faults=[Fault('status', status=400, model='bad', message='no such thing')]).in_thread() as sim:
        configured(folder, sim)
        prompts(
            folder,
            'a plain text',
            {'id': 'a', 'prompt': 'an object'},
            {'id': 7, 'messages': [{'role': 'user', 'content': 'a conversation'}], 'system': 'be kind'},
            '',
            {'id': 'b', 'prompt': 'x', 'model': 'openai/bad'},
            {'promt': 'x'},
            '{broken',
            [1],
            {'prompt': 3},
            {'prompt': 'give me', 'output_schema': {'type': 'object', 'properties': {'n': {'type': 'integer'}}}},
            {'prompt': 'x', 'model': 'nobody/knows'},
        )
        result = batch('p.jsonl', '-o', 'o.jsonl')
    assert result.exit_code == 1
    found = {each['line']: each for each in told(folder / 'o.jsonl')}
    assert sorted(found) == [1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert [found[n]['ok'] for n in sorted(found)] == [True, True, True, False, False, False, False, False, True, False]
    assert 'a plain text' in found[1]['text']
    assert (found[2]['id'], found[3]['id'], found[5]['id']) == ('a', 7, 'b')
    assert found[5]['error']['status'] == 'INVALID_ARGUMENT'
    assert 'no such thing' in found[5]['error']['message']
    assert found[6]['error']['message'] == "unknown key 'promt': did you mean 'prompt'?"
    assert found[7]['error']['message'] == 'the line is no JSON'
    assert found[8]['error']['message'].startswith('the line is a list')
    assert isinstance(found[10]['output'], dict)
    assert 'unknown model' in found[11]['error']['message']
    assert '4 answered, 6 failed' in result.output


def test_what_is_done_is_not_asked_again_and_cost_counts_once(folder: Path) -> None:
    with Simulator().in_thread() as sim:
        configured(folder, sim)
        prompts(folder, *[f'question {n}' for n in range(20)])
        first = batch('p.jsonl', '-o', 'o.jsonl')
        asked = len(sim.requests)
        again = batch('p.jsonl', '-o', 'o.jsonl')
        assert (asked, len(sim.requests)) == (20, 20)
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert '0 answered, 0 failed, 20 from before' in again.output
    assert first.output.rpartition('$')[2] == again.output.rpartition('$')[2]


def test_a_last_line_that_was_cut_off_is_asked_again(folder: Path) -> None:
    with Simulator().in_thread() as sim:
        configured(folder, sim)
        prompts(folder, 'one', 'two', 'three')
        batch('p.jsonl', '-o', 'o.jsonl', '--concurrency', '1')
        whole = (folder / 'o.jsonl').read_bytes()
        for cut in (1, 20, len(whole.splitlines()[-1])):
            (folder / 'o.jsonl').write_bytes(whole[:-cut])
            assert batch('p.jsonl', '-o', 'o.jsonl').exit_code == 0
            assert sorted(each['line'] for each in told(folder / 'o.jsonl')) == [1, 2, 3]
        assert len(sim.requests) == 6


def test_failed_lines_are_asked_again_when_wanted(folder: Path) -> None:
    with Simulator(faults=[Fault('status', status=400, times=2)]).in_thread() as sim:
        configured(folder, sim)
        prompts(folder, *[f'question {n}' for n in range(6)])
        assert batch('p.jsonl', '-o', 'o.jsonl').exit_code == 1
        assert batch('p.jsonl', '-o', 'o.jsonl').exit_code == 0
        assert len(sim.requests) == 6
        assert batch('p.jsonl', '-o', 'o.jsonl', '--retry-failed').exit_code == 0
        assert len(sim.requests) == 8
    found = told(folder / 'o.jsonl')
    assert sorted(each['line'] for each in found) == [1, 2, 3, 4, 5, 6]
    assert all(each['ok'] for each in found)


def test_prompts_that_changed_are_refused(folder: Path) -> None:
    with Simulator().in_thread() as sim:
        configured(folder, sim)
        prompts(folder, 'one', 'two')
        batch('p.jsonl', '-o', 'o.jsonl')
        prompts(folder, 'one', 'TWO')
        result = batch('p.jsonl', '-o', 'o.jsonl')
    assert result.exit_code == 2
    assert 'line 2 of the prompts is not what it was' in result.output


def test_pipes_and_what_the_options_say(folder: Path) -> None:
    with Simulator().in_thread() as sim:
        configured(folder, sim)
        options = ('-', '-o', '-', '--model', 'openai/other', '--system', 'be kind', '--chain', 'named', '--quiet')
        result = batch(*options, input='"one"\n{"prompt": "two", "model": "openai/third"}\n')
        models = Counter(request.model for request in sim.requests)
        bodies = repr([request.body for request in sim.requests])
    assert result.exit_code == 0
    assert sorted(json.loads(line)['line'] for line in result.stdout.splitlines()) == [1, 2]
    assert models == {'other': 1, 'third': 1}
    assert 'be kind' in bodies
    assert result.stderr == ''


@pytest.mark.parametrize(
    ('arguments', 'problem'),
    [
        (('no.jsonl', '-o', 'o.jsonl'), 'no.jsonl cannot be read: No such file'),
        (('p.jsonl', '-o', 'no/o.jsonl'), 'no/o.jsonl cannot be written'),
        (('p.jsonl', '-o', 'p.jsonl'), 'p.jsonl is no output of a batch (at byte 0)'),
        (('p.jsonl', '-o', 'o.jsonl', '--model', 'opneai/m'), "unknown model 'opneai/m': did you mean 'openai/m'"),
        (('p.jsonl', '-o', 'o.jsonl', '--chain', 'nmaed'), "unknown chain 'nmaed': did you mean 'named'"),
        (('p.jsonl', '-o', 'o.jsonl', '--context', '3'), 'give a JSON object'),
        (('p.jsonl', '-o', 'o.jsonl', '--concurrency', '0'), 'concurrency'),
        (('p.jsonl',), "Missing option '-o'"),
    ],
)
def test_wrong_usage_is_one_message_and_the_code_is_2(folder: Path, arguments: tuple[str, ...], problem: str) -> None:
    with Simulator().in_thread() as sim:
        configured(folder, sim)
        prompts(folder, 'one')
        result = batch(*arguments)
        assert not sim.requests
    assert (result.exit_code, problem in result.output) == (2, True), result.output


def test_an_output_has_one_writer(folder: Path) -> None:
    with Results.opened('o.jsonl'), pytest.raises(ConfigError, match='is in use'):
        Results.opened('o.jsonl')
    with Results.opened('o.jsonl'):
        pass


def test_a_line_without_end_is_refused_and_not_read_into_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_batch_file, 'MAX_LINE', 100)
    (folder / 'p.jsonl').write_text('"short"\n"' + 'x' * 500 + '"\n')
    with pytest.raises(ConfigError, match='line 2 has more than'):
        list(lines_of(folder / 'p.jsonl'))


@pytest.mark.slow
def test_lines_killed_three_times_have_one_result_each(folder: Path) -> None:
    """`benchmarks/batch.py` does the same with 10,000 lines."""
    lines, concurrency = 2_000, 32
    prompts(folder, *[{'id': n, 'prompt': f'question {n}'} for n in range(lines)])
    with Simulator(faults=[Fault('status', status=503, every=7), Fault('cut', every=50)]).in_thread() as sim:
        configured(folder, sim)
        command = [
            sys.executable,
            '-c',
            PROGRAM,
            'batch',
            'p.jsonl',
            '-o',
            'o.jsonl',
            '--concurrency',
            str(concurrency),
        ]
        for part in (0.1, 0.3, 0.7):
            running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            wait_for(folder / 'o.jsonl', int(lines * part), running)
            os.kill(running.pid, signal.SIGKILL)
            running.wait()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        answered = [request for request in sim.requests if request.status == 200 and 'cut' not in request.faults]
        assert done.returncode == 0, done.stderr
    found = told(folder / 'o.jsonl')
    assert Counter(each['line'] for each in found) == dict.fromkeys(range(1, lines + 1), 1)
    assert all(each['ok'] and each['text'].endswith(f'question {each["id"]}') for each in found)
    costs = [each['usage']['cost_usd'] for each in found]
    assert f'${sum(costs):.6f}' in done.stderr
    assert (
        len(answered) <= lines + 3 * concurrency
    )  # what was under way at a kill may have been paid: no more than that


def wait_for(path: Path, count: int, running: subprocess.Popen[bytes]) -> None:
    """Until the file has that many lines."""
    until = time.monotonic() + 120
    while time.monotonic() < until and running.poll() is None:
        if path.exists() and path.read_bytes().count(b'\n') >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f'not {count} lines: exit code {running.poll()}')


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='needs Linux to tell its peak of memory')
def test_memory_does_not_grow_with_the_lines(folder: Path) -> None:
    program = (
        'import atexit, re, sys; sys.argv = ["lamella", *sys.argv[1:]]\n'
        'peak = lambda: re.search("VmHWM:[^0-9]*([0-9]+)", open("/proc/self/status").read())[1]\n'
        'atexit.register(lambda: print(peak(), file=sys.stderr))\n'
        'from lamella.cli.main import main; main()'
    )
    peaks = []
    with Simulator().in_thread() as sim:
        configured(folder, sim)
        for n, lines in enumerate((100, 1500)):
            prompts(folder, *[{'prompt': f'{i} ' + 'x' * 2000} for i in range(lines)])
            command = [sys.executable, '-c', program, 'batch', 'p.jsonl', '-o', f'{n}.jsonl', '--quiet']
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            peaks.append(int(done.stderr.split()[-1]))
    assert peaks[1] - peaks[0] < 4_000, peaks  # KiB: 1,400 lines of 4 kB, question and answer, would be 5,600
