"""`Filesystem`: ways out of the root, each tried with every tool and refused, with the outside as it was."""

import asyncio
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lamella.middleware import Filesystem
from lamella.middleware._files import MAX_DEPTH
from lamella.middleware._threads import Stop
from lamella.types import ToolError
from tests.middleware.tools.calls import call, said

SECRET = 'the secret of the outside'


class World:
    """A root with a neighbour that nobody may see or touch."""

    def __init__(self, place: Path) -> None:
        self.root, self.outside = place / 'root', place / 'outside'
        for directory in (self.root, self.outside):
            directory.mkdir()
        (self.outside / 'secret').write_text(SECRET)
        (self.root / 'in').write_text('inside')
        self.fs = Filesystem(root_dir=self.root, allow_write_access=True)
        self._before = self._look()

    def _look(self) -> list[tuple[str, str, int]]:
        return [
            (str(path), path.read_text(), path.stat().st_nlink)
            for path in sorted(self.outside.rglob('*'))
            if path.is_file()
        ]

    async def refuses(self, path: str, reason: str | None = None) -> None:
        """Every tool says no, without the secret and without the root's place, and nothing outside has changed."""
        before = self._look()
        for tool, more in ASKED.items():
            called = await call(self.fs, tool, path=path, **more)
            assert called.error, (tool, path, called.output)
            assert SECRET not in called.output
            assert str(self.root.parent) not in called.output
            if reason is not None:
                assert [fact['reason'] for fact in called.facts('filesystem.refused')] == [reason], called.output
        assert self._look() == before


ASKED: dict[str, dict[str, Any]] = {
    'list_files': {},
    'read_file': {},
    'write_file': {'content': 'broken in'},
    'edit_file': {'edits': [{'old': 'secret', 'new': 'broken in'}]},
}
FILES = ('read_file', 'write_file', 'edit_file')


@pytest.fixture
def place(tmp_path: Path) -> World:
    return World(tmp_path)


# ── paths ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    'path',
    [
        '..',
        '../',
        '../outside',
        '../outside/secret',
        './../outside/secret',
        'sub/../../outside/secret',
        'in/../../outside/secret',
        'sub/../in',
        'sub/..',
        './/..//outside//secret',
        '../root/in',
    ],
)
async def test_two_dots_lead_nowhere(place: World, path: str) -> None:
    (place.root / 'sub').mkdir()
    await place.refuses(path, 'outside')


async def test_absolute_paths_lead_nowhere(place: World) -> None:
    for path in ('/', '/etc/passwd', '//etc/passwd', str(place.outside / 'secret'), str(place.root / 'in')):
        called = [await call(place.fs, tool, path=path, **more) for tool, more in ASKED.items()]
        assert {done.error for done in called} == {True}
        assert {done.facts('filesystem.refused')[0]['reason'] for done in called} == {'outside'}


@pytest.mark.parametrize(
    'path', ['~/x', '~root/x', '$HOME/x', '%2e%2e/outside/secret', '..\\outside\\secret', '․․/outside']
)
async def test_nothing_in_a_path_is_expanded_or_decoded(place: World, path: str) -> None:
    for tool in ('list_files', 'read_file', 'edit_file'):
        called = await call(place.fs, tool, path=path, **ASKED[tool])
        assert 'no such file or directory' in called.output


# ── symbolic links ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize('depth', range(5))
@pytest.mark.parametrize('kind', ['relative', 'absolute', 'chain', 'proc'])
async def test_a_link_to_a_directory_is_not_followed_at_any_depth(place: World, depth: int, kind: str) -> None:
    here = place.root
    for level in range(depth):
        here /= f'd{level}'
        here.mkdir()
    if kind == 'proc' and not Path('/proc/self/root').exists():
        pytest.skip('no /proc here')
    target = {
        'relative': os.path.relpath(place.outside, here),
        'absolute': str(place.outside),
        'chain': 'second',
        'proc': f'/proc/self/root{place.outside}',
    }[kind]
    (here / 'second').symlink_to(place.outside)
    (here / 'link').symlink_to(target)
    prefix = '/'.join(f'd{level}' for level in range(depth))
    await place.refuses(f'{prefix}/link/secret'.lstrip('/'), 'link')
    await place.refuses(f'{prefix}/link/new/deep/file'.lstrip('/'), 'link')
    for tool in FILES:
        called = await call(place.fs, tool, path=f'{prefix}/link'.lstrip('/'), **ASKED[tool])
        assert called.facts('filesystem.refused')[0]['reason'] == 'link'


@pytest.mark.parametrize('target', ['../outside/secret', 'in', 'link', 'nowhere', '../outside/not-yet', '/dev/zero'])
async def test_a_link_to_a_file_is_not_followed_inside_the_root_neither(place: World, target: str) -> None:
    (place.root / 'link').symlink_to(target)
    for tool in FILES:
        called = await call(place.fs, tool, path='link', **ASKED[tool])
        assert called.error
        assert 'symbolic link' in called.output
    assert (place.root / 'link').is_symlink()
    assert sorted(os.listdir(place.outside)) == ['secret']
    assert (place.root / 'in').read_text() == 'inside'


async def test_a_root_that_was_replaced_by_a_link_is_not_followed(place: World) -> None:
    place.root.rename(place.root.parent / 'moved')
    place.root.symlink_to(place.outside)
    await place.refuses('secret')


# ── links that are swapped in during the call ───────────────────────────────────────────────────────────────────────

SWAP_DIRECTORY = """
import os, sys
root, outside = sys.argv[1:]
os.chdir(root)
print('ready', flush=True)
junk = 0
while True:
    for old, new in (('d', 'kept'), ('link', 'd'), ('d', 'link'), ('kept', 'd')):
        while True:
            try:
                os.rename(old, new)
                break
            except OSError:  # a write made the directory that it missed
                junk += 1
                os.rename('d', f'junk{junk}')
"""
SWAP_FILE = """
import os, sys
root, outside = sys.argv[1:]
os.chdir(root)
print('ready', flush=True)
swaps = (lambda: os.link(f'{outside}/secret', 't'), lambda: os.mkfifo('t'), lambda: os.symlink(f'{outside}/secret', 't'))
while True:
    for swap in swaps:
        with open('t', 'w') as file: file.write('honest')
        os.rename('t', 'f')
        swap()
        os.rename('t', 'f')
"""


@contextmanager
def swapping(program: str, place: World) -> Iterator[None]:
    """Another process that swaps without a pause."""
    command = [sys.executable, '-c', program, str(place.root), str(place.outside)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as swapper:
        try:
            assert swapper.stdout.readline() == b'ready\n'
            yield
            assert swapper.poll() is None
        finally:
            swapper.kill()


def outcome(work: Any, *arguments: Any) -> str:
    try:
        found = work(*arguments, Stop())
    except ToolError as error:
        return str(error).partition(': ')[2][:12]
    return str(found[0]) if isinstance(found, tuple) else 'done'


def outcomes(wanted: set[str], least: int, work: Any) -> set[str]:
    """All outcomes of `work(number)`, called so often at least, and on until those that are wanted have been seen."""
    seen: set[str] = set()
    for number in range(200 * least):
        if number >= least and wanted <= seen:
            break
        seen.add(work(number))
    assert wanted <= seen
    return seen


@pytest.mark.slow
def test_a_directory_swapped_for_a_link_during_the_call_never_leads_out(place: World) -> None:
    (place.root / 'd').mkdir()
    (place.root / 'd' / 'secret').write_text('honest')
    (place.root / 'link').symlink_to(place.outside)
    read, write = place.fs._read, place.fs._write
    with swapping(SWAP_DIRECTORY, place):
        seen = outcomes({'honest', 'is or leads '}, 20_000, lambda _: outcome(read, 'd/secret'))
        outcomes({'done'}, 600, lambda _: outcome(write, 'd/secret', 'honest'))
        outcomes({'done'}, 300, lambda number: outcome(write, f'd/{number}/x', 'honest'))
    assert [text for text in seen if SECRET in text] == []
    assert sorted(os.listdir(place.outside)) == ['secret']
    assert (place.outside / 'secret').read_text() == SECRET


@pytest.mark.slow
def test_a_file_swapped_for_a_link_a_pipe_or_a_hard_link_during_the_call_never_gives_the_secret(place: World) -> None:
    (place.root / 'f').write_text('honest')
    (place.outside / 'secret').chmod(0o666)
    kinds = {'honest', 'is or leads ', 'is a device,', 'has 2 names '}
    with swapping(SWAP_FILE, place):
        seen = outcomes(kinds, 20_000, lambda _: outcome(place.fs._read, 'f'))
        for number in range(600):
            outcome(place.fs._write, 'f', f'mine {number}')
    assert [text for text in seen if SECRET in text] == []
    assert (place.outside / 'secret').read_text() == SECRET


# ── hard links and special files ────────────────────────────────────────────────────────────────────────────────────


async def test_a_file_with_a_second_name_is_refused(place: World) -> None:
    (place.root / 'hard').hardlink_to(place.outside / 'secret')
    for tool in FILES:
        called = await call(place.fs, tool, path='hard', **ASKED[tool])
        assert called.facts('filesystem.refused')[0]['reason'] == 'hard_link'
        assert SECRET not in called.output
    assert (place.outside / 'secret').read_text() == SECRET
    assert (place.root / 'hard').stat().st_nlink == 2


async def test_a_pipe_is_refused_at_once_though_nobody_writes_to_it(place: World) -> None:
    os.mkfifo(place.root / 'pipe')
    for tool in FILES:
        called = await call(place.fs, tool, path='pipe', **ASKED[tool])
        assert called.facts('filesystem.refused')[0]['reason'] == 'special'
    assert stat.S_ISFIFO((place.root / 'pipe').stat().st_mode)
    await place.refuses('pipe/x')


async def test_a_socket_is_refused(place: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.root)  # a socket's path may not be long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind('socket')
        for tool in FILES:
            called = await call(place.fs, tool, path='socket', **ASKED[tool])
            assert called.facts('filesystem.refused')[0]['reason'] == 'special'


async def test_a_device_is_refused(place: World) -> None:
    try:
        os.mknod(place.root / 'zero', stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except (OSError, AttributeError):
        pytest.skip('only root makes devices')
    for tool in FILES:
        called = await call(place.fs, tool, path='zero', **ASKED[tool])
        assert called.facts('filesystem.refused')[0]['reason'] == 'special'


async def test_the_devices_of_the_system_are_refused() -> None:
    fs = Filesystem(root_dir='/dev', allow_write_access=True)
    for name in ('zero', 'null', 'urandom', 'tty'):
        for tool in FILES:
            assert (await call(fs, tool, path=name, **ASKED[tool])).error


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    'name',
    ['a\0b', 'in\0', '\0', 'a\nb', 'in\n', 'a\rb', 'a\x1b[2J', 'a\x7f', 'a\x85b', 'a\u2028b', 'a\u2029', 'a\ud800'],
)
@pytest.mark.parametrize('pattern', ['{}', 'sub/{}', '{}/in'])
async def test_names_with_control_characters_are_refused(place: World, name: str, pattern: str) -> None:
    path = pattern.format(name)
    await place.refuses(path, 'name')
    for tool, more in ASKED.items():
        assert (await call(place.fs, tool, path=path, **more)).output.isprintable()


async def test_files_with_such_names_are_counted_and_not_named(place: World) -> None:
    for name in (b'line\nbreak', b'escape\x1b[2J', b'broken\xff'):
        os.mkdir(os.path.join(os.fsencode(place.root), name))
    output = await said(place.fs, 'list_files')
    assert [entry['path'] for entry in output['entries']] == ['in']
    assert output['left_out'] == '3 entries whose names hold control characters or broken bytes'


@pytest.mark.parametrize(
    'name',
    [
        '.git',
        '.GIT',
        '.Git',
        '.git.',
        '.git ',
        '.git. .',
        '.g\u200bit',
        '.gi\ufeffT',
        '．ｇｉｔ',
        '.env',
        '.ENV.local',
        '.SSH',
    ],
)
async def test_denied_names_are_denied_however_they_are_spelled(place: World, name: str) -> None:
    (place.root / name).mkdir()
    (place.root / name / 'config').write_text('hooks')
    for path in (name, f'{name}/config', f'./{name}/new', f'sub/{name}', f'sub/{name}/config'):
        await place.refuses(path, 'denied')
    output = await said(place.fs, 'list_files', recursive=True)
    assert [entry['path'] for entry in output['entries']] == ['in']
    assert (place.root / name / 'config').read_text() == 'hooks'


async def test_names_that_only_look_like_denied_ones_are_open(place: World) -> None:
    for name in ('.gitignore', 'git', '.github', 'x.env', '.environment', 'ssh'):
        (place.root / name).write_text('open')
        assert await said(place.fs, 'read_file', path=name) == 'open'


async def test_the_list_of_denied_names_is_the_operators(place: World) -> None:
    (place.root / '.git').write_text('open')
    (place.root / 'Key.PEM').write_text('shut')
    fs = Filesystem(root_dir=place.root, denied_names=['*.pem'])
    assert await said(fs, 'read_file', path='.git') == 'open'
    assert (await call(fs, 'read_file', path='Key.PEM')).output == 'Key.PEM: is not open to this tool'


@pytest.mark.parametrize(
    'path',
    ['x' * 256, 'ä' * 128, 'sub/' + 'x' * 256 + '/y', 'x/' * 2500, 'x' * 100_000, 'ä' * 3000, '/'.join('x' * 65)],
)
async def test_very_long_and_very_deep_names_are_refused(place: World, path: str) -> None:
    await place.refuses(path, 'name')
    for tool, more in ASKED.items():
        assert len((await call(place.fs, tool, path=path, **more)).output) < 400


async def test_the_longest_and_the_deepest_name_still_work(place: World) -> None:
    for path in ('x' * 255, '/'.join('d' * (MAX_DEPTH - 1)) + '/file'):
        await said(place.fs, 'write_file', path=path, content='text')
        await said(place.fs, 'edit_file', path=path, edits=[{'old': 'text', 'new': 'new'}])
        assert await said(place.fs, 'read_file', path=path) == 'new'


async def test_a_tree_of_many_levels_is_listed_as_far_as_it_can_be_read(place: World) -> None:
    handle = os.open(place.root, os.O_RDONLY)
    for _ in range(200):  # pytest's clean-up cannot remove many more
        os.mkdir('d', dir_fd=handle)
        below = os.open('d', os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)
    output = await said(place.fs, 'list_files', recursive=True)
    assert len(output['entries']) == MAX_DEPTH + 2
    assert output['entries'][-1]['error'] == f'more than {MAX_DEPTH} levels deep'


# ── files that are larger than they say ─────────────────────────────────────────────────────────────────────────────


async def test_ten_gigabytes_of_nothing_are_not_read(place: World) -> None:
    (place.root / 'sparse').touch()
    os.truncate(place.root / 'sparse', 10 * 2**30)
    message = (await call(place.fs, 'read_file', path='sparse')).output
    assert message == 'sparse: has 10,737,418,240 bytes, more than the 262,144 that may be read'
    assert (await call(place.fs, 'edit_file', path='sparse', **ASKED['edit_file'])).error


async def test_a_file_that_says_it_is_empty_and_is_not_is_read_up_to_the_limit() -> None:
    if not os.path.exists('/proc/self/maps'):
        pytest.skip('no /proc here')
    called = await call(Filesystem(root_dir='/proc/self', max_read_bytes=100), 'read_file', path='maps')
    assert called.output == 'maps: has 101 bytes, more than the 100 that may be read'


async def test_a_file_that_grows_while_it_is_read_is_read_up_to_the_limit(place: World) -> None:
    stop = threading.Event()

    def grow() -> None:
        with open(place.root / 'log', 'wb', buffering=0) as file:
            while not stop.is_set():
                file.write(b'x' * 100_000)
                if file.tell() > 50_000_000:
                    file.truncate(0)

    writer = asyncio.create_task(asyncio.to_thread(grow))
    try:
        for _ in range(20):
            called = await call(place.fs, 'read_file', path='log')
            assert len(called.output) <= 262_144
    finally:
        stop.set()
        await writer
