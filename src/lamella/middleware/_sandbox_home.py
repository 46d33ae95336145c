"""A directory that belongs to one sandboxed call, and its removal whatever the tool has left there."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from lamella.middleware._threads import to_the_end


@asynccontextmanager
async def own_directory() -> AsyncIterator[str]:
    """Anybody may write in it: the tool may be another user."""
    home = tempfile.mkdtemp(prefix='sandbox-')
    os.chmod(home, 0o777)
    try:
        yield home
    finally:
        await to_the_end(lambda: remove(home))


def remove(top: str) -> None:
    """Remove a directory that no process uses any more, however deep it goes: what lies deeper is moved up first.

    Follows no links. What the system does not let go of stays.
    """
    handle = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        stuck = set[str]()
        while names := set(os.listdir(handle)) - stuck:
            stuck |= {name for name in names if not _removed(handle, name)}
    finally:
        os.close(handle)
    with suppress(OSError):
        os.rmdir(top)


def _removed(handle: int, name: str) -> bool:
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=handle)
            return True
        os.chmod(name, 0o700, dir_fd=handle)
        return _emptied(handle, name)
    except OSError:
        return False


def _emptied(handle: int, name: str) -> bool:
    inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
    try:
        for below in os.listdir(inside):
            if stat.S_ISDIR(os.stat(below, dir_fd=inside, follow_symlinks=False).st_mode):
                os.chmod(below, 0o700, dir_fd=inside)
                os.rename(below, os.urandom(16).hex(), src_dir_fd=inside, dst_dir_fd=handle)
            else:
                os.unlink(below, dir_fd=inside)
    finally:
        os.close(inside)
    os.rmdir(name, dir_fd=handle)
    return True
