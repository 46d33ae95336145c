"""Landlock, for systems that let no namespaces be made, as most containers: a process forgoes rights for good.

Standard library only: this runs inside. docs.kernel.org/userspace-api/landlock.html.
"""

from __future__ import annotations

import ctypes
import os
import stat

from lamella.middleware._sandbox_words import Bind, Quietly

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many rights there are to files, by version; later ones have no more
_EXECUTE, _WRITE, _READ, _LIST, _TRUNCATE, _IOCTL = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE | _IOCTL
_MAKE_DEVICES = 1 << 6 | 1 << 11
_ABSTRACT_SOCKETS, _SIGNALS = 1 << 0, 1 << 1
_DEVICES = ('null', 'zero', 'full', 'random', 'urandom')
NEEDED = {'filesystem': 3, 'processes': 6}  # the version from which on a wall has no gap (truncation, signals)


def version() -> int:
    """The version of Landlock in the kernel; 0 for none."""
    return max(0, int(_libc.syscall(_CREATE, None, 0, 1)))


def forgo(walls: tuple[str, ...], binds: list[Bind], home: str) -> None:
    """Keep, of all files, the right to read `binds` and to use `home` and a few devices; send no signals to the outside.

    Raises OSError when the kernel cannot do that without a gap.
    """
    have = version()
    wanted = [wall for wall in walls if have < NEEDED.get(wall, 0)]
    if wanted:
        raise OSError(f'Landlock {have} of this kernel is too old for {", ".join(wanted)}')
    files = (1 << _RIGHTS.get(have, 16)) - 1 if 'filesystem' in walls else 0
    scoped = _ABSTRACT_SOCKETS | _SIGNALS if 'processes' in walls else 0
    if not files and not scoped:
        return
    attributes = (ctypes.c_uint64 * 3)(files, 0, scoped)
    ruleset = _libc.syscall(_CREATE, ctypes.byref(attributes), 24 if have >= 6 else 8, 0)
    _check(ruleset, 'make a ruleset')
    if files:
        _allow_files(ruleset, binds, home, files)
    _check(_libc.syscall(_RESTRICT, ruleset, 0), 'forgo rights')
    os.close(ruleset)


def _allow_files(ruleset: int, binds: list[Bind], home: str, rights: int) -> None:
    for place, _, writable in binds:
        if not writable and any(may and place.startswith(f'{outer}/') for outer, _, may in binds):
            raise OSError(f'Landlock cannot keep {place} as it is inside of a place that may be written')
    look, change = _EXECUTE | _READ | _LIST, rights & ~_MAKE_DEVICES & ~_IOCTL
    for source, _, writable in binds:
        _allow(ruleset, source, change if writable else look)
    _allow(ruleset, home, change)
    for name in _DEVICES:
        _allow(ruleset, f'/dev/{name}', _READ | _WRITE)
    with Quietly(FileNotFoundError):
        _allow(ruleset, f'/proc/{os.getpid()}', _READ | _LIST)


def _allow(ruleset: int, place: str, rights: int) -> None:
    handle = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            rights &= _OF_FILES
        rule = rights.to_bytes(8, 'little') + handle.to_bytes(4, 'little')  # struct landlock_path_beneath_attr, packed
        _check(_libc.syscall(_ADD, ruleset, 1, rule, 0), f'allow {place}')
    finally:
        os.close(handle)


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f'Landlock: {what}: {os.strerror(code)}')
