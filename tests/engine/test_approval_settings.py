"""Settings of approvals: wrong ones are refused with every problem, and no key is ever shown."""

from typing import Any

import pytest

from lamella import ApprovalSettings, Lamella
from lamella.types import ConfigError

SECRET = 'a secret of thirty-two bytes or more'


@pytest.mark.parametrize(
    ('settings', 'problem'),
    [
        ({'app': ''}, "app is ''"),
        ({'app': 'x\n'}, 'app is'),
        ({'app': 7}, 'app is'),
        ({'always': 1}, 'always is 1: give True or False'),
        ({'expires_s': 0}, 'expires_s is 0: give a number of seconds above 0'),
        ({'kept_s': -1}, 'kept_s is -1'),
        ({'token_expires_s': float('inf')}, 'token_expires_s is inf'),
        ({'lease_s': True}, 'lease_s is True'),
        ({'keep_context': 'tenant'}, "keep_context is 'tenant': give a list of names"),
        ({'keep_context': (1,)}, 'keep_context is'),
        ({'keys': [SECRET]}, 'keys is no dict'),
        ({'keys': {'a.b': SECRET}}, 'the id'),
        ({'keys': {'': SECRET}}, 'the id'),
        ({'keys': {7: SECRET}}, 'the id'),
        ({'keys': {'k': 7}}, "keys['k'] is a int: give text or bytes"),
        ({'keys': {'k': 'short'}}, "keys['k'] has fewer than 32 bytes"),
        ({'keys': {'k': SECRET}, 'signing_key': 'other'}, "signing_key is 'other', which is not in keys"),
        ({'keys': {'a': SECRET, 'b': SECRET}}, 'signing_key is missing'),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ApprovalSettings(**settings)
    assert problem in caught.value.message
    assert SECRET not in caught.value.message


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        ApprovalSettings(app='', expires_s=0, keys={'k': 'short'})
    assert caught.value.message.count(';') == 2


def test_keys_are_never_shown() -> None:
    settings = ApprovalSettings(keys={'k': SECRET})
    ai = Lamella(store='memory://', approvals=settings)
    for text in (
        repr(settings),
        str(settings),
        f'{settings}',
        repr(vars(ai.approvals)),
        repr(settings.__rich_repr__()),
    ):
        assert SECRET not in text
    assert "keys=['k']" in repr(settings)


def test_one_key_signs_without_being_named_and_bytes_are_keys_too() -> None:
    assert ApprovalSettings(keys={'k': SECRET.encode()}).signing_key is None
