"""What a sandboxed program is given: what it sees of the file system, what it may use, and how it is started."""

from __future__ import annotations

import os
import pickle
import platform
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import FunctionType
from typing import Any, Literal, get_args

from lamella.core.tools import Tool
from lamella.middleware import _sandbox_bubblewrap as bubblewrap
from lamella.middleware._sandbox_calls import is_known

if sys.platform == 'linux':
    from lamella.middleware._sandbox_linux import may_become_others
from lamella.middleware._sandbox_task import by_name, pickled
from lamella.middleware._sandbox_words import Bind, Link, Plan
from lamella.types import ConfigError, Data

Wall = Literal['filesystem', 'network', 'processes', 'system_calls']
WALLS: tuple[Wall, ...] = get_args(Wall)
Backend = Literal['namespaces', 'bubblewrap', 'landlock']
BACKENDS: tuple[Backend, ...] = get_args(Backend)
ALWAYS = ('environment', 'limits')

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The package itself takes long to load: these stand-ins let the worker be imported without it.
_BOOT = """
import sys
where = sys.argv[1]
for name, path in (('lamella', where), ('lamella.middleware', where + '/middleware')):
    sys.modules[name] = type(sys)(name)
    sys.modules[name].__path__ = [path]
from lamella.middleware._sandbox_worker import main
main()
"""
_SYSTEM = ('/usr', '/lib', '/lib32', '/lib64', '/libx32', '/bin', '/sbin', '/nix/store', '/gnu/store')
_SETTINGS = ('alternatives', 'ld.so.cache', 'ld.so.conf', 'ld.so.conf.d', 'localtime', 'mime.types', 'ssl/certs')
_FIRST_UID = 0x4000_0000  # far above the users and the delegated ranges of any system


class Limits(Data, frozen=True):
    """What one process may use, and all of them together for memory and processes."""

    cpu_s: int
    memory_bytes: int
    processes: int
    file_bytes: int
    files: int = 256


class Room(Data, frozen=True):
    """What is the same for every call of a sandbox."""

    walls: tuple[Wall, ...]
    limits: Limits
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}


def start_command() -> list[str]:
    """The fresh interpreter that supervises. Raises ConfigError where Python does not say what runs it."""
    if not sys.executable:
        raise ConfigError('the sandbox needs sys.executable, and this interpreter has none')
    return [sys.executable, '-I', '-S', '-c', _BOOT, _PACKAGE]


def environment_of(room: Room, home: str) -> dict[str, str]:
    """Nothing of the app's own environment: no key, no token, no address."""
    threads = dict.fromkeys(('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'), '1')
    place = {'HOME': home, 'TMPDIR': home, 'PATH': os.pathsep.join(('/usr/local/bin', '/usr/bin', '/bin'))}
    return {**place, 'LANG': 'C.UTF-8', **threads, **room.environment}


def task_of(tool: Tool, checked: Any) -> bytes:
    """The call, pickled: the function by its name, and its checked input.

    Raises ConfigError for a function that another process cannot import, and for one that takes a `ctx`.
    """
    if type(tool) is not Tool:
        raise ConfigError(
            f'tool {tool.name!r} cannot run in the sandbox: a layer around it has wrapped it ({type(tool).__name__}). '
            'Put Sandbox outside of that layer'
        )
    if tool.takes_ctx:
        raise ConfigError(_cannot(tool, 'it takes ctx, which belongs to this process'))
    arguments, keywords = ((), checked) if tool.spread else ((checked,), {})
    if (where := _unreachable(tool.run)) is not None:
        raise ConfigError(_cannot(tool, where))
    try:
        task = pickled(pickle.dumps((tool.run, arguments, keywords)))
    except Exception as error:
        raise ConfigError(_cannot(tool, f'{type(error).__name__}: {error}')) from error
    if type(tool.run) is not FunctionType:
        return task
    try:
        return by_name(tool.run.__module__, tool.run.__qualname__, arguments, keywords)
    except ValueError:  # values that only pickle knows
        return task


def _cannot(tool: Tool, why: str) -> str:
    return (
        f'tool {tool.name!r} cannot run in the sandbox: {why}. Its function is imported by another process: '
        'define it at the top of a module'
    )


def _unreachable(function: Any) -> str | None:
    name = getattr(function, '__qualname__', '')
    if '<' in name:
        return f'{name} is defined inside of a function'
    if _home_of(function) == '__main__' and _main_of() is None:
        return 'it is defined in __main__, and that is no file'
    return None


def _home_of(function: Any) -> str:
    """The module that a function says it comes from."""
    inner = getattr(function, 'func', function)  # a functools.partial
    return getattr(inner, '__module__', None) or type(inner).__module__


def _main_of() -> tuple[str, str] | None:
    """How another process finds this one's `__main__`: as a module by its name, or as a file."""
    main = sys.modules['__main__']
    name = getattr(getattr(main, '__spec__', None), 'name', None)
    if name is not None:
        return 'module', name
    path = getattr(main, '__file__', None)
    return ('path', os.path.abspath(path)) if path else None


def _path_of(home: str) -> list[str]:
    """Where the interpreter inside looks for modules: where this one does, and beside the tool's own package."""
    path = [os.path.abspath(entry) for entry in sys.path]
    path += [os.path.dirname(place) for place in _places_of(home)]
    return list(dict.fromkeys(path))


def _modules_of(places: Iterable[str]) -> dict[str, str]:
    """The modules and packages among these places, by name."""
    found = {}
    for place in places:
        name, ending = os.path.splitext(os.path.basename(place))
        if ending == '.py' or os.path.isfile(os.path.join(place, '__init__.py')):
            found[name] = place
    return found


def _places_of(home: str) -> list[str]:
    """The files or directories of a module's outermost package."""
    if home == '__main__':
        kind, name = _main_of() or ('path', '')
        file = getattr(sys.modules['__main__'], '__file__', None)
        if kind == 'path' or '.' not in name:
            return [os.path.abspath(file)] if file else []
        home = name
    module = sys.modules.get(home.partition('.')[0])
    if (paths := getattr(module, '__path__', None)) is not None:
        return [os.path.abspath(path) for path in paths]
    file = getattr(module, '__file__', None)
    return [os.path.abspath(file)] if file else []


def visible(room: Room, home: str) -> tuple[list[Bind], list[Link]]:
    """What a private root shows: places (from, to, writable), and the links of the system's own layout.

    Shown are the system's programs and libraries, this Python with its installed packages, Lamella, the tool's own package,
    and what the app names. Not shown are homes, the project around the package, /etc but for a few files, and /var.
    """
    system, links = _system((sys.prefix, sys.exec_prefix), tuple(sys.path))
    found = dict(system)
    found |= _found([*_places_of(home), *room.readable], links, writable=False)
    found |= _found(room.writable, links, writable=True)
    return _outermost(found.values()), list(links)


@lru_cache(maxsize=8)
def _system(prefixes: tuple[str, str], path: tuple[str, ...]) -> tuple[dict[str, Bind], tuple[Link, ...]]:
    links = tuple((os.readlink(place), place) for place in _SYSTEM if os.path.islink(place))
    shown = [place for place in _SYSTEM if not os.path.islink(place)]
    shown += [f'/etc/{name}' for name in _SETTINGS]
    return _found([*shown, *_python(), _PACKAGE], links, writable=False), links


def _found(places: Iterable[str], links: Iterable[Link], *, writable: bool) -> dict[str, Bind]:
    """The places that there are, under their own names and under their real ones."""
    linked = [name for _, name in links]
    found: dict[str, Bind] = {}
    for place in places:
        real = os.path.realpath(place)
        for target in (os.path.abspath(place), real):
            if os.path.exists(real) and not any(target == name or target.startswith(f'{name}/') for name in linked):
                found[target] = (real, target, writable)
    return found


def _python() -> Iterable[str]:
    """The standard library, the installed packages and the interpreters; never a prefix as a whole, which may be a home."""
    for prefix in dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)):
        for name in ('bin', 'lib', 'lib64', 'pyvenv.cfg', 'Python', 'Resources'):
            yield os.path.join(prefix, name)
    for name in ('stdlib', 'platstdlib', 'purelib', 'platlib'):
        yield sysconfig.get_path(name)
    for entry in sys.path:
        if os.path.basename(entry) in ('site-packages', 'dist-packages'):
            yield entry


def _outermost(binds: Iterable[Bind]) -> list[Bind]:
    """Without what an outer place shows already, outer places first.

    What lies inside of an outer place by a link is not bound there: the link leads to the real place, which is shown too.
    """
    kept: list[Bind] = []
    for source, target, writable in sorted(binds, key=lambda bind: (bind[1].count('/'), bind[1])):
        around = [bind for bind in kept if target.startswith(f'{bind[1]}/')]
        if around:
            origin, outer, may_write = around[-1]
            if may_write == writable or source != origin + target[len(outer) :]:
                continue
        kept.append((source, target, writable))
    return kept


def plan_of(room: Room, backend: Backend | None, tool: Tool | None, place: str) -> Plan:
    """The plan for one call. `place` is the directory to be in when the file system is the host's."""
    home = '' if tool is None else _home_of(tool.run)
    binds, links = visible(room, home) if 'filesystem' in room.walls else ([], [])
    limits = room.limits
    plan = Plan(
        backend=backend or '',
        walls=room.walls,
        binds=binds,
        links=links,
        command=[],
        uid=_another_user(backend),
        cwd='/tmp' if has_private_root(room.walls, backend) else place,
        cpu_s=limits.cpu_s,
        memory_bytes=limits.memory_bytes,
        processes=limits.processes,
        file_bytes=limits.file_bytes,
        files=limits.files,
        path=_path_of(home),
        prefixes=(sys.prefix, sys.exec_prefix),
        main=_main_of() if home == '__main__' else None,
        modules=_modules_of([_PACKAGE, *_places_of(home), *room.readable]),
    )
    if backend == 'bubblewrap':
        plan.command = bubblewrap.command_of(plan, start_command())
    return plan


def has_private_root(walls: Sequence[Wall], backend: Backend | None) -> bool:
    """Whether the tool has a root of its own, with a /tmp that goes with it."""
    return 'filesystem' in walls and backend != 'landlock'


def _another_user(backend: Backend | None) -> int:
    """A user whom nothing belongs to, a new one for each call; -1 when this process may not become somebody else."""
    if sys.platform == 'linux':
        may = may_become_others(with_mounts=backend in ('namespaces', 'bubblewrap'))
    else:
        may = os.geteuid() == 0
    return _FIRST_UID | int.from_bytes(os.urandom(3), 'big') if may else -1


def machine_problem(walls: Sequence[Wall]) -> str | None:
    """Why this kind of machine can never have these walls."""
    if not walls:
        return None
    if sys.platform != 'linux':
        return f'walls are built on Linux only, and this is {sys.platform}'
    if not is_known(platform.machine()):
        return f'the system calls of {platform.machine()} are not known here'
    return None
