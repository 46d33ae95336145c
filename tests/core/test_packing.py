"""Packing: what comes back from a store is exactly what went in."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamella.core.packing import hashed, pack, unpack
from lamella.types import ConfigError, LamellaError, MediaPart, Message, ToolRequest, ToolRequestPart

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))  # lone surrogates too
    | st.just(10**40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(json_values, st.binary(max_size=20))
def test_a_message_comes_back_as_it_was(value: Any, data: bytes) -> None:
    message = Message.assistant(
        'x', ToolRequestPart(ToolRequest('t', value, 'r'), {'note': value}), MediaPart(data=data), metadata={'m': value}
    )
    assert unpack(pack(message, 'it'), Message, 'it') == message


@pytest.mark.parametrize('odd', [math.nan, '\ud800', 10**30])
def test_what_is_no_number_stays_none(odd: Any) -> None:
    back = unpack(pack([odd, math.nan], 'it'), list[Any], 'it')
    assert math.isnan(back[1])


@pytest.mark.parametrize('value', [object(), {'a': {1, object()}}, print])
def test_what_nobody_could_read_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match='the bill cannot be stored'):
        pack(value, 'the bill')


def test_what_is_nested_too_deeply_is_refused() -> None:
    deep: Any = '\ud800'
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ConfigError, match='cannot be stored'):
        pack(deep, 'it')


@pytest.mark.parametrize('data', [b'', b'\xff', b'{', b'{"role": 1}', b'\x81\xa4role\x01', b'[1]', b'nonsense'])
def test_other_bytes_are_an_error_that_says_so(data: bytes) -> None:
    with pytest.raises(LamellaError, match='the history in the store cannot be read') as caught:
        unpack(data, Message, 'the history')
    assert caught.value.status == 'DATA_LOSS'


def test_texts_that_are_cut_elsewhere_have_another_hash() -> None:
    keys = [
        ('a', 'b'),
        ('ab',),
        ('a', 'b', ''),
        ('', 'ab'),
        ('a:b',),
        ('b', 'a'),
        ('\ud800',),
        ('a\nb',),
        ('a' * 10_000,),
    ]
    assert len({hashed(*key) for key in keys}) == len(keys)
    assert all(len(hashed(*key)) == 64 for key in keys)
