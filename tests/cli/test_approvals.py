"""`lamella approvals` over a store that several processes share."""

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from lamella import Lamella
from lamella.cli.commands import lamella
from lamella.engine.approvals.desk import desk_of
from lamella.simulator import Answer, Simulator
from tests.cli.terminal import environment, piped

APP = """
import asyncio, sys
from lamella import Lamella
from lamella.middleware import ToolApproval
from lamella.plugins.openai import OpenAI

ai = Lamella(
    plugins=[OpenAI(api_key='k', base_url='{url}/v1')], model='openai/m', store='sqlite:///state.db',
    use=[ToolApproval(durable=True)],
)

@ai.tool()
def pay(amount: int, api_key: str = '') -> str:
    with open('paid.txt', 'a') as file:
        file.write(f'{{amount}};')
    return f'paid {{amount}}\\x1b[2J'

if __name__ == '__main__':
    response = ai.run_main(ai.generate(prompt='please pay', tools=['pay']))
    assert response.stop_reason == 'interrupted'
    print(response.interrupts[0].metadata['interrupt']['id'])
"""
CALL = {'amount': 5, 'api_key': 'a secret'}
ID = re.compile(r'run_[0-9a-f]{32}\.1')


def module() -> str:
    """One for each test, since programs are imported once."""
    return f'bank_{Path.cwd().name}'


def written(url: str) -> None:
    sys.modules.pop(module(), None)
    importlib.invalidate_caches()
    Path(f'{module()}.py').write_text(APP.format(url=url))


@pytest.fixture(autouse=True)
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    rule = Answer(match='pay', tool='pay', input=CALL, text='It is \x1b[31mpaid.')
    with Simulator(answers=[rule]).in_thread() as sim:
        written(sim.base_url)
        yield sim.base_url


def waiting() -> str:
    """Another process asks, is interrupted, and is over."""
    done = subprocess.run(
        [sys.executable, f'{module()}.py'], capture_output=True, text=True, env=environment(), timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def approvals(*arguments: str, input: str = '') -> tuple[int, str, str]:
    done = CliRunner().invoke(lamella, ['approvals', f'{module()}:ai', *arguments], input=input)
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert '\x1b' not in done.output
    return done.exit_code, done.stdout, done.stderr


def in_a_process(*arguments: str) -> tuple[int, str, str]:
    done = piped('approvals', f'{module()}:ai', *arguments)
    assert b'\x1b' not in done.stdout + done.stderr
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def paid() -> str:
    return Path('paid.txt').read_text() if Path('paid.txt').exists() else ''


def test_a_call_is_listed_shown_approved_and_carried_out_by_other_processes() -> None:
    id = waiting()
    assert ID.fullmatch(id)
    code, listed, _ = approvals('list')
    assert code == 0
    assert listed.startswith(f'{id}  pending')
    assert 'pay {"amount":5' in listed
    assert 'a secret' not in listed
    _, shown, _ = approvals('show', id)
    assert re.search(r'^state +pending$', shown, re.MULTILINE)
    assert '"amount": 5,' in shown
    assert '"api_key": "***"' in shown
    assert paid() == ''
    code, told, said = in_a_process('approve', id, '--by', 'ann', '--resume')
    assert (code, told) == (0, 'It is [31mpaid.\n')
    assert f'{id} is approved by ann at 20' in said
    assert paid() == '5;'
    record = json.loads(approvals('show', id, '--json')[1])
    assert (record['state'], record['decision']['by'], record['input']['api_key']) == ('done', 'ann', '***')
    assert approvals('list')[1] == ''


def test_of_two_decisions_the_first_counts_and_the_second_is_told_by_whom_and_when() -> None:
    id = waiting()
    assert approvals('deny', id, '--reason', 'too much', '--by', 'ann')[0] == 0
    for late in (('approve', id), ('edit', id, '--input', '{"amount": 1}'), ('deny', id, '--reason', 'x')):
        code, told, said = approvals(*late, '--by', 'bob')
        assert (code, told) == (1, '')
        assert re.search(rf'{id} was already denied by ann at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d', said)
    code, told, _ = approvals('resume', id)
    assert (code, told) == (0, 'It is [31mpaid.\n')  # what the model says; nothing was
    assert paid() == ''
    code, _, said = approvals('resume', id)
    assert (code, 'has gone on already' in said) == (1, True)


def test_an_edited_call_runs_with_its_new_input() -> None:
    id = waiting()
    for wrong in ('{broken', 'words'):
        code, _, said = approvals('edit', id, '--input', wrong)
        assert (code, '--input is no JSON' in said) == (2, True)
    code, told, _ = approvals('edit', id, '--input', '-', '--resume', '--json', input='{"amount": 3}')
    assert code == 0
    record, answer = [json.loads(line) for line in told.splitlines()]
    assert record['decision']['edited'] == [{'amount': 3}]
    assert (answer['stop_reason'], answer['usage']['output_tokens'] > 0) == ('final', True)
    assert paid() == '3;'


def test_what_has_expired_is_told_with_its_time() -> None:
    id = waiting()
    ai: Lamella = importlib.import_module(module()).ai
    key = desk_of(ai).key('call', id)
    ai.run_main(ai.resolve_store(None).delete(key))  # what the store does when the time is over
    code, _, said = approvals('approve', id)
    assert code == 1
    assert re.search(rf'{id} expired at 20\d\d-\d\d-\d\d', said)
    assert re.search(r'^state +expired$', approvals('show', id)[1], re.MULTILINE)


def test_without_a_name_the_login_name_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('LOGNAME', 'carla')
    id = waiting()
    assert f'{id} is approved by carla' in approvals('approve', id)[1]


def test_a_run_that_fails_leaves_the_decision_as_it_is() -> None:
    id = waiting()
    written('http://127.0.0.1:9')
    code, _, said = approvals('approve', id, '--by', 'ann', '--resume')
    assert (code, 'the decision is made, but the run did not go on' in said) == (1, True)
    assert json.loads(approvals('show', id, '--json')[1])['decision']['by'] == 'ann'


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (('show', 'run_x'), "no approval 'run_x'"),
        (('approve', f'run_{"0" * 32}.1'), 'no approval'),
        (('approve',), "Missing argument 'ID'"),
        (('deny', f'run_{"0" * 32}.1'), "Missing option '--reason'"),
        (('list', '--state', 'odd'), 'odd'),
        (('lst',), 'lst'),
    ],
)
def test_wrong_usage_has_code_2(arguments: tuple[str, ...], said: str) -> None:
    code, told, err = approvals(*arguments)
    assert (code, told) == (2, '')
    assert said in err


def test_a_word_alone_is_neither_command_nor_app() -> None:
    done = CliRunner().invoke(lamella, ['approvals', 'lst'])
    assert done.exit_code == 2
    assert "'lst' is no command" in done.stderr


def test_an_app_without_a_store_has_nothing_that_could_wait(tmp_path: Path) -> None:
    (tmp_path / 'lamella.toml').write_text("model = 'openai/m'\n[plugins.openai]\napi_key = 'k'\n")
    done = CliRunner().invoke(lamella, ['approvals', 'list'])
    assert done.exit_code == 2
    assert 'this app has no store' in done.stderr
