"""Removing a directory whatever a tool has left there. Standard library only: the supervisor does it when the app is gone."""

from __future__ import annotations

import os
import stat

from lamella.middleware._sandbox_words import Quietly


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
    with Quietly(OSError):
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
