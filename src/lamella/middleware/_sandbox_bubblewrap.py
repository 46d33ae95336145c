"""Walls by bubblewrap, a small program that many systems have (github.com/containers/bubblewrap, bwrap(1))."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable

from lamella.middleware._sandbox_words import NOBODY, Plan


def command_of(plan: Plan, start: list[str]) -> list[str]:
    """github.com/containers/bubblewrap, bwrap(1)."""
    walls = plan.walls
    command = [program() or 'bwrap', '--die-with-parent', '--unshare-ipc', '--unshare-uts', '--unshare-cgroup-try']
    if plan.uid < 0:
        command += ['--unshare-user', *(['--uid', str(NOBODY), '--gid', str(NOBODY)] if os.geteuid() == 0 else [])]
    command += ['--unshare-pid'] if 'processes' in walls else []
    command += ['--unshare-net'] if 'network' in walls else []
    if 'filesystem' not in walls:
        return [*command, '--dev-bind', '/', '/', '--chdir', plan.cwd, '--', *start]
    size = str(plan.file_bytes)
    command += ['--perms', '1777', '--size', size, '--tmpfs', '/tmp']
    for parent in _parents(target for _, target, _ in plan.binds):
        command += ['--perms', '0755', '--dir', parent]
    for source, target, writable in plan.binds:
        command += ['--bind' if writable else '--ro-bind', source, target]
    for target, name in plan.links:
        command += ['--symlink', target, name]
    command += ['--proc', '/proc'] if 'processes' in walls else []
    command += ['--dev', '/dev', '--perms', '1777', '--size', size, '--tmpfs', '/dev/shm']
    command += ['--remount-ro', '/dev', '--remount-ro', '/']
    return [*command, '--chdir', plan.cwd, '--', *start]


def _parents(targets: Iterable[str]) -> list[str]:
    """The directories that lead to these places, outer ones first; bubblewrap would make them for root alone."""
    places = list(targets)
    found = {parent for place in places for parent in _above(place)}
    bound = [f'{place}/' for place in places]
    return sorted(parent for parent in found if not f'{parent}/'.startswith(tuple(bound)))


def _above(place: str) -> Iterable[str]:
    while (place := os.path.dirname(place)) != '/':
        yield place


def program() -> str | None:
    """Where `bwrap` is."""
    return shutil.which('bwrap', path='/usr/local/bin:/usr/bin:/bin')
