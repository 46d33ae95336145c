"""Tokens: a decision that somebody may make, signed, for a link or an e-mail.

    lamella1.<id of the key>.<claims>.<HMAC-SHA256>

Claims are JSON in a fixed order, base64url without padding (RFC 4648 §5). The HMAC (RFC 2104) is over everything before it,
with a key that is derived for this use and this app alone, and is compared as text in constant time: no other spelling of the
same bits is accepted.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Literal

import msgspec

from lamella.engine.approval_settings import ApprovalSettings, secret_bytes
from lamella.types import ConfigError, Data, Rejected

_VERSION = 'lamella1'
_LONGEST = 8_192


class TokenClaims(Data, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a token says: `by` may make this `decision` on the approval `id`, until `expires_at_s` (seconds since 1970).

    It holds for the exact input (`digest`), the session (`session`, a hash), and the asking it was made for (`generation`).
    """

    id: str
    decision: Literal['approve', 'deny']
    by: str
    digest: str
    session: str
    generation: int
    app: str
    signed_s: float
    expires_at_s: float


def sign(claims: TokenClaims, settings: ApprovalSettings) -> str:
    """The token. Raises ConfigError without a key."""
    id = settings.signing_key or next(iter(settings.keys), None)
    if id is None:
        raise ConfigError(
            "a token needs a key to be signed with: Lamella(approvals=ApprovalSettings(keys={'id': secret}))"
        )
    body = _text(msgspec.json.encode(claims, order='deterministic'))
    signed = f'{_VERSION}.{id}.{body}'
    return f'{signed}.{_mac(signed, secret_bytes(settings.keys[id]), settings.app)}'


def read(token: Any, settings: ApprovalSettings, now_s: float) -> TokenClaims:
    """The claims of a token that this app has signed and that is still good. Raises Rejected, and says no more than needed."""
    parts = token.split('.') if isinstance(token, str) and len(token) <= _LONGEST and token.isascii() else []
    if len(parts) != 4 or parts[0] != _VERSION:
        raise _invalid()
    secret = settings.keys.get(parts[1])
    signed = token[: -len(parts[3]) - 1]
    wanted = _mac(signed, b'' if secret is None else secret_bytes(secret), settings.app)
    if not hmac.compare_digest(wanted.encode(), parts[3].encode()) or secret is None:
        raise _invalid()
    try:
        claims = msgspec.json.decode(urlsafe_b64decode(parts[2] + '=' * (-len(parts[2]) % 4)), type=TokenClaims)
    except ValueError as error:  # signed here, and made by another version
        raise _invalid() from error
    if claims.app != settings.app:
        raise _invalid()
    if now_s >= claims.expires_at_s:
        raise Rejected('this token has expired', by='approvals', status='PERMISSION_DENIED')
    return claims


def _mac(signed: str, secret: bytes, app: str) -> str:
    purpose = b'lamella approval token 1\0' + app.encode('utf-8', 'surrogatepass')
    key = hmac.digest(secret, purpose, hashlib.sha256)
    return _text(hmac.digest(key, signed.encode(), hashlib.sha256))


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b'=').decode()


def _invalid() -> Rejected:
    return Rejected('this is no token of this app that is still accepted', by='approvals', status='PERMISSION_DENIED')
