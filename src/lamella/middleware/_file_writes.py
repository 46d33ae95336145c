"""Writing a file whole or not at all, in a directory that is already open."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

from lamella.middleware._files import CHUNK, Refusal, check_regular, shown, trouble
from lamella.types import ToolError

_TEMPORARY = '.lamella-'
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_CLOEXEC', 0)
_LOCKS: WeakValueDictionary[str, Lock] = WeakValueDictionary()
_LOCKS_LOCK = Lock()


def lock_of(root: str) -> Lock:
    """One lock for each root in this process: two edits of one file never lose each other's work."""
    with _LOCKS_LOCK:
        lock = _LOCKS.get(root)
        if lock is None:
            lock = _LOCKS[root] = Lock()
        return lock


def is_temporary(name: str) -> bool:
    """Whether a name is that of a file which is being written, or was when its writer was killed."""
    return name.casefold().startswith(_TEMPORARY)


def status_of(handle: int, name: str, path: str) -> os.stat_result | None:
    """The file that is to be replaced, or `None` when there is none yet. Raises ToolError for what is not replaced."""
    try:
        status = os.stat(name, dir_fd=handle, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise trouble(path, error) from None
    check_regular(status, path)
    if not status.st_mode & 0o222 or not os.access(name, os.W_OK, dir_fd=handle):
        raise ToolError(f'{shown(path)}: the file is read-only')
    return status


def write_whole(
    handle: int, name: str, path: str, content: bytes, before: os.stat_result | None, check: Callable[[], Any]
) -> None:
    """Put `content` in the place of the file that had status `before` (`None`: of no file).

    Written beside it, flushed to the disk and renamed over it: a reader sees the old or the new file, and so does whoever
    looks after a crash. Permissions are kept, and the owner where the system allows it; set-user-id bits are not. Raises
    ToolError, and then nothing has changed and nothing is left behind.
    """
    temporary = f'{_TEMPORARY}{os.urandom(12).hex()}.tmp'
    try:
        file = os.open(temporary, _NEW, 0o666 if before is None else 0o600, dir_fd=handle)
    except OSError as error:
        raise trouble(path, error) from None
    try:
        try:
            _fill(file, content, check)
            if before is not None:
                _keep(file, before)
            os.fsync(file)
        finally:
            os.close(file)
        _check_unchanged(handle, name, path, before)
        check()
        os.rename(temporary, name, src_dir_fd=handle, dst_dir_fd=handle)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=handle)
        if isinstance(error, OSError):
            raise trouble(path, error) from None
        raise
    with suppress(OSError):  # the file is in its place; some file systems cannot flush a directory
        os.fsync(handle)


def _fill(file: int, content: bytes, check: Callable[[], Any]) -> None:
    view = memoryview(content)
    while view:
        check()
        view = view[os.write(file, view[:CHUNK]) :]


def _keep(file: int, before: os.stat_result) -> None:
    now = os.fstat(file)
    if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
        with suppress(OSError):
            os.fchown(file, before.st_uid, before.st_gid)
    os.fchmod(file, stat.S_IMODE(before.st_mode) & 0o777)


def _check_unchanged(handle: int, name: str, path: str, before: os.stat_result | None) -> None:
    """Raises ToolError when somebody else wrote, replaced or removed the file since it was looked at."""
    now = status_of(handle, name, path)
    if _identity(now) != _identity(before):
        raise Refusal(path, 'changed', 'was changed by somebody else in the meantime: read it again')


def _identity(status: os.stat_result | None) -> tuple[int, ...] | None:
    return None if status is None else (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
