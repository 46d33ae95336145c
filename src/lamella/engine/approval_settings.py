"""How approvals are kept and signed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lamella.types import ConfigError, Data

DAY_S = 86_400.0
MIN_KEY_BYTES = 32
_KEY_ID = re.compile(r'[A-Za-z0-9_-]{1,64}')


class ApprovalSettings(Data, frozen=True, kw_only=True):
    """Settings of `Lamella(approvals=…)`.

    `app` names the app: approvals and tokens of another name are not its own. `always` keeps every interrupted run, and not
    only those that are durable otherwise. A decision must come within `expires_s` seconds, and be carried out within as many;
    `kept_s` is how long records stay afterwards. Of the caller's `context`, the values named in `keep_context` are kept for the
    resumption. A tool that was begun counts as dead `lease_s` seconds after its process.

    `keys` sign tokens: secrets of at least 32 bytes by id. Tokens are signed with `signing_key` (an id; the only key when left
    out) and accepted with any of them: to rotate, add a key, sign with it, and remove the old one when its tokens have expired,
    or at once to void them. `token_expires_s` is how long a token is good for. Raises ConfigError with every problem.
    """

    app: str = 'lamella'
    always: bool = False
    expires_s: float = 7 * DAY_S
    kept_s: float = 30 * DAY_S
    keep_context: tuple[str, ...] = ()
    keys: Mapping[str, str | bytes] = {}
    signing_key: str | None = None
    token_expires_s: float = DAY_S
    lease_s: float = 30.0

    def __post_init__(self) -> None:
        if problems := [*_problems(self), *_key_problems(self)]:
            raise ConfigError('ApprovalSettings: ' + '; '.join(problems))

    def __repr__(self) -> str:
        return f'ApprovalSettings(app={self.app!r}, keys=[{", ".join(map(repr, self.keys))}], …)'

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [('app', self.app), ('keys', list(self.keys))]


def settings_of(given: Any, store: Any) -> ApprovalSettings:
    """Checked settings; the defaults for `None`. Raises ConfigError."""
    if given is None:
        return ApprovalSettings()
    if not isinstance(given, ApprovalSettings):
        raise ConfigError(f'approvals= is a {type(given).__name__}: give ApprovalSettings(…)')
    if store is None:
        raise ConfigError("approvals= needs a store to keep them in: Lamella(store='sqlite:///state.db', approvals=…)")
    return given


def _problems(given: Any) -> Iterator[str]:
    if not isinstance(given.app, str) or not given.app.isprintable() or not 0 < len(given.app) <= 200:
        yield f'app is {str(given.app)[:80]!r}: give a name of 1 to 200 printable characters'
    if not isinstance(given.always, bool):
        yield f'always is {given.always!r}: give True or False'
    for field in ('expires_s', 'kept_s', 'token_expires_s', 'lease_s'):
        value = getattr(given, field)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float('inf'):
            yield f'{field} is {value!r}: give a number of seconds above 0'
    names = given.keep_context
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        yield f'keep_context is {names!r}: give a list of names'


def _key_problems(given: Any) -> Iterator[str]:
    """What is wrong with the keys, without ever showing one."""
    if not isinstance(given.keys, Mapping):
        yield "keys is no dict: give secrets by id, such as {'2026-11': secret}"
        return
    for id, secret in given.keys.items():
        if not isinstance(id, str) or not _KEY_ID.fullmatch(id):
            yield f'keys: the id {str(id)[:80]!r} is not made of 1 to 64 letters, digits, "_" and "-"'
        elif not isinstance(secret, (str, bytes)):
            yield f'keys[{id!r}] is a {type(secret).__name__}: give text or bytes'
        elif len(secret_bytes(secret)) < MIN_KEY_BYTES:
            yield f'keys[{id!r}] has fewer than {MIN_KEY_BYTES} bytes: make one with secrets.token_hex(32)'
    if given.signing_key is not None and given.signing_key not in given.keys:
        yield f'signing_key is {str(given.signing_key)[:80]!r}, which is not in keys'
    if given.signing_key is None and len(given.keys) > 1:
        yield 'signing_key is missing: with several keys, say which one signs'


def secret_bytes(secret: str | bytes) -> bytes:
    """The key itself."""
    return secret.encode('utf-8', 'surrogatepass') if isinstance(secret, str) else secret
