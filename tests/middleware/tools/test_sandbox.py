"""`Sandbox`: what a tool is given and what it gives back, which tools can run there, and what the app is told."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
from datetime import date
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.core.tools import Tool, ToolContext
from lamella.middleware import Filesystem, Idempotency, PIIRedaction, Sandbox
from lamella.middleware._sandbox_linux import may_become_others
from lamella.middleware._sandbox_plan import WALLS, machine_problem
from lamella.middleware._sandbox_walls import found
from lamella.types import ConfigError, LamellaError, MediaPart, Rejected, ToolRequest
from tests.middleware.kit import HeldClock, both, no_leaks, world
from tests.middleware.tools import sandboxed, sandboxed_heavy, sandboxed_typed
from tests.middleware.tools.boxes import PRIVATE, Box, becomes_somebody_else, built
from tests.middleware.tools.calls import call, refused, said

# ── what goes in and what comes out ─────────────────────────────────────────────────────────────────────────────────


async def test_a_tool_runs_in_a_process_of_its_own(any_box: Box) -> None:
    box = any_box()
    assert await said(box, 'add', tools=[sandboxed.add], a=1, b=2) == 3
    first, second = [await said(box, 'surroundings', tools=[sandboxed.surroundings]) for _ in range(2)]
    assert first['pid'] != os.getpid()
    assert first['environment']['MARK'] == second['environment']['MARK']


@pytest.mark.parametrize(
    ('tool', 'given', 'output'),
    [
        (sandboxed.add, {'a': 1}, 2),
        (sandboxed_heavy.add_later, {'a': 1, 'b': 2}, 3),
        (sandboxed.fixed, {'a': 2}, 42),
        (sandboxed.Counter(40).count, {'by': 2}, 42),
        (sandboxed_typed.order, {'day': '2026-11-20', 'count': 1}, {'day': '2026-11-20', 'count': 2}),
        (sandboxed_typed.paint, {'colour': 'red', 'on': '2026-11-20'}, f'Colour red {date(2026, 11, 20)!r}'),
        (sandboxed_typed.picture, {}, MediaPart(data=b'\x89PNG', content_type='image/png', name='cat.png')),
        (Tool('whole', run=sandboxed.whole), {'a': [1]}, {'given': {'a': [1]}}),
    ],
    ids=lambda value: getattr(value, '__name__', None),
)
async def test_a_sandboxed_tool_answers_as_it_does_without(limits: Box, tool: Any, given: Any, output: Any) -> None:
    if isinstance(tool, partial):
        tool = Tool('fixed', run=tool, input_schema={'type': 'object'}, spread=True)
    name = tool.name if isinstance(tool, Tool) else tool.__name__
    assert await said([], name, tools=[tool], **given) == output
    assert await said(limits(), name, tools=[tool], **given) == output


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=8)
@given(st.lists(json_values, max_size=5))
def test_any_json_value_goes_in_and_comes_out(values: list[Any]) -> None:
    box = Sandbox(walls=[])
    assert asyncio.run(said(box, 'echo', tools=[sandboxed.echo], value=values)) == values


async def test_wrong_input_is_told_before_anything_starts(limits: Box) -> None:
    called = await call(limits(), 'add', tools=[sandboxed.add], a='one')
    assert 'invalid input for add: a: Input should be a valid integer' in called.output
    assert called.facts('sandbox.started') == []


async def test_what_a_tool_prints_goes_to_the_listeners_and_not_to_the_model(any_box: Box) -> None:
    called = await call(any_box(), 'talkative', tools=[sandboxed.talkative], text='hello')
    assert called.output == 'said'
    (ended,) = called.facts('sandbox.ended')
    assert sorted(ended['printed'].split('\n')) == ['', 'hello', 'hello', 'straight to the handle']


async def test_other_tools_stay_in_this_process(limits: Box) -> None:
    box = limits(tools=['add', 'huge*'])
    assert await said(box, 'surroundings', tools=[sandboxed.add, sandboxed.surroundings]) != {}
    assert (await said(box, 'surroundings', tools=[sandboxed.surroundings]))['pid'] == os.getpid()
    called = await call(box, 'huge', tools=[sandboxed.huge], size=2)
    assert (called.output, len(called.facts('sandbox.started'))) == ('xx', 1)


# ── what can be seen from inside ────────────────────────────────────────────────────────────────────────────────────


async def test_a_tool_sees_nothing_of_the_environment(any_box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('OPENAI_API_KEY', 'sk-secret')
    seen = await said(any_box(environment={'GIVEN': 'yes'}), 'surroundings', tools=[sandboxed.surroundings])
    names = set(seen['environment']) - {'PWD', 'LC_CTYPE'}
    assert names == {
        'GIVEN', 'HOME', 'LANG', 'MARK', 'MKL_NUM_THREADS', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'PATH', 'TMPDIR'
    }  # fmt: skip
    assert seen['environment']['GIVEN'] == 'yes'
    assert len(seen['handles']) == 5  # the standard three, the answer, and the listing itself


async def test_behind_walls_there_is_a_world_of_its_own(private: Box) -> None:
    seen = await said(private(), 'surroundings', tools=[sandboxed.surroundings])
    assert seen['cwd'] == '/tmp'
    assert max(int(name) for name in seen['processes'] if name.isdigit()) < 10
    assert {'home', 'var', 'opt', 'srv', 'mnt', 'boot', 'sys', 'run', 'old', 'oldroot'} & set(seen['root']) == set()
    assert {'passwd', 'shadow', 'hosts', 'hostname'} & set(seen['etc']) == set()


async def test_landlock_hides_what_lies_in_the_worlds_directories() -> None:
    for landlock in built('landlock'):
        seen = await said(landlock(), 'surroundings', tools=[sandboxed.surroundings])
        assert (seen['root'], seen['etc'], seen['processes']) == (None, None, None)


async def test_root_is_somebody_else_inside(any_box: Box) -> None:
    seen = [await said(any_box(), 'surroundings', tools=[sandboxed.surroundings]) for _ in range(2)]
    if (any_box.kind in PRIVATE and not may_become_others(with_mounts=True)) or not becomes_somebody_else():
        assert all(one['uid'] in (os.geteuid(), 65534) for one in seen)
    else:
        assert min(one['uid'] for one in seen) >= 1 << 30
        assert seen[0]['uid'] != seen[1]['uid']


async def test_the_private_tmp_can_be_used_and_goes_with_the_call(private: Box) -> None:
    assert await said(private(), 'scratch', tools=[sandboxed.scratch], size=100_000) == 100_000
    assert (
        await said(
            private(),
            'shell',
            tools=[sandboxed_heavy.shell],
            command='test ! -e /tmp/notes && cd /dev/shm && echo x > y && cat y',
        )
        == 'x\n'
    )


@pytest.mark.parametrize('kind', ['landlock', 'limits'])
async def test_without_a_root_of_its_own_it_works_in_a_directory_that_goes_with_the_call(kind: str) -> None:
    for box in built(kind):
        seen = await said(box(), 'surroundings', tools=[sandboxed.surroundings])
        assert await said(box(), 'scratch', tools=[sandboxed.scratch], size=100_000) == 100_000
        assert 'sandbox-' in seen['cwd']
        assert not os.path.exists(seen['cwd'])
        assert await said(
            box(),
            'tries',
            tools=[sandboxed_heavy.tries],
            name='shell',
            inputs=[{'command': 'mkdir d; echo x > d/f; rm -r d; ls'}],
        ) == ['']


async def test_programs_of_the_system_can_be_run(box: Box) -> None:
    text = await said(
        box(), 'shell', tools=[sandboxed_heavy.shell], command='echo one | tr o O; sh -c "echo two" | cat'
    )
    assert text == 'One\ntwo\n'


async def test_threads_work_up_to_the_limit(any_box: Box) -> None:
    assert await said(any_box(), 'threads', tools=[sandboxed.threads], count=8) == 8
    message = await refused(any_box(max_processes=4), 'threads', tools=[sandboxed.threads], count=30)
    assert "can't start new thread" in message


async def test_more_can_be_shown_and_given_to_write(box: Box, tmp_path: Path) -> None:
    place = tmp_path / 'data'
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    (place / 'in').write_text('shown')
    read, write = {'tools': [sandboxed.reads]}, {'tools': [sandboxed.writes]}
    assert 'reads raised' in await refused(box(), 'reads', path=str(place / 'in'), **read)
    shown = box(readable=[place])
    assert await said(shown, 'reads', path=str(place / 'in'), **read) == 'shown'
    assert 'writes raised' in await refused(shown, 'writes', path=str(place / 'out'), **write)
    assert await said(box(writable=[place]), 'writes', path=str(place / 'out'), **write) == 'written'
    assert (place / 'out').read_text() == 'broken out'


async def test_what_is_shown_stays_as_it_is_inside_of_a_place_that_may_be_written(box: Box) -> None:
    """The tool's own package lies in the directory that is given: its code is not the tool's to change."""
    own = Path(sandboxed.__file__)
    places = [own, own.parent / 'new']
    called = asyncio.gather(
        *[
            refused(box(writable=[own.parents[3]]), 'writes', tools=[sandboxed.writes], path=str(place))
            for place in places
        ],
        return_exceptions=True,
    )
    inside = 'inside of a place that may be written' if box.kind == 'landlock' else 'writes raised'
    assert all(inside in str(outcome) for outcome in await called)
    assert not places[1].exists()


# ── tools that cannot run there ─────────────────────────────────────────────────────────────────────────────────────


def in_here(a: int) -> int:
    return a


async def test_functions_that_another_process_cannot_import_are_refused_with_the_reason(limits: Box) -> None:
    def local(a: int) -> int:
        return a

    def with_ctx(a: int, ctx: ToolContext) -> int:
        return a

    for tool, why in (
        (local, '<locals>.local is defined inside of a function'),
        (Tool('nameless', run=lambda value: value), '<lambda> is defined inside of a function'),
        (with_ctx, 'it takes ctx, which belongs to this process'),
        (Tool('bound', run=threading.Lock().acquire), 'TypeError: cannot pickle'),
    ):
        name = tool.name if isinstance(tool, Tool) else tool.__name__
        with pytest.raises(ConfigError) as caught:
            await call(limits(), name, tools=[tool], a=1)
        assert f"tool '{name}' cannot run in the sandbox: " in str(caught.value)
        assert why in str(caught.value)


async def test_tools_of_layers_are_not_silently_let_out(limits: Box, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tool 'list_files' cannot run in the sandbox"):
        await call([limits(), Filesystem(root_dir=tmp_path)], 'list_files')
    called = await call([limits(tools=['add']), Filesystem(root_dir=tmp_path)], 'list_files')
    assert called.output == {'entries': []}


async def test_a_function_of_a_main_that_is_no_file_is_refused(limits: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_here, '__module__', '__main__')
    monkeypatch.setattr(sys.modules['__main__'], '__spec__', None)
    monkeypatch.delattr(sys.modules['__main__'], '__file__')
    with pytest.raises(ConfigError, match='it is defined in __main__, and that is no file'):
        await call(limits(), 'in_here', tools=[in_here], a=1)


SCRIPT = """
import asyncio, os, sys
from lamella import Lamella
from lamella.middleware import Sandbox
from lamella.testing import ScriptedModel
from lamella.types import ToolRequest

def double(value: int) -> list:
    return [value * 2, __name__]

async def main():
    model = ScriptedModel([ToolRequest('double', {'value': 21}), 'done'])
    sandbox = Sandbox(walls=sys.argv[1].split())
    response = await Lamella(model=model).generate(prompt='go', tools=[double], use=[sandbox])
    print(response.turns[0].tool_responses[0].tool_response.output)

if __name__ == '__main__':
    asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize('walls', ['', ' '.join(WALLS)])
@pytest.mark.parametrize('how', ['file', 'module'])
def test_the_functions_of_a_script_can_run_there(tmp_path: Path, walls: str, how: str) -> None:
    if walls and (problem := found(WALLS, ('namespaces',)).problem):
        pytest.skip(problem)
    (tmp_path / 'a_script.py').write_text(SCRIPT)
    start = [str(tmp_path / 'a_script.py')] if how == 'file' else ['-m', 'a_script']
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([*sys.path, str(tmp_path)])}
    done = subprocess.run(
        [sys.executable, *start, walls.strip() or ''],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "[42, '__mp_main__']\n", done.stderr


async def test_a_misspelled_name_does_not_let_a_tool_out(limits: Box) -> None:
    with pytest.raises(ConfigError, match="there is no tool 'spin': did you mean 'spins'"):
        await call(limits(tools=['spin']), 'spins', tools=[sandboxed.spins])
    assert await said(limits(tools=['spin', 'spins']), 'add', tools=[sandboxed.add], a=1) == 2


# ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('kind', 'message'),
    [
        ('tool', 'no such city'),
        ('value', 'raises raised ValueError: wrong'),
        ('away', 'raises raised LamellaError: UNAVAILABLE: try again'),
        ('exit', 'raises raised SystemExit: 3'),
        ('interrupt', 'raises raised Interrupt: may I?'),
        ('key', 'raises raised KeyboardInterrupt: '),
    ],
)
async def test_an_exception_is_told_to_the_model(limits: Box, kind: str, message: str) -> None:
    called = await call(limits(), 'raises', tools=[sandboxed_typed.raises], kind=kind)
    assert (called.error, called.output) == (True, message)
    assert called.facts('sandbox.ended')[0]['how'] == 'error'


async def test_a_long_message_is_cut(limits: Box) -> None:
    assert len(await refused(limits(), 'raises', tools=[sandboxed_typed.raises], kind='long')) < 3000


@pytest.mark.parametrize(('kind', 'status'), [('value', 'UNKNOWN'), ('away', 'UNAVAILABLE'), ('exit', 'UNKNOWN')])
async def test_an_exception_ends_the_run_when_asked_to(limits: Box, kind: str, status: str) -> None:
    with pytest.raises(LamellaError) as caught:
        await call(limits(on_error='raise'), 'raises', tools=[sandboxed_typed.raises], kind=kind)
    assert caught.value.status == status
    assert (
        await refused(limits(on_error='raise'), 'raises', tools=[sandboxed_typed.raises], kind='tool') == 'no such city'
    )


async def test_a_result_that_is_no_json_is_told(limits: Box) -> None:
    message = await refused(limits(), 'unreadable', tools=[sandboxed.unreadable])
    assert 'unreadable raised ConfigError' in message
    assert 'returned a object, which is not JSON' in message


async def test_a_package_that_is_not_shown_is_named_with_what_to_do(box: Box, tmp_path: Path, monkeypatch: Any) -> None:
    """The tool's own package is shown, and nothing beside it."""
    (tmp_path / 'shown_tool.py').write_text('import beside_it\ndef where() -> str:\n    return beside_it.__name__\n')
    (tmp_path / 'beside_it.py').write_text('')
    monkeypatch.syspath_prepend(tmp_path)
    from shown_tool import where  # noqa: PLC0415

    message = await refused(box(), 'where', tools=[where])
    assert "where raised ModuleNotFoundError: No module named 'beside_it'" in message
    assert 'readable=[…] shows more' in message
    assert await said(box(readable=[tmp_path / 'beside_it.py']), 'where', tools=[where]) == 'beside_it'


# ── what the app is told ────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_walls_are_told_by_event_by_metadata_and_when_asked(box: Box) -> None:
    walls = ['environment', 'filesystem', 'limits', 'network', 'processes', 'system_calls']
    sandbox = box()
    assert sandbox.walls() == tuple(walls)
    app = world({'x/a': [[ToolRequest('add', {'a': n}, f'r-{n}') for n in range(3)], 'done']})
    response = await app.ai.generate(prompt='go', use=[sandbox], tools=[sandboxed.add])
    assert response.metadata['sandbox'] == {'walls': walls, 'by': box.kind, 'calls': 3}
    for part in response.turns[0].tool_responses:
        assert part.tool_response.metadata == {'sandbox': {'walls': walls, 'by': box.kind}}
    started = [dict(event.facts) for event in app.sink.named('sandbox.started')]
    assert started == [{'tool': 'add', 'walls': walls, 'by': box.kind}] * 3
    ended = [dict(event.facts) for event in app.sink.named('sandbox.ended')]
    assert ended == [{'tool': 'add', 'how': 'done', 'why': '', 'printed': ''}] * 3


async def test_limits_alone_say_that_they_are_no_walls(limits: Box) -> None:
    assert limits().walls() == ('environment', 'limits')
    called = await call(limits(), 'add', tools=[sandboxed.add], a=1)
    assert called.facts('sandbox.started') == [{'tool': 'add', 'walls': ['environment', 'limits'], 'by': None}]


async def test_a_run_that_used_no_sandboxed_tool_says_nothing(limits: Box) -> None:
    app = world({'x/a': ['done']})
    assert 'sandbox' not in (await app.ai.generate(prompt='go', use=[limits()], tools=[sandboxed.add])).metadata


async def test_some_walls_can_be_asked_for(box: Box) -> None:
    for walls in (['network', 'system_calls'], ['processes'], ['filesystem']):
        sandbox = box(walls=walls)
        assert sandbox.walls() == tuple(sorted(['environment', 'limits', *walls]))
        assert await said(sandbox, 'add', tools=[sandboxed.add], a=1) == 2


# A process that may make no namespaces, as in a container: the same filter that sandboxed tools get is put upon the app.
CONFINED = """
import asyncio, json, os
from lamella.middleware import Sandbox, _sandbox_calls as calls, _sandbox_linux as linux
from tests.middleware.tools import sandboxed, sandboxed_heavy
from tests.middleware.tools.calls import call
linux.drop_privileges(-1, False)
linux.filter_calls([calls.DENIED], None)
async def main():
    for backend in ('namespaces', 'bubblewrap', 'auto'):
        for walls in (['filesystem', 'network', 'processes', 'system_calls'], ['network'], []):
            try:
                called = await call(Sandbox(walls=walls, backend=backend), 'add', tools=[sandboxed.add], a=1)
                print(json.dumps([backend, walls, called.output, called.facts('sandbox.started')[0]['by']]))
            except Exception as error:
                print(json.dumps([backend, walls, type(error).__name__, str(error)]))
asyncio.run(main())
"""


@pytest.mark.slow
def test_where_the_walls_cannot_be_put_up_the_tool_does_not_run() -> None:
    if sys.platform != 'linux':
        pytest.skip('another test says what other systems say')
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([*sys.path, os.getcwd()])}
    done = subprocess.run(
        [sys.executable, '-c', CONFINED], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    has_landlock = found(WALLS, ('landlock',)).problem is None
    for backend, walls, outcome, more in map(json.loads, done.stdout.splitlines()):
        if not walls:
            assert (outcome, more) == (2, None)
        elif backend == 'auto' and has_landlock:
            assert (outcome, more) == (2, 'landlock')
        else:
            assert outcome == 'Rejected'
            assert f'the walls {", ".join(walls)} cannot be put up here, so the tool does not run. ' in more
            assert 'namespaces: PermissionError: [Errno 1] make namespaces' in more or backend == 'bubblewrap'
            assert 'bubblewrap: ' in more or backend == 'namespaces'
            assert 'install bubblewrap, or ask for fewer with walls=[…] (refused by sandbox)' in more


def test_other_systems_say_that_they_have_no_walls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, 'platform', 'darwin')
    assert machine_problem(()) is None
    assert machine_problem(('network',)) == 'walls are built on Linux only, and this is darwin'
    with pytest.raises(Rejected, match='walls are built on Linux only'):
        Sandbox().walls()
    assert Sandbox(walls=[]).walls() == ('environment', 'limits')


def test_system_calls_of_an_unknown_machine_are_not_filtered_by_guessing(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != 'linux':
        pytest.skip('Linux alone filters')
    monkeypatch.setattr('platform.machine', lambda: 'riscv64')
    assert machine_problem(('network',)) == 'the system calls of riscv64 are not known here'
    assert machine_problem(()) is None


# ── both modes, several at once, cancellation ───────────────────────────────────────────────────────────────────────


async def test_streams_use_it_too(limits: Box) -> None:
    response = await both(
        lambda: world({'x/a': [ToolRequest('add', {'a': 1}, 'r-1'), 'done']}, random=Random(3)).ai,
        prompt='go',
        use=[limits()],
        tools=[sandboxed.add],
    )
    assert response.metadata['sandbox']['calls'] == 1


async def test_several_at_once_do_not_know_of_each_other(any_box: Box) -> None:
    box = any_box()
    outputs = await asyncio.gather(*[said(box, 'add', tools=[sandboxed.add], a=n, b=n) for n in range(6)])
    assert outputs == [2 * n for n in range(6)]


async def test_one_that_is_ended_does_not_touch_another(any_box: Box) -> None:
    clock, sleeping = HeldClock(), {'tools': [sandboxed.sleeps], 'seconds': 300}
    other = asyncio.create_task(call(any_box(timeout_s=100), 'sleeps', clock=clock, **sleeping))
    ended = asyncio.create_task(call(any_box(timeout_s=5), 'sleeps', clock=clock, **sleeping))
    await any_box.populated(4, other, ended)
    await clock.advance(10)
    assert 'timeout_s=5' in (await ended).output
    assert any_box.alive() != []
    assert not other.done()
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)


async def test_cancelling_the_run_ends_all_processes_first(any_box: Box) -> None:
    async with no_leaks():
        for tool, given in (
            (sandboxed.sleeps, {'seconds': 300}),
            (sandboxed.spins, {}),
            (sandboxed.forks, {}),
            (sandboxed.leaves_orphans, {'mark': 'x'}),
        ):
            task = asyncio.create_task(call(any_box(), tool.__name__, tools=[tool], **given))
            if tool is not sandboxed.leaves_orphans:
                await any_box.populated(2 if tool is not sandboxed.forks else 8, task)
            task.cancel()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert any_box.alive() == []


async def test_a_call_can_be_cancelled_at_any_moment(any_box: Box) -> None:
    async with no_leaks():
        for turns in (0, 1, 3, 8, 13, 34):
            task = asyncio.create_task(call(any_box(), 'sleeps', tools=[sandboxed.sleeps], seconds=300))
            for _ in range(turns):
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert any_box.alive() == []


APP = """
import asyncio, sys
from tests.middleware.tools import sandboxed, sandboxed_heavy
from tests.middleware.tools.boxes import Box
from tests.middleware.tools.calls import call
box = Box(sys.argv[1])
box.mark = sys.argv[2]
asyncio.run(call(box(), 'forks', tools=[sandboxed.forks]))
"""


@pytest.mark.slow
async def test_when_the_app_is_killed_the_tool_ends_too(any_box: Box) -> None:
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([*sys.path, os.getcwd()]), 'TMPDIR': place}
        app = await asyncio.create_subprocess_exec(
            sys.executable, '-c', APP, any_box.kind, any_box.mark, env=environment
        )
        await any_box.populated(8)
        app.kill()
        await app.wait()
        await any_box.deserted()
        assert os.listdir(place) == []


# ── settings ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('options', 'problems'),
    [
        ({'walls': ['internet']}, ["unknown wall 'internet'"]),
        ({'walls': 'network'}, ["write a list of walls, such as ['network']"]),
        ({'walls': ['netwrok']}, ["did you mean 'network'"]),
        ({'backend': 'docker'}, ['backend']),
        ({'timeout_s': 0, 'max_cpu_s': 0, 'max_memory_mb': 0.5}, ['timeout_s', 'max_cpu_s', 'max_memory_mb']),
        ({'max_processes': 0, 'max_file_mb': -1}, ['max_processes', 'max_file_mb']),
        ({'tools': 'add'}, ["write a list of tool names, such as ['add']"]),
        ({'tools': ['a b', '']}, ["[0] is 'a b'", "[1] is ''"]),
        ({'readable': ['no/such/place']}, ["'no/such/place' does not exist"]),
        ({'readable': ['/']}, ["'/' is everything"]),
        ({'max_memory_mb': 63}, ['greater than or equal to 64']),
        ({'readable': '/usr'}, ['write a list of paths']),
        ({'environment': {'A': 1}}, ['environment.A']),
        ({'on_error': 'ignore'}, ['on_error']),
        ({'max_memory': 1}, ["did you mean 'max_memory_mb'"]),
    ],
)
def test_wrong_settings_are_refused_when_built(options: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Sandbox(**options)
    assert [problem for problem in problems if problem not in str(caught.value)] == []


def test_the_careful_operators_walls_are_the_default() -> None:
    assert Sandbox().config.walls == WALLS == ('filesystem', 'network', 'processes', 'system_calls')


def test_a_system_without_process_limits_is_refused_when_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'name', 'nt')
    with pytest.raises(ConfigError, match='POSIX'):
        Sandbox()


# ── beside other layers ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_redaction_inside_of_it_sees_what_the_tool_answers(limits: Box) -> None:
    called = await call(
        [limits(), PIIRedaction(entities=['email'])], 'echo', tools=[sandboxed.echo], value='mail anna@example.com'
    )
    assert called.output == 'mail [EMAIL]'
    assert len(called.facts('sandbox.started')) == 1


async def test_a_layer_around_it_that_wraps_the_tool_is_refused_and_never_passed_over(limits: Box) -> None:
    use = [PIIRedaction(entities=['email']), limits()]
    with pytest.raises(ConfigError, match=r'Sandbox .* must stand outside of PIIRedaction'):
        await call(use, 'echo', tools=[sandboxed.echo], value='mail anna@example.com')
    app = world({'x/a': [ToolRequest('echo', {'value': 'x'}, 'r-1')]}, check_order='ignore')
    with pytest.raises(ConfigError, match=r'a layer around it has wrapped it .* Put Sandbox outside'):
        await app.ai.generate(prompt='go', use=use, tools=[sandboxed.echo])


async def test_what_was_ended_may_have_done_its_work(limits: Box) -> None:
    """Its errors say so, for Idempotency and whoever else must know."""
    app = world({'x/a': [ToolRequest('ends', {'code': 3}, 'r-1'), ToolRequest('ends', {'code': 3}, 'r-2')]})
    with pytest.raises(Rejected, match='may or may not have run'):
        await app.ai.generate(prompt='go', use=[Idempotency(tools=['ends']), limits()], tools=[sandboxed.ends])


def test_the_synchronous_door_leads_there_too(limits: Box) -> None:
    app = world({'x/a': [ToolRequest('add', {'a': 1}, 'r-1'), 'done']})
    response = app.ai.sync.generate(prompt='go', use=[limits()], tools=[sandboxed.add])
    assert response.turns[0].tool_responses[0].tool_response.output == 2
    app.ai.sync.close()
