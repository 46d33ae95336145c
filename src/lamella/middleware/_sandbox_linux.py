"""Linux by hand, through ctypes: namespaces, a private root, capabilities, the filter of system calls.

Standard library only, and as little of it as can be: this runs inside, and each import makes every call slower. Each
function raises OSError with what it was about to do.
"""

from __future__ import annotations

import ctypes
import os

from lamella.middleware._sandbox_calls import filter_program
from lamella.middleware._sandbox_words import NOBODY, Bind, Link, Quietly

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_libc.syscall.restype = ctypes.c_long

NEW_NS, NEW_CGROUP, NEW_UTS, NEW_IPC, NEW_USER, NEW_PID, NEW_NET = (
    0x00020000,
    0x02000000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_MNT_DETACH, _AT_FDCWD, _AT_RECURSIVE = 2, -100, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV, _ATTR_NOEXEC = 1, 2, 4, 8
_MOUNT_SETATTR = 442
_PIVOT_ROOT = {'x86_64': 155, 'aarch64': 41}
_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 1, 8, 22, 24
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 36, 38, 47
_CAP_DAC_READ_SEARCH, _CAP_SETGID, _CAP_SETUID, _CAP_SYS_ADMIN = 2, 6, 7, 21
_DEVICES = ('null', 'zero', 'full', 'random', 'urandom')


def _checked(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f'{what}: {os.strerror(code)}')


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    done = _libc.mount(_bytes(source), _bytes(target), _bytes(kind), flags, _bytes(options))
    _checked(done, f'mount {kind or source} on {target}')


def _prctl(option: int, value: int, what: str, more: int = 0) -> None:
    _checked(_libc.prctl(option, value, more, 0, 0), what)


def has_capabilities(*wanted: int) -> bool:
    """Whether this process has all these capabilities in force."""
    words = _words('/proc/self/status')
    held = int(words[words.index('CapEff:') + 1], 16)
    return all(held >> one & 1 for one in wanted)


def may_become_others(with_mounts: bool) -> bool:
    """Whether this process may take another user's place and, `with_mounts`, make namespaces without one for users."""
    return has_capabilities(_CAP_SETGID, _CAP_SETUID, *((_CAP_SYS_ADMIN,) if with_mounts else ()))


def die_with_parent() -> None:
    """Ask to be killed when the parent ends. A change of user undoes it."""
    _prctl(_PR_SET_PDEATHSIG, 9, 'ask to die with the parent')


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 'adopt orphans')


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), 'make namespaces')


def own_users(more: int) -> None:
    """A namespace of users, in which this user is itself (or nobody instead of root) and has every capability, with the other
    new ones."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(NEW_USER | more)
    maps = (('setgroups', 'deny'), ('uid_map', f'{uid or NOBODY} {uid} 1'), ('gid_map', f'{gid or NOBODY} {gid} 1'))
    for name, text in maps:
        try:
            with open(f'/proc/self/{name}', 'w') as file:
                file.write(text)
        except OSError as error:
            raise OSError(error.errno, f'map users: {os.strerror(error.errno or 0)}') from error


def private_root(binds: list[Bind], links: list[Link], tmp_bytes: int, with_proc: bool) -> None:
    """A root of its own in a new mount namespace: an empty one with `binds`, a few devices and a small /tmp.

    Everything else is read-only, without devices and without set-user-id programs. The old root is gone afterwards.
    """
    _mount(None, '/', None, _MS_REC | _MS_PRIVATE)
    base = next(place for place in ('/tmp', '/var', '/usr', '/dev') if os.path.isdir(place))
    _mount('tmpfs', base, 'tmpfs', _MS_NOSUID | _MS_NODEV, 'size=4m,mode=755')
    os.umask(0o022)
    os.chdir(base)
    os.mkdir('old')
    _checked(_libc.syscall(_PIVOT_ROOT[os.uname().machine], b'.', b'old'), 'change the root')
    os.chdir('/')
    os.mkdir('/tmp', 0o755)
    _mount('tmpfs', '/tmp', 'tmpfs', _MS_NOSUID | _MS_NODEV, f'size={tmp_bytes},nr_inodes=16384,mode=1777')
    bound: list[str] = []
    for source, target, writable in binds:
        if _made(target, os.path.isdir(f'/old{source}'), bound):
            _bind(f'/old{source}', target, _ATTR_NOSUID | _ATTR_NODEV | (0 if writable else _ATTR_RDONLY))
            bound.append(target)
    for target, name in links:
        os.symlink(target, name)
    _devices()
    if with_proc:
        os.mkdir('/proc')
        with Quietly(PermissionError):  # inside a container the system may keep it back; tools do without
            _mount('proc', '/proc', 'proc', _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _checked(_libc.umount2(b'/old', _MNT_DETACH), 'leave the old root')
    os.rmdir('/old')
    _set_attributes('/', _ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV, recursive=False)


def _made(target: str, is_directory: bool, bound: list[str]) -> bool:
    """Whether there is a place to bind to. Inside of what is bound already nothing is made: that is the host's."""
    if any(target == place or target.startswith(f'{place}/') for place in bound):
        return os.path.isdir(target) == is_directory and not os.path.islink(target) and os.path.exists(target)
    os.makedirs(target if is_directory else os.path.dirname(target), exist_ok=True)
    if not is_directory:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    return True


def _bind(source: str, target: str, attributes: int) -> None:
    _mount(source, target, None, _MS_BIND | _MS_REC)
    _set_attributes(target, attributes, recursive=True)


def _set_attributes(target: str, attributes: int, recursive: bool) -> None:
    wanted = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    done = _libc.syscall(_MOUNT_SETATTR, _AT_FDCWD, os.fsencode(target), flags, ctypes.byref(wanted), 32)
    _checked(done, f'protect {target}')


def _devices() -> None:
    os.mkdir('/dev')
    for name in _DEVICES:
        if os.path.exists(f'/old/dev/{name}'):
            os.close(os.open(f'/dev/{name}', os.O_CREAT | os.O_WRONLY, 0o644))
            _bind(f'/old/dev/{name}', f'/dev/{name}', _ATTR_NOSUID | _ATTR_NOEXEC)
    os.symlink('/tmp', '/dev/shm')
    for number, name in enumerate(('stdin', 'stdout', 'stderr')):
        os.symlink(f'/proc/self/fd/{number}', f'/dev/{name}')
    os.symlink('/proc/self/fd', '/dev/fd')


def drop_privileges(uid: int, may_read_all: bool) -> None:
    """No capability any more, none to be had, and as root another user, whom nothing belongs to.

    `may_read_all` keeps what reading needs: without a private root, programs of root may lie where only root can read.
    """
    reads = may_read_all and uid >= 0 and has_capabilities(_CAP_DAC_READ_SEARCH)
    if uid >= 0:
        _prctl(_PR_SET_KEEPCAPS, int(reads), 'keep capabilities')
    for capability in range(64):
        if not (reads and capability == _CAP_DAC_READ_SEARCH):
            _libc.prctl(
                _PR_CAPBSET_DROP, capability, 0, 0, 0
            )  # fails after the last one there is, or without the right
    if uid >= 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    kept = 1 << _CAP_DAC_READ_SEARCH if reads else 0
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    sets = (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0)
    _checked(_libc.capset(ctypes.byref(header), ctypes.byref(sets)), 'drop capabilities')
    if kept:
        _prctl(_PR_CAP_AMBIENT, 2, 'keep the capability to read', _CAP_DAC_READ_SEARCH)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, 'forgo new privileges')


def filter_calls(denied: list[dict[str, tuple[int, int]]], sockets: tuple[int, ...] | None) -> None:
    """Refuse, from here on and for all descendants, the system calls of these tables and other kinds of sockets."""
    program = filter_program(os.uname().machine, denied, sockets)

    class Program(ctypes.Structure):
        _fields_ = (('length', ctypes.c_ushort), ('code', ctypes.c_char_p))

    packed = Program(len(program) // 8, program)
    _prctl(_PR_SET_SECCOMP, 2, 'filter system calls', ctypes.addressof(packed))


def descendants(pid: int) -> list[int]:
    """All living descendants, by /proc; none where there is no such file."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = _children(waiting.pop())
        found += children
        waiting += children
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with Quietly(OSError):  # gone by now
        for task in os.listdir(f'/proc/{pid}/task'):
            found += map(int, _words(f'/proc/{pid}/task/{task}/children'))
    return found


def tasks_of(uid: int) -> int:
    """How many processes and threads a user has."""
    total = 0
    for name in filter(str.isdigit, os.listdir('/proc')):
        try:
            if os.stat(f'/proc/{name}').st_uid == uid:
                total += len(os.listdir(f'/proc/{name}/task'))
        except OSError:
            continue
    return total


def memory_of(pids: list[int], exactly: bool) -> int:
    """Bytes of memory of their own that these processes hold together; `exactly` counts what they share once."""
    total = 0
    for pid in pids:
        try:
            total += _proportional(pid) if exactly else _private(pid)
        except (OSError, ValueError, IndexError):
            continue
    return total


def _private(pid: int) -> int:
    numbers = _words(f'/proc/{pid}/statm')
    return (int(numbers[1]) - int(numbers[2])) * os.sysconf('SC_PAGE_SIZE')


def _proportional(pid: int) -> int:
    words = _words(f'/proc/{pid}/smaps_rollup')
    return int(words[words.index('Pss_Anon:') + 1]) * 1024


def _words(path: str) -> list[str]:
    with open(path) as file:
        return file.read().split()
