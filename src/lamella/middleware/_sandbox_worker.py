"""The program of a sandbox: puts up the walls, lets one tool run behind them, and sees to it that nothing of it is left.

It is started as a fresh interpreter with the standard library only. A supervisor stays outside of the walls; it ends
everything when the app lets go of its standard input, when the tool is done, or when all its processes together hold too
much memory. Standard input brings two frames from the app: the plan and the task. Standard output takes the answer as JSON,
standard error whatever the tool prints.
"""

from __future__ import annotations

import os
import resource
import select
import sys

from lamella.middleware._sandbox_task import carry_out
from lamella.middleware._sandbox_words import CPU, LET_GO, MEMORY, PROCESSES, SETUP, Plan, Quietly, frame_of

LINUX = sys.platform == 'linux'
if LINUX:
    from lamella.middleware import _sandbox_calls as calls
    from lamella.middleware import _sandbox_landlock as landlock
    from lamella.middleware import _sandbox_linux as linux

_LOOK_MS = 50
_OWN, _SLACK = 2, 8  # processes of ours around the tool; how many more may be seen before they are too many
_KILL, _STOP, _XCPU = 9, 19, 24  # by number: the signal module takes long to load


def main() -> None:
    """Supervise, or be the tool's process itself where another program (bubblewrap) has put up the walls."""
    plan, task = Plan.unpacked(_frame()), _frame()
    try:
        code = Supervisor(plan, task).run() if plan.ready < 0 else settle(plan, task, plan.ready)
    except BaseException as error:
        code = _told(error)
    os._exit(code)


def _frame() -> bytes:
    return _exactly(int.from_bytes(_exactly(8), 'big'))


def _exactly(length: int) -> bytes:
    parts = []
    while length:
        part = os.read(0, min(length, 1 << 20))
        if not part:
            os._exit(LET_GO)
        parts.append(part)
        length -= len(part)
    return b''.join(parts)


def _told(error: BaseException) -> int:
    """What went wrong with the walls goes to standard error, for the app to read."""
    with Quietly(OSError):
        os.write(2, f'{type(error).__name__}: {error}'.encode('utf-8', 'replace')[:2000])
    return SETUP


class Supervisor:
    """One tool's processes, seen from outside of the walls."""

    def __init__(self, plan: Plan, task: bytes) -> None:
        self._plan, self._task = plan, task
        self._by_namespaces = plan.backend == 'namespaces'
        self._has_pids = self._by_namespaces and 'processes' in plan.walls
        self._ready, self._said_ready = os.pipe()
        os.set_blocking(self._ready, False)

    def run(self) -> int:
        """The code to end with."""
        if LINUX:
            linux.adopt_orphans()
        if self._by_namespaces and self._plan.uid < 0:
            linux.own_users(linux.NEW_PID if self._has_pids else 0)
        elif self._has_pids:
            linux.unshare(linux.NEW_PID)
        child = os.fork()
        if child == 0:
            os.close(self._ready)
            try:
                code = self._behind_walls()
            except BaseException as error:
                code = _told(error)
            os._exit(code)
        os.close(self._said_ready)
        code = SETUP
        try:
            code = self._watch(child)
        finally:
            sweep(child)
            if code == LET_GO and self._plan.own:
                _clear(self._plan.own)
        return code

    def _behind_walls(self) -> int:
        if self._plan.backend == 'bubblewrap':
            self._become_bubblewrap()
        if LINUX:
            linux.die_with_parent()
        if self._by_namespaces:
            _own_world(self._plan)
        if self._has_pids:
            _give_up_rights(self._plan)
            worker = os.fork()
            if worker:
                os.close(self._said_ready)
                return _reap(worker)
        return settle(self._plan, self._task, self._said_ready)

    def _become_bubblewrap(self) -> None:
        """Replace this process; the one inside gets plan and task from a pipe that another child of ours fills."""
        self._plan.ready = self._said_ready
        take, give = os.pipe()
        if os.fork() == 0:
            os.close(take)
            view = memoryview(frame_of(self._plan.packed(), self._task))
            try:
                while view:
                    view = view[os.write(give, view) :]
            finally:
                os._exit(0)
        os.dup2(take, 0)
        os.set_inheritable(self._said_ready, True)
        os.execv(self._plan.command[0], self._plan.command)

    def _watch(self, child: int) -> int:
        ended = os.pidfd_open(child) if LINUX else -1
        limited = LINUX and os.path.exists('/proc/self/statm')
        wait_ms = _LOOK_MS if limited or not LINUX else None
        poll = select.poll()
        poll.register(0, select.POLLIN | select.POLLHUP)
        if LINUX:
            poll.register(ended, select.POLLIN)
        while True:
            events = poll.poll(wait_ms)
            pid, status, usage = os.wait4(child, os.WNOHANG)
            if pid == child:
                return self._code(status, usage.ru_utime + usage.ru_stime)
            if any(handle == 0 for handle, _ in events):
                return LET_GO
            if limited and (over := self._over(child)):
                return over

    def _over(self, child: int) -> int:
        """Whether all processes of the tool together hold more memory than they may, or are more than they may be. The
        kernel counts memory for each process alone, and no processes of root."""
        plan, pids = self._plan, [child, *linux.descendants(child)]
        if len(pids) > plan.processes + _SLACK:
            return PROCESSES
        most = plan.memory_bytes
        return (
            MEMORY if linux.memory_of(pids, exactly=False) > most and linux.memory_of(pids, exactly=True) > most else 0
        )

    def _code(self, status: int, cpu_s: float) -> int:
        code = code_of(status)
        try:
            ready = os.read(self._ready, 1)
        except BlockingIOError:
            ready = b''
        if not ready:
            return code if code >= SETUP else SETUP
        if code in (128 + _XCPU, 128 + _KILL) and cpu_s >= self._plan.cpu_s:
            return CPU
        return code if code > 128 else min(code, 1)


def code_of(status: int) -> int:
    """A wait status as a shell tells it."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def sweep(child: int) -> None:
    """End the child and everything that comes from it: stopped first, so that nothing can breed while it is killed."""
    _signal(child, _KILL)
    _signal(-child, _KILL)
    while LINUX and (left := linux.descendants(os.getpid())):
        for number in (_STOP, _KILL):
            for pid in left:
                _signal(pid, number)
        _bury()
        select.select([], [], [], 0.001)


def _signal(pid: int, number: int) -> None:
    with Quietly(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _bury() -> None:
    with Quietly(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _clear(place: str) -> None:
    from lamella.middleware._sandbox_clean import remove  # noqa: PLC0415 - not needed where a call has ended by itself

    with Quietly(OSError):
        remove(place)


def _own_world(plan: Plan) -> None:
    linux.unshare(
        linux.NEW_IPC
        | linux.NEW_UTS
        | linux.NEW_CGROUP
        | (linux.NEW_NET if 'network' in plan.walls else 0)
        | (linux.NEW_NS if 'filesystem' in plan.walls else 0)
    )
    if 'filesystem' in plan.walls:
        linux.private_root(plan.binds, plan.links, plan.file_bytes, 'processes' in plan.walls)


def _reap(worker: int) -> int:
    """The first process of a namespace: when it ends, the kernel ends all others."""
    while True:
        pid, status = os.wait()
        if pid == worker:
            return code_of(status)


def _give_up_rights(plan: Plan) -> None:
    if not LINUX:
        return
    by_landlock = plan.backend == 'landlock'
    linux.drop_privileges(plan.uid, by_landlock or 'filesystem' not in plan.walls)
    if by_landlock:
        landlock.forgo(plan.walls, plan.binds, plan.cwd)
    denied = [calls.DENIED] if 'system_calls' in plan.walls else []
    denied += [calls.CHANGES] if by_landlock and 'filesystem' in plan.walls else []
    sockets = _sockets(plan, by_landlock)
    if denied or sockets is not None:
        linux.filter_calls(denied, sockets)
    linux.die_with_parent()


def _sockets(plan: Plan, by_landlock: bool) -> tuple[int, ...] | None:
    """The kinds of socket to be had; `None` for all."""
    if 'network' not in plan.walls:
        return calls.USUAL_SOCKETS if 'system_calls' in plan.walls else None
    if by_landlock:  # which does not see who connects to a socket in the file system
        return calls.NO_SOCKETS
    return calls.LOCAL_SOCKETS  # a namespace does not keep from all kinds, such as those of virtual machines


def settle(plan: Plan, task: bytes, ready: int) -> int:
    """The tool's own process: the last walls, then the tool."""
    os.chdir(plan.cwd)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    if not (plan.backend == 'namespaces' and 'processes' in plan.walls):
        _give_up_rights(plan)
    _limit(plan)
    os.setpgid(0, 0)
    answer = os.dup(1)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    os.dup2(2, 1)
    os.write(ready, b'1')
    os.close(ready)
    return carry_out(plan, task, answer)


def _limit(plan: Plan) -> None:
    """What a process may use at most; none of it can be raised again."""
    wanted = [
        ('RLIMIT_CORE', 0, 0),
        ('RLIMIT_MSGQUEUE', 0, 0),
        ('RLIMIT_MEMLOCK', 0, 0),
        ('RLIMIT_FSIZE', plan.file_bytes, plan.file_bytes),
        ('RLIMIT_NOFILE', plan.files, plan.files),
        ('RLIMIT_CPU', plan.cpu_s, plan.cpu_s + 1),
        ('RLIMIT_NPROC', *2 * (_most_processes(plan),)),
        ('RLIMIT_AS', plan.memory_bytes, plan.memory_bytes),
    ]
    for name, soft, hard in wanted:
        kind = getattr(resource, name, None)
        if kind is None or soft < 0:
            continue
        most = resource.getrlimit(kind)[1]
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.setrlimit(kind, (soft, hard))


def _most_processes(plan: Plan) -> int:
    """The limit counts by user: ours beside the tool's own, or those the user runs elsewhere, come on top. -1 for none."""
    if plan.uid >= 0 or plan.backend:
        return plan.processes + _OWN
    return plan.processes + linux.tasks_of(os.getuid()) if LINUX else -1
