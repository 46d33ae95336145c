"""The system calls that a sandboxed program is refused, as a program for the kernel's filter (seccomp BPF).

Numbers are from the kernel's own headers (asm/unistd_64.h, asm-generic/unistd.h). Standard library only: this runs inside.
"""

from __future__ import annotations

import struct

# name: (x86_64, aarch64); 0 where there is none
DENIED = {
    'acct': (163, 89),
    'add_key': (248, 217),
    'adjtimex': (159, 171),
    'bpf': (321, 280),
    'chroot': (161, 51),
    'clock_adjtime': (305, 266),
    'clock_settime': (227, 112),
    'delete_module': (176, 106),
    'finit_module': (313, 273),
    'fsconfig': (431, 431),
    'fsmount': (432, 432),
    'fsopen': (430, 430),
    'fspick': (433, 433),
    'init_module': (175, 105),
    'io_uring_enter': (426, 426),
    'io_uring_register': (427, 427),
    'io_uring_setup': (425, 425),
    'ioperm': (173, 0),
    'iopl': (172, 0),
    'kexec_file_load': (320, 294),
    'kexec_load': (246, 104),
    'keyctl': (250, 219),
    'lookup_dcookie': (212, 18),
    'memfd_create': (319, 279),  # memory that no limit of a process counts
    'memfd_secret': (447, 447),
    'mount': (165, 40),
    'mount_setattr': (442, 442),
    'move_mount': (429, 429),
    'mq_open': (240, 180),
    'msgget': (68, 186),
    'msgrcv': (70, 188),
    'msgsnd': (69, 189),
    'name_to_handle_at': (303, 264),
    'open_by_handle_at': (304, 265),
    'open_tree': (428, 428),
    'perf_event_open': (298, 241),
    'pidfd_getfd': (438, 438),
    'pivot_root': (155, 41),
    'process_vm_readv': (310, 270),
    'process_vm_writev': (311, 271),
    'ptrace': (101, 117),
    'quotactl': (179, 60),
    'reboot': (169, 142),
    'request_key': (249, 218),
    'semget': (64, 190),
    'setns': (308, 268),
    'settimeofday': (164, 170),
    'shmat': (30, 196),
    'shmget': (29, 194),
    'swapoff': (168, 225),
    'swapon': (167, 224),
    'syslog': (103, 116),
    'umount2': (166, 39),
    'unshare': (272, 97),
    'userfaultfd': (323, 282),
    'vhangup': (153, 58),
}
# What can be changed about a file without opening it to write, which Landlock does not see (kernel.org, "Landlock: unprivileged
# access control", Current limitations).
CHANGES = {
    'chmod': (90, 0),
    'chown': (92, 0),
    'fchmod': (91, 52),
    'fchmodat': (268, 53),
    'fchmodat2': (452, 452),
    'fchown': (93, 55),
    'fchownat': (260, 54),
    'file_setattr': (469, 469),
    'fremovexattr': (199, 16),
    'fsetxattr': (190, 7),
    'futimesat': (261, 0),
    'lchown': (94, 0),
    'lremovexattr': (198, 15),
    'lsetxattr': (189, 6),
    'open_by_handle_at': (304, 265),
    'removexattr': (197, 14),
    'removexattrat': (466, 466),
    'setxattr': (188, 5),
    'setxattrat': (463, 463),
    'utime': (132, 0),
    'utimensat': (280, 88),
    'utimes': (235, 0),
}
_ARCHITECTURES = {'x86_64': (0xC000003E, 0), 'aarch64': (0xC00000B7, 1)}  # AUDIT_ARCH_…, column of the table
_CLONE, _CLONE3, _IOCTL, _SOCKET = (56, 220), (435, 435), (16, 29), (41, 198)
_X32 = 0x40000000
_NAMESPACES = 0x7E020000  # CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing into a terminal that somebody else reads
NO_SOCKETS: tuple[int, ...] = ()
LOCAL_SOCKETS = (1,)  # AF_UNIX
USUAL_SOCKETS = (1, 2, 10, 16)  # and those of IPv4, IPv6 and netlink

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_LOAD, _EQUAL, _NOT_BELOW, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENT_0, _ARGUMENT_1 = 0, 4, 16, 24  # offsets in struct seccomp_data


def is_known(machine: str) -> bool:
    """Whether the numbers of this machine's system calls are known."""
    return machine in _ARCHITECTURES


def filter_program(machine: str, denied: list[dict[str, tuple[int, int]]], sockets: tuple[int, ...] | None) -> bytes:
    """The filter: calls of the tables in `denied` fail with EPERM, sockets of other families than these (`None`: of none) with
    EAFNOSUPPORT. With any table, namespaces and typing into a terminal are refused too."""
    arch, column = _ARCHITECTURES[machine]
    code = [_op(_LOAD, _ARCH), _op(_EQUAL, arch, 1, 0), _op(_RETURN, _KILL), _op(_LOAD, _NUMBER)]
    if machine == 'x86_64':
        code += [_op(_NOT_BELOW, _X32, 0, 1), _op(_RETURN, _ERRNO | _ENOSYS)]
    numbers = sorted({row[column] for table in denied for row in table.values() if row[column]})
    for number in numbers:
        code += [_op(_EQUAL, number, 0, 1), _op(_RETURN, _ERRNO | _EPERM)]
    if denied:  # the flags of clone3 lie in memory, where no filter looks: who hears that it is not there takes clone
        code += [_op(_EQUAL, _CLONE3[column], 0, 1), _op(_RETURN, _ERRNO | _ENOSYS)]
        new = [_op(_ANY_BIT, _NAMESPACES, 0, 1), _op(_RETURN, _ERRNO | _EPERM)]
        code += _looking_at(_CLONE[column], _ARGUMENT_0, new)
        typing = [step for kind in _TERMINAL_INPUT for step in (_op(_EQUAL, kind, 0, 1), _op(_RETURN, _ERRNO | _EPERM))]
        code += _looking_at(_IOCTL[column], _ARGUMENT_1, typing)
    if sockets is not None:
        known = [step for family in sockets for step in (_op(_EQUAL, family, 0, 1), _op(_RETURN, _ALLOW))]
        code += _looking_at(_SOCKET[column], _ARGUMENT_0, [*known, _op(_RETURN, _ERRNO | _EAFNOSUPPORT)])
    return b''.join([*code, _op(_RETURN, _ALLOW)])


def _looking_at(number: int, argument: int, steps: list[bytes]) -> list[bytes]:
    """`steps` on the low half of an argument of call `number`, which then is allowed unless they said otherwise."""
    inside = [_op(_LOAD, argument), *steps, _op(_RETURN, _ALLOW)]
    return [_op(_EQUAL, number, 0, len(inside)), *inside]


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack('=HBBI', code, if_true, if_false, value)
