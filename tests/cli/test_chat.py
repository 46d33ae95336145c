"""`lamella chat`, with real processes at pseudo-terminals and pipes."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamella.cli._screen import clean, concealed, whole
from lamella.simulator import Answer, Simulator, SimulatorThread
from tests.cli.terminal import LAMELLA, Terminal, environment, piped, terminal

APP = """
from lamella import Lamella
from lamella.middleware import Retry, ToolApproval
from lamella.plugins.openai import OpenAI

ai = Lamella(
    plugins=[OpenAI(api_key='k', base_url='{url}/v1')], model='openai/m',
    use=[ToolApproval(allowed_tools=['look'])],
)

@ai.tool()
def pay(amount: int) -> str:
    with open('paid.txt', 'a') as file:
        file.write(f'{{amount}};')
    return f'paid {{amount}} with sk-abcdefghijklmnop'

@ai.tool()
def look(city: str) -> str:
    return 'sun \\x1b]0;owned\\x07 ' * 40
"""
STREAMS = """
import asyncio
from lamella import Lamella
from lamella.types import Finished, LamellaError, Restarted, ResponseStarted, TextDelta, Usage

ai = Lamella()

@ai.model('hangs')
async def hangs(request, ctx):
    said = request.messages[-1].text
    yield ResponseStarted('hangs')
    yield TextDelta(f'heard {len(request.messages)}: {said}')
    if said == 'hang':
        await asyncio.Event().wait()
    if said == 'evil':
        for piece in '\\x1b[31', 'mred\\x07\\u202eback\\x9b2J\\r':
            yield TextDelta(piece)
    if said == 'again':
        yield Restarted('a\\nfallback')
        yield ResponseStarted('hangs')
        yield TextDelta('the second text')
    if said == 'crash':
        raise ValueError('a bug with sk-abcdefghijklmnop')
    if said == 'unicode':
        yield TextDelta(' \\u2713 \\u00fc')
    yield Finished('stop', Usage(1200, 5, 1205, cost_usd=0.00012))

ai.default_model = 'hangs'
"""
ANSWERS = [
    Answer(match='pay', tool='pay', input={'amount': 5}, text='It is paid.'),
    Answer(match='weather', tool='look', input={'city': 'Rome'}, text='It is sunny.'),
    Answer(match='hello', text=['Good ', 'morning.']),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'streams.py').write_text(STREAMS)
    return tmp_path


@pytest.fixture
def sim(folder: Path) -> Iterator[SimulatorThread]:
    with Simulator(answers=ANSWERS).in_thread() as sim:
        (folder / 'bank.py').write_text(APP.format(url=sim.base_url))
        yield sim


def paid() -> str:
    return Path('paid.txt').read_text() if Path('paid.txt').exists() else ''


def say(at: Terminal, text: str) -> None:
    at.until('> ')
    at.type(f'{text}\n')


# ── a terminal ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures('sim')
def test_a_conversation_with_tools_and_an_approval_in_colours() -> None:
    with terminal('chat', 'bank:ai') as at:
        say(at, 'hello')
        at.until('Good morning.\n')
        say(at, 'What is the weather?')
        told = at.until('It is sunny.\n')
        assert '→ look {"city":"Rome"}\n' in told
        assert '← look answered sun' in told
        say(at, 'please pay')
        asked = at.until('run it?')
        assert 'pay wants to run\n' in asked
        assert '"amount": 5\n' in asked
        at.type('perhaps\n')
        at.until('run it?')  # what is unclear approves nothing
        assert paid() == ''
        at.type('y\n')
        told = at.until('It is paid.\n')
        assert '← pay answered paid 5 with ***\n' in told
        at.until('> ')
        at.type('\x04')
        assert at.ended() == 0
    assert paid() == '5;'
    assert '\x1b[36m→ look' in at.shown
    assert 'owned\x07' not in at.shown
    assert '\x1b]' not in at.shown
    assert 'sk-abc' not in at.shown


@pytest.mark.usefixtures('sim')
@pytest.mark.parametrize(
    ('said', 'told', 'done'),
    [
        ('n too much', '← pay failed too much', ''),
        ('e {"amount": 3}', '← pay answered paid 3', '3;'),
        ('e {"amount": }', 'that is no JSON', ''),
        ('a I paid it myself', '← pay answered I paid it myself', ''),
        ('\x03', '← pay failed denied by the user', ''),
    ],
)
def test_a_call_is_denied_edited_or_answered_for(said: str, told: str, done: str) -> None:
    with terminal('chat', 'bank:ai') as at:
        say(at, 'please pay')
        at.until('[JSON or text]: ')
        at.type(f'{said}\n')  # Enter behind Ctrl-C too: what comes before `select` waits is noticed with the next line
        at.until(told)
        if 'no JSON' in told:
            at.until('[JSON or text]: ')
            at.type('\x04')  # Ctrl-D leaves, and nothing is decided
            assert at.ended() == 0
        else:
            at.until('> ')
    assert paid() == done


def test_ctrl_c_stops_the_answer_and_not_the_program() -> None:
    with terminal('chat', 'streams:ai') as at:
        say(at, 'one')
        at.until('heard 1: one\n')
        say(at, 'hang')
        at.until('heard 3: hang')
        at.type('\x03')
        at.until('stopped; this message is forgotten\n')
        at.until('> ')
        at.type('half a line\x03\n')
        say(at, 'two')
        at.until('heard 3: two\n')  # one, its answer, two
        say(at, '/reset')
        at.until('forgotten')
        say(at, '/nonsense')
        at.until('/nonsense is no command that can be carried out')
        say(at, '/model nobody/knows')
        at.until('unknown')
        say(at, '/model hangs')
        at.until('from now on: hangs')
        say(at, '/help')
        at.until('/quit')
        say(at, '//three')
        at.until('heard 1: /three\n')
        say(at, '/quit')
        assert at.ended() == 0


def test_a_failure_is_one_line_and_the_conversation_goes_on_without_it() -> None:
    with terminal('chat', 'streams:ai') as at:
        say(at, 'crash')
        told = at.until('failed: ') + at.until('\n')
        assert '***' in told
        say(at, 'one')
        at.until('heard 1: one\n')


@pytest.mark.parametrize(('columns', 'extra'), [(20, {}), (80, {'NO_COLOR': '1'}), (80, {'TERM': 'dumb'})])
@pytest.mark.usefixtures('sim')
def test_narrow_and_colourless_terminals(columns: int, extra: dict[str, str]) -> None:
    with terminal('chat', 'bank:ai', columns=columns, extra=extra) as at:
        say(at, 'What is the weather?')
        told = at.until('It is sunny.\n')
        at.until('> ')
        at.type('/quit\n')
        assert at.ended() == 0
    tools = [line for line in told.splitlines() if line.startswith(('→', '←'))]
    assert len(tools) == 2
    assert all(len(line) <= max(columns, 32) for line in tools)
    assert ('\x1b[36m' in at.shown) == (not extra)


def test_what_commands_a_terminal_never_reaches_it() -> None:
    with terminal('chat', 'streams:ai') as at:
        say(at, 'evil')
        at.until('[31mredback2J\n')
        say(at, 'again')
        told = at.until('the second text\n')
    assert 'heard 3: again\n↻ what is above is void, the answer begins again: a fallback\nthe second text' in told
    assert '\x1b[31m' not in at.shown
    assert not {'\x07', '\x9b', '\u202e'} & set(at.shown)


# ── pipes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures('sim')
def test_through_a_pipe_each_line_is_a_message_and_nothing_is_approved() -> None:
    done = piped('chat', 'bank:ai', input='hello\n\nplease pay\n/quit hello\n')
    assert done.stdout.decode() == 'Good morning.\nIt is paid.\nGood morning.\n'
    said = done.stderr.decode()
    assert 'pay needs an approval and was denied: nobody was there to approve it\n' in said
    assert '> ' not in done.stdout.decode() + said
    assert (done.returncode, paid()) == (1, '')
    assert piped('chat', 'bank:ai', input='hello').returncode == 0


def test_a_failed_line_does_not_keep_the_others_from_their_answers() -> None:
    done = piped('chat', 'streams:ai', input='one\ncrash\ntwo\n')
    assert done.returncode == 1
    assert done.stdout.decode() == 'heard 1: one\nheard 3: crash\nheard 3: two\n'
    (failed,) = [line for line in done.stderr.decode().splitlines() if line.startswith('failed: ')]
    assert 'a bug with ***' in failed


def test_ctrl_c_ends_a_pipe_with_code_130() -> None:
    command = [*LAMELLA, 'chat', 'streams:ai']
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'hang\ntwo\n')
        process.stdin.flush()
        assert process.stdout.read(len('heard 1: hang')) == b'heard 1: hang'
        process.send_signal(signal.SIGINT)
        told, said = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, b'\n')
    assert said == b'stopped; this message is forgotten\n'


@pytest.mark.usefixtures('sim')
def test_json_is_one_object_for_every_event() -> None:
    done = piped('chat', 'bank:ai', '--json', input='What is the weather?\nplease pay\n')
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [event['type'] for event in events if event['type'] != 'text']
    assert kinds == [
        'tool_call', 'tool_result', 'end', 'tool_call', 'end', 'interrupt', 'tool_result', 'end',
    ]  # fmt: skip
    first = [event for event in events if event['message_number'] == 1]
    assert ''.join(event['text'] for event in first if event['type'] == 'text') == 'It is sunny.'
    end = first[-1]
    assert (end['stop_reason'], end['text'], end['model']) == ('final', 'It is sunny.', 'openai/m')
    assert end['usage']['output_tokens'] > 0
    asked = next(event for event in events if event['type'] == 'interrupt')
    assert (asked['name'], asked['input']) == ('pay', {'amount': 5})
    assert done.returncode == 1
    assert b'\x1b' not in done.stdout


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1', 'utf-8'])
def test_letters_that_a_terminal_does_not_have_are_numbers(encoding: str) -> None:
    extra = {'PYTHONIOENCODING': encoding, 'PYTHONUTF8': '0'}
    done = piped('chat', 'streams:ai', input=b'unicode\nagain\n\xff\xfe\n', extra=extra)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode(encoding)
    assert ('\\u2713' in shown) == (encoding != 'utf-8')
    assert ('** what is above' in shown) == (encoding != 'utf-8')
    assert b'\x1b' not in done.stdout


def test_a_session_goes_on_in_another_process() -> None:
    Path('streams.py').write_text(STREAMS.replace('Lamella()', "Lamella(store='sqlite:///state.db')"))
    arguments = ('chat', 'streams:ai', '--session', 'ann', '--system', 'Be kind.')
    assert piped(*arguments, input='one\n').stdout.decode() == 'heard 2: one\n'
    assert piped(*arguments, input='two\n').stdout.decode() == 'heard 4: two\n'


def test_a_system_message_is_there_once() -> None:
    done = piped('chat', 'streams:ai', '--system', 'Be kind.', input='one\ntwo\n')
    assert done.stdout.decode() == 'heard 2: one\nheard 4: two\n'


@pytest.mark.usefixtures('sim')
def test_a_call_that_waits_in_a_session_is_asked_about_before_anything_else(folder: Path) -> None:
    text = (
        (folder / 'bank.py').read_text().replace("model='openai/m',", "model='openai/m', store='sqlite:///state.db',")
    )
    (folder / 'bank.py').write_text(text)
    with terminal('chat', 'bank:ai', '--session', 'ann') as at:
        say(at, 'please pay')
        at.until('[JSON or text]: ')
        at.type('\x04')
        assert at.ended() == 0
    with terminal('chat', 'bank:ai', '--session', 'ann') as at:
        say(at, 'hello')
        at.until('pay wants to run')
        at.until('[JSON or text]: ')
        (waiting,) = [json.loads(line) for line in piped('approvals', 'bank:ai', 'list', '--json').stdout.splitlines()]
        assert piped('approvals', 'bank:ai', 'deny', waiting['id'], '--reason', 'no', '--by', 'eve').returncode == 0
        at.type('y\n')  # too late: it was decided elsewhere, and that counts
        assert 'already denied by eve' in at.until('← pay failed no\n')
        at.until('Good morning.\n')
    assert paid() == ''


@pytest.mark.usefixtures('sim')
@pytest.mark.parametrize(('said', 'verb'), [('y', 'approve'), ('n', 'deny'), ('a later', 'answer')])
def test_a_kept_call_is_decided_in_the_store_under_the_login_name(folder: Path, said: str, verb: str) -> None:
    text = (
        (folder / 'bank.py').read_text().replace("model='openai/m',", "model='openai/m', store='sqlite:///state.db',")
    )
    (folder / 'bank.py').write_text(text.replace("allowed_tools=['look']", 'durable=True'))
    with terminal('chat', 'bank:ai', '--json', extra={'LOGNAME': 'carla'}) as at:
        say(at, 'please pay')
        at.until('"type": "interrupt"')
        id = re.findall(r'run_[0-9a-f]{32}\.1', at.until('}\n'))[0]
        at.until('[JSON or text]: ')
        at.type(f'{said}\n')
        at.until('It is paid.')
    (record,) = [json.loads(line) for line in piped('approvals', 'bank:ai', 'show', id, '--json').stdout.splitlines()]
    assert (record['state'], record['decision']['kind'], record['decision']['by']) == ('done', verb, 'carla')
    assert paid() == ('5;' if verb == 'approve' else '')


def test_the_file_of_this_folder_is_the_app_when_none_is_named(sim: SimulatorThread) -> None:
    plugin = f"model = 'openai/m'\n[plugins.openai]\napi_key = 'k'\nbase_url = '{sim.base_url}/v1'\n"
    Path('lamella.toml').write_text(plugin)
    assert piped('chat', input='hello').stdout.decode() == 'Good morning.\n'


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (('nowhere:ai',), 'there is no module'),
        ((), 'no lamella.toml'),
        (('streams:ai', '--model', 'nobody'), 'unknown model'),
        (('streams:ai', '--session', ''), 'session'),
    ],
)
def test_what_cannot_begin_is_said_with_code_2(arguments: tuple[str, ...], said: str) -> None:
    done = piped('chat', *arguments)
    assert done.returncode == 2
    assert said in done.stderr.decode()


# ── what is shown ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_text_is_cleaned_character_by_character() -> None:
    assert clean('a\x1b[2Jb\x00\x9b\r\n\tc\u202e\u2028d\u200dé✓\ud800') == 'a[2Jb\n\tc\nd\u200dé✓'


def test_credentials_are_concealed_by_their_looks_and_by_their_names() -> None:
    given = {
        'api_key': 'plain words',
        'n': 3,
        'list': ['sk-abcdefghijkl', 'x'],
        'in': {'password': 'p', 'city': 'Rome'},
    }
    told = {'api_key': '***', 'n': 3, 'list': ['***', 'x'], 'in': {'password': '***', 'city': 'Rome'}}
    assert concealed(given) == told
    assert concealed('word ' * 2000 + 'sk-abcdefghijkl').endswith('word ***')


def test_who_decides_sees_the_whole_input_or_that_something_is_left_out() -> None:
    assert whole({'to': 'a\u202eb\x1b'}) == '{\n  "to": "a\\u202eb\\u001b"\n}'
    assert whole('x ' * 3000).endswith('characters more')
