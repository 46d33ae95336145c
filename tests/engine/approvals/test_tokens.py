"""Tokens: what they say comes back, and no other text is accepted, whatever is changed of it."""

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella import ApprovalSettings
from lamella.engine.approvals.tokens import TokenClaims, read, sign
from lamella.types import ConfigError, Rejected

OLD, NEW = 'an old secret of at least 32 bytes!!', 'a new secret of at least 32 bytes!!'
SETTINGS = ApprovalSettings(app='bank', keys={'k1': OLD})
CLAIMS = TokenClaims(
    id='run_' + '0' * 32 + '.1', decision='approve', by='ann ü', digest='d' * 64, session='', generation=1, app='bank',
    signed_s=1000.0, expires_at_s=2000.0,
)  # fmt: skip
TOKEN = sign(CLAIMS, SETTINGS)


def refused(token: Any, settings: ApprovalSettings = SETTINGS, now_s: float = 1500.0) -> str:
    with pytest.raises(Rejected) as caught:
        read(token, settings, now_s)
    assert caught.value.status == 'PERMISSION_DENIED'
    assert caught.value.by == 'approvals'
    return caught.value.message


def test_what_was_signed_comes_back() -> None:
    assert read(TOKEN, SETTINGS, 1500.0) == CLAIMS
    assert sign(CLAIMS, SETTINGS) == TOKEN
    assert TOKEN.isascii()
    assert not set(TOKEN) & set(' +/=&?#%')


def test_every_change_of_every_character_is_refused() -> None:
    for at, character in enumerate(TOKEN):
        for other in 'ABYZabyz019-_.=+/ \n\0é' + chr(ord(character) ^ 1):
            if other != character:
                refused(TOKEN[:at] + other + TOKEN[at + 1 :])


def test_every_bit_of_every_byte_counts() -> None:
    for at in range(len(TOKEN)):
        for bit in range(8):
            changed = bytearray(TOKEN.encode())
            changed[at] ^= 1 << bit
            refused(changed.decode('latin-1'))


def test_every_part_cut_off_added_doubled_or_swapped_is_refused() -> None:
    for end in range(len(TOKEN)):
        refused(TOKEN[:end])
        refused(TOKEN[end + 1 :])
    head, kid, body, mac = TOKEN.split('.')
    for token in (
        TOKEN + 'A',
        TOKEN + '=',
        TOKEN + '.',
        '.' + TOKEN,
        TOKEN + '\n',
        TOKEN * 2,
        f'{head}.{kid}.{body}',
        f'{head}.{kid}.{body}.',
        f'{head}.{kid}.{mac}.{body}',
        f'{head}..{body}.{mac}',
        f'{head}.{kid}.{body}=.{mac}',
        f'lamella2.{kid}.{body}.{mac}',
        TOKEN.upper(),
        TOKEN.lower(),
    ):
        refused(token)


@given(st.text(max_size=400) | st.from_regex(r'lamella1\.k1\.[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{43}', fullmatch=True))
def test_made_up_tokens_are_refused(token: str) -> None:
    refused(token)


@pytest.mark.parametrize(
    'token', [None, 7, b'', TOKEN.encode(), [], {}, 'x' * 100_000, 'lamella1.k1.' + 'a' * 9_000 + '.a']
)
def test_what_is_no_token_is_refused(token: Any) -> None:
    refused(token)


def forged(claims: dict[str, Any], secret: bytes, *, purpose: bytes | None = None, kid: str = 'k1') -> str:
    """As somebody would write it who knows the format."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b'=').decode()
    signed = f'lamella1.{kid}.{body}'
    key = secret if purpose is None else hmac.digest(secret, purpose, hashlib.sha256)
    return (
        f'{signed}.{base64.urlsafe_b64encode(hmac.digest(key, signed.encode(), hashlib.sha256)).rstrip(b"=").decode()}'
    )


SAID = {name: getattr(CLAIMS, name) for name in CLAIMS.__struct_fields__}
PURPOSE = b'lamella approval token 1\0bank'


def test_the_forger_of_these_tests_knows_the_format() -> None:
    assert read(forged(SAID, OLD.encode(), purpose=PURPOSE), SETTINGS, 1500.0) == CLAIMS


@pytest.mark.parametrize('secret', [b'', b'k1', b'bank', b'\0' * 32, NEW.encode(), OLD.encode()[:-1]])
def test_other_keys_sign_nothing(secret: bytes) -> None:
    refused(forged(SAID, secret, purpose=PURPOSE))


@pytest.mark.parametrize('purpose', [None, b'', b'lamella approval token 1', b'lamella approval token 2\0bank'])
def test_the_same_key_used_for_something_else_signs_nothing(purpose: bytes | None) -> None:
    refused(forged(SAID, OLD.encode(), purpose=purpose))


def test_a_key_that_nobody_has_signs_nothing() -> None:
    refused(forged(SAID, b'', purpose=PURPOSE, kid='k2'))
    refused(TOKEN, ApprovalSettings(app='bank'))


def test_a_token_of_another_app_is_refused_also_with_the_same_key() -> None:
    other = ApprovalSettings(app='shop', keys={'k1': OLD})
    refused(TOKEN, other)
    refused(sign(CLAIMS, other))
    refused(sign(CLAIMS, other), other)  # signed by the shop, and says bank


def test_a_token_is_good_until_its_time_and_no_longer() -> None:
    assert read(TOKEN, SETTINGS, 1999.9) == CLAIMS
    assert 'expired' in refused(TOKEN, now_s=2000.0)
    assert 'expired' in refused(TOKEN, now_s=1e12)


def test_a_forged_token_is_not_told_that_it_has_expired() -> None:
    assert 'expired' not in refused(TOKEN[:-1] + ('A' if TOKEN[-1] != 'A' else 'Q'), now_s=1e12)


def test_keys_are_rotated_without_losing_tokens_and_removed_to_void_them() -> None:
    both = ApprovalSettings(app='bank', keys={'k2': NEW, 'k1': OLD}, signing_key='k2')
    assert read(TOKEN, both, 1500.0) == CLAIMS
    fresh = sign(CLAIMS, both)
    assert fresh.split('.')[1] == 'k2'
    only_new = ApprovalSettings(app='bank', keys={'k2': NEW})
    assert read(fresh, only_new, 1500.0) == CLAIMS
    refused(TOKEN, only_new)
    refused(TOKEN, ApprovalSettings(app='bank', keys={'k1': NEW}))  # the id used again for another key
    refused(TOKEN.replace('.k1.', '.k2.'), both)


@pytest.mark.parametrize(
    'extra', [{'admin': True}, {'generation': '1'}, {'decision': 'answer'}, {'expires_at_s': None}]
)
def test_claims_of_another_shape_are_an_error_even_when_signed(extra: dict[str, Any]) -> None:
    refused(forged({**SAID, **extra}, OLD.encode(), purpose=PURPOSE))


def test_without_a_key_nothing_is_signed() -> None:
    with pytest.raises(ConfigError, match='a token needs a key'):
        sign(CLAIMS, ApprovalSettings())
