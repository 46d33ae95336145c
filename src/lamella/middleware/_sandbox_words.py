"""What the app and a sandbox's supervisor say to each other.

Read on both sides, and in the sandbox before anything else: it imports nothing but builtins, since each module that a fresh
interpreter loads makes every sandboxed call slower.
"""

from __future__ import annotations

import marshal

# How the supervisor ends: 0 with an answer, 1 without one, 128 + n when signal n ended the tool.
SETUP, MEMORY, CPU, LET_GO, PROCESSES = 120, 121, 122, 123, 124
NOBODY = 65534

Bind = tuple[str, str, bool]  # what, where, whether it may be written
Link = tuple[str, str]  # to what, where


class Plan:
    """One call's walls and limits.

    `backend` is `namespaces`, `bubblewrap`, `landlock` or empty; `uid` the user to become when the app is root, else -1; `main`
    how the app's `__main__` is found; `modules` where outermost packages are that may lie in a directory which cannot be
    listed; `ready` is set inside of bubblewrap alone; `own` is the directory of this call, to be removed when the app is gone.
    """

    __slots__ = (
        'backend',
        'binds',
        'command',
        'cpu_s',
        'cwd',
        'file_bytes',
        'files',
        'links',
        'main',
        'memory_bytes',
        'modules',
        'own',
        'path',
        'prefixes',
        'processes',
        'ready',
        'uid',
        'walls',
    )

    def __init__(
        self,
        *,
        backend: str,
        walls: tuple[str, ...],
        binds: list[Bind],
        links: list[Link],
        command: list[str],
        uid: int,
        cwd: str,
        cpu_s: int,
        memory_bytes: int,
        processes: int,
        file_bytes: int,
        files: int,
        path: list[str],
        prefixes: tuple[str, str],
        main: tuple[str, str] | None,
        modules: dict[str, str],
        own: str = '',
        ready: int = -1,
    ) -> None:
        self.backend, self.walls, self.binds, self.links = backend, walls, binds, links
        self.command, self.uid, self.cwd = command, uid, cwd
        self.cpu_s, self.memory_bytes, self.processes = cpu_s, memory_bytes, processes
        self.file_bytes, self.files = file_bytes, files
        self.path, self.prefixes, self.main, self.modules = path, prefixes, main, modules
        self.own, self.ready = own, ready

    def packed(self) -> bytes:
        """For the other side, which is the same interpreter."""
        return marshal.dumps({name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def unpacked(cls, data: bytes) -> Plan:
        return cls(**marshal.loads(data))


class Quietly:
    """`contextlib.suppress`, without what that module loads."""

    __slots__ = ('_kinds',)

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> bool:
        return kind is not None and issubclass(kind, self._kinds)


def frame_of(*bodies: bytes) -> bytes:
    """What is written to the supervisor's standard input: each body behind its length in 8 bytes."""
    return b''.join([len(body).to_bytes(8, 'big') + body for body in bodies])
