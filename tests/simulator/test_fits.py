"""The simulator's own check of values agrees with the jsonschema package."""

from typing import Any

import jsonschema
from hypothesis import given, settings

from lamella.simulator.fits import fits
from tests.simulator.schemas import rooted, schemas, values


@settings(max_examples=300)
@given(schemas, values)
def test_it_agrees_with_the_jsonschema_package(schema: Any, value: Any) -> None:
    whole = rooted(schema)
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    assert fits(value, whole) == jsonschema.Draft202012Validator(whole, format_checker=checker).is_valid(value)


def test_a_reference_that_leads_nowhere_fits_nothing() -> None:
    assert not fits(1, {'$ref': '#/$defs/x'})
    assert not fits(1, {'$ref': 'https://example.com'})


def test_true_is_not_one() -> None:
    assert not fits(True, {'const': 1})
    assert not fits(True, {'type': 'integer'})
    assert fits(1.0, {'type': 'integer', 'const': 1})
