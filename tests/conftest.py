"""What every test shares: one event loop library, no network but this machine, no keys from the shell."""

import importlib.util
import ipaddress
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings

from lamella.core.model import Model
from lamella.core.stores import SCHEMES
from lamella.simulator import Simulator
from tests.servers import PostgresServer, RedisServer, Server, ValkeyServer, running

settings.register_profile('lamella', deadline=None)
settings.register_profile('ci', deadline=None, derandomize=True, print_blob=True)
settings.load_profile('ci' if os.environ.get('CI') else 'lamella')

# Tests that are started in the background ignore it, the programs under test inherit that, and some wait for Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# These need google-adk, which the newest vendor clients cannot stand beside.
ADK = importlib.util.find_spec('google.adk') if importlib.util.find_spec('google') else None
collect_ignore = [] if ADK else ['adk']


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if collect_ignore:
        terminalreporter.write_line('tests/adk needs an environment of its own and was not run here: make adk')


LOCAL_NAMES = {'', 'localhost', 'ip6-localhost', None}


def is_local(host: object) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    if host in LOCAL_NAMES:
        return True
    try:
        address = ipaddress.ip_address(str(host))
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def refuse_the_network(event: str, args: tuple[object, ...]) -> None:
    """An audit hook sees every connection that Python makes, whichever library asks for it."""
    if event == 'socket.getaddrinfo':
        host = args[0]
    elif event == 'socket.connect' and isinstance(args[1], tuple):
        host = args[1][0]
    else:
        return
    if not is_local(host):
        raise ConnectionRefusedError(f'tests reach this machine only, not {host!r}')


sys.addaudithook(refuse_the_network)


@pytest.fixture(scope='session')
def anyio_backend() -> str:
    return 'asyncio'


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that needs a key or a base URL sets its own."""
    for name in list(os.environ):
        if name.endswith(('_API_KEY', '_BASE_URL')) or name.startswith('LAMELLA_'):
            monkeypatch.delenv(name)


@pytest.fixture(scope='session')
def redis_url() -> Iterator[str]:
    """A Redis for the whole run, with what other tests have left there: use keys or a namespace of your own. Never kill it."""
    with running(RedisServer, durable=False) as server:
        yield server.url


@pytest.fixture(scope='session')
def valkey_url() -> Iterator[str]:
    """A Valkey for the whole run, as `redis_url`."""
    with running(ValkeyServer, durable=False) as server:
        yield server.url


@pytest.fixture(scope='session')
def postgres_url() -> Iterator[str]:
    """A Postgres for the whole run, as `redis_url`."""
    with running(PostgresServer, durable=False) as server:
        yield server.url


@pytest.fixture
def own_redis() -> Iterator[Server]:
    """A Redis for one test, which may kill and restart it. Takes a fifth of a second."""
    with running(RedisServer, durable=True) as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[Server]:
    """A Postgres for one test, which may kill and restart it. Takes half a second."""
    with running(PostgresServer, durable=True) as server:
        yield server


@pytest.fixture(params=[scheme for scheme in ('sqlite', 'redis', 'postgresql') if scheme in SCHEMES])
def shared_store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store that processes share, one after the other: SQLite, Redis, Postgres."""
    if request.param == 'sqlite':
        return f'sqlite:///{tmp_path}/state.db'
    server: str = request.getfixturevalue({'redis': 'redis_url', 'postgresql': 'postgres_url'}[request.param])
    return f'{server}?namespace=test-{uuid4().hex}'


@pytest.fixture
def lamella_watched_models() -> tuple[type[Model], ...]:
    """The models of every plugin that is loaded."""
    return tuple(kind for kind in kinds_of(Model) if kind.__module__.startswith('lamella.plugins.'))


def kinds_of(kind: type[Any]) -> set[type[Any]]:
    """All classes that are derived from this one."""
    derived = set(kind.__subclasses__())
    return derived.union(*map(kinds_of, derived))


@pytest.fixture(autouse=True)
def every_stream_keeps_the_rules(lamella_stream_watch: None) -> None:
    """Whatever a test is about: no layer and no plugin may break the rules of stream parts in it."""


@pytest.fixture
def docs_namespace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """The names that a documentation page finds before its first block, with the simulator in OpenAI's place.

    Pages are programs: prefer imports on the page to names put here. The page on stores finds two servers in the environment.
    """
    if 'docs/stores.md' in request.node.name:
        monkeypatch.setenv('REDIS_URL', request.getfixturevalue('redis_url'))
        monkeypatch.setenv('POSTGRES_URL', request.getfixturevalue('postgres_url'))
    with Simulator().in_thread() as simulator:
        monkeypatch.setenv('OPENAI_API_KEY', 'key-of-the-docs')
        monkeypatch.setenv('OPENAI_BASE_URL', f'{simulator.base_url}/v1')
        yield {}
