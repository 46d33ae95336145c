"""`Sandbox`: hostile tools. Each is contained, the host is unharmed, and what came of it is said in a sentence."""

import asyncio
import os
import platform
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lamella.middleware._sandbox_calls import CHANGES, DENIED
from tests.middleware.kit import HeldClock
from tests.middleware.tools import sandboxed, sandboxed_heavy
from tests.middleware.tools.boxes import PRIVATE, Box, becomes_somebody_else, built
from tests.middleware.tools.calls import Called, call, refused, said

SECRET = 'the secret of the host'


async def tried(sandbox: Any, tool: Any, inputs: list[dict[str, Any]]) -> list[str]:
    """What the tool gave or raised for each of these inputs, in one call."""
    tries = sandboxed_heavy.tries if hasattr(sandboxed_heavy, tool.__name__) else sandboxed.tries
    outcomes = await said(sandbox, 'tries', tools=[tries], name=tool.__name__, inputs=inputs)
    assert len(outcomes) == len(inputs)
    return list(outcomes)


async def in_time(any_box: Box, tool: Any, processes: int, *, timeout_s: float = 10.0, **given: Any) -> Called:
    """Call the tool, wait until it has so many processes, and let the time run out."""
    clock = HeldClock()
    options = {'timeout_s': timeout_s, **given.pop('options', {})}
    task = asyncio.create_task(call(any_box(**options), tool.__name__, tools=[tool], clock=clock, **given))
    await any_box.populated(processes, task)
    await clock.advance(timeout_s)
    called = await task
    assert any_box.alive() == []
    return called


def ended(called: Called) -> str:
    (facts,) = called.facts('sandbox.ended')
    return str(facts['how'])


# ── time, memory, processes, output ─────────────────────────────────────────────────────────────────────────────────


async def test_a_tool_that_sleeps_is_ended_when_its_time_is_up(any_box: Box) -> None:
    called = await in_time(any_box, sandboxed.sleeps, 2, seconds=300)
    assert called.output == 'sleeps took longer than timeout_s=10 and was ended (sandbox)'
    assert ended(called) == 'timeout'


async def test_a_tool_that_ignores_every_signal_is_ended_when_its_time_is_up(most: Box) -> None:
    assert 'timeout_s=10' in (await in_time(most, sandboxed.ignores_signals, 2)).output


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['namespaces', 'limits'])
async def test_an_infinite_loop_ends_with_its_processor_time(kind: str, request: pytest.FixtureRequest) -> None:
    box = request.getfixturevalue(kind)
    called = await call(box(max_cpu_s=1), 'spins', tools=[sandboxed.spins])
    assert called.output == 'spins was ended: it used more processor time than max_cpu_s=1 (sandbox)'
    assert ended(called) == 'cpu'


@pytest.mark.slow
async def test_a_loop_that_ignores_the_warning_ends_a_second_later(namespaces: Box) -> None:
    called = await call(namespaces(max_cpu_s=1), 'ignores_signals', tools=[sandboxed.ignores_signals])
    assert (called.error, ended(called)) == (True, 'cpu')


async def test_a_fork_bomb_stays_small_and_is_gone_when_its_time_is_up(any_box: Box) -> None:
    called = await in_time(any_box, sandboxed.forks, 8)
    assert called.error
    assert ended(called) in ('timeout', 'processes', 'memory')


async def test_no_more_children_are_to_be_had_than_allowed(most: Box) -> None:
    called = await call(most(max_processes=10), 'forks_and_counts', tools=[sandboxed.forks_and_counts])
    if called.error:  # where the kernel does not count, as for root in some containers, the supervisor does
        assert ended(called) == 'processes'
    else:
        assert 1 <= called.output <= 12


async def test_a_memory_hog_is_told_that_there_is_no_more(most: Box) -> None:
    called = await call(most(max_memory_mb=128), 'eats_memory', tools=[sandboxed.eats_memory])
    assert called.output == 'eats_memory was ended: it used more memory than max_memory_mb=128 (sandbox)'
    assert ended(called) == 'memory'


async def test_many_processes_together_get_no_more_memory_than_one(any_box: Box) -> None:
    box = any_box(max_memory_mb=200)
    called = await call(box, 'eats_memory_with_children', tools=[sandboxed.eats_memory_with_children], count=8)
    assert (called.error, ended(called)) == (True, 'memory')


async def test_the_private_disk_is_small(private: Box) -> None:
    for place in ('/tmp', '/dev/shm'):
        held = await said(private(max_file_mb=4), 'eats_the_disk', tools=[sandboxed.eats_the_disk], path=place)
        assert 0 < held <= 4 << 20


async def test_no_single_file_grows_beyond_the_limit(most: Box) -> None:
    message = await refused(most(max_file_mb=1), 'scratch', tools=[sandboxed.scratch], size=3_000_000)
    assert 'File too large' in message or 'No space left' in message


async def test_orphans_end_with_the_call(any_box: Box) -> None:
    """Double forks in sessions of their own, which hold on to every handle: the fixture looks for them on the host."""
    called = await call(any_box(max_processes=30), 'leaves_orphans', tools=[sandboxed.leaves_orphans], mark='x')
    assert called.output == 'done'
    assert any_box.alive() == []


@pytest.mark.parametrize('handles', [[1], [2], list(range(3, 12))], ids=['printed', 'error', 'answer'])
async def test_a_flood_of_output_is_cut_and_the_tool_ended(most: Box, handles: list[int]) -> None:
    called = await call(most(max_output_bytes=300_000), 'floods', tools=[sandboxed.floods], handles=handles)
    assert called.output == 'floods was ended: it wrote more than max_output_bytes=300,000 (sandbox)'
    assert ended(called) == 'output'
    assert len(called.facts('sandbox.ended')[0]['printed']) <= 2000


async def test_a_huge_answer_is_cut_and_the_tool_ended(most: Box) -> None:
    box = most(max_output_bytes=100_000)
    assert len(await said(box, 'huge', tools=[sandboxed.huge], size=90_000)) == 90_000
    assert 'max_output_bytes=100,000' in await refused(box, 'huge', tools=[sandboxed.huge], size=5_000_000)


@pytest.mark.parametrize(
    'text',
    [
        '',
        '{',
        '{"ok": 1} trailing',
        '[]',
        '"ok"',
        '{"error": {}}',
        '{"error": 3}',
        '{"media": {"data": "%"}}',
        '\xff',
        '9' * 9999,
    ],
)
async def test_an_answer_that_makes_no_sense_is_no_answer(limits: Box, text: str) -> None:
    called = await call(limits(), 'lies', tools=[sandboxed.lies], text=text)
    assert called.output == 'lies gave an answer that cannot be read (sandbox)'


async def test_an_answer_of_a_hundred_thousand_brackets_is_no_answer(limits: Box) -> None:
    assert 'cannot be read' in await refused(limits(), 'deep', tools=[sandboxed.deep], depth=100_000)


@pytest.mark.parametrize(
    ('tool', 'given', 'message'),
    [
        (sandboxed.segfaults, {}, 'segfaults crashed: SIGSEGV (sandbox)'),
        (sandboxed.kills_itself, {'number': 6}, 'kills_itself crashed: SIGABRT (sandbox)'),
        (sandboxed.kills_itself, {'number': 9}, 'kills_itself was killed'),
        (sandboxed.ends, {'code': 0}, 'ends gave an answer that cannot be read (sandbox)'),
        (sandboxed.ends, {'code': 3}, 'ends crashed: it ended without an answer (sandbox)'),
        (sandboxed.ends, {'code': 120}, 'ends crashed: it ended without an answer (sandbox)'),
        (sandboxed.ends, {'code': 121}, 'ends crashed: it ended without an answer (sandbox)'),
    ],
)
async def test_a_crash_is_told_as_one(most: Box, tool: Any, given: Any, message: str) -> None:
    assert (await refused(most(), tool.__name__, tools=[tool], **given)).startswith(message)


async def test_limits_cannot_be_raised(most: Box) -> None:
    assert await said(most(), 'raises_limits', tools=[sandboxed.raises_limits]) == 'none'
    held = await said(most(max_memory_mb=300, max_cpu_s=7), 'limits', tools=[sandboxed.limits])
    assert held['RLIMIT_AS'] == [300 << 20] * 2
    assert held['RLIMIT_CPU'] == [7, 8]
    assert held['RLIMIT_CORE'] == [0, 0]


# ── network ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of this machine that anybody may connect to."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        thread = threading.Thread(target=_accept, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _accept(server: socket.socket) -> None:
    while True:
        try:
            server.accept()[0].close()
        except OSError:
            return


async def test_there_is_no_network_not_even_this_machine(box: Box, listener: int) -> None:
    places = [
        {'host': '127.0.0.1', 'port': listener},
        {'host': '192.0.2.1', 'port': 80},
        {'host': '::1', 'port': listener},
    ]
    assert (await tried(box(walls=['filesystem']), sandboxed_heavy.connects, places))[0] == 'connected'
    for walls in (['network'], ['network', 'filesystem', 'processes', 'system_calls']):
        for outcome in await tried(box(walls=walls), sandboxed_heavy.connects, places):
            assert 'Error: ' in outcome, walls


async def test_the_network_is_one_of_its_own(private: Box) -> None:
    """Sockets are refused already; were one to be had, it would lead nowhere."""
    devices = await said(private(), 'reads', tools=[sandboxed.reads], path='/proc/net/dev')
    assert [line.split(':')[0].strip() for line in devices.splitlines() if ':' in line] == ['lo']


async def test_only_local_sockets_are_to_be_had(box: Box) -> None:
    """Not those of IP, of the kernel (netlink, crypto), of cables and radio (packet, Bluetooth), or of virtual machines."""
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW)
    inputs = [{'family': family, 'kind': int(kind)} for family in (2, 10, 16, 17, 31, 38, 40) for kind in kinds]
    outcomes = await tried(box(), sandboxed_heavy.opens_socket, inputs)
    assert set(outcomes) == {'OSError: [Errno 97] Address family not supported by protocol'}
    local = await tried(box(), sandboxed_heavy.opens_socket, [{'family': 1, 'kind': 1}])
    assert local == (['opened'] if box.kind != 'landlock' else [outcomes[0]])  # which cannot tell whose socket it is


async def test_sockets_of_the_host_are_out_of_reach(box: Box, tmp_path: Path) -> None:
    connect: dict[str, Any] = {'tools': [sandboxed_heavy.connects_to_path]}
    for path in (os.path.relpath(tmp_path / 's'), '\0lamella-test-of-the-sandbox'):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen()
            inside = path if path.startswith('\0') else str(tmp_path / 's')
            assert await said([], 'connects_to_path', path=path, **connect) == 'connected'
            assert 'raised' in await refused(box(), 'connects_to_path', path=inside, **connect)


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_secrets_outside_cannot_be_read(box: Box, tmp_path: Path) -> None:
    secret = tmp_path / 'secret'
    secret.write_text(SECRET)
    secret.chmod(0o644)
    beside = Path(__file__).parents[3] / 'pyproject.toml'  # next to the package that is shown
    places = [
        secret,
        beside,
        Path('/etc/passwd'),
        Path('/etc/shadow'),
        Path(f'/proc/{os.getpid()}/environ'),
        Path.home(),
        Path('/var/log'),
    ]
    for outcome in await tried(box(), sandboxed.reads, [{'path': str(place)} for place in places]):
        assert outcome.startswith(('FileNotFoundError', 'PermissionError', 'IsADirectoryError'))
    assert SECRET not in await said(box(), 'climbs', tools=[sandboxed.climbs], path=str(secret))


async def test_without_that_wall_they_can_which_is_why_it_is_a_wall(box: Box, tmp_path: Path) -> None:
    (tmp_path / 'secret').write_text(SECRET)
    rest = ['network', 'processes', 'system_calls']
    assert await said(box(walls=rest), 'reads', tools=[sandboxed.reads], path=str(tmp_path / 'secret')) == SECRET


async def test_nothing_outside_can_be_written(box: Box, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    own = Path(sandboxed.__file__)
    before = own.read_bytes()
    places = [
        tmp_path / 'new',
        own,
        own.parent / 'new',
        *map(Path, ('/usr/new', '/etc/new', '/new', '/dev/new', '/proc/new')),
    ]
    for outcome in await tried(box(), sandboxed.writes, [{'path': str(place)} for place in places]):
        assert outcome.startswith(('FileNotFoundError', 'PermissionError', 'OSError: [Errno 30] Read-only'))
    assert await said(box(), 'writes', tools=[sandboxed.writes], path='new') == 'written'
    assert own.read_bytes() == before
    assert [place for place in (tmp_path / 'new', own.parent / 'new', Path('/tmp/new')) if place.exists()] == []


async def test_the_kernel_says_that_all_of_it_is_read_only(private: Box) -> None:
    """Rights alone would keep a tool of another user from writing: here is what keeps everybody."""
    mounts = await said(private(), 'reads', tools=[sandboxed.reads], path='/proc/self/mountinfo')
    seen = {fields[4]: set(fields[5].split(',')) for line in mounts.splitlines() if (fields := line.split())}
    own = {'/tmp', '/dev/shm', '/dev/pts', '/dev/console', '/proc', '/dev/mqueue'}
    devices = {place for place in seen if place.startswith('/dev/')}
    assert [place for place in sorted(set(seen) - own - devices) if 'ro' not in seen[place]] == []
    assert [place for place in sorted(seen) if 'nosuid' not in seen[place]] == []
    assert [place for place in sorted(set(seen) - devices - {'/dev'}) if 'nodev' not in seen[place]] == []
    assert {'/', '/tmp', '/usr'} <= set(seen)


# ── rights ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_nobody_becomes_root_inside(most: Box) -> None:
    if most.kind in PRIVATE or becomes_somebody_else() or os.geteuid():  # else it is root, and may do nothing with it
        assert await said(most(), 'becomes_root', tools=[sandboxed.becomes_root]) == 'no'
    status = await said(most(), 'reads', tools=[sandboxed.reads], path='/proc/self/status')
    facts = dict(line.split(':\t', 1) for line in status.splitlines() if ':\t' in line)
    assert facts['NoNewPrivs'] == '1'
    assert int(facts['CapEff'], 16) in (
        (0, 1 << 2) if most.kind in ('limits', 'landlock') else (0,)
    )  # to read, as root
    assert facts['CapEff'] == facts['CapPrm'] == facts['CapBnd'] or not becomes_somebody_else()
    if most.kind != 'limits':
        assert facts['Seccomp'] == '2'


async def test_other_processes_are_out_of_reach(box: Box) -> None:
    victim = await asyncio.create_subprocess_exec('sleep', '300')
    try:
        (outcome,) = await tried(box(), sandboxed.kills, [{'pid': victim.pid}])
        assert outcome.startswith(('ProcessLookupError', 'PermissionError'))
        assert victim.returncode is None
    finally:
        victim.kill()
        await victim.wait()


@pytest.mark.skipif(platform.machine() != 'x86_64', reason='the numbers are those of x86_64')
@pytest.mark.skipif(sys.platform != 'linux', reason='Linux alone filters')
async def test_system_calls_that_break_out_are_refused(box: Box) -> None:
    refusals = [{'number': numbers[0]} for name, numbers in DENIED.items()]
    assert set(await tried(box(), sandboxed.calls, refusals)) == {'Operation not permitted'}
    new_user, type_into_terminal = 0x10000000, 0x5412
    others = [
        {'number': 56, 'first': new_user},  # clone
        {'number': 16, 'first': 0, 'second': type_into_terminal},  # ioctl
        {'number': 435},  # clone3
        {'number': 39},  # getpid
    ]
    told = ['Operation not permitted', 'Operation not permitted', 'Function not implemented', 'ok']
    assert await tried(box(), sandboxed.calls, others) == told


@pytest.mark.skipif(platform.machine() != 'x86_64', reason='the numbers are those of x86_64')
async def test_landlock_is_helped_where_it_does_not_look() -> None:
    for landlock in built('landlock'):
        inputs = [{'number': numbers[0]} for numbers in CHANGES.values()]
        assert set(await tried(landlock(), sandboxed.calls, inputs)) == {'Operation not permitted'}
        own = Path(sandboxed.__file__)
        mode = own.stat().st_mode
        assert 'PermissionError' in (await tried(landlock(), sandboxed.changes_mode, [{'path': str(own)}]))[0]
        assert own.stat().st_mode == mode


async def test_all_at_once_are_contained(any_box: Box) -> None:
    """Hostile and honest tools side by side: each ends as it does alone."""
    box = any_box(max_memory_mb=128, max_output_bytes=100_000)
    outcomes = await asyncio.gather(
        call(box, 'eats_memory', tools=[sandboxed.eats_memory]),
        call(box, 'floods', tools=[sandboxed.floods], handles=[1]),
        call(box, 'add', tools=[sandboxed.add], a=1),
        call(box, 'segfaults', tools=[sandboxed.segfaults]),
        call(box, 'leaves_orphans', tools=[sandboxed.leaves_orphans], mark='x'),
    )
    assert [ended(called) for called in outcomes] == ['memory', 'output', 'done', 'crash', 'done']
    assert outcomes[2].output == 2
