"""What every test shares: one event loop library, no network but this machine, no keys from the shell."""

import ipaddress
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

from lamella.simulator import Simulator

settings.register_profile('lamella', deadline=None)
settings.register_profile('ci', deadline=None, derandomize=True, print_blob=True)
settings.load_profile('ci' if os.environ.get('CI') else 'lamella')

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


@pytest.fixture
def docs_namespace(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """The names that a documentation page finds before its first block, with the simulator in OpenAI's place.

    Pages are programs: prefer imports on the page to names put here.
    """
    with Simulator().in_thread() as simulator:
        monkeypatch.setenv('OPENAI_API_KEY', 'key-of-the-docs')
        monkeypatch.setenv('OPENAI_BASE_URL', f'{simulator.base_url}/v1')
        yield {}
