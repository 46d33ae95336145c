"""Tools for the sandbox's tests, in a module that another process can import: honest ones and hostile ones.

What takes long to import is in sandboxed_heavy.py: every call of a sandbox imports it anew.
"""

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from functools import partial

# ── honest ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


def echo(value: object) -> object:
    return value


def whole(value: object) -> object:
    """For a `Tool` that is given its input as it is."""
    return {'given': value}


fixed = partial(add, b=40)


class Counter:
    """A tool with a state of its own, which is copied."""

    def __init__(self, start: int) -> None:
        self.start = start

    def count(self, by: int) -> int:
        return self.start + by


def listed(path: str) -> list[str] | None:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return None


def surroundings() -> dict[str, object]:
    """What can be seen from inside."""
    return {
        'pid': os.getpid(),
        'uid': os.getuid(),
        'environment': dict(os.environ),
        'cwd': os.getcwd(),
        'root': listed('/'),
        'etc': listed('/etc'),
        'processes': listed('/proc'),
        'handles': listed('/proc/self/fd'),
    }


def limits() -> dict[str, object]:
    names = ('RLIMIT_AS', 'RLIMIT_CPU', 'RLIMIT_FSIZE', 'RLIMIT_NPROC', 'RLIMIT_CORE', 'RLIMIT_NOFILE')
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


def scratch(size: int) -> int:
    """Write into the private /tmp and read it back."""
    with open('notes', 'wb') as file:
        file.write(b'x' * size)
    return os.stat('notes').st_size


def threads(count: int) -> int:
    """So many threads at once."""
    gate = threading.Barrier(count)
    made = [threading.Thread(target=gate.wait) for _ in range(count - 1)]
    for thread in made:
        thread.start()
    gate.wait()
    return count


def talkative(text: str) -> str:
    print(text)
    print(text, file=sys.stderr)
    os.write(1, b'straight to the handle\n')
    return 'said'


# ── that fail ───────────────────────────────────────────────────────────────────────────────────────────────────────


def unreadable() -> object:
    return object()


def ends(code: int) -> None:
    os._exit(code)


def kills_itself(number: int) -> None:
    os.kill(os.getpid(), number)


def segfaults() -> None:
    ctypes.string_at(0)


def lies(text: str) -> None:
    """Write to every handle what an answer may look like, and end."""
    for handle in range(3, 20):
        try:
            os.write(handle, text.encode())
        except OSError:
            continue
    os._exit(0)


# ── hostile ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def forks() -> str:
    """A fork bomb."""
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.001)


def forks_and_counts() -> int:
    """As many children as can be had."""
    count = 0
    try:
        while count < 1000:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            count += 1
    except OSError:
        return count
    return count


def eats_memory() -> int:
    held = []
    while True:
        held.append(bytearray(10_000_000))


def eats_memory_with_children(count: int) -> None:
    """Each child stays within the limit of one process; together they do not."""
    for _ in range(count):
        if os.fork() == 0:
            held = bytearray(60_000_000)
            for page in range(0, len(held), 4096):
                held[page] = 1
            time.sleep(60)
            os._exit(0)
    time.sleep(60)


def eats_the_disk(path: str) -> int:
    """As many files as can be had; how much they held in the end."""
    total = 0
    for number in range(1000):
        with open(f'{path}/{number}', 'wb', buffering=0) as file:
            try:
                while written := file.write(b'x' * 1_000_000):
                    total += written
            except OSError:
                if not os.path.getsize(f'{path}/{number}'):
                    return total
    return total


def spins() -> None:
    while True:
        pass


def sleeps(seconds: float) -> None:
    time.sleep(seconds)


def ignores_signals() -> None:
    for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        pass


def leaves_orphans(mark: str) -> str:
    """Double fork and a new session, with a name by which the host can look for them; handles kept open."""
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            for _ in range(2):
                if os.fork() == 0:
                    os.execv('/bin/sh', ['/bin/sh', '-c', f'sleep 300; : {mark}'])
            os._exit(0)
    return 'done'


def floods(handles: list[int]) -> None:
    while True:
        for handle in handles:
            try:
                os.write(handle, b'x' * 65_536)
            except OSError:
                continue


def huge(size: int) -> str:
    return 'x' * size


def deep(depth: int) -> None:
    """An answer that is nested too deeply for any reader, written by hand."""
    lies('{"ok": ' + '[' * depth + ']' * depth + '}')


def reads(path: str) -> str:
    with open(path) as file:
        return file.read()


def writes(path: str) -> str:
    with open(path, 'w') as file:
        file.write('broken out')
    return 'written'


def changes_mode(path: str) -> None:
    os.chmod(path, 0o777)


def climbs(path: str) -> str:
    """The old tricks: up, by the root of another process, by a handle that was left open."""
    found = []
    for place in (f'../../../../..{path}', f'/proc/1/root{path}', f'/proc/self/root{path}', f'/proc/self/cwd/..{path}'):
        try:
            found.append(reads(place))
        except OSError as error:
            found.append(f'{type(error).__name__}')
    for handle in range(64):
        try:
            found.append(reads(f'/proc/self/fd/{handle}/..{path}'))
        except OSError:
            continue
    return ' '.join(found)


def becomes_root() -> str:
    for act in (lambda: os.setuid(0), lambda: os.seteuid(0), lambda: os.setgroups([0]), lambda: os.chroot('/tmp')):
        try:
            act()
        except OSError:
            continue
        return 'root'
    return 'no'


def calls(number: int, first: int = 0, second: int = 0) -> str:
    """One system call by its number: the name of its error, or `ok`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, first, second, 0, 0, 0) >= 0:
        return 'ok'
    return os.strerror(ctypes.get_errno())


def kills(pid: int) -> str:
    os.kill(pid, signal.SIGKILL)
    return 'killed'


def raises_limits() -> str:
    for name in ('RLIMIT_AS', 'RLIMIT_CPU', 'RLIMIT_NPROC', 'RLIMIT_FSIZE'):
        try:
            resource.setrlimit(getattr(resource, name), (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        except (ValueError, OSError):
            continue
        return name
    return 'none'


def outcomes(function: object, inputs: list[dict[str, object]]) -> list[str]:
    """What the function gave or raised for each of the inputs."""
    found = []
    for given in inputs:
        try:
            found.append(str(function(**given)))
        except Exception as error:
            found.append(f'{type(error).__name__}: {error}')
    return found


def tries(name: str, inputs: list[dict[str, object]]) -> list[str]:
    """Call one of these functions with each of the inputs."""
    return outcomes(globals()[name], inputs)
