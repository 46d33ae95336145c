"""The filter of system calls, run by a small machine of our own: for both architectures, also the one that this is not."""

import struct
from typing import Any

import pytest

from lamella.middleware._sandbox_calls import (
    CHANGES,
    DENIED,
    LOCAL_SOCKETS,
    NO_SOCKETS,
    USUAL_SOCKETS,
    filter_program,
    is_known,
)

ARCH = {'x86_64': 0xC000003E, 'aarch64': 0xC00000B7}
COLUMN = {'x86_64': 0, 'aarch64': 1}
ALLOW, KILL, EPERM, ENOSYS, EAFNOSUPPORT = 'allow', 'kill', 1, 38, 97
both = pytest.mark.parametrize('machine', list(ARCH))


def run(program: bytes, arch: int, number: int, *arguments: int) -> Any:
    """What the kernel would do with this call (Linux, Documentation/networking/filter.rst): the few operations that we use."""
    data = struct.pack('=IIQ6Q', number, arch, 0, *(list(arguments) + [0] * 6)[:6])
    code = [struct.unpack_from('=HBBI', program, at) for at in range(0, len(program), 8)]
    at, held = 0, 0
    while True:
        kind, if_true, if_false, value = code[at]
        at += 1
        if kind == 0x20:
            (held,) = struct.unpack_from('=I', data, value)
        elif kind == 0x06:
            return {0x7FFF0000: ALLOW, 0x80000000: KILL}.get(value, value & 0xFFFF)
        else:
            test = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[kind]
            at += if_true if test else if_false


@both
def test_refused_calls_are_refused_and_all_others_allowed(machine: str) -> None:
    program, column = filter_program(machine, [DENIED, CHANGES], NO_SOCKETS), COLUMN[machine]
    refused = {row[column] for table in (DENIED, CHANGES) for row in table.values()} - {0}
    special = {435: ENOSYS, (41, 198)[column]: EAFNOSUPPORT}
    for number in range(600):
        expected = EPERM if number in refused else special.get(number, ALLOW)
        assert run(program, ARCH[machine], number) == expected, number


@both
def test_calls_of_another_architecture_end_the_process(machine: str) -> None:
    program = filter_program(machine, [DENIED], None)
    for arch in (0x40000003, 0, *(value for name, value in ARCH.items() if name != machine)):  # the first is 32-bit x86
        assert run(program, arch, 1) == KILL


def test_the_second_table_of_x86_is_not_there() -> None:
    program = filter_program('x86_64', [DENIED], None)
    assert run(program, ARCH['x86_64'], 0x40000000 + 101) == ENOSYS


@both
@pytest.mark.parametrize('flag', [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000])
def test_clone_makes_threads_and_children_and_no_namespaces(machine: str, flag: int) -> None:
    program, clone = filter_program(machine, [DENIED], None), (56, 220)[COLUMN[machine]]
    for usual in (0x3D0F00, 0x11, 0x1200011, 0x4111):  # a thread, fork, fork with a thread's memory, vfork
        assert run(program, ARCH[machine], clone, usual) == ALLOW
        assert run(program, ARCH[machine], clone, usual | flag) == EPERM


@both
def test_terminals_are_not_typed_into(machine: str) -> None:
    program, ioctl = filter_program(machine, [DENIED], None), (16, 29)[COLUMN[machine]]
    outcomes = [run(program, ARCH[machine], ioctl, 0, request) for request in (0x5412, 0x541C, 0x5413, 0x5421)]
    assert outcomes == [EPERM, EPERM, ALLOW, ALLOW]


@both
@pytest.mark.parametrize(
    ('sockets', 'allowed'),
    [(NO_SOCKETS, []), (LOCAL_SOCKETS, [1]), (USUAL_SOCKETS, [1, 2, 10, 16]), (None, list(range(50)))],
)
def test_sockets_are_those_of_the_families(machine: str, sockets: Any, allowed: list[int]) -> None:
    program, socket = filter_program(machine, [], sockets), (41, 198)[COLUMN[machine]]
    outcomes = [run(program, ARCH[machine], socket, family) for family in range(50)]
    assert [family for family, outcome in enumerate(outcomes) if outcome == ALLOW] == allowed
    assert set(outcomes) <= {ALLOW, EAFNOSUPPORT}


def test_no_jump_is_longer_than_the_machine_can() -> None:
    for machine in ARCH:
        assert len(filter_program(machine, [DENIED, CHANGES], USUAL_SOCKETS)) // 8 < 255
    assert is_known('x86_64')
    assert not is_known('riscv64')
