"""`Filesystem`: what the tools do with files, and that what they do not name stays as it was."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.middleware import Filesystem
from lamella.middleware._file_edits import Edit, edited
from lamella.middleware._file_writes import is_temporary
from lamella.testing import ScriptedModel
from lamella.types import ConfigError, MediaPart, ToolError, ToolRequest
from tests.middleware.kit import both, no_leaks, world
from tests.middleware.tools.calls import call, refused, said

PNG = b'\x89PNG\r\n\x1a\n' + bytes(range(256))


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob('*'))


@pytest.fixture
def writable(tmp_path: Path) -> Filesystem:
    return Filesystem(root_dir=tmp_path, allow_write_access=True)


# ── which tools there are ───────────────────────────────────────────────────────────────────────────────────────────


async def tools_of(*layers: Filesystem) -> dict[str, Any]:
    app = world({'x/a': ['done']})
    await app.ai.generate(prompt='go', use=list(layers))
    return {tool.name: tool for tool in app.models['x/a'].requests[0].tools}


async def test_without_write_access_there_is_nothing_to_write_with(tmp_path: Path) -> None:
    assert list(await tools_of(Filesystem(root_dir=tmp_path))) == ['list_files', 'read_file']


async def test_with_write_access_there_are_four_tools(writable: Filesystem) -> None:
    assert list(await tools_of(writable)) == ['list_files', 'read_file', 'write_file', 'edit_file']


async def test_two_roots_live_side_by_side_under_prefixes(tmp_path: Path) -> None:
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'who').write_text(name)
    layers = [Filesystem(root_dir=tmp_path / name, tool_name_prefix=f'{name}_') for name in ('a', 'b')]
    assert list(await tools_of(*layers)) == ['a_list_files', 'a_read_file', 'b_list_files', 'b_read_file']
    assert [await said(layers, f'{name}_read_file', path='who') for name in ('a', 'b')] == ['a', 'b']


async def test_the_model_is_told_the_parameters_of_the_first_seed(writable: Filesystem) -> None:
    tools = await tools_of(writable)
    schemas = {name: tool.input_schema for name, tool in tools.items()}
    assert list(schemas['list_files']['properties']) == ['path', 'recursive']
    assert 'required' not in schemas['list_files']
    assert [schemas['list_files']['properties'][key]['default'] for key in ('path', 'recursive')] == ['.', False]
    assert schemas['read_file']['required'] == ['path']
    assert schemas['write_file']['required'] == ['path', 'content']
    assert schemas['edit_file']['required'] == ['path', 'edits']
    assert all(tool.description for tool in tools.values())


# ── listing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_listing_says_name_type_and_size(tmp_path: Path) -> None:
    (tmp_path / 'sub').mkdir()
    (tmp_path / 'sub' / 'deep.txt').write_text('12345')
    (tmp_path / 'a.txt').write_text('1')
    fs = Filesystem(root_dir=tmp_path)
    top = [{'path': 'a.txt', 'type': 'file', 'bytes': 1}, {'path': 'sub', 'type': 'directory'}]
    deep = {'path': 'sub/deep.txt', 'type': 'file', 'bytes': 5}
    called = await call(fs, 'list_files')
    assert called.output == {'entries': top}
    assert called.facts('filesystem.listed') == [{'path': '.', 'entries': 2}]
    assert await said(fs, 'list_files', recursive=True) == {'entries': [*top, deep]}
    assert await said(fs, 'list_files', path='sub') == {'entries': [deep]}
    assert 'no such file' in await refused(fs, 'list_files', path='nowhere')
    assert 'no directory' in await refused(fs, 'list_files', path='a.txt')


async def test_a_long_listing_ends_and_says_so(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f'{number:02}').mkdir()
        (tmp_path / f'{number:02}' / 'x').touch()
    for recursive in (False, True):
        output = await said(Filesystem(root_dir=tmp_path, max_entries=20), 'list_files', recursive=recursive)
        assert (len(output['entries']), 'only 20 entries' in output['cut']) == (20, True)
    output = await said(Filesystem(root_dir=tmp_path, max_entries=45), 'list_files', recursive=True)
    assert (len(output['entries']), 'only 45 entries' in output['cut']) == (45, True)
    assert 'cut' not in await said(Filesystem(root_dir=tmp_path, max_entries=60), 'list_files', recursive=True)
    assert (await said(Filesystem(root_dir=tmp_path, max_entries=0), 'list_files'))['entries'] == []


async def test_links_and_other_things_are_shown_and_not_entered(tmp_path: Path) -> None:
    (tmp_path / 'outside').mkdir()
    (tmp_path / 'outside' / 'secret').touch()
    root = tmp_path / 'root'
    root.mkdir()
    (root / 'link').symlink_to('../outside')
    os.mkfifo(root / 'pipe')
    (root / 'one').touch()
    (root / 'two').hardlink_to(root / 'one')
    output = await said(Filesystem(root_dir=root), 'list_files', recursive=True)
    assert [(entry['path'], entry['type']) for entry in output['entries']] == [
        ('link', 'link'),
        ('one', 'hard link'),
        ('pipe', 'special'),
        ('two', 'hard link'),
    ]


async def test_a_directory_that_cannot_be_read_says_so_in_its_entry(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip('root reads everything')
    (tmp_path / 'shut').mkdir(mode=0)
    output = await said(Filesystem(root_dir=tmp_path), 'list_files', recursive=True)
    assert output['entries'] == [{'path': 'shut', 'type': 'directory', 'error': 'shut: permission denied'}]


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    'text', ['', 'plain\n', 'no end', 'a\r\nb\r\n', '\ufeffwith BOM', 'mixed\r\nends\n\r', 'äöü 🐈\u2028']
)
async def test_a_text_is_read_as_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / 'a').write_bytes(text.encode())
    assert await said(Filesystem(root_dir=tmp_path), 'read_file', path='./a') == text


async def test_an_image_is_read_as_media(tmp_path: Path) -> None:
    (tmp_path / 'cat.dat').write_bytes(PNG)
    called = await call(Filesystem(root_dir=tmp_path), 'read_file', path='cat.dat')
    assert called.output == MediaPart(data=PNG, content_type='image/png', name='cat.dat')
    assert called.facts('filesystem.read') == [{'path': 'cat.dat', 'bytes': len(PNG)}]


async def test_media_have_a_limit_of_their_own(tmp_path: Path) -> None:
    (tmp_path / 'cat.png').write_bytes(PNG)
    fs = Filesystem(root_dir=tmp_path, max_read_bytes=10, max_media_bytes=len(PNG))
    assert (await said(fs, 'read_file', path='cat.png')).data == PNG
    fs = Filesystem(root_dir=tmp_path, max_read_bytes=10, max_media_bytes=len(PNG) - 1)
    assert '264 bytes, more than the 263 that may be read' in await refused(fs, 'read_file', path='cat.png')


@pytest.mark.parametrize(
    ('head', 'name', 'kind'),
    [
        (b'\x7fELF\0', 'a.out', 'application/x-executable'),
        (b'PK\x03\x04\0', 'a.docx', 'application/zip'),
        (b'\0\1\2', 'a.mp3', 'audio/mpeg'),
        (b'\0\1\2', 'what', 'application/octet-stream'),
        (b'RIFF\0\0\0\0WAVE', 'a', 'audio/wav'),
    ],
)
async def test_other_binary_files_are_refused_or_read_as_media_when_asked(
    tmp_path: Path, head: bytes, name: str, kind: str
) -> None:
    (tmp_path / name).write_bytes(head)
    message = await refused(Filesystem(root_dir=tmp_path), 'read_file', path=name)
    assert message == f'{name}: a binary file ({kind}, {len(head)} bytes), which cannot be shown'
    media = await said(Filesystem(root_dir=tmp_path, media_types=['*/*']), 'read_file', path=name)
    assert (media.data, media.content_type) == (head, kind)


async def test_a_text_with_bytes_that_are_no_utf8_is_shown_with_a_note(tmp_path: Path) -> None:
    (tmp_path / 'latin').write_bytes('Käse\n'.encode('latin-1'))
    output = await said(Filesystem(root_dir=tmp_path), 'read_file', path='latin')
    assert output['text'] == 'K\ufffdse\n'
    assert 'edit_file keeps them' in output['note']


async def test_a_text_at_the_limit_is_read_and_one_above_it_is_not(tmp_path: Path) -> None:
    (tmp_path / 'a').write_text('x' * 11)
    assert len(await said(Filesystem(root_dir=tmp_path, max_read_bytes=11), 'read_file', path='a')) == 11
    called = await call(Filesystem(root_dir=tmp_path, max_read_bytes=10), 'read_file', path='a')
    assert called.output == 'a: has 11 bytes, more than the 10 that may be read'
    assert called.facts('filesystem.refused') == [{'tool': 'read_file', 'path': 'a', 'reason': 'too_large'}]


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_file_is_written_with_the_directories_it_needs(tmp_path: Path, writable: Filesystem) -> None:
    called = await call(writable, 'write_file', path='a/b/c.txt', content='one\r\ntwo')
    assert called.output == {'path': 'a/b/c.txt', 'bytes': 8, 'created': True}
    assert called.facts('filesystem.wrote') == [called.output]
    assert (tmp_path / 'a/b/c.txt').read_bytes() == b'one\r\ntwo'
    assert (await said(writable, 'write_file', path='a/b/c.txt', content=''))['created'] is False
    assert (tmp_path / 'a/b/c.txt').read_bytes() == b''
    assert names(tmp_path) == ['a', 'a/b', 'a/b/c.txt']


async def test_permissions_are_kept(tmp_path: Path, writable: Filesystem) -> None:
    script = tmp_path / 'run.sh'
    script.write_text('old')
    script.chmod(0o4751)
    await said(writable, 'write_file', path='run.sh', content='new')
    assert (script.read_text(), oct(script.stat().st_mode & 0o7777)) == ('new', oct(0o751))


async def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path, writable: Filesystem) -> None:
    await said(writable, 'write_file', path='a', content='')
    (tmp_path / 'b').touch()
    assert (tmp_path / 'a').stat().st_mode == (tmp_path / 'b').stat().st_mode


async def test_a_read_only_file_stays_as_it_is(tmp_path: Path, writable: Filesystem) -> None:
    (tmp_path / 'a').write_text('old')
    (tmp_path / 'a').chmod(0o444)
    assert await refused(writable, 'write_file', path='a', content='new') == 'a: the file is read-only'
    assert 'read-only' in await refused(writable, 'edit_file', path='a', edits=[{'old': 'old', 'new': 'new'}])
    assert (tmp_path / 'a').read_text() == 'old'


async def test_what_is_too_large_is_not_written(tmp_path: Path) -> None:
    fs = Filesystem(root_dir=tmp_path, allow_write_access=True, max_write_bytes=4)
    await said(fs, 'write_file', path='a', content='ää')
    assert 'larger than the 4 bytes' in await refused(fs, 'write_file', path='b', content='äää')
    assert 'larger' in await refused(fs, 'edit_file', path='a', edits=[{'old': 'ää', 'new': 'ääa'}])
    assert names(tmp_path) == ['a']
    (tmp_path / 'a').write_text('12345')
    assert 'larger' in await refused(fs, 'edit_file', path='a', edits=[{'old': '12345', 'new': ''}])


@pytest.mark.parametrize('path', ['', '.', 'sub', 'sub/', 'new/', 'new/.'])
async def test_a_directory_is_no_file(tmp_path: Path, writable: Filesystem, path: str) -> None:
    (tmp_path / 'sub').mkdir()
    for tool, more in (('write_file', {'content': ''}), ('read_file', {})):
        assert 'is a directory' in await refused(writable, tool, path=path, **more)
    assert names(tmp_path) == ['sub']


async def test_half_a_character_is_not_written(tmp_path: Path, writable: Filesystem) -> None:
    assert 'surrogate' in await refused(writable, 'write_file', path='a', content='x\ud800')
    assert names(tmp_path) == []


# ── editing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_edits_are_made_in_order(tmp_path: Path, writable: Filesystem) -> None:
    (tmp_path / 'a').write_text('one two three')
    edits = [{'old': 'two', 'new': '2'}, {'old': 'one 2', 'new': '1 + 1'}]
    called = await call(writable, 'edit_file', path='a', edits=edits)
    assert called.output == {'path': 'a', 'bytes': 11, 'edits': 2}
    assert called.facts('filesystem.edited') == [called.output]
    assert (tmp_path / 'a').read_text() == '1 + 1 three'


@pytest.mark.parametrize(
    ('edits', 'problem'),
    [
        ([{'old': 'one', 'new': '1'}, {'old': 'four', 'new': '4'}], 'edits[1].old does not occur: nothing was changed'),
        ([{'old': 'aa', 'new': 'b'}], 'edits[0].old occurs more than once: nothing was changed'),  # they overlap
        ([{'old': 't', 'new': 'T'}], 'occurs more than once'),
        ([{'old': 'One', 'new': '1'}], 'does not occur'),
        ([{'old': '', 'new': '1'}], 'at least 1 character'),
        ([{'old': 'one', 'new': '\udfff'}], 'surrogate'),
        ([{'old': 'one'}], 'edits.0.new: Field required'),
        ([{'old': 'one', 'new': '1', 'all': True}], 'Extra inputs are not permitted'),
        ([], 'at least 1 item'),
    ],
)
async def test_all_edits_are_made_or_none(tmp_path: Path, writable: Filesystem, edits: Any, problem: str) -> None:
    (tmp_path / 'a').write_text('one two three aaa')
    assert problem in await refused(writable, 'edit_file', path='a', edits=edits)
    assert (tmp_path / 'a').read_text() == 'one two three aaa'
    assert names(tmp_path) == ['a']


@pytest.mark.parametrize(
    ('before', 'after'),
    [
        (b'\xef\xbb\xbfold\r\n', b'\xef\xbb\xbfnew\r\n'),
        (b'old', b'new'),
        (b'\xff\xfe old \x80\0', b'\xff\xfe new \x80\0'),
        (b'a\r\nold\nb\r', b'a\r\nnew\nb\r'),
        (b'K\xe4se old', b'K\xe4se new'),
    ],
)
async def test_bytes_that_no_edit_names_stay(tmp_path: Path, writable: Filesystem, before: bytes, after: bytes) -> None:
    (tmp_path / 'a').write_bytes(before)
    await said(writable, 'edit_file', path='a', edits=[{'old': 'old', 'new': 'new'}])
    assert (tmp_path / 'a').read_bytes() == after


@pytest.mark.parametrize(
    ('before', 'after'),
    [
        (b'one\r\ntwo\r\nthree\r\n', b'1\r\n2\r\nthree\r\n'),
        (b'one\ntwo\nthree\n', b'1\n2\nthree\n'),
        (b'one\ntwo\nthree\r\n', b'1\n2\nthree\r\n'),
    ],
)
async def test_line_feeds_in_an_edit_fit_the_line_ends_of_the_file(
    tmp_path: Path, writable: Filesystem, before: bytes, after: bytes
) -> None:
    (tmp_path / 'a').write_bytes(before)
    await said(writable, 'edit_file', path='a', edits=[{'old': 'one\ntwo', 'new': '1\n2'}])
    assert (tmp_path / 'a').read_bytes() == after


@given(st.binary(max_size=60), st.text('ab\r\nä', min_size=1, max_size=3), st.text('xy\r\n', max_size=4), st.data())
def test_an_edit_changes_one_place_and_nothing_else(noise: bytes, old: str, new: str, data: Any) -> None:
    at = data.draw(st.integers(0, len(noise)))
    content = noise[:at] + old.encode() + noise[at:]
    places = [i for i in range(len(content)) if content.startswith(old.encode(), i)]
    crlf = b'\r\n' in content and content.count(b'\n') == content.count(b'\r\n')
    if crlf and '\n' in old:
        return
    try:
        after = edited(content, [Edit(old=old, new=new)], 'a')
    except ToolError:
        assert len(places) > 1
        return
    assert len(places) == 1
    inserted = new.replace('\n', '\r\n') if crlf and '\r' not in new else new
    assert after == content[: places[0]] + inserted.encode() + content[places[0] + len(old.encode()) :]


async def test_two_edits_of_one_file_in_one_turn_both_hold(tmp_path: Path) -> None:
    (tmp_path / 'a').write_text(' '.join(f'<{number}>' for number in range(20)))
    asks = [
        ToolRequest('edit_file', {'path': 'a', 'edits': [{'old': f'<{n}>', 'new': f'[{n}]'}]}, f'r-{n}')
        for n in range(20)
    ]
    app = world({'x/a': [asks, 'done']}, max_parallel_tools=20)
    layer = Filesystem(root_dir=tmp_path, allow_write_access=True)
    response = await app.ai.generate(prompt='go', use=[layer])
    assert not any(part.tool_response.is_error for part in response.turns[0].tool_responses)
    assert (tmp_path / 'a').read_text() == ' '.join(f'[{number}]' for number in range(20))


async def test_two_layers_of_one_root_do_not_lose_edits_either(tmp_path: Path) -> None:
    (tmp_path / 'a').write_text(' '.join(f'<{number}>' for number in range(20)))

    async def edit(number: int) -> Any:
        fs = Filesystem(root_dir=tmp_path, allow_write_access=True)
        return await said(fs, 'edit_file', path='a', edits=[{'old': f'<{number}>', 'new': f'[{number}]'}])

    await asyncio.gather(*[edit(number) for number in range(20)])
    assert '<' not in (tmp_path / 'a').read_text()


# ── writes that fail half way ───────────────────────────────────────────────────────────────────────────────────────

FULL = """
import asyncio, os, resource, sys
from lamella.middleware import Filesystem
from tests.middleware.tools.calls import call
root, mode = sys.argv[1:]
open(f'{root}/a', 'w').write('the old text')
if mode == 'limit':
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
fs = Filesystem(root_dir=root, allow_write_access=True)
async def main():
    edits = [{'old': 'old', 'new': 'x' * 900_000}]
    for tool, more in (('write_file', {'content': 'x' * 900_000}), ('edit_file', {'edits': edits})):
        called = await call(fs, tool, path='a', **more)
        print(called.error, called.output)
    called = await call(fs, 'write_file', path='new/deep/b', content='x' * 900_000)
    print(called.error, called.output)
    print(sorted(os.listdir(root)), open(f'{root}/a').read())
asyncio.run(main())
"""


def run_program(
    source: str, *arguments: str, prefix: tuple[str, ...] = (), **options: Any
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*sys.path, os.getcwd()])
    return subprocess.run(
        [*prefix, sys.executable, '-c', source, *arguments],
        env={**os.environ, 'PYTHONPATH': path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


@pytest.mark.slow
def test_a_write_that_meets_the_size_limit_of_the_system_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    ran = run_program(FULL, str(tmp_path), 'limit')
    assert ran.returncode == 0, ran.stderr
    why = os.strerror(errno.EFBIG).lower()
    assert ran.stdout.splitlines() == [
        f'True a: {why}',
        f'True a: {why}',
        f'True new/deep/b: {why}',
        "['a'] the old text",
    ]


@pytest.mark.slow
def test_a_write_to_a_full_disk_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    disk = tmp_path / 'disk'
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=256k tmpfs {disk} && exec "$@"'
    try:
        ran = run_program(FULL, str(disk), 'full', prefix=('unshare', '-rm', 'sh', '-c', mount, 'sh'))
    except FileNotFoundError:
        pytest.skip('no unshare here')
    if 'unshare' in ran.stderr or 'mount:' in ran.stderr:
        pytest.skip(f'no small disk to be had: {ran.stderr}')
    assert ran.returncode == 0, ran.stderr
    why = os.strerror(errno.ENOSPC).lower()
    assert ran.stdout.splitlines() == [
        f'True a: {why}',
        f'True a: {why}',
        f'True new/deep/b: {why}',
        "['a'] the old text",
    ]


KILLED = """
import os, signal, sys
from lamella.middleware import _file_writes as writes
from lamella.middleware._files import opened_directory
root, step = sys.argv[1], int(sys.argv[2])
calls = 0
def die(event, args):
    global calls
    if event in ('open', 'os.rename') or event == 'check':
        calls += 1
        if calls == step:
            os.kill(os.getpid(), signal.SIGKILL)
with opened_directory(root, (), '.') as handle:
    before = writes.status_of(handle, 'a', 'a')
    sys.addaudithook(die)
    writes.write_whole(handle, 'a', 'a', b'new' * 100_000, before, lambda: sys.audit('check'))
print('steps', calls)
"""


@pytest.mark.slow
def test_a_writer_that_is_killed_at_any_step_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    seen, step = set(), 0
    while True:
        step += 1
        (tmp_path / 'a').write_text('the old text')
        ran = run_program(KILLED, str(tmp_path), str(step))
        content = (tmp_path / 'a').read_bytes()
        assert content in (b'the old text', b'new' * 100_000)
        seen.add(content)
        if ran.returncode == 0:
            break
        assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert (len(seen), step > 6) == (2, True)
    assert [name for name in os.listdir(tmp_path) if name != 'a' and not is_temporary(name)] == []


async def test_what_a_killed_writer_left_is_out_of_the_tools_sight(tmp_path: Path, writable: Filesystem) -> None:
    (tmp_path / '.lamella-0011.tmp').write_text('half')
    assert await said(writable, 'list_files') == {'entries': []}
    assert 'not open to this tool' in await refused(writable, 'read_file', path='.lamella-0011.tmp')


# ── cancellation, streams, concurrency ──────────────────────────────────────────────────────────────────────────────


async def test_a_cancelled_write_changes_nothing_afterwards(tmp_path: Path, writable: Filesystem) -> None:
    """Cancelled at every moment that the loop gives: after the call has ended, nothing moves any more."""
    ends = set()
    for turns in [*range(12), 30, 60, 90, 1000]:
        (tmp_path / 'a').write_text('old')
        async with no_leaks():
            task = asyncio.create_task(call(writable, 'write_file', path='a', content='new' * 100_000))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):  # the last ones may be done by now
                await task
            after = (tmp_path / 'a').read_bytes()
            ends.add(after)
            assert after in (b'old', b'new' * 100_000)
            assert names(tmp_path) == ['a']
    assert b'old' in ends


class Gate:
    """In the place of a lock: says when a thread has come to it, and lets it through when told."""

    def __init__(self) -> None:
        self._loop, self.reached, self._open = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def __enter__(self) -> None:
        self._loop.call_soon_threadsafe(self.reached.set)
        self._open.wait()

    def __exit__(self, *error: object) -> None: ...

    def open(self) -> None:
        self._open.set()


async def test_a_cancelled_call_waits_for_its_thread_and_then_passes(tmp_path: Path, writable: Filesystem) -> None:
    gate = writable._lock = Gate()
    async with no_leaks():
        task = asyncio.create_task(call(writable, 'write_file', path='new/a', content='x'))
        await gate.reached.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert names(tmp_path) == []


async def test_a_call_that_is_cancelled_before_a_thread_is_free_waits_for_none(writable: Filesystem) -> None:
    loop, release = asyncio.get_running_loop(), threading.Event()
    pool = ThreadPoolExecutor(1)
    loop.set_default_executor(pool)
    busy = loop.run_in_executor(None, release.wait)
    task = asyncio.create_task(call(writable, 'write_file', path='a', content='x'))
    for _ in range(50):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    await busy
    pool.shutdown()
    assert names(Path(writable.config.root_dir)) == []


async def test_streams_use_the_tools_too(tmp_path: Path) -> None:
    (tmp_path / 'a').write_text('text')
    response = await both(
        lambda: world({'x/a': [ToolRequest('read_file', {'path': 'a'}, 'r-1'), 'done']}, random=Random(3)).ai,
        prompt='go',
        use=[Filesystem(root_dir=tmp_path)],
    )
    assert response.turns[0].tool_responses[0].tool_response.output == 'text'


async def test_many_calls_leave_no_handle_open(tmp_path: Path, writable: Filesystem) -> None:
    async def round_trip() -> None:
        await said(writable, 'write_file', path='a/b/c', content='x')
        await said(writable, 'edit_file', path='a/b/c', edits=[{'old': 'x', 'new': 'y'}])
        await said(writable, 'list_files', recursive=True)
        await refused(writable, 'read_file', path='a/b/c/d')
        await refused(writable, 'write_file', path='a/b', content='')

    await round_trip()
    before = len(os.listdir('/dev/fd'))
    for _ in range(5):
        await round_trip()
    assert len(os.listdir('/dev/fd')) == before


async def test_the_tools_work_for_a_real_conversation(tmp_path: Path, writable: Filesystem) -> None:
    model = ScriptedModel(
        [
            ToolRequest('write_file', {'path': 'n.txt', 'content': 'draft'}),
            ToolRequest('edit_file', {'path': 'n.txt', 'edits': [{'old': 'draft', 'new': 'final'}]}),
            ToolRequest('read_file', {'path': 'n.txt'}),
            'ready',
        ]
    )
    app = world({'x/a': []})
    response = await app.ai.generate(model=model, prompt='write', use=[writable])
    assert response.text == 'ready'
    assert response.turns[2].tool_responses[0].tool_response.output == 'final'


# ── settings ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ('options', 'problems'),
    [
        ({}, ['root_dir: Field required']),
        ({'root_dir': 'no/such/place'}, ['root_dir: Value error, is no directory: make it first']),
        ({'root_dir': ''}, ['give the path of a directory']),
        ({'root_dir': 3}, ['give the path of a directory']),
        ({'root_dir': b'.'}, ['give the path of a directory']),
        ({'root_dir': '.', 'tool_name_prefix': 'a b'}, ['tool_name_prefix', 'letters, digits']),
        ({'root_dir': '.', 'tool_name_prefix': 'x' * 49}, ['up to 48']),
        ({'root_dir': '.', 'allow_write_access': 'yes'}, ['allow_write_access']),
        ({'root_dir': '.', 'max_read_bytes': -1, 'max_entries': 1.5}, ['max_read_bytes', 'max_entries']),
        ({'root_dir': '.', 'denied_names': '.git'}, ["write a list of patterns, such as ['.git']"]),
        ({'root_dir': '.', 'denied_names': ['a/b']}, ["'a/b' is no pattern of one name"]),
        ({'root_dir': '.', 'media_types': ['png']}, ["'png' is no MIME type"]),
        ({'root': '.', 'allow_write': True}, ["did you mean 'root_dir'", "did you mean 'allow_write_access'"]),
    ],
)
def test_wrong_settings_are_refused_when_built(options: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Filesystem(**options)
    assert [problem for problem in problems if problem not in str(caught.value)] == []


async def test_the_root_is_where_it_was_when_the_layer_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'root').mkdir()
    (tmp_path / 'root' / 'a').write_text('here')
    monkeypatch.chdir(tmp_path)
    fs = Filesystem(root_dir='root')
    monkeypatch.chdir('/')
    assert await said(fs, 'read_file', path='a') == 'here'


async def test_zero_means_zero(tmp_path: Path) -> None:
    (tmp_path / 'empty').touch()
    (tmp_path / 'a').write_text('x')
    fs = Filesystem(root_dir=tmp_path, allow_write_access=True, max_read_bytes=0, max_write_bytes=0)
    assert await said(fs, 'read_file', path='empty') == ''
    assert '1 bytes, more than the 0' in await refused(fs, 'read_file', path='a')
    assert 'larger than the 0 bytes' in await refused(fs, 'write_file', path='b', content='x')
