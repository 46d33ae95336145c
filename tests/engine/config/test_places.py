"""Every key and every element of a TOML document is found where it stands."""

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lamella.engine.config.places import Path, Place, Places

DOCUMENT = '''# a comment with [brackets] and "quotes"
model = 'openai/gpt-5'   # another = one
"quoted key".inner = """
many # no comment
lines \\""" and "quotes""""

[plugins.openai]
api_key = '${KEY}'

[chains]
default = [
  'retry',  # ]
  { use = 'fallback', models = ["a", 'b'], nested = { x = 1 } },
]

[[batch]]
name = 1
[batch.more]
y = 2.5
[[batch]]
name = 2
'''


def test_keys_values_and_elements_are_where_they_stand() -> None:
    places = Places(DOCUMENT)
    expected: dict[Path, tuple[int, int]] = {
        ('model',): (2, 1),
        ('quoted key', 'inner'): (3, 1),
        ('plugins', 'openai'): (7, 1),
        ('plugins', 'openai', 'api_key'): (8, 1),
        ('chains', 'default'): (11, 1),
        ('chains', 'default', 0): (12, 3),
        ('chains', 'default', 1): (13, 3),
        ('chains', 'default', 1, 'use'): (13, 5),
        ('chains', 'default', 1, 'models'): (13, 23),
        ('chains', 'default', 1, 'models', 1): (13, 38),
        ('chains', 'default', 1, 'nested', 'x'): (13, 55),
        ('batch', 0, 'name'): (17, 1),
        ('batch', 0, 'more', 'y'): (19, 1),
        ('batch', 1, 'name'): (21, 1),
    }
    assert {path: (places.of(path).line, places.of(path).column) for path in expected} == expected


def test_what_is_not_there_is_told_by_what_is_around_it() -> None:
    places = Places(DOCUMENT)
    assert places.of(('plugins', 'openai', 'missing')) == Place(7, 1)
    assert places.of(('nothing', 'at', 'all')) == Place(1, 1)
    assert not places.has(('nothing',))


def test_an_empty_document_has_its_first_place() -> None:
    assert Places('').of(('x',)) == Place(1, 1)


def paths(value: Any, path: Path = ()) -> list[Path]:
    found: list[Path] = [path] if path else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += paths(item, (*path, key))
    if isinstance(value, list):
        for index, item in enumerate(value):
            found += paths(item, (*path, index))
    return found


keys = st.one_of(st.text('abz_-9', min_size=1, max_size=4), st.text('a .#"\\\'=[]{}é\t', min_size=1, max_size=5))
scalars = st.one_of(
    st.integers(-9, 9), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.text('x"\'#\\\n[]{},=é ')
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
)


def written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return '[ ' + ', # no ]\n'.join(map(written, value)) + ' ]'
    if isinstance(value, dict):
        return '{ ' + ', '.join(f'{quoted(key)} = {written(item)}' for key, item in value.items()) + ' }'
    return repr(value)


def quoted(text: str) -> str:
    for raw, escaped in (('\\', '\\\\'), ('"', '\\"'), ('\n', '\\n'), ('\t', '\\t')):
        text = text.replace(raw, escaped)
    return f'"{text}"'


@given(st.dictionaries(keys, st.dictionaries(keys, values, max_size=3), max_size=3))
def test_every_path_of_any_document_is_found(document: dict[str, Any]) -> None:
    text = '\n'.join(
        f'[{quoted(table)}]\n' + '\n'.join(f'{quoted(key)} = {inline(item)} # end' for key, item in pairs.items())
        for table, pairs in document.items()
    )
    assert tomllib.loads(text) == document
    places = Places(text)
    assert [path for path in paths(document) if not places.has(path)] == []


def inline(value: Any) -> str:
    """A comment inside of an inline table is no TOML."""
    return written(value).replace(', # no ]\n', ', ') if isinstance(value, dict) or has_table(value) else written(value)


def has_table(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) or has_table(item) for item in value)
