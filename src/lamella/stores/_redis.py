"""The wire of the Redis store: connections for one event loop, the way to the right node, and errors in our own words."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from lamella.core.stores import StoreWarning
from lamella.types import ConfigError, LamellaError, Status

try:
    from redis import asyncio as driver
    from redis import exceptions
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
except ModuleNotFoundError as missing:
    raise ConfigError("a store in Redis or Valkey needs the package redis: pip install 'lamella[redis]'") from missing

Address = tuple[str, int]
_AWAY = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
_REDIRECTIONS = 3
# What the server answers, by the first word (redis.io, "Errors"), beside what the driver has a class for.
_ANSWERS: dict[str, tuple[Status, str]] = {
    'WRONGPASS': ('UNAUTHENTICATED', 'refuses the user or the password'),
    'NOAUTH': ('UNAUTHENTICATED', 'wants a password: redis://:password@host'),
    'NOPERM': ('PERMISSION_DENIED', 'does not allow this user the commands or the keys of a store'),
    'READONLY': ('FAILED_PRECONDITION', 'is a read-only replica: give the primary'),
    'OOM': ('RESOURCE_EXHAUSTED', 'has no memory left (maxmemory)'),
    'MISCONF': ('UNAVAILABLE', 'takes no writes, because it cannot save to its disk'),
    'DB': ('FAILED_PRECONDITION', 'has no database of that number'),
    'WRONGTYPE': ('FAILED_PRECONDITION', 'holds something else under the keys of this namespace'),
    'LOADING': ('UNAVAILABLE', 'is still reading its data'),
    'BUSY': ('UNAVAILABLE', 'is busy with a script of somebody else'),
    'MASTERDOWN': ('UNAVAILABLE', 'has lost its primary'),
    'CLUSTERDOWN': ('UNAVAILABLE', 'is a node of a cluster that is down'),
    'TRYAGAIN': ('UNAVAILABLE', 'is moving this namespace to another node'),
    'ASK': ('UNAVAILABLE', 'is moving this namespace to another node'),
}


class Script:
    """A script of `redis.lua`, and the hash by which the server knows it."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


def scripts() -> Mapping[str, Script]:
    """Each verb's, the common part in front."""
    common, *rest = files('lamella.stores').joinpath('redis.lua').read_text(encoding='utf-8').split('\n--- ')
    verbs = [part.partition('\n') for part in rest]
    return {verb: Script(f'{common}\n{body}') for verb, _, body in verbs}


class Settings:
    """Where the servers are, and how to speak to them. Raises ConfigError."""

    def __init__(
        self, parts: SplitResult, max_connections: int, timeout_s: float, connection: Mapping[str, Any]
    ) -> None:
        login, _, hosts = parts.netloc.rpartition('@')
        user, _, password = login.partition(':')
        self.seeds = [_address(one) for one in hosts.split(',')]
        self.shown = f'Redis at {", ".join(f"{host}:{port}" for host, port in self.seeds)}'
        self.max_connections, self.timeout_s = max_connections, timeout_s
        self.tls = parts.scheme in ('rediss', 'valkeys')
        self.connection = {
            'db': _database(parts.path),
            'username': unquote(user) or None,
            'password': unquote(password) or None,
            'socket_timeout': timeout_s,
            'socket_connect_timeout': timeout_s,
            'retry': Retry(NoBackoff(), 0),
            'protocol': 2,
            **connection,
        }


class Client:
    """What belongs to one event loop: a pool for each node that was spoken to.

    A node of a cluster that has not the namespace says who has it, and is believed from then on. When a server is away, or has
    become a replica, the next verb turns to the next of the given hosts.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pools: dict[Address, Any] = {}
        self._seed = 0
        self._moved: Address | None = None
        self._is_closed = self._has_looked = False

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Any], *, reads: bool = False) -> Any:
        """The script's answer, by its hash; by its text to a server that has not seen it yet."""
        operands = (len(keys), *keys, *args)
        try:
            return await self.ask(('EVALSHA', script.sha, *operands), reads=reads)
        except exceptions.NoScriptError:
            return await self.ask(('EVAL', script.text, *operands), reads=reads)

    async def ask(self, command: Sequence[Any], *, reads: bool = False) -> Any:
        """One command's answer. It is sent again only when no server can have carried it out, or when it only `reads`."""
        if not self._has_looked:
            await self._look()
        for _ in range(_REDIRECTIONS):
            address = self._moved or self._settings.seeds[self._seed]
            try:
                return await self._answered(address, command, tries=2 if reads else 1)
            except exceptions.NoScriptError:
                raise
            except (exceptions.RedisError, OSError) as error:
                moved = _moved_to(error, address)
                if moved is not None:
                    self._moved = moved
                    continue
                word = _word(error)
                if word == 'READONLY' or isinstance(error, _AWAY):
                    self._turn_away(address)
                raise _translated(error, word, address) from error
        raise LamellaError('UNAVAILABLE', f'{self._settings.shown}: its nodes send each other on in a circle')

    async def _look(self) -> None:
        """Warn of a server that drops keys when its memory is full. One that may not be asked is believed."""
        self._has_looked = True
        try:
            told = await self.ask(('INFO', 'memory'), reads=True)
        except LamellaError as error:
            self._has_looked = error.status == 'PERMISSION_DENIED'
            if self._has_looked:
                return
            raise
        facts = dict(line.partition(b':')[::2] for line in told.splitlines())
        policy = facts.get(b'maxmemory_policy', b'noeviction').decode()
        if facts.get(b'maxmemory', b'0') != b'0' and policy != 'noeviction':
            warnings.warn(
                f'{self._settings.shown} drops limits and leases when its memory is full (maxmemory-policy {policy}): '
                'set maxmemory-policy noeviction',
                StoreWarning,
                stacklevel=2,
            )

    async def _answered(self, address: Address, command: Sequence[Any], tries: int) -> Any:
        pool = self._pool(address)
        while True:
            connection = await pool.get_connection()
            tries -= 1
            try:
                await connection.send_command(*command)
                return await connection.read_response()
            except _AWAY as error:
                if not tries or isinstance(error, exceptions.AuthenticationError):
                    raise
            finally:
                if self._is_closed:
                    await connection.disconnect()
                await pool.release(connection)

    def _pool(self, address: Address) -> Any:
        if address not in self._pools:
            settings = self._settings
            self._pools[address] = driver.BlockingConnectionPool(
                host=address[0],
                port=address[1],
                max_connections=settings.max_connections,
                timeout=settings.timeout_s,
                connection_class=driver.SSLConnection if settings.tls else driver.Connection,
                **settings.connection,
            )
        return self._pools[address]

    def _turn_away(self, address: Address) -> None:
        if address == (self._moved or self._settings.seeds[self._seed]):  # and nobody else has turned already
            self._seed = (self._seed + 1) % len(self._settings.seeds)
            self._moved = None

    async def close(self) -> None:
        """What is under way goes on, and closes its connection when it is done."""
        self._is_closed = True
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.disconnect(inuse_connections=False)


# The driver cuts the first word off the answers that it has a class for.
_CLASSES: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.ReadOnlyError, 'READONLY'),
    (exceptions.OutOfMemoryError, 'OOM'),
    (exceptions.NoPermissionError, 'NOPERM'),
    (exceptions.BusyLoadingError, 'LOADING'),
    (exceptions.MasterDownError, 'MASTERDOWN'),
    (exceptions.ClusterDownError, 'CLUSTERDOWN'),
    (exceptions.TryAgainError, 'TRYAGAIN'),
    (exceptions.AskError, 'ASK'),
)
# Before version 7, what fails inside of a script is told in the middle of a sentence.
_IN_A_SCRIPT = re.compile(r'^Error running script.*@user_script: ?\d+: -?([A-Z]+) ', re.DOTALL)


def _moved_to(error: Exception, asked: Address) -> Address | None:
    """`MOVED slot host:port`: who has the namespace; no host means the one that was asked (redis.io, "Cluster specification")."""
    said = str(error)
    if not isinstance(error, exceptions.MovedError) and not said.startswith('MOVED '):
        return None
    host, _, port = said.rpartition(' ')[2].rpartition(':')
    return host or asked[0], int(port)


def _word(error: Exception) -> str:
    """The first word of the server's answer, which says what kind it is; empty when there was no answer."""
    said = str(error)
    if isinstance(error, exceptions.AuthenticationError):
        return 'NOAUTH' if 'required' in said or 'without any password' in said else 'WRONGPASS'
    for kind, word in _CLASSES:
        if isinstance(error, kind):
            return word
    if not isinstance(error, exceptions.ResponseError):
        return ''
    inside = _IN_A_SCRIPT.match(said)
    return inside[1] if inside else said.partition(' ')[0]


def _translated(error: Exception, word: str, address: Address) -> LamellaError:
    said = str(error) or type(error).__name__
    if said.startswith('No connection available'):
        said = 'all of its max_connections are busy'
    if word in _ANSWERS:
        status, what = _ANSWERS[word]
    elif isinstance(error, _AWAY):
        status, what = 'UNAVAILABLE', f'is away ({said})'
    else:
        status, what = 'INTERNAL', f'answers {said!r}'
    return LamellaError(status, f'Redis at {address[0]}:{address[1]} {what}')


def _address(text: str) -> Address:
    try:
        parts = urlsplit(f'//{text}')
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host:
        raise ConfigError(f'{text!r} is no host of a Redis server: write redis://host:6379/0')
    return host, port or 6379


def _database(path: str) -> int:
    text = path.strip('/')
    if text and not text.isdecimal():
        raise ConfigError(f'/{text} is no number of a database: write redis://host:6379/0')
    return int(text or 0)
