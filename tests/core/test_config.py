"""How settings are checked, and how a problem is told."""

import pytest
from pydantic import BaseModel, SecretStr, ValidationError, model_validator

from lamella.core.config import build_config, problems_of
from lamella.types import ConfigError


class Inner(BaseModel):
    port: int


class Outer(BaseModel):
    inner: Inner
    names: list[str] = []
    key: SecretStr = SecretStr('')


def problems(**given: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Outer(**given)
    return problems_of(caught.value)


def test_a_problem_is_a_place_a_reason_and_the_value() -> None:
    assert problems(inner={'port': 'x'}, names=['a', 5]) == [
        "inner.port: Input should be a valid integer, unable to parse string as an integer (given 'x')",
        'names.1: Input should be a valid string (given 5)',
    ]
    assert problems() == ['inner: Field required']


def test_a_long_value_is_cut() -> None:
    (told,) = problems(inner='x' * 1_000)
    assert len(told) < 200


def test_a_rule_over_several_settings_does_not_spell_out_the_others() -> None:
    class Ruled(BaseModel):
        password: str

        @model_validator(mode='after')
        def never(self) -> 'Ruled':
            raise ValueError('this will not do')

    with pytest.raises(ConfigError, match='this will not do') as caught:
        build_config('X', Ruled, None, {'password': 'hunter2'})
    assert 'hunter2' not in str(caught.value)


def test_the_settings_of_nobody_are_there_and_empty() -> None:
    assert build_config('X', None, None, {}).model_fields_set == frozenset()
    with pytest.raises(ConfigError, match=r'X takes no settings, but was given .a., .b.'):
        build_config('X', None, None, {'a': 1, 'b': 2})


def test_a_subclass_of_the_settings_is_taken() -> None:
    class More(Inner):
        host: str = ''

    given = More(port=1)
    assert build_config('X', Inner, given, {}) is given
