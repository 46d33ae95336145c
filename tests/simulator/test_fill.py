"""Whatever the schema, the value fits: checked by the jsonschema package, which knows nothing of the simulator."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamella.simulator.draw import Draw
from lamella.simulator.fill import fill
from lamella.simulator.material import Material
from lamella.types import LamellaError
from tests.simulator.schemas import PROMPTS, REVIEW, rooted, schemas


def checked(schema: Any, value: Any) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(value)


@settings(max_examples=200)
@given(schemas, st.sampled_from(PROMPTS), st.booleans())
def test_whatever_the_schema_the_value_fits(schema: Any, prompt: str, terse: bool) -> None:
    whole = rooted(schema)
    jsonschema.Draft202012Validator.check_schema(whole)
    checked(whole, fill(whole, Draw(Material(prompt), terse=terse)))


def filled(properties: dict[str, Any], prompt: str = REVIEW) -> Any:
    schema = {'type': 'object', 'properties': properties, 'required': list(properties)}
    value = fill(schema, Draw(Material(prompt)))
    checked(schema, value)
    return value


def test_values_are_drawn_from_the_prompt() -> None:
    value = filled(
        {
            'sentiment': {'enum': ['negative', 'neutral', 'positive']},
            'confidence': {'type': 'number', 'minimum': 0, 'maximum': 1},
            'rating': {'type': 'integer', 'minimum': 1, 'maximum': 5},
            'price': {'type': 'integer'},
            'city': {'type': 'string'},
            'email': {'type': 'string', 'format': 'email'},
            'date': {'type': 'string', 'format': 'date'},
            'order_id': {'type': 'string'},
            'summary': {'type': 'string'},
        }
    )
    assert value['sentiment'] == 'positive'
    assert value['confidence'] > 0.5
    assert value['rating'] > 3
    assert value['price'] == 89
    assert value['city'] == 'Berlin'
    assert value['email'] == 'jane@example.org'
    assert value['date'] == '2026-03-04'
    assert value['order_id'] == 'A-1734'
    assert value['summary'] in REVIEW


def test_a_review_that_complains_is_negative_and_one_without_feelings_neutral() -> None:
    label = {'sentiment': {'enum': ['POSITIVE', 'NEGATIVE', 'NEUTRAL']}}
    assert filled(label, 'The zip broke and the refund never came. Awful.')['sentiment'] == 'NEGATIVE'
    assert filled(label, 'The parcel weighs two kilograms.')['sentiment'] == 'NEUTRAL'


def test_at_most_n_in_the_prompt_holds_for_arrays() -> None:
    assert len(filled({'keywords': {'type': 'array', 'items': {'type': 'string'}}})['keywords']) == 2
    assert filled({'keywords': {'type': 'array', 'minItems': 4, 'items': {'type': 'string'}}})['keywords'][3]


def test_what_the_prompt_does_not_tell_is_null_where_null_is_allowed() -> None:
    assert filled({'website': {'type': ['string', 'null']}}) == {'website': None}
    assert filled({'website': {'anyOf': [{'type': 'string'}, {'type': 'null'}]}}) == {'website': None}
    assert (
        filled({'website': {'type': ['string', 'null']}}, 'See https://example.com/a.')['website']
        == 'https://example.com/a'
    )


def test_openapi_spelling_of_types_and_nullable_is_understood() -> None:
    schema = {'type': 'OBJECT', 'properties': {'url': {'type': 'STRING', 'nullable': True}, 'n': {'type': 'INTEGER'}}}
    assert fill({**schema, 'required': ['url', 'n']}, Draw(Material('Seven is 7.'))) == {'url': None, 'n': 7}


@pytest.mark.parametrize(
    'schema',
    [
        False,
        {'type': 'string', 'minLength': 4, 'maxLength': 2},
        {'type': 'integer', 'minimum': 5, 'maximum': 4},
        {'allOf': [{'type': 'string'}, {'type': 'integer'}]},
        {'enum': [1], 'type': 'string'},
        {'$ref': '#/$defs/missing'},
        {'$ref': 'https://example.com/schema'},
        {'$ref': '#'},
        {'type': 'object', 'properties': {'a': {'$ref': '#'}}, 'required': ['a']},
        {'type': 'string', 'pattern': r'^(?=x)y$'},
        {'type': 'array', 'items': False, 'minItems': 1},
        {'not': {}},
    ],
)
def test_a_schema_that_nothing_fits_is_refused_and_nothing_is_made_up(schema: Any) -> None:
    with pytest.raises(LamellaError, match='the simulator can make no value') as caught:
        fill(schema, Draw(Material(REVIEW)))
    assert caught.value.status == 'INVALID_ARGUMENT'
