"""Files under one directory, opened name by name relative to a handle, so that no path leads out of it."""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lamella.types import ToolError

SUPPORTED = {os.open, os.stat, os.mkdir, os.rename, os.unlink, os.rmdir} <= os.supports_dir_fd and hasattr(
    os, 'O_NOFOLLOW'
)
MAX_DEPTH = 64
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096
CHUNK = 65_536
OPENINGS = 5
_BAD_KINDS = ('Cc', 'Cs', 'Zl', 'Zp')  # control characters, lone surrogates, line and paragraph separators

_COMMON = getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_CLOEXEC', 0)
_DIRECTORY = os.O_RDONLY | _COMMON | getattr(os, 'O_DIRECTORY', 0)
_FILE = os.O_RDONLY | _COMMON | getattr(os, 'O_NOCTTY', 0)


class Refusal(ToolError):
    """A path that is not followed. `reason` is one word for programs."""

    def __init__(self, path: str, reason: str, why: str) -> None:
        super().__init__(f'{shown(path)}: {why}')
        self.path, self.reason = path, reason


def shown(path: str) -> str:
    """A path as it can stand in a message: printable, and not too long."""
    text = path.encode('utf-8', 'backslashreplace').decode()
    text = ''.join(c if c.isprintable() else repr(c)[1:-1] for c in text[:200])
    return f'{text}…' if len(path) > 200 else text or "''"


def trouble(path: str, error: OSError) -> ToolError:
    """What the system said, without the place of the root, which is nobody's business."""
    code = error.errno or 0
    if code == errno.ELOOP:
        return Refusal(path, 'link', 'is or leads through a symbolic link, which is not followed')
    known = {
        errno.ENOENT: 'no such file or directory',
        errno.ENOTDIR: 'is no directory, or leads through something that is none',
        errno.EISDIR: 'is a directory',
        errno.EACCES: 'permission denied',
        errno.EPERM: 'permission denied',
    }
    return ToolError(f'{shown(path)}: {known.get(code) or os.strerror(code).lower()}')


def parts_of(path: str, denied: Callable[[str], bool]) -> tuple[str, ...]:
    """The names that a relative path is made of; none for the root itself. Raises Refusal."""
    check_characters(path)
    if path.startswith('/'):
        raise Refusal(path, 'outside', 'is absolute: give a path relative to the root, such as src/main.py')
    parts = tuple(part for part in path.split('/') if part not in ('', '.'))
    if '..' in parts:
        raise Refusal(path, 'outside', "leads out of its directory: '..' is not followed")
    if len(parts) > MAX_DEPTH:
        raise Refusal(path, 'name', f'has {len(parts)} levels, more than {MAX_DEPTH}')
    if any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise Refusal(path, 'name', f'has a name of more than {MAX_NAME_BYTES} bytes')
    if any(map(denied, parts)):
        raise Refusal(path, 'denied', 'is not open to this tool')
    return parts


def check_characters(path: str) -> None:
    """Raises Refusal for names that no honest path has."""
    if len(path) > MAX_PATH_BYTES:
        raise Refusal(path, 'name', f'is longer than {MAX_PATH_BYTES} bytes')
    if not is_plain(path):
        raise Refusal(path, 'name', 'holds a NUL, a line break or another control character')
    if len(path.encode()) > MAX_PATH_BYTES:
        raise Refusal(path, 'name', f'is longer than {MAX_PATH_BYTES} bytes')


def is_plain(name: str) -> bool:
    """Whether a name can be shown and said again: no control characters, line breaks or undecodable bytes."""
    return not any(unicodedata.category(character) in _BAD_KINDS for character in name)


def folded(name: str) -> str:
    """A name as file systems that fold case and drop characters may take it: `.GIT`, `.git.` and `.g\\u200bit` are `.git`."""
    name = unicodedata.normalize('NFKC', name)
    name = ''.join(c for c in name if unicodedata.category(c) != 'Cf')
    return unicodedata.normalize('NFKC', name.casefold()).rstrip('. ') or name


@contextmanager
def opened_directory(root: str, parts: tuple[str, ...], path: str) -> Iterator[int]:
    """A handle on the directory, reached from the root one name at a time, no link on the way. Raises ToolError."""
    handle = -1
    try:
        handle = _open_root(root)
        for index, part in enumerate(parts):
            below = _step(handle, part, '/'.join(parts[: index + 1]))
            os.close(handle)
            handle = below
        yield handle
    finally:
        if handle >= 0:
            os.close(handle)


def _open_root(root: str) -> int:
    try:
        return os.open(root, _DIRECTORY)
    except OSError as error:
        raise ToolError(f'the root directory cannot be opened: {os.strerror(error.errno or 0).lower()}') from None


def _step(handle: int, part: str, path: str) -> int:
    try:
        return os.open(part, _DIRECTORY, dir_fd=handle)
    except OSError as error:
        if error.errno == errno.ENOTDIR and _is_link(handle, part):  # what Linux says of a link with O_DIRECTORY
            error = OSError(errno.ELOOP, '')
        raise trouble(path, error) from None


def _is_link(handle: int, name: str) -> bool:
    with suppress(OSError):
        return stat.S_ISLNK(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode)
    return False


def made_directory(root: str, parts: tuple[str, ...], path: str) -> list[tuple[str, ...]]:
    """Make what is missing of a directory; the new ones, outermost first. Raises ToolError and leaves none of them."""
    made: list[tuple[str, ...]] = []
    try:
        for depth in range(1, len(parts) + 1):
            with opened_directory(root, parts[: depth - 1], path) as handle:
                try:
                    os.mkdir(parts[depth - 1], dir_fd=handle)
                except FileExistsError:
                    continue
                except OSError as error:
                    raise trouble('/'.join(parts[:depth]), error) from None
                made.append(parts[:depth])
    except BaseException:
        unmade(root, made)
        raise
    return made


def unmade(root: str, made: list[tuple[str, ...]]) -> None:
    """Take back directories that were made, as far as they are empty."""
    for parts in reversed(made):
        with suppress(OSError, ToolError), opened_directory(root, parts[:-1], '') as handle:
            os.rmdir(parts[-1], dir_fd=handle)


def check_regular(status: os.stat_result, path: str) -> None:
    """Raises Refusal for anything but a regular file with one name."""
    if stat.S_ISLNK(status.st_mode):
        raise trouble(path, OSError(errno.ELOOP, ''))
    if stat.S_ISDIR(status.st_mode):
        raise trouble(path, OSError(errno.EISDIR, ''))
    if not stat.S_ISREG(status.st_mode):
        raise Refusal(path, 'special', 'is a device, a pipe or a socket, not a regular file')
    if status.st_nlink > 1:
        raise Refusal(path, 'hard_link', f'has {status.st_nlink} names (hard links), and another may lie outside')


@contextmanager
def opened_file(handle: int, name: str, path: str) -> Iterator[tuple[int, os.stat_result]]:
    """A regular file in an open directory, for reading, with its status. Raises ToolError."""
    file = -1
    try:
        file, status = _surely_opened(handle, name, path)
        yield file, status
    except OSError as error:
        raise trouble(path, error) from None
    finally:
        if file >= 0:
            os.close(file)


def _surely_opened(handle: int, name: str, path: str) -> tuple[int, os.stat_result]:
    """Honest writers put a new file in the place of the old one, so that a few tries do."""
    for _ in range(OPENINGS):
        file, status, same = _opened(handle, name, path)
        if same:
            return file, status
        os.close(file)
    raise Refusal(path, 'changed', 'was changed again and again while it was opened')


def _opened(handle: int, name: str, path: str) -> tuple[int, os.stat_result, bool]:
    """A file and its status, and whether the name means this very file, and it has no other name.

    Looked at before it is opened, since opening a device may already do something, and again on the handle. Then the name is
    looked at once more: a hard link that was taken away between the two has but one name left, which lies elsewhere.
    """
    check_regular(os.stat(name, dir_fd=handle, follow_symlinks=False), path)
    file = os.open(name, _FILE, dir_fd=handle)
    try:
        status = os.fstat(file)
        check_regular(status, path)
        try:
            now = os.stat(name, dir_fd=handle, follow_symlinks=False)
        except FileNotFoundError:
            return file, status, False
        if (now.st_dev, now.st_ino) != (status.st_dev, status.st_ino):
            return file, status, False
        check_regular(now, path)
        return file, status, True
    except BaseException:
        os.close(file)
        raise


def read_up_to(file: int, limit: int, check: Callable[[], Any]) -> bytes:
    """At most `limit` bytes from here on, whatever size the file claims to have."""
    chunks, left = [], limit
    while left > 0:
        check()
        chunk = os.read(file, min(left, CHUNK))
        if not chunk:
            break
        chunks.append(chunk)
        left -= len(chunk)
    return b''.join(chunks)
