"""Random JSON Schemas that some value fits, and the prompts that the values are drawn from."""

from typing import Any

from hypothesis import strategies as st

REVIEW = """Classify this review and give at most two keywords.

The new keyboard arrived on 2026-03-04 from Acme Corp. It is great: the keys feel solid and the battery is excellent.
Shipping to Berlin was slow. I paid 89 euros. Write to jane@example.org about order A-1734."""
PROMPTS = [REVIEW, '', 'hi', 'Ünïcode 漢字。二つ目。', '1 2 3 4.5 -7', 'x' * 500]

small = st.integers(0, 4)
names = st.sampled_from(
    ['name', 'city', 'sentiment', 'score', 'email', 'keywords', 'is_good', 'count', 'summary', 'x_1', 'ü']
)


def with_keys(kind: str, **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({'type': st.just(kind)}, optional=optional)


def ordered(schema: dict[str, Any], low: str, high: str) -> dict[str, Any]:
    """Swaps a pair of bounds that would leave nothing between them."""
    if low in schema and high in schema and schema[low] > schema[high]:
        schema[low], schema[high] = schema[high], schema[low]
    return schema


strings = st.one_of(
    with_keys('string', minLength=st.integers(0, 90), maxLength=st.integers(0, 90)).map(
        lambda schema: ordered(schema, 'minLength', 'maxLength')
    ),
    with_keys('string', format=st.sampled_from(['date', 'date-time', 'time', 'email', 'uri', 'uuid', 'ipv4', 'ipv6'])),
    with_keys(
        'string',
        pattern=st.sampled_from(
            [r'^[A-Z]{3}-\d{4}$', r'^\+?[0-9 ]{5,12}$', r'^(red|green)$', r'x+y*', r'^[^a-z]$', r'^#[0-9a-fA-F]{6}$']
        ),
    ),
)
integers = with_keys('integer', minimum=st.integers(-50, 50), maximum=st.integers(-50, 50)).map(
    lambda schema: ordered(schema, 'minimum', 'maximum')
)
multiples = with_keys(
    'integer', multipleOf=st.integers(1, 9), minimum=st.integers(-99, 0), exclusiveMaximum=st.integers(12, 99)
)
floats = with_keys('number', minimum=st.floats(-9, 9), maximum=st.floats(-9, 9)).map(
    lambda schema: ordered(schema, 'minimum', 'maximum')
)
open_floats = with_keys('number', exclusiveMinimum=st.floats(-9, 0), exclusiveMaximum=st.floats(0.01, 9))
quarters = with_keys('number', multipleOf=st.sampled_from([0.25, 0.5, 2]), minimum=st.floats(-9, 9))
choices = st.lists(st.one_of(st.text(max_size=6), st.integers(), st.none(), st.booleans()), min_size=1, max_size=4)
leaves = st.one_of(
    strings,
    integers,
    multiples,
    floats,
    open_floats,
    quarters,
    with_keys('boolean'),
    with_keys('null'),
    choices.map(lambda options: {'enum': options}),
    st.one_of(st.text(), st.integers(), st.none()).map(lambda value: {'const': value}),
    st.sampled_from([True, {}, {'type': ['string', 'null']}, {'type': ['integer', 'boolean']}, {'minimum': 3}]),
    st.just({'$ref': '#/$defs/word'}),
    st.just({'$ref': '#/$defs/tree'}),
)


def arrays(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    plain = with_keys('array', items=items, minItems=small, maxItems=small)
    unique = with_keys('array', uniqueItems=st.just(True), maxItems=small, items=items)
    words = with_keys('array', uniqueItems=st.just(True), minItems=small, items=st.just({'type': 'string'}))
    tuples = with_keys(
        'array', prefixItems=st.lists(items, min_size=1, max_size=3), items=st.one_of(items, st.just(False))
    )
    return st.one_of(plain.map(lambda schema: ordered(schema, 'minItems', 'maxItems')), unique, words, tuples)


@st.composite
def objects(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> dict[str, Any]:
    properties = draw(st.dictionaries(names, values, max_size=4))
    schema: dict[str, Any] = {'type': 'object', 'properties': properties}
    if properties:
        schema['required'] = draw(st.lists(st.sampled_from(sorted(properties)), unique=True))
    schema.update(
        draw(st.sampled_from([{}, {'additionalProperties': False}, {'additionalProperties': {'type': 'integer'}}]))
    )
    return schema


def combined(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    any_of = st.lists(values, min_size=1, max_size=3).map(lambda branches: {'anyOf': branches})
    one_of = st.tuples(objects(values), strings, integers, arrays(values)).map(
        lambda branches: {'oneOf': list(branches)}
    )
    all_of = st.tuples(objects(values).map(without_closing), objects(st.just(True)).map(without_closing))
    return st.one_of(any_of, one_of, all_of.map(lambda branches: {'allOf': list(branches)}))


def without_closing(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != 'additionalProperties'}


DEFS = {
    'word': {'type': 'string', 'minLength': 1, 'maxLength': 12},
    'tree': {
        'type': 'object',
        'properties': {
            'label': {'type': 'string'},
            'left': {'anyOf': [{'$ref': '#/$defs/tree'}, {'type': 'null'}]},
            'children': {'type': 'array', 'items': {'$ref': '#/$defs/tree'}},
        },
        'required': ['label', 'left', 'children'],
        'additionalProperties': False,
    },
}
schemas = st.recursive(leaves, lambda inner: st.one_of(arrays(inner), objects(inner), combined(inner)), max_leaves=8)

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-60, 60), st.floats(-60, 60), st.text(max_size=20), st.just('red')),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)),
    max_leaves=8,
)


def rooted(schema: Any) -> Any:
    """The schema with the definitions that its references point to."""
    return {**schema, '$defs': DEFS} if isinstance(schema, dict) else schema
