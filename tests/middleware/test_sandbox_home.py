"""The directory of a call: gone afterwards, whatever lies in it."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from lamella.middleware._sandbox_clean import remove
from lamella.middleware._sandbox_home import own_directory
from lamella.middleware._threads import to_the_end


async def test_it_is_there_for_the_call_and_gone_afterwards() -> None:
    async with own_directory() as home:
        (Path(home) / 'a' / 'b').mkdir(parents=True)
        (Path(home) / 'a' / 'b' / 'c').write_text('x')
    assert not os.path.exists(home)


async def test_it_goes_when_the_call_fails_or_is_cancelled() -> None:
    homes, inside = [], asyncio.Event()

    async def call() -> None:
        async with own_directory() as home:
            homes.append(home)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not os.path.exists(homes[0])


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    outside, home = tmp_path / 'outside', tmp_path / 'home'
    (outside / 'kept').mkdir(parents=True)
    (home / 'sub').mkdir(parents=True)
    for place in (home, home / 'sub'):
        (place / 'link').symlink_to(outside)
        (place / 'file').symlink_to(outside / 'kept')
        os.mkfifo(place / 'pipe')
    outside.chmod(0o755)
    remove(str(home))
    assert (home.exists(), (outside / 'kept').exists(), oct(outside.stat().st_mode)[-3:]) == (False, True, '755')


def test_directories_without_rights_are_removed(tmp_path: Path) -> None:
    for path in ('home', 'home/a', 'home/a/b', 'home/a/b/c'):
        (tmp_path / path).mkdir()
    for path in ('home/a/b/c', 'home/a/b', 'home/a'):
        (tmp_path / path).chmod(0)
    remove(str(tmp_path / 'home'))
    assert not (tmp_path / 'home').exists()


def test_a_tree_that_is_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    os.mkdir('home', dir_fd=handle)
    for name in ('home', *['d' * 100] * 3000):
        below = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
        os.mkdir('d' * 100, dir_fd=handle)
    os.close(handle)
    remove(str(tmp_path / 'home'))
    assert not (tmp_path / 'home').exists()


async def test_cleaning_up_is_not_called_off() -> None:
    release, done = threading.Event(), []
    task = asyncio.create_task(to_the_end(lambda: (release.wait(), done.append(1))))
    await asyncio.sleep(0)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [1]
