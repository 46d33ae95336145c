"""`lamella sim` as a program."""

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lamella.cli.sim import line_of
from lamella.simulator import ReceivedRequest

LAMELLA = [sys.executable, '-c', 'from lamella.cli.main import main; main()']
BODY = json.dumps({'model': 'm', 'messages': [{'role': 'user', 'content': 'Bees fly.'}]}).encode()


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program and the first line it printed."""
    command = [*LAMELLA, 'sim', '--port', '0', *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def ask(base_url: str, key: str = 'k') -> int:
    headers = {'content-type': 'application/json', 'authorization': f'Bearer {key}'}
    request = urllib.request.Request(f'{base_url}/v1/chat/completions', BODY, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            status: int = response.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    return status


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_the_first_line_is_the_base_url_and_a_signal_stops_it_cleanly(number: signal.Signals) -> None:
    with running('--log') as (process, base_url):
        assert re.fullmatch(r'http://127\.0\.0\.1:\d+', base_url)
        assert ask(base_url) == 200
        process.send_signal(number)
        printed, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert printed == ''
    assert said == 'POST /v1/chat/completions m #1 200\n'


def test_a_script_and_keys_are_used(tmp_path: Path) -> None:
    script = tmp_path / 'faults.toml'
    script.write_text('[[faults]]\nkind = "status"\nstatus = 503\ntimes = 1\n', encoding='utf-8')
    with running('--script', str(script), '--api-key', 'right', '--seed', '3') as (_, base_url):
        assert [ask(base_url, key) for key in ('wrong', 'right', 'right')] == [401, 503, 200]


def test_a_script_with_mistakes_is_refused_with_all_of_them(tmp_path: Path) -> None:
    script = tmp_path / 'faults.toml'
    script.write_text('[[faults]]\nkind = "cutt"\ntimess = 1\n', encoding='utf-8')
    done = subprocess.run(
        [*LAMELLA, 'sim', '--script', str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ''
    assert "did you mean 'cut'" in done.stderr
    assert "did you mean 'times'" in done.stderr
    assert 'Traceback' not in done.stderr


def test_a_taken_port_is_told_in_one_line() -> None:
    with running() as (_, base_url):
        port = base_url.rpartition(':')[2]
        done = subprocess.run(
            [*LAMELLA, 'sim', '--port', port], capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert 'Choose another port' in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_line_of_the_log_says_what_became_of_a_request() -> None:
    record = ReceivedRequest('POST', '/v1/chat/completions?key=secret', {})
    assert line_of(record) == 'POST /v1/chat/completions no answer'
    record.model, record.number, record.status, record.stream, record.parts_sent = 'm', 3, 200, True, 12
    record.faults = ('stall_middle', 'slow')
    record.disconnected.set()
    wanted = 'POST /v1/chat/completions m #3 200 stream, 12 parts, stall_middle, slow, client left'
    assert line_of(record) == wanted
