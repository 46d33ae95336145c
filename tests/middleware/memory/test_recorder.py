"""`Recorder`: what is written of a run, when, and what never is."""

import asyncio
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import Lamella
from lamella.middleware import PIIRedaction, Recorder, Recording, Retry, wrap_language_model
from lamella.middleware._recording_codec import entry_of, line_of, plain, value_of
from lamella.testing import CollectingSink, FakeClock, ScriptedModel
from lamella.types import (
    ConfigError,
    Finished,
    LamellaError,
    MediaPart,
    Message,
    ModelRequest,
    ModelResponse,
    Raw,
    TextDelta,
    ToolError,
    ToolInputDelta,
    ToolRequest,
    ToolRequested,
    Usage,
)


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def look(city: str) -> str:
    """Look out of the window."""
    return f'sun in {city}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / 'runs.jsonl'


async def test_a_run_is_written_call_by_call_with_its_turns_and_its_end(file: Path) -> None:
    model = ScriptedModel([ToolRequest('look', {'city': 'Rome'}, 'c1'), 'sunny'])
    await Lamella(model=model).generate(prompt='weather?', tools=[look], use=[Recorder(file)])
    written = entries(file)
    assert [entry['type'] for entry in written] == [
        'run',
        'model',
        'answer',
        'tool',
        'output',
        'model',
        'answer',
        'end',
    ]
    assert [entry.get('turn') for entry in written if 'turn' in entry] == [1, 1, 2]
    assert [entry['n'] for entry in written if 'n' in entry] == [1, 1, 2, 2, 3, 3]
    assert (written[3]['tool'], written[3]['input'], written[4]['output']['output']) == (
        'look',
        {'city': 'Rome'},
        'sun in Rome',
    )
    assert written[0]['lamella_recording'] == 1
    assert value_of(written[-1]['response']).text == 'sunny'
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_request_holds_only_the_messages_that_are_new(file: Path) -> None:
    model = ScriptedModel([ToolRequest('look', {'city': 'Rome'}, f'c{n}') for n in range(20)] + ['done'])
    ai = Lamella(model=model)
    await ai.generate(prompt='weather?' * 1000, tools=[look], use=[Recorder(file)], max_turns=30)
    assert file.read_text().count('weather?' * 1000) == 3  # the run, its first request, its end
    (run,) = Recording.read(file).runs
    last = [call for call in run.calls if call.what == 'model'][-1]
    assert value_of(last.request['messages']) == list(model.requests[-1].messages)


async def test_each_part_of_a_stream_is_in_the_file_when_it_is_read(file: Path) -> None:
    model = ScriptedModel([[TextDelta('The river '), TextDelta('runs '), Finished('stop', Usage(1, 2, 3))]])
    stream = Lamella(model=model).generate_stream(prompt='hi', use=[Recorder(file)])
    seen = 0
    async for part in stream:
        if type(part) is TextDelta:
            seen += 1
            assert [e['part']['text'] for e in entries(file) if e['type'] == 'part' and 'text' in e['part']][
                -1
            ] == part.text
    assert seen == 2
    assert [entry['type'] for entry in entries(file)][-2:] == ['answer', 'end']


async def test_attempts_waits_and_failures_are_recorded(file: Path) -> None:
    model = ScriptedModel([LamellaError('UNAVAILABLE', 'down', retry_after_s=2, details={'http_status': 503}), 'up'])
    ai = Lamella(model=model, clock=FakeClock())
    await ai.generate(prompt='hi', use=[Retry(no_jitter=True), Recorder(file)])
    (run,) = Recording.read(file).runs
    failed, answered = run.calls
    error = failed.error()
    assert isinstance(error, LamellaError)
    assert (error.status, error.message, error.retry_after_s) == ('UNAVAILABLE', 'down', 2)
    assert error.details == {'http_status': 503}
    assert answered.answer().text == 'up'
    assert [wait for _, wait in run.waits] == [2.0]


async def test_a_stream_that_is_left_and_a_run_that_is_cancelled_say_so(file: Path) -> None:
    ai = Lamella(model=ScriptedModel([[TextDelta('one '), TextDelta('two ')]], repeat=True))
    async with ai.generate_stream(prompt='hi', use=[Recorder(file)]) as stream:
        async for part in stream:
            if type(part) is TextDelta:
                break
    assert [entry['type'] for entry in entries(file)] == ['run', 'model', 'part', 'left', 'end']

    hangs = asyncio.Event()

    async def hang() -> str:
        """Wait for ever."""
        hangs.set()
        await asyncio.Event().wait()
        return ''

    ai = Lamella(model=ScriptedModel([ToolRequest('hang', {}, 'c1')]))
    task = asyncio.create_task(ai.generate(prompt='hi', tools=[hang], use=[Recorder(file)]))
    await hangs.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [entry['type'] for entry in entries(file)][-2:] == ['left', 'end']
    assert entries(file)[-1]['left'] is True


SECRETS = ['sk-abcdefgh12345678', 'ghp_1234567890abcdefghij', 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.SflKxwRJSM']


@pytest.mark.parametrize('secret', SECRETS)
async def test_credentials_are_nowhere_in_the_file(file: Path, secret: str) -> None:
    def use(key: str, headers: dict[str, str]) -> dict[str, Any]:
        """Use a key."""
        if key == 'bad':
            raise ToolError(f'password={secret}x is wrong')
        return {'api_key': secret, 'nested': [{'password': 'hunter2hunter2'}], 'said': f'it is {secret}.'}

    script = [
        [ToolRequest('use', {'key': secret, 'headers': {'x-any': 'plain-header-value'}}, 'c1')],
        [ToolRequest('use', {'key': 'bad', 'headers': {}}, 'c2')],
        LamellaError('UNAUTHENTICATED', f'wrong key {secret}', details={'sent': f'Bearer {secret}'}),
    ]
    ai = Lamella(model=ScriptedModel(script))
    with pytest.raises(LamellaError):
        await ai.generate(
            prompt=f'my token is: {secret}' + ' word' * 5000 + f' and again {secret}',
            tools=[use],
            use=[Recorder(file, context=['tenant'])],
            provider_options={'scripted': {'api_key': 'plain-secret', 'extra_headers': {'x-one': 'header-secret'}}},
            context={'tenant': 'acme', 'user': 'never-recorded'},
        )
    text = file.read_text()
    for word in (secret, 'plain-secret', 'header-secret', 'plain-header-value', 'hunter2', 'never-recorded'):
        assert word not in text
    assert entries(file)[0]['context'] == {'tenant': 'acme'}
    assert '***' in text


@given(st.sampled_from(SECRETS), st.lists(st.integers(1, 60), max_size=8), st.sampled_from(['text', 'input']))
def test_a_credential_in_a_stream_is_masked_wherever_it_is_cut(secret: str, cuts: list[int], kind: str) -> None:
    text = f'say {secret} and password: "two words here" again'
    places = [0, *sorted({cut for cut in cuts if cut < len(text)}), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    parts: list[Any] = []
    for piece in pieces:
        parts += [TextDelta(piece) if kind == 'text' else ToolInputDelta(piece), Raw({'ping': 1})]
    parts += [] if kind == 'text' else [ToolRequested(ToolRequest('t', {}, 'r'))]

    async def run(file: Path) -> None:
        model = ScriptedModel([parts, 'end'])
        await Lamella(model=model).generate_stream(prompt='hi', use=[Recorder(file)], max_turns=1).response

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(file := Path(folder) / 'runs.jsonl'))
        written = [entry['part'] for entry in entries(file) if entry['type'] == 'part']
    said = ''.join(part.get('text', '') + part.get('delta', '') for part in written)
    assert said == 'say *** and password: *** again'
    assert len([part for part in written if part['$'] in ('TextDelta', 'ToolInputDelta')]) == len(pieces)


async def test_behind_a_redaction_nothing_private_is_recorded(file: Path) -> None:
    def mail(to: str) -> str:
        """Send."""
        assert to == 'ann@example.com'
        return 'sent to ann@example.com and bob@example.com'

    def asks(request: Any) -> ToolRequest:
        token = request.messages[-1].text.split()[-1]
        return ToolRequest('mail', {'to': token}, 'c1')

    ai = Lamella(model=ScriptedModel([asks, 'done']))
    await ai.generate(
        prompt='write to ann@example.com', tools=[mail], use=[PIIRedaction(mode='tokenize'), Recorder(file)]
    )
    assert 'example.com' not in file.read_text()


@pytest.mark.parametrize('path', ['/dev/full', '/proc/nowhere/x.jsonl', '/dev/null/x.jsonl', 'pipe'])
async def test_a_file_that_cannot_be_written_harms_no_call_and_is_told_once(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo('pipe')
    sink = CollectingSink()
    model = ScriptedModel([ToolRequest('look', {'city': 'Rome'}, 'c1'), 'sunny'])
    ai = Lamella(model=model, sinks=[sink])
    response = await ai.generate(prompt='hi', tools=[look], use=[Recorder(path)])
    assert response.text == 'sunny'
    (failed,) = sink.named('recorder.failed')
    assert isinstance(failed.facts['error'], OSError)


async def test_after_a_full_disk_the_next_run_is_recorded_again(file: Path) -> None:
    sink = CollectingSink()
    ai, layer = Lamella(model=ScriptedModel(['x' * 3000], repeat=True), sinks=[sink]), Recorder(file)
    await ai.generate(prompt='one', use=[layer])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 1500, limits[1]))
    try:
        assert (await ai.generate(prompt='two', use=[layer])).text == 'x' * 3000
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not file.read_bytes().endswith(b'\n')
    await ai.generate(prompt='three', use=[layer])
    assert [run.end is not None for run in Recording.read(file).runs] == [True, False, True]
    assert len(sink.named('recorder.failed')) == 1


async def test_a_value_that_cannot_be_written_ends_the_recording_of_the_run_alone(file: Path) -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    sink = CollectingSink()
    ai = Lamella(model=ScriptedModel([ModelResponse.text_of('hi', metadata={'x': deep}), 'next']), sinks=[sink])
    layer = Recorder(file)
    assert (await ai.generate(prompt='one', use=[layer])).text == 'hi'
    assert (await ai.generate(prompt='two', use=[layer])).text == 'next'
    assert len(sink.named('recorder.failed')) == 1
    one, two = Recording.read(file).runs
    assert (one.end, two.end is not None) == (None, True)


async def test_a_folder_gets_a_file_for_each_run(tmp_path: Path) -> None:
    ai = Lamella(model=ScriptedModel(['a', 'b']))
    layer = Recorder(f'{tmp_path}/new/')
    await ai.generate(prompt='1', use=[layer])
    await ai.generate(prompt='2', use=[layer])
    assert len(list((tmp_path / 'new').glob('run_*.jsonl'))) == 2
    assert len(Recording.read(tmp_path / 'new').runs) == 2


async def test_runs_at_once_share_a_file_and_tools_run_inside_of_them(file: Path) -> None:
    layer = Recorder(file)

    async def ask(question: str) -> str:
        """Ask another model."""
        return (await inner.generate(prompt=question)).text

    inner = Lamella(model=ScriptedModel(['inner'] * 10), use=[layer])

    def answer(request: ModelRequest) -> Any:
        return 'end' if request.messages[-1].role == 'tool' else ToolRequest('ask', {'question': 'q'})

    outer = Lamella(model=ScriptedModel([answer], repeat=True), use=[layer])
    await asyncio.gather(*(outer.generate(prompt=f'p{n}', tools=[ask]) for n in range(5)))
    runs = Recording.read(file).runs
    tops = [run for run in runs if run.parent is None]
    assert (len(runs), len(tops)) == (10, 5)
    assert {run.parent for run in runs if run.parent} == {run.id for run in tops}


async def test_a_recorder_that_is_fixed_on_a_model_records_its_calls(file: Path) -> None:
    model = wrap_language_model(model=ScriptedModel(['one']), middleware=[Recorder(file)])
    await Lamella(model=model).generate(prompt='hi')
    (run,) = Recording.read(file).runs
    assert run.calls[0].answer().text == 'one'


async def test_no_file_stays_open(file: Path) -> None:
    before = len(os.listdir('/proc/self/fd'))
    ai = Lamella(model=ScriptedModel(['x'], repeat=True))
    for _ in range(20):
        await ai.generate(prompt='hi', use=[Recorder(file)])
    assert len(os.listdir('/proc/self/fd')) == before


PROGRAM = """
import asyncio, sys
from lamella import Lamella
from lamella.middleware import Recorder
from lamella.testing import ScriptedModel
from lamella.types import TextDelta

async def parts(request):
    return [TextDelta(f'word{n} ') for n in range(200_000)]

async def main():
    ai = Lamella(model=ScriptedModel(['first', parts]))
    layer = Recorder(sys.argv[1])
    await ai.generate(prompt='one', use=[layer])
    async for part in ai.generate_stream(prompt='two', use=[layer]):
        print('part', flush=True)

asyncio.run(main())
"""


async def test_after_kill_9_the_file_is_good_up_to_there_and_others_go_on_in_it(file: Path) -> None:
    with subprocess.Popen([sys.executable, '-c', PROGRAM, str(file)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(50):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    one, two = Recording.read(file).runs
    assert (one.end is not None, two.end) == (True, None)
    assert len(two.calls[0].parts) >= 49
    with file.open('ab') as end:
        end.write(b'{"type":"part","run":"' + two.id.encode() + b'","n":1,"s":0.1,"pa')
    lines = len(file.read_bytes().splitlines())
    assert Recording.read(file).unfinished == (f'{file}:{lines}',)
    await Lamella(model=ScriptedModel(['third'])).generate(prompt='three', use=[Recorder(file)])
    assert [len(run.calls) for run in Recording.read(file).runs] == [1, 1, 1]


HEAD = '{"type":"run","lamella_recording":1,"run":"r","at":1.0,"model":"m/x","request":null}\n'
HOSTILE = {
    'empty': ('', 'has no runs'),
    'not json': ('hello\n', ':1: no JSON'),
    'a list': ('[1]\n', ':1: a list'),
    'other json': ('{"a":1}\n', ':1: an entry without type and run'),
    'other version': (HEAD.replace(':1,"run"', ':2,"run"'), ':1: a recording of version 2'),
    'twice': (HEAD + HEAD, ":2: a second run 'r'"),
    'unknown run': (HEAD + '{"type":"part","run":"x"}\n', ":2: an entry of run 'x'"),
    'unknown call': (HEAD + '{"type":"answer","run":"r","n":4,"s":1}\n', ':2: call 4, which has not begun'),
    'unknown kind': (HEAD + '{"type":"boom","run":"r"}\n', ":2: 'boom' is no kind of entry"),
    'unknown type': (
        HEAD
        + '{"type":"tool","run":"r","n":1,"turn":1,"s":0,"tool":"t"}\n'
        + '{"type":"output","run":"r","n":1,"s":0,"output":{"$":"os.system"}}\n',
        ":3: 'os.system' is no type of a recording",
    ),
    'wrong field': (
        HEAD + '{"type":"tool","run":"r","n":1,"turn":1,"s":0,"tool":"t"}\n'
        '{"type":"output","run":"r","n":1,"s":0,"output":{"$":"ToolResponse","name":5}}\n',
        ':3: ToolResponse: Expected `str`, got `int`',
    ),
    'wrong number': (HEAD + '{"type":"tool","run":"r","n":"1","turn":1,"s":0,"tool":"t"}\n', ":2: n is '1'"),
    'deep': (
        HEAD + '{"type":"end","run":"r","x":' + '[' * 100_000 + ']' * 100_000 + '}\n',
        ':2: no JSON (nested too deeply)',
    ),
    'broken in the middle': (HEAD + '{"type":"pa\n' + '{"type":"end","run":"r","s":1}\n', ':2: no JSON'),
    'binary': ('\x00\x01\x02', ':1: no JSON'),
    'error class': (
        HEAD + '{"type":"tool","run":"r","n":1,"turn":1,"s":0,"tool":"t"}\n'
        '{"type":"error","run":"r","n":1,"s":0,"error":{"class":"LamellaError","status":"BOOM","message":"x"}}\n',
        ":3: 'BOOM' is no status",
    ),
    'same of nothing': (
        HEAD + '{"type":"model","run":"r","n":1,"turn":1,"s":0,"model":"m","request":{"same":{"call":7,"first":2}}}\n',
        ':2: call 7, which has not begun',
    ),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_a_file_that_is_no_recording_is_refused_with_the_line(file: Path, name: str) -> None:
    text, said = HOSTILE[name]
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Recording.read(file)
    assert said in caught.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='cannot be read: No such file'):
        Recording.read(tmp_path / 'no.jsonl')


@pytest.mark.parametrize('path', ['', 5, b'x', 'a\0b'])
def test_a_path_that_is_none_is_refused(path: Any) -> None:
    with pytest.raises(ConfigError, match='path'):
        Recorder(path=path)


def test_a_setting_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match='path is given twice'):
        Recorder('a', path='b')


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(alphabet='ab $\n\ud800é', max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(['a', '$', '$x', '']), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values)
def test_any_json_value_is_read_back_as_it_was(value: Any) -> None:
    message = Message.user('x', MediaPart(data=b'\x00\xff', content_type='image/png'), metadata={'any': value})
    assert value_of(entry_of(line_of({'it': plain(message)}))['it']) == message
