"""How the plugins talk HTTP: limits, proxies, certificates."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from lamella.types import ConfigError, Data

WAITS = {
    'pool_timeout_s': 'no connection of the pool became free',
    'connect_timeout_s': 'no connection',
    'first_byte_timeout_s': 'no answer',
    'idle_timeout_s': 'nothing more arrived',
}


class HttpSettings(Data, frozen=True):
    """How a plugin talks HTTP. Times in seconds, `None` for no limit.

    `pool_timeout_s` is for the wait until one of `max_connections` is free, `connect_timeout_s` for a new connection with
    its TLS, `first_byte_timeout_s` for the wait from the request to the answer's headers (a whole answer comes when the model
    is done), `idle_timeout_s` for the wait between two pieces of the body (a model may think for minutes). An idle
    connection is kept for `keepalive_s`. An answer that is read whole has `max_body_bytes` at most, decompressed.

    `proxy` is a URL, with user and password if it wants them; without it the environment's proxies hold while `trust_env` is
    true, except for this machine's own addresses. `verify` is `True`, a file of certificates, an `SSLContext`, or `False`.
    """

    connect_timeout_s: float | None = 10.0
    first_byte_timeout_s: float | None = 600.0
    idle_timeout_s: float | None = 300.0
    pool_timeout_s: float | None = 60.0
    max_connections: int = 1000
    keepalive_s: float = 30.0
    max_body_bytes: int = 64 * 2**20
    proxy: str | None = None
    trust_env: bool = True
    verify: Any = True

    def __post_init__(self) -> None:
        problems = [
            f'{name}={value!r}: give a number of seconds above 0, or None for no limit'
            for name in WAITS
            if (value := getattr(self, name)) is not None and not _is_positive(value)
        ]
        if not _is_positive(self.keepalive_s):
            problems.append(f'keepalive_s={self.keepalive_s!r}: give a number of seconds above 0')
        for name in ('max_connections', 'max_body_bytes'):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                problems.append(f'{name}={value!r}: give a whole number of at least 1')
        if self.proxy is not None and not str(self.proxy).startswith(('http://', 'https://')):
            problems.append('proxy: give a URL such as http://proxy.example.com:3128')
        if isinstance(self.verify, (str, PathLike)) and not Path(self.verify).is_file():
            problems.append(f'verify={self.verify!r}: there is no such file; give a file of certificates in PEM form')
        if problems:
            raise ConfigError('; '.join(problems))

    def __repr__(self) -> str:
        """Without the proxy, whose URL may hold a password."""
        shown = [f'{name}={getattr(self, name)!r}' for name in self.__struct_fields__ if name != 'proxy']
        return f'HttpSettings({", ".join(shown)})'


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
